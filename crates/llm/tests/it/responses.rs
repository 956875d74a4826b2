//! Every recording of OpenAI's Responses API, and every recording of the others told to a client of it.
#![allow(clippy::print_stderr, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use crate::common::compare;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use llm::passthrough::{Edits, StreamTap, peek, peek_response};
use llm::{Dialect, Flavour, Limits, Options, Outcome, RequestError, Translation};
use serde_json::{Value, json};

const RESPONSES: Dialect = Dialect::OpenAiResponses;
const OTHERS: [Dialect; 3] = [Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::Gemini];

struct Recording {
    name: String,
    dialect: Dialect,
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
            let path = recorded["path"].as_str().unwrap_or("");
            let dialect = match recorded["endpoint"].as_str().unwrap_or("") {
                "responses" if path.ends_with("/responses") => RESPONSES,
                "chat.completions" => Dialect::OpenAiChat,
                "messages" => Dialect::AnthropicMessages,
                "generateContent" | "generateContent.stream" => Dialect::Gemini,
                _ => continue,
            };
            let answer = &recorded["response_body"];
            let body = match answer["kind"].as_str() {
                Some("json") => serde_json::to_vec(&answer["json"]).unwrap(),
                _ => answer["text"].as_str().unwrap_or("").as_bytes().to_vec(),
            };
            let provider = recorded["provider"].as_str().unwrap_or("").to_owned();
            found.push(Recording {
                name: format!("{provider}/{}", recorded["id"].as_str().unwrap_or("")),
                dialect,
                status: recorded["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0),
                streamed: answer["kind"] == "sse" && recorded["status"] == 200,
                request: recorded["request_body"].get("json").filter(|body| body.is_object()).cloned(),
                body,
            });
        }
    }
    assert!(found.len() >= 1200, "{}", found.len());
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn own(data: &Path) -> impl Iterator<Item = Recording> {
    recordings(data).into_iter().filter(|recording| recording.dialect == RESPONSES)
}

/// Recorded with events that are no JSON: one brace is missing in each that holds the whole answer.
const BROKEN: [&str; 1] = ["7783323a5114"];

fn is_broken(recording: &Recording) -> bool {
    BROKEN.iter().any(|id| recording.name.ends_with(id))
}

fn read(dialect: Dialect, streamed: bool, text: &str) -> compare::Said {
    let whole = || serde_json::from_str(text).unwrap_or_default();
    match (dialect, streamed) {
        (Dialect::OpenAiChat, true) => compare::openai_stream(text),
        (Dialect::OpenAiChat, false) => compare::openai(&whole()),
        (Dialect::AnthropicMessages, true) => compare::anthropic_stream(text),
        (Dialect::AnthropicMessages, false) => compare::anthropic(&whole()),
        (Dialect::Gemini, true) => compare::gemini(&compare::payloads(text)),
        (Dialect::Gemini, false) => compare::gemini(&[whole()]),
        (_, true) => compare::responses_stream(text),
        (_, false) => compare::responses(&whole()),
    }
}

fn said(recording: &Recording) -> compare::Said {
    read(recording.dialect, recording.streamed, &String::from_utf8_lossy(&recording.body))
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
fn every_answer_passes_unchanged_in_any_pieces_and_its_usage_is_seen() {
    let Some(data) = vectors::data() else { return vectors::skipped("responses: passthrough") };
    let mut tried = 0;
    for recording in own(data).filter(|recording| recording.status == 200) {
        let expected = said(&recording);
        tried += 1;
        if !recording.streamed {
            let seen = peek_response(RESPONSES, &recording.body);
            assert_eq!(used(&seen.usage), expected.usage, "{}", recording.name);
            continue;
        }
        for piece in [1, 7, 4096, 1 << 20] {
            let mut tap = StreamTap::new(RESPONSES, true);
            let mut out = Vec::new();
            for chunk in recording.body.chunks(piece) {
                out.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(chunk)));
            }
            out.extend(tap.finish(true));
            assert_eq!(out, recording.body, "{} in pieces of {piece}", recording.name);
            let failed = matches!(tap.outcome(), Outcome::Failed(_));
            assert_eq!(failed, expected.error.is_some(), "{}", recording.name);
            assert!(failed || *tap.outcome() == Outcome::Complete, "{}", recording.name);
            if !is_broken(&recording) {
                assert_eq!(used(&tap.usage()), expected.usage, "{}", recording.name);
            }
        }
    }
    eprintln!("responses passed through: {tried}");
    assert!(tried >= 165);
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

