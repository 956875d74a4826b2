//! Forgetting periods long past.

use base::Timestamp;

use super::Ledger;
use super::window::Window;
use crate::StoreError;
use crate::engine::{Connection, Statement};

/// What is kept of a period.
const PARTS: [&str; 4] = [
    "DELETE FROM ledger_entries WHERE tenant = $1 AND account = $2 AND period = $3",
    "DELETE FROM ledger_unresolved WHERE tenant = $1 AND account = $2 AND period = $3",
    "DELETE FROM ledger_leases WHERE tenant = $1 AND account = $2 AND period = $3",
    "DELETE FROM ledger_periods WHERE tenant = $1 AND account = $2 AND period = $3",
];

impl Ledger {
    /// Forget up to `limit` periods that counted for nothing from `moment` on and in which nothing is open, with their
    /// entries; how many there were. What counts over all time stays, and so does a budget that was used since.
    pub async fn forget_before(&self, moment: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let store = &self.0.store;
        let spans = store.sql("SELECT DISTINCT span FROM ledger_accounts WHERE tenant = $1 AND span <> 'total'");
        let mut forgotten = 0;
        for span in store.read(spans, |mut row| row.take::<String>()).await? {
            let window = Window::parse(&span).ok_or(StoreError::Row("not a window"))?;
            let past = store
                .sql(
                    "SELECT p.account, p.period FROM ledger_periods p
                     JOIN ledger_accounts a ON a.tenant = p.tenant AND a.id = p.account
                     WHERE p.tenant = $1 AND a.span = $2 AND p.period < $3 AND p.leased = 0 AND p.held = 0
                     AND NOT EXISTS (SELECT 1 FROM ledger_leases l WHERE l.tenant = p.tenant AND l.account = p.account
                                     AND l.period = p.period AND l.state <> 'closed') LIMIT $4",
                )
                .bind(&*span)
                .bind(window.since(moment))
                .bind(i64::from(limit) - forgotten);
            for (account, period) in store.read(past, |mut row| Ok((row.take::<i64>()?, row.take::<i64>()?))).await? {
                let parts = PARTS.map(|part| store.sql(part).bind(account).bind(period));
                store.write(move |tx| Box::pin(run(tx, parts))).await?;
                forgotten += 1;
            }
        }
        let unused = store
            .sql(
                "DELETE FROM ledger_accounts WHERE tenant = $1 AND touched_at < $2 AND NOT EXISTS
                 (SELECT 1 FROM ledger_periods p WHERE p.tenant = ledger_accounts.tenant AND p.account = ledger_accounts.id)",
            )
            .bind(moment);
        store.write(move |tx| Box::pin(async move { tx.execute(unused).await.map(drop) })).await?;
        Ok(u64::try_from(forgotten).unwrap_or(0))
    }
}

async fn run(tx: &mut dyn Connection, parts: [Statement; 4]) -> Result<(), StoreError> {
    for part in parts {
        tx.execute(part).await?;
    }
    Ok(())
}
