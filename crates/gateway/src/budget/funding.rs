//! What a request's budgets hold for it.

mod settle;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use audit::SettledLine;
use base::RequestId;
use config::BudgetUnit;
use policy::{Fund, Permit, Spender};
use store::{AccountKey, AccountRef, Hold, HoldLine, Ledger, Want};

use super::crowd::Crowd;
use super::error::BudgetError;
use super::load::Place;
use super::quote::Quote;
use super::recount::{self, Text};
use super::stake::Stake;
use super::tally::Tally;
use super::told;
use super::units::{budget_unit, ledger_unit, ledger_window};
use super::whom::whom;
use crate::Shared;
use crate::authenticate::Caller;
use crate::recorded;

/// No lower bound than this is set in a request that has none: an answer that short is hardly one.
const LEAST_OUTPUT: u64 = 1024;
/// A hold of more than this part of a limit is much.
const MUCH: i64 = 16;

/// For whom something is to be held.
pub(crate) struct Spending<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) id: RequestId,
    pub(crate) caller: &'a Caller,
    /// The tag it gives its request, allowed or not.
    pub(crate) tag: Option<&'a str>,
    /// Whether it counts as a request of the caller's: what the gateway asks for by itself does not.
    pub(crate) is_request: bool,
    /// Where what it costs is added up.
    pub(crate) tally: &'a Arc<Tally>,
    /// What it sends, where that can be counted.
    pub(crate) text: Text<'a>,
}

/// One account a request is counted in.
struct Line {
    fund: Arc<Fund>,
    account: AccountRef,
    unit: BudgetUnit,
    limit: i64,
    /// Which targets it counts.
    counts: Vec<bool>,
}

/// What the calls of one request may take, what its budgets hold for it, and where what they took is added up.
pub(crate) struct Funding {
    shared: Arc<Shared>,
    id: RequestId,
    /// Needed where a budget counts the request.
    ledger: Option<Ledger>,
    quotes: Vec<Quote>,
    /// Why a target cannot be paid for.
    barred: Vec<Option<BudgetError>>,
    lines: Vec<Line>,
    book: Mutex<Book>,
    /// Whether a call has been made.
    called: AtomicBool,
    enforced: bool,
    tally: Arc<Tally>,
    /// Its places among the requests at once.
    crowd: Option<Crowd>,
}

/// What is told of a request's money. The audit log has what is held before it may be spent, and what was settled in the entry
/// of the request's end; what is settled after that, in one of its own.
#[derive(Default)]
struct Book {
    /// What no call has put in.
    free: Option<Hold>,
    /// What has been settled and is in no entry yet, each lease once.
    settled: Vec<SettledLine>,
    /// Whether no entry of the request's end is to come that could say it.
    closed: bool,
}

impl Funding {
    /// Hold what a request may take of every budget that counts it: all or nothing.
    pub(super) async fn open(
        spending: &Spending<'_>,
        permit: &Permit,
        quotes: Vec<Quote>,
    ) -> Result<Arc<Self>, BudgetError> {
        if permit.funds().is_empty() {
            return Ok(Arc::new(Self::nobodys(spending, quotes)));
        }
        let snapshot = spending.shared.snapshot.load();
        let (organisation, project) = snapshot.membership.find(spending.caller);
        let device = spending.caller.device();
        let spender = Spender {
            issuer: spending.caller.issuer(),
            subject: spending.caller.subject(),
            client: spending.caller.client(),
            key: spending.caller.key().map(base::Name::as_str),
            device: device.as_deref(),
            organisation: organisation.as_deref(),
            project: project.as_deref(),
            tag: spending.tag.and_then(|given| permit.caller_tag(given)),
        };
        let counting: Vec<&Arc<Fund>> = permit
            .funds()
            .iter()
            .filter(|fund| fund.counts_caller(&spender))
            .filter(|fund| quotes.iter().any(|quote| fund.counts_at(&quote.place.aim())))
            .collect();
        if counting.is_empty() {
            return Ok(Arc::new(Self::nobodys(spending, quotes)));
        }
        let mut funding = Self::nobodys(spending, quotes);
        if spending.is_request {
            funding.crowd = funding.join(&counting, (permit, &spender)).await?;
        }
        if counting.iter().all(|fund| fund.limits().is_empty()) {
            return Ok(Arc::new(funding));
        }
        let Some(ledger) = spending.shared.ledger.clone() else { return Err(BudgetError::Unavailable("no_ledger")) };
        funding.ledger = Some(ledger);
        funding.barred = funding.quotes.iter().map(|quote| barred(quote, &counting)).collect();
        funding.enforced = counting.iter().any(|fund| fund.is_enforced());
        if let Some(first) = funding.barred.first().cloned().flatten()
            && funding.barred.iter().zip(&funding.quotes).all(|(barred, quote)| barred.is_some() || quote.aside)
        {
            return Err(funding.refused(first));
        }
        for fund in counting {
            funding.add(fund, permit, &spender)?;
        }
        let first = funding.first_hold(spending).await;
        let first = first.map_err(|error| funding.refused(error))?;
        funding.book().free = Some(first);
        Ok(Arc::new(funding))
    }

