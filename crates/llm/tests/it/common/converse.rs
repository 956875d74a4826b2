//! What an answer of Bedrock's says, read out of it by means of its own: nothing here uses the translator.
//!
//! Another crate's tests include this file by path, beside `compare.rs`; it needs `serde_json` only.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::compare::{Call, Said, Used};

/// The messages of an event stream, each as its event's name and its payload: checksums are not looked at.
pub(crate) fn messages(mut stream: &[u8]) -> Vec<(String, Value)> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let mut found = Vec::new();
    while stream.len() >= 16 {
        let (length, headers) = (number(&stream[..4]), number(&stream[4..8]));
        let payload = &stream[12 + headers..length - 4];
        let mut head = &stream[12..12 + headers];
        let (mut event, mut exception) = (String::new(), String::new());
        while !head.is_empty() {
            let name = 1 + usize::from(head[0]);
            // The recordings hold texts only.
            assert_eq!(head[name], 7);
            let value = number(&head[name + 1..name + 3]);
            let text = String::from_utf8_lossy(&head[name + 3..name + 3 + value]).into_owned();
            match &head[1..name] {
                b":event-type" => event = text,
                b":exception-type" => exception = text,
                _ => {}
            }
            head = &head[name + 3 + value..];
        }
        let payload = serde_json::from_slice(payload).unwrap_or_default();
        found.push((if exception.is_empty() { event } else { exception }, payload));
        stream = &stream[length..];
    }
    found
}

/// The same of a stream that is written down one event a line.
pub(crate) fn lines(stream: &str) -> Vec<(String, Value)> {
    let events = stream.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter_map(|event| event.as_object()?.iter().next().map(|(name, inner)| (name.clone(), inner.clone())))
        .collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

fn used(usage: &Value) -> Used {
    let count = |name: &str| usage[name].as_u64().unwrap_or(0);
    let (read, written) = (count("cacheReadInputTokens"), count("cacheWriteInputTokens"));
    Used {
        input: count("inputTokens") + read + written,
        output: count("outputTokens"),
        cache_read: read,
        cache_write: written,
        reasoning: 0,
    }
}

fn ended(said: &mut Said, reason: &str) {
    let reason = match reason {
        "guardrail_intervened" | "content_filtered" => "refusal",
        other => other,
    };
    reason.clone_into(&mut said.stop);
}

/// Read a complete answer.
pub(crate) fn whole(body: &Value) -> Said {
    let mut said = Said { answers: 1, usage: used(&body["usage"]), ..Said::default() };
    ended(&mut said, text(body, "stopReason"));
    for block in body["output"]["message"]["content"].as_array().into_iter().flatten() {
        said.text.push_str(text(block, "text"));
        said.reasoning.push_str(text(&block["reasoningContent"]["reasoningText"], "text"));
        let call = &block["toolUse"];
        if call.is_object() && call["type"] != "server_tool_use" {
            let arguments = call["input"].to_string();
            said.calls.push(Call { id: text(call, "toolUseId").into(), name: text(call, "name").into(), arguments });
        }
    }
    said
}

/// Read the events of a stream.
pub(crate) fn streamed(events: &[(String, Value)]) -> Said {
    let mut said = Said { answers: 1, ..Said::default() };
    let mut open: Vec<(Value, usize)> = Vec::new();
    for (name, event) in events {
        let index = &event["contentBlockIndex"];
        let call = &event["start"]["toolUse"];
        let delta = &event["delta"];
        match name.as_str() {
            "contentBlockStart" if call.is_object() && call["type"] != "server_tool_use" => {
                open.push((index.clone(), said.calls.len()));
                let (id, name) = (text(call, "toolUseId").into(), text(call, "name").into());
                said.calls.push(Call { id, name, arguments: String::new() });
            }
            "contentBlockDelta" => {
                said.text.push_str(text(delta, "text"));
                said.reasoning.push_str(text(&delta["reasoningContent"], "text"));
                if let Some((_, at)) = open.iter().rev().find(|(open, _)| open == index) {
                    said.calls[*at].arguments.push_str(text(&delta["toolUse"], "input"));
                }
            }
            "messageStop" => ended(&mut said, text(event, "stopReason")),
            "metadata" => said.usage = used(&event["usage"]),
            other if other.ends_with("Exception") => said.error = Some(text(event, "message").to_owned()),
            _ => {}
        }
    }
    for call in said.calls.iter_mut().filter(|call| call.arguments.is_empty()) {
        call.arguments = json!({}).to_string();
    }
    said
}
