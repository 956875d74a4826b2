//! What a web page of another origin may do here (the Fetch standard's CORS protocol): those of `[cors]`, exactly.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};

use super::Oauth;

/// What a page may read beside the fields that are always readable.
const EXPOSED: HeaderValue = HeaderValue::from_static("www-authenticate, dpop-nonce, x-request-id, retry-after");
/// What a page may send.
const ALLOWED_HEADERS: &str = "authorization, dpop, content-type, accept";

/// Endpoints that programs call. Those that a person's browser visits answer to no other page.
const FOR_PROGRAMS: [&str; 5] =
    ["/oauth/token", "/oauth/revoke", "/oauth/introspect", "/oauth/par", "/oauth/device_authorization"];

pub(super) async fn layer(State(oauth): State<Arc<Oauth>>, request: Request<Body>, next: Next) -> Response {
    if !FOR_PROGRAMS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    cors_for(&oauth.operations().file().cors, ("POST", &[]), request, next).await
}

/// Answer a request as `[cors]` has it: preflights for these methods and, besides the usual ones, these headers.
pub(crate) async fn cors_for(
    cors: &config::Cors,
    (methods, more): (&'static str, &[String]),
    request: Request<Body>,
    next: Next,
) -> Response {
    let allowed = allowed(request.headers(), cors.origins.iter().map(ToString::to_string));
    if is_preflight(&request) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        let vary = "origin, access-control-request-method, access-control-request-headers";
        headers.insert(header::VARY, HeaderValue::from_static(vary));
        if let Some(origin) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
            let names: Vec<&str> = std::iter::once(ALLOWED_HEADERS).chain(more.iter().map(String::as_str)).collect();
            if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
            }
            let max_age = HeaderValue::from(cors.max_age.duration().as_secs());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, max_age);
        }
        return response;
    }
    let mut response = next.run(request).await;
    if !cors.origins.is_empty() {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = allowed {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

/// The origin a request comes from, if it is one of these.
fn allowed(headers: &HeaderMap, mut origins: impl Iterator<Item = String>) -> Option<HeaderValue> {
    let named = headers.get(header::ORIGIN)?;
    origins.any(|origin| origin.as_bytes() == named.as_bytes()).then(|| named.clone())
}

fn is_preflight(request: &Request<Body>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}
