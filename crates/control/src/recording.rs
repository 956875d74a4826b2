//! The audit log of this node: its key and its subjects' keys, kept sealed in the store, and the log itself in the data
//! directory.

use std::path::Path;
use std::sync::Arc;

use audit::disk::RealDisk;
use audit::note::NoteError;
use audit::{Announce, BoxFuture, KeyError, Log, LogError, Options, Recorder, SubjectKey, SubjectKeys};
use base::{Clock, Rng, Secret};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::{Config, OnAuditFailure};
use store::{AuditSubject, Store, StoreError};
use vault::{HashPurpose, Label, Purpose, Vault, VaultError};
use zeroize::Zeroizing;

use crate::audit_keys::AuditKeys;

/// Where the log is, within the data directory.
pub const DIRECTORY: &str = "audit";
/// The file, beside the log, that says what the log calls itself.
const ORIGIN: &str = "origin";
const VERSION: u64 = 1;

/// Why the audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its key.
    #[error("the audit log's key: {0}")]
    Key(#[from] NoteError),
    /// The store its key is in.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The vault its key is sealed by.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The file that says what the log calls itself.
    #[error("{DIRECTORY}/{ORIGIN} in the data directory: {0}")]
    Origin(#[from] std::io::Error),
    /// What is kept of the key cannot be read.
    #[error("the audit log's key in the store is damaged")]
    Damaged,
}

/// What a log is opened with.
pub struct Recording<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Where keys are kept.
    pub store: &'a Store,
    /// What seals them.
    pub vault: &'a Arc<Vault>,
    /// Time.
    pub clock: &'a Arc<dyn Clock>,
    /// Randomness.
    pub rng: &'a Arc<dyn Rng>,
}

/// Open the log the configuration asks for; nothing is recorded where it asks for none. Blocks for as long as the end of an
/// earlier log takes to be read.
pub async fn open(what: Recording<'_>, announce: Option<Announce>) -> Result<Recorder, RecordingError> {
    let Recording { config, store, vault, clock, rng } = what;
    if !config.audit.enabled {
        return Ok(Recorder::off());
    }
    let dir = config.server.data_dir.join(DIRECTORY);
    let origin = origin(config, &dir, &**rng)?;
    let keys = AuditKeys { store, vault, rng };
    let signers = keys.signers(&origin).await?;
    let options = Options { announce, retention: Some(config.audit.retention.duration()), ..Options::default() };
    let log = Log::open(Arc::new(RealDisk), &dir, signers, Arc::clone(clock), options)?;
    let subjects = StoreKeys { store: store.clone(), vault: Arc::clone(vault), rng: Arc::clone(rng) };
    let allow = config.audit.on_failure == OnAuditFailure::Allow;
    let recorder = Recorder::new(log, Arc::new(subjects), Arc::clone(clock), Arc::clone(rng), allow);
    if let Err(error) = keys.follow(&recorder).await {
        tracing::error!(%error, "the key of the audit log could not be replaced; this is tried again");
    }
    Ok(recorder)
}

/// What the log calls itself, from its beginning on: the host clients know, and a name for this node that no other has.
fn origin(config: &Config, dir: &Path, rng: &dyn Rng) -> std::io::Result<String> {
    use std::io::Write;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let path = dir.join(ORIGIN);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let host = config.server.external_url.as_ref().and_then(|url| url.url().host_str()).unwrap_or("localhost");
    let id = base::RequestId::new(rng);
    let node = id.as_str().get(4..16).unwrap_or_default();
    let origin = format!("{host}/audit/{node}");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
    file.write_all(format!("{origin}\n").as_bytes())?;
    file.sync_all()?;
    std::fs::File::open(dir)?.sync_all()?;
    Ok(origin)
}

/// Subjects' keys in the store.
#[derive(Debug, Clone)]
pub struct StoreKeys {
    /// Where they are.
    pub store: Store,
    /// What seals them.
    pub vault: Arc<Vault>,
    /// Where new ones come from.
    pub rng: Arc<dyn Rng>,
}

impl StoreKeys {
    /// By what a subject is found: under the newest master key, then as it may have been kept under older ones.
    pub fn lookups(vault: &Vault, issuer: &str, subject: &str) -> Vec<[u8; 32]> {
        vault.keyed_hashes(HashPurpose::AuditSubject, format!("{issuer}\0{subject}").as_bytes())
    }

    fn read(&self, row: &AuditSubject) -> Result<SubjectKey, KeyError> {
        let label = Label::new(self.store.tenant(), Purpose::AuditSubject, &row.id, VERSION);
        let opened = self.vault.open(&label, &row.sealed).map_err(|error| KeyError(error.reason()))?;
        let bytes = <[u8; 32]>::try_from(opened.expose().as_slice()).map_err(|_| KeyError("sealed_malformed"))?;
        SubjectKey::new(&row.id, &Secret::new(bytes))
    }

    async fn find_or_make(&self, issuer: &str, subject: &str) -> Result<SubjectKey, KeyError> {
        let failed = |error: StoreError| KeyError(error.reason());
        let lookups = Self::lookups(&self.vault, issuer, subject);
        for lookup in &lookups {
            if let Some(row) = self.store.audit_subjects().find(lookup).await.map_err(failed)? {
                return self.read(&row);
            }
        }
        let lookup = *lookups.first().ok_or(KeyError("vault_crypto"))?;
        let (mut name, mut secret) = ([0u8; 12], Zeroizing::new([0u8; 32]));
        self.rng.fill(&mut name);
        self.rng.fill(secret.as_mut());
        let id = URL_SAFE_NO_PAD.encode(name);
        let label = Label::new(self.store.tenant(), Purpose::AuditSubject, &id, VERSION);
        let sealed = self.vault.seal(&label, secret.as_ref()).map_err(|error| KeyError(error.reason()))?;
        let row = self.store.audit_subjects().insert(AuditSubject { lookup, id, sealed }).await.map_err(failed)?;
        self.read(&row)
    }
}

impl SubjectKeys for StoreKeys {
    fn of<'a>(&'a self, issuer: &'a str, subject: &'a str) -> BoxFuture<'a, Result<SubjectKey, KeyError>> {
        Box::pin(self.find_or_make(issuer, subject))
    }

    fn by_id<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<SubjectKey>, KeyError>> {
        Box::pin(async move {
            let row = self.store.audit_subjects().by_id(id).await.map_err(|error| KeyError(error.reason()))?;
            row.as_ref().map(|row| self.read(row)).transpose()
        })
    }
}
