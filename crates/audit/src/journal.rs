//! The journal's thread: takes what waits, writes it, makes it durable, says so. One write and one fsync for all that has
//! gathered.
//!
//! After a write or an fsync that failed nobody can know what of it is on the disk. The segment is given up at the last place
//! that is known, and another begins there; until that succeeds the journal is failing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::{Clock, Timestamp};

use crate::disk::{Disk, Output};
use crate::error::LogError;
use crate::frame::{self, SEGMENT_HEADER, SegmentHeader};
use crate::fresh::{Fresh, Piece};
use crate::queue::{Queue, Taken};
use crate::segments::{self, Segment};

/// How long to wait before trying again what failed.
const RETRY: Duration = Duration::from_millis(250);

/// How far the journal has come: shared with whoever follows it.
#[derive(Debug)]
pub(crate) struct Progress {
    state: Mutex<State>,
    moved: Condvar,
}

/// A state of the journal.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// How many entries are durable.
    pub(crate) durable: u64,
    pub(crate) segments: Vec<Segment>,
    /// Whether nothing will come any more.
    pub(crate) ended: bool,
    /// Somebody wants a checkpoint of what there is.
    pub(crate) asked: bool,
    /// How many have to be durable before the follower is woken.
    pub(crate) wake_at: u64,
    /// Since when the journal cannot be written, and why.
    pub(crate) failing: Option<(Timestamp, String)>,
    /// How often it could not.
    pub(crate) failures: u64,
    /// What the last write took.
    pub(crate) took: Duration,
    /// How many writes there were.
    pub(crate) writes: u64,
    /// How many bytes they were together.
    pub(crate) bytes: u64,
}

impl Progress {
    pub(crate) fn new(segments: Vec<Segment>) -> Self {
        let durable = segments.last().map_or(0, |segment| segment.end);
        let state = State { durable, segments, ..State::default() };
        Self { state: Mutex::new(state), moved: Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait until woken, or for this long; whether the time is over.
    pub(crate) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        time: Option<Duration>,
    ) -> (MutexGuard<'a, State>, bool) {
        match time {
            None => (self.moved.wait(state).unwrap_or_else(PoisonError::into_inner), false),
            Some(time) => {
                let (state, timeout) = self.moved.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner);
                (state, timeout.timed_out())
            }
        }
    }

    pub(crate) fn wake(&self) {
        self.moved.notify_all();
    }
}

/// What the thread works with.
pub(crate) struct Journal {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) log: [u8; 8],
    pub(crate) clock: Arc<dyn Clock>,
    /// What the disk's time is measured by.
    pub(crate) stopwatch: Arc<dyn Clock>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) fresh: Arc<Fresh>,
    /// The number of the next segment.
    pub(crate) next: u64,
    /// How long one becomes.
    pub(crate) segment: u64,
    pub(crate) current: Option<Current>,
    pub(crate) buffer: Vec<u8>,
    /// What is being written, for the tree.
    pub(crate) piece: Piece,
}

/// The segment that is written to.
pub(crate) struct Current {
    seq: u64,
    output: Box<dyn Output>,
    /// Its length as far as it is durable.
    length: u64,
}

