//! What goes on beside requests.

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use net::Egress;
use net::jwks::Jwks;
use store::{Ledger, SharedState, Store, StoreError};

use super::Running;
use crate::listen::{Pressure, memory_limit, memory_used};
use crate::tasks::Tasks;

/// How often what is past its time is deleted.
const SWEEP: Duration = Duration::from_mins(10);

/// How often the signing keys are looked at: which is to be published, to sign, or to go.
const ROTATE: Duration = Duration::from_mins(1);

/// How much at once: small steps let other writes through.
const STEP: u32 = 1000;

/// For how long a node leads what one of several does, unless it asks again: longer than it waits to ask.
const TERM: Duration = Duration::from_mins(2);
const SWEEP_TERM: Duration = Duration::from_mins(25);

/// For how long it is remembered what webhooks were told, so that they are not told again.
const TOLD: Duration = Duration::from_hours(48);

/// How often periods of budgets that ended long ago are forgotten, and after which time.
const FORGET: Duration = Duration::from_hours(1);
const BOOKS: Duration = Duration::from_hours(400 * 24);

/// For how long it is remembered whom an anomaly stopped, and what callers did before.
const STOPS: Duration = Duration::from_hours(400 * 24);
const HABITS: Duration = Duration::from_hours(30 * 24);
/// For how long it is remembered what was decided about instances of apps, and what leave they had.
const DECISIONS: Duration = Duration::from_hours(30 * 24);
const PASSES: Duration = Duration::from_hours(400 * 24);

/// How often the uses of runtime secrets are written down, and for how long their values are kept past their end.
const SECRET_USES: Duration = Duration::from_secs(10);
const ENDED_SECRETS: Duration = Duration::from_hours(1);

/// For how long it is kept why installations of apps were refused, and of how many.
const REFUSALS: Duration = Duration::from_hours(30 * 24);
const MOST_REFUSALS: u32 = 100_000;

/// For how long installations are kept that are not seen any more, and those that may not any more.
const UNSEEN: Duration = Duration::from_hours(90 * 24);
const BARRED: Duration = Duration::from_hours(400 * 24);
/// The same of those that showed no device and never asked for a second token.
const UNUSED: Duration = Duration::from_hours(1);

/// How often a node says that it lives.
const LIVE: Duration = Duration::from_secs(5);

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
            let operations = &rotating.builder.operations;
            if leads(operations.store(), "signing keys", TERM).await
                && let Err(error) = operations.keys_maintain().await
            {
                tracing::error!(reason = error.reason(), %error, "the signing keys cannot be maintained");
            }
            tokio::time::sleep(ROTATE).await;
        }
    });
}

/// Write down from time to time how often runtime secrets were used.
pub(super) async fn count_secrets(store: Store) {
    loop {
        tokio::time::sleep(SECRET_USES).await;
        if let Err(error) = store.write_secret_uses().await {
            tracing::warn!(reason = error.reason(), "uses of runtime secrets wait to be written");
        }
    }
}

/// What nodes of one database do for each other.
pub(super) fn share(tasks: &Tasks, store: &Store, shared: Option<SharedState>) {
    if !store.is_shared() {
        return;
    }
    let following = store.clone();
    tasks.spawn(async move { following.follow().await });
    if let Some(places) = shared.clone() {
        tasks.spawn(async move { places.keep_places().await });
    }
    let living = store.clone();
    tasks.spawn(async move {
        loop {
            match (living.live().await, &shared) {
                (Ok(nodes), Some(shared)) => shared.set_nodes(nodes),
                (Ok(_), None) => {}
                (Err(error), _) => {
                    tracing::warn!(reason = error.reason(), "this node cannot say that it lives");
                }
            }
            tokio::time::sleep(LIVE).await;
        }
    });
}

/// The longest that usage by the hour is kept.
const HOURS: Duration = Duration::from_hours(92 * 24);

/// Forget what is past its time: request records and sums of usage after `[store] retention` and `usage_retention`, answers kept for their idempotency key, signing
/// keys nothing valid was signed with, proofs nobody accepts, revocations of what has ended by itself, what webhooks were told, and what could be used once or later and
/// can be no more.
pub(super) async fn forget(store: Store, clock: Arc<dyn Clock>, (keep, keep_usage): (Duration, Duration)) {
    loop {
        if !leads(&store, "sweep", SWEEP_TERM).await {
            // In memory each node forgets for itself.
            store.forget_revoked();
            tokio::time::sleep(SWEEP).await;
            continue;
        }
        let mut more = false;
        let old = clock.now().minus(keep);
        let (hours, days) = (clock.now().minus(keep_usage.min(HOURS)), clock.now().minus(keep_usage));
        for deleted in [
            store.records().delete_before(old, STEP).await,
            store.usage().delete_before(hours, days, STEP).await,
            store.used_once().delete_expired(STEP).await,
            store.codes().delete_expired(STEP).await,
            store.refresh().delete_expired(STEP).await,
            store.revocations().delete_expired(STEP).await,
            store.forget_shown(STEP).await,
            store.forget_sightings(STEP).await,
            store.outbox().delete_before(clock.now().minus(TOLD), STEP).await,
            store.stops().delete_before(clock.now().minus(STOPS), STEP).await,
            store.habits().delete_before(clock.now().minus(HABITS), STEP).await,
            store.app_configs().delete_before(clock.now().minus(STOPS), STEP).await,
            store.risk_decisions().delete_before(store::RiskDecision::day_of(clock.now().minus(DECISIONS)), STEP).await,
            store.step_ups().delete_before(clock.now().minus(DECISIONS), STEP).await,
            store.receipts().delete_orphans(STEP).await,
            store.forced_passes().delete_before(clock.now().minus(PASSES), STEP).await,
            store.instances().delete_refusals(clock.now().minus(REFUSALS), MOST_REFUSALS, STEP).await,
            store.instances().delete_unused(clock.now().minus(UNUSED), STEP).await,
            store.instances().delete_unseen(clock.now().minus(UNSEEN), clock.now().minus(BARRED), STEP).await,
        ] {
            more |= seen(deleted).is_some_and(|deleted| deleted >= u64::from(STEP));
        }
        seen(store.runtime_secrets().forget_ended(clock.now().minus(ENDED_SECRETS)).await);
        seen(store.idempotency().delete_expired().await);
        seen(store.signing_keys().erase_expired().await);
        seen(store.secrets().retire_due().await);
        if !more {
            tokio::time::sleep(SWEEP).await;
        }
    }
}

/// Forget periods of budgets that ended long ago, with their entries.
pub(super) async fn forget_periods(store: Store, ledger: Ledger, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(FORGET).await;
        if !leads(&store, "ledger", 2 * FORGET).await {
            continue;
        }
        let moment = clock.now().minus(BOOKS);
        while seen(ledger.forget_before(moment, STEP).await).is_some_and(|gone| gone >= u64::from(STEP)) {}
    }
}

/// Whether this node does what one of several is to do. Nobody does while the store does not answer.
pub(super) async fn leads(store: &Store, what: &str, term: Duration) -> bool {
    store.leads(what, term).await.unwrap_or_else(|error| {
        tracing::warn!(reason = error.reason(), what, "it is not known which node is to do this");
        false
    })
}

fn seen(deleted: Result<u64, StoreError>) -> Option<u64> {
    deleted.inspect_err(|error| tracing::warn!(%error, "what is past its time cannot be deleted")).ok()
}
