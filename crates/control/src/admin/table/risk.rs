//! Operations on what is decided about instances of apps.

use http::{Method, StatusCode};

use super::{Answer, Operation, READERS, WRITERS, operation};
use crate::admin::handlers;

pub(super) fn operations() -> [Operation; 5] {
    let mut decisions = operation(Method::GET, "/admin/v1/risk-decisions", "listRiskDecisions", READERS, |call| {
        Box::pin(handlers::risk::decisions(call))
    })
    .summary("List what was decided about instances of apps in the last 30 days, counted by what was known of them")
    .gives(StatusCode::OK, Answer::Page("RiskDecisionView"));
    decisions.query = &["app", "since"];
    [
        decisions,
        operation(Method::POST, "/admin/v1/risk-simulations", "simulateRisk", READERS, |call| {
            Box::pin(handlers::risk::simulate(call))
        })
        .summary("Say what risk rules would have decided over what was decided")
        .takes("SimulateRisk")
        .looks()
        .one("RiskReport"),
        operation(Method::GET, "/admin/v1/forced-passes", "listForcedPasses", READERS, |call| {
            Box::pin(handlers::risk::passes(call))
        })
        .summary("List leave that instances have or had whatever the risk rules say, the newest first")
        .page("ForcedPassView"),
        operation(Method::POST, "/admin/v1/forced-passes", "giveForcedPass", WRITERS, |call| {
            Box::pin(handlers::risk::give(call))
        })
        .summary("Give one instance leave for a while, whatever the risk rules say, instead of what leave it has")
        .takes("GiveForcedPass")
        .gives(StatusCode::CREATED, Answer::One("ForcedPassView")),
        operation(Method::DELETE, "/admin/v1/forced-passes/{name}", "endForcedPass", WRITERS, |call| {
            Box::pin(handlers::risk::end(call))
        })
        .summary("Take leave back now, by its id")
        .deletes(),
    ]
}
