//! Sealing everything anew under the newest master key, while the vault is used.
//!
//! Every step is whole: killed between two, everything opens as before, and the next run goes on where this one ended.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Serialize;
use store::{SealedKind, SealedRow};
use vault::{KeyId, Label, Purpose, Sealed};

use super::rotation::{RotationView, known};
use super::{OperationError, Operations};
use crate::audit_keys::AUDIT_KEYS;
use config::Config;

/// Where the store keeps the ids of all master keys this installation sealed with, in their order.
pub const VAULT_KEYS: &str = "vault.key_ids";
/// Where it keeps what hashed credentials under a master key: this, and the key's id.
pub const HASH_KEYS: &str = "vault.hash_keys.";
/// Where it keeps the key of hashes that outlast master keys.
pub const LASTING_HASH_KEY: &str = "vault.lasting_hash_key";

/// How many values are sealed anew in one step.
const STEP: u32 = 100;
/// The most steps of one kind: more values than anybody has.
const MOST_STEPS: u32 = 100_000;

/// What was sealed anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RewrapView {
    /// The id of the master key that seals.
    pub key: String,
    /// How many values were sealed anew with it.
    pub resealed: u64,
    /// How many values other master keys have sealed still: those that are gone by themselves, within a day.
    pub left: Vec<SealedBy>,
}

/// What one master key has sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SealedBy {
    /// The key's id.
    pub key: String,
    /// How many values.
    pub values: u64,
}

impl Operations {
    /// Seal everything anew that another master key than the newest has sealed.
    pub async fn vault_rewrap(&self, by: &str) -> Result<RewrapView, OperationError> {
        let key = self.vault.key_id();
        // First of all: without it nobody is known by a credential once the old key is gone.
        let mut resealed = self.keep_hash_keys(key).await?;
        resealed += self.rewrap_lasting(key).await?;
        resealed += self.rewrap_audit_keys(key).await?;
        for kind in SealedKind::LASTING {
            for _ in 0..MOST_STEPS {
                let (found, put) = self.rewrap_step(kind, key, STEP).await?;
                resealed += put;
                if found == 0 {
                    break;
                }
            }
        }
        let left = self.sealed_by_others(key).await?;
        tracing::info!(target: "audit", by, %key, resealed, "the vault's values are sealed with the newest master key");
        Ok(RewrapView { key: key.to_string(), resealed, left })
    }

    /// One step; how many values there were to seal anew, and how many were.
    async fn rewrap_step(&self, kind: SealedKind, key: KeyId, limit: u32) -> Result<(usize, u64), OperationError> {
        let rows = self.store.sealed().other_than(kind, key, limit).await?;
        let found = rows.len();
        let mut anew = Vec::with_capacity(found);
        for row in rows {
            let sealed = self.anew(kind.purpose(), &row)?;
            anew.push((row, sealed));
        }
        Ok((found, self.store.sealed().replace(kind, anew).await?))
    }

    fn anew(&self, purpose: Purpose, row: &SealedRow) -> Result<Sealed, OperationError> {
        let label = Label::new(self.store.tenant(), purpose, &row.name, row.version).origin(row.origin.as_deref());
        let value = self.vault.open(&label, &row.sealed)?;
        Ok(self.vault.seal(&label, value.expose())?)
    }

    /// Keep what hashed credentials under every other master key that is held, sealed with the newest.
    async fn keep_hash_keys(&self, key: KeyId) -> Result<u64, OperationError> {
        let (mut put, tenant, meta) = (0, self.store.tenant(), self.store.meta());
        let kept = meta.starting_with(HASH_KEYS).await?;
        for (name, text) in &kept {
            let sealed = sealed_of(text)?;
            let Some(id) = name.strip_prefix(HASH_KEYS) else { continue };
            if sealed.key_id()? == key {
                continue;
            }
            let label = Label::new(tenant, Purpose::HashKeys, id, 1);
            let anew = self.vault.seal(&label, self.vault.open(&label, &sealed)?.expose())?;
            put += u64::from(meta.replace(name, text, &STANDARD.encode(anew.as_bytes())).await?);
        }
        for id in self.vault.older_ids() {
            let name = format!("{HASH_KEYS}{id}");
            if kept.iter().any(|(known, _)| *known == name) {
                continue;
            }
            if let Some(sealed) = self.vault.hash_keys(tenant, id)? {
                let _kept = meta.set_once(&name, &STANDARD.encode(sealed.as_bytes())).await?;
                put += 1;
            }
        }
        Ok(put)
    }

    /// The key of hashes that outlast master keys.
    async fn rewrap_lasting(&self, key: KeyId) -> Result<u64, OperationError> {
        let meta = self.store.meta();
        let Some(text) = meta.get(LASTING_HASH_KEY).await? else { return Ok(0) };
        let sealed = sealed_of(&text)?;
        if sealed.key_id()? == key {
            return Ok(0);
        }
        let anew = self.vault.lasting_anew(self.store.tenant(), &sealed)?;
        Ok(u64::from(meta.replace(LASTING_HASH_KEY, &text, &STANDARD.encode(anew.as_bytes())).await?))
    }

    async fn rewrap_audit_keys(&self, key: KeyId) -> Result<u64, OperationError> {
        let mut put = 0;
        for (name, text) in self.store.meta().starting_with(AUDIT_KEYS).await? {
            let sealed = sealed_of(&text)?;
            let Some(log) = name.strip_prefix(AUDIT_KEYS) else { continue };
            if sealed.key_id()? == key {
                continue;
            }
            let row = SealedRow { name: log.to_owned(), version: 1, origin: None, sealed };
            let anew = STANDARD.encode(self.anew(Purpose::AuditKey, &row)?.as_bytes());
            put += u64::from(self.store.meta().replace(&name, &text, &anew).await?);
        }
        Ok(put)
    }

