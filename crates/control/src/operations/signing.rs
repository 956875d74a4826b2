//! The keys that sign our tokens: sealed in the store, published as a JWK Set.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base::{Secret, Timestamp};
use proof::jose::{SigningAlg, SigningKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Cause, KeyState, NewSigningKey, OWN_ISSUER, Revoke, StoreError, TokenFacts};
use vault::{Label, Purpose};

use super::clients::MAX_TTL;
use super::{OperationError, Operations};

/// How every private signing key is labelled: a key never changes, so there is one version of it.
const VERSION: u64 = 1;

/// How far the clocks of those who verify our tokens may be behind ours.
const CLOCKS_DIFFER: Duration = Duration::from_mins(10);

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
    /// When it is to sign, while it is next (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signs_from: Option<String>,
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

/// A rotation asked for.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateKey {
    /// Sign with the next key at once, instead of publishing it for `[token] key_publish` first. Verifiers that remember
    /// our keys refuse its tokens until they have read them again.
    pub now: bool,
    /// The id of a key that others may have: it and all it signed are refused from now on.
    pub compromised: Option<String>,
    /// Why, for the record.
    pub reason: Option<String>,
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
            None => self.signing_key_insert(self.clock.now()).await?,
        };
        let now = self.clock.now();
        match self.store.signing_keys().activate(&kid, now).await {
            Ok(_) => {}
            // Another node was faster.
            Err(StoreError::Conflict(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        tracing::info!(target: "audit", by = "vouchgate", kid, "signing key created");
        Ok(true)
    }

    /// Replace the key that signs: the next one is published now, and signs once it was published for
    /// `[token] key_publish`, or at once where asked. The old one verifies until its last token has expired.
    ///
    /// `in_force` waits until what was written so far is in force, so that no token of a new key comes to a data plane
    /// that does not know it.
    pub async fn key_rotate<F>(
        &self,
        rotate: &RotateKey,
        in_force: impl Fn() -> F,
        by: &str,
    ) -> Result<Vec<KeyView>, OperationError>
    where
        F: Future<Output = ()>,
    {
        if let Some(kid) = &rotate.compromised {
            self.key_compromised(kid, rotate.reason.as_deref().unwrap_or("signing key compromised"), in_force, by)
                .await?;
            return self.key_list().await;
        }
        let next = self.key_publish(by).await?;
        if rotate.now {
            in_force().await;
            self.key_activate(&next, by).await?;
        }
        self.key_list().await
    }

    /// What goes on by itself: publish the next key in time, let it sign when it was published long enough, erase keys
    /// whose last token has expired. To be called every minute or so.
    pub async fn keys_maintain(&self) -> Result<(), OperationError> {
        self.store.signing_keys().erase_expired().await?;
        let (now, token) = (self.clock.now(), self.file().token.clone());
        let keys = self.store.signing_keys().list().await?;
        let Some(active) = keys.iter().find(|key| key.state == KeyState::Active) else {
            return self.signing_key_ensure().await.map(drop);
        };
        let facts = TokenFacts { issuer: OWN_ISSUER, kid: Some(&active.kid), ..TokenFacts::default() };
        if self.store.revoked().check(&facts) == Some(Cause::Key) {
            // Called compromised, then interrupted before another could sign.
            return self.key_compromised(&active.kid, "signing key compromised", async || (), "vouchgate").await;
        }
        let age = now.since(active.activated_at.unwrap_or(active.created_at));
        match keys.iter().find(|key| key.state == KeyState::Next) {
            Some(next) if next.not_before <= now => match self.key_activate(&next.kid, "vouchgate").await {
                // Another node was faster.
                Err(error) if error.reason() == "conflict" => Ok(()),
                done => done,
            },
            None if age.saturating_add(token.key_publish.duration()) >= token.key_lifetime.duration() => {
                self.key_publish("vouchgate").await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Publish the next key, unless one waits already; its id.
    async fn key_publish(&self, by: &str) -> Result<String, OperationError> {
        let _changing = self.changing().await;
        let keys = self.store.signing_keys().list().await?;
        if let Some(next) = keys.into_iter().find(|key| key.state == KeyState::Next) {
            return Ok(next.kid);
        }
        let signs_from = self.clock.now().plus(self.file().token.key_publish.duration());
        let kid = self.signing_key_insert(signs_from).await?;
        tracing::info!(target: "audit", by, kid, signs_from = signs_from.rfc3339(), "next signing key published");
        Ok(kid)
    }

    /// Let the next key sign from now on.
    async fn key_activate(&self, kid: &str, by: &str) -> Result<(), OperationError> {
        let _changing = self.changing().await;
        let last_token = self.clock.now().plus(MAX_TTL).plus(CLOCKS_DIFFER);
        self.store.signing_keys().activate(kid, last_token).await?;
        tracing::info!(target: "audit", by, kid, "signing key rotated");
        Ok(())
    }

    /// End a key that others may have. Its tokens are refused when this returns, whatever time they name.
    async fn key_compromised<F>(
        &self,
        kid: &str,
        reason: &str,
        in_force: impl Fn() -> F,
        by: &str,
    ) -> Result<(), OperationError>
    where
        F: Future<Output = ()>,
    {
        let keys = self.store.signing_keys().list().await?;
        let key = keys.iter().find(|key| key.kid == kid && key.state != KeyState::Gone);
        let key = key.ok_or_else(|| OperationError::NotFound { kind: "signing key", name: kid.to_owned() })?;
        let successor = match key.state {
            KeyState::Active => {
                // What it signed is refused at once; that it goes on signing for the moment it takes until its successor is
                // known harms nobody but the clients who have to ask again.
                let what = Revoke::Key { issuer: OWN_ISSUER.to_owned(), kid: kid.to_owned() };
                self.revoke_now(vec![what], (self.store.revocations().now(), by), reason).await?;
                let next = self.key_publish(by).await?;
                in_force().await;
                Some(next)
            }
            _ => None,
        };
        let _changing = self.changing().await;
        self.store.signing_keys().compromised(kid, successor.as_deref(), by, reason).await?;
        tracing::warn!(target: "audit", by, kid, reason, "signing key compromised: it and all it signed are refused");
        Ok(())
    }

    async fn signing_key_insert(&self, not_before: Timestamp) -> Result<String, OperationError> {
        let key = SigningKey::generate(SigningAlg::Es256)?;
        let label = Label::new(self.store.tenant(), Purpose::SigningKey, key.kid(), VERSION);
        let sealed = self.vault.seal(&label, key.to_pkcs8()?.expose())?;
        let new = NewSigningKey {
            kid: key.kid().to_owned(),
            alg: key.alg().name().to_owned(),
            public_jwk: key.public_jwk().to_string(),
            sealed,
            not_before,
        };
        match self.store.signing_keys().insert(new).await {
            Ok(key) => Ok(key.kid),
            Err(error @ StoreError::Exists(_)) => {
                // Another node was faster: its key is the next one.
                let keys = self.store.signing_keys().list().await?;
                let of = |state| keys.iter().find(|key| key.state == state).map(|key| key.kid.clone());
                Ok(of(KeyState::Next).or_else(|| of(KeyState::Active)).ok_or(error)?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// All signing keys, oldest first.
    pub async fn key_list(&self) -> Result<Vec<KeyView>, OperationError> {
        Ok(self.store.signing_keys().list().await?.iter().map(view).collect())
    }

    /// One of the keys that sign our tokens, or did.
    pub async fn key_show(&self, kid: &str) -> Result<KeyView, OperationError> {
        let found = self.key_list().await?.into_iter().find(|key| key.kid == kid);
        found.ok_or_else(|| OperationError::NotFound { kind: "signing key", name: kid.to_owned() })
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
        signs_from: (key.state == KeyState::Next).then(|| key.not_before.rfc3339()),
        activated_at: key.activated_at.map(Timestamp::rfc3339),
        expires_at: key.expires_at.map(Timestamp::rfc3339),
    }
}
