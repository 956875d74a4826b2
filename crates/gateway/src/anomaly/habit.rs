//! What one caller does in a minute, what it did before, and whether the two have anything to do with each other.
//!
//! * Its **busiest minute** so far, in requests and in money, halves every seven days. After the time of learning a day
//!   teaches at most twice what was known at its beginning: steady growth is learned, a sudden change is not.
//! * A **network** (the first 24 bits of an IPv4 address, 48 of IPv6) or model is new for the time of learning.
//! * The **share of new networks** it usually shows: of its requests those from networks first seen within the hour, as a moving
//!   mean over some sixteen minutes in which it was active. Where new networks are the rule, they say nothing; and where little is
//!   known yet, too.

use std::net::IpAddr;

use base::Timestamp;
use config::AnomalySection;
use serde::{Deserialize, Serialize};

/// Networks and models that are remembered of one caller.
const REMEMBERED: usize = 16;
/// Days in which what is known of the busiest minute halves.
const HALF_LIFE_DAYS: f64 = 7.0;
/// By how much one minute moves the mean share of new networks.
const WEIGHT: f64 = 1.0 / 16.0;
/// Seconds after which a network is no longer one that turns up now.
const HOUR: i64 = 3600;
/// Seconds after which a known network or model makes room for a new one.
const STALE: i64 = 30 * 86_400;
/// A quarter of the factor, and a third of the floors, where the change has a strange face.
const STRANGE: (f64, f64) = (4.0, 3.0);

/// Something that is counted in requests and in money (nano-USD).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Amounts {
    pub(super) requests: f64,
    pub(super) spent: f64,
}

impl Amounts {
    fn most(self, other: Self) -> Self {
        Self { requests: self.requests.max(other.requests), spent: self.spent.max(other.spent) }
    }

    fn least(self, other: Self) -> Self {
        Self { requests: self.requests.min(other.requests), spent: self.spent.min(other.spent) }
    }

    fn times(self, factor: f64) -> Self {
        Self { requests: self.requests * factor, spent: self.spent * factor }
    }
}

/// A network or model, and when (seconds since 1970) it was seen first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seen(u64, i64, i64);

/// What a caller did before, and does now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Habit {
    /// Until when (seconds since 1970) it is only watched.
    learns_until: i64,
    /// Its busiest minute, faded.
    peak: Amounts,
    /// Which day it is, and the busiest minute as it was known when it began.
    day: (i64, Amounts),
    /// The usual share of requests from networks that turned up within the hour.
    fresh: f64,
    networks: Vec<Seen>,
    models: Vec<Seen>,
    /// When it was seen last.
    pub(super) last: i64,
    #[serde(skip)]
    now: Tally,
}

/// What it does in this minute.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Tally {
    minute: i64,
    amounts: Amounts,
    /// Of the requests, those from new networks, those from networks that turned up within the hour, those for new models.
    fresh: f64,
    newest: f64,
    strange: f64,
}

/// What a request is, as far as habits go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Act<'a> {
    pub(super) at: Timestamp,
    pub(super) ip: IpAddr,
    pub(super) model: Option<&'a str>,
}

/// How a caller is unlike itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Unlike {
    /// Whether it is far more than ever.
    pub(super) far: bool,
    /// Whether most of it comes from networks it was never seen in.
    pub(super) elsewhere: bool,
    /// Whether most of it is for models it never asked for.
    pub(super) new_models: bool,
    /// What it did in this minute, and in its busiest so far.
    pub(super) now: Amounts,
    pub(super) usual: Amounts,
}

impl Habit {
    /// Of a caller that was never seen before.
    pub(super) fn new(at: Timestamp, rules: &AnomalySection) -> Self {
        Self {
            learns_until: at.plus(rules.learn.duration()).as_secs(),
            peak: Amounts::default(),
            day: (at.as_secs() / 86_400, Amounts::default()),
            fresh: 1.0,
            networks: Vec::new(),
            models: Vec::new(),
            last: at.as_secs(),
            now: Tally::default(),
        }
    }

    /// Learn anew for a while: somebody says that what it does is its own.
    pub(super) fn relearn(&mut self, until: Timestamp) {
        self.learns_until = self.learns_until.max(until.as_secs());
    }

    /// What another node knows of the same caller counts too.
    pub(super) fn merge(&mut self, other: &Self) {
        self.learns_until = self.learns_until.min(other.learns_until);
        self.peak = self.peak.most(other.peak);
        self.day.1 = self.day.1.most(other.day.1);
        self.fresh = self.fresh.min(other.fresh);
        for seen in &other.networks {
            insert(&mut self.networks, *seen);
        }
        for seen in &other.models {
            insert(&mut self.models, *seen);
        }
    }

    /// How many requests it has made in this minute.
    pub(super) fn requests(&mut self, at: Timestamp, rules: &AnomalySection) -> f64 {
        self.turn(at, rules);
        self.now.amounts.requests
    }

    /// It makes a request.
    pub(super) fn asks(&mut self, act: &Act<'_>, rules: &AnomalySection) {
        self.turn(act.at, rules);
        let (at, learn) = (act.at.as_secs(), seconds(rules));
        self.last = at;
        self.now.amounts.requests += 1.0;
        let known_for = note(&mut self.networks, network(act.ip), (at, learn));
        if known_for < learn {
            self.now.fresh += 1.0;
        }
        if known_for < HOUR {
            self.now.newest += 1.0;
        }
        if act.model.is_some_and(|model| note(&mut self.models, name(model), (at, learn)) < learn) {
            self.now.strange += 1.0;
        }
    }

