//! What accounts have used: for headers, for whoever asks, and to check that the books balance.

use base::Timestamp;

use super::account::{AccountKey, AccountRef, Block};
use super::keep::read_key;
use super::window::Window;
use super::{Ledger, rows};
use crate::engine::Row;
use crate::{Page, Paged, StoreError};

/// What an account's window has used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// Which account.
    pub key: AccountKey,
    /// The configured limit, when it was last used.
    pub limit: i64,
    /// By how much raises in force raise it.
    pub raised: i64,
    /// Spent: what this node has spent and the database does not know yet included.
    pub spent: i64,
    /// Under way in a node that died, with no known end.
    pub held: i64,
    /// Lent to nodes, what is under way in them included.
    pub leased: i64,
    /// When some of it is free again: the end of the calendar period, or when the oldest part of a rolling window leaves.
    pub resets: Option<Timestamp>,
}

impl Balance {
    /// What may still be lent.
    pub fn remaining(&self) -> i64 {
        let used = self.spent.saturating_add(self.held).saturating_add(self.leased);
        self.limit.saturating_add(self.raised).saturating_sub(used).max(0)
    }
}

/// Which accounts to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BalanceFilter {
    /// Of this budget.
    pub budget: Option<String>,
    /// Of this text of whom it counts.
    pub whom: Option<String>,
}

/// What a node knows of an account without asking: for headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The limit, with what it was raised by.
    pub limit: i64,
    /// What the window has used, by this node up to now, by others when the last block was leased.
    pub used: i64,
    /// When some of it is free again.
    pub resets: Option<Timestamp>,
}

impl Seen {
    /// What is left, as far as this node knows.
    pub fn remaining(&self) -> i64 {
        self.limit.saturating_sub(self.used).max(0)
    }
}

impl AccountRef {
    /// What this node knows of it without asking. Nothing, before it leased a block or was refused one.
    pub fn seen(&self) -> Option<Seen> {
        let state = self.0.lock();
        let window = self.0.key.window;
        if let Some(dry) = &state.dry
            && state.current.is_none()
        {
            let used = dry.limit.saturating_sub(dry.remaining);
            return Some(Seen { limit: dry.limit, used, resets: dry.resets });
        }
        let block = state.current.as_ref()?;
        let used = block.others.saturating_add(block.spent).saturating_add(block.held);
        Some(Seen { limit: block.effective, used, resets: window.leaves(block.span.start) })
    }
}

impl Ledger {
    /// What an account has used. Nothing, if it was never used.
    pub async fn balance(&self, key: &AccountKey) -> Result<Option<Balance>, StoreError> {
        let select = self
            .0
            .store
            .sql(
                "SELECT id, cap, budget, whom, unit, span FROM ledger_accounts
                 WHERE tenant = $1 AND budget = $2 AND whom = $3 AND unit = $4 AND span = $5",
            )
            .bind(&*key.budget)
            .bind(&*key.whom)
            .bind(key.unit.as_str())
            .bind(key.window.text());
        match self.0.store.read(select, read_account).await?.pop() {
            Some(account) => self.read(account).await.map(Some),
            None => Ok(None),
        }
    }

    /// What accounts have used, those used first first.
    pub async fn balances(&self, filter: &BalanceFilter, page: &Page) -> Result<Paged<Balance>, StoreError> {
        let after: i64 = page.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(0);
        let select = self
            .0
            .store
            .sql(
                "SELECT id, cap, budget, whom, unit, span FROM ledger_accounts
                 WHERE tenant = $1 AND id > $2 AND (budget = $3 OR $3 IS NULL) AND (whom = $4 OR $4 IS NULL)
                 ORDER BY id LIMIT $5",
            )
            .bind(after)
            .bind(filter.budget.clone())
            .bind(filter.whom.clone())
            .bind(page.rows() + 1);
        let accounts = self.0.store.read(select, read_account).await?;
        let Paged { items, next } = Paged::cut(accounts, page, |(id, ..)| id.to_string());
        let mut balances = Vec::with_capacity(items.len());
        for account in items {
            balances.push(self.read(account).await?);
        }
        Ok(Paged { items: balances, next })
    }

    /// Check the books: the complaints, none when they balance. Slow on a large database.
    pub async fn verify(&self) -> Result<Vec<String>, StoreError> {
        let mut complaints = Vec::new();
        for (what, query) in CHECKS {
            for (account, period) in self
                .0
                .store
                .read(self.0.store.sql(query), |mut row| Ok((row.take::<i64>()?, row.take::<i64>()?)))
                .await?
            {
                complaints.push(format!("account {account}, period {period}: {what}"));
            }
        }
        Ok(complaints)
    }

