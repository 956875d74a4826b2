//! What becomes of an instance of an app, by what is known about it: rules compiled once, decided at every enrolment
//! and refresh. No I/O.
//!
//! Every set of rules that names the app is asked, and every rule of it; the severest of what is enforced is done. What
//! the client says of itself can only make a decision worse: a test shows that adding such a flag never gives a better one.

mod condition;
mod simulate;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use base::{Name, Timestamp};
use config::{
    Annotation, AttestationLevel as Level, Cidr, FORCED_PASS, ForcedPass, Grace, Platform, Risk, RiskAction, RiskMode,
    RiskThrottle, STEP_UP_LASTS, StepUp,
};
use proof::attest::{Flag, FlagValue, Provenance, provenance};
use proof::jose::JsonObject;
use serde_json::Value;

use crate::glob::Glob;
use crate::rule::{any, globs};
use condition::{Condition, Exception};

pub use simulate::{Changed, Counted, Report, ReportRow, simulate};

/// What is known about an instance at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signals {
    /// The app's name.
    pub app: String,
    /// What it runs on.
    pub platform: Platform,
    /// How far its evidence carries.
    pub level: Level,
    /// How far the app's own entry wants it to carry: enforced whatever the sets say.
    pub required: Level,
    /// What was found, reported and observed.
    pub flags: Vec<Flag>,
    /// Where it stands among 100, for canaries: see [`lot`].
    pub lot: u8,
    /// What it has shown besides, and when.
    pub shown: Vec<(StepUp, Timestamp)>,
    /// Until when an operator gave it leave.
    pub forced_until: Option<Timestamp>,
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is done.
    pub action: RiskAction,
    /// What would be done if every set were enforced and nobody had leave.
    pub would: RiskAction,
    /// Words for the token, sorted.
    pub annotations: Vec<String>,
    /// What the instance may ask and spend: of each the least that a rule says.
    pub throttle: Option<RiskThrottle>,
    /// With [`RiskAction::StepUp`]: for each rule that wants more, what would do.
    pub step_up: Vec<Vec<StepUp>>,
    /// Why, for the operator: flags, or `level_too_low`. Of the rules that decided, sorted.
    pub reasons: Vec<&'static str>,
    /// Every rule that matched, also of sets that observe.
    pub matched: Vec<Matched>,
    /// Whether an operator's leave is in force.
    pub forced: bool,
}

impl Decision {
    /// Whether a token is issued.
    pub fn lets_in(&self) -> bool {
        self.action < RiskAction::StepUp
    }
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// Its set; `None` for the app's own minimum level.
    pub set: Option<Name>,
    /// Which rule of it, from 0; `None` for the minimum level.
    pub rule: Option<usize>,
    /// What it says is to be done; [`RiskAction::Allow`] where a step up was done already.
    pub action: RiskAction,
    /// What it matched: flags, or `level_too_low`.
    pub reasons: Vec<&'static str>,
    /// Whether it is done, for this instance.
    pub enforced: bool,
}

/// The reason of a minimum level that is not met.
pub const LEVEL_TOO_LOW: &str = "level_too_low";

/// All sets of rules, compiled. Immutable.
#[derive(Debug, Default)]
pub struct Rules {
    sets: Vec<Set>,
    version: String,
}

#[derive(Debug)]
struct Set {
    name: Name,
    apps: Box<[Glob]>,
    mode: RiskMode,
    canary: Option<u8>,
    minimum: Option<Level>,
    rules: Box<[Rule]>,
    grace: Grace,
    forced_pass: ForcedPass,
    datacenters: Box<[Cidr]>,
}

#[derive(Debug)]
struct Rule {
    when: Condition,
    unless: Option<Exception>,
    action: RiskAction,
    annotation: Option<Annotation>,
    throttle: Option<RiskThrottle>,
    evidence: Box<[StepUp]>,
    lasts: Duration,
    from: Option<Timestamp>,
}

/// A rule that matched, with what it brings.
struct Hit<'r> {
    rule: Option<&'r Rule>,
    matched: Matched,
}

