//! A log that is written to.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use base::{Clock, SystemClock, Timestamp};

use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::error::{AppendError, LogError};
use crate::follower::{Announce, Follower, Latest, Parts};
use crate::frame;
use crate::fresh::{Fresh, Piece};
use crate::journal::{Cursor, Journal, Progress};
use crate::keys::Keys;
use crate::note::{Signer, Verifier};
use crate::queue::{Ack, Queue};
use crate::reader::{Files, Reader};
use crate::ring::{self, Ring, Signers};
use crate::segments::{self, SEGMENT};
use crate::tile::WIDTH;

/// The file with the public key, for whoever verifies the log where it lies.
pub const VERIFIER: &str = "vkey";
/// How long a checkpoint that is asked for may take.
const ASKED: Duration = Duration::from_secs(10);

/// How a log is kept.
pub struct Options {
    /// Told of every checkpoint, on a thread of the log's own.
    pub announce: Option<Announce>,
    /// How long entries are kept; absent: for ever. Their hashes are always kept.
    pub retention: Option<Duration>,
    /// A segment of the journal is ended once it is this long, in bytes.
    pub segment: u64,
    /// How much of what has just been written is kept in memory for the tree, in bytes; the rest is read back.
    pub fresh: usize,
}

/// More than is written in the time that making files of tiles durable takes.
const FRESH: usize = 2 << 20;

impl Default for Options {
    fn default() -> Self {
        Self { announce: None, retention: None, segment: SEGMENT, fresh: FRESH }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("segment", &self.segment).finish_non_exhaustive()
    }
}

/// How a log is doing.
#[derive(Debug, Clone)]
pub struct Status {
    /// How many entries are durable.
    pub entries: u64,
    /// How many wait to be written.
    pub waiting: u64,
    /// Why an entry could not be added now, if so.
    pub trouble: Option<AppendError>,
    /// Since when the journal cannot be written, and what the system says.
    pub failing: Option<(Timestamp, String)>,
    /// How often a write has failed since the start.
    pub failures: u64,
    /// How many writes there were since the start: each is one fsync.
    pub writes: u64,
    /// How many bytes they were together.
    pub bytes: u64,
    /// What the last write took.
    pub took: Duration,
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// When it was signed, if since the start.
    pub signed_at: Option<Timestamp>,
    /// Why there is no newer one, if making it failed.
    pub checkpoint_error: Option<LogError>,
}

/// A log that is open, and locked. Cheap to clone; the last clone that goes closes it.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    queue: Arc<Queue>,
    progress: Arc<Progress>,
    latest: Arc<Latest>,
    ring: Arc<Ring>,
    /// One key at a time is replaced.
    replacing: Mutex<()>,
    clock: Arc<dyn Clock>,
    torn: u64,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

