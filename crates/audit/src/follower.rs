//! Makes tiles, bundles and checkpoints of what the journal has made durable, on a thread of its own: no request waits for it.
//!
//! Tiles are written without waiting for the disk. As long as a segment of the journal is there, everything can be made anew
//! from it; only when it is to be removed are the files made of it made durable first.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::{Clock, Timestamp};

use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::LogError;
use crate::fresh::{Fresh, Piece};
use crate::growing::{Finished, Growing};
use crate::journal::{Cursor, Progress, State};
use crate::json::Object;
use crate::keys;
use crate::queue::Queue;
use crate::reader::{CHECKPOINT, Files, PRUNED};
use crate::recorder::SCHEMA;
use crate::ring::{self, Ring};
use crate::segments::{self, Segment};
use crate::tile::{self, Kind, Tile, TileSource, Tiles, WIDTH};
use crate::tree::{self, Hash};

/// A checkpoint is signed this long after the last, if there is anything new;
const EVERY: Duration = Duration::from_secs(10);
/// or sooner, once there are this many new entries;
const ENTRIES: u64 = 1000;
/// but not sooner than this after the last.
const AT_LEAST: Duration = Duration::from_secs(1);
/// Entries are taken in at the latest when so many have come: while they still are in memory.
const BEHIND: u64 = 1024;
/// How long to wait before trying again what failed.
const RETRY: Duration = Duration::from_secs(1);
/// Of the checkpoints that were signed, one in this time is kept.
const HISTORY_EVERY: Duration = Duration::from_hours(1);
/// The file they are kept in.
pub(crate) const HISTORY: &str = "history";

/// What is told of each new checkpoint.
pub type Announce = Box<dyn Fn(&Checkpoint, &str) + Send + Sync>;

/// The newest checkpoint, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    state: Mutex<LatestState>,
    changed: Condvar,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct LatestState {
    pub(crate) checkpoint: Option<(Checkpoint, Arc<str>)>,
    pub(crate) at: Option<Timestamp>,
    /// How often making one was tried.
    pub(crate) tries: u64,
    pub(crate) error: Option<LogError>,
}

impl Latest {
    pub(crate) fn lock(&self) -> MutexGuard<'_, LatestState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait until there is one of at least `size` entries, or the try after `tries` has failed.
    pub(crate) fn wait_for(&self, size: u64, tries: u64, time: Duration) -> Result<LatestState, LogError> {
        let covers = |state: &LatestState| state.checkpoint.as_ref().is_some_and(|(made, _)| made.size >= size);
        let waiting = |state: &mut LatestState| !covers(state) && (state.tries <= tries || state.error.is_none());
        let waited = self.changed.wait_timeout_while(self.lock(), time, waiting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (&state.error, covers(&state)) {
            (_, true) => Ok(state.clone()),
            (Some(error), false) => Err(error.clone()),
            (None, false) => Err(LogError::Late),
        }
    }
}

/// What the thread works with.
pub(crate) struct Follower {
    pub(crate) files: Files,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) latest: Arc<Latest>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) announce: Option<Announce>,
    fresh: Arc<Fresh>,
    queue: Arc<Queue>,
    retention: Option<Duration>,
    /// When entries past their time were looked for last.
    pruned: Option<Instant>,
    growing: Growing,
    /// What is handed over by the journal, and the place in the journal where it was read last.
    piece: Piece,
    cursor: Option<Cursor>,
    /// To be written.
    finished: Vec<Finished>,
    /// Entries that announce keys, to be taken up before a checkpoint covers them.
    announced: Vec<(u64, Vec<u8>)>,
    /// Written, and perhaps not on the disk yet.
    unsynced: Vec<Tile>,
    last: Instant,
    kept: Option<Instant>,
}

/// What a follower is made of.
pub(crate) struct Parts {
    pub(crate) files: Files,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) fresh: Arc<Fresh>,
    pub(crate) latest: Arc<Latest>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) announce: Option<Announce>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) retention: Option<Duration>,
}

