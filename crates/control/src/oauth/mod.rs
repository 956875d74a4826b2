//! The token service (RFC 6749): its endpoints under `/oauth/`, and what it publishes under `/.well-known/`.
//!
//! An endpoint is one file (or folder): it reads the request through [`request`], says who asks through [`client_auth`],
//! and answers with JSON or an [`OauthError`]. Every token is signed in one place, `Operations::issue`.

mod client_auth;
mod dpop;
mod error;
mod keys;
mod lockout;
mod outside;
pub mod pending;
mod request;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::routing::{get, post};

pub use error::OauthError;
pub use lockout::{AttemptLimits, Attempts, TooManyAttempts};
pub use outside::{Document, Documents, FetchError, Nowhere, SubjectTokens};
pub(crate) use request::{BodyError, collect, matches_tag};

use crate::operations::Operations;

/// What the token service is made of.
#[derive(Clone)]
pub struct OauthParts {
    /// State, keys, clients.
    pub operations: Arc<Operations>,
    /// How strict it is with whoever fails.
    pub limits: AttemptLimits,
    /// The largest body of a request, in bytes.
    pub body_limit: usize,
    /// Remembers proofs that were used; the same as the data plane's.
    pub replay: Arc<dyn store::Replay>,
    /// Makes and knows nonces; the same as the data plane's, since clients keep one nonce for an origin.
    pub nonces: Arc<proof::dpop::Nonces>,
    /// Verifies tokens that are not necessarily ours, as the data plane does.
    pub subject_tokens: Arc<dyn SubjectTokens>,
    /// The way out to what the operator named: key sets of clients, the OpenID provider.
    pub documents: Arc<dyn Documents>,
}

impl std::fmt::Debug for OauthParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OauthParts").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The token service.
#[derive(Debug)]
pub struct Oauth {
    parts: OauthParts,
    attempts: Attempts,
    started: Instant,
}

impl Oauth {
    /// The token service over these parts.
    pub fn new(parts: OauthParts) -> Self {
        Self { attempts: Attempts::new(parts.limits), started: parts.operations.clock().monotonic(), parts }
    }

    fn operations(&self) -> &Operations {
        &self.parts.operations
    }
}

/// The routes of the public listener. Requests need a [`ClientAddress`](crate::ClientAddress) in their extensions, and
/// carry a [`ClientCertificate`](crate::ClientCertificate) there when the client came with one.
pub fn router(oauth: Arc<Oauth>) -> Router {
    let post_only = async || OauthError::Method("POST").response();
    Router::new()
        .route("/oauth/token", post(token::endpoint).fallback(post_only))
        .route("/.well-known/jwks.json", get(keys::endpoint))
        .fallback(async || OauthError::NotFound.response())
        .with_state(oauth)
}
