//! A service's answer as events: `delta` by `delta`, and `done` at the end.

use std::collections::VecDeque;

use base::RequestId;
use bytes::Bytes;
use config::ResponseFormat;
use http::HeaderMap;
use llm::passthrough::Said;
use llm::{Decoder, Dialect, Event, Usage};
use net::UpstreamBody;
use serde_json::json;

use super::{not_json, output, result};
use crate::problem;
use crate::relay::{Answer, Content, Pipe, State};

/// The most text kept to be looked at in the end; a model's answer is far smaller.
const MAX_TEXT: usize = 4 << 20;

/// Turns a provider's stream into a service's.
pub(super) struct Deltas {
    decoder: Decoder,
    format: ResponseFormat,
    id: RequestId,
    text: String,
    model: String,
    usage: Usage,
    said: Said,
    state: State,
    /// A model or a filter declined.
    declined: bool,
}

impl Deltas {
    fn new(dialect: Dialect, model: String, format: ResponseFormat, id: RequestId) -> Self {
        let (text, usage) = (String::new(), Usage::default());
        Self {
            decoder: Decoder::new(dialect),
            format,
            id,
            text,
            model,
            usage,
            said: Said::default(),
            state: State::Open,
            declined: false,
        }
    }

    /// The stream of a provider that speaks `dialect` and was asked for `model`.
    pub(super) fn relayed(
        body: UpstreamBody,
        (dialect, model): (Dialect, &str),
        format: ResponseFormat,
        id: RequestId,
    ) -> Answer {
        let deltas = Self::new(dialect, model.to_owned(), format, id);
        Answer::events(HeaderMap::new(), Content::Stream(VecDeque::new(), body, Box::new(deltas)))
    }

    /// These events.
    pub(super) fn made(events: &[Event], format: ResponseFormat, id: RequestId) -> Answer {
        let mut deltas = Self::new(Dialect::OpenAiChat, String::new(), format, id);
        let pieces: VecDeque<Bytes> =
            events.iter().map(|event| Bytes::from(deltas.take(event))).filter(|p| !p.is_empty()).collect();
        Answer::events(HeaderMap::new(), Content::Made(pieces, Box::new(Finished(deltas.usage))))
    }

    fn take(&mut self, event: &Event) -> Vec<u8> {
        if self.state != State::Open {
            return Vec::new();
        }
        self.said.event(event);
        match event {
            Event::Start { model, .. } => {
                if !model.is_empty() {
                    self.model.clone_from(model);
                }
                Vec::new()
            }
            Event::Text { choice: 0, text } if !text.is_empty() => {
                if self.text.len() + text.len() > MAX_TEXT {
                    return self.fail("upstream_too_large", "The model's answer is too long.");
                }
                self.text.push_str(text);
                data(&json!({"type": "delta", "delta": text}))
            }
            Event::Usage(usage) => {
                self.usage.merge(usage);
                Vec::new()
            }
            Event::Stop { stop, .. } => {
                self.declined |= !llm::sameness::is_well(stop);
                Vec::new()
            }
            Event::Error(_) => self.fail("provider_error", "The provider failed in the middle of its answer."),
            Event::End => self.done(),
            _ => Vec::new(),
        }
    }

    fn done(&mut self) -> Vec<u8> {
        let Ok(output) = output(&self.text, self.format) else {
            self.state = State::Told("output_not_json");
            return problem::event(&not_json());
        };
        self.state = State::Complete;
        let mut result = result(&output, &self.model, self.usage, self.id.as_str());
        if let Some(members) = result.as_object_mut() {
            members.insert("type".to_owned(), "done".into());
        }
        data(&result)
    }

    fn fail(&mut self, code: &'static str, message: &'static str) -> Vec<u8> {
        self.state = State::Told(code);
        let problem = base::Problem::provider(http::StatusCode::BAD_GATEWAY, code, message);
        problem::event(&problem)
    }
}

fn data(value: &serde_json::Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

impl Pipe for Deltas {
    fn feed(&mut self, piece: &Bytes) -> Bytes {
        let mut events = Vec::new();
        let readable = self.decoder.feed(piece, &mut events);
        let mut out: Vec<u8> = events.iter().flat_map(|event| self.take(event)).collect();
        if readable.is_err() && self.state == State::Open {
            out.extend(self.fail("upstream_invalid_stream", "The provider's stream cannot be read."));
        }
        Bytes::from(out)
    }

    fn finish(&mut self, clean: bool) -> Bytes {
        let mut events = Vec::new();
        let complete = self.decoder.finish(clean, &mut events);
        let mut out: Vec<u8> = events.iter().flat_map(|event| self.take(event)).collect();
        if !complete && self.state == State::Open {
            out.extend(self.fail("upstream_cut", "The provider's stream ended before the answer was complete."));
        }
        Bytes::from(out)
    }

    fn interrupt(&mut self, problem: &base::Problem) -> Bytes {
        if self.state != State::Open {
            return Bytes::new();
        }
        self.state = State::Told(problem.code);
        Bytes::from(problem::event(problem))
    }

    fn state(&self) -> State {
        self.state
    }

    fn is_well(&self) -> bool {
        !self.declined
    }

    fn usage(&self) -> Usage {
        let mut usage = self.usage;
        usage.merge(&self.decoder.usage());
        usage
    }

    fn said(&self) -> Said {
        self.said
    }
}

/// Events that are all there already.
pub(crate) struct Finished(pub(crate) Usage);

impl Pipe for Finished {
    fn feed(&mut self, piece: &Bytes) -> Bytes {
        piece.clone()
    }

    fn finish(&mut self, _: bool) -> Bytes {
        Bytes::new()
    }

    fn is_well(&self) -> bool {
        true
    }

    fn state(&self) -> State {
        State::Open
    }

    fn usage(&self) -> Usage {
        self.0
    }

    fn said(&self) -> Said {
        Said::default()
    }
}
