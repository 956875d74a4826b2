//! Who is calling: each scheme in its order says `NotRequested`, `Verified` or `Failed`, and the first that does not say
//! `NotRequested` decides. A failure is never turned into an anonymous caller.
//!
//! The order: the token, what has been revoked, what the token is bound to, and last whether the proof of that was used
//! before.

mod attested;
mod error;
mod failures;
mod key;
mod possession;
mod token;

use std::net::IpAddr;
use std::sync::Arc;

use base::{Name, Timestamp};
use config::{AttestationLevel, Bound};
use http::HeaderValue;
use http::request::Parts;
use policy::Proven;
use proof::jose::base64url_encode;
use proof::token::{ClaimPath, MAX_LEEWAY, TokenError, VerifiedToken};
use store::TokenFacts;

pub(crate) use self::error::AuthenticateError;
pub(crate) use self::failures::Failures;
pub use self::key::KEY_PREFIX;
pub(crate) use self::possession::Signed;
pub use self::token::{KeyRefresh, NoRefresh, Revocations};

use crate::Shared;
use crate::edge::{Credential, Scheme};
use crate::snapshot::{ApiKey, Snapshot};

/// Somebody whose credential was verified. Only this module makes one. The subject is the pair (issuer, subject).
#[derive(Debug, Clone)]
pub struct Caller {
    identity: Identity,
    proven: Proven,
    ip: IpAddr,
}

#[derive(Debug, Clone)]
enum Identity {
    Token(Arc<VerifiedToken>),
    Key(Arc<ApiKey>),
}

impl Identity {
    /// What a revocation may be about.
    fn facts(&self) -> TokenFacts<'_> {
        match self {
            Self::Token(token) => TokenFacts {
                issuer: token.issuer().as_str(),
                subject: token.subject(),
                client: token.client_id(),
                jti: token.jti(),
                kid: token.kid(),
                session: token.sid(),
                upstream_session: token.claims().get("orig_sid").and_then(serde_json::Value::as_str),
                device: token.device_id(),
                issued_at: token.issued_at(),
            },
            // The key itself is revoked by its own name, but not who it speaks for.
            Self::Key(key) => TokenFacts {
                issuer: config::OWN_NAME,
                subject: &key.subject,
                client: key.client.as_deref(),
                issued_at: Some(key.created_at),
                ..TokenFacts::default()
            },
        }
    }
}

impl Caller {
    /// The configured name of the issuer; `vouchgate` for Vouchgate keys.
    pub fn issuer(&self) -> &str {
        match &self.identity {
            Identity::Token(token) => token.issuer().as_str(),
            Identity::Key(_) => config::OWN_NAME,
        }
    }

    /// The subject, which means nothing without its issuer.
    pub fn subject(&self) -> &str {
        match &self.identity {
            Identity::Token(token) => token.subject(),
            Identity::Key(key) => &key.subject,
        }
    }

    /// The client the credential was given to.
    pub fn client(&self) -> Option<&str> {
        match &self.identity {
            Identity::Token(token) => token.client_id(),
            Identity::Key(key) => key.client.as_deref(),
        }
    }

    /// [`Caller::subject`] and [`Caller::client`], to be kept: records of requests are many, and go away on other threads.
    pub(crate) fn kept(&self) -> (Arc<str>, Option<Arc<str>>) {
        match &self.identity {
            Identity::Token(token) => (Arc::clone(token.subject_shared()), token.client_shared().map(Arc::clone)),
            Identity::Key(key) => (key.subject.as_str().into(), key.client.as_deref().map(Arc::from)),
        }
    }

    /// [`Caller::issuer`] as a name.
    pub(crate) fn issuer_name(&self) -> Option<Name> {
        match &self.identity {
            Identity::Token(token) => Some(token.issuer().clone()),
            Identity::Key(_) => Name::new(config::OWN_NAME).ok(),
        }
    }

