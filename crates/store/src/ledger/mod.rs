//! The ledger: what budgets have spent, hold and have lent out, so that no limit is ever passed.
//!
//! The database knows of each account and period what is `spent`, `held` (under way with no known end) and `leased`, and
//! that their sum stays within the limit, by a constraint too. A node leases a block in one transaction and spends from it
//! in memory: [`Ledger::reserve`] takes from the blocks of all accounts of a request, all or nothing, and
//! [`Hold::settle`] charges what was used. What a node that died had leased counts as spent until its journal tells what it
//! was ([`Ledger::recover`]). `docs/budgets.md` tells it in full.

mod account;
mod balance;
mod block;
mod error;
mod flight;
mod forget;
mod hold;
mod keep;
mod raise;
mod recover;
mod reserve;
mod rows;
mod time;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::first;
use crate::error::at_most;
use crate::{Store, StoreError};
use account::Accounts;
use time::Time;

pub use account::{AccountKey, AccountRef};
pub use balance::{Balance, BalanceFilter, Seen};
pub use error::ReserveError;
pub use hold::{Hold, HoldLine, Settled, Want};
pub use raise::{NewRaise, Raise};
pub use recover::{Journal, Late, LeaseUse, OpenLease, Recovered};
pub use window::{Period, Unit, Window};

/// How a node's ledger works.
#[derive(Debug, Clone)]
pub struct LedgerSettings {
    /// The node's name: no two nodes on one database have the same. At most 128 bytes.
    pub node: Arc<str>,
    /// How long after a node's last sign of life others charge its leases in full.
    pub ttl: Duration,
    /// A block that nobody took from for this long is given back.
    pub idle: Duration,
    /// How long what was under way in a node that died waits to be settled.
    pub grace: Duration,
    /// What becomes of it then.
    pub unresolved: Unresolved,
    /// How many accounts are kept in memory.
    pub max_accounts: usize,
}

/// What becomes of what was under way in a node that died and is not settled within its grace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresolved {
    /// It is charged, by its upper bound.
    Charge,
    /// It is free again.
    Release,
}

impl LedgerSettings {
    /// The defaults for a node of this name.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.into(),
            ttl: Duration::from_mins(1),
            idle: Duration::from_mins(1),
            grace: Duration::from_hours(1),
            unresolved: Unresolved::Charge,
            max_accounts: 100_000,
        }
    }
}

/// A node's ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

pub(crate) struct Inner {
    /// As the tenant sees it.
    pub(crate) store: Store,
    pub(crate) settings: LedgerSettings,
    /// Grows with each start of the node.
    pub(crate) epoch: i64,
    pub(crate) time: Time,
    pub(crate) accounts: Accounts,
    pub(crate) counters: Counted,
    /// Grows when limits are raised, so that nobody goes on being refused from memory.
    pub(crate) limits: AtomicU64,
    pub(crate) closed: AtomicBool,
    /// The last lease this start took.
    pub(crate) newest: AtomicI64,
    /// Until when it is known what others want (by the database's time).
    pub(crate) wanted_seen: AtomicI64,
}

/// What has been counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) leases: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) unavailable: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) uncounted: AtomicU64,
}

/// What a node's ledger has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerCounters {
    /// Blocks leased or extended.
    pub leases: u64,
    /// Reservations refused because a budget had not enough left.
    pub refusals: u64,
    /// Reservations refused because nothing could be leased.
    pub unavailable: u64,
    /// Holds dropped unsettled, and so charged in full.
    pub dropped: u64,
    /// Amounts of budgets in shadow mode that could not be counted.
    pub uncounted: u64,
    /// Accounts in memory.
    pub accounts: u64,
}

impl Ledger {
    /// Open the ledger for this start of the node, whose earlier ones can lease nothing from now on.
    pub async fn open(store: &Store, settings: LedgerSettings) -> Result<Self, StoreError> {
        at_most("node name", settings.node.len(), 128)?;
        let (tenant, node, ttl) = (store.clone(), Arc::clone(&settings.node), settings.ttl);
        let (epoch, now) = store
            .write(move |tx| {
                Box::pin(async move {
                    let now = rows::database_now(tx).await?.unwrap_or_else(|| tenant.now());
                    let register = tenant
                        .sql(
                            "INSERT INTO ledger_nodes (tenant, node, epoch, expires_at) VALUES ($1, $2, 1, $3)
                             ON CONFLICT (tenant, node) DO UPDATE
                             SET epoch = ledger_nodes.epoch + 1, expires_at = excluded.expires_at RETURNING epoch",
                        )
                        .bind(&*node)
                        .bind(now.plus(ttl));
                    Ok((first(tx.fetch(register).await?).ok_or(StoreError::Corrupt)?.take()?, now))
                })
            })
            .await?;
        Ok(Self(Arc::new(Inner {
            store: store.clone(),
            epoch,
            time: Time::new(Arc::clone(&store.shared.clock), now),
            accounts: Accounts::new(settings.max_accounts),
            settings,
            counters: Counted::default(),
            limits: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            newest: AtomicI64::new(0),
            wanted_seen: AtomicI64::new(0),
        })))
    }

    /// The account of a key: worth keeping, since reserving by it looks nothing up. [`StoreError::Busy`] when memory is full
    /// of accounts in use, [`StoreError::TooLong`] for names over their limits.
    pub fn account(&self, key: &AccountKey) -> Result<AccountRef, StoreError> {
        self.0.accounts.get(key, || self.0.time.elapsed()).map(AccountRef)
    }

    /// What has been counted since it was opened.
    pub fn counters(&self) -> LedgerCounters {
        let counted = &self.0.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LedgerCounters {
            leases: get(&counted.leases),
            refusals: get(&counted.refusals),
            unavailable: get(&counted.unavailable),
            dropped: get(&counted.dropped),
            uncounted: get(&counted.uncounted),
            accounts: u64::try_from(self.0.accounts.len()).unwrap_or(u64::MAX),
        }
    }

    /// Which start of the node this is: each is told by a greater number than those before.
    pub fn epoch(&self) -> i64 {
        self.0.epoch
    }

    /// The last lease this start took; 0: none. Whatever is taken from now on has a greater number.
    pub fn newest_lease(&self) -> i64 {
        self.0.newest.load(Ordering::Acquire)
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.0.settings.node
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("node", &self.0.settings.node)
            .field("epoch", &self.0.epoch)
            .finish_non_exhaustive()
    }
}
