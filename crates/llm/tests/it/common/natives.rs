//! What an answer of Cohere's or Ollama's own API says, read by means of its own: nothing here uses the translator.
//!
//! Another crate's tests include this file by path; it needs `serde_json` only, and `compare` beside it.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::indexing_slicing)]

use serde_json::Value;

use super::compare::{Call, Said, Used};

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn count(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// The JSON of each line.
pub(crate) fn lines(stream: &str) -> Vec<Value> {
    stream.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn cohere_usage(usage: &Value) -> Used {
    let tokens = &usage["tokens"];
    Used {
        input: count(tokens, "input_tokens") + count(tokens, "image_tokens"),
        output: count(tokens, "output_tokens"),
        cache_read: count(usage, "cached_tokens"),
        cache_write: 0,
        reasoning: count(tokens, "reasoning_tokens"),
    }
}

fn cohere_stop(reason: &str) -> &'static str {
    match reason {
        "MAX_TOKENS" => "max_tokens",
        "TOOL_CALL" => "tool_use",
        _ => "end_turn",
    }
}

/// Read an answer of Cohere's v2; `model`: the one it was asked of, since it names none.
pub(crate) fn cohere(body: &Value, model: &str) -> Said {
    let message = &body["message"];
    let mut said = Said {
        reasoning: text(message, "tool_plan").to_owned(),
        stop: cohere_stop(text(body, "finish_reason")).to_owned(),
        usage: cohere_usage(&body["usage"]),
        model: model.to_owned(),
        answers: 1,
        ..Said::default()
    };
    for piece in message["content"].as_array().into_iter().flatten() {
        said.text.push_str(text(piece, "text"));
        said.reasoning.push_str(text(piece, "thinking"));
    }
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        said.calls.push(Call {
            id: text(call, "id").to_owned(),
            name: text(&call["function"], "name").to_owned(),
            arguments: text(&call["function"], "arguments").to_owned(),
        });
    }
    said
}

/// Read a stream of Cohere's v2.
pub(crate) fn cohere_stream(events: &[Value], model: &str) -> Said {
    let mut said = Said { model: model.to_owned(), answers: 1, ..Said::default() };
    for event in events {
        let message = &event["delta"]["message"];
        match text(event, "type") {
            "content-start" | "content-delta" => {
                said.text.push_str(text(&message["content"], "text"));
                said.reasoning.push_str(text(&message["content"], "thinking"));
            }
            "tool-plan-delta" => said.reasoning.push_str(text(message, "tool_plan")),
            "tool-call-start" => {
                let call = &message["tool_calls"];
                said.calls.push(Call {
                    id: text(call, "id").to_owned(),
                    name: text(&call["function"], "name").to_owned(),
                    arguments: text(&call["function"], "arguments").to_owned(),
                });
            }
            "tool-call-delta" => {
                let at = usize::try_from(count(event, "index")).unwrap_or(0);
                said.calls[at].arguments.push_str(text(&message["tool_calls"]["function"], "arguments"));
            }
            "message-end" => {
                cohere_stop(text(&event["delta"], "finish_reason")).clone_into(&mut said.stop);
                said.usage = cohere_usage(&event["delta"]["usage"]);
            }
            _ => {}
        }
    }
    said
}

/// Read an answer of Ollama's: a whole one is one piece.
pub(crate) fn ollama(pieces: &[Value]) -> Said {
    let mut said = Said { answers: 1, ..Said::default() };
    for piece in pieces {
        if said.model.is_empty() {
            text(piece, "model").clone_into(&mut said.model);
        }
        let message = &piece["message"];
        said.text.push_str(text(message, "content"));
        said.reasoning.push_str(text(message, "thinking"));
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            said.calls.push(Call {
                id: text(call, "id").to_owned(),
                name: text(&call["function"], "name").to_owned(),
                arguments: call["function"]["arguments"].to_string(),
            });
        }
        if piece["done"] == true {
            let length = piece["done_reason"] == "length";
            let stop = if length { "max_tokens" } else { "end_turn" };
            stop.clone_into(&mut said.stop);
            said.usage.input = count(piece, "prompt_eval_count");
            said.usage.output = count(piece, "eval_count");
        }
    }
    said
}
