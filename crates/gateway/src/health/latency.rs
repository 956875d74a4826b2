//! How long a target takes to begin an answer: an average that new calls weigh more in the longer the last one is ago.

use std::sync::atomic::{AtomicU64, Ordering};

/// After so many milliseconds an observation weighs 1/e of a new one.
const DECAY: f64 = 30_000.0;
/// After so many milliseconds without a call half of what is known is forgotten, so that a target that was slow once is
/// tried again.
const FORGET: f64 = 60_000.0;

/// An exponentially weighted moving average, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// The bits of an `f64`; 0.0 is nothing known.
    average: AtomicU64,
    last: AtomicU64,
}

impl Latency {
    /// A call took `took` milliseconds. Two at the same moment may count as one: it is an estimate.
    pub(crate) fn observe(&self, now: u64, took: u64) {
        let took = as_f64(took).max(0.1);
        let before = f64::from_bits(self.average.load(Ordering::Relaxed));
        let passed = as_f64(now.saturating_sub(self.last.swap(now, Ordering::Relaxed)));
        // Calls at one moment still move it.
        let weight = (-passed / DECAY).exp().min(0.9);
        let average = if before > 0.0 { before * weight + took * (1.0 - weight) } else { took };
        self.average.store(average.to_bits(), Ordering::Relaxed);
    }

    /// A call has taken `took` milliseconds and was given up: it would have taken longer.
    pub(crate) fn at_least(&self, now: u64, took: u64) {
        if self.expected(now).is_none_or(|expected| as_f64(took) > expected) {
            self.observe(now, took);
        }
    }

    /// What a call is expected to take, in milliseconds; `None` where nothing is known.
    pub(crate) fn expected(&self, now: u64) -> Option<f64> {
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        if average <= 0.0 {
            return None;
        }
        let passed = as_f64(now.saturating_sub(self.last.load(Ordering::Relaxed)));
        Some(average * (-passed * std::f64::consts::LN_2 / FORGET).exp())
    }
}

#[allow(clippy::cast_precision_loss)] // milliseconds of a process's life are far below 2^53
fn as_f64(millis: u64) -> f64 {
    millis as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_calls_outweigh_old_ones_and_what_is_not_asked_is_forgotten() {
        let latency = Latency::default();
        assert_eq!(latency.expected(5), None);
        latency.observe(0, 1000);
        assert_eq!(latency.expected(0), Some(1000.0));
        latency.observe(30_000, 100);
        let expected = latency.expected(30_000).expect("known");
        assert!((400.0..460.0).contains(&expected), "{expected}");
        let later = latency.expected(90_000).expect("known");
        assert!((later * 2.0 - expected).abs() < 1.0, "{later}");
    }

    #[test]
    fn a_call_that_was_given_up_can_only_make_it_slower() {
        let latency = Latency::default();
        latency.at_least(0, 500);
        assert_eq!(latency.expected(0), Some(500.0));
        latency.at_least(0, 100);
        assert_eq!(latency.expected(0), Some(500.0));
        latency.at_least(0, 1000);
        assert!(latency.expected(0).expect("known") > 500.0);
    }

    #[test]
    fn calls_at_one_moment_count_too() {
        let latency = Latency::default();
        latency.observe(0, 100);
        (0..50).for_each(|_| latency.observe(0, 1000));
        assert!(latency.expected(0).expect("known") > 900.0);
    }
}
