//! A streamed answer of Ollama's: each line is a whole answer's form with a piece in it, the last one says `done`.

use super::{id_of, logprobs, parts, stop};
use crate::ProviderError;
use crate::codec::sse::SseEvent;
use crate::json::{Limits, Node, node};
use crate::model::{Body, Event, Usage};
use crate::provider::{error_of, usage};

/// Most calls in one answer.
const CALLS: usize = 1024;

/// Turns the lines of one stream into canonical events.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    started: bool,
    ended: bool,
    id: Option<String>,
    usage: Usage,
    calls: usize,
}

impl Stream {
    /// Take one line.
    pub(crate) fn take(&mut self, event: &SseEvent, events: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        let Some(data) = node(&event.data, &Limits::RESPONSE).ok().filter(Node::is_object) else {
            return self.fail(ProviderError::stream("The provider's stream holds a line that is not JSON."), events);
        };
        if data.get("error").is_some() {
            return self.fail(error_of(&data), events);
        }
        if !self.started {
            self.started = true;
            self.id = id_of(&data);
            let model = data.text_of("model").unwrap_or_default().into_owned();
            events.push(Event::Start { id: self.id.clone(), model, created: None });
        }
        if let Some(message) = data.get("message") {
            for part in parts(message, self.id.as_deref(), self.calls) {
                match part.body {
                    Body::Thinking { text, .. } => events.push(Event::Thinking { choice: 0, text }),
                    Body::Text(text) => events.push(Event::Text { choice: 0, text }),
                    // Calls come whole.
                    Body::ToolCall(call) if self.calls < CALLS => {
                        let number = u32::try_from(self.calls).unwrap_or(0);
                        self.calls += 1;
                        let (id, name) = (call.id, call.name);
                        events.push(Event::ToolCall { choice: 0, call: number, id, name, signature: None });
                        events.push(Event::Arguments { choice: 0, call: number, json: call.arguments });
                    }
                    _ => {}
                }
            }
        }
        let tokens = logprobs(&data);
        if !tokens.is_empty() {
            events.push(Event::Logprobs { choice: 0, tokens });
        }
        if data.get("done").and_then(Node::boolean) == Some(true) {
            self.usage.merge(&usage::ollama(&data));
            self.ended = true;
            events.push(Event::Usage(self.usage));
            events.extend([Event::Stop { choice: 0, stop: stop(&data, self.calls > 0) }, Event::End]);
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
}
