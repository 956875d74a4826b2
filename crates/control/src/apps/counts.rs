//! What came of requests for attestation, counted by app, step, reason and version.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The most combinations that are counted apart. Apps and reasons are ours, versions are what installations say.
const MOST: usize = 2_000;

/// What counts are of where nothing was refused.
const OK: &str = "ok";

/// The most versions of one app that are counted apart.
const VERSIONS: usize = 32;

/// What one count is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    /// The app, of those that are configured; `unknown` for any other.
    pub app: String,
    /// What was asked for: `challenge`, `enroll`, `token`, ...
    pub step: &'static str,
    /// `ok`, or why it was refused.
    pub reason: String,
    /// The app's version, where it is known; `other` beyond the first 32 and where nobody of that version was let in yet.
    pub version: String,
}

/// Counts. Shared with whoever shows them.
#[derive(Debug, Default)]
pub struct AppCounts {
    counts: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    of: BTreeMap<Counted, u64>,
    versions: BTreeMap<String, Vec<String>>,
}

impl AppCounts {
    /// One more.
    pub(crate) fn count(&self, app: Option<&str>, step: &'static str, reason: &str, version: Option<&str>) {
        let mut table = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let app = app.unwrap_or("unknown").to_owned();
        let version = version.map_or_else(String::new, |version| table.version(&app, version, reason == OK));
        let counted = Counted { app, step, reason: reason.to_owned(), version };
        if let Some(count) = table.of.get_mut(&counted) {
            *count = count.saturating_add(1);
        } else if table.of.len() < MOST {
            table.of.insert(counted, 1);
        }
    }

    /// All there are.
    pub fn all(&self) -> Vec<(Counted, u64)> {
        let table = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        table.of.iter().map(|(counted, count)| (counted.clone(), *count)).collect()
    }
}

impl Table {
    /// A version as it is counted. Only letters, digits and `.-_+` of it, at most 32: it becomes a label. Whoever is refused
    /// may say what it likes, so only who is let in makes a version known.
    fn version(&mut self, app: &str, version: &str, let_in: bool) -> String {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        if version.is_empty() || version.len() > 32 || !version.chars().all(good) {
            return "other".to_owned();
        }
        let known = self.versions.entry(app.to_owned()).or_default();
        if !known.iter().any(|one| one == version) {
            if !let_in || known.len() >= VERSIONS {
                return "other".to_owned();
            }
            known.push(version.to_owned());
        }
        version.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_made_up_do_not_make_counts() {
        let counts = AppCounts::default();
        for number in 0..10_000 {
            counts.count(Some("chat"), "token", "ok", Some(&number.to_string()));
            counts.count(Some("chat"), "token", "ok", Some("a label\n\"with\" ends"));
        }
        let all = counts.all();
        assert_eq!(all.len(), VERSIONS + 1);
        assert_eq!(all.iter().map(|(_, count)| count).sum::<u64>(), 20_000);
        assert!(all.iter().any(|(counted, _)| counted.version == "other"));
    }
    #[test]
    fn versions_of_who_is_refused_leave_room_for_those_of_who_is_let_in() {
        let counts = AppCounts::default();
        for number in 0..1_000 {
            counts.count(Some("chat"), "enroll", "nonce_unknown", Some(&number.to_string()));
        }
        counts.count(Some("chat"), "enroll", OK, Some("2.1"));
        counts.count(Some("chat"), "enroll", "nonce_unknown", Some("2.1"));
        let all: Vec<(String, String, u64)> =
            counts.all().into_iter().map(|(counted, count)| (counted.reason, counted.version, count)).collect();
        let row = |reason: &str, version: &str, count| (reason.to_owned(), version.to_owned(), count);
        assert_eq!(all, [row("nonce_unknown", "2.1", 1), row("nonce_unknown", "other", 1_000), row(OK, "2.1", 1)]);
    }
}
