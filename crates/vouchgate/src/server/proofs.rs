//! What knows proofs of possession again: one for every endpoint of the origin, since a proof fits only one of them but a
//! client has one nonce for all.

use std::sync::Arc;

use base::{Clock, Rng, Secret};
use config::Config;
use proof::dpop::{DEFAULT_NONCE_SLOT, Nonces};
use store::{MemoryReplay, Replay, Store, StoredReplay};
use vault::{HashPurpose, Vault};

/// Which proofs were used, and which nonces are ours.
#[derive(Debug)]
pub(super) struct Proofs {
    pub(super) replay: Arc<dyn Replay>,
    pub(super) nonces: Arc<Nonces>,
}

impl Proofs {
    /// Of one node: none used so far, and nonces that no other process and no earlier start has given out. Of several: what
    /// was used on any of them, and the same nonces on all.
    pub(super) fn new(
        config: &Config,
        (store, vault): (&Store, &Vault),
        (clock, rng): (&Arc<dyn Clock>, &dyn Rng),
    ) -> Self {
        if store.is_shared() {
            let key = Secret::new(vault.keyed_hash(HashPurpose::Shared, b"dpop nonces"));
            let nonces = Arc::new(Nonces::of_many(&key, DEFAULT_NONCE_SLOT));
            return Self { replay: Arc::new(StoredReplay::new(store.clone())), nonces };
        }
        let entries = usize::try_from(config.dpop.replay_entries).unwrap_or(usize::MAX);
        let mut key = [0; 32];
        rng.fill(&mut key);
        Self {
            replay: Arc::new(MemoryReplay::new(Arc::clone(clock), entries)),
            nonces: Arc::new(Nonces::new(&Secret::new(key), DEFAULT_NONCE_SLOT)),
        }
    }
}
