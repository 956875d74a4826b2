//! Writing a streamed answer.

use super::{annotation, extra_content, finish_reason, logprobs, reasoning_detail, sealed_detail, usage};
use crate::dialect::openai_responses::{Asked, free_text};
use crate::json::{Limits, Object, line, node, object};
use crate::model::{Event, Stop, TokenLogprob, Usage};

/// Writes events as chunks.
#[derive(Debug)]
pub(crate) struct StreamWriter {
    include_usage: bool,
    id: String,
    model: String,
    created: u64,
    usage: Usage,
    /// Answers whose first chunk, with the role, has gone out.
    begun: Vec<u32>,
    /// Characters of text so far, for citations.
    written: usize,
    /// Where in `reasoning_details` the next piece belongs.
    thought: u64,
    /// Citations so far.
    cited: u64,
    /// Parts of other kinds so far.
    others: u64,
    asked: Asked,
    /// Calls with free text that are not whole yet: of which answer, which, and the object they come in.
    free: Vec<(u32, u32, String)>,
    /// Bytes of these, of all of the answer.
    held: usize,
}

/// The most free text of an answer.
const MOST_HELD: usize = 4 << 20;

impl StreamWriter {
    /// `include_usage`: a last chunk with the usage; `now` dates the answer where its provider does not.
    pub(crate) fn new(include_usage: bool, now: u64) -> Self {
        Self {
            include_usage,
            id: "chatcmpl-vouchgate".to_owned(),
            model: String::new(),
            created: now,
            usage: Usage::default(),
            begun: Vec::new(),
            written: 0,
            thought: 0,
            cited: 0,
            others: 0,
            asked: Asked::default(),
            free: Vec::new(),
            held: 0,
        }
    }

    /// The same, for the answer to this.
    pub(crate) fn answering(self, asked: Asked) -> Self {
        Self { asked, ..self }
    }

    /// Whether there was more free text than is held.
    pub(crate) fn overflowed(&self) -> bool {
        self.held > MOST_HELD
    }

    /// Append what `event` is in chunks.
    pub(crate) fn write(&mut self, event: &Event, out: &mut String) {
        match event {
            Event::Start { id, model, created } => {
                if let Some(id) = id {
                    id.clone_into(&mut self.id);
                }
                model.clone_into(&mut self.model);
                self.created = created.unwrap_or(self.created);
                self.begin(0, out);
            }
            Event::Text { choice, text } => {
                self.written += text.chars().count();
                self.delta(*choice, out, |o| o.text("content", text));
            }
            Event::Thinking { choice, text } => {
                let index = self.thought;
                self.delta(*choice, out, |o| {
                    o.text("reasoning_content", text);
                    o.array("reasoning_details", |a| reasoning_detail(a, Some(text), None, index));
                });
            }
            Event::Signature { choice, signature } => {
                let index = self.next_thought();
                self.delta(*choice, out, |o| {
                    o.array("reasoning_details", |a| reasoning_detail(a, None, Some(signature), index));
                });
            }
            Event::RedactedThinking { choice, data } => {
                let index = self.next_thought();
                self.delta(*choice, out, |o| o.array("reasoning_details", |a| sealed_detail(a, data, index)));
            }
            Event::Refusal { choice, text } => self.delta(*choice, out, |o| o.text("refusal", text)),
            Event::ToolCall { choice, call, id, name, signature } if self.asked.is_custom(name) => {
                self.begin_free((*choice, *call), (id, name), signature.as_deref(), out);
            }
            // Free text is told when it is whole: it comes inside an object.
            Event::Arguments { choice, call, json } if self.is_free(*choice, *call) => {
                self.hold((*choice, *call), json);
            }
            Event::ToolCall { choice, call, id, name, signature } => self.delta(*choice, out, |o| {
                o.array("tool_calls", |a| {
                    a.object(|o| {
                        o.number("index", u64::from(*call));
                        o.text("id", id);
                        o.text("type", "function");
                        o.object("function", |o| {
                            o.text("name", name);
                            o.text("arguments", "");
                        });
                        extra_content(o, signature.as_deref());
                    });
                });
            }),
            Event::Arguments { choice, call, json } => self.delta(*choice, out, |o| {
                o.array("tool_calls", |a| {
                    a.object(|o| {
                        o.number("index", u64::from(*call));
                        o.object("function", |o| o.text("arguments", json));
                    });
                });
            }),
            Event::Citation { choice, citation } => {
                let end = self.written;
                let index = Some(self.cited);
                self.cited += 1;
                self.delta(*choice, out, |o| o.array("annotations", |a| annotation(a, citation, (end, end), index)));
            }
            Event::Other { choice, raw } => {
                let raw = with_index(raw.as_str(), self.others);
                self.others += 1;
                self.delta(*choice, out, |o| o.array("provider_content", |a| a.raw(&raw)));
            }
            Event::Logprobs { choice, tokens } => {
                self.begin(*choice, out);
                self.choice((*choice, None, tokens), out, |_| {});
            }
            Event::Stop { choice, stop } => self.stop(*choice, stop, out),
            Event::Usage(usage) => self.usage = *usage,
            Event::Ping => out.push_str(": ping\n\n"),
            // The translator writes errors: they end the stream.
            Event::Error(_) => {}
            Event::End => {
                if self.include_usage {
                    let usage_now = self.usage;
                    self.chunk(out, |o| {
                        o.raw("choices", "[]");
                        usage(o, &usage_now);
                    });
                }
                out.push_str("data: [DONE]\n\n");
            }
        }
    }

