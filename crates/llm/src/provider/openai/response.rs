//! A complete answer of an OpenAI-compatible provider.

use super::{citations, logprobs, pieces, stop, thought, tool_call};
use crate::ResponseError;
use crate::json::{Kind, Node};
use crate::model::{Body, Choice, Part, Response, Stop, ToolCall, Usage};
use crate::provider::usage;

/// `root` as a canonical answer.
pub(crate) fn response(root: &Node<'_>) -> Result<Response, ResponseError> {
    let choices = root.get("choices").map(Node::items).filter(|choices| !choices.is_empty());
    let choices = choices.ok_or(ResponseError::Shape("choices"))?;
    let read = choices.iter().enumerate().map(|(position, node)| choice(position, node));
    Ok(Response {
        dialect: crate::Dialect::OpenAiChat,
        id: root.text_of("id").filter(|id| !id.is_empty()).map(std::borrow::Cow::into_owned),
        model: root.text_of("model").unwrap_or_default().into_owned(),
        created: root.get("created").and_then(Node::whole),
        choices: read.collect::<Result<_, _>>()?,
        usage: root.get("usage").map_or_else(Usage::default, usage::openai),
    })
}

fn choice(position: usize, node: &Node<'_>) -> Result<Choice, ResponseError> {
    let silent = Node { raw: "{}", kind: Kind::Object(Vec::new()) };
    let message = match node.get("message").or_else(|| node.get("delta")) {
        Some(message) => message,
        // Azure leaves the message out where its filter took everything.
        None if node.get("finish_reason").is_some() => &silent,
        None => return Err(ResponseError::Shape("message")),
    };
    let mut parts: Vec<Part> = thought(message).into_parts().collect();
    if let Some(content) = message.get("content") {
        match content.text() {
            Some(text) if text.is_empty() => {}
            Some(text) => parts.push(Part { citations: citations(message), ..Part::text(text) }),
            None => parts.extend(pieces(content).map(|(thinking, text)| {
                Part::new(if thinking { Body::Thinking { text, signature: None } } else { Body::Text(text) })
            })),
        }
    }
    let mut stop = stop(node);
    if let Some(refusal) = message.text_of("refusal").filter(|refusal| !refusal.is_empty()) {
        parts.push(Part::new(Body::Refusal(refusal.into_owned())));
        stop = Stop::Refusal(None);
    }
    let before = parts.len();
    let index = node.get("index").and_then(Node::whole).and_then(|index| u32::try_from(index).ok());
    let index = index.or_else(|| u32::try_from(position).ok()).unwrap_or(0);
    for (i, node) in message.get("tool_calls").map(Node::items).unwrap_or_default().iter().enumerate() {
        let mut call = tool_call(node).ok_or(ResponseError::Shape("tool_calls"))?;
        if call.id.is_empty() {
            call.id = format!("call_{index}_{i}");
        }
        parts.push(Part::new(Body::ToolCall(call)));
    }
    // Snowflake sends an empty one beside the real ones.
    let named = |function: &&Node<'_>| function.text_of("name").is_some_and(|name| !name.is_empty());
    if let Some(function) = message.get("function_call").filter(named) {
        let text = |name| function.text_of(name).unwrap_or_default().into_owned();
        let call = ToolCall {
            id: format!("call_{index}_0"),
            name: text("name"),
            arguments: text("arguments"),
            signature: None,
        };
        parts.push(Part::new(Body::ToolCall(call)));
    }
    // Where a call is forced OpenAI says `stop`, and some servers always do; the turn still waits for results.
    if parts.len() > before && stop == Stop::EndTurn {
        stop = Stop::ToolUse;
    }
    Ok(Choice { index, parts, stop, logprobs: logprobs(node) })
}
