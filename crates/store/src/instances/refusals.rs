//! Why installations were refused.

use base::Timestamp;

use super::Instances;
use crate::StoreError;
use crate::engine::Row;
use crate::error::at_most;

/// Why an installation was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it was told.
    pub arc: String,
    /// When.
    pub at: Timestamp,
    /// Which app it said.
    pub app: Option<String>,
    /// Which installation, where that is known.
    pub instance: Option<String>,
    /// At which step: `challenge`, `enroll`, `token`, ...
    pub step: String,
    /// What it was told to do.
    pub action: String,
    /// Stable codes.
    pub reasons: Vec<String>,
    /// What else is known, as a JSON object.
    pub detail: String,
}

impl Instances<'_> {
    /// Keep why an installation was refused.
    pub async fn refuse(self, refusal: &Refusal) -> Result<(), StoreError> {
        at_most("detail", refusal.detail.len(), 16 * 1024)?;
        let insert = self
            .0
            .sql(
                "INSERT INTO attest_refusals (tenant, arc, at, app, instance, step, action, reasons, detail)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
            )
            .bind(&*refusal.arc)
            .bind(refusal.at)
            .bind(refusal.app.clone())
            .bind(refusal.instance.clone())
            .bind(&*refusal.step)
            .bind(&*refusal.action)
            .bind(&*refusal.reasons)
            .bind(&*refusal.detail);
        self.0.write(move |tx| Box::pin(async move { tx.execute(insert).await.map(drop) })).await
    }

    /// Why the one that was told this code was refused.
    pub async fn refusal(self, arc: &str) -> Result<Option<Refusal>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT arc, at, app, instance, step, action, reasons, detail FROM attest_refusals
                 WHERE tenant = $1 AND arc = $2",
            )
            .bind(arc);
        Ok(self.0.read(select, read_refusal).await?.pop())
    }

    /// Forget up to `limit` refusals from before `moment`, and the oldest of those beyond `most`; how many there were.
    pub async fn delete_refusals(self, moment: Timestamp, most: u32, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM attest_refusals WHERE tenant = $1 AND arc IN
                 (SELECT arc FROM attest_refusals WHERE tenant = $1 AND
                  (at < $2 OR at < COALESCE((SELECT at FROM attest_refusals WHERE tenant = $1 ORDER BY at DESC LIMIT 1 OFFSET $3), $2))
                  LIMIT $4)",
            )
            .bind(moment)
            .bind(i64::from(most))
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

fn read_refusal(mut row: Row) -> Result<Refusal, StoreError> {
    Ok(Refusal {
        arc: row.take()?,
        at: row.take()?,
        app: row.take()?,
        instance: row.take()?,
        step: row.take()?,
        action: row.take()?,
        reasons: row.take()?,
        detail: row.take()?,
    })
}
