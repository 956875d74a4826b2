//! Replacing the value of a secret while it is used: the new value is tried at the provider before it is used, and the old
//! one is kept for a while.

use std::fmt::Debug;

use base::{Name, Secret, Timestamp};
use config::{Config, Provider, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{SecretVersion, Slot, StoreError};

use super::secrets::{SecretView, Value, check_value, no_secret};
use super::{OperationError, Operations, lifetime, origin_of};
use crate::admin::Pending;

/// Asks providers whether they accept a key. The binary implements it.
pub trait KeyProbe: Debug + Send + Sync {
    /// What `provider` says of `key`: it is sent to the provider's own address and nowhere else.
    fn probe<'a>(&'a self, provider: &'a Provider, key: &'a Secret<String>)
    -> Pending<'a, Result<String, NotAccepted>>;
}

/// A provider does not accept a key, or it cannot be found out whether it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAccepted {
    /// Whether the provider said so.
    pub refused: bool,
    /// What was seen, and what to do. Nothing of the key.
    pub message: String,
}

/// A value to follow the one in use.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// The value: text of at most 64 KiB without control characters.
    #[schemars(with = "String")]
    value: Value,
    /// Whether the providers that use it are asked first whether they accept it; if one does not, nothing changes.
    #[serde(default = "yes")]
    probe: bool,
    /// Only keep it as the next value: used where the current one is refused, until it is activated.
    #[serde(default)]
    next: bool,
    /// For how long the old value is used where the new one is refused: `1h`, or `0s`. Absent: `[rotation] keep_old`.
    #[serde(default)]
    keep_old: Option<String>,
    /// The origin stays; to change it the secret has to be set.
    #[serde(default)]
    origin: Option<String>,
}

const fn yes() -> bool {
    true
}

impl Debug for RotateSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RotateSecret").field("probe", &self.probe).field("next", &self.next).finish_non_exhaustive()
    }
}

/// How the next value becomes the current one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ActivateSecret {
    /// For how long the old value is used where the new one is refused: `1h`, or `0s`. Absent: `[rotation] keep_old`.
    keep_old: Option<String>,
}

/// Which value is forgotten.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetireSecret {
    /// `old` or `next`.
    slot: Slots,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Slots {
    Old,
    Next,
}

/// A value of a secret beside the current one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SlotView {
    /// `next`, or `old`.
    pub slot: &'static str,
    /// Which value it is, from 1.
    pub version: u64,
    /// Tells two values apart.
    pub fingerprint: String,
    /// Its last four characters, where it is long enough to spare them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last4: Option<String>,
    /// When the value was set (RFC 3339).
    pub created_at: String,
    /// When it is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retires_at: Option<String>,
}

impl SlotView {
    pub(super) fn of(version: SecretVersion) -> Option<Self> {
        (version.slot != Slot::Current).then(|| Self {
            slot: version.slot.as_str(),
            version: version.version,
            fingerprint: version.fingerprint,
            last4: version.hint,
            created_at: version.created_at.rfc3339(),
            retires_at: version.retire_at.map(Timestamp::rfc3339),
        })
    }
}

impl Operations {
    /// Have providers asked whether they accept a key before it is used.
    #[must_use]
    pub fn probed_by(self, probe: std::sync::Arc<dyn KeyProbe>) -> Self {
        Self { probe: Some(probe), ..self }
    }

    /// Replace the value of a secret that is there; the origin stays. Whoever began with the old value ends with it, and
    /// where the new one is refused the old one is used for a while. Changes nothing if a provider does not accept it.
    pub async fn secret_rotate(&self, name: &str, set: &RotateSecret, by: &str) -> Result<SecretView, OperationError> {
        let name = Name::new(name).map_err(|_| no_secret(name))?;
        if set.origin.is_some() {
            return Err(OperationError::value("origin", "a rotation keeps the origin; set the secret to change it"));
        }
        let keep = self.keep_old(set.keep_old.as_deref())?;
        check_value(set.value.text())?;
        let before = self.store.secrets().current(&name).await?.ok_or_else(|| no_secret(name.as_str()))?;
        // Without holding up other changes: a provider may take seconds.
        let probed = if set.probe { self.probed(&name, set.value.secret(), &before).await? } else { None };
        let _changing = self.changing().await;
        let current = self.store.secrets().current(&name).await?.ok_or_else(|| no_secret(name.as_str()))?;
        if current.version != before.version || current.origin != before.origin {
            return Err(OperationError::Stale("secret"));
        }
        let new = self.sealed_secret(&name, set.value.text(), current.origin, by).await?;
        let version = new.version;
        let secrets = self.store.secrets();
        match (set.next, keep) {
            (true, _) => secrets.stage(new).await?,
            (false, Some(until)) => secrets.replace(new, until).await?,
            (false, None) => secrets.put(new).await?,
        };
        let slot = if set.next { "next" } else { "current" };
        let probed = probed.as_deref().unwrap_or("not asked");
        tracing::info!(target: "audit", by, secret = %name, version, slot, probed, "secret rotated");
        let mut shown = self.secret_show(name.as_str()).await?;
        shown.probed = Some(probed.to_owned());
        Ok(shown)
    }

