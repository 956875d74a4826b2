//! The state a server works on: store and vault that belong together, and what changes them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Clock, Rng};
use config::Config;
use control::{OperationError, Operations};
use net::Egress;
use net::jwks::{Jwks, Timing};
use store::Store;
use vault::{MasterKey, Vault};

use super::StartError;
use crate::wire::{self, Kept};
use crate::{master_keys, references};

/// Open the store and the vault that belong together. The store makes the data directory and takes its lock: first of
/// all, so that two servers never share one.
pub(super) async fn open_state(
    config: &Config,
    create_master_key: bool,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> Result<(Store, Arc<Vault>), StartError> {
    let url = references::store_url(config)?;
    let store = Store::open(&url, &config.server.data_dir, Arc::clone(clock), Arc::clone(rng)).await?;
    let missing = |path: &Path| {
        if !create_master_key {
            return Ok(None);
        }
        let key = MasterKey::generate(&**rng)?;
        key.create_file(path)?;
        tracing::info!(path = %path.display(), "made a master key: without this file nothing in the vault can be opened");
        Ok(Some(key))
    };
    let vault = master_keys::vault(config, missing, Arc::clone(rng))?;
    master_keys::agree(&vault, &store).await?;
    Ok((store, Arc::new(vault)))
}

/// The master key is where the configuration says; the default, a bare name, lies in the data directory.
pub fn master_key_path(data_dir: &Path, configured: &Path) -> PathBuf {
    if configured == Path::new("master.key") { data_dir.join(configured) } else { configured.to_owned() }
}

/// What changes state.
pub(super) fn operations(
    config: &Arc<Config>,
    (store, vault): (&Store, &Arc<Vault>),
    (clock, rng): (&Arc<dyn Clock>, &Arc<dyn Rng>),
    (url, egress): (&str, &Egress),
) -> Operations {
    Operations::new(control::Parts {
        store: store.clone(),
        vault: Arc::clone(vault),
        clock: Arc::clone(clock),
        rng: Arc::clone(rng),
        file: Arc::clone(config),
        external_url: url.to_owned(),
    })
    .priced_by(wire::figures)
    .probed_by(Arc::new(wire::AskProviders::new(egress.clone(), Arc::clone(clock))))
}

/// What our tokens name as issuer and audience.
pub(super) fn external_url(config: &Config, bound: SocketAddr) -> String {
    let server = config::Server { listen: bound, ..config.server.clone() };
    control::external_url(&server)
}

/// Tokens can be signed from the first start on.
pub(super) async fn ensure_signing_key(operations: &Operations) -> Result<(), OperationError> {
    if operations.signing_key_ensure().await? {
        tracing::info!("made the first signing key");
    }
    Ok(())
}

/// Who fetches the keys of issuers.
pub(super) fn key_sets(egress: &Egress, store: &Store, (clock, rng): (&Arc<dyn Clock>, &Arc<dyn Rng>)) -> Arc<Jwks> {
    let (documents, kept) = (Arc::new(egress.clone()), Arc::new(Kept(store.clone())));
    Arc::new(Jwks::new(documents, kept, Arc::clone(clock), Arc::clone(rng), Timing::default()))
}
