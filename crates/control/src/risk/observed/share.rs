//! What nodes tell each other of what they see: numbers under keyed hashes, and a hash of where an installation is. Whoever asks for
//! a token is agreed on at once; what is seen of requests is told in the background, a bounded number at a time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base::{Name, Secret};
use store::{Sighting, Sightings};

use super::{Installation, Network, Observer, Seen, Tally, What};

/// How long a request for a token waits for it at most.
const WAIT: Duration = Duration::from_millis(100);
/// So many installations are told of at a time,
const AT_A_TIME: usize = 64;
/// and so many wait for it at most: of more it is told when they ask for a token.
const WAITING: usize = 8192;

/// The other nodes.
pub struct Fleet {
    others: Arc<dyn Sightings>,
    key: hmac::Key,
    waiting: Mutex<VecDeque<String>>,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("others", &self.others).finish_non_exhaustive()
    }
}

impl Fleet {
    /// Nodes that share this. `key`, the same for all of them, hides who is counted.
    pub fn new(others: Arc<dyn Sightings>, key: &Secret<[u8; 32]>) -> Self {
        Self { others, key: hmac::Key::new(hmac::HMAC_SHA256, key.expose()), waiting: Mutex::default() }
    }

    /// Put one on the list of those that are told of; whether there was room.
    pub(super) fn to_tell(&self, instance: &str) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let room = waiting.len() < WAITING;
        if room {
            waiting.push_back(instance.to_owned());
        }
        room
    }

    fn hash<const N: usize>(&self, parts: &[&str]) -> [u8; N] {
        let tag = hmac::sign(&self.key, parts.join("\0").as_bytes());
        tag.as_ref().first_chunk().copied().unwrap_or([0; N])
    }

    fn sighting(&self, (what, of, whom): (&str, &str, &str), add: u32, place: Option<Network>) -> Sighting {
        let place = place.map(|network| self.hash(&["place", &format!("{network:?}")]));
        Sighting { id: self.hash(&[what, of, whom]), add, place }
    }

    /// Tell, and hear how many there are together; nothing where nobody answers in time.
    async fn tell(&self, some: &[Sighting]) -> Option<Vec<u32>> {
        match tokio::time::timeout(WAIT, self.others.share(some)).await {
            Ok(Ok(totals)) if totals.len() == some.len() => Some(totals),
            Ok(Err(reason)) => {
                tracing::debug!(reason, "what is observed is not shared");
                None
            }
            _ => None,
        }
    }
}

impl What {
    const ALL: [Self; 6] = [Self::Asked, Self::Requests, Self::Rented, Self::OtherStack, Self::MovesV4, Self::MovesV6];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Requests => "requests",
            Self::Rented => "rented",
            Self::OtherStack => "other_stack",
            Self::MovesV4 => "moves_v4",
            Self::MovesV6 => "moves_v6",
        }
    }
}

/// What is told of one installation.
struct Telling {
    instance: String,
    tallies: Vec<(What, u32)>,
    sightings: Vec<Sighting>,
}

impl Observer {
    /// Count together with other nodes from now on.
    pub fn share_with(&self, fleet: Fleet) {
        if self.fleet.set(fleet).is_err() {
            tracing::error!("who shares what is observed is known already");
        }
    }

    /// Tell the other nodes what was seen since the last time, of a bounded number of installations.
    pub async fn tell_others(&self, now: Instant) {
        let Some(fleet) = self.fleet.get() else { return };
        let some: Vec<String> = {
            let mut waiting = fleet.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let count = waiting.len().min(AT_A_TIME);
            waiting.drain(..count).collect()
        };
        let tellings: Vec<Telling> =
            some.into_iter().filter_map(|instance| self.telling(fleet, instance, now, false)).collect();
        let all: Vec<Sighting> = tellings.iter().flat_map(|telling| telling.sightings.iter().copied()).collect();
        if all.is_empty() {
            return;
        }
        let mut totals = fleet.tell(&all).await.map(Vec::into_iter);
        for telling in tellings {
            self.agreed(&telling, totals.as_mut(), now);
        }
    }

