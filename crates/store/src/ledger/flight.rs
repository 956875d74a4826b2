//! One transaction for one account: what its blocks have spent becomes spent, what is no longer used is given back, and a
//! block is leased.
//!
//! There is never a second flight for an account. Its result is applied by whoever commits it and not by whoever asked,
//! who may have gone. Nothing in it is relative to what memory believes was done before: memory says what was spent of a
//! lease in all, and takes what is free from what the database then has. So a commit whose outcome nobody learned does no
//! harm: the next flight finds out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::Timestamp;
use futures_util::future::BoxFuture;

use super::Inner;
use super::account::{Account, Block, Dry, State, Terms};
use super::block;
use super::rows::{self, Lease, Moved};
use super::window::Span;
use crate::StoreError;
use crate::engine::{Connection, Job, Ran};

/// How many blocks of past periods one flight settles.
const BLOCKS: usize = 32;
/// How long the answer that nothing is left counts, in milliseconds.
const DRY: i64 = 1000;
/// A block that was used up faster than this, in milliseconds, was too small.
const FAST: i64 = 10_000;

/// A block is not extended once it is this old, in milliseconds, but given back and followed by another: where a node dies, its
/// journal is read as far back as its oldest lease was taken.
const AGE: i64 = 5 * 60_000;

/// What a flight is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// To lease enough for a request.
    Ask(Terms),
    /// To let the database know what has been spent, and settle past blocks.
    Tell,
    /// To give back whatever is free.
    GiveBack,
}

struct Plan {
    number: u64,
    now: Timestamp,
    span: Span,
    blocks: Vec<Part>,
    /// All leases that memory knows.
    known: Vec<i64>,
    ask: Option<Asked>,
    /// The block that is no longer taken from because nobody uses it, or because it is old.
    retired: Option<i64>,
}

/// A block as it was when the flight began.
struct Part {
    lease: i64,
    spent: i64,
    held: i64,
    /// Kept from requests while it is given back.
    kept: i64,
    task: Task,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Only read it: a block that is extended need not be settled each time.
    Look,
    /// Charge what was spent.
    Charge,
    /// Charge what was spent and give back what is free.
    Shrink,
    /// The same, and close it once nothing is held.
    Close,
}

#[derive(Clone, Copy)]
struct Asked {
    terms: Terms,
    demand: i64,
    appetite: i64,
}

/// What a flight found and did.
#[derive(Default)]
struct Landing {
    /// What the clock said that the ledger's time follows.
    reading: Timestamp,
    leases: Vec<Lease>,
    grant: Option<Granted>,
    dry: Option<Dry>,
}

struct Granted {
    lease: Lease,
    size: i64,
    effective: i64,
    others: i64,
    /// When a raise ends.
    until: Option<Timestamp>,
}

struct Flight {
    inner: Arc<Inner>,
    account: Arc<Account>,
    plan: Plan,
    outcome: Result<Landing, StoreError>,
    landed: bool,
}

/// What became of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Launched {
    /// It is under way.
    Started,
    /// Another one is under way: there is never a second for an account.
    Another,
    /// There is nothing to do (any more), and nothing to wait for.
    Nothing,
}

/// Start a flight unless one is under way.
pub(crate) fn launch(inner: &Arc<Inner>, account: &Arc<Account>, purpose: Purpose) -> Result<Launched, StoreError> {
    let plan = {
        let mut state = account.lock();
        if state.flight {
            return Ok(Launched::Another);
        }
        let now = inner.time.now();
        if let Purpose::Ask(terms) = &purpose
            && state.ready(now.as_millis(), terms).is_some()
        {
            return Ok(Launched::Nothing);
        }
        let Some(plan) = capture(inner, account, &mut state, (now, purpose)) else {
            return Ok(Launched::Nothing);
        };
        state.flight = true;
        state.flight_since = inner.time.elapsed();
        plan
    };
    let (inner, account) = (Arc::clone(inner), Arc::clone(account));
    let store = inner.store.clone();
    // Dropped without having run, it lands as a failure.
    let outcome = Err(StoreError::Closed);
    store.shared.engine.submit(Box::new(Flight { inner, account, plan, outcome, landed: false }))?;
    Ok(Launched::Started)
}

