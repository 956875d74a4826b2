//! One error, rendered in the caller's own dialect.

use std::time::Duration;

use base::Problem;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use llm::{Dialect, Failure, aws_error, error_body, stream_error_event};
use serde_json::json;

use crate::GatewayBody;
use crate::admit::Standing;

/// Whose error format a caller expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// `{"error":{"message","type","param","code"}}`
    OpenAi,
    /// `{"type":"error","error":{"type","message"}}`
    Anthropic,
    /// `{"error":{"code","message","status"}}` (`google.rpc.Status`)
    Gemini,
    /// `{"message"}`
    Cohere,
    /// `{"error"}`, a text
    Ollama,
    /// `{"__type","message","code"}` (AWS's restJson1)
    Aws,
    /// `{"error","error_description"}` (RFC 6749 section 5.2)
    OAuth,
}

impl Surface {
    /// The format for a request, by where it was sent and what its client says it speaks.
    pub fn of(path: &str, headers: &HeaderMap) -> Self {
        let under =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if under("/v1/messages") || (under("/v1/models") && headers.contains_key("anthropic-version")) {
            Self::Anthropic
        } else if under("/v1beta") || crate::endpoint::gemini::Path::of(path).is_some() {
            Self::Gemini
        } else if under("/oauth") {
            Self::OAuth
        } else {
            Self::OpenAi
        }
    }
}

/// A request turned away: what the caller is told, and what metrics and logs call it.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Inner>);

#[derive(Debug)]
struct Inner {
    problem: Problem,
    reason: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let reason = problem.code;
        Self(Box::new(Inner { problem, reason, headers: Vec::new() }))
    }
}

impl Refusal {
    /// Tell metrics and logs more than the caller.
    pub(crate) fn reason(mut self, reason: &'static str) -> Self {
        self.0.reason = reason;
        self
    }

    /// Name the methods that are accepted (RFC 9110 section 15.5.6).
    pub(crate) fn allow(self, methods: HeaderValue) -> Self {
        self.header(header::ALLOW, methods)
    }

    /// Add a field to the answer.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Say how the caller stands with the rates that count it.
    pub(crate) fn standing(mut self, standing: &Standing) -> Self {
        let mut headers = HeaderMap::new();
        standing.write(&mut headers);
        self.0.headers.extend(headers.into_iter().filter_map(|(name, value)| Some((name?, value))));
        self
    }

    pub(crate) fn problem(&self) -> &Problem {
        &self.0.problem
    }

    /// The code for metrics and logs.
    pub(crate) fn why(&self) -> &'static str {
        self.0.reason
    }

    /// The whole answer. Each challenge says where `resource_metadata` is (RFC 9728 section 5.1).
    pub(crate) fn respond(self, surface: Surface, resource_metadata: Option<&str>) -> Response<GatewayBody> {
        let mut response = respond(&self.0.problem, surface, resource_metadata);
        response.headers_mut().extend(self.0.headers);
        response
    }

    #[cfg(test)]
    pub(crate) fn into_problem(self) -> Problem {
        self.0.problem
    }
}

fn respond(problem: &Problem, surface: Surface, resource_metadata: Option<&str>) -> Response<GatewayBody> {
    let mut response = Response::new(GatewayBody::full(Bytes::from(body(problem, surface))));
    *response.status_mut() = problem.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !problem.retryable {
        headers.insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
    }
    if let Some(after) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
    }
    if surface == Surface::Aws {
        // AWS's SDKs take the kind of an error from here, and the `code` of a body only where this is absent.
        let kind = HeaderValue::from_static(aws_error(problem.status.as_u16()));
        headers.insert(HeaderName::from_static("x-amzn-errortype"), kind);
    }
    for challenge in &problem.challenges {
        let value = match resource_metadata {
            Some(place) => HeaderValue::try_from(format!("{challenge}, resource_metadata=\"{place}\"")),
            None => HeaderValue::from_str(challenge),
        };
        if let Ok(value) = value {
            headers.append(header::WWW_AUTHENTICATE, value);
        }
    }
    response
}

/// `Retry-After` holds whole seconds (RFC 9110 section 10.2.3): rounded up, never zero.
fn whole_seconds(after: Duration) -> u64 {
    let up = u64::from(after.subsec_nanos() > 0);
    after.as_secs().saturating_add(up).max(1)
}