    /// It has spent so many nano-USD.
    pub(super) fn spends(&mut self, nano: i64, at: Timestamp, rules: &AnomalySection) {
        self.turn(at, rules);
        #[allow(clippy::cast_precision_loss)] // a few nano-USD among millions of dollars do not matter
        let nano = nano.max(0) as f64;
        self.now.amounts.spent += nano;
    }

    /// Whether it is quite unlike itself in this minute.
    pub(super) fn unlike(&self, at: Timestamp, rules: &AnomalySection) -> Option<Unlike> {
        if at.as_secs() < self.learns_until || self.now.amounts.requests < 1.0 {
            return None;
        }
        let (now, usual) = (self.now.amounts, self.peak);
        let most = |part: f64| part * 2.0 >= now.requests;
        let elsewhere = most(self.now.fresh) && self.fresh < 0.25;
        let new_models = most(self.now.strange) && !self.models.is_empty();
        let surges = |factor: f64, third: f64| {
            let over = |now: f64, usual: f64, floor: f64| now >= floor / third && now >= usual * factor;
            over(now.requests, usual.requests, f64::from(rules.requests)) || over(now.spent, usual.spent, floor(rules))
        };
        let factor = f64::from(rules.factor);
        let far = surges(factor, 1.0);
        let strange = (elsewhere || new_models) && surges((factor / STRANGE.0).max(2.0), STRANGE.1);
        (far || strange).then_some(Unlike {
            far,
            elsewhere: elsewhere && strange,
            new_models: new_models && strange,
            now,
            usual,
        })
    }

    /// How many requests a minute it may make while it is throttled: twice what it did in its busiest.
    pub(super) fn ceiling(&self, rules: &AnomalySection) -> u64 {
        let most = (self.peak.requests * 2.0).max(f64::from(rules.requests) / STRANGE.1).min(1e9);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it is between 1 and 1e9
        let most = most.ceil() as u64;
        most.max(1)
    }

    /// The minute that is over becomes part of what was before.
    fn turn(&mut self, at: Timestamp, rules: &AnomalySection) {
        let minute = at.as_secs().div_euclid(60);
        if minute == self.now.minute {
            return;
        }
        let Tally { minute: then, amounts, newest, .. } =
            std::mem::replace(&mut self.now, Tally { minute, ..Tally::default() });
        #[allow(clippy::cast_precision_loss)] // minutes
        let days = (minute - if then == 0 { self.last.div_euclid(60) } else { then }).max(0) as f64 / 1440.0;
        let learns = then.saturating_mul(60) < self.learns_until;
        if amounts.requests > 0.0 {
            self.fresh += (newest / amounts.requests - self.fresh) * WEIGHT;
        }
        let floors = Amounts { requests: f64::from(rules.requests), spent: floor(rules) }.times(1.0 / STRANGE.1);
        let taught = if learns { amounts } else { amounts.least(self.day.1.times(2.0).most(floors)) };
        self.peak = self.peak.most(taught).times(0.5_f64.powf(days / HALF_LIFE_DAYS));
        let today = minute.div_euclid(1440);
        if today != self.day.0 {
            self.day = (today, self.peak);
        } else if learns {
            self.day.1 = self.day.1.most(self.peak);
        }
    }
}

fn floor(rules: &AnomalySection) -> f64 {
    #[allow(clippy::cast_precision_loss)] // money of one minute
    let floor = rules.spend.nano_usd() as f64;
    floor
}

fn seconds(rules: &AnomalySection) -> i64 {
    i64::try_from(rules.learn.duration().as_secs()).unwrap_or(i64::MAX)
}

/// Note that something was seen. For how many seconds it has been known.
fn note(list: &mut Vec<Seen>, what: u64, (at, learn): (i64, i64)) -> i64 {
    if let Some(seen) = list.iter_mut().find(|seen| seen.0 == what) {
        seen.2 = at;
        return at.saturating_sub(seen.1);
    }
    if list.len() >= REMEMBERED {
        // What is new makes room for what is newer; what is known stays, unless it was not seen for long.
        let goes = |seen: &Seen| (at - seen.1 < learn || at - seen.2 > STALE).then_some(seen.2);
        let oldest = list.iter().enumerate().filter_map(|(index, seen)| Some((goes(seen)?, index))).min();
        let Some((_, index)) = oldest else { return 0 };
        list.swap_remove(index);
    }
    list.push(Seen(what, at, at));
    0
}

fn insert(list: &mut Vec<Seen>, other: Seen) {
    if let Some(seen) = list.iter_mut().find(|seen| seen.0 == other.0) {
        *seen = Seen(seen.0, seen.1.min(other.1), seen.2.max(other.2));
    } else if list.len() < REMEMBERED {
        list.push(other);
    }
}

/// The network of an address: the first 24 bits, or 48 of IPv6, which nobody is told apart by.
fn network(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(u32::from(ip) >> 8),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => u64::from(u32::from(ip) >> 8),
            None => u64::try_from(u128::from(ip) >> 80).unwrap_or(0) | 1 << 63,
        },
    }
}

/// FNV-1a: the same after a restart.
fn name(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
