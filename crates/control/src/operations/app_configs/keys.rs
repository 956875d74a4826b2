//! The keys that sign what apps are told. Root keys vouch for them, and are never here.

use std::path::Path;

use base::{Secret, Timestamp};
use config::Config;
use proof::app_config::verify_delegation;
use proof::jose::{KeySet, SigningAlg, SigningKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{ConfigKeyState, Delegated, NewConfigKey, StoreError};
use vault::{Label, Purpose};

use super::PublishError;
use crate::operations::{OperationError, Operations};

/// How every private configuration key is labelled: a key never changes, so there is one version of it.
const VERSION: u64 = 1;

/// The largest file with root keys, in bytes.
const MAX_ROOTS: u64 = 64 << 10;

/// A configuration key as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConfigKeyView {
    /// Its key id: its thumbprint (RFC 7638).
    pub kid: String,
    /// `next`, `active` or `gone`.
    pub state: &'static str,
    /// Its public half, a JWK: what a root key vouches for.
    pub public_jwk: serde_json::Value,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it began to sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<String>,
    /// Until when it may sign, as a root key says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegated_until: Option<String>,
}

/// What a root key says of a configuration key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptDelegation {
    /// The compact JWS that `vouchgate pins delegate` prints.
    pub delegation: String,
}

impl Operations {
    /// All configuration keys, oldest first.
    pub async fn config_key_list(&self) -> Result<Vec<ConfigKeyView>, OperationError> {
        Ok(self.store.app_configs().keys().await?.iter().map(view).collect())
    }