    /// Of a request that no budget counts.
    fn nobodys(spending: &Spending<'_>, quotes: Vec<Quote>) -> Self {
        Self {
            shared: Arc::clone(spending.shared),
            id: spending.id,
            ledger: None,
            barred: Vec::new(),
            enforced: false,
            quotes,
            lines: Vec::new(),
            book: Mutex::default(),
            called: AtomicBool::new(false),
            tally: Arc::clone(spending.tally),
            crowd: None,
        }
    }

    /// A place of every account that may count the request, wherever its answer may come from; not of copies that nobody hears.
    async fn join(&self, counting: &[&Arc<Fund>], of: (&Permit, &Spender<'_>)) -> Result<Option<Crowd>, BudgetError> {
        if counting.iter().all(|fund| fund.concurrent().is_none()) {
            return Ok(None);
        }
        let places: Vec<&Place> = self.quotes.iter().filter(|quote| !quote.aside).map(|quote| &quote.place).collect();
        let joined = Box::pin(Crowd::join(&self.shared, counting, of, &places)).await;
        joined.inspect_err(|error| {
            if let BudgetError::Crowded { budget, .. } = error {
                self.shared.metrics.budget(budget, "refused");
            }
        })
    }

    /// How its caller stands with what it may have at once: each budget, its limit, and what is left.
    pub(crate) fn at_once(&self) -> &[(Arc<str>, u64, u64)] {
        self.crowd.as_ref().map(Crowd::standings).unwrap_or_default()
    }

    /// The accounts of one budget: one for each of those it counts apart.
    fn add(&mut self, fund: &Arc<Fund>, permit: &Permit, spender: &Spender<'_>) -> Result<(), BudgetError> {
        let ledger = self.ledger.as_ref().ok_or(BudgetError::Unavailable("no_ledger"))?;
        let own = self.lines.len();
        for (index, quote) in self.quotes.iter().enumerate() {
            if !fund.counts_at(&quote.place.aim()) {
                continue;
            }
            let text = whom(fund, permit.policy().as_str(), spender, &quote.place);
            let lines = self.lines.get_mut(own..).unwrap_or_default();
            let mut is_known = false;
            for line in lines.iter_mut().filter(|line| *line.account.key().whom == *text) {
                is_known = true;
                if let Some(counts) = line.counts.get_mut(index) {
                    *counts = true;
                }
            }
            if is_known {
                continue;
            }
            let text: Arc<str> = Arc::from(text);
            for (unit, limit) in fund.limits() {
                let key = AccountKey {
                    budget: Arc::clone(fund.account()),
                    whom: Arc::clone(&text),
                    unit: ledger_unit(*unit),
                    window: ledger_window(fund.window()),
                };
                let account = ledger.account(&key);
                let account = account.map_err(|error| BudgetError::Unavailable(error.reason()))?;
                let counts = (0..self.quotes.len()).map(|at| at == index).collect();
                self.lines.push(Line { fund: Arc::clone(fund), account, unit: *unit, limit: *limit, counts });
            }
        }
        Ok(())
    }

    /// Hold the most; where that is not there, what the input certainly is no more than once it is counted; and where the request leaves
    /// it to us how much may be generated, less.
    async fn first_hold(&mut self, spending: &Spending<'_>) -> Result<Hold, BudgetError> {
        let counting = &spending.shared.counting;
        let mut uncounted = true;
        if self.takes_much() {
            uncounted = false;
            counting.recount(&mut self.quotes, spending.text).await;
        }
        let mut most = self.quotes.iter().filter_map(|quote| quote.set).max().unwrap_or(0);
        loop {
            match self.hold(spending.is_request, None).await {
                Err(error @ BudgetError::Exhausted { .. }) if uncounted && self.may_fit(&error) => {
                    uncounted = false;
                    if !counting.recount(&mut self.quotes, spending.text).await && most <= LEAST_OUTPUT {
                        return Err(error);
                    }
                }
                Err(BudgetError::Exhausted { unit, .. }) if most > LEAST_OUTPUT && unit != BudgetUnit::Requests => {
                    most = (most / 4).max(LEAST_OUTPUT);
                    self.quotes.iter_mut().for_each(|quote| {
                        quote.lower(most);
                    });
                }
                other => return other,
            }
        }
    }

    /// Whether a long input, as its bytes bound it, would hold much of a limit: others would wait for nothing.
    fn takes_much(&self) -> bool {
        let is_long =
            |quote: &Quote| quote.vocabulary().is_some() && quote.input().is_some_and(|input| input > recount::WORTH);
        let much =
            |line: &Line| line.fund.is_enforced() && reads(line.unit) && self.amount(line, None) > line.limit / MUCH;
        self.quotes.iter().any(is_long) && self.lines.iter().any(much)
    }

    /// Whether a request that has been refused might fit if its input were counted: a budget of which nothing is left needs no counting.
    fn may_fit(&self, refused: &BudgetError) -> bool {
        let BudgetError::Exhausted { budget, unit, .. } = refused else { return false };
        let of = |line: &&Line| line.unit == *unit && line.account.key().budget == *budget;
        reads(*unit)
            && self.lines.iter().filter(of).all(|line| line.account.seen().is_none_or(|seen| seen.remaining() > 0))
    }

    /// Hold for one more call: of this target, or of any that may answer.
    async fn hold(&self, is_request: bool, target: Option<usize>) -> Result<Hold, BudgetError> {
        let want = |line: &Line| Want {
            account: line.account.clone(),
            limit: line.limit,
            amount: if line.unit == BudgetUnit::Requests && !is_request { 0 } else { self.amount(line, target) },
            enforce: line.fund.is_enforced(),
        };
        let wants: Vec<Want> = self.lines.iter().map(want).collect();
        let ledger = self.ledger.as_ref().ok_or(BudgetError::Unavailable("no_ledger"))?;
        let held = ledger.reserve(&wants).await;
        held.map_err(|error| BudgetError::of(error, budget_unit, self.shared.clock.now()))
    }

    /// The dearest of the targets it counts.
    fn amount(&self, line: &Line, target: Option<usize>) -> i64 {
        let counted = self.quotes.iter().zip(&line.counts).zip(&self.barred).enumerate();
        let amounts = counted.filter(|(index, ((quote, counts), barred))| {
            **counts && barred.is_none() && target.map_or(!quote.aside, |target| target == *index)
        });
        amounts.filter_map(|(_, ((quote, _), _))| quote.most(line.unit)).max().unwrap_or(0)
    }

    /// Put in for a call of this target: what is free, or where that is in doubt, as much again.
    pub(crate) async fn stake(self: &Arc<Self>, target: usize) -> Result<Stake, BudgetError> {
        if let Some(Some(error)) = self.barred.get(target) {
            return Err(error.clone());
        }
        if self.lines.is_empty() {
            return Ok(Stake::new(Arc::clone(self), None, (target, false)));
        }
        let aside = self.quotes.get(target).is_some_and(|quote| quote.aside);
        let free = if aside { None } else { self.book().free.take() };
        let general = free.is_some();
        let hold = match free {
            Some(hold) => hold,
            None => self.hold_more(false, target).await?,
        };
        self.called.store(true, Ordering::Relaxed);
        Ok(Stake::new(Arc::clone(self), Some(hold), (target, general)))
    }

    /// The same for a part of a session, that counts as a request.
    pub(crate) async fn next(self: &Arc<Self>, target: usize) -> Result<Stake, BudgetError> {
        let hold = if self.lines.is_empty() { None } else { Some(self.hold_more(true, target).await?) };
        let mut stake = Stake::new(Arc::clone(self), hold, (target, false));
        stake.sent();
        Ok(stake)
    }

    /// Hold for another call than the first, and see to it that the audit log says so before it is made.
    async fn hold_more(&self, is_request: bool, target: usize) -> Result<Hold, BudgetError> {
        let hold = self.hold(is_request, Some(target)).await.map_err(|error| self.refused(error))?;
        let lines: Vec<_> = hold.lines().iter().map(journalled).collect();
        match self.record(&lines).await {
            Ok(()) => Ok(hold),
            Err(error) => {
                self.settle_by(hold, |_| 0);
                Err(error)
            }
        }
    }

    /// The audit log is to say what is held, and what has been settled meanwhile.
    async fn record(&self, holds: &[audit::HoldLine]) -> Result<(), BudgetError> {
        if holds.is_empty() {
            return Ok(());
        }
        let settled = std::mem::take(&mut self.book().settled);
        let moved = audit::Moved { at: self.shared.clock.now(), id: self.id.as_str(), holds, settled: &settled };
        let written = recorded::held(&self.shared, &moved).await;
        written.map_err(|error| {
            let mut book = self.book();
            for line in settled {
                book.add(line);
            }
            drop(book);
            BudgetError::Unrecorded(error)
        })
    }

    /// It is not the money of a request whose beginning and end are in the log: it is told of by itself.
    pub(super) async fn recorded_apart(&self) -> Result<(), BudgetError> {
        self.record(&self.lines()).await?;
        self.book().closed = true;
        Ok(())
    }

    /// The request is over: what has been settled, for the entry of its end. What is not by now gets entries of its own.
    pub(crate) fn close(&self) -> Vec<SettledLine> {
        let free = self.book().free.take();
        if let Some(hold) = free {
            self.settle_free(hold);
        }
        let mut book = self.book();
        book.closed = true;
        std::mem::take(&mut book.settled)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Put in what is free, for an answer that is made here: nothing is asked for anew.
    pub(crate) fn stake_here(self: &Arc<Self>, target: usize) -> Option<Stake> {
        let hold = self.book().free.take();
        if hold.is_none() && !self.lines.is_empty() {
            return None;
        }
        self.called.store(true, Ordering::Relaxed);
        let mut stake = Stake::new(Arc::clone(self), hold, (target, true));
        stake.sent();
        Some(stake)
    }

    pub(super) fn take_back(&self, hold: Hold) {
        let mut book = self.book();
        if book.closed {
            drop(book);
            return self.settle_free(hold);
        }
        let before = book.free.replace(hold);
        drop(book);
        if let Some(hold) = before {
            self.release(hold);
        }
    }

    /// Nothing of it is needed.
    pub(super) fn release(&self, hold: Hold) {
        self.settle_by(hold, |_| 0);
    }

    /// What is held and not put in yet, as the audit log has it.
    pub(crate) fn lines(&self) -> Vec<audit::HoldLine> {
        let book = self.book();
        book.free.iter().flat_map(Hold::lines).map(journalled).collect()
    }

    /// What is known of a target before it is called.
    pub(super) fn quote(&self, target: usize) -> Option<&Quote> {
        self.quotes.get(target)
    }

    /// The bound that was set for a model in a request that has none.
    pub(super) fn set_for(&self, provider: &str, model: &str) -> Option<u64> {
        if self.lines.is_empty() {
            return None;
        }
        let is = |quote: &&Quote| {
            quote.place.provider.as_deref() == Some(provider) && quote.place.model.as_deref() == Some(model)
        };
        match self.quotes.as_slice() {
            // What goes to one place goes there whatever it is called.
            [one] => one.set,
            several => several.iter().find(is)?.set,
        }
    }

    /// The most that may be generated, where something has to keep to it.
    pub(super) fn output(&self, target: usize) -> Option<u64> {
        if self.enforced { self.quotes.get(target)?.output() } else { None }
    }

    fn refused(&self, error: BudgetError) -> BudgetError {
        if let BudgetError::Exhausted { budget, unit, resets, .. } = &error {
            self.shared.metrics.budget(budget, "refused");
            let of = |line: &&Line| line.unit == *unit && line.account.key().budget == *budget;
            if let Some(line) = self.lines.iter().find(of) {
                told::exhausted(&self.shared, line.account.key(), (line.limit, *resets));
            }
        }
        error
    }
}

impl Book {
    fn add(&mut self, line: SettledLine) {
        match self.settled.iter_mut().find(|known| known.lease == line.lease) {
            Some(known) => {
                known.amount = known.amount.saturating_add(line.amount);
                known.of = known.of.saturating_add(line.of);
            }
            None => self.settled.push(line),
        }
    }
}

impl Drop for Funding {
    fn drop(&mut self) {
        let free = self.book().free.take();
        if let Some(hold) = free {
            self.settle_free(hold);
        }
    }
}

impl std::fmt::Debug for Funding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Funding").field("accounts", &self.lines.len()).finish_non_exhaustive()
    }
}