impl Follower {
    /// Take the tree up where the journal begins, and bring it to where the journal ends. What was signed has to be in it.
    pub(crate) fn resume(parts: Parts) -> Result<Self, LogError> {
        let Parts { mut files, clock, progress, fresh, latest, ring, announce, queue, retention } = parts;
        let state = progress.lock().clone();
        let signed = match files.small(CHECKPOINT)? {
            Some(note) => {
                let found = Checkpoint::unverified(&note)?;
                if found.origin != ring.name() {
                    let (path, expected) = (files.dir.clone(), ring.name().to_owned());
                    return Err(LogError::Origin { path, found: found.origin, expected });
                }
                let text: Arc<str> = String::from_utf8_lossy(&note).into();
                Some((ring.keys().verify(&note)?, text))
            }
            None => None,
        };
        let size = signed.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size);
        let announced = ring.keys().changes().last().map_or(0, |last| last.index + 1);
        if size.max(announced) > state.durable {
            let why = "entries are missing that a checkpoint was signed over";
            return Err(LogError::Damaged { path: segments::dir(&files.dir), index: state.durable, why });
        }
        let first = state.segments.first().map_or(0, |segment| segment.first);
        let growing = take_up(&mut files, first)?;
        let last = clock.monotonic();
        let mut follower = Self {
            files,
            clock,
            progress,
            latest,
            ring,
            announce,
            fresh,
            queue,
            retention,
            pruned: None,
            growing,
            piece: Piece::default(),
            cursor: None,
            finished: Vec::new(),
            announced: Vec::new(),
            unsynced: Vec::new(),
            last,
            kept: None,
        };
        let mut root = (size == first).then(|| follower.growing.root());
        if root.is_some() {
            // What a checkpoint needs may have been lost with the power.
            follower.finished = follower.growing.partial();
            follower.write(true)?;
        }
        while follower.growing.size() < state.durable {
            root = follower.follow(&state, Some(size))?.or(root);
            follower.write(true)?;
        }
        follower.take_up_keys()?;
        if let Some((checkpoint, note)) = signed {
            let root = match root {
                Some(root) => root,
                None => tree::range_root(&mut TileSource::new(follower.files.clone(), state.durable), 0, size)?,
            };
            if root != checkpoint.root {
                let why = "the entries are not those a checkpoint was signed over";
                return Err(LogError::Damaged { path: segments::dir(&follower.files.dir), index: first, why });
            }
            follower.latest.lock().checkpoint = Some((checkpoint, note));
        }
        Ok(follower)
    }

    /// Follow the journal to its end.
    pub(crate) fn run(mut self) {
        loop {
            let (state, is_due) = self.wait();
            let tried = if is_due { self.round(&state) } else { self.catch_up(&state) };
            if is_due || tried.is_err() {
                let mut latest = self.latest.lock();
                latest.tries += 1;
                latest.error = tried.as_ref().err().cloned();
                drop(latest);
                self.latest.changed.notify_all();
            }
            if let Err(error) = tried {
                tracing::error!(reason = error.reason(), %error, "no checkpoint of the audit log can be made");
                if !state.ended {
                    drop(self.progress.wait(self.progress.lock(), Some(RETRY)));
                }
            }
            if state.ended {
                return;
            }
        }
    }

    /// Wait until a checkpoint is due (then the second is `true`: the first of a log at once, so that it can be verified from its
    /// beginning on), or there is much to take in.
    fn wait(&self) -> (State, bool) {
        let signed = self.latest.lock().checkpoint.as_ref().map(|(checkpoint, _)| checkpoint.size);
        let mut state = self.progress.lock();
        let Some(signed) = signed else {
            state.asked = false;
            return (state.clone(), true);
        };
        while !state.ended && !state.asked {
            let since = self.clock.monotonic().saturating_duration_since(self.last);
            let due = match state.durable - signed.min(state.durable) {
                0 => None,
                ENTRIES.. => Some(AT_LEAST.saturating_sub(since)),
                _ => Some(EVERY.saturating_sub(since)),
            };
            if due.is_some_and(|due| due.is_zero()) {
                break;
            }
            let behind = self.growing.size() + BEHIND;
            if state.durable >= behind {
                return (state.clone(), false);
            }
            state.wake_at = match state.durable - signed.min(state.durable) {
                0 => signed + 1,
                ENTRIES.. => behind,
                _ => behind.min(signed + ENTRIES),
            };
            let over;
            (state, over) = self.progress.wait(state, due);
            if over {
                break;
            }
        }
        state.asked = false;
        (state.clone(), true)
    }

    /// Take in what there is.
    fn catch_up(&mut self, state: &State) -> Result<(), LogError> {
        while self.growing.size() < state.durable || !self.finished.is_empty() {
            self.write(false)?;
            self.follow(state, None)?;
        }
        Ok(())
    }

    /// Catch up, and sign what there is.
    fn round(&mut self, state: &State) -> Result<(), LogError> {
        self.last = self.clock.monotonic();
        self.catch_up(state)?;
        self.prune()?;
        let signed = self.latest.lock().checkpoint.as_ref().map(|(checkpoint, _)| checkpoint.size);
        if signed.is_some_and(|size| size >= self.growing.size()) {
            return Ok(());
        }
        self.sign()?;
        self.retire(state)
    }

    /// Take entries in, until some files are to be written. Gives the root at `mark` entries, where it came to be; what a
    /// reader of the tree of that size needs is to be written too.
    fn follow(&mut self, state: &State, mark: Option<u64>) -> Result<Option<Hash>, LogError> {
        let Self { growing, finished, announced, piece, fresh, cursor, files, .. } = self;
        let mut intake = Intake { growing, finished, announced, mark, root: None };
        if piece.index().is_none() {
            fresh.take(piece);
        }
        // What is not in memory is in the journal.
        let until = piece.index().map_or(state.durable, |first| first.min(state.durable));
        if intake.growing.size() < until {
            intake.read(cursor, files, &State { durable: until, ..state.clone() })?;
        }
        let mut go_on = true;
        while go_on && let Some(index) = piece.index().filter(|index| *index <= intake.growing.size()) {
            let size = intake.growing.size();
            let Some((entry, leaf)) = piece.take() else { break };
            go_on = index < size || intake.take(entry, leaf);
        }
        Ok(intake.root)
    }

    /// Write what is finished. `compare`: it may be there already.
    fn write(&mut self, compare: bool) -> Result<(), LogError> {
        while let Some((tile, bytes)) = self.finished.first() {
            let there = compare && self.files.bytes(*tile).is_ok_and(|there| there == *bytes);
            if !there {
                put(&self.files, *tile, bytes)?;
            }
            if u64::from(tile.width) == WIDTH {
                let mut partial = self.files.path(*tile).into_os_string();
                partial.push(".p");
                let partial = Path::new(&partial);
                match self.files.disk.remove_dir(partial) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(LogError::file(partial, error));
                    }
                    _ => {}
                }
                self.unsynced.push(*tile);
            }
            let written = self.finished.remove(0);
            self.growing.reuse(written);
        }
        Ok(())
    }

    /// From here on checkpoints are signed with the keys that entries have announced.
    fn take_up_keys(&mut self) -> Result<(), LogError> {
        while let Some((index, entry)) = self.announced.first() {
            if let Some(keys) = self.ring.followed(*index, entry)? {
                ring::write(&self.files, &keys)?;
                self.ring.adopt(keys);
            }
            self.announced.remove(0);
        }
        Ok(())
    }

    fn sign(&mut self) -> Result<(), LogError> {
        self.take_up_keys()?;
        for (tile, bytes) in self.growing.partial() {
            put(&self.files, tile, &bytes)?;
        }
        let origin = self.ring.name().to_owned();
        let checkpoint = Checkpoint { origin, size: self.growing.size(), root: self.growing.root() };
        let note = self.ring.sign(&checkpoint, self.clock.now())?;
        let path = self.files.dir.join(CHECKPOINT);
        disk::replace_durably(&*self.files.disk, &path, note.as_bytes())
            .map_err(|error| LogError::file(&path, error))?;
        self.keep(&note)?;
        if let Some(announce) = &self.announce {
            announce(&checkpoint, &note);
        }
        let mut latest = self.latest.lock();
        latest.checkpoint = Some((checkpoint, note.into()));
        latest.at = Some(self.clock.now());
        Ok(())
    }

    /// Keep one checkpoint an hour.
    fn keep(&mut self, note: &str) -> Result<(), LogError> {
        let now = self.clock.monotonic();
        if self.kept.is_some_and(|kept| now.saturating_duration_since(kept) < HISTORY_EVERY) {
            return Ok(());
        }
        let path = self.files.dir.join(HISTORY);
        let line = serde_json::json!({ "at": self.clock.now().rfc3339(), "checkpoint": note });
        let write = || self.files.disk.extend(&path)?.append(format!("{line}\n").as_bytes());
        write().map_err(|error| LogError::file(&path, error))?;
        self.kept = Some(now);
        Ok(())
    }

    /// Delete the bundles all of whose entries are past their time, and say so in an entry. Their hashes stay.
    fn prune(&mut self) -> Result<(), LogError> {
        const EVERY: Duration = Duration::from_hours(1);
        let now = self.clock.monotonic();
        let Some(keep) = self.retention else { return Ok(()) };
        if self.pruned.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            return Ok(());
        }
        self.pruned = Some(now);
        let (old, before) = (self.clock.now().minus(keep), self.files.minimum()?);
        let mut bundles = Vec::new();
        // What the journal still has is never old enough, and could be made anew from it.
        let journal = self.progress.lock().segments.first().map_or(0, |segment| segment.first);
        let mut minimum = before;
        while minimum + WIDTH <= journal {
            let tile = Tile::full(Kind::Entries, minimum / WIDTH);
            let bytes = self.files.bytes(tile)?;
            // Clocks step: every entry has to be old.
            let young = |entry: Option<&[u8]>| entry.and_then(time_of).is_none_or(|at| at >= old);
            if tile::entries(&bytes).any(young) {
                break;
            }
            bundles.push(tile);
            minimum += WIDTH;
        }
        if minimum > before {
            let path = self.files.dir.join(PRUNED);
            let text = format!("{minimum}\n");
            disk::replace_durably(&*self.files.disk, &path, text.as_bytes())
                .map_err(|error| LogError::file(&path, error))?;
            for tile in bundles {
                let path = self.files.path(tile);
                self.files.disk.remove(&path).map_err(|error| LogError::file(&path, error))?;
            }
            let mut entry = Object::new();
            entry
                .number("v", SCHEMA)
                .time("at", self.clock.now())
                .text("kind", "audit.pruned")
                .number("before", minimum);
            let _ = self.queue.push(&entry.finish());
        }
        Ok(())
    }

    /// Remove the segments of the journal all of whose entries are in full tiles and bundles that are on the disk.
    fn retire(&mut self, state: &State) -> Result<(), LogError> {
        let full = self.growing.size() / WIDTH * WIDTH;
        let last = state.segments.len().saturating_sub(1);
        let done = state.segments.iter().take(last).take_while(|segment| segment.end <= full);
        let done: Vec<Segment> = done.copied().collect();
        if done.is_empty() {
            return Ok(());
        }
        let failed = |path: &Path, error| LogError::file(path, error);
        let tiles: Vec<_> = self.unsynced.iter().map(|tile| self.files.path(*tile)).collect();
        let mut dirs = Vec::new();
        for path in &tiles {
            let mut above = path.parent();
            while let Some(dir) = above.filter(|dir| dir.starts_with(&self.files.dir)) {
                if !dirs.iter().any(|known| known == dir) {
                    dirs.push(dir.to_owned());
                }
                above = dir.parent();
            }
        }
        self.files.disk.sync_all(&tiles).map_err(|(path, error)| LogError::file(&path, error))?;
        for dir in dirs {
            self.files.disk.sync(&dir).map_err(|error| failed(&dir, error))?;
        }
        self.unsynced.clear();
        for segment in done {
            segments::discard(&*self.files.disk, &self.files.dir, segment.seq)?;
            // One after the other, so that a loss of power leaves no gap.
            let dir = segments::dir(&self.files.dir);
            self.files.disk.sync(&dir).map_err(|error| failed(&dir, error))?;
            self.progress.lock().segments.retain(|kept| kept.seq != segment.seq);
        }
        Ok(())
    }
}

