//! Which of a provider's keys a call is made with.

use std::sync::Arc;

use base::Rng;
use store::Slot;

use super::pass::Wanted;
use super::{Care, Key, KeySlot, Pass, Refused, TargetState, Why};

/// How one of several is chosen.
#[derive(Clone, Copy)]
pub(crate) struct Choice<'a> {
    /// The same for everything that is to stay together.
    pub(crate) sticky: Option<u64>,
    pub(crate) rng: &'a dyn Rng,
}

impl Choice<'_> {
    /// A number above 0, at most 1, for `what`.
    pub(crate) fn draw(&self, what: &str) -> f64 {
        let drawn = || {
            let mut bytes = [0; 8];
            self.rng.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        let bits = self.sticky.map_or_else(drawn, |sticky| mixed(sticky, what));
        // 53 bits, as many as a number from 0 to 1 has.
        #[allow(clippy::cast_precision_loss)]
        let draw = ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64;
        draw
    }

    /// The place of something with this weight: the lowest is first. Of things drawn so, each is first as often as its
    /// weight says; and when one goes away, the others stay where they are (weighted rendezvous hashing).
    pub(crate) fn place(&self, what: &str, weight: u32) -> f64 {
        -self.draw(what).ln() / f64::from(weight.max(1))
    }
}

