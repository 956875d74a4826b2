//! Signing people in: we are a client of the company's own OpenID provider (OpenID Connect Core 1.0, code flow with PKCE)
//! and hold no passwords.
//!
//! [`Oauth::send_to_provider`] begins a sign-in, [`Oauth::returned`] ends it. What began it is kept under the hash of the
//! state, which is good once; PKCE verifier, nonce and the proof that the same browser comes back are derived from that
//! browser's cookie, so that nobody else's answer fits (login CSRF, code injection).

mod browser;
mod id_token;
mod provider;

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base::{Name, Secret};
use proof::jose::{base64url_encode, json};
use serde::{Deserialize, Serialize};
use store::{GrantKind, TokenFacts};
use url::Url;
use url::form_urlencoded::Serializer;

pub(super) use browser::Browser;
pub(super) use id_token::IdTokenError;
use id_token::{Expected, IdToken};
use provider::Endpoints;
pub(super) use provider::Known;
pub use provider::{FormAnswer, FormAuth, OpenidProvider, ProviderSettings};

use super::authorize::AuthorizationRequest;
use super::pending::{SignedIn, new_session};
use super::{FetchError, Oauth};
use crate::form::Form;
use crate::operations::{CodeHash, OperationError, Redeemed};

/// How long somebody may take to sign in.
const SIGNIN_TTL: Duration = Duration::from_mins(15);

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub(super) enum SigninError {
    /// The state is unknown, used or too old.
    #[error("there is no such sign-in")]
    NoSuchSignin,
    /// Another browser than the one that began it, or one that keeps no cookies.
    #[error("the sign-in was begun in another browser")]
    OtherBrowser,
    /// The answer names another provider than the one that was asked (RFC 9207), or the provider has been replaced.
    #[error("the answer is not from the provider that was asked")]
    MixUp,
    /// The provider said no.
    #[error("the provider refused: {0}")]
    Refused(&'static str),
    /// The provider cannot be reached, or nobody can sign in as things are configured.
    #[error(transparent)]
    Provider(#[from] FetchError),
    /// What the provider answered is no answer.
    #[error("the provider's answer is unusable: {0}")]
    Answer(&'static str),
    /// The ID token does not count.
    #[error(transparent)]
    IdToken(#[from] IdTokenError),
    /// The person, or their session at the provider, has been revoked since they signed in there.
    #[error("the sign-in has been revoked")]
    Revoked,
    /// State cannot be read or written.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl SigninError {
    /// A stable code, for the log.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoSuchSignin => "no_such_signin",
            Self::OtherBrowser => "other_browser",
            Self::MixUp => "provider_mix_up",
            Self::Refused(code) | Self::Answer(code) => code,
            Self::Provider(error) => error.reason,
            Self::IdToken(error) => error.reason(),
            Self::Revoked => "signin_revoked",
            Self::Operation(error) => error.reason(),
        }
    }

    /// The code the client is told (RFC 6749 section 4.1.2.1, OpenID Connect Core section 3.1.2.6).
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Refused(code) => code,
            Self::Revoked | Self::IdToken(IdTokenError::TooOld) => "login_required",
            Self::Provider(_) | Self::Operation(_) => "temporarily_unavailable",
            _ => "server_error",
        }
    }
}

/// What somebody signs in for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum What {
    /// A client's authorization request.
    Client {
        /// The request.
        request: AuthorizationRequest,
    },
    /// A device.
    Device {
        /// The client on the device.
        client: Name,
        /// What it asks for.
        scopes: Vec<String>,
        /// Where its grant is kept.
        grant: CodeHash,
        /// The code the device shows.
        user_code: String,
    },
}

/// A sign-in under way, or ended and not yet confirmed: kept under the hash of its state or ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Underway {
    /// The browser is at the provider.
    AtProvider {
        /// The provider, by its configured name.
        issuer: Name,
        /// What only the browser that was sent there can have derived.
        browser: String,
        /// What it is for.
        what: What,
        /// Whether it is the second try, which had to ask for the password again.
        again: bool,
    },
    /// The person has signed in and is asked whether they mean it.
    Asked {
        /// What it is for.
        what: What,
        /// Who.
        person: SignedIn,
    },
}

/// What came of a browser's return.
#[derive(Debug)]
pub(super) enum Returned {
    /// Somebody has signed in, who is called so.
    SignedIn(What, SignedIn, String),
    /// They have to sign in again at the provider: a revocation is newer than their session there.
    Again(String),
    /// Nobody has.
    Failed(What, SigninError),
}

impl Oauth {
    /// Whether people reach us over TLS: decides how the cookie is kept.
    pub(super) fn is_secure(&self) -> bool {
        self.operations().external_url().starts_with("https://")
    }

    /// The browser of a request, or a new one.
    pub(super) fn browser(&self, headers: &http::HeaderMap) -> Browser {
        Browser::of(headers, self.is_secure()).unwrap_or_else(|| Browser::new(self.operations().rng()))
    }