/// The answer of `recording` for a client of another dialect; `None` if it has no room for it.
fn told(recording: &Recording, client: Dialect) -> Option<String> {
    let translation = Translation::new(client, recording.dialect, Options::default()).unwrap();
    if !recording.streamed {
        return match translation.response(&recording.body) {
            Ok(answer) => Some(String::from_utf8(answer.body).unwrap()),
            Err(llm::ResponseError::ManyChoices) => None,
            Err(error) => panic!("{}: {error}", recording.name),
        };
    }
    let (whole, outcome) = stream(&translation, &recording.body, 1 << 20);
    for piece in [1, 13] {
        assert_eq!(stream(&translation, &recording.body, piece).0, whole, "{}", recording.name);
    }
    if let Outcome::Failed(error) = &outcome {
        let told = read(client, true, &whole);
        assert!(told.error.is_some() || whole.contains("\"error\""), "{}: {error:?}: {whole}", recording.name);
        return None;
    }
    assert_eq!(outcome, Outcome::Complete, "{}: {whole}", recording.name);
    Some(whole)
}

/// Calls without an id get one; none is used twice.
fn settle_ids(recording: &Recording, expected: &mut compare::Said, told: &compare::Said) {
    let mut ids: Vec<_> = told.calls.iter().map(|call| call.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), told.calls.len(), "{}", recording.name);
    for (told, expected) in told.calls.iter().zip(&mut expected.calls) {
        if expected.id.is_empty() {
            expected.id.clone_from(&told.id);
        }
    }
}

#[test]
fn every_answer_says_the_same_in_the_other_dialects() {
    let Some(data) = vectors::data() else { return vectors::skipped("responses: answers") };
    let (mut tried, mut failed) = (0, 0);
    for recording in own(data).filter(|recording| recording.status == 200 && !is_broken(recording)) {
        // Asked for in the background, which clients of other dialects cannot: it has only begun.
        let in_background = br#""status":"queued""#;
        if recording.body.windows(in_background.len()).any(|window| window == in_background) {
            continue;
        }
        for client in OTHERS {
            tried += 1;
            let mut expected = said(&recording);
            let Some(text) = told(&recording, client) else {
                assert!(expected.error.is_some(), "{}", recording.name);
                failed += 1;
                continue;
            };
            let told = read(client, recording.streamed, &text);
            settle_ids(&recording, &mut expected, &told);
            if client == Dialect::Gemini {
                // It tells what was thought beside what was said, and knows no writing into a cache.
                expected.usage.cache_write = 0;
            }
            let difference = compare::difference(&expected, &told);
            assert_eq!(difference, None, "{} for {client:?}: {text}", recording.name);
        }
    }
    eprintln!("responses translated: {tried}, of which {failed} failed at the provider");
    assert!(tried >= 490);
}

#[test]
fn every_error_is_told_in_the_clients_form() {
    let Some(data) = vectors::data() else { return vectors::skipped("responses: errors") };
    let mut tried = 0;
    for recording in own(data).filter(|recording| recording.status != 200) {
        let body: Value = serde_json::from_slice(&recording.body).unwrap();
        let original = ["error", "detail"]
            .iter()
            .find_map(|name| body[*name].as_str().or_else(|| body[*name]["message"].as_str()).map(str::to_owned));
        for client in OTHERS {
            let translation = Translation::new(client, RESPONSES, Options::default()).unwrap();
            let told: Value = serde_json::from_slice(&translation.error(recording.status, &recording.body)).unwrap();
            assert_eq!(told["error"]["message"].as_str(), original.as_deref(), "{}", recording.name);
            tried += 1;
        }
    }
    eprintln!("errors translated: {tried}");
    assert!(tried >= 60);
}