/// The same number for the same two values, also after a restart: FNV-1a, finished as `SplitMix64` does.
fn mixed(sticky: u64, what: &str) -> u64 {
    let start = sticky ^ 0xcbf2_9ce4_8422_2325;
    let hash = what.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut z = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the key is called of a provider that takes none.
const NONE: &str = "none";

/// The keys of one provider, at least one: for a provider that takes none, one without a value.
#[derive(Debug)]
pub(crate) struct Keys {
    care: Arc<Care>,
    keys: Vec<Arc<Key>>,
}

impl Keys {
    /// `keys` in the order the configuration has them.
    pub(crate) fn new(care: Arc<Care>, keys: Vec<Key>) -> Self {
        let mut keys: Vec<Arc<Key>> = keys.into_iter().map(Arc::new).collect();
        if keys.is_empty() {
            let state = care.states.key(&care.name, NONE, [0; 32]);
            let slot =
                KeySlot { which: Slot::Current, credential: None, state: care.states.slot(&care.name, NONE, [0; 32]) };
            let slots = vec![Arc::new(slot)];
            care.states.set_slots(&care.name, NONE, &slots);
            keys.push(Arc::new(Key { name: NONE.to_owned(), slots, priority: 0, weight: 1, state }));
        }
        Self { care, keys }
    }

    pub(crate) fn care(&self) -> &Arc<Care> {
        &self.care
    }

    /// The name of the one that `pass` uses, where there are others.
    pub(crate) fn told_apart(&self, pass: &Pass) -> Option<Arc<str>> {
        (self.keys.len() > 1).then(|| Arc::from(pass.key().name.as_str()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.iter()
    }

    /// Leave to call, with the first key that may be used now; or when the first of them may be.
    pub(crate) fn admit(&self, wanted: Wanted<'_>, choice: Choice<'_>) -> Result<Pass, Refused> {
        if let [only] = self.keys.as_slice() {
            return Pass::admit(&self.care, only, wanted);
        }
        let mut refused: Option<Refused> = None;
        for key in self.in_order(wanted, choice) {
            match Pass::admit(&self.care, key, wanted) {
                Ok(pass) => return Ok(pass),
                Err(later) => {
                    refused = Some(refused.filter(|sooner| sooner.wait <= later.wait).unwrap_or(later));
                }
            }
        }
        Err(refused.unwrap_or(Refused { why: Why::Open, wait: 1000 }))
    }

    /// Leave to call beside another call, with the first key that may be used now; with another one than `not`.
    pub(crate) fn beside(&self, wanted: Wanted<'_>, choice: Choice<'_>, not: Option<&Key>) -> Option<Pass> {
        let other = |key: &&Arc<Key>| not.is_none_or(|not| !Arc::ptr_eq(&not.state, &key.state));
        self.in_order(wanted, choice)
            .into_iter()
            .filter(other)
            .find_map(|key| Pass::admit(&self.care, key, wanted).ok())
    }

    /// Leave for a call aside, with the first key that works.
    pub(crate) fn aside(&self, wanted: Wanted<'_>, choice: Choice<'_>) -> Option<Pass> {
        self.in_order(wanted, choice).into_iter().find_map(|key| Pass::aside(&self.care, key, wanted))
    }

    /// Leave for one call however the provider is doing, with the key that may be used soonest; unless such a call is under
    /// way.
    pub(crate) fn last_resort(&self, wanted: Wanted<'_>, choice: Choice<'_>) -> Option<Pass> {
        Pass::last_resort(&self.care, self.soonest(wanted, choice)?, wanted)
    }

    /// Leave for a call that only this provider could answer.
    pub(crate) fn regardless(&self, wanted: Wanted<'_>, choice: Choice<'_>) -> Option<Pass> {
        match self.admit(wanted, choice) {
            Ok(pass) => Some(pass),
            Err(_) => Pass::regardless(&self.care, self.soonest(wanted, choice)?, wanted),
        }
    }

    fn soonest(&self, wanted: Wanted<'_>, choice: Choice<'_>) -> Option<&Arc<Key>> {
        let now = self.care.states.now();
        let wait = |key: &Key| {
            let open = |position| match position {
                super::Position::Open(wait) => wait,
                _ => 0,
            };
            let state = &key.state;
            let resting = state.resting(wanted.model, now).unwrap_or(0);
            let accepted = key.slots.iter().map(|slot| open(slot.position(now))).min().unwrap_or(0);
            resting.max(accepted).max(open(state.health.position(now)))
        };
        self.in_order(wanted, choice).into_iter().min_by_key(|key| wait(key))
    }

    fn in_order(&self, wanted: Wanted<'_>, choice: Choice<'_>) -> Vec<&Arc<Key>> {
        if let [only] = self.keys.as_slice() {
            return vec![only];
        }
        // One that is not there any more cannot be used: another may be of the same project.
        if let Some(bound) = wanted.key.and_then(|name| self.keys.iter().find(|key| key.name == name)) {
            return vec![bound];
        }
        let mut placed: Vec<(u32, f64, &Arc<Key>)> =
            self.keys.iter().map(|key| (key.priority, choice.place(&key.name, key.weight), key)).collect();
        placed.sort_by(|(p, at, _), (q, other, _)| p.cmp(q).then(at.total_cmp(other)));
        placed.into_iter().map(|(_, _, key)| key).collect()
    }
}

/// What a call is for.
pub(crate) fn wanted<'a>(model: &'a Arc<str>, target: Option<&'a Arc<TargetState>>, streamed: bool) -> Wanted<'a> {
    Wanted { model, target, streamed, most: None, key: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;

    #[test]
    fn each_is_first_as_often_as_its_weight_says() {
        let rng = SeededRng::new(7);
        let choice = Choice { sticky: None, rng: &rng };
        let first = (0..4000).filter(|_| choice.place("a", 3) < choice.place("b", 1)).count();
        assert!((2850..3150).contains(&first), "{first}");
    }

    #[test]
    fn what_is_sticky_stays_and_moves_only_if_its_place_goes_away() {
        let rng = SeededRng::new(7);
        let first = |sticky: u64, of: &[&'static str]| {
            let choice = Choice { sticky: Some(sticky), rng: &rng };
            *of.iter().min_by(|a, b| choice.place(a, 1).total_cmp(&choice.place(b, 1))).expect("one")
        };
        let mut moved = 0;
        for sticky in 0..1000 {
            let before = first(sticky, &["a", "b", "c"]);
            assert_eq!(before, first(sticky, &["c", "b", "a"]));
            let after = first(sticky, &["a", "b"]);
            moved += usize::from(before != after);
            assert!(before == "c" || before == after);
        }
        assert!((280..390).contains(&moved), "{moved}");
    }
}
