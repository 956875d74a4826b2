//! The authorization request (RFC 6749 section 4.1.1, with PKCE of RFC 7636, `dpop_jkt` of RFC 9449 section 10 and what
//! OpenID Connect Core section 3.1.2.1 adds): the same rules whether a browser brings it or the client pushes it.

use std::time::Duration;

use base::Name;
use config::{Grant, Requirement};
use proof::jose::base64url_decode;
use serde::{Deserialize, Serialize};

use crate::form::Form;
use crate::operations::{Registration, granted, parse_scopes};

/// What a client sends along to recognise its request by has at most so many bytes.
const MAX_STATE: usize = 2048;
const MAX_NONCE: usize = 512;
const MAX_HINT: usize = 256;

/// A checked request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::oauth) struct AuthorizationRequest {
    /// Who asks.
    pub(in crate::oauth) client: Name,
    /// Where the answer goes.
    pub(in crate::oauth) back: Back,
    /// The scopes: all of them the client's.
    pub(in crate::oauth) scopes: Vec<String>,
    /// The PKCE challenge, method S256.
    pub(in crate::oauth) code_challenge: String,
    /// For the ID token.
    pub(in crate::oauth) nonce: Option<String>,
    /// The thumbprint of the key the code is bound to.
    pub(in crate::oauth) dpop_jkt: Option<String>,
    prompt: Option<Prompt>,
    max_age: Option<u32>,
    login_hint: Option<String>,
}

/// Where an answer goes: a URI of the client's, so that it may be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::oauth) struct Back {
    /// The URI, as it is used.
    pub(in crate::oauth) uri: String,
    /// Whether the request named it: then the token request must too.
    pub(in crate::oauth) named: bool,
    /// `state`, sent back as it came.
    pub(in crate::oauth) state: Option<String>,
}

/// How the provider is to ask (OpenID Connect Core section 3.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Prompt {
    None,
    Login,
    Consent,
    SelectAccount,
}

/// What is wrong with a request, in the words of RFC 6749 section 4.1.2.1 and its extensions. The texts are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::oauth) enum RequestError {
    /// A parameter is missing or wrong.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// The client may not use codes.
    #[error("the client may not use authorization codes")]
    UnauthorizedClient,
    /// Another response type than `code`.
    #[error("the only response type is code")]
    UnsupportedResponseType,
    /// A scope the client does not have.
    #[error("the client may not ask for this scope")]
    InvalidScope,
    /// Another resource than us (RFC 8707 section 2).
    #[error("codes are issued for this gateway only")]
    InvalidTarget,
    /// A request object (RFC 9101).
    #[error("request objects are not supported; push the request instead")]
    RequestNotSupported,
}

impl RequestError {
    /// The `error` member.
    pub(in crate::oauth) const fn reason(self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::RequestNotSupported => "request_not_supported",
        }
    }
}

impl Back {
    /// Where an answer to this request may go. Decided before anything else, and nothing goes anywhere without it: what
    /// is wrong with these two parameters is told to the person, not to the URI (RFC 9700 section 4.11.2).
    pub(in crate::oauth) fn of(client: &Registration, form: &Form) -> Result<Self, RequestError> {
        let registered = &client.redirect_uris;
        let (uri, named) = match (form.get("redirect_uri"), registered.as_slice()) {
            (Some(uri), known) if known.iter().any(|known| known.matches(uri)) => (uri, true),
            (Some(_), _) => return Err(RequestError::InvalidRequest("the redirect_uri is not one of the client's")),
            (None, [only]) => (only.as_str(), false),
            (None, _) => return Err(RequestError::InvalidRequest("the redirect_uri is missing")),
        };
        let state = form.get("state").filter(|state| state.len() <= MAX_STATE);
        Ok(Self { uri: uri.to_owned(), named, state: state.map(str::to_owned) })
    }
}

