//! What is made for clients of OpenAI's and Anthropic's dialects, whole answers, stream events and errors, is what the schemas
//! say that both publish.
#![allow(clippy::print_stderr, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use llm::{Dialect, Framing, Options, Translation};
use serde_json::{Value, json};

/// Where what we send does not fit, and why that is meant.
const KNOWN: &[&str] = &[
    // The published schema is older than these reasons to stop.
    "message message stop_reason: anyOf",
    "message-event message_delta delta/stop_reason: anyOf",
    // A call's id with characters that Anthropic's have not: it stays, because its provider wants it back.
    "message message content/#: anyOf",
    // OpenAI itself says `null` there, of nobody and of what nobody has counted.
    "response  user: type",
    "response  usage: type",
    "response-event response.created response/user: type",
    "response-event response.created response/usage: type",
    "response-event response.in_progress response/user: type",
    "response-event response.in_progress response/usage: type",
    "response-event response.completed response/user: type",
    "response-event response.completed response/usage: type",
    "response-event response.incomplete response/user: type",
    "response-event response.incomplete response/usage: type",
    "response-event response.failed response/user: type",
];

/// What a response repeats.
const ASKED: &str = r#"{"model": "m", "input": "Hello", "instructions": "Be kind.", "max_output_tokens": 100,
    "tools": [{"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}, "strict": false}],
    "tool_choice": {"type": "function", "name": "get_weather"}, "metadata": {"a": "b"}, "temperature": 0.5, "top_p": 0.9}"#;

/// The dialect a recording was made in.
fn spoken(recorded: &Value) -> Option<Dialect> {
    Some(match recorded["endpoint"].as_str()? {
        "chat.completions" => Dialect::OpenAiChat,
        "responses" => Dialect::OpenAiResponses,
        "messages" => Dialect::AnthropicMessages,
        "cohere.chat.v2" => Dialect::CohereChat,
        "ollama.chat" => Dialect::OllamaChat,
        "converse" | "converse-stream" => Dialect::BedrockConverse,
        "generateContent" | "generateContent.stream" => Dialect::Gemini,
        _ => return None,
    })
}

/// What a client of `client` is told of a recording, each piece as one answer.
fn told(client: Dialect, recorded: &Value) -> Vec<(&'static str, Value)> {
    let Some(translation) = spoken(recorded)
        .filter(|provider| *provider != client)
        .and_then(|provider| Translation::new(client, provider, Options::default()))
    else {
        return Vec::new();
    };
    let kinds = match client {
        Dialect::OpenAiChat => ["chat", "chat-chunk", "chat-error"],
        Dialect::OpenAiResponses => ["response", "response-event", "chat-error"],
        _ => ["message", "message-event", "message-error"],
    };
    let translation = translation.naming("some-model").answering(ASKED.as_bytes());
    let answer = &recorded["response_body"];
    let (framing, body) = match answer["kind"].as_str() {
        Some("json") => (None, answer["json"].to_string().into_bytes()),
        Some("base64") => (Some(Framing::EventStream), STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()),
        Some("ndjson") => (Some(Framing::Lines), answer["text"].as_str().unwrap().as_bytes().to_vec()),
        Some("sse") => (Some(Framing::Sse), answer["text"].as_str().unwrap().as_bytes().to_vec()),
        _ => (None, answer["text"].as_str().unwrap_or_default().as_bytes().to_vec()),
    };
    let status = u16::try_from(recorded["status"].as_u64().unwrap_or(200)).unwrap();
    if status >= 400 {
        return vec![(kinds[2], serde_json::from_slice(&translation.error(status, &body)).unwrap())];
    }
    let Some(framing) = framing else {
        let whole = translation.response(&body).ok();
        return whole.map(|whole| (kinds[0], serde_json::from_slice(&whole.body).unwrap())).into_iter().collect();
    };
    let mut stream = translation.framed_stream(framing, true);
    let mut out = stream.feed(&body);
    out.extend(stream.finish(true));
    let text = String::from_utf8(out).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let events = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
    events.map(|event| (if event["error"].is_object() { kinds[2] } else { kinds[1] }, event)).collect()
}

#[test]
fn what_clients_are_told_fits_the_published_schemas() {
    let test = "what_clients_are_told_fits_the_published_schemas";
    let Some(data) = vectors::data() else { return vectors::skipped(test) };
    let Some(python) = vectors::python() else {
        return vectors::skip(test, "Python's jsonschema is not installed (cargo xtask test installs it)");
    };
    let mut answers = Vec::new();
    for folder in std::fs::read_dir(data.join("cassettes")).unwrap().flatten() {
        for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let json = std::fs::read_to_string(file.path()).unwrap();
            let Ok(recorded) = serde_json::from_str::<Value>(&json) else { continue };
            for client in [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages] {
                let name = format!("{} {} for {}", recorded["provider"], recorded["id"], client.as_str());
                let told = told(client, &recorded).into_iter();
                answers.extend(told.map(|(kind, body)| json!({"kind": kind, "name": name, "body": body})));
            }
        }
    }
    let count = answers.len();
    let job = json!({"specs": data.join("specs"), "answers": answers});
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/scripts/schemas.py");
    let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(job.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    eprintln!("answers against published schemas: {count}, of {} shapes", verdict["shapes"]);
    let wrong: Vec<String> = verdict["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| format!("{} ({} times, {})", line[0].as_str().unwrap(), line[1], line[2]))
        .collect();
    let new: Vec<&String> = wrong.iter().filter(|line| !KNOWN.iter().any(|known| line.starts_with(known))).collect();
    assert!(new.is_empty(), "{new:#?}");
    assert!(count > 3000, "{count}");
}
