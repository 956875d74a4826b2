//! The public keys of clients that sign who they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::Clock;
use config::HttpUrl;
use proof::jose::{KeySet, SigningAlg, SigningKey};

use super::super::{Documents, OauthError};
use crate::operations::RegisteredKeys;

/// How soon after one fetch the next may follow, whatever came of the first.
const COOLDOWN: Duration = Duration::from_secs(30);
/// How long keys count as fresh at least, at most, and where their server does not say.
const SOONEST: Duration = Duration::from_mins(5);
const LATEST: Duration = Duration::from_hours(24);
const USUAL: Duration = Duration::from_hours(1);
/// How long keys that cannot be fetched again go on being used.
const STALE: Duration = Duration::from_hours(1);

/// The key sets of clients, fetched as they are needed. There are never more than clients whose key sets are at a URL.
pub(crate) struct ClientKeySets {
    documents: Arc<dyn Documents>,
    clock: Arc<dyn Clock>,
    stand_in: Arc<KeySet>,
    held: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Held>>>>,
}

/// What is held of one URL.
#[derive(Default)]
struct Held {
    keys: Option<Fetched>,
    tried: Option<Instant>,
}

#[derive(Clone)]
struct Fetched {
    keys: Arc<KeySet>,
    at: Instant,
    fresh_for: Duration,
}

impl ClientKeySets {
    /// No keys yet.
    pub(crate) fn new(documents: Arc<dyn Documents>, clock: Arc<dyn Clock>) -> Self {
        let stand_in = SigningKey::generate(SigningAlg::Es256).ok().and_then(|key| {
            let mut jwk = key.public_jwk().clone();
            // Without a kid it is the key that is tried, so that the work is done.
            jwk.as_object_mut()?.remove("kid");
            KeySet::from_operator(jwk.to_string().as_bytes()).ok()
        });
        Self { documents, clock, stand_in: Arc::new(stand_in.unwrap_or_default()), held: Mutex::default() }
    }

    /// Keys of nobody, for clients that have none: verifying with them takes the same time.
    pub(super) fn stand_in(&self) -> Arc<KeySet> {
        Arc::clone(&self.stand_in)
    }

    /// The keys of a client that signs who it is, or of a transmitter of security events. `anew`: those held do not have the key that was used, so they are fetched
    /// again unless that was done a moment ago.
    pub(crate) async fn of(&self, keys: &RegisteredKeys, anew: bool) -> Result<Arc<KeySet>, OauthError> {
        match keys {
            RegisteredKeys::Set(keys) => Ok(Arc::clone(keys)),
            RegisteredKeys::Url { url, allow_private } => self.fetched(url, *allow_private, anew).await,
        }
    }

    async fn fetched(&self, url: &HttpUrl, allow_private: bool, anew: bool) -> Result<Arc<KeySet>, OauthError> {
        let entry = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(held.entry(url.as_str().to_owned()).or_default())
        };
        // One fetch at a time: who waits finds what the one before has brought.
        let mut held = entry.lock().await;
        let now = self.clock.monotonic();
        let since = |at: Instant| now.saturating_duration_since(at);
        let fresh = held.keys.as_ref().filter(|keys| since(keys.at) < keys.fresh_for);
        let cooling = held.tried.is_some_and(|at| since(at) < COOLDOWN);
        if let Some(keys) = fresh
            && (!anew || cooling)
        {
            return Ok(Arc::clone(&keys.keys));
        }
        if !cooling {
            held.tried = Some(now);
            if let Some(fetched) = self.fetch(url, allow_private, now).await {
                held.keys = Some(fetched.clone());
                return Ok(fetched.keys);
            }
        }
        let stale = held.keys.as_ref().filter(|keys| since(keys.at) < keys.fresh_for.saturating_add(STALE));
        stale.map(|keys| Arc::clone(&keys.keys)).ok_or(OauthError::Unavailable)
    }

    async fn fetch(&self, url: &HttpUrl, allow_private: bool, now: Instant) -> Option<Fetched> {
        let document = match self.documents.get(url.as_str(), allow_private).await {
            Ok(document) => document,
            Err(error) => {
                tracing::warn!(url = url.as_str(), reason = error.reason, %error, "keys cannot be fetched");
                return None;
            }
        };
        let fresh_for = document.max_age.map_or(USUAL, |age| age.clamp(SOONEST, LATEST));
        match KeySet::from_published(&document.body) {
            Ok(keys) => Some(Fetched { keys: Arc::new(keys), at: now, fresh_for }),
            Err(error) => {
                tracing::warn!(url = url.as_str(), reason = error.reason(), "keys cannot be used");
                None
            }
        }
    }
}

impl std::fmt::Debug for ClientKeySets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientKeySets").finish_non_exhaustive()
    }
}