/// Take down what is to be done. Nothing, if there is nothing.
fn capture(inner: &Inner, account: &Account, state: &mut State, (now, purpose): (Timestamp, Purpose)) -> Option<Plan> {
    let mut span = account.key.window.at(now);
    let (mut ask, mut retired) = (None, None);
    if let Some(block) = &state.current {
        // Periods only follow one another, whatever clocks say.
        if span.start < block.span.start {
            span = block.span;
        }
        let keep = match purpose {
            Purpose::Ask(terms) => block.fits(&terms),
            Purpose::Tell => true,
            // What is held of it needs no other block afterwards.
            Purpose::GiveBack => block.held > 0,
        };
        let ended = block.until <= now.as_millis();
        // One that is only old goes on being taken from where the database cannot be asked for another.
        retired = Some(block.lease).filter(|_| !ended && (keep || matches!(purpose, Purpose::GiveBack)));
        if !keep || ended || block.is_old(inner.time.elapsed()) {
            state.retire();
        }
    }
    if let Purpose::Ask(terms) = purpose {
        let fast = |(size, at): (i64, i64)| if inner.time.elapsed() - at < FAST { size.saturating_mul(2) } else { 0 };
        let appetite = state.current.as_ref().map_or(0, |block| fast(block.grant));
        ask = Some(Asked { terms, demand: state.waiting, appetite });
    }
    let part =
        |block: &Block, kept, task| Part { lease: block.lease, spent: block.spent, held: block.held, kept, task };
    let mut blocks = Vec::new();
    for block in state.retired.iter_mut().filter(|block| block.is_due()).take(BLOCKS) {
        // Nobody takes from it meanwhile, and what is still held of it changes only what is free of it.
        let kept = std::mem::take(&mut block.free);
        blocks.push(part(block, kept, Task::Close));
    }
    if let Some(block) = &mut state.current {
        match purpose {
            Purpose::Ask(_) => blocks.push(part(block, 0, Task::Look)),
            Purpose::GiveBack if block.is_due() => {
                let kept = std::mem::take(&mut block.free);
                blocks.push(part(block, kept, Task::Shrink));
            }
            Purpose::Tell if block.spent > block.charged => blocks.push(part(block, 0, Task::Charge)),
            Purpose::GiveBack | Purpose::Tell => {}
        }
    }
    let plan = Plan { number: state.flown, now, span, blocks, known: state.known(), ask, retired };
    (plan.ask.is_some() || !plan.blocks.is_empty()).then_some(plan)
}

impl Flight {
    async fn fly(&self, tx: &mut dyn Connection) -> Result<Landing, StoreError> {
        let (store, plan) = (&self.inner.store, &self.plan);
        let now = rows::now(tx, &self.inner).await?;
        let limit = plan.ask.map(|ask| ask.terms.limit);
        // The account's row first: whoever changes anything of an account waits here for the others.
        let account = rows::lock_account(tx, store, (&self.account.key, limit, now)).await?;
        let limits = rows::limits(tx, store, (&self.inner.settings.node, &self.account.key, now)).await?;
        if limits.epoch != self.inner.epoch {
            return Err(StoreError::Conflict("node: another process of its name has started"));
        }
        let mut landing = Landing { reading: rows::reading(tx, &self.inner, now), ..Landing::default() };
        let mut current = None;
        for part in &plan.blocks {
            let lease = self.settle(tx, account, (part, now)).await?;
            if part.task == Task::Look {
                current = Some((lease.clone(), part));
            }
            landing.leases.push(lease);
        }
        if let Some(ask) = plan.ask {
            self.extend(tx, (account, now, &limits), (ask, current), &mut landing).await?;
        }
        Ok(landing)
    }

