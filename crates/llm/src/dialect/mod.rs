//! The side clients speak to: requests are read, answers written, errors told in the client's own form.

pub(crate) mod anthropic;
pub(crate) mod gemini;
pub(crate) mod openai_chat;
pub(crate) mod openai_responses;
mod read;

use base::Problem;

use crate::codec::event_stream::event_stream_message;
use crate::json::object;
use crate::{Dialect, Framing, ProviderError};

/// An error to be told to a client, whatever it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status: decides the `type`.
    pub status: u16,
    /// The provider's own `type`, where there is one.
    pub kind: Option<String>,
    /// A short stable code.
    pub code: Option<String>,
    /// The request member it is about.
    pub param: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Failure {
    /// A stream the provider broke off.
    pub fn cut() -> Self {
        Self {
            status: 502,
            kind: None,
            code: Some("upstream_cut".to_owned()),
            param: None,
            message: "The provider's stream ended before the answer was complete.".to_owned(),
        }
    }

    /// A stream that cannot be read.
    pub fn garbage() -> Self {
        Self {
            status: 502,
            kind: None,
            code: Some("upstream_invalid_stream".to_owned()),
            param: None,
            message: "The provider's stream cannot be read.".to_owned(),
        }
    }
}

impl From<&Problem> for Failure {
    fn from(problem: &Problem) -> Self {
        Self {
            status: problem.status.as_u16(),
            kind: None,
            code: Some(problem.code.to_owned()),
            param: problem.param.clone(),
            message: problem.message.to_string(),
        }
    }
}

impl From<&ProviderError> for Failure {
    fn from(error: &ProviderError) -> Self {
        Self {
            status: error.status.unwrap_or(502),
            kind: error.kind.clone(),
            code: error.code.clone(),
            param: error.param.clone(),
            message: error.message.clone(),
        }
    }
}

/// The body of an error response.
///
/// OpenAI: `{"error":{"message","type","param","code"}}`; Anthropic: `{"type":"error","error":{"type","message"}}`
/// with the `code` and `param` beside, where there are any; Cohere: `{"message"}`, Ollama: `{"error"}`, with the `code` beside.
pub fn error_body(dialect: Dialect, failure: &Failure) -> Vec<u8> {
    match dialect {
        Dialect::AnthropicMessages => object(|o| {
            o.text("type", "error");
            o.object("error", |o| {
                let known = failure.kind.as_deref().filter(|kind| ANTHROPIC_TYPES.contains(kind));
                o.text("type", known.unwrap_or_else(|| anthropic_type(failure.status)));
                o.text("message", &failure.message);
                o.maybe_text("code", failure.code.as_deref());
                o.maybe_text("param", failure.param.as_deref());
            });
        }),
        Dialect::Gemini => object(|o| {
            o.object("error", |o| {
                let named = failure.kind.as_deref().filter(|kind| GOOGLE_CODES.contains(kind));
                o.number("code", u64::from(failure.status));
                o.text("message", &failure.message);
                o.text("status", named.unwrap_or_else(|| gemini::rpc_status(failure.status)));
                if let Some(reason) = &failure.code {
                    o.array("details", |a| {
                        a.object(|o| {
                            o.text("@type", "type.googleapis.com/google.rpc.ErrorInfo");
                            o.text("reason", reason);
                            o.text("domain", "vouchgate");
                        });
                    });
                }
            });
        }),
        // As AWS's SDKs read it (smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html#operation-error-serialization).
        Dialect::BedrockConverse | Dialect::BedrockInvoke => object(|o| {
            o.text("__type", aws_error(failure.status));
            o.text("message", &failure.message);
            o.maybe_text("code", failure.code.as_deref());
            o.maybe_text("param", failure.param.as_deref());
        }),
        Dialect::CohereChat | Dialect::CohereChatV1 | Dialect::CohereEmbed => object(|o| {
            o.text("message", &failure.message);
            o.maybe_text("code", failure.code.as_deref());
        }),
        Dialect::OllamaChat => object(|o| {
            o.text("error", &failure.message);
            o.maybe_text("code", failure.code.as_deref());
        }),
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::OpenAiEmbeddings => object(|o| {
            o.object("error", |o| {
                o.text("message", &failure.message);
                let kind = failure.kind.as_deref().filter(|kind| !GOOGLE_CODES.contains(kind));
                o.text("type", kind.unwrap_or_else(|| openai_type(failure.status)));
                o.text_or_null("param", failure.param.as_deref());
                o.text_or_null("code", failure.code.as_deref());
            });
        }),
    }
    .into_bytes()
}

/// An error event for the middle of a stream. It is the last: no dialect goes on after it, none ends cleanly.
pub fn stream_error_event(dialect: Dialect, failure: &Failure) -> Vec<u8> {
    framed_error_event(dialect, dialect.framing(), failure)
}

/// [`stream_error_event`] in this framing.
pub(crate) fn framed_error_event(dialect: Dialect, framing: Framing, failure: &Failure) -> Vec<u8> {
    if (framing, dialect) == (Framing::Sse, Dialect::OpenAiResponses) {
        return openai_responses::error_event(failure, 0);
    }
    let body = error_body(dialect, failure);
    let (before, after) = match (framing, dialect) {
        (Framing::Sse, Dialect::AnthropicMessages) => ("event: error\ndata: ", "\n\n"),
        (Framing::Sse, _) => ("data: ", "\n\n"),
        (Framing::Lines, _) => ("", "\n"),
        (Framing::EventStream, _) => {
            let headers = [
                (":exception-type", aws_exception(failure.status)),
                (":content-type", "application/json"),
                (":message-type", "exception"),
            ];
            return event_stream_message(&headers, &body);
        }
    };
    [before.as_bytes(), &body, after.as_bytes()].concat()
}

/// The error types Anthropic documents.
const ANTHROPIC_TYPES: [&str; 10] = [
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "timeout_error",
    "overloaded_error",
    "api_error",
];

/// The names of `google.rpc.Code` that come with an error.
const GOOGLE_CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
];

/// What Bedrock Runtime calls an error of this status, in the body's `__type` and in the field `x-amzn-errortype`.
pub fn aws_error(status: u16) -> &'static str {
    match status {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 | 504 => "ModelTimeoutException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        400..=499 => "ValidationException",
        _ => "InternalServerException",
    }
}

/// The same in a stream.
fn aws_exception(status: u16) -> &'static str {
    match status {
        429 => "throttlingException",
        408 | 504 => "modelTimeoutException",
        503 => "serviceUnavailableException",
        400..=499 => "validationException",
        _ => "internalServerException",
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn openai_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_in_each_dialect() {
        let failure = Failure {
            status: 429,
            kind: Some("tokens".to_owned()),
            code: Some("rate_limit_exceeded".to_owned()),
            param: None,
            message: "Slow \"down\"\n".to_owned(),
        };
        let text = |dialect| String::from_utf8(error_body(dialect, &failure)).unwrap();
        assert_eq!(
            text(Dialect::OpenAiChat),
            r#"{"error":{"message":"Slow \"down\"\n","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#
        );
        assert_eq!(
            text(Dialect::AnthropicMessages),
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"Slow \"down\"\n","code":"rate_limit_exceeded"}}"#
        );
        let event = String::from_utf8(stream_error_event(Dialect::AnthropicMessages, &Failure::cut())).unwrap();
        assert!(event.starts_with("event: error\ndata: {\"type\":\"error\""), "{event}");
        assert!(event.ends_with("}\n\n"));
    }
}
