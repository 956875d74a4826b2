//! How many kinds of decisions one installation may make rows of in a day: what it says of itself is its own to choose.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::Kind;

/// So many kinds of one installation are kept in a day.
const KINDS: usize = 64;
/// So many installations are watched at once; further ones share one place.
const MOST: usize = 32_768;

/// The kinds of decisions about each installation, on one day. Kept as hashes under a key of this process.
#[derive(Debug, Default)]
pub(super) struct Shares {
    day: i64,
    of: HashMap<u64, Vec<u64>>,
    hasher: RandomState,
}

impl Shares {
    /// Whether another decision of this kind about that installation (its app and its key's thumbprint) is kept.
    pub(super) fn admit(&mut self, installation: (&str, &str), kind: &Kind) -> bool {
        if self.day != kind.day {
            self.of.clear();
            self.day = kind.day;
        }
        let (whose, which) = (self.hasher.hash_one(installation), self.hasher.hash_one(kind));
        let whose = if self.of.len() < MOST || self.of.contains_key(&whose) { whose } else { 0 };
        let kinds = self.of.entry(whose).or_default();
        if kinds.contains(&which) {
            return true;
        }
        let admitted = kinds.len() < KINDS || whose == 0;
        if admitted && whose != 0 {
            kinds.push(which);
        }
        admitted
    }
}