impl Log {
    /// Open the log in `dir`, or begin one. What the last start left torn is cut off and made whole; what is damaged is
    /// refused.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        signers: impl Into<Signers>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Self, LogError> {
        let journal = segments::dir(dir);
        disk.make_dir(&journal).map_err(|error| LogError::file(&journal, error))?;
        let lock = disk.lock(&dir.join("lock")).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => LogError::Locked(dir.to_owned()),
            _ => LogError::file(dir, error),
        })?;
        let files = Files { disk: Arc::clone(&disk), dir: dir.to_owned() };
        let ring = Arc::new(Ring::open(&files, signers.into())?);
        let id = frame::log_id(ring.name());
        let found = segments::recover(&*disk, dir, id)?;
        if found.torn > 0 {
            let kept = found.segments.last().map_or(0, |segment| segment.end);
            tracing::warn!(
                bytes = found.torn,
                entries = kept,
                "the end of the audit log was torn and has been cut off; no acknowledged entry was in it"
            );
        }
        ring::write_newest(&files, &ring.newest())?;
        let progress = Arc::new(Progress::new(found.segments));
        // A disk takes its own time, whatever clock entries are dated by: where that one is set on, no write has stalled.
        let stopwatch: Arc<dyn Clock> = Arc::new(SystemClock);
        let (queue, latest) = (Arc::new(Queue::new(Arc::clone(&stopwatch))), Arc::new(Latest::default()));
        let fresh = Arc::new(Fresh::new(options.fresh));
        let follower = Follower::resume(Parts {
            files,
            clock: Arc::clone(&clock),
            progress: Arc::clone(&progress),
            fresh: Arc::clone(&fresh),
            latest: Arc::clone(&latest),
            ring: Arc::clone(&ring),
            announce: options.announce,
            queue: Arc::clone(&queue),
            retention: options.retention,
        })?;
        let journal = Journal {
            disk: Arc::clone(&disk),
            dir: dir.to_owned(),
            log: id,
            clock: Arc::clone(&clock),
            stopwatch,
            queue: Arc::clone(&queue),
            progress: Arc::clone(&progress),
            fresh,
            next: found.next,
            segment: options.segment,
            current: None,
            buffer: Vec::new(),
            piece: Piece::default(),
        };
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(run).map_err(|error| LogError::file(dir, error))
        };
        let threads = vec![
            start("audit-journal", Box::new(move || journal.run()))?,
            start("audit-tree", Box::new(move || follower.run()))?,
        ];
        let (threads, lock) = (Mutex::new(threads), Mutex::new(Some(lock)));
        let (dir, torn, replacing) = (dir.to_owned(), found.torn, Mutex::new(()));
        let inner = Inner { disk, dir, queue, progress, latest, ring, replacing, clock, torn, threads, lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Add an entry that nobody waits for: on the disk within some 50 ms, or when the disk can be written again.
    pub fn append(&self, entry: &[u8]) -> Result<(), AppendError> {
        self.inner.queue.push(entry)
    }

    /// Add an entry, and wait until it is durable. While the log cannot be written this fails at once.
    pub fn append_awaited(&self, entry: &[u8]) -> Result<Ack, AppendError> {
        self.inner.queue.push_awaited(entry)
    }

    /// Sign a checkpoint of all that is durable, unless there is one. Blocks until it is written.
    pub fn checkpoint(&self) -> Result<(Checkpoint, Arc<str>), LogError> {
        let tries = self.inner.latest.lock().tries;
        let size = {
            let mut state = self.inner.progress.lock();
            state.asked = true;
            state.durable
        };
        self.inner.progress.wake();
        let latest = self.inner.latest.wait_for(size, tries, ASKED)?;
        latest.checkpoint.ok_or(LogError::Missing(0))
    }

    /// The log up to its newest checkpoint.
    pub fn reader(&self) -> Result<Reader, LogError> {
        Reader::open(Arc::clone(&self.inner.disk), &self.inner.dir, &self.inner.ring.newest())
    }

    /// Give the durable entries of the journal to `each`, from `from` on or from where the journal still begins: what a start
    /// needs to know of what was under way. Gives the index the first of them has, or would have.
    pub fn replay(&self, from: u64, mut each: impl FnMut(u64, &[u8])) -> Result<u64, LogError> {
        let state = self.inner.progress.lock().clone();
        let segment = state.segments.iter().find(|segment| segment.end > from);
        let Some(mut cursor) = segment.map(Cursor::at) else { return Ok(state.durable.max(from)) };
        let mut index = cursor.index();
        let first = index.max(from);
        cursor.read((&*self.inner.disk, &self.inner.dir), &state, |frame| {
            if index >= from {
                each(index, frame.entry);
            }
            index += 1;
            true
        })?;
        Ok(first)
    }

    /// Give the durable entries to `each`, the latest ones first, piece by piece; within a piece in their order. After each
    /// piece `enough` is told the index of its first entry, and ends it by `true`. Whether that came before the log's beginning,
    /// or what retention has left of it.
    pub fn look_back(
        &self,
        mut each: impl FnMut(u64, &[u8]),
        mut enough: impl FnMut(u64) -> bool,
    ) -> Result<bool, LogError> {
        let mut first = self.replay(0, &mut each)?;
        if enough(first) {
            return Ok(true);
        }
        if first == 0 {
            return Ok(false);
        }
        let reader = self.reader()?;
        let minimum = reader.minimum()?;
        while first > minimum {
            let bundle = (first - 1) / WIDTH;
            let indices = bundle * WIDTH..first;
            for (index, entry) in indices.clone().zip(reader.bundle(bundle)?) {
                each(index, &entry);
            }
            first = indices.start;
            if enough(first) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What it calls itself.
    pub fn origin(&self) -> &str {
        self.inner.ring.name()
    }

    /// Who signs its checkpoints.
    pub fn verifier(&self) -> Verifier {
        self.inner.ring.newest()
    }

    /// The keys it has announced so far.
    pub fn keys(&self) -> Keys {
        self.inner.ring.keys()
    }

    /// How many keys it has been given, announced or not.
    pub fn keys_given(&self) -> usize {
        self.inner.ring.count()
    }

    /// Replace the key that signs checkpoints by `next`: announced in an entry that both sign; until `until` checkpoints are
    /// signed by both, then by `next` alone. Gives the newest checkpoint then. Blocks until it is written. Where this fails, or
    /// the process ends, it can be repeated with the same key, and the log is to be opened with it too: perhaps it was announced.
    pub fn replace_key(
        &self,
        next: Signer,
        until: Timestamp,
        compromised: bool,
    ) -> Result<(Checkpoint, Arc<str>), LogError> {
        let _alone = self.inner.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = self.inner.ring.announcement(next, (self.inner.clock.now(), until), compromised)? {
            self.append_awaited(&entry)?.wait()?;
        }
        self.checkpoint()
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// How many bytes at its end were torn when it was opened, and cut off.
    pub fn torn(&self) -> u64 {
        self.inner.torn
    }

    /// Why an entry could not be added now, if so. Cheap: for a look at each probe.
    pub fn trouble(&self) -> Option<AppendError> {
        self.inner.queue.trouble()
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        let state = self.inner.progress.lock().clone();
        let latest = self.inner.latest.lock().clone();
        Status {
            entries: state.durable,
            waiting: self.inner.queue.waiting(),
            trouble: self.inner.queue.trouble(),
            failing: state.failing,
            failures: state.failures,
            writes: state.writes,
            bytes: state.bytes,
            took: state.took,
            checkpoint: latest.checkpoint.map(|(checkpoint, _)| checkpoint),
            signed_at: latest.at,
            checkpoint_error: latest.error,
        }
    }

    /// Write what waits, sign a last checkpoint, and give the log free. Blocks until that is done.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        self.queue.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.inner.dir)
            .field("key", &self.inner.ring.name())
            .finish_non_exhaustive()
    }
}