    async fn read(&self, (id, limit, key): (i64, i64, AccountKey)) -> Result<Balance, StoreError> {
        let (store, now) = (&self.0.store, self.0.time.now());
        let span = key.window.at(now);
        let (from, to) = key.window.counted(span.start, now);
        let sums = store
            .sql(
                "SELECT CAST(COALESCE(SUM(spent), 0) AS BIGINT), CAST(COALESCE(SUM(held), 0) AS BIGINT),
                        CAST(COALESCE(SUM(leased), 0) AS BIGINT),
                        MIN(CASE WHEN spent + held + leased > 0 THEN period END)
                 FROM ledger_periods WHERE tenant = $1 AND account = $2 AND period >= $3 AND period <= $4",
            )
            .bind(id)
            .bind(from)
            .bind(to);
        let read = |mut row: Row| Ok((row.take::<i64>()?, row.take::<i64>()?, row.take::<i64>()?, row.take()?));
        let (spent, held, leased, oldest): (i64, i64, i64, Option<i64>) =
            store.read(sums, read).await?.pop().ok_or(StoreError::Corrupt)?;
        let raised = store.read(rows::raised(store, &key, now), |mut row| row.take::<i64>()).await?.pop().unwrap_or(0);
        let untold = self.0.accounts.find(&key).map_or(0, |account| {
            let state = account.lock();
            let counts = |block: &&Block| from <= block.span.start && block.span.start <= to;
            let blocks = state.current.iter().chain(&state.retired).filter(counts);
            blocks.map(|block| block.spent - block.charged).sum::<i64>()
        });
        let untold = untold.clamp(0, leased);
        let resets = match key.window {
            Window::Rolling(_) => oldest.and_then(|oldest| key.window.leaves(oldest)),
            _ => key.window.leaves(span.start),
        };
        Ok(Balance { key, limit, raised, spent: spent + untold, held, leased: leased - untold, resets })
    }
}

fn read_account(mut row: Row) -> Result<(i64, i64, AccountKey), StoreError> {
    Ok((row.take()?, row.take()?, read_key(&mut row)?))
}

/// What must be true of the books, each as the accounts and periods of which it is not.
const CHECKS: [(&str, &str); 5] = [
    (
        "more than its limit",
        "SELECT account, period FROM ledger_periods
         WHERE tenant = $1 AND (spent < 0 OR held < 0 OR leased < 0 OR spent + held + leased > cap)",
    ),
    (
        "its entries do not add up to its row",
        "SELECT p.account, p.period FROM ledger_periods p
         LEFT JOIN (SELECT account, period, SUM(spent) AS spent, SUM(held) AS held, SUM(leased) AS leased
                    FROM ledger_entries WHERE tenant = $1 GROUP BY account, period) e
           ON e.account = p.account AND e.period = p.period
         WHERE p.tenant = $1 AND (p.spent <> COALESCE(e.spent, 0) OR p.held <> COALESCE(e.held, 0)
                                  OR p.leased <> COALESCE(e.leased, 0))",
    ),
    (
        "entries without a row",
        "SELECT DISTINCT e.account, e.period FROM ledger_entries e
         LEFT JOIN ledger_periods p ON p.tenant = e.tenant AND p.account = e.account AND p.period = e.period
         WHERE e.tenant = $1 AND p.account IS NULL",
    ),
    (
        "its leases do not add up to what is leased",
        "SELECT p.account, p.period FROM ledger_periods p
         LEFT JOIN (SELECT account, period, SUM(amount) AS amount FROM ledger_leases WHERE tenant = $1
                    GROUP BY account, period) l
           ON l.account = p.account AND l.period = p.period
         WHERE p.tenant = $1 AND p.leased <> COALESCE(l.amount, 0)",
    ),
    (
        "its requests under way do not add up to what is held",
        "SELECT p.account, p.period FROM ledger_periods p
         LEFT JOIN (SELECT account, period, SUM(amount) AS amount FROM ledger_unresolved
                    WHERE tenant = $1 AND state = 'held' GROUP BY account, period) u
           ON u.account = p.account AND u.period = p.period
         WHERE p.tenant = $1 AND p.held <> COALESCE(u.amount, 0)",
    ),
];
