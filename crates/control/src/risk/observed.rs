//! What is seen in the traffic of installations: flags that nobody has to say. Kept in memory for an hour at most and for so
//! many at most: what there is no room for is not observed. Nodes tell each other what they count ([`share`]).

mod share;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use base::Name;
use proof::attest::{Flag, FlagValue};

pub use share::Fleet;
use tally::Tally;

/// So many networks are watched at once, and so many installations in each of the parts.
const MOST_NETWORKS: usize = 65_536;
const MOST_IN_A_PART: usize = 4096;
/// Installations are kept in so many parts, so that requests at once seldom wait for each other.
const PARTS: usize = 16;
/// An installation that changes its network so often in an hour is in too many places.
const JUMPS: u32 = 5;
/// More often than this a change is not counted: connections of two networks overlap when a device changes over.
const MOVE: Duration = Duration::from_mins(1);
/// Where there is no room, what is over is looked for so often at most: it is a look at all of them.
const SWEEP: Duration = Duration::from_mins(1);
/// Of so few attempts to enrol no share is told.
const FEW: u32 = 20;

/// What is seen of installations.
#[derive(Debug, Default)]
pub struct Observer {
    enrolments: Mutex<Enrolments>,
    /// By their ids, which are drawn: no two apps or tenants have the same.
    installations: [Mutex<Bounded<String, Installation>>; PARTS],
    fleet: OnceLock<Fleet>,
}

#[derive(Debug, Default)]
struct Enrolments {
    networks: Bounded<(Name, Network), Tally>,
    apps: HashMap<Name, Share>,
}

#[derive(Debug, Default)]
struct Share {
    attempts: Tally,
    unsupported: Tally,
}

/// A /24 of IPv4 or a /48 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4([u8; 3]),
    V6([u16; 3]),
}

impl Network {
    pub(crate) fn of(address: IpAddr) -> Self {
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

/// Where an installation is, in one family of addresses: a device that has both uses them by turns.
#[derive(Debug, Default)]
struct Place {
    network: Option<Network>,
    moved_at: Option<Instant>,
    moves: Tally,
}

impl Place {
    /// It is seen there; whether that is elsewhere.
    fn seen(&mut self, network: Network, now: Instant) -> bool {
        let before = self.network.replace(network);
        if before.is_none_or(|before| before == network) {
            return false;
        }
        if self.moved_at.is_none_or(|at| now.saturating_duration_since(at) >= MOVE) {
            self.moved_at = Some(now);
            self.moves.add(now);
        }
        true
    }
}

/// What is seen of an installation.
#[derive(Debug, Default)]
struct Installation {
    /// Tokens it asked for,
    asked: Tally,
    /// requests it made with them,
    requests: Tally,
    /// those from machines that are rented out, of each network one,
    rented: Tally,
    /// and those by another TLS stack than it enrolled with.
    other_stack: Tally,
    v4: Place,
    v6: Place,
    /// Whether it was seen elsewhere since its last token.
    moved: bool,
    /// Whether others wait to be told something.
    waiting: bool,
}

impl Installation {
    fn is_over(&self, now: Instant) -> bool {
        let tallies = [&self.asked, &self.requests, &self.rented, &self.other_stack, &self.v4.moves, &self.v6.moves];
        tallies.into_iter().all(|tally| tally.is_over(now))
    }

    fn tally(&mut self, what: What) -> &mut Tally {
        match what {
            What::Asked => &mut self.asked,
            What::Requests => &mut self.requests,
            What::Rented => &mut self.rented,
            What::OtherStack => &mut self.other_stack,
            What::MovesV4 => &mut self.v4.moves,
            What::MovesV6 => &mut self.v6.moves,
        }
    }

    fn place(&mut self, network: Network) -> &mut Place {
        match network {
            Network::V4(_) => &mut self.v4,
            Network::V6(_) => &mut self.v6,
        }
    }

    fn flags(&mut self, now: Instant) -> Vec<Flag> {
        let mut flags: Vec<Flag> = number("device_rate", self.asked.count(now)).into_iter().collect();
        let requests = self.requests.count(now);
        flags.extend(number("request_rate", requests).filter(|_| requests > 0));
        let so = [
            ("ip_mismatch", std::mem::take(&mut self.moved)),
            ("geo_jump", self.v4.moves.count(now).saturating_add(self.v6.moves.count(now)) >= JUMPS),
            ("ip_datacenter", self.rented.count(now) > 0),
            ("tls_fingerprint_changed", self.other_stack.count(now) > 0),
        ];
        flags.extend(so.into_iter().filter(|(_, so)| *so).filter_map(|(name, _)| set(name)));
        flags
    }
}

/// What is counted of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Asked,
    Requests,
    Rented,
    OtherStack,
    MovesV4,
    MovesV6,
}

/// A request of an installation.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The installation.
    pub instance: &'a str,
    /// Where it comes from.
    pub address: IpAddr,
    /// Whether its TLS stack is another than the one it enrolled with.
    pub other_stack: bool,
}

