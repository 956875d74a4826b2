//! Every recording of OpenAI chat, of Anthropic messages, of the OpenAI-compatible providers, and of embeddings.
#![allow(clippy::print_stderr, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use crate::common::compare;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use llm::passthrough::{CapName, Edits, StreamTap, peek, peek_response, splice};
use llm::{Dialect, Limits, Options, Outcome, Translation};
use serde_json::Value;

struct Cassette {
    name: String,
    provider: String,
    dialect: Dialect,
    status: u16,
    request: Option<Value>,
    kind: String,
    body: Vec<u8>,
}

fn cassettes(data: &Path) -> Vec<Cassette> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(data.join("cassettes")).unwrap().flatten() {
        for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(file.path()).unwrap();
            let Ok(cassette) = serde_json::from_str::<Value>(&text) else { continue };
            let dialect = match cassette["endpoint"].as_str().unwrap_or("") {
                "chat.completions" => Dialect::OpenAiChat,
                "messages" => Dialect::AnthropicMessages,
                "embeddings" => Dialect::OpenAiEmbeddings,
                _ => continue,
            };
            let response = &cassette["response_body"];
            let kind = response["kind"].as_str().unwrap_or("").to_owned();
            let body = match kind.as_str() {
                "json" => serde_json::to_vec(&response["json"]).unwrap(),
                _ => response["text"].as_str().unwrap_or("").as_bytes().to_vec(),
            };
            let provider = cassette["provider"].as_str().unwrap_or("").to_owned();
            found.push(Cassette {
                name: format!("{provider}/{}", cassette["id"].as_str().unwrap_or("")),
                provider,
                dialect,
                status: cassette["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0),
                request: cassette["request_body"].get("json").filter(|body| body.is_object()).cloned(),
                kind,
                body,
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Passed and tried per provider, and what did not pass or was refused.
#[derive(Default)]
struct Table {
    rows: BTreeMap<String, (usize, usize)>,
    refused: BTreeMap<String, usize>,
    failed: Vec<String>,
}

impl Table {
    fn pass(&mut self, of: &str) {
        let row = self.rows.entry(of.to_owned()).or_default();
        row.0 += 1;
        row.1 += 1;
    }

    fn fail(&mut self, of: &str, why: String) {
        self.rows.entry(of.to_owned()).or_default().1 += 1;
        self.failed.push(why);
    }

    fn print(&self, title: &str) {
        let (passed, tried) = self.rows.values().fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        eprintln!("{title}: {passed} of {tried}");
        for (of, (passed, tried)) in &self.rows {
            eprintln!("  {of:24} {passed:4} of {tried:4}");
        }
        for (why, count) in &self.refused {
            eprintln!("  {count:4} x {why}");
        }
        for why in &self.failed {
            eprintln!("  FAILED {why}");
        }
    }
}

fn through_tap(dialect: Dialect, strip: bool, body: &[u8], piece: usize) -> (Vec<u8>, StreamTap) {
    let mut tap = StreamTap::new(dialect, strip);
    let mut out = Vec::new();
    for chunk in body.chunks(piece) {
        out.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(chunk)));
    }
    out.extend(tap.finish(true));
    (out, tap)
}

/// The stream without the events that hold usage and nothing else.
fn without_usage(stream: &str) -> String {
    let events = stream.split_inclusive("\n\n").filter(|event| {
        !compare::payloads(event)
            .iter()
            .any(|chunk| chunk["usage"].is_object() && chunk["choices"].as_array().is_some_and(Vec::is_empty))
    });
    events.collect()
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

fn passes_through(cassette: &Cassette) -> Result<(), String> {
    let dialect = cassette.dialect;
    if cassette.kind == "sse" {
        let text = String::from_utf8_lossy(&cassette.body);
        let expected = match dialect {
            Dialect::AnthropicMessages => None,
            _ => Some(compare::openai_stream(&text)),
        };
        for piece in [1, 7, 1 << 20] {
            let (out, tap) = through_tap(dialect, false, &cassette.body, piece);
            if out != cassette.body {
                return Err(format!("not byte for byte in pieces of {piece}"));
            }
            let in_band = expected.as_ref().is_some_and(|said| said.error.is_some());
            match tap.outcome() {
                Outcome::Complete if !in_band => {}
                Outcome::Failed(_) if in_band => {}
                other => return Err(format!("came to {other:?}")),
            }
            if let Some(said) = expected.as_ref().filter(|said| said.usage != used(&tap.usage())) {
                return Err(format!("usage {:?} seen as {:?}", said.usage, tap.usage()));
            }
            if dialect == Dialect::OpenAiChat {
                let (out, _) = through_tap(dialect, true, &cassette.body, piece);
                if out != without_usage(&text).as_bytes() {
                    return Err(format!("not itself without usage in pieces of {piece}"));
                }
            }
        }
        return Ok(());
    }
    let seen = peek_response(dialect, &cassette.body).usage;
    let body: Value = serde_json::from_slice(&cassette.body).unwrap_or_default();
    let expected = match dialect {
        Dialect::AnthropicMessages => compare::Used::anthropic(&body["usage"]),
        _ => compare::Used::openai(&body["usage"]),
    };
    if dialect != Dialect::OpenAiEmbeddings && used(&seen) != expected {
        return Err(format!("usage {expected:?} seen as {seen:?}"));
    }
    Ok(())
}

#[test]
fn every_answer_passes_through_unchanged_and_its_usage_is_seen() {
    let Some(data) = vectors::data() else { return vectors::skipped("cassettes: passthrough") };
    let mut table = Table::default();
    for cassette in cassettes(data) {
        match passes_through(&cassette) {
            Ok(()) => table.pass(&cassette.provider),
            Err(why) => table.fail(&cassette.provider, format!("{}: {why}", cassette.name)),
        }
    }
    table.print("passed through");
    assert!(table.failed.is_empty());
    assert!(table.rows.len() > 20);
}

#[test]
fn every_request_is_seen_and_spliced_in_place() {
    let Some(data) = vectors::data() else { return vectors::skipped("cassettes: splice") };
    let mut tried = 0;
    for cassette in cassettes(data) {
        let Some(request) = &cassette.request else { continue };
        let body = serde_json::to_vec_pretty(request).unwrap();
        let seen = peek(cassette.dialect, &body, &Limits::EMBEDDINGS);
        let seen = seen.unwrap_or_else(|error| panic!("{}: {error}", cassette.name));
        assert_eq!(Some(seen.model.as_str()), request["model"].as_str());
        assert_eq!(seen.stream, request["stream"] == true, "{}", cassette.name);
        assert_eq!(splice(cassette.dialect, &body, &Edits::default()).unwrap(), body);
        let edits = Edits {
            model: Some("other \"model\""),
            include_usage: true,
            max_output_tokens: Some(77),
            cap_name: CapName::MaxCompletionTokens,
        };
        let spliced: Value = serde_json::from_slice(&splice(cassette.dialect, &body, &edits).unwrap()).unwrap();
        let mut expected = request.clone();
        expected["model"] = "other \"model\"".into();
        if cassette.dialect == Dialect::OpenAiChat && seen.stream {
            if !expected["stream_options"].is_object() {
                expected["stream_options"] = serde_json::json!({});
            }
            expected["stream_options"]["include_usage"] = true.into();
        }
        if cassette.dialect != Dialect::OpenAiEmbeddings {
            let names = ["max_tokens", "max_completion_tokens"];
            let given: Vec<_> = names.iter().filter(|name| request.get(**name).is_some()).collect();
            for name in &given {
                expected[**name] = 77.into();
            }
            if given.is_empty() {
                expected["max_completion_tokens"] = 77.into();
            }
        }
        assert_eq!(spliced, expected, "{}", cassette.name);
        tried += 1;
    }
    eprintln!("requests spliced: {tried}");
    assert!(tried > 800);
}

/// Every text of a request, wherever it stands, and every call's id.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(members) if members.contains_key("reasoning_content") => {
            let mut rest = members.clone();
            let reasoning = rest.remove("reasoning_content").unwrap_or_default();
            // Unsigned reasoning of an OpenAI client is dropped; what the translator writes must be found.
            found.extend(reasoning.as_str().map(|text| format!("\u{0}{text}")));
            texts(&Value::Object(rest), found);
        }
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("reasoning_details", Value::Array(details)) => {
                        // Only what its maker signed is taken back.
                        let signed = details.iter().filter(|detail| detail["signature"].is_string());
                        signed.for_each(|detail| texts(detail, found));
                        found.retain(|text| !text.starts_with("reasoning-text-"));
                    }
                    (
                        "text" | "thinking" | "content" | "tool_call_id" | "tool_use_id" | "id" | "system",
                        Value::String(text),
                    ) => {
                        found.push(text.clone());
                    }
                    // Ids of stored files and names of providers' own tools are refused, not carried.
                    _ => texts(value, found),
                }
            }
        }
        _ => {}
    }
}

