//! What has been shown once and may not be shown again: proofs, for as long as they would be accepted.
//!
//! Exact and bounded. Nothing unexpired is ever forgotten to make room: a full store refuses
//! ([`ReplayError::Full`]), and so must whoever asked. Claim last, after every other check has passed: else anybody
//! could fill the store, or use up another's proof.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::{Clock, Timestamp};
use futures_util::future::BoxFuture;

/// Whether it was the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Claim {
    /// It is yours: nobody has shown it before, and from now on it has been shown.
    First,
    /// It has been shown before.
    Seen,
}

/// Why it cannot be said whether it was the first time. The request must be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// As much is remembered as may be.
    #[error("the replay store is full")]
    Full,
    /// The store does not answer.
    #[error("the replay store does not answer")]
    Down,
}

impl ReplayError {
    /// A short stable code for logs and metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Full => "replay_store_full",
            Self::Down => "replay_store_down",
        }
    }
}

/// Remembers what has been shown.
pub trait Replay: Send + Sync + fmt::Debug {
    /// Show the proof whose replay key (a SHA-256) is `key`, which nobody accepts from `until` on. Of any number that
    /// claim one key at the same time, one is told [`Claim::First`].
    fn claim(&self, key: [u8; 32], until: Timestamp) -> BoxFuture<'_, Result<Claim, ReplayError>>;

    /// How many are remembered.
    fn entries(&self) -> usize;

    /// How many can be.
    fn capacity(&self) -> usize;
}

/// How exactly entries expire: at the end of the slot their time is in.
const SLOT: Duration = Duration::from_secs(5);
const SHARDS: usize = 64;

/// What is kept of a key. Half of a SHA-256 leaves a chance of about 2^-108 that two of a million proofs look the same,
/// in which case one is refused.
type Prefix = [u8; 16];

/// The engine of one process: gone with it, so a proof from before a start must be refused by its nonce.
pub struct MemoryReplay {
    clock: Arc<dyn Clock>,
    start: Instant,
    capacity: usize,
    entries: AtomicUsize,
    shards: [Shard; SHARDS],
}

#[derive(Default)]
struct Shard {
    seen: Mutex<HashMap<Prefix, Until>>,
    /// The slots of wall and monotonic time in which expired entries were last taken out.
    swept: [AtomicU32; 2],
}

/// The last slot in which an entry is needed, by both clocks. A wall clock that is set forward and back again would
/// otherwise forget in between; one that is set back would keep accepting what monotonic time calls old.
#[derive(Debug, Clone, Copy)]
struct Until {
    wall: u32,
    monotonic: u32,
}

impl Until {
    fn slot_of(wall: Timestamp, monotonic: Duration) -> Self {
        Self { wall: wall_slot(wall), monotonic: slot(monotonic.as_millis()) }
    }
}

impl MemoryReplay {
    /// Remembers at most `entries` at a time, of about 40 bytes each.
    pub fn new(clock: Arc<dyn Clock>, entries: usize) -> Self {
        let start = clock.monotonic();
        let shards = std::array::from_fn(|_| Shard::default());
        Self { clock, start, capacity: entries, entries: AtomicUsize::new(0), shards }
    }

    /// By the wall clock, and since the start.
    fn now(&self) -> (Timestamp, Duration) {
        (self.clock.now(), self.clock.monotonic().saturating_duration_since(self.start))
    }

    fn claim_now(&self, key: &[u8; 32], until: Timestamp) -> Result<Claim, ReplayError> {
        let (wall, monotonic) = self.now();
        let now = Until::slot_of(wall, monotonic);
        let until = Until {
            wall: wall_slot(until).max(now.wall),
            monotonic: slot(monotonic.saturating_add(until.since(wall)).as_millis()),
        };
        let (prefix, _) = key.split_at(16);
        let Ok(prefix) = Prefix::try_from(prefix) else { return Err(ReplayError::Down) };
        let index = usize::from(prefix.first().copied().unwrap_or_default()) % SHARDS;
        let Some(shard) = self.shards.get(index) else { return Err(ReplayError::Down) };
        self.sweep(shard, now);
        if let Some(claim) = self.enter(shard, prefix, until) {
            return Ok(claim);
        }
        // Full, so far as is known: what has expired in other shards still counts.
        for shard in &self.shards {
            self.sweep(shard, now);
        }
        self.enter(shard, prefix, until).ok_or(ReplayError::Full)
    }