impl Rules {
    /// Compile sets that have no faults of their own.
    pub fn compile(risks: &[Risk]) -> Self {
        let text = serde_json::to_string(risks).unwrap_or_default();
        Self { sets: risks.iter().map(Set::compile).collect(), version: format!("{:016x}", fnv(&text)) }
    }

    /// What tells these rules from others: the same wherever they are written the same.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether a set that judges the app lists this address as one of machines that are rented out.
    pub fn is_datacenter(&self, app: &str, address: IpAddr) -> bool {
        self.of(app).any(|set| set.datacenters.iter().any(|range| range.contains(address)))
    }

    /// What instances of an app can be asked to show besides, each once.
    pub fn step_ups(&self, app: &str) -> Vec<StepUp> {
        let mut all: Vec<StepUp> =
            self.enforced(app).flat_map(|set| &set.rules).flat_map(|rule| rule.evidence.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Decide about an instance.
    pub fn decide(&self, signals: &Signals, now: Timestamp) -> Decision {
        let mut hits = Vec::new();
        if signals.level < signals.required {
            hits.push(Hit { rule: None, matched: too_low(None, true) });
        }
        for set in self.of(&signals.app) {
            set.hits(signals, now, &mut hits);
        }
        let forced = signals.forced_until.is_some_and(|until| now < until) && self.forced_pass(&signals.app).allowed;
        decision(hits, forced)
    }

    /// What is put up with for an app: of each part the strictest that a set says. Sets that only observe say nothing.
    pub fn grace(&self, app: &str) -> Grace {
        self.enforced(app).map(|set| set.grace).reduce(Grace::stricter).unwrap_or_default()
    }

    /// Which leave an operator may give instances of an app: what every set that is enforced allows.
    pub fn forced_pass(&self, app: &str) -> ForcedPass {
        let both = |one: ForcedPass, other: ForcedPass| ForcedPass {
            allowed: one.allowed && other.allowed,
            longest: one.longest.min(other.longest),
        };
        self.enforced(app).map(|set| set.forced_pass).reduce(both).unwrap_or_default()
    }

    fn of(&self, app: &str) -> impl Iterator<Item = &Set> {
        self.sets.iter().filter(move |set| set.apps.is_empty() || any(&set.apps, app))
    }

    fn enforced(&self, app: &str) -> impl Iterator<Item = &Set> {
        self.of(app).filter(|set| set.mode == RiskMode::Enforce)
    }
}

impl Set {
    fn compile(risk: &Risk) -> Self {
        let rule = |rule: &config::RiskRule| Rule {
            when: Condition::compile(&rule.when),
            unless: rule.unless.as_ref().map(Exception::compile),
            action: rule.action,
            annotation: rule.annotation.clone(),
            throttle: rule.throttle,
            evidence: rule.evidence.to_vec().into(),
            lasts: rule.lasts.unwrap_or(STEP_UP_LASTS).duration(),
            from: rule.from.map(config::Moment::at),
        };
        Self {
            name: risk.name.clone(),
            apps: globs(&risk.apps),
            mode: risk.mode,
            canary: risk.canary,
            minimum: risk.minimum_level,
            rules: risk.rules.iter().map(rule).collect(),
            grace: risk.grace,
            forced_pass: risk.forced_pass,
            datacenters: risk.datacenters.clone().into(),
        }
    }

    fn hits<'r>(&'r self, signals: &Signals, now: Timestamp, hits: &mut Vec<Hit<'r>>) {
        let chosen = self.canary.is_none_or(|percent| signals.lot < percent);
        let enforced = self.mode == RiskMode::Enforce && chosen;
        if self.minimum.is_some_and(|minimum| signals.level < minimum) {
            hits.push(Hit { rule: None, matched: too_low(Some(self.name.clone()), enforced) });
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let Some(reasons) = rule.when.matches(signals) else { continue };
            if rule.unless.as_ref().is_some_and(|unless| unless.holds(signals)) {
                continue;
            }
            let done = rule.action == RiskAction::StepUp && rule.is_shown(signals, now);
            let action = if done { RiskAction::Allow } else { rule.action };
            let set = Some(self.name.clone());
            let enforced = enforced && rule.from.is_none_or(|from| from <= now);
            let matched = Matched { set, rule: Some(index), action, reasons, enforced };
            hits.push(Hit { rule: Some(rule), matched });
        }
    }
}

impl Rule {
    fn is_shown(&self, signals: &Signals, now: Timestamp) -> bool {
        let fresh = |at: Timestamp| now < at.plus(self.lasts);
        signals.shown.iter().any(|(what, at)| self.evidence.contains(what) && fresh(*at))
    }
}

fn too_low(set: Option<Name>, enforced: bool) -> Matched {
    Matched { set, rule: None, action: RiskAction::Deny, reasons: vec![LEVEL_TOO_LOW], enforced }
}

/// What all that matched comes to.
fn decision(hits: Vec<Hit<'_>>, forced: bool) -> Decision {
    let severest = |enforced: bool| {
        let actions = hits.iter().filter(|hit| hit.matched.enforced || !enforced).map(|hit| hit.matched.action);
        actions.max().unwrap_or(RiskAction::Allow)
    };
    let (action, would) = (severest(true), severest(false));
    let mut found = Decision {
        action,
        would,
        annotations: Vec::new(),
        throttle: None,
        step_up: Vec::new(),
        reasons: Vec::new(),
        matched: Vec::with_capacity(hits.len()),
        forced,
    };
    for Hit { rule, matched } in hits {
        if matched.enforced {
            if matched.action == action && action > RiskAction::Allow {
                found.reasons.extend(&matched.reasons);
            }
            match (matched.action, rule) {
                (RiskAction::Annotate, Some(rule)) => {
                    found.annotations.extend(rule.annotation.iter().map(|word| word.as_str().to_owned()));
                }
                (RiskAction::Throttle, Some(rule)) => found.throttle = tighter(found.throttle, rule.throttle),
                (RiskAction::StepUp, Some(rule)) => found.step_up.push(rule.evidence.to_vec()),
                _ => {}
            }
        }
        found.matched.push(matched);
    }
    if forced {
        found.action = RiskAction::Allow;
        found.annotations = vec![FORCED_PASS.to_owned()];
        found.throttle = None;
        found.step_up.clear();
    }
    found.annotations.sort_unstable();
    found.annotations.dedup();
    found.reasons.sort_unstable();
    found.reasons.dedup();
    found
}

/// Of two throttles, the lesser in each.
fn tighter(one: Option<RiskThrottle>, other: Option<RiskThrottle>) -> Option<RiskThrottle> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    let least = |a: Option<u32>, b: Option<u32>| a.into_iter().chain(b).min();
    Some(RiskThrottle { rpm: least(one.rpm, other.rpm), usd_day: one.usd_day.into_iter().chain(other.usd_day).min() })
}

