//! What several nodes share beside the database, and what knows proofs of possession again: one for every endpoint of the
//! origin, since a proof fits only one of them but a client has one nonce for all.

use std::sync::Arc;

use base::{Clock, Rng, Secret};
use config::Config;
use gateway::FleetLimits;
use proof::dpop::{DEFAULT_NONCE_SLOT, Nonces};
use store::{MemoryReplay, Replay, SharedError, SharedState, Store, StoredReplay};
use vault::{HashPurpose, Vault};

use super::StartError;
use crate::references;

/// Which proofs were used, and which nonces are ours.
#[derive(Debug)]
pub(super) struct Proofs {
    pub(super) replay: Arc<dyn Replay>,
    pub(super) nonces: Arc<Nonces>,
}

/// The state nodes share beside the database, if the configuration names one.
pub(super) fn shared_state(config: &Config, rng: &dyn Rng) -> Result<Option<SharedState>, StartError> {
    Ok(references::shared_state(config, rng)?)
}

/// One that does not answer is waited for while requests go on without; one that never will is no place to start at.
pub(super) async fn look_at(shared: Option<&SharedState>) -> Result<(), StartError> {
    let Some(shared) = shared else { return Ok(()) };
    match shared.check().await {
        Err(error @ SharedError::Cluster) => Err(StartError::Shared(error)),
        Err(_) => Ok(()),
        Ok(risks) => {
            for risk in risks {
                tracing::warn!(risk, "the shared state is risky");
            }
            Ok(())
        }
    }
}

/// Limits that are counted there.
pub(super) fn fleet_limits(shared: Option<&SharedState>, vault: &Vault) -> Option<FleetLimits> {
    let key = Secret::new(vault.keyed_hash(HashPurpose::Shared, b"limits"));
    shared.map(|shared| FleetLimits::new(Arc::new(shared.clone()), &key))
}

impl Proofs {
    /// Of one node: none used so far, and nonces that no other process and no earlier start has given out. Of several: what
    /// was used on any of them, and the same nonces on all.
    pub(super) async fn new(
        config: &Config,
        (store, shared, vault): (&Store, Option<&SharedState>, &Vault),
        (clock, rng): (&Arc<dyn Clock>, &dyn Rng),
    ) -> Self {
        if store.is_shared() {
            let key = Secret::new(vault.keyed_hash(HashPurpose::Shared, b"dpop nonces"));
            let nonces = Arc::new(Nonces::of_many(&key, DEFAULT_NONCE_SLOT));
            let replay: Arc<dyn Replay> = match shared {
                None => Arc::new(StoredReplay::new(store.clone())),
                Some(shared) => {
                    let renewing = Arc::clone(&nonces);
                    let renewed = Box::new(move |memory| renewing.renew(memory));
                    Arc::new(shared.replay((Arc::clone(clock), rng), renewed).await)
                }
            };
            return Self { replay, nonces };
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
