//! The provider in the Responses API of OpenAI.

use serde_json::{Value, json};
use testkit::mock::Answer;

use super::{Asked, INPUT, OUTPUT, Said, degrees, list, names, pieces, text, words};

pub(super) fn asked(body: &Value) -> Asked {
    let mut asked = Asked { stream: body["stream"] == true, ..Asked::default() };
    body["input"].as_str().unwrap_or_default().clone_into(&mut asked.text);
    for item in list(&body["input"]) {
        if item["type"] == "function_call_output" {
            asked.results.push(degrees(&text(&item["output"])));
        } else if item["role"] == "user" {
            asked.text = text(&item["content"]);
        }
        for part in list(&item["content"]) {
            asked.data_url(part["image_url"].as_str().unwrap_or_default());
        }
    }
    asked.schema = body["text"]["format"]["type"] == "json_schema";
    asked.tools = names(&body["tools"], "/name");
    asked
}

fn items(said: &Said) -> Vec<Value> {
    match said {
        Said::Calls(calls) => {
            let call = |(at, (name, arguments)): (usize, &(String, Value))| {
                json!({"type": "function_call", "id": format!("fc_{at}"), "call_id": format!("call_{at}"),
                    "status": "completed", "name": name, "arguments": arguments.to_string()})
            };
            calls.iter().enumerate().map(call).collect()
        }
        said => vec![json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": words(said), "annotations": [], "logprobs": []}]})],
    }
}

fn response(status: &str, output: &[Value]) -> Value {
    let usage = json!({"input_tokens": INPUT, "output_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}});
    json!({"id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": "m", "output": output,
        "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "parallel_tool_calls": true,
        "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": if status == "completed" { usage } else { Value::Null }})
}

pub(super) fn whole(said: &Said) -> Value {
    response("completed", &items(said))
}

pub(super) fn stream(said: &Said) -> Answer {
    let output = items(said);
    let mut events = vec![json!({"type": "response.created", "response": response("in_progress", &[])})];
    for (at, item) in output.iter().enumerate() {
        let mut begun = item.clone();
        begun["status"] = "in_progress".into();
        let place = |mut event: Value| {
            event["output_index"] = at.into();
            event["item_id"] = item["id"].clone();
            event
        };
        if item["type"] == "message" {
            begun["content"] = json!([]);
            events.push(place(json!({"type": "response.output_item.added", "item": begun})));
            let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
            let whole = words(said);
            let of = |kind: &str, name: &str, value: Value| {
                let mut event = place(json!({"type": kind, "content_index": 0, "logprobs": []}));
                event[name] = value;
                event
            };
            events.push(of("response.content_part.added", "part", part("")));
            events.extend(
                pieces(&whole).into_iter().map(|piece| of("response.output_text.delta", "delta", piece.into())),
            );
            events.push(of("response.output_text.done", "text", whole.clone().into()));
            events.push(of("response.content_part.done", "part", part(&whole)));
        } else {
            begun["arguments"] = "".into();
            events.push(place(json!({"type": "response.output_item.added", "item": begun})));
            let arguments = item["arguments"].as_str().unwrap_or_default();
            let delta =
                |piece: String| place(json!({"type": "response.function_call_arguments.delta", "delta": piece}));
            events.extend(pieces(arguments).into_iter().map(delta));
            events.push(place(json!({"type": "response.function_call_arguments.done", "arguments": arguments})));
        }
        events.push(place(json!({"type": "response.output_item.done", "item": item})));
    }
    events.push(json!({"type": "response.completed", "response": response("completed", &output)}));
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = number.into();
    }
    // Framed as Anthropic's are: each event with its name.
    Answer::anthropic_stream(&events)
}