    /// Where the provider sends browsers back to.
    fn callback_uri(&self) -> String {
        format!("{}/oauth/callback", self.operations().external_url().trim_end_matches('/'))
    }

    /// Begin a sign-in: the URL at the provider to send this browser to.
    pub(super) async fn send_to_provider(
        &self,
        browser: &Browser,
        what: What,
        again: bool,
    ) -> Result<String, SigninError> {
        let provider = &*self.parts.provider;
        let settings = provider.settings()?;
        let now = self.operations().clock().monotonic();
        let endpoints = self.known.endpoints(provider, &settings, now).await?;
        let state = self.operations().new_code();
        let state = state.expose();
        let verifier = browser.derive(PKCE, state);
        let mut url = endpoints.authorization;
        {
            let mut query = url.query_pairs_mut();
            let challenge = base64url_encode(digest(&SHA256, verifier.as_bytes()));
            query
                .append_pair("response_type", "code")
                .append_pair("client_id", &settings.client_id)
                .append_pair("redirect_uri", &self.callback_uri())
                .append_pair("scope", &scopes(&settings.scopes))
                .append_pair("state", state)
                .append_pair("nonce", &browser.derive(NONCE, state))
                .append_pair("code_challenge", &challenge)
                .append_pair("code_challenge_method", "S256");
            if let What::Client { request } = &what {
                request.wishes(
                    |name, value| {
                        query.append_pair(name, value);
                    },
                    again,
                );
            } else if again {
                query.append_pair("prompt", "login");
            }
        }
        let bound = browser.derive(BROWSER, state);
        let underway = Underway::AtProvider { issuer: settings.rules.name, browser: bound, what, again };
        self.operations().grant_put(GrantKind::Signin, state, &underway, SIGNIN_TTL).await?;
        Ok(url.into())
    }

    /// A browser came back from the provider with these parameters.
    pub(super) async fn returned(&self, browser: Option<&Browser>, answer: &Form) -> Result<Returned, SigninError> {
        let state = answer.get("state").ok_or(SigninError::NoSuchSignin)?;
        let browser = browser.ok_or(SigninError::OtherBrowser)?;
        let taken = self.operations().grant_take::<Underway>(GrantKind::Signin, state).await?;
        let Redeemed::First(Underway::AtProvider { issuer, browser: bound, what, again }) = taken else {
            return Err(SigninError::NoSuchSignin);
        };
        if !browser.derived(BROWSER, state, &bound) {
            return Err(SigninError::OtherBrowser);
        }
        let max_age = match &what {
            What::Client { request } => request.max_age(),
            What::Device { .. } => None,
        };
        let asked = Asked { browser, state, issuer: &issuer, max_age };
        match self.person(asked, answer).await {
            Ok((person, called)) => Ok(Returned::SignedIn(what, person, called)),
            // Once: a provider that does not ask for the password then would lead round in circles.
            Err(SigninError::Revoked) if !again && !what.is_silent() => {
                Ok(Returned::Again(self.send_to_provider(browser, what, true).await?))
            }
            Err(error) => Ok(Returned::Failed(what, error)),
        }
    }

    /// Redeem the provider's code and check who it is for, and what they are called.
    async fn person(&self, asked: Asked<'_>, answer: &Form) -> Result<(SignedIn, String), SigninError> {
        let provider = &*self.parts.provider;
        let settings = provider.settings()?;
        let now = self.operations().clock().monotonic();
        let endpoints = self.known.endpoints(provider, &settings, now).await?;
        let issuer = settings.rules.issuer.as_deref().unwrap_or_default();
        let named = match answer.get("iss") {
            Some(iss) => iss == issuer,
            None => !endpoints.names_itself,
        };
        if !named || settings.rules.name != *asked.issuer {
            return Err(SigninError::MixUp);
        }
        if let Some(error) = answer.get("error") {
            return Err(SigninError::Refused(told_on(error)));
        }
        let code = answer.get("code").ok_or(SigninError::Answer("provider_no_code"))?;
        let tokens = self.redeem(&settings, &endpoints, (code, &asked)).await?;
        let nonce = asked.browser.derive(NONCE, asked.state);
        let token = self.check_id_token(&settings, &tokens, &nonce, asked.max_age).await?;
        let facts = TokenFacts {
            issuer: settings.rules.name.as_str(),
            subject: &token.subject,
            session: token.sid.as_deref(),
            issued_at: Some(token.auth_time),
            ..TokenFacts::default()
        };
        if let Some(cause) = self.operations().store().revoked().check(&facts) {
            tracing::info!(cause = cause.as_str(), "sign-in refused: revoked since");
            return Err(SigninError::Revoked);
        }
        let sid = new_session(self.operations().rng());
        let IdToken { subject, groups, auth_time, sid: upstream_sid, called } = token;
        let called = called.unwrap_or_else(|| subject.clone());
        let at = self.operations().clock().now();
        let person = SignedIn { issuer: settings.rules.name, subject, groups, auth_time, at, sid, upstream_sid };
        tracing::info!(target: "audit", issuer = %person.issuer, subject = person.subject, sid = person.sid, "signed in");
        let event = audit::Event::new("signin.ok").about(person.issuer.as_str(), &person.subject);
        self.operations()
            .audit()
            .happened(event.with("session", person.sid.as_str()))
            .await
            .map_err(OperationError::from)?;
        Ok((person, called))
    }

