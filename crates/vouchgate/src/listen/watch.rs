//! One connection's clockwork: what it is waiting for, and since when.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Limits;

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Keep,
    /// Take no more requests on it, and close it when those running are answered.
    Retire,
    /// Close it now.
    Cut(&'static str),
}

/// Moments are milliseconds since the connection began, plus one: zero means "not".
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    began: Instant,
    http2: AtomicBool,
    active: AtomicUsize,
    /// Since when a request's head has been arriving (HTTP/1).
    head: AtomicU64,
    /// Since when there has been no request.
    idle: AtomicU64,
    /// Since when the socket has taken nothing of what is to be written.
    blocked: AtomicU64,
    retired: AtomicU64,
    /// What is read from now on is no HTTP.
    switched: AtomicBool,
    /// HTTP/2: since when each stream has not asked for more of its answer.
    streams: Mutex<Vec<Arc<AtomicU64>>>,
}

/// A request being answered. Ends when its answer has been handed over whole, or is dropped.
#[derive(Debug)]
pub(super) struct Active {
    watch: Arc<Watch>,
    stream: Option<Arc<AtomicU64>>,
}

impl Watch {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        Arc::new(Self {
            limits,
            began: Instant::now(),
            http2: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            head: zero(),
            idle: AtomicU64::new(1),
            blocked: zero(),
            retired: zero(),
            switched: AtomicBool::new(false),
            streams: Mutex::default(),
        })
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// How often to ask for a verdict: often enough for the shortest limit, seldom enough to cost nothing.
    pub(super) fn period(&self) -> Duration {
        let Limits { header_timeout, keep_alive, write_idle, .. } = self.limits;
        let shortest = header_timeout.min(keep_alive).min(write_idle);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_millis(2500))
    }

    /// The first bytes have been read.
    pub(super) fn opened(&self, http2: bool) {
        self.http2.store(http2, Ordering::Relaxed);
        if !http2 {
            self.head.store(1, Ordering::Relaxed);
        }
    }

    /// The connection speaks another protocol once the answer that says so is out.
    pub(super) fn switch(&self) {
        self.switched.store(true, Ordering::Release);
    }

    /// Whether it does.
    pub(super) fn is_switched(&self) -> bool {
        self.switched.load(Ordering::Acquire)
    }

    /// Bytes were read.
    pub(super) fn read(&self) {
        if self.active.load(Ordering::Relaxed) == 0
            && self.head.load(Ordering::Relaxed) == 0
            && !self.http2.load(Ordering::Relaxed)
        {
            self.head.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The socket took something, or has nothing to take.
    pub(super) fn wrote(&self) {
        if self.blocked.load(Ordering::Relaxed) != 0 {
            self.blocked.store(0, Ordering::Relaxed);
        }
    }

    /// The socket takes nothing at the moment.
    pub(super) fn write_blocked(&self) {
        if self.blocked.load(Ordering::Relaxed) == 0 {
            self.blocked.store(self.now(), Ordering::Relaxed);
        }
    }

    /// A request's head is complete.
    pub(super) fn begin(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
        Active { watch: Arc::clone(self), stream: None }
    }

    pub(super) fn verdict(&self, now: u64) -> Verdict {
        let past = |since: &AtomicU64, limit: Duration| {
            let since = since.load(Ordering::Relaxed);
            since != 0 && u128::from(now.saturating_sub(since)) >= limit.as_millis()
        };
        if past(&self.blocked, self.limits.write_idle) {
            return Verdict::Cut("write_idle");
        }
        let active = self.active.load(Ordering::Relaxed);
        if active == 0 {
            return if past(&self.head, self.limits.header_timeout) {
                Verdict::Cut("header_timeout")
            } else if past(&self.retired, self.limits.header_timeout) {
                Verdict::Cut("keep_alive")
            } else if past(&self.idle, self.limits.keep_alive) {
                self.retire(now)
            } else {
                Verdict::Keep
            };
        }
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = streams.iter().filter(|since| past(since, self.limits.write_idle)).count();
        match stalled {
            0 => Verdict::Keep,
            // A client that takes nothing of any answer is gone or hostile. If it takes some, those may finish.
            all if all >= active => Verdict::Cut("stream_write_idle"),
            _ => self.retire(now),
        }
    }

    fn retire(&self, now: u64) -> Verdict {
        // Once is enough.
        match self.retired.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Verdict::Retire,
            Err(_) => Verdict::Keep,
        }
    }
}

