//! What a request holds of its accounts, and how it is settled.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Inner;
use super::account::{AccountKey, AccountRef, Terms};
use super::window::Unit;

/// What a request wants of one account.
#[derive(Debug, Clone)]
pub struct Want {
    /// Whose.
    pub account: AccountRef,
    /// The configured limit of the account's window.
    pub limit: i64,
    /// The upper bound of what the request may use.
    pub amount: i64,
    /// `false`: counted only, never refused (shadow mode).
    pub enforce: bool,
}

/// One account's part of a hold: what the journal keeps.
#[derive(Debug, Clone)]
pub struct HoldLine {
    /// The lease it was taken from.
    pub lease: i64,
    /// The unit of the amounts.
    pub unit: Unit,
    /// What is held.
    pub amount: i64,
    /// What was settled: at most `amount`. Meaningful once the hold is settled.
    pub settled: i64,
    /// Whether the actual usage was outside of what was held (more, or negative) and was brought inside.
    pub clamped: bool,
    /// Whether this account's window passes its limit with it: what a budget in shadow mode would have refused.
    pub over: bool,
    pub(crate) account: AccountRef,
    pub(crate) terms: Terms,
}

impl HoldLine {
    /// The account it is of.
    pub fn account(&self) -> &AccountRef {
        &self.account
    }

    /// Which account it is of.
    pub fn key(&self) -> &AccountKey {
        self.account.key()
    }
}

/// What is held for one request, of all its accounts together. Dropped unsettled, all of it is charged, as an estimate.
#[must_use = "dropping a hold charges all of it"]
pub struct Hold {
    pub(crate) lines: Vec<HoldLine>,
    pub(crate) inner: Arc<Inner>,
}

/// How a hold was settled.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// Each account's part, with what was settled.
    pub lines: Vec<HoldLine>,
}

impl Settled {
    /// Whether some usage was outside of what was held.
    pub fn clamped(&self) -> bool {
        self.lines.iter().any(|line| line.clamped)
    }
}

impl Hold {
    /// Each account's part. Accounts of which nothing was wanted have none.
    pub fn lines(&self) -> &[HoldLine] {
        &self.lines
    }

    /// Charge what was actually used, brought to between nothing and what is held, and free the rest. Memory only: never
    /// waits.
    pub fn settle(mut self, actual: impl Fn(&HoldLine) -> i64) -> Settled {
        let mut lines = std::mem::take(&mut self.lines);
        for line in &mut lines {
            let used = actual(line);
            line.settled = used.clamp(0, line.amount);
            line.clamped = line.settled != used;
            charge(line);
        }
        Settled { lines }
    }

    /// Free all of it: nothing was used.
    pub fn release(self) -> Settled {
        self.settle(|_| 0)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        self.inner.counters.dropped.fetch_add(1, Ordering::Relaxed);
        for line in &mut self.lines {
            line.settled = line.amount;
            charge(line);
        }
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("lines", &self.lines).finish_non_exhaustive()
    }
}

fn charge(line: &HoldLine) {
    let mut state = line.account.0.lock();
    // A block stays as long as something is held of it.
    if let Some(block) = state.find(line.lease) {
        block.held -= line.amount;
        block.spent += line.settled;
        block.free += line.amount - line.settled;
    }
}
