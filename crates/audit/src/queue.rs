//! Entries on their way to the journal. Whoever appends takes a short lock and copies the entry; the journal's thread takes
//! all that has gathered, and tells all who wait for it together.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use base::Clock;

use crate::error::AppendError;
use crate::tile::MAX_ENTRY;

/// How much waits at most.
pub(crate) const MAX_BYTES: usize = 8 << 20;
const MAX_ENTRIES: usize = 16_384;
/// How long entries gather that nobody waits for.
const LINGER: Duration = Duration::from_millis(50);
/// What is written together is written no sooner than this after what came before, where many wait.
const PACE: Duration = Duration::from_millis(2);
/// How much of that each who waited with others is worth: alone nobody is kept waiting, nine make it full.
const SHARE: Duration = Duration::from_micros(250);
/// A write that takes longer is not waited for by those who come after.
const STALLED: Duration = Duration::from_millis(800);
/// Marks an entry somebody waits for.
const AWAITED: u32 = 1 << 31;

/// Waits until an entry is durable: gives its index. Whoever stops waiting loses nothing but the answer.
#[derive(Debug)]
#[must_use = "the entry may not be durable before this says so"]
pub struct Ack {
    batch: Arc<Batch>,
    place: u64,
    /// Where this one's waker is.
    slot: Option<usize>,
}

impl Ack {
    /// Block this thread until it is known.
    pub fn wait(self) -> Result<u64, AppendError> {
        let mut state = self.batch.lock();
        loop {
            if let Some(outcome) = state.outcome {
                return outcome.map(|first| first + self.place);
            }
            state.blocked = true;
            state = self.batch.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Ack {
    type Output = Result<u64, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (place, slot) = (self.place, self.slot);
        let mut state = self.batch.lock();
        if let Some(outcome) = state.outcome {
            return Poll::Ready(outcome.map(|first| first + place));
        }
        if let Some(waker) = slot.and_then(|slot| state.waiting.get_mut(slot)) {
            waker.clone_from(context.waker());
            return Poll::Pending;
        }
        state.waiting.push(context.waker().clone());
        let slot = state.waiting.len() - 1;
        drop(state);
        self.slot = Some(slot);
        Poll::Pending
    }
}

/// What is written together.
#[derive(Debug, Default)]
struct Batch {
    state: Mutex<BatchState>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct BatchState {
    /// The index of the first entry, once all are durable.
    outcome: Option<Result<u64, AppendError>>,
    waiting: Vec<Waker>,
    /// Whether a thread waits, which seldom one does: to wake one costs a call of the system, also where there is none.
    blocked: bool,
}

impl Batch {
    fn lock(&self) -> MutexGuard<'_, BatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, outcome: Result<u64, AppendError>) {
        let (waiting, blocked) = {
            let mut state = self.lock();
            state.outcome = Some(outcome);
            (std::mem::take(&mut state.waiting), state.blocked)
        };
        if blocked {
            self.done.notify_all();
        }
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// Where entries wait for the journal.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Each with its length before it.
    bytes: Vec<u8>,
    spare: Vec<u8>,
    count: u64,
    /// How many of them somebody waits for.
    awaited: u32,
    /// How many were waited for when entries were last taken.
    crowd: u32,
    /// The journal waits to be woken. While it writes, or lets entries gather, it comes by itself.
    asleep: bool,
    batch: Arc<Batch>,
    closed: bool,
    /// The journal cannot be written now.
    failing: bool,
    /// Since when the journal has been writing what it took.
    writing: Option<Instant>,
}

/// What the journal has taken. Each is ended by [`Queue::written`] or [`Queue::failed`].
#[derive(Debug)]
pub(crate) struct Taken {
    bytes: Vec<u8>,
    pub(crate) count: u64,
    batch: Arc<Batch>,
}

impl Taken {
    /// The entries, and whether somebody waits for each.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = u32::from_be_bytes(*length);
            let (entry, after) = after.split_at_checked(usize::try_from(length & !AWAITED).ok()?)?;
            rest = after;
            Some((entry, length & AWAITED != 0))
        })
    }
}

