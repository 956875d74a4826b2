//! Every recording of Cohere's and Ollama's own APIs.
#![allow(clippy::print_stderr, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use crate::common::compare;
use crate::common::natives;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use compare::Said;
use llm::passthrough::{Edits, StreamTap, peek, peek_response};
use llm::{Dialect, Limits, Options, Outcome, RequestError, Translation};
use serde_json::Value;

const CLIENTS: [Dialect; 3] = [Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::Gemini];

struct Recording {
    name: String,
    endpoint: String,
    status: u16,
    streamed: bool,
    request: Option<Value>,
    body: Vec<u8>,
}

impl Recording {
    /// What its provider speaks.
    fn dialect(&self) -> Dialect {
        match self.endpoint.as_str() {
            "cohere.chat.v2" => Dialect::CohereChat,
            "cohere.chat.v1" => Dialect::CohereChatV1,
            "embeddings" | "rerank" => Dialect::CohereEmbed,
            _ => Dialect::OllamaChat,
        }
    }

    /// The model it was asked of.
    fn model(&self) -> &str {
        self.request.as_ref().and_then(|request| request["model"].as_str()).unwrap_or("some-model")
    }

    fn pieces(&self) -> Vec<Value> {
        let text = String::from_utf8_lossy(&self.body);
        match (self.streamed, self.dialect()) {
            (true, Dialect::CohereChat) => compare::payloads(&text),
            (true, _) => natives::lines(&text),
            (false, _) => vec![serde_json::from_str(&text).unwrap_or_default()],
        }
    }

    fn said(&self) -> Said {
        let pieces = self.pieces();
        match self.dialect() {
            Dialect::OllamaChat => natives::ollama(&pieces),
            _ if self.streamed => natives::cohere_stream(&pieces, self.model()),
            _ => natives::cohere(&pieces[0], self.model()),
        }
    }
}

fn recordings(data: &Path) -> Vec<Recording> {
    let mut found = Vec::new();
    for provider in ["cohere", "ollama"] {
        for file in std::fs::read_dir(data.join("cassettes").join(provider)).unwrap().flatten() {
            let recorded: Value = serde_json::from_str(&std::fs::read_to_string(file.path()).unwrap()).unwrap();
            let endpoint = recorded["endpoint"].as_str().unwrap_or("").to_owned();
            if endpoint == "chat.completions" || recorded["method"] == "GET" {
                continue;
            }
            let answer = &recorded["response_body"];
            let body = match answer["kind"].as_str() {
                Some("json") => serde_json::to_vec(&answer["json"]).unwrap(),
                _ => answer["text"].as_str().unwrap_or("").as_bytes().to_vec(),
            };
            found.push(Recording {
                name: format!("{provider}/{}", recorded["id"].as_str().unwrap_or("")),
                endpoint,
                status: recorded["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0),
                streamed: matches!(answer["kind"].as_str(), Some("sse" | "ndjson")) && recorded["status"] == 200,
                request: recorded["request_body"].get("json").filter(|body| body.is_object()).cloned(),
                body,
            });
        }
    }
    assert!(found.len() >= 66, "{}", found.len());
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Tokens in and out by what the recording tells last: of the whole answer, or of the last event of a stream.
fn counted(recording: &Recording) -> (u64, u64) {
    let count = |value: &Value, name: &str| value[name].as_u64().unwrap_or(0);
    let (mut input, mut output) = (0, 0);
    for piece in recording.pieces() {
        let places = [&piece["usage"], &piece["delta"]["usage"], &piece["meta"], &piece["response"]["meta"]];
        for place in places.into_iter().filter(|place| place.is_object()) {
            let tokens = if place["tokens"].is_object() { &place["tokens"] } else { &place["billed_units"] };
            input = count(tokens, "input_tokens") + count(tokens, "image_tokens");
            output = count(tokens, "output_tokens");
        }
        input = input.max(count(&piece, "prompt_eval_count"));
        output = output.max(count(&piece, "eval_count"));
    }
    (input, output)
}

#[test]
fn every_answer_passes_unchanged_in_any_pieces_and_its_usage_is_seen() {
    let Some(data) = vectors::data() else { return vectors::skipped("natives: passthrough") };
    let mut tried = 0;
    for recording in recordings(data).iter().filter(|recording| recording.status == 200) {
        let expected = counted(recording);
        let used = |usage: llm::Usage| (usage.input_tokens.unwrap_or(0), usage.output_tokens.unwrap_or(0));
        tried += 1;
        if !recording.streamed {
            let seen = peek_response(recording.dialect(), &recording.body);
            assert!(seen.is_object && !seen.usage.suspect, "{}", recording.name);
            assert_eq!(used(seen.usage), expected, "{}", recording.name);
            continue;
        }
        for piece in [1, 7, 4096, 1 << 20] {
            let mut tap = StreamTap::new(recording.dialect(), true);
            let mut out = Vec::new();
            for chunk in recording.body.chunks(piece) {
                out.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(chunk)));
            }
            out.extend(tap.finish(true));
            assert_eq!(out, recording.body, "{} in pieces of {piece}", recording.name);
            assert_eq!(*tap.outcome(), Outcome::Complete, "{}", recording.name);
            assert_eq!(used(tap.usage()), expected, "{}", recording.name);
        }
    }
    eprintln!("native answers passed through: {tried}");
    assert!(tried >= 63, "{tried}");
}

