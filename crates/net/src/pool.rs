//! Connections kept between requests, per origin.
//!
//! hyper-util's pooled client is not used: it cannot be told a connect time per request, it spawns a task per
//! HTTP/1 response, and a cancelled HTTP/1 response keeps its connection open until the peer next sends something.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use tokio::task::AbortHandle;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use crate::OutBody;

/// The connections of one origin.
#[derive(Debug)]
pub(crate) struct Slot {
    limits: PoolLimits,
    state: Mutex<State>,
    http2: AtomicBool,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Idle HTTP/1 connections, most recently used last.
    idle: Vec<Idle>,
    shared: Vec<Arc<Shared>>,
}

impl State {
    /// Newest first, so that the pool shrinks when there is less to do. Closed ones on the way are dropped; one that
    /// has not yet seen the end of its last exchange stays where it is.
    fn newest_ready(&mut self) -> Option<Idle> {
        let mut at = self.idle.len();
        while let Some(before) = at.checked_sub(1) {
            at = before;
            match self.idle.get_mut(at)?.connection.at_rest() {
                Rest::Closed => drop(self.idle.remove(at)),
                Rest::Ready => return Some(self.idle.remove(at)),
                Rest::Busy => {}
            }
        }
        None
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    pub(crate) idle_connections: usize,
    pub(crate) idle_time: Duration,
    pub(crate) streams: usize,
}

/// Ends a shared connection's driver, and with it the connection, when dropped.
#[derive(Debug)]
pub(crate) struct Driver(AbortHandle);

impl Driver {
    pub(crate) const fn new(handle: AbortHandle) -> Self {
        Self(handle)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Idle {
    connection: H1,
    since: Instant,
}

/// An HTTP/1 connection: carries one exchange at a time. It has no task of its own. Whoever waits for something it brings
/// moves it along, so that what arrives wakes the request it is for and nobody else; dropping it closes it.
pub(crate) struct H1 {
    sender: http1::SendRequest<OutBody>,
    /// hyper's side of it; none once it is over.
    line: Option<Line>,
}

type Line = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// What may be done with a connection between exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Ready,
    /// The end of its last exchange has not been seen yet.
    Busy,
    Closed,
}

impl fmt::Debug for H1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H1").field("over", &self.line.is_none()).finish_non_exhaustive()
    }
}

impl H1 {
    /// A connection as hyper's handshake gives it.
    pub(crate) fn new(
        sender: http1::SendRequest<OutBody>,
        line: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Self {
        Self { sender, line: Some(Box::pin(line)) }
    }

    /// Write and read what can be written and read now.
    pub(crate) fn advance(&mut self, cx: &mut Context<'_>) {
        let Some(line) = &mut self.line else { return };
        if let Poll::Ready(ended) = line.as_mut().poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "an upstream connection ended with an error");
            }
            self.line = None;
        }
    }

    /// Wait for what only this connection can bring about.
    pub(crate) async fn until<T>(&mut self, what: impl Future<Output = T>) -> T {
        // It is looked at after every step of the connection and needs nobody to be woken. Nor has it a share in its task's
        // budget: when that is used up, only what asked to be woken goes on.
        let mut what = pin!(unconstrained(what));
        std::future::poll_fn(|cx| {
            self.advance(cx);
            what.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// Send a request and wait for the head of its response.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<OutBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<OutBody>>> {
        let response = self.sender.try_send_request(request);
        self.until(response).await
    }

    /// See what has become of it since somebody last waited for it.
    fn at_rest(&mut self) -> Rest {
        self.advance(&mut Context::from_waker(Waker::noop()));
        if self.line.is_none() || self.sender.is_closed() {
            Rest::Closed
        } else if self.sender.is_ready() {
            Rest::Ready
        } else {
            Rest::Busy
        }
    }
}

/// An HTTP/2 connection, shared by its streams.
#[derive(Debug)]
pub(crate) struct Shared {
    sender: http2::SendRequest<OutBody>,
    active: AtomicUsize,
    /// What the peer allows, kept current by the driver.
    room: Arc<AtomicUsize>,
    _driver: Driver,
}

/// The right to one exchange on a connection. Dropping it before [`Lease::release`] cancels the exchange.
#[derive(Debug)]
pub(crate) struct Lease {
    slot: Arc<Slot>,
    pub(crate) wire: Wire,
    pub(crate) reused: bool,
}

#[derive(Debug)]
pub(crate) enum Wire {
    H1(H1),
    H2(Stream),
}

/// One stream's share of an HTTP/2 connection. hyper resets the stream when its body is dropped early.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) sender: http2::SendRequest<OutBody>,
    shared: Arc<Shared>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Take a stream, unless the connection is closed or full.
    fn open(self: &Arc<Self>, limit: usize) -> Option<Stream> {
        if self.sender.is_closed() {
            return None;
        }
        let limit = limit.min(self.room.load(Ordering::Relaxed));
        if self.active.fetch_add(1, Ordering::Relaxed) >= limit {
            self.active.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Stream { sender: self.sender.clone(), shared: Arc::clone(self) })
    }
}

