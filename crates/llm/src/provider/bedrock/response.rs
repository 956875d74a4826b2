//! A complete answer of Converse.

use super::{Finish, citation, finish, unsealed};
use crate::ResponseError;
use crate::json::Node;
use crate::model::{Body, Choice, Json, Part, Response, Stop, ToolCall, Usage};
use crate::provider::usage;

/// `root` as a canonical answer. It names neither itself nor its model.
pub(crate) fn response(root: &Node<'_>) -> Result<Response, ResponseError> {
    let content =
        root.get("output").and_then(|output| output.get("message")).and_then(|message| message.get("content"));
    let content = content.filter(|content| content.is_array()).ok_or(ResponseError::Shape("output"))?;
    let stop = match finish(root) {
        Some(Finish::Failed(error)) => return Err(error.into()),
        Some(Finish::Stop(stop)) => stop,
        None => Stop::EndTurn,
    };
    Ok(Response {
        dialect: crate::Dialect::BedrockConverse,
        id: None,
        model: String::new(),
        created: None,
        choices: vec![Choice {
            index: 0,
            parts: content.items().iter().filter_map(part).collect(),
            stop,
            logprobs: Vec::new(),
        }],
        usage: root.get("usage").map_or_else(Usage::default, usage::bedrock),
    })
}

fn part(block: &Node<'_>) -> Option<Part> {
    if let Some(text) = block.text_of("text") {
        return Some(Part::text(text.into_owned()));
    }
    if let Some(cited) = block.get("citationsContent") {
        let pieces = cited.get("content").map(Node::items).unwrap_or_default();
        let text: String = pieces.iter().filter_map(|piece| piece.text_of("text")).collect();
        let citations = cited.get("citations").map(Node::items).unwrap_or_default();
        return Some(Part { citations: citations.iter().filter_map(citation).collect(), ..Part::text(text) });
    }
    if let Some(reasoning) = block.get("reasoningContent") {
        if let Some(blob) = reasoning.text_of("redactedContent") {
            return Some(Part::new(Body::RedactedThinking(unsealed(&blob))));
        }
        let told = reasoning.get("reasoningText")?;
        let signature = told.text_of("signature").filter(|signature| !signature.is_empty());
        return Some(Part::new(Body::Thinking {
            text: told.text_of("text").unwrap_or_default().into_owned(),
            signature: signature.map(std::borrow::Cow::into_owned),
        }));
    }
    if let Some(call) = block.get("toolUse").filter(|call| !is_the_providers(call)) {
        let text = |name: &str| call.text_of(name).unwrap_or_default().into_owned();
        return Some(Part::new(Body::ToolCall(ToolCall {
            id: text("toolUseId"),
            name: text("name"),
            arguments: call.get("input").map_or_else(|| "{}".to_owned(), crate::provider::anthropic::as_written),
            signature: None,
        })));
    }
    let (kind, _) = block.members().first()?;
    Some(Part::new(Body::Other { kind: kind.to_string(), raw: Json::trusted(block.raw) }))
}

/// Whether a call is of a tool that Bedrock runs itself.
pub(super) fn is_the_providers(call: &Node<'_>) -> bool {
    call.text_of("type").as_deref() == Some("server_tool_use")
}