/// Where the holder of a key stands among 100: the same at every enrolment with that key. `thumbprint` is the RFC 7638
/// thumbprint of the instance's key, which is as good as drawn.
pub fn lot(thumbprint: &str) -> u8 {
    // Whoever makes keys until one falls outside a canary gains what everybody outside has.
    u8::try_from((fnv(thumbprint) >> 32) % 100).unwrap_or_default()
}

/// FNV-1a, 64 bits.
fn fnv(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// What a client says of itself: the members of `flags` in its client data that are `true` and that a client may say.
/// Others are not looked at: it can vouch for nothing.
pub fn reported(flags: &JsonObject) -> Vec<Flag> {
    let says = |(name, value): (&String, &Value)| {
        let own = provenance(name) == Some(Provenance::Reported) && *value == Value::Bool(true);
        if own { Flag::new(name, FlagValue::Set(true)) } else { None }
    };
    flags.iter().filter_map(says).collect()
}

/// The level of `proof`, as the configuration has it.
pub fn level(level: proof::attest::Level) -> Level {
    use proof::attest::Level as Proved;
    match level {
        Proved::None => Level::None,
        Proved::Web => Level::Web,
        Proved::Verdict => Level::Verdict,
        Proved::Hw => Level::Hw,
        Proved::HwStrong => Level::HwStrong,
    }
}
