//! A streamed answer of Converse (<https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html>).

use std::borrow::Cow;

use super::response::is_the_providers;
use super::{Finish, citation, finish, unsealed};
use crate::ProviderError;
use crate::codec::event_stream::EXCEPTION;
use crate::codec::sse::SseEvent;
use crate::json::{Limits, Node, Object, node, object};
use crate::model::{Event, Json, Usage};
use crate::provider::{error_of, usage};

/// Most of one block of the provider's own that is kept, in bytes.
const KEPT: usize = 16 << 20;
/// Most content blocks that are open at once.
const BLOCKS: usize = 256;

/// Turns the events of one stream into canonical ones.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    usage: Usage,
    open: Vec<Block>,
    calls: u32,
    started: bool,
    /// The answer is whole; its usage comes after it.
    stopped: bool,
    ended: bool,
}

#[derive(Debug)]
struct Block {
    index: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A call, and whether any of its arguments have come.
    Call { call: u32, any: bool },
    /// A part that is passed on whole: its name, what its start said of it, and what came after.
    Other { name: String, start: String, rest: String },
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
        let Some(data) = node(&event.data, &Limits::RESPONSE).ok().filter(Node::is_object) else {
            return self.fail(ProviderError::stream("The provider's stream holds an event that is not JSON."), events);
        };
        let (name, data) = named(&event.event, &data);
        if let Some(error) = failure(name, data) {
            return self.fail(error, events);
        }
        // Some that answer in Amazon's place leave its first event out.
        if !std::mem::replace(&mut self.started, true) {
            events.push(Event::Start { id: None, model: String::new(), created: None });
        }
        match name {
            "contentBlockStart" => self.open(data, events),
            "contentBlockDelta" => self.delta(data, events),
            "contentBlockStop" => self.close(index(data), events),
            "messageStop" => self.stop(data, events),
            "metadata" => {
                if let Some(used) = data.get("usage") {
                    self.usage.merge(&usage::bedrock(used));
                    events.push(Event::Usage(self.usage));
                }
                self.ended = self.stopped;
                events.extend(self.ended.then_some(Event::End));
            }
            // `messageStart` says nothing but a role, and new kinds of events may come.
            _ => {}
        }
    }

    /// The connection has closed: an end, once the answer was whole.
    pub(crate) fn finish(&mut self, clean: bool, events: &mut Vec<Event>) -> bool {
        if clean && self.stopped && !self.ended {
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

    fn stop(&mut self, data: &Node<'_>, events: &mut Vec<Event>) {
        for index in self.open.iter().map(|block| block.index).collect::<Vec<_>>() {
            self.close(index, events);
        }
        match finish(data) {
            Some(Finish::Failed(error)) => return self.fail(error, events),
            Some(Finish::Stop(stop)) => events.push(Event::Stop { choice: 0, stop }),
            None => {}
        }
        self.stopped = true;
    }

    fn open(&mut self, data: &Node<'_>, events: &mut Vec<Event>) {
        let Some(start) = data.get("start") else { return };
        let Some((name, inner)) = start.members().iter().find(|(_, value)| value.is_object()) else { return };
        let kind = if name == "toolUse" && !is_the_providers(inner) {
            let text = |name: &str| inner.text_of(name).unwrap_or_default().into_owned();
            let call = self.calls;
            self.calls += 1;
            let (id, name) = (text("toolUseId"), text("name"));
            events.push(Event::ToolCall { choice: 0, call, id, name, signature: None });
            Kind::Call { call, any: false }
        } else {
            Kind::Other { name: name.to_string(), start: inner.raw.to_owned(), rest: String::new() }
        };
        if self.open.len() < BLOCKS {
            self.open.push(Block { index: index(data), kind });
        }
    }

    fn delta(&mut self, data: &Node<'_>, events: &mut Vec<Event>) {
        let Some(delta) = data.get("delta") else { return };
        if let Some(text) = filled(delta, "text") {
            events.push(Event::Text { choice: 0, text });
        }
        if let Some(reasoning) = delta.get("reasoningContent") {
            let text = filled(reasoning, "text").map(|text| Event::Thinking { choice: 0, text });
            let signature = filled(reasoning, "signature").map(|signature| Event::Signature { choice: 0, signature });
            let sealed = filled(reasoning, "redactedContent").map(|blob| unsealed(&blob));
            let sealed = sealed.map(|data| Event::RedactedThinking { choice: 0, data });
            events.extend([text, signature, sealed].into_iter().flatten());
        }
        let cited = delta.get("citation").and_then(citation);
        events.extend(cited.map(|citation| Event::Citation { choice: 0, citation }));
        let index = index(data);
        let Some(block) = self.open.iter_mut().find(|block| block.index == index) else { return };
        match &mut block.kind {
            Kind::Call { call, any } => {
                let json = delta.get("toolUse").and_then(|call| filled(call, "input"));
                *any |= json.is_some();
                events.extend(json.map(|json| Event::Arguments { choice: 0, call: *call, json }));
            }
            Kind::Other { name, rest, .. } => keep(name, delta, rest),
        }
    }

    fn close(&mut self, index: u64, events: &mut Vec<Event>) {
        let Some(at) = self.open.iter().position(|block| block.index == index) else { return };
        match self.open.swap_remove(at).kind {
            Kind::Call { any: true, .. } => {}
            Kind::Call { call, any: false } => {
                events.push(Event::Arguments { choice: 0, call, json: "{}".to_owned() });
            }
            Kind::Other { name, start, rest } => {
                let raw = whole(&name, &start, &rest);
                events.extend(raw.map(|raw| Event::Other { choice: 0, raw: Json::trusted(&raw) }));
            }
        }
    }
}

/// A text that is not empty.
fn filled(node: &Node<'_>, name: &str) -> Option<String> {
    node.text_of(name).filter(|text| !text.is_empty()).map(Cow::into_owned)
}

/// More of a block that is passed on whole: a call's arguments are text; results and pictures are JSON.
fn keep(name: &str, delta: &Node<'_>, rest: &mut String) {
    let Some(more) = delta.get(name) else { return };
    if rest.len() + more.raw.len() > KEPT {
        return;
    }
    if name == "toolUse" {
        rest.push_str(&more.text_of("input").unwrap_or_default());
    } else if more.is_array() {
        for item in more.items() {
            rest.push_str(if rest.is_empty() { "" } else { "," });
            rest.push_str(item.raw);
        }
    } else {
        more.raw.clone_into(rest);
    }
}

/// A block as a complete answer has it.
fn whole(name: &str, start: &str, rest: &str) -> Option<String> {
    let begun = node(start, &Limits::RESPONSE).ok()?;
    let came = |o: &mut Object<'_>| match name {
        "toolUse" => o.raw("input", &crate::provider::anthropic::input(rest)),
        "toolResult" => o.raw("content", &format!("[{rest}]")),
        _ => {
            if let Ok(more) = node(rest, &Limits::RESPONSE) {
                more.members().iter().for_each(|(name, value)| o.raw(name, value.raw));
            }
        }
    };
    Some(object(|o| {
        o.object(name, |o| {
            begun.members().iter().for_each(|(name, value)| o.raw(name, value.raw));
            came(o);
        });
    }))
}

