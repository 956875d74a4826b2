//! Whether a caller behaves quite unlike itself: each key, subject, device and client is compared with what it did before, and a
//! sudden change throttles or suspends it. What habits are and when they are broken is in `anomaly/habit.rs`.
//!
//! A request is counted and judged in memory, before anything is spent. What follows from it (to keep and tell who is
//! stopped, to save habits so that a restart does not forget them, to see what other nodes found) is done beside
//! requests, by [`Watch::keep`].

mod habit;
mod keep;

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Hashing, Problem, Table, Timestamp};
use config::{AnomalySection, OnAnomaly, WebhookEvent};
use http::StatusCode;
use store::{NewStop, Notice, StopAction, Stopped};

use self::habit::{Act, Habit, Unlike};
use crate::authenticate::Caller;
use crate::budget::account_text;

/// Parts of the memory, each with a lock of its own.
const SHARDS: usize = 32;
/// Callers that are watched at once in a part: some 30,000 in all, at most 1 KiB each.
const MOST: usize = 1024;
/// Of a full part, how many are looked at to find one that was not seen for long.
const SAMPLE: usize = 16;
/// What waits for [`Watch::keep`] at most, of each kind.
const WAITING: usize = 4096;

/// Watches callers. It outlives reloads.
pub struct Watch {
    stopped: Arc<Stopped>,
    shards: Vec<Mutex<Table<Arc<str>, Kept>>>,
    hasher: Hashing,
    waiting: Mutex<Waiting>,
    /// Whether the store may know callers that memory does not.
    more: AtomicBool,
    /// By what became of them: observed, throttled, suspended.
    found: [AtomicU64; 3],
}

struct Kept {
    habit: Habit,
    /// Whether it has changed since it was saved.
    changed: bool,
    /// The hardest of what has become of it of late, and until when (seconds since 1970).
    told: Option<(OnAnomaly, i64)>,
}

/// What is to be done beside requests.
#[derive(Default)]
struct Waiting {
    found: Vec<(NewStop, Notice)>,
    /// No longer in memory.
    gone: Vec<(Arc<str>, Habit)>,
    /// New in memory, and perhaps known to the store.
    wanted: Vec<Arc<str>>,
}

/// Why a caller is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnomalyError {
    /// It is suspended.
    #[error(
        "This caller was suspended, because it behaved quite unlike before. Whoever runs this gateway can let it in again."
    )]
    Suspended,
    /// It is throttled, for so long.
    #[error("This caller is throttled, because it behaves quite unlike before.")]
    Throttled(Duration),
}

impl AnomalyError {
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::Suspended => Problem::client(StatusCode::FORBIDDEN, "caller_suspended", self.to_string()),
            Self::Throttled(wait) => {
                Problem::client(StatusCode::TOO_MANY_REQUESTS, "caller_throttled", self.to_string()).retry_after(wait)
            }
        }
    }
}

/// One of those a caller is watched as.
struct Actor {
    whom: String,
    /// Many may be behind it.
    is_client: bool,
}

/// What a caller is watched as, the narrowest first: what is stolen is the narrowest that behaves unlike itself.
pub(crate) struct Actors(Vec<Actor>);

impl Actors {
    /// What this one is watched as: nothing where nothing is watched.
    pub(crate) fn of(caller: &Caller, rules: &AnomalySection) -> Self {
        Self(if watches(rules) { actors(caller).collect() } else { Vec::new() })
    }
}

fn actors(caller: &Caller) -> impl Iterator<Item = Actor> {
    let device = caller.device().map(|device| account_text("device", None, &device));
    let own = match caller.key() {
        Some(key) => account_text("key", None, key.as_str()),
        None => account_text("subject", Some(caller.issuer()), caller.subject()),
    };
    let client = caller.client().map(|client| account_text("client", Some(caller.issuer()), client));
    let narrow = device.into_iter().chain([own]).map(|whom| Actor { whom, is_client: false });
    narrow.chain(client.map(|whom| Actor { whom, is_client: true }))
}

/// Whether anything is watched.
fn watches(rules: &AnomalySection) -> bool {
    rules.surge != OnAnomaly::Off || rules.elsewhere != OnAnomaly::Off
}

impl Watch {
    /// Knows nobody yet. `stopped` is asked on every request.
    pub fn new(stopped: Arc<Stopped>) -> Self {
        Self {
            stopped,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: Hashing::default(),
            waiting: Mutex::default(),
            more: AtomicBool::new(false),
            found: [const { AtomicU64::new(0) }; 3],
        }
    }

