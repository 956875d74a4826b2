//! Every recording of Gemini's generateContent, Google's own and others'.
#![allow(clippy::print_stderr, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use crate::common::compare;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use llm::passthrough::{Edits, StreamTap, peek, peek_response};
use llm::{Dialect, Limits, Options, Outcome, RequestError, Translation};
use serde_json::Value;

struct Recording {
    name: String,
    status: u16,
    streamed: bool,
    request: Option<Value>,
    body: Vec<u8>,
}

fn recordings(data: &Path) -> Vec<Recording> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(data.join("cassettes")).unwrap().flatten() {
        for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
            let Ok(recorded) = serde_json::from_str::<Value>(&text) else { continue };
            if !recorded["endpoint"].as_str().unwrap_or("").starts_with("generateContent") {
                continue;
            }
            let answer = &recorded["response_body"];
            let body = match answer["kind"].as_str() {
                Some("json") => serde_json::to_vec(&answer["json"]).unwrap(),
                _ => answer["text"].as_str().unwrap_or("").as_bytes().to_vec(),
            };
            let (provider, id) = (recorded["provider"].as_str().unwrap_or(""), recorded["id"].as_str().unwrap_or(""));
            found.push(Recording {
                name: format!("{provider}/{id}"),
                status: recorded["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0),
                streamed: answer["kind"] == "sse" && recorded["status"] == 200,
                request: recorded["request_body"].get("json").filter(|body| body.is_object()).cloned(),
                body,
            });
        }
    }
    assert!(found.len() >= 200, "{}", found.len());
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn said(recording: &Recording) -> compare::Said {
    let text = String::from_utf8_lossy(&recording.body);
    let pieces = if recording.streamed {
        compare::payloads(&text)
    } else {
        vec![serde_json::from_str(&text).unwrap_or_default()]
    };
    compare::gemini(&pieces)
}

#[test]
fn every_gemini_answer_passes_unchanged_in_any_pieces_and_its_usage_is_seen() {
    let Some(data) = vectors::data() else { return vectors::skipped("gemini: passthrough") };
    let mut tried = 0;
    for recording in recordings(data).iter().filter(|recording| recording.status == 200) {
        let expected = said(recording).usage;
        if !recording.streamed {
            let seen = peek_response(Dialect::Gemini, &recording.body);
            assert_eq!(used(&seen.usage), expected, "{}", recording.name);
            tried += 1;
            continue;
        }
        for piece in [1, 7, 4096, 1 << 20] {
            let mut tap = StreamTap::new(Dialect::Gemini, true);
            let mut out = Vec::new();
            for chunk in recording.body.chunks(piece) {
                out.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(chunk)));
            }
            out.extend(tap.finish(true));
            assert_eq!(out, recording.body, "{} in pieces of {piece}", recording.name);
            assert_eq!(*tap.outcome(), Outcome::Complete, "{}", recording.name);
            assert_eq!(used(&tap.usage()), expected, "{}", recording.name);
        }
        tried += 1;
    }
    eprintln!("gemini answers passed through: {tried}");
    assert!(tried >= 189);
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

fn stream(translation: &Translation, body: &[u8], piece: usize) -> (String, Outcome) {
    let mut stream = translation.stream(true);
    let mut out = Vec::new();
    for chunk in body.chunks(piece) {
        out.extend(stream.feed(chunk));
    }
    out.extend(stream.finish(true));
    (String::from_utf8(out).unwrap(), stream.outcome().clone())
}

#[test]
fn every_gemini_answer_says_the_same_in_the_other_dialects() {
    let Some(data) = vectors::data() else { return vectors::skipped("gemini: answers") };
    let mut tried = 0;
    for recording in recordings(data) {
        for client in [Dialect::OpenAiChat, Dialect::AnthropicMessages] {
            tried += 1;
            let translation = Translation::new(client, Dialect::Gemini, Options::default()).unwrap();
            if recording.status != 200 {
                let told: Value =
                    serde_json::from_slice(&translation.error(recording.status, &recording.body)).unwrap();
                let text = String::from_utf8_lossy(&recording.body);
                let original: Value = serde_json::from_str(text.trim_start_matches("data: ")).unwrap_or_default();
                let original = original.get(0).unwrap_or(&original);
                assert_eq!(told["error"]["message"], original["error"]["message"], "{}", recording.name);
                continue;
            }
            let mut expected = said(&recording);
            let mut told = if recording.streamed {
                let (whole, outcome) = stream(&translation, &recording.body, 1 << 20);
                assert_eq!(outcome, Outcome::Complete, "{}", recording.name);
                for piece in [1, 13] {
                    assert_eq!(stream(&translation, &recording.body, piece).0, whole, "{}", recording.name);
                }
                if client == Dialect::OpenAiChat {
                    compare::openai_stream(&whole)
                } else {
                    compare::anthropic_stream(&whole)
                }
            } else {
                let answer =
                    translation.response(&recording.body).unwrap_or_else(|e| panic!("{}: {e}", recording.name));
                let body = serde_json::from_slice(&answer.body).unwrap();
                if client == Dialect::OpenAiChat { compare::openai(&body) } else { compare::anthropic(&body) }
            };
            // Google gives most calls no id; ours are made up, and none is used twice.
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
            let difference = compare::difference(&expected, &told);
            assert_eq!(difference, None, "{} for {client:?}", recording.name);
        }
    }
    eprintln!("gemini answers translated: {tried}");
    assert!(tried >= 400);
}

