//! The keys that sign our tokens: sealed in the store, published as a JWK Set.

use std::sync::{Arc, PoisonError, RwLock};

use base::Secret;
use proof::jose::{SigningAlg, SigningKey};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use store::{KeyState, NewSigningKey};
use vault::{Label, Purpose};

use super::{OperationError, Operations};

/// How every private signing key is labelled: a key never changes, so there is one version of it.
const VERSION: u64 = 1;

/// A signing key as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyView {
    /// Its key id: its thumbprint (RFC 7638).
    pub kid: String,
    /// Its algorithm.
    pub alg: String,
    /// `next`, `active`, `retiring` or `gone`.
    pub state: &'static str,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it began to sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<String>,
    /// When the last token it signed has expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// The keys our tokens verify with.
#[derive(Debug)]
pub struct PublishedKeys {
    /// The JWK Set as it is served: public keys only.
    pub json: String,
    /// Changes with the set.
    pub etag: String,
    /// The version of the store it was read at.
    pub version: u64,
    signer: Option<SigningKey>,
}

/// What was last read from the store, good until the store's version grows.
#[derive(Debug, Default)]
pub(super) struct Cache(RwLock<Option<Arc<PublishedKeys>>>);

impl PublishedKeys {
    /// The key that signs, once there is one.
    pub(super) fn signer(&self) -> Option<&SigningKey> {
        self.signer.as_ref()
    }
}

impl Operations {
    /// Make sure that there is a key that signs; whether one had to be made.
    pub async fn signing_key_ensure(&self) -> Result<bool, OperationError> {
        let _changing = self.changing().await;
        let keys = self.store.signing_keys().list().await?;
        if keys.iter().any(|key| key.state == KeyState::Active) {
            return Ok(false);
        }
        let kid = match keys.into_iter().find(|key| key.state == KeyState::Next) {
            // Left by a start that was interrupted between the two steps.
            Some(waiting) => waiting.kid,
            None => self.signing_key_insert().await?,
        };
        let now = self.clock.now();
        self.store.signing_keys().activate(&kid, now).await?;
        tracing::info!(target: "audit", by = "vouchgate", kid, "signing key created");
        Ok(true)
    }

    async fn signing_key_insert(&self) -> Result<String, OperationError> {
        let key = SigningKey::generate(SigningAlg::Es256)?;
        let label = Label::new(self.store.tenant(), Purpose::SigningKey, key.kid(), VERSION);
        let sealed = self.vault.seal(&label, key.to_pkcs8()?.expose())?;
        let new = NewSigningKey {
            kid: key.kid().to_owned(),
            alg: key.alg().name().to_owned(),
            public_jwk: key.public_jwk().to_string(),
            sealed,
            not_before: self.clock.now(),
        };
        Ok(self.store.signing_keys().insert(new).await?.kid)
    }

    /// All signing keys, oldest first.
    pub async fn key_list(&self) -> Result<Vec<KeyView>, OperationError> {
        Ok(self.store.signing_keys().list().await?.iter().map(view).collect())
    }

    /// The keys our tokens verify with: what `/.well-known/jwks.json` serves, and what the data plane verifies our own
    /// tokens with.
    pub async fn published_keys(&self) -> Result<Arc<PublishedKeys>, OperationError> {
        // Read before the keys: a change in between makes the next call read again.
        let version = self.store.version();
        let cached = self.signing.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(cached) = cached.filter(|cached| cached.version == version) {
            return Ok(cached);
        }
        let keys = Arc::new(self.read_keys(version).await?);
        *self.signing.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&keys));
        Ok(keys)
    }

    async fn read_keys(&self, version: u64) -> Result<PublishedKeys, OperationError> {
        let mut public: Vec<Value> = Vec::new();
        let mut signer = None;
        for stored in self.store.signing_keys().list().await? {
            if stored.state == KeyState::Gone {
                continue;
            }
            let jwk = serde_json::from_str(&stored.public_jwk).map_err(|_| store::StoreError::Row("not a JWK"))?;
            public.push(jwk);
            if let (KeyState::Active, Some(sealed)) = (stored.state, &stored.sealed) {
                let label = Label::new(self.store.tenant(), Purpose::SigningKey, &stored.kid, VERSION);
                let pkcs8: Secret<Vec<u8>> = self.vault.open(&label, sealed)?;
                signer = Some(SigningKey::from_pkcs8(SigningAlg::Es256, &pkcs8)?);
            }
        }
        let json = json!({ "keys": public }).to_string();
        Ok(PublishedKeys { etag: super::resources::digest(&json), json, version, signer })
    }
}

fn view(key: &store::SigningKey) -> KeyView {
    KeyView {
        kid: key.kid.clone(),
        alg: key.alg.clone(),
        state: key.state.as_str(),
        created_at: key.created_at.rfc3339(),
        activated_at: key.activated_at.map(base::Timestamp::rfc3339),
        expires_at: key.expires_at.map(base::Timestamp::rfc3339),
    }
}
