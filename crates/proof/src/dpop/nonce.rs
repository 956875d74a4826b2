//! Nonces that need no memory (RFC 9449 sections 8, 9 and 11.3).

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base::{Secret, Timestamp};

use crate::jose::base64url_encode;

/// For how long one nonce is the current one, where nothing else is configured. It is accepted for as long again.
pub const DEFAULT_NONCE_SLOT: Duration = Duration::from_mins(5);

/// A clock that is set back by more than this, in milliseconds, makes all nonces new. Requests that are answered at the
/// same time differ by less, and a used proof is remembered for longer than it is good.
const SET_BACK: i64 = 1000;

/// Bytes of the MAC that become the nonce.
const NONCE_BYTES: usize = 16;

/// Makes nonces and knows them again: a nonce is a MAC of the time slot and of the key it is given to, so one that was
/// given to another key, by another server or before the last start is not known here. Make one per process, from
/// fresh randomness (or [`Nonces::of_many`] of what all servers share), and use it for every endpoint of the origin: clients remember one nonce per origin.
///
/// When the clock is set back, proofs that were used and forgotten would be in time again; so all nonces from before are
/// unknown then.
pub struct Nonces {
    key: hmac::Key,
    slot_millis: i64,
    /// The latest moment there was, in milliseconds.
    latest: AtomicI64,
    /// How often the clock was set back.
    set_back: AtomicU64,
    /// Several servers make the same nonces.
    of_many: bool,
}

impl Nonces {
    /// Nonces under this key, which must be random and must not outlive the process.
    pub fn new(key: &Secret<[u8; 32]>, slot: Duration) -> Self {
        let slot_millis = i64::try_from(slot.as_millis()).unwrap_or(i64::MAX).max(1);
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        Self { key, slot_millis, latest: AtomicI64::new(i64::MIN), set_back: AtomicU64::new(0), of_many: false }
    }

    /// Nonces that all servers with this key know, whenever they were started, and whatever becomes of their clocks: for
    /// servers that remember used proofs together, and for longer than a proof is good by [`Nonces::accepted`].
    pub fn of_many(key: &Secret<[u8; 32]>, slot: Duration) -> Self {
        Self { of_many: true, ..Self::new(key, slot) }
    }

    /// Of servers that remember used proofs together: that memory is another one from now on, and all nonces from before are
    /// unknown. All servers that know its number make the same.
    pub fn renew(&self, memory: u64) {
        self.set_back.store(memory, Ordering::Relaxed);
    }

    /// The nonce for the holder of the key with thumbprint `jkt`, to be sent as `DPoP-Nonce`.
    pub fn mint(&self, jkt: &[u8; 32], now: Timestamp) -> String {
        self.of_slot(self.slot(now), jkt)
    }

    /// The nonces that are accepted from this key: the current one and the one before, for
    /// [`Expectation::nonces`](super::Expectation::nonces).
    pub fn accepted(&self, jkt: &[u8; 32], now: Timestamp) -> [String; 2] {
        let slot = self.slot(now);
        [self.of_slot(slot, jkt), self.of_slot(slot.saturating_sub(1), jkt)]
    }

    /// Whether an accepted nonce is the current one. If not, the answer should carry a new one.
    pub fn is_current(&self, nonce: &str, jkt: &[u8; 32], now: Timestamp) -> bool {
        verify_slices_are_equal(self.mint(jkt, now).as_bytes(), nonce.as_bytes()).is_ok()
    }

    fn slot(&self, now: Timestamp) -> i64 {
        let now = now.as_millis();
        if self.of_many {
            return now.div_euclid(self.slot_millis);
        }
        let latest = self.latest.fetch_max(now, Ordering::Relaxed);
        if now < latest.saturating_sub(SET_BACK)
            && self.latest.compare_exchange(latest, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.set_back.fetch_add(1, Ordering::Relaxed);
        }
        now.div_euclid(self.slot_millis)
    }

    fn of_slot(&self, slot: i64, jkt: &[u8; 32]) -> String {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(&slot.to_be_bytes());
        mac.update(&self.set_back.load(Ordering::Relaxed).to_be_bytes());
        mac.update(jkt);
        base64url_encode(mac.sign().as_ref().get(..NONCE_BYTES).unwrap_or_default())
    }
}

