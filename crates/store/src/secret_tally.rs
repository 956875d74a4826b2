//! What was done with runtime secrets, counted in memory until it is written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{Name, Timestamp};

use crate::{SecretUse, SecretUses, Store, StoreError};

/// Most counts that wait to be written. Their keys are names of the configuration, so that this is not met.
const MOST: usize = 10_000;

/// Counts uses of runtime secrets. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct SecretTally(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    waiting: HashMap<Key, (u64, Timestamp)>,
    since_start: HashMap<(Name, SecretUse, bool), u64>,
}

type Key = (Name, u64, String, SecretUse);

/// One use.
#[derive(Debug, Clone, Copy)]
pub struct Used<'a> {
    /// The secret.
    pub name: &'a Name,
    /// Which version.
    pub version: u64,
    /// Whether a newer one was in force.
    pub old: bool,
    /// By which app.
    pub app: &'a str,
    /// How.
    pub how: SecretUse,
    /// When.
    pub at: Timestamp,
}

impl SecretTally {
    /// Count a use.
    pub fn count(&self, used: Used<'_>) {
        let mut counts = self.lock();
        let total = counts.since_start.entry((used.name.clone(), used.how, used.old)).or_default();
        *total = total.saturating_add(1);
        let key = (used.name.clone(), used.version, used.app.to_owned(), used.how);
        if counts.waiting.len() >= MOST && !counts.waiting.contains_key(&key) {
            return;
        }
        let (sum, last) = counts.waiting.entry(key).or_insert((0, used.at));
        *sum = sum.saturating_add(1);
        *last = used.at.max(*last);
    }

    /// Uses since start by secret and kind, of the version in force (`false`) and of older ones (`true`); in order.
    pub fn since_start(&self) -> Vec<((Name, SecretUse, bool), u64)> {
        let mut all: Vec<_> = self.lock().since_start.iter().map(|(key, count)| (key.clone(), *count)).collect();
        all.sort();
        all
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Write down the counts of runtime secrets' uses that wait in memory. What cannot be written waits on.
    pub async fn write_secret_uses(&self) -> Result<(), StoreError> {
        let tally = self.secret_tally();
        let waiting = std::mem::take(&mut tally.lock().waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let counts: Vec<SecretUses> = waiting
            .iter()
            .map(|((name, version, app, how), (uses, last))| SecretUses {
                name: name.clone(),
                version: *version,
                app: app.clone(),
                how: how.as_str().to_owned(),
                uses: *uses,
                last_used_at: *last,
            })
            .collect();
        let written = self.runtime_secrets().used(&counts).await;
        if written.is_err() {
            let mut counts = tally.lock();
            for (key, (uses, last)) in waiting {
                let (sum, latest) = counts.waiting.entry(key).or_insert((0, last));
                *sum = sum.saturating_add(uses);
                *latest = last.max(*latest);
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_add_up_by_what_was_used_and_how() {
        let tally = SecretTally::default();
        let name = Name::new("maps-key").unwrap();
        let used =
            |version, old, how, at| Used { name: &name, version, old, app: "ios", how, at: Timestamp::from_secs(at) };
        tally.count(used(2, false, SecretUse::Substituted, 5));
        tally.clone().count(used(2, false, SecretUse::Substituted, 3));
        tally.count(used(1, true, SecretUse::Held, 4));
        assert_eq!(
            tally.since_start(),
            [((name.clone(), SecretUse::Substituted, false), 2), ((name.clone(), SecretUse::Held, true), 1)]
        );
        let counts = tally.lock();
        let waiting = counts.waiting.get(&(name.clone(), 2, "ios".to_owned(), SecretUse::Substituted));
        assert_eq!(waiting, Some(&(2, Timestamp::from_secs(5))));
    }
}
