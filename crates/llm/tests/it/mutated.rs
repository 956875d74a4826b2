//! Every recorded stream as another server might frame it: other line ends, comments, no space after the colon, fields nobody
//! asked for, a byte order mark, headers in another order, and pieces of every odd size. It must mean the same.
#![allow(clippy::print_stderr, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use llm::passthrough::StreamTap;
use llm::{Dialect, EventStreamDecoder, Framing, Options, Outcome, Translation, Usage, event_stream_message};
use serde_json::Value;

struct Stream {
    name: String,
    dialect: Dialect,
    framing: Framing,
    body: Vec<u8>,
}

fn streams(data: &Path) -> Vec<Stream> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(data.join("cassettes")).unwrap().flatten() {
        for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(file.path()).unwrap();
            let Ok(recorded) = serde_json::from_str::<Value>(&text) else { continue };
            let answer = &recorded["response_body"];
            let dialect = match recorded["endpoint"].as_str().unwrap_or_default() {
                "chat.completions" => Dialect::OpenAiChat,
                "responses" => Dialect::OpenAiResponses,
                "messages" => Dialect::AnthropicMessages,
                "generateContent.stream" => Dialect::Gemini,
                "cohere.chat.v2" => Dialect::CohereChat,
                "ollama.chat" => Dialect::OllamaChat,
                "converse-stream" => Dialect::BedrockConverse,
                _ => continue,
            };
            let text = || answer["text"].as_str().unwrap().as_bytes().to_vec();
            let (framing, body) = match answer["kind"].as_str() {
                Some("sse") => (Framing::Sse, text()),
                Some("ndjson") => (Framing::Lines, text()),
                Some("base64") => (Framing::EventStream, STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()),
                _ => continue,
            };
            if recorded["status"] == 200 {
                let name = format!("{}/{}", recorded["provider"], recorded["id"]);
                found.push(Stream { name, dialect, framing, body });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

type Mutation = (&'static str, fn(&str) -> String);

/// A stream's body in another form.
type Mutated = (&'static str, Vec<u8>);

/// The lines of a stream without their ends; a stream ends with an empty one if its last event is whole.
fn lines(stream: &str) -> Vec<String> {
    let text = stream.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    text.split('\n').map(str::to_owned).collect()
}

fn each_line(stream: &str, change: impl FnMut(&String) -> String) -> String {
    lines(stream).iter().map(change).collect::<Vec<_>>().join("\n")
}

const MUTATIONS: &[Mutation] = &[
    ("line feeds", |stream| lines(stream).join("\n")),
    ("carriage returns and line feeds", |stream| lines(stream).join("\r\n")),
    ("carriage returns", |stream| lines(stream).join("\r")),
    ("line ends mixed", |stream| {
        let ends = ["\r\n", "\n", "\r\n", "\r\n", "\n"];
        let numbered = lines(stream).into_iter().enumerate();
        numbered.flat_map(|(at, line)| [line, ends[at % ends.len()].to_owned()]).collect()
    }),
    ("comments", |stream| {
        each_line(
            stream,
            |line| if line.is_empty() { "\n: still here\n".to_owned() } else { format!(": {line}\n{line}") },
        )
    }),
    ("no space", |stream| {
        each_line(stream, |line| match line.split_once(": ") {
            Some((field @ ("data" | "event"), rest)) => format!("{field}:{rest}"),
            _ => line.clone(),
        })
    }),
    ("other fields", |stream| {
        each_line(stream, |line| {
            if line.starts_with("data") { format!("id: 7\nretry: 1000\ndatum\n{line}\nid") } else { line.clone() }
        })
    }),
    ("byte order mark", |stream| format!("\u{feff}{}", lines(stream).join("\n"))),
];

/// Of one JSON text a line.
const LINES: &[Mutation] = &[
    ("line feeds", |stream| lines(stream).join("\n")),
    ("carriage returns and line feeds", |stream| lines(stream).join("\r\n")),
    ("empty lines", |stream| lines(stream).join("\n\n\n")),
    ("spaces", |stream| each_line(stream, |line| if line.is_empty() { String::new() } else { format!(" {line}\t ") })),
];

/// Texts by their names.
type Headers<'a> = Vec<(&'a str, &'a str)>;

/// The same messages of an event stream, each with its headers written by `headers`.
fn reframed(stream: &[u8], headers: for<'a> fn(Headers<'a>) -> Headers<'a>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut decoder = EventStreamDecoder::new(1 << 20);
    let read = decoder.messages(stream, |message, _| {
        let named = message.headers.iter().filter_map(|(name, _)| Some((name.as_str(), message.text(name)?)));
        out.extend(event_stream_message(&headers(named.collect()), &message.payload));
        Ok(())
    });
    assert_eq!(read, Ok(()));
    out
}

/// A stream in every other form of its framing.
fn mutations(stream: &Stream) -> Vec<Mutated> {
    let texts = |mutations: &[Mutation]| {
        let text = String::from_utf8(stream.body.clone()).unwrap();
        mutations.iter().map(|(name, mutate)| (*name, mutate(&text).into_bytes())).collect()
    };
    match stream.framing {
        Framing::Sse => texts(MUTATIONS),
        Framing::Lines => texts(LINES),
        Framing::EventStream => vec![
            ("as it is", stream.body.clone()),
            ("headers the other way round", reframed(&stream.body, |headers| headers.into_iter().rev().collect())),
            ("more headers", reframed(&stream.body, |headers| [headers, vec![(":new", "x"), ("other", "")]].concat())),
        ],
    }
}

/// What a client of another dialect is told, and what it came to.
fn translated((translation, framing): (&Translation, Framing), stream: &[u8], piece: usize) -> (String, Outcome) {
    let mut translated = translation.framed_stream(framing, true);
    let mut out = Vec::new();
    for chunk in stream.chunks(piece) {
        out.extend(translated.feed(chunk));
    }
    out.extend(translated.finish(true));
    (String::from_utf8(out).unwrap(), translated.outcome().clone())
}

/// What passes to a client of the same dialect, what it came to, and what was seen to be used.
fn passed(spoken: (Dialect, Framing), stream: &[u8], piece: usize) -> (Vec<u8>, Outcome, Usage) {
    let mut tap = StreamTap::framed(spoken, false);
    let mut out = Vec::new();
    for chunk in stream.chunks(piece) {
        out.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(chunk)));
    }
    out.extend(tap.finish(true));
    (out, tap.outcome().clone(), tap.usage())
}

/// Comments are a sign of life: each client has them in its own way, and they mean nothing else.
fn without_signs_of_life(stream: &str) -> String {
    let event = |event: &&str| !event.starts_with(':') && !event.starts_with("event: ping");
    stream.split("\n\n").filter(event).collect::<Vec<_>>().join("\n\n")
}

#[test]
fn a_stream_means_the_same_however_it_is_framed_and_cut() {
    let Some(data) = vectors::data() else { return vectors::skipped("mutated streams") };
    let clients = [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages, Dialect::Gemini];
    let (mut tried, mut failed) = (0, Vec::new());
    let mut seen_dialects = BTreeMap::new();
    for (at, stream) in streams(data).iter().enumerate() {
        *seen_dialects.entry(stream.dialect.as_str()).or_insert(0) += 1;
        let (dialect, framing) = (stream.dialect, stream.framing);
        let translation = |client| Translation::new(client, dialect, Options::default()).unwrap();
        let others = clients.into_iter().filter(|client| *client != dialect);
        let original = |client| translated((&translation(client), framing), &stream.body, usize::MAX);
        let originals: Vec<_> = others.map(|client| (client, original(client))).collect();
        let (_, outcome, usage) = passed((dialect, framing), &stream.body, usize::MAX);
        for (number, (mutation, mutated)) in mutations(stream).into_iter().enumerate() {
            // Over all recordings and mutations, every odd size up to 127.
            let odd = 1 + 2 * ((at * MUTATIONS.len() + number) % 64);
            for piece in [usize::MAX, odd] {
                tried += 1;
                let seen = passed((dialect, framing), &mutated, piece);
                if seen != (mutated.clone(), outcome.clone(), usage) {
                    failed.push(format!("{} {mutation} by {piece}: passed on otherwise: {:?}", stream.name, seen.1));
                }
                for (client, original) in &originals {
                    let told = translated((&translation(*client), framing), &mutated, piece);
                    let same = without_signs_of_life(&told.0) == without_signs_of_life(&original.0);
                    if !same || told.1 != original.1 {
                        failed.push(format!("{} {mutation} by {piece} for {client:?}: {:?}", stream.name, told.1));
                    }
                }
            }
        }
    }
    eprintln!("{seen_dialects:?}");
    eprintln!("streams framed otherwise: {tried}, failed: {}", failed.len());
    assert!(failed.is_empty(), "{:#?}", &failed[..failed.len().min(20)]);
    assert!(tried >= 5000, "{tried}");
    assert_eq!(seen_dialects.len(), 7, "{seen_dialects:?}");
}
