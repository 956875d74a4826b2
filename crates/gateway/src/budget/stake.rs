//! What one call puts in.

use std::sync::Arc;

use llm::Usage;
use store::Hold;

use super::error::BudgetError;
use super::funding::Funding;
use super::quote::Quote;

/// What has come of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    /// What its provider counted.
    pub(crate) usage: Usage,
    /// Whether its answer came to its end, so that the count is of all of it.
    pub(crate) ended: bool,
}

impl Spent {
    /// Nobody knows.
    pub(crate) fn unknown() -> Self {
        Self { usage: Usage::default(), ended: false }
    }
}

/// What is held for one call. Dropped unsettled once the call may have been made, it was spent as far as anybody knows.
#[must_use = "a stake that is dropped is taken to be spent"]
pub(crate) struct Stake {
    funding: Arc<Funding>,
    /// What the budgets hold; `None` where none counts the call.
    hold: Option<Hold>,
    /// Whether it is still to be seen to.
    open: bool,
    target: usize,
    /// Whether it would do for any of the targets.
    general: bool,
    /// Whether the call may have been made.
    sent: bool,
    /// What is known of it so far.
    spent: Spent,
}

impl Stake {
    pub(super) fn new(funding: Arc<Funding>, hold: Option<Hold>, (target, general): (usize, bool)) -> Self {
        Self { funding, hold, open: true, target, general, sent: false, spent: Spent::unknown() }
    }

    /// The call certainly cost nothing: what was held is there for another one.
    pub(crate) fn give_back(mut self) {
        self.sent = false;
    }

    /// From here on the call may cost something.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// What is known of it so far, if nothing more becomes known.
    pub(crate) fn known(&mut self, spent: Spent) {
        self.spent = spent;
    }

    /// Nothing of it is needed.
    pub(crate) fn release(mut self) {
        self.open = false;
        if let Some(hold) = self.hold.take() {
            self.funding.release(hold);
        }
    }

    /// This is what it cost.
    pub(crate) fn settle(mut self, spent: Spent) {
        self.spent = spent;
        self.open = false;
        self.funding.settle(self.hold.take(), self.target, &self.spent);
    }

    /// The most that may be generated for it, where something has to keep to it.
    pub(crate) fn output(&self) -> Option<u64> {
        self.funding.output(self.target)
    }

    /// What is known of the target that is called.
    pub(crate) fn quote(&self) -> Option<&Quote> {
        self.funding.quote(self.target)
    }

    /// Settle it for a part of a session, and hold as much for the next.
    pub(crate) async fn next(self, spent: Spent) -> Result<Self, BudgetError> {
        let (funding, target) = (Arc::clone(&self.funding), self.target);
        self.settle(spent);
        funding.next(target).await
    }
}

impl Drop for Stake {
    fn drop(&mut self) {
        match self.hold.take() {
            _ if !self.open => {}
            hold if self.sent => self.funding.settle(hold, self.target, &self.spent),
            Some(hold) if self.general => self.funding.take_back(hold),
            Some(hold) => self.funding.release(hold),
            None => {}
        }
    }
}

impl std::fmt::Debug for Stake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stake").field("target", &self.target).finish_non_exhaustive()
    }
}