    /// Bring what the database knows of a lease up to date.
    async fn settle(
        &self,
        tx: &mut dyn Connection,
        account: i64,
        (part, now): (&Part, Timestamp),
    ) -> Result<Lease, StoreError> {
        let store = &self.inner.store;
        let mut lease = rows::lease(tx, store, part.lease).await?.ok_or(StoreError::Conflict("lease"))?;
        if lease.is_closed() && part.task == Task::Close {
            // It was, by a commit that nobody learned of.
            return Ok(lease);
        }
        if lease.account != account || !lease.is_of(&self.inner.settings.node, self.inner.epoch) {
            return Err(StoreError::Conflict("lease"));
        }
        let before = lease.clone();
        let mut moved = Moved::new(account, lease.period, now);
        moved.lease = Some(lease.id);
        // Others may have thought this node was dead.
        moved.reinstate(&mut lease);
        if part.task != Task::Look {
            moved.charge(&mut lease, part.spent);
        }
        if matches!(part.task, Task::Shrink | Task::Close) {
            moved.give_back(&mut lease, part.held);
        }
        if part.task == Task::Close && lease.amount == 0 {
            lease.close();
        }
        if lease != before {
            moved.write(tx, store).await?;
            rows::update_lease(tx, store, &lease).await?;
        }
        Ok(lease)
    }

    /// Lease what is asked for, if there is enough.
    async fn extend(
        &self,
        tx: &mut dyn Connection,
        (account, now, limits): (i64, Timestamp, &rows::Limits),
        (ask, current): (Asked, Option<(Lease, &Part)>),
        landing: &mut Landing,
    ) -> Result<(), StoreError> {
        let (store, plan, terms) = (&self.inner.store, &self.plan, ask.terms);
        let effective = terms.limit.saturating_add(limits.raised);
        let window = self.account.key.window;
        let used = rows::used(tx, store, (account, window, plan.span.start, plan.now)).await?;
        // A lease that memory does not know was made by a commit that nobody learned of.
        let (lease, free) = if let Some((lease, part)) = current {
            let free = lease.amount - part.held - part.spent.saturating_sub(lease.charged);
            (Some(lease), free)
        } else {
            let found = rows::leases_at(tx, store, (account, plan.span.start)).await?.into_iter();
            let ours = |lease: &Lease| lease.is_of(&self.inner.settings.node, self.inner.epoch);
            let found = found.filter(ours).find(|lease| !plan.known.contains(&lease.id));
            let free = found.as_ref().map_or(0, |lease| lease.amount);
            (found, free)
        };
        let own = lease.as_ref().map_or(0, |lease| lease.amount.saturating_add(lease.charged));
        let remaining = effective.saturating_sub(used.total);
        let need = terms.amount.saturating_sub(free).max(0);
        let sizing = block::Ask {
            need,
            amount: terms.amount,
            demand: ask.demand,
            appetite: ask.appetite,
            // Without a limit that counts, a block is for as many as use it.
            remaining: if terms.enforce { remaining } else { i64::MAX / 4 - used.total.min(i64::MAX / 8) },
        };
        let sizing = if terms.enforce { sizing } else { sizing.for_counting() };
        let size = if need == 0 { Some(0) } else { block::size(sizing) };
        if !used.has_row {
            rows::new_period(tx, store, (account, plan.span.start, effective)).await?;
        }
        rows::lend(tx, store, (account, plan.span.start), (size.unwrap_or(0), effective)).await?;
        let Some(size) = size else {
            rows::wanted(tx, store, (account, &self.inner.settings.node, now)).await?;
            landing.dry = Some(Dry {
                remaining,
                configured: terms.limit,
                limit: effective,
                resets: used.oldest.and_then(|oldest| window.leaves(oldest)),
                until: self.inner.time.elapsed() + DRY,
                limits: self.inner.limits.load(Ordering::Relaxed),
            });
            return Ok(());
        };
        let lease = if let Some(mut lease) = lease {
            lease.amount = lease.amount.saturating_add(size);
            rows::update_lease(tx, store, &lease).await?;
            lease
        } else {
            let terms = (&*self.inner.settings.node, self.inner.epoch, size, now);
            rows::new_lease(tx, store, (account, plan.span.start), terms).await?
        };
        let mut moved = Moved::new(account, plan.span.start, now);
        moved.lease = Some(lease.id);
        if size > 0 {
            rows::entry(tx, store, &moved, ("lease", [0, 0, size])).await?;
        }
        let others = used.total.saturating_sub(own);
        landing.grant = Some(Granted { lease, size, effective, others, until: limits.until });
        Ok(())
    }

