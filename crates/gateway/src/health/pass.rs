//! Leave to call a provider now, with one of its keys; and what the call shows of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use http::{HeaderMap, StatusCode};
use net::{BodyError, BodyWatch};

use super::line::{Bounds, Line, NoPlace, Place, Spare};
use super::slots::{anyway, choose};
use super::{Care, Key, KeySlot, Position, Probe, Said, TargetState, millis, said};

/// Leave to make one call. What the call shows is told to it; what nobody tells says nothing.
#[derive(Debug, Clone)]
pub(crate) struct Pass(Arc<Observed>);

#[derive(Debug)]
struct Observed {
    care: Arc<Care>,
    key: Arc<Key>,
    /// The value of the key that the call is to be made with.
    slot: Arc<KeySlot>,
    model: Arc<str>,
    target: Option<Arc<TargetState>>,
    streamed: bool,
    most: Option<u32>,
    /// What it shows is nobody's, and it gives way to everybody.
    aside: bool,
    begun: AtomicU64,
    /// Whether it waits for no place any more.
    entered: AtomicBool,
    /// Places among the calls at once, until the answer is over.
    places: Mutex<Vec<Place>>,
    spares: Mutex<Vec<Spare>>,
    probes: Mutex<Probes>,
    /// Whether it has been said that the provider answers.
    answered: AtomicBool,
    failed: AtomicBool,
}

#[derive(Debug, Default)]
struct Probes {
    key: Option<Probe>,
    accepted: Option<Probe>,
    target: Option<Probe>,
}

/// What a failed call concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The provider, as this key reaches it.
    Provider,
    /// Only the model asked for.
    Model,
}

/// Why a call may not be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) why: Why,
    /// When to ask again, in milliseconds.
    pub(crate) wait: u64,
}

/// What stands in the way of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Calls failed of late.
    Open,
    /// The quota is used up.
    Quota,
    /// The provider does not accept the key.
    KeyRefused,
}

impl Why {
    /// A stable short code.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "breaker_open",
            Self::Quota => "quota_used_up",
            Self::KeyRefused => "key_refused",
        }
    }
}

/// What is to be called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) model: &'a Arc<str>,
    pub(crate) target: Option<&'a Arc<TargetState>>,
    pub(crate) streamed: bool,
    /// The most calls at once to the target.
    pub(crate) most: Option<u32>,
    /// The name of the only key that will do.
    pub(crate) key: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    /// With so many calls at once.
    pub(crate) fn bounded(self, most: Option<u32>) -> Self {
        Self { most, ..self }
    }

    /// With no other key than this, if it is still there.
    pub(crate) fn with_key(self, key: Option<&'a str>) -> Self {
        Self { key, ..self }
    }
}

impl Pass {
    /// Whether `key` may be used for this now.
    pub(super) fn admit(care: &Arc<Care>, key: &Arc<Key>, wanted: Wanted<'_>) -> Result<Self, Refused> {
        let now = care.states.now();
        let open = |wait| Refused { why: Why::Open, wait };
        if let Some(wait) = key.state.resting(wanted.model, now) {
            return Err(Refused { why: Why::Quota, wait });
        }
        let (slot, accepted) = choose(&key.slots, now).map_err(|wait| Refused { why: Why::KeyRefused, wait })?;
        let probes = Probes {
            accepted,
            key: key.state.health.admit(now).map_err(open)?,
            target: match wanted.target {
                Some(target) => target.health.admit(now).map_err(open)?,
                None => None,
            },
        };
        Ok(Self::new(care, (key, slot), wanted, (probes, now)))
    }

    /// Leave for one call however its provider is doing, unless another such call is under way.
    pub(super) fn last_resort(care: &Arc<Care>, key: &Arc<Key>, wanted: Wanted<'_>) -> Option<Self> {
        let now = care.states.now();
        let (slot, accepted) = anyway(&key.slots, now)?;
        Some(Self::new(care, (key, slot), wanted, (Self::probing(key, wanted, Some(accepted?)), now)))
    }

