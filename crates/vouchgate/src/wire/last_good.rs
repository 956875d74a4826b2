//! The last good key sets of issuers, kept in the store.

use base::Name;
use net::BoxFuture;
use net::jwks::{LastGood, Saved, Timing};
use store::Store;

/// Keeps key sets across a restart, so that it does not depend on the issuers being up.
#[derive(Debug)]
pub struct Kept(pub Store);

impl LastGood for Kept {
    fn load<'a>(&'a self, issuer: &'a Name) -> BoxFuture<'a, Option<Saved>> {
        Box::pin(async move {
            let loaded = self.0.jwks_last_good().load(issuer).await;
            let set =
                loaded.inspect_err(|error| tracing::warn!(%issuer, %error, "the kept keys cannot be read")).ok()??;
            // How long the issuer wanted its set used is not kept: an outage of its should not become ours, so the longest
            // time that is ever allowed applies.
            let lifetime = Timing::default().latest;
            Some(Saved { place: set.url, body: set.body, fetched_at: set.fetched_at, lifetime })
        })
    }

    fn save<'a>(&'a self, issuer: &'a Name, saved: Saved) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Saved { place: url, body, fetched_at, .. } = saved;
            let set = store::LastGood { issuer: issuer.clone(), url, body, fetched_at };
            if let Err(error) = self.0.jwks_last_good().save(&set).await {
                tracing::warn!(%issuer, %error, "the issuer's keys cannot be kept for the next start");
            }
        })
    }
}
