//! Access tokens: which issuer, which key, which claims, and for how long the verdict holds.
//!
//! [`Issuers::verify`] is the whole of it: the shape of the token, its issuer by the exact `iss`, the issuer's key
//! by the exact `kid`, the signature, the claims (RFC 7519, RFC 9068, RFC 8725), and a cache of verdicts whose time,
//! configuration and key are checked on every use.

mod cache;
mod claims;
mod error;
mod preset;
mod rules;
mod verified;
mod verify;

pub use cache::CacheLimits;
pub use claims::Identity;
pub(crate) use claims::date;
pub use error::{ClaimProblem, TokenError};
pub use preset::Preset;
pub use rules::{ClaimMapping, ClaimPath, IssuerRules, MAX_LEEWAY, Requirement, RulesError, TypRule};
pub use verified::{Confirmation, VerifiedToken};
pub use verify::{Issuer, Issuers};

use std::sync::Arc;

use crate::jose::KeySet;

/// Where an issuer's keys come from. Never blocks and never fetches.
pub trait KeySource: Send + Sync {
    /// The current set; `None` when there never was one.
    fn keys(&self) -> Option<Arc<KeySet>>;

    /// A number that changes whenever [`KeySource::keys`] does.
    fn generation(&self) -> u64;
}

/// Keys that do not change while the configuration stands: a file, a shared secret.
#[derive(Debug, Clone)]
pub struct StaticKeys(Arc<KeySet>);

impl StaticKeys {
    /// These keys.
    pub fn new(keys: KeySet) -> Self {
        Self(Arc::new(keys))
    }
}

impl KeySource for StaticKeys {
    fn keys(&self) -> Option<Arc<KeySet>> {
        Some(Arc::clone(&self.0))
    }

    fn generation(&self) -> u64 {
        0
    }
}
