//! Limits counted for all nodes together, and what each node does by itself while nobody answers.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base::Secret;
use config::{Per, Rate};
use store::{LimitWant, Limited, SharedError, SharedLimits, SharedPlace};

use super::gcra::{Buckets, Full, Level, Quota};
use super::{AdmitError, Counting, Counts, MAX_KEYS, Standing, network};

/// The limits all nodes share.
#[derive(Debug, Clone)]
pub struct FleetLimits {
    limits: Arc<dyn SharedLimits>,
    key: hmac::Key,
}

impl FleetLimits {
    /// Counted by `limits`, under names made with a key all nodes have, so that nobody there can read who is counted.
    pub fn new(limits: Arc<dyn SharedLimits>, key: &Secret<[u8; 32]>) -> Self {
        Self { limits, key: hmac::Key::new(hmac::HMAC_SHA256, key.expose()) }
    }
}

/// Counts with the other nodes.
#[derive(Debug)]
pub(super) struct Fleet {
    fleet: FleetLimits,
    /// This node's share of each rate, counted only while nobody answers.
    own: Buckets,
}

/// Where tokens of a request were counted besides this node's own buckets.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// With the other nodes.
    shared: Vec<LimitWant>,
    /// In this node's part, while nobody answered.
    own: Vec<(super::Key, Quota)>,
}

impl Fleet {
    pub(super) fn new(fleet: FleetLimits) -> Self {
        Self { fleet, own: Buckets::new(MAX_KEYS) }
    }

    /// Count what this node has counted by itself for all of them too: all of it or nothing.
    pub(super) async fn take(
        &self,
        counting: &Counting<'_>,
        concurrent: bool,
        standing: &mut Standing,
    ) -> Result<Option<SharedPlace>, AdmitError> {
        // Tokens are counted once it is known how many there may be.
        let counted = |rate: &&Rate| match rate {
            _ if !counting.counts.is_for(rate) => false,
            Rate::Requests { .. } => true,
            Rate::Concurrent { .. } => concurrent,
            Rate::Tokens { .. } => false,
        };
        let rates: Vec<&Rate> = counting.permit.rates().iter().filter(counted).collect();
        if rates.is_empty() {
            return Ok(None);
        }
        let wants: Vec<LimitWant> = rates.iter().map(|rate| self.want(rate, counting, 1)).collect();
        let level = |told: &store::Standing| Level { remaining: told.remaining, reset: told.reset };
        match self.fleet.limits.take(&wants).await {
            Ok(Limited::Admitted(standings, place)) => {
                let rates = wants.iter().zip(&standings).filter(|(want, _)| want.window.is_some());
                for (line, (_, told)) in rates.enumerate() {
                    standing.change(line, level(told));
                }
                Ok(place)
            }
            Ok(Limited::Refused { which, wait, standing: told }) => {
                let before = wants.iter().take(which).filter(|want| want.window.is_some()).count();
                if wants.get(which).is_some_and(|want| want.window.is_none()) {
                    return Err(AdmitError::Concurrency);
                }
                standing.change(before, level(&told));
                Err(AdmitError::Rate(wait))
            }
            Err(_) => self.alone(&rates, counting).map(|()| None),
        }
    }

    /// Count so many tokens for all nodes too, against every rate of tokens or against none. Their lines of `standing` begin at
    /// `first`.
    pub(super) async fn take_tokens(
        &self,
        counting: &Counting<'_>,
        most: u64,
        (standing, first): (&mut Standing, usize),
    ) -> Result<Elsewhere, AdmitError> {
        let counted = |rate: &&Rate| matches!(rate, Rate::Tokens { .. }) && counting.counts.is_for(rate);
        let rates: Vec<&Rate> = counting.permit.rates().iter().filter(counted).collect();
        let wants: Vec<LimitWant> = rates.iter().map(|rate| self.want(rate, counting, most)).collect();
        let level = |told: &store::Standing| Level { remaining: told.remaining, reset: told.reset };
        match self.fleet.limits.take(&wants).await {
            Ok(Limited::Admitted(standings, _)) => {
                for (line, told) in standings.iter().enumerate() {
                    standing.change(first + line, level(told));
                }
                Ok(Elsewhere { shared: wants, own: Vec::new() })
            }
            Ok(Limited::Refused { which, wait, standing: told }) => {
                standing.change(first + which, level(&told));
                Err(AdmitError::Rate(wait))
            }
            Err(_) => {
                let mut own = Vec::new();
                for rate in rates {
                    let Rate::Tokens { tokens, per, window } = rate else { continue };
                    let quota = Quota { limit: self.part(*tokens), window: window.duration() };
                    let key = counting.key(*per).of(window.duration()).tokens();
                    if let Err(full) = self.own.take(key, quota, most, counting.now) {
                        for (key, quota) in own {
                            self.own.give_back(key, quota, most, counting.now);
                        }
                        return Err(refusal(full));
                    }
                    own.push((key, quota));
                }
                Ok(Elsewhere { shared: Vec::new(), own })
            }
        }
    }

