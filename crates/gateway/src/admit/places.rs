//! Places among a budget's requests at once: as many as its account has, also for all nodes together, all of them or none.

use std::sync::Arc;

use store::{LimitWant, Limited, SharedPlace};

use super::slots::Slot;
use super::{Key, Limiter};

/// More than any account has: what only counts asks for so many.
const UNLIMITED: u64 = 1 << 40;

/// One account a request wants a place of.
#[derive(Debug, Clone)]
pub(crate) struct PlaceWant {
    /// The budget, or what the accounts of a policy's own are called.
    pub(crate) budget: Arc<str>,
    /// For whom.
    pub(crate) whom: Arc<str>,
    /// How many it has.
    pub(crate) limit: u64,
    /// Whether it refuses, or only counts.
    pub(crate) enforced: bool,
}

impl PlaceWant {
    fn most(&self) -> u64 {
        if self.enforced { self.limit } else { UNLIMITED }
    }
}

/// Places that are held; free again when dropped.
#[derive(Debug)]
pub(crate) struct Places {
    /// How many are taken of each account, this one among them.
    pub(crate) taken: Vec<u64>,
    _slots: Vec<Slot>,
    _place: Option<SharedPlace>,
}

impl Limiter {
    /// Hold a place of each of these, or of none: then which has none.
    pub(crate) async fn hold_places(&self, wants: &[PlaceWant]) -> Result<Places, usize> {
        let (mut slots, mut taken) = (Vec::with_capacity(wants.len()), Vec::with_capacity(wants.len()));
        for (index, want) in wants.iter().enumerate() {
            let key = self.place_key(want);
            slots.push(self.slots.take(key, want.most()).ok_or(index)?);
            taken.push(self.slots.count(key));
        }
        let mut place = None;
        if let Some(fleet) = &self.fleet {
            let asked: Vec<LimitWant> = wants
                .iter()
                .map(|want| LimitWant {
                    id: fleet.place_id(&want.budget, &want.whom),
                    limit: want.most(),
                    window: None,
                    amount: 1,
                })
                .collect();
            match fleet.hold(&asked).await {
                Ok(Limited::Admitted(standings, held)) => {
                    place = held;
                    let all =
                        wants.iter().zip(&standings).map(|(want, told)| want.most().saturating_sub(told.remaining));
                    taken = all.collect();
                }
                Ok(Limited::Refused { which, .. }) => return Err(which),
                // While nobody answers each node has its part, and this request is counted in it already.
                Err(_) => {
                    let over = |(want, taken): (&PlaceWant, &u64)| want.enforced && *taken > fleet.part(want.limit);
                    if let Some(which) = wants.iter().zip(&taken).position(over) {
                        return Err(which);
                    }
                }
            }
        }
        Ok(Places { taken, _slots: slots, _place: place })
    }

    fn place_key(&self, want: &PlaceWant) -> Key {
        self.hashed(|state| std::hash::BuildHasher::hash_one(state, ("budget", 6u8, &*want.budget, &*want.whom)))
    }
}

#[cfg(test)]
mod tests {
    use base::{Clock, FakeClock, Timestamp};

    use super::*;

    fn limiter() -> Limiter {
        Limiter::new(FakeClock::at(Timestamp::from_secs(1)).monotonic(), None)
    }

    fn want(budget: &str, limit: u64, enforced: bool) -> PlaceWant {
        PlaceWant { budget: Arc::from(budget), whom: Arc::from("subject=corp/a"), limit, enforced }
    }

    #[tokio::test]
    async fn places_of_all_accounts_are_held_or_none() {
        let limiter = limiter();
        let (wide, narrow) = (want("wide", 2, true), want("narrow", 1, true));
        let first = limiter.hold_places(&[wide.clone(), narrow.clone()]).await.expect("there is room");
        assert_eq!(first.taken, [1, 1]);
        assert_eq!(limiter.hold_places(&[wide.clone(), narrow.clone()]).await.err(), Some(1));
        let second = limiter.hold_places(std::slice::from_ref(&wide)).await.expect("what was refused holds nothing");
        assert_eq!(limiter.hold_places(std::slice::from_ref(&wide)).await.err(), Some(0));
        drop(first);
        assert_eq!(limiter.hold_places(&[narrow, wide]).await.expect("free again").taken, [1, 2]);
        drop(second);
    }

    #[tokio::test]
    async fn what_only_counts_refuses_nobody_and_nothing_admits_nobody() {
        let limiter = limiter();
        let shadow = want("b", 1, false);
        let held = [limiter.hold_places(std::slice::from_ref(&shadow)).await, limiter.hold_places(&[shadow]).await];
        assert_eq!(held.map(|held| held.expect("counts only").taken), [[1], [2]]);
        assert_eq!(limiter.hold_places(&[want("none", 0, true)]).await.err(), Some(0));
    }
}
