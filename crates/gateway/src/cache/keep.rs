//! Keeping an answer as it goes out: only whole ones, and only if they went well.

use std::sync::Arc;

use base::{Problem, RequestId};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use llm::passthrough::Said;
use llm::{Dialect, Usage};

use super::{Body, Entry, Flight, Key};
use crate::Shared;
use crate::relay::{Answer, Before, Content, Kind, Pipe, State};
use crate::settle::Outcome;

/// Where the answer to a request goes that nobody has asked before.
pub(crate) struct Place {
    pub(crate) shared: Arc<Shared>,
    pub(crate) key: Key,
    pub(crate) form: Form,
    /// The most bytes kept.
    pub(crate) most: usize,
    /// The request that is answered.
    pub(crate) original: RequestId,
    /// How the question is found by its meaning.
    pub(crate) near: Option<Nearness>,
    /// Held until the answer is kept or will not be.
    pub(crate) flight: Option<Flight>,
}

/// What an answer is made of, and so how it is told whether it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A model's, in this dialect.
    Model(Dialect),
    /// A service's: whoever made it knows ([`Pipe::is_well`]).
    Service,
}

impl Form {
    fn is_whole(self, pieces: &[&Bytes], streamed: bool) -> bool {
        match self {
            Self::Model(dialect) => llm::sameness::is_whole_answer(dialect, pieces, streamed),
            Self::Service => true,
        }
    }
}

/// A question by its meaning.
pub(crate) struct Nearness {
    /// The group of requests it belongs to.
    pub(crate) rest: Key,
    /// What it means.
    pub(crate) vector: Vec<f32>,
}

impl Place {
    /// Keep the answer, now or when its stream has come to its end.
    pub(crate) fn keep(self, answer: Answer) -> Answer {
        let Answer { status, headers, content } = answer;
        let place = (status == StatusCode::OK).then_some(self);
        let content = match (content, place) {
            (Content::Whole(bytes, Outcome::Ok), Some(place)) => {
                place.put(&headers, &[&bytes], false);
                Content::Whole(bytes, Outcome::Ok)
            }
            (Content::Made(events, pipe), Some(place)) => {
                if pipe.state() == State::Complete {
                    place.put(&headers, &events.iter().collect::<Vec<_>>(), true);
                }
                Content::Made(events, pipe)
            }
            (Content::Stream(first, body, pipe), Some(place)) => {
                let record = Record { headers: headers.clone(), place, pieces: Vec::new(), size: 0 };
                Content::Stream(first, body, Box::new(Recording { pipe, record: Some(record) }))
            }
            (content, _) => content,
        };
        Answer { status, headers, content }
    }

    fn put(self, headers: &http::HeaderMap, pieces: &[&Bytes], streamed: bool) {
        let size: usize = pieces.iter().map(|piece| piece.len()).sum();
        if size > self.most || !self.form.is_whole(pieces, streamed) {
            return;
        }
        let mut together = BytesMut::with_capacity(size);
        for piece in pieces {
            together.extend_from_slice(piece);
        }
        // One piece of memory, of exactly this size: what came off the wire may be a small part of a large buffer.
        let mut together = together.freeze();
        let body = if streamed {
            Body::Events(pieces.iter().map(|piece| together.split_to(piece.len())).collect())
        } else {
            Body::Whole(together)
        };
        let Self { shared, key, original, near, flight, .. } = self;
        shared.cache.put(key, Entry::new(headers, body, shared.clock.monotonic(), original));
        if let Some(Nearness { rest, vector }) = near {
            shared.cache.vectors.add(rest, &vector, key);
        }
        // Those who wait find it now.
        drop(flight);
    }
}

/// What has gone out so far.
struct Record {
    place: Place,
    headers: http::HeaderMap,
    pieces: Vec<Bytes>,
    size: usize,
}

/// A stream whose pieces are kept once it is whole.
struct Recording {
    pipe: Box<dyn Pipe>,
    record: Option<Record>,
}

impl Recording {
    fn note(&mut self, out: &Bytes) {
        let Some(record) = &mut self.record else { return };
        record.size += out.len();
        if record.size > record.place.most {
            self.record = None;
        } else if !out.is_empty() {
            record.pieces.push(out.clone());
        }
    }
}

impl Pipe for Recording {
    fn feed(&mut self, piece: &Bytes) -> Bytes {
        let out = self.pipe.feed(piece);
        self.note(&out);
        out
    }

    fn finish(&mut self, clean: bool) -> Bytes {
        let out = self.pipe.finish(clean);
        self.note(&out);
        if let Some(record) =
            self.record.take().filter(|_| clean && self.pipe.state() == State::Complete && self.pipe.is_well())
        {
            record.place.put(&record.headers, &record.pieces.iter().collect::<Vec<_>>(), true);
        }
        out
    }

    fn interrupt(&mut self, problem: &Problem) -> Bytes {
        self.record = None;
        self.pipe.interrupt(problem)
    }

    fn before(&mut self) -> Option<Before> {
        self.pipe.before()
    }

    fn state(&self) -> State {
        self.pipe.state()
    }

    fn is_well(&self) -> bool {
        self.pipe.is_well()
    }

    fn usage(&self) -> Usage {
        self.pipe.usage()
    }

    fn said(&self) -> Said {
        self.pipe.said()
    }

    fn kind(&self) -> Kind {
        self.pipe.kind()
    }
}
