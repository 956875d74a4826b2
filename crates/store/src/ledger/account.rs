//! Accounts in memory: the blocks this node may spend from.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{Hashing, Table, Timestamp};
use tokio::sync::Notify;

use super::window::{Span, Unit, Window};
use crate::StoreError;
use crate::error::at_most;

/// Which account: a budget, over a window, in a unit, of one of those it counts apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountKey {
    /// The budget's name.
    pub budget: Arc<str>,
    /// Text of whom it counts, at most 512 bytes; empty: everyone together.
    pub whom: Arc<str>,
    /// What it counts.
    pub unit: Unit,
    /// Over what time.
    pub window: Window,
}

/// An account, found once: reserving by it looks nothing up. Cheap to clone. While one is kept, the account stays in
/// memory.
#[derive(Clone)]
pub struct AccountRef(pub(crate) Arc<Account>);

impl AccountRef {
    /// Which account it is.
    pub fn key(&self) -> &AccountKey {
        &self.0.key
    }
}

impl std::fmt::Debug for AccountRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AccountRef").field(&self.0.key).finish()
    }
}

pub(crate) struct Account {
    /// The order in which accounts are locked.
    pub(crate) seq: u64,
    pub(crate) key: AccountKey,
    /// Woken when a flight has landed.
    pub(crate) landed: Notify,
    state: Mutex<State>,
}

/// What is known of an account. Amounts in its unit, times in milliseconds of the ledger's time.
#[derive(Default)]
pub(crate) struct State {
    /// The block of the period that is filled now.
    pub(crate) current: Option<Block>,
    /// Blocks of periods that have ended, and blocks to be given back, while something is under way in them.
    pub(crate) retired: Vec<Block>,
    /// Whether a transaction for this account is under way: there is never a second.
    pub(crate) flight: bool,
    /// Since when (monotonic).
    pub(crate) flight_since: i64,
    /// How many flights have landed.
    pub(crate) flown: u64,
    /// The last flight's failure, with its number.
    pub(crate) failure: Option<(u64, StoreError)>,
    /// What those who wait for a flight need together.
    pub(crate) waiting: i64,
    /// The database had no more than this, lately.
    pub(crate) dry: Option<Dry>,
    pub(crate) last_used: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Dry {
    pub(crate) remaining: i64,
    /// The configured limit it was asked under.
    pub(crate) configured: i64,
    /// The same with what it was raised by.
    pub(crate) limit: i64,
    pub(crate) resets: Option<Timestamp>,
    /// By the monotonic clock.
    pub(crate) until: i64,
    /// What [`super::Inner::limits`] was then.
    pub(crate) limits: u64,
}

/// A leased block. `free + held + (spent - what the database knows of it)` is what is leased.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) lease: i64,
    pub(crate) span: Span,
    /// Not spent from any more from here on: its period or a raise of the limit ends.
    pub(crate) until: i64,
    /// The configured limit it was leased under.
    pub(crate) limit: i64,
    /// The same with what it was raised by.
    pub(crate) effective: i64,
    pub(crate) enforced: bool,
    pub(crate) free: i64,
    pub(crate) held: i64,
    /// Everything ever spent from it.
    pub(crate) spent: i64,
    /// What of that the database knows.
    pub(crate) charged: i64,
    /// What the window held beside this lease when it was last looked up.
    pub(crate) others: i64,
    /// The size of the last grant and when it was (monotonic).
    pub(crate) grant: (i64, i64),
    /// When the database was last told what was spent (monotonic).
    pub(crate) told: i64,
    /// When it was taken (monotonic).
    pub(crate) since: i64,
}

impl Account {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The block a request may take `amount` from at `now`.
    pub(crate) fn ready(&mut self, now: i64, want: &Terms) -> Option<&mut Block> {
        self.current.as_mut().filter(|block| now < block.until && block.fits(want) && block.free >= want.amount)
    }

    /// What is free for such a request.
    pub(crate) fn free(&self, now: i64, want: &Terms) -> i64 {
        self.current.as_ref().filter(|block| now < block.until && block.fits(want)).map_or(0, |block| block.free)
    }

    pub(crate) fn find(&mut self, lease: i64) -> Option<&mut Block> {
        self.current.iter_mut().chain(&mut self.retired).find(|block| block.lease == lease)
    }

    /// The leases of all blocks.
    pub(crate) fn known(&self) -> Vec<i64> {
        self.current.iter().chain(&self.retired).map(|block| block.lease).collect()
    }