    /// Of so many tokens that were counted so many were taken.
    pub(super) fn give_back_tokens(&self, counted: &Elsewhere, (most, taken): (u64, u64), now: u64) {
        // More than fits into an empty bucket counted as much as does.
        let back = |limit: u64| most.min(limit).saturating_sub(taken);
        for (key, quota) in &counted.own {
            self.own.give_back(*key, *quota, back(quota.limit), now);
        }
        let wants = counted.shared.iter().map(|want| LimitWant { amount: back(want.limit), ..want.clone() });
        let wants: Vec<LimitWant> = wants.filter(|want| want.amount > 0).collect();
        if !wants.is_empty() {
            self.fleet.limits.give_back(wants);
        }
    }

    /// Hold places for all nodes: all of them or none.
    pub(super) async fn hold(&self, wants: &[LimitWant]) -> Result<Limited, SharedError> {
        self.fleet.limits.take(wants).await
    }

    /// This node's part of a limit while nobody answers: nothing of nothing, else at least one.
    pub(super) fn part(&self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { (limit / self.fleet.limits.nodes().max(1)).max(1) }
    }

    /// While nobody answers: this node's part of each limit, which with the parts of the others makes the whole.
    fn alone(&self, rates: &[&Rate], counting: &Counting<'_>) -> Result<(), AdmitError> {
        let part = |limit: u32| self.part(u64::from(limit));
        let mut taken: Vec<(super::Key, Quota)> = Vec::new();
        for rate in rates {
            let outcome = match rate {
                Rate::Requests { requests, per, window } => {
                    let quota = Quota { limit: part(*requests), window: window.duration() };
                    let key = counting.key(*per).of(window.duration());
                    match self.own.take(key, quota, 1, counting.now) {
                        Ok(_) => {
                            taken.push((key, quota));
                            Ok(())
                        }
                        Err(full) => Err(refusal(full)),
                    }
                }
                // The place of this request is counted already.
                Rate::Concurrent { concurrent, per } if counting.in_progress(*per) > part(*concurrent) => {
                    Err(AdmitError::Concurrency)
                }
                Rate::Concurrent { .. } | Rate::Tokens { .. } => Ok(()),
            };
            if let Err(error) = outcome {
                for (key, quota) in taken {
                    self.own.give_back(key, quota, 1, counting.now);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn want(&self, rate: &Rate, counting: &Counting<'_>, amount: u64) -> LimitWant {
        let (limit, per, window, unit): (_, _, _, &[u8]) = match rate {
            Rate::Requests { requests, per, window } => (u64::from(*requests), *per, Some(window.duration()), b""),
            Rate::Concurrent { concurrent, per } => (u64::from(*concurrent), *per, None, b""),
            Rate::Tokens { tokens, per, window } => (*tokens, *per, Some(window.duration()), b"tokens"),
        };
        let id = self.id((counting.permit.policy().as_str(), per, window), unit, counting.counts);
        LimitWant { id, limit, window, amount }
    }

    /// What an account's places are called, the same on every node, and none of a policy's limits: those begin with its name.
    pub(super) fn place_id(&self, budget: &str, whom: &str) -> [u8; 16] {
        self.named(|add| [b"", budget.as_bytes(), whom.as_bytes()].into_iter().for_each(add))
    }

    /// A name made of parts, each with its length before it, so that no two are the same bytes.
    fn named(&self, parts: impl FnOnce(&mut dyn FnMut(&[u8]))) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.fleet.key);
        parts(&mut |part| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        });
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        id
    }

    /// The same on every node.
    fn id(&self, (policy, per, window): (&str, Per, Option<Duration>), unit: &[u8], counts: Counts<'_>) -> [u8; 16] {
        let caller = counts.caller;
        self.named(|add| {
            add(policy.as_bytes());
            add(&window.map_or(0, |window| window.as_millis()).to_be_bytes());
            let text = |text: Option<&str>| text.unwrap_or_default().as_bytes().to_vec();
            match per {
                Per::Subject => {
                    add(b"subject");
                    add(caller.issuer().as_bytes());
                    add(caller.subject().as_bytes());
                    add(&text(caller.key().map(base::Name::as_str)));
                }
                Per::Client => {
                    add(b"client");
                    add(caller.issuer().as_bytes());
                    add(&text(caller.client()));
                }
                Per::Policy => add(b"policy"),
                Per::Ip => {
                    add(b"ip");
                    add(&network(caller.ip()).to_be_bytes());
                }
                Per::Key => {
                    add(b"key");
                    add(&text(caller.key().map(base::Name::as_str)));
                }
                Per::Organisation
                | Per::Project
                | Per::Device
                | Per::Model
                | Per::Service
                | Per::Upstream
                | Per::Provider
                | Per::Tag => {
                    add(per.as_str().as_bytes());
                    add(counts.part(per).as_bytes());
                }
            }
            if !unit.is_empty() {
                add(unit);
            }
        })
    }
}

fn refusal(full: Full) -> AdmitError {
    match full {
        Full::Bucket(wait, _) => AdmitError::Rate(wait),
        Full::Table => AdmitError::Table,
    }
}