    /// Make the next value the current one.
    pub async fn secret_activate(
        &self,
        name: &str,
        activate: &ActivateSecret,
        by: &str,
    ) -> Result<SecretView, OperationError> {
        let name = Name::new(name).map_err(|_| no_secret(name))?;
        let keep = self.keep_old(activate.keep_old.as_deref())?;
        let _changing = self.changing().await;
        let versions = self.store.secrets().versions(&name).await?;
        if versions.is_empty() {
            return Err(no_secret(name.as_str()));
        }
        let next = versions.iter().find(|version| version.slot == Slot::Next).ok_or_else(|| {
            OperationError::NotAllowed(format!("the secret {name} has no next value; give one: secret rotate --next"))
        })?;
        self.store.secrets().activate(&name, next.version, keep).await?;
        tracing::info!(target: "audit", by, secret = %name, version = next.version, "the next value of a secret is in use");
        self.secret_show(name.as_str()).await
    }

    /// Forget the old value, or the next one.
    pub async fn secret_retire(
        &self,
        name: &str,
        retire: &RetireSecret,
        by: &str,
    ) -> Result<SecretView, OperationError> {
        let name = Name::new(name).map_err(|_| no_secret(name))?;
        let slot = match retire.slot {
            Slots::Old => Slot::Old,
            Slots::Next => Slot::Next,
        };
        let _changing = self.changing().await;
        if self.store.secrets().current(&name).await?.is_none() {
            return Err(no_secret(name.as_str()));
        }
        match self.store.secrets().retire(&name, slot).await {
            Err(StoreError::Missing(_)) => {
                let which = slot.as_str();
                return Err(OperationError::NotAllowed(format!("the secret {name} has no {which} value")));
            }
            other => other?,
        }
        tracing::info!(target: "audit", by, secret = %name, slot = slot.as_str(), "a value of a secret is forgotten");
        self.secret_show(name.as_str()).await
    }

    /// Until when an old value is kept; `None`: not at all.
    fn keep_old(&self, asked: Option<&str>) -> Result<Option<Timestamp>, OperationError> {
        let keep = match asked {
            Some("0" | "0s") => return Ok(None),
            Some(text) => lifetime("keep_old", Some(text), "24h")?,
            None => self.file().rotation.keep_old.duration(),
        };
        Ok(Some(self.clock.now().plus(keep)))
    }

    /// Ask every provider whose key the secret is. What they say, or nothing where there is none to ask.
    async fn probed(
        &self,
        name: &Name,
        value: &Secret<String>,
        before: &SecretVersion,
    ) -> Result<Option<String>, OperationError> {
        let Some(probe) = &self.probe else { return Ok(None) };
        let config = self.current_config().await?;
        let mut said = Vec::new();
        for provider in keyed_by(&config, name) {
            let origin = provider.base().and_then(|base| origin_of(&base));
            if origin != before.origin {
                let message = format!(
                    "the secret {name} is bound to another origin than provider {}; set it again for that one",
                    provider.name
                );
                return Err(OperationError::NotAllowed(message));
            }
            match probe.probe(provider, value).await {
                Ok(answer) => said.push(format!("{}: {answer}", provider.name)),
                Err(NotAccepted { refused, message }) => {
                    let message = format!("provider {}: {message}; nothing was changed", provider.name);
                    return Err(OperationError::Probe { refused, message });
                }
            }
        }
        Ok((!said.is_empty()).then(|| said.join(", ")))
    }
}

/// The providers that send this secret as their key. What only signs cannot be tried alone: its access key id changes with it.
fn keyed_by<'a>(config: &'a Config, name: &Name) -> Vec<&'a Provider> {
    let is = |reference: &SecretRef| matches!(reference, SecretRef::Secret(other) if other == name);
    let keyed = |provider: &&Provider| {
        provider.key_refs().iter().any(|key| !key.signs && (is(key.reference) || key.next.is_some_and(is)))
    };
    config.providers.iter().filter(keyed).collect()
}
