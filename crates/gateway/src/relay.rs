//! Answers on their way to the caller: whole, or pumped piece by piece at the caller's pace.
//!
//! A stream has no task and no buffer of its own: a piece is asked of the upstream when the client takes one, so a slow
//! client slows the provider, and a client that goes drops the upstream call with the body. What breaks off upstream ends
//! in an error event of the caller's dialect, or, where there is no such thing, in a broken connection: never cleanly.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base::Problem;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use llm::passthrough::{Said, StreamTap};
use llm::{Failure, Usage};
use net::UpstreamBody;

use crate::authenticate::Caller;
use crate::body::{BodyError, GatewayBody, Tunnel};
use crate::endpoint::realtime;
use crate::settle::{Outcome, Receipt};
use crate::{Reservation, Shared};

/// How many pieces may turn into nothing before other work gets its turn.
const PIECES_PER_TURN: usize = 64;

/// An answer that is ready to go out.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// What an answer consists of.
pub(crate) enum Content {
    /// All of it is here.
    Whole(Bytes, Outcome),
    /// It comes from upstream, through a pipe; some pieces may have been read already.
    Stream(VecDeque<Bytes>, UpstreamBody, Box<dyn Pipe>),
    /// It is made here, event by event.
    Made(VecDeque<Bytes>, Box<dyn Pipe>),
    /// The connection speaks another protocol from here on.
    Session(Box<realtime::Session>),
}

/// What a stream goes through.
pub(crate) trait Pipe: Send {
    /// Take a piece from upstream; what comes back goes out now.
    fn feed(&mut self, piece: &Bytes) -> Bytes;

    /// Upstream has ended, cleanly or not; what comes back goes out last.
    fn finish(&mut self, clean: bool) -> Bytes;

    /// This gateway ends the stream, for this reason; what comes back goes out last.
    fn interrupt(&mut self, _: &Problem) -> Bytes {
        self.finish(false)
    }

    /// What has to be done before what came of the last piece goes out; a failure ends the stream.
    fn before(&mut self) -> Option<Before> {
        None
    }

    /// What the stream has come to.
    fn state(&self) -> State;

    /// Whether a complete answer came to a good end, as far as whoever made it knows: one that was refused or stopped by a
    /// filter did not, and is not given to anybody else.
    fn is_well(&self) -> bool;

    /// Why what has come so far is no answer, also where the provider said so itself in an event that is passed on.
    fn failed(&self) -> Option<&'static str> {
        match self.state() {
            State::Open | State::Complete => None,
            State::Told(why) | State::Broken(why) => Some(why),
        }
    }

    /// Tokens seen so far.
    fn usage(&self) -> Usage;

    /// What has been said so far, where it is text that was generated.
    fn said(&self) -> Said;

    /// What goes through it.
    fn kind(&self) -> Kind {
        Kind::Events
    }
}

/// Something to be waited for.
pub(crate) type Before = BoxFuture<'static, Result<(), Problem>>;

/// What goes through a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Events, made or changed on the way.
    Events,
    /// Events as they are.
    OpaqueEvents,
    /// Bytes as they are: as many as upstream says.
    Bytes,
}

/// What a stream has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It goes on.
    Open,
    /// It is complete, or as complete as can be told.
    Complete,
    /// It failed, and the caller has been told so by an event.
    Told(&'static str),
    /// It failed, and nothing but breaking the connection can tell.
    Broken(&'static str),
}

impl Answer {
    /// A JSON body made here.
    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { status: StatusCode::OK, headers, content: Content::Whole(body.into(), Outcome::Ok) }
    }

    /// An event stream with these header fields.
    pub(crate) fn events(mut headers: HeaderMap, content: Content) -> Self {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
        // nginx and those who copied it would otherwise hold events back.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        Self { status: StatusCode::OK, headers, content }
    }
}

