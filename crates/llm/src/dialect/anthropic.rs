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
    let input = usage.input_tokens.unwrap_or(0);
    let (read, mut written) = (usage.cache_read_tokens.unwrap_or(0), usage.cache_write_tokens.unwrap_or(0));
    if read <= input && written <= input {
        // OpenRouter tells some tokens as both read and written: they count once.
        written = written.min(input - read);
    }
    o.object("usage", |o| {
        // A provider that reads more from its cache than it reads at all has left the cached share out already.
        o.number("input_tokens", input.checked_sub(read.saturating_add(written)).unwrap_or(input));
        o.number("cache_creation_input_tokens", written);
        o.number("cache_read_input_tokens", read);
        o.number("output_tokens", usage.output_tokens.unwrap_or(0));
        if let Some(thinking) = usage.reasoning_tokens {
            o.object("output_tokens_details", |o| o.number("thinking_tokens", thinking));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_is_counted_twice() {
        let told = |input, read, written| {
            let of = Usage {
                input_tokens: Some(input),
                cache_read_tokens: Some(read),
                cache_write_tokens: Some(written),
                ..Usage::default()
            };
            let body: serde_json::Value =
                serde_json::from_str(&crate::json::object(|o| usage(o, &of))).unwrap_or_default();
            ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
                .map(|name| body["usage"][name].as_u64().unwrap_or_default())
        };
        assert_eq!(told(100, 60, 30), [10, 60, 30]);
        assert_eq!(told(2168, 2161, 2161), [0, 2161, 7]);
        assert_eq!(told(7, 161, 0), [7, 161, 0]);
    }
}
