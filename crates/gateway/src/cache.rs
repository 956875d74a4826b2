//! Answers that are kept for a while, for requests that are the same. In memory only, and bounded.
//!
//! Who may ask, and how often, has been decided before anybody looks here; what is kept is found by a keyed hash over
//! all that an answer depends on: the configuration, the policy, the caller where callers do not share, and the whole
//! request ([`key`]). Only whole answers are kept ([`Place::keep`]).

mod directives;
mod flight;
mod keep;
pub(crate) mod key;
mod vectors;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base::{RequestId, Rng};
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use llm::Usage;
use llm::passthrough::Said;
use quick_cache::sync::Cache as Kept;
use quick_cache::{OptionsBuilder, Weighter};

pub(crate) use self::directives::Directives;
pub(crate) use self::flight::{Entered, Flight};
pub(crate) use self::keep::{Form, Nearness, Place};
pub(crate) use self::key::{Key, Rules};

use self::flight::Flights;
use self::vectors::Vectors;
use crate::relay::{Answer, Content, Pipe, State};
use crate::settle::Outcome;

/// What the cache did for a request.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-vouchgate-cache");
/// How alike the question was that an answer was first given to.
pub(crate) const SIMILARITY: HeaderName = HeaderName::from_static("x-vouchgate-cache-similarity");
/// The id of the request an answer was first given to.
pub(crate) const ORIGINAL: HeaderName = HeaderName::from_static("x-vouchgate-cache-original");

/// What an entry costs besides its bytes.
const ENTRY_BYTES: usize = 512;
/// What a piece of a streamed answer costs besides its bytes.
const PIECE_BYTES: usize = 48;
/// Of the room for answers, so much more may be taken by what finds them by their meaning.
const VECTORS_PART: u64 = 4;

/// All answers that are kept.
pub(crate) struct Cache {
    hasher: key::Hasher,
    entries: Kept<Key, Arc<Entry>, BySize>,
    capacity: AtomicU64,
    /// How often everything has been forgotten.
    era: AtomicU64,
    flights: Flights,
    vectors: Vectors,
}

/// An answer that is kept.
#[derive(Debug)]
pub(crate) struct Entry {
    headers: HeaderMap,
    body: Body,
    size: usize,
    at: Instant,
    /// The request it was given to.
    original: RequestId,
}

#[derive(Debug)]
enum Body {
    Whole(Bytes),
    /// Piece by piece, as it went out.
    Events(Vec<Bytes>),
}

#[derive(Clone)]
struct BySize;

impl Weighter<Key, Arc<Entry>> for BySize {
    fn weight(&self, _: &Key, entry: &Arc<Entry>) -> u64 {
        (entry.size + ENTRY_BYTES) as u64
    }
}

/// How old an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// By the model's configuration.
    pub(crate) ttl: Duration,
    /// By the caller's wish.
    pub(crate) max_age: Option<Duration>,
}

impl Cache {
    /// Nothing is kept yet. Keys differ with every start.
    pub(crate) fn new(rng: &dyn Rng) -> Self {
        Self {
            hasher: key::Hasher::new(rng),
            entries: with_capacity(0),
            capacity: AtomicU64::new(0),
            era: AtomicU64::new(0),
            flights: Flights::default(),
            vectors: Vectors::default(),
        }
    }

    /// Take so many bytes from now on. What is too much goes.
    pub(crate) fn resize(&self, bytes: u64) {
        if self.capacity.swap(bytes, Ordering::Relaxed) != bytes {
            self.entries.set_capacity(bytes);
            self.vectors.resize(bytes / VECTORS_PART);
        }
    }

    /// Forget all answers, also those that are on their way here.
    pub(crate) fn forget(&self) {
        self.era.fetch_add(1, Ordering::Relaxed);
        self.entries.clear();
        self.vectors.clear();
    }

    /// How often everything has been forgotten.
    pub(crate) fn era(&self) -> u64 {
        self.era.load(Ordering::Relaxed)
    }

    pub(crate) fn hasher(&self) -> &key::Hasher {
        &self.hasher
    }

