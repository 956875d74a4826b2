//! The Vouchgate keys that callers show.

use std::collections::HashMap;
use std::sync::Arc;

use base::{Name, Timestamp};
use vault::{HashPurpose, Vault};

/// A Vouchgate key, as far as the data plane needs it.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// The id records name it by.
    pub id: Arc<str>,
    /// What policies call it.
    pub name: Name,
    /// The keyed hash (purpose [`HashPurpose::ApiKey`]) of the whole key, `vg_` included.
    pub hash: [u8; 32],
    /// Whom it speaks for.
    pub subject: String,
    /// Through which client.
    pub client: Option<String>,
    /// What it may ask for.
    pub scopes: Vec<String>,
    /// When it was made: what was revoked before does not concern it.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

/// The Vouchgate keys in use. A key is found by its keyed hash, so finding one says nothing about any other.
#[derive(Debug)]
pub struct KeyRing {
    vault: Arc<Vault>,
    keys: HashMap<[u8; 32], Arc<ApiKey>>,
}

impl KeyRing {
    /// A ring of these keys; revoked ones are left out by whoever builds it.
    pub fn new(vault: Arc<Vault>, keys: impl IntoIterator<Item = ApiKey>) -> Self {
        Self { vault, keys: keys.into_iter().map(|key| (key.hash, Arc::new(key))).collect() }
    }

    /// The vault that knows them.
    pub(crate) fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The key presented as this text, expired or not.
    pub(crate) fn find(&self, presented: &str) -> Option<&Arc<ApiKey>> {
        let hashes = self.vault.keyed_hashes(HashPurpose::ApiKey, presented.as_bytes());
        hashes.iter().find_map(|hash| self.keys.get(hash))
    }
}
