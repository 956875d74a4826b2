//! Writing a complete answer.

use super::{annotation, extra_content, finish_reason, logprobs, reasoning_detail, sealed_detail, usage};
use crate::dialect::openai_responses::{Asked, free_text};
use crate::json::{Object, object};
use crate::model::{Body, Choice, Json, Part, Response, Stop, ToolCall};

/// `response` to what was `asked` as the body of a chat completion; `now` dates it where its provider did not (seconds).
pub(crate) fn response(response: &Response, asked: &Asked, now: u64) -> String {
    object(|o| {
        o.text("id", response.id.as_deref().unwrap_or("chatcmpl-vouchgate"));
        o.text("object", "chat.completion");
        o.number("created", response.created.unwrap_or(now));
        o.text("model", &response.model);
        o.array("choices", |a| {
            for choice in &response.choices {
                a.object(|o| {
                    o.number("index", u64::from(choice.index));
                    o.object("message", |o| message(o, choice, asked));
                    logprobs(o, &choice.logprobs);
                    o.text("finish_reason", finish_reason(&choice.stop));
                });
            }
        });
        if response.usage.is_known() {
            usage(o, &response.usage);
        }
    })
}

/// What a turn holds, sorted as OpenAI has it.
#[derive(Default)]
struct Said<'a> {
    text: String,
    refusal: String,
    thinking: String,
    calls: Vec<&'a ToolCall>,
    others: Vec<&'a Json>,
    any_text: bool,
}

fn message(o: &mut Object<'_>, choice: &Choice, asked: &Asked) {
    let mut said = Said::default();
    for part in &choice.parts {
        match &part.body {
            Body::Text(text) => {
                said.any_text = true;
                said.text.push_str(text);
            }
            Body::Refusal(text) => said.refusal.push_str(text),
            Body::Thinking { text, .. } => said.thinking.push_str(text),
            Body::ToolCall(call) => said.calls.push(call),
            Body::Other { raw, .. } => said.others.push(raw),
            _ => {}
        }
    }
    if let (Stop::Refusal(Some(explanation)), true) = (&choice.stop, said.refusal.is_empty()) {
        said.refusal.clone_from(explanation);
    }
    o.text("role", "assistant");
    o.text_or_null("content", said.any_text.then_some(said.text.as_str()));
    o.text_or_null("refusal", (!said.refusal.is_empty()).then_some(said.refusal.as_str()));
    if !said.thinking.is_empty() {
        o.text("reasoning_content", &said.thinking);
    }
    reasoning_details(o, &choice.parts);
    annotations(o, &choice.parts);
    if !said.calls.is_empty() {
        o.array("tool_calls", |a| {
            for call in &said.calls {
                a.object(|o| {
                    o.text("id", &call.id);
                    if asked.is_custom(&call.name) {
                        o.text("type", "custom");
                        o.object("custom", |o| {
                            o.text("name", &call.name);
                            o.text("input", &free_text(&call.arguments));
                        });
                    } else {
                        o.text("type", "function");
                        o.object("function", |o| {
                            o.text("name", &call.name);
                            o.text("arguments", &call.arguments);
                        });
                    }
                    extra_content(o, call.signature.as_deref());
                });
            }
        });
    }
    if !said.others.is_empty() {
        o.array("provider_content", |a| said.others.iter().for_each(|raw| a.raw(raw.as_str())));
    }
}

/// Reasoning its maker signed or sealed, for the client to send back.
fn reasoning_details(o: &mut Object<'_>, parts: &[Part]) {
    let kept =
        |part: &&Part| matches!(part.body, Body::Thinking { signature: Some(_), .. } | Body::RedactedThinking(_));
    if !parts.iter().any(|part| kept(&part)) {
        return;
    }
    o.array("reasoning_details", |a| {
        for (index, part) in parts.iter().filter(kept).enumerate() {
            match &part.body {
                Body::Thinking { text, signature } => {
                    reasoning_detail(a, Some(text), signature.as_deref(), index as u64);
                }
                Body::RedactedThinking(data) => sealed_detail(a, data, index as u64),
                _ => {}
            }
        }
    });
}

fn annotations(o: &mut Object<'_>, parts: &[Part]) {
    if parts.iter().all(|part| part.citations.is_empty()) {
        return;
    }
    o.array("annotations", |a| {
        let mut start = 0;
        for part in parts {
            let Body::Text(text) = &part.body else { continue };
            let end = start + text.chars().count();
            part.citations.iter().for_each(|citation| annotation(a, citation, (start, end), None));
            start = end;
        }
    });
}
