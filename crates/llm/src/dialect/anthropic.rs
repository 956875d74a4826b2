//! Anthropic's Messages API, as clients speak it (docs.anthropic.com/en/api/messages).
//!
//! Answers of other providers: arguments that are no JSON object (a model cut off in the middle) stand under
//! `INVALID_JSON` in `input`; unsigned reasoning is a `thinking` block with an empty signature; annotations have no
//! place and are dropped.

mod request;
mod response;
mod stream;

pub(crate) use request::request;
pub(crate) use response::response;
pub(crate) use stream::StreamWriter;

use crate::json::Object;
use crate::model::{Stop, Usage};

/// `stop_reason`.
fn stop_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::EndTurn => "end_turn",
        Stop::StopSequence(_) => "stop_sequence",
        Stop::MaxTokens => "max_tokens",
        Stop::ToolUse => "tool_use",
        Stop::Refusal(_) => "refusal",
        Stop::ContextWindow => "model_context_window_exceeded",
        Stop::Pause => "pause_turn",
    }
}

/// `stop_reason` and what stands beside it.
fn stop(o: &mut Object<'_>, stop: &Stop) {
    o.text("stop_reason", stop_reason(stop));
    let matched = if let Stop::StopSequence(text) = stop { text.as_deref() } else { None };
    o.text_or_null("stop_sequence", matched);
    if let Stop::Refusal(Some(explanation)) = stop {
        o.object("stop_details", |o| {
            o.text("type", "refusal");
            o.text("explanation", explanation);
        });
    }
}

/// `usage`: the input without its cached share, which stands beside it. What is unknown counts as zero: the SDKs
/// insist on the numbers.
fn usage(o: &mut Object<'_>, usage: &Usage) {
    let (read, written) = (usage.cache_read_tokens, usage.cache_write_tokens);
    let cached = read.unwrap_or(0).saturating_add(written.unwrap_or(0));
    let input = usage.input_tokens.unwrap_or(0);
    o.object("usage", |o| {
        // A provider that reads more from its cache than it reads at all has left the cached share out already.
        o.number("input_tokens", input.checked_sub(cached).unwrap_or(input));
        o.number("cache_creation_input_tokens", written.unwrap_or(0));
        o.number("cache_read_input_tokens", read.unwrap_or(0));
        o.number("output_tokens", usage.output_tokens.unwrap_or(0));
        if let Some(thinking) = usage.reasoning_tokens {
            o.object("output_tokens_details", |o| o.number("thinking_tokens", thinking));
        }
    });
}