fn other(dialect: Dialect) -> Dialect {
    match dialect {
        Dialect::AnthropicMessages => Dialect::OpenAiChat,
        _ => Dialect::AnthropicMessages,
    }
}

#[test]
fn every_request_is_translated_or_refused_by_name() {
    let Some(data) = vectors::data() else { return vectors::skipped("cassettes: requests") };
    let mut table = Table::default();
    let mut refused = 0;
    for cassette in cassettes(data).into_iter().filter(|c| c.dialect != Dialect::OpenAiEmbeddings) {
        let Some(request) = &cassette.request else { continue };
        let options = Options { flavour: llm::Flavour::Thinking, ..Options::default() };
        let translation = Translation::new(cassette.dialect, other(cassette.dialect), options).unwrap();
        match translation.request(&serde_json::to_vec(request).unwrap(), &Edits::default()) {
            Ok(body) => {
                let translated: Value = serde_json::from_slice(&body).unwrap();
                let (mut before, mut after) = (Vec::new(), Vec::new());
                texts(&request["messages"], &mut before);
                texts(&request["system"], &mut before);
                texts(&translated, &mut after);
                let after = after.join("\n");
                before.retain(|text| !text.starts_with('\u{0}'));
                // Ids with characters Anthropic refuses are rewritten, calls and results alike.
                before.retain(|text| !text.starts_with("functions."));
                match before.iter().find(|text| !after.contains(text.as_str())) {
                    None => table.pass(&cassette.provider),
                    Some(text) => table.fail(&cassette.provider, format!("{}: lost {text:?}", cassette.name)),
                }
            }
            Err(error @ llm::RequestError::Unsupported { .. }) => {
                refused += 1;
                let param = error.param().unwrap_or("").replace(|c: char| c.is_ascii_digit(), "");
                *table.refused.entry(format!("{:?} {param}", cassette.dialect)).or_default() += 1;
            }
            // A provider may take what its API does not document; the recording shows whether it did.
            Err(_) if cassette.status >= 400 => table.pass(&cassette.provider),
            Err(error) => table.fail(&cassette.provider, format!("{}: {error}", cassette.name)),
        }
    }
    table.print(&format!("requests translated ({refused} refused by name)"));
    assert!(table.failed.is_empty());
}

