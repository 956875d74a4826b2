//! Keeps the published keys of the issuers whose tokens are accepted.
//!
//! A token that names an unknown key makes the manager fetch once and then wait out a cooldown, claimed before the
//! fetch and whatever comes of it, so that no number of such tokens makes it fetch more. The last good set stays in
//! use while an issuer cannot be reached or publishes nonsense, until it is too old: then there are no keys, and
//! the issuer's tokens are refused.

mod discovery;
mod held;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base::{Clock, Name, Rng, Timestamp};
use proof::jose::KeySetError;
use proof::token::KeySource;
use tokio::sync::watch;
use url::Url;

pub use discovery::metadata;

use crate::jwks::held::{Begin, Held};
use crate::{BoxFuture, Egress, FetchError, FetchLimits, Fetched, Reach, fetch_json, task};

/// An issuer whose keys are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyIssuer {
    /// Its name in the configuration.
    pub name: Name,
    /// Where its keys are.
    pub place: Place,
    /// Whether they may lie on a private network.
    pub reach: Reach,
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At this URL.
    Jwks(Url),
    /// Where the metadata of this issuer identifier says (RFC 8414, OpenID Connect Discovery 1.0).
    Discovery(String),
}

impl Place {
    fn as_str(&self) -> &str {
        match self {
            Self::Jwks(url) => url.as_str(),
            Self::Discovery(issuer) => issuer,
        }
    }
}

/// When keys are fetched and how long they last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time between two fetches for one issuer, at least.
    pub cooldown: Duration,
    /// A set is fetched again after 80 % of its `max-age`, but not before this,
    pub soonest: Duration,
    /// and not after this: the bound within which a key that an issuer removed stops working.
    pub latest: Duration,
    /// When there is no `max-age`.
    pub usual: Duration,
    /// How long past the time of its refresh a set stays in use while refreshing fails.
    pub grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            cooldown: Duration::from_secs(30),
            soonest: Duration::from_mins(5),
            latest: Duration::from_hours(24),
            usual: Duration::from_mins(15),
            grace: Duration::from_hours(6),
        }
    }
}

/// Where the documents come from: an [`Egress`], or a table in tests.
pub trait Documents: Send + Sync {
    /// Fetch one JSON document.
    fn get<'a>(&'a self, url: &'a Url, reach: Reach) -> BoxFuture<'a, Result<Fetched, FetchError>>;
}

impl Documents for Egress {
    fn get<'a>(&'a self, url: &'a Url, reach: Reach) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        Box::pin(fetch_json(self, url, reach, FetchLimits::default()))
    }
}

/// A set worth keeping across a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The URL or issuer identifier it belongs to: another place's set is of no use.
    pub place: String,
    /// The key set as it was published.
    pub body: Vec<u8>,
    /// When it was fetched.
    pub fetched_at: Timestamp,
    /// How long after that it was to be used.
    pub lifetime: Duration,
}

/// Keeps the last good sets across a restart. Failures are the implementation's to log: they cost a fetch.
pub trait LastGood: Send + Sync {
    /// What was saved for an issuer.
    fn load<'a>(&'a self, issuer: &'a Name) -> BoxFuture<'a, Option<Saved>>;
    /// Keep this for an issuer instead.
    fn save<'a>(&'a self, issuer: &'a Name, saved: Saved) -> BoxFuture<'a, ()>;
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forget;

impl LastGood for Forget {
    fn load<'a>(&'a self, _: &'a Name) -> BoxFuture<'a, Option<Saved>> {
        Box::pin(std::future::ready(None))
    }
    fn save<'a>(&'a self, _: &'a Name, _: Saved) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Why a set was not taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// A document could not be fetched.
    #[error("{url}: {error}")]
    Fetch {
        /// What was asked for.
        url: String,
        /// Why it failed.
        error: FetchError,
    },
    /// The issuer identifier is not a URL that can have metadata (RFC 8414 section 2).
    #[error("the issuer identifier must be an https URL without query and fragment")]
    Issuer,
    /// The metadata is not a JSON object with `issuer` and `jwks_uri`.
    #[error("{url}: no usable metadata")]
    Metadata {
        /// Where it was found.
        url: String,
    },
    /// The metadata names another issuer (RFC 8414 section 3.3).
    #[error("{url}: the metadata is another issuer's")]
    Mismatch {
        /// Where it was found.
        url: String,
    },
    /// The key set is refused whole.
    #[error(transparent)]
    Set(#[from] KeySetError),
    /// There were usable keys before, and the new set has none.
    #[error("{url}: the set has no usable key any more")]
    NoKeyLeft {
        /// Where it was found.
        url: String,
    },
}

impl JwksError {
    /// A stable short code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Fetch { error, .. } => error.reason(),
            Self::Issuer => "discovery_issuer",
            Self::Metadata { .. } => "discovery_metadata",
            Self::Mismatch { .. } => "discovery_issuer_mismatch",
            Self::Set(error) => error.reason(),
            Self::NoKeyLeft { .. } => "no_usable_key",
        }
    }
}