/// The body alone.
pub(crate) fn body(problem: &Problem, surface: Surface) -> Vec<u8> {
    let message = problem.message.as_ref();
    match surface {
        Surface::OpenAi => error_body(Dialect::OpenAiChat, &Failure::from(problem)),
        Surface::Anthropic => error_body(Dialect::AnthropicMessages, &Failure::from(problem)),
        Surface::Cohere => error_body(Dialect::CohereChat, &Failure::from(problem)),
        Surface::Ollama => error_body(Dialect::OllamaChat, &Failure::from(problem)),
        Surface::Gemini => json!({"error": {
            "code": problem.status.as_u16(), "message": message, "status": rpc_status(problem.status),
            "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": problem.code, "domain": "vouchgate"}],
        }})
        .to_string()
        .into_bytes(),
        Surface::Aws => error_body(Dialect::BedrockConverse, &Failure::from(problem)),
        Surface::OAuth => {
            json!({"error": oauth_error(problem.status), "error_description": message}).to_string().into_bytes()
        }
    }
}

/// An event that ends a stream with this problem, as a service's streams have it.
pub(crate) fn event(problem: &Problem) -> Vec<u8> {
    stream_error_event(Dialect::OpenAiChat, &Failure::from(problem))
}

/// The `google.rpc.Code` for a status.
fn rpc_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        400..=499 => "INVALID_ARGUMENT",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}

fn oauth_error(status: StatusCode) -> &'static str {
    match status.as_u16() {
        429 | 503 => "temporarily_unavailable",
        400..=499 => "invalid_request",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn denial() -> Problem {
        Problem::client(StatusCode::FORBIDDEN, "not_allowed", "No policy allows this.").param("model")
    }

    fn parsed(bytes: &[u8]) -> serde_json::Value {
        serde_json::from_slice(bytes).expect("an error body is JSON")
    }

    #[test]
    fn each_surface_gets_its_own_shape() {
        let body = |surface| parsed(&body(&denial(), surface));
        let openai = body(Surface::OpenAi);
        assert_eq!(openai["error"]["code"], "not_allowed");
        assert_eq!(openai["error"]["type"], "permission_error");
        assert_eq!(openai["error"]["param"], "model");
        let anthropic = body(Surface::Anthropic);
        assert_eq!((&anthropic["type"], &anthropic["error"]["type"]), (&json!("error"), &json!("permission_error")));
        let gemini = body(Surface::Gemini);
        assert_eq!((&gemini["error"]["code"], &gemini["error"]["status"]), (&json!(403), &json!("PERMISSION_DENIED")));
        assert_eq!(body(Surface::OAuth)["error"], "invalid_request");
        let aws = body(Surface::Aws);
        assert_eq!((&aws["__type"], &aws["code"]), (&json!("AccessDeniedException"), &json!("not_allowed")));
        let field = |surface| respond(&denial(), surface, None).headers().get("x-amzn-errortype").cloned();
        assert_eq!(field(Surface::Aws), Some(HeaderValue::from_static("AccessDeniedException")));
        assert_eq!(field(Surface::OpenAi), None);
    }

    #[test]
    fn the_surface_follows_the_endpoint() {
        let none = HeaderMap::new();
        assert_eq!(Surface::of("/v1/messages/count_tokens", &none), Surface::Anthropic);
        assert_eq!(Surface::of("/v1/messagesx", &none), Surface::OpenAi);
        assert_eq!(Surface::of("/v1beta/models/m:generateContent", &none), Surface::Gemini);
        assert_eq!(Surface::of("/oauth/none", &none), Surface::OAuth);
        assert_eq!(Surface::of("/v1/models", &none), Surface::OpenAi);
        let mut anthropic = HeaderMap::new();
        anthropic.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        assert_eq!(Surface::of("/v1/models", &anthropic), Surface::Anthropic);
    }

    #[test]
    fn a_denial_tells_the_client_not_to_retry_and_a_busy_answer_tells_when() {
        let response = respond(&denial(), Surface::OpenAi, None);
        assert_eq!(response.headers().get("x-should-retry"), Some(&HeaderValue::from_static("false")));
        let busy = Problem::client(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests.")
            .retry_after(Duration::from_millis(1200));
        let response = respond(&busy, Surface::OpenAi, None);
        assert_eq!(response.headers().get(header::RETRY_AFTER), Some(&HeaderValue::from_static("2")));
        assert!(!response.headers().contains_key("x-should-retry"));
    }

    #[test]
    fn challenges_become_header_lines() {
        let problem =
            Problem::client(StatusCode::UNAUTHORIZED, "invalid_token", "x").challenge("Bearer realm=\"vouchgate\"");
        let response = respond(&problem, Surface::OpenAi, Some("https://gate.example/.well-known/x"));
        assert_eq!(
            response.headers().get(header::WWW_AUTHENTICATE),
            Some(&HeaderValue::from_static(
                "Bearer realm=\"vouchgate\", resource_metadata=\"https://gate.example/.well-known/x\""
            ))
        );
        let bytes = futures_util::FutureExt::now_or_never(response.into_body().collect())
            .expect("ready")
            .expect("body")
            .to_bytes();
        assert_eq!(parsed(&bytes)["error"]["code"], "invalid_token");
    }
}
