//! Which protocol a connection speaks, by its first bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// What every HTTP/2 client says first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection.
#[derive(Debug, Default)]
pub(super) struct First {
    bytes: [u8; PREFACE.len()],
    have: usize,
    pub(super) http2: bool,
}

impl First {
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.have).unwrap_or_default()
    }
}

/// Read until it is clear whether HTTP/2 is spoken. `None`: closed before that.
pub(super) async fn sniff<I: AsyncRead + Unpin>(stream: &mut I) -> io::Result<Option<First>> {
    let mut first = First::default();
    loop {
        let Some(free) = first.bytes.get_mut(first.have..).filter(|free| !free.is_empty()) else {
            first.http2 = true;
            return Ok(Some(first));
        };
        let got = stream.read(free).await?;
        if got == 0 {
            return Ok((first.have > 0).then_some(first));
        }
        first.have += got;
        if !PREFACE.starts_with(first.as_slice()) {
            return Ok(Some(first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Option<First> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { sniff(&mut &bytes[..]).await.unwrap() })
    }

    #[test]
    fn only_the_whole_preface_is_http2() {
        assert!(read(&[&PREFACE[..], b"more"].concat()).unwrap().http2);
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"P", b"POST / HTTP/1.1\r\n\r\n", &PREFACE[..23]] {
            assert!(!read(other).unwrap().http2);
        }
        assert!(read(b"").is_none());
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(bytes in proptest::collection::vec(any::<u8>(), 1..100), preface in any::<bool>()) {
            let bytes = if preface { [&PREFACE[..], &bytes].concat() } else { bytes };
            let first = read(&bytes).unwrap();
            prop_assert!(bytes.starts_with(first.as_slice()));
            prop_assert_eq!(first.http2, bytes.starts_with(PREFACE));
        }
    }
}
