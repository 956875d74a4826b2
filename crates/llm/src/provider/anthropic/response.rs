//! A complete answer of Anthropic's.

use super::{INVALID_JSON, citation, stop};
use crate::ResponseError;
use crate::json::Node;
use crate::model::{Body, Choice, Json, Part, Response, Stop, ToolCall};
use crate::provider::usage::AnthropicUsage;

/// `root` as a canonical answer.
pub(crate) fn response(root: &Node<'_>) -> Result<Response, ResponseError> {
    let content = root.get("content").filter(|content| content.is_array()).ok_or(ResponseError::Shape("content"))?;
    let mut usage = AnthropicUsage::default();
    if let Some(node) = root.get("usage") {
        usage.take(node);
    }
    let parts = content.items().iter().map(part).collect();
    Ok(Response {
        dialect: crate::Dialect::AnthropicMessages,
        id: root.text_of("id").map(std::borrow::Cow::into_owned),
        model: root.text_of("model").unwrap_or_default().into_owned(),
        created: None,
        choices: vec![Choice { index: 0, parts, stop: stop(root).unwrap_or(Stop::EndTurn), logprobs: Vec::new() }],
        usage: usage.usage(),
    })
}

fn part(block: &Node<'_>) -> Part {
    let text = |name: &str| block.text_of(name).unwrap_or_default().into_owned();
    let kind = text("type");
    let body = match kind.as_str() {
        "text" => Body::Text(text("text")),
        "thinking" => Body::Thinking {
            text: text("thinking"),
            signature: block.text_of("signature").map(std::borrow::Cow::into_owned).filter(|s| !s.is_empty()),
        },
        "redacted_thinking" => Body::RedactedThinking(text("data")),
        "tool_use" => Body::ToolCall(ToolCall {
            id: text("id"),
            name: text("name"),
            arguments: arguments(block),
            signature: None,
        }),
        _ => Body::Other { kind, raw: Json::trusted(block.raw) },
    };
    let citations = block.get("citations").map(Node::items).unwrap_or_default();
    Part { citations: citations.iter().filter_map(citation).collect(), ..Part::new(body) }
}

/// `input` as it was written, or the text kept under [`INVALID_JSON`].
pub(crate) fn arguments(block: &Node<'_>) -> String {
    block.get("input").map_or_else(|| "{}".to_owned(), as_written)
}

/// An argument object as it was written, or the text kept under [`INVALID_JSON`].
pub(crate) fn as_written(input: &Node<'_>) -> String {
    match input.members() {
        [(name, text)] if name == INVALID_JSON && text.is_string() => text.text().unwrap_or_default().into_owned(),
        _ => input.raw.to_owned(),
    }
}