/// Send an answer. What was reserved for it is held until its last byte is out or the client has gone.
pub(crate) fn respond(answer: Answer, mut receipt: Receipt, reservation: Option<Reservation>) -> Response<GatewayBody> {
    receipt.status(answer.status);
    let body = match answer.content {
        Content::Whole(bytes, outcome) => {
            receipt.sent(bytes.len());
            receipt.ended(outcome);
            GatewayBody::full(bytes)
        }
        Content::Stream(first, body, pipe) => relay((first, Some(body)), pipe, receipt, reservation),
        Content::Made(events, pipe) => relay((events, None), pipe, receipt, reservation),
        Content::Session(session) => {
            GatewayBody::tunnel(Tunnel::new(|client| session.run(client, receipt, reservation).boxed()))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

fn relay(
    (ready, upstream): (VecDeque<Bytes>, Option<UpstreamBody>),
    pipe: Box<dyn Pipe>,
    mut receipt: Receipt,
    reservation: Option<Reservation>,
) -> GatewayBody {
    if pipe.kind() != Kind::Bytes {
        receipt.streaming();
    }
    let source = Source { ready, upstream };
    let cut = reservation.as_ref().is_some_and(|reservation| reservation.permit().cut_on_revocation());
    let shared = Arc::clone(receipt.shared());
    let ending: Pin<Box<dyn Future<Output = Ending> + Send>> =
        if cut { Box::pin(draining_or_revoked(shared, receipt.caller().clone())) } else { Box::pin(draining(shared)) };
    let most = receipt.most_output();
    let relay = Relay {
        source: Some(source),
        pipe,
        receipt,
        _reservation: reservation,
        ending,
        most,
        urgent: cut,
        held: None,
        broken: None,
        breaking: false,
    };
    GatewayBody::stream(relay)
}

/// Why this gateway ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The server stops.
    Draining,
    /// The policy wants streams cut when their token is revoked, and it was.
    Revoked,
    /// The provider goes on after all that was held for its answer.
    Exhausted,
}

impl Ending {
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::Draining => {
                Problem::us(StatusCode::SERVICE_UNAVAILABLE, "draining", "The gateway is stopping; ask again.")
            }
            Self::Revoked => {
                Problem::client(StatusCode::UNAUTHORIZED, "token_revoked", "The access token has been revoked.")
            }
            Self::Exhausted => {
                let message = "The answer is longer than what was held for it; nothing more is paid for.";
                Problem::client(StatusCode::TOO_MANY_REQUESTS, "budget_exhausted", message)
            }
        }
    }
}

/// Ends when this server wants open streams to end.
async fn draining(shared: Arc<Shared>) -> Ending {
    let mut drain = shared.drain.clone();
    if drain.wait_for(|drain| *drain).await.is_err() {
        // Nobody is left to ask for it.
        std::future::pending::<()>().await;
    }
    Ending::Draining
}

/// Ends also when what let the caller in has been revoked.
pub(crate) async fn draining_or_revoked(shared: Arc<Shared>, caller: Caller) -> Ending {
    let mut changes = shared.revoked.watch();
    let revoked = async {
        while !caller.is_revoked(shared.revoked.as_ref()) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        Ending::Revoked
    };
    tokio::select! {
        ending = revoked => ending,
        ending = draining(Arc::clone(&shared)) => ending,
    }
}

/// Where pieces come from: first those that are ready, then upstream.
struct Source {
    ready: VecDeque<Bytes>,
    upstream: Option<UpstreamBody>,
}

/// What came of asking a source for a piece.
enum Piece {
    Data(Bytes),
    End,
    Cut(&'static str),
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        if let Some(piece) = self.ready.pop_front() {
            return Poll::Ready(Piece::Data(piece));
        }
        let Some(body) = &mut self.upstream else { return Poll::Ready(Piece::End) };
        Pin::new(body).poll_frame(cx).map(|frame| match frame {
            None => Piece::End,
            Some(Ok(frame)) => Piece::Data(frame.into_data().unwrap_or_default()),
            Some(Err(error)) => Piece::Cut(error.reason()),
        })
    }
}

