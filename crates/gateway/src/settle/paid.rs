//! What a request may take and what it took: admitted, held, settled.

use std::sync::Arc;
use std::time::Instant;

use audit::SettledLine;
use config::Rate;
use policy::Permit;

use super::{Outcome, Receipt};
use crate::Reservation;
use crate::admit::Admitted;
use crate::budget::{self, Quote, Spending, Spent, Stake};
use crate::problem::Refusal;
use crate::single_use;

impl Receipt {
    /// Admit the request within its permit's rates; and, where the permit is for one request of each token, use the token
    /// up.
    pub(crate) async fn admit(&mut self, permit: Permit) -> Result<Admitted, Refusal> {
        let single_use = permit.single_use();
        let admitted = self
            .shared
            .limiter
            .admit(permit, &self.caller, self.started, &mut self.standing)
            .await
            .map_err(|error| Refusal::from(error.problem()))?;
        if single_use {
            single_use::use_up(&self.shared, &self.caller).await?;
        }
        Ok(admitted)
    }

    /// Hold what the request may take at most of every budget that counts it, and count it against rates of tokens. `quotes`, by
    /// the policy's bound on tokens generated, are asked for only where something counts.
    pub(crate) async fn reserve(
        &mut self,
        admitted: Admitted,
        quotes: impl FnOnce(Option<u64>) -> Vec<Quote>,
    ) -> Result<Reservation, Refusal> {
        let permit = admitted.permit();
        if !permit.rates().iter().any(|rate| matches!(rate, Rate::Tokens { .. })) {
            return self.hold(admitted, quotes).await;
        }
        let quotes = quotes(permit.max_output_tokens());
        // What has no bound counts as all there may be.
        let most = quotes.iter().map(|quote| quote.all_tokens().unwrap_or(u64::MAX)).max().unwrap_or(0);
        let now = self.shared.clock.monotonic();
        let counted = self.shared.limiter.count_tokens(permit, &self.caller, (now, most), &mut self.standing).await;
        self.tokens = counted.map_err(|error| Refusal::from(error.problem()))?;
        self.hold(admitted, |_| quotes).await
    }

    async fn hold(
        &mut self,
        admitted: Admitted,
        quotes: impl FnOnce(Option<u64>) -> Vec<Quote>,
    ) -> Result<Reservation, Refusal> {
        let spending = Spending { shared: &self.shared, id: self.id, caller: &self.caller, is_request: true };
        let reserved = budget::reserve(&spending, admitted, quotes).await;
        let reservation = reserved.map_err(|error| Refusal::from(error.problem()).reason(error.reason()))?;
        self.funding = reservation.funding().map(Arc::clone);
        self.holds = reservation.funding().map(|funding| funding.lines()).unwrap_or_default();
        Ok(reservation)
    }

    /// Hold what the gateway asks for by itself, on behalf of this request.
    pub(crate) async fn reserve_beside(
        &self,
        admitted: &Admitted,
        quotes: impl FnOnce(Option<u64>) -> Vec<Quote>,
    ) -> Result<Reservation, Refusal> {
        let spending = Spending { shared: &self.shared, id: self.id, caller: &self.caller, is_request: false };
        let reserved = budget::reserve_apart(&spending, admitted.clone(), quotes).await;
        reserved.map_err(|error| Refusal::from(error.problem()).reason(error.reason()))
    }

    /// What was asked for beside the request itself took this.
    pub(crate) fn spent_beside(&mut self, usage: llm::Usage) {
        if let Some(stake) = self.stake.take() {
            stake.settle(Spent { usage, ended: true });
        }
    }

    /// The most that may be generated in answer, where something has to keep to it.
    pub(crate) fn most_output(&self) -> Option<u64> {
        self.stake.as_ref()?.output()
    }

    /// What is held for the answer, for whoever settles it part by part.
    pub(crate) fn take_stake(&mut self) -> Option<Stake> {
        self.stake.take()
    }

    /// Charge what it took, and give back what it did not. Gives what it cost (nano-USD), where that is known, and whether that is an
    /// estimate.
    pub(super) fn settle(&mut self, now: Instant) -> Option<(i64, bool)> {
        let spent = Spent { usage: self.usage, ended: self.outcome == Some(Outcome::Ok) };
        if let Some(counted) = self.tokens.take() {
            let told = spent.usage.input_tokens.zip(spent.usage.generated()).filter(|_| !spent.usage.suspect);
            let taken = match (told, self.outcome) {
                (Some((read, made)), _) => Some(read.saturating_add(made)),
                (None, Some(Outcome::Refused(_) | Outcome::ProviderError)) => Some(0),
                (None, _) => None,
            };
            if let Some(taken) = taken {
                self.shared.limiter.settle_tokens(&counted, taken, now);
            }
        }
        let stake = self.stake.take()?;
        let cost = stake.cost(&spent);
        stake.settle(spent);
        cost
    }

    /// What was settled of what was held, as the entry of its end says. Of what no entry says was held, only what was used.
    pub(super) fn settled(&self, begun: bool) -> Vec<SettledLine> {
        let mut lines = self.funding.as_ref().map(|funding| funding.close()).unwrap_or_default();
        if !begun {
            lines.retain(|line| line.amount > 0);
            lines.iter_mut().for_each(|line| line.of = 0);
        }
        lines
    }
}
