//! What other rules would have decided over what was decided.

use std::collections::BTreeMap;

use base::Timestamp;
use config::{Platform, RiskAction};
use serde::Serialize;

use super::{Rules, Signals};

/// How often instances of which the same was known were decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// What was known. Everybody's lot is that of those a canary chooses first, and nobody has leave.
    pub signals: Signals,
    /// The app's version, as the evidence has it; empty where it says none.
    pub version: String,
    /// What was done.
    pub done: RiskAction,
    /// How often.
    pub count: u64,
}

/// What would change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Decisions looked at.
    pub decisions: u64,
    /// How many of each, as they were done: `{"allow": 10}`.
    pub before: BTreeMap<&'static str, u64>,
    /// How many of each, as these rules would do it.
    pub after: BTreeMap<&'static str, u64>,
    /// How many get another.
    pub changed: Vec<Changed>,
    /// Why these rules would let somebody in less, by app, version and platform. Most first.
    pub reasons: Vec<ReportRow>,
}

/// Decisions that would be others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// What was done.
    pub from: &'static str,
    /// What would be.
    pub to: &'static str,
    /// How often.
    pub count: u64,
}

/// How often one reason would count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportRow {
    /// The flag, or `level_too_low`.
    pub reason: &'static str,
    /// What would be done.
    pub action: &'static str,
    /// The app.
    pub app: String,
    /// Its version.
    pub version: String,
    /// What it runs on.
    pub platform: Platform,
    /// How often.
    pub count: u64,
    /// How often something milder was done.
    pub newly: u64,
}

/// What a row tells: reason, action, app, version, platform.
type Told<'c> = (&'static str, RiskAction, &'c str, &'c str, Platform);

/// So many reasons are told.
const MAX_ROWS: usize = 1000;

/// Ask `rules` about everything that was decided. What sets that observe would do counts as done: that is what one wants
/// to know before they are enforced.
pub fn simulate<'c>(rules: &Rules, decided: impl IntoIterator<Item = &'c Counted>, now: Timestamp) -> Report {
    let mut report = Report::default();
    let mut changed: BTreeMap<(RiskAction, RiskAction), u64> = BTreeMap::new();
    let mut rows: BTreeMap<Told<'_>, (u64, u64)> = BTreeMap::new();
    for one in decided {
        let decision = rules.decide(&one.signals, now);
        let (from, to) = (one.done, decision.would);
        report.decisions = report.decisions.saturating_add(one.count);
        add(report.before.entry(from.as_str()).or_default(), one.count);
        add(report.after.entry(to.as_str()).or_default(), one.count);
        if from != to {
            add(changed.entry((from, to)).or_default(), one.count);
        }
        let deciding = decision.matched.iter().filter(|matched| matched.action == to && to > RiskAction::Allow);
        let mut reasons: Vec<&'static str> = deciding.flat_map(|matched| matched.reasons.iter().copied()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        for reason in reasons {
            let key = (reason, to, one.signals.app.as_str(), one.version.as_str(), one.signals.platform);
            let (count, newly) = rows.entry(key).or_default();
            add(count, one.count);
            if from < to {
                add(newly, one.count);
            }
        }
    }
    let changed = changed.into_iter();
    report.changed =
        changed.map(|((from, to), count)| Changed { from: from.as_str(), to: to.as_str(), count }).collect();
    let row = |((reason, action, app, version, platform), (count, newly)): (Told<'_>, (u64, u64))| ReportRow {
        reason,
        action: action.as_str(),
        app: app.to_owned(),
        version: version.to_owned(),
        platform,
        count,
        newly,
    };
    report.reasons = rows.into_iter().map(row).collect();
    report.reasons.sort_by_key(|row| (std::cmp::Reverse(row.newly), std::cmp::Reverse(row.count)));
    report.reasons.truncate(MAX_ROWS);
    report
}

fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}