    /// Look and insert under one lock; nothing when there is no room.
    fn enter(&self, shard: &Shard, prefix: Prefix, until: Until) -> Option<Claim> {
        let mut seen = shard.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.entry(prefix) {
            Entry::Occupied(_) => Some(Claim::Seen),
            Entry::Vacant(room) => {
                let taken = |entries: usize| (entries < self.capacity).then_some(entries + 1);
                self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok()?;
                room.insert(until);
                Some(Claim::First)
            }
        }
    }

    /// Take out what has expired, once per slot and shard.
    fn sweep(&self, shard: &Shard, now: Until) {
        let [wall, monotonic] = &shard.swept;
        if wall.swap(now.wall, Ordering::Relaxed) == now.wall
            && monotonic.swap(now.monotonic, Ordering::Relaxed) == now.monotonic
        {
            return;
        }
        monotonic.store(now.monotonic, Ordering::Relaxed);
        let mut seen = shard.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.len();
        seen.retain(|_, until| until.wall >= now.wall || until.monotonic >= now.monotonic);
        self.entries.fetch_sub(before - seen.len(), Ordering::Relaxed);
    }
}

impl Replay for MemoryReplay {
    fn claim(&self, key: [u8; 32], until: Timestamp) -> BoxFuture<'_, Result<Claim, ReplayError>> {
        Box::pin(std::future::ready(self.claim_now(&key, until)))
    }

    fn entries(&self) -> usize {
        let (wall, monotonic) = self.now();
        for shard in &self.shards {
            self.sweep(shard, Until::slot_of(wall, monotonic));
        }
        self.entries.load(Ordering::Relaxed)
    }

    fn capacity(&self) -> usize {
        self.capacity
    }
}

impl fmt::Debug for MemoryReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReplay")
            .field("entries", &self.entries)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

fn wall_slot(at: Timestamp) -> u32 {
    slot(u128::try_from(at.as_millis()).unwrap_or(0))
}

