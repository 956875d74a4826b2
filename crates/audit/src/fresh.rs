//! What the journal has just made durable, kept for the thread that builds the tree: so that it need not be read back from
//! the disk and hashed again. Where that thread falls behind it reads the journal.

use std::sync::{Mutex, PoisonError};

use crate::tree::Hash;

/// Durable entries that follow each other, with their leaf hashes.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// The index of the first.
    first: u64,
    /// Each with its length before it.
    bytes: Vec<u8>,
    leaves: Vec<Hash>,
    /// How many have been taken out, and how many bytes of them.
    taken: usize,
    used: usize,
}

impl Piece {
    /// Add the entry that follows.
    pub(crate) fn push(&mut self, entry: &[u8], leaf: Hash) {
        let Ok(length) = u32::try_from(entry.len()) else { return };
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(entry);
        self.leaves.push(leaf);
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.leaves.clear();
        (self.taken, self.used) = (0, 0);
    }

    /// The index of the entry that is taken next, if there is one.
    pub(crate) fn index(&self) -> Option<u64> {
        (self.taken < self.leaves.len()).then_some(self.first + self.taken as u64)
    }

    /// The next entry.
    pub(crate) fn take(&mut self) -> Option<(&[u8], Hash)> {
        let leaf = *self.leaves.get(self.taken)?;
        let (length, rest) = self.bytes.get(self.used..)?.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let entry = rest.get(..length)?;
        self.taken += 1;
        self.used += 4 + length;
        Some((entry, leaf))
    }

    /// The index after the last.
    fn end(&self) -> u64 {
        self.first + self.leaves.len() as u64
    }
}

/// Where pieces are handed over.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// How many bytes of entries are kept.
    room: usize,
    waiting: Mutex<Piece>,
}

impl Fresh {
    pub(crate) fn new(room: usize) -> Self {
        Self { room, waiting: Mutex::default() }
    }

    /// Keep what has become durable, as far as there is room and it follows what is there.
    pub(crate) fn add(&self, first: u64, piece: &Piece) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.leaves.is_empty() {
            waiting.first = first;
        }
        if waiting.end() == first && waiting.bytes.len() + piece.bytes.len() <= self.room {
            waiting.bytes.extend_from_slice(&piece.bytes);
            waiting.leaves.extend_from_slice(&piece.leaves);
        }
    }

    /// Take all that is there; `piece` is what the next is kept in.
    pub(crate) fn take(&self, piece: &mut Piece) {
        piece.clear();
        std::mem::swap(piece, &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(entries: &[&[u8]]) -> Piece {
        let mut piece = Piece::default();
        for entry in entries {
            piece.push(entry, [u8::try_from(entry.len()).unwrap(); 32]);
        }
        piece
    }

    fn all(fresh: &Fresh) -> Vec<(u64, Vec<u8>, u8)> {
        let (mut taken, mut all) = (piece(&[b"left over"]), Vec::new());
        fresh.take(&mut taken);
        while let Some(index) = taken.index() {
            let (entry, leaf) = taken.take().unwrap();
            all.push((index, entry.to_vec(), leaf[0]));
        }
        assert_eq!(taken.take(), None);
        all
    }

    #[test]
    fn what_follows_is_given_in_its_order_and_once() {
        let fresh = Fresh::new(100);
        fresh.add(7, &piece(&[b"a", b"bb"]));
        fresh.add(9, &piece(&[b""]));
        assert_eq!(all(&fresh), [(7, b"a".to_vec(), 1), (8, b"bb".to_vec(), 2), (9, Vec::new(), 0)]);
        assert_eq!(all(&fresh), []);
        fresh.add(20, &piece(&[b"c"]));
        assert_eq!(all(&fresh), [(20, b"c".to_vec(), 1)]);
    }

    #[test]
    fn what_finds_no_room_leaves_a_gap_at_the_end_and_none_within() {
        let fresh = Fresh::new(12);
        fresh.add(0, &piece(&[b"aaaa"]));
        fresh.add(1, &piece(&[b"too long"]));
        fresh.add(2, &piece(&[b""]));
        assert_eq!(all(&fresh), [(0, b"aaaa".to_vec(), 4)], "the third does not follow the first");
        fresh.add(3, &piece(&[b"d"]));
        assert_eq!(all(&fresh), [(3, b"d".to_vec(), 1)]);
    }
}
