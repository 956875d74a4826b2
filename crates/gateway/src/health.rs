//! How providers have been doing of late: breakers, keys that rest, how quickly answers begin. Only what calls show is
//! counted; nothing is called to find out.
//!
//! States outlive reloads: a provider, key or target of the same name goes on where it was, unless its key or address changed.

mod breaker;
mod gauges;
mod hedges;
mod keys;
mod latency;
mod line;
mod pass;
mod quantiles;
mod quota;
mod slots;
mod window;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use base::{Clock, Name};
use config::WebhookEvent;
use store::{Notice, Notices, Slot};

pub(crate) use self::breaker::{Breaker, Position, Probe, Rules};
pub(crate) use self::hedges::Hedges;
pub(crate) use self::keys::{Choice, Keys, wanted};
pub(crate) use self::latency::Latency;
pub(crate) use self::line::{Bounds, Line, NoPlace};
pub(crate) use self::pass::{Pass, Refused, Scope, Wanted, Why};
use self::quantiles::Quantiles;
use self::quota::{Said, said};
pub(crate) use self::slots::{KeySlot, SlotState, Standby, any_accepted};

use self::window::{Counts, Window};

/// How many models' rests are remembered for a key: names of direct targets are the callers' to choose.
const MOST_RESTS: usize = 256;

/// Retries always allowed within [`BUDGET_WINDOW`].
const FREE_RETRIES: u64 = 10;
/// What a retry budget counts.
const BUDGET_WINDOW: u64 = 10_000;

/// A refused key is asked again after a minute, then after two, up to half an hour.
pub(crate) const REFUSED_KEY: Rules = Rules {
    enabled: true,
    consecutive: 1,
    failure_rate: 100,
    minimum_calls: u64::MAX,
    window: 1000,
    open_for: 60_000,
    max_open: 1_800_000,
};

/// The states of all providers, by name.
pub struct States {
    clock: Arc<dyn Clock>,
    origin: Instant,
    known: Mutex<Known>,
    /// Where it is told that a provider refuses its key.
    notices: OnceLock<Notices>,
}

#[derive(Default)]
struct Known {
    providers: HashMap<Name, Weak<ProviderState>>,
    keys: HashMap<(Name, String), Weak<KeyState>>,
    /// The values of keys, as the snapshot built last has them.
    slots: HashMap<(Name, String), Vec<Weak<KeySlot>>>,
    accepted: HashMap<(Name, String, [u8; 32]), Weak<SlotState>>,
    targets: HashMap<(Name, Arc<str>), Weak<TargetState>>,
    hedges: HashMap<Name, Weak<Hedges>>,
}

impl std::fmt::Debug for States {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("States").finish_non_exhaustive()
    }
}

