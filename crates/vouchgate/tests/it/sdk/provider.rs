//! A provider with a little sense, in every dialect: what it is asked decides what it answers. It is written without a line
//! of the translator.

mod bedrock;
mod cohere;
mod ollama;
mod responses;

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Value, json};
use testkit::mock::{Answer, Received};

/// What every answer says it used.
pub(super) const INPUT: u64 = 70;
pub(super) const OUTPUT: u64 = 5;

/// What it is asked, in whichever dialect.
#[derive(Debug, Default)]
struct Asked {
    /// The last thing the user said.
    text: String,
    /// What tools returned.
    results: Vec<String>,
    /// A picture: its type and how long its base64 is.
    image: Option<(String, usize)>,
    /// Whether the answer has to fit a schema.
    schema: bool,
    stream: bool,
    tools: Vec<String>,
}

/// What it has to say.
enum Said {
    Text(String),
    /// Functions and their arguments.
    Calls(Vec<(String, Value)>),
    Error(u16, &'static str),
}

/// How it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    OpenAi,
    Responses,
    Anthropic,
    Gemini,
    Cohere,
    Ollama,
    Converse,
    /// Anthropic's form on Bedrock's `invoke`.
    Invoke,
}

/// The provider; what it refuses once it takes the second time.
#[derive(Debug, Default)]
pub(super) struct Provider {
    seen: Mutex<HashMap<String, u32>>,
}

impl Provider {
    /// What it answers.
    pub(super) fn answer(&self, request: &Received) -> Answer {
        let body = request.json();
        let path = request.target.split('?').next().unwrap_or_default();
        if let Some(answer) = besides(path, &body) {
            return Answer::json(200, &answer);
        }
        let (speaks, asked) = match path.rsplit_once('/').map_or(path, |(_, last)| last) {
            "completions" => (Speaks::OpenAi, Asked::openai(&body)),
            "responses" => (Speaks::Responses, responses::asked(&body)),
            "messages" => (Speaks::Anthropic, Asked::anthropic(&body)),
            "chat" | "generate" if path.starts_with("/api/") => (Speaks::Ollama, ollama::asked(&body)),
            "chat" => (Speaks::Cohere, cohere::asked(&body)),
            "converse" => (Speaks::Converse, bedrock::asked(&body, false)),
            "converse-stream" => (Speaks::Converse, bedrock::asked(&body, true)),
            "invoke" => (Speaks::Invoke, Asked::anthropic(&body)),
            "invoke-with-response-stream" => (Speaks::Invoke, Asked { stream: true, ..Asked::anthropic(&body) }),
            last => (Speaks::Gemini, Asked::gemini(&body, last.ends_with(":streamGenerateContent"))),
        };
        match self.say(&asked) {
            Said::Error(status, message) => error(speaks, status, message),
            said if asked.stream => stream((speaks, path), &said, body["model"] == "whole"),
            said => whole((speaks, path), &said),
        }
    }

    fn say(&self, asked: &Asked) -> Said {
        let number = |text: &str| text.split_whitespace().find_map(|word| word.parse::<u16>().ok());
        if !asked.results.is_empty() {
            return Said::Text(format!("The tools say: {}.", asked.results.join(" and ")));
        }
        if let Some((kind, length)) = &asked.image {
            return Said::Text(format!("A picture: {kind}, {length} characters."));
        }
        let report = json!({"city": "Paris", "degrees": 21});
        match asked.text.as_str() {
            text if text.starts_with("Fail with") => Said::Error(number(text).unwrap_or(500), "As you wish."),
            text if text.starts_with("Fail once") => {
                let mut seen = self.seen.lock().unwrap();
                let times = seen.entry(text.to_owned()).or_default();
                *times += 1;
                if *times == 1 { Said::Error(503, "Not yet.") } else { Said::Text("Now it works.".to_owned()) }
            }
            text if text.contains("weather") && asked.tools.iter().any(|tool| tool == "get_weather") => {
                let call = |city: &str| ("get_weather".to_owned(), json!({"city": city}));
                Said::Calls(vec![call("Paris"), call("Oslo")])
            }
            text if text.contains("report") => match asked.tools.last() {
                // Some clients ask for their form by way of a tool.
                Some(tool) if !asked.schema => Said::Calls(vec![(tool.clone(), report)]),
                _ => Said::Text(report.to_string()),
            },
            _ => Said::Text("Hello from the other side.".to_owned()),
        }
    }
}

