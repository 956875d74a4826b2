//! What nodes see of installations of apps, counted together: in the database, for nodes without Redis. For an hour from the
//! first; who is counted stands there as a keyed hash only.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{Store, StoreError};

/// How long things count together.
pub(crate) const WINDOW: Duration = Duration::from_hours(1);

/// What is added to one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// What is counted: a keyed hash.
    pub id: [u8; 16],
    /// How many more there are.
    pub add: u32,
    /// Where it was seen, as a keyed hash: one more where it was seen elsewhere before.
    pub place: Option<[u8; 8]>,
}

/// Numbers that several nodes count together.
pub trait Sightings: Send + Sync + fmt::Debug {
    /// Add to these, and how many there are of each then; or a stable code for why that is not known.
    fn share<'a>(&'a self, some: &'a [Sighting]) -> BoxFuture<'a, Result<Vec<u32>, &'static str>>;
}

impl Sightings for Store {
    fn share<'a>(&'a self, some: &'a [Sighting]) -> BoxFuture<'a, Result<Vec<u32>, &'static str>> {
        Box::pin(async move { self.add_sightings(some).await.map_err(|error| error.reason()) })
    }
}

impl Store {
    async fn add_sightings(&self, some: &[Sighting]) -> Result<Vec<u32>, StoreError> {
        let now = self.now();
        // In one order everywhere, so that no two nodes wait for each other.
        let mut order: Vec<(usize, &Sighting)> = some.iter().enumerate().collect();
        order.sort_by_key(|(_, sighting)| sighting.id);
        let mut statements = Vec::with_capacity(order.len());
        for (index, Sighting { id, add, place }) in order {
            let upsert = self
                .sql(
                    "INSERT INTO sightings (tenant, id, place, total, ends_at) VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT (tenant, id) DO UPDATE SET
                     total = CASE WHEN sightings.ends_at <= $6 THEN excluded.total
                                  WHEN excluded.place <> '' AND sightings.place <> '' AND excluded.place <> sightings.place
                                  THEN sightings.total + excluded.total + 1
                                  ELSE sightings.total + excluded.total END,
                     place = CASE WHEN excluded.place = '' THEN sightings.place ELSE excluded.place END,
                     ends_at = CASE WHEN sightings.ends_at <= $6 THEN excluded.ends_at ELSE sightings.ends_at END
                     RETURNING total",
                )
                .bind(id.to_vec())
                .bind(place.map(hex).unwrap_or_default())
                .bind(i64::from(*add))
                .bind(now.plus(WINDOW))
                .bind(now);
            statements.push((index, upsert));
        }
        let mut totals = vec![0; some.len()];
        let told = self
            .write(move |tx| {
                Box::pin(async move {
                    let mut told = Vec::with_capacity(statements.len());
                    for (index, upsert) in statements {
                        let mut row = crate::engine::first(tx.fetch(upsert).await?).ok_or(StoreError::Corrupt)?;
                        let total: i64 = row.take()?;
                        told.push((index, total));
                    }
                    Ok(told)
                })
            })
            .await?;
        for (index, total) in told {
            if let Some(place) = totals.get_mut(index) {
                *place = u32::try_from(total).unwrap_or(u32::MAX);
            }
        }
        Ok(totals)
    }

    /// Forget numbers whose hour is over, at most `limit`; how many there were.
    pub async fn forget_sightings(&self, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .sql(
                "DELETE FROM sightings WHERE tenant = $1 AND id IN
                 (SELECT id FROM sightings WHERE tenant = $1 AND ends_at <= $2 LIMIT $3)",
            )
            .bind(self.now())
            .bind(i64::from(limit));
        self.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

pub(crate) fn hex(place: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(place))
}
