//! Raising a limit for a while.

use std::sync::Arc;

use base::Timestamp;

use super::flight::Purpose;
use super::window::{Unit, Window};
use super::{Ledger, keep, rows};
use crate::StoreError;
use crate::engine::{Row, first};
use crate::error::at_most;

/// More for a budget, from now until a moment.
#[derive(Debug, Clone)]
pub struct NewRaise {
    /// The budget's name.
    pub budget: String,
    /// For this one of those it counts apart; for each of them, if absent.
    pub whom: Option<String>,
    /// Of this unit.
    pub unit: Unit,
    /// Of this window; of each, if absent.
    pub window: Option<Window>,
    /// By how much, in the unit; more than nothing.
    pub amount: i64,
    /// Until when.
    pub until: Timestamp,
    /// Who raises it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A raise as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// Its number.
    pub id: i64,
    /// The budget's name.
    pub budget: String,
    /// For whom; everyone, if absent.
    pub whom: Option<String>,
    /// Of this unit.
    pub unit: Unit,
    /// Of this window; of each, if absent.
    pub window: Option<Window>,
    /// By how much, in the unit.
    pub amount: i64,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Who raised it.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Ledger {
    /// Raise a limit until a moment, on all nodes (on others within a second). What was spent above the configured limit by
    /// then stays spent: nothing more is let in until it is under the limit again.
    pub async fn raise(&self, raise: NewRaise) -> Result<i64, StoreError> {
        at_most("budget name", raise.budget.len(), 256)?;
        at_most("text of whom a budget counts", raise.whom.as_ref().map_or(0, String::len), 512)?;
        at_most("reason", raise.reason.len(), 1024)?;
        at_most("name", raise.by.len(), 256)?;
        let inner = Arc::clone(&self.0);
        let insert = inner
            .store
            .sql(
                "INSERT INTO ledger_raises (tenant, budget, whom, unit, span, amount, ends_at, made_by, reason, starts_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id",
            )
            .bind(raise.budget)
            .bind(raise.whom)
            .bind(raise.unit.as_str())
            .bind(raise.window.map(Window::text))
            .bind(raise.amount.max(1))
            .bind(raise.until)
            .bind(raise.by)
            .bind(raise.reason);
        let id = self
            .0
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let now = rows::now(tx, &inner).await?;
                    first(tx.fetch(insert.bind(now)).await?).ok_or(StoreError::Corrupt)?.take()
                })
            })
            .await?;
        self.0.limits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(id)
    }

    /// End a raise now. What nodes have leased and not used goes back: here at once, on others within a second.
    /// [`StoreError::Missing`] if there is none in force of that number.
    pub async fn end_raise(&self, id: i64) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        let budget: String = self
            .0
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let now = rows::now(tx, &inner).await?;
                    let end = inner
                        .store
                        .sql(
                            "UPDATE ledger_raises SET ends_at = $3 WHERE tenant = $1 AND id = $2 AND ends_at > $3
                             RETURNING budget",
                        )
                        .bind(id)
                        .bind(now);
                    let budget: String = first(tx.fetch(end).await?).ok_or(StoreError::Missing("raise"))?.take()?;
                    let wanted = inner
                        .store
                        .sql("UPDATE ledger_accounts SET wanted_at = $3, wanted_by = '' WHERE tenant = $1 AND budget = $2")
                        .bind(&*budget)
                        .bind(now);
                    tx.execute(wanted).await?;
                    Ok(budget)
                })
            })
            .await?;
        let mut here = self.0.accounts.all();
        here.retain(|account| *account.key.budget == *budget);
        keep::fly(&self.0, here.into_iter().map(|account| (account, Purpose::GiveBack)).collect()).await
    }

    /// The raises in force, of one budget or of all; at most 1,000.
    pub async fn raises(&self, budget: Option<&str>) -> Result<Vec<Raise>, StoreError> {
        let select = self
            .0
            .store
            .sql(
                "SELECT id, budget, whom, unit, span, amount, starts_at, ends_at, made_by, reason FROM ledger_raises
                 WHERE tenant = $1 AND (budget = $2 OR $2 IS NULL) AND ends_at > $3 ORDER BY id LIMIT 1000",
            )
            .bind(budget)
            .bind(self.0.time.now());
        self.0.store.read(select, read).await
    }
}

fn read(mut row: Row) -> Result<Raise, StoreError> {
    Ok(Raise {
        id: row.take()?,
        budget: row.take()?,
        whom: row.take()?,
        unit: Unit::parse(&row.take::<String>()?).ok_or(StoreError::Row("not a unit"))?,
        window: row
            .take::<Option<String>>()?
            .map(|text| Window::parse(&text).ok_or(StoreError::Row("not a window")))
            .transpose()?,
        amount: row.take()?,
        from: row.take()?,
        until: row.take()?,
        by: row.take()?,
        reason: row.take()?,
    })
}
