//! What goes on beside requests.

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use net::Egress;
use net::jwks::Jwks;
use store::{Store, StoreError};

use super::Running;
use crate::listen::{Pressure, memory_limit, memory_used};
use crate::tasks::Tasks;

/// How often what is past its time is deleted.
const SWEEP: Duration = Duration::from_mins(10);

/// How often the signing keys are looked at: which is to be published, to sign, or to go.
const ROTATE: Duration = Duration::from_mins(1);

/// How much at once: small steps let other writes through.
const STEP: u32 = 1000;

/// Start what goes on beside requests.
pub(super) fn begin(tasks: &Tasks, running: &Arc<Running>, jwks: &Arc<Jwks>, egress: Egress, pressure: Arc<Pressure>) {
    let keys = Arc::clone(jwks);
    tasks.spawn(async move { keys.run().await });
    let following = Arc::clone(running);
    tasks.spawn(async move { following.follow_store().await });
    tasks.spawn(async move {
        let limit = memory_limit();
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let (Some(used), Some(limit)) = (memory_used(), limit)
                && let Some(load) = pressure.sample(used, limit)
            {
                tracing::warn!(?load, used, limit, "memory pressure changed");
            }
        }
    });
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(30)).await;
            egress.sweep();
        }
    });
    let rotating = Arc::clone(running);
    tasks.spawn(async move {
        loop {
            if let Err(error) = rotating.builder.operations.keys_maintain().await {
                tracing::error!(reason = error.reason(), %error, "the signing keys cannot be maintained");
            }
            tokio::time::sleep(ROTATE).await;
        }
    });
}

/// Forget what is past its time: request records after `[store] retention`, answers kept for their idempotency key, signing
/// keys nothing valid was signed with, revocations of what has ended by itself, and what could be used once or later and
/// can be no more.
pub(super) async fn forget(store: Store, clock: Arc<dyn Clock>, keep: Duration) {
    loop {
        let mut more = false;
        let old = clock.now().minus(keep);
        for deleted in [
            store.records().delete_before(old, STEP).await,
            store.used_once().delete_expired(STEP).await,
            store.codes().delete_expired(STEP).await,
            store.refresh().delete_expired(STEP).await,
            store.revocations().delete_expired(STEP).await,
        ] {
            more |= seen(deleted).is_some_and(|deleted| deleted >= u64::from(STEP));
        }
        seen(store.idempotency().delete_expired().await);
        seen(store.signing_keys().erase_expired().await);
        if !more {
            tokio::time::sleep(SWEEP).await;
        }
    }
}

fn seen(deleted: Result<u64, StoreError>) -> Option<u64> {
    deleted.inspect_err(|error| tracing::warn!(%error, "what is past its time cannot be deleted")).ok()
}
