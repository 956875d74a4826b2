//! Keeps Google's list of revoked attestation certificates ([`proof::attest::status`]).
//!
//! Fetched as often as its `Cache-Control` says, within bounds; the last good list stays in use while Google cannot be
//! reached or sends nonsense, also across a restart, until it is too old. Then there is no list, and who needs one to let
//! a device in refuses: a list that is out of reach must not be a list that is empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base::{Clock, Name, Timestamp};
use proof::attest::status::{StatusError, StatusList};
use url::Url;

use crate::jwks::{Documents, LastGood, Saved};
use crate::{BoxFuture, Egress, FetchError, FetchLimits, Fetched, Reach, fetch_json};

/// Where Google publishes it.
pub const ANDROID_STATUS_URL: &str = "https://android.googleapis.com/attestation/status";

/// What a fetch may cost: the list grows.
const LIMITS: FetchLimits = FetchLimits { bytes: 32 << 20, time: Duration::from_mins(1) };

/// When a list is fetched and how long it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationTiming {
    /// A list is fetched again after its `max-age`, but not before this, which is also the time after a failure,
    pub soonest: Duration,
    /// and not after this.
    pub latest: Duration,
    /// When there is no `max-age`.
    pub usual: Duration,
    /// How long after its fetch a list counts.
    pub max_age: Duration,
}

impl Default for RevocationTiming {
    fn default() -> Self {
        Self {
            soonest: Duration::from_mins(5),
            latest: Duration::from_hours(24),
            usual: Duration::from_hours(1),
            max_age: Duration::from_hours(7 * 24),
        }
    }
}

/// Why there is no list, or no newer one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevocationsError {
    /// No list was ever fetched.
    #[error("the revocation list has never been fetched")]
    Missing,
    /// The last one is too old.
    #[error("the revocation list is too old")]
    Stale,
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What was fetched is no list.
    #[error(transparent)]
    List(#[from] StatusError),
    /// There were entries before, and now there is none.
    #[error("the revocation list has no entry any more")]
    Emptied,
}

impl RevocationsError {
    /// A stable code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "revocation_list_missing",
            Self::Stale => "revocation_list_stale",
            Self::Fetch(error) => error.reason(),
            Self::List(error) => error.reason(),
            Self::Emptied => "revocation_list_emptied",
        }
    }
}

/// Where a list is and what it is kept by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationSource {
    /// What it is kept under. The address is kept with it, so that a list of another place is not taken for it.
    pub name: Name,
    /// [`ANDROID_STATUS_URL`], or a mirror of it.
    pub url: Url,
    /// Whether it may lie on a private network.
    pub reach: Reach,
}

/// An [`Egress`] with room for the list.
#[derive(Debug, Clone)]
pub struct LargeDocuments(pub Egress);

impl Documents for LargeDocuments {
    fn get<'a>(&'a self, url: &'a Url, reach: Reach) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        Box::pin(fetch_json(&self.0, url, reach, LIMITS))
    }
}

struct Held {
    list: Arc<StatusList>,
    fetched_at: Timestamp,
}

/// The list. Shared by all snapshots of the configuration.
pub struct Revocations {
    source: RevocationSource,
    documents: Arc<dyn Documents>,
    last_good: Arc<dyn LastGood>,
    clock: Arc<dyn Clock>,
    timing: RevocationTiming,
    held: ArcSwapOption<Held>,
    /// When the next fetch is due, in milliseconds since 1970.
    due: AtomicI64,
    generation: AtomicU64,
}

impl std::fmt::Debug for Revocations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revocations").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Revocations {
    /// No list yet; [`Revocations::restore`] and [`Revocations::refresh`] bring one.
    pub fn new(
        source: RevocationSource,
        documents: Arc<dyn Documents>,
        last_good: Arc<dyn LastGood>,
        clock: Arc<dyn Clock>,
        timing: RevocationTiming,
    ) -> Self {
        let held = ArcSwapOption::empty();
        let (due, generation) = (AtomicI64::new(i64::MIN), AtomicU64::new(0));
        Self { source, documents, last_good, clock, timing, held, due, generation }
    }

    /// Take up what was kept before a restart. A fetch stays due.
    pub async fn restore(&self) {
        let Some(saved) = self.last_good.load(&self.source.name).await else { return };
        if saved.place != self.source.url.as_str() {
            return;
        }
        match StatusList::parse(&saved.body) {
            Ok(list) => self.take(list, saved.fetched_at),
            Err(error) => tracing::warn!(%error, "the kept revocation list cannot be read"),
        }
    }

    /// The list, if there is one that still counts.
    pub fn list(&self) -> Result<Arc<StatusList>, RevocationsError> {
        let held = self.held.load();
        let held = held.as_ref().ok_or(RevocationsError::Missing)?;
        if self.clock.now().since(held.fetched_at) > self.timing.max_age {
            return Err(RevocationsError::Stale);
        }
        Ok(Arc::clone(&held.list))
    }

    /// A number that grows whenever the entries change: who was let in by an older list is to be looked up again.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// When the list was fetched.
    pub fn fetched_at(&self) -> Option<Timestamp> {
        self.held.load().as_ref().map(|held| held.fetched_at)
    }

    /// Whether a fetch is due.
    pub fn is_due(&self) -> bool {
        self.clock.now().as_millis() >= self.due.load(Ordering::Acquire)
    }

    /// Fetch. After a failure the list is what it was.
    pub async fn refresh(&self) -> Result<(), RevocationsError> {
        // Claimed before the fetch, and whatever comes of it, so that failures do not make it come more often.
        self.wait(self.timing.soonest);
        let Fetched { body, max_age } = self.documents.get(&self.source.url, self.source.reach).await?;
        let list = StatusList::parse(&body)?;
        if list.is_empty() && self.held.load().as_ref().is_some_and(|held| !held.list.is_empty()) {
            return Err(RevocationsError::Emptied);
        }
        let fetched_at = self.clock.now();
        let lifetime = max_age.unwrap_or(self.timing.usual).clamp(self.timing.soonest, self.timing.latest);
        self.wait(lifetime);
        self.take(list, fetched_at);
        let place = self.source.url.as_str().to_owned();
        self.last_good.save(&self.source.name, Saved { place, body, fetched_at, lifetime }).await;
        Ok(())
    }

    /// [`Revocations::refresh`] whenever it is due, for ever.
    pub async fn run(&self) {
        loop {
            if self.is_due()
                && let Err(error) = self.refresh().await
            {
                tracing::warn!(reason = error.reason(), %error, "the revocation list cannot be fetched");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn wait(&self, time: Duration) {
        self.due.store(self.clock.now().plus(time).as_millis(), Ordering::Release);
    }

    fn take(&self, list: StatusList, fetched_at: Timestamp) {
        let same = self.held.load().as_ref().is_some_and(|held| *held.list == list);
        self.held.store(Some(Arc::new(Held { list: Arc::new(list), fetched_at })));
        if !same {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests;
