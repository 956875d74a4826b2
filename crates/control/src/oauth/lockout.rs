//! How often one address may try the token endpoint, and when a client's name is closed to it.
//!
//! Two bounded tables in memory: attempts per address prefix in a fixed window, and failures per
//! (client name, address prefix). Names are kept as hashes, so an attacker's input takes no more room than anyone's.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How strict the token endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Requests one address prefix may make in a minute.
    pub per_minute: u32,
    /// Failures for one client name from one address prefix that close it.
    pub failures: u32,
    /// How long failures count, and how long a closed name stays closed.
    pub lockout: Duration,
    /// Entries each table holds at most.
    pub entries: usize,
}

impl Default for AttemptLimits {
    fn default() -> Self {
        Self { per_minute: 300, failures: 5, lockout: Duration::from_mins(15), entries: 50_000 }
    }
}

/// Counts attempts. Whoever fails too often is refused before any secret is looked at.
#[derive(Debug)]
pub struct Attempts {
    limits: AttemptLimits,
    hasher: RandomState,
    requests: Mutex<Table>,
    failures: Mutex<Table>,
}

/// Too many attempts: when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyAttempts {
    /// Time until the next attempt is looked at.
    pub retry_after: Duration,
}

const MINUTE: Duration = Duration::from_mins(1);

impl Attempts {
    /// No attempts yet.
    pub fn new(limits: AttemptLimits) -> Self {
        Self {
            limits,
            hasher: RandomState::new(),
            requests: Mutex::new(Table::default()),
            failures: Mutex::new(Table::default()),
        }
    }

    /// Count one request from `address` for `client`. Known and unknown names are treated alike.
    pub fn admit(&self, client: &str, address: IpAddr, now: Instant) -> Result<(), TooManyAttempts> {
        let requests = self.hasher.hash_one(prefix(address));
        let count = lock(&self.requests).add(requests, now, MINUTE, self.limits.entries);
        if count.of > self.limits.per_minute {
            return Err(TooManyAttempts { retry_after: count.left });
        }
        let failures = self.hasher.hash_one((client, prefix(address)));
        let count = lock(&self.failures).get(failures, now, self.limits.lockout);
        if count.of >= self.limits.failures {
            return Err(TooManyAttempts { retry_after: count.left });
        }
        Ok(())
    }

    /// The attempt was wrong.
    pub fn failed(&self, client: &str, address: IpAddr, now: Instant) {
        let key = self.hasher.hash_one((client, prefix(address)));
        lock(&self.failures).add(key, now, self.limits.lockout, self.limits.entries);
    }

    /// The attempt was right: earlier failures are forgotten.
    pub fn succeeded(&self, client: &str, address: IpAddr) {
        let key = self.hasher.hash_one((client, prefix(address)));
        lock(&self.failures).windows.remove(&key);
    }
}

/// Whom an address stands for: an IPv4 address, or the /64 that one IPv6 customer has.
fn prefix(address: IpAddr) -> impl Hash {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6) & !u128::from(u64::MAX),
    }
}

fn lock(table: &Mutex<Table>) -> std::sync::MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fixed windows that start at the first count.
#[derive(Debug, Default)]
struct Table {
    windows: HashMap<u64, Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    count: u32,
}

struct Count {
    of: u32,
    left: Duration,
}

impl Table {
    fn get(&self, key: u64, now: Instant, length: Duration) -> Count {
        match self.windows.get(&key) {
            Some(window) if now.duration_since(window.since) < length => {
                Count { of: window.count, left: length.saturating_sub(now.duration_since(window.since)) }
            }
            _ => Count { of: 0, left: length },
        }
    }

