//! Watching a stream go by.

use std::mem;

use bytes::Bytes;

use crate::codec::sse::{SseDecoder, SseEvent};
use crate::dialect::{Failure, stream_error_event};
use crate::json::{Limits, Node, node};
use crate::model::Usage;
use crate::provider::usage::{AnthropicUsage, openai};
use crate::translate::Outcome;
use crate::{Dialect, provider};

/// Most answers of one stream that are watched.
const ANSWERS: usize = 256;

/// Forwards a provider's stream to a caller of the same dialect, unchanged, and watches: usage, errors, the end.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent observations
pub struct StreamTap {
    dialect: Dialect,
    strip_usage: bool,
    sse: SseDecoder,
    /// The start of an event that may have to be taken out; only with `strip_usage`.
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
    partial: bool,
}

impl StreamTap {
    /// Watch a stream. `strip_usage`: the caller asked for no usage chunk ([`super::Edits::include_usage`] did), so
    /// the chunk that holds nothing else is taken out.
    pub fn new(dialect: Dialect, strip_usage: bool) -> Self {
        Self {
            dialect,
            strip_usage: strip_usage && dialect == Dialect::OpenAiChat,
            sse: SseDecoder::default(),
            held: Vec::new(),
            split_end: None,
            usage: Usage::default(),
            anthropic: AnthropicUsage::default(),
            outcome: Outcome::Open,
            running: Vec::new(),
            finished: false,
            ended: false,
            partial: false,
        }
    }

    /// Take bytes from the provider; what comes back goes to the caller now.
    pub fn feed(&mut self, chunk: &Bytes) -> Bytes {
        if chunk.is_empty() || matches!(self.outcome, Outcome::Garbage) {
            return Bytes::new();
        }
        let mut sse = mem::take(&mut self.sse);
        let mut kept: Vec<u8> = Vec::new();
        let mut from = 0;
        let mut dropped = false;
        // The second half of a CRLF goes where the event went that the first half ended.
        if let Some(was_kept) = self.split_end.take().filter(|_| chunk.first() == Some(&b'\n')) {
            from = 1;
            if was_kept {
                kept.push(b'\n');
            } else {
                dropped = true;
            }
        }
        let result = sse.feed(chunk, |event, end| {
            let drop = self.watch(&event) && self.strip_usage;
            if self.strip_usage {
                let before = mem::take(&mut self.held);
                if drop {
                    dropped = true;
                } else {
                    kept.extend_from_slice(&before);
                    kept.extend_from_slice(chunk.get(from..end).unwrap_or_default());
                }
                from = end;
                let split = end == chunk.len() && chunk.last() == Some(&b'\r');
                self.split_end = split.then_some(!drop);
            }
        });
        self.partial = !sse.is_between_events();
        self.sse = sse;
        if result.is_err() {
            self.outcome = Outcome::Garbage;
            let mut out = kept;
            out.extend(self.error_event());
            return Bytes::from(out);
        }
        if !self.strip_usage {
            return chunk.clone();
        }
        let rest = chunk.get(from..).unwrap_or_default();
        let was_held = !self.held.is_empty();
        self.held.extend_from_slice(rest);
        if rest.is_empty() && !dropped && !was_held && kept.len() == chunk.len() {
            return chunk.clone();
        }
        Bytes::from(kept)
    }

    /// The provider's stream has ended, `clean`ly or broken off. What comes back goes to the caller last: nothing
    /// after a complete answer, an error event after one that was cut.
    pub fn finish(&mut self, clean: bool) -> Vec<u8> {
        if clean && self.outcome == Outcome::Open {
            let last = self.sse.finish().filter(provider::is_whole);
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

    /// What the stream has come to.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Usage seen so far.
    pub fn usage(&self) -> Usage {
        self.usage
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
        let Ok(data) = node(&event.data, &Limits::RESPONSE) else { return false };
        let usage_only = match self.dialect {
            Dialect::AnthropicMessages => self.watch_anthropic(&data),
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

    fn watch_openai(&mut self, data: &Node<'_>) -> bool {
        let usage = data.get("usage").or_else(|| data.get("x_groq")?.get("usage"));
        if let Some(usage) = usage {
            self.usage.merge(&openai(usage));
        }
        let choices = data.get("choices").map(Node::items).unwrap_or_default();
        for choice in choices {
            let index = choice.get("index").and_then(Node::whole).unwrap_or(0);
            if choice.text_of("finish_reason").is_some_and(|reason| !reason.is_empty()) {
                self.finished = true;
                self.running.retain(|running| *running != index);
            } else if !self.finished && !self.running.contains(&index) && self.running.len() < ANSWERS {
                self.running.push(index);
            }
        }
        data.get("usage").is_some() && data.get("choices").is_some() && choices.is_empty()
    }

    fn error_event(&self) -> Vec<u8> {
        let failure = if matches!(self.outcome, Outcome::Garbage) { Failure::garbage() } else { Failure::cut() };
        let mid_event = self.partial || matches!(self.outcome, Outcome::Garbage);
        let mut out = if mid_event && !self.strip_usage { b"\n\n".to_vec() } else { Vec::new() };
        out.extend(stream_error_event(self.dialect, &failure));
        out
    }
}