/// A streamed answer. Field order is drop order: upstream first, then the account, then the reservation.
struct Relay {
    source: Option<Source>,
    pipe: Box<dyn Pipe>,
    receipt: Receipt,
    _reservation: Option<Reservation>,
    ending: Pin<Box<dyn Future<Output = Ending> + Send>>,
    /// The most tokens that may be generated, where a budget pays for them.
    most: Option<u64>,
    /// Whether the end does not wait for upstream to pause.
    urgent: bool,
    /// What is to go out once something else is done.
    held: Option<(Before, Bytes)>,
    broken: Option<BodyError>,
    /// What came before has had its turn to be written.
    breaking: bool,
}

impl Relay {
    /// Nothing more is read. What the pipe has left to say is the last that goes out.
    fn end(&mut self, clean: bool, reason: &'static str) -> Bytes {
        let last = self.pipe.finish(clean);
        self.over(clean, reason);
        last
    }

    /// This gateway wants no more of it.
    fn interrupt(&mut self, ending: Ending) -> Bytes {
        let problem = ending.problem();
        let last = self.pipe.interrupt(&problem);
        self.over(false, problem.code);
        last
    }

    /// Whether more has been generated than was held for: by the provider's own count, or by what has gone by.
    fn is_exhausted(&self) -> bool {
        let Some(most) = self.most else { return false };
        self.pipe.said().is_more_than(most) || self.pipe.usage().generated().is_some_and(|made| made > most)
    }

    /// What came of a piece, once nothing stands before it; what goes out instead if that fails.
    fn release(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some((before, _)) = &mut self.held else { return Poll::Ready(None) };
        let done = ready!(before.as_mut().poll(cx));
        let out = self.held.take().map(|(_, out)| out);
        let Err(problem) = done else { return Poll::Ready(out) };
        if self.source.is_none() {
            self.broken = Some(BodyError::Cut);
            return Poll::Ready(Some(Bytes::new()));
        }
        let last = self.pipe.interrupt(&problem);
        self.over(false, problem.code);
        Poll::Ready(Some(last))
    }

