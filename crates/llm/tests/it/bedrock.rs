//! Every recording of Bedrock's own APIs, and every recorded request of other dialects for it.
#![allow(clippy::print_stderr, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use crate::common::compare;
use crate::common::converse;

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use llm::passthrough::{Edits, StreamTap, peek, peek_response};
use llm::{
    Dialect, Framing, Limits, Options, Outcome, RequestError, StreamTranslation, Translation, event_stream_message,
};
use serde_json::{Value, json};

struct Recording {
    name: String,
    endpoint: String,
    status: u16,
    framing: Option<Framing>,
    request: Option<Value>,
    body: Vec<u8>,
}

fn recordings(data: &Path) -> Vec<Recording> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(data.join("cassettes/bedrock")).unwrap().flatten() {
        let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
        let Ok(recorded) = serde_json::from_str::<Value>(&text) else { continue };
        let answer = &recorded["response_body"];
        let (body, framing) = match answer["kind"].as_str() {
            Some("json") => (serde_json::to_vec(&answer["json"]).unwrap(), None),
            Some("base64") => (STANDARD.decode(answer["data"].as_str().unwrap()).unwrap(), Some(Framing::EventStream)),
            Some("ndjson") => (answer["text"].as_str().unwrap().as_bytes().to_vec(), Some(Framing::Lines)),
            _ => (answer["text"].as_str().unwrap_or("").as_bytes().to_vec(), Some(Framing::Sse)),
        };
        found.push(Recording {
            name: recorded["id"].as_str().unwrap().to_owned(),
            endpoint: recorded["endpoint"].as_str().unwrap().to_owned(),
            status: recorded["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0),
            framing,
            request: recorded["request_body"].get("json").filter(|body| body.is_object()).cloned(),
            body,
        });
    }
    assert!(found.len() >= 106, "{}", found.len());
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn said(recording: &Recording) -> compare::Said {
    match recording.framing {
        Some(Framing::EventStream) => converse::streamed(&converse::messages(&recording.body)),
        Some(_) => converse::streamed(&converse::lines(&String::from_utf8_lossy(&recording.body))),
        None => converse::whole(&serde_json::from_slice(&recording.body).unwrap_or_default()),
    }
}

/// A recording that breaks off: it ends in the middle of an answer.
fn is_cut(recording: &Recording) -> bool {
    recording.framing.is_some() && said(recording).stop.is_empty()
}

fn used(usage: &llm::Usage) -> compare::Used {
    compare::Used {
        input: usage.input_tokens.unwrap_or(0),
        output: usage.output_tokens.unwrap_or(0),
        cache_read: usage.cache_read_tokens.unwrap_or(0),
        cache_write: usage.cache_write_tokens.unwrap_or(0),
        reasoning: usage.reasoning_tokens.unwrap_or(0),
    }
}

#[test]
fn every_answer_of_bedrock_passes_unchanged_in_any_pieces_and_its_usage_is_seen() {
    let Some(data) = vectors::data() else { return vectors::skipped("bedrock: passthrough") };
    let (mut whole, mut streams) = (0, 0);
    for recording in recordings(data).iter().filter(|recording| recording.status == 200) {
        let dialect = match recording.endpoint.as_str() {
            "converse" | "converse-stream" => Dialect::BedrockConverse,
            "invoke" | "invoke-stream" => Dialect::BedrockInvoke,
            _ => continue,
        };
        let Some(framing) = recording.framing else {
            let seen = peek_response(dialect, &recording.body).usage;
            if dialect == Dialect::BedrockConverse {
                assert_eq!(used(&seen), said(recording).usage, "{}", recording.name);
            }
            whole += 1;
            continue;
        };
        for piece in [1, 7, 4096, 1 << 20] {
            let mut tap = StreamTap::framed((dialect, framing), true);
            let mut out = Vec::new();
            for chunk in recording.body.chunks(piece) {
                out.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(chunk)));
            }
            assert_eq!(out, recording.body, "{} in pieces of {piece}", recording.name);
            let last = tap.finish(true);
            assert_eq!(last.is_empty(), !is_cut(recording) || dialect == Dialect::BedrockInvoke, "{}", recording.name);
            if dialect == Dialect::BedrockConverse {
                assert_eq!(used(&tap.usage()), said(recording).usage, "{}", recording.name);
            } else {
                assert!(tap.usage().input_tokens.is_some_and(|tokens| tokens > 0), "{}", recording.name);
                assert_eq!(*tap.outcome(), Outcome::Complete, "{}", recording.name);
            }
        }
        streams += 1;
    }
    eprintln!("bedrock answers passed through: {whole} whole, {streams} streams");
    assert!(whole >= 53 && streams >= 28);
}

