//! Ollama's own API, `POST /api/chat`, as a provider (docs.ollama.com/api/chat): one JSON object a line where it streams.
//!
//! | OpenAI, Anthropic, Gemini | Ollama |
//! |---|---|
//! | `system`, `developer` messages | messages of `system` |
//! | text of the user, documents of plain text | `content`, parts joined by empty lines |
//! | images | `images`, a list of base64 beside the text |
//! | calls; reasoning of earlier turns | `tool_calls` with the arguments as an object; `thinking` |
//! | results | messages of `tool` with `tool_name`; pictures in them follow in a `user` message; a failed one begins `Error: ` |
//! | tools; no tool may be called | `tools`; none are sent |
//! | JSON, with a schema or without | `format`: the schema, `"json"` |
//! | reasoning effort or budget, off | `think`: a level for gpt-oss, else `true`; `false` |
//! | bound, `temperature`, `top_p`, `top_k`, `seed`, `stop`, penalties | `options` |
//! | `logprobs`, `top_logprobs` | the same |
//! | `user`, `metadata`, hints, a tool's `strict`, neutral values | dropped: they do not change the answer |
//! | images by URL, documents that are no plain text, audio, `n`, a tool that must be called, `parallel_tool_calls: false`, a message's `name`, unknown members | refused by name |
//!
//! An answer has no id: one is made of the time it was created at, and so are those of calls that have none.

mod request;
mod response;
mod stream;

pub(crate) use request::request;
pub(crate) use response::response;
pub(crate) use stream::Stream;

use crate::json::Node;
use crate::model::{Body, Part, Stop, TokenLogprob, ToolCall};
use crate::provider::openai;

/// `done_reason`; what is unknown counts as the model's own end.
fn stop(done: &Node<'_>, calls: bool) -> Stop {
    match done.text_of("done_reason").unwrap_or_default().as_ref() {
        "length" => Stop::MaxTokens,
        _ if calls => Stop::ToolUse,
        _ => Stop::EndTurn,
    }
}

/// The id of an answer, from when it was created.
fn id_of(root: &Node<'_>) -> Option<String> {
    let created = root.text_of("created_at")?;
    let digits: String = created.chars().filter(char::is_ascii_digit).take(40).collect();
    (!digits.is_empty()).then(|| format!("ollama-{digits}"))
}

/// What a message, or a piece of one, says; `answer` and the calls `before` make the ids of calls that have none.
fn parts(message: &Node<'_>, answer: Option<&str>, before: usize) -> Vec<Part> {
    let told = |name: &str| message.text_of(name).filter(|text| !text.is_empty()).map(std::borrow::Cow::into_owned);
    let mut parts: Vec<Part> = Vec::new();
    parts.extend(told("thinking").map(|text| Part::new(Body::Thinking { text, signature: None })));
    parts.extend(told("content").map(Part::text));
    let calls = message.get("tool_calls").map(Node::items).unwrap_or_default();
    for (i, call) in calls.iter().filter_map(openai::tool_call).enumerate() {
        let made = || format!("call_{}_{}", answer.unwrap_or("0"), before + i);
        let id = if call.id.is_empty() { made() } else { call.id };
        let arguments = if call.arguments.is_empty() { "{}".to_owned() } else { call.arguments };
        parts.push(Part::new(Body::ToolCall(ToolCall { id, arguments, ..call })));
    }
    parts
}

/// `logprobs`: a list of tokens, as `OpenAI`'s `content` is.
fn logprobs(root: &Node<'_>) -> Vec<TokenLogprob> {
    root.get("logprobs").map(openai::tokens).unwrap_or_default()
}