impl Observer {
    /// What is seen of an installation that enrols: how many do from its network, and which share of its app's has no hardware
    /// to attest with.
    pub(crate) async fn enrolment(&self, app: &Name, address: IpAddr, unsupported: bool, now: Instant) -> Vec<Flag> {
        let network = Network::of(address);
        self.count_enrolment(app, network, unsupported, now);
        self.agree_on_enrolment(app, network, now).await;
        let seen = self.enrolments.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = seen.networks.map.get(&(app.clone(), network)).map(|tally| tally.count(now));
        let mut flags: Vec<Flag> = rate.and_then(|rate| number("enrol_rate", rate)).into_iter().collect();
        if let Some(share) = seen.apps.get(app) {
            let (attempts, unsupported) = (share.attempts.count(now), share.unsupported.count(now));
            if attempts >= FEW {
                flags.extend(number("unsupported_share", unsupported.saturating_mul(100) / attempts));
            }
        }
        flags
    }

    fn count_enrolment(&self, app: &Name, network: Network, unsupported: bool, now: Instant) {
        let mut seen = self.enrolments.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |tally: &Tally| tally.is_over(now);
        if let Some(tally) = seen.networks.place((app.clone(), network), (MOST_NETWORKS, now), over) {
            tally.add(now);
        }
        // There are never more than apps.
        let share = seen.apps.entry(app.clone()).or_default();
        share.attempts.add(now);
        if unsupported {
            share.unsupported.add(now);
        }
    }

    /// What is seen of one that asks for its next token: how often it does, and what was seen of its requests since.
    pub(crate) async fn refresh(&self, seen: Seen<'_>, rented: bool, now: Instant) -> Vec<Flag> {
        self.note(seen, now, What::Asked, |_| rented);
        self.agree_on(seen, now).await;
        let mut part = self.part(seen.instance);
        part.map.get_mut(seen.instance).map(|known| known.flags(now)).unwrap_or_default()
    }

    /// A request to any other endpoint. `rented` is asked only where it comes from a network it did not come from before.
    pub fn saw(&self, seen: Seen<'_>, rented: impl FnOnce(IpAddr) -> bool, now: Instant) {
        self.note(seen, now, What::Requests, rented);
    }

    fn note(&self, seen: Seen<'_>, now: Instant, what: What, rented: impl FnOnce(IpAddr) -> bool) {
        let network = Network::of(seen.address);
        let mut part = self.part(seen.instance);
        if !part.map.contains_key(seen.instance) {
            let over = |one: &Installation| one.is_over(now);
            if part.place(seen.instance.to_owned(), (MOST_IN_A_PART, now), over).is_none() {
                return;
            }
        }
        let Some(known) = part.map.get_mut(seen.instance) else { return };
        known.tally(what).add(now);
        let place = known.place(network);
        let anew = place.network != Some(network);
        let moved = place.seen(network, now);
        known.moved |= moved;
        if anew && rented(seen.address) {
            known.rented.add(now);
        }
        if seen.other_stack {
            known.other_stack.add(now);
        }
        if let (false, Some(fleet)) = (known.waiting, self.fleet.get()) {
            known.waiting = fleet.to_tell(seen.instance);
        }
    }

    fn part(&self, instance: &str) -> std::sync::MutexGuard<'_, Bounded<String, Installation>> {
        let sum = instance.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let [first, ..] = &self.installations;
        let part = self.installations.get(sum % PARTS).unwrap_or(first);
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So much and no more.
#[derive(Debug)]
struct Bounded<K, V> {
    map: HashMap<K, V>,
    swept_at: Option<Instant>,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), swept_at: None }
    }
}

impl<K: Eq + Hash, V: Default> Bounded<K, V> {
    /// The place of a key; where there is no room even without what is over, none.
    fn place(&mut self, key: K, (most, now): (usize, Instant), over: impl Fn(&V) -> bool) -> Option<&mut V> {
        if self.map.len() >= most && !self.map.contains_key(&key) {
            if self.swept_at.is_some_and(|at| now.saturating_duration_since(at) < SWEEP) {
                return None;
            }
            self.swept_at = Some(now);
            self.map.retain(|_, value| !over(value));
            if self.map.len() >= most {
                return None;
            }
        }
        Some(self.map.entry(key).or_default())
    }
}

fn number(name: &str, value: u32) -> Option<Flag> {
    Flag::new(name, FlagValue::Number(i64::from(value)))
}

pub(crate) fn set(name: &str) -> Option<Flag> {
    Flag::new(name, FlagValue::Set(true))
}