impl Active {
    /// The answer's head is there; on HTTP/2, watch whether its body is asked for.
    pub(super) fn answering(&mut self) {
        if self.watch.http2.load(Ordering::Relaxed) {
            let stream = Arc::new(AtomicU64::new(self.watch.now()));
            self.watch.streams.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&stream));
            self.stream = Some(stream);
        }
    }

    /// The client's side asks for more; it is our turn.
    pub(super) fn asked(&self) {
        if let Some(stream) = &self.stream {
            stream.store(0, Ordering::Relaxed);
        }
    }

    /// A piece was handed over; it is the client's turn.
    pub(super) fn handed_over(&self) {
        if let Some(stream) = &self.stream {
            stream.store(self.watch.now(), Ordering::Relaxed);
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            let mut streams = self.watch.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.retain(|other| !Arc::ptr_eq(other, stream));
        }
        if self.watch.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.watch.idle.store(self.watch.now(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1000;

    fn watch(http2: bool) -> Arc<Watch> {
        let watch = Watch::new(Limits::default());
        watch.opened(http2);
        watch
    }

    #[test]
    fn a_head_has_ten_seconds_from_its_first_byte() {
        let watch = watch(false);
        assert_eq!(watch.verdict(9 * SECOND), Verdict::Keep);
        assert_eq!(watch.verdict(11 * SECOND), Verdict::Cut("header_timeout"));
        let request = watch.begin();
        assert_eq!(watch.verdict(11 * SECOND), Verdict::Keep, "the head is complete");
        drop(request);
        assert_eq!(watch.verdict(60 * SECOND), Verdict::Keep, "between requests there is more time");
        watch.read();
        assert_eq!(watch.verdict(60 * SECOND), Verdict::Cut("header_timeout"), "but not within the next head");
    }

    #[test]
    fn an_idle_connection_is_retired_once_and_cut_if_it_stays() {
        let watch = watch(true);
        assert_eq!(watch.verdict(74 * SECOND), Verdict::Keep);
        assert_eq!(watch.verdict(76 * SECOND), Verdict::Retire);
        assert_eq!(watch.verdict(77 * SECOND), Verdict::Keep);
        assert_eq!(watch.verdict(87 * SECOND), Verdict::Cut("keep_alive"));
    }

    #[test]
    fn a_request_may_take_as_long_as_it_likes() {
        for http2 in [false, true] {
            let watch = watch(http2);
            let mut request = watch.begin();
            request.answering();
            request.asked();
            assert_eq!(watch.verdict(100_000 * SECOND), Verdict::Keep);
        }
    }

    #[test]
    fn a_socket_that_takes_nothing_is_cut_and_one_that_takes_a_little_is_not() {
        let watch = watch(false);
        let _request = watch.begin();
        watch.write_blocked();
        assert_eq!(watch.verdict(61 * SECOND), Verdict::Cut("write_idle"));
        watch.wrote();
        assert_eq!(watch.verdict(61 * SECOND), Verdict::Keep);
    }

    #[test]
    fn a_connection_whose_streams_all_stall_is_cut_and_one_with_a_living_stream_retired() {
        let watch = watch(true);
        let (mut stalled, mut living) = (watch.begin(), watch.begin());
        stalled.answering();
        living.answering();
        stalled.handed_over();
        living.asked();
        assert_eq!(watch.verdict(61 * SECOND), Verdict::Retire);
        assert_eq!(watch.verdict(62 * SECOND), Verdict::Keep);
        drop(living);
        assert_eq!(watch.verdict(62 * SECOND), Verdict::Cut("stream_write_idle"));
        drop(stalled);
        assert!(watch.streams.lock().unwrap().is_empty());
    }
}