/// Where entries are taken in.
struct Intake<'a> {
    growing: &'a mut Growing,
    finished: &'a mut Vec<Finished>,
    announced: &'a mut Vec<(u64, Vec<u8>)>,
    mark: Option<u64>,
    root: Option<Hash>,
}

impl Intake<'_> {
    /// Take in the next entry. `false`: some files are to be written first.
    fn take(&mut self, entry: &[u8], leaf: Hash) -> bool {
        const FILES: usize = 64;
        if keys::announces(entry) {
            self.announced.push((self.growing.size(), entry.to_vec()));
        }
        self.growing.push(entry, leaf, self.finished);
        if self.mark == Some(self.growing.size()) {
            self.root = Some(self.growing.root());
            self.finished.extend(self.growing.partial());
        }
        self.finished.len() < FILES
    }

    /// Take in what the journal has on the disk.
    fn read(&mut self, cursor: &mut Option<Cursor>, files: &Files, state: &State) -> Result<(), LogError> {
        let size = self.growing.size();
        let there = cursor.take().filter(|cursor| cursor.index() == size && cursor.is_in(state));
        let cursor = if let Some(there) = there {
            cursor.insert(there)
        } else {
            // Meanwhile entries came from elsewhere, or the segment it had read to its end has been removed.
            let segment = state.segments.iter().find(|segment| segment.first <= size && size < segment.end);
            let (path, why) = (segments::dir(&files.dir), "a segment of the journal is missing");
            let segment = segment.ok_or(LogError::Damaged { path, index: size, why })?;
            cursor.insert(Cursor::at(segment))
        };
        let mut index = cursor.index();
        cursor.read((&*files.disk, &files.dir), state, |frame| {
            index += 1;
            index <= size || self.take(frame.entry, frame.leaf)
        })
    }
}

