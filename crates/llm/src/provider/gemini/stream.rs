//! A streamed answer of Google's: each event is a whole answer's form with a piece in it, and there is no terminal event.

use super::arguments::Arguments;
use super::response::bodies;
use super::{Finish, blocked, citations, finish, logprobs, made_up};
use crate::ProviderError;
use crate::codec::sse::SseEvent;
use crate::json::{Limits, Node, node};
use crate::model::{Body, Event, Stop, Usage};
use crate::provider::{error_of, usage};

/// Most answers in one stream.
const ANSWERS: usize = 128;
/// Most calls in one answer.
const CALLS: u32 = 1024;
/// Most of one call's arguments that is held until it is whole, in bytes.
pub(super) const HELD: usize = 4 << 20;

/// Turns the events of one stream into canonical ones.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    started: bool,
    ended: bool,
    id: Option<String>,
    usage: Usage,
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Answer {
    index: u32,
    /// Why it ended. Told at the stream's end only: after code it ran itself Google says `STOP` and goes on.
    stop: Option<Stop>,
    calls: u32,
    /// The call whose arguments come in pieces.
    open: Option<(u32, Arguments)>,
    cited: usize,
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
        let Some(data) = node(&event.data, &Limits::RESPONSE).ok() else {
            return self.fail(ProviderError::stream("The provider's stream holds an event that is not JSON."), events);
        };
        if event.event == "error" || data.get("error").is_some() || data.is_array() {
            return self.fail(error_of(&data), events);
        }
        if !data.is_object() {
            return self.fail(ProviderError::stream("The provider's stream holds an event that is no object."), events);
        }
        if !self.started {
            self.started = true;
            self.id = data.text_of("responseId").filter(|id| !id.is_empty()).map(std::borrow::Cow::into_owned);
            let model = data.text_of("modelVersion").unwrap_or_default().into_owned();
            events.push(Event::Start { id: self.id.clone(), model, created: None });
        }
        let used = data.get("usageMetadata");
        if let Some(used) = used {
            self.usage.merge(&usage::gemini(used));
        }
        let candidates = data.get("candidates").map(Node::items).unwrap_or_default();
        for candidate in candidates {
            self.candidate(candidate, events);
            if self.ended {
                return;
            }
        }
        if let Some(stop) = blocked(&data).filter(|_| candidates.is_empty() && self.answers.is_empty()) {
            self.answers.push(Answer { index: 0, stop: Some(stop), calls: 0, open: None, cited: 0 });
        }
        if used.is_some() {
            events.push(Event::Usage(self.usage));
        }
    }

    /// The connection has closed: an end, once every answer has ended.
    pub(crate) fn finish(&mut self, clean: bool, events: &mut Vec<Event>) -> bool {
        let settled = clean && !self.answers.is_empty() && self.answers.iter().all(|answer| answer.stop.is_some());
        if settled && !self.ended {
            self.ended = true;
            for answer in &mut self.answers {
                answer.close(events);
                let stop = match answer.stop.take() {
                    None | Some(Stop::EndTurn) if answer.calls > 0 => Stop::ToolUse,
                    stop => stop.unwrap_or(Stop::EndTurn),
                };
                events.push(Event::Stop { choice: answer.index, stop });
            }
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

    fn candidate(&mut self, node: &Node<'_>, events: &mut Vec<Event>) {
        let index = node.get("index").and_then(Node::whole).and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
        let at = match self.answers.iter().position(|answer| answer.index == index) {
            Some(at) => at,
            None if self.answers.len() < ANSWERS => {
                self.answers.push(Answer { index, stop: None, calls: 0, open: None, cited: 0 });
                self.answers.len() - 1
            }
            None => return,
        };
        let Some(answer) = self.answers.get_mut(at) else { return };
        let parts = node.get("content").and_then(|content| content.get("parts")).map(Node::items).unwrap_or_default();
        for part in parts {
            if answer.part(part, self.id.as_deref(), events).is_none() {
                return self.fail(ProviderError::stream("The provider's call cannot be put together."), events);
            }
        }
        // Repeated with every event, each time with what is new at its end.
        let cited = citations(node);
        let known = answer.cited;
        answer.cited = known.max(cited.len());
        events.extend(cited.into_iter().skip(known).map(|citation| Event::Citation { choice: index, citation }));
        let tokens = logprobs(node);
        if !tokens.is_empty() {
            events.push(Event::Logprobs { choice: index, tokens });
        }
        match finish(node) {
            None => {}
            Some(Finish::Failed(error)) => self.fail(error, events),
            Some(Finish::Stop(stop)) => answer.stop = Some(stop),
        }
    }
}

impl Answer {
    /// One part. `None`: it cannot be read.
    fn part(&mut self, part: &Node<'_>, id: Option<&str>, events: &mut Vec<Event>) -> Option<()> {
        let choice = self.index;
        if let (Some(call), Some((number, arguments))) = (part.get("functionCall"), &mut self.open)
            && call.text_of("name").is_none_or(|name| name.is_empty())
        {
            // More of the open call.
            for piece in call.get("partialArgs").map(Node::items).unwrap_or_default() {
                arguments.take(piece)?;
            }
            if let Some(args) = call.get("args") {
                events.push(Event::Arguments { choice, call: *number, json: args.raw.to_owned() });
                self.open = None;
            } else if !continues(call) {
                self.close(events);
            }
            return Some(());
        }
        self.close(events);
        for body in bodies(part) {
            match body {
                Body::Text(text) => events.push(Event::Text { choice, text }),
                Body::Thinking { text, signature } => {
                    if !text.is_empty() {
                        events.push(Event::Thinking { choice, text });
                    }
                    events.extend(signature.map(|signature| Event::Signature { choice, signature }));
                }
                Body::ToolCall(call) => {
                    let number = self.calls;
                    self.calls = number.checked_add(1).filter(|calls| *calls <= CALLS)?;
                    let made = || made_up(id, usize::try_from(number).unwrap_or_default());
                    let id = if call.id.is_empty() { made() } else { call.id };
                    events.push(Event::ToolCall {
                        choice,
                        call: number,
                        id,
                        name: call.name,
                        signature: call.signature,
                    });
                    let node = part.get("functionCall")?;
                    let mut arguments = Arguments::default();
                    let pieces = node.get("partialArgs").map(Node::items).unwrap_or_default();
                    pieces.iter().try_for_each(|piece| arguments.take(piece))?;
                    if continues(node) {
                        self.open = Some((number, arguments));
                    } else {
                        let json = if pieces.is_empty() { call.arguments } else { arguments.json() };
                        events.push(Event::Arguments { choice, call: number, json });
                    }
                }
                Body::Other { raw, .. } => events.push(Event::Other { choice, raw }),
                _ => {}
            }
        }
        Some(())
    }

    /// The open call is whole.
    fn close(&mut self, events: &mut Vec<Event>) {
        if let Some((call, arguments)) = self.open.take() {
            events.push(Event::Arguments { choice: self.index, call, json: arguments.json() });
        }
    }
}

fn continues(call: &Node<'_>) -> bool {
    call.get("willContinue").and_then(Node::boolean) == Some(true)
}
