//! The values of one key of a provider: the one in use, and those to fall back on where the provider refuses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use store::Slot;

use super::{Breaker, Position, Probe, REFUSED_KEY};
use crate::upstream::Credential;

/// One value of a key.
#[derive(Debug)]
pub(crate) struct KeySlot {
    /// Which value it is.
    pub(crate) which: Slot,
    /// Absent for a provider that takes no key.
    pub(crate) credential: Option<Credential>,
    pub(crate) state: Arc<SlotState>,
}

/// Whether a provider accepts a value of its key. It is the value's: it goes on when the value becomes another slot's.
#[derive(Debug, Default)]
pub(crate) struct SlotState {
    accepted: Arc<Breaker>,
    /// How often it was used because another was refused.
    stood_in: AtomicU64,
}

impl KeySlot {
    /// Whether the provider accepts it, as far as is known.
    pub(crate) fn position(&self, now: u64) -> Position {
        self.state.accepted.position(now)
    }

    /// It was sent and not refused.
    pub(super) fn accepted(&self, now: u64, probe: bool) {
        self.state.accepted.succeeded(&REFUSED_KEY, now, probe);
    }

    /// It was refused. Says whether that is new.
    pub(super) fn refused(&self, now: u64, probe: bool) -> bool {
        self.state.accepted.failed(&REFUSED_KEY, now, probe)
    }

    /// It is used because another was refused.
    pub(crate) fn stands_in(&self) {
        self.state.stood_in.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was.
    pub(super) fn stood_in(&self) -> u64 {
        self.state.stood_in.load(Ordering::Relaxed)
    }

    /// Whether both have the same value.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

/// The one to use now: the first that the provider accepts as far as is known, also to find out whether it does again. Else
/// after how many milliseconds one may be tried.
pub(super) fn choose(slots: &[Arc<KeySlot>], now: u64) -> Result<(Arc<KeySlot>, Option<Probe>), u64> {
    let mut wait = u64::MAX;
    for slot in slots {
        match slot.state.accepted.admit(now) {
            Ok(probe) => return Ok((Arc::clone(slot), probe)),
            Err(later) => wait = wait.min(later),
        }
    }
    Err(if wait == u64::MAX { 1000 } else { wait })
}

/// The one to use whatever is known: the first that is accepted, else the current one; with the right to find out, unless
/// another call has it.
pub(super) fn anyway(slots: &[Arc<KeySlot>], now: u64) -> Option<(Arc<KeySlot>, Option<Probe>)> {
    let slot = slots.iter().find(|slot| slot.position(now) == Position::Closed).or(slots.first())?;
    Some((Arc::clone(slot), slot.state.accepted.probe()))
}

/// Whether any is accepted as far as is known.
pub(crate) fn any_accepted(slots: &[Arc<KeySlot>], now: u64) -> bool {
    slots.iter().any(|slot| slot.position(now) == Position::Closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Vec<Arc<KeySlot>> {
        let slot = |which| Arc::new(KeySlot { which, credential: None, state: Arc::default() });
        vec![slot(Slot::Current), slot(Slot::Next), slot(Slot::Old)]
    }

    #[test]
    fn the_first_that_is_accepted_is_used_and_the_current_one_is_tried_again_in_time() {
        let slots = slots();
        let chosen = |now| choose(&slots, now).map(|(slot, probe)| (slot.which, probe.is_some()));
        assert_eq!(chosen(1), Ok((Slot::Current, false)));
        assert!(slots[0].refused(1, false), "it is new");
        assert!(!slots[0].refused(1, false), "and not told twice");
        assert_eq!(chosen(2), Ok((Slot::Next, false)));
        slots[1].refused(2, false);
        assert_eq!(chosen(3), Ok((Slot::Old, false)));
        slots[2].refused(3, false);
        assert_eq!(chosen(4), Err(59_997));
        assert!(!any_accepted(&slots, 4));
        let (slot, probe) = anyway(&slots, 4).expect("one");
        assert_eq!((slot.which, probe.is_some()), (Slot::Current, true));
        drop(probe);
        assert_eq!(chosen(60_001), Ok((Slot::Current, true)), "it may be accepted again");
        let (current, probe) = choose(&slots, 60_001).expect("one");
        current.accepted(60_001, probe.is_some());
        assert_eq!(chosen(60_002), Ok((Slot::Current, false)));
    }

    #[test]
    fn while_one_call_finds_out_others_use_what_works() {
        let slots = slots();
        slots[0].refused(1, false);
        let (first, probe) = choose(&slots, 70_000).expect("one");
        assert_eq!((first.which, probe.is_some()), (Slot::Current, true));
        assert_eq!(choose(&slots, 70_000).map(|(slot, _)| slot.which), Ok(Slot::Next));
    }
}
