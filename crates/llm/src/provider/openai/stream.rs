//! A streamed answer of an OpenAI-compatible provider.

use super::{citations, google_signature, logprobs, pieces, stop, thought};
use crate::ProviderError;
use crate::codec::sse::SseEvent;
use crate::json::{Limits, Node, node};
use crate::model::{Event, Stop, Usage};
use crate::provider::{error_of, usage};

/// Most answers in one stream.
const ANSWERS: usize = 128;
/// Most calls in one answer.
const CALLS: usize = 1024;

/// Turns the chunks of one stream into canonical events.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    started: bool,
    ended: bool,
    usage: Usage,
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Answer {
    index: u32,
    finished: bool,
    refused: bool,
    calls: Vec<Begun>,
}

#[derive(Debug)]
struct Begun {
    /// The provider's index of it.
    wire: u64,
    id: String,
    /// Our index of it.
    number: u32,
}

impl Stream {
    /// Take one event.
    pub(crate) fn take(&mut self, event: &SseEvent, events: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        if event.comment {
            return events.push(Event::Ping);
        }
        if event.data.trim() == "[DONE]" {
            if self.answers.is_empty() {
                return self.fail(ProviderError::stream("The provider's stream ended without an answer."), events);
            }
            self.ended = true;
            return events.push(Event::End);
        }
        let Some(data) = node(&event.data, &Limits::RESPONSE).ok().filter(Node::is_object) else {
            return self.fail(ProviderError::stream("The provider's stream holds an event that is not JSON."), events);
        };
        let used = data.get("usage").or_else(|| data.get("x_groq")?.get("usage"));
        if let Some(used) = used {
            self.usage.merge(&usage::openai(used));
        }
        if event.event == "error" || data.get("error").is_some() {
            return self.fail(error_of(&data), events);
        }
        let choices = data.get("choices").map(Node::items).unwrap_or_default();
        if !self.started && !choices.is_empty() {
            self.started = true;
            events.push(Event::Start {
                id: data.text_of("id").filter(|id| !id.is_empty()).map(std::borrow::Cow::into_owned),
                model: data.text_of("model").unwrap_or_default().into_owned(),
                created: data.get("created").and_then(Node::whole),
            });
        }
        for choice in choices {
            self.choice(choice, events);
            if self.ended {
                return;
            }
        }
        if used.is_some() {
            events.push(Event::Usage(self.usage));
        }
    }

    /// The connection has closed. Some providers send no `[DONE]`: once every answer has ended that is an end too.
    pub(crate) fn finish(&mut self, clean: bool, events: &mut Vec<Event>) -> bool {
        let settled = clean && !self.answers.is_empty() && self.answers.iter().all(|answer| answer.finished);
        if settled && !self.ended {
            self.ended = true;
            events.push(Event::End);
        }
        self.ended
    }

    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    fn fail(&mut self, error: ProviderError, events: &mut Vec<Event>) {
        self.ended = true;
        events.push(Event::Error(error));
    }

    fn choice(&mut self, node: &Node<'_>, events: &mut Vec<Event>) {
        let index = node.get("index").and_then(Node::whole).and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
        let at = match self.answers.iter().position(|answer| answer.index == index) {
            Some(at) => at,
            None if self.answers.len() < ANSWERS => {
                self.answers.push(Answer { index, finished: false, refused: false, calls: Vec::new() });
                self.answers.len() - 1
            }
            None => return,
        };
        let Some(answer) = self.answers.get_mut(at) else { return };
        if let Some(delta) = node.get("delta").filter(|_| !answer.finished) {
            answer.delta(delta, events);
            let tokens = logprobs(node);
            if !tokens.is_empty() {
                events.push(Event::Logprobs { choice: index, tokens });
            }
        }
        let reason = node.text_of("finish_reason").unwrap_or_default();
        if reason.is_empty() || answer.finished {
            return;
        }
        if reason == "error" {
            let message = "The provider ended the answer with an error.".to_owned();
            return self.fail(ProviderError { message, ..ProviderError::default() }, events);
        }
        answer.finished = true;
        let stop = match stop(node) {
            Stop::EndTurn if answer.refused => Stop::Refusal(None),
            Stop::EndTurn if !answer.calls.is_empty() => Stop::ToolUse,
            other => other,
        };
        events.push(Event::Stop { choice: index, stop });
    }
}

impl Answer {
    fn delta(&mut self, delta: &Node<'_>, events: &mut Vec<Event>) {
        let choice = self.index;
        let thought = thought(delta);
        if !thought.text.is_empty() {
            events.push(Event::Thinking { choice, text: thought.text });
        }
        let signatures = thought.signed.into_iter().filter_map(|piece| piece.signature);
        events.extend(signatures.map(|signature| Event::Signature { choice, signature }));
        events.extend(thought.redacted.into_iter().map(|data| Event::RedactedThinking { choice, data }));
        if let Some(content) = delta.get("content") {
            match content.text() {
                Some(text) if text.is_empty() => {}
                Some(text) => events.push(Event::Text { choice, text: text.into_owned() }),
                None => events.extend(pieces(content).filter(|(_, text)| !text.is_empty()).map(|(thinking, text)| {
                    if thinking { Event::Thinking { choice, text } } else { Event::Text { choice, text } }
                })),
            }
        }
        events.extend(citations(delta).into_iter().map(|citation| Event::Citation { choice, citation }));
        if let Some(text) = delta.text_of("refusal").filter(|text| !text.is_empty()) {
            self.refused = true;
            events.push(Event::Refusal { choice, text: text.into_owned() });
        }
        for (position, call) in delta.get("tool_calls").map(Node::items).unwrap_or_default().iter().enumerate() {
            self.call(position, call, events);
        }
        if let Some(function) = delta.get("function_call") {
            self.function((0, "", None), function, events);
        }
    }

    fn call(&mut self, position: usize, node: &Node<'_>, events: &mut Vec<Event>) {
        let wire = node.get("index").and_then(Node::whole).unwrap_or(position as u64);
        let id = node.text_of("id").unwrap_or_default();
        match (node.get("function"), node.get("custom")) {
            (Some(function), _) => self.function((wire, &id, google_signature(node)), function, events),
            (None, Some(custom)) => self.function((wire, &id, None), custom, events),
            (None, None) => {}
        }
    }

    fn function(
        &mut self,
        (wire, id, signature): (u64, &str, Option<String>),
        function: &Node<'_>,
        events: &mut Vec<Event>,
    ) {
        let choice = self.index;
        let name = function.text_of("name").unwrap_or_default();
        let known = self.calls.iter().rev().find(|call| call.wire == wire);
        // Some servers give every call the index 0 and tell them apart by id only.
        let other = known.is_some_and(|call| !id.is_empty() && !name.is_empty() && call.id != id);
        let call = match known {
            Some(known) if !other => known.number,
            _ => {
                let Some(call) = u32::try_from(self.calls.len()).ok().filter(|_| self.calls.len() < CALLS) else {
                    return;
                };
                let id = if id.is_empty() { format!("call_{choice}_{call}") } else { id.to_owned() };
                self.calls.push(Begun { wire, id: id.clone(), number: call });
                events.push(Event::ToolCall { choice, call, id, name: name.into_owned(), signature });
                call
            }
        };
        let Some(arguments) = function.get("arguments").or_else(|| function.get("input")) else { return };
        let json = if arguments.is_string() {
            arguments.text().unwrap_or_default().into_owned()
        } else {
            arguments.raw.to_owned()
        };
        if !json.is_empty() {
            events.push(Event::Arguments { choice, call, json });
        }
    }
}
