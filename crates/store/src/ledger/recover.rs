//! What a node that died had leased: what its journal says about it, and what happens while nobody says anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::Timestamp;
use futures_util::StreamExt as _;

use super::flight::Purpose;
use super::hold::HoldLine;
use super::rows::{self, Lease, Moved};
use super::window::Unit;
use super::{Inner, Ledger, Unresolved, keep};
use crate::StoreError;
use crate::engine::{Connection, first};
use crate::error::at_most;

/// What a node's journal says of its leases.
#[derive(Debug, Clone)]
pub enum Journal {
    /// It is whole. A lease it does not name was not used.
    Kept(Vec<LeaseUse>),
    /// It is lost: all that was leased is charged.
    Lost,
}

/// What a journal says of a lease, since it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseUse {
    /// Which.
    pub lease: i64,
    /// What was settled in all.
    pub settled: i64,
    /// Requests that have begun and not ended, oldest first: their ids and what they hold of this lease.
    pub unresolved: Vec<(String, i64)>,
}

/// A lease of an earlier start of a node, which its journal is to tell about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenLease {
    /// Its number: what a [`HoldLine`] names. A later lease of a node has a greater one.
    pub lease: i64,
    /// By which start of the node it was taken: [`Ledger::epoch`].
    pub epoch: i64,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// What of it is not accounted for.
    pub amount: i64,
}

/// What a recovery did. Sums over accounts of all units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Leases that were settled.
    pub leases: u64,
    /// What of them became spent.
    pub spent: i64,
    /// What is held for requests with no known end.
    pub held: i64,
    /// What was given back.
    pub returned: i64,
}

/// What a late settlement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Late {
    /// Parts of the request that were settled now; none: it is not known, or was settled before.
    pub lines: u64,
    /// What was used and could not be charged, since a released hold's limit is used up meanwhile. In the accounts' units.
    pub uncovered: i64,
}

/// How many leases are settled at once.
const AT_ONCE: usize = 64;
/// How much one sweep does.
const SWEEP: i64 = 256;

impl Ledger {
    /// The leases of a node's earlier starts that are not accounted for.
    pub async fn open_leases(&self, node: &str) -> Result<Vec<OpenLease>, StoreError> {
        let leases = self.leases_of(node).await?;
        Ok(leases
            .into_iter()
            .map(|(lease, taken_at)| OpenLease {
                lease: lease.id,
                epoch: lease.epoch(),
                taken_at,
                amount: lease.amount + lease.unproven,
            })
            .collect())
    }

