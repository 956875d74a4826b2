//! Counting against rates by the generic cell rate algorithm, as a leaky bucket in whole numbers (ITU-T I.371 annex A shows that the two are
//! the same): a bucket takes `limit` at once and empties evenly, all of it in one window. Nothing is kept but how full each is.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{AsItIs, Key};

const SHARDS: usize = 16;

/// A limit: so many in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) limit: u64,
    pub(super) window: Duration,
}

/// How full a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    /// So many fit at once.
    pub(super) remaining: u64,
    /// So long until it is empty.
    pub(super) reset: Duration,
}

/// Why something does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The limit is reached; it fits again after this long.
    Bucket(Duration, Level),
    /// Too many keys are being counted to begin another.
    Table,
}

/// Buckets for many keys.
#[derive(Debug)]
pub(super) struct Buckets {
    shards: Vec<Mutex<HashMap<Key, Bucket, AsItIs>>>,
    keys_per_shard: usize,
}

/// Levels are in units of `1 / window` in nanoseconds of what is counted: a whole number at every nanosecond, since a bucket loses
/// `limit` units in each.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: u128,
    /// Nanoseconds since the start, at which the level was so.
    at: u64,
    /// When it will be empty.
    over: u64,
}

impl Quota {
    fn nanos(self) -> u128 {
        self.window.as_nanos().max(1)
    }

    fn full(self) -> u128 {
        u128::from(self.limit).saturating_mul(self.nanos())
    }

    /// How long a bucket takes to lose so many units.
    fn takes(self, units: u128) -> u64 {
        u64::try_from(units.div_ceil(u128::from(self.limit.max(1)))).unwrap_or(u64::MAX)
    }

    fn level(self, units: u128) -> Level {
        let remaining = self.full().saturating_sub(units) / self.nanos();
        Level {
            remaining: u64::try_from(remaining).unwrap_or(u64::MAX),
            reset: Duration::from_nanos(self.takes(units)),
        }
    }
}

impl Bucket {
    fn now(&self, quota: Quota, now: u64) -> u128 {
        let passed = u128::from(now.saturating_sub(self.at));
        self.level.saturating_sub(passed.saturating_mul(u128::from(quota.limit)))
    }

    fn set(&mut self, quota: Quota, level: u128, now: u64) {
        *self = Self { level, at: now, over: now.saturating_add(quota.takes(level)) };
    }
}

