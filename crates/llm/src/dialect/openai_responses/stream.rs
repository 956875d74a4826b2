//! Writing a streamed answer: items are opened, filled and closed, and the last event holds all of them.

use super::items::{Content, Item, Said, Whole, annotated, item_id, logprobs, summary_part};
use super::{Asked, free_text, response_id, status};
use crate::json::{Limits, Object, node, object};
use crate::model::{Citation, Event, GEMINI_SIGNATURE, Stop, Usage};

/// Most of an answer that is held for its last event, in bytes.
const HELD: usize = 16 << 20;
/// Most items of one answer.
const ITEMS: usize = 4096;

/// Writes events as those of the Responses API.
///
/// Text and reasoning are one item after the other. Calls stay open until their arguments are whole, since other providers may
/// mix those of several: each delta names its item.
#[derive(Debug, Default)]
pub(crate) struct StreamWriter {
    asked: Asked,
    now: u64,
    sequence: u64,
    started: bool,
    id: String,
    model: String,
    created: u64,
    items: Vec<Item>,
    /// Calls that are open: their number, and where they are among the items.
    calls: Vec<(u32, usize)>,
    usage: Usage,
    stop: Option<Stop>,
    refused: bool,
    held: usize,
}

impl StreamWriter {
    /// For an answer to what was `asked`; `now` dates it where its provider does not.
    pub(crate) fn new(asked: Asked, now: u64) -> Self {
        Self { asked, now, created: now, ..Self::default() }
    }

    /// The number of the next event.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether more came than there is room for.
    pub(crate) fn overflowed(&self) -> bool {
        self.held > HELD || self.items.len() > ITEMS
    }

    /// Append what `event` is in events of this dialect.
    pub(crate) fn write(&mut self, event: &Event, out: &mut String) {
        match event {
            Event::Start { id, model, created } => self.start(id.as_deref(), model, *created, out),
            Event::Text { text, .. } => self.say(text, false, out),
            Event::Refusal { text, .. } => self.say(text, true, out),
            Event::Thinking { text, .. } => self.think(text, out),
            Event::Signature { signature, .. } => self.sign(signature, out),
            Event::RedactedThinking { data, .. } => {
                let at = self.open(None, Content::sealed(data), out);
                self.close(at, "completed", out);
            }
            Event::ToolCall { call, id, name, signature, .. } => {
                if let Some(google) = signature {
                    self.sign(&format!("{GEMINI_SIGNATURE}{google}"), out);
                }
                let custom = self.asked.is_custom(name);
                let (call_id, name) = (id.clone(), name.clone());
                let at = self.open(None, Content::Call { call_id, name, arguments: String::new(), custom }, out);
                self.calls.push((*call, at));
            }
            Event::Arguments { call, json, .. } => self.argue(*call, json, out),
            Event::Citation { citation, .. } => self.cite(citation, out),
            Event::Logprobs { tokens, .. } => {
                if let Some(said) = self.said().filter(|said| !said.refusal) {
                    said.logprobs.extend(tokens.iter().cloned());
                }
            }
            Event::Stop { stop, .. } => self.stopped(stop, out),
            Event::Usage(usage) => self.usage = *usage,
            Event::Ping => out.push_str(": ping\n\n"),
            Event::End => self.end(out),
            // The translator writes errors: they end the stream. Parts of other kinds are another dialect's.
            Event::Error(_) | Event::Other { .. } => {}
        }
    }

