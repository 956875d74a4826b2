//! Tiles (c2sp.org/tlog-tiles): a tree and its entries as files. Where each lies, and what is in it.

use std::fmt;

use crate::checkpoint::decimal;
use crate::tree::{Hash, Source, node_hash};

/// How many hashes a full tile has, and how many entries a full bundle.
pub const WIDTH: u64 = 256;
/// The longest entry, in bytes: bundles have 16 bits for a length.
pub const MAX_ENTRY: usize = 65_535;
/// The largest bundle, in bytes.
pub const MAX_BUNDLE: usize = 256 * (MAX_ENTRY + 2);

/// What a file of the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Hashes of the tree, at this level of tiles.
    Level(u8),
    /// Entries.
    Entries,
}

/// A tile: its place, and how much of it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Which one, from 0.
    pub index: u64,
    /// How many hashes or entries: 1 to 255 for a partial tile, 256 for a full one.
    pub width: u16,
}

impl Tile {
    /// A full tile.
    pub const fn full(kind: Kind, index: u64) -> Self {
        Self { kind, index, width: 256 }
    }

    /// The tile in which the `place`-th hash (or entry) of a level lies, in a tree that has `count` of them there.
    pub fn with(kind: Kind, place: u64, count: u64) -> Self {
        let index = place / WIDTH;
        let width = count.saturating_sub(index * WIDTH).min(WIDTH);
        Self { kind, index, width: u16::try_from(width).unwrap_or(256) }
    }

    /// Read what `Display` writes.
    pub fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match kind {
            "entries" => Kind::Entries,
            level => Kind::Level(u8::try_from(decimal(level)?).ok().filter(|level| *level <= 63)?),
        };
        let (path, width) = match rest.split_once(".p/") {
            Some((path, width)) => (path, u16::try_from(decimal(width)?).ok().filter(|w| (1..=255).contains(w))?),
            None => (rest, 256),
        };
        let mut index: u64 = 0;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let digits = if parts.peek().is_some() { part.strip_prefix('x')? } else { part };
            let number = (digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)?;
            index = index.checked_mul(1000)?.checked_add(number.parse().ok()?)?;
        }
        let tile = Self { kind, index, width };
        // Each index has one path: no zeros before it.
        (tile.to_string() == *path_of(kind, rest)).then_some(tile)
    }
}

fn path_of(kind: Kind, rest: &str) -> String {
    match kind {
        Kind::Level(level) => format!("tile/{level}/{rest}"),
        Kind::Entries => format!("tile/entries/{rest}"),
    }
}

impl fmt::Display for Tile {
    /// The path of the file: `tile/0/x001/234.p/7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Level(level) => write!(f, "tile/{level}")?,
            Kind::Entries => f.write_str("tile/entries")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        let last = groups.len() - 1;
        for (place, group) in groups.iter().rev().enumerate() {
            write!(f, "/{}{group:03}", if place < last { "x" } else { "" })?;
        }
        if self.width < 256 { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// The bytes of a tile of hashes.
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// The hashes of a tile: exactly `width` of them.
pub fn decode_hashes(bytes: &[u8], width: u16) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() == usize::from(width)).then(|| hashes.to_vec())
}

/// Add an entry to a bundle. `false` where it is longer than [`MAX_ENTRY`].
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> bool {
    let Ok(length) = u16::try_from(entry.len()) else { return false };
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    true
}

/// The entries of a bundle, 256 at most. `None` at a place where it is cut, or has more.
pub fn entries(bundle: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = Some(bundle);
    let mut count = 0;
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        let entry = bytes.split_first_chunk::<2>().and_then(|(length, bytes)| {
            bytes.split_at_checked(usize::from(u16::from_be_bytes(*length))).filter(|_| count < WIDTH)
        });
        count += 1;
        rest = entry.map(|(_, after)| after);
        Some(entry.map(|(entry, _)| entry))
    })
}

/// The root of the perfect tree over these hashes, of which there are a power of two.
pub fn perfect_root(hashes: &[Hash]) -> Option<Hash> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        let (pairs, _) = level.as_chunks::<2>();
        level = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    level.first().copied()
}

/// Where tiles of hashes come from.
pub trait Tiles {
    /// Why one cannot be had.
    type Error;

    /// The hashes of a tile: as many as it is wide.
    fn hashes(&mut self, tile: Tile) -> Result<Vec<Hash>, Self::Error>;
}

/// The subtrees of a tree of this many entries, out of its tiles. Keeps the tiles it has seen last.
#[derive(Debug)]
pub struct TileSource<T> {
    tiles: T,
    size: u64,
    seen: Vec<(Tile, Vec<Hash>)>,
}

impl<T: Tiles> TileSource<T> {
    /// A tree of `size` entries.
    pub fn new(tiles: T, size: u64) -> Self {
        Self { tiles, size, seen: Vec::new() }
    }

    fn tile(&mut self, tile: Tile) -> Result<&[Hash], T::Error> {
        const KEPT: usize = 16;
        let known = self.seen.iter().position(|(seen, _)| *seen == tile);
        let entry = match known {
            Some(at) => self.seen.remove(at),
            None => (tile, self.tiles.hashes(tile)?),
        };
        self.seen.truncate(KEPT - 1);
        self.seen.insert(0, entry);
        Ok(self.seen.first().map_or(&[], |(_, hashes)| hashes))
    }
}

impl<T: Tiles> Source for TileSource<T> {
    type Error = T::Error;