impl AuthorizationRequest {
    /// Check everything else. `external_url` is the only resource.
    pub(in crate::oauth) fn read(
        client: &Registration,
        back: Back,
        form: &Form,
        external_url: &str,
    ) -> Result<Self, RequestError> {
        use RequestError::InvalidRequest;
        if form.get("request").is_some() {
            return Err(RequestError::RequestNotSupported);
        }
        if !client.allows(Grant::AuthorizationCode) {
            return Err(RequestError::UnauthorizedClient);
        }
        match form.get("response_type") {
            Some("code") => {}
            Some(_) => return Err(RequestError::UnsupportedResponseType),
            None => return Err(InvalidRequest("response_type is missing")),
        }
        if form.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(InvalidRequest("the only response_mode is query"));
        }
        if form.get("state").is_some_and(|state| state.len() > MAX_STATE) {
            return Err(InvalidRequest("the state is too long"));
        }
        let code_challenge = challenge(form)?;
        let asked = form.get("scope").map(parse_scopes).transpose().map_err(|_| RequestError::InvalidScope)?;
        let scopes = granted(client, asked).map_err(|_| RequestError::InvalidScope)?;
        if !names_only(form, external_url) {
            return Err(RequestError::InvalidTarget);
        }
        let short = |name, most, text| match form.get(name) {
            Some(value) if value.len() > most || value.chars().any(char::is_control) => Err(InvalidRequest(text)),
            value => Ok(value.map(str::to_owned)),
        };
        let dpop_jkt = form.get("dpop_jkt");
        if dpop_jkt.is_some_and(|jkt| !is_sha256(jkt)) {
            return Err(InvalidRequest("dpop_jkt is not a thumbprint"));
        }
        let max_age = form.get("max_age").map(str::parse).transpose();
        Ok(Self {
            client: client.name.clone(),
            back,
            scopes,
            code_challenge,
            nonce: short("nonce", MAX_NONCE, "the nonce is too long or not text")?,
            dpop_jkt: dpop_jkt.map(str::to_owned),
            prompt: form.get("prompt").map(Prompt::read).transpose()?,
            max_age: max_age.map_err(|_| InvalidRequest("max_age is not a number of seconds"))?,
            login_hint: short("login_hint", MAX_HINT, "the login_hint is too long or not text")?,
        })
    }

    /// What the client wishes of the provider, told on to it. `again`: whoever is signed in there has to prove it anew.
    pub(in crate::oauth) fn wishes(&self, mut tell: impl FnMut(&str, &str), again: bool) {
        match self.prompt {
            _ if again => tell("prompt", "login"),
            Some(prompt) => tell("prompt", prompt.as_str()),
            None => {}
        }
        if let Some(seconds) = self.max_age {
            tell("max_age", &seconds.to_string());
        }
        if let Some(hint) = &self.login_hint {
            tell("login_hint", hint);
        }
    }

    /// How long ago the person may have signed in.
    pub(in crate::oauth) fn max_age(&self) -> Option<Duration> {
        self.max_age.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Whether nobody is to be asked anything.
    pub(in crate::oauth) fn is_silent(&self) -> bool {
        self.prompt == Some(Prompt::None)
    }
}

/// Whether a request names us and no other resource (RFC 8707 section 2). URL libraries write an origin with a slash at
/// its end.
pub(in crate::oauth) fn names_only(form: &Form, external_url: &str) -> bool {
    let ours = |wanted: &str| wanted.strip_suffix('/').unwrap_or(wanted) == external_url;
    ["resource", "audience"].into_iter().filter_map(|name| form.get(name)).all(ours)
}

/// Whether the client must push its requests (RFC 9126).
pub(in crate::oauth) fn must_push(client: &Registration) -> bool {
    client.requires(Requirement::Par)
}

/// The PKCE challenge: always, and S256 (RFC 9700 section 2.1.1). A challenge without method would be `plain`.
fn challenge(form: &Form) -> Result<String, RequestError> {
    use RequestError::InvalidRequest;
    let challenge = form.get("code_challenge").ok_or(InvalidRequest("code_challenge is missing (PKCE)"))?;
    if form.get("code_challenge_method") != Some("S256") {
        return Err(InvalidRequest("code_challenge_method must be S256"));
    }
    if is_sha256(challenge) {
        Ok(challenge.to_owned())
    } else {
        Err(InvalidRequest("the code_challenge is not S256's"))
    }
}

/// Whether this is a SHA-256 in base64url.
fn is_sha256(text: &str) -> bool {
    base64url_decode(text).is_some_and(|bytes| bytes.len() == 32)
}

impl Prompt {
    fn read(text: &str) -> Result<Self, RequestError> {
        Ok(match text {
            "none" => Self::None,
            "login" => Self::Login,
            "consent" => Self::Consent,
            "select_account" => Self::SelectAccount,
            _ => return Err(RequestError::InvalidRequest("prompt is none, login, consent or select_account")),
        })
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Login => "login",
            Self::Consent => "consent",
            Self::SelectAccount => "select_account",
        }
    }
}
