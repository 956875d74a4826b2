//! Whether a log says what it said: where it lies, or in an export. Reads only, and needs nothing but the key and, for what a
//! log cannot know of itself, a checkpoint that was kept elsewhere.

mod exported;

use std::collections::VecDeque;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::error::LogError;
use crate::export;
use crate::frame::{self, Frame, SEGMENT_HEADER, SegmentHeader};
use crate::growing::Growing;
use crate::keys::{Announced, Keys, KeysError};
use crate::log::VERIFIER;
use crate::note::{NoteError, Verifier};
use crate::reader::{CHECKPOINT, Files, Reader};
use crate::segments;
use crate::tile::{self, Kind, Tile, WIDTH};
use crate::tree::{Frontier, Hash, leaf_hash};

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing was found.
    pub valid: bool,
    /// What was found: a stable code; `ok` where nothing was.
    pub reason: &'static str,
    /// The first entry that is not as it was, as far as that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<u64>,
    /// Where only a range can be told, the entry it ends before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// What was found, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Which log.
    pub origin: Option<String>,
    /// How many entries its newest checkpoint covers.
    pub size: u64,
    /// The root it names, in base64.
    pub root: Option<String>,
    /// How many entries were read and hashed.
    pub entries: u64,
    /// How many are there by their hash alone, because retention deleted them.
    pub hashes_only: u64,
    /// How many entries of the journal no checkpoint covers yet.
    pub unsigned: u64,
    /// Where the key came from: `given`, or `own`: the log's own word for it.
    pub key: &'static str,
    /// The replacements of the log's key that its newest checkpoint covers, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Replaced>,
    /// How many checkpoints from elsewhere the log was compared with. Without one, nobody can tell whether a log was cut or
    /// written anew as a whole by who has its key.
    pub outside: u64,
}

/// A replacement of the log's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// The entry that announced it.
    pub index: u64,
    /// When.
    pub at: String,
    /// The key from then on: the one to trust.
    pub key: String,
    /// Whether the key before it was said to be known to others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub compromised: bool,
}

/// What was found not to be as it was.
#[derive(Debug)]
struct Finding {
    reason: &'static str,
    first_bad: Option<u64>,
    before: Option<u64>,
    detail: String,
}

impl Finding {
    fn at(reason: &'static str, index: u64, detail: impl Into<String>) -> Self {
        Self { reason, first_bad: Some(index), before: None, detail: detail.into() }
    }

    fn somewhere(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, first_bad: None, before: None, detail: detail.into() }
    }
}

impl From<NoteError> for Finding {
    fn from(error: NoteError) -> Self {
        Self::somewhere(error.reason(), error.to_string())
    }
}

impl From<KeysError> for Finding {
    fn from(error: KeysError) -> Self {
        Self::somewhere(error.reason(), error.to_string())
    }
}

impl From<LogError> for Finding {
    fn from(error: LogError) -> Self {
        match &error {
            LogError::Damaged { index, .. } => Self::at("damaged", *index, error.to_string()),
            _ => Self::somewhere(error.reason(), error.to_string()),
        }
    }
}

/// What a log is compared with.
#[derive(Debug, Clone, Default)]
pub struct Trusted {
    /// Whose signatures count. Absent: those of the key the log itself names.
    pub verifier: Option<Verifier>,
    /// Signed notes that were kept elsewhere.
    pub checkpoints: Vec<Vec<u8>>,
}

/// Roots a log must have had, by its size then.
struct Expected {
    /// From elsewhere first, so that what they show is said before what follows from it.
    roots: VecDeque<(u64, Hash, &'static str)>,
}

impl Expected {
    fn of(trusted: &Trusted, keys: &Keys, own: &Checkpoint, kept: &[String]) -> Result<Self, Finding> {
        let mut roots = Vec::new();
        for note in &trusted.checkpoints {
            let outside = keys.verify(note)?;
            if outside.size > own.size {
                let detail = format!(
                    "the log has {} entries, and a checkpoint from elsewhere says it had {}: those from {} on are missing",
                    own.size, outside.size, own.size
                );
                return Err(Finding::at("log_truncated", own.size, detail));
            }
            roots.push((outside.size, outside.root, "log_rewritten"));
        }
        for note in kept {
            let earlier = keys.verify(note.as_bytes())?;
            roots.push((earlier.size, earlier.root, "root_mismatch"));
        }
        roots.push((own.size, own.root, "root_mismatch"));
        roots.sort_by_key(|(size, ..)| *size);
        Ok(Self { roots: roots.into() })
    }

