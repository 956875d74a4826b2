//! Counting requests over a sliding window, exactly enough never to let more through than allowed, in bounded memory.

use std::collections::hash_map::Entry as Place;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{AsItIs, Key};

/// A log of one key merges requests that came within this fraction of the window, so it never holds more entries.
const RESOLUTION: u64 = 32;
const SHARDS: usize = 16;

/// Why a request does not fit into its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The limit is reached; a request fits again after this long.
    Window(Duration),
    /// Too many keys are being counted to begin another.
    Table,
}

/// Sliding-window counters for many keys.
#[derive(Debug)]
pub(super) struct Windows {
    shards: Vec<Mutex<HashMap<Key, Log, AsItIs>>>,
    keys_per_shard: usize,
}

/// The requests of one key that are still inside its window, oldest first.
#[derive(Debug)]
struct Log {
    window: u64,
    total: u64,
    entries: VecDeque<Entry>,
}

/// Requests that came close together: they count until the last of them leaves the window.
#[derive(Debug)]
struct Entry {
    first: u64,
    last: u64,
    count: u64,
}

impl Windows {
    /// Counters for at most about `keys` keys at once.
    pub(super) fn new(keys: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, keys_per_shard: (keys / SHARDS).max(1) }
    }

    /// Count one request of `key` at `now` (monotonic milliseconds) unless `limit` were then exceeded in `window`.
    pub(super) fn take(&self, key: Key, limit: u64, window: Duration, now: u64) -> Result<(), Full> {
        let window = millis(window);
        let Some(shard) = self.shard(key) else { return Err(Full::Table) };
        let mut logs = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full = logs.len() >= self.keys_per_shard;
        if full && !logs.contains_key(&key) {
            logs.retain(|_, log| !log.is_over(now));
        }
        let full = logs.len() >= self.keys_per_shard;
        let log = match logs.entry(key) {
            Place::Occupied(log) => log.into_mut(),
            Place::Vacant(_) if full => return Err(Full::Table),
            Place::Vacant(place) => place.insert(Log { window, total: 0, entries: VecDeque::new() }),
        };
        log.window = window;
        log.expire(now);
        if log.total >= limit {
            let wait = log.entries.front().map_or(window, |oldest| (oldest.last + window).saturating_sub(now));
            return Err(Full::Window(Duration::from_millis(wait.max(1))));
        }
        log.count(now);
        Ok(())
    }

    /// Take back the newest request of `key`: another limit refused it.
    pub(super) fn give_back(&self, key: Key) {
        let Some(shard) = self.shard(key) else { return };
        let mut logs = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(log) = logs.get_mut(&key) else { return };
        let Some(newest) = log.entries.back_mut() else { return };
        newest.count = newest.count.saturating_sub(1);
        log.total = log.total.saturating_sub(1);
        if newest.count == 0 {
            log.entries.pop_back();
        }
    }

    fn shard(&self, key: Key) -> Option<&Mutex<HashMap<Key, Log, AsItIs>>> {
        let at = usize::try_from(key.0 % SHARDS as u128).unwrap_or(0);
        self.shards.get(at)
    }
}

impl Log {
    fn expire(&mut self, now: u64) {
        while let Some(oldest) = self.entries.front()
            && oldest.last.saturating_add(self.window) <= now
        {
            self.total = self.total.saturating_sub(oldest.count);
            self.entries.pop_front();
        }
    }

    fn count(&mut self, now: u64) {
        self.total += 1;
        match self.entries.back_mut() {
            Some(newest) if now.saturating_sub(newest.first) < (self.window / RESOLUTION).max(1) => {
                newest.last = newest.last.max(now);
                newest.count += 1;
            }
            _ => self.entries.push_back(Entry { first: now, last: now, count: 1 }),
        }
    }

    fn is_over(&self, now: u64) -> bool {
        self.entries.back().is_none_or(|newest| newest.last.saturating_add(self.window) <= now)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_window_admits_its_limit_and_again_as_the_first_leave() {
        let windows = Windows::new(100);
        for _ in 0..3 {
            assert_eq!(windows.take(Key(1), 3, MINUTE, 1_000), Ok(()));
        }
        assert_eq!(windows.take(Key(1), 3, MINUTE, 31_000), Err(Full::Window(Duration::from_secs(30))));
        assert_eq!(windows.take(Key(2), 3, MINUTE, 31_000), Ok(()));
        assert_eq!(windows.take(Key(1), 3, MINUTE, 60_999), Err(Full::Window(Duration::from_millis(1))));
        assert_eq!(windows.take(Key(1), 3, MINUTE, 61_000), Ok(()));
    }

    #[test]
    fn what_another_limit_refused_is_given_back() {
        let windows = Windows::new(100);
        assert_eq!(windows.take(Key(1), 1, MINUTE, 0), Ok(()));
        windows.give_back(Key(1));
        assert_eq!(windows.take(Key(1), 1, MINUTE, 1), Ok(()));
        assert!(windows.take(Key(1), 1, MINUTE, 2).is_err());
    }

    #[test]
    fn a_limit_of_nothing_admits_nothing() {
        assert_eq!(Windows::new(100).take(Key(1), 0, MINUTE, 5), Err(Full::Window(MINUTE)));
    }

    #[test]
    fn a_full_table_refuses_new_keys_until_old_ones_are_over() {
        let windows = Windows::new(SHARDS);
        assert_eq!(windows.take(Key(0), 9, MINUTE, 0), Ok(()));
        let same_shard = Key(SHARDS as u128);
        assert_eq!(windows.take(same_shard, 9, MINUTE, 10), Err(Full::Table));
        assert_eq!(windows.take(same_shard, 9, MINUTE, 60_000), Ok(()));
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_in_any_window(gaps in proptest::collection::vec(0u64..400, 1..300), limit in 1u64..20) {
            let windows = Windows::new(100);
            let window = Duration::from_secs(2);
            let (mut now, mut admitted) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                if windows.take(Key(1), limit, window, now).is_ok() {
                    admitted.push(now);
                }
                let inside = admitted.iter().filter(|at| **at + 2_000 > now).count();
                prop_assert!(inside as u64 <= limit);
            }
        }

        #[test]
        fn a_log_stays_small(gaps in proptest::collection::vec(0u64..50, 1..2000)) {
            let mut log = Log { window: 1000, total: 0, entries: VecDeque::new() };
            let mut now = 0;
            for gap in gaps {
                now += gap;
                log.expire(now);
                log.count(now);
            }
            prop_assert!(log.entries.len() as u64 <= RESOLUTION + 2);
            prop_assert_eq!(log.total, log.entries.iter().map(|e| e.count).sum::<u64>());
        }
    }
}