    /// Settle what a node's earlier starts had leased, by its journal. Done twice, it does nothing the second time. Of
    /// another node: only once that one is dead (no sign of life within its `ttl`), and it can lease nothing afterwards.
    pub async fn recover(&self, node: &str, journal: Journal) -> Result<Recovered, StoreError> {
        if node != self.node() {
            self.fence(node).await?;
        }
        let leases = self.leases_of(node).await?;
        let mut told: Option<HashMap<i64, LeaseUse>> = match journal {
            Journal::Lost => None,
            Journal::Kept(uses) => Some(uses.into_iter().map(|used| (used.lease, used)).collect()),
        };
        let work = leases.into_iter().map(|(lease, _)| {
            let nothing = LeaseUse { lease: lease.id, settled: 0, unresolved: Vec::new() };
            let used = told.as_mut().map(|told| told.remove(&lease.id).unwrap_or(nothing));
            let inner = Arc::clone(&self.0);
            async move {
                let store = inner.store.clone();
                store.write(move |tx| Box::pin(async move { settle(tx, &inner, lease.id, used).await })).await
            }
        });
        let mut done = Recovered::default();
        let mut results = futures_util::stream::iter(work.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        while let Some(one) = results.next().await {
            let one = one?;
            done.leases += one.leases;
            done.spent = done.spent.saturating_add(one.spent);
            done.held = done.held.saturating_add(one.held);
            done.returned = done.returned.saturating_add(one.returned);
        }
        // What was refused may be let in now.
        self.0.limits.fetch_add(1, Ordering::Relaxed);
        Ok(done)
    }

    /// Settle a request whose usage became known late: one that was under way when its node died, or, with the `lines` its
    /// hold was settled to, one that was charged by an estimate here. A request is settled so once. `actual` is asked with
    /// the account's unit and what is held or was charged.
    pub async fn settle_late(
        &self,
        request: &str,
        lines: &[HoldLine],
        actual: impl Fn(Unit, i64) -> i64,
    ) -> Result<Late, StoreError> {
        at_most("request id", request.len(), 128)?;
        // The database is to know what was charged before that is corrected.
        let tell = lines.iter().map(|line| (Arc::clone(&line.account.0), Purpose::Tell)).collect();
        keep::fly(&self.0, tell).await?;
        let store = &self.0.store;
        let mut parts: Vec<(i64, Unit, i64, Option<i64>)> =
            lines.iter().map(|line| (line.lease, line.unit, line.settled, Some(line.settled))).collect();
        let select = store
            .sql(
                "SELECT u.lease, a.unit, u.whole FROM ledger_unresolved u
                 JOIN ledger_accounts a ON a.tenant = u.tenant AND a.id = u.account
                 WHERE u.tenant = $1 AND u.request = $2 AND u.state <> 'settled' ORDER BY u.lease",
            )
            .bind(request);
        let known = store
            .read(select, |mut row| {
                let (lease, unit, amount) = (row.take::<i64>()?, row.take::<String>()?, row.take::<i64>()?);
                Ok((lease, Unit::parse(&unit).ok_or(StoreError::Row("not a unit"))?, amount, None))
            })
            .await?;
        parts.extend(known);
        let mut late = Late::default();
        for (lease, unit, amount, charged) in parts {
            let (inner, request, used) =
                (Arc::clone(&self.0), request.to_owned(), actual(unit, amount).clamp(0, amount));
            let settled = store
                .write(move |tx| {
                    Box::pin(async move { settle_request(tx, &inner, (&request, lease), (used, charged)).await })
                })
                .await?;
            late.lines += u64::from(settled.is_some());
            late.uncovered = late.uncovered.saturating_add(settled.unwrap_or(0));
        }
        Ok(late)
    }

    /// Charge in full what silent nodes have leased, and settle by policy what nobody resolved within its grace.
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        let store = &self.0.store;
        let inner = Arc::clone(&self.0);
        let now = store.write(move |tx| Box::pin(async move { rows::now(tx, &inner).await })).await?;
        let silent = store
            .sql(
                "SELECT l.id FROM ledger_leases l JOIN ledger_nodes n ON n.tenant = l.tenant AND n.node = l.node
                 WHERE l.tenant = $1 AND l.state = 'open' AND n.node <> $2 AND n.expires_at < $3 ORDER BY l.id LIMIT $4",
            )
            .bind(self.node())
            .bind(now)
            .bind(SWEEP);
        for lease in store.read(silent, |mut row| row.take::<i64>()).await? {
            let inner = Arc::clone(&self.0);
            store.write(move |tx| Box::pin(async move { presume_spent(tx, &inner, lease).await })).await?;
        }
        let late = store
            .sql(
                "SELECT request, lease FROM ledger_unresolved
                 WHERE tenant = $1 AND state = 'held' AND at < $2 ORDER BY at LIMIT $3",
            )
            .bind(now.minus(self.0.settings.grace))
            .bind(SWEEP);
        let policy = self.0.settings.unresolved;
        for (request, lease) in store.read(late, |mut row| Ok((row.take::<String>()?, row.take::<i64>()?))).await? {
            let inner = Arc::clone(&self.0);
            store
                .write(move |tx| Box::pin(async move { end_grace(tx, &inner, (&request, lease), policy).await }))
                .await?;
        }
        Ok(())
    }

    /// See to it that a node that is dead leases nothing any more. [`StoreError::Conflict`] if it lives.
    async fn fence(&self, node: &str) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        let update = inner
            .store
            .sql("UPDATE ledger_nodes SET epoch = epoch + 1 WHERE tenant = $1 AND node = $2 AND expires_at < $3");
        let node = node.to_owned();
        self.0
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let now = rows::now(tx, &inner).await?;
                    let dead = tx.execute(update.bind(&*node).bind(now)).await? == 1;
                    if dead { Ok(()) } else { Err(StoreError::Conflict("node")) }
                })
            })
            .await
    }

    async fn leases_of(&self, node: &str) -> Result<Vec<(Lease, Timestamp)>, StoreError> {
        let select = self
            .0
            .store
            .sql(
                "SELECT l.id, l.account, l.period, l.node, l.epoch, l.amount, l.charged, l.unproven, l.state, l.taken_at
                 FROM ledger_leases l JOIN ledger_nodes n ON n.tenant = l.tenant AND n.node = l.node
                 WHERE l.tenant = $1 AND l.node = $2 AND l.state <> 'closed' AND l.epoch < n.epoch ORDER BY l.id",
            )
            .bind(node);
        let read = |mut row: crate::engine::Row| {
            let lease = rows::read_lease(&mut row)?;
            Ok((lease, row.take()?))
        };
        self.0.store.read(select, read).await
    }
}

