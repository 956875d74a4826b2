//! Bodies: what is sent, what comes back, and how long silence may last.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use base::Who;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::Tunnel;
use crate::pool::{Lease, Wire};

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body: whole (the usual case, no allocation) or streamed.
pub struct OutBody(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Stream(UnsyncBoxBody<Bytes, BoxError>),
}

impl OutBody {
    /// No body.
    pub const fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    /// A body sent as it arrives. Its length is announced if its size hint is exact.
    pub fn stream<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Kind::Stream(body.map_err(Into::into).boxed_unsync()))
    }
}

impl Default for OutBody {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for OutBody {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
    }
}

impl From<Vec<u8>> for OutBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Bytes::from(bytes))
    }
}

impl fmt::Debug for OutBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Whole(_) => "OutBody::Whole",
            Kind::Stream(_) => "OutBody::Stream",
        })
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Stream(body) => body.size_hint(),
        }
    }
}

/// Why a body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Nothing arrived for as long as silence may last.
    #[error("nothing arrived for too long")]
    Idle,
    /// The connection or stream ended before the body did.
    #[error("the body was cut off")]
    Cut,
    /// The body's framing is broken.
    #[error("the body is not framed correctly")]
    Malformed,
}

impl BodyError {
    /// A stable short code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Idle => "body_idle_timeout",
            Self::Cut => "body_cut",
            Self::Malformed => "body_malformed",
        }
    }

    /// Whose fault it is when the body is a provider's. (Of a request's body it is always the client's.)
    pub const fn who(self) -> Who {
        Who::Provider
    }
}

impl From<hyper::Error> for BodyError {
    fn from(error: hyper::Error) -> Self {
        let framing =
            std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>()).is_some_and(
                |io| io.kind() == std::io::ErrorKind::InvalidInput || io.kind() == std::io::ErrorKind::InvalidData,
            );
        if error.is_parse() || framing { Self::Malformed } else { Self::Cut }
    }
}

/// A body that fails with [`BodyError::Idle`] when nothing arrives for a while. The timer runs only while a
/// reader waits: a reader that takes its time is no fault of the sender's.
pub struct IdleBody<B> {
    inner: B,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<B> IdleBody<B> {
    /// Allow `body` to be silent for `idle`.
    pub const fn new(inner: B, idle: Duration) -> Self {
        Self { inner, idle, timer: None, waiting: false }
    }
}

impl<B> fmt::Debug for IdleBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleBody").field("idle", &self.idle).finish_non_exhaustive()
    }
}

impl<B> Body for IdleBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timer = match &mut this.timer {
            Some(timer) => {
                if !this.waiting {
                    timer.as_mut().reset(Instant::now() + this.idle);
                }
                timer
            }
            none => none.insert(Box::pin(tokio::time::sleep(this.idle))),
        };
        this.waiting = true;
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Idle)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body and the connection it comes over, which is moved along by whoever reads.
struct Arriving {
    incoming: Incoming,
    /// None once nothing of the exchange is left on it.
    lease: Option<Lease>,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { incoming, lease } = &mut *self;
        let mut incoming = Pin::new(incoming);
        let Some(Lease { wire: Wire::H1(connection), .. }) = lease else { return incoming.poll_frame(cx) };
        // Only the connection brings a piece, and it is looked for after every step of it: nobody has to be woken for that.
        let mut nobody = Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = incoming.as_mut().poll_frame(&mut nobody) {
            return Poll::Ready(frame);
        }
        connection.advance(cx);
        incoming.poll_frame(&mut nobody)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Is told how a response's body goes. Dropped without the end being told, the body was given up by whoever read it.
pub trait BodyWatch: Send {
    /// A piece has come.
    fn piece(&mut self);

    /// The body is over: complete, or broken off.
    fn over(&mut self, error: Option<BodyError>);
}

/// A response body. Read to its end, its connection serves the next request; dropped before, the exchange is
/// cancelled at once (HTTP/1: the connection closes; HTTP/2: the stream is reset).
pub struct UpstreamBody {
    body: IdleBody<Arriving>,
    tunnel: Option<Tunnel>,
    /// What was read ahead.
    ahead: Option<Bytes>,
    watch: Option<Box<dyn BodyWatch>>,
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody").field("body", &self.body).finish_non_exhaustive()
    }
}

impl UpstreamBody {
    pub(crate) fn new(incoming: Incoming, idle: Duration, lease: Lease) -> Self {
        let arriving = Arriving { incoming, lease: Some(lease) };
        let mut body = Self { body: IdleBody::new(arriving, idle), tunnel: None, ahead: None, watch: None };
        body.release_at_end();
        body
    }

    /// Of a response after which the connection speaks another protocol.
    pub(crate) fn switched(incoming: Incoming, idle: Duration, tunnel: Tunnel) -> Self {
        let (arriving, tunnel) = (Arriving { incoming, lease: None }, Some(tunnel));
        Self { body: IdleBody::new(arriving, idle), tunnel, ahead: None, watch: None }
    }

    /// Whether the connection speaks another protocol from here on.
    pub const fn is_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// The connection, where it speaks another protocol from here on.
    pub fn into_tunnel(self) -> Option<Tunnel> {
        self.tunnel
    }

    /// Tell `watch` how the rest of the body goes.
    pub fn watched(&mut self, watch: Box<dyn BodyWatch>) {
        self.watch = Some(watch);
    }

    /// The next piece, which stays the next to be read; `None` at the end.
    pub async fn ahead(&mut self) -> Result<Option<&Bytes>, BodyError> {
        while self.ahead.is_none() {
            match self.frame().await {
                None => return Ok(None),
                Some(frame) => self.ahead = frame?.into_data().ok().filter(|data| !data.is_empty()),
            }
        }
        Ok(self.ahead.as_ref())
    }

    /// The connection goes back only when nothing of this exchange is left on it.
    fn release_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(lease) = self.body.inner.lease.take()
        {
            lease.release();
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(Some(Ok(Frame::data(ahead))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => {
                if let Some(lease) = self.body.inner.lease.take() {
                    lease.release();
                }
            }
            Some(Ok(_)) => self.release_at_end(),
            Some(Err(_)) => self.body.inner.lease = None,
        }
        let released = self.body.inner.lease.is_none();
        if let Some(watch) = &mut self.watch {
            match &frame {
                Some(Ok(_)) => {
                    watch.piece();
                    if released {
                        watch.over(None);
                        self.watch = None;
                    }
                }
                None => {
                    watch.over(None);
                    self.watch = None;
                }
                Some(Err(error)) => {
                    watch.over(Some(*error));
                    self.watch = None;
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.as_ref().map_or(0, |ahead| ahead.len() as u64);
        let mut hint = SizeHint::new();
        let rest = self.body.size_hint();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}
