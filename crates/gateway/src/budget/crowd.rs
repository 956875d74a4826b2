//! How many requests of a budget's are in progress at once: each holds a place of every account that counts it until it is over.

use std::sync::Arc;

use base::Timestamp;
use config::{Threshold, WebhookEvent};
use policy::{Fund, Permit, Spender};
use store::Notice;

use super::error::BudgetError;
use super::load::Place;
use super::whom::whom;
use crate::Shared;
use crate::admit::{PlaceWant, Places};

/// What the words of notices call what is counted.
const UNIT: &str = "concurrent";

/// The places a request holds.
#[derive(Debug)]
pub(super) struct Crowd {
    _places: Places,
    standings: Vec<(Arc<str>, u64, u64)>,
}

impl Crowd {
    /// Hold a place of every account of these budgets that may count the request, wherever it may be answered: all of them or none.
    pub(super) async fn join(
        shared: &Shared,
        counting: &[&Arc<Fund>],
        (permit, spender): (&Permit, &Spender<'_>),
        places: &[&Place],
    ) -> Result<Option<Self>, BudgetError> {
        let mut wants: Vec<PlaceWant> = Vec::new();
        let mut soft: Vec<&[Threshold]> = Vec::new();
        for fund in counting {
            let Some(limit) = fund.concurrent() else { continue };
            for place in places.iter().filter(|place| fund.counts_at(&place.aim())) {
                let text = whom(fund, permit.policy().as_str(), spender, place);
                if wants.iter().any(|want| want.budget == *fund.account() && *want.whom == *text) {
                    continue;
                }
                let (budget, whom) = (Arc::clone(fund.account()), Arc::from(text));
                wants.push(PlaceWant { budget, whom, limit: u64::from(limit), enforced: fund.is_enforced() });
                soft.push(fund.soft());
            }
        }
        if wants.is_empty() {
            return Ok(None);
        }
        let held = match shared.limiter.hold_places(&wants).await {
            Ok(held) => held,
            Err(which) => {
                let Some(want) = wants.get(which) else { return Err(BudgetError::Unavailable("no_place")) };
                told(shared, WebhookEvent::BudgetExhausted, want, None);
                return Err(BudgetError::Crowded { budget: Arc::clone(&want.budget), limit: want.limit });
            }
        };
        for ((want, taken), soft) in wants.iter().zip(&held.taken).zip(soft) {
            if *taken > want.limit {
                shared.metrics.budget(&want.budget, "over");
            }
            let reached = |share: &&Threshold| taken.saturating_mul(1000) >= want.limit * u64::from(share.per_mille());
            if let Some(share) = soft.iter().filter(reached).max().filter(|_| want.limit > 0) {
                told(shared, WebhookEvent::BudgetThreshold, want, Some((*taken, share.per_mille())));
            }
        }
        let standing = |(want, taken): (&PlaceWant, &u64)| {
            (Arc::clone(&want.budget), want.limit, want.limit.saturating_sub(*taken))
        };
        let standings = wants.iter().zip(&held.taken).map(standing).collect();
        Ok(Some(Self { _places: held, standings }))
    }

    /// Each budget, how many it lets in at once, and how many more it would now.
    pub(super) fn standings(&self) -> &[(Arc<str>, u64, u64)] {
        &self.standings
    }
}

/// Tell outside that a share is reached, or that a budget refuses: of each account once in an hour.
fn told(shared: &Shared, event: WebhookEvent, want: &PlaceWant, share: Option<(u64, u16)>) {
    let now = shared.clock.now();
    let per_mille = share.map(|(_, per_mille)| per_mille);
    if !shared.shares.is_newly_crowded((&want.budget, &want.whom), per_mille, now) {
        return;
    }
    if share.is_some() {
        shared.metrics.budget(&want.budget, "threshold");
    }
    tracing::warn!(
        target: "audit",
        budget = &*want.budget,
        whom = &*want.whom,
        unit = UNIT,
        limit = want.limit,
        threshold = per_mille.map(|share| f64::from(share) / 1000.0),
        "as many requests of a budget as it is told of, or has places for, are in progress"
    );
    let notice = Notice::new(event.as_str(), now)
        .with("budget", &*want.budget)
        .naming("whom", &*want.whom)
        .with("unit", UNIT)
        .with("limit", want.limit)
        .about(about(want, per_mille, now));
    shared.notices.send(match share {
        Some((used, per_mille)) => notice.with("used", used).with("threshold", f64::from(per_mille) / 1000.0),
        None => notice,
    });
}

/// What tells one notice from the others.
fn about(want: &PlaceWant, per_mille: Option<u16>, now: Timestamp) -> String {
    let hour = now.as_secs() / 3600;
    format!("{}\n{}\n{UNIT}\n{hour}\n{}", want.budget, want.whom, per_mille.unwrap_or(0))
}