/// Shows nothing of the key.
impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").field("slot_millis", &self.slot_millis).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JKT: [u8; 32] = [7; 32];

    fn nonces(key: u8) -> Nonces {
        Nonces::new(&Secret::new([key; 32]), DEFAULT_NONCE_SLOT)
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_clock_that_is_set_back_makes_all_nonces_unknown() {
        let nonces = nonces(1);
        let before = nonces.mint(&JKT, at(10_000));
        assert!(nonces.is_current(&before, &JKT, at(9_999)), "requests at the same time");
        let after = nonces.mint(&JKT, at(9_990));
        assert_ne!(after, before, "in the same slot as before");
        assert!(!nonces.accepted(&JKT, at(9_990)).contains(&before));
        assert!(!nonces.accepted(&JKT, at(10_000)).contains(&before), "nor when the time comes again");
        assert!(nonces.accepted(&JKT, at(10_000)).contains(&after));
    }

    #[test]
    fn servers_that_share_a_key_know_each_other_s_nonces_also_after_a_step_of_the_clock() {
        let shared = || Nonces::of_many(&Secret::new([1; 32]), DEFAULT_NONCE_SLOT);
        let (here, there) = (shared(), shared());
        there.mint(&JKT, at(90_000));
        let nonce = here.mint(&JKT, at(9_999));
        assert!(there.is_current(&nonce, &JKT, at(9_990)));
        assert_ne!(nonce, nonces(2).mint(&JKT, at(9_999)));
        here.renew(7);
        assert!(!here.accepted(&JKT, at(9_999)).contains(&nonce), "of a memory that is lost");
        there.renew(7);
        assert!(there.is_current(&here.mint(&JKT, at(9_999)), &JKT, at(9_999)));
    }

    #[test]
    fn a_nonce_is_accepted_in_its_slot_and_the_next_and_then_no_more() {
        let nonces = nonces(1);
        let start = 1_800_000_000; // the first second of a slot
        let nonce = nonces.mint(&JKT, at(start));
        assert_eq!(nonce.len(), 22);
        for (after, current, accepted) in
            [(0, true, true), (299, true, true), (300, false, true), (599, false, true), (600, false, false)]
        {
            let now = at(start + after);
            assert_eq!(nonces.is_current(&nonce, &JKT, now), current, "after {after} s");
            assert_eq!(nonces.accepted(&JKT, now).contains(&nonce), accepted, "after {after} s");
        }
        assert!(!nonces.accepted(&JKT, at(start - 1)).contains(&nonce), "from the future");
    }

    #[test]
    fn a_36_another_keys_another_servers_or_a_changed_nonce_is_not_accepted() {
        let now = at(1_800_000_000);
        let ours = nonces(1);
        let good = ours.mint(&JKT, now);
        assert!(!ours.accepted(&[8; 32], now).contains(&good));
        assert!(!nonces(2).accepted(&JKT, now).contains(&good));
        for wrong in ["", "x", &good.to_lowercase(), &good[1..], &format!("{good}A"), &format!("{good}=")] {
            assert!(!ours.accepted(&JKT, now).iter().any(|nonce| nonce == wrong), "{wrong}");
            assert!(!ours.is_current(wrong, &JKT, now), "{wrong}");
        }
    }

    #[test]
    fn a_slot_of_no_length_and_a_clock_before_the_epoch_are_survived() {
        let nonces = Nonces::new(&Secret::new([1; 32]), Duration::ZERO);
        let now = Timestamp::from_millis(i64::MIN);
        assert!(nonces.is_current(&nonces.mint(&JKT, now), &JKT, now));
    }

    proptest! {
        #[test]
        fn what_is_minted_is_accepted_until_its_slot_has_passed_twice(
            secs in 0i64..4_000_000_000, later in 0i64..300, jkt: [u8; 32],
        ) {
            let nonces = nonces(3);
            let nonce = nonces.mint(&jkt, at(secs));
            prop_assert!(nonces.accepted(&jkt, at(secs + later)).contains(&nonce));
            prop_assert!(!nonces.accepted(&jkt, at(secs + later + 600)).contains(&nonce));
        }
    }
}
