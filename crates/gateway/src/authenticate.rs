//! Who is calling: each scheme in its order says `NotRequested`, `Verified` or `Failed`, and the first that does not say
//! `NotRequested` decides. A failure is never turned into an anonymous caller.

use std::net::IpAddr;
use std::sync::Arc;

use base::{Name, Problem, Timestamp};
use futures_util::future::BoxFuture;
use http::StatusCode;
use proof::token::{TokenError, VerifiedToken};

use crate::edge::{Credential, Presented, Scheme};
use crate::snapshot::{ApiKey, Snapshot};

/// What every Vouchgate key begins with.
pub const KEY_PREFIX: &str = "vg_";

/// Gets an issuer's keys anew: single flight and cooldown are its own affair.
pub trait KeyRefresh: Send + Sync {
    /// Fetch the keys of this issuer, unless that was done a moment ago. Returns when they may have changed.
    fn refresh<'a>(&'a self, issuer: &'a Name) -> BoxFuture<'a, ()>;
}

/// Never refreshes: for issuers whose keys are all known beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRefresh;

impl KeyRefresh for NoRefresh {
    fn refresh<'a>(&'a self, _: &'a Name) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Somebody whose credential was verified. Only this module makes one. The subject is the pair (issuer, subject).
#[derive(Debug, Clone)]
pub struct Caller {
    proof: Proof,
    ip: IpAddr,
}

#[derive(Debug, Clone)]
enum Proof {
    Token(Arc<VerifiedToken>),
    Key(Arc<ApiKey>),
}

impl Caller {
    /// The configured name of the issuer; `vouchgate` for Vouchgate keys.
    pub fn issuer(&self) -> &str {
        match &self.proof {
            Proof::Token(token) => token.issuer().as_str(),
            Proof::Key(_) => config::OWN_NAME,
        }
    }

    /// The subject, which means nothing without its issuer.
    pub fn subject(&self) -> &str {
        match &self.proof {
            Proof::Token(token) => token.subject(),
            Proof::Key(key) => &key.subject,
        }
    }

    /// The client the credential was given to.
    pub fn client(&self) -> Option<&str> {
        match &self.proof {
            Proof::Token(token) => token.client_id(),
            Proof::Key(key) => key.client.as_deref(),
        }
    }

    /// [`Caller::issuer`] as a name.
    pub(crate) fn issuer_name(&self) -> Option<Name> {
        match &self.proof {
            Proof::Token(token) => Some(token.issuer().clone()),
            Proof::Key(_) => Name::new(config::OWN_NAME).ok(),
        }
    }

    /// The id of the Vouchgate key.
    pub(crate) fn key_id(&self) -> Option<Arc<str>> {
        match &self.proof {
            Proof::Token(_) => None,
            Proof::Key(key) => Some(Arc::clone(&key.id)),
        }
    }

    /// The Vouchgate key, if the credential is one.
    pub fn key(&self) -> Option<&Name> {
        match &self.proof {
            Proof::Token(_) => None,
            Proof::Key(key) => Some(&key.name),
        }
    }

    /// The client's address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The caller as policies see it.
    pub(crate) fn facts(&self) -> policy::Caller<'_> {
        let (scopes, groups) = match &self.proof {
            Proof::Token(token) => (token.scopes(), token.groups()),
            Proof::Key(key) => (key.scopes.as_slice(), [].as_slice()),
        };
        policy::Caller {
            issuer: self.issuer(),
            client: self.client(),
            subject: self.subject(),
            scopes,
            groups,
            key: self.key(),
            ip: self.ip,
            bound: policy::Proven::NONE,
        }
    }
}

/// Why nobody is known to be calling.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthenticateError {
    /// No credential of an accepted scheme.
    #[error("send a credential as `Authorization: Bearer <token>`")]
    Missing,
    /// A token that is not accepted.
    #[error("{0}")]
    Token(TokenError),
    /// A token that only the holder of a key may use, which cannot be checked here.
    #[error("the token is bound to a key, whose possession this gateway cannot check")]
    Bound,
    /// A Vouchgate key that is unknown, revoked or expired: the answer does not say which.
    #[error("the key is not valid")]
    Key,
    /// The issuer's keys are not to be had now.
    #[error("the keys to check this token with are not available now")]
    Unavailable,
}

