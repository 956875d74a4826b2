//! Costs found to be others later: entries beside the records, and their part in the sums.

use std::sync::Arc;

use base::{Name, RequestId, Timestamp};

use super::rollup::{Rows, is_unpriced, within};
use super::{Charge, Usage, UsageSums};
use crate::engine::{Connection, Row};
use crate::records::{self, RequestRecord, records_columns};
use crate::{Store, StoreError};

/// A record whose cost can be computed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ratable {
    /// Its number: records are told apart and ordered by it.
    pub seq: i64,
    /// The record, as it was written.
    pub record: RequestRecord,
    /// Its cost by the last correction, or as charged, in nano-USD.
    pub cost: Option<i64>,
    /// The part of that which follows from its usage.
    pub rated: Option<i64>,
    /// The number of its last correction; 0: it has had none.
    pub corrections: i64,
}

/// What a cost turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Of which record.
    pub of: Ratable,
    /// The part that follows from its usage, in nano-USD.
    pub rated: i64,
    /// Which price that is.
    pub price: Option<Arc<str>>,
}

impl Correction {
    /// The whole cost, with what does not follow from the usage as it was.
    pub fn cost(&self) -> i64 {
        let besides = self.of.cost.unwrap_or(0).saturating_sub(self.of.rated.unwrap_or(0));
        besides.max(0).saturating_add(self.rated)
    }

    /// What it adds to the cost.
    pub fn added(&self) -> i64 {
        self.cost().saturating_sub(self.of.cost.unwrap_or(0))
    }
}

/// A correction that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectionEntry {
    /// The run it was made in.
    pub run: String,
    /// The request it is of.
    pub request_id: String,
    /// When the request arrived.
    pub at: Timestamp,
    /// When it was made.
    pub made_at: Timestamp,
    /// By whom.
    pub made_by: String,
    /// The cost before, in nano-USD; absent: it was not known.
    pub before: Option<i64>,
    /// The cost from then on.
    pub after: i64,
    /// By which price.
    pub price: Option<String>,
}

impl Usage<'_> {
    /// Records of a time whose cost can be computed again, oldest first: up to `limit` (1 to 1,000) of those with a higher number
    /// than `after`, of one provider if that is said.
    pub async fn ratable(
        self,
        (since, until): (Timestamp, Option<Timestamp>),
        provider: Option<&Name>,
        (after, limit): (i64, u32),
    ) -> Result<Vec<Ratable>, StoreError> {
        let select = self
            .0
            .sql(concat!(
                "SELECT ",
                records_columns!(),
                ", (SELECT c.cost_after FROM usage_corrections c WHERE c.tenant = r.tenant AND c.record = r.seq
                    ORDER BY c.number DESC LIMIT 1),
                   (SELECT c.rated FROM usage_corrections c WHERE c.tenant = r.tenant AND c.record = r.seq
                    ORDER BY c.number DESC LIMIT 1),
                   (SELECT COALESCE(MAX(c.number), 0) FROM usage_corrections c WHERE c.tenant = r.tenant AND c.record = r.seq)
                 FROM request_records r
                 WHERE tenant = $1 AND seq > $2 AND at >= $3 AND ($4 IS NULL OR at < $4)
                   AND ($5 IS NULL OR provider = $5) AND basis IS NOT NULL
                 ORDER BY seq LIMIT $6"
            ))
            .bind(after)
            .bind(since)
            .bind(until)
            .bind(provider)
            .bind(i64::from(limit.clamp(1, 1000)));
        self.0.read(select, read).await
    }

    /// Write corrections down and add them to the sums, all of them or none. One that was corrected meanwhile makes it fail with
    /// [`StoreError::Conflict`].
    pub async fn correct(self, run: &str, by: &str, corrections: Vec<Correction>) -> Result<(), StoreError> {
        let (now, tenant) = (self.0.now(), self.0.tenant());
        let mut rows = Rows::default();
        let mut entries = Vec::new();
        for correction in &corrections {
            let Ratable { seq, record, cost, corrections, .. } = &correction.of;
            let sums = UsageSums {
                correction: within(correction.added()),
                // A price has been found for it.
                unpriced: -i64::from(cost.is_none() && is_unpriced(&record.charge)),
                ..UsageSums::default()
            };
            rows.add(tenant, record, &sums);
            let entry = self
                .0
                .sql(
                    "INSERT INTO usage_corrections (tenant, record, number, run, request_id, at, made_at, made_by, cost_before,
                                                    cost_after, rated, price)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
                )
                .bind(*seq)
                .bind(corrections.saturating_add(1))
                .bind(run)
                .bind(record.request_id.as_str())
                .bind(record.at)
                .bind(now)
                .bind(by)
                .bind(*cost)
                .bind(correction.cost())
                .bind(correction.rated)
                .bind(correction.price.as_deref());
            entries.push(entry);
        }
        let sums = rows.statements(|text, n| {
            text.push('$');
            text.push_str(&n.to_string());
        });
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    for entry in entries {
                        if tx.execute(entry).await? != 1 {
                            return Err(StoreError::Conflict("correction"));
                        }
                    }
                    run_all(tx, sums).await
                })
            })
            .await
    }

    /// The corrections of a run, or of a request, by record and number: up to `limit`.
    pub async fn corrections(
        self,
        (run, request): (Option<&str>, Option<&RequestId>),
        limit: u32,
    ) -> Result<Vec<CorrectionEntry>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT run, request_id, at, made_at, made_by, cost_before, cost_after, price FROM usage_corrections
                 WHERE tenant = $1 AND ($2 IS NULL OR run = $2) AND ($3 IS NULL OR request_id = $3)
                 ORDER BY record, number LIMIT $4",
            )
            .bind(run)
            .bind(request.map(RequestId::as_str))
            .bind(i64::from(limit.clamp(1, 1000)));
        let read = |mut row: Row| {
            Ok(CorrectionEntry {
                run: row.take()?,
                request_id: row.take()?,
                at: row.take()?,
                made_at: row.take()?,
                made_by: row.take()?,
                before: row.take()?,
                after: row.take()?,
                price: row.take()?,
            })
        };
        self.0.read(select, read).await
    }
}

impl Store {
    /// A new id for a run of corrections.
    pub fn new_run(&self) -> String {
        self.new_id("run")
    }
}

async fn run_all(tx: &mut dyn Connection, statements: Vec<crate::engine::Statement>) -> Result<(), StoreError> {
    for statement in statements {
        tx.execute(statement).await?;
    }
    Ok(())
}

fn read(mut row: Row) -> Result<Ratable, StoreError> {
    let (seq, record) = records::read(&mut row)?;
    let (cost, rated, corrections): (Option<i64>, Option<i64>, i64) = (row.take()?, row.take()?, row.take()?);
    let Charge { cost: charged, rated: by_usage, .. } = record.charge;
    let corrected = corrections > 0;
    Ok(Ratable {
        seq,
        cost: if corrected { cost } else { charged },
        rated: if corrected { rated } else { by_usage },
        corrections,
        record,
    })
}
