//! Writing a complete answer.

use super::items::{Content, Item, Said, Whole, item_id};
use super::{Asked, response_id, status};
use crate::json::object;
use crate::model::{Body, Choice, GEMINI_SIGNATURE, Part, Response, Stop};
use crate::{Dialect, ResponseError};

/// `response` as a response object; `now` dates it where its provider did not (seconds). There is room for one answer.
pub(crate) fn response(response: &Response, asked: &Asked, now: u64) -> Result<String, ResponseError> {
    let choice = match response.choices.as_slice() {
        [choice] => choice,
        [] => return Err(ResponseError::Shape("choices")),
        _ => return Err(ResponseError::ManyChoices),
    };
    let id = response_id(response.id.as_deref());
    let native = response.dialect == Dialect::OpenAiResponses;
    let (items, refused) = items(choice, asked, &id, native);
    let created = response.created.unwrap_or(now);
    let status = status(Some(&choice.stop), refused);
    let whole = Whole {
        id: &id,
        created,
        completed: (status.0 == "completed").then(|| now.max(created)),
        model: &response.model,
        status,
        usage: Some(&response.usage),
        asked,
    };
    Ok(object(|o| whole.members(o, &items)))
}

/// The items of an answer, and whether it is refused in words.
fn items(choice: &Choice, asked: &Asked, id: &str, native: bool) -> (Vec<Item>, bool) {
    let mut items: Vec<Item> = Vec::new();
    let add = |items: &mut Vec<Item>, own: Option<String>, body: Content| {
        let id = own.unwrap_or_else(|| item_id(id, items.len(), &body));
        items.push(Item { id, body, status: "completed" });
    };
    let mut refused = false;
    for part in &choice.parts {
        match &part.body {
            Body::Text(_) | Body::Refusal(_) => {
                let said = said(part);
                refused |= said.refusal;
                match items.last_mut().map(|item| &mut item.body) {
                    Some(Content::Message(parts)) => parts.push(said),
                    _ => add(&mut items, None, Content::Message(vec![said])),
                }
            }
            Body::Thinking { text, signature: Some(signature) } => {
                let (own, body) = Content::signed(text.clone(), signature);
                add(&mut items, own, body);
            }
            Body::Thinking { text, signature: None } => {
                add(&mut items, None, Content::Reasoning { summary: text.clone(), sealed: None });
            }
            Body::RedactedThinking(data) => add(&mut items, None, Content::sealed(data)),
            Body::ToolCall(call) => {
                if let Some(google) = &call.signature {
                    let (own, body) = Content::signed(String::new(), &format!("{GEMINI_SIGNATURE}{google}"));
                    add(&mut items, own, body);
                }
                let arguments = if call.arguments.is_empty() { "{}".to_owned() } else { call.arguments.clone() };
                let (call_id, name) = (call.id.clone(), call.name.clone());
                let custom = asked.is_custom(&name);
                add(&mut items, None, Content::Call { call_id, name, arguments, custom });
            }
            Body::Other { raw, .. } if native => add(&mut items, None, Content::Raw(raw.as_str().to_owned())),
            // Not what a model answers with, or another dialect's.
            Body::Other { .. }
            | Body::Image(_)
            | Body::Document { .. }
            | Body::Audio { .. }
            | Body::ToolResult { .. } => {}
        }
    }
    if let (Stop::Refusal(Some(words)), false) = (&choice.stop, refused) {
        refused = true;
        let said = Said { text: words.clone(), refusal: true, ..Said::default() };
        match items.last_mut().map(|item| &mut item.body) {
            Some(Content::Message(parts)) => parts.push(said),
            _ => add(&mut items, None, Content::Message(vec![said])),
        }
    }
    let texts =
        items.iter_mut().filter_map(|item| if let Content::Message(said) = &mut item.body { Some(said) } else { None });
    if let Some(first) = texts.flatten().find(|said| !said.refusal) {
        first.logprobs.clone_from(&choice.logprobs);
    }
    if let (Some(last), ("incomplete", _)) = (items.last_mut(), status(Some(&choice.stop), refused)) {
        last.status = "incomplete";
    }
    (items, refused)
}

fn said(part: &Part) -> Said {
    let (text, refusal) = match &part.body {
        Body::Text(text) => (text.clone(), false),
        Body::Refusal(text) => (text.clone(), true),
        _ => (String::new(), false),
    };
    Said { text, refusal, citations: part.citations.clone(), logprobs: Vec::new() }
}
