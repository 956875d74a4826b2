//! What is seen in the traffic of installations: flags that nobody has to say. Kept in memory, by this node alone, for an hour
//! at most and for so many at most: what there is no room for is not observed.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::Name;
use proof::attest::{Flag, FlagValue};

/// So many networks, and so many installations, are watched at once.
const MOST: usize = 65_536;
/// How long things count.
const WINDOW: Duration = Duration::from_hours(1);
/// An installation that changes its network so often in that time is in too many places.
const JUMPS: u32 = 5;
/// Of so few attempts to enrol no share is told.
const FEW: u32 = 20;

/// What is seen of installations.
#[derive(Debug, Default)]
pub(super) struct Observer(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    networks: HashMap<(Name, Network), Count>,
    installations: HashMap<(Name, String), Installation>,
    apps: HashMap<Name, Share>,
}

/// A /24 of IPv4 or a /48 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Network {
    V4([u8; 3]),
    V6([u16; 3]),
}

impl Network {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, ..] = v6.segments();
                Self::V6([a, b, c])
            }
        }
    }
}

/// How many there were since a moment.
#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    count: u32,
}

impl Count {
    const fn begin(now: Instant) -> Self {
        Self { since: now, count: 0 }
    }

    fn add(&mut self, now: Instant) -> u32 {
        if self.is_over(now) {
            *self = Self::begin(now);
        }
        self.count = self.count.saturating_add(1);
        self.count
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

#[derive(Debug)]
struct Installation {
    asked: Count,
    network: Network,
    jumps: Count,
}

#[derive(Debug)]
struct Share {
    attempts: Count,
    unsupported: u32,
}

impl Observer {
    /// What is seen of an installation that enrols: how many do from its network, and which share of its app's has no hardware
    /// to attest with.
    pub(super) fn enrolment(&self, app: &Name, address: IpAddr, unsupported: bool, now: Instant) -> Vec<Flag> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut flags = Vec::new();
        let network = (app.clone(), Network::of(address));
        if let Some(count) = place(&mut seen.networks, network, |count| count.is_over(now), || Count::begin(now)) {
            flags.extend(number("enrol_rate", count.add(now)));
        }
        let begin = || Share { attempts: Count::begin(now), unsupported: 0 };
        if let Some(share) = place(&mut seen.apps, app.clone(), |share| share.attempts.is_over(now), begin) {
            let attempts = share.attempts.add(now);
            if attempts == 1 {
                share.unsupported = 0;
            }
            share.unsupported = share.unsupported.saturating_add(u32::from(unsupported));
            if attempts >= FEW {
                flags.extend(number("unsupported_share", share.unsupported.saturating_mul(100) / attempts));
            }
        }
        flags
    }

    /// What is seen of one that asks for its next token: how often it does, and whether it comes from elsewhere.
    pub(super) fn refresh(&self, app: &Name, jkt: &str, address: IpAddr, now: Instant) -> Vec<Flag> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let network = Network::of(address);
        let over = |one: &Installation| one.asked.is_over(now) && one.jumps.is_over(now);
        let begin = || Installation { asked: Count::begin(now), network, jumps: Count::begin(now) };
        let key = (app.clone(), jkt.to_owned());
        let Some(known) = place(&mut seen.installations, key, over, begin) else { return Vec::new() };
        let mut flags: Vec<Flag> = number("device_rate", known.asked.add(now)).into_iter().collect();
        if known.network != network {
            known.network = network;
            flags.extend(set("ip_mismatch"));
            known.jumps.add(now);
        }
        if known.jumps.count >= JUMPS && !known.jumps.is_over(now) {
            flags.extend(set("geo_jump"));
        }
        flags
    }
}

/// The place of a key; where there is no room even without what is over, none.
fn place<K: Eq + Hash, V>(
    map: &mut HashMap<K, V>,
    key: K,
    over: impl Fn(&V) -> bool,
    begin: impl FnOnce() -> V,
) -> Option<&mut V> {
    if map.len() >= MOST && !map.contains_key(&key) {
        map.retain(|_, value| !over(value));
        if map.len() >= MOST {
            return None;
        }
    }
    Some(map.entry(key).or_insert_with(begin))
}

fn number(name: &str, value: u32) -> Option<Flag> {
    Flag::new(name, FlagValue::Number(i64::from(value)))
}

pub(super) fn set(name: &str) -> Option<Flag> {
    Flag::new(name, FlagValue::Set(true))
}

#[cfg(test)]
mod tests {
    use base::{Clock, SystemClock};

    use super::*;

    fn said(flags: &[Flag]) -> Vec<String> {
        let value = |flag: &Flag| match flag.value() {
            FlagValue::Number(number) => number.to_string(),
            _ => "set".to_owned(),
        };
        flags.iter().map(|flag| format!("{} {}", flag.name(), value(flag))).collect()
    }

    #[test]
    fn enrolments_are_counted_by_network_and_app() {
        let (observer, now, app) = (Observer::default(), SystemClock.monotonic(), Name::new("chat").unwrap());
        let enrol =
            |address: &str, unsupported, at| said(&observer.enrolment(&app, address.parse().unwrap(), unsupported, at));
        assert_eq!(enrol("192.0.2.1", false, now), ["enrol_rate 1"]);
        assert_eq!(enrol("192.0.2.200", false, now), ["enrol_rate 2"]);
        assert_eq!(enrol("::ffff:192.0.2.7", false, now), ["enrol_rate 3"]);
        assert_eq!(enrol("192.0.3.1", false, now), ["enrol_rate 1"]);
        assert_eq!(enrol("2001:db8:1::1", false, now), ["enrol_rate 1"]);
        for _ in 0..14 {
            enrol("2001:db8:1:9::1", true, now);
        }
        assert_eq!(enrol("2001:db8:1::1", true, now), ["enrol_rate 16", "unsupported_share 75"]);
        assert_eq!(enrol("192.0.2.1", false, now + WINDOW), ["enrol_rate 1"], "an hour later");
    }

    #[test]
    fn an_installation_in_too_many_places_is_seen() {
        let (observer, now, app) = (Observer::default(), SystemClock.monotonic(), Name::new("chat").unwrap());
        let refresh = |address: &str, at| said(&observer.refresh(&app, "k", address.parse().unwrap(), at));
        assert_eq!(refresh("192.0.2.1", now), ["device_rate 1"]);
        assert_eq!(refresh("192.0.2.9", now), ["device_rate 2"]);
        assert_eq!(refresh("198.51.100.1", now), ["device_rate 3", "ip_mismatch set"]);
        for _ in 0..2 {
            refresh("192.0.2.1", now);
            refresh("198.51.100.1", now);
        }
        assert_eq!(refresh("198.51.100.1", now), ["device_rate 8", "geo_jump set"]);
        assert_eq!(refresh("198.51.100.1", now + WINDOW), ["device_rate 1"]);
    }

    #[test]
    fn there_is_room_for_so_many_and_for_others_when_those_are_over() {
        let (observer, now, app) = (Observer::default(), SystemClock.monotonic(), Name::new("chat").unwrap());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for n in 0..MOST {
            observer.refresh(&app, &n.to_string(), address, now);
        }
        assert_eq!(observer.refresh(&app, "one more", address, now), []);
        assert_eq!(said(&observer.refresh(&app, "0", address, now)), ["device_rate 2"]);
        assert_eq!(said(&observer.refresh(&app, "one more", address, now + WINDOW)), ["device_rate 1"]);
    }
}
