//! A complete answer of Cohere's.

use super::{Finish, cited, finish, logprobs};
use crate::ResponseError;
use crate::json::Node;
use crate::model::{Body, Choice, Part, Response, Stop, ToolCall, Usage};
use crate::provider::{openai, usage};

/// `root` as a canonical answer.
pub(crate) fn response(root: &Node<'_>) -> Result<Response, ResponseError> {
    let message = root.get("message").filter(|message| message.is_object()).ok_or(ResponseError::Shape("message"))?;
    let thinking = |text: String| Part::new(Body::Thinking { text, signature: None });
    let mut parts: Vec<Part> = Vec::new();
    let plan = message.text_of("tool_plan").filter(|plan| !plan.is_empty());
    parts.extend(plan.map(|plan| thinking(plan.into_owned())));
    if let Some(content) = message.get("content") {
        parts.extend(content.text().filter(|text| !text.is_empty()).map(Part::text));
        for piece in content.items() {
            let told = |name: &str| piece.text_of(name).filter(|text| !text.is_empty());
            match (told("thinking"), told("text")) {
                (Some(text), _) => parts.push(thinking(text.into_owned())),
                (None, Some(text)) => parts.push(Part::text(text)),
                (None, None) => {}
            }
        }
    }
    if let Some(text) = parts.iter_mut().rev().find(|part| matches!(part.body, Body::Text(_))) {
        text.citations = message.get("citations").map(Node::items).unwrap_or_default().iter().flat_map(cited).collect();
    }
    let calls = message.get("tool_calls").map(Node::items).unwrap_or_default();
    for (i, node) in calls.iter().enumerate() {
        let call = openai::tool_call(node).ok_or(ResponseError::Shape("tool_calls"))?;
        let id = if call.id.is_empty() { format!("call_0_{i}") } else { call.id };
        parts.push(Part::new(Body::ToolCall(ToolCall { id, ..call })));
    }
    let told = root.text_of("error");
    let stop = match finish(&root.text_of("finish_reason").unwrap_or_default(), told.as_deref()) {
        Finish::Failed(error) => return Err(error.into()),
        Finish::Stop(Stop::EndTurn) if !calls.is_empty() => Stop::ToolUse,
        Finish::Stop(stop) => stop,
    };
    let logprobs = logprobs(root.get("logprobs").map(Node::items).unwrap_or_default());
    Ok(Response {
        dialect: crate::Dialect::CohereChat,
        id: root.text_of("id").filter(|id| !id.is_empty()).map(std::borrow::Cow::into_owned),
        model: String::new(),
        created: None,
        choices: vec![Choice { index: 0, parts, stop, logprobs }],
        usage: root.get("usage").map_or_else(Usage::default, usage::cohere),
    })
}