impl Journal {
    /// Write until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut last = None;
        while let Some(taken) = self.queue.take(last) {
            let begun = self.stopwatch.monotonic();
            last = Some(begun);
            match self.write(&taken) {
                Ok(first) => {
                    self.fresh.add(first, &self.piece);
                    self.advance(taken.count, begun);
                    self.queue.written(taken, first);
                }
                Err(error) => {
                    self.failed(&error);
                    self.queue.failed(&taken);
                    if !self.recover() {
                        break;
                    }
                }
            }
        }
        self.queue.ended();
        self.progress.lock().ended = true;
        self.progress.wake();
    }

    /// Make all of it durable; the index of the first.
    fn write(&mut self, taken: &Taken) -> Result<u64, LogError> {
        if self.current.as_ref().is_none_or(|current| current.length >= self.segment) {
            self.begin()?;
        }
        let first = self.progress.lock().durable;
        self.buffer.clear();
        self.piece.clear();
        let mut start = true;
        for (entry, _) in taken.entries() {
            let leaf = frame::push(&mut self.buffer, entry, start);
            self.piece.push(entry, leaf);
            start = false;
        }
        let Some(current) = &mut self.current else { return Err(LogError::Closed) };
        let path = || segments::path(&self.dir, current.seq);
        current.output.append(&self.buffer).map_err(|error| LogError::file(&path(), error))?;
        current.output.sync().map_err(|error| LogError::file(&path(), error))?;
        current.length += self.buffer.len() as u64;
        Ok(first)
    }

    /// A new segment, from what is durable on.
    fn begin(&mut self) -> Result<(), LogError> {
        let first = self.progress.lock().durable;
        let seq = self.next;
        // Whatever becomes of it, no other gets its number.
        self.next += 1;
        let path = segments::path(&self.dir, seq);
        let failed = |error| LogError::file(&path, error);
        let head = SegmentHeader { seq, first, log: self.log }.encode();
        let mut output = self.disk.create(&path).map_err(failed)?;
        let written =
            output.append(&head).and_then(|()| output.sync()).and_then(|()| self.disk.sync(&segments::dir(&self.dir)));
        if let Err(error) = written {
            drop(output);
            // With its head torn it is taken for none, should it stay.
            let _ = self.disk.remove(&path);
            return Err(failed(error));
        }
        self.current = Some(Current { seq, output, length: SEGMENT_HEADER as u64 });
        self.progress.lock().segments.push(Segment { seq, first, end: first });
        Ok(())
    }

    fn advance(&self, count: u64, begun: Instant) {
        let wake = {
            let mut state = self.progress.lock();
            state.durable += count;
            let end = state.durable;
            if let Some(last) = state.segments.last_mut() {
                last.end = end;
            }
            state.took = self.stopwatch.monotonic().saturating_duration_since(begun);
            state.writes += 1;
            state.bytes += self.buffer.len() as u64;
            end >= state.wake_at
        };
        if wake {
            self.progress.wake();
        }
    }

    fn failed(&mut self, error: &LogError) {
        if let Some(mut given_up) = self.current.take() {
            // So that nobody takes for written what may not be; where this fails too, the next segment's head says it.
            let _ = given_up.output.cut(given_up.length);
        }
        let mut state = self.progress.lock();
        state.failures += 1;
        if state.failing.is_none() {
            tracing::error!(reason = error.reason(), %error, "the audit log cannot be written");
            state.failing = Some((self.clock.now(), error.to_string()));
        }
    }

    /// Try until a segment can be begun. `false`: the queue was closed meanwhile.
    fn recover(&mut self) -> bool {
        loop {
            match self.begin() {
                Ok(()) => break,
                Err(_) if self.queue.pause(RETRY) => {}
                Err(_) => return false,
            }
        }
        self.progress.lock().failing = None;
        tracing::info!("the audit log can be written again");
        self.queue.recovered();
        true
    }
}

/// Read the frames of the journal from an index on, as far as they are durable.
#[derive(Debug)]
pub(crate) struct Cursor {
    seq: u64,
    next: u64,
    offset: u64,
    bytes: Vec<u8>,
    used: usize,
}

impl Cursor {
    /// How much is read at once.
    const CHUNK: usize = 256 << 10;

    /// From the first entry of `segment`.
    pub(crate) fn at(segment: &Segment) -> Self {
        Self { seq: segment.seq, next: segment.first, offset: SEGMENT_HEADER as u64, bytes: Vec::new(), used: 0 }
    }

    /// The index of the entry that comes next.
    pub(crate) fn index(&self) -> u64 {
        self.next
    }

    /// Whether the segment it reads is still there.
    pub(crate) fn is_in(&self, state: &State) -> bool {
        state.segments.iter().any(|segment| segment.seq == self.seq)
    }

    /// Give the entries up to `state.durable` to `each`, which may stop it.
    pub(crate) fn read(
        &mut self,
        (disk, dir): (&dyn Disk, &Path),
        state: &State,
        mut each: impl FnMut(&frame::Frame<'_>) -> bool,
    ) -> Result<(), LogError> {
        while self.next < state.durable {
            let Some(at) = state.segments.iter().position(|segment| segment.seq == self.seq) else {
                return Err(self.damaged(dir, "a segment of the journal is missing"));
            };
            if state.segments.get(at).is_some_and(|segment| self.next >= segment.end) {
                let following =
                    state.segments.get(at + 1).ok_or_else(|| self.damaged(dir, "the journal ends early"))?;
                *self = Self::at(following);
                continue;
            }
            let Some((frame, rest)) = frame::Frame::parse(self.bytes.get(self.used..).unwrap_or_default()) else {
                if !self.more(disk, dir)? {
                    return Err(self.damaged(dir, "an entry of the journal is not as it was written"));
                }
                continue;
            };
            let used = self.bytes.len() - rest.len();
            let go_on = each(&frame);
            self.used = used;
            self.next += 1;
            if !go_on {
                break;
            }
        }
        Ok(())
    }

    /// Read on. `false` where that gives no whole frame.
    fn more(&mut self, disk: &dyn Disk, dir: &Path) -> Result<bool, LogError> {
        let path = segments::path(dir, self.seq);
        let failed = |error| LogError::file(&path, error);
        let input = disk.open(&path).map_err(failed)?;
        self.offset += self.used as u64;
        self.used = 0;
        self.bytes.resize(Self::CHUNK, 0);
        let mut filled = 0;
        while let Some(room) = self.bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            match input.read_at(room, self.offset + filled as u64).map_err(failed)? {
                0 => break,
                read => filled += read,
            }
        }
        self.bytes.truncate(filled);
        Ok(frame::Frame::parse(&self.bytes).is_some())
    }

    fn damaged(&self, dir: &Path, why: &'static str) -> LogError {
        LogError::Damaged { path: segments::path(dir, self.seq), index: self.next, why }
    }
}