/// The lease and the lock of its account; nothing, if it is accounted for.
async fn lock(tx: &mut dyn Connection, inner: &Inner, lease: i64) -> Result<Option<(Lease, Timestamp)>, StoreError> {
    let now = rows::now(tx, inner).await?;
    let Some(found) = rows::lease(tx, &inner.store, lease).await? else { return Ok(None) };
    rows::lock_account_by_id(tx, &inner.store, (found.account, now)).await?;
    // Again, now that nobody else changes it.
    let lease = rows::lease(tx, &inner.store, lease).await?;
    Ok(lease.filter(|lease| !lease.is_closed()).map(|lease| (lease, now)))
}

/// Settle a lease of a start that is over, by what its journal says of it; without a journal all of it is spent.
async fn settle(
    tx: &mut dyn Connection,
    inner: &Inner,
    lease: i64,
    used: Option<LeaseUse>,
) -> Result<Recovered, StoreError> {
    let mut done = Recovered::default();
    let Some((mut lease, now)) = lock(tx, inner, lease).await? else { return Ok(done) };
    let mut moved = Moved::new(lease.account, lease.period, now);
    moved.lease = Some(lease.id);
    moved.reinstate(&mut lease);
    let before = lease.charged;
    moved.charge(&mut lease, used.as_ref().map_or(i64::MAX, |used| used.settled));
    // What had become spent beyond what the journal says is of requests that ended and whose end is not in it: of the oldest
    // that have none, most likely.
    let mut prepaid = used.as_ref().map_or(0, |used| before.saturating_sub(used.settled).max(0));
    let unresolved = used.map(|used| used.unresolved).unwrap_or_default();
    let mut parts: Vec<Part> = Vec::new();
    for (request, whole) in unresolved {
        let whole = whole.max(0);
        let paid = prepaid.min(whole);
        prepaid -= paid;
        parts.push(Part { request, whole, prepaid: paid, amount: whole - paid });
    }
    // The latest first: of an older one, some may have been given back.
    for part in parts.iter_mut().rev() {
        part.amount = part.amount.min(lease.amount);
        if part.whole > 0 && part.insert(tx, inner, (&lease, now)).await? {
            moved.add("hold", 0, part.amount, -part.amount);
            lease.amount -= part.amount;
            done.held += part.amount;
        }
    }
    done.leases = 1;
    done.spent = lease.charged - before;
    done.returned = lease.amount;
    moved.give_back(&mut lease, 0);
    lease.close();
    moved.write(tx, &inner.store).await?;
    rows::update_lease(tx, &inner.store, &lease).await?;
    Ok(done)
}

/// What a request with no known end holds of a lease.
struct Part {
    request: String,
    whole: i64,
    prepaid: i64,
    amount: i64,
}

impl Part {
    /// Keep it. `false`: it is kept already.
    async fn insert(
        &self,
        tx: &mut dyn Connection,
        inner: &Inner,
        (lease, now): (&Lease, Timestamp),
    ) -> Result<bool, StoreError> {
        let insert = inner
            .store
            .sql(
                "INSERT INTO ledger_unresolved (tenant, request, lease, account, period, amount, prepaid, whole, state, at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'held', $9) ON CONFLICT (tenant, request, lease) DO NOTHING",
            )
            .bind(&*self.request)
            .bind(lease.id)
            .bind(lease.account)
            .bind(lease.period)
            .bind(self.amount)
            .bind(self.prepaid)
            .bind(self.whole)
            .bind(now);
        Ok(tx.execute(insert).await? == 1)
    }
}

/// Charge a silent node's lease in full, until its journal says what it was.
async fn presume_spent(tx: &mut dyn Connection, inner: &Inner, lease: i64) -> Result<(), StoreError> {
    let Some((mut lease, now)) = lock(tx, inner, lease).await? else { return Ok(()) };
    if rows::expires(tx, &inner.store, lease.node()).await?.is_none_or(|expires| expires >= now) {
        return Ok(());
    }
    let mut moved = Moved::new(lease.account, lease.period, now);
    moved.lease = Some(lease.id);
    moved.presume_spent(&mut lease);
    moved.write(tx, &inner.store).await?;
    rows::update_lease(tx, &inner.store, &lease).await
}

