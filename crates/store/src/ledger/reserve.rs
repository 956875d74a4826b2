//! Reserving: of all accounts or of none.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::account::{Account, AccountRef, Terms};
use super::flight::{Launched, Purpose, launch};
use super::hold::{Hold, HoldLine, Want};
use super::{Inner, Ledger, ReserveError};
use crate::StoreError;

/// How many accounts one request may have.
const MAX_WANTS: usize = 64;
/// How often to try again when others take what was leased.
const ATTEMPTS: usize = 100;
/// How long a request waits for a lease.
const PATIENCE: Duration = Duration::from_secs(1);
/// A transaction that takes longer than this, in milliseconds, is not waited for by those who come.
const SLOW: i64 = 1000;
/// The most that one request counts with a budget that is only counted, so that sums stay sums.
const MAX_COUNTED: i64 = 1 << 50;

impl Ledger {
    /// Hold what a request wants of every account, or nothing of any. From memory; only when a block is used up does it
    /// wait, for one transaction that all who wait share. Wants of one account count together, under the lower limit.
    pub async fn reserve(&self, wants: &[Want]) -> Result<Hold, ReserveError> {
        let reserved = self.try_reserve(wants).await;
        match &reserved {
            Ok(_) => {}
            Err(ReserveError::Exhausted { .. }) => {
                self.0.counters.refusals.fetch_add(1, Ordering::Relaxed);
            }
            Err(ReserveError::Unavailable(_)) => {
                self.0.counters.unavailable.fetch_add(1, Ordering::Relaxed);
            }
        }
        reserved
    }

    async fn try_reserve(&self, wants: &[Want]) -> Result<Hold, ReserveError> {
        let inner = &self.0;
        if inner.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed.into());
        }
        let mut lines = in_order(wants)?;
        for _ in 0..ATTEMPTS {
            let Err(lacking) = take(&mut lines, inner.time.now().as_millis()) else {
                return Ok(Hold { lines, inner: Arc::clone(inner) });
            };
            // Counted from the end: the line at which taking stopped.
            let Some(line) = lines.len().checked_sub(lacking).and_then(|at| lines.get(at)) else { break };
            let (account, terms) = (Arc::clone(&line.account.0), line.terms);
            match lease(inner, &account, terms).await {
                Ok(()) => {}
                Err(_) if !terms.enforce => {
                    inner.counters.uncounted.fetch_add(1, Ordering::Relaxed);
                    lines.remove(lines.len() - lacking);
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Busy.into())
    }
}

/// A line for each account, in the order in which accounts are locked.
fn in_order(wants: &[Want]) -> Result<Vec<HoldLine>, StoreError> {
    if wants.len() > MAX_WANTS {
        return Err(StoreError::TooLong { what: "list of a request's budgets", limit: MAX_WANTS });
    }
    let amount = |want: &Want| if want.enforce { want.amount } else { want.amount.min(MAX_COUNTED) };
    let line = |want: &Want| HoldLine {
        lease: 0,
        unit: want.account.key().unit,
        amount: amount(want),
        settled: 0,
        clamped: false,
        over: false,
        account: AccountRef(Arc::clone(&want.account.0)),
        terms: Terms { limit: want.limit.max(0), amount: amount(want), enforce: want.enforce },
    };
    let mut lines: Vec<HoldLine> = wants.iter().filter(|want| want.amount > 0).map(line).collect();
    lines.sort_unstable_by_key(|line| line.account.0.seq);
    lines.dedup_by(|line, kept| {
        let same = line.account.0.seq == kept.account.0.seq;
        if same {
            kept.amount = kept.amount.saturating_add(line.amount);
            kept.terms = Terms {
                limit: match (kept.terms.enforce, line.terms.enforce) {
                    (true, false) => kept.terms.limit,
                    (false, true) => line.terms.limit,
                    _ => kept.terms.limit.min(line.terms.limit),
                },
                amount: kept.amount,
                enforce: kept.terms.enforce || line.terms.enforce,
            };
        }
        same
    });
    Ok(lines)
}

/// Take every line from its block, with all accounts locked, or tell how many lines from the end one lacks.
fn take(lines: &mut [HoldLine], now: i64) -> Result<(), usize> {
    let lacking = lines.len();
    let Some((line, rest)) = lines.split_first_mut() else { return Ok(()) };
    let mut state = line.account.0.lock();
    if state.ready(now, &line.terms).is_none() {
        return Err(lacking);
    }
    take(rest, now)?;
    state.last_used = now;
    if let Some(block) = state.ready(now, &line.terms) {
        line.over = block.passes(line.amount);
        line.lease = block.lease;
        block.free -= line.amount;
        block.held += line.amount;
    }
    Ok(())
}

/// Counts in the account what somebody waits for, as long as they do.
struct Waiting<'a>(&'a Account, i64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting = state.waiting.saturating_sub(self.1);
    }
}

/// See to it that the account has enough for `want`: wait for the flight that is under way, or start one. `Ok` means: try
/// again.
async fn lease(inner: &Arc<Inner>, account: &Arc<Account>, want: Terms) -> Result<(), ReserveError> {
    let mut landed = pin!(account.landed.notified());
    let (seen, _waiting) = {
        let mut state = account.lock();
        let now = inner.time.now().as_millis();
        if state.ready(now, &want).is_some() {
            return Ok(());
        }
        let free = state.free(now, &want);
        let limits = inner.limits.load(Ordering::Relaxed);
        let elapsed = inner.time.elapsed();
        let dry = state.dry.as_ref().filter(|dry| want.enforce && elapsed < dry.until && dry.limits == limits);
        // While somebody raises the limit the old answer does not count.
        if let Some(dry) = dry.filter(|dry| dry.configured == want.limit && want.amount - free > dry.remaining) {
            return Err(ReserveError::Exhausted {
                budget: Arc::clone(&account.key.budget),
                unit: account.key.unit,
                limit: dry.limit,
                resets: dry.resets,
            });
        }
        if state.flight && elapsed - state.flight_since > SLOW {
            // Whoever waits would wait in vain.
            return Err(StoreError::Busy.into());
        }
        landed.as_mut().enable();
        state.waiting = state.waiting.saturating_add(want.amount);
        (state.flown, Waiting(account, want.amount))
    };
    if launch(inner, account, Purpose::Ask(want))? == Launched::Nothing {
        return Ok(());
    }
    if tokio::time::timeout(PATIENCE, landed).await.is_err() {
        return Err(StoreError::Busy.into());
    }
    match &account.lock().failure {
        Some((flight, error)) if *flight >= seen => Err(error.clone().into()),
        _ => Ok(()),
    }
}
