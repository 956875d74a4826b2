//! How often an address has failed: verifying signatures costs, so an address gets only so many that turn out wrong.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many wrong signatures an address may bring in a minute: some 0.1 s of work at the most.
pub(crate) const MOST: u32 = 1000;
/// How many proofs that fail may come for one key from one address.
const MOST_PROOFS: u32 = 100;
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses counted at once. Beyond, further ones are not counted: they are many, and each still has its connections
/// bounded.
const MOST_COUNTED: usize = 16_384;

/// Failures per address, in minutes that begin with the first one.
#[derive(Debug)]
pub(crate) struct Failures {
    counts: Mutex<HashMap<u64, Count>>,
    /// How many are counted, to be asked without the lock: most of the time nobody fails.
    counted: AtomicUsize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    failures: u32,
}

impl Failures {
    pub(crate) fn new() -> Self {
        Self { counts: Mutex::default(), counted: AtomicUsize::new(0), hasher: RandomState::new() }
    }

    /// How long this address must wait before another signature of its is verified; nothing if it need not.
    pub(crate) fn wait(&self, ip: IpAddr, now: Instant) -> Option<Duration> {
        self.wait_of(&network(ip), MOST, now)
    }

    /// An address brought a signature that is wrong.
    pub(crate) fn count(&self, ip: IpAddr, now: Instant) {
        self.count_of(&network(ip), now);
    }

    /// The same for proofs by one key, so that whoever stole a token does not stop others at the same address.
    pub(crate) fn proof_wait(&self, ip: IpAddr, jkt: &[u8; 32], now: Instant) -> Option<Duration> {
        self.wait_of(&(network(ip), jkt), MOST_PROOFS, now)
    }

    /// An address brought a proof by this key that is wrong.
    pub(crate) fn proof_count(&self, ip: IpAddr, jkt: &[u8; 32], now: Instant) {
        self.count_of(&(network(ip), jkt), now);
    }

    fn wait_of(&self, whom: &impl Hash, most: u32, now: Instant) -> Option<Duration> {
        if self.counted.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&self.hasher.hash_one(whom))?;
        let left = WINDOW.checked_sub(now.saturating_duration_since(count.since)).filter(|left| !left.is_zero())?;
        (count.failures >= most).then_some(left)
    }

    fn count_of(&self, whom: &impl Hash, now: Instant) {
        let whom = self.hasher.hash_one(whom);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MOST_COUNTED && !counts.contains_key(&whom) {
            counts.retain(|_, count| now.saturating_duration_since(count.since) < WINDOW);
            if counts.len() >= MOST_COUNTED {
                return;
            }
        }
        let count = counts.entry(whom).or_insert(Count { since: now, failures: 0 });
        if now.saturating_duration_since(count.since) >= WINDOW {
            *count = Count { since: now, failures: 0 };
        }
        count.failures = count.failures.saturating_add(1);
        self.counted.store(counts.len(), Ordering::Relaxed);
    }
}

/// What counts as one address: an IPv4 address, or the /64 an IPv6 host moves freely in.
fn network(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip) >> 64 | 1 << 127,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Clock, FakeClock, Timestamp};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn an_address_that_keeps_failing_waits_until_its_minute_is_over_and_others_do_not() {
        let clock = FakeClock::at(Timestamp::from_secs(0));
        let failures = Failures::new();
        let (bad, now) = (ip("2001:db8::1"), clock.monotonic());
        for _ in 0..MOST {
            assert_eq!(failures.wait(bad, now), None);
            failures.count(bad, now);
        }
        assert_eq!(failures.wait(bad, now), Some(WINDOW));
        assert_eq!(failures.wait(ip("2001:db8::2"), now), Some(WINDOW), "the same host");
        assert_eq!(failures.wait(ip("2001:db8:0:1::1"), now), None);
        assert_eq!(failures.wait(ip("203.0.113.1"), now), None);
        assert_eq!(failures.wait(bad, now + WINDOW), None);
        failures.count(bad, now + WINDOW);
        assert_eq!(failures.wait(bad, now + WINDOW), None, "a new minute has begun");
    }

    #[test]
    fn proofs_that_fail_are_counted_for_their_key_alone() {
        let clock = FakeClock::at(Timestamp::from_secs(0));
        let failures = Failures::new();
        let (at, now) = (ip("203.0.113.1"), clock.monotonic());
        for _ in 0..MOST_PROOFS {
            failures.proof_count(at, &[1; 32], now);
        }
        assert_eq!(failures.proof_wait(at, &[1; 32], now), Some(WINDOW));
        assert_eq!(failures.proof_wait(at, &[2; 32], now), None);
        assert_eq!(failures.proof_wait(ip("203.0.113.2"), &[1; 32], now), None);
        assert_eq!(failures.wait(at, now), None);
    }

    #[test]
    fn addresses_beyond_the_bound_are_not_counted_until_there_is_room() {
        let clock = FakeClock::at(Timestamp::from_secs(0));
        let failures = Failures::new();
        let now = clock.monotonic();
        for n in 0..u32::try_from(MOST_COUNTED).expect("number") + 10 {
            failures.count(IpAddr::V4(n.into()), now);
        }
        assert_eq!(failures.counted.load(Ordering::Relaxed), MOST_COUNTED);
        failures.count(ip("203.0.113.1"), now + WINDOW);
        assert_eq!(failures.counted.load(Ordering::Relaxed), 1);
    }
}
