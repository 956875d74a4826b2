//! OpenAI's Responses API, as clients speak it (platform.openai.com/docs/api-reference/responses).

use super::{Failure, openai_type};
use crate::json::object;

/// An error event, the last of its stream: the form that OpenAI sends, which its SDKs raise as an error.
pub(crate) fn error_event(failure: &Failure, sequence: u64) -> Vec<u8> {
    let data = object(|o| {
        o.text("type", "error");
        o.number("sequence_number", sequence);
        o.object("error", |o| {
            o.text("type", failure.kind.as_deref().unwrap_or_else(|| openai_type(failure.status)));
            o.text_or_null("code", failure.code.as_deref());
            o.text("message", &failure.message);
            o.text_or_null("param", failure.param.as_deref());
        });
    });
    format!("event: error\ndata: {data}\n\n").into_bytes()
}