fn index(data: &Node<'_>) -> u64 {
    data.get("contentBlockIndex").and_then(Node::whole).unwrap_or(0)
}

/// An event's name and what it says. Nova's chunks, and streams that are written down one JSON text a line, name it by their
/// only member.
pub(crate) fn named<'n, 'a>(event: &'n str, data: &'n Node<'a>) -> (&'n str, &'n Node<'a>) {
    match data.members() {
        [(name, inner), ..] if event.is_empty() => (name.as_ref(), inner),
        _ => (event, data),
    }
}

/// What an exception in a stream says; `None` for any other event.
pub(crate) fn failure(name: &str, data: &Node<'_>) -> Option<ProviderError> {
    let exception = name.strip_prefix(EXCEPTION).or_else(|| Some(name).filter(|name| name.ends_with("Exception")))?;
    // As the header of an answer that fails at once has it.
    let mut letters = exception.chars().filter(char::is_ascii_alphanumeric).take(100);
    let code: String = letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect();
    let told = error_of(data);
    let silent = || "The provider reported an error in its stream.".to_owned();
    Some(ProviderError {
        status: status(&code),
        message: Some(told.message).filter(|message| !message.is_empty()).unwrap_or_else(silent),
        code: Some(code).filter(|code| !code.is_empty()),
        ..ProviderError::default()
    })
}

/// The status an exception has where it is a whole answer.
fn status(exception: &str) -> Option<u16> {
    Some(match exception {
        "ValidationException" | "ServiceQuotaExceededException" => 400,
        "AccessDeniedException" => 403,
        "ResourceNotFoundException" => 404,
        "ModelTimeoutException" => 408,
        "ModelErrorException" | "ModelStreamErrorException" => 424,
        "ThrottlingException" | "ModelNotReadyException" => 429,
        "InternalServerException" => 500,
        "ServiceUnavailableException" => 503,
        _ => return None,
    })
}
