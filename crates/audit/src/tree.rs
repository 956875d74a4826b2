//! The Merkle tree of RFC 6962 section 2.1 over SHA-256: hashes, roots, and the proofs that an entry is in a tree and that
//! one tree continues another.

use aws_lc_rs::digest::{Context, SHA256, digest};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// How many hashes a proof has at most: a tree of 2^64 entries is that high, and a consistency proof has one more.
pub const MAX_PROOF: usize = 65;

/// The hash of an entry: SHA-256 of a zero byte and the entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    /// Nearly all entries are shorter.
    const SHORT: usize = 1024;
    // In one piece: what is hashed piece by piece is kept on the heap meanwhile, which costs as much as the hashing.
    let mut bytes = [0u8; SHORT];
    if let Some((whole, _)) = bytes.split_at_mut_checked(entry.len() + 1) {
        let (_, after) = whole.split_at_mut(1);
        after.copy_from_slice(entry);
        return taken(digest(&SHA256, whole).as_ref());
    }
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(entry);
    taken(context.finish().as_ref())
}

/// The hash of what two hashes stand for together: SHA-256 of a one byte and both.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1u8; 65];
    let (_, hashes) = bytes.split_at_mut(1);
    for (to, from) in hashes.chunks_exact_mut(32).zip([left, right]) {
        to.copy_from_slice(from);
    }
    taken(digest(&SHA256, &bytes).as_ref())
}

/// The root of a tree without entries.
pub fn empty_root() -> Hash {
    taken(digest(&SHA256, &[]).as_ref())
}

fn taken(bytes: &[u8]) -> Hash {
    bytes.first_chunk().copied().unwrap_or_default()
}

