//! What the targets of the `llm` crate do with their input. Included by the targets and by a test of the crate.

use bytes::Bytes;
use llm::bound::{Brought, counted};
use llm::passthrough::{
    CapName, Edits, Form, StreamTap, media_usage, models, peek, peek_completions, peek_response, splice,
};
use llm::tokens::{Counter, Vocabulary};
use llm::{Dialect, Framing, Limits, Options, Outcome, SseDecoder, SseEvent, Translation};

/// What a target does with its input.
type Entry = fn(&[u8]);

/// Every target: its name, and what it does.
pub(crate) const ENTRIES: &[(&str, Entry)] = &[
    ("json", json),
    ("tokens", tokens),
    ("sse", sse),
    ("stream_lines", |data| stream(Dialect::OpenAiChat, Framing::Lines, data)),
    ("stream_event_stream", |data| stream(Dialect::BedrockInvoke, Framing::EventStream, data)),
    ("form", form),
    ("completions", completions),
    ("stream_bedrock", |data| stream(Dialect::BedrockConverse, Framing::EventStream, data)),
    ("stream_bedrock_lines", |data| stream(Dialect::BedrockConverse, Framing::Lines, data)),
    ("response_bedrock", |data| response(Dialect::BedrockConverse, data)),
    ("stream_openai_chat", |data| stream(Dialect::OpenAiChat, Framing::Sse, data)),
    ("stream_anthropic", |data| stream(Dialect::AnthropicMessages, Framing::Sse, data)),
    ("stream_gemini", |data| stream(Dialect::Gemini, Framing::Sse, data)),
    ("request_openai_chat", |data| request(Dialect::OpenAiChat, data)),
    ("request_anthropic", |data| request(Dialect::AnthropicMessages, data)),
    ("request_gemini", |data| request(Dialect::Gemini, data)),
    ("request_embeddings", |data| request(Dialect::OpenAiEmbeddings, data)),
    ("response_openai_chat", |data| response(Dialect::OpenAiChat, data)),
    ("response_anthropic", |data| response(Dialect::AnthropicMessages, data)),
    ("response_gemini", |data| response(Dialect::Gemini, data)),
    ("response_embeddings", |data| response(Dialect::OpenAiEmbeddings, data)),
    ("request_responses", |data| request(Dialect::OpenAiResponses, data)),
    ("response_responses", |data| response(Dialect::OpenAiResponses, data)),
    ("stream_responses", |data| stream(Dialect::OpenAiResponses, Framing::Sse, data)),
    ("request_cohere", |data| {
        request(Dialect::CohereChat, data);
        request(Dialect::CohereEmbed, data);
    }),
    ("request_cohere_v1", |data| request(Dialect::CohereChatV1, data)),
    ("response_cohere", |data| response(Dialect::CohereChat, data)),
    ("stream_cohere", |data| stream(Dialect::CohereChat, Framing::Sse, data)),
    ("stream_cohere_v1", |data| stream(Dialect::CohereChatV1, Framing::Lines, data)),
    ("request_ollama", |data| request(Dialect::OllamaChat, data)),
    ("response_ollama", |data| response(Dialect::OllamaChat, data)),
    ("stream_ollama", |data| stream(Dialect::OllamaChat, Framing::Lines, data)),
    ("request_bedrock", |data| request(Dialect::BedrockConverse, data)),
    ("request_bedrock_invoke", |data| request(Dialect::BedrockInvoke, data)),
];

/// No text has more tokens than bytes, and no request more than its bytes bound.
fn tokens(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for vocabulary in [Vocabulary::O200k, Vocabulary::Cl100k] {
        let tokens = Counter::new(vocabulary).count(&text);
        assert!(tokens <= text.len() as u64 && (tokens == 0) == text.is_empty(), "{tokens} tokens");
        let (Some(brought), Some(texts)) = (Brought::of(data), counted(data, vocabulary)) else { continue };
        for model in ["gpt-5", "gpt-4o-mini"] {
            assert!(brought.tokens_as_counted(texts, model, None) <= brought.tokens(model, None), "{texts} in texts");
        }
    }
}

/// What clients speak.
const CLIENTS: [Dialect; 4] =
    [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages, Dialect::Gemini];

/// What providers speak.
const PROVIDERS: [Dialect; 7] = [
    Dialect::OpenAiChat,
    Dialect::OpenAiResponses,
    Dialect::AnthropicMessages,
    Dialect::Gemini,
    Dialect::CohereChat,
    Dialect::OllamaChat,
    Dialect::BedrockConverse,
];

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(bytes).is_ok()
}

/// What the strict parser takes as an object is one for the common parser too, but for numbers beyond what that holds.
fn json(data: &[u8]) {
    let _ = models(data, &Limits::REQUEST);
    let _ = llm::read_json(data, &Limits::REQUEST);
    if llm::check_json(data, &Limits::REQUEST).is_ok()
        && let Err(error) = serde_json::from_slice::<serde_json::Value>(data)
    {
        let told = error.to_string();
        assert!(told.contains("out of range") || told.contains("surrogate") || told.contains("escape"), "{told}");
    }
}