impl Slot {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self { limits, state: Mutex::default(), http2: AtomicBool::new(false), turn: tokio::sync::Mutex::default() }
    }

    /// A connection that is open and free, if there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Lease> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.shared.retain(|shared| !shared.sender.is_closed());
        if let Some(stream) = state.shared.iter().find_map(|shared| shared.open(self.limits.streams)) {
            return Some(self.lease(Wire::H2(stream), true));
        }
        let idle = state.newest_ready()?;
        if idle.since.elapsed() > self.limits.idle_time {
            return None;
        }
        Some(self.lease(Wire::H1(idle.connection), true))
    }

    /// Wait for whoever is opening a connection, if that connection will serve several: HTTP/2 was spoken last time.
    pub(crate) async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if self.http2.load(Ordering::Relaxed) { Some(self.turn.lock().await) } else { None }
    }

    /// Take charge of a new HTTP/1 connection.
    pub(crate) fn lease_h1(self: &Arc<Self>, connection: H1) -> Lease {
        self.http2.store(false, Ordering::Relaxed);
        self.lease(Wire::H1(connection), false)
    }

    /// Share a new HTTP/2 connection, unless another request has just made one that still has room.
    pub(crate) fn lease_h2(
        self: &Arc<Self>,
        sender: http2::SendRequest<OutBody>,
        room: Arc<AtomicUsize>,
        driver: Driver,
    ) -> Option<Lease> {
        self.http2.store(true, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = state.shared.iter().find_map(|shared| shared.open(self.limits.streams)) {
            return Some(self.lease(Wire::H2(stream), true));
        }
        let shared = Arc::new(Shared { sender, active: AtomicUsize::new(0), room, _driver: driver });
        let stream = shared.open(self.limits.streams)?;
        state.shared.push(shared);
        Some(self.lease(Wire::H2(stream), false))
    }

    /// Close what has been idle for too long; whether anything is left.
    pub(crate) fn sweep(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.limits.idle_time;
        state.idle.retain_mut(|idle| idle.connection.at_rest() != Rest::Closed && idle.since.elapsed() <= limit);
        state.shared.retain(|shared| !shared.sender.is_closed());
        !state.idle.is_empty() || !state.shared.is_empty()
    }

    fn lease(self: &Arc<Self>, wire: Wire, reused: bool) -> Lease {
        Lease { slot: Arc::clone(self), wire, reused }
    }

    fn put_back(&self, connection: H1) {
        if connection.line.is_none() || connection.sender.is_closed() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.idle.len() >= self.limits.idle_connections {
            state.idle.remove(0);
        }
        state.idle.push(Idle { connection, since: Instant::now() });
    }
}

impl Lease {
    /// The exchange is over and nothing of it is left on the connection.
    pub(crate) fn release(self) {
        if let Wire::H1(connection) = self.wire {
            self.slot.put_back(connection);
        }
    }
}