    /// The answer kept under `key`, with its age, if it is fresh enough.
    pub(crate) fn get(&self, key: &Key, freshness: Freshness, now: Instant) -> Option<(Arc<Entry>, Duration)> {
        let entry = self.entries.get(key)?;
        let age = now.saturating_duration_since(entry.at);
        if age >= freshness.ttl {
            self.entries.remove_if(key, |found| found.at == entry.at);
            return None;
        }
        freshness.max_age.is_none_or(|most| age <= most && !most.is_zero()).then_some((entry, age))
    }

    fn put(&self, key: Key, entry: Entry) {
        if self.capacity.load(Ordering::Relaxed) > 0 {
            self.entries.insert(key, Arc::new(entry));
        }
    }

    /// Ask for what is kept under `key` to be asked of a provider: by the first who comes; the others wait for it.
    pub(crate) fn enter(self: &Arc<Self>, key: Key) -> Entered {
        flight::enter(self, key)
    }

    /// Answers to questions alike in everything but their last words, the most alike first.
    pub(crate) fn near(
        &self,
        (rest, vector): (&Key, &[f32]),
        threshold: f64,
        freshness: Freshness,
        now: Instant,
    ) -> Option<(Arc<Entry>, Duration, f64)> {
        for (key, similarity) in self.vectors.near(rest, vector, threshold) {
            match self.get(&key, freshness, now) {
                Some((entry, age)) => return Some((entry, age, similarity)),
                None if self.entries.get(&key).is_none() => self.vectors.forget(rest, &key),
                None => {}
            }
        }
        None
    }
}

fn with_capacity(bytes: u64) -> Kept<Key, Arc<Entry>, BySize> {
    // One shard: an answer may take any part of the room.
    let options = OptionsBuilder::new().shards(1).estimated_items_capacity(1024).weight_capacity(bytes).build();
    match options {
        Ok(options) => Kept::with_options(options, BySize, <_>::default(), <_>::default()),
        Err(_) => Kept::with_weighter(1024, bytes, BySize),
    }
}

impl Entry {
    fn new(headers: &HeaderMap, body: Body, at: Instant, original: RequestId) -> Self {
        let headers = kept(headers);
        let size = match &body {
            Body::Whole(bytes) => bytes.len(),
            Body::Events(pieces) => pieces.iter().map(|piece| piece.len() + PIECE_BYTES).sum(),
        };
        let names = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + PIECE_BYTES).sum::<usize>();
        Self { headers, body, size: size + names, at, original }
    }

    /// The request it was first given to.
    pub(crate) fn original(&self) -> RequestId {
        self.original
    }

    /// The answer again, `age` after it was first given.
    pub(crate) fn answer(&self, age: Duration) -> Answer {
        let mut headers = self.headers.clone();
        headers.insert(header::AGE, HeaderValue::from(age.as_secs()));
        let content = match &self.body {
            Body::Whole(bytes) => Content::Whole(bytes.clone(), Outcome::Ok),
            Body::Events(pieces) => Content::Made(VecDeque::from(pieces.clone()), Box::new(Replayed)),
        };
        Answer { status: StatusCode::OK, headers, content }
    }
}

/// The header fields that are of the answer, not of the call that fetched it.
fn kept(headers: &HeaderMap) -> HeaderMap {
    const OF_THE_CALL: [&str; 5] = ["retry-after", "retry-after-ms", "x-should-retry", "openai-processing-ms", "age"];
    let of_the_answer = |name: &HeaderName| match name.as_str() {
        // It answers a request without these, whoever gets it.
        "x-vouchgate-dropped" => true,
        name => !OF_THE_CALL.contains(&name) && !name.starts_with("x-vouchgate-"),
    };
    headers.iter().filter(|(name, _)| of_the_answer(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A stream that has been seen to its end before: nobody counts its tokens again.
struct Replayed;

impl Pipe for Replayed {
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
        State::Complete
    }

    fn usage(&self) -> Usage {
        nothing()
    }

    fn said(&self) -> Said {
        Said::default()
    }
}

/// What a kept answer takes of a provider.
pub(crate) fn nothing() -> Usage {
    Usage { input_tokens: Some(0), output_tokens: Some(0), ..Usage::default() }
}
