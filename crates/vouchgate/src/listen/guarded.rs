//! A connection's byte stream, reporting to its watch.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flood::Flood;
use super::sniff::First;
use super::watch::Watch;

/// Gives back the bytes read to recognise the protocol, then passes everything through.
pub(super) struct Guarded<I> {
    inner: I,
    first: First,
    given: usize,
    watch: Arc<Watch>,
    flood: Option<Flood>,
}

impl<I> Guarded<I> {
    pub(super) fn new(inner: I, first: First, watch: Arc<Watch>) -> Self {
        let flood = first.http2.then(Flood::new);
        Self { inner, first, given: 0, watch, flood }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.first.as_slice().get(this.given..).unwrap_or_default();
        if !left.is_empty() {
            let fits = left.get(..buf.remaining()).unwrap_or(left);
            buf.put_slice(fits);
            this.given += fits.len();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) {
            let new = buf.filled().get(before..).unwrap_or_default();
            if !new.is_empty() {
                this.watch.read();
                if let Some(flood) = &mut this.flood
                    && !flood.admit(new, this.watch.now())
                {
                    tracing::debug!("an HTTP/2 connection sent too many frames that carry nothing");
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
            }
        }
        read
    }
}

impl<I> Guarded<I> {
    fn report<T>(&self, progress: &Poll<io::Result<T>>) {
        match progress {
            Poll::Ready(_) => self.watch.wrote(),
            Poll::Pending => self.watch.write_blocked(),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.report(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.report(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        this.report(&flushed);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
