//! Apps that prove by attestation what they are: the endpoints under `/attest/v1/`.
//!
//! An installation gets a nonce ([`challenge`]), shows evidence over it and that it holds its key ([`enroll`]), and then, every
//! few minutes, that it still does ([`token`]). Whatever is not shown well enough has one answer ([`refusal`]). How often
//! an address may ask comes before anything else, how often an app's installations may enrol before evidence is judged; nothing
//! is kept of who is refused but, for some, why.

mod asked;
mod caller;
mod challenge;
mod counts;
mod device;
mod enroll;
mod evidence;
mod in_force;
mod instance;
mod nonce;
mod receipts;
mod recheck;
mod refusal;
mod risk;
mod secrets;
mod shares;
mod step_up;
mod token;
mod visit;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::routing::{delete, post};
use axum::{Router, middleware};
use base::{Name, Timestamp};
use proof::attest::status::StatusList;
use tokio::sync::Semaphore;
use vault::HashPurpose;

pub use asked::{AskedError, Others};
pub use counts::{AppCounts, Counted};
pub use in_force::{AppInForce, AppsInForce};
pub use receipts::exchange as exchange_receipts;
pub use recheck::recheck;
pub(crate) use refusal::typed as typed_arc;
pub use refusal::{ARC_LEN, Action, AppsError, Refused};
pub(crate) use visit::Visit;

use shares::{Most, Shares};

use crate::oauth::{AttemptLimits, Attempts, ClientKeySets, Oauth};
use crate::operations::Operations;

/// Evidence judged at the same time; whoever comes then waits.
const AT_ONCE: usize = 4;

/// How long whoever waits for that waits.
const WAIT: Duration = Duration::from_secs(3);

/// Refusals whose reason is kept, in a minute: beyond that only counts tell. No network may hide what becomes of others.
const KEPT_PER_MINUTE: Most = Most { all: 400, each: 40 };

/// Who knows which attestation keys are revoked.
pub trait RevocationList: Send + Sync {
    /// The list, or a stable code for why there is none that counts.
    fn list(&self) -> Result<Arc<StatusList>, &'static str>;

    /// When it was fetched, where there is one.
    fn fetched_at(&self) -> Option<Timestamp>;
}

/// What the endpoints are made of.
#[derive(Clone)]
pub struct AppsParts {
    /// State, keys, apps.
    pub operations: Arc<Operations>,
    /// Proofs on signed calls, as the token service takes them.
    pub oauth: Arc<Oauth>,
    /// The apps in force.
    pub in_force: Arc<ArcSwap<AppsInForce>>,
    /// The addresses the public listener is bound to.
    pub listening: Vec<SocketAddr>,
    /// How often one address may ask.
    pub limits: AttemptLimits,
    /// Which Android attestation keys are revoked.
    pub revoked: Arc<dyn RevocationList>,
    /// How others are asked about evidence.
    pub others: Arc<dyn Others>,
    /// Counts what came of it.
    pub counts: Arc<AppCounts>,
    /// Since when it is remembered which signatures of calls were used.
    pub remembered_since: Timestamp,
}

/// The endpoints under `/attest/v1/`.
pub struct Apps {
    parts: AppsParts,
    attempts: Attempts,
    enrolments: Mutex<HashMap<Name, Shares>>,
    judging: Semaphore,
    kept: Mutex<Shares>,
    /// Deliveries of secrets in this minute, by installation.
    deliveries: Mutex<HashMap<String, Window>>,
    keys: ClientKeySets,
}

/// A minute, and how many there were in it.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    since: Option<Instant>,
    count: u32,
}

impl Window {
    /// One more; whether it is among the first `most` of its minute. Otherwise when the next minute begins.
    fn admit(&mut self, most: u32, now: Instant) -> Result<(), Duration> {
        const MINUTE: Duration = Duration::from_mins(1);
        let begun = self.since.filter(|since| now.saturating_duration_since(*since) < MINUTE);
        let Some(since) = begun else {
            *self = Self { since: Some(now), count: 1 };
            return Ok(());
        };
        if self.count >= most {
            return Err(MINUTE.saturating_sub(now.saturating_duration_since(since)));
        }
        self.count += 1;
        Ok(())
    }