    /// Look at the tree as it is now.
    fn check(&mut self, tree: &Frontier, sound: &mut u64) -> Result<(), Finding> {
        while let Some((size, root, reason)) = self.roots.front().copied().filter(|(size, ..)| *size <= tree.size()) {
            if size < tree.size() && reason == "log_rewritten" {
                let detail = format!(
                    "the export leaves out what the checkpoint of {size} entries is about: export from the start"
                );
                return Err(Finding { reason: "checkpoint_not_covered", first_bad: None, before: None, detail });
            }
            if size == tree.size() && root != tree.root() {
                let detail = format!(
                    "the entries from {sound} to {} are not all those that the checkpoint of {size} entries was signed over",
                    size - 1
                );
                return Err(Finding { reason, first_bad: None, before: Some(size), detail });
            }
            if size == tree.size() {
                *sound = size;
            }
            self.roots.pop_front();
        }
        Ok(())
    }
}

/// Verify the log in `dir`.
pub fn directory(disk: &Arc<dyn Disk>, dir: &Path, trusted: &Trusted) -> Report {
    let mut report = empty(trusted);
    let outcome = in_directory(disk, dir, trusted, &mut report);
    concluded(report, outcome)
}

/// Verify an export.
pub fn exported(input: &mut dyn BufRead, trusted: &Trusted) -> Report {
    let mut report = empty(trusted);
    let outcome = exported::read(input, trusted, &mut report);
    concluded(report, outcome)
}

fn empty(trusted: &Trusted) -> Report {
    Report {
        valid: false,
        reason: "unread",
        first_bad: None,
        before: None,
        detail: None,
        origin: None,
        size: 0,
        root: None,
        entries: 0,
        hashes_only: 0,
        unsigned: 0,
        key: if trusted.verifier.is_some() { "given" } else { "own" },
        changes: Vec::new(),
        outside: trusted.checkpoints.len() as u64,
    }
}

fn concluded(report: Report, outcome: Result<(), Finding>) -> Report {
    match outcome {
        Ok(()) => Report { valid: true, reason: "ok", ..report },
        Err(Finding { reason, first_bad, before, detail }) => {
            Report { reason, first_bad, before, detail: Some(detail), ..report }
        }
    }
}

fn in_directory(disk: &Arc<dyn Disk>, dir: &Path, trusted: &Trusted, report: &mut Report) -> Result<(), Finding> {
    let files = Files { disk: Arc::clone(disk), dir: dir.to_owned() };
    let verifier = if let Some(verifier) = &trusted.verifier {
        verifier.clone()
    } else {
        let missing = || Finding::somewhere("key_missing", "there is no file `vkey`, and no key was given");
        let bytes = files.small(VERIFIER)?.ok_or_else(missing)?;
        Verifier::parse(&String::from_utf8_lossy(&bytes))?
    };
    if files.small(CHECKPOINT)?.is_none() {
        return Err(Finding::at("checkpoint_missing", 0, "there is no checkpoint"));
    }
    let reader = Reader::open(Arc::clone(disk), dir, &verifier)?;
    let own = reader.checkpoint().clone();
    report.origin = Some(own.origin.clone());
    (report.size, report.root) = (own.size, Some(STANDARD.encode(own.root)));
    let keys = reader.keys();
    report.changes = covered(keys, own.size);
    let mut expected = Expected::of(trusted, keys, &own, &export::kept(&reader))?;
    let minimum = reader.minimum()?;
    if minimum > own.size {
        return Err(Finding::at("entries_missing", own.size, "more entries are said to be deleted than there are"));
    }
    let mut walk = Walk { files: &files, keys, size: own.size, minimum, growing: Growing::default() };
    let (mut tree, mut sound) = (Frontier::new(), 0);
    let mut whole = expected.check(&tree, &mut sound);
    for bundle in 0..own.size.div_ceil(WIDTH) {
        for leaf in walk.bundle(bundle, report)? {
            tree.push(leaf);
            let checked = expected.check(&tree, &mut sound);
            whole = whole.and(checked);
        }
    }
    // Tiles tell more of the place than roots do.
    walk.compare_partial()?;
    whole?;
    journal(&files, &own, report)
}

/// The replacements that a checkpoint of so many entries covers.
fn covered(keys: &Keys, size: u64) -> Vec<Replaced> {
    let covered = keys.changes().iter().filter(|announced| announced.index < size);
    let replaced = |announced: &Announced| Replaced {
        index: announced.index,
        at: announced.change.at.rfc3339(),
        key: announced.change.to.to_string(),
        compromised: announced.change.compromised,
    };
    covered.map(replaced).collect()
}

/// An entry that is said to have announced a key has to be the one that was logged.
fn announced(keys: &Keys, index: u64, leaf: &Hash) -> Result<(), Finding> {
    match keys.changes().iter().find(|announced| announced.index == index) {
        Some(announced) if leaf_hash(&announced.entry) != *leaf => {
            let detail = format!("entry {index} is not the one that is said to have announced a key");
            Err(Finding::at("key_change_mismatch", index, detail))
        }
        _ => Ok(()),
    }
}

/// Goes through the bundles and tiles.
struct Walk<'a> {
    files: &'a Files,
    keys: &'a Keys,
    size: u64,
    minimum: u64,
    growing: Growing,
}

