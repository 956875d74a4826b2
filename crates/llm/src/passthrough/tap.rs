//! Watching a stream go by.

use std::mem;

use bytes::Bytes;

use super::said::Said;
use crate::codec::frames::{Frames, Framing};
use crate::codec::sse::SseEvent;
use crate::dialect::{Failure, framed_error_event, openai_responses};
use crate::json::{Limits, Node, node};
use crate::model::Usage;
use crate::provider::usage::{AnthropicUsage, bedrock, cohere, gemini, ollama, openai};
use crate::translate::Outcome;
use crate::{Dialect, provider};

/// Most answers of one stream that are watched.
const ANSWERS: usize = 256;

/// Forwards a provider's stream to a caller of the same dialect, unchanged, and watches: usage, errors, the end.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent observations
pub struct StreamTap {
    dialect: Dialect,
    /// Events of speech, transcription and images, which say by their type what they are.
    media: bool,
    strip_usage: bool,
    framing: Framing,
    frames: Frames,
    /// The start of an event that is not whole yet.
    held: Vec<u8>,
    /// The last event ended in a CR at the end of a chunk; whether it was forwarded.
    split_end: Option<bool>,
    usage: Usage,
    anthropic: AnthropicUsage,
    outcome: Outcome,
    /// OpenAI: answers that have not ended, by index; the stream may close without `[DONE]` once there are none.
    running: Vec<u64>,
    finished: bool,
    ended: bool,
    /// Responses: the number of the next event.
    sequence: u64,
    said: Said,
}

/// What of a chunk goes out: without a copy unless something before it was held or something in it is taken out.
struct Passed {
    /// What was held of the first event.
    before: Vec<u8>,
    /// What goes out begins here,
    from: usize,
    /// and ends here.
    through: usize,
    /// What goes out where it is not that one piece.
    copied: Option<Vec<u8>>,
}

impl Passed {
    /// An event ends: `held` before this chunk, `end` in it.
    fn event(&mut self, chunk: &Bytes, (held, end): (Vec<u8>, usize), drop: bool) {
        let piece = |from: usize, to: usize| chunk.get(from..to).unwrap_or_default();
        match (&mut self.copied, drop) {
            (None, true) => self.copied = Some(piece(self.from, self.through).to_vec()),
            (Some(copied), false) => {
                copied.extend(held);
                copied.extend_from_slice(piece(self.through, end));
            }
            (None, false) if !held.is_empty() => self.before = held,
            _ => {}
        }
        self.through = end;
    }

    fn finish(mut self, chunk: &Bytes) -> Bytes {
        match self.copied {
            None if self.before.is_empty() => chunk.slice(self.from.min(self.through)..self.through),
            None => {
                self.before.extend_from_slice(chunk.get(self.from..self.through).unwrap_or_default());
                Bytes::from(self.before)
            }
            Some(copied) => {
                self.before.extend(copied);
                Bytes::from(self.before)
            }
        }
    }
}

impl StreamTap {
    /// Watch a stream. `strip_usage`: the caller asked for no usage chunk ([`super::Edits::include_usage`] did), so
    /// the chunk that holds nothing else is taken out.
    pub fn new(dialect: Dialect, strip_usage: bool) -> Self {
        Self::framed((dialect, dialect.framing()), strip_usage)
    }

    /// The same for a stream whose framing is not the dialect's usual one.
    pub fn framed((dialect, framing): (Dialect, Framing), strip_usage: bool) -> Self {
        Self {
            dialect,
            media: false,
            strip_usage: strip_usage && dialect == Dialect::OpenAiChat,
            framing,
            frames: Frames::new(framing),
            held: Vec::new(),
            split_end: None,
            usage: Usage::default(),
            anthropic: AnthropicUsage::default(),
            outcome: Outcome::Open,
            running: Vec::new(),
            finished: false,
            ended: false,
            sequence: 0,
            said: Said::default(),
        }
    }

    /// Watch a stream of speech, a transcription or pictures (OpenAI's `speech.audio.*`, `transcript.text.*`,
    /// `image_generation.*`, `image_edit.*`).
    pub fn media() -> Self {
        Self { media: true, ..Self::new(Dialect::OpenAiChat, false) }
    }

    /// Take bytes from the provider; what comes back goes to the caller now: every event as soon as it is whole, so
    /// that one that is cut in its middle can be left out and the error that follows be read.
    pub fn feed(&mut self, chunk: &Bytes) -> Bytes {
        if chunk.is_empty() || matches!(self.outcome, Outcome::Garbage) {
            return Bytes::new();
        }
        let mut frames = mem::replace(&mut self.frames, Frames::new(self.framing));
        let mut passed = Passed { before: Vec::new(), from: 0, through: 0, copied: None };
        // The second half of a CRLF goes where the event went that the first half ended.
        if let Some(was_kept) = self.split_end.take().filter(|_| chunk.first() == Some(&b'\n')) {
            passed.through = 1;
            passed.from = usize::from(!was_kept);
        }
        let result = frames.feed(chunk, |event, end| {
            let drop = self.watch(&event) && self.strip_usage;
            let held = mem::take(&mut self.held);
            passed.event(chunk, (held, end), drop);
            let split = end == chunk.len() && chunk.last() == Some(&b'\r');
            self.split_end = split.then_some(!drop);
        });
        if result.is_err() {
            self.outcome = Outcome::Garbage;
            self.held.clear();
            let mut out = passed.finish(chunk).to_vec();
            out.extend(self.error_event());
            return Bytes::from(out);
        }
        if frames.is_between_events() {
            // Empty lines that belong to no event are signs of life.
            let held = mem::take(&mut self.held);
            passed.event(chunk, (held, chunk.len()), false);
        } else {
            self.held.extend_from_slice(chunk.get(passed.through..).unwrap_or_default());
        }
        self.frames = frames;
        passed.finish(chunk)
    }