#[test]
fn every_answer_of_the_others_says_the_same_to_a_client_of_the_responses_api() {
    let Some(data) = vectors::data() else { return vectors::skipped("responses: other answers") };
    let (mut tried, mut without) = (0, BTreeMap::<String, usize>::new());
    for recording in recordings(data) {
        if recording.dialect == RESPONSES || recording.status != 200 {
            continue;
        }
        // Two answers in one recording, and a page that is no answer.
        let text = String::from_utf8_lossy(&recording.body).into_owned();
        if recording.streamed && text.matches("event: message_start").count() > 1 {
            *without.entry("several streams".to_owned()).or_default() += 1;
            continue;
        }
        let mut expected = said(&recording);
        if expected.answers > 1 {
            *without.entry("several answers".to_owned()).or_default() += 1;
            continue;
        }
        let Some(text) = told(&recording, RESPONSES) else {
            *without.entry("failed".to_owned()).or_default() += 1;
            continue;
        };
        let told = read(RESPONSES, recording.streamed, &text);
        if recording.streamed {
            assert_eq!(compare::responses_fault(&text), None, "{}: {text}", recording.name);
        }
        settle_ids(&recording, &mut expected, &told);
        if expected.stop == "refusal" && expected.refusal.is_empty() {
            assert!(told.stop == "refusal", "{}", recording.name);
        }
        let difference = compare::difference(&expected, &told);
        assert_eq!(difference, None, "{}: {text}", recording.name);
        tried += 1;
    }
    eprintln!("answers of the others told to a client of the Responses API: {tried}; without: {without:?}");
    assert!(tried >= 949);
}

#[test]
fn every_stream_cut_anywhere_is_never_a_clean_end() {
    let Some(data) = vectors::data() else { return vectors::skipped("responses: cuts") };
    let mut tried = 0;
    for recording in own(data).filter(|recording| recording.streamed && !is_broken(recording)) {
        let text = String::from_utf8_lossy(&recording.body);
        let Some(end) = ["response.completed", "response.incomplete"].iter().find_map(|kind| text.find(kind)) else {
            continue;
        };
        for at in [1, end / 3, end / 2, end.saturating_sub(20)] {
            for clean in [true, false] {
                let cut = &recording.body[..at];
                let mut tap = StreamTap::new(RESPONSES, false);
                tap.feed(&Bytes::copy_from_slice(cut));
                let last = String::from_utf8(tap.finish(clean)).unwrap();
                assert_eq!(*tap.outcome(), Outcome::Cut, "{} at {at}", recording.name);
                assert!(last.starts_with("event: error\ndata: {\"type\":\"error\""), "{last}");
                for client in OTHERS {
                    let translation = Translation::new(client, RESPONSES, Options::default()).unwrap();
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
    eprintln!("responses cut: {tried}");
    assert!(tried >= 450);
}

/// Every text, name and call argument of a request.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        // Reasoning goes back to its maker only.
        Value::Object(members) if members.get("type").is_some_and(|kind| kind == "reasoning") => {}
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    (
                        "text" | "name" | "description" | "output" | "arguments" | "content" | "input",
                        Value::String(text),
                    ) => {
                        found.push(text.clone());
                    }
                    _ => texts(value, found),
                }
            }
        }
        _ => {}
    }
}

fn contains(after: &str, text: &str) -> bool {
    // As it stands in JSON, in JSON inside a string of it, or, being JSON itself, as that.
    let once = Value::from(text).to_string();
    let twice = Value::from(once.trim_matches('"')).to_string();
    let forms = [once.trim_matches('"'), twice.trim_matches('"'), text.trim()];
    forms.iter().any(|form| after.contains(form))
        || serde_json::from_str::<Value>(text).is_ok_and(|value| !value.is_string())
}

