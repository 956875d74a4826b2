//! Limits counted for all nodes together, and what each node does by itself while nobody answers.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base::Secret;
use config::{Per, Rate};
use policy::Permit;
use store::{LimitWant, Limited, SharedLimits, SharedPlace};

use super::gcra::{Buckets, Full, Level, Quota};
use super::{AdmitError, Counting, MAX_KEYS, Standing, network};
use crate::authenticate::Caller;

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

impl Fleet {
    pub(super) fn new(fleet: FleetLimits) -> Self {
        Self { fleet, own: Buckets::new(MAX_KEYS) }
    }

    /// Count what this node has counted by itself for all of them too: all of it or nothing.
    pub(super) async fn take(
        &self,
        (permit, caller): (&Permit, &Caller),
        counting: &Counting<'_>,
        concurrent: bool,
        standing: &mut Standing,
    ) -> Result<Option<SharedPlace>, AdmitError> {
        // Tokens each node counts by itself.
        let counted = |rate: &&Rate| match rate {
            Rate::Requests { .. } => true,
            Rate::Concurrent { .. } => concurrent,
            Rate::Tokens { .. } => false,
        };
        let rates: Vec<&Rate> = permit.rates().iter().filter(counted).collect();
        if rates.is_empty() {
            return Ok(None);
        }
        let wants: Vec<LimitWant> = rates.iter().filter_map(|rate| self.want(rate, permit, caller)).collect();
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

    /// While nobody answers: this node's part of each limit, which with the parts of the others makes the whole.
    fn alone(&self, rates: &[&Rate], counting: &Counting<'_>) -> Result<(), AdmitError> {
        let nodes = self.fleet.limits.nodes().max(1);
        let part = |limit: u32| if limit == 0 { 0 } else { (u64::from(limit) / nodes).max(1) };
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
                        Err(Full::Bucket(wait, _)) => Err(AdmitError::Rate(wait)),
                        Err(Full::Table) => Err(AdmitError::Table),
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

    fn want(&self, rate: &Rate, permit: &Permit, caller: &Caller) -> Option<LimitWant> {
        let (limit, per, window) = match rate {
            Rate::Requests { requests, per, window } => (*requests, *per, Some(window.duration())),
            Rate::Concurrent { concurrent, per } => (*concurrent, *per, None),
            Rate::Tokens { .. } => return None,
        };
        let id = self.id((permit.policy().as_str(), per, window), caller);
        Some(LimitWant { id, limit: u64::from(limit), window, amount: 1 })
    }

    /// The same on every node. Each part with its length before it, so that no two are the same bytes.
    fn id(&self, (policy, per, window): (&str, Per, Option<Duration>), caller: &Caller) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.fleet.key);
        let mut add = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
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
        }
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        id
    }
}
