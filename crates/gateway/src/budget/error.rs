//! Why a request cannot be paid for.

use std::sync::Arc;
use std::time::Duration;

use audit::AppendError;
use base::{Money, Problem, Timestamp};
use config::BudgetUnit;
use http::StatusCode;
use store::ReserveError;

use crate::recorded;

/// When to come back where no place was free: nobody can know, so soon.
const PLACE_WAIT: Duration = Duration::from_secs(1);

/// Why a request cannot be paid for.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum BudgetError {
    /// A budget has not enough left.
    #[error("the budget {budget:?} has not enough left")]
    Exhausted { budget: Arc<str>, unit: BudgetUnit, limit: i64, resets: Option<Timestamp>, now: Timestamp },
    /// As many requests as a budget has places for are in progress.
    #[error("the budget {budget:?} has no place left")]
    Crowded { budget: Arc<str>, limit: u64 },
    /// A budget of money counts it, and nobody knows what it costs.
    #[error("the price of {0:?} is not known")]
    Price(String),
    /// A budget of tokens or audio counts it, and nobody knows how much it may take.
    #[error("there is no bound on what {0:?} may take")]
    Bound(String),
    /// What is left cannot be asked for.
    #[error("the budgets are not available: {0}")]
    Unavailable(&'static str),
    /// What is held cannot be written into the audit log.
    #[error(transparent)]
    Unrecorded(#[from] AppendError),
}

impl BudgetError {
    /// A stable code: the error body's and the metric's.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Exhausted { .. } => "budget_exhausted",
            Self::Crowded { .. } => "budget_concurrency",
            Self::Price(_) => "price_unknown",
            Self::Bound(_) => "usage_unbounded",
            Self::Unavailable(_) => "budget_unavailable",
            Self::Unrecorded(_) => recorded::UNAVAILABLE,
        }
    }

    /// Whether it concerns one target only: another may do.
    pub(crate) const fn is_of_target(&self) -> bool {
        matches!(self, Self::Price(_) | Self::Bound(_))
    }

    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Exhausted { budget, unit, limit, resets, now } => {
                let whose = whose(budget);
                let until = resets.map_or_else(|| "for good".to_owned(), |at| format!("until {}", at.rfc3339()));
                let message = format!(
                    "{whose} ({}) has not enough left for this request, {until}. Ask for less (max_tokens), or ask whoever runs \
                     this gateway for more.",
                    amount(*unit, *limit)
                );
                let problem = Problem::client(StatusCode::TOO_MANY_REQUESTS, self.reason(), message);
                match resets {
                    // Trying again before is of no use.
                    Some(at) => Problem { retryable: false, ..problem.retry_after(at.since(*now)) },
                    None => problem,
                }
            }
            Self::Crowded { budget, limit } => {
                let message = format!(
                    "{} lets {limit} requests be in progress at once: wait until one of them has been answered.",
                    whose(budget)
                );
                Problem::client(StatusCode::TOO_MANY_REQUESTS, self.reason(), message).retry_after(PLACE_WAIT)
            }
            Self::Price(what) => Problem::client(
                StatusCode::FORBIDDEN,
                self.reason(),
                format!(
                    "A budget of money counts this request, and the price of {what:?} is not known here. Whoever runs this gateway \
                     can say it in a [[price]]."
                ),
            )
            .param("model"),
            Self::Bound(what) => Problem::client(
                StatusCode::FORBIDDEN,
                self.reason(),
                format!(
                    "A budget counts what this request takes, and there is no bound on what {what:?} may take. Send the contents \
                     themselves instead of naming them, or have whoever runs this gateway say in a [[price]] how much fits."
                ),
            )
            .param("model"),
            Self::Unavailable(_) => Problem::us(
                StatusCode::SERVICE_UNAVAILABLE,
                self.reason(),
                "The budgets cannot be asked now; try again later.",
            ),
            Self::Unrecorded(_) => recorded::problem(),
        }
    }

    /// What a ledger says.
    pub(crate) fn of(error: ReserveError, unit: impl FnOnce(store::Unit) -> BudgetUnit, now: Timestamp) -> Self {
        match error {
            ReserveError::Exhausted { budget, unit: of, limit, resets } => {
                Self::Exhausted { budget, unit: unit(of), limit, resets, now }
            }
            ReserveError::Unavailable(error) => Self::Unavailable(error.reason()),
        }
    }
}

/// An amount in words.
fn amount(unit: BudgetUnit, limit: i64) -> String {
    match unit {
        BudgetUnit::Money => Money::from_nano_usd(i128::from(limit)).to_string(),
        BudgetUnit::Tokens => format!("{limit} tokens"),
        BudgetUnit::InputTokens => format!("{limit} tokens of input"),
        BudgetUnit::OutputTokens => format!("{limit} tokens of output"),
        BudgetUnit::Requests => format!("{limit} requests"),
        BudgetUnit::Audio => format!("{} seconds of audio", limit / 1000),
    }
}

/// The budget, as whoever is refused reads it.
fn whose(budget: &str) -> String {
    // A policy's own has no name.
    if budget.contains(' ') { "A spending limit of the policy".to_owned() } else { format!("The budget {budget:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_refusal_says_what_until_when_and_not_to_try_before() {
        let now = Timestamp::from_secs(1_700_000_000);
        let error = |budget: &str, resets| BudgetError::Exhausted {
            budget: Arc::from(budget),
            unit: BudgetUnit::Money,
            limit: 5_000_000_000,
            resets,
            now,
        };
        let problem = error("team", Some(now.plus(Duration::from_secs(90)))).problem();
        assert_eq!((problem.status.as_u16(), problem.code, problem.retryable), (429, "budget_exhausted", false));
        assert_eq!(problem.retry_after, Some(Duration::from_secs(90)));
        assert!(
            problem
                .message
                .starts_with("The budget \"team\" (5.00 USD) has not enough left for this request, until 2023-11-14T")
        );
        let problem = error("policy p subject total", None).problem();
        assert!(
            problem.message.starts_with("A spending limit of the policy (5.00 USD)")
                && problem.message.contains("for good")
        );
        assert_eq!((problem.retry_after, problem.retryable), (None, false));
    }
}
