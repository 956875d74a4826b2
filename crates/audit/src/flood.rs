//! How much anybody can make the log write without having been let in: so many failures an address, and so many in all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An address gets so many entries in a minute;
const MOST: u32 = 20;
/// all of them together so many.
const MOST_OF_ALL: u32 = 600;
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are counted at once; further ones share one count.
const COUNTED: usize = 4096;

/// Counts of one minute.
#[derive(Debug)]
pub(crate) struct Flood {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    all: u32,
    omitted: u64,
    addresses: HashMap<u128, (u32, u32)>,
}

/// What is to be done with a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether it is written.
    pub(crate) write: bool,
    /// How many failures of a minute that is over were left out: to be written too.
    pub(crate) omitted: u64,
}

impl Flood {
    pub(crate) fn new(now: Instant) -> Self {
        Self { state: Mutex::new(State { since: now, all: 0, omitted: 0, addresses: HashMap::new() }) }
    }

    /// Another failure from this address.
    pub(crate) fn count(&self, ip: IpAddr, now: Instant) -> Verdict {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let omitted = state.turn(now);
        let key = network(ip);
        let room = state.addresses.len() < COUNTED || state.addresses.contains_key(&key);
        let (written, _) = state.addresses.entry(if room { key } else { 0 }).or_default();
        let write = *written < MOST;
        *written += u32::from(write);
        let write = write && state.all < MOST_OF_ALL;
        state.all += u32::from(write);
        state.omitted += u64::from(!write);
        Verdict { write, omitted }
    }

    /// How many failures of a minute that is over were left out, if that has not been said yet.
    pub(crate) fn omitted(&self, now: Instant) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).turn(now)
    }
}

impl State {
    fn turn(&mut self, now: Instant) -> u64 {
        if now.saturating_duration_since(self.since) < WINDOW {
            return 0;
        }
        (self.since, self.all) = (now, 0);
        self.addresses.clear();
        std::mem::take(&mut self.omitted)
    }
}

/// What counts as one address: an IPv4 address, or the /64 an IPv6 host moves freely in. Never 0.
fn network(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) | 1 << 126,
        IpAddr::V6(ip) => u128::from(ip) >> 64 | 1 << 127,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Clock, SystemClock};

    #[test]
    fn an_address_writes_so_much_and_what_is_left_out_is_counted() {
        let start = SystemClock.monotonic();
        let flood = Flood::new(start);
        let written = |ip: [u8; 4], times| (0..times).filter(|_| flood.count(ip.into(), start).write).count();
        assert_eq!(written([10, 0, 0, 1], 50), 20);
        assert_eq!(written([10, 0, 0, 2], 5), 5, "others are not stopped by it");
        let later = start + WINDOW;
        assert_eq!(flood.count([10, 0, 0, 1].into(), later), Verdict { write: true, omitted: 30 });
        assert_eq!(flood.omitted(later + WINDOW), 0);
    }

    #[test]
    fn many_addresses_write_no_more_than_so_much_together() {
        let start = SystemClock.monotonic();
        let flood = Flood::new(start);
        let from = |n: u32| IpAddr::from(n.to_be_bytes());
        let written = (0..10_000).filter(|n| flood.count(from(*n), start).write).count();
        assert_eq!(written, 600);
        assert_eq!(flood.omitted(start + WINDOW), 9_400);
        // One IPv6 host has more addresses than anybody can count.
        let host = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, n, n, n, n]);
        let written = (0..100).filter(|n| flood.count(host(*n), start + WINDOW).write).count();
        assert_eq!(written, 20);
    }
}