    /// How many callers were found to behave unlike themselves since the start: `observe`, `throttle`, `suspend`.
    pub fn found(&self) -> [(&'static str, u64); 3] {
        let [observed, throttled, suspended] = &self.found;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("observe", count(observed)), ("throttle", count(throttled)), ("suspend", count(suspended))]
    }

    /// How many callers are watched.
    pub fn watched(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).len()).sum()
    }

    /// Whether a caller is suspended.
    pub(crate) fn check(&self, caller: &Caller, now: Timestamp) -> Result<(), AnomalyError> {
        if self.stopped.is_empty() {
            return Ok(());
        }
        let suspended = |actor: Actor| self.stopped.of(&actor.whom, now) == Some(StopAction::Suspend);
        if actors(caller).any(suspended) { Err(AnomalyError::Suspended) } else { Ok(()) }
    }

    /// A caller asks for something: count it, and refuse it if that is quite unlike it.
    pub(crate) fn asks(
        &self,
        rules: &AnomalySection,
        (caller, actors): (&Caller, &Actors),
        (model, now): (Option<&str>, Timestamp),
    ) -> Result<(), AnomalyError> {
        if !self.stopped.is_empty() {
            for actor in &actors.0 {
                let Some(StopAction::Throttle(most)) = self.stopped.of(&actor.whom, now) else { continue };
                self.within(actor, most, (rules, now))?;
            }
        }
        let act = Act { at: now, ip: caller.ip(), model };
        let mut first = None;
        for actor in &actors.0 {
            let unlike = self.with(&actor.whom, (rules, now), |kept| {
                kept.habit.asks(&act, rules);
                kept.habit.unlike(now, rules)
            });
            first = first.or(unlike.map(|unlike| (actor, unlike)));
        }
        let Some((actor, unlike)) = first else { return Ok(()) };
        match self.act(actor, &unlike, (rules, caller, now)) {
            Some(StopAction::Suspend) => Err(AnomalyError::Suspended),
            Some(StopAction::Throttle(most)) => self.within(actor, most, (rules, now)),
            Some(StopAction::Observe) | None => Ok(()),
        }
    }

    /// A caller's request has cost so much, in nano-USD.
    pub(crate) fn spent(
        &self,
        rules: &AnomalySection,
        (caller, actors): (&Caller, &Actors),
        (nano, now): (i64, Timestamp),
    ) {
        if nano <= 0 {
            return;
        }
        let mut first = None;
        for actor in &actors.0 {
            let unlike = self.with(&actor.whom, (rules, now), |kept| {
                kept.habit.spends(nano, now, rules);
                kept.habit.unlike(now, rules)
            });
            first = first.or(unlike.map(|unlike| (actor, unlike)));
        }
        if let Some((actor, unlike)) = first {
            let _stopped = self.act(actor, &unlike, (rules, caller, now));
        }
    }

    fn within(&self, actor: &Actor, most: u64, (rules, now): (&AnomalySection, Timestamp)) -> Result<(), AnomalyError> {
        let requests = self.with(&actor.whom, (rules, now), |kept| kept.habit.requests(now, rules));
        #[allow(clippy::cast_precision_loss)] // requests of one minute
        if requests < most as f64 {
            return Ok(());
        }
        let into = now.as_secs().rem_euclid(60);
        Err(AnomalyError::Throttled(Duration::from_secs(u64::try_from(60 - into).unwrap_or(60))))
    }

    /// What becomes of who behaves unlike itself, unless that was said already.
    fn act(
        &self,
        actor: &Actor,
        unlike: &Unlike,
        (rules, caller, now): (&AnomalySection, &Caller, Timestamp),
    ) -> Option<StopAction> {
        let elsewhere = if unlike.elsewhere { rules.elsewhere } else { OnAnomaly::Off };
        let surge = if unlike.far || unlike.new_models { rules.surge } else { OnAnomaly::Off };
        let most = if actor.is_client { OnAnomaly::Throttle } else { OnAnomaly::Suspend };
        let becomes = elsewhere.max(surge).min(most);
        let until = now.plus(rules.lasts.duration());
        let ceiling = self.with(&actor.whom, (rules, now), |kept| {
            if kept.told.is_some_and(|(told, end)| told >= becomes && now.as_secs() < end) {
                return None;
            }
            kept.told = Some((becomes, until.as_secs()));
            Some(kept.habit.ceiling(rules))
        })?;
        let (action, ends_at, counter) = match becomes {
            OnAnomaly::Off => return None,
            OnAnomaly::Observe => (StopAction::Observe, Some(until), 0),
            OnAnomaly::Throttle => (StopAction::Throttle(ceiling), Some(until), 1),
            OnAnomaly::Suspend => (StopAction::Suspend, None, 2),
        };
        if let Some(counter) = self.found.get(counter) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let notice = notice(actor, unlike, (action, caller, now));
        let why = serde_json::Value::Object(notice.data.clone()).to_string();
        let stop = NewStop { whom: Arc::from(&*actor.whom), action, why, ends_at };
        tracing::warn!(target: "audit", whom = actor.whom, action = action.as_str(), why = stop.why, "unlike itself");
        self.stopped.stop(&stop);
        let mut waiting = locked(&self.waiting);
        if waiting.found.len() < WAITING {
            waiting.found.push((stop, notice));
        }
        Some(action)
    }

    /// Do something with what is known of a caller.
    fn with<T>(&self, whom: &str, (rules, now): (&AnomalySection, Timestamp), work: impl FnOnce(&mut Kept) -> T) -> T {
        let mut shard = self.shard(whom);
        if let Some(kept) = shard.get_mut(whom) {
            kept.changed = true;
            return work(kept);
        }
        let whom: Arc<str> = Arc::from(whom);
        let gone = if shard.len() >= MOST { oldest(&mut shard) } else { None };
        let new = Kept { habit: Habit::new(now, rules), changed: true, told: None };
        let done = work(shard.entry(Arc::clone(&whom)).or_insert(new));
        drop(shard);
        let mut waiting = locked(&self.waiting);
        if let Some(gone) = gone {
            self.more.store(true, Ordering::Relaxed);
            if waiting.gone.len() < WAITING {
                waiting.gone.push(gone);
            }
        }
        if self.more.load(Ordering::Relaxed) && waiting.wanted.len() < WAITING {
            waiting.wanted.push(whom);
        }
        done
    }

    fn shard(&self, whom: &str) -> MutexGuard<'_, Table<Arc<str>, Kept>> {
        let shards = u64::try_from(self.shards.len()).unwrap_or(1).max(1);
        let index = usize::try_from(self.hasher.hash_one(whom) % shards).unwrap_or(0);
        #[allow(clippy::indexing_slicing)] // the index is below the number of shards, of which there are some
        locked(&self.shards[index])
    }
}

