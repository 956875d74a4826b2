//! What one of several nodes is to do, and which nodes there are.

use std::time::Duration;

use base::Timestamp;

use crate::engine::{Connection, first};
use crate::{Store, StoreError};

/// How long after its last sign of life a node counts.
const LIVES: Duration = Duration::from_secs(30);
/// How long a node that is gone stays in the list.
const REMEMBERED: Duration = Duration::from_hours(24);

impl Store {
    /// Whether this node is the one to do what goes by that name, until `term` is over unless it asks again. With a store
    /// of one node it always is. What must never be done twice does not rely on this alone: a node that was stopped for
    /// longer than its term still believes it.
    pub async fn leads(&self, name: &str, term: Duration) -> Result<bool, StoreError> {
        if !self.shared.engine.is_shared() {
            return Ok(true);
        }
        let (store, name) = (self.clone(), name.to_owned());
        self.write(move |tx| {
            Box::pin(async move {
                let now = moment(tx, &store).await?;
                let take = store
                    .sql(
                        "INSERT INTO leases (tenant, name, node, until) VALUES ($1, $2, $3, $4)
                         ON CONFLICT (tenant, name) DO UPDATE SET node = excluded.node, until = excluded.until
                         WHERE leases.node = excluded.node OR leases.until <= $5",
                    )
                    .bind(name)
                    .bind(&*store.shared.node)
                    .bind(now.plus(term))
                    .bind(now);
                Ok(tx.execute(take).await? == 1)
            })
        })
        .await
    }

    /// Give back what this node leads, so that another need not wait.
    pub async fn resign(&self) -> Result<(), StoreError> {
        if !self.shared.engine.is_shared() {
            return Ok(());
        }
        let leases = self.sql("DELETE FROM leases WHERE tenant = $1 AND node = $2").bind(&*self.shared.node);
        let node = self.sql("DELETE FROM nodes WHERE tenant = $1 AND node = $2").bind(&*self.shared.node);
        self.write(move |tx| {
            Box::pin(async move {
                tx.execute(leases).await?;
                tx.execute(node).await.map(drop)
            })
        })
        .await
    }

    /// Note that this node lives; how many do, this one among them. To be called every few seconds.
    pub async fn live(&self) -> Result<u64, StoreError> {
        if !self.shared.engine.is_shared() {
            return Ok(1);
        }
        let store = self.clone();
        self.write(move |tx| {
            Box::pin(async move {
                let now = moment(tx, &store).await?;
                let note = store
                    .sql(
                        "INSERT INTO nodes (tenant, node, started_at, seen_at) VALUES ($1, $2, $3, $3)
                         ON CONFLICT (tenant, node) DO UPDATE SET seen_at = excluded.seen_at",
                    )
                    .bind(&*store.shared.node)
                    .bind(now);
                tx.execute(note).await?;
                let forget = store.sql("DELETE FROM nodes WHERE tenant = $1 AND seen_at < $2");
                tx.execute(forget.bind(now.minus(REMEMBERED))).await?;
                let count = store.sql("SELECT COUNT(*) FROM nodes WHERE tenant = $1 AND seen_at > $2");
                first(tx.fetch(count.bind(now.minus(LIVES))).await?).ok_or(StoreError::Corrupt)?.take()
            })
        })
        .await
    }

    /// Let go of revocations in memory that may be forgotten. On the disk one node does.
    pub fn forget_revoked(&self) {
        self.shared.memory.mirror.forget(self.now());
    }

    /// Whether several nodes may use this store.
    pub fn is_shared(&self) -> bool {
        self.shared.engine.is_shared()
    }
}

/// The moment, by the clock all nodes share where there is one.
pub(crate) async fn moment(tx: &mut dyn Connection, store: &Store) -> Result<Timestamp, StoreError> {
    match tx.clock() {
        Some(clock) => first(tx.fetch(clock).await?).ok_or(StoreError::Corrupt)?.take(),
        None => Ok(store.now()),
    }
}