fn stream(translation: &Translation, framing: Framing, body: &[u8], piece: usize) -> (String, Outcome) {
    let mut stream = translation.framed_stream(framing, true);
    let mut out = Vec::new();
    for chunk in body.chunks(piece) {
        out.extend(stream.feed(chunk));
    }
    out.extend(stream.finish(true));
    (String::from_utf8(out).unwrap(), stream.outcome().clone())
}

fn read(client: Dialect, text: &str, streamed: bool) -> compare::Said {
    let body = || serde_json::from_str(text).unwrap();
    match (client, streamed) {
        (Dialect::OpenAiChat, true) => compare::openai_stream(text),
        (Dialect::OpenAiChat, false) => compare::openai(&body()),
        (Dialect::AnthropicMessages, true) => compare::anthropic_stream(text),
        (Dialect::AnthropicMessages, false) => compare::anthropic(&body()),
        (_, true) => compare::gemini(&compare::payloads(text)),
        (_, false) => compare::gemini(&[body()]),
    }
}

const CLIENTS: [Dialect; 3] = [Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::Gemini];

#[test]
fn every_answer_of_converse_says_the_same_in_the_other_dialects() {
    let Some(data) = vectors::data() else { return vectors::skipped("bedrock: answers") };
    let mut tried = 0;
    let of_converse = |recording: &&Recording| recording.endpoint.starts_with("converse");
    for recording in recordings(data).iter().filter(of_converse) {
        for client in CLIENTS {
            tried += 1;
            let translation = Translation::new(client, Dialect::BedrockConverse, Options::default()).unwrap();
            let translation = translation.naming("us.x-v1:0");
            if recording.status != 200 {
                let told: Value =
                    serde_json::from_slice(&translation.error(recording.status, &recording.body)).unwrap();
                let original: Value = serde_json::from_slice(&recording.body).unwrap();
                assert_eq!(told["error"]["message"], original["message"], "{}", recording.name);
                continue;
            }
            let mut expected = said(recording);
            "us.x-v1:0".clone_into(&mut expected.model);
            let told = if let Some(framing) = recording.framing {
                let (whole, outcome) = stream(&translation, framing, &recording.body, 1 << 20);
                let came = if is_cut(recording) { Outcome::Cut } else { Outcome::Complete };
                assert_eq!(outcome, came, "{}", recording.name);
                for piece in [1, 13] {
                    assert_eq!(stream(&translation, framing, &recording.body, piece).0, whole, "{}", recording.name);
                }
                if is_cut(recording) {
                    assert!(whole.contains("ended before the answer was complete"), "{whole}");
                    continue;
                }
                read(client, &whole, true)
            } else {
                let answer =
                    translation.response(&recording.body).unwrap_or_else(|e| panic!("{}: {e}", recording.name));
                read(client, &String::from_utf8(answer.body).unwrap(), false)
            };
            expected.answers = told.answers;
            if client == Dialect::Gemini {
                // Google counts what was read from its cache, and has no word for what was written into it.
                expected.usage.cache_write = told.usage.cache_write;
            }
            let difference = compare::difference(&expected, &told);
            assert_eq!(difference, None, "{} for {client:?}", recording.name);
        }
    }
    eprintln!("converse answers translated: {tried}");
    assert!(tried >= 222);
}

#[test]
fn every_stream_of_converse_cut_anywhere_is_never_a_clean_end() {
    let Some(data) = vectors::data() else { return vectors::skipped("bedrock: cuts") };
    let mut tried = 0;
    let streams = |recording: &&Recording| recording.framing == Some(Framing::EventStream);
    for recording in recordings(data).iter().filter(streams) {
        let dialect =
            if recording.endpoint == "invoke-stream" { Dialect::BedrockInvoke } else { Dialect::BedrockConverse };
        let end =
            recording.body.windows(11).position(|window| window == b"messageStop").unwrap_or(recording.body.len());
        for at in [1, end / 3, end / 2, end - 1] {
            for clean in [true, false] {
                let cut = &recording.body[..at];
                let mut tap = StreamTap::new(dialect, false);
                let passed = tap.feed(&Bytes::copy_from_slice(cut));
                let last = tap.finish(clean);
                assert_eq!(*tap.outcome(), Outcome::Cut, "{} at {at}", recording.name);
                let all = converse::messages(&[&passed[..], &last].concat());
                assert_eq!(all.last().unwrap().0, "internalServerException", "{}", recording.name);
                tried += 1;
                if dialect == Dialect::BedrockInvoke {
                    continue;
                }
                for client in CLIENTS {
                    let translation = Translation::new(client, dialect, Options::default()).unwrap();
                    let mut stream = translation.stream(true);
                    stream.feed(cut);
                    let last = String::from_utf8(stream.finish(clean)).unwrap();
                    assert_eq!(*stream.outcome(), Outcome::Cut, "{} at {at}", recording.name);
                    assert!(last.contains("\"error\"") && !last.contains("[DONE]"), "{last}");
                }
            }
        }
    }
    eprintln!("bedrock cuts: {tried}");
    assert!(tried >= 180);
}

