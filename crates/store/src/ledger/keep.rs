//! What happens beside the requests: signs of life, giving back what lies idle, forgetting accounts, the end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::account::{Account, AccountKey, State};
use super::flight::{Launched, Purpose, launch};
use super::window::{Unit, Window};
use super::{Inner, Ledger, rows};
use crate::StoreError;
use crate::engine::Row;

/// How many accounts are brought up to date at once: as many as share a commit.
const AT_ONCE: usize = 64;
/// How long the database may know less than memory about an account in use, in milliseconds.
const TELL: i64 = 60_000;
/// How far back to look for what others want: a clock that is a little off hides nothing.
const OVERLAP: i64 = 2_000;
/// How many accounts others want are looked at in one go.
const WANTED: i64 = 1_000;

impl Ledger {
    /// Do what is due: to be called about once a second. Says that this node lives, gives back what others want or nobody
    /// uses, tells the database what was spent, charges leases of nodes that died and what they had under way, forgets
    /// accounts. An error means that some of it is due still.
    pub async fn tick(&self) -> Result<(), StoreError> {
        self.live().await?;
        let wanted = self.give_back_wanted().await;
        let idle = self.give_back_idle(self.0.settings.idle).await;
        self.make_room().await?;
        let swept = self.sweep().await;
        wanted.and(idle).and(swept)
    }

    /// Give back blocks nobody took from for `idle`, and what is left of past ones; tell the database what the others have
    /// spent. Accounts without a block that nobody refers to are forgotten.
    pub async fn give_back_idle(&self, idle: Duration) -> Result<(), StoreError> {
        let inner = &self.0;
        let now = inner.time.now().as_millis();
        let before = now.saturating_sub(i64::try_from(idle.as_millis()).unwrap_or(i64::MAX));
        let mut due = Vec::new();
        for account in inner.accounts.all() {
            let purpose = purpose(&account.lock(), before, (now, inner.time.elapsed()));
            due.extend(purpose.map(|purpose| (account, purpose)));
        }
        let done = fly(inner, due).await;
        inner.accounts.forget_idle(before.saturating_add(1));
        done
    }

    /// Grant nothing more and give back all that is free. What is held stays leased: its requests may still settle it, and
    /// the journal tells at the next start what they did.
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        let all = self.0.accounts.all().into_iter().map(|account| (account, Purpose::GiveBack)).collect();
        if let Err(error) = fly(&self.0, all).await {
            tracing::warn!(reason = error.reason(), "not all that was leased was given back; the next start does it");
        }
    }

    /// Say that this node lives. Closes the ledger if another process has taken the node's name.
    async fn live(&self) -> Result<(), StoreError> {
        let (inner, epoch) = (Arc::clone(&self.0), self.0.epoch);
        let update =
            self.0.store.sql("UPDATE ledger_nodes SET expires_at = $2 WHERE tenant = $1 AND node = $3 AND epoch = $4");
        let (reading, lives) = self
            .0
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let now = rows::now(tx, &inner).await?;
                    let settings = &inner.settings;
                    let update = update.bind(now.plus(settings.ttl)).bind(&*settings.node).bind(epoch);
                    Ok((rows::reading(tx, &inner, now), tx.execute(update).await? == 1))
                })
            })
            .await?;
        self.0.time.observe(reading);
        if lives {
            return Ok(());
        }
        if !self.0.closed.swap(true, Ordering::AcqRel) {
            tracing::error!(
                node = &*self.0.settings.node,
                "another process has this node's name: its budgets are closed here"
            );
        }
        Err(StoreError::Conflict("node"))
    }

    async fn give_back_wanted(&self) -> Result<(), StoreError> {
        let inner = &self.0;
        let select = inner
            .store
            .sql(
                "SELECT wanted_at, budget, whom, unit, span FROM ledger_accounts
                 WHERE tenant = $1 AND wanted_at >= $2 AND wanted_at > 0 AND wanted_by <> $3 ORDER BY wanted_at LIMIT $4",
            )
            .bind(inner.wanted_seen.load(Ordering::Relaxed))
            .bind(&*inner.settings.node)
            .bind(WANTED);
        let wanted = inner.store.read(select, |mut row| Ok((row.take::<i64>()?, read_key(&mut row)?))).await?;
        let mut due = Vec::new();
        for (at, key) in wanted {
            inner.wanted_seen.fetch_max(at.saturating_sub(OVERLAP), Ordering::Relaxed);
            if let Some(account) = inner.accounts.find(&key)
                && account.lock().current.as_ref().is_some_and(|block| block.free > 0)
            {
                due.push((account, Purpose::GiveBack));
            }
        }
        fly(inner, due).await
    }

    /// When memory is nearly full, let go of the accounts that were used longest ago.
    async fn make_room(&self) -> Result<(), StoreError> {
        let inner = &self.0;
        let (len, max) = (inner.accounts.len(), inner.accounts.max());
        if len <= max - max / 10 {
            return Ok(());
        }
        let mut all = Vec::new();
        for account in inner.accounts.all() {
            let used = account.lock().last_used;
            all.push((used, account));
        }
        all.sort_by_key(|(used, _)| *used);
        all.truncate(len.saturating_sub(max).max(max / 5));
        let latest = all.last().map_or(0, |(used, _)| *used);
        let done = fly(inner, all.into_iter().map(|(_, account)| (account, Purpose::GiveBack)).collect()).await;
        inner.accounts.forget_idle(latest.saturating_add(1));
        done
    }
}

/// What is due for an account.
fn purpose(state: &State, before: i64, (now, elapsed): (i64, i64)) -> Option<Purpose> {
    let past = || state.retired.iter().any(super::account::Block::is_due);
    match &state.current {
        Some(block) if block.until <= now || state.last_used <= before || block.is_old(elapsed) => {
            Some(Purpose::GiveBack)
        }
        Some(block) if past() || (block.spent > block.charged && elapsed - block.told >= TELL) => Some(Purpose::Tell),
        Some(_) => None,
        None => past().then_some(Purpose::Tell),
    }
}

/// Bring accounts up to date, each by a flight of its own.
pub(crate) async fn fly(inner: &Arc<Inner>, due: Vec<(Arc<Account>, Purpose)>) -> Result<(), StoreError> {
    let flights = futures_util::stream::iter(due).map(|(account, purpose)| one(inner, account, purpose));
    flights.buffer_unordered(AT_ONCE).fold(Ok(()), |all, one| async move { all.and(one) }).await
}

/// Make one flight and wait for it.
async fn one(inner: &Arc<Inner>, account: Arc<Account>, purpose: Purpose) -> Result<(), StoreError> {
    // Another flight may be under way; after it comes this one's turn, unless somebody was faster again.
    for _ in 0..10 {
        let mut landed = pin!(account.landed.notified());
        landed.as_mut().enable();
        let number = account.lock().flown;
        let launched = launch(inner, &account, purpose)?;
        if launched == Launched::Nothing {
            return Ok(());
        }
        landed.await;
        if launched == Launched::Started {
            return match &account.lock().failure {
                Some((flight, error)) if *flight >= number => Err(error.clone()),
                _ => Ok(()),
            };
        }
    }
    Ok(())
}

/// Budget, whom, unit and window, as they are stored.
pub(crate) fn read_key(row: &mut Row) -> Result<AccountKey, StoreError> {
    Ok(AccountKey {
        budget: row.take()?,
        whom: row.take()?,
        unit: Unit::parse(&row.take::<String>()?).ok_or(StoreError::Row("not a unit"))?,
        window: Window::parse(&row.take::<String>()?).ok_or(StoreError::Row("not a window"))?,
    })
}
