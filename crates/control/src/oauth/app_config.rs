//! `/.well-known/gateway-config/{app}`: what an app is told over the air. It is signed, so that anybody may carry it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::request::{matches_tag, unavailable};
use super::{Oauth, OauthError};

/// How long others may remember it: a switch that is set reaches everybody soon after.
const MAX_AGE: &str = "public, max-age=60";

pub(super) async fn endpoint(State(oauth): State<Arc<Oauth>>, Path(app): Path<String>, headers: HeaderMap) -> Response {
    let served = match oauth.operations().served_app_config(&app).await {
        Ok(Some(served)) => served,
        // An app that nobody knows and one that is told nothing look the same.
        Ok(None) => return OauthError::NotFound.response(),
        Err(error) => return unavailable(&error).response(),
    };
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| matches_tag(value, &served.etag));
    let body = if known { Body::empty() } else { Body::from(served.jws.clone()) };
    let mut response = Response::new(body);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    // RFC 7515 section 9.2.1.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jose"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(MAX_AGE));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if let Ok(etag) = HeaderValue::from_str(&served.etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}
