//! The values of one key of a provider: the one in use, and those to fall back on where the provider refuses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Name;
use store::Slot;

use super::{Breaker, Position, Probe, REFUSED_KEY, States};
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

    /// What a call showed that no right to find out was taken for. Says whether it is new that it is refused.
    fn showed(&self, now: u64, accepted: bool) -> bool {
        let position = self.position(now);
        let probe = (position != Position::Closed).then(|| self.state.accepted.probe()).flatten();
        match (accepted, position) {
            (true, _) => {
                self.accepted(now, probe.is_some());
                false
            }
            // That it is refused still is nothing new.
            (false, Position::Open(_)) => false,
            (false, Position::Closed) => self.refused(now, false),
            (false, Position::HalfOpen) => probe.is_some() && self.refused(now, true),
        }
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

/// The values of a key that is put into requests to an `[[upstream]]`, in the order to use them in.
#[derive(Debug)]
pub(crate) struct Standby {
    states: Arc<States>,
    /// What has the key, and what the key is called there.
    of: (Name, &'static str),
    slots: Vec<Arc<KeySlot>>,
}

impl Standby {
    /// The values of what is called `key` at `name`. The same value goes on where it was.
    pub(crate) fn new(
        (name, key): (&Name, &'static str),
        values: impl IntoIterator<Item = (Slot, Credential)>,
        states: &Arc<States>,
    ) -> Self {
        let slot = |(which, credential): (Slot, Credential)| {
            let state = states.slot(name, key, credential.fingerprint());
            Arc::new(KeySlot { which, credential: Some(credential), state })
        };
        Self { states: Arc::clone(states), of: (name.clone(), key), slots: values.into_iter().map(slot).collect() }
    }

    /// All of them.
    pub(crate) fn slots(&self) -> &[Arc<KeySlot>] {
        &self.slots
    }

    /// The first of those at `places` that may be accepted, as far as is known; the first of all where none is.
    pub(crate) fn choose(&self, places: &[usize]) -> Option<usize> {
        let now = self.states.now();
        let may = |at: &&usize| self.slots.get(**at).is_some_and(|s| !matches!(s.position(now), Position::Open(_)));
        places.iter().find(may).or(places.first()).copied()
    }

    /// The API accepted the value at this place.
    pub(crate) fn accepted(&self, at: usize) {
        if let Some(slot) = self.slots.get(at) {
            slot.showed(self.states.now(), true);
        }
    }

    /// The API refused the value at one place and accepted the one at another.
    pub(crate) fn fell_back(&self, (from, to): (usize, usize)) {
        let Some((refused, instead)) = self.slots.get(from).zip(self.slots.get(to)) else { return };
        let now = self.states.now();
        instead.stands_in();
        instead.showed(now, true);
        if refused.showed(now, false) {
            let (name, key) = (self.of.0.as_str(), self.of.1);
            let (slot, instead) = (refused.which, instead.which);
            tracing::error!(target: "audit", name, key, slot = slot.as_str(), instead = instead.as_str(), "a key is refused: another is used");
            self.states.key_refused((&self.of.0, key), slot, Some(instead));
        }
    }
}

/// Whether any is accepted as far as is known.
pub(crate) fn any_accepted(slots: &[Arc<KeySlot>], now: u64) -> bool {
    slots.iter().any(|slot| slot.position(now) == Position::Closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_refused_stands_back_and_is_tried_again_in_time() {
        let clock = Arc::new(base::FakeClock::at(base::Timestamp::from_secs(1_700_000_000)));
        let states = States::new(clock.clone());
        let slots = slots();
        let standby = Standby { states, of: (Name::new("maps").expect("a name"), "inject"), slots };
        assert_eq!((standby.choose(&[0, 1, 2]), standby.choose(&[2]), standby.choose(&[])), (Some(0), Some(2), None));
        standby.fell_back((0, 1));
        assert_eq!(standby.choose(&[0, 1]), Some(1));
        // Calls that were under way say nothing new, and do not make it wait longer.
        standby.fell_back((0, 1));
        clock.advance(std::time::Duration::from_secs(61));
        assert_eq!(standby.choose(&[0, 1]), Some(0), "it may be accepted again");
        standby.fell_back((0, 1));
        clock.advance(std::time::Duration::from_secs(61));
        assert_eq!(standby.choose(&[0, 1]), Some(1), "refused again, it waits twice as long");
        clock.advance(std::time::Duration::from_secs(61));
        standby.accepted(0);
        assert_eq!(standby.choose(&[0, 1]), Some(0));
        assert_eq!(standby.slots[1].stood_in(), 3);
    }

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
