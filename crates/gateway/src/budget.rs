//! Whether a request can be paid for: what it may take at most is priced and held before anything is spent, and settled by what it
//! did take.
//!
//! A [`Quote`] is the most one call can take of one target. [`Funding`] is what a request's budgets hold for it, [`Stake`] the
//! part that one call puts in: a call that may have been made keeps its own, and another one needs another.

mod crowd;
mod error;
mod funding;
mod load;
mod quote;
mod recount;
mod shares;
mod stake;
mod tally;
mod told;
mod units;
mod whom;

use std::sync::Arc;

use policy::Permit;

pub(crate) use self::error::BudgetError;
pub(crate) use self::funding::{Funding, Spending};
pub(crate) use self::load::{Load, Place, Tokens};
pub(crate) use self::quote::Quote;
pub(crate) use self::recount::{Counting, Text};
pub(crate) use self::shares::Shares;
pub(crate) use self::stake::{Spent, Stake};
pub(crate) use self::tally::Tally;
pub(crate) use self::whom::{Membership, account_text};
use crate::admit::Admitted;

/// Leave to spend: of a request that was permitted, is within its rates, and of whose cost every budget holds the most. Only the
/// budgets make one, from an [`Admitted`]; the upstream call and the answer hold it.
///
/// ```
/// fn spend(reservation: &gateway::Reservation) -> &gateway::Permit {
///     reservation.permit()
/// }
/// ```
///
/// ```compile_fail,E0451
/// fn spend(admitted: gateway::Admitted) -> gateway::Reservation {
///     gateway::Reservation { admitted, funding: None }
/// }
/// ```
#[derive(Debug)]
#[must_use = "a reservation holds its places only while it lives"]
pub struct Reservation {
    admitted: Admitted,
    funding: Option<Arc<Funding>>,
}

impl Reservation {
    /// What allowed it.
    pub fn permit(&self) -> &Permit {
        self.admitted.permit()
    }

    /// Leave to go on, within the rates: for what the gateway asks for besides.
    pub(crate) fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    /// Leave for a copy of the request, whose answer nobody hears: with nobody's places, and in nobody's budget: the
    /// caller did not ask for it.
    pub(crate) fn mirrored(&self) -> Self {
        Self { admitted: self.admitted.mirrored(), funding: None }
    }

    /// What pays for it, and knows what it costs; `None`: it is nobody's.
    pub(crate) fn funding(&self) -> Option<&Arc<Funding>> {
        self.funding.as_ref()
    }

    /// The most tokens a call of this target may take; `None`: there is no bound.
    pub(crate) fn most_tokens(&self, target: usize) -> Option<u64> {
        self.funding.as_ref()?.quote(target)?.all_tokens()
    }

    /// The bound on tokens generated that is set in a request to this model that has none: the policy's, or where a budget has to know it,
    /// the one that was held for.
    pub(crate) fn max_output_tokens(&self, provider: &str, model: &str) -> Option<u64> {
        let held = self.funding.as_ref().and_then(|funding| funding.set_for(provider, model));
        held.or(self.permit().max_output_tokens())
    }
}

/// Hold what the request may take of every budget that counts it, or say which has not enough.
pub(crate) async fn reserve(
    spending: &Spending<'_>,
    admitted: Admitted,
    quotes: impl FnOnce(Option<u64>) -> Vec<Quote>,
) -> Result<Reservation, BudgetError> {
    let permit = admitted.permit();
    let funding = Box::pin(Funding::open(spending, permit, quotes(permit.max_output_tokens()))).await?;
    Ok(Reservation { admitted, funding: Some(funding) })
}

/// The same for what the gateway asks for by itself. No entry of the request's beginning says it, so one of its own does.
pub(crate) async fn reserve_apart(
    spending: &Spending<'_>,
    admitted: Admitted,
    quotes: impl FnOnce(Option<u64>) -> Vec<Quote>,
) -> Result<Reservation, BudgetError> {
    let reservation = reserve(spending, admitted, quotes).await?;
    if let Some(funding) = reservation.funding() {
        funding.recorded_apart().await?;
    }
    Ok(reservation)
}
