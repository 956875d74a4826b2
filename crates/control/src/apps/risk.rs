//! What becomes of an installation whose evidence holds: the risk rules decide.

use config::{AttestationLevel, Platform, RiskAction, StepUp};
use policy::risk::{Decision, LEVEL_TOO_LOW};
use proof::attest::Flag;
use proof::attest::enrolment::Besides;
use serde_json::{Value, json};
use store::UseUp;

use super::enroll::unavailable;
use super::evidence::{work_context, work_done};
use super::observed::set;
use super::refusal::{Action, AppsError, Refused};
use super::visit::Visit;
use super::{AppInForce, Apps};
use crate::risk::{Step, Suspect};

/// An installation to be decided about.
pub(super) struct Found<'a> {
    pub(super) app: &'a AppInForce,
    /// The thumbprint of its key.
    pub(super) jkt: &'a str,
    /// `ios`, `android`, `web` or `other`.
    pub(super) platform: &'a str,
    pub(super) level: AttestationLevel,
    pub(super) version: Option<&'a str>,
    /// What was found and reported.
    pub(super) flags: Vec<Flag>,
    /// What it shows besides, now.
    pub(super) shown: Option<StepUp>,
}

impl Apps {
    /// Whether the rules let it in; what they say besides goes into its token.
    pub(super) async fn decide(&self, visit: &Visit, found: Found<'_>, step: Step) -> Result<Decision, AppsError> {
        let (operations, app) = (self.operations(), &found.app.config);
        let now = operations.clock().monotonic();
        let mut flags = found.flags;
        let unsupported = flags.iter().any(|flag| flag.name() == "attest_unsupported");
        flags.extend(match step {
            Step::Enroll => self.observer.enrolment(&app.name, visit.address, unsupported, now),
            Step::Token => self.observer.refresh(&app.name, found.jkt, visit.address, now),
        });
        if operations.judge().rules().is_datacenter(app.name.as_str(), visit.address) {
            flags.extend(set("ip_datacenter"));
        }
        let told = serde_json::to_value(&flags).unwrap_or_default();
        let suspect = Suspect {
            app: app.name.as_str(),
            jkt: found.jkt,
            // Evidence that does not say where it was made is trusted like a browser's.
            platform: Platform::ALL.into_iter().find(|p| p.as_str() == found.platform).unwrap_or(Platform::Web),
            level: found.level,
            required: app.minimum_level(),
            version: found.version,
            flags,
            shown: found.shown,
        };
        let decision = operations.judge().judge(operations.store(), suspect, step).await;
        let decision = decision.map_err(|error| unavailable(&error.into()))?;
        if decision.lets_in() {
            return Ok(decision);
        }
        let action = match decision.action {
            RiskAction::StepUp => Action::StepUp,
            // Other evidence may carry further.
            _ if step == Step::Token && decision.reasons == [LEVEL_TOO_LOW] => Action::ReEnroll,
            _ => Action::None,
        };
        let rules: Vec<Value> = decision
            .matched
            .iter()
            .filter(|matched| matched.enforced && matched.action == decision.action)
            .map(|matched| json!({ "set": matched.set, "rule": matched.rule }))
            .collect();
        let mut refused = Refused::new(action, LEVEL_TOO_LOW);
        refused.reasons.clone_from(&decision.reasons);
        let refused = refused.with("level", found.level.as_str()).with("flags", told).with("jkt", found.jkt);
        Err(refused.with("decision", decision.action.as_str()).with("rules", rules).into())
    }

    /// Judge what is shown besides evidence: what it is, and what of it counts once.
    pub(super) async fn besides(
        &self,
        shown: Option<Besides>,
        app: &AppInForce,
        nonce: &str,
    ) -> Result<(Option<StepUp>, Vec<UseUp>), AppsError> {
        let Some(Besides::Altcha { payload }) = shown else { return Ok((None, Vec::new())) };
        let (keys, now) = (self.work_keys(), self.operations().clock().now());
        let context = work_context(app.config.name.as_str(), nonce);
        let place = tokio::time::timeout(super::WAIT, self.judging.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(AppsError::Unavailable("verification_busy")) };
        let solved = tokio::task::spawn_blocking(move || work_done(&payload, &context, &keys, now)).await;
        let (_, used) = solved.map_err(|_| AppsError::Unavailable("verification_failed"))??;
        Ok((Some(StepUp::Altcha), vec![used]))
    }

    /// Remember what was shown besides, once everything else holds.
    pub(super) async fn remember(&self, app: &AppInForce, jkt: &str, shown: Option<StepUp>) -> Result<(), AppsError> {
        let Some(what) = shown else { return Ok(()) };
        let kept = self.operations().store().step_ups().put(app.config.name.as_str(), jkt, what.as_str()).await;
        kept.map_err(|error| unavailable(&error.into()))
    }
}