fn event(name: &str, payload: &Value) -> Vec<u8> {
    event_stream_message(&[(":message-type", "event"), (":event-type", name)], payload.to_string().as_bytes())
}

fn to_openai(stream: &[u8]) -> (String, Outcome) {
    let translation = Translation::new(Dialect::OpenAiChat, Dialect::BedrockConverse, Options::default()).unwrap();
    self::stream(&translation, Framing::EventStream, stream, 1 << 20)
}

#[test]
fn an_exception_in_a_stream_is_an_error_with_its_code_and_its_status() {
    for (exception, code) in [
        ("throttlingException", "ThrottlingException"),
        ("modelStreamErrorException", "ModelStreamErrorException"),
        ("serviceUnavailableException", "ServiceUnavailableException"),
    ] {
        let headers = [(":exception-type", exception), (":message-type", "exception")];
        let mut body = event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "hel"}}));
        body.extend(event_stream_message(&headers, br#"{"message":"Too many tokens"}"#));
        let (told, outcome) = to_openai(&body);
        let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
        assert_eq!((error.code.as_deref(), error.message.as_str()), (Some(code), "Too many tokens"));
        assert!(told.contains("Too many tokens") && told.contains(code) && !told.contains("[DONE]"), "{told}");
        let mut tap = StreamTap::new(Dialect::BedrockConverse, false);
        assert_eq!(tap.feed(&Bytes::from(body.clone())), body);
        assert!(matches!(tap.outcome(), Outcome::Failed(_)) && tap.finish(true).is_empty());
    }
}

#[test]
fn a_wrong_checksum_is_garbage_and_nothing_after_it_is_believed() {
    let mut body = event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "hel"}}));
    let good = body.len();
    body.extend(event("messageStop", &json!({"stopReason": "end_turn"})));
    body[good + 40] ^= 1;
    let (told, outcome) = to_openai(&body);
    assert_eq!(outcome, Outcome::Garbage);
    assert!(told.contains("hel") && told.contains("cannot be read"), "{told}");
}

