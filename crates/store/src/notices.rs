//! What happened that somebody outside may want to be told of, on its way to the outbox: off the hot path.
//!
//! A notice takes a short lock and never waits. It is durable once whoever takes it has put it into the
//! [`Outbox`](crate::Outbox); what has not come so far when the process is killed is lost, and so is what comes while the
//! queue is full. Losses are counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::Notify;

/// How many notices wait at most.
const CAPACITY: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// What kind of thing: `budget.exhausted`.
    pub event: &'static str,
    /// When.
    pub at: Timestamp,
    /// Of notices about the same thing one is sent, also when several nodes see it. Absent: it is like no other.
    pub about: Option<String>,
    /// What is told of it, and written into the audit log.
    pub data: Map<String, Value>,
    /// What is told of it beside, and not written down: what names a person.
    pub names: Map<String, Value>,
    /// The person it concerns: issuer and subject. The audit log names them so that it can be erased.
    pub person: Option<(String, String)>,
}

impl Notice {
    /// Of this kind, at this moment.
    pub fn new(event: &'static str, at: Timestamp) -> Self {
        Self { event, at, about: None, data: Map::new(), names: Map::new(), person: None }
    }

    /// What is to be told once.
    #[must_use]
    pub fn about(mut self, about: impl Into<String>) -> Self {
        self.about = Some(about.into());
        self
    }

    /// More that is told.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }

    /// More that is told, and not written down.
    #[must_use]
    pub fn naming(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.names.insert(name.to_owned(), value.into());
        self
    }

    /// The person it concerns.
    #[must_use]
    pub fn person(mut self, issuer: &str, subject: &str) -> Self {
        self.person = Some((issuer.to_owned(), subject.to_owned()));
        self
    }
}

/// Where notices go. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Notices(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<VecDeque<Notice>>,
    ready: Notify,
    dropped: AtomicU64,
}

impl Notices {
    /// Hand over a notice. Never waits; when the queue is full it is dropped and counted.
    pub fn send(&self, notice: Notice) {
        {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= CAPACITY {
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            waiting.push_back(notice);
        }
        self.0.ready.notify_one();
    }

    /// Wait until there is one.
    pub async fn ready(&self) {
        self.0.ready.notified().await;
    }

    /// Take all there are.
    pub fn take(&self) -> Vec<Notice> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// How many were lost because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let notices = Notices::default();
        let one = || Notice::new("e", Timestamp::from_secs(1));
        for _ in 0..CAPACITY + 3 {
            notices.send(one());
        }
        notices.ready().await;
        assert_eq!((notices.take().len(), notices.dropped()), (CAPACITY, 3));
        notices.send(one());
        notices.ready().await;
        assert_eq!(notices.take(), [one()]);
    }
}