/// A request's part whose end nobody told within the grace.
async fn end_grace(
    tx: &mut dyn Connection,
    inner: &Inner,
    (request, lease): (&str, i64),
    policy: Unresolved,
) -> Result<(), StoreError> {
    let Some((held, now)) = held(tx, inner, (request, lease)).await? else { return Ok(()) };
    if held.state != "held" {
        return Ok(());
    }
    let mut moved = held.moved(request, lease, now);
    let state = match policy {
        Unresolved::Charge => {
            moved.add("estimate", held.amount, -held.amount, 0);
            "charged"
        }
        Unresolved::Release => {
            moved.add("release", 0, -held.amount, 0);
            "released"
        }
    };
    moved.write(tx, &inner.store).await?;
    became(tx, inner, (request, lease), state).await
}

/// Settle a request's part to what was used; what could not be charged of it. Nothing, if it is settled already.
/// `charged`: what it was charged by the node that asks, where it was never held in the database.
async fn settle_request(
    tx: &mut dyn Connection,
    inner: &Inner,
    (request, lease): (&str, i64),
    (used, charged): (i64, Option<i64>),
) -> Result<Option<i64>, StoreError> {
    if let Some(charged) = charged {
        let insert = inner
            .store
            .sql(
                "INSERT INTO ledger_unresolved (tenant, request, lease, account, period, amount, prepaid, whole, state, at)
                 SELECT tenant, $2, id, account, period, $4, 0, $4, 'charged', taken_at FROM ledger_leases
                 WHERE tenant = $1 AND id = $3 ON CONFLICT (tenant, request, lease) DO NOTHING",
            )
            .bind(request)
            .bind(lease)
            .bind(charged);
        tx.execute(insert).await?;
    }
    let Some((held, now)) = held(tx, inner, (request, lease)).await? else { return Ok(None) };
    let mut moved = held.moved(request, lease, now);
    let room = rows::room(tx, &inner.store, (held.account, held.period, now)).await?;
    let (paid, from_hold) = match &*held.state {
        "held" => (held.prepaid, held.amount),
        "charged" => (held.prepaid + held.amount, 0),
        "released" => (held.prepaid, 0),
        _ => return Ok(None),
    };
    let due = used - paid;
    let charged = due.clamp(0, from_hold);
    moved.add("charge", charged, -charged, 0);
    moved.add("release", 0, charged - from_hold, 0);
    let room = room.saturating_add(from_hold - charged);
    let corrected = (due - charged).min(room);
    moved.add("correction", corrected, 0, 0);
    moved.write(tx, &inner.store).await?;
    became(tx, inner, (request, lease), "settled").await?;
    Ok(Some(due - charged - corrected))
}

struct Held {
    account: i64,
    period: i64,
    amount: i64,
    prepaid: i64,
    state: String,
}

impl Held {
    fn moved(&self, request: &str, lease: i64, now: Timestamp) -> Moved {
        let mut moved = Moved::new(self.account, self.period, now);
        moved.lease = Some(lease);
        moved.request = Some(request.to_owned());
        moved
    }
}

/// A request's part, with the lock of its account.
async fn held(
    tx: &mut dyn Connection,
    inner: &Inner,
    (request, lease): (&str, i64),
) -> Result<Option<(Held, Timestamp)>, StoreError> {
    let now = rows::now(tx, inner).await?;
    let select = || {
        inner
            .store
            .sql(
                "SELECT account, period, amount, prepaid, state FROM ledger_unresolved
                 WHERE tenant = $1 AND request = $2 AND lease = $3",
            )
            .bind(request)
            .bind(lease)
    };
    let read = |mut row: crate::engine::Row| {
        Ok::<_, StoreError>(Held {
            account: row.take()?,
            period: row.take()?,
            amount: row.take()?,
            prepaid: row.take()?,
            state: row.take()?,
        })
    };
    let Some(found) = first(tx.fetch(select()).await?).map(read).transpose()? else { return Ok(None) };
    rows::lock_account_by_id(tx, &inner.store, (found.account, now)).await?;
    let found = first(tx.fetch(select()).await?).map(read).transpose()?;
    Ok(found.map(|held| (held, now)))
}

async fn became(
    tx: &mut dyn Connection,
    inner: &Inner,
    (request, lease): (&str, i64),
    state: &'static str,
) -> Result<(), StoreError> {
    let update = inner
        .store
        .sql("UPDATE ledger_unresolved SET state = $4 WHERE tenant = $1 AND request = $2 AND lease = $3")
        .bind(request)
        .bind(lease)
        .bind(state);
    tx.execute(update).await.map(drop)
}