    /// How many values each other master key than `key` has sealed.
    async fn sealed_by_others(&self, key: KeyId) -> Result<Vec<SealedBy>, OperationError> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for kinds in [&SealedKind::LASTING[..], &SealedKind::PASSING[..]] {
            for (id, values) in self.store.sealed().counts(kinds).await? {
                *counts.entry(id.to_string()).or_default() += values;
            }
        }
        for beginning in [HASH_KEYS, LASTING_HASH_KEY, AUDIT_KEYS] {
            for (_, text) in self.store.meta().starting_with(beginning).await? {
                *counts.entry(sealed_of(&text)?.key_id()?.to_string()).or_default() += 1;
            }
        }
        counts.remove(&key.to_string());
        Ok(counts.into_iter().map(|(key, values)| SealedBy { key, values }).collect())
    }

    /// The vault's master keys, for the list of all keys.
    pub(super) async fn rotation_vault(&self, config: &Config) -> Result<Vec<RotationView>, OperationError> {
        let (now, key) = (self.clock.now(), self.vault.key_id());
        let known = self.store.known_keys().of_kind(known::VAULT).await?;
        let row =
            RotationView::new("vault key", key.to_string(), "current").since(known.get(&key.to_string()).copied(), now);
        let new = "make a new key file and name it in [vault]: docs/operations.md, \"The vault's master key\"";
        let mut all = vec![row.limit(config.rotation.vault_key.duration()).todo(new)];
        let left = self.sealed_by_others(key).await?;
        for id in self.vault.older_ids() {
            let id = id.to_string();
            let values = left.iter().find(|by| by.key == id).map_or(0, |by| by.values);
            let row = RotationView::new("vault key", id.as_str(), "old").since(known.get(&id).copied(), now);
            let todo = match values {
                0 => "seals nothing any more: take it out of [vault] older and restart; keep the file as long as backups of its time".to_owned(),
                _ => format!("{values} values are sealed with it: vouchgate rotate vault-key"),
            };
            all.push(row.due(values > 0).todo(todo));
        }
        Ok(all)
    }
}

fn sealed_of(text: &str) -> Result<Sealed, OperationError> {
    let bytes = STANDARD.decode(text).map_err(|_| store::StoreError::Row("not a sealed value"))?;
    Ok(Sealed::from_bytes(bytes)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vault::{HashPurpose, MasterKey, Vault};

    use super::*;
    use crate::fixture::Fixture;
    use base::{Name, SeededRng, SystemRng};
    use http::{Method, StatusCode};

    fn master() -> MasterKey {
        MasterKey::generate(&SeededRng::new(99)).unwrap()
    }

    #[tokio::test]
    async fn killed_between_any_two_steps_everything_opens_and_the_next_run_ends_it() {
        let fixture = Fixture::new().await;
        for name in ["a", "b", "c"] {
            let body = json!({ "value": format!("value of {name}"), "origin": "https://a.example" });
            fixture.owner(Method::PUT, &format!("/admin/v1/secrets/{name}"), Some(body)).await;
        }
        let made = fixture.owner(Method::POST, "/admin/v1/apikeys", Some(json!({ "name": "laptop" }))).await.json();
        let api_key = made["api_key"].as_str().unwrap().to_owned();
        let bearer = format!("Bearer {}", fixture.token("viewer").await);
        let operations = &fixture.operations;
        let (store, old) = (operations.store(), operations.vault().key_id());
        operations.vault().adopt(master(), Vec::new()).unwrap();
        let key = operations.vault().key_id();
        let opens = async || {
            for name in ["a", "b", "c"] {
                let secret = store.secrets().current(&Name::new(name).unwrap()).await.unwrap().unwrap();
                let label = Label::new(store.tenant(), Purpose::Secret, name, 1).origin(Some("https://a.example"));
                let value = operations.vault().open(&label, &secret.sealed).unwrap();
                assert!(value.matches(format!("value of {name}").as_bytes()));
            }
            let headers = [("authorization", bearer.as_str())];
            let shown = fixture.network(Method::GET, "/admin/v1/keys", ("127.0.0.1", &headers)).await;
            assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
            operations.signing_key_ensure().await.unwrap();
        };
        opens().await;
        for step in 0..4 {
            let kind = if step < 3 { SealedKind::Secret } else { SealedKind::SigningKey };
            assert_eq!(operations.rewrap_step(kind, key, 1).await.unwrap(), (1, 1), "{step}");
            opens().await;
        }
        let done = operations.vault_rewrap("test").await.unwrap();
        assert_eq!((done.key, done.left), (key.to_string(), vec![]), "what was done is not done again");
        assert_eq!(done.resealed, 1, "the hash keys of the old master key");
        assert_eq!(operations.vault_rewrap("test").await.unwrap().resealed, 0);
        // The old key is gone: secrets open, and credentials are known.
        let after = Vault::new(master(), std::sync::Arc::new(SystemRng)).unwrap();
        let hash = operations.vault().keyed_hashes(HashPurpose::ApiKey, api_key.as_bytes())[1];
        let kept = store.meta().get(&format!("{HASH_KEYS}{old}")).await.unwrap().unwrap();
        after.remember(store.tenant(), old, &sealed_of(&kept).unwrap()).unwrap();
        assert!(after.matches(HashPurpose::ApiKey, api_key.as_bytes(), &hash));
        for kind in SealedKind::LASTING {
            assert!(store.sealed().other_than(kind, key, 10).await.unwrap().is_empty(), "{kind:?}");
        }
    }
}
