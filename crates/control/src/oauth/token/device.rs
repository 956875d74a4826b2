//! The device code grant (RFC 8628 sections 3.4 and 3.5): the device asks until somebody has decided.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use store::GrantKind;

use super::super::pending::{Decision, DeviceGrant};
use super::super::request::unavailable;
use super::super::{Oauth, OauthError};
use super::Applicant;
use crate::operations::{CodeHash, MintedToken, Redeemed};

/// How long a device waits between two requests, unless it was told to slow down (RFC 8628 section 3.2).
pub(in crate::oauth) const INTERVAL: Duration = Duration::from_secs(5);

/// How many devices are watched at a time; beyond it those that have waited longest are not.
const WATCHED: usize = 10_000;

impl Oauth {
    pub(super) async fn redeem_device_code(&self, applicant: Applicant<'_>) -> Result<MintedToken, OauthError> {
        let text = applicant.need("device_code", "device_code is missing")?;
        let operations = self.operations();
        let kept = operations.grant_get::<DeviceGrant>(GrantKind::Device, text).await;
        let Some(kept) = kept.map_err(|error| unavailable(&error))? else {
            return match self.take_device_code(text).await? {
                Redeemed::Expired => Err(OauthError::ExpiredToken),
                _ => Err(OauthError::InvalidGrant),
            };
        };
        if kept.used || kept.body.client != applicant.client.name {
            return Err(OauthError::InvalidGrant);
        }
        if kept.body.dpop_jkt.is_some() && kept.body.dpop_jkt != applicant.holder.map(super::Holder::jkt_text) {
            tracing::warn!(target: "audit", reason = "wrong_dpop_key", "device code refused");
            return Err(OauthError::InvalidGrant);
        }
        match kept.body.decision {
            Decision::Waiting => {
                let now = operations.clock().monotonic();
                return Err(match self.polls.poll(kept.hash, now) {
                    Pace::Right => OauthError::AuthorizationPending,
                    Pace::TooFast => OauthError::SlowDown,
                });
            }
            Decision::Denied => {
                // Said once; then there is no such code.
                let deleted = operations.store().grants(GrantKind::Device).delete(kept.hash).await;
                deleted.map_err(|error| unavailable(&error.into()))?;
                return Err(OauthError::AccessDenied);
            }
            Decision::Approved { .. } => {}
        }
        match self.take_device_code(text).await? {
            Redeemed::First(DeviceGrant { scopes, decision: Decision::Approved { person }, .. }) => {
                self.issue_for_person(applicant, &person, &scopes, None).await
            }
            _ => Err(OauthError::InvalidGrant),
        }
    }

    async fn take_device_code(&self, text: &str) -> Result<Redeemed<DeviceGrant>, OauthError> {
        let taken = self.operations().grant_take(GrantKind::Device, text).await;
        taken.map_err(|error| unavailable(&error))
    }
}

/// When each waiting device asked last. In memory: a restart forgives.
#[derive(Debug, Default)]
pub(in crate::oauth) struct Polls(Mutex<HashMap<CodeHash, Poll>>);

#[derive(Debug, Clone, Copy)]
struct Poll {
    last: Instant,
    interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Right,
    TooFast,
}

impl Polls {
    /// A device asks. Each time it does so too early it has to wait five seconds longer from then on.
    fn poll(&self, device: CodeHash, now: Instant) -> Pace {
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if polls.len() >= WATCHED && !polls.contains_key(&device) {
            let mut last: Vec<Instant> = polls.values().map(|poll| poll.last).collect();
            last.sort_unstable();
            let middle = last.get(last.len() / 2).copied().unwrap_or(now);
            polls.retain(|_, poll| poll.last > middle);
        }
        let Some(poll) = polls.get_mut(&device) else {
            polls.insert(device, Poll { last: now, interval: INTERVAL });
            return Pace::Right;
        };
        let waited = now.saturating_duration_since(poll.last);
        poll.last = now;
        if waited >= poll.interval {
            return Pace::Right;
        }
        poll.interval = poll.interval.saturating_add(INTERVAL);
        Pace::TooFast
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Clock, FakeClock, Timestamp};

    #[test]
    fn a_device_that_asks_too_often_waits_longer_each_time() {
        let (polls, clock) = (Polls::default(), FakeClock::at(Timestamp::from_secs(1)));
        let ask = |after: u64, device: u8| {
            clock.advance(Duration::from_secs(after));
            polls.poll([device; 32], clock.monotonic())
        };
        assert_eq!((ask(0, 1), ask(0, 2)), (Pace::Right, Pace::Right));
        assert_eq!((ask(5, 1), ask(0, 2)), (Pace::Right, Pace::Right));
        assert_eq!((ask(4, 1), ask(9, 1), ask(15, 1)), (Pace::TooFast, Pace::TooFast, Pace::Right));
    }

    #[test]
    fn a_flood_of_devices_does_not_grow_memory() {
        let (polls, clock) = (Polls::default(), FakeClock::at(Timestamp::from_secs(1)));
        for i in 0..3 * u32::try_from(WATCHED).unwrap() {
            let mut device = [0; 32];
            device[..4].copy_from_slice(&i.to_be_bytes());
            clock.advance(Duration::from_millis(1));
            polls.poll(device, clock.monotonic());
        }
        assert!(polls.0.lock().unwrap().len() <= WATCHED);
    }
}
