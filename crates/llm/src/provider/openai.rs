//! OpenAI's chat completions, and everybody who speaks them, as a provider
//! (platform.openai.com/docs/api-reference/chat).
//!
//! # From an Anthropic client
//!
//! | Anthropic | OpenAI |
//! |---|---|
//! | `system` | a `system` message; several blocks become parts, one text for compatible providers |
//! | a last `assistant` message (a prefix) | refused: no answer can be begun for the model |
//! | `tool_result` blocks | `tool` messages before the rest of the turn; pictures and documents in a result follow in a `user` message, since `tool` messages are text; `is_error` becomes a leading `Error: ` |
//! | `image`, `document` (PDF in base64), `document` of plain text | `image_url`, `file`, a text part under its title |
//! | `max_tokens` | `max_completion_tokens` (OpenAI), `max_tokens` (compatible) |
//! | `stop_sequences`, `metadata.user_id` | `stop`, `user` (OpenAI; dropped elsewhere: several refuse it) |
//! | `tool_choice`, `disable_parallel_tool_use` | `tool_choice`, `parallel_tool_calls: false` |
//! | `output_config.format`, `output_format` | `response_format: json_schema`, strict, named `output` |
//! | `thinking` with a budget, `output_config.effort` | `reasoning_effort`; `adaptive` and `disabled` leave it to the model |
//! | `thinking` blocks of earlier turns | `reasoning_content` where the provider takes it ([`Flavour::Thinking`](crate::Flavour)), else dropped; `redacted_thinking` is dropped: only its maker can read it |
//! | `cache_control`, `citations` of earlier turns, `service_tier: auto`, `defer_loading`, `betas` | dropped: they do not change the answer |
//! | everything else (`top_k`, Anthropic's own tools, `mcp_servers`, `container`, stored files, documents by URL, unknown members) | refused by name |

mod request;
mod response;
mod stream;

pub(super) use request::{audio_format, effort};
pub(crate) use request::{data_url, request};
pub(crate) use response::response;
pub(crate) use stream::Stream;

use crate::json::{Node, object, quoted};
use crate::model::{Body, Citation, GEMINI_SIGNATURE, Json, OPENAI_SIGNATURE, Part, Stop, TokenLogprob, ToolCall};

/// `finish_reason`; what is unknown or empty counts as the model's own end.
fn stop(choice: &Node<'_>) -> Stop {
    let matched = || choice.text_of("stop_reason").map(std::borrow::Cow::into_owned);
    match choice.text_of("finish_reason").unwrap_or_default().as_ref() {
        "length" | "model_length" | "max_tokens" => Stop::MaxTokens,
        "tool_calls" | "function_call" | "tool_use" => Stop::ToolUse,
        "content_filter" | "refusal" => Stop::Refusal(None),
        // vLLM names the text that was met.
        _ => matched().map_or(Stop::EndTurn, |text| Stop::StopSequence(Some(text))),
    }
}

/// The reasoning in a message or delta: `DeepSeek`'s `reasoning_content`, `OpenRouter`'s and Groq's `reasoning`, or the
/// pieces of `reasoning_details`.
#[derive(Debug, Default)]
struct Thought {
    text: String,
    signed: Vec<Signed>,
    redacted: Vec<String>,
}

/// One of `reasoning_details`; in a turn put together from a stream several may have the same index.
#[derive(Debug)]
struct Signed {
    index: Option<u64>,
    text: String,
    signature: Option<String>,
}

/// Whose signature one of `reasoning_details` holds: Google's.
pub(crate) const GOOGLE_FORMAT: &str = "google-gemini-v1";
/// Or OpenAI's.
pub(crate) const OPENAI_FORMAT: &str = "openai-responses-v1";

fn thought(message: &Node<'_>) -> Thought {
    let mut found = Thought::default();
    let plain =
        ["reasoning_content", "reasoning"].iter().find_map(|name| message.text_of(name).filter(|t| !t.is_empty()));
    for detail in message.get("reasoning_details").map(Node::items).unwrap_or_default() {
        if detail.text_of("type").is_some_and(|kind| kind == "reasoning.encrypted") {
            // Others' sealed or signed reasoning means nothing outside their own API.
            let anthropic = detail.text_of("format").is_some_and(|format| format.starts_with("anthropic"));
            found.redacted.extend(detail.text_of("data").filter(|_| anthropic).map(std::borrow::Cow::into_owned));
            continue;
        }
        let index = detail.get("index").and_then(Node::whole);
        let text = detail.text_of("text").or_else(|| detail.text_of("summary")).unwrap_or_default();
        let signature = detail.text_of("signature").filter(|s| !s.is_empty());
        let signature = signature.filter(|signature| match detail.text_of("format").as_deref() {
            Some(GOOGLE_FORMAT) => signature.starts_with(GEMINI_SIGNATURE),
            Some(OPENAI_FORMAT) => signature.starts_with(OPENAI_SIGNATURE),
            Some(format) => format.starts_with("anthropic"),
            None => true,
        });
        let signature = signature.map(std::borrow::Cow::into_owned);
        match found.signed.last_mut().filter(|last| index.is_some() && last.index == index) {
            Some(last) => {
                last.text.push_str(&text);
                last.signature = signature.or(last.signature.take());
            }
            None => found.signed.push(Signed { index, text: text.into_owned(), signature }),
        }
    }
    let details = || found.signed.iter().map(|piece| piece.text.as_str()).collect::<String>();
    found.text = plain.map_or_else(details, std::borrow::Cow::into_owned);
    found
}

