//! OpenAI's chat completions, as clients speak them (platform.openai.com/docs/api-reference/chat).
//!
//! Answers of a provider that is not OpenAI-compatible carry, beside what OpenAI's SDKs know, what they pass over and
//! others use: `reasoning_content` (as `DeepSeek` has it) and `reasoning_details` (as `OpenRouter` has it: with the
//! signature, so that a client that sends it back keeps the reasoning), `prompt_tokens_details.cache_write_tokens`, and
//! `provider_content` for parts of a kind OpenAI does not have.

mod request;
mod response;
mod stream;

pub(crate) use request::request;
pub(super) use request::{audio, file_source, url_source};
pub(crate) use response::response;
pub(crate) use stream::StreamWriter;

use crate::json::{Array, Object};
use crate::model::{Citation, GEMINI_SIGNATURE, OPENAI_SIGNATURE, Stop, TokenLogprob, Usage};
use crate::provider::openai::{GOOGLE_FORMAT, OPENAI_FORMAT};

/// `finish_reason`.
fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::EndTurn | Stop::StopSequence(_) | Stop::Pause => "stop",
        Stop::MaxTokens | Stop::ContextWindow => "length",
        Stop::ToolUse => "tool_calls",
        Stop::Refusal(_) => "content_filter",
    }
}

fn usage(o: &mut Object<'_>, usage: &Usage) {
    let input = usage.input_tokens.unwrap_or(0);
    let output = usage.output_tokens.unwrap_or(0);
    o.object("usage", |o| {
        o.number("prompt_tokens", input);
        o.number("completion_tokens", output);
        o.number("total_tokens", usage.total_tokens.unwrap_or_else(|| input.saturating_add(output)));
        let prompt = [
            ("cached_tokens", usage.cache_read_tokens),
            ("cache_write_tokens", usage.cache_write_tokens),
            ("audio_tokens", usage.audio_input_tokens),
        ];
        let completion = [("reasoning_tokens", usage.reasoning_tokens), ("audio_tokens", usage.audio_output_tokens)];
        details(o, "prompt_tokens_details", &prompt);
        details(o, "completion_tokens_details", &completion);
    });
}

fn details(o: &mut Object<'_>, name: &str, counts: &[(&str, Option<u64>)]) {
    if counts.iter().any(|(_, count)| count.is_some()) {
        o.object(name, |o| counts.iter().for_each(|(name, count)| o.maybe_number(name, *count)));
    }
}

/// A `url_citation` annotation for the text from `start` to `end` (characters). In a stream OpenAI's SDKs put lists
/// together by the `index` of their entries, and insist on one.
fn annotation(a: &mut Array<'_>, citation: &Citation, (start, end): (usize, usize), index: Option<u64>) {
    a.object(|o| {
        o.maybe_number("index", index);
        o.text("type", "url_citation");
        o.object("url_citation", |o| {
            o.number("start_index", start as u64);
            o.number("end_index", end as u64);
            o.text("url", &citation.url);
            o.text("title", citation.title.as_deref().unwrap_or_default());
        });
    });
}

/// One of `reasoning_details`; what says whose it is comes with the signature, once.
fn reasoning_detail(a: &mut Array<'_>, text: Option<&str>, signature: Option<&str>, index: u64) {
    a.object(|o| {
        o.text("type", "reasoning.text");
        o.maybe_text("text", text);
        o.maybe_text("signature", signature);
        o.maybe_text(
            "format",
            signature.map(|signature| match signature {
                google if google.starts_with(GEMINI_SIGNATURE) => GOOGLE_FORMAT,
                openai if openai.starts_with(OPENAI_SIGNATURE) => OPENAI_FORMAT,
                _ => "anthropic-claude-v1",
            }),
        );
        o.number("index", index);
    });
}

/// `logprobs` of an answer or a piece of one; null where there are none.
fn logprobs(o: &mut Object<'_>, tokens: &[TokenLogprob]) {
    if tokens.is_empty() {
        return o.raw("logprobs", "null");
    }
    let told = |o: &mut Object<'_>, token: &str, logprob: &str| {
        o.text("token", token);
        o.raw("logprob", logprob);
        o.array("bytes", |a| token.bytes().for_each(|byte| a.raw(&byte.to_string())));
    };
    o.object("logprobs", |o| {
        o.array("content", |a| {
            for token in tokens {
                a.object(|o| {
                    told(o, &token.token, token.logprob.as_str());
                    o.array("top_logprobs", |a| {
                        token.top.iter().for_each(|(text, logprob)| a.object(|o| told(o, text, logprob.as_str())));
                    });
                });
            }
        });
        o.raw("refusal", "null");
    });
}

/// `extra_content` of a call, as Google's own OpenAI-compatible surface has it; clients send it back.
fn extra_content(o: &mut Object<'_>, signature: Option<&str>) {
    if let Some(signature) = signature {
        o.object("extra_content", |o| o.object("google", |o| o.text("thought_signature", signature)));
    }
}

/// One of `reasoning_details`, sealed.
fn sealed_detail(a: &mut Array<'_>, data: &str, index: u64) {
    a.object(|o| {
        o.text("type", "reasoning.encrypted");
        o.text("data", data);
        o.text("format", "anthropic-claude-v1");
        o.number("index", index);
    });
}