fn stream(translation: &Translation, body: &[u8], piece: usize) -> (String, Outcome) {
    let mut stream = translation.stream(true);
    let mut out = Vec::new();
    for chunk in body.chunks(piece) {
        out.extend(stream.feed(chunk));
    }
    out.extend(stream.finish(true));
    (String::from_utf8(out).unwrap(), stream.outcome().clone())
}

fn told(client: Dialect, recording: &Recording, translation: &Translation) -> Said {
    if recording.streamed {
        let (whole, outcome) = stream(translation, &recording.body, 1 << 20);
        assert_eq!(outcome, Outcome::Complete, "{}", recording.name);
        for piece in [1, 13] {
            assert_eq!(stream(translation, &recording.body, piece).0, whole, "{}", recording.name);
        }
        return match client {
            Dialect::OpenAiChat => compare::openai_stream(&whole),
            Dialect::Gemini => compare::gemini(&compare::payloads(&whole)),
            _ => compare::anthropic_stream(&whole),
        };
    }
    let answer = translation.response(&recording.body).unwrap_or_else(|error| panic!("{}: {error}", recording.name));
    let body = serde_json::from_slice(&answer.body).unwrap();
    match client {
        Dialect::OpenAiChat => compare::openai(&body),
        Dialect::Gemini => compare::gemini(&[body]),
        _ => compare::anthropic(&body),
    }
}

#[test]
fn every_chat_answer_says_the_same_in_the_other_dialects() {
    let Some(data) = vectors::data() else { return vectors::skipped("natives: answers") };
    let mut tried = 0;
    for recording in recordings(data) {
        if !matches!(recording.endpoint.as_str(), "cohere.chat.v2" | "ollama.chat") {
            continue;
        }
        for client in CLIENTS {
            tried += 1;
            let translation = Translation::new(client, recording.dialect(), Options::default()).unwrap();
            let translation = translation.naming(recording.model());
            if recording.status != 200 {
                let told: Value =
                    serde_json::from_slice(&translation.error(recording.status, &recording.body)).unwrap();
                let original: Value = serde_json::from_slice(&recording.body).unwrap();
                assert_eq!(told["error"]["message"], original["message"], "{}", recording.name);
                continue;
            }
            let mut expected = recording.said();
            let mut told = told(client, &recording, &translation);
            let mut ids: Vec<_> = told.calls.iter().map(|call| call.id.clone()).collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), told.calls.len(), "{}", recording.name);
            for (told, expected) in told.calls.iter_mut().zip(&mut expected.calls) {
                assert!(
                    !told.id.is_empty() && (expected.id.is_empty() || expected.id == told.id),
                    "{}",
                    recording.name
                );
                expected.id.clone_from(&told.id);
            }
            expected.answers = told.answers;
            if client == Dialect::OpenAiChat && !expected.calls.is_empty() && expected.stop == "max_tokens" {
                expected.stop.clone_from(&told.stop);
            }
            let difference = compare::difference(&expected, &told);
            assert_eq!(difference, None, "{} for {client:?}", recording.name);
        }
    }
    eprintln!("native answers translated: {tried}");
    assert!(tried >= 156, "{tried}");
}

#[test]
fn every_stream_cut_anywhere_is_never_a_clean_end() {
    let Some(data) = vectors::data() else { return vectors::skipped("natives: cuts") };
    let mut tried = 0;
    for recording in recordings(data).iter().filter(|recording| recording.streamed) {
        let marks: [&[u8]; 3] = [b"message-end", b"stream-end", b"\"done\":true"];
        let end = marks.iter().find_map(|mark| recording.body.windows(mark.len()).position(|window| window == *mark));
        let end = end.unwrap_or_else(|| panic!("{}", recording.name));
        for at in [1, end / 3, end / 2, end.saturating_sub(2)] {
            for clean in [true, false] {
                let cut = &recording.body[..at];
                let mut tap = StreamTap::new(recording.dialect(), false);
                tap.feed(&Bytes::copy_from_slice(cut));
                let last = String::from_utf8(tap.finish(clean)).unwrap();
                assert_eq!(*tap.outcome(), Outcome::Cut, "{} at {at}", recording.name);
                let told = if recording.dialect() == Dialect::OllamaChat { "{\"error\":\"" } else { "{\"message\":\"" };
                assert!(last.contains(told) && last.ends_with('\n'), "{last}");
                for client in CLIENTS {
                    let Some(translation) = Translation::new(client, recording.dialect(), Options::default()) else {
                        continue;
                    };
                    let mut stream = translation.stream(true);
                    stream.feed(cut);
                    let last = String::from_utf8(stream.finish(clean)).unwrap();
                    assert_eq!(*stream.outcome(), Outcome::Cut, "{} at {at}", recording.name);
                    assert!(last.contains("\"error\"") && !last.contains("[DONE]"), "{last}");
                }
                tried += 1;
            }
        }
    }
    eprintln!("native cuts: {tried}");
    assert!(tried >= 160, "{tried}");
}

