//! A streamed answer of Anthropic's (docs.anthropic.com/en/docs/build-with-claude/streaming).

use super::{citation, stop};
use crate::ProviderError;
use crate::codec::sse::SseEvent;
use crate::json::{Limits, Node, node, object};
use crate::model::{Event, Json, Usage};
use crate::provider::error_of;
use crate::provider::usage::AnthropicUsage;

/// Most input of one provider's own tool that is kept, in bytes.
const INPUT: usize = 4 << 20;
/// Most content blocks that are open at once.
const BLOCKS: usize = 256;

/// Turns the events of one stream into canonical ones.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    usage: AnthropicUsage,
    open: Vec<Block>,
    calls: u32,
    started: bool,
    ended: bool,
}

#[derive(Debug)]
struct Block {
    index: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Text and thinking: every delta passes at once.
    Plain,
    /// A call; `initial` is the input its start came with.
    Call { call: u32, initial: String, any: bool },
    /// A part that is passed on whole.
    Other { raw: String, input: String },
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
        let kind = data.text_of("type").unwrap_or_default();
        match kind.as_ref() {
            "message_start" => self.start(&data, events),
            "content_block_start" => self.open(&data, events),
            "content_block_delta" => self.delta(&data, events),
            "content_block_stop" => self.close(&data, events),
            "message_delta" => {
                if let Some(usage) = data.get("usage") {
                    self.usage.take(usage);
                    events.push(Event::Usage(self.usage.usage()));
                }
                if let Some(stop) = data.get("delta").and_then(stop) {
                    events.push(Event::Stop { choice: 0, stop });
                }
            }
            "message_stop" if !self.started => {
                self.fail(ProviderError::stream("The provider's stream ended without an answer."), events);
            }
            "message_stop" => {
                self.ended = true;
                events.push(Event::End);
            }
            "ping" => events.push(Event::Ping),
            "error" => self.fail(error_of(&data), events),
            // New kinds of events may come at any time; the documentation asks to pass over them.
            _ => {}
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn usage(&self) -> Usage {
        self.usage.usage()
    }

    fn fail(&mut self, error: ProviderError, events: &mut Vec<Event>) {
        self.ended = true;
        events.push(Event::Error(error));
    }

    fn start(&mut self, data: &Node<'_>, events: &mut Vec<Event>) {
        if std::mem::replace(&mut self.started, true) {
            // Spliced in by something between us and the model: what came so far is not part of this message.
            return self.fail(ProviderError::stream("The provider began a second message in one stream."), events);
        }
        let Some(message) = data.get("message") else { return };
        events.push(Event::Start {
            id: message.text_of("id").map(std::borrow::Cow::into_owned),
            model: message.text_of("model").unwrap_or_default().into_owned(),
            created: None,
        });
        if let Some(usage) = message.get("usage") {
            self.usage.take(usage);
            events.push(Event::Usage(self.usage.usage()));
        }
    }

    fn open(&mut self, data: &Node<'_>, events: &mut Vec<Event>) {
        let Some(block) = data.get("content_block") else { return };
        let text = |name: &str| block.text_of(name).unwrap_or_default().into_owned();
        let mut begun = |name: &str, make: fn(String) -> Event| {
            let text = text(name);
            if !text.is_empty() {
                events.push(make(text));
            }
        };
        let kind = match block.text_of("type").unwrap_or_default().as_ref() {
            "text" => {
                begun("text", |text| Event::Text { choice: 0, text });
                Kind::Plain
            }
            "thinking" => {
                begun("thinking", |text| Event::Thinking { choice: 0, text });
                begun("signature", |signature| Event::Signature { choice: 0, signature });
                Kind::Plain
            }
            "redacted_thinking" => {
                events.push(Event::RedactedThinking { choice: 0, data: text("data") });
                Kind::Plain
            }
            "tool_use" => {
                let call = self.calls;
                self.calls += 1;
                events.push(Event::ToolCall { choice: 0, call, id: text("id"), name: text("name"), signature: None });
                Kind::Call { call, initial: super::response::arguments(block), any: false }
            }
            _ => Kind::Other { raw: block.raw.to_owned(), input: String::new() },
        };
        if self.open.len() < BLOCKS {
            self.open.push(Block { index: index(data), kind });
        }
    }

    fn delta(&mut self, data: &Node<'_>, events: &mut Vec<Event>) {
        let Some(delta) = data.get("delta") else { return };
        let text = |name: &str| delta.text_of(name).unwrap_or_default().into_owned();
        match delta.text_of("type").unwrap_or_default().as_ref() {
            "text_delta" => events.push(Event::Text { choice: 0, text: text("text") }),
            "thinking_delta" => events.push(Event::Thinking { choice: 0, text: text("thinking") }),
            "signature_delta" => events.push(Event::Signature { choice: 0, signature: text("signature") }),
            "citations_delta" => {
                let found = delta.get("citation").and_then(citation);
                events.extend(found.map(|citation| Event::Citation { choice: 0, citation }));
            }
            "input_json_delta" => {
                let json = text("partial_json");
                let index = index(data);
                let Some(block) = self.open.iter_mut().find(|block| block.index == index) else { return };
                match &mut block.kind {
                    Kind::Call { call, any, .. } if !json.is_empty() => {
                        *any = true;
                        events.push(Event::Arguments { choice: 0, call: *call, json });
                    }
                    Kind::Other { input, .. } if input.len() + json.len() <= INPUT => input.push_str(&json),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, data: &Node<'_>, events: &mut Vec<Event>) {
        let index = index(data);
        let Some(at) = self.open.iter().position(|block| block.index == index) else { return };
        match self.open.swap_remove(at).kind {
            Kind::Plain => {}
            Kind::Call { call, initial, any } => {
                if !any {
                    events.push(Event::Arguments { choice: 0, call, json: initial });
                }
            }
            Kind::Other { raw, input } => {
                let raw = with_input(&raw, &input);
                events.push(Event::Other { choice: 0, raw: Json::trusted(&raw) });
            }
        }
    }
}

fn index(data: &Node<'_>) -> u64 {
    data.get("index").and_then(Node::whole).unwrap_or(0)
}

/// A block with the `input` that came after it.
fn with_input(block: &str, input: &str) -> String {
    let readable = node(input, &Limits::RESPONSE).is_ok_and(|value| value.is_object());
    let Ok(node) = node(block, &Limits::RESPONSE) else { return block.to_owned() };
    if !readable {
        return block.to_owned();
    }
    object(|o| {
        for (name, value) in node.members() {
            o.raw(name, if name == "input" { input } else { value.raw });
        }
    })
}
