//! What a request has cost so far: several calls may have cost something, of which one has answered.

use std::sync::{Mutex, PoisonError};

/// What something cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// In nano-USD.
    pub(crate) amount: i64,
    /// Whether some of it was not told and its bound stands for it.
    pub(crate) estimated: bool,
    /// Whether more was counted than was possible.
    pub(crate) clamped: bool,
}

/// The sum of what calls of one request cost.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Sum>);

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    known: Option<Cost>,
    /// Whether the price of some of it is not known.
    unknown: bool,
    /// What of it was told to whoever watches its caller.
    told: i64,
}

impl Tally {
    /// Add what a call cost.
    pub(super) fn add(&self, cost: &Cost) {
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sum.known.unwrap_or_default();
        sum.known = Some(Cost {
            amount: before.amount.saturating_add(cost.amount),
            estimated: before.estimated || cost.estimated,
            clamped: before.clamped || cost.clamped,
        });
    }

    /// A call cost something, and nobody knows what.
    pub(super) fn add_unknown(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unknown = true;
    }

    /// What has been added up since this was last asked; `None`: nothing whose price is known was ever.
    pub(crate) fn untold(&self) -> Option<i64> {
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let amount = sum.known?.amount;
        let before = std::mem::replace(&mut sum.told, amount);
        Some(amount.saturating_sub(before))
    }

    /// What has been added up. `None`: nothing, or nothing whose price is known.
    pub(crate) fn sum(&self) -> Option<Cost> {
        let sum = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What is known of a part is the least it cost.
        sum.known.map(|known| Cost { estimated: known.estimated || sum.unknown, ..known })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_add_up_and_one_of_unknown_price_makes_an_estimate_of_it() {
        let tally = Tally::default();
        assert_eq!(tally.sum(), None);
        tally.add_unknown();
        assert_eq!(tally.sum(), None);
        let cost = |amount, estimated, clamped| Cost { amount, estimated, clamped };
        tally.add(&cost(7, false, false));
        assert_eq!(tally.sum(), Some(cost(7, true, false)));
        assert_eq!((tally.untold(), tally.untold()), (Some(7), Some(0)));
        tally.add(&cost(3, false, false));
        assert_eq!(tally.untold(), Some(3));
        tally.add(&cost(i64::MAX, false, true));
        assert_eq!(tally.sum(), Some(cost(i64::MAX, true, true)));
    }
}
