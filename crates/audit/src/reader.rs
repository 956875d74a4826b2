//! The log as it lies on the disk, up to a checkpoint: its entries, its hashes, and proofs out of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::disk::{self, Disk};
use crate::error::LogError;
use crate::keys::Keys;
use crate::note::{MAX_NOTE, Verifier};
use crate::ring;
use crate::tile::{self, Kind, MAX_BUNDLE, Tile, TileSource, Tiles, WIDTH};
use crate::tree::{self, Hash};

/// The file with the newest checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// The file that says below which index entries have been deleted.
pub(crate) const PRUNED: &str = "minimum";

/// A log on the disk, up to a checkpoint.
#[derive(Debug, Clone)]
pub struct Reader {
    files: Files,
    keys: Keys,
    checkpoint: Checkpoint,
    note: String,
}

/// The files of a log.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
}

impl Files {
    pub(crate) fn path(&self, tile: Tile) -> PathBuf {
        self.dir.join(tile.to_string())
    }

    /// The bytes of a tile or bundle. A partial one may have become part of the full one since.
    pub(crate) fn bytes(&self, tile: Tile) -> Result<Vec<u8>, LogError> {
        let limit = if tile.kind == Kind::Entries { MAX_BUNDLE } else { 256 * 32 };
        let path = self.path(tile);
        match disk::read(&*self.disk, &path, limit) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && tile.width < 256 => {
                let full = Tile { width: 256, ..tile };
                let bytes = disk::read(&*self.disk, &self.path(full), limit);
                let bytes = bytes.map_err(|_| LogError::file(&path, error))?;
                Ok(first_part(&bytes, tile).to_vec())
            }
            read => read.map_err(|error| LogError::file(&path, error)),
        }
    }

    /// A small file, if it is there.
    pub(crate) fn small(&self, name: &str) -> Result<Option<Vec<u8>>, LogError> {
        let path = self.dir.join(name);
        match disk::read(&*self.disk, &path, MAX_NOTE) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LogError::file(&path, error)),
        }
    }

    /// Below which index entries have been deleted.
    pub(crate) fn minimum(&self) -> Result<u64, LogError> {
        let Some(bytes) = self.small(PRUNED)? else { return Ok(0) };
        let number = std::str::from_utf8(&bytes).ok().and_then(|text| crate::checkpoint::decimal(text.trim_end()));
        number.ok_or_else(|| {
            let why = "the file that says what was deleted is not as it was written";
            LogError::Damaged { path: self.dir.join(PRUNED), index: 0, why }
        })
    }

    pub(crate) fn damaged(&self, tile: Tile, why: &'static str) -> LogError {
        let span = match tile.kind {
            Kind::Entries => WIDTH,
            Kind::Level(level) => WIDTH.saturating_pow(u32::from(level) + 1),
        };
        LogError::Damaged { path: self.path(tile), index: tile.index.saturating_mul(span), why }
    }
}

/// Of a full tile or bundle, the part that a partial one has.
pub(crate) fn first_part(bytes: &[u8], tile: Tile) -> &[u8] {
    let width = usize::from(tile.width);
    let length = match tile.kind {
        Kind::Level(_) => width * 32,
        Kind::Entries => tile::entries(bytes).take(width).map(|entry| entry.map_or(0, |entry| entry.len() + 2)).sum(),
    };
    bytes.get(..length).unwrap_or(bytes)
}

impl Tiles for Files {
    type Error = LogError;

    fn hashes(&mut self, tile: Tile) -> Result<Vec<Hash>, LogError> {
        let bytes = self.bytes(tile)?;
        tile::decode_hashes(&bytes, tile.width).ok_or_else(|| self.damaged(tile, "a tile has not its length"))
    }
}

impl Reader {
    /// The log in `dir` up to its newest checkpoint, which `verifier` must have signed, or a key that took its place.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, verifier: &Verifier) -> Result<Self, LogError> {
        let files = Files { disk, dir: dir.to_owned() };
        // Keys are announced before a checkpoint is signed by them: read later, they are all there.
        let note = files.small(CHECKPOINT)?.ok_or(LogError::Missing(0))?;
        let keys = Keys::of(verifier, ring::read(&files)?)?;
        let checkpoint = keys.verify(&note)?;
        let note = String::from_utf8(note).map_err(|_| crate::note::NoteError::Malformed("it is not UTF-8"))?;
        Ok(Self { files, keys, checkpoint, note })
    }

    /// What the log has, as it was signed.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signed note of it.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The keys the log has had.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Below which index entries have been deleted.
    pub fn minimum(&self) -> Result<u64, LogError> {
        self.files.minimum()
    }

    /// The entry at `index`.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, LogError> {
        let bundle = self.bundle(index / WIDTH)?;
        let place = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
        bundle.into_iter().nth(place).ok_or(LogError::Missing(index))
    }

    /// The entries from `bundle * 256` on, 256 at most.
    pub fn bundle(&self, bundle: u64) -> Result<Vec<Vec<u8>>, LogError> {
        let first = bundle.saturating_mul(WIDTH);
        if first >= self.checkpoint.size || first + WIDTH <= self.minimum()? {
            return Err(LogError::Missing(first));
        }
        let tile = Tile::with(Kind::Entries, first, self.checkpoint.size);
        let bytes = self.files.bytes(tile)?;
        let entries: Option<Vec<_>> = tile::entries(&bytes).map(|entry| entry.map(<[u8]>::to_vec)).collect();
        let entries = entries.filter(|entries| entries.len() == usize::from(tile.width));
        entries.ok_or_else(|| self.files.damaged(tile, "a bundle has not its entries"))
    }

    /// The leaf hash at `index`: also of an entry that has been deleted.
    pub fn leaf(&self, index: u64) -> Result<Hash, LogError> {
        tree::Source::node(&mut self.source(), 0, index)
    }

    /// The proof that the entry at `index` is in the log as it was signed.
    pub fn inclusion(&self, index: u64) -> Result<Vec<Hash>, LogError> {
        if index >= self.checkpoint.size {
            return Err(LogError::Missing(index));
        }
        tree::inclusion(&mut self.source(), index, self.checkpoint.size)
    }

    /// The proof that the log as it was signed continues itself as it was with `old` entries.
    pub fn consistency(&self, old: u64) -> Result<Vec<Hash>, LogError> {
        if old > self.checkpoint.size {
            return Err(LogError::Missing(old));
        }
        tree::consistency(&mut self.source(), old, self.checkpoint.size)
    }

    /// The root of the log as it was with `size` entries.
    pub fn root_at(&self, size: u64) -> Result<Hash, LogError> {
        if size > self.checkpoint.size {
            return Err(LogError::Missing(size));
        }
        tree::range_root(&mut self.source(), 0, size)
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    pub(crate) fn source(&self) -> TileSource<Files> {
        TileSource::new(self.files.clone(), self.checkpoint.size)
    }
}
