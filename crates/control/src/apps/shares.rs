//! What everybody may have together in a minute, and how much of it one network: so that nobody takes it all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Window;
use crate::risk::Network;

/// How many there may be in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Most {
    /// Of all together.
    pub(super) all: u32,
    /// Of one network: a /24 of IPv4 or a /48 of IPv6.
    pub(super) each: u32,
}

impl Most {
    /// So many in all, a tenth of them for one network. Of few, one network may have five: a share must let somebody in.
    pub(super) const fn tenth(all: u32) -> Self {
        let each = if all / 10 < 5 { 5 } else { all / 10 };
        Self { all, each }
    }
}

/// How many there were in a minute, by network. There are never more networks than were let in.
#[derive(Debug, Default)]
pub(super) struct Shares {
    all: Window,
    /// Of all, those of networks that had some before; only where they are admitted evenly.
    again: Window,
    networks: HashMap<Network, Window>,
}

impl Shares {
    /// One more from there; whether it is let in. Otherwise when to come again. Who is not let in takes nothing from others.
    pub(super) fn admit(&mut self, from: IpAddr, most: Most, now: Instant) -> Result<(), Duration> {
        if self.all.is_over(now) {
            self.networks.clear();
        }
        let network = Network::of(from);
        let mut own = self.networks.get(&network).copied().unwrap_or_default();
        own.admit(most.each, now)?;
        self.all.admit(most.all, now)?;
        self.networks.insert(network, own);
        Ok(())
    }
}

impl Shares {
    /// The same, but half of all is for networks that had nothing yet in this minute: a few that have much take nothing from
    /// many that have little.
    pub(super) fn admit_evenly(&mut self, from: IpAddr, most: Most, now: Instant) -> Result<(), Duration> {
        if self.all.is_over(now) {
            (self.all, self.again) = (Window::default(), Window::default());
            self.networks.clear();
        }
        let network = Network::of(from);
        let mut again = self.again;
        if self.networks.contains_key(&network) {
            again.admit(most.all / 2, now)?;
        }
        self.admit(from, most, now)?;
        self.again = again;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base::{Clock, SystemClock};

    use super::*;

    #[test]
    fn one_network_takes_a_tenth_and_all_together_so_many() {
        let (now, most) = (SystemClock.monotonic(), Most::tenth(100));
        let mut shares = Shares::default();
        let admitted = |shares: &mut Shares, from: [u8; 4], now| shares.admit(from.into(), most, now).is_ok();
        assert_eq!((0..200).filter(|n| admitted(&mut shares, [192, 0, 2, *n], now)).count(), 10);
        assert_eq!((0..200).filter(|n| admitted(&mut shares, [198, 51, *n, 1], now)).count(), 90);
        assert_eq!(shares.networks.len(), 91, "who is turned away is not remembered");
        assert!(!admitted(&mut shares, [203, 0, 113, 1], now));
        let later = now + Duration::from_mins(1);
        assert!(admitted(&mut shares, [192, 0, 2, 1], later));
        assert_eq!(shares.networks.len(), 1);
        let host = |n: u16| IpAddr::from([0x2001, 0xdb8, 7, n, n, n, n, n]);
        assert_eq!((0..100).filter(|n| shares.admit(host(*n), most, later).is_ok()).count(), 10);
    }

    #[test]
    fn networks_that_have_much_leave_half_to_those_that_have_nothing() {
        let (now, most) = (SystemClock.monotonic(), Most::tenth(100));
        let mut shares = Shares::default();
        let admitted = |shares: &mut Shares, from: [u8; 4], now| shares.admit_evenly(from.into(), most, now).is_ok();
        let flood = |shares: &mut Shares, now| {
            (0..20u8)
                .map(|net| (0..200).filter(|_| admitted(shares, [198, 51, net, 1], now)).count())
                .collect::<Vec<_>>()
        };
        let had = flood(&mut shares, now);
        assert_eq!(had.iter().sum::<usize>(), 50 + 20, "{had:?}");
        assert_eq!((100..200u8).filter(|net| admitted(&mut shares, [203, 0, *net, 1], now)).count(), 30);
        // Each minute anew, also where it began with others.
        let later = now + Duration::from_mins(1);
        assert!(admitted(&mut shares, [203, 0, 1, 1], later));
        assert_eq!(flood(&mut shares, later).iter().sum::<usize>(), 50 + 20);
    }

    #[test]
    fn a_small_minute_still_lets_somebody_in() {
        assert_eq!(Most::tenth(1), Most { all: 1, each: 5 });
        assert_eq!(Most::tenth(600), Most { all: 600, each: 60 });
    }
}