    fn add(&mut self, key: u64, now: Instant, length: Duration, entries: usize) -> Count {
        if !self.windows.contains_key(&key) && self.windows.len() >= entries {
            self.make_room(now, length);
        }
        let window = self.windows.entry(key).or_insert(Window { since: now, count: 0 });
        if now.duration_since(window.since) >= length {
            *window = Window { since: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        self.get(key, now, length)
    }

    /// Drop what has expired; if nothing has, the older half. A flood large enough for that has to come
    /// from tens of thousands of address prefixes, and what it could gain is guesses at a 256-bit secret.
    fn make_room(&mut self, now: Instant, length: Duration) {
        let before = self.windows.len();
        self.windows.retain(|_, window| now.duration_since(window.since) < length);
        if self.windows.len() == before {
            let mut starts: Vec<Instant> = self.windows.values().map(|w| w.since).collect();
            starts.sort_unstable();
            let middle = starts.get(starts.len() / 2).copied().unwrap_or(now);
            let mut spare = before / 2;
            self.windows.retain(|_, window| {
                let keep = window.since > middle || (window.since == middle && spare > 0);
                spare -= usize::from(keep && window.since == middle);
                keep
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Clock, FakeClock, Timestamp};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn clock() -> FakeClock {
        FakeClock::at(Timestamp::from_secs(1_000_000))
    }

    #[test]
    fn five_failures_close_a_name_to_one_address_for_a_quarter_of_an_hour() {
        let (attempts, clock) = (Attempts::new(AttemptLimits::default()), clock());
        for _ in 0..5 {
            attempts.admit("batch", ip("192.0.2.1"), clock.monotonic()).unwrap();
            attempts.failed("batch", ip("192.0.2.1"), clock.monotonic());
        }
        let closed = attempts.admit("batch", ip("192.0.2.1"), clock.monotonic()).unwrap_err();
        assert_eq!(closed.retry_after, Duration::from_mins(15));
        assert!(attempts.admit("other", ip("192.0.2.1"), clock.monotonic()).is_ok());
        assert!(attempts.admit("batch", ip("192.0.2.2"), clock.monotonic()).is_ok());
        clock.advance(Duration::from_secs(899));
        assert!(attempts.admit("batch", ip("192.0.2.1"), clock.monotonic()).is_err());
        clock.advance(Duration::from_secs(1));
        assert!(attempts.admit("batch", ip("192.0.2.1"), clock.monotonic()).is_ok());
    }

    #[test]
    fn a_success_forgets_failures() {
        let (attempts, clock) = (Attempts::new(AttemptLimits::default()), clock());
        for _ in 0..20 {
            for _ in 0..4 {
                attempts.failed("batch", ip("192.0.2.1"), clock.monotonic());
            }
            attempts.admit("batch", ip("192.0.2.1"), clock.monotonic()).unwrap();
            attempts.succeeded("batch", ip("192.0.2.1"));
        }
    }

    #[test]
    fn one_ipv6_customer_counts_as_one_and_mapped_addresses_as_ipv4() {
        let (attempts, clock) = (Attempts::new(AttemptLimits::default()), clock());
        for last in 0..5 {
            attempts.failed("batch", ip(&format!("2001:db8::{last}")), clock.monotonic());
            attempts.failed("batch", ip("::ffff:192.0.2.1"), clock.monotonic());
        }
        assert!(attempts.admit("batch", ip("2001:db8::ffff"), clock.monotonic()).is_err());
        assert!(attempts.admit("batch", ip("2001:db8:0:1::1"), clock.monotonic()).is_ok());
        assert!(attempts.admit("batch", ip("192.0.2.1"), clock.monotonic()).is_err());
    }

    #[test]
    fn requests_per_address_are_limited_whatever_client_they_name() {
        let limits = AttemptLimits { per_minute: 3, ..AttemptLimits::default() };
        let (attempts, clock) = (Attempts::new(limits), clock());
        for name in ["a", "b", "c"] {
            attempts.admit(name, ip("192.0.2.1"), clock.monotonic()).unwrap();
        }
        assert!(attempts.admit("d", ip("192.0.2.1"), clock.monotonic()).is_err());
        clock.advance(MINUTE);
        assert!(attempts.admit("d", ip("192.0.2.1"), clock.monotonic()).is_ok());
    }

    #[test]
    fn a_flood_of_names_does_not_grow_memory() {
        let limits = AttemptLimits { entries: 100, per_minute: u32::MAX, ..AttemptLimits::default() };
        let (attempts, clock) = (Attempts::new(limits), clock());
        for i in 0..10_000 {
            attempts.failed(&format!("name{i}"), ip("192.0.2.1"), clock.monotonic());
            if i % 7 == 0 {
                clock.advance(Duration::from_millis(1));
            }
        }
        assert!(lock(&attempts.failures).windows.len() <= 100);
    }
}
