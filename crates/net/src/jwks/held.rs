//! One issuer's keys.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use base::Timestamp;
use proof::jose::KeySet;
use proof::token::KeySource;
use tokio::sync::watch;
use url::Url;

use super::{JwksError, KeyIssuer, Parts, Place, Refreshed, Running, Saved, Status, Timing, discovery};
use crate::Fetched;

pub(super) struct Held {
    issuer: KeyIssuer,
    parts: Arc<Parts>,
    current: ArcSwapOption<Current>,
    generation: AtomicU64,
    state: Mutex<State>,
}

struct Current {
    set: Arc<KeySet>,
    /// By the monotonic clock: setting the wall clock back revives no keys.
    good_until: Instant,
    body: Vec<u8>,
    fetched_at: Timestamp,
}

#[derive(Default)]
struct State {
    /// When the last fetch began.
    claimed: Option<Instant>,
    /// When the next one is due; `None`: at once.
    due: Option<Instant>,
    running: Option<Running>,
    /// What discovery found, until a fetch from there fails.
    found: Option<Url>,
    error: Option<JwksError>,
}

/// What [`Held::begin`] tells its caller to do.
pub(super) enum Begin {
    Start(watch::Sender<Option<Refreshed>>, Running),
    Join(Running),
    Cooling,
}

impl Held {
    pub(super) fn new(issuer: KeyIssuer, parts: Arc<Parts>) -> Self {
        let (current, generation, state) = Default::default();
        Self { issuer, parts, current, generation, state }
    }

    pub(super) fn issuer(&self) -> &KeyIssuer {
        &self.issuer
    }

    /// Start from a set an earlier process left. It is refreshed at once all the same.
    pub(super) fn restore(&self, saved: &Saved) {
        let age = self.parts.clock.now().since(saved.fetched_at);
        let longest = self.parts.timing.latest + self.parts.timing.grace;
        let left = saved.lifetime.min(longest).saturating_sub(age);
        if saved.place != self.issuer.place.as_str() || left.is_zero() {
            return;
        }
        match KeySet::from_published(&saved.body) {
            Ok(set) => self.take_over(set, saved.body.clone(), saved.fetched_at, left),
            Err(error) => tracing::warn!(issuer = %self.issuer.name, %error, "the saved key set is not usable"),
        }
    }

    pub(super) fn is_due(&self) -> bool {
        let state = self.lock();
        live(state.running.as_ref()).is_none() && state.due.is_none_or(|due| self.parts.clock.monotonic() >= due)
    }

    pub(super) fn running(&self) -> Option<Running> {
        live(self.lock().running.as_ref()).cloned()
    }

    /// Claim the right to fetch, before anything is sent: what comes of the fetch has no say in the cooldown.
    pub(super) fn begin(&self) -> Begin {
        let now = self.parts.clock.monotonic();
        let mut state = self.lock();
        if let Some(running) = live(state.running.as_ref()) {
            return Begin::Join(running.clone());
        }
        let cooled = |since: Instant| now.saturating_duration_since(since) >= self.parts.timing.cooldown;
        if !state.claimed.is_none_or(cooled) {
            return Begin::Cooling;
        }
        let (done, running) = watch::channel(None);
        state.claimed = Some(now);
        state.running = Some(running.clone());
        Begin::Start(done, running)
    }

    /// Fetch and take over, or keep what there is.
    pub(super) async fn fetch(&self) -> Refreshed {
        let result = self.try_fetch().await;
        let now = self.parts.clock.monotonic();
        let (outcome, wait) = match result {
            Ok(wait) => (Refreshed::Fetched, wait),
            Err(error) => {
                tracing::warn!(issuer = %self.issuer.name, code = error.reason(), %error, "keys were not refreshed");
                (Refreshed::Failed(error), self.parts.timing.cooldown)
            }
        };
        let mut state = self.lock();
        state.error = match &outcome {
            Refreshed::Failed(error) => Some(error.clone()),
            _ => None,
        };
        if state.error.is_some() {
            state.found = None;
        }
        state.due = Some(now + wait);
        state.running = None;
        outcome
    }

