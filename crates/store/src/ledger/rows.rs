//! The ledger's rows: what is read and written of them within a transaction.

use base::Timestamp;

use super::Inner;
use super::account::AccountKey;
use super::window::Window;
use crate::engine::{Connection, Row, Statement, first};
use crate::{Store, StoreError};

type Tx<'a> = &'a mut dyn Connection;

/// A lease as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) id: i64,
    pub(crate) account: i64,
    pub(crate) period: i64,
    node: String,
    epoch: i64,
    /// What of it is still leased.
    pub(crate) amount: i64,
    /// What of it has become spent.
    pub(crate) charged: i64,
    /// What was charged of it in full without proof.
    pub(crate) unproven: i64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Charged,
    Closed,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Charged => "charged",
            Self::Closed => "closed",
        }
    }
}

impl Lease {
    pub(crate) fn is_of(&self, node: &str, epoch: i64) -> bool {
        self.node == node && self.epoch == epoch && self.state != State::Closed
    }

    pub(crate) fn close(&mut self) {
        self.state = State::Closed;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub(crate) const fn epoch(&self) -> i64 {
        self.epoch
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }
}

/// What moves between the parts of a period's row: one entry of each kind.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    pub(crate) account: i64,
    pub(crate) period: i64,
    pub(crate) lease: Option<i64>,
    pub(crate) request: Option<String>,
    at: Timestamp,
    /// Kind and what is added to spent, held and leased.
    entries: Vec<(&'static str, [i64; 3])>,
}

impl Moved {
    pub(crate) fn new(account: i64, period: i64, at: Timestamp) -> Self {
        Self { account, period, lease: None, request: None, at, entries: Vec::new() }
    }

    pub(crate) fn add(&mut self, kind: &'static str, spent: i64, held: i64, leased: i64) {
        if (spent, held, leased) != (0, 0, 0) {
            self.entries.push((kind, [spent, held, leased]));
        }
    }

    /// What was charged in full without proof is leased again.
    pub(crate) fn reinstate(&mut self, lease: &mut Lease) {
        self.add("correction", -lease.unproven, 0, lease.unproven);
        lease.amount = lease.amount.saturating_add(lease.unproven);
        lease.unproven = 0;
        lease.state = State::Open;
    }

    /// Charge all that is left of the lease, without proof.
    pub(crate) fn presume_spent(&mut self, lease: &mut Lease) {
        self.add("estimate", lease.amount, 0, -lease.amount);
        lease.unproven = lease.unproven.saturating_add(lease.amount);
        lease.amount = 0;
        lease.state = State::Charged;
    }

    /// Of the lease, `spent` in all has become spent.
    pub(crate) fn charge(&mut self, lease: &mut Lease, spent: i64) {
        let more = spent.saturating_sub(lease.charged).clamp(0, lease.amount);
        self.add("charge", more, 0, -more);
        lease.charged += more;
        lease.amount -= more;
    }

    /// Give back all of the lease but `keep`.
    pub(crate) fn give_back(&mut self, lease: &mut Lease, keep: i64) {
        let back = lease.amount.saturating_sub(keep).max(0);
        self.add("return", 0, 0, -back);
        lease.amount -= back;
    }