    /// Let memory know. Wakes those who wait.
    fn land(&mut self, outcome: Result<Landing, StoreError>) {
        self.landed = true;
        let mut state = self.account.lock();
        state.flight = false;
        state.flown += 1;
        match outcome {
            Ok(landing) => self.apply(&mut state, landing),
            Err(error) => {
                tracing::warn!(
                    reason = error.reason(),
                    budget = &*self.account.key.budget,
                    "the ledger could not write"
                );
                if error.is_outage() || matches!(error, StoreError::Collided) {
                    self.undo(&mut state);
                }
                state.failure = Some((self.plan.number, error));
            }
        }
        drop(state);
        self.account.landed.notify_waiters();
    }

    /// Nothing was written: what was to be given back is still leased, and may be taken meanwhile.
    fn undo(&self, state: &mut State) {
        for part in &self.plan.blocks {
            if let Some(block) = state.find(part.lease) {
                block.free = block.free.saturating_add(part.kept);
            }
        }
        let retired = state.retired.iter().position(|block| Some(block.lease) == self.plan.retired);
        if let (None, Some(at)) = (&state.current, retired) {
            state.current = Some(state.retired.remove(at));
        }
    }

    fn apply(&self, state: &mut State, landing: Landing) {
        self.inner.time.observe(landing.reading);
        state.failure = None;
        for lease in &landing.leases {
            let Some(block) = state.find(lease.id) else { continue };
            if lease.charged > block.charged {
                block.told = self.inner.time.elapsed();
            }
            block.follow(lease);
        }
        state.retired.retain(|block| !landing.leases.iter().any(|lease| lease.is_closed() && lease.id == block.lease));
        state.dry = landing.dry;
        let (Some(granted), Some(ask)) = (landing.grant, self.plan.ask) else { return };
        self.inner.counters.leases.fetch_add(u64::from(granted.size > 0), Ordering::Relaxed);
        if state.current.as_ref().is_none_or(|block| block.lease != granted.lease.id) {
            self.inner.newest.fetch_max(granted.lease.id, Ordering::Release);
            state.retire();
            state.current = Some(Block::new(&granted.lease, self.plan.span, self.inner.time.elapsed()));
        }
        let Some(block) = &mut state.current else { return };
        block.follow(&granted.lease);
        block.limit = ask.terms.limit;
        block.enforced = ask.terms.enforce;
        block.effective = granted.effective;
        block.others = granted.others;
        block.until = granted.until.map_or(block.span.end, |until| until.as_millis().min(block.span.end));
        block.grant = (granted.size, self.inner.time.elapsed());
    }
}

impl Block {
    fn new(lease: &Lease, span: Span, elapsed: i64) -> Self {
        Self {
            lease: lease.id,
            span,
            until: span.end,
            limit: 0,
            effective: 0,
            enforced: false,
            free: 0,
            held: 0,
            spent: 0,
            charged: 0,
            others: 0,
            grant: (0, elapsed),
            told: elapsed,
            since: elapsed,
        }
    }

    /// Whether another is to follow it.
    pub(crate) const fn is_old(&self, elapsed: i64) -> bool {
        elapsed.saturating_sub(self.since) >= AGE
    }

    /// What is leased and neither held nor spent is free.
    fn follow(&mut self, lease: &Lease) {
        self.charged = lease.charged;
        self.free = lease.amount - self.held - self.spent.saturating_sub(lease.charged);
    }
}

impl Job for Flight {
    fn run<'a>(&'a mut self, tx: &'a mut dyn Connection) -> BoxFuture<'a, Ran> {
        Box::pin(async move {
            self.outcome = self.fly(tx).await;
            Ran::of(&self.outcome)
        })
    }

    // What a node has leased is no other's business.
    fn notifies(&self) -> bool {
        false
    }

    fn finish(mut self: Box<Self>, committed: Result<(), StoreError>) {
        let outcome = std::mem::replace(&mut self.outcome, Err(StoreError::Closed));
        self.land(committed.and(outcome));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            self.land(Err(StoreError::Closed));
        }
    }
}
