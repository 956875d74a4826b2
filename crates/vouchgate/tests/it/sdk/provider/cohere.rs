//! The provider in Cohere's own API: chat in version 2, embeddings and rerank.

use serde_json::{Value, json};
use testkit::mock::Answer;

use super::{Asked, INPUT, OUTPUT, Said, degrees, list, names, pieces, words};

pub(super) fn asked(body: &Value) -> Asked {
    let mut asked = Asked { stream: body["stream"] == true, ..Asked::default() };
    for message in list(&body["messages"]) {
        let content = &message["content"];
        match message["role"].as_str().unwrap_or_default() {
            "user" => asked.text = super::text(content),
            "tool" => asked.results.push(degrees(&content.to_string())),
            _ => {}
        }
        for part in list(content) {
            asked.data_url(part["image_url"]["url"].as_str().unwrap_or_default());
        }
    }
    let format = &body["response_format"];
    asked.schema = format["json_schema"].is_object() || format["schema"].is_object();
    asked.tools = names(&body["tools"], "/function/name");
    asked
}

fn usage() -> Value {
    let units = json!({"input_tokens": INPUT, "output_tokens": OUTPUT});
    json!({"billed_units": units, "tokens": units})
}

fn calls(of: &[(String, Value)]) -> Vec<Value> {
    let call = |(at, (name, arguments)): (usize, &(String, Value))| {
        json!({"id": format!("{name}_{at}"), "type": "function",
            "function": {"name": name, "arguments": arguments.to_string()}})
    };
    of.iter().enumerate().map(call).collect()
}

pub(super) fn whole(said: &Said) -> Value {
    let (message, finish) = match said {
        Said::Calls(of) => {
            (json!({"role": "assistant", "tool_plan": "I will look.", "tool_calls": calls(of)}), "TOOL_CALL")
        }
        said => (json!({"role": "assistant", "content": [{"type": "text", "text": words(said)}]}), "COMPLETE"),
    };
    json!({"id": "c1", "finish_reason": finish, "message": message, "usage": usage()})
}

pub(super) fn stream(said: &Said) -> Answer {
    let message = |kind: &str, index: Option<usize>, message: Value| {
        let mut event = json!({"type": kind, "delta": {"message": message}});
        if let Some(index) = index {
            event["index"] = index.into();
        }
        event
    };
    let mut begun = message(
        "message-start",
        None,
        json!({"role": "assistant", "content": [], "tool_plan": "",
        "tool_calls": [], "citations": []}),
    );
    begun["id"] = "c1".into();
    let mut events = vec![begun];
    let finish = match said {
        Said::Calls(of) => {
            events.push(message("tool-plan-delta", None, json!({"tool_plan": "I will look."})));
            for (at, call) in calls(of).into_iter().enumerate() {
                let arguments = call["function"]["arguments"].as_str().unwrap_or_default().to_owned();
                let mut first = call;
                first["function"]["arguments"] = "".into();
                events.push(message("tool-call-start", Some(at), json!({"tool_calls": first})));
                for piece in pieces(&arguments) {
                    let more = json!({"tool_calls": {"function": {"arguments": piece}}});
                    events.push(message("tool-call-delta", Some(at), more));
                }
                events.push(json!({"type": "tool-call-end", "index": at}));
            }
            "TOOL_CALL"
        }
        said => {
            events.push(message("content-start", Some(0), json!({"content": {"type": "text", "text": ""}})));
            let text = pieces(&words(said)).into_iter();
            events.extend(text.map(|piece| message("content-delta", Some(0), json!({"content": {"text": piece}}))));
            events.push(json!({"type": "content-end", "index": 0}));
            "COMPLETE"
        }
    };
    events.push(json!({"type": "message-end", "delta": {"finish_reason": finish, "usage": usage()}}));
    Answer::anthropic_stream(&events)
}

/// As many vectors as texts.
pub(super) fn embed(body: &Value) -> Value {
    let vectors: Vec<Value> = list(&body["texts"]).iter().map(|_| json!([0.5, -0.25, 1.0])).collect();
    json!({"id": "e1", "texts": body["texts"], "embeddings": {"float": vectors}, "response_type": "embeddings_by_type",
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": INPUT}}})
}

/// The last document first.
pub(super) fn rerank(body: &Value) -> Value {
    let result = |at: usize| json!({"index": at, "relevance_score": 0.5});
    let results: Vec<Value> = (0..list(&body["documents"]).len()).rev().map(result).collect();
    json!({"id": "r1", "results": results,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}})
}