    /// Change the row and append the entries.
    pub(crate) async fn write(&self, tx: Tx<'_>, store: &Store) -> Result<(), StoreError> {
        let sum = |at: usize| self.entries.iter().filter_map(|(_, parts)| parts.get(at)).sum::<i64>();
        if self.entries.is_empty() {
            return Ok(());
        }
        let update = store
            .sql(
                "UPDATE ledger_periods SET spent = spent + $4, held = held + $5, leased = leased + $6
                 WHERE tenant = $1 AND account = $2 AND period = $3",
            )
            .bind(self.account)
            .bind(self.period)
            .bind(sum(0))
            .bind(sum(1))
            .bind(sum(2));
        if tx.execute(update).await? != 1 {
            return Err(StoreError::Row("a lease's period is missing"));
        }
        for (kind, parts) in &self.entries {
            entry(tx, store, self, (kind, *parts)).await?;
        }
        Ok(())
    }
}

/// Append an entry.
pub(crate) async fn entry(
    tx: Tx<'_>,
    store: &Store,
    of: &Moved,
    (kind, [spent, held, leased]): (&'static str, [i64; 3]),
) -> Result<(), StoreError> {
    let insert = store
        .sql(
            "INSERT INTO ledger_entries (tenant, account, period, lease, kind, spent, held, leased, request, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(of.account)
        .bind(of.period)
        .bind(of.lease)
        .bind(kind)
        .bind(spent)
        .bind(held)
        .bind(leased)
        .bind(of.request.clone())
        .bind(of.at);
    tx.execute(insert).await.map(drop)
}

/// The moment by the database's clock; by the ledger's time, where the database is this machine's.
pub(crate) async fn now(tx: Tx<'_>, inner: &Inner) -> Result<Timestamp, StoreError> {
    match database_now(tx).await? {
        Some(now) => Ok(now),
        None => Ok(inner.time.now()),
    }
}

/// The moment by the database's clock, where it has one of its own.
pub(crate) async fn database_now(tx: Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
    match tx.clock() {
        Some(clock) => first(tx.fetch(clock).await?).ok_or(StoreError::Corrupt)?.take().map(Some),
        None => Ok(None),
    }
}

/// What the clock says that the ledger's time follows: the database's, which said `now`, or this machine's.
pub(crate) fn reading(tx: Tx<'_>, inner: &Inner, now: Timestamp) -> Timestamp {
    if tx.clock().is_some() { now } else { inner.store.now() }
}

/// The account's id; made when it is new. Others who do the same wait until this transaction ends.
pub(crate) async fn lock_account(
    tx: Tx<'_>,
    store: &Store,
    (key, limit, now): (&AccountKey, Option<i64>, Timestamp),
) -> Result<i64, StoreError> {
    let touch = match limit {
        Some(_) => store.sql(
            "INSERT INTO ledger_accounts (tenant, budget, whom, unit, span, touched_at, cap, wanted_at, wanted_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 0, '')
             ON CONFLICT (tenant, budget, whom, unit, span)
             DO UPDATE SET cap = excluded.cap, touched_at = excluded.touched_at RETURNING id",
        ),
        None => store.sql(
            "UPDATE ledger_accounts SET touched_at = $6
             WHERE tenant = $1 AND budget = $2 AND whom = $3 AND unit = $4 AND span = $5 RETURNING id",
        ),
    };
    let touch = touch.bind(&*key.budget).bind(&*key.whom).bind(key.unit.as_str()).bind(key.window.text()).bind(now);
    let touch = match limit {
        Some(limit) => touch.bind(limit),
        None => touch,
    };
    first(tx.fetch(touch).await?).ok_or(StoreError::Row("a lease's account is missing"))?.take()
}

/// The same for one that is there.
pub(crate) async fn lock_account_by_id(
    tx: Tx<'_>,
    store: &Store,
    (account, now): (i64, Timestamp),
) -> Result<(), StoreError> {
    let update =
        store.sql("UPDATE ledger_accounts SET touched_at = $3 WHERE tenant = $1 AND id = $2").bind(account).bind(now);
    tx.execute(update).await.map(drop)
}

/// By how much raises in force raise an account's limit.
pub(crate) fn raised(store: &Store, key: &AccountKey, now: Timestamp) -> Statement {
    store
        .sql(
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM ledger_raises
             WHERE tenant = $1 AND budget = $2 AND unit = $3 AND (whom IS NULL OR whom = $4)
               AND (span IS NULL OR span = $5) AND starts_at <= $6 AND ends_at > $6",
        )
        .bind(&*key.budget)
        .bind(key.unit.as_str())
        .bind(&*key.whom)
        .bind(key.window.text())
        .bind(now)
}

/// What decides whether a node may lease, and how much.
pub(crate) struct Limits {
    /// The epoch of the node's latest start; 0: the node is unknown.
    pub(crate) epoch: i64,
    /// By how much raises in force raise the limit.
    pub(crate) raised: i64,
    /// When the first of them ends.
    pub(crate) until: Option<Timestamp>,
}

pub(crate) async fn limits(
    tx: Tx<'_>,
    store: &Store,
    (node, key, now): (&str, &AccountKey, Timestamp),
) -> Result<Limits, StoreError> {
    let select = store
        .sql(
            "SELECT CAST(COALESCE((SELECT epoch FROM ledger_nodes WHERE tenant = $1 AND node = $2), 0) AS BIGINT),
                    CAST(COALESCE(SUM(amount), 0) AS BIGINT), MIN(ends_at)
             FROM ledger_raises
             WHERE tenant = $1 AND budget = $3 AND unit = $4 AND (whom IS NULL OR whom = $5)
               AND (span IS NULL OR span = $6) AND starts_at <= $7 AND ends_at > $7",
        )
        .bind(node)
        .bind(&*key.budget)
        .bind(key.unit.as_str())
        .bind(&*key.whom)
        .bind(key.window.text())
        .bind(now);
    let mut row = first(tx.fetch(select).await?).ok_or(StoreError::Corrupt)?;
    Ok(Limits { epoch: row.take()?, raised: row.take()?, until: row.take()? })
}

pub(crate) async fn lease(tx: Tx<'_>, store: &Store, id: i64) -> Result<Option<Lease>, StoreError> {
    let select = store
        .sql(
            "SELECT id, account, period, node, epoch, amount, charged, unproven, state FROM ledger_leases
             WHERE tenant = $1 AND id = $2",
        )
        .bind(id);
    first(tx.fetch(select).await?).map(|mut row| read_lease(&mut row)).transpose()
}

/// The leases of an account's period that are not closed.
pub(crate) async fn leases_at(
    tx: Tx<'_>,
    store: &Store,
    (account, period): (i64, i64),
) -> Result<Vec<Lease>, StoreError> {
    let select = store
        .sql(
            "SELECT id, account, period, node, epoch, amount, charged, unproven, state FROM ledger_leases
             WHERE tenant = $1 AND account = $2 AND period = $3 AND state = 'open'",
        )
        .bind(account)
        .bind(period);
    tx.fetch(select).await?.iter_mut().map(read_lease).collect()
}

pub(crate) fn read_lease(row: &mut Row) -> Result<Lease, StoreError> {
    Ok(Lease {
        id: row.take()?,
        account: row.take()?,
        period: row.take()?,
        node: row.take()?,
        epoch: row.take()?,
        amount: row.take()?,
        charged: row.take()?,
        unproven: row.take()?,
        state: match &*row.take::<String>()? {
            "open" => State::Open,
            "charged" => State::Charged,
            "closed" => State::Closed,
            _ => return Err(StoreError::Row("not a state of a lease")),
        },
    })
}

pub(crate) async fn new_lease(
    tx: Tx<'_>,
    store: &Store,
    (account, period): (i64, i64),
    (node, epoch, amount, now): (&str, i64, i64, Timestamp),
) -> Result<Lease, StoreError> {
    let insert = store
        .sql(
            "INSERT INTO ledger_leases (tenant, account, period, node, epoch, amount, charged, unproven, state, taken_at)
             VALUES ($1, $2, $3, $4, $5, $6, 0, 0, 'open', $7)
             RETURNING id, account, period, node, epoch, amount, charged, unproven, state",
        )
        .bind(account)
        .bind(period)
        .bind(node)
        .bind(epoch)
        .bind(amount)
        .bind(now);
    read_lease(&mut first(tx.fetch(insert).await?).ok_or(StoreError::Corrupt)?)
}

pub(crate) async fn update_lease(tx: Tx<'_>, store: &Store, lease: &Lease) -> Result<(), StoreError> {
    let update = store
        .sql(
            "UPDATE ledger_leases SET amount = $3, charged = $4, unproven = $5, state = $6
             WHERE tenant = $1 AND id = $2",
        )
        .bind(lease.id)
        .bind(lease.amount)
        .bind(lease.charged)
        .bind(lease.unproven)
        .bind(lease.state.as_str());
    tx.execute(update).await.map(drop)
}

/// What an account's window holds.
pub(crate) struct Used {
    /// Spent, held and leased.
    pub(crate) total: i64,
    /// The earliest period that holds anything.
    pub(crate) oldest: Option<i64>,
    /// Whether the period that is filled now has its row.
    pub(crate) has_row: bool,
}

pub(crate) async fn used(
    tx: Tx<'_>,
    store: &Store,
    (account, window, period, now): (i64, Window, i64, Timestamp),
) -> Result<Used, StoreError> {
    let (from, to) = window.counted(period, now);
    let select = store
        .sql(
            "SELECT CAST(COALESCE(SUM(spent + held + leased), 0) AS BIGINT),
                    MIN(CASE WHEN spent + held + leased > 0 THEN period END),
                    CAST(COALESCE(SUM(CASE WHEN period = $5 THEN 1 ELSE 0 END), 0) AS BIGINT)
             FROM ledger_periods WHERE tenant = $1 AND account = $2 AND period >= $3 AND period <= $4",
        )
        .bind(account)
        .bind(from)
        .bind(to)
        .bind(period);
    let mut row = first(tx.fetch(select).await?).ok_or(StoreError::Corrupt)?;
    Ok(Used { total: row.take()?, oldest: row.take()?, has_row: row.take()? })
}

pub(crate) async fn new_period(
    tx: Tx<'_>,
    store: &Store,
    (account, period, limit): (i64, i64, i64),
) -> Result<(), StoreError> {
    let insert = store
        .sql(
            "INSERT INTO ledger_periods (tenant, account, period, spent, held, leased, cap)
             VALUES ($1, $2, $3, 0, 0, 0, $4) ON CONFLICT (tenant, account, period) DO NOTHING",
        )
        .bind(account)
        .bind(period)
        .bind(limit);
    tx.execute(insert).await.map(drop)
}

/// Lend `size` more, under `limit`. Where the limit was lowered below what is already committed, or is not enforced, the
/// row's own limit is what is committed.
pub(crate) async fn lend(
    tx: Tx<'_>,
    store: &Store,
    (account, period): (i64, i64),
    (size, limit): (i64, i64),
) -> Result<(), StoreError> {
    let update = store
        .sql(
            "UPDATE ledger_periods SET leased = leased + $4,
                    cap = CASE WHEN spent + held + leased + $4 > $5 THEN spent + held + leased + $4 ELSE $5 END
             WHERE tenant = $1 AND account = $2 AND period = $3",
        )
        .bind(account)
        .bind(period)
        .bind(size)
        .bind(limit);
    if tx.execute(update).await? == 1 { Ok(()) } else { Err(StoreError::Row("an account's period is missing")) }
}

/// What may still be charged to a period, within its own limit and the window's.
pub(crate) async fn room(
    tx: Tx<'_>,
    store: &Store,
    (account, period, now): (i64, i64, Timestamp),
) -> Result<i64, StoreError> {
    let select = store
        .sql(
            "SELECT p.cap, p.spent + p.held + p.leased, a.span FROM ledger_periods p
             JOIN ledger_accounts a ON a.tenant = p.tenant AND a.id = p.account
             WHERE p.tenant = $1 AND p.account = $2 AND p.period = $3",
        )
        .bind(account)
        .bind(period);
    let Some(mut row) = first(tx.fetch(select).await?) else { return Ok(0) };
    let (cap, total): (i64, i64) = (row.take()?, row.take()?);
    let window = Window::parse(&row.take::<String>()?).ok_or(StoreError::Row("not a window"))?;
    let used = if window.rolls() { used(tx, store, (account, window, period, now)).await?.total } else { total };
    Ok(cap.saturating_sub(used.max(total)).max(0))
}

/// Until when a node counts as alive; nothing, if it is unknown.
pub(crate) async fn expires(tx: Tx<'_>, store: &Store, node: &str) -> Result<Option<Timestamp>, StoreError> {
    let select = store.sql("SELECT expires_at FROM ledger_nodes WHERE tenant = $1 AND node = $2").bind(node);
    first(tx.fetch(select).await?).map(|mut row| row.take()).transpose()
}

/// Note that a node found nothing left, so that others give back what lies idle with them.
pub(crate) async fn wanted(
    tx: Tx<'_>,
    store: &Store,
    (account, node, now): (i64, &str, Timestamp),
) -> Result<(), StoreError> {
    let update = store
        .sql("UPDATE ledger_accounts SET wanted_at = $3, wanted_by = $4 WHERE tenant = $1 AND id = $2")
        .bind(account)
        .bind(now)
        .bind(node);
    tx.execute(update).await.map(drop)
}