    /// The provider's stream has ended, `clean`ly or broken off. What comes back goes to the caller last: nothing
    /// after a complete answer, an error event after one that was cut.
    pub fn finish(&mut self, clean: bool) -> Vec<u8> {
        if clean && self.outcome == Outcome::Open {
            let last = self.frames.finish().filter(provider::is_whole);
            if last.is_some_and(|event| self.watch(&event)) && self.strip_usage {
                self.held.clear();
            }
        }
        let settled = self.ended || (clean && self.finished && self.running.is_empty());
        match self.outcome {
            Outcome::Open if settled => {
                self.outcome = Outcome::Complete;
                mem::take(&mut self.held)
            }
            Outcome::Open => {
                self.outcome = Outcome::Cut;
                self.held.clear();
                self.error_event()
            }
            _ => mem::take(&mut self.held),
        }
    }

    /// The stream is to end here, whatever the provider would still say. What comes back goes to the caller last: an error
    /// event, unless the answer is complete.
    pub fn interrupt(&mut self, failure: &Failure) -> Vec<u8> {
        if self.outcome != Outcome::Open || self.ended {
            return self.finish(false);
        }
        self.outcome = Outcome::Cut;
        self.held.clear();
        self.told(failure)
    }

    /// What the stream has come to.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Usage seen so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What has been said so far.
    pub fn said(&self) -> Said {
        self.said
    }

