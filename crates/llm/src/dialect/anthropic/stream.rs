//! Writing a streamed answer: one block after the other, each opened, filled and closed.

use std::collections::VecDeque;

use super::{stop, usage};
use crate::json::{Object, line};
use crate::model::{Event, GEMINI_SIGNATURE, Stop, Usage};

/// Most events that wait for the block they belong behind.
const WAITING: usize = 10_000;
/// Most text that waits, in bytes.
const WAITING_BYTES: usize = 4 << 20;

/// Writes events as Anthropic's.
///
/// Anthropic's blocks come one at a time. Other providers may mix the arguments of several calls; what belongs to a
/// later block then waits until the open call's arguments are whole.
#[derive(Debug, Default)]
pub(crate) struct StreamWriter {
    started: bool,
    next: u64,
    open: Option<Block>,
    waiting: VecDeque<Event>,
    waiting_bytes: usize,
    overflowed: bool,
    stop: Option<Stop>,
    usage: Usage,
}

#[derive(Debug)]
enum Block {
    Text,
    Thinking { signed: bool },
    Call { call: u32, json: Balance },
}

impl Block {
    fn is_call(&self, number: u32) -> bool {
        matches!(self, Self::Call { call, .. } if *call == number)
    }
}

impl StreamWriter {
    /// Append what `event` is in Anthropic's events.
    pub(crate) fn write(&mut self, event: &Event, out: &mut String) {
        match event {
            Event::Start { id, model, .. } => self.start(id.as_deref(), model, out),
            Event::Usage(usage) => self.usage = *usage,
            Event::Ping if self.started => emit(out, "ping", |_| {}),
            // The translator writes errors: they end the stream.
            Event::Ping | Event::Error(_) => {}
            Event::Stop { stop, .. } => {
                self.flush(out);
                self.stop = Some(stop.clone());
            }
            Event::End => self.end(out),
            part => {
                if self.must_wait(part) {
                    self.wait(part);
                } else {
                    self.part(part, out);
                    self.catch_up(out);
                }
            }
        }
    }