    fn over(&mut self, clean: bool, reason: &'static str) {
        self.source = None;
        let (outcome, broken) = match self.pipe.state() {
            State::Complete => (Outcome::Ok, None),
            State::Open if clean => (Outcome::Ok, None),
            State::Told(why) => (Outcome::Cut(if clean { why } else { reason }), None),
            State::Open | State::Broken(_) => (Outcome::Cut(reason), Some(BodyError::Cut)),
        };
        self.receipt.ended(outcome);
        self.broken = broken;
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        for _ in 0..PIECES_PER_TURN {
            if let Some(out) = ready!(this.release(cx)).filter(|out| !out.is_empty()) {
                this.receipt.sent(out.len());
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
            let Some(source) = &mut this.source else {
                if this.broken.is_some() && !std::mem::replace(&mut this.breaking, true) {
                    // What has been said so far is written first: breaking off forgets what was not.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(this.broken.take().map(Err));
            };
            if this.urgent
                && let Poll::Ready(ending) = this.ending.as_mut().poll(cx)
            {
                let out = this.interrupt(ending);
                if out.is_empty() {
                    continue;
                }
                this.receipt.sent(out.len());
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
            let out = match source.poll(cx) {
                Poll::Ready(Piece::Data(piece)) => {
                    let out = this.pipe.feed(&piece);
                    match this.pipe.state() {
                        State::Open if this.is_exhausted() => {
                            let last = this.interrupt(Ending::Exhausted);
                            Bytes::from([out, last].concat())
                        }
                        State::Open | State::Complete => out,
                        // The caller has been told; what else comes from upstream is of no use.
                        State::Told(why) => {
                            this.source = None;
                            this.receipt.ended(Outcome::Cut(why));
                            out
                        }
                        State::Broken(why) => {
                            this.source = None;
                            this.receipt.ended(Outcome::Cut(why));
                            this.broken = Some(BodyError::Cut);
                            out
                        }
                    }
                }
                Poll::Ready(Piece::End) => this.end(true, "upstream_cut"),
                Poll::Ready(Piece::Cut(reason)) => this.end(false, reason),
                Poll::Pending if this.urgent => return Poll::Pending,
                Poll::Pending => match this.ending.as_mut().poll(cx) {
                    Poll::Ready(ending) => this.interrupt(ending),
                    Poll::Pending => return Poll::Pending,
                },
            };
            if let Some(before) = this.pipe.before() {
                this.held = Some((before, out));
            } else if !out.is_empty() {
                this.receipt.sent(out.len());
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none() && self.held.is_none() && self.broken.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let upstream =
            self.source.as_ref().and_then(|source| source.upstream.as_ref().filter(|_| source.ready.is_empty()));
        let exact = upstream.filter(|_| self.pipe.kind() == Kind::Bytes).and_then(|body| body.size_hint().exact());
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.receipt.usage(self.pipe.usage());
    }
}

/// What nobody looks at.
#[derive(Debug)]
pub(crate) struct Opaque {
    kind: Kind,
    cut: bool,
}

impl Opaque {
    /// For an answer that is `streamed`, or is not.
    pub(crate) fn new(streamed: bool) -> Self {
        Self { kind: if streamed { Kind::OpaqueEvents } else { Kind::Bytes }, cut: false }
    }
}

impl Pipe for Opaque {
    fn feed(&mut self, piece: &Bytes) -> Bytes {
        piece.clone()
    }

    fn finish(&mut self, clean: bool) -> Bytes {
        self.cut = !clean;
        Bytes::new()
    }

    fn is_well(&self) -> bool {
        true
    }

    fn state(&self) -> State {
        if self.cut { State::Broken("upstream_cut") } else { State::Open }
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn said(&self) -> Said {
        Said::default()
    }

    fn kind(&self) -> Kind {
        self.kind
    }
}

fn state_of(outcome: &llm::Outcome) -> State {
    match outcome {
        llm::Outcome::Open => State::Open,
        llm::Outcome::Complete => State::Complete,
        llm::Outcome::Cut => State::Told("upstream_cut"),
        llm::Outcome::Failed(_) => State::Told("provider_error"),
        llm::Outcome::Garbage => State::Told("upstream_invalid_stream"),
    }
}

/// A stream of the caller's own dialect, watched as it goes by.
pub(crate) struct Watched {
    tap: StreamTap,
    finished: bool,
}

impl Watched {
    pub(crate) fn new(tap: StreamTap) -> Self {
        Self { tap, finished: false }
    }
}

impl Pipe for Watched {
    fn feed(&mut self, piece: &Bytes) -> Bytes {
        self.tap.feed(piece)
    }

    fn finish(&mut self, clean: bool) -> Bytes {
        self.finished = true;
        Bytes::from(self.tap.finish(clean))
    }

    fn interrupt(&mut self, problem: &Problem) -> Bytes {
        self.finished = true;
        Bytes::from(self.tap.interrupt(&Failure::from(problem)))
    }

    fn is_well(&self) -> bool {
        true
    }

    fn state(&self) -> State {
        match self.tap.outcome() {
            // An error event of the provider's is an event like any other: what follows it still goes out.
            llm::Outcome::Failed(_) if !self.finished => State::Open,
            outcome => state_of(outcome),
        }
    }

    fn failed(&self) -> Option<&'static str> {
        match state_of(self.tap.outcome()) {
            State::Open | State::Complete => None,
            State::Told(why) | State::Broken(why) => Some(why),
        }
    }

    fn usage(&self) -> Usage {
        self.tap.usage()
    }

    fn said(&self) -> Said {
        self.tap.said()
    }
}

/// A stream of another dialect.
impl Pipe for llm::StreamTranslation {
    fn feed(&mut self, piece: &Bytes) -> Bytes {
        Bytes::from(Self::feed(self, piece))
    }

    fn finish(&mut self, clean: bool) -> Bytes {
        Bytes::from(Self::finish(self, clean))
    }

    fn interrupt(&mut self, problem: &Problem) -> Bytes {
        Bytes::from(Self::interrupt(self, &Failure::from(problem)))
    }

    fn is_well(&self) -> bool {
        true
    }

    fn state(&self) -> State {
        state_of(self.outcome())
    }

    fn usage(&self) -> Usage {
        Self::usage(self)
    }

    fn said(&self) -> Said {
        Self::said(self)
    }
}