    /// Whether the terminal event has gone by.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Look at one event; says whether it is a usage chunk and nothing else.
    fn watch(&mut self, event: &SseEvent) -> bool {
        if event.comment {
            return false;
        }
        if event.data.trim() == "[DONE]" {
            self.ended = true;
            return false;
        }
        let Ok(data) = node(&event.data, &Limits::RESPONSE) else {
            // The terminal event is one also where its JSON is not right: the caller gets it as it is.
            let kinds = [r#"{"type":"response.completed""#, r#"{"type":"response.incomplete""#];
            let ends = kinds.iter().any(|kind| event.data.starts_with(kind));
            self.ended |= self.dialect == Dialect::OpenAiResponses && ends;
            return false;
        };
        self.said.hear(&data);
        let usage_only = match self.dialect {
            _ if self.media => self.watch_media(&data),
            Dialect::AnthropicMessages => self.watch_anthropic(&data),
            Dialect::Gemini => self.watch_gemini(&data),
            Dialect::BedrockConverse | Dialect::BedrockInvoke => return self.watch_bedrock(&event.event, &data),
            Dialect::OpenAiResponses => self.watch_responses(&data),
            Dialect::CohereChat | Dialect::CohereChatV1 => self.watch_cohere(&data),
            Dialect::OllamaChat => self.watch_ollama(&data),
            _ => self.watch_openai(&data),
        };
        if event.event == "error" || data.get("error").is_some() {
            let error = provider::error_of(&data);
            if matches!(self.outcome, Outcome::Open) {
                self.outcome = Outcome::Failed(error);
            }
            return false;
        }
        usage_only
    }

    fn watch_anthropic(&mut self, data: &Node<'_>) -> bool {
        let usage = data.get("usage").or_else(|| data.get("message")?.get("usage"));
        if let Some(usage) = usage {
            self.anthropic.take(usage);
            self.usage = self.anthropic.usage();
        }
        self.ended |= data.text_of("type").is_some_and(|kind| kind == "message_stop");
        false
    }

    fn watch_media(&mut self, data: &Node<'_>) -> bool {
        if let Some(usage) = data.get("usage") {
            self.usage.merge(&super::direct::told(usage));
        }
        let kind = data.text_of("type").unwrap_or_default();
        let made = matches!(kind.as_ref(), "image_generation.completed" | "image_edit.completed");
        if made {
            self.usage.images = Some(self.usage.images.unwrap_or(0).saturating_add(1));
        }
        // Each picture has its own end.
        self.finished |= made;
        self.ended |= matches!(kind.as_ref(), "transcript.text.done" | "speech.audio.done" | "transcription.done");
        false
    }

    fn watch_gemini(&mut self, data: &Node<'_>) -> bool {
        if let Some(usage) = data.get("usageMetadata") {
            self.usage.merge(&gemini(usage));
        }
        let candidates = data.get("candidates").map(Node::items).unwrap_or_default();
        for candidate in candidates {
            let index = candidate.get("index").and_then(Node::whole).unwrap_or(0);
            self.answer(index, provider::gemini::has_ended(candidate));
        }
        let blocked = data.get("promptFeedback").is_some_and(|feedback| feedback.get("blockReason").is_some());
        self.finished |= blocked && candidates.is_empty();
        false
    }

    fn watch_bedrock(&mut self, event: &str, data: &Node<'_>) -> bool {
        let (name, data) = provider::bedrock::named(event, data);
        if let Some(error) = provider::bedrock::failure(name, data) {
            if matches!(self.outcome, Outcome::Open) {
                self.outcome = Outcome::Failed(error);
            }
        } else if name == "chunk" {
            self.watch_chunk(data);
        } else if name == "messageStop" {
            self.finished = true;
        } else if let Some(usage) = data.get("usage").filter(|_| name == "metadata") {
            self.usage.merge(&bedrock(usage));
            // It is the last event, except where somebody else answers in Amazon's place.
            self.ended |= self.finished;
        }
        false
    }

    /// Cohere's last event: `message-end` in v2, `stream-end` in v1.
    fn watch_cohere(&mut self, data: &Node<'_>) -> bool {
        let last = if data.text_of("type").as_deref() == Some("message-end") {
            data.get("delta")
        } else {
            data.get("response").filter(|_| data.text_of("event_type").as_deref() == Some("stream-end"))
        };
        if let Some(last) = last {
            self.ended = true;
            if let Some(usage) = last.get("usage").or_else(|| last.get("meta")) {
                self.usage.merge(&cohere(usage));
            }
            if matches!(last.text_of("finish_reason").as_deref(), Some("ERROR" | "TIMEOUT")) {
                self.outcome = Outcome::Failed(provider::error_of(last));
            }
        }
        false
    }

    /// A piece of an answer in the form of the model's maker: the last one tells the tokens, whoever made the model.
    fn watch_chunk(&mut self, data: &Node<'_>) {
        use base64::Engine as _;
        let bytes = data.text_of("bytes").map(|text| base64::engine::general_purpose::STANDARD.decode(text.as_bytes()));
        let Some(text) = bytes.and_then(Result::ok).and_then(|bytes| String::from_utf8(bytes).ok()) else { return };
        let Ok(inner) = node(&text, &Limits::RESPONSE) else { return };
        if let Some(metrics) = inner.get("amazon-bedrock-invocationMetrics") {
            self.usage.merge(&bedrock(metrics));
            self.ended = true;
        }
    }

    fn watch_ollama(&mut self, data: &Node<'_>) -> bool {
        if data.get("done").and_then(Node::boolean) == Some(true) {
            self.ended = true;
            self.usage.merge(&ollama(data));
        }
        false
    }

    /// A piece of an answer, the last or not.
    fn answer(&mut self, index: u64, ended: bool) {
        if ended {
            self.finished = true;
            self.running.retain(|running| *running != index);
        } else if !self.finished && !self.running.contains(&index) && self.running.len() < ANSWERS {
            self.running.push(index);
        }
    }

    /// The terminal events hold the whole response, with its usage.
    fn watch_responses(&mut self, data: &Node<'_>) -> bool {
        self.sequence =
            data.get("sequence_number").and_then(Node::whole).map_or(self.sequence, |n| n.saturating_add(1));
        let kind = data.text_of("type").unwrap_or_default();
        let response = data.get("response");
        if let Some(usage) = response.and_then(|response| response.get("usage")) {
            self.usage.merge(&openai(usage));
        }
        match kind.as_ref() {
            "response.completed" | "response.incomplete" => self.ended = true,
            "response.failed" | "response.cancelled" => {
                self.ended = true;
                if self.outcome == Outcome::Open {
                    self.outcome = Outcome::Failed(provider::error_of(response.unwrap_or(data)));
                }
            }
            // Without a member `error`, as its documentation has it.
            "error" if data.get("error").is_none() && self.outcome == Outcome::Open => {
                self.outcome = Outcome::Failed(provider::error_of(data));
            }
            _ => {}
        }
        false
    }

    fn watch_openai(&mut self, data: &Node<'_>) -> bool {
        let usage = data.get("usage").or_else(|| data.get("x_groq")?.get("usage"));
        if let Some(usage) = usage {
            self.usage.merge(&openai(usage));
        }
        let choices = data.get("choices").map(Node::items).unwrap_or_default();
        for choice in choices {
            let index = choice.get("index").and_then(Node::whole).unwrap_or(0);
            self.answer(index, choice.text_of("finish_reason").is_some_and(|reason| !reason.is_empty()));
        }
        data.get("usage").is_some() && data.get("choices").is_some() && choices.is_empty()
    }

    fn error_event(&self) -> Vec<u8> {
        let failure = if matches!(self.outcome, Outcome::Garbage) { Failure::garbage() } else { Failure::cut() };
        self.told(&failure)
    }

    fn told(&self, failure: &Failure) -> Vec<u8> {
        match self.dialect {
            Dialect::OpenAiResponses => openai_responses::error_event(failure, self.sequence),
            dialect => framed_error_event(dialect, self.framing, failure),
        }
    }
}