    /// The configuration key that waits to be vouched for: made if none does.
    pub async fn config_key_next(&self, by: &str) -> Result<ConfigKeyView, OperationError> {
        let _changing = self.changing().await;
        if let Some(waiting) = self.waiting().await? {
            return Ok(waiting);
        }
        let key = SigningKey::generate(SigningAlg::Es256)?;
        let label = Label::new(self.store.tenant(), Purpose::ConfigKey, key.kid(), VERSION);
        let new = NewConfigKey {
            kid: key.kid().to_owned(),
            public_jwk: key.public_jwk().to_string(),
            sealed: self.vault.seal(&label, key.to_pkcs8()?.expose())?,
        };
        match self.store.app_configs().insert_key(new).await {
            Ok(()) => tracing::info!(target: "audit", by, kid = key.kid(), "configuration key made"),
            // Another node was faster: its key is the one.
            Err(StoreError::Exists(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.waiting().await?.ok_or(StoreError::Conflict("configuration key"))?)
    }

    async fn waiting(&self) -> Result<Option<ConfigKeyView>, OperationError> {
        let keys = self.store.app_configs().keys().await?;
        Ok(keys.iter().find(|key| key.state == ConfigKeyState::Next).map(view))
    }

    /// Take what a root key says of a configuration key of ours: it signs from now on, the one before is gone, and every app is
    /// told anew, so that none goes by the old key for longer than it asks for news.
    pub async fn config_key_accept(&self, asked: &AcceptDelegation, by: &str) -> Result<ConfigKeyView, OperationError> {
        let unusable = |message: String| OperationError::value("delegation", message);
        let kid = {
            let _changing = self.changing().await;
            let config = self.current_config().await?;
            let text = asked.delegation.trim();
            let delegation = verify_delegation(text, &roots(&config)?).map_err(|error| unusable(error.to_string()))?;
            let now = self.clock.now();
            if delegation.nbf > now || delegation.exp <= now {
                let (from, until) = (delegation.nbf.rfc3339(), delegation.exp.rfc3339());
                return Err(unusable(format!("the key may sign from {from} until {until}, which is not now")));
            }
            let kid = delegation.key.thumbprint_text();
            let keys = self.store.app_configs().keys().await?;
            let ours = keys.iter().find(|key| key.kid == kid && key.state != ConfigKeyState::Gone);
            let ours = ours.ok_or_else(|| unusable("it is about a key that is not here, or no more".to_owned()))?;
            if keys.iter().filter_map(|key| key.delegation.as_ref()).any(|known| known.at > delegation.iat) {
                let message = "a newer delegation was accepted before: apps would refuse this one";
                return Err(unusable(message.to_owned()));
            }
            let delegated = Delegated { jws: text.to_owned(), at: delegation.iat, until: delegation.exp };
            self.store.app_configs().delegate(&ours.kid, &delegated).await?;
            tracing::info!(target: "audit", by, kid, root = delegation.root, "configuration key vouched for");
            kid
        };
        for (app, error) in self.app_configs_renew(by, |_, _| true).await? {
            tracing::warn!(%app, reason = error.reason(), %error, "an app is not told anew with the new configuration key");
        }
        let keys = self.store.app_configs().keys().await?;
        let accepted = keys.iter().find(|key| key.kid == kid).map(view);
        Ok(accepted.ok_or(StoreError::Conflict("configuration key"))?)
    }

    /// The key that signs, and what a root key says of it.
    pub(super) async fn config_signer(&self) -> Result<(SigningKey, Delegated), OperationError> {
        let keys = self.store.app_configs().keys().await?;
        let active = keys.into_iter().find(|key| key.state == ConfigKeyState::Active);
        let Some((kid, sealed, delegated)) = active.and_then(|key| Some((key.kid, key.sealed?, key.delegation?)))
        else {
            let config = self.current_config().await?;
            return Err(
                if config.app_config.roots.is_empty() { PublishError::NoRoots } else { PublishError::NoKey }.into()
            );
        };
        let label = Label::new(self.store.tenant(), Purpose::ConfigKey, &kid, VERSION);
        let pkcs8: Secret<Vec<u8>> = self.vault.open(&label, &sealed)?;
        Ok((SigningKey::from_pkcs8(SigningAlg::Es256, &pkcs8)?, delegated))
    }
}

/// What is wrong with the files that `[app_config]` and `[[pins]]` name: where, and why.
pub fn pin_file_faults(config: &Config) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    for (index, path) in config.app_config.roots.iter().enumerate() {
        if let Err(error) = keys_of(path) {
            faults.push((format!("app_config.roots[{index}]"), error.to_string()));
        }
    }
    for (index, set) in config.pins.iter().enumerate() {
        if let Err(error) = super::build::next(set) {
            faults.push((format!("pins[{index}].next_file"), error.to_string()));
        }
        if let Err(error) = super::build::backups(set) {
            faults.push((format!("pins[{index}].backup_files"), error.to_string()));
        }
    }
    faults
}

/// The root keys that are built into the apps.
fn roots(config: &Config) -> Result<KeySet, PublishError> {
    if config.app_config.roots.is_empty() {
        return Err(PublishError::NoRoots);
    }
    let mut keys = Vec::new();
    for path in &config.app_config.roots {
        keys.extend(keys_of(path)?.keys().iter().cloned());
    }
    Ok(KeySet::of(keys))
}

fn keys_of(path: &Path) -> Result<KeySet, PublishError> {
    let failed = |why: String| PublishError::KeyFile { path: path.display().to_string(), why };
    let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > MAX_ROOTS {
        return Err(failed("it is too long".to_owned()));
    }
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    // Public keys only: a root key's private half has no place on a server.
    let set = KeySet::from_issuer_file(&text).map_err(|error| failed(error.to_string()))?;
    if set.keys().is_empty() {
        return Err(failed("it holds no usable public key".to_owned()));
    }
    Ok(set)
}

fn view(key: &store::ConfigKey) -> ConfigKeyView {
    ConfigKeyView {
        kid: key.kid.clone(),
        state: key.state.as_str(),
        public_jwk: serde_json::from_str(&key.public_jwk).unwrap_or_default(),
        created_at: key.created_at.rfc3339(),
        activated_at: key.activated_at.map(Timestamp::rfc3339),
        delegated_until: key.delegation.as_ref().map(|delegation| delegation.until.rfc3339()),
    }
}
