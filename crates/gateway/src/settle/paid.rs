//! What a request may take and what it took: admitted, held, settled.

use std::sync::Arc;
use std::time::Instant;

use audit::SettledLine;
use base::Timestamp;
use config::Rate;
use policy::Permit;
use store::Charge;

use super::{Outcome, Receipt};
use crate::Reservation;
use crate::admit::{AdmitError, Admitted, Apart, Counts, Standing, limits_providers};
use crate::anomaly::Actors;
use crate::budget::{self, BudgetError, Quote, Spending, Spent, Stake, Tally, Text};
use crate::metrics::Label;
use crate::problem::Refusal;
use crate::single_use;

impl Receipt {
    /// Admit the request within its permit's rates; and, where the permit is for one request of each token, use the token
    /// up.
    pub(crate) async fn admit(&mut self, permit: Permit) -> Result<Admitted, Refusal> {
        let single_use = permit.single_use();
        let snapshot = self.shared.snapshot.load();
        let watched = self.watched.insert(Actors::of(&self.caller, &snapshot.anomaly));
        let what = (self.requested.as_deref(), self.at);
        let unlike = self.shared.watch.asks(&snapshot.anomaly, (&self.caller, watched), what);
        unlike.map_err(|error| Refusal::from(error.problem()))?;
        let apart = Apart::of(&permit, (&snapshot, &self.caller), self.tag.as_deref());
        drop(snapshot);
        let admitted = self
            .shared
            .limiter
            .admit(permit, (&self.caller, apart), self.started, &mut self.standing)
            .await
            .map_err(|error| Refusal::from(error.problem()))?;
        if single_use {
            single_use::use_up(&self.shared, &self.caller).await?;
        }
        Ok(admitted)
    }

    /// The built-in model answers, which is this of the targets: its calls count as those of any provider.
    pub(crate) async fn asks_here(&mut self, reservation: &Reservation, target: usize) -> Result<(), AdmitError> {
        if limits_providers(reservation.permit()) {
            let mut standing = Standing::default();
            let most = reservation.most_tokens(target).unwrap_or(u64::MAX);
            let (now, of) = (self.shared.clock.monotonic(), (reservation.permit(), &self.caller));
            let asking = self.shared.limiter.asks(of, config::OWN_NAME, (now, most), &mut standing);
            let counted = Box::pin(asking).await;
            self.standing.asked(standing);
            self.asked_of = Some(counted?);
        }
        self.answered_here(reservation, target);
        Ok(())
    }

    /// Hold what the request may take at most of every budget that counts it, and count it against rates of tokens. `quotes`, by
    /// the policy's bound on tokens generated, are asked for only where something counts.
    pub(crate) async fn reserve(
        &mut self,
        admitted: Admitted,
        quotes: impl FnOnce(Option<u64>) -> Vec<Quote>,
    ) -> Result<Reservation, Refusal> {
        self.reserve_for(admitted, (quotes, &|| None)).await
    }

