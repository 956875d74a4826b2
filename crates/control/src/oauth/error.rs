//! Errors of the token service (RFC 6749 section 5.2 and what extends it).

use std::time::Duration;

use axum::response::Response;
use base::Who;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

/// Why no token is given. The texts are fixed, so that they tell nothing about what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OauthError {
    /// A parameter is missing, doubled or not readable.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// The client is unknown, disabled, or did not prove who it is in its own way: never says which.
    #[error("client authentication failed")]
    InvalidClient {
        /// Whether the client used the `Authorization` header: then the answer must challenge.
        challenge: bool,
    },
    /// The client may not use this grant.
    #[error("the client may not use this grant type")]
    UnauthorizedClient,
    /// No grant type of ours.
    #[error("there is no such grant type here")]
    UnsupportedGrantType,
    /// The code, device code or refresh token is unknown, expired, used, revoked, or another client's: never says which.
    #[error("the grant is not valid")]
    InvalidGrant,
    /// A DPoP proof is missing, or not valid (RFC 9449 section 5).
    #[error("{0}")]
    InvalidDpopProof(&'static str),
    /// The DPoP proof needs a nonce (RFC 9449 section 8).
    #[error("send the DPoP proof again with this nonce")]
    UseDpopNonce {
        /// The nonce.
        nonce: String,
    },
    /// Nobody has decided about the device yet (RFC 8628 section 3.5).
    #[error("nobody has approved the device yet")]
    AuthorizationPending,
    /// The device asks too often (RFC 8628 section 3.5).
    #[error("wait longer between two requests")]
    SlowDown,
    /// The person refused.
    #[error("access was denied")]
    AccessDenied,
    /// The device code has expired (RFC 8628 section 3.5).
    #[error("the device code has expired")]
    ExpiredToken,
    /// A scope that the client does not have, or that is no scope.
    #[error("the client may not ask for this scope")]
    InvalidScope,
    /// A resource other than this gateway (RFC 8707 section 2).
    #[error("tokens are issued for this gateway only")]
    InvalidTarget,
    /// The body is over the limit.
    #[error("the request body is too large")]
    TooLarge,
    /// No such endpoint.
    #[error("there is no such endpoint")]
    NotFound,
    /// Another method than those the endpoint takes, which are these.
    #[error("the endpoint takes {0} only")]
    Method(&'static str),
    /// Too many attempts.
    #[error("too many attempts; try again later")]
    TooManyAttempts {
        /// When to come back.
        retry_after: Duration,
    },
    /// The store or the vault could not be used.
    #[error("the token service cannot issue tokens at the moment")]
    Unavailable,
}

impl OauthError {
    /// The `error` member: the registered code, or for what RFC 6749 has no code, the nearest in use.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) | Self::TooLarge | Self::NotFound | Self::Method(_) => "invalid_request",
            Self::InvalidClient { .. } => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidDpopProof(_) => "invalid_dpop_proof",
            Self::UseDpopNonce { .. } => "use_dpop_nonce",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::AccessDenied => "access_denied",
            Self::ExpiredToken => "expired_token",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::TooManyAttempts { .. } | Self::Unavailable => "temporarily_unavailable",
        }
    }

    /// Whose fault it is.
    pub const fn who(&self) -> Who {
        match self {
            Self::Unavailable => Who::Us,
            _ => Who::Client,
        }
    }

    /// Whether the same request may succeed later.
    pub const fn retryable(&self) -> bool {
        matches!(
            self,
            Self::TooManyAttempts { .. }
                | Self::Unavailable
                | Self::UseDpopNonce { .. }
                | Self::AuthorizationPending
                | Self::SlowDown
        )
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::InvalidClient { .. } => StatusCode::UNAUTHORIZED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The response.
    pub fn response(&self) -> Response {
        let body = json!({ "error": self.reason(), "error_description": self.to_string() });
        let mut response = Response::new(axum::body::Body::from(Bytes::from(body.to_string())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        if !self.retryable() {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        match self {
            Self::InvalidClient { challenge: true } => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"vouchgate\""));
            }
            Self::Method(methods) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(methods));
            }
            Self::UseDpopNonce { nonce } => insert_nonce(headers, nonce),
            Self::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
            }
            Self::TooManyAttempts { retry_after } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(*retry_after)));
            }
            _ => {}
        }
        response
    }
}

/// When to come back to a service that cannot answer now, in seconds.
const RETRY_AFTER: &str = "5";

/// `DPoP-Nonce`: the nonce for the client's next proof (RFC 9449 section 8).
pub(super) fn insert_nonce(headers: &mut HeaderMap, nonce: &str) {
    if let Ok(nonce) = HeaderValue::from_str(nonce) {
        headers.insert("dpop-nonce", nonce);
    }
}

/// Whole seconds, rounded up and at least one (RFC 9110 section 10.2.3).
pub(crate) fn whole_seconds(after: Duration) -> u64 {
    u64::try_from(after.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}