#[test]
fn what_bedrock_runs_itself_is_kept_apart_from_the_callers_calls() {
    let stream = [
        event("messageStart", &json!({"role": "assistant"})),
        event(
            "contentBlockStart",
            &json!({"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t1", "name": "nova_code_interpreter", "type": "server_tool_use"}}}),
        ),
        event(
            "contentBlockDelta",
            &json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{\"snippet\":\"1\"}"}}}),
        ),
        event("contentBlockStop", &json!({"contentBlockIndex": 0})),
        event(
            "contentBlockStart",
            &json!({"contentBlockIndex": 1, "start": {"toolResult": {"toolUseId": "t1", "status": "success"}}}),
        ),
        event("contentBlockDelta", &json!({"contentBlockIndex": 1, "delta": {"toolResult": [{"text": "a"}]}})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 1, "delta": {"toolResult": [{"json": {"b": 1}}]}})),
        event("contentBlockStop", &json!({"contentBlockIndex": 1})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 2, "delta": {"text": "done"}})),
        event("messageStop", &json!({"stopReason": "end_turn"})),
        event("metadata", &json!({"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}})),
    ];
    let (told, outcome) = to_openai(&stream.concat());
    assert_eq!(outcome, Outcome::Complete);
    let said = compare::openai_stream(&told);
    assert_eq!((said.text.as_str(), said.calls.len(), said.stop.as_str()), ("done", 0, "end_turn"));
    assert!(told.contains(r#""toolUse":{"toolUseId":"t1","name":"nova_code_interpreter","type":"server_tool_use","input":{"snippet":"1"}}}"#), "{told}");
    assert!(told.contains(r#""content":[{"text":"a"},{"json":{"b":1}}]"#), "{told}");
}

#[test]
fn redacted_reasoning_goes_to_any_client_and_comes_back() {
    let blob = STANDARD.encode("EtkECkgIBxAB");
    let answer = json!({"output": {"message": {"role": "assistant", "content": [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": blob}}, {"reasoningContent": {"redactedContent": "/wD/"}}, {"text": "hi"}]}},
        "stopReason": "end_turn", "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}});
    let answer = serde_json::to_vec(&answer).unwrap();
    for client in [Dialect::AnthropicMessages, Dialect::OpenAiChat] {
        let translation = Translation::new(client, Dialect::BedrockConverse, Options::default()).unwrap();
        let told: Value = serde_json::from_slice(&translation.response(&answer).unwrap().body).unwrap();
        let turn = if client == Dialect::OpenAiChat {
            told["choices"][0]["message"].clone()
        } else {
            assert_eq!(told["content"][1], json!({"type": "redacted_thinking", "data": "EtkECkgIBxAB"}));
            json!({"role": "assistant", "content": told["content"]})
        };
        let back = json!({"model": "anthropic.claude-3-7-sonnet-20250219-v1:0", "max_tokens": 9,
            "messages": [{"role": "user", "content": "a"}, turn, {"role": "user", "content": "b"}]});
        let sent = translation.request(&serde_json::to_vec(&back).unwrap(), &Edits::default()).unwrap();
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let content = &sent["messages"][1]["content"];
        assert_eq!(content[1]["reasoningContent"]["redactedContent"], json!(blob), "{client:?} {sent}");
        assert_eq!(content[2]["reasoningContent"]["redactedContent"], "/wD/", "{client:?} {sent}");
        assert_eq!(content[0]["reasoningContent"]["reasoningText"], json!({"text": "hm", "signature": "c2ln"}));
    }
}

/// Every recorded request of the other dialects, by its client's.
fn asked(data: &Path) -> Vec<(String, Dialect, Value)> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(data.join("cassettes")).unwrap().flatten() {
        for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
            let Ok(recorded) = serde_json::from_str::<Value>(&text) else { continue };
            let client = match recorded["endpoint"].as_str() {
                Some("chat.completions") => Dialect::OpenAiChat,
                Some("messages") => Dialect::AnthropicMessages,
                Some(other) if other.starts_with("generateContent") => Dialect::Gemini,
                _ => continue,
            };
            let request = &recorded["request_body"]["json"];
            let failed = recorded["status"].as_u64().is_some_and(|status| status >= 400);
            if request.is_object() && !failed {
                found.push((file.file_name().to_string_lossy().into_owned(), client, request.clone()));
            }
        }
    }
    found
}

/// What the user and the model said in a request, where it is plain text.
fn spoken(client: Dialect, request: &Value) -> Vec<String> {
    let (turns, pieces) = if client == Dialect::Gemini { ("contents", "parts") } else { ("messages", "content") };
    let of = |content: &Value| match content {
        Value::String(text) => vec![text.clone()],
        other => {
            let items = other.as_array().into_iter().flatten().filter(|part| part["thought"] != true);
            items.filter_map(|part| part["text"].as_str().map(str::to_owned)).collect()
        }
    };
    let turns = request[turns].as_array().into_iter().flatten();
    turns.flat_map(|turn| of(&turn[pieces])).filter(|text| !text.is_empty()).collect()
}

fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(members) => {
            found.extend(members.get("text").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| texts(member, found));
        }
        _ => {}
    }
}

#[test]
fn every_request_of_the_other_dialects_is_translated_for_converse_or_refused_by_name() {
    let Some(data) = vectors::data() else { return vectors::skipped("bedrock: other requests") };
    let (mut translated, mut refused) = (0, BTreeMap::<String, usize>::new());
    for (name, client, request) in asked(data) {
        let translation = Translation::new(client, Dialect::BedrockConverse, Options::default()).unwrap();
        let edits = Edits { model: Some("us.anthropic.claude-sonnet-4-5-20250929-v1:0"), ..Edits::default() };
        match translation.request(&serde_json::to_vec(&request).unwrap(), &edits) {
            Ok(body) => {
                let after: Value = serde_json::from_slice(&body).unwrap();
                let mut found = Vec::new();
                texts(&after, &mut found);
                let found = found.join("\n");
                for said in spoken(client, &request) {
                    assert!(found.contains(&said), "{name}: lost {said:.80}");
                }
                sound(&name, &request, &after);
                translated += 1;
            }
            Err(error @ RequestError::Unsupported { .. }) => {
                let param = error.param().unwrap_or("").replace(|c: char| c.is_ascii_digit(), "");
                *refused.entry(format!("{client:?} {param}")).or_default() += 1;
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    eprintln!("requests translated for converse: {translated}, refused: {}", refused.values().sum::<usize>());
    for (why, count) in &refused {
        eprintln!("  {count:4} x {why}");
    }
    assert!(translated >= 740);
}

/// What Converse insists on.
fn sound(name: &str, original: &Value, request: &Value) {
    let original = original.to_string();
    let messages = request["messages"].as_array().unwrap();
    for pair in messages.windows(2) {
        assert_ne!(pair[0]["role"], pair[1]["role"], "{name}: roles alternate");
    }
    let (mut called, mut used) = (Vec::new(), false);
    let mut documents = Vec::new();
    for block in messages.iter().flat_map(|message| message["content"].as_array().unwrap()) {
        assert_eq!(block.as_object().unwrap().len(), 1, "{name}: {block}");
        if let Some(id) = block["toolUse"]["toolUseId"].as_str() {
            called.push(id.to_owned());
            used = true;
            assert!(block["toolUse"]["input"].is_object(), "{name}");
        }
        if let Some(id) = block["toolResult"]["toolUseId"].as_str() {
            // One recording answers a call that nobody made.
            let orphan = original.matches(id).count() == 1;
            assert!(id.len() <= 64 && (orphan || called.iter().any(|call| call == id)), "{name}: {id}");
        }
        documents.extend(block["document"]["name"].as_str().map(str::to_owned));
    }
    assert!(!used || request["toolConfig"]["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{name}");
    let all = documents.len();
    documents.sort();
    documents.dedup();
    assert_eq!(all, documents.len(), "{name}");
}

#[test]
fn every_request_of_converse_says_what_it_asks_and_a_bound_can_be_set_in_it() {
    let Some(data) = vectors::data() else { return vectors::skipped("bedrock: requests") };
    let mut tried = 0;
    for recording in recordings(data) {
        let Some(request) = recording.request.filter(|_| recording.endpoint.starts_with("converse")) else { continue };
        let body = serde_json::to_vec(&request).unwrap();
        let seen = peek(Dialect::BedrockConverse, &body, &Limits::REQUEST).unwrap();
        let seen = seen.with_path("m", recording.endpoint == "converse-stream").unwrap();
        assert_eq!(seen.max_output_tokens, request["inferenceConfig"]["maxTokens"].as_u64(), "{}", recording.name);
        let tools = request["toolConfig"]["tools"].as_array().into_iter().flatten();
        assert_eq!(seen.has_tools, tools.count() > 0, "{}", recording.name);
        assert_eq!(seen.splice(Dialect::BedrockConverse, &body, &Edits::default()), body, "{}", recording.name);
        let edits = Edits { max_output_tokens: Some(77), ..Edits::default() };
        let set: Value = serde_json::from_slice(&seen.splice(Dialect::BedrockConverse, &body, &edits)).unwrap();
        assert_eq!(set["inferenceConfig"]["maxTokens"], 77, "{}", recording.name);
        tried += 1;
    }
    assert!(tried >= 66, "{tried}");
}

/// A stream is never read into more than it holds, whatever it is cut into.
#[test]
fn a_stream_that_ends_between_its_stop_and_its_usage_is_complete_only_if_it_ended_cleanly() {
    let body = [
        event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "hi"}})),
        event(
            "messageStop",
            &json!({"stopReason": "stop_sequence", "additionalModelResponseFields": {"stop_sequence": "END"}}),
        ),
    ]
    .concat();
    let translation =
        Translation::new(Dialect::AnthropicMessages, Dialect::BedrockConverse, Options::default()).unwrap();
    for (clean, outcome) in [(true, Outcome::Complete), (false, Outcome::Cut)] {
        let mut stream: StreamTranslation = translation.stream(true);
        let mut out = stream.feed(&body);
        out.extend(stream.finish(clean));
        assert_eq!(*stream.outcome(), outcome);
        let told = String::from_utf8(out).unwrap();
        assert_eq!(told.contains(r#""stop_sequence":"END""#), clean, "{told}");
    }
}