    pub(super) async fn agree_on(&self, seen: Seen<'_>, now: Instant) {
        let Some(fleet) = self.fleet.get() else { return };
        let Some(telling) = self.telling(fleet, seen.instance.to_owned(), now, true) else { return };
        let mut totals = fleet.tell(&telling.sightings).await.map(Vec::into_iter);
        let elsewhere = self.agreed(&telling, totals.as_mut(), now);
        if let Some(known) = self.part(seen.instance).map.get_mut(seen.instance) {
            known.moved |= elsewhere;
        }
    }

    /// What others are to be told of an installation: all of it, or what is new.
    fn telling(&self, fleet: &Fleet, instance: String, now: Instant, all: bool) -> Option<Telling> {
        let mut part = self.part(&instance);
        let known: &mut Installation = part.map.get_mut(&instance)?;
        // It is on the list still where it was not taken from there.
        known.waiting &= all;
        let (mut tallies, mut sightings) = (Vec::new(), Vec::new());
        for what in What::ALL {
            let place = match what {
                What::MovesV4 => known.v4.network,
                What::MovesV6 => known.v6.network,
                _ => None,
            };
            let told = known.tally(what).tell(now);
            if all || told > 0 || place.is_some() {
                tallies.push((what, told));
                // A change of place is counted by whoever compares where it was last.
                let add = if place.is_some() { 0 } else { told };
                sightings.push(fleet.sighting((what.as_str(), "", &instance), add, place));
            }
        }
        Some(Telling { instance, tallies, sightings })
    }

    /// Take what all count together, or back what they could not be told; whether it was elsewhere, as far as the others know.
    fn agreed(&self, telling: &Telling, mut totals: Option<&mut impl Iterator<Item = u32>>, now: Instant) -> bool {
        let mut part = self.part(&telling.instance);
        let mut known = part.map.get_mut(&telling.instance);
        let mut elsewhere = false;
        for (what, told) in &telling.tallies {
            let total = totals.as_mut().and_then(Iterator::next);
            let Some(tally) = known.as_mut().map(|known| known.tally(*what)) else { continue };
            match total {
                Some(total) => {
                    elsewhere |= matches!(what, What::MovesV4 | What::MovesV6) && total > tally.count(now);
                    tally.agreed(total, now);
                }
                None => tally.untold(*told),
            }
        }
        elsewhere
    }

    pub(super) async fn agree_on_enrolment(&self, app: &Name, network: Network, now: Instant) {
        let Some(fleet) = self.fleet.get() else { return };
        let told = self.enrolment_tallies(app, network, |tally, _| tally.tell(now));
        let names = ["enrol", "attempts", "unsupported"];
        let whom = format!("{network:?}");
        let sightings: Vec<Sighting> = names
            .iter()
            .zip(&told)
            .map(|(what, add)| {
                fleet.sighting((what, app.as_str(), if *what == "enrol" { &whom } else { "" }), *add, None)
            })
            .collect();
        let totals = fleet.tell(&sightings).await;
        self.enrolment_tallies(app, network, |tally, index| {
            match totals.as_ref().and_then(|totals| totals.get(index)) {
                Some(total) => tally.agreed(*total, now),
                None => tally.untold(told.get(index).copied().unwrap_or_default()),
            }
            0
        });
    }

    fn enrolment_tallies(&self, app: &Name, network: Network, each: impl Fn(&mut Tally, usize) -> u32) -> [u32; 3] {
        let mut seen = self.enrolments.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = seen.networks.map.get_mut(&(app.clone(), network)).map_or(0, |tally| each(tally, 0));
        let Some(share) = seen.apps.get_mut(app) else { return [rate, 0, 0] };
        [rate, each(&mut share.attempts, 1), each(&mut share.unsupported, 2)]
    }
}