/// When an entry was written, by its own word.
fn time_of(entry: &[u8]) -> Option<Timestamp> {
    #[derive(serde::Deserialize)]
    struct Dated {
        at: String,
    }
    Timestamp::parse_rfc3339(&serde_json::from_slice::<Dated>(entry).ok()?.at)
}

/// Write a tile or a bundle.
fn put(files: &Files, tile: Tile, bytes: &[u8]) -> Result<(), LogError> {
    let path = files.path(tile);
    let dir = path.parent().unwrap_or(&files.dir);
    // A full one is in no tree that was signed before it is written, so that nobody reads it meanwhile; one that was torn is
    // written anew at the next start. A partial one may be there already, and read.
    let write = || match u64::from(tile.width) {
        WIDTH => files.disk.create(&path).and_then(|mut file| file.append(bytes)),
        _ => disk::replace(&*files.disk, &path, bytes),
    };
    let written = match write() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => files.disk.make_dir(dir).and_then(|()| write()),
        written => written,
    };
    written.map_err(|error| LogError::file(&path, error))
}

/// The tree's right edge at `size` entries, out of full tiles: the journal before that has been removed.
fn take_up(files: &mut Files, size: u64) -> Result<Growing, LogError> {
    let mut levels = Vec::new();
    let (mut level, mut count) = (0u8, size);
    while count > 0 {
        let (index, width) = (count / WIDTH, usize::try_from(count % WIDTH).unwrap_or(0));
        let mut hashes = Vec::new();
        if level == 0 && width > 0 {
            hashes = files.hashes(Tile::full(Kind::Level(0), index))?;
            hashes.truncate(width);
        }
        for below in (0..width as u64).filter(|_| level > 0) {
            let tile = Tile::full(Kind::Level(level - 1), index * WIDTH + below);
            let root = tile::perfect_root(&files.hashes(tile)?);
            hashes.push(root.ok_or_else(|| files.damaged(tile, "a tile has not its length"))?);
        }
        levels.push(hashes);
        count /= WIDTH;
        level += 1;
    }
    let bundle = match u16::try_from(size % WIDTH) {
        Ok(width @ 1..) => {
            let tile = Tile { kind: Kind::Entries, index: size / WIDTH, width };
            let full = files.bytes(Tile { width: 256, ..tile })?;
            crate::reader::first_part(&full, tile).to_vec()
        }
        _ => Vec::new(),
    };
    let why = "the tiles do not belong together";
    Growing::resume(levels, bundle).ok_or_else(|| files.damaged(Tile::full(Kind::Level(0), size / WIDTH), why))
}