impl Walk<'_> {
    /// The leaf hashes of a bundle, each compared with its entry.
    fn bundle(&mut self, bundle: u64, report: &mut Report) -> Result<Vec<Hash>, Finding> {
        let first = bundle * WIDTH;
        let tile = Tile::with(Kind::Level(0), first, self.size);
        let missing =
            |what: &str| Finding::at("tile_missing", first, format!("{what} from entry {first} on cannot be read"));
        let hashes = self.files.bytes(tile).ok().and_then(|bytes| tile::decode_hashes(&bytes, tile.width));
        let mut finished = Vec::new();
        if first + WIDTH <= self.minimum {
            let hashes = hashes.ok_or_else(|| missing("the hashes"))?;
            report.hashes_only += hashes.len() as u64;
            for (index, leaf) in (first..).zip(&hashes) {
                announced(self.keys, index, leaf)?;
                self.growing.push(b"", *leaf, &mut finished);
            }
            self.compare(&finished)?;
            return Ok(hashes);
        }
        let bytes = self.files.bytes(Tile { kind: Kind::Entries, ..tile });
        let bytes = bytes.map_err(|_| {
            Finding::at("entries_missing", first, format!("the entries from {first} on cannot be read"))
        })?;
        let hashes = hashes.ok_or_else(|| missing("the hashes"))?;
        let mut entries = tile::entries(&bytes);
        for (index, hash) in (first..).zip(&hashes) {
            let Some(Some(entry)) = entries.next() else {
                return Err(Finding::at("entry_missing", index, format!("entry {index} is not there")));
            };
            if leaf_hash(entry) != *hash {
                return Err(Finding::at(
                    "entry_altered",
                    index,
                    format!("entry {index} is not the one that was logged"),
                ));
            }
            announced(self.keys, index, hash)?;
            self.keys.agree(index, entry).map_err(|error| Finding::at(error.reason(), index, error.to_string()))?;
            report.entries += 1;
            self.growing.push(entry, *hash, &mut finished);
        }
        let after = first + hashes.len() as u64;
        if entries.next().is_some() {
            return Err(Finding::at("entry_added", after, format!("entry {after} was not logged")));
        }
        self.compare(&finished)?;
        Ok(hashes)
    }

    /// Compare the tiles that have come to be full with those on the disk.
    fn compare(&self, finished: &[(Tile, Vec<u8>)]) -> Result<(), Finding> {
        for (tile, bytes) in finished.iter().filter(|(tile, _)| tile.kind != Kind::Entries) {
            let there = self.files.bytes(*tile).unwrap_or_default();
            if there == *bytes {
                continue;
            }
            let Kind::Level(level) = tile.kind else { continue };
            let (ours, _) = bytes.as_chunks::<32>();
            let (theirs, _) = there.as_chunks::<32>();
            let at = (0u64..).zip(ours).find(|(at, hash)| theirs.get(usize::try_from(*at).unwrap_or(0)) != Some(hash));
            let at = at.map_or(0, |(at, _)| at);
            let span = WIDTH.saturating_pow(u32::from(level));
            let index = (tile.index * WIDTH + at).saturating_mul(span);
            let detail = format!("an entry from {index} to {} is not the one that was logged", index + span - 1);
            return Err(Finding {
                reason: "entry_altered",
                first_bad: Some(index),
                before: Some(index + span),
                detail,
            });
        }
        Ok(())
    }

    fn compare_partial(&self) -> Result<(), Finding> {
        self.compare(&self.growing.partial())
    }
}