    async fn redeem(
        &self,
        settings: &ProviderSettings,
        endpoints: &Endpoints,
        (code, asked): (&str, &Asked<'_>),
    ) -> Result<Tokens, SigninError> {
        let verifier = asked.browser.derive(PKCE, asked.state);
        let callback = self.callback_uri();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &callback),
            ("code_verifier", &verifier),
        ];
        if endpoints.auth != FormAuth::Basic {
            form.push(("client_id", &settings.client_id));
        }
        let form = (Secret::new(encoded(&form)), endpoints.auth);
        let answer = self.parts.provider.post(&endpoints.token, settings, form).await?;
        let body = Secret::new(answer.body);
        let object = json::object(body.expose(), json::Limits::CLAIMS)
            .map_err(|_| SigninError::Answer("provider_answer_not_json"))?;
        if answer.status != 200 {
            // The word of RFC 6749 section 5.2 helps whoever set this up; nothing else of the answer goes into the log.
            let error = object.get("error").and_then(serde_json::Value::as_str);
            let error = error.filter(|error| error.len() < 64 && error.bytes().all(|b| b.is_ascii_graphic()));
            tracing::warn!(status = answer.status, error, "the OpenID provider did not redeem its code");
            return Err(SigninError::Answer("provider_refused_code"));
        }
        let text = |name: &str| object.get(name).and_then(serde_json::Value::as_str).map(|t| Secret::new(t.to_owned()));
        let id_token = text("id_token").ok_or(SigninError::Answer("provider_no_id_token"))?;
        Ok(Tokens { id_token, access_token: text("access_token") })
    }

    /// Check the ID token; for a key we do not know the provider's keys are fetched once more.
    async fn check_id_token(
        &self,
        settings: &ProviderSettings,
        tokens: &Tokens,
        nonce: &str,
        max_age: Option<Duration>,
    ) -> Result<IdToken, SigninError> {
        let expected = Expected {
            client_id: &settings.client_id,
            nonce,
            access_token: tokens.access_token.as_ref().map(|token| token.expose().as_str()),
            max_age,
            now: self.operations().clock().now(),
        };
        let verify =
            |keys: &proof::jose::KeySet| id_token::verify(tokens.id_token.expose(), &settings.rules, keys, expected);
        if let Some(keys) = &settings.keys {
            match verify(keys) {
                Err(IdTokenError::UnknownKey) => {}
                verdict => return Ok(verdict?),
            }
        }
        let keys = self.parts.provider.newer_keys(&settings.rules.name).await;
        let keys = keys.ok_or(SigninError::Answer("provider_no_keys"))?;
        Ok(verify(&keys)?)
    }
}

impl What {
    /// Whether the client wants the person not to be asked anything.
    fn is_silent(&self) -> bool {
        matches!(self, Self::Client { request } if request.is_silent())
    }
}

const BROWSER: &str = "browser";
const PKCE: &str = "pkce";
const NONCE: &str = "nonce";

/// Which sign-in an answer belongs to.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    browser: &'a Browser,
    state: &'a str,
    issuer: &'a Name,
    max_age: Option<Duration>,
}

/// What the provider gave for its code.
#[derive(Debug)]
struct Tokens {
    id_token: Secret<String>,
    access_token: Option<Secret<String>>,
}

/// What we ask the provider for: `openid` always.
fn scopes(configured: &[String]) -> String {
    let others = configured.iter().map(String::as_str).filter(|scope| *scope != "openid");
    std::iter::once("openid").chain(others).collect::<Vec<_>>().join(" ")
}

/// The provider's error as it is told on to the client: those a client can do something about, by their own name.
fn told_on(error: &str) -> &'static str {
    const KNOWN: [&str; 6] = [
        "access_denied",
        "login_required",
        "interaction_required",
        "consent_required",
        "account_selection_required",
        "temporarily_unavailable",
    ];
    KNOWN.into_iter().find(|known| *known == error).unwrap_or("server_error")
}

/// A URI with parameters added to its query, as text: an app's own scheme has no form of its own.
pub(super) fn with_parameters(uri: &str, parameters: &[(&str, &str)]) -> String {
    let separator = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{separator}{}", encoded(parameters))
}

fn encoded(parameters: &[(&str, &str)]) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters {
        query.append_pair(name, value);
    }
    query.finish()
}

/// What of a redirect URI a page's forms may lead to: its origin, or an app's own scheme.
pub(super) fn form_source(uri: &str) -> Option<String> {
    let url = Url::parse(uri).ok()?;
    match url.origin() {
        url::Origin::Opaque(_) => Some(format!("{}:", url.scheme())),
        origin @ url::Origin::Tuple(..) => Some(origin.ascii_serialization()),
    }
}

#[cfg(test)]
mod tests;
