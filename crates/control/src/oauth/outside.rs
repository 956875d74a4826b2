//! What the token service needs of the rest of the process: the data plane's verdict on tokens, and the way out. The
//! binary implements both.

use std::sync::Arc;
use std::time::Duration;

use base::Secret;
use config::SecretRef;
use proof::token::{TokenError, VerifiedToken};

use crate::admin::Pending;

/// Verifies tokens of every configured issuer, ours included, as the data plane does: keys are fetched anew at most once
/// per cooldown.
pub trait SubjectTokens: Send + Sync {
    /// The token's claims, if its issuer's rules accept it now. Says nothing about revocation.
    fn verify<'a>(&'a self, token: &'a str) -> Pending<'a, Result<Arc<VerifiedToken>, TokenError>>;
}

/// A document from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its bytes: said to be JSON, not parsed yet.
    pub body: Vec<u8>,
    /// How long it may be kept, if the server says so.
    pub max_age: Option<Duration>,
}

/// Why there is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    /// A stable code.
    pub reason: &'static str,
    /// For the operator's log; never for a client.
    pub message: String,
}

/// The way out, to places the operator named and no others.
pub trait Documents: Send + Sync {
    /// GET a JSON document: TLS only (plain HTTP and private addresses where `allow_private`), no redirects, bounded.
    fn get<'a>(&'a self, url: &'a str, allow_private: bool) -> Pending<'a, Result<Document, FetchError>>;
}

/// Reads what the configuration refers to: a variable, a file, the vault.
pub trait Secrets: Send + Sync {
    /// The secret's value. One of the vault must not be bound to an origin: it is compared here, and sent nowhere.
    fn read<'a>(&'a self, reference: &'a SecretRef) -> Pending<'a, Result<Secret<String>, FetchError>>;
}

/// No issuers and no way out: for an installation that needs neither.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

impl SubjectTokens for Nowhere {
    fn verify<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Arc<VerifiedToken>, TokenError>> {
        Box::pin(std::future::ready(Err(TokenError::UnknownIssuer)))
    }
}

impl Secrets for Nowhere {
    fn read<'a>(&'a self, _: &'a SecretRef) -> Pending<'a, Result<Secret<String>, FetchError>> {
        let error = FetchError { reason: "no_secrets", message: "there are no secrets".to_owned() };
        Box::pin(std::future::ready(Err(error)))
    }
}

impl Documents for Nowhere {
    fn get<'a>(&'a self, _: &'a str, _: bool) -> Pending<'a, Result<Document, FetchError>> {
        let error = FetchError { reason: "no_way_out", message: "there is no way out".to_owned() };
        Box::pin(std::future::ready(Err(error)))
    }
}