    fn node(&mut self, level: u32, index: u64) -> Result<Hash, T::Error> {
        let (tiles, within) = (level / 8, level % 8);
        let place = index << within;
        let count = self.size.checked_shr(tiles * 8).unwrap_or(0);
        let tile = Tile::with(Kind::Level(u8::try_from(tiles).unwrap_or(7)), place, count);
        let from = usize::try_from(place % WIDTH).unwrap_or(0);
        let hashes = self.tile(tile)?.get(from..from + (1 << within)).unwrap_or_default();
        // A tile has its width: what is not there was asked for beyond the tree's end, and is the root of nothing.
        Ok(perfect_root(hashes).unwrap_or([0; 32]))
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::tree::{Frontier, leaf_hash, range_root};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_tile_has_one_path() {
        let tile = |kind, index, width| Tile { kind, index, width };
        for (path, expected) in [
            ("tile/0/000", tile(Kind::Level(0), 0, 256)),
            ("tile/1/x001/x234/067", tile(Kind::Level(1), 1_234_067, 256)),
            ("tile/entries/x001/234.p/255", tile(Kind::Entries, 1234, 255)),
            ("tile/63/999.p/1", tile(Kind::Level(63), 999, 1)),
        ] {
            assert_eq!(Tile::parse(path), Some(expected), "{path}");
            assert_eq!(expected.to_string(), path);
        }
        for path in [
            "tile/0/1",
            "tile/0/0000",
            "tile/0/x000/001",
            "tile/0/001/234",
            "tile/64/000",
            "tile/00/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000/",
            "tile/../000",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/data/000",
            "",
        ] {
            assert_eq!(Tile::parse(path), None, "{path}");
        }
    }

    struct Kept(BTreeMap<Tile, Vec<Hash>>);

    impl Tiles for Kept {
        type Error = Tile;
        fn hashes(&mut self, tile: Tile) -> Result<Vec<Hash>, Tile> {
            self.0.get(&tile).cloned().ok_or(tile)
        }
    }

    /// The tiles of the specification's formula.
    fn tiles_of(leaves: &[Hash]) -> Kept {
        let (mut tiles, mut level, mut hashes) = (BTreeMap::new(), 0, leaves.to_vec());
        while !hashes.is_empty() {
            for (index, chunk) in hashes.chunks(256).enumerate() {
                let tile = Tile { kind: Kind::Level(level), index: index as u64, width: chunk.len() as u16 };
                tiles.insert(tile, chunk.to_vec());
            }
            hashes = hashes.chunks_exact(256).map(|chunk| perfect_root(chunk).unwrap()).collect();
            level += 1;
        }
        Kept(tiles)
    }

    #[test]
    fn the_tiles_of_the_specifications_example() {
        let leaves: Vec<Hash> = (0..70_000u64).map(|index| leaf_hash(&index.to_be_bytes())).collect();
        let tiles = tiles_of(&leaves);
        let count =
            |level, full| tiles.0.keys().filter(|t| t.kind == Kind::Level(level) && (t.width == 256) == full).count();
        assert_eq!(
            (count(0, true), count(0, false), count(1, true), count(1, false), count(2, false)),
            (273, 1, 1, 1, 1)
        );
        let mut frontier = Frontier::new();
        for leaf in &leaves {
            frontier.push(*leaf);
        }
        let mut source = TileSource::new(tiles, 70_000);
        assert_eq!(range_root(&mut source, 0, 70_000), Ok(frontier.root()));
    }

    proptest! {
        #[test]
        fn paths_are_read_back(level in 0u8..64, index in 0u64..u64::MAX / 1000, width in 1u16..=256) {
            for kind in [Kind::Level(level), Kind::Entries] {
                let tile = Tile { kind, index, width };
                prop_assert_eq!(Tile::parse(&tile.to_string()), Some(tile));
            }
        }

        #[test]
        fn any_path_is_refused_or_written_back(path in "tile/[0-9a-z]{1,7}/[x0-9/.p]{1,12}") {
            if let Some(tile) = Tile::parse(&path) {
                prop_assert_eq!(tile.to_string(), path);
            }
        }

        #[test]
        fn a_bundle_gives_back_its_entries(all in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..300)) {
            let mut bundle = Vec::new();
            prop_assert!(all.iter().all(|entry| push_entry(&mut bundle, entry)));
            let read: Vec<_> = entries(&bundle).collect();
            if all.len() <= 256 {
                prop_assert_eq!(read, all.iter().map(|entry| Some(entry.as_slice())).collect::<Vec<_>>());
            } else {
                prop_assert_eq!(read.iter().position(Option::is_none), Some(256));
            }
        }

        #[test]
        fn any_bytes_are_a_bundle_or_cut(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let read: Vec<_> = entries(&bytes).collect();
            let whole: usize = read.iter().flatten().map(|entry| entry.len() + 2).sum();
            prop_assert_eq!(whole == bytes.len(), read.iter().all(Option::is_some));
        }

        #[test]
        fn roots_and_proofs_come_out_of_tiles(size in 1u64..1400, at in 0u64..1400) {
            let leaves: Vec<Hash> = (0..size).map(|index| leaf_hash(&index.to_be_bytes())).collect();
            let mut frontier = Frontier::new();
            for leaf in &leaves {
                frontier.push(*leaf);
            }
            let mut source = TileSource::new(tiles_of(&leaves), size);
            let at = at % size;
            let proof = crate::tree::inclusion(&mut source, at, size).unwrap();
            prop_assert!(crate::tree::verify_inclusion(&leaves[at as usize], at, size, &proof, &frontier.root()));
        }
    }
}
