//! The bytes of the journal: segments of framed entries, each with its length and a checksum.
//!
//! ```text
//! segment:  8   "VGAUDIT" and the format's version, 1
//!           8   which segment of the journal, from 1
//!           8   the index of its first entry
//!           8   which log: the first bytes of the hash of its origin
//!           8   checksum of the above
//! frame:    4   length of the entry; the highest bit is set for the first of those that were written together
//!           8   checksum: of the length, and of the entry by its leaf hash
//!           n   the entry
//! ```

use aws_lc_rs::digest::{SHA256, digest};

use crate::tile::MAX_ENTRY;
use crate::tree::{Hash, leaf_hash};

/// The length of what stands before the first frame.
pub(crate) const SEGMENT_HEADER: usize = 40;

const MAGIC: [u8; 8] = *b"VGAUDIT\x01";
const FIRST: u32 = 1 << 31;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which segment.
    pub seq: u64,
    /// The index of its first entry.
    pub first: u64,
    /// Which log.
    pub log: [u8; 8],
}

impl SegmentHeader {
    /// As it is written.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let parts = [MAGIC, self.seq.to_be_bytes(), self.first.to_be_bytes(), self.log];
        let mut bytes = [0; SEGMENT_HEADER];
        for (to, from) in bytes.iter_mut().zip(parts.iter().flatten().chain(&eight(&parts.concat()))) {
            *to = *from;
        }
        bytes
    }

    /// Read it. `None`: this is no segment, or one that was not written to the end of its head.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (parts, _) = bytes.get(..SEGMENT_HEADER)?.as_chunks::<8>();
        let [magic, seq, first, log, check] = parts else { return None };
        let head = Self { seq: u64::from_be_bytes(*seq), first: u64::from_be_bytes(*first), log: *log };
        let sound = *magic == MAGIC && *check == eight(bytes.get(..SEGMENT_HEADER - 8)?);
        sound.then_some(head)
    }
}

/// The name of a log in its segments.
pub(crate) fn log_id(origin: &str) -> [u8; 8] {
    eight(origin.as_bytes())
}

/// Add a frame; `first` where it begins what is written together. Returns the entry's leaf hash.
pub(crate) fn push(out: &mut Vec<u8>, entry: &[u8], first: bool) -> Hash {
    let leaf = leaf_hash(entry);
    let length = u32::try_from(entry.len()).unwrap_or(0) | if first { FIRST } else { 0 };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&check(length, &leaf));
    out.extend_from_slice(entry);
    leaf
}

/// An entry of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The entry.
    pub entry: &'a [u8],
    /// Its leaf hash.
    pub leaf: Hash,
    /// Whether it is the first of those that were written together: all before it were durable when it was written.
    pub first: bool,
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`, and what follows it. `None`: there is none, or not to its end.
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<8>()?;
        let length = u32::from_be_bytes(*length);
        let size = usize::try_from(length & !FIRST).ok().filter(|size| *size <= MAX_ENTRY)?;
        let (entry, rest) = rest.split_at_checked(size)?;
        let leaf = leaf_hash(entry);
        (*sum == check(length, &leaf)).then_some((Self { entry, leaf, first: length & FIRST != 0 }, rest))
    }
}

/// Whether, after a frame that cannot be read, there is one that was written when all before it was durable: then what is
/// missing is not what a loss of power may have cut.
pub(crate) fn continues(bytes: &[u8]) -> bool {
    // The first two bytes of such a frame: no text has them, so that few places have to be looked at.
    let starts = bytes.windows(2).enumerate().filter(|(_, pair)| *pair == [0x80, 0]);
    let mut frames = starts.filter_map(|(at, _)| Frame::parse(bytes.get(at..)?));
    frames.any(|(frame, _)| frame.first)
}

/// The length is mixed in, so that no bit of a frame can change unseen.
fn check(length: u32, leaf: &Hash) -> [u8; 8] {
    let mut sum = [0u8; 8];
    let length = length.to_be_bytes();
    for ((to, leaf), length) in sum.iter_mut().zip(leaf).zip(length.iter().cycle()) {
        *to = leaf ^ length;
    }
    sum
}

fn eight(bytes: &[u8]) -> [u8; 8] {
    let hash = digest(&SHA256, bytes);
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What stands before an entry.
    const FRAME_HEADER: usize = 12;

    fn framed(entries: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            push(&mut bytes, entry, place % 2 == 0);
        }
        bytes
    }

    #[test]
    fn a_head_is_read_as_written_and_no_bit_of_it_can_change() {
        let head = SegmentHeader { seq: 3, first: 700, log: log_id("a") };
        let bytes = head.encode();
        assert_eq!(SegmentHeader::parse(&bytes), Some(head));
        assert_eq!(SegmentHeader::parse(&bytes[..39]), None);
        for at in 0..bytes.len() * 8 {
            let mut bent = bytes;
            bent[at / 8] ^= 1 << (at % 8);
            assert_eq!(SegmentHeader::parse(&bent), None, "bit {at}");
        }
    }

    #[test]
    fn no_bit_of_a_frame_can_change() {
        let bytes = framed(&[b"{\"v\":1}"]);
        for at in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[at / 8] ^= 1 << (at % 8);
            assert_eq!(Frame::parse(&bent), None, "bit {at}");
        }
    }

    #[test]
    fn damage_before_a_later_write_is_told_from_a_torn_end() {
        let bytes = framed(&[b"{}", b"{}", b"{}"]);
        let third = 2 * (FRAME_HEADER + 2);
        assert!(continues(&bytes[5..]), "the third was written when the first was durable");
        assert!(!continues(&bytes[third + 1..]));
        assert!(!continues(&bytes[5..bytes.len() - 1]));
    }

    proptest! {
        #[test]
        fn frames_are_read_back(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..9)) {
            let bytes = framed(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let (mut rest, mut read) = (bytes.as_slice(), Vec::new());
            while let Some((frame, after)) = Frame::parse(rest) {
                prop_assert_eq!(frame.leaf, leaf_hash(frame.entry));
                read.push(frame.entry.to_vec());
                rest = after;
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(read, entries);
        }

        #[test]
        fn any_bytes_are_a_frame_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Frame::parse(&bytes), None, "a checksum of 64 bits does not hold by chance");
            prop_assert!(!continues(&bytes));
            let _ = SegmentHeader::parse(&bytes);
        }
    }
}