    /// No longer take from the current block.
    pub(crate) fn retire(&mut self) {
        self.retired.extend(self.current.take());
    }

    /// Whether nothing is lost by forgetting it.
    fn is_idle(&self) -> bool {
        self.current.is_none() && self.retired.is_empty() && !self.flight && self.waiting == 0
    }
}

/// What a request asks of an account: at most `amount`, of a window with `limit`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) limit: i64,
    pub(crate) amount: i64,
    pub(crate) enforce: bool,
}

impl Block {
    /// Whether it was leased under terms that still hold. One from under a higher limit goes back first; one from under a
    /// lower limit may be used up.
    pub(crate) fn fits(&self, want: &Terms) -> bool {
        !want.enforce || (self.enforced && self.limit <= want.limit)
    }

    /// Of a past block: whether there is anything to tell or give back. What is held comes later.
    pub(crate) fn is_due(&self) -> bool {
        self.held == 0 || self.free > 0 || self.spent > self.charged
    }

    /// Whether the window would pass its limit with `amount` more: what a budget that is not enforced would have refused.
    pub(crate) fn passes(&self, amount: i64) -> bool {
        let own = (self.spent - self.charged).saturating_add(self.held).saturating_add(amount);
        self.others.saturating_add(self.charged).saturating_add(own) > self.effective
    }
}

/// The accounts in memory, at most a given number.
pub(crate) struct Accounts {
    shards: Vec<Mutex<Table<AccountKey, Arc<Account>>>>,
    hasher: Hashing,
    count: AtomicUsize,
    max: usize,
    next: AtomicU64,
    /// When memory may next be searched for room (monotonic).
    walked: AtomicI64,
}

const SHARDS: usize = 16;
/// How long between two searches for room, in milliseconds.
const WALK: i64 = 1000;

impl Accounts {
    pub(crate) fn new(max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let hasher = Hashing::default();
        Self { shards, hasher, count: AtomicUsize::new(0), max, next: AtomicU64::new(0), walked: AtomicI64::new(0) }
    }

    /// The account of a key, made when it is new. [`StoreError::Busy`] when memory is full of accounts in use. `elapsed`: the time of
    /// the monotonic clock, asked for only where there is no room.
    pub(crate) fn get(&self, key: &AccountKey, elapsed: impl FnOnce() -> i64) -> Result<Arc<Account>, StoreError> {
        if let Some(account) = self.find(key) {
            return Ok(account);
        }
        at_most("budget name", key.budget.len(), 256)?;
        at_most("text of whom a budget counts", key.whom.len(), 512)?;
        if self.len() >= self.max {
            // Not a walk over all of them for each request that comes while memory is full.
            let (last, elapsed) = (self.walked.load(Ordering::Relaxed), elapsed());
            let walks = elapsed >= last
                && self.walked.compare_exchange(last, elapsed + WALK, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if !walks || self.forget_idle(i64::MAX) == 0 {
                return Err(StoreError::Busy);
            }
        }
        let mut shard = lock(self.shard(key).ok_or(StoreError::Busy)?);
        let account = shard.entry(key.clone()).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            let seq = self.next.fetch_add(1, Ordering::Relaxed);
            Arc::new(Account { seq, key: key.clone(), landed: Notify::new(), state: Mutex::default() })
        });
        Ok(Arc::clone(account))
    }

    /// The account of a key, if it is in memory.
    pub(crate) fn find(&self, key: &AccountKey) -> Option<Arc<Account>> {
        lock(self.shard(key)?).get(key).cloned()
    }

    fn shard(&self, key: &AccountKey) -> Option<&Mutex<Table<AccountKey, Arc<Account>>>> {
        self.shards.get(usize::try_from(self.hasher.hash_one(key) % (SHARDS as u64)).unwrap_or(0))
    }

    /// Forget accounts without a block that nobody refers to and nobody used since `before`; how many there were.
    pub(crate) fn forget_idle(&self, before: i64) -> usize {
        let mut forgotten = 0;
        for shard in &self.shards {
            lock(shard).retain(|_, account| {
                // One reference is the map's own; none is made without the lock that is held here.
                let goes = Arc::strong_count(account) == 1 && {
                    let state = account.lock();
                    state.is_idle() && state.last_used < before
                };
                forgotten += usize::from(goes);
                !goes
            });
        }
        self.count.fetch_sub(forgotten, Ordering::Relaxed);
        forgotten
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Account>> {
        self.shards.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) const fn max(&self) -> usize {
        self.max
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
