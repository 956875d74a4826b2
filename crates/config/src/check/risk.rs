//! What risk rules need of the apps they judge.

use super::World;
use crate::fault::{Code, Faults};
use crate::{App, FlagName, Risk, RiskRule};

impl World<'_> {
    /// Find rules about what none of the apps they judge has anybody asked for.
    pub(super) fn risk_rules(&self, faults: &mut Faults) {
        if self.apps.read.len() != self.apps.names.len() {
            // One that could not be read may be the one.
            return;
        }
        for (path, risk) in self.risks.iter() {
            let judged: Vec<&App> = self.apps.iter().map(|(_, app)| app).filter(|app| judges(risk, app)).collect();
            if judged.is_empty() {
                continue;
            }
            for (index, rule) in risk.rules.iter().enumerate() {
                for (at, what) in rule.evidence.iter().enumerate() {
                    if !judged.iter().any(|app| what.is_set_up(app)) {
                        let message = format!("no instance of the apps it judges can show {}", what.as_str());
                        faults
                            .add(format!("{path}.rules[{index}].with[{at}]"), Code::Conflict, message)
                            .hint(format!("give web.{} in the [[app]], or ask for altcha", what.as_str()));
                    }
                }
                for (key, flag) in flags(rule) {
                    let Some((has, give)) = asked_for(flag.as_str()) else { continue };
                    if !judged.iter().any(|app| has(app)) {
                        faults
                            .add(
                                format!("{path}.rules[{index}].{key}"),
                                Code::Conflict,
                                format!("nobody is asked for {flag}, so the rule would never match"),
                            )
                            .hint(format!("give {give} in the [[app]], or leave the rule out"));
                    }
                }
            }
        }
    }
}

/// Whether a set judges an app. A pattern counts for every app: which rules are then of use is for whoever wrote it to say.
fn judges(risk: &Risk, app: &App) -> bool {
    let fits = |pattern: &crate::values::Pattern| !pattern.is_literal() || pattern.as_str() == app.name.as_str();
    risk.apps.is_empty() || risk.apps.iter().any(fits)
}

/// The flags a rule's condition names, with their places.
fn flags(rule: &RiskRule) -> Vec<(String, FlagName)> {
    let when = &rule.when;
    let mut found: Vec<(String, FlagName)> = when.flag.iter().map(|flag| ("when.flag".to_owned(), *flag)).collect();
    for (key, list) in [("any", &when.any), ("all", &when.all)] {
        found.extend(list.iter().enumerate().map(|(index, flag)| (format!("when.{key}[{index}]"), *flag)));
    }
    found
}

/// Whether an app has somebody asked.
type Asks = fn(&App) -> bool;

/// Whether an app has somebody asked for a flag, and the key that does it; `None` for a flag that is found without.
fn asked_for(flag: &str) -> Option<(Asks, &'static str)> {
    match flag {
        "fraud_metric" => {
            Some((|app| app.ios.as_ref().is_some_and(|ios| ios.fraud_metric.is_some()), "ios.fraud_metric"))
        }
        "devicecheck_bits" => {
            Some((|app| app.ios.as_ref().is_some_and(|ios| ios.device_check.is_some()), "ios.device_check"))
        }
        _ => None,
    }
}