    /// Whether its minute has passed.
    fn is_over(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_mins(1))
    }
}

impl std::fmt::Debug for Apps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apps").finish_non_exhaustive()
    }
}

impl Apps {
    /// The endpoints over these parts.
    pub fn new(parts: AppsParts) -> Self {
        Self {
            attempts: Attempts::new(parts.limits),
            enrolments: Mutex::default(),
            judging: Semaphore::new(AT_ONCE),
            kept: Mutex::default(),
            deliveries: Mutex::default(),
            keys: parts.oauth.key_sets(),
            parts,
        }
    }

    pub(crate) fn operations(&self) -> &Operations {
        &self.parts.operations
    }

    /// The app of that name, if it is there and not refused.
    fn app(&self, name: &str) -> Result<Arc<AppInForce>, Refused> {
        let app = self.parts.in_force.load().get(name);
        let app = app.ok_or_else(|| Refused::new(Action::None, "app_unknown"))?;
        if app.config.disabled { Err(Refused::new(Action::None, "app_disabled")) } else { Ok(app) }
    }

    /// One more enrolment of an app, from there: no network takes more than a share of what the app may have.
    fn admit_enrolment(&self, app: &AppInForce, from: IpAddr) -> Result<(), AppsError> {
        let now = self.operations().clock().monotonic();
        let mut windows = self.enrolments.lock().unwrap_or_else(PoisonError::into_inner);
        if !windows.contains_key(&app.config.name) {
            // There are never more than apps.
            let in_force = self.parts.in_force.load();
            windows.retain(|name, _| in_force.get(name.as_str()).is_some());
        }
        let shares = windows.entry(app.config.name.clone()).or_default();
        shares.admit(from, Most::tenth(app.config.enrolments_per_minute), now).map_err(AppsError::TooMany)
    }

    /// The URL of an endpoint under each origin we are reached at.
    fn targets(&self, path: &str) -> Vec<String> {
        let origins = self.operations().file().server.origins(&self.parts.listening);
        origins.into_iter().map(|origin| format!("{origin}{path}")).collect()
    }

    /// What is revoked, for an app that is enrolled with: a list that is too old for its risk rules does not count.
    fn revoked_for(&self, app: &AppInForce) -> Result<Arc<StatusList>, &'static str> {
        let list = self.parts.revoked.list()?;
        let most = self.operations().judge().rules().grace(app.config.name.as_str()).revocation_list_max_age;
        let oldest = self.operations().clock().now().minus(most.duration());
        match self.parts.revoked.fetched_at() {
            Some(at) if at < oldest => Err("revocation_list_stale"),
            _ => Ok(list),
        }
    }

    /// Keys that proofs of work are signed with: the present one and the one before.
    fn work_keys(&self) -> Vec<[u8; 32]> {
        self.operations().vault().keyed_hashes(HashPurpose::AttestNonce, b"altcha")
    }

    /// Whether the reason of a refusal of somebody there is kept.
    fn keeps_reason(&self, from: IpAddr) -> bool {
        let now = self.operations().clock().monotonic();
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).admit_evenly(from, KEPT_PER_MINUTE, now).is_ok()
    }
}

/// The routes of the public listener. Requests need a [`ClientAddress`](crate::ClientAddress) in their extensions. Other
/// endpoints for installations are added here; they authenticate through [`Apps::caller`].
pub fn router(apps: Arc<Apps>) -> Router {
    let post_only = async || AppsError::Method("POST").response("", false);
    let delete_only = async || AppsError::Method("DELETE").response("", false);
    Router::new()
        .route("/attest/v1/challenge", post(challenge::endpoint).fallback(post_only))
        .route("/attest/v1/enroll", post(enroll::endpoint).fallback(post_only))
        .route("/attest/v1/token", post(token::endpoint).fallback(post_only))
        .route("/attest/v1/secrets", post(secrets::endpoint).fallback(post_only))
        .route("/attest/v1/instance", delete(instance::endpoint).fallback(delete_only))
        .fallback(async || AppsError::NotFound.response("", false))
        .layer(middleware::from_fn_with_state(Arc::clone(&apps), visit::cors))
        .with_state(apps)
}
