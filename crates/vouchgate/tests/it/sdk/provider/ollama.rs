//! The provider in Ollama's own API: chat, generate and embeddings.

use serde_json::{Value, json};
use testkit::mock::Answer;

use super::{Asked, INPUT, OUTPUT, Said, degrees, list, names, pieces, words};

pub(super) fn asked(body: &Value) -> Asked {
    // It streams unless told not to.
    let mut asked = Asked { stream: body["stream"] != false, ..Asked::default() };
    body["prompt"].as_str().unwrap_or_default().clone_into(&mut asked.text);
    for message in list(&body["messages"]) {
        let content = message["content"].as_str().unwrap_or_default();
        match message["role"].as_str().unwrap_or_default() {
            "user" => content.clone_into(&mut asked.text),
            "tool" => asked.results.push(degrees(content)),
            _ => {}
        }
        for image in list(&message["images"]).iter().filter_map(Value::as_str) {
            // It goes by what the picture itself says.
            let kind = if image.starts_with("iVBORw0KGgo") { "image/png" } else { "unknown" };
            asked.image = Some((kind.to_owned(), image.len()));
        }
    }
    asked.schema = body["format"].is_object();
    asked.tools = names(&body["tools"], "/function/name");
    asked
}

fn piece(chat: bool, said: &Value, done: bool) -> Value {
    let mut piece = json!({"model": "m", "created_at": "2026-01-01T00:00:00.000000Z", "done": done});
    if chat {
        piece["message"] = said.clone();
    } else {
        piece["response"] = said["content"].clone();
    }
    if done {
        let counts = json!({"done_reason": "stop", "prompt_eval_count": INPUT, "eval_count": OUTPUT,
            "total_duration": 4, "load_duration": 1, "prompt_eval_duration": 1, "eval_duration": 1});
        piece.as_object_mut().unwrap().extend(counts.as_object().unwrap().clone());
    }
    piece
}

fn message(said: &Said) -> Value {
    match said {
        Said::Calls(calls) => {
            let call =
                |(name, arguments): &(String, Value)| json!({"function": {"name": name, "arguments": arguments}});
            json!({"role": "assistant", "content": "", "tool_calls": calls.iter().map(call).collect::<Vec<_>>()})
        }
        said => json!({"role": "assistant", "content": words(said)}),
    }
}

pub(super) fn whole(path: &str, said: &Said) -> Value {
    piece(path.ends_with("/chat"), &message(said), true)
}

pub(super) fn stream(path: &str, said: &Said) -> Answer {
    let chat = path.ends_with("/chat");
    let mut lines: Vec<Value> = match said {
        Said::Calls(_) => vec![piece(chat, &message(said), false)],
        said => {
            let text = pieces(&words(said)).into_iter();
            text.map(|text| piece(chat, &json!({"role": "assistant", "content": text}), false)).collect()
        }
    };
    lines.push(piece(chat, &json!({"role": "assistant", "content": ""}), true));
    let lines = lines.iter().map(|line| line.to_string() + "\n").collect::<Vec<_>>().concat();
    Answer::bytes(200, "application/x-ndjson", lines)
}

/// As many vectors as texts.
pub(super) fn embed(body: &Value) -> Value {
    let count = body["input"].as_array().map_or(1, Vec::len);
    json!({"model": "m", "embeddings": vec![json!([0.5, -0.25, 1.0]); count], "total_duration": 1, "load_duration": 1,
        "prompt_eval_count": INPUT})
}
