//! Why a server does not start.

use std::path::PathBuf;

use control::OperationError;
use control::recording::RecordingError;
use net::EgressError;
use store::{SharedError, StoreError};
use vault::{KeyFileError, KeyId, VaultError};

use crate::listen::{ListenError, TlsError};
use crate::references::{SharedUrlError, StoreUrlError};
use crate::telemetry;
use crate::wire::BuildError;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The master key.
    #[error(transparent)]
    MasterKey(#[from] KeyFileError),
    /// `[vault] key` is not a file.
    #[error("[vault] key must be a file: the master key is never kept in a variable or in the vault itself")]
    MasterKeyPlace,
    /// A master key, but not the one this data directory was made with.
    #[error(
        "this master key is not the one the data was made with; put that one back (all nodes on one database have the same)"
    )]
    OtherMasterKey,
    /// Where the list of revoked attestation keys is.
    #[error("the address of the list of revoked attestation keys cannot be used")]
    RevocationList,
    /// Something is sealed with a master key that is not there.
    #[error(
        "{values} values are sealed with master key {id}, which is not there: name its file in [vault] older and run `vouchgate rotate vault-key`"
    )]
    MasterKeyGone {
        /// The key.
        id: KeyId,
        /// How many values.
        values: u64,
    },
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The data directory or database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Where the store is.
    #[error(transparent)]
    StoreUrl(#[from] StoreUrlError),
    /// Where what nodes share is.
    #[error(transparent)]
    SharedUrl(#[from] SharedUrlError),
    /// What is there.
    #[error("[store] shared: {0}")]
    Shared(SharedError),
    /// A certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The way out.
    #[error("the outgoing client cannot be set up: {0}")]
    Egress(#[from] EgressError),
    /// State.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The configuration, seen together with state.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Where metrics are to be sent.
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] RecordingError),
    /// The name of this node.
    #[error("the name of this node in {0} cannot be read or written: {1}")]
    NodeName(PathBuf, std::io::Error),
    /// `admin.sock`.
    #[error("admin.sock in {0} cannot be made: {1}")]
    Socket(PathBuf, std::io::Error),
}