impl AuthenticateError {
    /// A stable code for metrics and logs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "credential_missing",
            Self::Token(error) => error.reason(),
            Self::Bound => "token_bound",
            Self::Key => "key_invalid",
            Self::Unavailable => "keys_unavailable",
        }
    }

    /// RFC 6750 section 3.1, with a fixed vocabulary: what was sent is never repeated.
    pub(crate) fn problem(&self) -> Problem {
        let invalid = |description: &str| {
            Problem::client(StatusCode::UNAUTHORIZED, "invalid_token", format!("{description}.")).challenge(format!(
                "Bearer realm=\"vouchgate\", error=\"invalid_token\", error_description=\"{description}\""
            ))
        };
        match self {
            Self::Missing => Problem::client(
                StatusCode::UNAUTHORIZED,
                "credential_missing",
                "Send a token or Vouchgate key as `Authorization: Bearer <token>`.",
            )
            .challenge("Bearer realm=\"vouchgate\""),
            Self::Token(error) => invalid(error.description()),
            Self::Bound => invalid("The access token is bound to a key and cannot be used as a bearer token"),
            Self::Key => invalid("The key is unknown, expired or revoked"),
            Self::Unavailable => Problem::us(
                StatusCode::SERVICE_UNAVAILABLE,
                "keys_unavailable",
                "The keys to check this token with are not available now.",
            )
            .retry_after(std::time::Duration::from_secs(30)),
        }
    }
}

/// What one scheme says of a request.
enum Verdict {
    /// The request does not use this scheme.
    NotRequested,
    /// It does, and this is who calls.
    Verified(Proof),
    /// It does, and failed.
    Failed(AuthenticateError),
}

/// Find out who is calling. At most one fetch of an issuer's keys, and that only when the token needs it.
pub(crate) async fn caller(
    snapshot: &Snapshot,
    refresh: &dyn KeyRefresh,
    credential: Credential<'_>,
    ip: IpAddr,
    now: Timestamp,
) -> Result<Caller, AuthenticateError> {
    let presented = match credential {
        Credential::Presented(Presented { scheme: Scheme::Dpop, .. }) => return Err(AuthenticateError::Bound),
        Credential::Presented(presented) => presented.text,
        Credential::Absent | Credential::OtherScheme => return Err(AuthenticateError::Missing),
    };
    let verdict = match vouchgate_key(snapshot, presented, now) {
        Verdict::NotRequested => token(snapshot, refresh, presented, now).await,
        decided => decided,
    };
    match verdict {
        Verdict::Verified(proof) => Ok(Caller { proof, ip }),
        Verdict::Failed(error) => Err(error),
        Verdict::NotRequested => Err(AuthenticateError::Missing),
    }
}

fn vouchgate_key(snapshot: &Snapshot, presented: &str, now: Timestamp) -> Verdict {
    if !presented.starts_with(KEY_PREFIX) {
        return Verdict::NotRequested;
    }
    // Off unless a policy names them.
    if !snapshot.policies.keys_are_used() {
        return Verdict::Failed(AuthenticateError::Key);
    }
    match snapshot.keys.find(presented) {
        Some(key) if key.expires_at.is_none_or(|end| now < end) => Verdict::Verified(Proof::Key(Arc::clone(key))),
        _ => Verdict::Failed(AuthenticateError::Key),
    }
}

async fn token(snapshot: &Snapshot, refresh: &dyn KeyRefresh, presented: &str, now: Timestamp) -> Verdict {
    let first = snapshot.issuers.verify(presented, now);
    let verified = match first.as_ref().err().and_then(TokenError::refetch) {
        Some(issuer) => {
            refresh.refresh(issuer).await;
            snapshot.issuers.verify(presented, now)
        }
        None => first,
    };
    match verified {
        Ok(token) if token.cnf().is_some() => Verdict::Failed(AuthenticateError::Bound),
        Ok(token) => Verdict::Verified(Proof::Token(token)),
        Err(TokenError::KeysUnavailable { .. }) => Verdict::Failed(AuthenticateError::Unavailable),
        Err(error) => Verdict::Failed(AuthenticateError::Token(error)),
    }
}
