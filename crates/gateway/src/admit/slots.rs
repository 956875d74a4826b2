//! Counting what is in progress: a slot is held until its request has been answered to the last byte, or dropped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use super::{AsItIs, Key};

const SHARDS: usize = 16;

/// How many requests of each key are in progress. Holds only keys that have one, so it is bounded by open connections.
#[derive(Debug)]
pub(super) struct Slots {
    shards: Vec<Mutex<HashMap<Key, u64, AsItIs>>>,
}

/// One request in progress; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    table: Arc<Slots>,
    key: Key,
}

impl Slots {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() })
    }

    /// Take a place unless `limit` are taken.
    pub(super) fn take(self: &Arc<Self>, key: Key, limit: u64) -> Option<Slot> {
        let mut counts = self.shard(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.entry(key) {
            Entry::Occupied(count) if *count.get() >= limit => return None,
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(_) if limit == 0 => return None,
            Entry::Vacant(place) => {
                place.insert(1);
            }
        }
        drop(counts);
        Some(Slot { table: Arc::clone(self), key })
    }

    /// How many are taken.
    pub(super) fn count(&self, key: Key) -> u64 {
        let Some(shard) = self.shard(key) else { return 0 };
        shard.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied().unwrap_or(0)
    }

    fn shard(&self, key: Key) -> Option<&Mutex<HashMap<Key, u64, AsItIs>>> {
        let at = usize::try_from(key.0 % SHARDS as u128).unwrap_or(0);
        self.shards.get(at)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(shard) = self.table.shard(self.key) else { return };
        let mut counts = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(self.key) {
            if *count.get() > 1 {
                *count.get_mut() -= 1;
            } else {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_slot_is_dropped() {
        let slots = Slots::new();
        let (first, second) = (slots.take(Key(1), 2), slots.take(Key(1), 2));
        assert!(first.is_some() && second.is_some());
        assert!(slots.take(Key(1), 2).is_none());
        assert!(slots.take(Key(2), 2).is_some());
        drop(first);
        assert!(slots.take(Key(1), 2).is_some());
    }

    #[test]
    fn nothing_is_remembered_of_what_is_over() {
        let slots = Slots::new();
        drop(slots.take(Key(7), 1));
        assert!(slots.shards.iter().all(|shard| shard.lock().expect("lock").is_empty()));
    }

    #[test]
    fn racing_requests_never_exceed_the_limit() {
        let slots = Slots::new();
        let held: Vec<Slot> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..20).filter_map(|_| slots.take(Key(1), 50)).collect::<Vec<_>>()))
                .collect();
            takers.into_iter().flat_map(|taker| taker.join().expect("thread")).collect()
        });
        assert_eq!(held.len(), 50);
    }
}
