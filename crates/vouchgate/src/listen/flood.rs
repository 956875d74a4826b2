//! HTTP/2 frames that cost their sender nothing.
//!
//! The h2 crate answers every PING and SETTINGS and has no limit on how many come. This counts, on the bytes as they
//! are read, the frames that carry nothing: a connection that sends too many of them is ended.

/// Follows the frames of a connection (RFC 9113 section 4.1).
#[derive(Debug)]
pub(super) struct Flood {
    head: [u8; 9],
    have: usize,
    payload: usize,
    tokens: u32,
    refilled: u64,
}

/// Such frames allowed at once,
const BURST: u32 = 500;
/// and per second.
const RATE: u64 = 50;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
}

impl Flood {
    /// Frames begin after `preface` bytes.
    pub(super) const fn new(preface: usize) -> Self {
        Self { head: [0; 9], have: 0, payload: preface, tokens: BURST, refilled: 0 }
    }

    /// Look at bytes read at `now` (milliseconds). Whether the connection may go on.
    pub(super) fn admit(&mut self, mut bytes: &[u8], now: u64) -> bool {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skip = self.payload.min(bytes.len());
                self.payload -= skip;
                bytes = bytes.get(skip..).unwrap_or_default();
                continue;
            }
            let Some((first, rest)) = bytes.split_first() else { break };
            if let Some(slot) = self.head.get_mut(self.have) {
                *slot = *first;
            }
            self.have += 1;
            bytes = rest;
            if self.have == self.head.len() {
                self.have = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                if is_empty_talk(kind, flags, self.payload) && !self.spend(now) {
                    return false;
                }
            }
        }
        true
    }

    fn spend(&mut self, now: u64) -> bool {
        if self.tokens == 0 {
            let earned = now.saturating_sub(self.refilled).saturating_mul(RATE) / 1000;
            self.tokens = u32::try_from(earned).unwrap_or(BURST).min(BURST);
            self.refilled = now;
        }
        match self.tokens.checked_sub(1) {
            Some(left) => self.tokens = left,
            None => return false,
        }
        true
    }
}

/// Acknowledgements answer what we sent, HEADERS open streams (which have limits of their own), window updates follow
/// data we sent, and data is what the connection is for, unless there is none in it.
const fn is_empty_talk(kind: u8, flags: u8, length: usize) -> bool {
    const ACK_OR_END_STREAM: u8 = 1;
    const PADDED: u8 = 8;
    match kind {
        kind::DATA => flags & ACK_OR_END_STREAM == 0 && (length == 0 || flags & PADDED != 0),
        kind::SETTINGS | kind::PING => flags & ACK_OR_END_STREAM == 0,
        kind::HEADERS | kind::GOAWAY | kind::WINDOW_UPDATE => false,
        _ => true, // PRIORITY, RST_STREAM, CONTINUATION, what nobody has defined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    fn sent(bytes: &[u8], times: usize) -> usize {
        let mut flood = Flood::new(0);
        (0..times).take_while(|_| flood.admit(bytes, 1)).count()
    }

    #[test]
    fn frames_that_carry_nothing_are_counted() {
        let full = BURST as usize;
        assert_eq!(sent(&frame(6, 0, &[0; 8]), 2000), full, "PING");
        assert_eq!(sent(&frame(4, 0, &[]), 2000), full, "SETTINGS");
        assert_eq!(sent(&frame(3, 0, &[0; 4]), 2000), full, "RST_STREAM");
        assert_eq!(sent(&frame(9, 0, &[]), 2000), full, "CONTINUATION");
        assert_eq!(sent(&frame(0, 0, &[]), 2000), full, "empty DATA");
        assert_eq!(sent(&frame(0, 8, &[5; 6]), 2000), full, "padding only");
        assert_eq!(sent(&frame(0xbb, 0, &[1]), 2000), full, "unknown");
    }

    #[test]
    fn frames_with_a_purpose_are_not() {
        for (kind, flags, payload) in
            [(0, 0, &[1u8; 100][..]), (0, 1, &[]), (1, 4, &[1]), (8, 0, &[0, 0, 0, 1]), (6, 1, &[0; 8]), (4, 1, &[])]
        {
            assert_eq!(sent(&frame(kind, flags, payload), 2000), 2000, "type {kind} flags {flags}");
        }
    }

    #[test]
    fn a_patient_client_earns_more() {
        let (mut flood, empty) = (Flood::new(0), frame(4, 0, &[]));
        assert!((0..BURST).all(|_| flood.admit(&empty, 1)));
        assert!(!flood.admit(&empty, 2));
        assert!((0..RATE).all(|_| flood.admit(&empty, 1003)));
        assert!(!flood.admit(&empty, 1003));
    }

    proptest! {
        #[test]
        fn cutting_the_bytes_elsewhere_changes_nothing(
            frames in proptest::collection::vec((any::<u8>(), any::<u8>(), 0usize..20), 0..600),
            cuts in proptest::collection::vec(1usize..50, 1..50),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, &vec![0; *length])).collect();
            let whole = Flood::new(0).admit(&bytes, 1);
            let (mut flood, mut rest, mut pieces) = (Flood::new(0), &bytes[..], cuts.iter().cycle());
            let mut pieced = true;
            while !rest.is_empty() && pieced {
                let (piece, more) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
                pieced = flood.admit(piece, 1);
                rest = more;
            }
            prop_assert_eq!(whole, pieced);
        }
    }
}
