//! A complete answer of Google's.

use super::{Finish, blocked, citations, finish, logprobs, made_up};
use crate::ResponseError;
use crate::json::Node;
use crate::model::{Body, Choice, GEMINI_SIGNATURE, Json, Part, Response, Stop, ToolCall, Usage};
use crate::provider::usage;

/// `root` as a canonical answer.
pub(crate) fn response(root: &Node<'_>) -> Result<Response, ResponseError> {
    let id = root.text_of("responseId").filter(|id| !id.is_empty()).map(std::borrow::Cow::into_owned);
    let candidates = root.get("candidates").map(Node::items).unwrap_or_default();
    let choices = match (candidates, blocked(root)) {
        ([], Some(stop)) => vec![Choice { index: 0, parts: Vec::new(), stop, logprobs: Vec::new() }],
        ([], None) => return Err(ResponseError::Shape("candidates")),
        (candidates, _) => {
            let read = candidates.iter().enumerate().map(|(at, node)| choice(at, node, id.as_deref()));
            read.collect::<Result<_, _>>()?
        }
    };
    Ok(Response {
        dialect: crate::Dialect::Gemini,
        id,
        model: root.text_of("modelVersion").unwrap_or_default().into_owned(),
        created: None,
        choices,
        usage: root.get("usageMetadata").map_or_else(Usage::default, usage::gemini),
    })
}

fn choice(position: usize, node: &Node<'_>, id: Option<&str>) -> Result<Choice, ResponseError> {
    let index = node.get("index").and_then(Node::whole).and_then(|index| u32::try_from(index).ok());
    let index = index.or_else(|| u32::try_from(position).ok()).unwrap_or(0);
    let mut parts: Vec<Part> = Vec::new();
    let mut calls = 0;
    for part in node.get("content").and_then(|content| content.get("parts")).map(Node::items).unwrap_or_default() {
        for body in bodies(part) {
            parts.push(Part::new(match body {
                Body::ToolCall(call) => {
                    calls += 1;
                    let id = if call.id.is_empty() { made_up(id, calls - 1) } else { call.id };
                    Body::ToolCall(ToolCall { id, ..call })
                }
                other => other,
            }));
        }
    }
    if let Some(text) = parts.iter_mut().rev().find(|part| matches!(part.body, Body::Text(_))) {
        text.citations = citations(node);
    }
    let stop = match finish(node) {
        Some(Finish::Failed(error)) => return Err(error.into()),
        Some(Finish::Stop(Stop::EndTurn)) | None if calls > 0 => Stop::ToolUse,
        Some(Finish::Stop(stop)) => stop,
        None => Stop::EndTurn,
    };
    Ok(Choice { index, parts, stop, logprobs: logprobs(node) })
}

/// What one part says: the signature of a text stands after it, as a thought of its own.
pub(super) fn bodies(part: &Node<'_>) -> Vec<Body> {
    let signature = part.text_of("thoughtSignature").filter(|signature| !signature.is_empty());
    let signature = signature.map(std::borrow::Cow::into_owned);
    let marked = |signature: &str| format!("{GEMINI_SIGNATURE}{signature}");
    if let Some(call) = part.get("functionCall") {
        let text = |name: &str| call.text_of(name).unwrap_or_default().into_owned();
        let arguments = call.get("args").map_or_else(|| "{}".to_owned(), |args| args.raw.to_owned());
        return vec![Body::ToolCall(ToolCall { id: text("id"), name: text("name"), arguments, signature })];
    }
    let thought = part.get("thought").and_then(Node::boolean) == Some(true);
    let said = part.text_of("text").map(std::borrow::Cow::into_owned);
    let mut bodies = Vec::new();
    match said {
        Some(text) if thought => {
            let signature = signature.as_deref().map(marked);
            if !text.is_empty() || signature.is_some() {
                bodies.push(Body::Thinking { text, signature });
            }
            return bodies;
        }
        Some(text) if text.is_empty() => {}
        Some(text) => bodies.push(Body::Text(text)),
        None => {
            let own = |name: &str| !matches!(name, "thought" | "thoughtSignature" | "videoMetadata");
            let kind = part.members().iter().find(|(name, _)| own(name));
            bodies.extend(kind.map(|(kind, _)| Body::Other { kind: kind.to_string(), raw: Json::trusted(part.raw) }));
        }
    }
    bodies.extend(signature.map(|text| Body::Thinking { text: String::new(), signature: Some(marked(&text)) }));
    bodies
}
