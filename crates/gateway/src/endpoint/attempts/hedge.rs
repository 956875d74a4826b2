//! Asking another target beside one that takes long: the first useful answer is the caller's, and the other call is
//! dropped, with its connection or stream. What was dropped is neither a success nor a failure of its provider; what that
//! counts for it nobody knows, so that it is counted here.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use config::HedgeAfter;

use super::call::{Calls, Over};
use super::first;
use super::turns::{Called, Turns};
use super::{Exchange, Failed, Trail};
use crate::health::Pass;
use crate::metrics::{Label, Metrics};
use crate::settle::Receipt;
use crate::snapshot::{Hedging, Provider};

/// However quick a target mostly is: what a moment's delay on the way makes of it is not slow.
const SOONEST: Duration = Duration::from_millis(10);

/// What came of one turn: the call that ended it, and one beside it that had failed before.
pub(super) struct Ended {
    pub(super) earlier: Option<Box<(usize, Failed)>>,
    pub(super) last: Over,
}

impl From<Over> for Ended {
    fn from(last: Over) -> Self {
        Self { earlier: None, last }
    }
}

/// Whether a request may be asked of two at once at all.
pub(super) fn is_fit<E: Exchange>(exchange: &E) -> bool {
    exchange.repeatable() && exchange.holders().is_none()
}

/// A model's rules, and when another target is to be asked beside this one; `None`: only this one is asked.
pub(super) fn planned<'c, E: Exchange>(
    calls: &Calls<'c, E>,
    called: &Called<'_>,
    turns: &Turns<'_>,
) -> Option<(&'c Hedging, Duration)> {
    let hedging = calls.plan.hedging()?;
    let fits = turns.more() && !turns.hedged && is_fit(calls.exchange);
    if !fits || calls.exchange.stores(called.provider, called.model) {
        return None;
    }
    Some((hedging, after(hedging, calls, called)?))
}

/// Call a target, and another one beside it where it has said nothing by then.
pub(super) async fn two<E: Exchange>(
    calls: &Calls<'_, E>,
    called: Called<'_>,
    turns: &mut Turns<'_>,
    (trail, receipt): (&mut Trail, &mut Receipt),
    (hedging, after): (&Hedging, Duration),
) -> Ended {
    let stores = |provider: &Provider, model: &str| calls.exchange.stores(provider, model);
    if turns.is_first() {
        hedging.budget.earn(hedging.rules.budget);
    }
    let clock = Arc::clone(&receipt.shared().clock);
    let metrics = Arc::clone(&receipt.shared().metrics);
    let begun = clock.monotonic();
    let (index, provider, pass) = (called.index, called.provider, called.pass.clone());
    // Who is asked beside it has as long to say something.
    let mut primary = pin!(calls.at(called, receipt.leg(), Some(after + first::LONGEST)));
    tokio::select! {
        biased;
        over = &mut primary => return over.into(),
        () = tokio::time::sleep(after) => {}
    }
    turns.hedged = true;
    let label = calls.plan.label();
    if !hedging.budget.spend() {
        metrics.hedged(label, "over_budget");
        return primary.await.into();
    }
    let Some(second) = turns.beside((index, &provider.name, &pass), hedging.rules.same_key, stores) else {
        hedging.budget.give_back();
        metrics.hedged(label, "no_target");
        return primary.await.into();
    };
    let launched = clock.monotonic().saturating_duration_since(begun);
    let tried = Tried { metrics: &metrics, label, result: "gone" };
    let at_first = trail.last.clone();
    trail.at(second.provider.name.as_str(), second.model);
    receipt.asks(&second.provider.label);
    tracing::debug!(provider = second.provider.name.as_str(), "another target is asked beside one that takes long");
    let other = (second.provider, second.pass.clone());
    let hedge = pin!(calls.at(second, receipt.leg(), Some(first::LONGEST)));
    let (ended, first_wins) = race((primary, hedge), tried, ((provider, &pass), (other.0, &other.1))).await;
    if first_wins {
        trail.last = at_first;
        receipt.asks(&provider.label);
    } else {
        receipt.waited(launched);
    }
    ended
}

/// When another target is to be asked.
fn after<E: Exchange>(hedging: &Hedging, calls: &Calls<'_, E>, called: &Called<'_>) -> Option<Duration> {
    match hedging.rules.after {
        HedgeAfter::Time(time) => Some(time.duration()),
        HedgeAfter::Percentile(percent) => {
            let state = calls.plan.state(called.index)?;
            let now = called.provider.keys.care().states.now();
            let within = state.within(calls.exchange.streams(), now, percent)?;
            Some(Duration::from_millis(within).max(SOONEST))
        }
    }
}

/// One that was asked beside another: counted when it is known what came of it, also if the caller goes before.
struct Tried<'a> {
    metrics: &'a Metrics,
    label: &'a Label,
    result: &'static str,
}

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        self.metrics.hedged(self.label, self.result);
    }
}

type Watched<'a> = (&'a Provider, &'a Pass);

/// Wait for the first useful answer of two. Says whether it is the first's.
async fn race<F: Future<Output = Over>, G: Future<Output = Over>>(
    (mut primary, mut hedge): (Pin<&mut F>, Pin<&mut G>),
    mut tried: Tried<'_>,
    (first, second): (Watched<'_>, Watched<'_>),
) -> (Ended, bool) {
    // Whoever is still asked when the other has answered is dropped by our caller, right after this.
    let drop_one = |tried: &Tried<'_>, (provider, pass): Watched<'_>| {
        pass.outrun();
        tried.metrics.cancelled(&provider.label);
    };
    let over = tokio::select! {
        biased;
        over = &mut primary => over,
        over = &mut hedge => {
            if over.outcome.as_ref().is_ok_and(|answer| answer.status.is_success()) {
                tried.result = "won";
                drop_one(&tried, first);
                return (over.into(), false);
            }
            tried.result = "failed";
            let primary = primary.await;
            return match primary.outcome {
                // What the other said counts for the next attempt, as if it had been asked after the first.
                Err(failed) if failed.retryable() => (Ended { earlier: Some(Box::new((primary.index, failed))), last: over }, false),
                outcome => {
                    let earlier = over.outcome.err().map(|failed| Box::new((over.index, failed)));
                    (Ended { earlier, last: Over { outcome, ..primary } }, true)
                }
            };
        }
    };
    match over.outcome {
        Err(failed) if failed.retryable() => {
            let last = hedge.await;
            let useful = last.outcome.as_ref().is_ok_and(|answer| answer.status.is_success());
            tried.result = if useful { "won" } else { "failed" };
            (Ended { earlier: Some(Box::new((over.index, failed))), last }, false)
        }
        outcome => {
            tried.result = "lost";
            drop_one(&tried, second);
            (Over { outcome, ..over }.into(), true)
        }
    }
}