impl Queue {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { waiting: Mutex::default(), wake: Condvar::new(), clock }
    }

    /// Add an entry that nobody waits for. While the journal cannot be written it is kept for later, as far as there is room.
    pub(crate) fn push(&self, entry: &[u8]) -> Result<(), AppendError> {
        self.add(entry, false).map(drop)
    }

    /// Add an entry and wait for it.
    pub(crate) fn push_awaited(&self, entry: &[u8]) -> Result<Ack, AppendError> {
        self.add(entry, true)
    }

    fn add(&self, entry: &[u8], awaited: bool) -> Result<Ack, AppendError> {
        let length =
            u32::try_from(entry.len()).ok().filter(|_| entry.len() <= MAX_ENTRY).ok_or(AppendError::TooLong)?;
        let mut queue = self.lock();
        if queue.closed {
            return Err(AppendError::Closed);
        }
        if awaited && queue.failing {
            return Err(AppendError::Unwritable);
        }
        let long = |since: Instant| self.clock.monotonic().saturating_duration_since(since) > STALLED;
        if awaited && queue.writing.is_some_and(long) {
            return Err(AppendError::Stalled);
        }
        if queue.count >= MAX_ENTRIES as u64 || queue.bytes.len() + entry.len() > MAX_BYTES {
            return Err(AppendError::Full);
        }
        queue.bytes.extend_from_slice(&(length | if awaited { AWAITED } else { 0 }).to_be_bytes());
        queue.bytes.extend_from_slice(entry);
        let ack = Ack { batch: Arc::clone(&queue.batch), place: queue.count, slot: None };
        queue.count += 1;
        // The first wakes the journal, and the first that is waited for makes it hurry; those after wake nobody.
        let wake = queue.asleep && (queue.count == 1 || (awaited && queue.awaited == 0));
        queue.awaited += u32::from(awaited);
        drop(queue);
        if wake {
            self.wake.notify_one();
        }
        Ok(ack)
    }

    /// Wait for entries and take them all. `None` once the queue is closed and empty. `last` is when the last write began.
    pub(crate) fn take(&self, last: Option<Instant>) -> Option<Taken> {
        let mut queue = self.gather(last);
        while queue.awaited == 0 && !queue.closed {
            queue.asleep = true;
            if queue.count == 0 {
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.asleep = false;
                continue;
            }
            let (waited, timeout) = self.wake.wait_timeout(queue, LINGER).unwrap_or_else(PoisonError::into_inner);
            queue = waited;
            queue.asleep = false;
            if timeout.timed_out() {
                break;
            }
        }
        if queue.count == 0 {
            return None;
        }
        let now = self.clock.monotonic();
        let spare = std::mem::take(&mut queue.spare);
        let bytes = std::mem::replace(&mut queue.bytes, spare);
        let taken = Taken { bytes, count: queue.count, batch: std::mem::take(&mut queue.batch) };
        queue.count = 0;
        queue.crowd = std::mem::take(&mut queue.awaited);
        queue.writing = Some(now);
        Some(taken)
    }

    /// Where several have just waited together, as many more will soon: they gather for a while, and wake nobody. Who is alone
    /// is written for at once.
    fn gather(&self, last: Option<Instant>) -> MutexGuard<'_, Waiting> {
        let early = self.early(last);
        let mut queue = self.lock();
        if let Some(early) = early {
            queue = self.wake.wait_timeout(queue, early).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue
    }

    /// How much longer entries gather, if the last write began at `last`.
    fn early(&self, last: Option<Instant>) -> Option<Duration> {
        let queue = self.lock();
        let pace = SHARE.saturating_mul(queue.crowd.saturating_sub(1)).min(PACE);
        let passed = self.clock.monotonic().saturating_duration_since(last?);
        pace.checked_sub(passed).filter(|early| !early.is_zero() && !queue.closed)
    }

    /// All of it is durable, from this index on.
    pub(crate) fn written(&self, mut taken: Taken, first: u64) {
        taken.batch.finish(Ok(first));
        taken.bytes.clear();
        let mut queue = self.lock();
        queue.writing = None;
        queue.spare = taken.bytes;
    }

    /// It could not be written. Those who wait are told; the rest is to be written later, before what has come since.
    pub(crate) fn failed(&self, taken: &Taken) {
        let (mut kept, mut count) = (Vec::new(), 0);
        for (entry, _) in taken.entries().filter(|(_, awaited)| !awaited) {
            kept.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(0).to_be_bytes());
            kept.extend_from_slice(entry);
            count += 1;
        }
        let later = {
            let mut queue = self.lock();
            queue.writing = None;
            queue.failing = true;
            // Of those that came meanwhile, nobody can be told a place any more.
            let later = Taken {
                bytes: std::mem::take(&mut queue.bytes),
                count: queue.count,
                batch: std::mem::take(&mut queue.batch),
            };
            for (entry, _) in later.entries().filter(|(_, awaited)| !awaited) {
                kept.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(0).to_be_bytes());
                kept.extend_from_slice(entry);
                count += 1;
            }
            queue.bytes = kept;
            queue.count = count;
            queue.awaited = 0;
            later
        };
        taken.batch.finish(Err(AppendError::Unwritable));
        later.batch.finish(Err(AppendError::Unwritable));
    }

    /// The journal can be written again.
    pub(crate) fn recovered(&self) {
        self.lock().failing = false;
    }

    /// Wait before another try. `false` once the queue is closed.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let queue = self.lock();
        if queue.closed {
            return false;
        }
        let queue = self.wake.wait_timeout(queue, time).unwrap_or_else(PoisonError::into_inner).0;
        !queue.closed
    }

    /// Take nothing more; what waits is still written.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// The journal is over: nobody will write what waits.
    pub(crate) fn ended(&self) {
        let batch = {
            let mut queue = self.lock();
            queue.closed = true;
            queue.count = 0;
            queue.bytes = Vec::new();
            std::mem::take(&mut queue.batch)
        };
        batch.finish(Err(AppendError::Closed));
    }

    /// Why an entry could not be added now, if so.
    pub(crate) fn trouble(&self) -> Option<AppendError> {
        let queue = self.lock();
        let long = |since: Instant| self.clock.monotonic().saturating_duration_since(since) > STALLED;
        match () {
            () if queue.closed => Some(AppendError::Closed),
            () if queue.failing => Some(AppendError::Unwritable),
            () if queue.writing.is_some_and(long) => Some(AppendError::Stalled),
            () if queue.count >= MAX_ENTRIES as u64 || queue.bytes.len() >= MAX_BYTES => Some(AppendError::Full),
            () => None,
        }
    }

    /// How many entries wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{FakeClock, Timestamp};

    fn queue() -> (Queue, FakeClock) {
        let clock = FakeClock::at(Timestamp::from_secs(1_000));
        (Queue::new(Arc::new(clock.clone())), clock)
    }

    #[test]
    fn all_that_gathered_is_taken_at_once_in_its_order_and_told_its_places() {
        let (queue, _) = queue();
        queue.push(b"a").unwrap();
        let second = queue.push_awaited(b"b").unwrap();
        let third = queue.push_awaited(b"c").unwrap();
        let taken = queue.take(None).unwrap();
        let entries: Vec<_> = taken.entries().map(|(entry, awaited)| (entry.to_vec(), awaited)).collect();
        assert_eq!(entries, [(b"a".to_vec(), false), (b"b".to_vec(), true), (b"c".to_vec(), true)]);
        queue.written(taken, 40);
        assert_eq!((second.wait(), third.wait()), (Ok(41), Ok(42)));
    }

    #[test]
    fn one_alone_is_taken_at_once_and_after_many_others_may_gather() {
        let (queue, clock) = queue();
        let early = |crowd: u32| {
            queue.lock().crowd = crowd;
            queue.early(Some(clock.monotonic()))
        };
        assert_eq!((early(0), early(1)), (None, None));
        assert_eq!((early(3), early(9), early(9000)), (Some(2 * SHARE), Some(PACE), Some(PACE)));
        let last = clock.monotonic();
        clock.advance(PACE);
        assert_eq!(queue.early(Some(last)), None, "they have had their time");
        assert_eq!(queue.early(None), None);
        queue.lock().closed = true;
        assert_eq!(queue.early(Some(clock.monotonic())), None);
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let (queue, _) = queue();
        for _ in 0..MAX_ENTRIES {
            queue.push(b"x").unwrap();
        }
        assert_eq!(queue.push(b"x"), Err(AppendError::Full));
        assert_eq!(queue.push_awaited(b"x").err(), Some(AppendError::Full));
        assert_eq!(queue.trouble(), Some(AppendError::Full));
        assert_eq!(queue.push(&vec![0; MAX_ENTRY + 1]), Err(AppendError::TooLong));
    }

    #[test]
    fn a_failed_write_is_told_to_who_waits_and_the_rest_is_kept_in_its_order() {
        let (queue, _) = queue();
        queue.push(b"a").unwrap();
        let told = queue.push_awaited(b"b").unwrap();
        let taken = queue.take(None).unwrap();
        queue.push(b"c").unwrap();
        let later = queue.push_awaited(b"d").unwrap();
        queue.failed(&taken);
        assert_eq!((told.wait(), later.wait()), (Err(AppendError::Unwritable), Err(AppendError::Unwritable)));
        assert_eq!(queue.push_awaited(b"e").err(), Some(AppendError::Unwritable), "at once");
        queue.push(b"f").unwrap();
        queue.recovered();
        let entries: Vec<_> = queue.take(None).unwrap().entries().map(|(entry, _)| entry.to_vec()).collect();
        assert_eq!(entries, [b"a", b"c", b"f"]);
    }

    #[test]
    fn nobody_queues_behind_a_write_that_hangs() {
        let (queue, clock) = queue();
        queue.push(b"a").unwrap();
        let taken = queue.take(None).unwrap();
        assert!(queue.push_awaited(b"b").is_ok());
        clock.advance(Duration::from_secs(1));
        assert_eq!(queue.push_awaited(b"c").err(), Some(AppendError::Stalled));
        assert_eq!(queue.trouble(), Some(AppendError::Stalled));
        queue.written(taken, 0);
        assert!(queue.push_awaited(b"d").is_ok());
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_takes_nothing() {
        let (queue, _) = queue();
        queue.push(b"a").unwrap();
        queue.close();
        assert_eq!(queue.push(b"b"), Err(AppendError::Closed));
        let taken = queue.take(None).unwrap();
        queue.written(taken, 0);
        assert!(queue.take(None).is_none());
    }
}
