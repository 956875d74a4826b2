//! Verdicts that need not be reached again at once.
//!
//! Two stores of their own sizes, so that garbage never pushes good tokens out. Both are keyed by the whole SHA-256
//! of the whole token and the configuration's generation: no prefix, no `jti` (CVE-2026-35030). What a store says is
//! only ever a proposal; [`Issuers::verify`](super::Issuers::verify) checks time and key again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{TokenError, VerifiedToken};

/// How long a verdict may stand before the signature is verified again.
const POSITIVE_FOR: Duration = Duration::from_mins(5);
/// How long a refusal may stand.
const NEGATIVE_FOR: Duration = Duration::from_secs(10);
/// What an entry costs beside its claims: the key, the strings' headers, the maps.
const ENTRY_BYTES: usize = 1024;

/// How much may be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Bytes for verified tokens, estimated. Zero turns the cache off.
    pub bytes: u64,
    /// Refused tokens. Zero turns their cache off.
    pub refused: usize,
}

impl Default for CacheLimits {
    /// 32 MiB (some 10,000 tokens) and 4,096 refusals.
    fn default() -> Self {
        Self { bytes: 32 << 20, refused: 4096 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    hash: [u8; 32],
    generation: u64,
}

impl Key {
    pub(super) fn new(hash: [u8; 32], generation: u64) -> Self {
        Self { hash, generation }
    }
}

/// A verified token as remembered.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) token: Arc<VerifiedToken>,
    /// Position of its issuer.
    pub(super) issuer: usize,
    verified_at: Timestamp,
    /// Generation of the issuer's keys in which its key was last seen.
    keys: AtomicU64,
}

impl Remembered {
    pub(super) fn new(token: Arc<VerifiedToken>, issuer: usize, verified_at: Timestamp, keys: u64) -> Self {
        Self { token, issuer, verified_at, keys: AtomicU64::new(keys) }
    }

    /// Whether the signature need not be verified again yet. A clock that stepped back makes it so.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        self.verified_at <= now && now < self.verified_at.plus(POSITIVE_FOR)
    }

    pub(super) fn keys(&self) -> u64 {
        self.keys.load(Ordering::Acquire)
    }

    pub(super) fn seen_in(&self, keys: u64) {
        self.keys.store(keys, Ordering::Release);
    }
}

/// A refusal as remembered: it falls when the issuer's keys change.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    pub(super) error: TokenError,
    pub(super) issuer: usize,
    pub(super) keys: u64,
    at: Timestamp,
}

impl Refused {
    pub(super) fn new(error: TokenError, issuer: usize, keys: u64, at: Timestamp) -> Self {
        Self { error, issuer, keys, at }
    }

    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        self.at <= now && now < self.at.plus(NEGATIVE_FOR)
    }
}

#[derive(Clone)]
struct ByClaims;

impl Weighter<Key, Arc<Remembered>> for ByClaims {
    fn weight(&self, _: &Key, value: &Arc<Remembered>) -> u64 {
        // Claims are kept parsed, at about four times their text.
        (ENTRY_BYTES + 4 * value.token.claims_len) as u64
    }
}

/// Both stores. Those of size zero are absent.
pub(super) struct TokenCache {
    verified: Option<Cache<Key, Arc<Remembered>, ByClaims>>,
    refused: Option<Cache<Key, Refused>>,
}

impl TokenCache {
    pub(super) fn new(limits: CacheLimits) -> Self {
        let items = usize::try_from(limits.bytes / (2 * ENTRY_BYTES as u64)).unwrap_or(usize::MAX);
        Self {
            verified: (items > 0).then(|| Cache::with_weighter(items, limits.bytes, ByClaims)),
            refused: (limits.refused > 0).then(|| Cache::new(limits.refused)),
        }
    }

    pub(super) fn verified(&self, key: &Key) -> Option<Arc<Remembered>> {
        self.verified.as_ref()?.get(key)
    }

    pub(super) fn refused(&self, key: &Key) -> Option<Refused> {
        self.refused.as_ref()?.get(key)
    }

    pub(super) fn remember(&self, key: Key, value: Remembered) {
        if let Some(cache) = &self.verified {
            cache.insert(key, Arc::new(value));
        }
    }

    pub(super) fn refuse(&self, key: Key, value: Refused) {
        if let Some(cache) = &self.refused {
            cache.insert(key, value);
        }
    }

    pub(super) fn forget(&self, key: &Key) {
        if let Some(cache) = &self.verified {
            cache.remove(key);
        }
    }

    /// Verified tokens held, and their estimated bytes.
    pub(super) fn size(&self) -> (usize, u64) {
        self.verified.as_ref().map_or((0, 0), |cache| (cache.len(), cache.weight()))
    }
}
