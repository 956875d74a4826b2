//! The tree as it grows: the unfinished tile of each level and the unfinished bundle, in memory; each that is finished is
//! handed out to be written.

use std::mem;

use crate::tile::{self, Kind, Tile, WIDTH};
use crate::tree::{Frontier, Hash};

/// A file to be written.
pub(crate) type Finished = (Tile, Vec<u8>);

/// The right edge of the tiles.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    size: u64,
    /// The hashes of the last tile of each level, fewer than 256.
    levels: Vec<Vec<Hash>>,
    /// The entries of the last bundle, fewer than 256.
    bundle: Vec<u8>,
    /// What bundles were held in that are written, for the next: memory of that size is dear to get anew each time.
    spare: Vec<Vec<u8>>,
}

/// How many such are kept, and how large one is at most.
const SPARE: usize = 4;
const SPARE_BYTES: usize = 256 << 10;

impl Growing {
    /// A tree whose last tiles and bundle are these. `None`: they do not belong together.
    pub(crate) fn resume(levels: Vec<Vec<Hash>>, bundle: Vec<u8>) -> Option<Self> {
        let size = edge(&levels)?.size();
        Some(Self { size, levels, bundle, spare: Vec::new() })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The root, from the unfinished tiles: it is asked for now and then, and entries come all the time.
    pub(crate) fn root(&self) -> Hash {
        edge(&self.levels).unwrap_or_default().root()
    }

    /// Another entry; what it finished is added to `finished`.
    pub(crate) fn push(&mut self, entry: &[u8], leaf: Hash, finished: &mut Vec<Finished>) {
        self.size += 1;
        tile::push_entry(&mut self.bundle, entry);
        let size = self.size;
        if size.is_multiple_of(WIDTH) {
            let next = self.spare.pop().unwrap_or_default();
            finished.push((Tile::full(Kind::Entries, size / WIDTH - 1), mem::replace(&mut self.bundle, next)));
        }
        let (mut hash, mut count) = (leaf, size);
        for level in 0..=63u8 {
            let at = usize::from(level);
            if self.levels.len() == at {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(at) else { return };
            hashes.push(hash);
            if (hashes.len() as u64) < WIDTH {
                return;
            }
            let full = mem::take(hashes);
            count /= WIDTH;
            finished.push((Tile::full(Kind::Level(level), count - 1), tile::encode_hashes(&full)));
            let Some(root) = tile::perfect_root(&full) else { return };
            hash = root;
        }
    }

    /// What was finished is written, and its memory free.
    pub(crate) fn reuse(&mut self, (tile, mut bytes): Finished) {
        if tile.kind == Kind::Entries && bytes.capacity() <= SPARE_BYTES && self.spare.len() < SPARE {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// The unfinished tiles and the unfinished bundle.
    pub(crate) fn partial(&self) -> Vec<Finished> {
        let size = self.size();
        let mut partial = Vec::new();
        if !self.bundle.is_empty() {
            partial.push((Tile::with(Kind::Entries, size - 1, size), self.bundle.clone()));
        }
        for (level, hashes) in self.levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()) {
            let Ok(level) = u8::try_from(level) else { break };
            let count = size.checked_shr(u32::from(level) * 8).unwrap_or(0);
            partial.push((Tile::with(Kind::Level(level), count.saturating_sub(1), count), tile::encode_hashes(hashes)));
        }
        partial
    }
}

/// The tree's right edge out of the last tile of each level. `None`: they do not belong together.
fn edge(levels: &[Vec<Hash>]) -> Option<Frontier> {
    let mut edge = Frontier::new();
    for (level, hashes) in levels.iter().enumerate().rev() {
        let level = u32::try_from(level * 8).ok()?;
        if !hashes.iter().all(|hash| edge.push_subtree(level, *hash)) || hashes.len() as u64 >= WIDTH {
            return None;
        }
    }
    Some(edge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::leaf_hash;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_tree_that_is_taken_up_again_goes_on_as_if_it_had_not_been_left() {
        let mut whole = Growing::default();
        let mut files = Vec::new();
        for index in 0..66_000u64 {
            let entry = index.to_be_bytes();
            whole.push(&entry, leaf_hash(&entry), &mut files);
            if index == 65_700 {
                let again = Growing::resume(whole.levels.clone(), whole.bundle.clone()).unwrap();
                assert_eq!((again.size(), again.root()), (whole.size(), whole.root()));
                whole = again;
            }
        }
        let files: BTreeMap<_, _> = files.into_iter().chain(whole.partial()).collect();
        let count = |kind| files.keys().filter(|tile| tile.kind == kind).count();
        assert_eq!(count(Kind::Level(0)), 258);
        assert_eq!(count(Kind::Entries), 258);
        assert_eq!((count(Kind::Level(1)), count(Kind::Level(2))), (2, 1));
        for (tile, bytes) in &files {
            match tile.kind {
                Kind::Level(_) => assert!(tile::decode_hashes(bytes, tile.width).is_some(), "{tile}"),
                Kind::Entries => assert_eq!(tile::entries(bytes).flatten().count(), usize::from(tile.width), "{tile}"),
            }
        }
    }

    #[test]
    fn nothing_of_a_bundle_that_was_written_is_in_the_next() {
        let (mut growing, mut finished) = (Growing::default(), Vec::new());
        for index in 0..2_000u64 {
            let entry = index.to_be_bytes();
            growing.push(&entry, leaf_hash(&entry), &mut finished);
            for file in finished.drain(..) {
                if let (Tile { kind: Kind::Entries, index, .. }, bytes) = &file {
                    let numbers: Vec<_> = tile::entries(bytes).flatten().map(<[u8]>::to_vec).collect();
                    let expected: Vec<_> = (index * 256..(index + 1) * 256).map(|n| n.to_be_bytes().to_vec()).collect();
                    assert_eq!(numbers, expected);
                }
                growing.reuse(file);
            }
        }
        assert_eq!(growing.spare.len(), 1, "one at a time was needed");
        growing.reuse((Tile::full(Kind::Entries, 0), Vec::with_capacity(SPARE_BYTES + 1)));
        growing.reuse((Tile::full(Kind::Level(0), 0), Vec::new()));
        assert_eq!(growing.spare.len(), 1, "of that size, and bundles, only");
    }

    proptest! {
        #[test]
        fn hashes_that_do_not_belong_together_are_no_tree(counts in prop::collection::vec(0usize..300, 0..4)) {
            let levels: Vec<_> = counts.iter().map(|count| vec![[1; 32]; *count]).collect();
            let resumed = Growing::resume(levels, Vec::new());
            prop_assert_eq!(resumed.is_some(), counts.iter().all(|count| *count < 256));
        }
    }
}
