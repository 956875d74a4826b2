//! What the mock was asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::{Notify, watch};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not answered to the end yet.
    Open,
    /// The whole answer (or all of it that was to be sent) has been written.
    Answered,
    /// The caller closed the connection before that.
    Dropped,
}

/// A request as it arrived.
#[derive(Debug)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The request target as sent: path and query.
    pub target: String,
    /// The request line and headers as sent, with the empty line.
    pub head: Vec<u8>,
    /// Names in the case they were sent in, in order.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Which connection of this mock it came by, from 0.
    pub connection: usize,
    pub(super) outcome: watch::Sender<Outcome>,
}

impl Received {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The body as JSON (`null` if it is not).
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// What has become of it.
    pub fn outcome(&self) -> Outcome {
        *self.outcome.borrow()
    }

    /// Wait until it has been answered or dropped.
    pub async fn settled(&self) -> Outcome {
        let mut outcome = self.outcome.subscribe();
        let settled =
            async { *outcome.wait_for(|outcome| *outcome != Outcome::Open).await.expect("the sender is here") };
        crate::patiently("a request to the mock to settle", settled).await
    }

    /// The id of the recording it asks for: by header, or by `replay-<12 hex digits>` in model or path.
    pub(super) fn replay_id(&self) -> Option<String> {
        if let Some(id) = self.header("x-replay-id") {
            return Some(id.to_owned());
        }
        let model = self.json().get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
        [model.as_str(), self.target.as_str()].iter().find_map(|text| {
            let id = text.split_once("replay-")?.1.get(..12)?;
            id.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| id.to_owned())
        })
    }
}

/// All requests of one mock, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: Mutex<Vec<Arc<Received>>>,
    arrived: Notify,
    connections: AtomicUsize,
}

impl Journal {
    pub(super) fn connected(&self) -> usize {
        self.connections.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn note(&self, request: Received) -> Arc<Received> {
        let request = Arc::new(request);
        self.entries.lock().unwrap().push(Arc::clone(&request));
        self.arrived.notify_waiters();
        request
    }

    pub(super) fn all(&self) -> Vec<Arc<Received>> {
        self.entries.lock().unwrap().clone()
    }

    pub(super) async fn nth(&self, index: usize) -> Arc<Received> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            // Registered before the look, so that an arrival in between is not missed.
            arrived.as_mut().enable();
            if let Some(request) = self.entries.lock().unwrap().get(index) {
                return Arc::clone(request);
            }
            arrived.await;
        }
    }
}
