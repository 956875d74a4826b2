//! The provider on Bedrock Runtime's own paths: Converse, and what Anthropic's models are invoked with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::mock::Answer;

use super::{Asked, INPUT, OUTPUT, Said, degrees, list, names, pieces, text, words};

pub(super) fn asked(body: &Value, stream: bool) -> Asked {
    let mut asked = Asked { stream, ..Asked::default() };
    for message in list(&body["messages"]) {
        let content = &message["content"];
        if message["role"] == "user" && !text(content).is_empty() {
            asked.text = text(content);
        }
        for block in list(content) {
            if block["toolResult"].is_object() {
                asked.results.push(degrees(&block["toolResult"]["content"].to_string()));
            }
            let image = &block["image"];
            if let Some(data) = image["source"]["bytes"].as_str() {
                asked.image = Some((format!("image/{}", image["format"].as_str().unwrap_or_default()), data.len()));
            }
        }
    }
    asked.schema = body["outputConfig"]["textFormat"]["type"] == "json_schema";
    asked.tools = names(&body["toolConfig"]["tools"], "/toolSpec/name");
    asked
}

fn usage() -> Value {
    json!({"inputTokens": INPUT, "outputTokens": OUTPUT, "totalTokens": INPUT + OUTPUT})
}

pub(super) fn whole(said: &Said) -> Value {
    let (content, stop) = match said {
        Said::Calls(calls) => {
            let call = |(at, (name, input)): (usize, &(String, Value))| json!({"toolUse": {"toolUseId": format!("tooluse_{at}"), "name": name, "input": input}});
            (calls.iter().enumerate().map(call).collect(), "tool_use")
        }
        said => (vec![json!({"text": words(said)})], "end_turn"),
    };
    json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": stop, "usage": usage(),
        "metrics": {"latencyMs": 1}})
}

fn event(name: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
    llm::event_stream_message(&headers, payload.to_string().as_bytes())
}

pub(super) fn stream(said: &Said) -> Answer {
    let mut events = vec![event("messageStart", &json!({"role": "assistant"}))];
    let delta = |at: usize, delta: Value| {
        event("contentBlockDelta", &json!({"contentBlockIndex": at, "delta": delta, "p": "abcdefgh"}))
    };
    let stop = match said {
        Said::Calls(calls) => {
            for (at, (name, input)) in calls.iter().enumerate() {
                let start = json!({"toolUse": {"toolUseId": format!("tooluse_{at}"), "name": name}});
                events.push(event("contentBlockStart", &json!({"contentBlockIndex": at, "start": start})));
                let input = pieces(&input.to_string()).into_iter();
                events.extend(input.map(|piece| delta(at, json!({"toolUse": {"input": piece}}))));
                events.push(event("contentBlockStop", &json!({"contentBlockIndex": at})));
            }
            "tool_use"
        }
        said => {
            events.extend(pieces(&words(said)).into_iter().map(|piece| delta(0, json!({"text": piece}))));
            events.push(event("contentBlockStop", &json!({"contentBlockIndex": 0})));
            "end_turn"
        }
    };
    events.push(event("messageStop", &json!({"stopReason": stop})));
    events.push(event("metadata", &json!({"usage": usage(), "metrics": {"latencyMs": 1}})));
    Answer::bytes(200, "application/vnd.amazon.eventstream", events.concat())
}

/// Events of another form, as `invoke-with-response-stream` carries them: the last one tells what was used.
pub(super) fn carried(mut events: Vec<Value>) -> Answer {
    if let Some(last) = events.last_mut() {
        last["amazon-bedrock-invocationMetrics"] = json!({"inputTokenCount": INPUT, "outputTokenCount": OUTPUT,
            "invocationLatency": 1, "firstByteLatency": 1});
    }
    let chunk = |inner: &Value| event("chunk", &json!({"bytes": STANDARD.encode(inner.to_string())}));
    let events: Vec<Vec<u8>> = events.iter().map(chunk).collect();
    Answer::bytes(200, "application/vnd.amazon.eventstream", events.concat())
}

/// An error in AWS's form: its kind is a header's.
pub(super) fn error(status: u16, message: &str) -> Answer {
    let kind = match status {
        400 => "ValidationException",
        404 => "ResourceNotFoundException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        _ => "InternalServerException",
    };
    let internal = "http://internal.amazon.com/coral/com.amazon.coral.service/";
    Answer::json(status, &json!({"message": message})).header("x-amzn-errortype", &format!("{kind}:{internal}"))
}