impl Thought {
    /// As parts, in front of what was said: piece by piece where any is signed, else in one.
    fn into_parts(self) -> impl Iterator<Item = Part> {
        let mut shown = Vec::new();
        match self.signed.as_slice() {
            // A stream's signature may come in a detail without the text, which stands in `reasoning_content`.
            [only] if only.signature.is_some() && only.text.is_empty() => {
                shown.push(Body::Thinking { text: self.text, signature: only.signature.clone() });
            }
            pieces if pieces.iter().any(|piece| piece.signature.is_some()) => {
                let pieces = self.signed.into_iter();
                shown.extend(pieces.map(|piece| Body::Thinking { text: piece.text, signature: piece.signature }));
            }
            _ if self.text.is_empty() => {}
            _ => shown.push(Body::Thinking { text: self.text, signature: None }),
        }
        shown.into_iter().chain(self.redacted.into_iter().map(Body::RedactedThinking)).map(Part::new)
    }
}

/// The pieces of `content` where it is an array (Mistral's reasoning models): `(is reasoning, text)`.
fn pieces<'a>(content: &'a Node<'_>) -> impl Iterator<Item = (bool, String)> + 'a {
    content.items().iter().map(|piece| {
        let thinking = piece.get("thinking");
        let text = match thinking {
            Some(inner) if inner.is_array() => {
                inner.items().iter().filter_map(|item| item.text_of("text")).collect::<String>()
            }
            Some(inner) => inner.text().unwrap_or_default().into_owned(),
            None => piece.text_of("text").unwrap_or_default().into_owned(),
        };
        (thinking.is_some(), text)
    })
}

/// One of `tool_calls`. A custom tool's free text becomes an argument `input`.
pub(crate) fn tool_call(call: &Node<'_>) -> Option<ToolCall> {
    let function = call.get("function");
    let custom = call.get("custom");
    let arguments = match (function.and_then(|f| f.get("arguments")), custom.and_then(|c| c.text_of("input"))) {
        (Some(text), _) if text.is_string() => text.text()?.into_owned(),
        // Some servers send the object itself.
        (Some(object), _) => object.raw.to_owned(),
        (None, Some(input)) => object(|o| o.raw("input", &quoted(&input))),
        (None, None) => String::new(),
    };
    let name = function.or(custom)?.text_of("name").or_else(|| custom?.text_of("name"))?.into_owned();
    let id = call.text_of("id").unwrap_or_default().into_owned();
    Some(ToolCall { id, name, arguments, signature: google_signature(call) })
}

/// Google's signature of a call, where its own OpenAI-compatible surface has it.
fn google_signature(call: &Node<'_>) -> Option<String> {
    let google = call.get("extra_content")?.get("google")?;
    google.text_of("thought_signature").filter(|text| !text.is_empty()).map(std::borrow::Cow::into_owned)
}

/// The probabilities of tokens, of an answer or a piece of one.
fn logprobs(choice: &Node<'_>) -> Vec<TokenLogprob> {
    choice.get("logprobs").and_then(|logprobs| logprobs.get("content")).map(tokens).unwrap_or_default()
}

/// The tokens of a list, each with its probability.
pub(crate) fn tokens(list: &Node<'_>) -> Vec<TokenLogprob> {
    let one = |node: &Node<'_>| {
        let token = node.text_of("token")?.into_owned();
        let logprob = node.get("logprob").filter(|number| number.number().is_some())?;
        Some((token, Json::trusted(logprob.raw)))
    };
    let tokens = list.items().iter().filter_map(|node| {
        let (token, logprob) = one(node)?;
        let top = node.get("top_logprobs").map(Node::items).unwrap_or_default().iter().filter_map(one).collect();
        Some(TokenLogprob { token, logprob, top })
    });
    tokens.collect()
}

/// `url_citation` annotations.
fn citations(message: &Node<'_>) -> Vec<Citation> {
    let annotations = message.get("annotations").map(Node::items).unwrap_or_default();
    let cited = annotations.iter().filter_map(|annotation| {
        let citation = annotation.get("url_citation")?;
        Some(Citation {
            url: citation.text_of("url")?.into_owned(),
            title: citation.text_of("title").map(std::borrow::Cow::into_owned),
            cited_text: None,
        })
    });
    cited.collect()
}

/// The reasoning in an assistant message, as parts.
pub(crate) fn thought_parts(message: &Node<'_>) -> Vec<Part> {
    thought(message).into_parts().collect()
}