    async fn try_fetch(&self) -> Result<Duration, JwksError> {
        let url = self.locate().await?;
        let fetched = self.parts.documents.get(&url, self.issuer.reach).await;
        let Fetched { body, max_age } = fetched.map_err(|error| JwksError::Fetch { url: url.to_string(), error })?;
        let set = KeySet::from_published(&body)?;
        // An issuer in business has a key. A set without a usable one is a mistake of its publisher, and what there
        // was stays in use until it is too old.
        if set.keys().is_empty() && self.keys().is_some_and(|held| !held.keys().is_empty()) {
            return Err(JwksError::NoKeyLeft { url: url.to_string() });
        }
        for key in set.rejected() {
            let kid = key.kid.as_deref().unwrap_or_default();
            tracing::info!(issuer = %self.issuer.name, index = key.index, kid, error = %key.error, "a published key is not used");
        }
        let wait = interval(&self.parts.timing, max_age);
        let lifetime = wait + self.parts.timing.grace;
        let fetched_at = self.parts.clock.now();
        self.take_over(set, body.clone(), fetched_at, lifetime);
        let place = self.issuer.place.as_str().to_owned();
        self.parts.last_good.save(&self.issuer.name, Saved { place, body, fetched_at, lifetime }).await;
        Ok(self.jitter(wait))
    }

    /// Where the keys are. Discovery is repeated when a fetch failed and when a refresh is due, not for every
    /// unknown key: a flood of those must cost one request per cooldown.
    async fn locate(&self) -> Result<Url, JwksError> {
        let issuer = match &self.issuer.place {
            Place::Jwks(url) => return Ok(url.clone()),
            Place::Discovery(issuer) => issuer,
        };
        let known = {
            let state = self.lock();
            let early = state.due.is_some_and(|due| self.parts.clock.monotonic() < due);
            state.found.clone().filter(|_| early)
        };
        if let Some(url) = known {
            return Ok(url);
        }
        let url = discovery::keys_url(&*self.parts.documents, issuer, self.issuer.reach).await?;
        self.lock().found = Some(url.clone());
        Ok(url)
    }

    fn take_over(&self, set: KeySet, body: Vec<u8>, fetched_at: Timestamp, lifetime: Duration) {
        let good_until = self.parts.clock.monotonic() + lifetime;
        let before = self.current.load();
        let unchanged = before.as_ref().filter(|current| current.body == body);
        // The same document keeps its generation: what was verified with it stays verified.
        let (set, changed) = match unchanged {
            Some(current) => (Arc::clone(&current.set), false),
            None => (Arc::new(set), true),
        };
        self.current.store(Some(Arc::new(Current { set, good_until, body, fetched_at })));
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Up to a tenth sooner, so that many gateways do not ask at the same moment.
    fn jitter(&self, wait: Duration) -> Duration {
        let mut byte = [0];
        self.parts.rng.fill(&mut byte);
        let [share] = byte;
        wait.saturating_sub(wait / 10 * u32::from(share) / 255)
    }

    pub(super) fn status(&self) -> Status {
        let current = self.current.load_full();
        Status {
            name: self.issuer.name.clone(),
            keys: self.keys().map(|set| set.keys().len()),
            rejected: current.as_ref().map_or(0, |current| current.set.rejected().len()),
            fetched_at: current.map(|current| current.fetched_at),
            error: self.lock().error.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySource for Held {
    fn keys(&self) -> Option<Arc<KeySet>> {
        let current = self.current.load();
        let current = current.as_ref()?;
        (self.parts.clock.monotonic() < current.good_until).then(|| Arc::clone(&current.set))
    }

    /// Also changes when the set becomes too old: what was verified with it must not outlive it in a cache.
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire) << 1 | u64::from(self.keys().is_none())
    }
}

/// The fetch that runs. One whose task is gone without a word (it panicked) must not block the next for ever.
fn live(running: Option<&Running>) -> Option<&Running> {
    running.filter(|running| running.has_changed().is_ok())
}

/// When a set is to be fetched again.
fn interval(timing: &Timing, max_age: Option<Duration>) -> Duration {
    let wanted = max_age.map_or(timing.usual, |age| age.min(timing.latest * 2) * 4 / 5);
    wanted.clamp(timing.soonest, timing.latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_refreshed_at_four_fifths_of_its_age_within_bounds() {
        let timing = Timing::default();
        let after = |secs| interval(&timing, Some(Duration::from_secs(secs))).as_secs();
        assert_eq!(after(3600), 2880);
        assert_eq!(after(0), 300);
        assert_eq!(after(u64::MAX), 86_400);
        assert_eq!(interval(&timing, None), timing.usual);
    }
}
