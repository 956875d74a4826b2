//! How many of a model's requests may be sent to another target beside the first.

use std::sync::atomic::{AtomicU64, Ordering};

/// What asking beside costs: a request earns as many hundredths as the budget has percent.
const COST: u64 = 100;
/// So many are saved up at most: what a burst may use at once, and what there is at the start.
const MOST: u64 = 10 * COST;

/// Spent by hedges, earned by requests.
#[derive(Debug)]
pub(crate) struct Hedges(AtomicU64);

impl Default for Hedges {
    fn default() -> Self {
        Self(AtomicU64::new(MOST))
    }
}

impl Hedges {
    /// A request was made, of which `percent` in a hundred may ask another target beside the first.
    pub(crate) fn earn(&self, percent: u32) {
        if self.0.load(Ordering::Relaxed) < MOST {
            let earned = |held: u64| Some((held + u64::from(percent)).min(MOST));
            let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, earned);
        }
    }

    /// Whether one may be asked now.
    pub(crate) fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| held.checked_sub(COST)).is_ok()
    }

    /// There was nobody to ask.
    pub(crate) fn give_back(&self) {
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| Some((held + COST).min(MOST)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hedges_are_a_share_of_what_is_asked_and_a_few_more() {
        let hedges = Hedges::default();
        let spent = |hedges: &Hedges| (0..1000).take_while(|_| hedges.spend()).count();
        assert_eq!(spent(&hedges), 10, "a burst");
        (0..100).for_each(|_| hedges.earn(5));
        assert_eq!(spent(&hedges), 5);
        (0..100_000).for_each(|_| hedges.earn(5));
        assert_eq!(spent(&hedges), 10, "no more is saved up");
        hedges.give_back();
        assert_eq!(spent(&hedges), 1);
    }

    #[test]
    fn racing_requests_never_spend_one_twice() {
        let hedges = Hedges::default();
        let spent = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let taken = (0..100).filter(|_| hedges.spend()).count();
                    spent.fetch_add(taken as u64, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(spent.into_inner(), 10);
    }
}
