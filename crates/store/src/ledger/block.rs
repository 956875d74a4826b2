//! How much a node leases at once.

/// What is asked for a block, and what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// What the request needs that is not in the block already.
    pub(crate) need: i64,
    /// What the request asks for in all.
    pub(crate) amount: i64,
    /// What all who wait need.
    pub(crate) demand: i64,
    /// What the last block was, if it went fast.
    pub(crate) appetite: i64,
    /// What may still be leased.
    pub(crate) remaining: i64,
}

impl Ask {
    /// For an account that is only counted: not a hundredth of a limit that is none.
    pub(crate) fn for_counting(self) -> Self {
        let goal = self.amount.saturating_mul(REQUESTS).max(self.demand).max(self.appetite);
        Self { remaining: self.remaining.min(goal.saturating_mul(2)), ..self }
    }
}

/// How many requests like this one a block is for.
const REQUESTS: i64 = 20;

/// The size of the block: for twenty requests or a hundredth of what remains, more where more are waiting or the last went
/// fast; never more than half of what remains, so that near the limit other nodes still get theirs, but always enough for
/// the request. Nothing if there is not enough for it.
///
/// It covers the request and whole further ones like it: requests of one size leave nothing over on any node.
pub(crate) fn size(ask: Ask) -> Option<i64> {
    if ask.need > ask.remaining {
        return None;
    }
    // What a node that dies has leased is missing until its journal is read: not much of what remains for speed alone.
    let appetite = ask.appetite.min(ask.remaining / 8);
    let goal = ask.amount.saturating_mul(REQUESTS).max(ask.remaining / 100).max(ask.demand).max(appetite);
    let size = goal.min(ask.remaining / 2).max(ask.need);
    let further = (size - ask.need) / ask.amount.max(1);
    Some(ask.need + further * ask.amount.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CENT: i64 = 10_000_000;

    fn ask(need: i64, remaining: i64) -> Ask {
        Ask { need, amount: 10 * CENT, demand: 0, appetite: 0, remaining }
    }

    #[test]
    fn blocks_shrink_to_single_requests_near_the_limit() {
        let mut remaining = 1000 * CENT;
        let mut sizes = Vec::new();
        while let Some(size) = size(ask(10 * CENT, remaining)) {
            remaining -= size;
            sizes.push(size / (10 * CENT));
        }
        assert_eq!(remaining, 0);
        assert_eq!(sizes, [20, 20, 20, 20, 10, 5, 2, 1, 1, 1]);
    }

    #[test]
    fn a_partial_block_is_given_as_long_as_it_covers_the_request() {
        assert_eq!(size(ask(7, 8)), Some(7));
        assert_eq!(size(ask(7, 7)), Some(7));
        assert_eq!(size(ask(8, 7)), None);
        assert_eq!(size(ask(1, 0)), None);
    }

    #[test]
    fn many_who_wait_get_more_at_once() {
        let waiting = Ask { demand: 100 * CENT, amount: CENT, ..ask(CENT, 1_000_000 * CENT) };
        assert_eq!(size(waiting), Some(10_000 * CENT));
        assert_eq!(size(Ask { remaining: 1000 * CENT, ..waiting }), Some(100 * CENT));
    }

    #[test]
    fn a_block_that_went_fast_is_followed_by_a_larger_one_up_to_an_eighth() {
        let fast = Ask { appetite: 400 * CENT, amount: CENT, ..ask(CENT, 8000 * CENT) };
        assert_eq!(size(fast), Some(400 * CENT));
        assert_eq!(size(Ask { appetite: 4000 * CENT, ..fast }), Some(1000 * CENT));
    }

    proptest! {
        #[test]
        fn a_block_covers_the_need_and_never_passes_what_remains(
            need in 0..=i64::MAX, amount in 0..=i64::MAX, demand in 0..=i64::MAX, appetite in 0..=i64::MAX,
            remaining in i64::MIN..=i64::MAX,
        ) {
            match size(Ask { need, amount, demand, appetite, remaining }) {
                Some(size) => prop_assert!(size >= need && size <= remaining),
                None => prop_assert!(need > remaining),
            }
        }
    }
}