/// What it is asked besides conversations.
fn besides(path: &str, body: &Value) -> Option<Value> {
    Some(match path {
        "/v2/embed" => cohere::embed(body),
        "/v2/rerank" => cohere::rerank(body),
        "/api/embed" => ollama::embed(body),
        path if path.ends_with("/count-tokens") => json!({"inputTokens": INPUT}),
        _ => return None,
    })
}

fn list(of: &Value) -> &[Value] {
    of.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(of: &Value) -> String {
    match of {
        Value::String(text) => text.clone(),
        parts => list(parts).iter().filter_map(|part| part["text"].as_str()).collect(),
    }
}

/// What stands after the last space or quote: clients wrap what a tool returned in different ways.
fn degrees(result: &str) -> String {
    result.chars().filter(char::is_ascii_digit).collect()
}

fn names(tools: &Value, place: &str) -> Vec<String> {
    list(tools).iter().filter_map(|tool| tool.pointer(place)?.as_str()).map(str::to_owned).collect()
}

impl Asked {
    fn data_url(&mut self, url: &str) {
        if let Some((kind, data)) = url.strip_prefix("data:").and_then(|url| url.split_once(";base64,")) {
            self.image = Some((kind.to_owned(), data.len()));
        }
    }

    fn openai(body: &Value) -> Self {
        let mut asked = Self { stream: body["stream"] == true, ..Self::default() };
        for message in list(&body["messages"]) {
            let content = &message["content"];
            match message["role"].as_str().unwrap_or_default() {
                "user" => asked.text = text(content),
                "tool" => asked.results.push(degrees(&text(content))),
                _ => {}
            }
            for part in list(content) {
                let url = &part["image_url"];
                asked.data_url(url["url"].as_str().or(url.as_str()).unwrap_or_default());
            }
        }
        asked.schema = body["response_format"]["type"] == "json_schema";
        asked.tools = names(&body["tools"], "/function/name");
        asked
    }

    fn anthropic(body: &Value) -> Self {
        let mut asked = Self { stream: body["stream"] == true, ..Self::default() };
        for message in list(&body["messages"]) {
            let content = &message["content"];
            if message["role"] == "user" && !text(content).is_empty() {
                asked.text = text(content);
            }
            for block in list(content) {
                if block["type"] == "tool_result" {
                    asked.results.push(degrees(&text(&block["content"])));
                }
                let source = &block["source"];
                if block["type"] == "image" {
                    let length = source["data"].as_str().unwrap_or_default().len();
                    asked.image = Some((source["media_type"].as_str().unwrap_or_default().to_owned(), length));
                }
            }
        }
        asked.schema = body["output_config"]["format"]["type"] == "json_schema";
        asked.tools = names(&body["tools"], "/name");
        asked
    }

    fn gemini(body: &Value, stream: bool) -> Self {
        let mut asked = Self { stream, ..Self::default() };
        for content in list(&body["contents"]) {
            let said = text(&content["parts"]);
            if content["role"] != "model" && !said.is_empty() {
                asked.text = said;
            }
            for part in list(&content["parts"]) {
                if part["functionResponse"].is_object() {
                    asked.results.push(degrees(&part["functionResponse"]["response"].to_string()));
                }
                let inline = &part["inlineData"];
                if let Some(data) = inline["data"].as_str() {
                    // Google takes both spellings, and its Python SDK writes both.
                    let kind = inline["mimeType"].as_str().or(inline["mime_type"].as_str()).unwrap_or_default();
                    asked.image = Some((kind.to_owned(), data.len()));
                }
            }
        }
        let config = &body["generationConfig"];
        asked.schema = config["responseJsonSchema"].is_object() || config["responseSchema"].is_object();
        asked.tools =
            list(&body["tools"]).iter().flat_map(|tool| names(&tool["functionDeclarations"], "/name")).collect();
        asked
    }
}

fn error(speaks: Speaks, status: u16, message: &str) -> Answer {
    let body = match speaks {
        Speaks::OpenAi | Speaks::Responses => {
            json!({"error": {"message": message, "type": "some_error", "param": null, "code": "some_code"}})
        }
        Speaks::Anthropic => json!({"type": "error", "error": {"type": "api_error", "message": message}}),
        Speaks::Gemini => json!({"error": {"code": status, "message": message, "status": "UNKNOWN"}}),
        Speaks::Cohere => json!({"id": "e1", "message": message}),
        Speaks::Ollama => json!({"error": message}),
        Speaks::Converse | Speaks::Invoke => return bedrock::error(status, message),
    };
    let answer = Answer::json(status, &body);
    if status == 429 || status == 503 {
        answer.header("retry-after", "0").header("retry-after-ms", "1")
    } else {
        answer
    }
}

fn whole((speaks, path): (Speaks, &str), said: &Said) -> Answer {
    let body = match speaks {
        Speaks::OpenAi => {
            let (message, finish) = match said {
                Said::Calls(calls) => {
                    let call = |(at, (name, arguments)): (usize, &(String, Value))| {
                        json!({"id": format!("call_{at}"), "type": "function",
                            "function": {"name": name, "arguments": arguments.to_string()}})
                    };
                    let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
                    (json!({"role": "assistant", "content": null, "tool_calls": calls}), "tool_calls")
                }
                said => (json!({"role": "assistant", "content": words(said)}), "stop"),
            };
            json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [
                {"index": 0, "message": message, "finish_reason": finish, "logprobs": null}], "usage": openai_usage()})
        }
        Speaks::Responses => responses::whole(said),
        Speaks::Cohere => cohere::whole(said),
        Speaks::Ollama => ollama::whole(path, said),
        Speaks::Converse => bedrock::whole(said),
        Speaks::Anthropic | Speaks::Invoke => {
            let (content, stop) = match said {
                Said::Calls(calls) => {
                    let call = |(at, (name, input)): (usize, &(String, Value))| json!({"type": "tool_use", "id": format!("toolu_{at}"), "name": name, "input": input});
                    (calls.iter().enumerate().map(call).collect(), "tool_use")
                }
                said => (vec![json!({"type": "text", "text": words(said)})], "end_turn"),
            };
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
                "stop_reason": stop, "stop_sequence": null, "usage": {"input_tokens": INPUT, "output_tokens": OUTPUT}})
        }
        Speaks::Gemini => {
            let parts = match said {
                Said::Calls(calls) => calls.iter().map(gemini_call).collect(),
                said => vec![json!({"text": words(said)})],
            };
            gemini_piece(&parts, true)
        }
    };
    Answer::json(200, &body)
}