    /// Leave for a call that nothing else could answer, whatever is known.
    pub(super) fn regardless(care: &Arc<Care>, key: &Arc<Key>, wanted: Wanted<'_>) -> Option<Self> {
        let now = care.states.now();
        let (slot, accepted) = anyway(&key.slots, now)?;
        Some(Self::new(care, (key, slot), wanted, (Self::probing(key, wanted, accepted), now)))
    }

    /// Leave for a call that decides nothing for others: with a key that works as far as is known, and that tells
    /// nothing of what comes of it.
    pub(super) fn aside(care: &Arc<Care>, key: &Arc<Key>, wanted: Wanted<'_>) -> Option<Self> {
        let now = care.states.now();
        let slot = key.slots.iter().find(|slot| slot.position(now) == Position::Closed)?;
        let breakers = [Some(&key.state.health), wanted.target.map(|target| &target.health)];
        let closed = breakers.into_iter().flatten().all(|breaker| breaker.position(now) == Position::Closed);
        let rests = key.state.resting(wanted.model, now).is_some();
        (closed && !rests).then(|| {
            let key = (key, Arc::clone(slot));
            Self(Arc::new(Observed::new(care, key, wanted, (Probes::default(), now, true))))
        })
    }

    fn probing(key: &Key, wanted: Wanted<'_>, accepted: Option<Probe>) -> Probes {
        Probes { accepted, key: key.state.health.probe(), target: wanted.target.and_then(|t| t.health.probe()) }
    }

    fn new(
        care: &Arc<Care>,
        key: (&Arc<Key>, Arc<KeySlot>),
        wanted: Wanted<'_>,
        (probes, begun): (Probes, u64),
    ) -> Self {
        if let Some(target) = wanted.target {
            target.active.fetch_add(1, Ordering::Relaxed);
        }
        Self(Arc::new(Observed::new(care, key, wanted, (probes, begun, false))))
    }

    /// The key it is for.
    pub(crate) fn key(&self) -> &Key {
        &self.0.key
    }

    /// The value of the key that it is for.
    pub(crate) fn slot(&self) -> &Arc<KeySlot> {
        &self.0.slot
    }

    /// Another value of the key, which may be used where `refused` is: of those the request began with, or of those that
    /// there are by now. `origin`: where the call goes.
    pub(crate) fn other_slot(&self, refused: &KeySlot, origin: &str) -> Option<Arc<KeySlot>> {
        let Observed { care, key, .. } = &*self.0;
        let now = care.states.now();
        let sent_there = |credential: &crate::upstream::Credential| credential.trouble(origin).is_none();
        let other = |slot: &&Arc<KeySlot>| !slot.is_same(refused) && slot.credential.as_ref().is_some_and(sent_there);
        let lately = care.states.slots(&care.name, &key.name);
        let all: Vec<&Arc<KeySlot>> = key.slots.iter().chain(&lately).filter(other).collect();
        // One that was refused too may be accepted by now; nothing else is left.
        let accepted = all.iter().find(|slot| slot.position(now) == Position::Closed);
        accepted.or(all.first()).map(|slot| Arc::clone(slot))
    }

    /// The provider refused a value of the key; another one is used `instead`, or none is left.
    pub(crate) fn refused(&self, slot: &KeySlot, instead: Option<&KeySlot>) {
        let Observed { care, key, aside, .. } = &*self.0;
        if let Some(instead) = instead {
            instead.stands_in();
        }
        let probe = self.0.probes().accepted.is_some() && slot.is_same(&self.0.slot);
        if *aside || !slot.refused(care.states.now(), probe) {
            return;
        }
        let (provider, key, which) = (care.name.as_str(), key.name.as_str(), slot.which.as_str());
        match instead.map(|instead| instead.which) {
            Some(instead) => {
                let instead = instead.as_str();
                tracing::error!(target: "audit", provider, key, slot = which, instead, "the provider refuses the key: another is used");
            }
            None => {
                tracing::error!(target: "audit", provider, key, slot = which, "the provider refuses the key: it is put aside");
            }
        }
        care.states.key_refused((&care.name, key), slot.which, instead.map(|instead| instead.which));
    }

