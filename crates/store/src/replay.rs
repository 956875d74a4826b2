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

    /// How many are remembered, about.
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

impl MemoryReplay {
    /// Remembers at most `entries` at a time, of about 40 bytes each.
    pub fn new(clock: Arc<dyn Clock>, entries: usize) -> Self {
        let start = clock.monotonic();
        let shards = std::array::from_fn(|_| Shard::default());
        Self { clock, start, capacity: entries, entries: AtomicUsize::new(0), shards }
    }

    fn now(&self) -> (Timestamp, Until) {
        let wall = self.clock.now();
        let monotonic = self.clock.monotonic().saturating_duration_since(self.start);
        (wall, Until { wall: wall_slot(wall), monotonic: slot(monotonic.as_millis()) })
    }

    fn claim_now(&self, key: &[u8; 32], until: Timestamp) -> Result<Claim, ReplayError> {
        let (wall, now) = self.now();
        let left = slot(until.since(wall).as_millis()).saturating_add(1);
        let until = Until { wall: wall_slot(until).max(now.wall), monotonic: now.monotonic.saturating_add(left) };
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
        self.entries.load(Ordering::Relaxed)
    }

    fn capacity(&self) -> usize {
        self.capacity
    }
}

impl fmt::Debug for MemoryReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReplay")
            .field("entries", &self.entries())
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
