//! A streamed answer of Cohere's.

use super::{Finish, cited, finish, logprobs};
use crate::ProviderError;
use crate::codec::sse::SseEvent;
use crate::json::{Limits, Node, node};
use crate::model::{Event, Stop, Usage};
use crate::provider::{error_of, usage};

/// Most calls in one answer.
const CALLS: usize = 1024;

/// Turns the events of one stream into canonical ones.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    started: bool,
    ended: bool,
    usage: Usage,
    /// Cohere's index of each call, by ours.
    calls: Vec<u64>,
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
            // Behind `message-end`; without it nothing of the answer's end has been told.
            return self.fail(ProviderError::stream("The provider's stream ended without an answer."), events);
        }
        let Some(data) = node(&event.data, &Limits::RESPONSE).ok().filter(Node::is_object) else {
            return self.fail(ProviderError::stream("The provider's stream holds an event that is not JSON."), events);
        };
        let kind = data.text_of("type").unwrap_or_default();
        let delta = data.get("delta");
        let message = delta.and_then(|delta| delta.get("message"));
        match kind.as_ref() {
            "message-start" => self.start(data.text_of("id"), events),
            "content-start" | "content-delta" => {
                self.start(None, events);
                content(message.and_then(|message| message.get("content")), events);
                // One entry, or a list of them.
                let told = data
                    .get("logprobs")
                    .map(|told| if told.is_array() { told.items() } else { std::slice::from_ref(told) });
                let tokens = logprobs(told.unwrap_or_default());
                if !tokens.is_empty() {
                    events.push(Event::Logprobs { choice: 0, tokens });
                }
            }
            "tool-plan-delta" => {
                self.start(None, events);
                thinking(message.and_then(|message| message.text_of("tool_plan")), events);
            }
            "tool-call-start" | "tool-call-delta" => {
                self.start(None, events);
                let index = data.get("index").and_then(Node::whole).unwrap_or(0);
                let call = message.and_then(|message| message.get("tool_calls"));
                self.call(index, kind == "tool-call-start", call, events);
            }
            "citation-start" => {
                let citation = message.and_then(|message| message.get("citations"));
                let several =
                    citation.map(|told| if told.is_array() { told.items() } else { std::slice::from_ref(told) });
                let cited = several.unwrap_or_default().iter().flat_map(cited);
                events.extend(cited.map(|citation| Event::Citation { choice: 0, citation }));
            }
            "message-end" => self.end(delta, events),
            "content-end" | "tool-call-end" | "citation-end" | "debug" => {}
            // An error in the middle has the form of an error answer: `{"message": ".."}`.
            _ if event.event == "error" || data.get("message").or_else(|| data.get("error")).is_some() => {
                self.fail(error_of(&data), events);
            }
            _ => {}
        }
    }

    /// Whether the answer is complete.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    fn fail(&mut self, error: ProviderError, events: &mut Vec<Event>) {
        self.ended = true;
        events.push(Event::Error(error));
    }

    fn start(&mut self, id: Option<std::borrow::Cow<'_, str>>, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            let id = id.filter(|id| !id.is_empty()).map(std::borrow::Cow::into_owned);
            events.push(Event::Start { id, model: String::new(), created: None });
        }
    }

    fn call(&mut self, index: u64, begins: bool, call: Option<&Node<'_>>, events: &mut Vec<Event>) {
        let Some(call) = call else { return };
        // A list of one is a call, too.
        let call = call.items().first().unwrap_or(call);
        let Some(function) = call.get("function") else { return };
        let text = |of: &Node<'_>, name: &str| of.text_of(name).unwrap_or_default().into_owned();
        let number = match self.calls.iter().rposition(|known| *known == index).filter(|_| !begins) {
            Some(number) => u32::try_from(number).unwrap_or(0),
            None if self.calls.len() >= CALLS => return,
            None => {
                let number = u32::try_from(self.calls.len()).unwrap_or(0);
                self.calls.push(index);
                let id =
                    Some(text(call, "id")).filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_0_{number}"));
                let name = text(function, "name");
                events.push(Event::ToolCall { choice: 0, call: number, id, name, signature: None });
                number
            }
        };
        let json = text(function, "arguments");
        if !json.is_empty() {
            events.push(Event::Arguments { choice: 0, call: number, json });
        }
    }

    fn end(&mut self, delta: Option<&Node<'_>>, events: &mut Vec<Event>) {
        self.start(None, events);
        if let Some(used) = delta.and_then(|delta| delta.get("usage")) {
            self.usage.merge(&usage::cohere(used));
            events.push(Event::Usage(self.usage));
        }
        let text = |name: &str| delta.and_then(|delta| delta.text_of(name));
        match finish(&text("finish_reason").unwrap_or_default(), text("error").as_deref()) {
            Finish::Failed(error) => self.fail(error, events),
            Finish::Stop(stop) => {
                let stop = if stop == Stop::EndTurn && !self.calls.is_empty() { Stop::ToolUse } else { stop };
                self.ended = true;
                events.extend([Event::Stop { choice: 0, stop }, Event::End]);
            }
        }
    }
}

fn content(content: Option<&Node<'_>>, events: &mut Vec<Event>) {
    let Some(content) = content else { return };
    thinking(content.text_of("thinking"), events);
    let text = content.text_of("text").filter(|text| !text.is_empty());
    events.extend(text.map(|text| Event::Text { choice: 0, text: text.into_owned() }));
}

fn thinking(text: Option<std::borrow::Cow<'_, str>>, events: &mut Vec<Event>) {
    let text = text.filter(|text| !text.is_empty());
    events.extend(text.map(|text| Event::Thinking { choice: 0, text: text.into_owned() }));
}