    /// Take a place among the calls at once, or wait for one. It is held until the answer is over.
    pub(crate) async fn enter(&self) -> Result<(), NoPlace> {
        let Observed { care, target, most, .. } = &*self.0;
        if self.0.aside {
            return self.enter_aside();
        }
        let mut places = Vec::new();
        // The target's first: who waits for it takes no place of the provider's from others.
        if let Some((target, most)) = target.as_ref().zip(*most) {
            places.push(target.line.enter(care.bounds(most)).await?);
        }
        if let Some(most) = care.concurrency {
            places.push(care.provider.line.enter(care.bounds(most)).await?);
        }
        if !places.is_empty() {
            self.0.begun.store(care.states.now(), Ordering::Relaxed);
            *self.0.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
        }
        self.0.entered.store(true, Ordering::Release);
        Ok(())
    }

    /// Take places that nobody else wants.
    fn enter_aside(&self) -> Result<(), NoPlace> {
        for (line, bounds) in self.lines() {
            let spare = line.spare(bounds).ok_or(NoPlace::Full)?;
            self.0.spares.lock().unwrap_or_else(PoisonError::into_inner).push(spare);
        }
        Ok(())
    }

    /// Ends when somebody wants the place of a call aside.
    pub(crate) async fn is_wanted(&self) {
        let mut crowded: Vec<_> =
            self.lines().into_iter().map(|(line, _)| async move { line.is_crowded().await }.boxed()).collect();
        if crowded.is_empty() {
            crowded.push(std::future::pending().boxed());
        }
        futures_util::future::select_all(crowded).await;
    }

    /// The lines it stands in.
    fn lines(&self) -> Vec<(Arc<Line>, Bounds)> {
        let Observed { care, target, most, .. } = &*self.0;
        let of_target = target.as_ref().zip(*most).map(|(target, most)| (Arc::clone(&target.line), care.bounds(most)));
        let of_provider = care.concurrency.map(|most| (Arc::clone(&care.provider.line), care.bounds(most)));
        of_target.into_iter().chain(of_provider).collect()
    }

    /// The head of an answer to a call with this value of the key, and the first piece of its body where it is an error: what
    /// it says of the key. Gives back for how long the key rests, if it does.
    pub(crate) fn head(
        &self,
        slot: &KeySlot,
        status: StatusCode,
        (headers, first): (&HeaderMap, &[u8]),
    ) -> Option<std::time::Duration> {
        let Observed { care, key, model, aside, .. } = &*self.0;
        if *aside {
            return None;
        }
        let now = care.states.now();
        let probe = self.0.probes().accepted.is_some() && slot.is_same(&self.0.slot);
        slot.accepted(now, probe);
        let said = said(status, headers, first, care.states.wall());
        match said? {
            Said::Rest(rest) => {
                key.state.rest(Some(model), now.saturating_add(millis(rest)), now);
                Some(rest)
            }
            Said::NoCredit(rest) => {
                let (provider, key_name) = (care.name.as_str(), key.name.as_str());
                tracing::error!(target: "audit", provider, key = key_name, "the key has no credit left: it is put aside");
                key.state.rest(None, now.saturating_add(millis(rest)), now);
                Some(rest)
            }
        }
    }

    /// The answer has begun as it should: said once.
    pub(crate) fn answered(&self) {
        let Observed { care, key, target, streamed, begun, .. } = &*self.0;
        if self.0.failed.load(Ordering::Acquire) || self.0.answered.swap(true, Ordering::AcqRel) {
            return;
        }
        let (now, rules) = (care.states.now(), &care.rules);
        let took = now.saturating_sub(begun.load(Ordering::Relaxed));
        let probes = std::mem::take(&mut *self.0.probes());
        let slow = care.slow_call.is_some_and(|slow| took > slow);
        let changed = if slow {
            key.state.health.was_slow(rules, now, probes.key.is_some())
        } else {
            key.state.health.succeeded(rules, now, probes.key.is_some())
        };
        if changed {
            self.tell(!slow);
        }
        if let Some(target) = target {
            target.health.succeeded(rules, now, probes.target.is_some());
            target.observe(*streamed, now, took);
        }
    }