    fn start(&mut self, id: Option<&str>, model: &str, created: Option<u64>, out: &mut String) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        self.id = response_id(id);
        model.clone_into(&mut self.model);
        self.created = created.unwrap_or(self.now);
        for kind in ["response.created", "response.in_progress"] {
            let response = self.whole(("in_progress", None));
            self.emit(kind, out, |o| o.raw("response", &response));
        }
    }

    /// The answer as it is now.
    fn whole(&self, status: (&'static str, Option<&'static str>)) -> String {
        let over = status.0 != "in_progress";
        let whole = Whole {
            id: &self.id,
            created: self.created,
            completed: (status.0 == "completed").then(|| self.now.max(self.created)),
            model: &self.model,
            status,
            usage: Some(&self.usage).filter(|_| over),
            asked: &self.asked,
        };
        object(|o| whole.members(o, if over { &self.items } else { &[] }))
    }

    /// The last item, if it is one of text or reasoning and still open.
    fn current(&mut self) -> Option<(usize, &mut Item)> {
        let at = self.items.len().checked_sub(1)?;
        let item = self.items.get_mut(at).filter(|item| item.status == "in_progress")?;
        (!matches!(item.body, Content::Call { .. })).then_some((at, item))
    }

    /// The part of a message that is open.
    fn said(&mut self) -> Option<&mut Said> {
        match &mut self.current()?.1.body {
            Content::Message(parts) => parts.last_mut(),
            _ => None,
        }
    }

    /// Open an item, behind those before it that are whole.
    fn open(&mut self, own: Option<String>, body: Content, out: &mut String) -> usize {
        self.start(None, "", None, out);
        self.settle(out);
        let id = own.unwrap_or_else(|| item_id(&self.id, self.items.len(), &body));
        let item = Item { id, body, status: "in_progress" };
        let at = self.items.len();
        let empty = match &item.body {
            Content::Reasoning { .. } => {
                Item { body: Content::Reasoning { summary: String::new(), sealed: None }, ..item.clone() }
            }
            _ => item.clone(),
        };
        self.emit("response.output_item.added", out, |o| {
            o.number("output_index", at as u64);
            o.object("item", |o| empty.members(o));
        });
        self.items.push(item);
        at
    }

    /// Close what is whole: the text or reasoning that is open, and calls whose arguments are.
    fn settle(&mut self, out: &mut String) {
        if let Some((at, _)) = self.current() {
            self.close(at, "completed", out);
        }
        let whole = |item: &Item| matches!(&item.body, Content::Call { arguments, .. } if is_whole(arguments));
        let calls: Vec<usize> = self.calls.iter().map(|(_, at)| *at).collect();
        for at in calls {
            if self.items.get(at).is_some_and(whole) {
                self.close(at, "completed", out);
            }
        }
    }

    fn say(&mut self, text: &str, refusal: bool, out: &mut String) {
        let open = self.said().map(|said| said.refusal);
        if open != Some(refusal) {
            self.begin_part(refusal, out);
        }
        self.refused |= refusal;
        self.held += text.len();
        if self.overflowed() {
            return;
        }
        let Some((at, item)) = self.current() else { return };
        let Content::Message(parts) = &mut item.body else { return };
        let index = parts.len().saturating_sub(1);
        if let Some(said) = parts.last_mut() {
            said.text.push_str(text);
        }
        let kind = if refusal { "response.refusal.delta" } else { "response.output_text.delta" };
        self.emit_in(kind, (at, Some(index)), out, |o| {
            o.text("delta", text);
            if !refusal {
                logprobs(o, &[]);
            }
        });
    }

    /// Open a part of a message, in the message that is open or in a new one.
    fn begin_part(&mut self, refusal: bool, out: &mut String) {
        let in_message = matches!(self.current(), Some((_, Item { body: Content::Message(_), .. })));
        let at = if in_message {
            self.end_part(out);
            self.items.len().saturating_sub(1)
        } else {
            self.open(None, Content::Message(Vec::new()), out)
        };
        let part = Said { refusal, ..Said::default() };
        let Some(Item { body: Content::Message(parts), .. }) = self.items.get_mut(at) else { return };
        parts.push(part.clone());
        let index = parts.len() - 1;
        self.emit_in("response.content_part.added", (at, Some(index)), out, |o| {
            o.object("part", |o| part.members(o));
        });
    }

    /// The open part of a message is whole.
    fn end_part(&mut self, out: &mut String) {
        let Some((at, Item { body: Content::Message(parts), .. })) = self.current() else { return };
        let (Some(index), Some(said)) = (parts.len().checked_sub(1), parts.last().cloned()) else { return };
        let (kind, name) =
            if said.refusal { ("response.refusal.done", "refusal") } else { ("response.output_text.done", "text") };
        self.emit_in(kind, (at, Some(index)), out, |o| {
            o.text(name, &said.text);
            if !said.refusal {
                logprobs(o, &said.logprobs);
            }
        });
        self.emit_in("response.content_part.done", (at, Some(index)), out, |o| {
            o.object("part", |o| said.members(o));
        });
    }

    fn think(&mut self, text: &str, out: &mut String) {
        let thinking = matches!(self.current(), Some((_, Item { body: Content::Reasoning { .. }, .. })));
        if !thinking {
            self.open(None, Content::Reasoning { summary: String::new(), sealed: None }, out);
        }
        self.held += text.len();
        if self.overflowed() {
            return;
        }
        let Some((at, Item { body: Content::Reasoning { summary, .. }, .. })) = self.current() else { return };
        let first = summary.is_empty();
        summary.push_str(text);
        if first && !text.is_empty() {
            self.emit_in("response.reasoning_summary_part.added", (at, None), out, |o| {
                o.number("summary_index", 0);
                o.object("part", |o| summary_part(o, ""));
            });
        }
        if !text.is_empty() {
            self.emit_in("response.reasoning_summary_text.delta", (at, None), out, |o| {
                o.number("summary_index", 0);
                o.text("delta", text);
            });
        }
    }

    /// The reasoning so far is signed: what follows is another item.
    fn sign(&mut self, signature: &str, out: &mut String) {
        self.held += signature.len();
        let (own, body) = Content::signed(String::new(), signature);
        if let (
            Some((at, Item { body: Content::Reasoning { sealed, .. }, .. })),
            Content::Reasoning { sealed: new, .. },
        ) = (self.current(), &body)
        {
            sealed.clone_from(new);
            return self.close(at, "completed", out);
        }
        let at = self.open(own, body, out);
        self.close(at, "completed", out);
    }

    fn argue(&mut self, call: u32, json: &str, out: &mut String) {
        let Some((_, at)) = self.calls.iter().rev().find(|(number, _)| *number == call).copied() else { return };
        self.held += json.len();
        if self.overflowed() {
            return;
        }
        let Some(Item { body: Content::Call { arguments, custom, .. }, status: "in_progress", .. }) =
            self.items.get_mut(at)
        else {
            return;
        };
        arguments.push_str(json);
        // Free text is told when it is whole: it comes inside an object.
        if !*custom {
            self.emit_in("response.function_call_arguments.delta", (at, None), out, |o| o.text("delta", json));
        }
    }

    fn cite(&mut self, citation: &Citation, out: &mut String) {
        let Some((at, Item { body: Content::Message(parts), .. })) = self.current() else { return };
        let content = parts.len().saturating_sub(1);
        let Some(said) = parts.last_mut().filter(|said| !said.refusal) else { return };
        said.citations.push(citation.clone());
        let (index, end) = (said.citations.len() - 1, said.text.chars().count());
        self.emit_in("response.output_text.annotation.added", (at, Some(content)), out, |o| {
            o.number("annotation_index", index as u64);
            o.object("annotation", |o| annotated(o, citation, end));
        });
    }

    fn close(&mut self, at: usize, status: &'static str, out: &mut String) {
        self.calls.retain(|(_, open)| *open != at);
        let Some(item) = self.items.get_mut(at).filter(|item| item.status == "in_progress") else { return };
        if let Content::Call { arguments, .. } = &mut item.body
            && arguments.is_empty()
        {
            "{}".clone_into(arguments);
        }
        match item.body.clone() {
            Content::Message(_) => self.end_part(out),
            Content::Reasoning { summary, .. } if !summary.is_empty() => {
                self.emit_in("response.reasoning_summary_text.done", (at, None), out, |o| {
                    o.number("summary_index", 0);
                    o.text("text", &summary);
                });
                self.emit_in("response.reasoning_summary_part.done", (at, None), out, |o| {
                    o.number("summary_index", 0);
                    o.object("part", |o| summary_part(o, &summary));
                });
            }
            Content::Call { arguments, custom: false, name, .. } => {
                self.emit_in("response.function_call_arguments.done", (at, None), out, |o| {
                    o.text("name", &name);
                    o.text("arguments", &arguments);
                });
            }
            Content::Call { arguments, custom: true, .. } => {
                let input = free_text(&arguments);
                self.emit_in("response.custom_tool_call_input.delta", (at, None), out, |o| o.text("delta", &input));
                self.emit_in("response.custom_tool_call_input.done", (at, None), out, |o| o.text("input", &input));
            }
            Content::Reasoning { .. } | Content::Raw(_) => {}
        }
        let Some(item) = self.items.get_mut(at) else { return };
        item.status = status;
        let item = item.clone();
        self.emit("response.output_item.done", out, |o| {
            o.number("output_index", at as u64);
            o.object("item", |o| item.members(o));
        });
    }

    /// The answer has ended: what is still open ends with it.
    fn stopped(&mut self, stop: &Stop, out: &mut String) {
        if let (Stop::Refusal(Some(words)), false) = (stop, self.refused) {
            self.say(words, true, out);
        }
        let (ended, _) = status(Some(stop), self.refused);
        let open: Vec<usize> = (0..self.items.len()).collect();
        for at in open {
            self.close(at, if ended == "incomplete" { "incomplete" } else { "completed" }, out);
        }
        self.stop = Some(stop.clone());
    }

    fn end(&mut self, out: &mut String) {
        self.start(None, "", None, out);
        if self.stop.is_none() {
            self.stopped(&Stop::EndTurn, out);
        }
        let status = status(self.stop.as_ref(), self.refused);
        let kind = if status.0 == "completed" { "response.completed" } else { "response.incomplete" };
        let response = self.whole(status);
        self.emit(kind, out, |o| o.raw("response", &response));
    }

    /// An event about an item, and about a part of it.
    fn emit_in(
        &mut self,
        kind: &str,
        (at, content): (usize, Option<usize>),
        out: &mut String,
        fill: impl FnOnce(&mut Object<'_>),
    ) {
        let id = self.items.get(at).map(|item| item.id.clone()).unwrap_or_default();
        self.emit(kind, out, |o| {
            o.text("item_id", &id);
            o.number("output_index", at as u64);
            o.maybe_number("content_index", content.map(|content| content as u64));
            fill(o);
        });
    }

    fn emit(&mut self, kind: &str, out: &mut String, fill: impl FnOnce(&mut Object<'_>)) {
        let sequence = self.sequence;
        self.sequence += 1;
        out.push_str("event: ");
        out.push_str(kind);
        out.push_str("\ndata: ");
        out.push_str(&object(|o| {
            o.text("type", kind);
            o.number("sequence_number", sequence);
            fill(o);
        }));
        out.push_str("\n\n");
    }
}

fn is_whole(arguments: &str) -> bool {
    node(arguments, &Limits::RESPONSE).is_ok()
}