impl Buckets {
    /// Buckets for at most about `keys` keys at once.
    pub(super) fn new(keys: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, keys_per_shard: (keys / SHARDS).max(1) }
    }

    /// Count `amount` of `key` at `now` (monotonic nanoseconds) unless `quota` were then exceeded. More than fits into an empty bucket
    /// counts as much as does.
    pub(super) fn take(&self, key: Key, quota: Quota, amount: u64, now: u64) -> Result<Level, Full> {
        let Some(shard) = self.shard(key) else { return Err(Full::Table) };
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= self.keys_per_shard && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| bucket.over > now);
        }
        let full = buckets.len() >= self.keys_per_shard;
        let bucket = match buckets.entry(key) {
            Place::Occupied(bucket) => bucket.into_mut(),
            Place::Vacant(_) if full => return Err(Full::Table),
            Place::Vacant(place) => place.insert(Bucket { level: 0, at: now, over: now }),
        };
        let held = bucket.now(quota, now);
        let then = held.saturating_add(u128::from(amount.min(quota.limit).max(1)).saturating_mul(quota.nanos()));
        if then > quota.full() {
            let wait =
                if quota.limit == 0 { quota.window } else { Duration::from_nanos(quota.takes(then - quota.full())) };
            return Err(Full::Bucket(wait, quota.level(held)));
        }
        bucket.set(quota, then, now);
        Ok(quota.level(then))
    }

    /// Take back what was counted and has not come to pass.
    pub(super) fn give_back(&self, key: Key, quota: Quota, amount: u64, now: u64) {
        let Some(shard) = self.shard(key) else { return };
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bucket) = buckets.get_mut(&key) else { return };
        let less = u128::from(amount.min(quota.limit)).saturating_mul(quota.nanos());
        let level = bucket.now(quota, now).saturating_sub(less);
        bucket.set(quota, level, now);
    }

    fn shard(&self, key: Key) -> Option<&Mutex<HashMap<Key, Bucket, AsItIs>>> {
        let at = usize::try_from(key.0 % SHARDS as u128).unwrap_or(0);
        self.shards.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const SECOND: u64 = 1_000_000_000;

    fn a_minute(limit: u64) -> Quota {
        Quota { limit, window: MINUTE }
    }

    fn wait(outcome: Result<Level, Full>) -> Duration {
        match outcome {
            Err(Full::Bucket(wait, _)) => wait,
            other => panic!("fits: {other:?}"),
        }
    }

    #[test]
    fn a_bucket_admits_its_limit_at_once_and_then_one_in_each_part_of_the_window() {
        let (buckets, quota) = (Buckets::new(100), a_minute(3));
        for left in (0..3).rev() {
            assert_eq!(buckets.take(Key(1), quota, 1, SECOND).map(|level| level.remaining), Ok(left));
        }
        assert_eq!(wait(buckets.take(Key(1), quota, 1, 6 * SECOND)), Duration::from_secs(15));
        assert!(buckets.take(Key(2), quota, 1, 6 * SECOND).is_ok());
        assert_eq!(wait(buckets.take(Key(1), quota, 1, 21 * SECOND - 1)), Duration::from_nanos(1));
        assert!(buckets.take(Key(1), quota, 1, 21 * SECOND).is_ok());
        assert!(buckets.take(Key(1), quota, 1, 21 * SECOND).is_err());
    }

    #[test]
    fn a_limit_that_does_not_divide_its_window_is_exact_all_the_same() {
        let (buckets, quota) = (Buckets::new(100), Quota { limit: 7, window: Duration::from_secs(1) });
        let admitted = (0..10).filter(|_| buckets.take(Key(1), quota, 1, 5).is_ok()).count();
        assert_eq!(admitted, 7);
    }

    #[test]
    fn what_another_limit_refused_or_what_was_not_needed_is_given_back() {
        let (buckets, quota) = (Buckets::new(100), a_minute(1000));
        assert_eq!(buckets.take(Key(1), quota, 900, 0).map(|level| level.remaining), Ok(100));
        assert!(buckets.take(Key(1), quota, 200, 1).is_err());
        buckets.give_back(Key(1), quota, 800, 1);
        assert_eq!(buckets.take(Key(1), quota, 200, 1).map(|level| level.remaining), Ok(700));
        buckets.give_back(Key(1), quota, u64::MAX, 1);
        assert_eq!(buckets.take(Key(1), quota, 1000, 1).map(|level| level.remaining), Ok(0));
    }

    #[test]
    fn what_is_larger_than_the_limit_takes_all_of_it() {
        let (buckets, quota) = (Buckets::new(100), a_minute(100));
        assert_eq!(buckets.take(Key(1), quota, 5000, 0).map(|level| level.remaining), Ok(0));
        assert!(buckets.take(Key(1), quota, 5000, 59 * SECOND).is_err());
        assert!(buckets.take(Key(1), quota, 5000, 60 * SECOND).is_ok());
    }

    #[test]
    fn a_limit_of_nothing_admits_nothing() {
        assert_eq!(wait(Buckets::new(100).take(Key(1), a_minute(0), 1, 5)), MINUTE);
    }

    #[test]
    fn a_full_table_refuses_new_keys_until_old_ones_are_empty() {
        let buckets = Buckets::new(SHARDS);
        assert!(buckets.take(Key(0), a_minute(2), 1, 0).is_ok());
        let same_shard = Key(SHARDS as u128);
        assert_eq!(buckets.take(same_shard, a_minute(2), 1, 10), Err(Full::Table));
        assert!(buckets.take(same_shard, a_minute(2), 1, 30 * SECOND).is_ok());
    }

    #[test]
    fn a_clock_that_stands_still_or_a_limit_that_changes_admits_no_more() {
        let buckets = Buckets::new(100);
        assert!(buckets.take(Key(1), a_minute(2), 1, 10 * SECOND).is_ok());
        assert!(buckets.take(Key(1), a_minute(2), 1, 5 * SECOND).is_ok());
        assert!(buckets.take(Key(1), a_minute(2), 1, 5 * SECOND).is_err());
        assert_eq!(buckets.take(Key(1), a_minute(4), 1, 5 * SECOND).map(|level| level.remaining), Ok(1));
    }

    proptest! {
        /// The bound of the algorithm: the limit at once, and what has emptied since.
        #[test]
        fn never_more_than_the_limit_and_what_has_emptied(gaps in proptest::collection::vec(0u64..400, 1..300), limit in 1u64..20) {
            let buckets = Buckets::new(100);
            let quota = Quota { limit, window: Duration::from_secs(2) };
            let (mut now, mut admitted) = (0u64, Vec::new());
            for gap in gaps {
                now += gap * 1_000_000;
                if buckets.take(Key(1), quota, 1, now).is_ok() {
                    admitted.push(now);
                }
                for from in &admitted {
                    let inside = admitted.iter().filter(|at| *at >= from).count() as u64;
                    let emptied = (now - from) * limit / (2 * SECOND);
                    prop_assert!(inside <= limit + emptied, "{inside} in {} of {limit}", now - from);
                }
            }
        }

        #[test]
        fn any_amount_of_any_limit_is_counted_without_overflow(limit: u64, window in 1u64..u64::MAX, amount: u64, now: u64) {
            let buckets = Buckets::new(100);
            let quota = Quota { limit, window: Duration::from_millis(window) };
            let _first = buckets.take(Key(1), quota, amount, now);
            buckets.give_back(Key(1), quota, amount, now);
            let _again = buckets.take(Key(1), quota, amount, u64::MAX);
        }
    }
}
