//! `/.well-known/jwks.json`: the keys our tokens verify with (RFC 7517 section 5).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::Oauth;
use super::request::{matches_tag, unavailable};

/// How long others may remember our keys. A new key is published at least this long before it signs.
const MAX_AGE: &str = "public, max-age=300";

pub(super) async fn endpoint(State(oauth): State<Arc<Oauth>>, headers: HeaderMap) -> Response {
    let keys = match oauth.operations().published_keys().await {
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
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(MAX_AGE));
    // Public keys, for any page and program to read.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if let Ok(etag) = HeaderValue::from_str(&keys.etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}
