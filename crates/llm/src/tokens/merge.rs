//! The bytes of a piece joined into parts of the vocabulary: always the two neighbours next whose whole comes first in it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::vocabulary::Table;

/// Joins, and keeps its tables for the next piece.
#[derive(Debug)]
pub(super) struct Merge {
    table: &'static Table,
    /// Where the part that begins at a byte ends; 0: none begins there.
    ends: Vec<usize>,
    /// Where the part before the one that begins at a byte begins.
    before: Vec<usize>,
    /// What could be joined: by rank and then from the left, with where the whole ends.
    pairs: BinaryHeap<Reverse<(u32, usize, usize)>>,
    #[cfg(test)]
    steps: u64,
}

impl Merge {
    pub(super) fn new(table: &'static Table) -> Self {
        Self {
            table,
            ends: Vec::new(),
            before: Vec::new(),
            pairs: BinaryHeap::new(),
            #[cfg(test)]
            steps: 0,
        }
    }

    /// The parts of a piece.
    pub(super) fn count(&mut self, piece: &[u8]) -> usize {
        if piece.len() < 2 || self.table.rank(piece).is_some() {
            self.stepped();
            return piece.len().min(1);
        }
        self.ends.clear();
        self.before.clear();
        self.pairs.clear();
        self.ends.extend(1..=piece.len());
        self.before.extend((0..piece.len()).map(|at| at.saturating_sub(1)));
        for at in 0..piece.len() - 1 {
            self.offer(piece, at, at + 2);
        }
        let mut parts = piece.len();
        while let Some(Reverse((_, start, whole))) = self.pairs.pop() {
            self.stepped();
            let Some(middle) = self.end(start).filter(|middle| self.end(*middle) == Some(whole)) else { continue };
            // The second of the two begins nothing any more.
            self.set(start, whole);
            self.set(middle, 0);
            parts -= 1;
            if let Some(after) = self.end(whole) {
                if let Some(before) = self.before.get_mut(whole) {
                    *before = start;
                }
                self.offer(piece, start, after);
            }
            if start > 0 {
                let before = self.before.get(start).copied().unwrap_or_default();
                self.offer(piece, before, whole);
            }
        }
        parts
    }

    /// What is between could be one part.
    fn offer(&mut self, piece: &[u8], start: usize, whole: usize) {
        self.stepped();
        if whole - start > self.table.longest() {
            return;
        }
        if let Some(rank) = piece.get(start..whole).and_then(|part| self.table.rank(part)) {
            self.pairs.push(Reverse((rank, start, whole)));
        }
    }

    fn end(&self, start: usize) -> Option<usize> {
        self.ends.get(start).copied().filter(|end| *end > 0)
    }

    fn set(&mut self, start: usize, end: usize) {
        if let Some(known) = self.ends.get_mut(start) {
            *known = end;
        }
    }

    #[cfg(test)]
    fn stepped(&mut self) {
        self.steps += 1;
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "counted in tests only")]
    const fn stepped(&mut self) {}

    #[cfg(test)]
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }
}
