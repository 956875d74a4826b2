//! OpenAI's Responses API, and everybody who speaks it, as a provider (platform.openai.com/docs/api-reference/responses).
//! Nothing is stored: the whole conversation is in every request.
//!
//! | OpenAI chat, Anthropic, Gemini | Responses |
//! |---|---|
//! | Anthropic's `system`, Gemini's `systemInstruction` | `instructions` |
//! | messages of role `system`, `developer`, `user` | items of type `message` |
//! | an assistant's turn | its reasoning, texts and calls, each an item, in their order |
//! | calls, results | `function_call`, `function_call_output`: text, or parts where there are pictures or documents; a failed one begins with `Error: ` |
//! | tools, their choice | `function` tools, `tool_choice`; `strict` is false unless it is asked for, since here it is true by default |
//! | JSON, with a schema or without | `text.format` |
//! | `verbosity` | `text.verbosity` |
//! | reasoning effort or budget | `reasoning.effort`; where an Anthropic client asked for thinking, a summary |
//! | reasoning that OpenAI sealed, sent back by the client | `reasoning` items with `encrypted_content`; anybody else's is dropped |
//! | `logprobs`, `top_logprobs` | `include`, `top_logprobs` |
//! | `metadata`, `service_tier`, `prompt_cache_key`, `user`, ... of OpenAI's chat | the same, for OpenAI itself |
//! | stop texts, `n > 1`, `seed`, penalties, `top_k`, `logit_bias`, a message's `name`, stored files, providers' own tools, unknown members | refused by name |

mod request;
mod response;
mod stream;

pub(crate) use request::request;
pub(crate) use response::response;
pub(crate) use stream::Stream;

use crate::ProviderError;
use crate::dialect::openai_responses::openai_signature;
use crate::json::{Node, object};
use crate::model::{Citation, Json, Stop, TokenLogprob, ToolCall};
use crate::provider::error_of;

/// Why an answer ended; an error if it failed. `None`: it has not ended.
fn ended(response: &Node<'_>, calls: bool, refused: bool) -> Option<Result<Stop, ProviderError>> {
    let done = || Some(Ok(if calls { Stop::ToolUse } else { Stop::EndTurn }));
    match response.text_of("status").as_deref() {
        Some("incomplete") => {
            let details = response.get("incomplete_details");
            match details.and_then(|details| details.text_of("reason")).as_deref() {
                Some("content_filter") => Some(Ok(Stop::Refusal(None))),
                Some("max_output_tokens" | "max_tokens") | None => Some(Ok(Stop::MaxTokens)),
                Some(_) => done(),
            }
        }
        Some(status @ ("failed" | "cancelled")) => {
            let mut error = error_of(response);
            if error.message.is_empty() {
                error.message = format!("The provider's answer has the status {status}.");
            }
            Some(Err(error))
        }
        Some("queued" | "in_progress") => None,
        // Some servers leave it out.
        _ if refused => Some(Ok(Stop::Refusal(None))),
        _ => done(),
    }
}

/// Seconds since the epoch; some servers write a fraction.
fn created(response: &Node<'_>) -> Option<u64> {
    let at = response.get("created_at")?;
    at.whole().or_else(|| at.raw.split('.').next()?.parse().ok())
}

/// The text of a `reasoning` item: what it thought if that is told, else the summaries.
fn thought(item: &Node<'_>) -> String {
    let texts = |name: &str| -> Vec<String> {
        let pieces = item.get(name).map(Node::items).unwrap_or_default();
        pieces.iter().filter_map(|piece| Some(piece.text_of("text")?.into_owned())).collect()
    };
    let told = texts("content").concat();
    if told.is_empty() { texts("summary").join("\n\n") } else { told }
}

/// What a `reasoning` item has sealed, as a signature.
fn sealed(item: &Node<'_>) -> Option<String> {
    let sealed = item.text_of("encrypted_content").filter(|sealed| !sealed.is_empty())?;
    Some(openai_signature(&item.text_of("id").unwrap_or_default(), &sealed))
}

/// A call of a function, or of a custom tool: its free text becomes an argument `input`.
fn call(item: &Node<'_>, arguments: String) -> ToolCall {
    let text = |name: &str| item.text_of(name).unwrap_or_default().into_owned();
    let id = Some(text("call_id")).filter(|id| !id.is_empty()).unwrap_or_else(|| text("id"));
    ToolCall { id, name: text("name"), arguments, signature: None }
}

/// The arguments of a whole call.
fn arguments(item: &Node<'_>) -> String {
    if let Some(input) = item.text_of("input") {
        return object(|o| o.text("input", &input));
    }
    match item.get("arguments") {
        Some(text) if text.is_string() => text.text().unwrap_or_default().into_owned(),
        // Some servers send the object itself.
        Some(other) => other.raw.to_owned(),
        None => String::new(),
    }
}

fn is_call(kind: &str) -> bool {
    matches!(kind, "function_call" | "custom_tool_call")
}

/// A page that a text leans on; files have no address.
fn citation(annotation: &Node<'_>) -> Option<Citation> {
    let inner = annotation.get("url_citation").unwrap_or(annotation);
    Some(Citation {
        url: inner.text_of("url")?.into_owned(),
        title: inner.text_of("title").map(std::borrow::Cow::into_owned),
        cited_text: None,
    })
}

/// `logprobs` of a text or a piece of one.
fn logprobs(node: &Node<'_>) -> Vec<TokenLogprob> {
    let one = |node: &Node<'_>| {
        let token = node.text_of("token")?.into_owned();
        let logprob = node.get("logprob").filter(|number| number.number().is_some())?;
        Some((token, Json::trusted(logprob.raw)))
    };
    let tokens = node.get("logprobs").map(Node::items).unwrap_or_default().iter().filter_map(|node| {
        let (token, logprob) = one(node)?;
        let top = node.get("top_logprobs").map(Node::items).unwrap_or_default().iter().filter_map(one).collect();
        Some(TokenLogprob { token, logprob, top })
    });
    tokens.collect()
}