/// The journal holds some of the same entries, and those that no checkpoint covers yet.
fn journal(files: &Files, own: &Checkpoint, report: &mut Report) -> Result<(), Finding> {
    let id = frame::log_id(&own.origin);
    let mut end = None;
    let mut numbers = segments::numbers(&*files.disk, &files.dir)?.into_iter().peekable();
    while let Some(seq) = numbers.next() {
        let bytes = match segments::read(&*files.disk, &files.dir, seq) {
            Ok(bytes) => bytes,
            // A server that runs may have removed it meanwhile.
            Err(LogError::File { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(head) = SegmentHeader::parse(&bytes).filter(|head| head.seq == seq && head.log == id) else {
            if numbers.peek().is_none() && bytes.len() < SEGMENT_HEADER {
                break;
            }
            let index = end.unwrap_or(0);
            return Err(Finding::at(
                "journal_altered",
                index,
                format!("segment {seq} of the journal is not as it was written"),
            ));
        };
        let altered = |index: u64| {
            Finding::at("journal_altered", index, format!("entry {index} of the journal is not as it was written"))
        };
        if end.is_some_and(|end| end < head.first) {
            return Err(altered(end.unwrap_or(0)));
        }
        let (mut rest, mut index) = (bytes.get(SEGMENT_HEADER..).unwrap_or_default(), head.first);
        let limit = next_first(files, numbers.peek().copied());
        while let Some((frame, after)) = Frame::parse(rest).filter(|_| limit.is_none_or(|limit| index < limit)) {
            if index < own.size {
                let tile = Tile::with(Kind::Level(0), index, own.size);
                let hashes = files.bytes(tile).ok().and_then(|bytes| tile::decode_hashes(&bytes, tile.width));
                let place = usize::try_from(index % WIDTH).unwrap_or(0);
                if hashes.and_then(|hashes| hashes.get(place).copied()) != Some(frame.leaf) {
                    return Err(altered(index));
                }
            }
            (rest, index) = (after, index + 1);
        }
        if limit.is_some_and(|limit| index < limit) || frame::continues(rest) && limit.is_none() {
            return Err(altered(index));
        }
        end = Some(index);
    }
    match end {
        Some(end) if end < own.size => {
            let detail = format!("the journal ends with entry {end}, before what a checkpoint was signed over");
            Err(Finding::at("log_truncated", end, detail))
        }
        end => {
            report.unsigned = end.map_or(0, |end| end - own.size);
            Ok(())
        }
    }
}

/// Where the next segment begins.
fn next_first(files: &Files, seq: Option<u64>) -> Option<u64> {
    let bytes = segments::read(&*files.disk, &files.dir, seq?).ok()?;
    SegmentHeader::parse(&bytes).map(|head| head.first)
}