    /// Another call has answered before this one, which is dropped: neither a success nor a failure. All it shows is that
    /// it would have taken longer than it did.
    pub(crate) fn outrun(&self) {
        let Observed { care, key, target, streamed, begun, .. } = &*self.0;
        let asked = self.0.entered.load(Ordering::Acquire);
        if !asked || self.0.failed.load(Ordering::Acquire) || self.0.answered.swap(true, Ordering::AcqRel) {
            return;
        }
        let now = care.states.now();
        let took = now.saturating_sub(begun.load(Ordering::Relaxed));
        let probes = std::mem::take(&mut *self.0.probes());
        if let Some(target) = target {
            target.outrun(*streamed, now, took);
        }
        // A probe has found out nothing: the next call is one.
        let slow = care.slow_call.is_some_and(|slow| took > slow) && probes.key.is_none();
        if slow && key.state.health.was_slow(&care.rules, now, false) {
            self.tell(false);
        }
    }

    /// The provider answered, if only that it will not: nothing is wrong with it.
    pub(crate) fn alive(&self) {
        let Observed { care, key, .. } = &*self.0;
        if !self.0.failed.load(Ordering::Acquire) && !self.0.answered.swap(true, Ordering::AcqRel) {
            let probes = std::mem::take(&mut *self.0.probes());
            if key.state.health.succeeded(&care.rules, care.states.now(), probes.key.is_some()) {
                self.tell(true);
            }
        }
    }

    /// The call failed: said once, also of an answer that had begun.
    pub(crate) fn failed(&self, scope: Scope) {
        let Observed { care, key, target, .. } = &*self.0;
        if self.0.failed.swap(true, Ordering::AcqRel) {
            return;
        }
        let now = care.states.now();
        let probes = std::mem::take(&mut *self.0.probes());
        match (scope, target) {
            (Scope::Provider, _) | (Scope::Model, None) => {
                if key.state.health.failed(&care.rules, now, probes.key.is_some()) {
                    self.tell(false);
                }
            }
            (Scope::Model, Some(target)) => {
                key.state.health.succeeded(&care.rules, now, probes.key.is_some());
                if target.health.failed(&care.rules, now, probes.target.is_some()) {
                    let (provider, model) = (care.name.as_str(), &*self.0.model);
                    tracing::warn!(provider, model, "calls for this model fail: it is left alone for a while");
                }
            }
        }
    }

    fn tell(&self, closed: bool) {
        let (provider, key) = (self.0.care.name.as_str(), self.0.key.name.as_str());
        if closed {
            tracing::info!(provider, key, "the provider answers again");
        } else {
            tracing::warn!(provider, key, "calls to the provider fail: it is left alone for a while");
        }
    }

    /// To be told of the answer's body. `judges`: whether a body that begins is an answer as it should be, or somebody else
    /// looks at it and says so.
    pub(crate) fn watch(&self, judges: bool) -> Box<dyn BodyWatch> {
        Box::new(Watch { pass: self.clone(), judges })
    }
}

impl Observed {
    fn new(
        care: &Arc<Care>,
        (key, slot): (&Arc<Key>, Arc<KeySlot>),
        wanted: Wanted<'_>,
        (probes, begun, aside): (Probes, u64, bool),
    ) -> Self {
        Self {
            care: Arc::clone(care),
            key: Arc::clone(key),
            slot,
            model: Arc::clone(wanted.model),
            target: wanted.target.map(Arc::clone),
            streamed: wanted.streamed,
            most: wanted.most,
            aside,
            begun: AtomicU64::new(begun),
            entered: AtomicBool::new(false),
            places: Mutex::default(),
            spares: Mutex::default(),
            probes: Mutex::new(probes),
            // Of one aside everything has been said.
            answered: AtomicBool::new(aside),
            failed: AtomicBool::new(aside),
        }
    }

    fn probes(&self) -> std::sync::MutexGuard<'_, Probes> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if let Some(target) = self.target.as_ref().filter(|_| !self.aside) {
            target.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

struct Watch {
    pass: Pass,
    judges: bool,
}

impl BodyWatch for Watch {
    fn piece(&mut self) {
        if self.judges {
            self.pass.answered();
            self.judges = false;
        }
    }

    fn over(&mut self, error: Option<BodyError>) {
        match error {
            Some(_) => self.pass.failed(Scope::Provider),
            None => self.piece(),
        }
    }
}
