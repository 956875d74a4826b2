//! What was decided since the start, for metrics. Few labels, whatever versions apps say they have.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use config::Platform;
use policy::risk::{Decision, Signals};
use proof::attest::{Flag, FlagValue, Provenance};

/// So many versions of an app are told apart; others are `other`.
const MOST_VERSIONS: usize = 32;
/// So many words that were observed of an app are, such as fingerprints; others are `other`.
const MOST_WORDS: usize = 32;
/// So many of them may come from one installation.
const WORDS_EACH: usize = 4;
/// So many apps are.
const MOST_APPS: usize = 256;

/// What was decided since the start.
#[derive(Debug, Default)]
pub struct RiskCounts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    decisions: BTreeMap<DecisionCount, u64>,
    versions: BTreeMap<String, BTreeSet<String>>,
    /// By app, with whose they were first, as a hash under a key of this process.
    words: BTreeMap<String, BTreeMap<String, u64>>,
    forced: BTreeMap<String, u64>,
    left_out: u64,
    hasher: RandomState,
}

/// One kind of decision, as metrics tell it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DecisionCount {
    /// The app.
    pub app: String,
    /// Its version, or `other`: also where nobody of that version was let in yet.
    pub version: String,
    /// What it runs on.
    pub platform: Platform,
    /// A reason that counted; `none` where there is none.
    pub reason: &'static str,
    /// What was done; where a set only observes, what it would have done.
    pub action: &'static str,
    /// `enforce`, or `observe` where nothing was done.
    pub mode: &'static str,
}

impl RiskCounts {
    /// Every kind with its number.
    pub fn decisions(&self) -> Vec<(DecisionCount, u64)> {
        self.lock().decisions.iter().map(|(kind, count)| (kind.clone(), *count)).collect()
    }

    /// How often instances were let in by a forced pass, by app.
    pub fn forced(&self) -> Vec<(String, u64)> {
        self.lock().forced.iter().map(|(app, count)| (app.clone(), *count)).collect()
    }

    /// How many decisions could not be kept, because there were too many kinds.
    pub fn left_out(&self) -> u64 {
        self.lock().left_out
    }

    pub(super) fn leave_out(&self, count: u64) {
        let mut counts = self.lock();
        counts.left_out = counts.left_out.saturating_add(count);
    }

    /// Replace words that were observed of which there are too many to be told apart. A word becomes known by an installation
    /// (its key's thumbprint) that is let in.
    pub(super) fn tell_apart(&self, signals: &mut Signals, (whose, let_in): (&str, bool)) {
        let mut counts = self.lock();
        let whose = counts.hasher.hash_one(whose);
        for flag in &mut signals.flags {
            let FlagValue::Text(word) = flag.value() else { continue };
            if flag.provenance() != Provenance::Observed {
                continue;
            }
            let room = counts.words.contains_key(&signals.app) || counts.words.len() < MOST_APPS;
            let known = room.then(|| counts.words.entry(signals.app.clone()).or_default());
            let told_apart = known.is_some_and(|known| {
                let own = || known.values().filter(|first| **first == whose).count();
                let room = let_in && known.len() < MOST_WORDS && own() < WORDS_EACH;
                if room && !known.contains_key(word) {
                    known.insert(word.clone(), whose);
                }
                known.contains_key(word)
            });
            if let (false, Some(other)) = (told_apart, Flag::new(flag.name(), FlagValue::Text("other".to_owned()))) {
                *flag = other;
            }
        }
    }

    pub(super) fn count(&self, signals: &Signals, version: &str, decision: &Decision) {
        let mut counts = self.lock();
        let known = counts.versions.contains_key(&signals.app);
        if !known && counts.versions.len() >= MOST_APPS {
            return;
        }
        let versions = counts.versions.entry(signals.app.clone()).or_default();
        let version = if versions.contains(version) {
            version
        } else if version == "other" || !decision.lets_in() {
            "other"
        } else if versions.len() < MOST_VERSIONS {
            versions.insert(version.to_owned());
            version
        } else {
            "other"
        };
        let kind = |reason, action, mode| DecisionCount {
            app: signals.app.clone(),
            version: version.to_owned(),
            platform: signals.platform,
            reason,
            action,
            mode,
        };
        let mut kinds = BTreeSet::new();
        for matched in &decision.matched {
            let mode = if matched.enforced { "enforce" } else { "observe" };
            kinds.extend(matched.reasons.iter().map(|reason| kind(*reason, matched.action.as_str(), mode)));
        }
        if decision.matched.iter().all(|matched| !matched.enforced) {
            kinds.insert(kind("none", decision.action.as_str(), "enforce"));
        }
        for kind in kinds {
            let sum = counts.decisions.entry(kind).or_default();
            *sum = sum.saturating_add(1);
        }
        if decision.forced {
            let sum = counts.forced.entry(signals.app.clone()).or_default();
            *sum = sum.saturating_add(1);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use config::AttestationLevel;

    use super::*;

    fn observed(word: &str) -> Signals {
        let flag = Flag::new("tls_fingerprint", FlagValue::Text(word.to_owned())).unwrap();
        assert_eq!(flag.provenance(), Provenance::Observed);
        Signals {
            app: "chat".to_owned(),
            platform: Platform::Ios,
            level: AttestationLevel::HwStrong,
            required: AttestationLevel::None,
            flags: vec![flag],
            lot: 0,
            shown: Vec::new(),
            forced_until: None,
        }
    }

    fn kept(counts: &RiskCounts, word: &str, whose: &str, let_in: bool) -> bool {
        let mut signals = observed(word);
        counts.tell_apart(&mut signals, (whose, let_in));
        matches!(signals.flags[0].value(), FlagValue::Text(kept) if kept == word)
    }

    #[test]
    fn one_installation_and_whoever_is_refused_fill_nothing() {
        let counts = RiskCounts::default();
        let told =
            |whose: &str, let_in| (0..100).filter(|n| kept(&counts, &format!("{whose}-{n}"), whose, let_in)).count();
        assert_eq!(told("refused", false), 0);
        assert_eq!(told("one", true), WORDS_EACH);
        assert!(kept(&counts, "one-0", "refused", false), "once known, it is told apart for all");
        let others = (0..100).filter(|n| kept(&counts, &format!("of {n}"), &n.to_string(), true)).count();
        assert_eq!(others, MOST_WORDS - WORDS_EACH);
    }
}