/// What came of asking for newer keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// A set was fetched: verify again.
    Fetched,
    /// The fetch failed; the set is what it was.
    Failed(JwksError),
    /// The last fetch is too recent.
    CoolingDown,
    /// No issuer of this name has fetched keys.
    NotHere,
}

/// How an issuer's keys are doing.
#[derive(Debug, Clone)]
pub struct Status {
    /// The issuer.
    pub name: Name,
    /// Usable keys now; `None` if there never were any or they are too old.
    pub keys: Option<usize>,
    /// Entries of the set that are not used.
    pub rejected: usize,
    /// When the set was fetched.
    pub fetched_at: Option<Timestamp>,
    /// What went wrong since.
    pub error: Option<JwksError>,
}

/// The manager. Shared by all snapshots of the configuration, so that a reload forgets no keys.
pub struct Jwks {
    issuers: ArcSwap<HashMap<Name, Arc<Held>>>,
    parts: Arc<Parts>,
}

/// What every issuer's state uses.
struct Parts {
    documents: Arc<dyn Documents>,
    last_good: Arc<dyn LastGood>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    timing: Timing,
}

impl std::fmt::Debug for Jwks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.issuers.load().keys()).finish()
    }
}

impl Jwks {
    /// A manager of no issuers yet.
    pub fn new(
        documents: Arc<dyn Documents>,
        last_good: Arc<dyn LastGood>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        timing: Timing,
    ) -> Self {
        let parts = Arc::new(Parts { documents, last_good, clock, rng, timing });
        Self { issuers: ArcSwap::default(), parts }
    }

    /// Keep the keys of these issuers from now on. Issuers that stay the same keep their keys and cooldown; new ones
    /// start with what was saved for them. Returns at once otherwise: [`Jwks::tick`] fetches.
    pub async fn configure(&self, issuers: Vec<KeyIssuer>) {
        let before = self.issuers.load_full();
        let mut after = HashMap::new();
        for issuer in issuers {
            let held = match before.get(&issuer.name) {
                Some(held) if *held.issuer() == issuer => Arc::clone(held),
                _ => {
                    let held = Arc::new(Held::new(issuer, Arc::clone(&self.parts)));
                    if let Some(saved) = self.parts.last_good.load(&held.issuer().name).await {
                        held.restore(&saved);
                    }
                    held
                }
            };
            after.insert(held.issuer().name.clone(), held);
        }
        self.issuers.store(Arc::new(after));
    }

    /// The keys of an issuer, as the token verifier wants them.
    pub fn source(&self, issuer: &Name) -> Option<Arc<dyn KeySource>> {
        let held = Arc::clone(self.issuers.load().get(issuer)?);
        Some(held)
    }

    /// Fetch an issuer's keys unless that happened just now. Any number of callers share one fetch, and it goes on
    /// when they leave.
    pub async fn refresh(&self, issuer: &Name) -> Refreshed {
        let Some(held) = self.issuers.load().get(issuer).map(Arc::clone) else {
            return Refreshed::NotHere;
        };
        match begin(&held) {
            Some(running) => outcome(running).await,
            None => Refreshed::CoolingDown,
        }
    }

    /// Start every fetch that is due. Call it about once a second.
    pub fn tick(&self) {
        for held in self.issuers.load().values().filter(|held| held.is_due()) {
            let _running = begin(held);
        }
    }

    /// Wait until no fetch is running.
    pub async fn settled(&self) {
        let running: Vec<_> = self.issuers.load().values().filter_map(|held| held.running()).collect();
        for fetch in running {
            outcome(fetch).await;
        }
    }

    /// [`Jwks::tick`], once a second, for ever.
    pub async fn run(&self) {
        loop {
            self.tick();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// How each issuer's keys are doing, sorted by name.
    pub fn status(&self) -> Vec<Status> {
        let mut all: Vec<_> = self.issuers.load().values().map(|held| held.status()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

type Running = watch::Receiver<Option<Refreshed>>;

/// Join the fetch that runs, or start one; `None` while cooling down.
fn begin(held: &Arc<Held>) -> Option<Running> {
    match held.begin() {
        Begin::Cooling => None,
        Begin::Join(running) => Some(running),
        Begin::Start(done, running) => {
            let held = Arc::clone(held);
            let _detached = task::spawn(async move {
                let outcome = held.fetch().await;
                done.send_replace(Some(outcome));
            });
            Some(running)
        }
    }
}

async fn outcome(mut running: Running) -> Refreshed {
    match running.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
        Ok(Some(outcome)) => outcome,
        // The fetch's task is gone without a word: the runtime is shutting down.
        _ => Refreshed::CoolingDown,
    }
}

#[cfg(test)]
mod tests;
