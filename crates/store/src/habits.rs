//! What callers did before, as each node saw it: so that a restart does not forget it.

use std::sync::Arc;

use base::Timestamp;

use crate::engine::Row;
use crate::error::at_most;
use crate::{Store, StoreError};

/// How many are written in one transaction.
const STEP: usize = 200;

/// What one node knows of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Habit {
    /// The node.
    pub node: String,
    /// The caller.
    pub whom: Arc<str>,
    /// What it did, as whoever watches writes it.
    pub habit: String,
    /// When it was last seen.
    pub seen_at: Timestamp,
}

/// What callers did before.
#[derive(Debug, Clone, Copy)]
pub struct Habits<'a>(pub(crate) &'a Store);

impl Habits<'_> {
    /// Keep what is known, instead of what the same node knew of the same caller before.
    pub async fn save(self, habits: &[Habit]) -> Result<(), StoreError> {
        for some in habits.chunks(STEP) {
            let mut puts = Vec::with_capacity(some.len());
            for habit in some {
                at_most("whom", habit.whom.len(), 600)?;
                at_most("habit", habit.habit.len(), 16 * 1024)?;
                puts.push(
                    self.0
                        .sql(
                            "INSERT INTO anomaly_habits (tenant, node, whom, habit, seen_at) VALUES ($1, $2, $3, $4, $5)
                             ON CONFLICT (tenant, whom, node) DO UPDATE
                             SET habit = excluded.habit, seen_at = excluded.seen_at",
                        )
                        .bind(&*habit.node)
                        .bind(&*habit.whom)
                        .bind(&*habit.habit)
                        .bind(habit.seen_at),
                );
            }
            self.0
                .write(move |tx| {
                    Box::pin(async move {
                        for put in puts {
                            tx.execute(put).await?;
                        }
                        Ok(())
                    })
                })
                .await?;
        }
        Ok(())
    }

    /// What is known of those seen since `moment`, up to `limit`, those seen last first.
    pub async fn since(self, moment: Timestamp, limit: u32) -> Result<Vec<Habit>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT node, whom, habit, seen_at FROM anomaly_habits WHERE tenant = $1 AND seen_at > $2
                 ORDER BY seen_at DESC LIMIT $3",
            )
            .bind(moment)
            .bind(i64::from(limit));
        self.0.read(select, read).await
    }

    /// What each node knows of a caller.
    pub async fn of(self, whom: &str) -> Result<Vec<Habit>, StoreError> {
        let select = self
            .0
            .sql("SELECT node, whom, habit, seen_at FROM anomaly_habits WHERE tenant = $1 AND whom = $2 LIMIT 100")
            .bind(whom);
        self.0.read(select, read).await
    }

    /// Forget up to `limit` of those last seen before `moment`; how many there were.
    pub async fn delete_before(self, moment: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM anomaly_habits WHERE tenant = $1 AND (whom, node) IN
                 (SELECT whom, node FROM anomaly_habits WHERE tenant = $1 AND seen_at < $2 ORDER BY seen_at LIMIT $3)",
            )
            .bind(moment)
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

fn read(mut row: Row) -> Result<Habit, StoreError> {
    Ok(Habit { node: row.take()?, whom: row.take()?, habit: row.take()?, seen_at: row.take()? })
}
