//! What a web page from another origin may do (the Fetch standard's CORS protocol): exact origins only, none by default.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::GatewayBody;

/// What a page may read besides the always-readable fields.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "www-authenticate, dpop-nonce, accept-signature, x-request-id, request-id, retry-after, retry-after-ms, \
     x-should-retry, content-type, x-vouchgate-target, x-vouchgate-attempts, x-vouchgate-dropped, ratelimit, ratelimit-policy, \
     x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, \
     x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens",
);
/// What a page may send.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, dpop, signature, signature-input, content-digest, content-type, accept, x-api-key, x-goog-api-key, \
     anthropic-version, anthropic-beta, \
     anthropic-dangerous-direct-browser-access, openai-beta, idempotency-key, traceparent, tracestate, x-stainless-arch, \
     x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-runtime, x-stainless-runtime-version, \
     x-stainless-retry-count, x-stainless-timeout, x-stainless-helper-method",
);

/// The origins whose pages may call this gateway.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    origins: Vec<HeaderValue>,
    max_age: Duration,
}

impl Cors {
    /// Allow exactly these origins (`https://app.example.com`), to be remembered for `max_age`; what cannot be a header value can never match.
    pub fn new<'a>(origins: impl IntoIterator<Item = &'a str>, max_age: Duration) -> Self {
        let origins = origins.into_iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
        Self { origins, max_age }
    }

    /// The allowed origin a request comes from.
    pub(crate) fn origin<'a>(&'a self, headers: &HeaderMap) -> Option<&'a HeaderValue> {
        let named = headers.get(header::ORIGIN)?;
        self.origins.iter().find(|ours| *ours == named)
    }

    /// Whether answers differ by origin at all.
    pub(crate) fn is_used(&self) -> bool {
        !self.origins.is_empty()
    }

    /// The answer to a preflight request for a resource with these methods. An origin that is not allowed gets the same
    /// answer without the permission.
    pub(crate) fn preflight(&self, headers: &HeaderMap, methods: &HeaderValue) -> Response<GatewayBody> {
        let mut response = Response::new(GatewayBody::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let out = response.headers_mut();
        out.insert(
            header::VARY,
            HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers"),
        );
        if self.origin(headers).is_some() {
            out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
            out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
            out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age.as_secs()));
        }
        response
    }
}

/// Whether a request is a CORS preflight.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Add what every answer carries: the request id, the security fields a web app needs, and the CORS permission.
pub(crate) fn finish(response: &mut Response<GatewayBody>, id: HeaderValue, cors: &Cors, origin: Option<HeaderValue>) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
    const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
    const NO_CONTENT: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox");
    const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
    let out = response.headers_mut();
    out.insert(REQUEST_ID, id);
    out.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    out.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
    out.insert(header::CONTENT_SECURITY_POLICY, NO_CONTENT);
    out.insert(header::REFERRER_POLICY, NO_REFERRER);
    if !cors.is_used() {
        out.insert(RESOURCE_POLICY, SAME_ORIGIN);
        return;
    }
    out.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        out.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        headers
    }

    #[test]
    fn only_an_exact_origin_is_permitted() {
        let cors = Cors::new(["https://app.example.com"], Duration::from_mins(10));
        assert!(cors.origin(&from("https://app.example.com")).is_some());
        for other in
            ["https://app.example.com.evil.example", "http://app.example.com", "https://app.example.com:8443", "null"]
        {
            assert!(cors.origin(&from(other)).is_none(), "{other}");
        }
        assert!(Cors::default().origin(&from("https://app.example.com")).is_none());
    }

    #[test]
    fn a_preflight_of_another_origin_gets_no_permission() {
        let cors = Cors::new(["https://app.example.com"], Duration::from_mins(10));
        let methods = HeaderValue::from_static("POST");
        assert!(is_preflight(&Method::OPTIONS, &from("https://x.example")));
        let refused = cors.preflight(&from("https://x.example"), &methods);
        assert!(!refused.headers().contains_key(header::ACCESS_CONTROL_ALLOW_METHODS));
        let allowed = cors.preflight(&from("https://app.example.com"), &methods);
        assert_eq!(allowed.headers().get(header::ACCESS_CONTROL_ALLOW_METHODS), Some(&methods));
    }

    #[test]
    fn every_answer_carries_its_id_and_exposes_what_a_page_needs() {
        let cors = Cors::new(["https://app.example.com"], Duration::from_mins(10));
        let mut response = Response::new(GatewayBody::empty());
        let headers = from("https://app.example.com");
        finish(&mut response, HeaderValue::from_static("req_1"), &cors, cors.origin(&headers).cloned());
        let out = response.headers();
        assert_eq!(out.get("x-request-id"), Some(&HeaderValue::from_static("req_1")));
        assert_eq!(
            out.get(header::ACCESS_CONTROL_ALLOW_ORIGIN),
            Some(&HeaderValue::from_static("https://app.example.com"))
        );
        assert!(
            out.get(header::ACCESS_CONTROL_EXPOSE_HEADERS)
                .is_some_and(|v| v.as_bytes().starts_with(b"www-authenticate, dpop-nonce"))
        );
        assert!(!out.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
}
