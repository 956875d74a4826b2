//! Writing a streamed answer. A call goes out whole: Google's clients do not put arguments together.

use super::response::{function_call, thought};
use super::{finish, logprobs, seal, sign, usage};
use crate::json::{Array, Limits, Object, line, node};
use crate::model::{Event, Stop, ToolCall, Usage};

/// Most arguments that are held until their calls are whole, in bytes.
const HELD: usize = 16 << 20;

/// Writes events as `GenerateContentResponse`s in server-sent events.
#[derive(Debug, Default)]
pub(crate) struct StreamWriter {
    id: Option<String>,
    model: String,
    usage: Usage,
    calls: Vec<Held>,
    held: usize,
    stops: Vec<(u32, Stop)>,
}

/// A call whose arguments are still coming.
#[derive(Debug)]
struct Held {
    choice: u32,
    number: u32,
    call: ToolCall,
}

impl StreamWriter {
    /// Append what `event` is in chunks.
    pub(crate) fn write(&mut self, event: &Event, out: &mut String) {
        match event {
            Event::Start { id, model, .. } => {
                self.id.clone_from(id);
                model.clone_into(&mut self.model);
            }
            Event::Usage(usage) => self.usage = *usage,
            Event::Text { choice, text } | Event::Refusal { choice, text } => {
                self.part(*choice, out, |o| o.text("text", text));
            }
            Event::Thinking { choice, text } => self.part(*choice, out, |o| thought(o, text, None)),
            Event::Signature { choice, signature } => {
                self.part(*choice, out, |o| thought(o, "", Some(&sign(signature))));
            }
            Event::RedactedThinking { choice, data } => {
                self.part(*choice, out, |o| thought(o, "", Some(&seal(data))));
            }
            Event::ToolCall { choice, call, id, name, signature } => {
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                let call_now = ToolCall { id, name, arguments: String::new(), signature };
                self.calls.push(Held { choice: *choice, number: *call, call: call_now });
            }
            Event::Arguments { choice, call, json } => {
                self.held += json.len();
                let own = |held: &&mut Held| held.choice == *choice && held.number == *call;
                if let Some(held) = self.calls.iter_mut().find(own).filter(|_| self.held <= HELD) {
                    held.call.arguments.push_str(json);
                }
            }
            Event::Logprobs { choice, tokens } => {
                self.candidate(*choice, out, (|_| {}, |o| logprobs(o, tokens)));
            }
            Event::Stop { choice, stop } => {
                self.flush(*choice, out);
                self.stops.push((*choice, stop.clone()));
            }
            Event::End => self.end(out),
            Event::Ping => out.push_str(": ping\n\n"),
            // Citations have no place here, parts of other kinds are another dialect's; the translator writes errors.
            Event::Citation { .. } | Event::Other { .. } | Event::Error(_) => {}
        }
    }

    /// Whether more arguments came than there is room for.
    pub(crate) fn overflowed(&self) -> bool {
        self.held > HELD
    }

    /// The ends go out last, with the usage: nothing but a whole answer has one.
    fn end(&mut self, out: &mut String) {
        let mut stops = std::mem::take(&mut self.stops);
        if stops.is_empty() {
            stops.push((0, Stop::EndTurn));
        }
        let total = self.usage;
        self.chunk(out, |o| {
            o.array("candidates", |a| {
                for (choice, stop) in &stops {
                    a.object(|o| {
                        o.object("content", |o| {
                            o.array("parts", |a| a.object(|o| o.text("text", "")));
                            o.text("role", "model");
                        });
                        finish(o, stop);
                        o.number("index", u64::from(*choice));
                    });
                }
            });
            usage(o, &total);
        });
    }

    /// Write the calls of `choice`: they are whole.
    fn flush(&mut self, choice: u32, out: &mut String) {
        let (now, later) = std::mem::take(&mut self.calls).into_iter().partition(|held| held.choice == choice);
        self.calls = later;
        let now: Vec<Held> = now;
        for held in now {
            self.candidate(choice, out, (|a| a.object(|o| function_call(o, &held.call)), |_| {}));
        }
    }

    /// A part, behind the calls before it, unless one of them is still coming.
    fn part(&mut self, choice: u32, out: &mut String, fill: impl FnOnce(&mut Object<'_>)) {
        let whole = |held: &Held| node(&held.call.arguments, &Limits::RESPONSE).is_ok();
        if self.calls.iter().filter(|held| held.choice == choice).all(whole) {
            self.flush(choice, out);
        }
        self.candidate(choice, out, (|a| a.object(fill), |_| {}));
    }

    fn candidate(
        &self,
        choice: u32,
        out: &mut String,
        (parts, beside): (impl FnOnce(&mut Array<'_>), impl FnOnce(&mut Object<'_>)),
    ) {
        self.chunk(out, |o| {
            o.array("candidates", |a| {
                a.object(|o| {
                    o.object("content", |o| {
                        o.array("parts", parts);
                        o.text("role", "model");
                    });
                    o.number("index", u64::from(choice));
                    beside(o);
                });
            });
        });
    }

    fn chunk(&self, out: &mut String, fill: impl FnOnce(&mut Object<'_>)) {
        out.push_str("data: ");
        out.push_str(&line(|o| {
            fill(o);
            o.text("modelVersion", &self.model);
            o.maybe_text("responseId", self.id.as_deref());
        }));
        out.push_str("\n\n");
    }
}
