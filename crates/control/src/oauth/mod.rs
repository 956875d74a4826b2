//! The token service (RFC 6749): its endpoints under `/oauth/`, and what it publishes under `/.well-known/`.
//!
//! An endpoint is one file (or folder): it reads the request through [`request`], says who asks through [`client_auth`],
//! and answers with JSON or an [`OauthError`]. Every token is signed in one place, `Operations::issue`.

mod app_config;
mod apps;
mod authorize;
mod callback;
mod client_auth;
mod cors;
mod device;
mod dpop;
mod error;
mod events;
mod introspect;
mod keys;
mod lockout;
mod metadata;
mod outside;
mod own_tokens;
mod page;
mod par;
pub mod pending;
mod request;
mod revoke;
mod signin;
#[cfg(test)]
mod tests;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::routing::{get, post};
use axum::{Router, middleware};
use proof::dpop::Lifetimes;

pub(crate) use client_auth::ClientKeySets;
pub(crate) use cors::cors_for;
pub use error::OauthError;
pub use events::EventCounts;
pub use lockout::{AttemptLimits, Attempts, TooManyAttempts};
pub use outside::{Document, Documents, FetchError, Nowhere, Secrets, SubjectTokens};
pub(crate) use request::{BodyError, collect, matches_tag};
pub use signin::{FormAnswer, FormAuth, OpenidProvider, ProviderSettings};

use metadata::Merged;
use own_tokens::OwnTokens;
use token::Polls;

use crate::operations::Operations;

/// How long a revocation of a session is remembered: longer than any access token lives.
const REMEMBERED: Duration = Duration::from_hours(48);

/// How far clocks may differ.
const CLOCKS_DIFFER: Duration = Duration::from_mins(1);

/// What the token service is made of.
#[derive(Clone)]
pub struct OauthParts {
    /// State, keys, clients.
    pub operations: Arc<Operations>,
    /// The addresses the public listener is bound to.
    pub listening: Vec<SocketAddr>,
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
    /// Where people sign in.
    pub provider: Arc<dyn OpenidProvider>,
    /// What transmitters of security events have to say.
    pub secrets: Arc<dyn Secrets>,
    /// Counts the security events that were heard.
    pub heard: Arc<EventCounts>,
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
    client_keys: ClientKeySets,
    own_tokens: OwnTokens,
    merged: Merged,
    polls: Polls,
    lifetimes: Lifetimes,
    /// Browsers' requests, by address.
    visits: Attempts,
    guesses: device::Guesses,
    known: signin::Known,
    ears: events::Ears,
    started: Instant,
}

impl Oauth {
    /// The token service over these parts.
    pub fn new(parts: OauthParts) -> Self {
        Self {
            attempts: Attempts::new(parts.limits),
            client_keys: ClientKeySets::new(Arc::clone(&parts.documents), parts.operations.shared_clock()),
            own_tokens: OwnTokens::default(),
            merged: Merged::default(),
            polls: Polls::default(),
            lifetimes: Lifetimes::default(),
            visits: Attempts::new(parts.limits),
            guesses: device::Guesses::new(parts.limits),
            known: signin::Known::default(),
            ears: events::Ears::new(parts.limits),
            started: parts.operations.clock().monotonic(),
            parts,
        }
    }

    /// Write into the audit log that somebody did not get on.
    pub(super) async fn note_failed(&self, reason: &str, ip: std::net::IpAddr) {
        self.operations().refused("token_service", reason, None, Some(ip)).await;
    }

    fn operations(&self) -> &Operations {
        &self.parts.operations
    }
}

/// The routes of the public listener. Requests need a [`ClientAddress`](crate::ClientAddress) in their extensions, and
/// carry a [`ClientCertificate`](crate::ClientCertificate) there when the client came with one.
pub fn router(oauth: Arc<Oauth>) -> Router {
    let post_only = async || OauthError::Method("POST").response();
    let pages_only = async || OauthError::Method("GET, HEAD, POST").response();
    let get_only = async || OauthError::Method("GET, HEAD").response();
    Router::new()
        .route("/oauth/token", post(token::endpoint).fallback(post_only))
        .route("/oauth/revoke", post(revoke::endpoint).fallback(post_only))
        .route("/oauth/events", post(events::endpoint).fallback(post_only))
        .route("/oauth/introspect", post(introspect::endpoint).fallback(post_only))
        .route("/oauth/authorize", get(authorize::endpoint).post(authorize::endpoint).fallback(pages_only))
        .route("/oauth/callback", get(callback::endpoint).fallback(get_only))
        .route("/oauth/consent", post(authorize::consent).fallback(post_only))
        .route("/oauth/par", post(par::endpoint).fallback(post_only))
        .route("/oauth/device_authorization", post(device::authorization).fallback(post_only))
        .route("/oauth/device", get(device::enter).post(device::enter).fallback(pages_only))
        .route("/.well-known/jwks.json", get(keys::endpoint).fallback(get_only))
        .route("/.well-known/gateway-config/{app}", get(app_config::endpoint).fallback(get_only))
        .route("/.well-known/oauth-authorization-server", get(metadata::token_service).fallback(get_only))
        .route("/.well-known/openid-configuration", get(metadata::token_service).fallback(get_only))
        .route("/.well-known/oauth-protected-resource", get(metadata::resource).fallback(get_only))
        .fallback(async || OauthError::NotFound.response())
        .layer(middleware::from_fn_with_state(Arc::clone(&oauth), cors::layer))
        .with_state(oauth)
}