/// Take one out that was not seen for long.
fn oldest(shard: &mut Table<Arc<str>, Kept>) -> Option<(Arc<str>, Habit)> {
    let (whom, _) = shard.iter().take(SAMPLE).min_by_key(|(_, kept)| kept.habit.last)?;
    let whom = Arc::clone(whom);
    let kept = shard.remove(&whom)?;
    Some((whom, kept.habit))
}

fn notice(actor: &Actor, unlike: &Unlike, (action, caller, now): (StopAction, &Caller, Timestamp)) -> Notice {
    let (kind, _) = actor.whom.split_once('=').unwrap_or((&actor.whom, ""));
    let mut signals = Vec::new();
    for (is, name) in [(unlike.far, "surge"), (unlike.elsewhere, "elsewhere"), (unlike.new_models, "new_models")] {
        if is {
            signals.push(name);
        }
    }
    #[allow(clippy::cast_possible_truncation)] // requests and nano-USD of one minute, for people
    let whole = |amount: f64| amount.round() as i64;
    let notice = Notice::new(WebhookEvent::AnomalyFound.as_str(), now)
        // Several nodes may find the same.
        .about(format!("{}\n{}\n{}", actor.whom, action.as_str(), now.as_secs() / 3600))
        .naming("whom", actor.whom.as_str())
        .with("kind", kind)
        .with("action", action.as_str())
        .with("signals", signals)
        .with("requests", whole(unlike.now.requests))
        .with("usual_requests", whole(unlike.usual.requests))
        .with("spent", whole(unlike.now.spent))
        .with("usual_spent", whole(unlike.usual.spent));
    if actor.is_client { notice } else { notice.person(caller.issuer(), caller.subject()) }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("watched", &self.watched()).finish_non_exhaustive()
    }
}