#[test]
fn every_gemini_stream_cut_anywhere_is_never_a_clean_end() {
    let Some(data) = vectors::data() else { return vectors::skipped("gemini: cuts") };
    let mut tried = 0;
    for recording in recordings(data).iter().filter(|recording| recording.streamed) {
        let Some(end) = recording.body.windows(13).position(|window| window == b"\"finishReason") else { continue };
        for at in [1, end / 3, end / 2, end.saturating_sub(2)] {
            for clean in [true, false] {
                let cut = &recording.body[..at];
                let mut tap = StreamTap::new(Dialect::Gemini, false);
                tap.feed(&Bytes::copy_from_slice(cut));
                let last = String::from_utf8(tap.finish(clean)).unwrap();
                assert_eq!(*tap.outcome(), Outcome::Cut, "{} at {at}", recording.name);
                assert!(last.starts_with("data: {\"error\":{\"code\":502"), "{last}");
                for client in [Dialect::OpenAiChat, Dialect::AnthropicMessages] {
                    let translation = Translation::new(client, Dialect::Gemini, Options::default()).unwrap();
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
    eprintln!("gemini cuts: {tried}");
    assert!(tried >= 400);
}

/// Every text, name and call argument of a request.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        // A thought that no Google signed or that is another's is not sent on.
        Value::Object(members) if members.get("thought") == Some(&Value::Bool(true)) => {}
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    // Google takes base64url, nobody else does.
                    ("data", Value::String(data)) => found.push(data.replace('-', "+").replace('_', "/")),
                    ("text" | "name" | "description" | "result" | "error", Value::String(text)) => {
                        found.push(text.clone());
                    }
                    _ => texts(value, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn every_gemini_request_is_translated_or_refused_by_name() {
    let Some(data) = vectors::data() else { return vectors::skipped("gemini: requests") };
    let (mut translated, mut refused) = (0, std::collections::BTreeMap::<String, usize>::new());
    for recording in recordings(data) {
        let Some(request) = &recording.request else { continue };
        let body = serde_json::to_vec(request).unwrap();
        let seen = peek(Dialect::Gemini, &body, &Limits::REQUEST).unwrap().with_path("m", false).unwrap();
        assert_eq!(seen.splice(Dialect::Gemini, &body, &Edits { model: Some("x"), ..Edits::default() }), body);
        for provider in [Dialect::OpenAiChat, Dialect::AnthropicMessages] {
            let translation = Translation::new(Dialect::Gemini, provider, Options::default()).unwrap();
            match translation.request(&body, &Edits { model: Some("m"), ..Edits::default() }) {
                Ok(body) => {
                    let after = String::from_utf8(body).unwrap();
                    let mut before = Vec::new();
                    texts(&request["contents"], &mut before);
                    texts(&request["systemInstruction"], &mut before);
                    for text in before {
                        // As it stands in JSON, or in JSON inside a string of it.
                        let once = Value::from(text.clone()).to_string();
                        let twice = Value::from(once.trim_matches('"')).to_string();
                        // A plain text that came as a file is sent as the text.
                        let plain = STANDARD.decode(&text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                        let plain = plain.map_or_else(|| once.clone(), |plain| Value::from(plain).to_string());
                        let there = [&once, &twice, &plain].iter().any(|form| after.contains(form.trim_matches('"')));
                        let shown: String = text.chars().take(80).collect();
                        assert!(there, "{}: lost {shown:?} for {provider:?}", recording.name);
                    }
                    translated += 1;
                }
                Err(error @ RequestError::Unsupported { .. }) => {
                    let param = error.param().unwrap_or("").replace(|c: char| c.is_ascii_digit(), "");
                    *refused.entry(format!("{provider:?} {param}")).or_default() += 1;
                }
                Err(_) if recording.status >= 400 => {}
                Err(error) => panic!("{}: {error}", recording.name),
            }
        }
    }
    eprintln!("gemini requests translated: {translated}");
    for (why, count) in &refused {
        eprintln!("  {count:4} x {why}");
    }
    assert!(translated >= 200);
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
fn every_request_of_the_other_dialects_is_translated_for_gemini_or_refused_by_name() {
    let Some(data) = vectors::data() else { return vectors::skipped("gemini: other requests") };
    let (mut translated, mut refused) = (0, std::collections::BTreeMap::<String, usize>::new());
    for folder in std::fs::read_dir(data.join("cassettes")).unwrap().flatten() {
        for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
            let Ok(recorded) = serde_json::from_str::<Value>(&text) else { continue };
            let client = match recorded["endpoint"].as_str() {
                Some("chat.completions") => Dialect::OpenAiChat,
                Some("messages") => Dialect::AnthropicMessages,
                _ => continue,
            };
            let request = &recorded["request_body"]["json"];
            if !request.is_object() {
                continue;
            }
            let name = file.file_name().to_string_lossy().into_owned();
            let translation = Translation::new(client, Dialect::Gemini, Options::default()).unwrap();
            match translation.request(&serde_json::to_vec(request).unwrap(), &Edits::default()) {
                Ok(body) => {
                    let body = String::from_utf8(body).unwrap();
                    let after: Value = serde_json::from_str(&body).unwrap();
                    let mut found = Vec::new();
                    texts(&after, &mut found);
                    let found = found.join("\n");
                    for said in spoken(request) {
                        // A tool's result may stand there as the object it is.
                        let there = found.contains(&said) || serde_json::from_str::<Value>(&said).is_ok();
                        assert!(there, "{name}: lost {said:.80}");
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
    eprintln!("requests translated for gemini: {translated}");
    for (why, count) in &refused {
        eprintln!("  {count:4} x {why}");
    }
    assert!(translated >= 500);
}