    fn next_thought(&mut self) -> u64 {
        let index = self.thought;
        self.thought += 1;
        index
    }

    /// A call with free text begins.
    fn begin_free(
        &mut self,
        (choice, call): (u32, u32),
        (id, name): (&str, &str),
        signature: Option<&str>,
        out: &mut String,
    ) {
        self.free.push((choice, call, String::new()));
        self.delta(choice, out, |o| {
            o.array("tool_calls", |a| {
                a.object(|o| {
                    o.number("index", u64::from(call));
                    o.text("id", id);
                    o.text("type", "custom");
                    o.object("custom", |o| {
                        o.text("name", name);
                        o.text("input", "");
                    });
                    extra_content(o, signature);
                });
            });
        });
    }

    fn is_free(&self, choice: u32, call: u32) -> bool {
        self.free.iter().any(|(of, which, _)| (*of, *which) == (choice, call))
    }

    fn hold(&mut self, (choice, call): (u32, u32), json: &str) {
        self.held += json.len();
        if self.overflowed() {
            return;
        }
        let call = self.free.iter_mut().find(|(of, which, _)| (*of, *which) == (choice, call));
        if let Some((.., arguments)) = call {
            arguments.push_str(json);
        }
    }

    fn stop(&mut self, choice: u32, stop: &Stop, out: &mut String) {
        let (whole, others) = std::mem::take(&mut self.free).into_iter().partition(|(of, ..)| *of == choice);
        self.free = others;
        for (_, call, arguments) in whole {
            self.delta(choice, out, |o| {
                o.array("tool_calls", |a| {
                    a.object(|o| {
                        o.number("index", u64::from(call));
                        o.object("custom", |o| o.text("input", &free_text(&arguments)));
                    });
                });
            });
        }
        if let Stop::Refusal(Some(explanation)) = stop {
            self.delta(choice, out, |o| o.text("refusal", explanation));
        }
        self.begin(choice, out);
        self.choice((choice, Some(finish_reason(stop)), &[]), out, |_| {});
    }

    fn begin(&mut self, choice: u32, out: &mut String) {
        if !self.begun.contains(&choice) {
            self.begun.push(choice);
            self.choice((choice, None, &[]), out, |o| {
                o.text("role", "assistant");
                o.text("content", "");
            });
        }
    }

    fn delta(&mut self, choice: u32, out: &mut String, fill: impl FnOnce(&mut Object<'_>)) {
        self.begin(choice, out);
        self.choice((choice, None, &[]), out, fill);
    }

    fn choice(
        &self,
        (choice, finish, tokens): (u32, Option<&str>, &[TokenLogprob]),
        out: &mut String,
        fill: impl FnOnce(&mut Object<'_>),
    ) {
        self.chunk(out, |o| {
            o.array("choices", |a| {
                a.object(|o| {
                    o.number("index", u64::from(choice));
                    o.object("delta", fill);
                    logprobs(o, tokens);
                    o.text_or_null("finish_reason", finish);
                });
            });
        });
    }

    fn chunk(&self, out: &mut String, fill: impl FnOnce(&mut Object<'_>)) {
        out.push_str("data: ");
        out.push_str(&line(|o| {
            o.text("id", &self.id);
            o.text("object", "chat.completion.chunk");
            o.number("created", self.created);
            o.text("model", &self.model);
            fill(o);
        }));
        out.push_str("\n\n");
    }
}

/// A part with its place among the others.
fn with_index(part: &str, index: u64) -> String {
    match node(part, &Limits::RESPONSE) {
        Ok(node) if node.is_object() => object(|o| {
            o.number("index", index);
            node.members().iter().filter(|(name, _)| name != "index").for_each(|(name, value)| o.raw(name, value.raw));
        }),
        _ => part.to_owned(),
    }
}
