//! Reserve before anything is spent: request rates and requests in progress, all of a policy's limits or none.

mod apart;
mod gcra;
mod places;
mod provider;
mod shared;
mod slots;
mod standing;

use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Per, Rate};
use http::StatusCode;
use policy::Permit;
use store::SharedPlace;

pub(crate) use self::apart::{Apart, Counts};
use self::gcra::{Buckets, Full, Quota};
pub(crate) use self::places::{PlaceWant, Places};
pub(crate) use self::provider::{Asked, limits_providers};
pub use self::shared::FleetLimits;
use self::shared::{Elsewhere, Fleet};
use self::slots::{Slot, Slots};
use self::standing::Counted;
pub(crate) use self::standing::Standing;
use crate::authenticate::Caller;

/// How many keys are counted at once: some 6 MB.
const MAX_KEYS: usize = 65_536;

/// When to come back if a slot was not free: nobody can know, so soon.
const SLOT_WAIT: Duration = Duration::from_secs(1);

/// What is counted separately: a keyed 128-bit hash of policy and whom it counts, and the limit's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u128);

impl Key {
    /// The same for a limit of tokens: it never meets one of requests.
    fn tokens(self) -> Self {
        Self(!self.0)
    }

    /// The same for a limit with this window. Windows of one key never meet; those of two do as seldom as their hashes.
    fn of(self, window: Duration) -> Self {
        Self(self.0.wrapping_add(window.as_millis() << 64))
    }
}

/// Keys are keyed hashes already: a table takes them as they are.
type AsItIs = BuildHasherDefault<Taken>;

#[derive(Debug, Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn write_u128(&mut self, key: u128) {
        // Tables are chosen by the lowest bits, so that within one these are the same.
        self.0 = u64::try_from(key >> 64).unwrap_or(0);
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not reached by a key.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The counters behind every limit. They outlive reloads.
#[derive(Debug)]
pub(crate) struct Limiter {
    buckets: Buckets,
    slots: Arc<Slots>,
    hashers: (RandomState, RandomState),
    origin: Instant,
    /// Counts for all nodes, where there are several.
    fleet: Option<Fleet>,
}

/// A request that is being counted.
struct Counting<'a> {
    limiter: &'a Limiter,
    permit: &'a Permit,
    counts: Counts<'a>,
    /// In nanoseconds since the start.
    now: u64,
}

/// What has been counted of it by this node.
#[derive(Default)]
struct TakenHere {
    slots: Vec<Slot>,
    rates: Vec<(Key, Quota)>,
}

impl Counting<'_> {
    fn key(&self, per: Per) -> Key {
        self.limiter.key(self.permit, self.counts, per)
    }

    fn in_progress(&self, per: Per) -> u64 {
        self.limiter.slots.count(self.key(per))
    }
}

/// Why a permitted request is not admitted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdmitError {
    /// A rate is used up.
    #[error("Too many requests: the limit of this policy is reached.")]
    Rate(Duration),
    /// Too many are in progress.
    #[error("Too many requests at once: wait until one has been answered.")]
    Concurrency,
    /// There is no room to count another caller.
    #[error("Too many callers are being counted; try again later.")]
    Table,
}

impl AdmitError {
    /// A stable code: the error body's and the metric's.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Rate(_) | Self::Concurrency => "rate_limited",
            Self::Table => "overloaded",
        }
    }

    pub(crate) fn problem(self) -> base::Problem {
        let busy = StatusCode::TOO_MANY_REQUESTS;
        match self {
            Self::Rate(wait) => base::Problem::client(busy, self.reason(), self.to_string()).retry_after(wait),
            Self::Concurrency => base::Problem::client(busy, self.reason(), self.to_string()).retry_after(SLOT_WAIT),
            Self::Table => base::Problem::us(StatusCode::SERVICE_UNAVAILABLE, self.reason(), self.to_string())
                .retry_after(SLOT_WAIT),
        }
    }
}

/// Leave to go on, within the rates of a policy. Only the limiter makes one, from a [`Permit`]; its places are free again when
/// the last of it is dropped.
///
/// ```
/// fn admitted(admitted: &gateway::Admitted) -> &gateway::Permit {
///     admitted.permit()
/// }
/// ```
///
/// ```compile_fail,E0451
/// fn admit(permit: gateway::Permit) -> gateway::Admitted {
///     gateway::Admitted { permit, apart: None, _slots: None, _place: None }
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "what is admitted holds its places only while it lives"]
pub struct Admitted {
    permit: Permit,
    apart: Option<Arc<Apart>>,
    _slots: Option<Arc<Vec<Slot>>>,
    _place: Option<Arc<SharedPlace>>,
}