/// What is accepted can be read again with another model in it. The boundary is `b`.
fn form(data: &[u8]) {
    const KIND: &[u8] = b"multipart/form-data; boundary=b";
    if let Ok(form) = Form::read(KIND, data)
        && let Some(changed) = form.with_model(data, "other")
    {
        assert_eq!(
            Form::read(KIND, &changed).map(|form| form.model().map(str::to_owned)),
            Ok(Some("other".to_owned()))
        );
    }
}

/// As it is looked at and changed on its way.
fn completions(data: &[u8]) {
    let _ = peek_completions(data, &Limits::REQUEST);
    let _ = media_usage(data);
}

/// Other pieces give the same events.
fn sse(data: &[u8]) {
    let events = |size: usize| {
        let mut decoder = SseDecoder::new(1 << 16);
        let mut events: Vec<SseEvent> = Vec::new();
        let failed = data.chunks(size).any(|piece| decoder.feed(piece, |event, _| events.push(event)).is_err());
        (events, failed)
    };
    let whole = events(data.len().max(1));
    for size in [1, 3] {
        assert_eq!(events(size), whole, "in pieces of {size}");
    }
}

/// The events among what is passed on.
fn events(framing: Framing, passed: &[u8]) -> Vec<Vec<u8>> {
    match framing {
        Framing::Sse => {
            let mut events = Vec::new();
            let _ = SseDecoder::default().feed(passed, |event, _| events.push(event.data.into_bytes()));
            events.retain(|data: &Vec<u8>| !data.is_empty());
            events
        }
        Framing::Lines => passed
            .split(|byte| *byte == b'\n')
            .map(|line| line.trim_ascii().to_vec())
            .filter(|line| !line.is_empty())
            .collect(),
        Framing::EventStream => vec![passed.to_vec()],
    }
}

/// A stream passes on or is translated the same in other pieces, and what its client gets is never the bare end of it.
fn stream(dialect: Dialect, framing: Framing, data: &[u8]) {
    let passed = |size: usize| {
        let mut tap = StreamTap::framed((dialect, framing), true);
        let mut out = Vec::new();
        for piece in data.chunks(size) {
            out.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(piece)));
        }
        out.extend(tap.finish(true));
        // Of a stream that is cut, what stands between its last event and the cut may be on its way or not; of any, what is
        // no event.
        let out = (*tap.outcome() == Outcome::Complete).then(|| events(framing, &out));
        (out, tap.outcome().clone(), tap.usage())
    };
    let whole = passed(data.len().max(1));
    assert_eq!(passed(1), whole);
    if framing != dialect.framing() {
        return;
    }
    for client in CLIENTS {
        let Some(translation) = Translation::new(client, dialect, Options::default()) else { continue };
        let told = |size: usize| {
            let mut stream = translation.stream(true);
            let mut out = Vec::new();
            for piece in data.chunks(size) {
                out.extend(stream.feed(piece));
            }
            out.extend(stream.finish(true));
            (out, stream.outcome().clone())
        };
        let whole = told(data.len().max(1));
        assert_eq!(told(1), whole, "{client:?}");
        assert!(std::str::from_utf8(&whole.0).is_ok(), "{client:?}");
    }
}

/// What is accepted can be read again after it was edited, and what is translated is a request of the other dialect.
fn request(dialect: Dialect, data: &[u8]) {
    if peek(dialect, data, &Limits::REQUEST).is_err() {
        return;
    }
    let edits =
        Edits { model: Some("other"), include_usage: true, max_output_tokens: Some(7), cap_name: CapName::default() };
    if let Ok(spliced) = splice(dialect, data, &edits) {
        let seen = peek(dialect, &spliced, &Limits::REQUEST);
        let seen = seen.unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&spliced)));
        // Of some dialects the path names it.
        let in_path = matches!(dialect, Dialect::Gemini | Dialect::BedrockConverse | Dialect::BedrockInvoke);
        // Cohere takes requests that name none; nobody sets it there.
        let optional = matches!(dialect, Dialect::CohereChat | Dialect::CohereChatV1 | Dialect::CohereEmbed);
        assert!(in_path || seen.model == "other" || (optional && seen.model.is_empty()));
    }
    for provider in PROVIDERS {
        let Some(translation) = Translation::new(dialect, provider, Options::default()) else { continue };
        if let Ok(translated) = translation.request(data, &Edits { model: Some("other"), ..Edits::default() }) {
            let seen = peek(provider, &translated, &Limits::REQUEST);
            assert!(seen.is_ok(), "{seen:?} in {}", String::from_utf8_lossy(&translated));
        }
    }
}

/// What is translated is JSON.
fn response(dialect: Dialect, data: &[u8]) {
    let _ = peek_response(dialect, data);
    for client in CLIENTS {
        let Some(translation) = Translation::new(client, dialect, Options::default()) else { continue };
        if let Ok(answer) = translation.response(data) {
            assert!(is_json(&answer.body), "{}", String::from_utf8_lossy(&answer.body));
        }
        assert!(is_json(&translation.error(500, data)));
    }
}