impl States {
    /// Nothing is known yet.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { origin: clock.monotonic(), clock, known: Mutex::default(), notices: OnceLock::new() })
    }

    /// Tell of keys that providers refuse.
    pub fn tell(&self, notices: Notices) {
        let _told_already = self.notices.set(notices);
    }

    /// A provider refuses a value of a key; another one is used `instead`, or none is left.
    pub(crate) fn key_refused(&self, (provider, key): (&Name, &str), slot: Slot, instead: Option<Slot>) {
        if let Some(notices) = self.notices.get() {
            let at = self.clock.now();
            let notice = Notice::new(WebhookEvent::ProviderKeyRefused.as_str(), at);
            // A key that goes on being refused is told of once an hour.
            let which = slot.as_str();
            let notice = notice.about(format!("{provider}/{key}/{which}/{}", at.as_secs() / 3600));
            let notice = notice.with("provider", provider.as_str()).with("key", key).with("slot", which);
            notices.send(match instead {
                Some(instead) => notice.with("used_instead", instead.as_str()),
                None => notice,
            });
        }
    }

    /// Show them in `/metrics`.
    pub fn register(self: &Arc<Self>, registry: &mut prometheus_client::registry::Registry) {
        registry.register_collector(Box::new(gauges::Gauges(Arc::clone(self))));
    }

    /// Milliseconds since these states began, from 1.
    pub(crate) fn now(&self) -> u64 {
        let passed = self.clock.monotonic().saturating_duration_since(self.origin).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX - 1).saturating_add(1)
    }

    /// The wall clock, for moments that providers name.
    pub(crate) fn wall(&self) -> base::Timestamp {
        self.clock.now()
    }

    /// The state of a provider.
    pub(crate) fn provider(&self, name: &Name) -> Arc<ProviderState> {
        let mut known = self.known();
        // What nobody uses any more is forgotten whenever something is looked for: that is when snapshots are built.
        known.providers.retain(|_, state| state.strong_count() > 0);
        known.keys.retain(|_, state| state.strong_count() > 0);
        known.targets.retain(|_, state| state.strong_count() > 0);
        alive(known.providers.get(name)).unwrap_or_else(|| {
            let new = Arc::new(ProviderState::default());
            known.providers.insert(name.clone(), Arc::downgrade(&new));
            new
        })
    }

    /// The state of a provider's key. `same`: what tells whether it is still the same key, at the same address.
    pub(crate) fn key(&self, provider: &Name, key: &str, same: [u8; 32]) -> Arc<KeyState> {
        let mut known = self.known();
        let place = (provider.clone(), key.to_owned());
        alive(known.keys.get(&place)).filter(|state| state.same == same).unwrap_or_else(|| {
            let new = Arc::new(KeyState::new(same));
            known.keys.insert(place, Arc::downgrade(&new));
            new
        })
    }

    /// What is known of one value of a provider's key, told from others by `same`.
    pub(crate) fn slot(&self, provider: &Name, key: &str, same: [u8; 32]) -> Arc<SlotState> {
        let mut known = self.known();
        known.accepted.retain(|_, state| state.strong_count() > 0);
        let place = (provider.clone(), key.to_owned(), same);
        alive(known.accepted.get(&place)).unwrap_or_else(|| {
            let new = Arc::new(SlotState::default());
            known.accepted.insert(place, Arc::downgrade(&new));
            new
        })
    }

    /// These are the values of a provider's key from now on, also for requests that began before.
    pub(crate) fn set_slots(&self, provider: &Name, key: &str, slots: &[Arc<KeySlot>]) {
        let mut known = self.known();
        known.slots.retain(|_, slots| slots.iter().any(|slot| slot.strong_count() > 0));
        known.slots.insert((provider.clone(), key.to_owned()), slots.iter().map(Arc::downgrade).collect());
    }

    /// The values of a provider's key, as of the snapshot built last.
    pub(crate) fn slots(&self, provider: &Name, key: &str) -> Vec<Arc<KeySlot>> {
        let known = self.known();
        let slots = known.slots.get(&(provider.clone(), key.to_owned()));
        slots.into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// The state of a provider's model that the configuration names.
    pub(crate) fn target(&self, provider: &Name, model: &Arc<str>) -> Arc<TargetState> {
        let mut known = self.known();
        let place = (provider.clone(), Arc::clone(model));
        alive(known.targets.get(&place)).unwrap_or_else(|| {
            let new = Arc::new(TargetState::default());
            known.targets.insert(place, Arc::downgrade(&new));
            new
        })
    }

    /// How many of a model's requests may ask another target beside the first.
    pub(crate) fn hedges(&self, model: &Name) -> Arc<Hedges> {
        let mut known = self.known();
        known.hedges.retain(|_, state| state.strong_count() > 0);
        alive(known.hedges.get(model)).unwrap_or_else(|| {
            let new = Arc::new(Hedges::default());
            known.hedges.insert(model.clone(), Arc::downgrade(&new));
            new
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn alive<T>(state: Option<&Weak<T>>) -> Option<Arc<T>> {
    state.and_then(Weak::upgrade)
}

/// What concerns a provider as a whole.
#[derive(Debug, Default)]
pub(crate) struct ProviderState {
    attempts: Window,
    /// Those who wait for a place among its calls.
    pub(crate) line: Arc<Line>,
}

impl ProviderState {
    /// The first attempt of a request at this provider.
    pub(crate) fn first_attempt(&self, now: u64) {
        self.attempts.add(now, BUDGET_WINDOW, Counts { calls: 1, marked: 0 });
    }

    /// Whether a request may try this provider once more: so many retries in a hundred first attempts of late.
    pub(crate) fn may_retry(&self, now: u64, percent: u32) -> bool {
        let Counts { calls, marked } = self.attempts.counts(now, BUDGET_WINDOW);
        let allowed = FREE_RETRIES + calls * u64::from(percent) / 100;
        if marked >= allowed {
            return false;
        }
        self.attempts.add(now, BUDGET_WINDOW, Counts { calls: 0, marked: 1 });
        true
    }
}

/// How a key has been doing.
#[derive(Debug)]
pub(crate) struct KeyState {
    same: [u8; 32],
    /// Calls with it that fail, whatever the key: the provider does.
    pub(crate) health: Arc<Breaker>,
    rests: Mutex<Rests>,
    /// The latest end of any rest: until it is asked for, none is looked for.
    latest: AtomicU64,
}

#[derive(Debug, Default)]
struct Rests {
    /// For every model.
    whole: u64,
    models: HashMap<Box<str>, u64>,
}

impl KeyState {
    fn new(same: [u8; 32]) -> Self {
        Self { same, health: Arc::default(), rests: Mutex::default(), latest: AtomicU64::new(0) }
    }

    /// It is not to be used before `until`: for `model`, or for any.
    pub(crate) fn rest(&self, model: Option<&str>, until: u64, now: u64) {
        let mut rests = self.rests();
        match model {
            None => rests.whole = until,
            Some(model) => {
                if rests.models.len() >= MOST_RESTS {
                    rests.models.retain(|_, until| *until > now);
                }
                if rests.models.len() < MOST_RESTS || rests.models.contains_key(model) {
                    rests.models.insert(model.into(), until);
                }
            }
        }
        self.latest.fetch_max(until, Ordering::AcqRel);
    }

    /// For how many milliseconds more it rests for `model`.
    pub(crate) fn resting(&self, model: &str, now: u64) -> Option<u64> {
        if self.latest.load(Ordering::Acquire) <= now {
            return None;
        }
        let rests = self.rests();
        let until = rests.models.get(model).copied().unwrap_or(0).max(rests.whole);
        until.checked_sub(now).filter(|wait| *wait > 0)
    }

    /// For how many milliseconds more it rests for every model, and how many models it rests for beside that.
    pub(crate) fn rests_now(&self, now: u64) -> (Option<u64>, usize) {
        let rests = self.rests();
        let whole = rests.whole.checked_sub(now).filter(|wait| *wait > 0);
        (whole, rests.models.values().filter(|until| **until > now).count())
    }

    /// It has rested long enough for `model`.
    pub(crate) fn rested(&self, model: &str) {
        let mut rests = self.rests();
        rests.models.remove(model);
        rests.whole = 0;
    }

    fn rests(&self) -> std::sync::MutexGuard<'_, Rests> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one model of a provider has been doing.
#[derive(Debug, Default)]
pub(crate) struct TargetState {
    /// Calls that fail because of the model: it is gone, or not ready.
    pub(crate) health: Arc<Breaker>,
    pub(crate) whole: Latency,
    pub(crate) streamed: Latency,
    /// The same, as shares of the calls: of whole answers and of streams.
    quantiles: [Quantiles; 2],
    active: AtomicU32,
    /// Those who wait for a place among its calls.
    pub(crate) line: Arc<Line>,
}

impl TargetState {
    /// What a call is expected to take until its answer begins, with what is under way; 0 where nothing is known.
    pub(crate) fn score(&self, streamed: bool, now: u64) -> f64 {
        let latency = self.latency(streamed);
        let active = f64::from(self.active.load(Ordering::Relaxed));
        latency.expected(now).unwrap_or(0.0) * (active + 1.0)
    }

    /// A call took `took` milliseconds until its answer began.
    fn observe(&self, streamed: bool, now: u64, took: u64) {
        self.latency(streamed).observe(now, took);
        self.shares(streamed).observe(now, took);
    }

    /// A call had not been answered after `took` milliseconds when it was dropped for another.
    fn outrun(&self, streamed: bool, now: u64, took: u64) {
        self.latency(streamed).at_least(now, took);
        self.shares(streamed).observe(now, took);
    }

    /// Within how many milliseconds `percent` of a hundred calls are answered; `None` while too few are known.
    pub(crate) fn within(&self, streamed: bool, now: u64, percent: u8) -> Option<u64> {
        self.shares(streamed).at(now, percent)
    }

    fn latency(&self, streamed: bool) -> &Latency {
        if streamed { &self.streamed } else { &self.whole }
    }

    fn shares(&self, streamed: bool) -> &Quantiles {
        let [whole, streams] = &self.quantiles;
        if streamed { streams } else { whole }
    }

    /// Calls under way.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }
}

/// A provider's key, ready to be used, and how it has been doing.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    /// Its values, at least one: the one in use first.
    pub(crate) slots: Vec<Arc<KeySlot>>,
    pub(crate) priority: u32,
    pub(crate) weight: u32,
    pub(crate) state: Arc<KeyState>,
}

/// How a provider's calls are judged.
#[derive(Debug)]
pub(crate) struct Care {
    pub(crate) states: Arc<States>,
    pub(crate) provider: Arc<ProviderState>,
    pub(crate) name: Name,
    pub(crate) rules: Rules,
    /// An answer that takes longer to begin is slow.
    pub(crate) slow_call: Option<u64>,
    pub(crate) retry_budget: u32,
    /// The most calls at once.
    pub(crate) concurrency: Option<u32>,
    /// How many more may wait for a place, and for how long.
    pub(crate) queue: (usize, Duration),
}

impl Care {
    /// The bounds on calls at once, where `places` is the most.
    pub(crate) fn bounds(&self, places: u32) -> Bounds {
        let (waiting, wait) = self.queue;
        Bounds { places: usize::try_from(places).unwrap_or(usize::MAX), waiting, wait }
    }

    pub(crate) fn new(provider: &config::Provider, states: &Arc<States>) -> Self {
        let breaker = &provider.breaker;
        Self {
            states: Arc::clone(states),
            provider: states.provider(&provider.name),
            name: provider.name.clone(),
            rules: Rules {
                enabled: breaker.enabled,
                consecutive: breaker.consecutive,
                failure_rate: u64::from(breaker.failure_rate),
                minimum_calls: u64::from(breaker.minimum_calls),
                window: millis(breaker.window.duration()),
                open_for: millis(breaker.open_for.duration()),
                max_open: millis(breaker.max_open.duration()),
            },
            slow_call: breaker.slow_call.map(|slow| millis(slow.duration())),
            retry_budget: provider.retry_budget,
            concurrency: provider.concurrency,
            queue: (usize::try_from(provider.queue.size).unwrap_or(usize::MAX), provider.queue.timeout.duration()),
        }
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{FakeClock, Timestamp};

    fn states() -> (Arc<States>, FakeClock) {
        let clock = FakeClock::at(Timestamp::from_secs(1));
        (States::new(Arc::new(clock.clone())), clock)
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect("name")
    }

    #[test]
    fn a_state_goes_on_over_a_reload_unless_its_key_changed() {
        let (states, _) = states();
        let before = states.key(&name("p"), "default", [1; 32]);
        before.rest(None, 500, 1);
        assert_eq!(states.key(&name("p"), "default", [1; 32]).resting("m", 1), Some(499));
        assert_eq!(states.key(&name("p"), "default", [2; 32]).resting("m", 1), None);
        drop(before);
        let target = states.target(&name("p"), &Arc::from("m"));
        assert!(Arc::ptr_eq(&target, &states.target(&name("p"), &Arc::from("m"))));
        assert!(!Arc::ptr_eq(&target, &states.target(&name("q"), &Arc::from("m"))));
        drop(target);
        let provider = states.provider(&name("p"));
        assert!(states.known().targets.is_empty() && states.known().keys.is_empty(), "what nobody uses is forgotten");
        assert!(Arc::ptr_eq(&provider, &states.provider(&name("p"))));
    }

    #[test]
    fn a_key_rests_for_one_model_or_for_all_and_names_of_callers_fill_nothing() {
        let state = KeyState::new([0; 32]);
        state.rest(Some("a"), 100, 1);
        assert_eq!((state.resting("a", 1), state.resting("b", 1), state.resting("a", 100)), (Some(99), None, None));
        state.rest(None, 50, 1);
        assert_eq!((state.resting("b", 1), state.resting("a", 1)), (Some(49), Some(99)));
        for n in 0..2 * MOST_RESTS {
            state.rest(Some(&n.to_string()), 1000, 200);
        }
        assert_eq!(state.rests().models.len(), MOST_RESTS);
        state.rest(Some("late"), 5000, 2000);
        assert_eq!(state.rests().models.len(), 1, "what is over makes room");
        state.rested("late");
        assert_eq!(state.resting("late", 2000), None);
    }

    #[test]
    fn retries_are_a_share_of_what_was_asked_of_late() {
        let state = ProviderState::default();
        let granted = |now: u64, percent: u32| (0..1000).filter(|_| state.may_retry(now, percent)).count();
        assert_eq!(granted(1, 20), 10, "a few are always allowed");
        (0..100).for_each(|_| state.first_attempt(1));
        assert_eq!(granted(1, 20), 20);
        assert_eq!(granted(1, 20), 0, "and they are used up");
        assert_eq!(granted(30_000, 20), 10);
    }
}