#[test]
fn every_native_request_is_seen_and_passes_unchanged_but_for_its_model() {
    let Some(data) = vectors::data() else { return vectors::skipped("natives: own requests") };
    let mut tried = 0;
    for recording in recordings(data) {
        let Some(request) = &recording.request else { continue };
        let dialect = recording.dialect();
        let body = serde_json::to_vec(request).unwrap();
        let seen = peek(dialect, &body, &Limits::REQUEST).unwrap_or_else(|e| panic!("{}: {e}", recording.name));
        assert_eq!(seen.model, request["model"].as_str().unwrap_or(""), "{}", recording.name);
        let streams = request["stream"].as_bool().unwrap_or(dialect == Dialect::OllamaChat);
        assert_eq!((seen.stream, seen.has_tools), (streams, request["tools"].is_array()), "{}", recording.name);
        assert_eq!(seen.splice(dialect, &body, &Edits { include_usage: true, ..Edits::default() }), body);
        let named = seen.splice(dialect, &body, &Edits { model: Some("other"), ..Edits::default() });
        let named: Value = serde_json::from_slice(&named).unwrap();
        let mut expected = request.clone();
        if !seen.model.is_empty() {
            expected["model"] = "other".into();
        }
        assert_eq!(named, expected, "{}", recording.name);
        tried += 1;
    }
    assert!(tried >= 60, "{tried}");
}

/// Every text, call and result of a request.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("text" | "content" | "name" | "description", Value::String(text)) => found.push(text.clone()),
                    _ => texts(value, found),
                }
            }
        }
        _ => {}
    }
}

/// What the user and the model said in a request of OpenAI's or Anthropic's, where it is plain text.
fn spoken(request: &Value) -> Vec<String> {
    let messages = request["messages"].as_array().into_iter().flatten();
    let of = |content: &Value| match content {
        Value::String(text) => vec![text.clone()],
        other => other.as_array().into_iter().flatten().filter_map(|p| p["text"].as_str().map(str::to_owned)).collect(),
    };
    messages.flat_map(|message| of(&message["content"])).filter(|text| !text.is_empty()).collect()
}

#[test]
fn every_request_of_the_other_dialects_is_translated_or_refused_by_name() {
    let Some(data) = vectors::data() else { return vectors::skipped("natives: other requests") };
    for provider in [Dialect::CohereChat, Dialect::OllamaChat] {
        let (mut translated, mut refused) = (0, BTreeMap::<String, usize>::new());
        for folder in std::fs::read_dir(data.join("cassettes")).unwrap().flatten() {
            for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
                let Ok(recorded) = serde_json::from_str::<Value>(&text) else { continue };
                let client = match recorded["endpoint"].as_str() {
                    Some("chat.completions") => Dialect::OpenAiChat,
                    Some("messages") => Dialect::AnthropicMessages,
                    Some("generateContent" | "generateContent.stream") => Dialect::Gemini,
                    _ => continue,
                };
                let request = &recorded["request_body"]["json"];
                if !request.is_object() {
                    continue;
                }
                let name = file.file_name().to_string_lossy().into_owned();
                let translation = Translation::new(client, provider, Options::default()).unwrap();
                let edits = Edits { model: Some("command-a-03-2025"), ..Edits::default() };
                match translation.request(&serde_json::to_vec(request).unwrap(), &edits) {
                    Ok(body) => {
                        let after: Value = serde_json::from_slice(&body).unwrap();
                        assert_eq!(after["model"], "command-a-03-2025");
                        let mut found = Vec::new();
                        texts(&after["messages"], &mut found);
                        let found = found.join("\n");
                        for said in spoken(request) {
                            assert!(found.contains(&said), "{name}: lost {said:.80}");
                        }
                        translated += 1;
                    }
                    Err(error @ RequestError::Unsupported { .. }) => {
                        let param = error.param().unwrap_or("").replace(|c: char| c.is_ascii_digit(), "");
                        *refused.entry(format!("{client:?} {param}")).or_default() += 1;
                    }
                    Err(_) if recorded["status"].as_u64().is_some_and(|status| status >= 400) => {}
                    Err(error) => panic!("{name}: {error}"),
                }
            }
        }
        eprintln!("requests translated for {provider:?}: {translated}, refused {}", refused.values().sum::<usize>());
        for (why, count) in &refused {
            eprintln!("  {count:4} x {why}");
        }
        assert!(translated >= 600, "{translated}");
    }
}