impl Admitted {
    /// The same for a copy of the request, whose answer nobody hears: of the same permit, with nobody's places.
    pub(crate) fn mirrored(&self) -> Self {
        Self { permit: self.permit.clone(), apart: self.apart.clone(), _slots: None, _place: None }
    }

    /// What it counts for besides its caller.
    pub(crate) fn apart(&self) -> Option<&Apart> {
        self.apart.as_deref()
    }

    /// What allowed it.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }
}

/// Tokens that have been counted for a request before it is known how many it takes.
#[derive(Debug)]
pub(crate) struct CountedTokens {
    amount: u64,
    buckets: Vec<(Key, Quota)>,
    /// Where they were counted besides.
    elsewhere: Elsewhere,
}

impl Limiter {
    /// No counts, from `origin` on.
    pub(crate) fn new(origin: Instant, fleet: Option<FleetLimits>) -> Self {
        let hashers = (RandomState::new(), RandomState::new());
        let (buckets, slots) = (Buckets::new(MAX_KEYS), Slots::new());
        Self { buckets, slots, hashers, origin, fleet: fleet.map(Fleet::new) }
    }

    /// Count the request against every limit of its permit, or against none. `standing` says afterwards how its caller stands with
    /// them.
    pub(crate) async fn admit(
        &self,
        permit: Permit,
        (caller, apart): (&Caller, Option<Arc<Apart>>),
        now: Instant,
        standing: &mut Standing,
    ) -> Result<Admitted, AdmitError> {
        let counts = Counts::new(caller, apart.as_deref());
        let (slots, place) = self.take(&permit, counts, (now, true), standing).await?;
        Ok(Admitted {
            permit,
            apart,
            _slots: (!slots.is_empty()).then(|| Arc::new(slots)),
            _place: place.map(Arc::new),
        })
    }

    /// Count another request within one that is in progress already: a session's, for each answer it asks for.
    pub(crate) async fn again(&self, permit: &Permit, counts: Counts<'_>, now: Instant) -> Result<(), AdmitError> {
        self.take(permit, counts, (now, false), &mut Standing::default()).await.map(drop)
    }

    /// By itself first, which costs nothing and spares the others who is over a limit here already; then with the others.
    async fn take(
        &self,
        permit: &Permit,
        counts: Counts<'_>,
        (now, concurrent): (Instant, bool),
        standing: &mut Standing,
    ) -> Result<(Vec<Slot>, Option<SharedPlace>), AdmitError> {
        let now = self.nanos(now);
        let counted = self.take_here(permit, counts, (now, concurrent), standing)?;
        let Some(fleet) = &self.fleet else { return Ok((counted.slots, None)) };
        let counting = Counting { limiter: self, permit, counts, now };
        match fleet.take(&counting, concurrent, standing).await {
            Ok(place) => Ok((counted.slots, place)),
            Err(error) => {
                for (key, quota) in counted.rates {
                    self.buckets.give_back(key, quota, 1, now);
                }
                Err(error)
            }
        }
    }

    fn take_here(
        &self,
        permit: &Permit,
        counts: Counts<'_>,
        (now, concurrent): (u64, bool),
        standing: &mut Standing,
    ) -> Result<TakenHere, AdmitError> {
        let mut slots = Vec::new();
        let mut taken = Vec::new();
        let mut whom: Option<(Per, Key)> = None;
        let mut key = |per: Per| match whom {
            Some((last, key)) if last == per => key,
            _ => whom.insert((per, self.key(permit, counts, per))).1,
        };
        for rate in permit.rates().iter().filter(|rate| counts.is_for(rate)) {
            let outcome = match rate {
                Rate::Requests { requests, per, window } => {
                    let key = key(*per).of(window.duration());
                    let quota = Quota { limit: u64::from(*requests), window: window.duration() };
                    let mut told = |level| standing.add(Counted::Requests, *per, quota, level);
                    match self.buckets.take(key, quota, 1, now) {
                        Ok(level) => {
                            told(level);
                            taken.push((key, quota));
                            Ok(())
                        }
                        Err(Full::Bucket(wait, level)) => {
                            told(level);
                            Err(AdmitError::Rate(wait))
                        }
                        Err(Full::Table) => Err(AdmitError::Table),
                    }
                }
                // Counted once it is known how many there may be.
                Rate::Tokens { .. } => Ok(()),
                Rate::Concurrent { .. } if !concurrent => Ok(()),
                Rate::Concurrent { concurrent, per } => {
                    let slot = self.slots.take(key(*per), u64::from(*concurrent));
                    slot.map(|slot| slots.push(slot)).ok_or(AdmitError::Concurrency)
                }
            };
            if let Err(error) = outcome {
                for (key, quota) in taken {
                    self.buckets.give_back(key, quota, 1, now);
                }
                return Err(error);
            }
        }
        Ok(TakenHere { slots, rates: taken })
    }

