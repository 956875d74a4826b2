//! Writing a complete answer.

use super::{finish, logprobs, seal, sign, usage};
use crate::json::{Array, Object, object};
use crate::model::{Body, Part, Response, ToolCall};
use crate::provider::anthropic::input;

/// `response` as a `GenerateContentResponse`.
pub(crate) fn response(response: &Response) -> String {
    let native = response.dialect == crate::Dialect::Gemini;
    object(|o| {
        o.array("candidates", |a| {
            for choice in &response.choices {
                a.object(|o| {
                    o.object("content", |o| {
                        o.array("parts", |a| choice.parts.iter().for_each(|p| part(a, p, native)));
                        o.text("role", "model");
                    });
                    finish(o, &choice.stop);
                    o.number("index", u64::from(choice.index));
                    logprobs(o, &choice.logprobs);
                });
            }
        });
        usage(o, &response.usage);
        o.text("modelVersion", &response.model);
        o.maybe_text("responseId", response.id.as_deref());
    })
}

fn part(a: &mut Array<'_>, part: &Part, native: bool) {
    match &part.body {
        Body::Text(text) | Body::Refusal(text) => a.object(|o| o.text("text", text)),
        Body::Thinking { text, signature } => a.object(|o| thought(o, text, signature.as_deref().map(sign).as_deref())),
        Body::RedactedThinking(data) => a.object(|o| thought(o, "", Some(&seal(data)))),
        Body::ToolCall(call) => a.object(|o| function_call(o, call)),
        Body::Other { raw, .. } if native => a.raw(raw.as_str()),
        // Not what a model answers with, or another dialect's.
        Body::Other { .. } | Body::Image(_) | Body::Document { .. } | Body::Audio { .. } | Body::ToolResult { .. } => {}
    }
}

/// A thought, or only its signature.
pub(super) fn thought(o: &mut Object<'_>, text: &str, signature: Option<&str>) {
    o.text("text", text);
    o.boolean("thought", true);
    o.maybe_text("thoughtSignature", signature);
}

pub(super) fn function_call(o: &mut Object<'_>, call: &ToolCall) {
    o.object("functionCall", |o| {
        o.text("id", &call.id);
        o.text("name", &call.name);
        o.raw("args", &input(&call.arguments));
    });
    o.maybe_text("thoughtSignature", call.signature.as_deref());
}