#[test]
fn every_request_is_translated_or_refused_by_name() {
    let Some(data) = vectors::data() else { return vectors::skipped("responses: requests") };
    let (mut translated, mut refused) = (0, BTreeMap::<String, usize>::new());
    for recording in own(data) {
        let Some(request) = &recording.request else { continue };
        let body = serde_json::to_vec(request).unwrap();
        let seen = peek(RESPONSES, &body, &Limits::REQUEST).unwrap();
        let model = request["model"].as_str();
        assert_eq!(seen.splice(RESPONSES, &body, &Edits { model, ..Edits::default() }), body, "{}", recording.name);
        for provider in OTHERS {
            let translation = Translation::new(RESPONSES, provider, Options::default()).unwrap();
            match translation.request(&body, &Edits { model: Some("m"), ..Edits::default() }) {
                Ok(body) => {
                    let after = String::from_utf8(body).unwrap();
                    let mut before = Vec::new();
                    texts(&request["input"], &mut before);
                    texts(&request["instructions"], &mut before);
                    texts(&request["tools"], &mut before);
                    for text in before.into_iter().filter(|text| !text.is_empty()) {
                        assert!(
                            contains(&after, &text),
                            "{}: lost {text:.80} for {provider:?}: {after}",
                            recording.name
                        );
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
    eprintln!("responses requests translated: {translated}");
    for (why, count) in &refused {
        eprintln!("  {count:4} x {why}");
    }
    assert!(translated >= 400);
}

#[test]
fn every_request_of_the_others_is_translated_for_the_responses_api_or_refused_by_name() {
    let Some(data) = vectors::data() else { return vectors::skipped("responses: other requests") };
    let (mut translated, mut refused) = (0, BTreeMap::<String, usize>::new());
    for recording in recordings(data).into_iter().filter(|recording| recording.dialect != RESPONSES) {
        let Some(request) = &recording.request else { continue };
        let options = Options { flavour: Flavour::of_kind("openai"), ..Options::default() };
        let translation = Translation::new(recording.dialect, RESPONSES, options).unwrap();
        let edits = Edits { model: Some("gpt-5"), ..Edits::default() };
        match translation.request(&serde_json::to_vec(request).unwrap(), &edits) {
            Ok(body) => {
                let after: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(after["store"], false);
                assert_eq!(after["include"][0], "reasoning.encrypted_content");
                let mut found = Vec::new();
                texts(&after, &mut found);
                let found = found.join("\n");
                for said in spoken(recording.dialect, request) {
                    assert!(contains(&found, &said), "{}: lost {said:.80}", recording.name);
                }
                translated += 1;
            }
            Err(error @ RequestError::Unsupported { .. }) => {
                let param = error.param().unwrap_or("").replace(|c: char| c.is_ascii_digit(), "");
                *refused.entry(format!("{:?} {param}", recording.dialect)).or_default() += 1;
            }
            Err(_) if recording.status >= 400 => {}
            Err(error) => panic!("{}: {error}", recording.name),
        }
    }
    eprintln!("requests translated for the Responses API: {translated}");
    for (why, count) in &refused {
        eprintln!("  {count:4} x {why}");
    }
    assert!(translated >= 800);
}

/// What the user and the model said in a request, where it is plain text.
fn spoken(dialect: Dialect, request: &Value) -> Vec<String> {
    let (turns, inner) = if dialect == Dialect::Gemini { ("contents", "parts") } else { ("messages", "content") };
    let of = |content: &Value| match content {
        Value::String(text) => vec![text.clone()],
        other => {
            let parts = other.as_array().into_iter().flatten().filter(|part| part["thought"] != json!(true));
            parts.filter_map(|part| part["text"].as_str().map(str::to_owned)).collect()
        }
    };
    let turns = request[turns].as_array().into_iter().flatten();
    turns.flat_map(|turn| of(&turn[inner])).filter(|text| !text.trim().is_empty()).collect()
}
