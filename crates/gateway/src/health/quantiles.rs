//! What a share of a target's answers takes to begin: counts of late in buckets that grow with what they hold.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How long an observation is remembered at least, in milliseconds; at most twice as long.
const REMEMBERED: u64 = 300_000;
/// With fewer observations nothing is told.
const ENOUGH: u64 = 20;
/// Buckets: each power of two milliseconds is cut in eight, from 1 ms to some 17 minutes.
const BUCKETS: usize = 8 * 18;

/// Two tables of counts, of which the older is forgotten whole.
#[derive(Debug)]
pub(crate) struct Quantiles {
    tables: [Table; 2],
}

#[derive(Debug)]
struct Table {
    epoch: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

impl Default for Quantiles {
    fn default() -> Self {
        let table = || Table { epoch: AtomicU64::new(0), counts: std::array::from_fn(|_| AtomicU32::new(0)) };
        Self { tables: [table(), table()] }
    }
}

impl Quantiles {
    /// An answer took `took` milliseconds to begin. One at the moment when a table is begun anew may be lost.
    pub(crate) fn observe(&self, now: u64, took: u64) {
        let epoch = epoch(now);
        let [even, odd] = &self.tables;
        let table = if epoch.is_multiple_of(2) { even } else { odd };
        if table.epoch.load(Ordering::Acquire) != epoch && table.epoch.swap(epoch, Ordering::AcqRel) != epoch {
            table.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        }
        if let Some(count) = table.counts.get(bucket(took)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What `percent` of a hundred answers took at most, in milliseconds, rounded up by at most an eighth; `None` while
    /// too few are known.
    pub(crate) fn at(&self, now: u64, percent: u8) -> Option<u64> {
        let epoch = epoch(now);
        let of_late = |table: &&Table| {
            let of = table.epoch.load(Ordering::Acquire);
            of == epoch || of + 1 == epoch
        };
        let tables: Vec<&Table> = self.tables.iter().filter(of_late).collect();
        let count = |at: usize| -> u64 {
            tables
                .iter()
                .filter_map(|table| table.counts.get(at))
                .map(|count| u64::from(count.load(Ordering::Relaxed)))
                .sum()
        };
        let all: u64 = (0..BUCKETS).map(count).sum();
        if all < ENOUGH {
            return None;
        }
        let wanted = (all * u64::from(percent)).div_ceil(100);
        let mut sum = 0;
        (0..BUCKETS)
            .find(|at| {
                sum += count(*at);
                sum >= wanted
            })
            .map(end)
    }
}

/// From 1: an empty table is of no time.
fn epoch(now: u64) -> u64 {
    now / REMEMBERED + 1
}

/// The bucket of a time: three bits behind its first.
fn bucket(took: u64) -> usize {
    // Eighths of a millisecond, so that the first power has its eight.
    let eighths = took.max(1).saturating_mul(8);
    let power = eighths.ilog2();
    let within = (eighths >> (power - 3)) & 7;
    let at = u64::from(power - 3) * 8 + within;
    usize::try_from(at).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The longest time of a bucket.
fn end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    (((bucket % 8 + 9) << (bucket / 8)).div_ceil(8)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_tells_what_most_answers_took_once_enough_are_known() {
        let quantiles = Quantiles::default();
        for took in 1..=19 {
            quantiles.observe(1, took * 10);
        }
        assert_eq!(quantiles.at(1, 95), None);
        for took in 20..=100 {
            quantiles.observe(1, took * 10);
        }
        for (percent, exact) in [(50, 500), (95, 950), (99, 990)] {
            let told = quantiles.at(1, percent).expect("enough");
            assert!((exact..=exact + exact / 8 + 1).contains(&told), "p{percent}: {told}");
        }
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let quantiles = Quantiles::default();
        (0..50).for_each(|_| quantiles.observe(1, 1000));
        assert!(quantiles.at(REMEMBERED, 50).is_some());
        (0..50).for_each(|_| quantiles.observe(REMEMBERED, 10));
        assert!(quantiles.at(REMEMBERED, 90).is_some_and(|told| told >= 1000));
        assert!(quantiles.at(2 * REMEMBERED, 90).is_some_and(|told| told <= 12), "the older half is gone");
        assert_eq!(quantiles.at(3 * REMEMBERED, 50), None);
    }

    proptest! {
        #[test]
        fn a_bucket_ends_no_further_than_an_eighth_behind_what_it_holds(took in 1u64..200_000) {
            let told = end(bucket(took));
            prop_assert!(told >= took && told <= took + took / 8 + 1, "{took}: {told}");
        }

        #[test]
        fn any_time_has_a_bucket(took: u64) {
            prop_assert!(bucket(took) < BUCKETS);
        }
    }
}