    /// The id of the Vouchgate key.
    pub(crate) fn key_id(&self) -> Option<Arc<str>> {
        match &self.identity {
            Identity::Token(_) => None,
            Identity::Key(key) => Some(Arc::clone(&key.id)),
        }
    }

    /// The Vouchgate key, if the credential is one.
    pub fn key(&self) -> Option<&Name> {
        match &self.identity {
            Identity::Token(_) => None,
            Identity::Key(key) => Some(&key.name),
        }
    }

    /// The client's address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// What the request has proved about its sender.
    pub(crate) fn proven(&self) -> impl Iterator<Item = Bound> {
        self.proven.iter()
    }

    /// How the credential was presented: challenges to this caller speak of the same scheme.
    pub(crate) fn scheme(&self) -> Scheme {
        if self.proven.dpop { Scheme::Dpop } else { Scheme::Bearer }
    }

    /// Whether what lets this caller in has been revoked since.
    pub(crate) fn is_revoked(&self, revocations: &dyn Revocations) -> bool {
        revocations.is_revoked(&self.identity.facts())
    }

    /// Whether the caller may still be let in at `now`: a body takes as long to arrive as its sender likes, and what was good
    /// when it began may have ended or been revoked.
    pub(crate) fn check_again(&self, revocations: &dyn Revocations, now: Timestamp) -> Result<(), AuthenticateError> {
        let over = match &self.identity {
            // With the longest leeway there can be: it was checked exactly at the beginning.
            Identity::Token(token) => {
                (now >= token.expires_at().plus(MAX_LEEWAY)).then_some(AuthenticateError::Token(TokenError::Expired))
            }
            Identity::Key(key) => key.expires_at.filter(|end| now >= *end).map(|_| AuthenticateError::Key),
        };
        match over {
            Some(error) => Err(error),
            None if !revocations.is_empty() && self.is_revoked(revocations) => Err(AuthenticateError::Revoked),
            None => Ok(()),
        }
    }

    /// Issuer, `jti` and end of the token, by which it can be known to have been used.
    pub(crate) fn token_id(&self) -> Option<(&str, &str, Timestamp)> {
        match &self.identity {
            Identity::Token(token) => Some((token.issuer().as_str(), token.jti()?, token.expires_at())),
            Identity::Key(_) => None,
        }
    }

    /// A claim of the token.
    pub(crate) fn claim(&self, path: &ClaimPath) -> Option<&serde_json::Value> {
        match &self.identity {
            Identity::Token(token) => path.find(token.claims()),
            Identity::Key(_) => None,
        }
    }

    /// The app (the client of our own tokens and keys) the caller is an instance of. Another issuer's client of the same
    /// name is none.
    pub(crate) fn app(&self) -> Option<&str> {
        self.client().filter(|_| self.issuer() == config::OWN_NAME)
    }

    /// Whether it is an installation of an app, by a token of ours.
    pub(crate) fn is_attested(&self) -> bool {
        matches!(&self.identity, Identity::Token(token) if attested::of(token).is_some())
    }

    /// How well the app was attested when it was given its token: our own tokens say it (`lvl`).
    pub(crate) fn level(&self) -> AttestationLevel {
        let Identity::Token(token) = &self.identity else { return AttestationLevel::None };
        attested::of(token).map_or(AttestationLevel::None, |attested| attested.level)
    }

    /// The app and the installation of it that the caller is, and the TLS stack it enrolled with, where our own token says them.
    pub(crate) fn installation(&self) -> Option<(&str, &str, Option<&str>)> {
        let Identity::Token(token) = &self.identity else { return None };
        let (app, stack) = attested::installation(token)?;
        Some((app, token.subject(), stack))
    }

    /// The thumbprint (base64url) of the key or certificate that the token is bound to.
    pub(crate) fn device(&self) -> Option<String> {
        match &self.identity {
            Identity::Token(token) => {
                let bound = token.cnf()?;
                bound.jkt.or(bound.x5t_s256).map(base64url_encode)
            }
            Identity::Key(_) => None,
        }
    }

