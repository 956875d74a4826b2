//! The body of an answer: known whole, or made as it is read.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};

/// Why an answer ended before its end; the connection is then closed so that nobody takes it for complete.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream's answer broke off.
    #[error("the upstream's answer ended early")]
    Cut,
}

/// A body that is produced while the client reads it.
type Stream = Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>;

/// The body of every answer of the gateway. Dropping it cancels the upstream call behind it.
pub struct GatewayBody(Inner);

enum Inner {
    Empty,
    Full(Bytes),
    Stream(Stream),
    Tunnel(Option<Tunnel>),
}

/// What happens on a connection that speaks another protocol once its last HTTP answer (101) is out. Dropping it ends
/// what it was for.
pub struct Tunnel(Begin);

type Begin = Box<dyn FnOnce(net::Tunnel) -> BoxFuture<'static, ()> + Send>;

impl Tunnel {
    pub(crate) fn new(begin: impl FnOnce(net::Tunnel) -> BoxFuture<'static, ()> + Send + 'static) -> Self {
        Self(Box::new(begin))
    }

    /// Serve the client behind this connection until one side ends it.
    pub async fn run(self, client: net::Tunnel) {
        (self.0)(client).await;
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tunnel")
    }
}

impl GatewayBody {
    /// None: what follows on the connection is not HTTP.
    pub(crate) fn tunnel(tunnel: Tunnel) -> Self {
        Self(Inner::Tunnel(Some(tunnel)))
    }

    /// What to do with the connection once this answer is out.
    pub fn take_tunnel(&mut self) -> Option<Tunnel> {
        match &mut self.0 {
            Inner::Tunnel(tunnel) => tunnel.take(),
            _ => None,
        }
    }

    /// No body.
    pub fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self(Inner::Full(bytes)) }
    }

    /// What `body` produces.
    pub(crate) fn stream(body: impl Body<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(body)))
    }
}

impl std::fmt::Debug for GatewayBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Inner::Empty => "GatewayBody(empty)",
            Inner::Full(_) => "GatewayBody(full)",
            Inner::Stream(_) => "GatewayBody(stream)",
            Inner::Tunnel(_) => "GatewayBody(tunnel)",
        })
    }
}

impl Body for GatewayBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::Empty | Inner::Tunnel(_) => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty | Inner::Tunnel(_) => true,
            Inner::Full(_) => false,
            Inner::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty | Inner::Tunnel(_) => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(stream) => stream.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    #[test]
    fn a_whole_body_comes_in_one_piece_and_knows_its_length() {
        let body = GatewayBody::full("abc");
        assert_eq!(body.size_hint().exact(), Some(3));
        let bytes = body.collect().now_or_never().expect("ready").expect("body").to_bytes();
        assert_eq!(bytes, "abc");
        assert!(GatewayBody::full("").is_end_stream());
    }
}
