//! What a client says first in a TLS handshake, listened to while rustls reads it: the handshake goes on as it would.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use proof::ja4::{Ja4, MAX_LEN};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is kept at most: a greeting, and what its records come in.
const MOST: usize = MAX_LEN + 1024;

/// A connection of which the first bytes are kept until they have been looked at.
#[derive(Debug)]
pub(super) struct Overheard<I> {
    inner: I,
    heard: Option<Vec<u8>>,
}

impl<I> Overheard<I> {
    pub(super) fn new(inner: I) -> Self {
        Self { inner, heard: Some(Vec::new()) }
    }

    /// The fingerprint of the greeting. Nothing is kept from then on.
    pub(super) fn fingerprint(&mut self) -> Option<Ja4> {
        Ja4::of_records(&self.heard.take()?).ok()
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Overheard<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Some(heard) = &mut self.heard {
            let new = buf.filled().get(before..).unwrap_or_default();
            let room = MOST.saturating_sub(heard.len());
            heard.extend_from_slice(new.get(..room).unwrap_or(new));
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Overheard<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn read(bytes: &[u8]) -> (Vec<u8>, Option<Ja4>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut overheard = Overheard::new(io::Cursor::new(bytes.to_vec()));
            let mut got = Vec::new();
            overheard.read_to_end(&mut got).await.unwrap();
            let first = overheard.fingerprint();
            assert_eq!(overheard.fingerprint(), None, "it is kept once");
            (got, first)
        })
    }

    #[test]
    fn every_byte_passes_and_a_greeting_has_its_fingerprint() {
        let greeting = include_bytes!("../../../../fuzz/corpus/ja4/greeting");
        let (got, found) = read(greeting);
        assert_eq!(got, greeting);
        assert_eq!(found.unwrap().as_str(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
        let long = vec![22; 3 * MOST];
        assert_eq!(read(&long), (long, None));
    }
}
