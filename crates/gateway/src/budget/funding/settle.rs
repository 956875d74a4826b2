//! What was held settled by what was taken, and told: to the audit log, the metrics and whoever watches.

use std::sync::atomic::Ordering;

use audit::SettledLine;
use config::{BudgetUnit, OnUnknown};
use store::{Hold, HoldLine, Unit};

use super::Funding;
use crate::budget::stake::Spent;
use crate::budget::tally::Cost;
use crate::budget::told;

impl Funding {
    /// What no call has put in at the end. A request that was made is one, whatever came of it.
    pub(super) fn settle_free(&self, hold: Hold) {
        let called = self.called.load(Ordering::Relaxed);
        self.settle_by(hold, |line| if called && line.unit == Unit::Requests { line.amount } else { 0 });
    }

    /// Settle a hold, and have it told.
    pub(super) fn settle_by(&self, hold: Hold, actual: impl Fn(&HoldLine) -> i64) -> store::Settled {
        let settled = hold.settle(actual);
        let lines = settled.lines.iter().map(|line| SettledLine {
            lease: line.lease,
            unit: line.unit.as_str(),
            amount: line.settled,
            of: line.amount,
        });
        let apart: Vec<_> = {
            let mut book = self.book();
            lines.for_each(|line| book.add(line));
            if book.closed { std::mem::take(&mut book.settled) } else { Vec::new() }
        };
        if !apart.is_empty() {
            let at = self.shared.clock.now();
            self.shared.audit.settled(&audit::Moved { at, id: self.id.as_str(), holds: &[], settled: &apart });
        }
        settled
    }

    /// Charge what a call of this target has taken.
    pub(in crate::budget) fn settle(&self, hold: Option<Hold>, target: usize, spent: &Spent) {
        self.add_up(hold.as_ref(), target, spent);
        let Some(hold) = hold else { return };
        let charged: Vec<_> = hold.lines().iter().map(|line| (line.lease, self.taken(line, target, spent))).collect();
        let of = |held: &HoldLine| charged.iter().find(|(lease, _)| *lease == held.lease).map(|(_, charged)| *charged);
        let settled = self.settle_by(hold, |line| of(line).map_or(line.amount, |(amount, _)| amount));
        for line in &settled.lines {
            let budget = &*line.key().budget;
            if of(line).is_some_and(|(_, estimated)| estimated) {
                self.shared.metrics.budget(budget, "estimated");
            }
            if line.clamped {
                self.shared.metrics.budget(budget, "clamped");
                tracing::warn!(
                    target: "vouchgate::budget",
                    budget,
                    whom = &*line.key().whom,
                    unit = line.unit.as_str(),
                    held = line.amount,
                    "a provider counted more than was possible: only what was held is charged"
                );
            }
            if line.over {
                self.shared.metrics.budget(budget, "over");
            }
        }
        self.tell_of_shares();
    }

    /// What a line is charged, and whether that is an estimate.
    fn taken(&self, held: &HoldLine, target: usize, spent: &Spent) -> (i64, bool) {
        let line = self.lines.iter().find(|line| line.account.key() == held.key());
        let Some((line, quote)) = line.zip(self.quotes.get(target)) else { return (held.amount, true) };
        if !line.counts.get(target).copied().unwrap_or(true) {
            return (0, false);
        }
        let taken = quote.taken(line.unit, &spent.usage, spent.ended);
        match (taken.estimated, line.fund.on_unknown()) {
            (true, OnUnknown::Release) => (0, true),
            _ => (taken.amount, taken.estimated),
        }
    }

    /// Add what a call of this target cost to what the request cost: no more than was held for it, or where nothing was, than was
    /// possible.
    fn add_up(&self, hold: Option<&Hold>, target: usize, spent: &Spent) {
        let Some(quote) = self.quotes.get(target) else { return };
        let Some(taken) = quote.cost(&spent.usage, spent.ended) else { return self.tally.add_unknown() };
        let counts = |held: &&HoldLine| {
            let line = self.lines.iter().find(|line| line.account.key() == held.key());
            held.unit == Unit::NanoUsd && line.is_some_and(|line| line.counts.get(target).copied().unwrap_or(true))
        };
        let largest = hold.and_then(|hold| hold.lines().iter().filter(counts).map(|line| line.amount).max());
        let most = largest.or_else(|| quote.most(BudgetUnit::Money)).unwrap_or(i64::MAX);
        self.tally.add(&Cost {
            amount: taken.amount.min(most),
            estimated: taken.estimated,
            clamped: taken.amount > most && !taken.estimated,
        });
    }

    /// Tell of parts of limits that have been reached, each once.
    fn tell_of_shares(&self) {
        for line in self.lines.iter().filter(|line| !line.fund.soft().is_empty()) {
            let Some(seen) = line.account.seen() else { continue };
            let reached = |share: &config::Threshold| {
                i128::from(seen.used) * 1000 >= i128::from(seen.limit) * i128::from(share.per_mille()) && seen.limit > 0
            };
            let key = line.account.key();
            let Some(share) = line.fund.soft().iter().filter(|share| reached(share)).max() else {
                self.shared.shares.below(key);
                continue;
            };
            if !self.shared.shares.is_new(key, seen.resets, share.per_mille()) {
                continue;
            }
            self.shared.metrics.budget(&key.budget, "threshold");
            tracing::warn!(
                target: "audit",
                budget = &*key.budget,
                whom = &*key.whom,
                unit = key.unit.as_str(),
                used = seen.used,
                limit = seen.limit,
                threshold = f64::from(share.per_mille()) / 1000.0,
                "a part of a budget has been used up"
            );
            told::threshold(&self.shared, key, seen, share.per_mille());
        }
    }
}
