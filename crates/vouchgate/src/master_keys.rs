//! The vault of an installation: its master keys from their files, and what the store knows of them.
//!
//! The store keeps the ids of all master keys this installation ever sealed with, in their order (`vault.key_ids`). Whoever
//! opens it must hold the last of them, and whatever key long-lived values are still sealed with. Of keys that are gone it
//! keeps what hashed credentials (`vault.hash_keys.ID`), sealed; and the key of hashes that outlast them
//! (`vault.lasting_hash_key`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::Rng;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::{Config, SecretRef};
use control::operations::{HASH_KEYS, LASTING_HASH_KEY, VAULT_KEYS, known};
use store::{SealedKind, Store};
use vault::{KeyFileError, KeyId, MasterKey, Sealed, Vault};

use crate::server::{StartError, master_key_path};

/// The file of the key that seals.
pub fn file(config: &Config) -> Result<PathBuf, StartError> {
    place(config, &config.vault.key)
}

/// Read the keys the configuration names: the one that seals, and the older ones.
pub fn read(config: &Config) -> Result<(MasterKey, Vec<MasterKey>), StartError> {
    let newest = MasterKey::read_file(&file(config)?)?;
    Ok((newest, older(config)?))
}

fn older(config: &Config) -> Result<Vec<MasterKey>, StartError> {
    let read = |reference| Ok(MasterKey::read_file(&place(config, reference)?)?);
    config.vault.older.iter().map(read).collect()
}

fn place(config: &Config, reference: &SecretRef) -> Result<PathBuf, StartError> {
    let SecretRef::File(path) = reference else { return Err(StartError::MasterKeyPlace) };
    Ok(master_key_path(&config.server.data_dir, path))
}

/// The vault of these files. `missing` says what to do where there is no key file: give one, or nothing.
pub fn vault(
    config: &Config,
    missing: impl FnOnce(&Path) -> Result<Option<MasterKey>, StartError>,
    rng: Arc<dyn Rng>,
) -> Result<Vault, StartError> {
    let path = file(config)?;
    let newest = match MasterKey::read_file(&path) {
        Err(error @ KeyFileError::Missing(_)) => missing(&path)?.ok_or(error)?,
        other => other?,
    };
    Ok(Vault::with_older(newest, older(config)?, rng)?)
}

/// Make the vault and the store know each other: refuse a vault that cannot open what the store holds, note a new master key.
pub async fn agree(vault: &Vault, store: &Store) -> Result<(), StartError> {
    let newest = vault.key_id();
    let meta = store.meta();
    let first = meta.set_once("vault.key_id", &newest.to_string()).await?;
    let ids = meta.set_once(VAULT_KEYS, &first).await?;
    let mut ids = ids.split(',').filter_map(|id| id.parse::<KeyId>().ok()).collect::<Vec<_>>();
    let Some((first, last)) = ids.first().copied().zip(ids.last().copied()) else {
        return Err(StartError::OtherMasterKey);
    };
    if !vault.holds(last) {
        return Err(StartError::OtherMasterKey);
    }
    let counted = store.sealed().counts(&SealedKind::LASTING).await?;
    if let Some((id, values)) = counted.iter().find(|(id, _)| !vault.holds(*id)) {
        return Err(StartError::MasterKeyGone { id: *id, values: *values });
    }
    remember(vault, store).await?;
    lasting(vault, store).await?;
    vault.agree_on(first);
    if !ids.contains(&newest) {
        ids.push(newest);
        let text = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        meta.set(VAULT_KEYS, &text).await?;
        tracing::warn!(target: "audit", key = %newest, before = %last, "the vault seals with a new master key");
    }
    let mut hash = [0; 32];
    hash.iter_mut().zip(newest.to_string().bytes()).for_each(|(to, from)| *to = from);
    store.known_keys().seen(known::VAULT, &newest.to_string(), &[hash]).await?;
    Ok(())
}

/// Know credentials again that were hashed under keys that are gone.
async fn remember(vault: &Vault, store: &Store) -> Result<(), StartError> {
    for (name, kept) in store.meta().starting_with(HASH_KEYS).await? {
        let Some(id) = name.strip_prefix(HASH_KEYS).and_then(|id| id.parse::<KeyId>().ok()) else { continue };
        if vault.holds(id) {
            continue;
        }
        let sealed = STANDARD.decode(&kept).ok().and_then(|bytes| Sealed::from_bytes(bytes).ok());
        match sealed.map(|sealed| vault.remember(store.tenant(), id, &sealed)) {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(StartError::OtherMasterKey),
        }
    }
    Ok(())
}

/// Hash what is compared with later hashes under the key that outlasts master keys, made the first time.
async fn lasting(vault: &Vault, store: &Store) -> Result<(), StartError> {
    let meta = store.meta();
    let kept = if let Some(kept) = meta.get(LASTING_HASH_KEY).await? {
        kept
    } else {
        let new = vault.lasting_key(store.tenant())?;
        meta.set_once(LASTING_HASH_KEY, &STANDARD.encode(new.as_bytes())).await?
    };
    let sealed = STANDARD.decode(kept).ok().and_then(|bytes| Sealed::from_bytes(bytes).ok());
    Ok(vault.take_lasting(store.tenant(), &sealed.ok_or(StartError::OtherMasterKey)?)?)
}

/// The files were read again: seal with the key they name now, and go on opening what was sealed before.
pub async fn again(config: &Config, vault: &Vault, store: &Store) -> Result<(), StartError> {
    let (newest, older) = read(config)?;
    let held = std::iter::once(newest.id()).chain(older.iter().map(MasterKey::id)).all(|id| vault.holds(id));
    if newest.id() == vault.key_id() && held {
        return Ok(());
    }
    vault.adopt(newest, older)?;
    agree(vault, store).await
}
