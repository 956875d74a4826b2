//! Writing a complete answer.

use super::{stop, usage};
use crate::json::{Array, object};
use crate::model::{Body, GEMINI_SIGNATURE, Part, Response};
use crate::provider::anthropic::input;
use crate::{Dialect, ResponseError};

/// `response` as a message. There is room for one answer.
pub(crate) fn response(response: &Response) -> Result<String, ResponseError> {
    let [choice] = response.choices.as_slice() else {
        return Err(if response.choices.is_empty() {
            ResponseError::Shape("choices")
        } else {
            ResponseError::ManyChoices
        });
    };
    let native = response.dialect == Dialect::AnthropicMessages;
    Ok(object(|o| {
        o.text("id", response.id.as_deref().unwrap_or("msg_vouchgate"));
        o.text("type", "message");
        o.text("role", "assistant");
        o.text("model", &response.model);
        o.array("content", |a| choice.parts.iter().for_each(|part| block(a, part, native)));
        stop(o, &choice.stop);
        usage(o, &response.usage);
    }))
}

fn block(a: &mut Array<'_>, part: &Part, native: bool) {
    match &part.body {
        Body::Text(text) | Body::Refusal(text) => a.object(|o| {
            o.text("type", "text");
            o.text("text", text);
        }),
        Body::Thinking { text, signature } => a.object(|o| {
            o.text("type", "thinking");
            o.text("thinking", text);
            o.text("signature", signature.as_deref().unwrap_or_default());
        }),
        Body::RedactedThinking(data) => a.object(|o| {
            o.text("type", "redacted_thinking");
            o.text("data", data);
        }),
        Body::ToolCall(call) => {
            if let Some(google) = &call.signature {
                // Google's signature of the call, where clients keep signatures: in a thought of its own before it.
                a.object(|o| {
                    o.text("type", "thinking");
                    o.text("thinking", "");
                    o.text("signature", &format!("{GEMINI_SIGNATURE}{google}"));
                });
            }
            a.object(|o| {
                o.text("type", "tool_use");
                o.text("id", &call.id);
                o.text("name", &call.name);
                o.raw("input", &input(&call.arguments));
            });
        }
        Body::Other { raw, .. } if native => a.raw(raw.as_str()),
        // Not what a model answers with.
        Body::Other { .. } | Body::Image(_) | Body::Document { .. } | Body::Audio { .. } | Body::ToolResult { .. } => {}
    }
}
