//! A complete answer.

use super::{arguments, call, citation, created, ended, is_call, logprobs, sealed, thought};
use crate::ResponseError;
use crate::json::Node;
use crate::model::{Body, Choice, Json, Part, Response, TokenLogprob, Usage};
use crate::provider::usage;

/// `root` as a canonical answer.
pub(crate) fn response(root: &Node<'_>) -> Result<Response, ResponseError> {
    let output = root.get("output").filter(|output| output.is_array()).ok_or(ResponseError::Shape("output"))?;
    let mut parts = Vec::new();
    let mut tokens = Vec::new();
    for node in output.items() {
        item(node, &mut parts, &mut tokens);
    }
    let calls = parts.iter().any(|part| matches!(part.body, Body::ToolCall(_)));
    let refused = parts.iter().any(|part| matches!(part.body, Body::Refusal(_)));
    let stop = ended(root, calls, refused).ok_or(ResponseError::Shape("status"))?.map_err(ResponseError::Failed)?;
    Ok(Response {
        dialect: crate::Dialect::OpenAiResponses,
        id: root.text_of("id").filter(|id| !id.is_empty()).map(std::borrow::Cow::into_owned),
        model: root.text_of("model").unwrap_or_default().into_owned(),
        created: created(root),
        choices: vec![Choice { index: 0, parts, stop, logprobs: tokens }],
        usage: root.get("usage").map_or_else(Usage::default, usage::openai),
    })
}

/// Append what one item says.
fn item(item: &Node<'_>, parts: &mut Vec<Part>, tokens: &mut Vec<TokenLogprob>) {
    let kind = item.text_of("type").unwrap_or_default();
    match kind.as_ref() {
        "message" => {
            for part in item.get("content").map(Node::items).unwrap_or_default() {
                let text = |name: &str| part.text_of(name).unwrap_or_default().into_owned();
                let body = match part.text_of("type").as_deref() {
                    Some("refusal") => Body::Refusal(text("refusal")),
                    _ => Body::Text(text("text")),
                };
                let annotations = part.get("annotations").map(Node::items).unwrap_or_default();
                let citations = annotations.iter().filter_map(citation).collect();
                tokens.extend(logprobs(part));
                parts.push(Part { citations, ..Part::new(body) });
            }
        }
        "reasoning" => {
            let (text, signature) = (thought(item), sealed(item));
            if !text.is_empty() || signature.is_some() {
                parts.push(Part::new(Body::Thinking { text, signature }));
            }
        }
        kind if is_call(kind) => parts.push(Part::new(Body::ToolCall(call(item, arguments(item))))),
        _ => {
            let body = Body::Other { kind: kind.into_owned(), raw: Json::trusted(item.raw) };
            parts.push(Part::new(body));
        }
    }
}