fn journalled(line: &HoldLine) -> audit::HoldLine {
    audit::HoldLine { lease: line.lease, unit: line.unit.as_str(), amount: line.amount }
}

/// Why a target cannot be paid for: a budget that refuses counts it, and what it may take of that is not known.
fn barred(quote: &Quote, counting: &[&Arc<Fund>]) -> Option<BudgetError> {
    let place = &quote.place;
    let what = || place.asked.as_ref().or(place.model.as_ref()).or(place.provider.as_ref()).map_or("it", |name| name);
    let enforced = counting.iter().filter(|fund| fund.is_enforced() && fund.counts_at(&place.aim()));
    let units = enforced.flat_map(|fund| fund.limits().iter().map(|(unit, _)| *unit));
    let unknown = units.filter(|unit| quote.most(*unit).is_none()).min()?;
    Some(match unknown {
        BudgetUnit::Money if quote.is_priced() => BudgetError::Bound(what().to_owned()),
        BudgetUnit::Money => BudgetError::Price(what().to_owned()),
        _ => BudgetError::Bound(what().to_owned()),
    })
}

/// Whether what is read counts.
const fn reads(unit: BudgetUnit) -> bool {
    matches!(unit, BudgetUnit::Money | BudgetUnit::Tokens | BudgetUnit::InputTokens)
}