fn slot(millis: u128) -> u32 {
    u32::try_from(millis / SLOT.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::FakeClock;
    use proptest::prelude::*;
    use std::collections::HashMap as Model;
    use std::sync::Barrier;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const WINDOW: Duration = Duration::from_secs(65);

    fn replay(entries: usize) -> (MemoryReplay, FakeClock) {
        let clock = FakeClock::at(NOW);
        (MemoryReplay::new(Arc::new(clock.clone()), entries), clock)
    }

    fn key(n: u32) -> [u8; 32] {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &n.to_be_bytes());
        hash.as_ref().try_into().unwrap()
    }

    #[test]
    fn a_37_of_a_hundred_that_show_one_proof_at_once_one_is_first() {
        let (replay, _) = replay(10_000);
        for round in 0..20 {
            let barrier = Barrier::new(100);
            let claims: Vec<Claim> = std::thread::scope(|scope| {
                let one = || {
                    barrier.wait();
                    replay.claim_now(&key(round), NOW.plus(WINDOW)).unwrap()
                };
                let threads: Vec<_> = (0..100).map(|_| scope.spawn(one)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(claims.iter().filter(|claim| **claim == Claim::First).count(), 1, "round {round}");
        }
        assert_eq!(replay.entries(), 20);
    }

    #[test]
    fn a_full_store_refuses_and_forgets_nothing_that_has_not_expired() {
        let (replay, clock) = replay(500);
        for n in 0..500 {
            assert_eq!(replay.claim_now(&key(n), NOW.plus(WINDOW)), Ok(Claim::First));
        }
        for n in 500..600 {
            assert_eq!(replay.claim_now(&key(n), NOW.plus(WINDOW)), Err(ReplayError::Full));
        }
        for n in 0..500 {
            assert_eq!(replay.claim_now(&key(n), NOW.plus(WINDOW)), Ok(Claim::Seen), "{n}");
        }
        assert_eq!(replay.entries(), 500);
        clock.advance(WINDOW + SLOT);
        assert_eq!(replay.claim_now(&key(1000), clock.now().plus(WINDOW)), Ok(Claim::First));
        assert_eq!(replay.entries(), 1, "what expired in other shards has made room");
    }

    #[test]
    fn of_many_that_race_for_the_last_places_no_more_get_one_than_there_are() {
        let (replay, _) = replay(100);
        let barrier = Barrier::new(8);
        let won: usize = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for thread in 0..8u32 {
                let (replay, barrier) = (&replay, &barrier);
                threads.push(scope.spawn(move || {
                    barrier.wait();
                    let mine = thread * 1000..thread * 1000 + 100;
                    mine.filter(|n| replay.claim_now(&key(*n), NOW.plus(WINDOW)) == Ok(Claim::First)).count()
                }));
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((won, replay.entries()), (100, 100));
    }

    #[test]
    fn an_entry_lasts_its_time_and_not_much_longer() {
        let (replay, clock) = replay(10);
        assert_eq!(replay.claim_now(&key(1), NOW.plus(WINDOW)), Ok(Claim::First));
        clock.advance(WINDOW);
        assert_eq!(replay.claim_now(&key(1), NOW.plus(WINDOW)), Ok(Claim::Seen), "to the last moment");
        clock.advance(2 * SLOT);
        assert_eq!(replay.claim_now(&key(1), clock.now().plus(WINDOW)), Ok(Claim::First));
    }

    #[test]
    fn a_37_a_clock_that_is_set_does_not_reopen_a_window() {
        let (replay, clock) = replay(10);
        assert_eq!(replay.claim_now(&key(1), NOW.plus(WINDOW)), Ok(Claim::First));
        // Forward for a moment, as after a wrong answer of a time server, then right again.
        clock.advance(Duration::from_secs(1));
        clock.set(NOW.plus(Duration::from_secs(2)));
        assert_eq!(replay.claim_now(&key(1), NOW.plus(WINDOW)), Ok(Claim::Seen));
        // Back by an hour: the proof would be accepted again an hour from now.
        clock.set(NOW.minus(Duration::from_hours(1)));
        assert_eq!(replay.claim_now(&key(2), clock.now().plus(WINDOW)), Ok(Claim::First));
        for _ in 0..60 {
            clock.advance(Duration::from_mins(1));
            assert_eq!(replay.claim_now(&key(1), NOW.plus(WINDOW)), Ok(Claim::Seen));
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list_of_what_was_shown(
            steps in proptest::collection::vec((0u32..40, 0u64..40, 0u64..90), 1..200)
        ) {
            let (replay, clock) = replay(30);
            let mut shown: Model<u32, Timestamp> = Model::new();
            for (n, pause, life) in steps {
                clock.advance(Duration::from_secs(pause));
                let (now, until) = (clock.now(), clock.now().plus(Duration::from_secs(life)));
                let live = |until: &Timestamp| *until >= now;
                match replay.claim_now(&key(n), until) {
                    Ok(Claim::First) => {
                        prop_assert!(!shown.get(&n).is_some_and(live), "shown before and still acceptable");
                        shown.insert(n, until);
                    }
                    Ok(Claim::Seen) => prop_assert!(shown.contains_key(&n)),
                    Err(error) => {
                        prop_assert_eq!(error, ReplayError::Full);
                        // Entries expire by slots, so some of what the list has dropped may still be there.
                        let kept = |until: &Timestamp| until.plus(2 * SLOT) >= now;
                        prop_assert!(shown.values().filter(|until| kept(until)).count() >= 30);
                    }
                }
                prop_assert!(replay.entries() <= 30);
            }
        }
    }
}
