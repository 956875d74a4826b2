//! The token service: `POST /oauth/token` for the client credentials grant (RFC 6749 section 4.4), and the keys its
//! tokens verify with at `/.well-known/jwks.json`.

mod client_auth;
mod error;
mod lockout;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use base::Name;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use tracing::Instrument;

pub use error::OauthError;
pub use lockout::{AttemptLimits, Attempts, TooManyAttempts};

use crate::ClientAddress;
use crate::form::Form;
use crate::operations::{MintedToken, OperationError, Operations, granted, parse_scopes};

/// How long others may remember our keys. A new key is published at least this long before it signs.
const KEYS_MAX_AGE: &str = "public, max-age=300";

/// The token service.
#[derive(Debug)]
pub struct Oauth {
    operations: Arc<Operations>,
    attempts: Attempts,
    body_limit: usize,
}

impl Oauth {
    /// The token service over `operations`; a request's body has at most `body_limit` bytes.
    pub fn new(operations: Arc<Operations>, limits: AttemptLimits, body_limit: usize) -> Self {
        Self { operations, attempts: Attempts::new(limits), body_limit }
    }
}

/// The routes of the public listener. Requests need a [`ClientAddress`] in their extensions.
pub fn router(oauth: Arc<Oauth>) -> Router {
    Router::new()
        .route("/oauth/token", post(token).fallback(async || OauthError::Method.response()))
        .route("/.well-known/jwks.json", get(keys))
        .fallback(async || OauthError::NotFound.response())
        .with_state(oauth)
}

async fn token(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let id = oauth.operations.request_id();
    let (parts, body) = request.into_parts();
    let address = parts.extensions.get().map_or_else(String::new, |ClientAddress(address)| address.to_string());
    // Everything that is logged on the way carries the id that the client is told.
    let span = tracing::info_span!("token", request_id = %id, address, client = tracing::field::Empty);
    let answered = async {
        oauth.token(&parts, body).await.map_or_else(
            |error| {
                tracing::info!(target: "audit", reason = error.reason(), "no token issued");
                error.response()
            },
            |token| issued(&token),
        )
    };
    let mut response = answered.instrument(span).await;
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

impl Oauth {
    async fn token(&self, parts: &Parts, body: Body) -> Result<MintedToken, OauthError> {
        let Some(ClientAddress(address)) = parts.extensions.get().copied() else {
            tracing::error!("the listener gave no client address");
            return Err(OauthError::Unavailable);
        };
        let form = self.form(parts, body).await?;
        let presented = client_auth::presented(&parts.headers, &form)?;
        // A name has no character that could forge a line of the log; anything else is not written there.
        if let Ok(name) = Name::new(&presented.id) {
            tracing::Span::current().record("client", name.as_str());
        }
        let now = self.operations.clock().monotonic();
        self.attempts
            .admit(&presented.id, address, now)
            .map_err(|closed| OauthError::TooManyAttempts { retry_after: closed.retry_after })?;
        match form.get("grant_type") {
            None => return Err(OauthError::InvalidRequest("grant_type is missing")),
            Some("client_credentials") => {}
            Some(_) => return Err(OauthError::UnsupportedGrantType),
        }

        // One path for unknown, disabled and wrong: the same work, the same answer.
        let client = self.operations.client_registration(&presented.id).await.map_err(|error| unavailable(&error))?;
        let proven = self.operations.client_secret_matches(client.as_ref(), presented.secret.expose());
        let Some(client) = client.filter(|_| proven) else {
            self.attempts.failed(&presented.id, address, now);
            return Err(OauthError::InvalidClient { challenge: presented.basic });
        };
        self.attempts.succeeded(&presented.id, address);

        let external = self.operations.external_url();
        if ["resource", "audience"].iter().any(|name| form.get(name).is_some_and(|wanted| wanted != external)) {
            return Err(OauthError::InvalidTarget);
        }
        let asked = form.get("scope").map(parse_scopes).transpose().map_err(|_| OauthError::InvalidScope)?;
        let scopes = granted(&client, asked).map_err(|_| OauthError::InvalidScope)?;
        let subject = client.name.as_str();
        let token = self
            .operations
            .issue(&client, subject, &scopes, client.token_ttl)
            .await
            .map_err(|error| unavailable(&error))?;
        tracing::info!(target: "audit", "token issued");
        Ok(token)
    }

    /// The parameters: form-encoded, in the body only (RFC 6749 section 2.3.1 keeps credentials out of the URL).
    async fn form(&self, parts: &Parts, body: Body) -> Result<Form, OauthError> {
        if parts.uri.query().is_some_and(|query| !query.is_empty()) {
            return Err(OauthError::InvalidRequest("parameters belong into the body, not into the URL"));
        }
        if !is_form(&parts.headers) {
            return Err(OauthError::InvalidRequest("the body must be application/x-www-form-urlencoded"));
        }
        let bytes = collect(body, self.body_limit).await.map_err(|error| match error {
            BodyError::TooLarge => OauthError::TooLarge,
            BodyError::Cut => OauthError::InvalidRequest("the body ended early"),
        })?;
        Form::parse(&bytes).map_err(|error| {
            OauthError::InvalidRequest(match error {
                crate::form::FormError::Encoding => "the body is not application/x-www-form-urlencoded",
                crate::form::FormError::Duplicate => "a parameter appears twice",
                crate::form::FormError::TooMany => "too many parameters",
            })
        })
    }
}

/// Whether there is exactly one content type, the form's, with at most a `charset` of UTF-8.
fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(Ok(value)), None) = (types.next().map(HeaderValue::to_str), types.next()) else { return false };
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let utf8 = ["", "charset=utf-8", "charset=\"utf-8\""].contains(&parameters.trim().to_ascii_lowercase().as_str());
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") && utf8
}

fn unavailable(error: &OperationError) -> OauthError {
    tracing::error!(reason = error.reason(), error = %error, "the token service failed");
    OauthError::Unavailable
}

fn issued(token: &MintedToken) -> Response {
    let body = serde_json::to_vec(token).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

async fn keys(State(oauth): State<Arc<Oauth>>, headers: HeaderMap) -> Response {
    let keys = match oauth.operations.published_keys().await {
        Ok(keys) => keys,
        Err(error) => return unavailable(&error).response(),
    };
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| matches_tag(value, &keys.etag));
    let body = if known { Body::empty() } else { Body::from(keys.json.clone()) };
    let mut response = Response::new(body);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(KEYS_MAX_AGE));
    // Public keys, for any page and program to read.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if let Ok(etag) = HeaderValue::from_str(&keys.etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

/// Whether an `If-None-Match` names this tag (weak comparison, RFC 9110 section 13.1.2).
pub(crate) fn matches_tag(value: &HeaderValue, etag: &str) -> bool {
    let Ok(value) = value.to_str() else { return false };
    value.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Over the limit.
    TooLarge,
    /// The client stopped in the middle.
    Cut,
}

/// The whole body, if it is at most `limit` bytes.
pub(crate) async fn collect(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(BodyError::TooLarge),
        Err(_) => Err(BodyError::Cut),
    }
}