/// The right edge of a growing tree: the roots of its perfect subtrees, largest first. All that a root needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// A tree without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Another entry, by its leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_subtree(0, leaf);
    }

    /// Another `2^level` entries, by the root of the perfect tree over them. `false` where the size is no multiple of that,
    /// or would not fit: nothing has been added then.
    pub fn push_subtree(&mut self, level: u32, root: Hash) -> bool {
        let Some(step) = 1u64.checked_shl(level) else { return false };
        let (true, Some(size)) = (self.size.is_multiple_of(step), self.size.checked_add(step)) else { return false };
        let (mut hash, mut trees) = (root, self.size >> level);
        while trees & 1 == 1 {
            let Some(left) = self.peaks.pop() else { return false };
            hash = node_hash(&left, &hash);
            trees >>= 1;
        }
        self.peaks.push(hash);
        self.size = size;
        true
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// Where the hashes of perfect subtrees come from.
pub trait Source {
    /// Why one cannot be had.
    type Error;

    /// The root of the perfect tree over the entries from `index << level` to `(index + 1) << level`.
    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The root over the entries from `start` (a multiple of the largest power of two not above `end - start`) to `end`.
pub fn range_root<S: Source>(source: &mut S, start: u64, end: u64) -> Result<Hash, S::Error> {
    let width = end.saturating_sub(start);
    if width == 0 {
        return Ok(empty_root());
    }
    if width.is_power_of_two() {
        let level = width.trailing_zeros();
        return source.node(level, start >> level);
    }
    let middle = start + largest_below(width);
    let left = range_root(source, start, middle)?;
    Ok(node_hash(&left, &range_root(source, middle, end)?))
}

/// The proof that the entry at `index` is in the tree of `size` entries (RFC 6962 section 2.1.1). `index` is below `size`.
pub fn inclusion<S: Source>(source: &mut S, index: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    let (mut start, mut end, mut path) = (0, size, Vec::new());
    while end - start > 1 {
        let middle = start + largest_below(end - start);
        if index < middle {
            path.push(range_root(source, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(source, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `new` entries continues that of `old` (RFC 6962 section 2.1.2). `old` is at most `new`.
pub fn consistency<S: Source>(source: &mut S, old: u64, new: u64) -> Result<Vec<Hash>, S::Error> {
    if old == 0 || old >= new {
        return Ok(Vec::new());
    }
    let (mut start, mut end, mut whole, mut path) = (0, new, true, Vec::new());
    while old != end {
        let middle = start + largest_below(end - start);
        if old <= middle {
            path.push(range_root(source, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(source, start, middle)?);
            (start, whole) = (middle, false);
        }
    }
    if !whole {
        path.push(range_root(source, start, end)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `proof` shows that a tree of `size` entries with this root has `leaf` at `index` (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size || proof.len() > MAX_PROOF {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `new` entries continues that of `old` (RFC 9162 section 2.1.4.2).
pub fn verify_consistency((old, old_root): (u64, &Hash), (new, new_root): (u64, &Hash), proof: &[Hash]) -> bool {
    if old > new || proof.len() > MAX_PROOF {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let first = if old.is_power_of_two() { Some((old_root, proof)) } else { proof.split_first() };
    let Some((first, rest)) = first else { return false };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut older, mut newer) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            older = node_hash(sibling, &older);
            newer = node_hash(sibling, &newer);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            newer = node_hash(&newer, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && older == *old_root && newer == *new_root
}

/// The perfect subtrees that cover the entries from `start` to `end`, in their order: each as its level and index.
pub fn cover(mut start: u64, end: u64) -> Vec<(u32, u64)> {
    let mut trees = Vec::new();
    while start < end {
        let fits = (end - start).ilog2();
        let level = if start == 0 { fits } else { fits.min(start.trailing_zeros()) };
        trees.push((level, start >> level));
        start += 1 << level;
    }
    trees
}

/// The largest power of two below `width`, which is at least two.
fn largest_below(width: u64) -> u64 {
    1 << (width - 1).ilog2()
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition of the RFC, word for word.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(usize::try_from(largest_below(many.len() as u64)).unwrap());
                node_hash(&defined(left), &defined(right))
            }
        }
    }

    struct Leaves(Vec<Hash>);

    impl Source for Leaves {
        type Error = ();
        fn node(&mut self, level: u32, index: u64) -> Result<Hash, ()> {
            let (start, end) = ((index << level) as usize, ((index + 1) << level) as usize);
            self.0.get(start..end).map(defined).ok_or(())
        }
    }

    fn leaves(count: u64) -> Leaves {
        Leaves((0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect())
    }

    fn hex(hash: &Hash) -> String {
        hash.iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect()
    }

    #[test]
    fn the_roots_are_those_every_implementation_of_the_rfc_has() {
        // The eight entries that Certificate Transparency's own tests use.
        let entries: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut frontier = Frontier::new();
        assert_eq!(hex(&frontier.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let roots = entries.map(|entry| {
            frontier.push(leaf_hash(entry));
            hex(&frontier.root())
        });
        assert_eq!(roots[0], "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(roots[1], "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
        assert_eq!(roots[7], "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn every_proof_of_small_trees_verifies_and_only_for_what_it_proves() {
        for size in 1..=40u64 {
            let mut all = leaves(size);
            let root = defined(&all.0);
            for index in 0..size {
                let proof = inclusion(&mut all, index, size).unwrap();
                let leaf = all.0[index as usize];
                assert!(verify_inclusion(&leaf, index, size, &proof, &root), "{index} of {size}");
                assert!(!verify_inclusion(&leaf, index + 1, size, &proof, &root), "{index} of {size} elsewhere");
                assert!(!verify_inclusion(&root, index, size, &proof, &leaf_hash(b"x")));
                let mut longer = proof.clone();
                longer.push([0; 32]);
                assert!(!verify_inclusion(&leaf, index, size, &longer, &root));
            }
            for old in 0..=size {
                let old_root = defined(&all.0[..old as usize]);
                let proof = consistency(&mut all, old, size).unwrap();
                assert!(verify_consistency((old, &old_root), (size, &root), &proof), "{old} to {size}");
                let other = leaf_hash(b"other");
                assert!(!verify_consistency((old, &other), (size, &root), &proof), "{old} to {size}");
                assert!(!verify_consistency((old, &old_root), (size, &other), &proof) || old == 0);
                for at in 0..proof.len() {
                    let mut bent = proof.clone();
                    bent[at][0] ^= 1;
                    assert!(!verify_consistency((old, &old_root), (size, &root), &bent), "{old} to {size} at {at}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_frontier_has_the_root_of_the_definition(size in 0u64..700, from in 0u64..700) {
            let mut all = leaves(size);
            let mut frontier = Frontier::new();
            for leaf in &all.0 {
                frontier.push(*leaf);
            }
            prop_assert_eq!(frontier.root(), defined(&all.0));
            prop_assert_eq!(range_root(&mut all, 0, size), Ok(frontier.root()));
            // The same tree of subtrees before and after some place.
            let from = from.min(size);
            let mut pieces = Frontier::new();
            for (level, index) in cover(0, from).into_iter().chain(cover(from, size)) {
                let node = all.node(level, index).unwrap();
                prop_assert!(pieces.push_subtree(level, node));
            }
            prop_assert_eq!(pieces, frontier);
        }

        #[test]
        fn proofs_of_anything_do_not_panic(
            index in any::<u64>(), size in any::<u64>(), proof in prop::collection::vec(any::<[u8; 32]>(), 0..70)
        ) {
            let hash = [7; 32];
            prop_assert!(!verify_inclusion(&hash, index, size, &proof, &hash) || (size == 1 && proof.is_empty()));
            let _ = verify_consistency((index, &hash), (size, &hash), &proof);
        }
    }
}
