//! What becomes of an installation whose evidence holds: the risk rules decide.

use config::{AttestationLevel, Platform, RiskAction, StepUp};
use policy::risk::{Decision, LEVEL_TOO_LOW};
use proof::attest::client_data::HeldConfig;
use proof::attest::{Flag, FlagValue};
use proof::ja4::Ja4;
use serde_json::{Value, json};

use super::enroll::unavailable;
use super::refusal::{Action, AppsError, Refused};
use super::visit::Visit;
use super::{AppInForce, Apps};
use crate::risk::{Seen, Step, Suspect, set};

/// An installation to be decided about.
pub(super) struct Found<'a> {
    pub(super) app: &'a AppInForce,
    /// The thumbprint of its key.
    pub(super) jkt: &'a str,
    /// Its id, where it has one already.
    pub(super) instance: Option<&'a str>,
    /// `ios`, `android`, `web` or `other`.
    pub(super) platform: &'a str,
    pub(super) level: AttestationLevel,
    pub(super) version: Option<&'a str>,
    /// What was found and reported.
    pub(super) flags: Vec<Flag>,
    /// What it shows besides, now.
    pub(super) shown: Option<StepUp>,
    /// What it says it was told over the air.
    pub(super) config: Option<HeldConfig>,
    /// Whether it should have enrolled anew by now.
    pub(super) overdue: bool,
}

/// The flag that says how the installation greets in TLS; of one that is known, how it did when it enrolled.
const FINGERPRINT: &str = "tls_fingerprint";

/// How it greets, as a flag.
pub(super) fn fingerprint(found: &Ja4) -> Option<Flag> {
    Flag::new(FINGERPRINT, FlagValue::Text(found.as_str().to_owned()))
}

impl Apps {
    /// Whether the rules let it in; what they say besides goes into its token.
    pub(super) async fn decide(&self, visit: &Visit, found: Found<'_>, step: Step) -> Result<Decision, AppsError> {
        let (operations, app) = (self.operations(), &found.app.config);
        let observed = self.observed(visit, &found).await?;
        let mut flags = found.flags;
        // What it enrolled with: what it comes with now was observed.
        flags.retain(|flag| flag.name() != FINGERPRINT);
        flags.extend(observed);
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

    /// What is seen of it, beside what it shows and says.
    async fn observed(&self, visit: &Visit, found: &Found<'_>) -> Result<Vec<Flag>, AppsError> {
        let (operations, app) = (self.operations(), &found.app.config);
        let (observer, rules) = (operations.judge().observer(), operations.judge().rules());
        let (now, moment) = (operations.clock().monotonic(), operations.clock().now());
        let rented = rules.is_datacenter(app.name.as_str(), visit.address);
        let enrolled = found.flags.iter().find(|flag| flag.name() == FINGERPRINT);
        let enrolled = enrolled.and_then(|flag| match flag.value() {
            FlagValue::Text(text) => Ja4::parse(text).ok(),
            _ => None,
        });
        let other_stack =
            enrolled.zip(visit.fingerprint.as_ref()).is_some_and(|(then, now)| then.stack() != now.stack());
        let mut flags = if let Some(instance) = found.instance {
            let seen = Seen { instance, address: visit.address, other_stack };
            observer.refresh(seen, rented, now).await
        } else {
            let unsupported = found.flags.iter().any(|flag| flag.name() == "attest_unsupported");
            observer.enrolment(&app.name, visit.address, unsupported, now).await
        };
        let mut so = Vec::new();
        if rented && !flags.iter().any(|flag| flag.name() == "ip_datacenter") {
            so.push("ip_datacenter");
        }
        if let Some(served) =
            operations.served_app_config(app.name.as_str()).await.map_err(|error| unavailable(&error))?
        {
            let grace = rules.grace(app.name.as_str()).config_update.duration();
            let held = served.judge(found.config, grace, moment);
            so.extend(
                [("stale_pin_config", held.stale), ("pin_report_missing", held.unreported)]
                    .iter()
                    .filter(|(_, is)| *is)
                    .map(|(name, _)| *name),
            );
        }
        if found.overdue {
            so.push("reattestation_due");
        }
        flags.extend(so.into_iter().filter_map(set));
        flags.extend(visit.fingerprint.as_ref().and_then(fingerprint));
        Ok(flags)
    }
}
