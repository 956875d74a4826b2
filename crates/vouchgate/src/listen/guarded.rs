//! A connection's byte stream: what comes in is judged, what goes on is reported to the watch.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flood::Flood;
use super::framing::Framing;
use super::sniff::First;
use super::watch::Watch;

/// First gives back the bytes read to recognise the protocol, then passes everything through.
pub(super) struct Guarded<I> {
    inner: I,
    first: First,
    given: usize,
    watch: Arc<Watch>,
    judge: Judge,
}

enum Judge {
    Http1(Framing),
    Http2(Flood),
    /// This much of [`POISON`] has been given; nothing is read any more.
    Condemned(usize),
}

/// Given in place of a line that could be read in two ways: whatever hyper is in the middle of, this does not belong
/// there, and it answers 400 and closes.
const POISON: &[u8] = b"\0\r\n\r\n";

impl<I> Guarded<I> {
    pub(super) fn new(inner: I, first: First, watch: Arc<Watch>) -> Self {
        let judge =
            if first.http2 { Judge::Http2(Flood::new(first.as_slice().len())) } else { Judge::Http1(Framing::new()) };
        Self { inner, first, given: 0, watch, judge }
    }

    /// Judge what has been read behind the first `before` bytes of `buf`.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let new = buf.filled().get(before..).unwrap_or_default();
        if new.is_empty() {
            return Ok(());
        }
        self.watch.read();
        match &mut self.judge {
            // What comes before the switch is still judged: a client waits for the answer (RFC 6455 section 4.1).
            Judge::Http1(_) if self.watch.is_switched() => {}
            Judge::Http1(framing) => {
                if let Err(passed) = framing.follow(new) {
                    tracing::debug!("a request that could be read in two ways was refused");
                    buf.set_filled(before + passed);
                    self.judge = Judge::Condemned(give(POISON, 0, buf));
                }
            }
            Judge::Http2(flood) => {
                if !flood.admit(new, self.watch.now()) {
                    tracing::debug!("an HTTP/2 connection sent too many frames that carry nothing");
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            Judge::Condemned(_) => {}
        }
        Ok(())
    }

    fn report<T>(&self, progress: &Poll<io::Result<T>>) {
        match progress {
            Poll::Ready(_) => self.watch.wrote(),
            Poll::Pending => self.watch.write_blocked(),
        }
    }
}

/// Give what fits of `bytes` from `start` on; how much has been given then.
fn give(bytes: &[u8], start: usize, buf: &mut ReadBuf<'_>) -> usize {
    let left = bytes.get(start..).unwrap_or_default();
    let fits = left.get(..buf.remaining()).unwrap_or(left);
    buf.put_slice(fits);
    start + fits.len()
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Judge::Condemned(given) = &mut this.judge {
            *given = give(POISON, *given, buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if this.given < this.first.as_slice().len() {
            this.given = give(this.first.as_slice(), this.given, buf);
        } else {
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        }
        Poll::Ready(this.judge(buf, before))
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