    /// Whether more had to wait than there is room for: the answer cannot be told in order.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    fn wait(&mut self, event: &Event) {
        self.waiting_bytes += match event {
            Event::Text { text, .. } | Event::Thinking { text, .. } | Event::Arguments { json: text, .. } => text.len(),
            _ => 0,
        };
        self.overflowed |= self.waiting.len() >= WAITING || self.waiting_bytes > WAITING_BYTES;
        if !self.overflowed {
            self.waiting.push_back(event.clone());
        }
    }

    fn start(&mut self, id: Option<&str>, model: &str, out: &mut String) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let so_far = self.usage;
        emit(out, "message_start", |o| {
            o.object("message", |o| {
                o.text("id", id.unwrap_or("msg_vouchgate"));
                o.text("type", "message");
                o.text("role", "assistant");
                o.text("model", model);
                o.array("content", |_| {});
                o.raw("stop_reason", "null");
                o.raw("stop_sequence", "null");
                usage(o, &so_far);
            });
        });
    }

    fn end(&mut self, out: &mut String) {
        self.start(None, "", out);
        self.flush(out);
        let why = self.stop.take().unwrap_or(Stop::EndTurn);
        let total = self.usage;
        emit(out, "message_delta", |o| {
            o.object("delta", |o| stop(o, &why));
            usage(o, &total);
        });
        emit(out, "message_stop", |_| {});
    }

    /// Whether `event` belongs behind a call whose arguments are still coming.
    fn must_wait(&self, event: &Event) -> bool {
        let Some(Block::Call { call: open, json }) = &self.open else { return false };
        match event {
            Event::Arguments { call, .. } => call != open,
            _ => !json.is_whole() || !self.waiting.is_empty(),
        }
    }

    /// Write what waited, as far as the open block allows.
    fn catch_up(&mut self, out: &mut String) {
        while let Some(Block::Call { call: open, json }) = &self.open {
            let (open, whole) = (*open, json.is_whole());
            // First what belongs to the open call, then, once that is whole, whatever was next.
            let own = |event: &Event| matches!(event, Event::Arguments { call, .. } if *call == open);
            let Some(at) =
                self.waiting.iter().position(own).or(if whole && !self.waiting.is_empty() { Some(0) } else { None })
            else {
                return;
            };
            if let Some(event) = self.waiting.remove(at) {
                self.part(&event, out);
            }
        }
        while let Some(event) = self.waiting.pop_front() {
            self.part(&event, out);
            if matches!(self.open, Some(Block::Call { .. })) {
                return self.catch_up(out);
            }
        }
    }

    /// The answer has ended: nothing waits any more.
    fn flush(&mut self, out: &mut String) {
        self.catch_up(out);
        while let Some(event) = self.waiting.pop_front() {
            self.part(&event, out);
            let open = if let Some(Block::Call { call, .. }) = &self.open { Some(*call) } else { None };
            let own = |event: &Event| matches!(event, Event::Arguments { call, .. } if Some(*call) == open);
            while let Some(event) = self.waiting.iter().position(own).and_then(|at| self.waiting.remove(at)) {
                self.part(&event, out);
            }
        }
        self.close(out);
    }

    fn part(&mut self, event: &Event, out: &mut String) {
        match event {
            Event::Text { text, .. } | Event::Refusal { text, .. } => {
                if !matches!(self.open, Some(Block::Text)) {
                    self.open(out, Block::Text, |o| {
                        o.text("type", "text");
                        o.text("text", "");
                    });
                }
                self.delta(out, "text_delta", |o| o.text("text", text));
            }
            Event::Thinking { text, .. } => {
                self.thinking(out);
                self.delta(out, "thinking_delta", |o| o.text("thinking", text));
            }
            Event::Signature { signature, .. } => {
                self.thinking(out);
                self.delta(out, "signature_delta", |o| o.text("signature", signature));
                self.open = Some(Block::Thinking { signed: true });
            }
            Event::RedactedThinking { data, .. } => {
                self.open(out, Block::Text, |o| {
                    o.text("type", "redacted_thinking");
                    o.text("data", data);
                });
                self.close(out);
            }
            Event::ToolCall { choice, call, id, name, signature } => {
                if let Some(google) = signature {
                    self.close(out);
                    let signature = format!("{GEMINI_SIGNATURE}{google}");
                    self.part(&Event::Signature { choice: *choice, signature }, out);
                }
                let block = Block::Call { call: *call, json: Balance::default() };
                self.open(out, block, |o| {
                    o.text("type", "tool_use");
                    o.text("id", id);
                    o.text("name", name);
                    o.object("input", |_| {});
                });
            }
            Event::Arguments { call: of, json: more, .. } => {
                // What comes for a call that was whole already is not JSON any more.
                if let Some(Block::Call { json, .. }) = self.open.as_mut().filter(|block| block.is_call(*of)) {
                    json.take(more);
                    self.delta(out, "input_json_delta", |o| o.text("partial_json", more));
                }
            }
            // Citations need Anthropic's own index; parts of other kinds are another dialect's.
            _ => {}
        }
    }

    fn thinking(&mut self, out: &mut String) {
        // What follows a signature is another thought.
        if !matches!(self.open, Some(Block::Thinking { signed: false })) {
            self.open(out, Block::Thinking { signed: false }, |o| {
                o.text("type", "thinking");
                o.text("thinking", "");
                o.text("signature", "");
            });
        }
    }

    fn open(&mut self, out: &mut String, block: Block, fill: impl FnOnce(&mut Object<'_>)) {
        self.close(out);
        self.start(None, "", out);
        emit(out, "content_block_start", |o| {
            o.number("index", self.next);
            o.object("content_block", fill);
        });
        self.open = Some(block);
    }

    fn delta(&self, out: &mut String, kind: &str, fill: impl FnOnce(&mut Object<'_>)) {
        emit(out, "content_block_delta", |o| {
            o.number("index", self.next);
            o.object("delta", |o| {
                o.text("type", kind);
                fill(o);
            });
        });
    }

    fn close(&mut self, out: &mut String) {
        if self.open.take().is_some() {
            emit(out, "content_block_stop", |o| o.number("index", self.next));
            self.next += 1;
        }
    }
}

fn emit(out: &mut String, kind: &str, fill: impl FnOnce(&mut Object<'_>)) {
    out.push_str("event: ");
    out.push_str(kind);
    out.push_str("\ndata: ");
    out.push_str(&line(|o| {
        o.text("type", kind);
        fill(o);
    }));
    out.push_str("\n\n");
}

/// Whether JSON text that comes in pieces is whole: every bracket closed.
#[derive(Debug, Default)]
struct Balance {
    depth: u64,
    any: bool,
    string: bool,
    escape: bool,
}

impl Balance {
    fn take(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escape => self.escape = false,
                b'\\' if self.string => self.escape = true,
                b'"' => self.string = !self.string,
                b'{' | b'[' if !self.string => {
                    self.depth += 1;
                    self.any = true;
                }
                b'}' | b']' if !self.string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.any && self.depth == 0
    }
}
