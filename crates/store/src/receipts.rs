//! Receipts of App Attest: of each installation the last one, sealed, and what Apple said with it.

use base::{Name, Timestamp};
use vault::Sealed;

use crate::engine::{Row, Statement};
use crate::{Store, StoreError};

/// A receipt that came with an enrolment.
#[derive(Debug, Clone)]
pub struct NewReceipt {
    /// The name it is sealed under.
    pub name: String,
    /// It, sealed.
    pub sealed: Sealed,
    /// From when on Apple gives another for it.
    pub next_at: Timestamp,
}

/// A receipt that another can be had for.
#[derive(Debug, Clone)]
pub struct DueReceipt {
    /// The name it is sealed under.
    pub name: String,
    /// It, sealed.
    pub sealed: Sealed,
    /// The installation's app.
    pub app: Name,
    /// `production` or `development`.
    pub environment: Option<String>,
    /// The attested key: a point on P-256, uncompressed.
    pub attested_key: Option<Vec<u8>>,
}

/// Receipts.
#[derive(Debug, Clone, Copy)]
pub struct Receipts<'a>(pub(crate) &'a Store);

impl Receipts<'_> {
    /// Those whose time has come, of installations that may: the oldest first.
    pub async fn due(self, now: Timestamp, limit: u32) -> Result<Vec<DueReceipt>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT receipts.name, receipts.sealed, instances.app, instances.environment, instances.attested_key
                 FROM receipts JOIN instances ON instances.tenant = receipts.tenant AND instances.id = receipts.instance
                 WHERE receipts.tenant = $1 AND receipts.next_at <= $2 AND instances.status = 'active'
                 ORDER BY receipts.next_at LIMIT $3",
            )
            .bind(now)
            .bind(i64::from(limit));
        self.0.read(select, read).await
    }

    /// What Apple last said with the receipt of that name.
    pub async fn metric(self, name: &str) -> Result<Option<u32>, StoreError> {
        let select = self.0.sql("SELECT metric FROM receipts WHERE tenant = $1 AND name = $2").bind(name);
        let found: Option<Option<i64>> = self.0.read(select, |mut row| row.take()).await?.pop();
        Ok(found.flatten().and_then(|metric| u32::try_from(metric).ok()))
    }

    /// Put another in the place of one, unless that has changed meanwhile; a metric that it does not say stays what it was.
    pub async fn exchange(
        self,
        old: &DueReceipt,
        new: &Sealed,
        (metric, next_at): (Option<u32>, Timestamp),
    ) -> Result<bool, StoreError> {
        let update = self
            .0
            .sql(
                "UPDATE receipts SET sealed = $4, metric = COALESCE($5, metric), next_at = $6
                 WHERE tenant = $1 AND name = $2 AND sealed = $3",
            )
            .bind(&*old.name)
            .bind(&old.sealed)
            .bind(new)
            .bind(metric.map(i64::from))
            .bind(next_at);
        self.0.write(move |tx| Box::pin(async move { tx.execute(update).await })).await.map(|rows| rows == 1)
    }

    /// Ask again then.
    pub async fn put_off(self, name: &str, next_at: Timestamp) -> Result<(), StoreError> {
        let update = self.0.sql("UPDATE receipts SET next_at = $3 WHERE tenant = $1 AND name = $2");
        let update = update.bind(name).bind(next_at);
        self.0.write(move |tx| Box::pin(async move { tx.execute(update).await.map(drop) })).await
    }

    /// Forget up to `limit` whose installations are gone; how many there were.
    pub async fn delete_orphans(self, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM receipts WHERE tenant = $1 AND name IN
                 (SELECT name FROM receipts WHERE tenant = $1 AND NOT EXISTS
                  (SELECT 1 FROM instances WHERE instances.tenant = receipts.tenant AND instances.id = receipts.instance)
                  LIMIT $2)",
            )
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

/// Keep the receipt of an installation; what Apple said of it before stays.
pub(crate) fn put(store: &Store, instance: &str, new: &NewReceipt) -> Statement {
    store
        .sql(
            "INSERT INTO receipts (tenant, name, instance, sealed, next_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant, name) DO UPDATE SET instance = excluded.instance, sealed = excluded.sealed,
             next_at = excluded.next_at",
        )
        .bind(&*new.name)
        .bind(instance)
        .bind(&new.sealed)
        .bind(new.next_at)
}

/// Forget that of an installation.
pub(crate) fn delete(store: &Store, instance: &str) -> Statement {
    store.sql("DELETE FROM receipts WHERE tenant = $1 AND instance = $2").bind(instance)
}

fn read(mut row: Row) -> Result<DueReceipt, StoreError> {
    Ok(DueReceipt {
        name: row.take()?,
        sealed: row.take()?,
        app: row.take()?,
        environment: row.take()?,
        attested_key: row.take()?,
    })
}
