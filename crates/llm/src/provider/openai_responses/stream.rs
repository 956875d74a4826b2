//! A streamed answer. Every event says what it is (`type`) and which item it belongs to; the last holds the whole answer.
//!
//! Servers differ in what they leave out: the names of events, the deltas of what is short, or the items of the last event.
//! Whatever was not told in pieces is told when its whole comes.

use super::{arguments, call, citation, created, ended, is_call, logprobs, sealed, thought};
use crate::ProviderError;
use crate::codec::sse::SseEvent;
use crate::json::{Limits, Node, node, quoted};
use crate::model::{Event, Json, Usage};
use crate::provider::{error_of, usage};

/// Most items of one answer.
const ITEMS: usize = 4096;

/// Turns the events of one stream into canonical ones.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    started: bool,
    ended: bool,
    refused: bool,
    usage: Usage,
    calls: u32,
    items: Vec<Item>,
    /// Items that are whole.
    done: usize,
}

/// An item of the answer, as far as it has been told.
#[derive(Debug)]
struct Item {
    /// Its place, where the server says so; else its id.
    at: Place,
    told: Told,
    done: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Index(u64),
    Id(String),
}

/// What of an item has gone out.
#[derive(Debug)]
enum Told {
    /// The parts of a message: of which anything was told, and how many sources.
    Message { parts: Vec<u64>, cited: usize },
    /// Reasoning: by its summary or by itself, whichever came first, and which piece was the last.
    Reasoning(Option<(bool, u64)>),
    /// A call, by its number here; whether its arguments have begun. `custom`: they are free text.
    Call { number: u32, begun: bool, custom: bool },
    /// Something of the provider's own.
    Other,
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
            return self.fail(ProviderError::stream("The provider's stream ended without an answer."), events);
        }
        let Some(data) = node(&event.data, &Limits::RESPONSE).ok().filter(Node::is_object) else {
            return self.fail(ProviderError::stream("The provider's stream holds an event that is not JSON."), events);
        };
        let named = data.text_of("type").unwrap_or_else(|| event.event.as_str().into());
        let kind = named.strip_prefix("response.").unwrap_or(&named);
        if kind == "error" || data.get("error").is_some() {
            return self.fail(error_of(&data), events);
        }
        match kind {
            "created" | "in_progress" | "queued" => self.start(data.get("response"), events),
            "output_item.added" => {
                self.item(&data, events);
            }
            "output_item.done" => self.item_done(&data, events),
            "output_text.delta" => self.text(&data, "delta", false, events),
            "output_text.done" => self.text(&data, "text", true, events),
            "refusal.delta" => self.refusal(&data, "delta", false, events),
            "refusal.done" => self.refusal(&data, "refusal", true, events),
            "output_text.annotation.added" => {
                let cited = data.get("annotation").and_then(citation);
                if let (Some(Item { told: Told::Message { cited: known, .. }, .. }), Some(citation)) =
                    (self.item(&data, events), cited)
                {
                    *known += 1;
                    events.push(Event::Citation { choice: 0, citation });
                }
            }
            "reasoning_summary_text.delta" => self.thought(&data, true, events),
            "reasoning_text.delta" | "reasoning.delta" => self.thought(&data, false, events),
            "function_call_arguments.delta" | "custom_tool_call_input.delta" => self.arguments(&data, events),
            "completed" | "incomplete" | "failed" | "cancelled" => self.end(&data, events),
            // The providers' own tools, and what may come.
            _ => {}
        }
    }

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

    fn start(&mut self, response: Option<&Node<'_>>, events: &mut Vec<Event>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let text = |name: &str| response.and_then(|response| response.text_of(name));
        events.push(Event::Start {
            id: text("id").filter(|id| !id.is_empty()).map(std::borrow::Cow::into_owned),
            model: text("model").unwrap_or_default().into_owned(),
            created: response.and_then(created),
        });
    }

    /// The item an event belongs to; one that is new begins. Of a kind unknown so far: by the event that names it first.
    fn item(&mut self, data: &Node<'_>, events: &mut Vec<Event>) -> Option<&mut Item> {
        let id =
            || data.text_of("item_id").or_else(|| data.get("item")?.text_of("id")).unwrap_or_default().into_owned();
        let place = data.get("output_index").and_then(Node::whole).map_or_else(|| Place::Id(id()), Place::Index);
        if let Some(at) = self.items.iter().position(|item| item.at == place) {
            return self.items.get_mut(at);
        }
        if self.items.len() >= ITEMS {
            self.fail(ProviderError::stream("The provider's answer has too many items."), events);
            return None;
        }
        let told = self.begin(data, events)?;
        self.items.push(Item { at: place, told, done: false });
        self.items.last_mut()
    }

    fn begin(&mut self, data: &Node<'_>, events: &mut Vec<Event>) -> Option<Told> {
        let item = data.get("item");
        let kind = item.and_then(|item| item.text_of("type")).unwrap_or_default();
        Some(match kind.as_ref() {
            "message" => Told::Message { parts: Vec::new(), cited: 0 },
            "reasoning" => Told::Reasoning(None),
            kind if is_call(kind) => {
                let number = self.calls;
                self.calls += 1;
                let call = call(item?, String::new());
                events.push(Event::ToolCall { choice: 0, call: number, id: call.id, name: call.name, signature: None });
                Told::Call { number, begun: false, custom: kind == "custom_tool_call" }
            }
            "" => {
                // A server that announces no items.
                let event = data.text_of("type").unwrap_or_default();
                if event.contains("reasoning") {
                    Told::Reasoning(None)
                } else if event.contains("text") || event.contains("refusal") {
                    Told::Message { parts: Vec::new(), cited: 0 }
                } else {
                    return None;
                }
            }
            _ => Told::Other,
        })
    }

    fn text(&mut self, data: &Node<'_>, name: &str, whole: bool, events: &mut Vec<Event>) {
        self.start(None, events);
        let part = data.get("content_index").and_then(Node::whole).unwrap_or(0);
        let text = data.text_of(name).unwrap_or_default().into_owned();
        let tokens = logprobs(data);
        let Some(Item { told: Told::Message { parts, .. }, .. }) = self.item(data, events) else { return };
        let known = parts.contains(&part);
        if whole && known {
            return;
        }
        if !known && !text.is_empty() {
            parts.push(part);
        }
        if !text.is_empty() {
            events.push(Event::Text { choice: 0, text });
        }
        if !tokens.is_empty() {
            events.push(Event::Logprobs { choice: 0, tokens });
        }
    }

    fn refusal(&mut self, data: &Node<'_>, name: &str, whole: bool, events: &mut Vec<Event>) {
        self.start(None, events);
        self.refused = true;
        let part = data.get("content_index").and_then(Node::whole).unwrap_or(0);
        let text = data.text_of(name).unwrap_or_default().into_owned();
        let Some(Item { told: Told::Message { parts, .. }, .. }) = self.item(data, events) else { return };
        let known = parts.contains(&part);
        if (whole && known) || text.is_empty() {
            return;
        }
        if !known {
            parts.push(part);
        }
        events.push(Event::Refusal { choice: 0, text });
    }

    /// More of a summary, or of the reasoning itself: one of the two.
    fn thought(&mut self, data: &Node<'_>, summary: bool, events: &mut Vec<Event>) {
        self.start(None, events);
        let name = if summary { "summary_index" } else { "content_index" };
        let piece = data.get(name).and_then(Node::whole).unwrap_or(0);
        let mut text = data.text_of("delta").unwrap_or_default().into_owned();
        let Some(Item { told: Told::Reasoning(told), .. }) = self.item(data, events) else { return };
        match told {
            Some((way, _)) if *way != summary => return,
            Some((_, last)) if *last != piece && summary => text.insert_str(0, "\n\n"),
            _ => {}
        }
        *told = Some((summary, piece));
        if !text.is_empty() {
            events.push(Event::Thinking { choice: 0, text });
        }
    }

    fn arguments(&mut self, data: &Node<'_>, events: &mut Vec<Event>) {
        let delta = data.text_of("delta").unwrap_or_default().into_owned();
        let Some(Item { told: Told::Call { number, begun, custom }, .. }) = self.item(data, events) else { return };
        if delta.is_empty() {
            return;
        }
        let (call, first) = (*number, !std::mem::replace(begun, true));
        let json = if *custom { piece_of_text(&delta, first) } else { delta };
        events.push(Event::Arguments { choice: 0, call, json });
    }

    /// The whole item: what has not been told of it is told now.
    fn item_done(&mut self, data: &Node<'_>, events: &mut Vec<Event>) {
        self.start(None, events);
        let Some(node) = data.get("item") else { return };
        let Some(item) = self.item(data, events) else { return };
        if std::mem::replace(&mut item.done, true) {
            return;
        }
        let mut refused = false;
        match &mut item.told {
            Told::Message { parts, cited } => {
                for (index, part) in node.get("content").map(Node::items).unwrap_or_default().iter().enumerate() {
                    // Some servers count from another number: what was told at all is told.
                    let known = parts.contains(&(index as u64)) || parts.len() > index;
                    let refusal = part.text_of("type").as_deref() == Some("refusal");
                    refused |= refusal;
                    let text = part.text_of(if refusal { "refusal" } else { "text" }).unwrap_or_default().into_owned();
                    if !known && !text.is_empty() {
                        let tokens = logprobs(part);
                        events.push(if refusal {
                            Event::Refusal { choice: 0, text }
                        } else {
                            Event::Text { choice: 0, text }
                        });
                        if !tokens.is_empty() {
                            events.push(Event::Logprobs { choice: 0, tokens });
                        }
                    }
                    let sources = part.get("annotations").map(Node::items).unwrap_or_default();
                    let sources: Vec<_> = sources.iter().filter_map(citation).collect();
                    let skip = (*cited).min(sources.len());
                    *cited -= skip;
                    events
                        .extend(sources.into_iter().skip(skip).map(|citation| Event::Citation { choice: 0, citation }));
                }
            }
            Told::Reasoning(told) => {
                let text = thought(node);
                if told.is_none() && !text.is_empty() {
                    events.push(Event::Thinking { choice: 0, text });
                }
                events.extend(sealed(node).map(|signature| Event::Signature { choice: 0, signature }));
            }
            Told::Call { number, begun, custom } => {
                let json = match (*begun, *custom) {
                    // The end of the object around free text.
                    (true, true) => "\"}".to_owned(),
                    (true, false) => String::new(),
                    (false, _) => arguments(node),
                };
                if !json.is_empty() {
                    events.push(Event::Arguments { choice: 0, call: *number, json });
                }
            }
            Told::Other => events.push(Event::Other { choice: 0, raw: Json::trusted(node.raw) }),
        }
        self.refused |= refused;
        self.done += 1;
    }

    fn end(&mut self, data: &Node<'_>, events: &mut Vec<Event>) {
        let Some(response) = data.get("response") else {
            return self.fail(ProviderError::stream("The provider's stream ended without an answer."), events);
        };
        self.start(Some(response), events);
        if let Some(used) = response.get("usage") {
            self.usage.merge(&usage::openai(used));
            events.push(Event::Usage(self.usage));
        }
        if self.items.is_empty() {
            // A server that tells all at once.
            for (index, item) in response.get("output").map(Node::items).unwrap_or_default().iter().enumerate() {
                let event = format!(r#"{{"output_index":{index},"item":{}}}"#, item.raw);
                if let Ok(event) = node(&event, &Limits::RESPONSE) {
                    self.item_done(&event, events);
                }
            }
        }
        if self.ended {
            return;
        }
        match ended(response, self.calls > 0, self.refused) {
            Some(Err(error)) => self.fail(error, events),
            Some(Ok(stop)) => {
                self.ended = true;
                events.extend([Event::Stop { choice: 0, stop }, Event::End]);
            }
            None => self.fail(ProviderError::stream("The provider's answer has no end."), events),
        }
    }
}

/// Free text as part of the JSON object `{"input":"..."}`.
fn piece_of_text(text: &str, first: bool) -> String {
    let quoted = quoted(text);
    let inside = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default();
    if first { format!("{{\"input\":\"{inside}") } else { inside.to_owned() }
}