fn words(said: &Said) -> String {
    match said {
        Said::Text(text) => text.clone(),
        Said::Calls(_) | Said::Error(..) => String::new(),
    }
}

fn openai_usage() -> Value {
    json!({"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT})
}

fn gemini_call((name, args): &(String, Value)) -> Value {
    json!({"functionCall": {"name": name, "args": args}, "thoughtSignature": "c2lnbmVk"})
}

fn gemini_piece(parts: &[Value], last: bool) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if last {
        candidate["finishReason"] = "STOP".into();
    }
    json!({"candidates": [candidate], "modelVersion": "m", "responseId": "r1",
        "usageMetadata": {"promptTokenCount": INPUT, "candidatesTokenCount": OUTPUT, "totalTokenCount": INPUT + OUTPUT}})
}

/// A text in pieces of a few characters.
fn pieces(text: &str) -> Vec<String> {
    text.chars().collect::<Vec<_>>().chunks(7).map(|piece| piece.iter().collect()).collect()
}

/// `calls_whole`: as Mistral streams calls, and not in pieces.
fn stream((speaks, path): (Speaks, &str), said: &Said, calls_whole: bool) -> Answer {
    match speaks {
        Speaks::OpenAi => openai_stream(said, calls_whole),
        Speaks::Responses => responses::stream(said),
        Speaks::Anthropic => Answer::anthropic_stream(&anthropic_events(said)),
        Speaks::Invoke => bedrock::carried(anthropic_events(said)),
        Speaks::Cohere => cohere::stream(said),
        Speaks::Ollama => ollama::stream(path, said),
        Speaks::Converse => bedrock::stream(said),
        Speaks::Gemini => {
            let parts: Vec<Value> = match said {
                Said::Calls(calls) => calls.iter().map(gemini_call).collect(),
                said => pieces(&words(said)).into_iter().map(|piece| json!({"text": piece})).collect(),
            };
            let events = parts.iter().enumerate().map(|(at, part)| {
                let event = gemini_piece(std::slice::from_ref(part), at + 1 == parts.len());
                format!("data: {event}\r\n\r\n")
            });
            Answer::sse(events.collect::<String>())
        }
    }
}

fn openai_stream(said: &Said, calls_whole: bool) -> Answer {
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
            {"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    let finish = match said {
        Said::Calls(calls) => {
            for (at, (name, arguments)) in calls.iter().enumerate() {
                let arguments = arguments.to_string();
                let first = if calls_whole { arguments.as_str() } else { "" };
                let begin = json!({"index": at, "id": format!("call_{at}"), "type": "function",
                    "function": {"name": name, "arguments": first}});
                events.push(chunk(json!({"tool_calls": [begin]}), Value::Null));
                for piece in if calls_whole { Vec::new() } else { pieces(&arguments) } {
                    let more = json!({"index": at, "function": {"arguments": piece}});
                    events.push(chunk(json!({"tool_calls": [more]}), Value::Null));
                }
            }
            "tool_calls"
        }
        said => {
            let text = pieces(&words(said)).into_iter();
            events.extend(text.map(|piece| chunk(json!({"content": piece}), Value::Null)));
            "stop"
        }
    };
    events.push(chunk(json!({}), finish.into()));
    let mut usage = chunk(Value::Null, Value::Null);
    usage["choices"] = json!([]);
    usage["usage"] = openai_usage();
    events.push(usage);
    Answer::openai_stream(&events)
}

fn anthropic_events(said: &Said) -> Vec<Value> {
    let mut events = vec![json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
        "role": "assistant", "model": "m", "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": INPUT, "output_tokens": 1}}})];
    let block = |events: &mut Vec<Value>, at: usize, start: Value, deltas: Vec<Value>| {
        events.push(json!({"type": "content_block_start", "index": at, "content_block": start}));
        let delta = |delta| json!({"type": "content_block_delta", "index": at, "delta": delta});
        events.extend(deltas.into_iter().map(delta));
        events.push(json!({"type": "content_block_stop", "index": at}));
    };
    let stop = match said {
        Said::Calls(calls) => {
            for (at, (name, input)) in calls.iter().enumerate() {
                let start = json!({"type": "tool_use", "id": format!("toolu_{at}"), "name": name, "input": {}});
                let deltas = pieces(&input.to_string()).into_iter();
                let deltas = deltas.map(|piece| json!({"type": "input_json_delta", "partial_json": piece})).collect();
                block(&mut events, at, start, deltas);
            }
            "tool_use"
        }
        said => {
            let deltas = pieces(&words(said)).into_iter().map(|piece| json!({"type": "text_delta", "text": piece}));
            block(&mut events, 0, json!({"type": "text", "text": ""}), deltas.collect());
            "end_turn"
        }
    };
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null},
        "usage": {"output_tokens": OUTPUT}}));
    events.push(json!({"type": "message_stop"}));
    events
}
