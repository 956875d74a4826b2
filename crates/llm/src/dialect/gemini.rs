//! Google's Gemini API, v1beta, as clients speak it (ai.google.dev/api/generate-content). Members may be written as
//! `camelCase` or `snake_case`, as everywhere in Google's JSON.
//!
//! Answers of other providers: reasoning is a part with `thought`; its signature, which is not Google's, stands in
//! `thoughtSignature` in a form that this gateway knows again; a refusal ends with `SAFETY`; arguments that are no JSON
//! object stand under `INVALID_JSON`; citations have no place and are dropped.

mod request;
mod response;
mod schema;
mod stream;

pub(crate) use request::request;
pub(crate) use response::response;
pub(crate) use stream::StreamWriter;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::json::{Node, Object};
use crate::model::{GEMINI_SIGNATURE, Stop, TokenLogprob, Usage};

/// The member `name` (in `camelCase`), however it is written.
pub(crate) fn member<'n, 'a>(node: &'n Node<'a>, name: &str) -> Option<&'n Node<'a>> {
    node.get(name).or_else(|| node.get(&snake(name)))
}

/// `name` in `snake_case`.
pub(crate) fn snake(name: &str) -> String {
    name.chars().fold(String::with_capacity(name.len() + 4), |mut out, c| {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
        out
    })
}

/// What stands before another provider's signature, and before its sealed reasoning, inside the base64 that Google's
/// clients insist on.
const OTHERS: &str = "vouchgate:signature:";
const SEALED: &str = "vouchgate:sealed:";

/// A signature as `thoughtSignature`.
fn sign(signature: &str) -> String {
    match signature.strip_prefix(GEMINI_SIGNATURE) {
        Some(own) => own.to_owned(),
        None => STANDARD.encode(format!("{OTHERS}{signature}")),
    }
}

/// Sealed reasoning as `thoughtSignature`.
fn seal(data: &str) -> String {
    STANDARD.encode(format!("{SEALED}{data}"))
}

/// What a `thoughtSignature` holds.
enum Signature {
    /// A signature; Google's with its mark.
    Of(String),
    /// Another provider's sealed reasoning.
    Sealed(String),
}

fn unsign(text: &str) -> Signature {
    let inside = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match inside.as_deref() {
        Some(inside) if inside.starts_with(OTHERS) => Signature::Of(inside.replacen(OTHERS, "", 1)),
        Some(inside) if inside.starts_with(SEALED) => Signature::Sealed(inside.replacen(SEALED, "", 1)),
        _ => Signature::Of(format!("{GEMINI_SIGNATURE}{text}")),
    }
}

/// `finishReason` and the words beside it.
fn finish(o: &mut Object<'_>, stop: &Stop) {
    let (reason, message) = match stop {
        Stop::EndTurn | Stop::StopSequence(_) | Stop::ToolUse => ("STOP", None),
        Stop::MaxTokens | Stop::ContextWindow => ("MAX_TOKENS", None),
        Stop::Refusal(message) => ("SAFETY", message.as_deref()),
        Stop::Pause => ("OTHER", None),
    };
    o.text("finishReason", reason);
    o.maybe_text("finishMessage", message);
}

/// `usageMetadata`: what was thought beside what was said.
fn usage(o: &mut Object<'_>, usage: &Usage) {
    if !usage.is_known() {
        return;
    }
    let (input, output) = (usage.input_tokens.unwrap_or(0), usage.output_tokens.unwrap_or(0));
    o.object("usageMetadata", |o| {
        o.number("promptTokenCount", input);
        // A provider that tells more reasoning than output has left it out of its output already.
        o.number("candidatesTokenCount", output.checked_sub(usage.reasoning_tokens.unwrap_or(0)).unwrap_or(output));
        o.number("totalTokenCount", usage.total_tokens.unwrap_or_else(|| input.saturating_add(output)));
        o.maybe_number("thoughtsTokenCount", usage.reasoning_tokens);
        o.maybe_number("cachedContentTokenCount", usage.cache_read_tokens);
    });
}

/// `logprobsResult`.
fn logprobs(o: &mut Object<'_>, tokens: &[TokenLogprob]) {
    if tokens.is_empty() {
        return;
    }
    let one = |o: &mut Object<'_>, token: &str, logprob: &str| {
        o.text("token", token);
        o.raw("logProbability", logprob);
    };
    o.object("logprobsResult", |o| {
        o.array("chosenCandidates", |a| {
            for token in tokens {
                a.object(|o| one(o, &token.token, token.logprob.as_str()));
            }
        });
        o.array("topCandidates", |a| {
            for token in tokens {
                a.object(|o| {
                    o.array("candidates", |a| {
                        token.top.iter().for_each(|(text, logprob)| a.object(|o| one(o, text, logprob.as_str())));
                    });
                });
            }
        });
    });
}

/// The error's name in `google.rpc.Code`, by the HTTP status.
pub(crate) fn rpc_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        400..=499 => "INVALID_ARGUMENT",
        501 => "UNIMPLEMENTED",
        502 | 503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_comes_back_as_what_it_was() {
        for text in ["gemini:AbC+/=", "ErUB-anthropic", ""] {
            assert!(matches!(unsign(&sign(text)), Signature::Of(back) if back == text), "{text}");
        }
        assert!(matches!(unsign(&seal("data")), Signature::Sealed(back) if back == "data"));
        assert!(matches!(unsign("not base64!"), Signature::Of(back) if back == "gemini:not base64!"));
    }

    #[test]
    fn no_token_is_counted_twice() {
        let of = Usage {
            input_tokens: Some(10),
            output_tokens: Some(30),
            reasoning_tokens: Some(20),
            cache_read_tokens: Some(4),
            ..Usage::default()
        };
        let told = crate::json::object(|o| usage(o, &of));
        assert_eq!(
            told,
            r#"{"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":10,"totalTokenCount":40,"thoughtsTokenCount":20,"cachedContentTokenCount":4}}"#
        );
    }
}