    /// The same for a request whose text may be counted, where its bytes are too many.
    pub(crate) async fn reserve_for(
        &mut self,
        admitted: Admitted,
        (quotes, text): (impl FnOnce(Option<u64>) -> Vec<Quote>, Text<'_>),
    ) -> Result<Reservation, Refusal> {
        let permit = admitted.permit();
        if !permit.rates().iter().any(|rate| matches!(rate, Rate::Tokens { .. })) {
            return self.hold(admitted, quotes, text).await;
        }
        let quotes = quotes(permit.max_output_tokens());
        // What has no bound counts as all there may be.
        let most = quotes.iter().map(|quote| quote.all_tokens().unwrap_or(u64::MAX)).max().unwrap_or(0);
        let now = self.shared.clock.monotonic();
        let counts = Counts::new(&self.caller, admitted.apart());
        let counted = self.shared.limiter.count_tokens(permit, counts, (now, most), &mut self.standing).await;
        self.tokens = counted.map_err(|error| Refusal::from(error.problem()))?;
        self.hold(admitted, |_| quotes, text).await
    }

    async fn hold(
        &mut self,
        admitted: Admitted,
        quotes: impl FnOnce(Option<u64>) -> Vec<Quote>,
        text: Text<'_>,
    ) -> Result<Reservation, Refusal> {
        let permit = admitted.permit();
        self.tags = permit.tags().iter().map(|tag| Arc::from(tag.as_str())).collect();
        self.tag_allowed = self.tag.as_deref().is_some_and(|given| permit.caller_tag(given).is_some());
        let tally = &self.tally;
        let spending = Spending {
            shared: &self.shared,
            id: self.id,
            caller: &self.caller,
            tag: self.tag.as_deref(),
            is_request: true,
            tally,
            text,
        };
        let reserved = budget::reserve(&spending, admitted, quotes).await;
        if let Err(BudgetError::Crowded { budget, limit }) = &reserved {
            self.standing.at_once(budget, *limit, 0);
        }
        let reservation = reserved.map_err(|error| Refusal::from(error.problem()).reason(error.reason()))?;
        for (budget, limit, left) in reservation.funding().iter().flat_map(|funding| funding.at_once()) {
            self.standing.at_once(budget, *limit, *left);
        }
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
        let tally = &self.tally;
        let spending = Spending {
            shared: &self.shared,
            id: self.id,
            caller: &self.caller,
            tag: self.tag.as_deref(),
            is_request: false,
            tally,
            text: &|| None,
        };
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

    /// What its calls have cost, for whoever settles them part by part.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// What is held for the answer, for whoever settles it part by part.
    pub(crate) fn take_stake(&mut self) -> Option<Stake> {
        let stake = self.stake.take();
        self.place = stake.as_ref().and_then(Stake::quote).map(|quote| rated(quote, &Spent::unknown()));
        stake
    }

    /// Charge what it took, and give back what it did not. Gives what it took besides, and what it cost.
    pub(super) fn settle(&mut self, now: Instant, at: Timestamp) -> Charge {
        let spent = Spent { usage: self.usage, ended: self.outcome == Some(Outcome::Ok) };
        let here = self.tokens.take();
        for counted in here.into_iter().chain(self.asked_of.take().and_then(|asked| asked.tokens)) {
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
        let stake = self.stake.take();
        let here = stake.as_ref().and_then(Stake::quote).map(|quote| rated(quote, &spent));
        let mut charge = here.or_else(|| self.place.take()).unwrap_or_default();
        if let Some(stake) = stake {
            stake.settle(spent);
        }
        if let Some(cost) = self.tally.sum() {
            (charge.cost, charge.estimated, charge.clamped) = (Some(cost.amount), cost.estimated, cost.clamped);
        }
        if charge.clamped || charge.rated > charge.cost {
            // It is not what the usage says.
            (charge.rated, charge.basis) = (None, None);
        }
        let charge = self.fill_in(charge);
        // What a session's answers cost has been told as they came.
        if let Some(nano) = charge.cost.map(|cost| self.tally.untold().unwrap_or(cost)) {
            let rules = &self.shared.snapshot.load().anomaly;
            let watched = self.watched.take().unwrap_or_else(|| Actors::of(&self.caller, rules));
            self.shared.watch.spent(rules, (&self.caller, &watched), (nano, at));
        }
        charge
    }

    /// What was settled of what was held, as the entry of its end says. Of what no entry says was held, only what was used.
    pub(super) fn settled(&self, begun: bool) -> Vec<SettledLine> {
        let mut lines = self.funding.as_ref().map(|funding| funding.close()).unwrap_or_default();
        if !begun {
            lines.retain(|line| line.amount > 0);
            for line in &mut lines {
                line.of = 0;
            }
        }
        lines
    }

    /// What is counted of it whatever it cost.
    fn fill_in(&mut self, charge: Charge) -> Charge {
        let usage = &self.usage;
        let mut tags = std::mem::take(&mut self.tags);
        // A pattern may allow names without end: one counts once something came of it, as with models.
        let came_of_it = self.outcome == Some(Outcome::Ok) || charge.cost.is_some_and(|cost| cost > 0);
        if let Some(tag) = self.tag.take().filter(|tag| self.tag_allowed && came_of_it && !tags.contains(tag)) {
            tags.insert(0, tag);
        }
        Charge {
            tags,
            is_named: matches!(self.model, Label::Named(_)),
            cache_write_tokens: usage.cache_write_tokens,
            reasoning_tokens: usage.reasoning_tokens,
            audio_input_tokens: usage.audio_input_tokens,
            audio_output_tokens: usage.audio_output_tokens,
            audio_ms: usage.audio_ms,
            images: usage.images,
            ..charge
        }
    }
}

/// What follows from where an answer came from, and from its usage.
fn rated(quote: &Quote, spent: &Spent) -> Charge {
    let place = &quote.place;
    let taken = quote.cost(&spent.usage, spent.ended);
    let told = taken.filter(|taken| !taken.estimated);
    let is_told = spent.ended && !spent.usage.suspect && taken.is_none_or(|taken| !taken.estimated);
    Charge {
        provider_model: place.provider.as_ref().and(place.model.clone()).filter(|model| !model.is_empty()),
        service: place.service.clone().or_else(|| place.upstream.clone()),
        rated: told.map(|taken| taken.amount),
        basis: quote.basis().filter(|_| is_told),
        price: quote.price_version().map(Arc::from),
        ..Charge::default()
    }
}