    /// The caller as policies see it.
    pub(crate) fn facts(&self) -> policy::Caller<'_> {
        let (scopes, groups) = match &self.identity {
            Identity::Token(token) => (token.scopes(), token.groups()),
            Identity::Key(key) => (key.scopes.as_slice(), [].as_slice()),
        };
        policy::Caller {
            issuer: self.issuer(),
            client: self.client(),
            subject: self.subject(),
            scopes,
            groups,
            key: self.key(),
            ip: self.ip,
            bound: self.proven,
            attested: match &self.identity {
                Identity::Token(token) => attested::of(token),
                Identity::Key(_) => None,
            },
        }
    }
}

/// A request, as far as it says who sent it.
pub(crate) struct Shown<'a> {
    pub(crate) head: &'a Parts,
    pub(crate) credential: Credential<'a>,
    /// The one `DPoP` field.
    pub(crate) proof: Option<&'a HeaderValue>,
    /// SHA-256 of the client's certificate.
    pub(crate) certificate: Option<[u8; 32]>,
    pub(crate) has_body: bool,
    pub(crate) ip: IpAddr,
    pub(crate) at: Timestamp,
}

/// Who calls, and what there is to do about it.
pub(crate) struct Authenticated {
    pub(crate) caller: Caller,
    /// A signature that the body has still to be compared with, before anything is done with either.
    pub(crate) signed: Option<Signed>,
    /// The nonce the caller's next proof should carry.
    pub(crate) nonce: Option<String>,
}

/// What one scheme says of a request.
enum Verdict {
    /// The request does not use this scheme.
    NotRequested,
    /// It does, and this is who calls.
    Verified(Identity),
    /// It does, and failed.
    Failed(AuthenticateError),
}

/// Find out who is calling. At most one fetch of an issuer's keys, and that only when the token needs it.
pub(crate) async fn caller(
    snapshot: &Snapshot,
    shared: &Shared,
    shown: &Shown<'_>,
) -> Result<Authenticated, (Scheme, AuthenticateError)> {
    let presented = match shown.credential {
        Credential::Presented(presented) => presented,
        Credential::Absent | Credential::OtherScheme => return Err((Scheme::Bearer, AuthenticateError::Missing)),
    };
    let failed = |error: AuthenticateError| (presented.scheme, error);
    let verdict = match key::check(snapshot, presented, shown.at) {
        Verdict::NotRequested => token::check(snapshot, shared, shown, presented.text).await,
        decided => decided,
    };
    let identity = match verdict {
        Verdict::Verified(identity) => identity,
        Verdict::Failed(error) => return Err(failed(error)),
        Verdict::NotRequested => return Err(failed(AuthenticateError::Missing)),
    };
    // Whose client a token of another issuer names is that issuer's word, not ours.
    let client = match &identity {
        Identity::Token(token) => token.client_id().filter(|_| token.issuer().as_str() == config::OWN_NAME),
        Identity::Key(key) => key.client.as_deref(),
    };
    if !snapshot.credential_fields.may_use(presented.field, client) {
        return Err(failed(AuthenticateError::Field));
    }
    let installed = matches!(&identity, Identity::Token(token) if attested::of(token).is_some());
    let failed = |error: AuthenticateError| failed(if installed { error.of_installation() } else { error });
    if !shared.revoked.is_empty() && shared.revoked.is_revoked(&identity.facts()) {
        return Err(failed(AuthenticateError::Revoked));
    }
    let token = match &identity {
        Identity::Token(token) => Some(token.as_ref()),
        Identity::Key(_) => None,
    };
    if let Some(token) = token {
        attested::check_user(token, &shown.head.headers, snapshot).map_err(failed)?;
    }
    let held = possession::prove(snapshot, shared, shown, presented, token).await;
    let possession::Held { proven, signed, nonce } = held.map_err(failed)?;
    Ok(Authenticated { caller: Caller { identity, proven, ip: shown.ip }, signed, nonce })
}
