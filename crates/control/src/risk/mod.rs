//! What becomes of instances of apps: the rules in force, asked at every enrolment and refresh; what they decided, counted;
//! and the leave operators give single instances.

mod counts;
mod known;
mod observed;
mod shares;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base::Timestamp;
use config::{AttestationLevel, Platform, StepUp};
use policy::risk::{Decision, Rules, Signals};
use proof::attest::Flag;
use store::{RiskDecision, Store, StoreError};

pub use counts::{DecisionCount, RiskCounts};
pub(crate) use known::{decided, known};
pub use observed::{Fleet, Observer, Seen};
pub(crate) use observed::{Network, set};

/// So many kinds of decisions are kept between two saves; more are only counted for metrics.
const MOST_KINDS: usize = 4096;
/// The longest version that is told apart.
const MAX_VERSION: usize = 32;

/// At which step an instance is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// It enrols, or shows new evidence.
    Enroll,
    /// It asks for another token.
    Token,
}

impl Step {
    /// The word in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enroll => "enroll",
            Self::Token => "token",
        }
    }
}

/// An instance that is to be judged.
#[derive(Debug, Clone)]
pub struct Suspect<'a> {
    /// The app.
    pub app: &'a str,
    /// The thumbprint of its key (RFC 7638).
    pub jkt: &'a str,
    /// What it runs on.
    pub platform: Platform,
    /// How far its evidence carries.
    pub level: AttestationLevel,
    /// How far its app wants it to carry.
    pub required: AttestationLevel,
    /// The app's version, where that is known.
    pub version: Option<&'a str>,
    /// What was found, reported and observed.
    pub flags: Vec<Flag>,
    /// What it shows besides, now. What it showed before is looked up.
    pub shown: Option<StepUp>,
}

/// The rules in force, and what they decide.
#[derive(Debug, Default)]
pub struct Judge {
    rules: RwLock<Arc<Rules>>,
    pending: Mutex<Pending>,
    counts: RiskCounts,
    observer: Observer,
}

/// What was decided and is not kept yet.
#[derive(Debug, Default)]
struct Pending {
    decisions: HashMap<Kind, u64>,
    shares: shares::Shares,
    /// Uses of forced passes, by their ids, and when each was last used.
    uses: HashMap<String, (u64, Timestamp)>,
}

/// Everything a decision is told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    day: i64,
    app: String,
    version: String,
    step: Step,
    known: String,
    action: &'static str,
    would: &'static str,
    reasons: Vec<&'static str>,
}

impl Judge {
    /// Put rules in force.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is seen in the traffic of installations.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// What was decided since the start, for metrics.
    pub fn counts(&self) -> &RiskCounts {
        &self.counts
    }

    /// Decide about an instance, and count it. An operator's leave is looked up; where the store cannot be asked there is
    /// none.
    pub async fn judge(&self, store: &Store, suspect: Suspect<'_>, step: Step) -> Result<Decision, StoreError> {
        let now = store.now();
        let pass = store.forced_passes().of(suspect.app, suspect.jkt).await?;
        let mut shown: Vec<(StepUp, Timestamp)> = suspect.shown.map(|what| (what, now)).into_iter().collect();
        for (what, at) in store.step_ups().of(suspect.app, suspect.jkt).await? {
            shown.extend(StepUp::ALL.into_iter().find(|known| known.as_str() == what).map(|what| (what, at)));
        }
        let signals = Signals {
            app: suspect.app.to_owned(),
            platform: suspect.platform,
            level: suspect.level,
            required: suspect.required,
            flags: suspect.flags,
            lot: policy::risk::lot(suspect.jkt),
            shown,
            forced_until: pass.as_ref().map(|pass| pass.ends_at),
        };
        let decision = self.rules().decide(&signals, now);
        let version = told_apart(suspect.version.unwrap_or_default());
        self.counts.count(&signals, version, &decision);
        let mut kept = signals.clone();
        self.counts.tell_apart(&mut kept, (suspect.jkt, decision.lets_in()));
        let kind = Kind {
            day: RiskDecision::day_of(now),
            known: known(&kept, now),
            app: signals.app,
            version: version.to_owned(),
            step,
            action: decision.action.as_str(),
            would: decision.would.as_str(),
            reasons: decision.reasons.clone(),
        };
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pass) = pass.filter(|_| decision.forced) {
            let (uses, at) = pending.uses.entry(pass.id).or_insert((0, now));
            (*uses, *at) = (uses.saturating_add(1), now);
        }
        if !pending.shares.admit((suspect.app, suspect.jkt), &kind) {
            self.counts.leave_out(1);
        } else if let Some(count) = pending.decisions.get_mut(&kind) {
            *count = count.saturating_add(1);
        } else if pending.decisions.len() < MOST_KINDS {
            pending.decisions.insert(kind, 1);
        } else {
            self.counts.leave_out(1);
        }
        Ok(decision)
    }

    /// Keep what was decided since the last time. What cannot be kept is tried again the next time.
    pub async fn save(&self, store: &Store) -> Result<(), StoreError> {
        let (decisions, uses) = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut pending.decisions), std::mem::take(&mut pending.uses))
        };
        let rows: Vec<RiskDecision> = decisions.iter().map(|(kind, count)| row(kind, *count)).collect();
        match store.risk_decisions().add(&rows).await {
            Ok(left_out) => self.counts.leave_out(left_out),
            Err(error) => {
                self.put_back(decisions, uses);
                return Err(error);
            }
        }
        for (id, (count, at)) in uses {
            store.forced_passes().used(&id, count, at).await?;
        }
        Ok(())
    }

    fn put_back(&self, decisions: HashMap<Kind, u64>, uses: HashMap<String, (u64, Timestamp)>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, count) in decisions {
            if pending.decisions.len() >= MOST_KINDS && !pending.decisions.contains_key(&kind) {
                self.counts.leave_out(count);
                continue;
            }
            let sum = pending.decisions.entry(kind).or_default();
            *sum = sum.saturating_add(count);
        }
        for (id, (count, at)) in uses {
            let (sum, last) = pending.uses.entry(id).or_insert((0, at));
            (*sum, *last) = (sum.saturating_add(count), at.max(*last));
        }
    }
}

/// A version as it is kept and counted. Where no evidence says it an app may say anything: what looks like no version is `other`.
fn told_apart(version: &str) -> &str {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    if version.len() <= MAX_VERSION && version.chars().all(good) { version } else { "other" }
}

fn row(kind: &Kind, count: u64) -> RiskDecision {
    RiskDecision {
        day: kind.day,
        app: kind.app.clone(),
        version: kind.version.clone(),
        step: kind.step.as_str().to_owned(),
        known: kind.known.clone(),
        action: kind.action.to_owned(),
        would: kind.would.to_owned(),
        reasons: kind.reasons.iter().map(|reason| (*reason).to_owned()).collect(),
        count,
    }
}
