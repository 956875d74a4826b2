//! Going away without losing anybody's answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How far the shutdown of a listener has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not shutting down.
    Serving,
    /// `/readyz` says no, so that load balancers stop sending; connections are still accepted.
    Leaving,
    /// Nothing is accepted; idle connections close, the others finish what they do and take nothing new.
    Draining,
    /// Answers still running are told to end, with an error their client understands.
    Ending,
    /// What is left is cut.
    Over,
}

/// How long each phase lasts at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainTimes {
    /// Accepting, though not ready.
    pub pre_stop: Duration,
    /// Finishing.
    pub drain: Duration,
    /// Saying so, to whoever did not finish.
    pub ending: Duration,
}

impl From<&config::Limits> for DrainTimes {
    fn from(limits: &config::Limits) -> Self {
        Self {
            pre_stop: limits.pre_stop.duration(),
            drain: limits.drain_timeout.duration(),
            ending: Duration::from_secs(5),
        }
    }
}

/// The shutdown of a listener. Clones are the same shutdown.
#[derive(Debug, Clone)]
pub struct Drain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    phase: watch::Sender<Phase>,
    ending: watch::Sender<bool>,
    /// Each connection holds a receiver: when there is none, all have ended.
    connections: watch::Sender<()>,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// Not shutting down yet.
    pub fn new() -> Self {
        let (phase, ending) = (watch::Sender::new(Phase::Serving), watch::Sender::new(false));
        Self(Arc::new(Inner { phase, ending, connections: watch::Sender::new(()) }))
    }

    /// Whether to tell load balancers to send requests.
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Follow it.
    pub fn follow(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Becomes `true` when answers that still run have to end: a stream then sends an error event, never a clean end.
    pub fn ending(&self) -> watch::Receiver<bool> {
        self.0.ending.subscribe()
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.0.connections.receiver_count()
    }

    /// Counts a connection for as long as it is held.
    pub(super) fn hold(&self) -> watch::Receiver<()> {
        self.0.connections.subscribe()
    }

    /// Shut down, phase by phase, each no longer than needed. Returns how many connections had to be cut.
    pub async fn run(&self, times: DrainTimes) -> usize {
        self.enter(Phase::Leaving);
        tokio::time::sleep(times.pre_stop).await;
        self.enter(Phase::Draining);
        if !self.finished(times.drain).await {
            self.enter(Phase::Ending);
            self.0.ending.send_replace(true);
            self.finished(times.ending).await;
        }
        let left = self.connections();
        self.enter(Phase::Over);
        left
    }

    async fn finished(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.0.connections.closed()).await.is_ok()
    }

    /// Never back: a second shutdown joins the first.
    fn enter(&self, phase: Phase) {
        self.0.phase.send_if_modified(|current| {
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
    }
}
