//! What of budgets is told outside: that a share of a limit is used, that a budget refuses.

use base::Timestamp;
use config::WebhookEvent;
use store::{AccountKey, Notice, Seen};

use crate::Shared;

/// A share of a limit, in thousandths, is used.
pub(super) fn threshold(shared: &Shared, key: &AccountKey, seen: Seen, per_mille: u16) {
    // The end of a window that moves says nothing of a period: there it is told again after an hour.
    let hour = shared.clock.now().as_secs() / 3600;
    let moves = matches!(key.window, store::Window::Rolling(_));
    let period = seen.resets.filter(|_| !moves).map_or(hour, Timestamp::as_secs);
    let notice = notice(shared, WebhookEvent::BudgetThreshold, key, (seen.limit, seen.resets));
    let about = format!("{}\n{}\n{}\n{period}\n{per_mille}", key.budget, key.whom, key.unit.as_str());
    let share = f64::from(per_mille) / 1000.0;
    shared.notices.send(notice.about(about).with("used", seen.used).with("threshold", share));
}

/// A budget has refused a request.
pub(super) fn exhausted(shared: &Shared, key: &AccountKey, (limit, resets): (i64, Option<Timestamp>)) {
    let Some(period) = shared.shares.is_newly_exhausted(key, resets, shared.clock.now()) else { return };
    tracing::warn!(
        target: "audit",
        budget = &*key.budget,
        whom = &*key.whom,
        unit = key.unit.as_str(),
        limit,
        "a budget has not enough left for a request"
    );
    let notice = notice(shared, WebhookEvent::BudgetExhausted, key, (limit, resets));
    let about = format!("{}\n{}\n{}\n{period}", key.budget, key.whom, key.unit.as_str());
    shared.notices.send(notice.about(about));
}

fn notice(shared: &Shared, event: WebhookEvent, key: &AccountKey, (limit, resets): (i64, Option<Timestamp>)) -> Notice {
    let notice = Notice::new(event.as_str(), shared.clock.now())
        .with("budget", &*key.budget)
        .naming("whom", &*key.whom)
        .with("unit", key.unit.as_str())
        .with("limit", limit);
    match resets {
        Some(at) => notice.with("resets", at.rfc3339()),
        None => notice,
    }
}