fn translates(cassette: &Cassette) -> Result<(), String> {
    let client = other(cassette.dialect);
    let translation = Translation::new(client, cassette.dialect, Options::default()).unwrap();
    let text = String::from_utf8_lossy(&cassette.body);
    if cassette.status >= 400 {
        let error: Value = serde_json::from_slice(&translation.error(cassette.status, &cassette.body)).unwrap();
        let message = error["error"]["message"].as_str().unwrap_or("");
        let original: Value = serde_json::from_str(&text).unwrap_or_default();
        let inner = original.get("error").unwrap_or(&original);
        let expected = [&inner["message"], &inner["detail"], inner].into_iter().find_map(Value::as_str).unwrap_or("");
        let same = !expected.is_empty() && message.starts_with(&expected.chars().take(1500).collect::<String>());
        return if same { Ok(()) } else { Err(format!("{expected:?} became {message:?}")) };
    }
    let (original, translated) = if cassette.kind == "sse" {
        let whole = stream(&translation, &cassette.body, 1 << 20);
        for piece in [1, 5] {
            if stream(&translation, &cassette.body, piece) != whole {
                return Err(format!("another stream in pieces of {piece}"));
            }
        }
        if let Some(list) = unplaced(&whole) {
            return Err(format!("an entry of {list} has no index"));
        }
        let (original, translated) = match client {
            Dialect::AnthropicMessages => (compare::openai_stream(&text), compare::anthropic_stream(&whole)),
            _ => (compare::anthropic_stream(&text), compare::openai_stream(&whole)),
        };
        let spliced = text.matches(r#""type":"message_start""#).count() > 1 && translated.error.is_some();
        if spliced {
            // A second message spliced into the first is an error to Anthropic's own SDKs, too.
            return Ok(());
        }
        if original.error.is_some() || original.answers > 1 {
            // The error is passed on; what came before it may be half of anything.
            let expected = original.error.as_deref().unwrap_or("The provider sent several answers");
            let told = translated.error.as_deref().unwrap_or("");
            return if told.contains(expected) { Ok(()) } else { Err(format!("{:?} became {told:?}", original.error)) };
        }
        (original, translated)
    } else {
        let body: Value = serde_json::from_slice(&cassette.body).unwrap();
        let original =
            if client == Dialect::AnthropicMessages { compare::openai(&body) } else { compare::anthropic(&body) };
        let answer = match translation.response(&cassette.body) {
            Err(llm::ResponseError::ManyChoices) if original.answers > 1 => return Ok(()),
            other => other.map_err(|error| error.to_string())?,
        };
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        (
            original,
            if client == Dialect::AnthropicMessages { compare::anthropic(&body) } else { compare::openai(&body) },
        )
    };
    compare::difference(&original, &translated).map_or(Ok(()), Err)
}

/// A list in an OpenAI delta whose entries have no index: OpenAI's SDKs cannot put such a stream together.
fn unplaced(stream: &str) -> Option<String> {
    let payloads = compare::payloads(stream);
    let deltas = payloads.iter().filter_map(|chunk| chunk["choices"][0]["delta"].as_object());
    let mut lists = deltas.flatten().filter_map(|(name, value)| Some((name, value.as_array()?)));
    lists.find(|(_, list)| list.iter().any(|entry| !entry["index"].is_u64())).map(|(name, _)| name.clone())
}

fn stream(translation: &Translation, body: &[u8], piece: usize) -> String {
    let mut stream = translation.stream(true);
    let mut out = Vec::new();
    for chunk in body.chunks(piece) {
        out.extend(stream.feed(chunk));
    }
    out.extend(stream.finish(true));
    String::from_utf8(out).unwrap()
}

#[test]
fn every_answer_says_the_same_in_the_other_dialect() {
    let Some(data) = vectors::data() else { return vectors::skipped("cassettes: answers") };
    let mut table = Table::default();
    for cassette in cassettes(data).iter().filter(|c| c.dialect != Dialect::OpenAiEmbeddings) {
        let of = format!("{} {}", cassette.provider, if cassette.kind == "sse" { "stream" } else { "json" });
        match translates(cassette) {
            Ok(()) => table.pass(&of),
            Err(why) => table.fail(&of, format!("{}: {why}", cassette.name)),
        }
    }
    table.print("answers translated");
    assert!(table.failed.is_empty());
}

#[test]
fn a_stream_cut_anywhere_is_never_a_clean_end() {
    let Some(data) = vectors::data() else { return vectors::skipped("cassettes: cuts") };
    let mut tried = 0;
    for cassette in cassettes(data).iter().filter(|c| c.kind == "sse" && c.status == 200) {
        // One recording has a second message spliced in, which is an error of its own.
        if cassette.name == "anthropic/de16fe5e4ec4" {
            continue;
        }
        let terminal: &[u8] =
            if cassette.dialect == Dialect::AnthropicMessages { b"message_stop" } else { b"finish_reason\":\"" };
        let first = cassette.body.windows(terminal.len()).position(|window| window == terminal);
        let Some(end) = first else { continue };
        let several = compare::openai_stream(&String::from_utf8_lossy(&cassette.body)).answers > 1;
        if several {
            continue;
        }
        let translation = Translation::new(other(cassette.dialect), cassette.dialect, Options::default()).unwrap();
        for at in [1, end / 3, end / 2, end.saturating_sub(30)] {
            let cut = &cassette.body[..at];
            for clean in [true, false] {
                let mut tap = StreamTap::new(cassette.dialect, at % 2 == 0);
                tap.feed(&Bytes::copy_from_slice(cut));
                let last = String::from_utf8(tap.finish(clean)).unwrap();
                assert_eq!(*tap.outcome(), Outcome::Cut, "{} at {at}", cassette.name);
                assert!(last.contains("\"error\""), "{} at {at}", cassette.name);
                let mut stream = translation.stream(true);
                stream.feed(cut);
                let last = String::from_utf8(stream.finish(clean)).unwrap();
                assert_eq!(*stream.outcome(), Outcome::Cut, "{} at {at}", cassette.name);
                assert!(last.contains("\"error\"") && !last.contains("[DONE]"), "{} at {at}", cassette.name);
                tried += 1;
            }
        }
    }
    eprintln!("cuts: {tried}");
    assert!(tried > 1000);
}