    /// Count `most` tokens against every rate of tokens, or against none. `None`: there is none.
    pub(crate) async fn count_tokens(
        &self,
        permit: &Permit,
        counts: Counts<'_>,
        (now, most): (Instant, u64),
        standing: &mut Standing,
    ) -> Result<Option<CountedTokens>, AdmitError> {
        let now = self.nanos(now);
        let first = standing.lines();
        let Some(mut counted) = self.count_tokens_here(permit, counts, (now, most), standing)? else { return Ok(None) };
        let Some(fleet) = &self.fleet else { return Ok(Some(counted)) };
        let counting = Counting { limiter: self, permit, counts, now };
        match fleet.take_tokens(&counting, most, (standing, first)).await {
            Ok(elsewhere) => {
                counted.elsewhere = elsewhere;
                Ok(Some(counted))
            }
            Err(error) => {
                counted.buckets.iter().for_each(|(key, quota)| self.buckets.give_back(*key, *quota, most, now));
                Err(error)
            }
        }
    }

    fn count_tokens_here(
        &self,
        permit: &Permit,
        counts: Counts<'_>,
        (now, most): (u64, u64),
        standing: &mut Standing,
    ) -> Result<Option<CountedTokens>, AdmitError> {
        let mut counted = CountedTokens { amount: most, buckets: Vec::new(), elsewhere: Elsewhere::default() };
        for rate in permit.rates().iter().filter(|rate| counts.is_for(rate)) {
            let Rate::Tokens { tokens, per, window } = rate else { continue };
            let key = self.key(permit, counts, *per).of(window.duration()).tokens();
            let quota = Quota { limit: *tokens, window: window.duration() };
            let (level, error) = match self.buckets.take(key, quota, most, now) {
                Ok(level) => {
                    counted.buckets.push((key, quota));
                    (Some(level), None)
                }
                Err(Full::Bucket(wait, level)) => (Some(level), Some(AdmitError::Rate(wait))),
                Err(Full::Table) => (None, Some(AdmitError::Table)),
            };
            if let Some(level) = level {
                standing.add(Counted::Tokens, *per, quota, level);
            }
            if let Some(error) = error {
                counted.buckets.iter().for_each(|(key, quota)| self.buckets.give_back(*key, *quota, most, now));
                return Err(error);
            }
        }
        Ok((!counted.buckets.is_empty()).then_some(counted))
    }

    /// So many of them were taken.
    pub(crate) fn settle_tokens(&self, counted: &CountedTokens, taken: u64, now: Instant) {
        let now = self.nanos(now);
        for (key, quota) in &counted.buckets {
            // More than fits into an empty bucket counted as much as does.
            let back = counted.amount.min(quota.limit).saturating_sub(taken);
            self.buckets.give_back(*key, *quota, back, now);
        }
        if let Some(fleet) = &self.fleet {
            fleet.give_back_tokens(&counted.elsewhere, (counted.amount, taken), now);
        }
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    fn key(&self, permit: &Permit, counts: Counts<'_>, per: Per) -> Key {
        let (policy, caller) = (permit.policy().as_str(), counts.caller);
        let hash = |state: &RandomState| match per {
            Per::Subject => state.hash_one((policy, 0u8, caller.issuer(), caller.subject(), caller.key())),
            Per::Client => state.hash_one((policy, 1u8, caller.issuer(), caller.client())),
            Per::Policy => state.hash_one((policy, 2u8)),
            Per::Ip => state.hash_one((policy, 3u8, network(caller.ip()))),
            Per::Key => state.hash_one((policy, 4u8, caller.key())),
            Per::Organisation
            | Per::Project
            | Per::Device
            | Per::Model
            | Per::Service
            | Per::Upstream
            | Per::Provider
            | Per::Tag => state.hash_one((policy, 5u8, per, counts.part(per))),
        };
        self.hashed(hash)
    }

    /// A keyed hash of 128 bits.
    fn hashed(&self, hash: impl Fn(&RandomState) -> u64) -> Key {
        let (first, second) = &self.hashers;
        Key(u128::from(hash(first)) << 64 | u128::from(hash(second)))
    }
}

/// What counts as one address: an IPv4 address, or the /64 an IPv6 host moves freely in.
fn network(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip) >> 64 | 1 << 127,
    }
}
