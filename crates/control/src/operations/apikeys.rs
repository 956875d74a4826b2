//! Vouchgate keys (`vg_...`): for tools that can only hold a static string.

use base::{Name, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{NewApiKey, Page};
use vault::HashPurpose;

use super::{Listed, Once, OperationError, Operations, checked_scopes, lifetime};
use crate::credential::{Kind, last4};

/// How long a key lives unless it is said: a static key that nobody remembers should end by itself.
const DEFAULT_LIFETIME: &str = "90d";

/// A key as it is shown: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ApiKeyView {
    /// Its id.
    pub id: String,
    /// Its name: what `who.key` of a policy matches.
    pub name: String,
    /// Its last four characters.
    pub last4: String,
    /// `live`, `expired` or `revoked`.
    pub state: &'static str,
    /// The client it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The subject it stands for.
    pub subject: String,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// Who made it.
    pub created_by: String,
    /// From when it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Since when it is revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// When it was last used, roughly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
}

/// A key to be made.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// Its name.
    pub name: String,
    /// Its scopes.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The subject it stands for. Absent: its name.
    #[serde(default)]
    pub subject: Option<String>,
    /// The client it stands for.
    #[serde(default)]
    pub client: Option<String>,
    /// How long it lives: `"90d"`, which it is when absent.
    #[serde(default)]
    pub expires: Option<String>,
}

/// A key, shown this once.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct IssuedApiKey {
    /// What is shown of it later too.
    #[serde(flatten)]
    pub key: ApiKeyView,
    /// The key: `vg_` and 43 characters.
    pub api_key: Once,
}

impl Operations {
    /// Make a key.
    pub async fn apikey_create(&self, new: &CreateApiKey, by: &str) -> Result<IssuedApiKey, OperationError> {
        let name = Name::new(&new.name).map_err(OperationError::name("name"))?;
        let client = new.client.as_deref().map(Name::new).transpose().map_err(OperationError::name("client"))?;
        let scopes = checked_scopes(&new.scopes)?;
        let expires = lifetime("expires", new.expires.as_deref(), DEFAULT_LIFETIME)?;
        let subject = new.subject.clone().unwrap_or_else(|| name.to_string());
        if subject.is_empty() || subject.len() > 256 || subject.chars().any(char::is_control) {
            return Err(OperationError::value(
                "subject",
                "a subject is 1 to 256 bytes of text without control characters",
            ));
        }
        let _changing = self.changing().await;
        self.name_is_free(&name).await?;
        let key = Kind::ApiKey.generate(&*self.rng);
        let new = NewApiKey {
            name: name.clone(),
            hash: self.vault.keyed_hash(HashPurpose::ApiKey, key.expose().as_bytes()),
            hint: last4(key.expose()).unwrap_or_default(),
            client,
            subject,
            scopes,
            expires_at: Some(self.clock.now().plus(expires)),
            created_by: by.to_owned(),
        };
        let stored = match self.store.api_keys().create(new).await {
            Err(store::StoreError::Exists(_)) => {
                return Err(OperationError::Exists { kind: "key", name: name.to_string() });
            }
            other => other?,
        };
        tracing::info!(target: "audit", by, key = %name, id = stored.id, "key created");
        Ok(IssuedApiKey { key: view(&stored, self.clock.now()), api_key: Once(key) })
    }

    /// All keys, in no particular order.
    pub async fn apikey_list(&self, page: &Page) -> Result<Listed<ApiKeyView>, OperationError> {
        let (listed, now) = (self.store.api_keys().list(page).await?, self.clock.now());
        Ok(Listed { items: listed.items.iter().map(|key| view(key, now)).collect(), next: listed.next })
    }

    /// The key with that id, or the live one with that name.
    pub async fn apikey_show(&self, id_or_name: &str) -> Result<ApiKeyView, OperationError> {
        let by_id = self.store.api_keys().get(id_or_name).await?;
        let found = match by_id {
            Some(key) => Some(key),
            None => self.store.api_keys().live().await?.into_iter().find(|key| key.name.as_str() == id_or_name),
        };
        found.map(|key| view(&key, self.clock.now())).ok_or_else(|| no_key(id_or_name))
    }

    /// Refuse a key from now on.
    pub async fn apikey_revoke(&self, id_or_name: &str, by: &str) -> Result<ApiKeyView, OperationError> {
        let _changing = self.changing().await;
        let stored = match self.store.api_keys().revoke(id_or_name).await {
            Err(store::StoreError::Missing(_)) => return Err(no_key(id_or_name)),
            other => other?,
        };
        tracing::info!(target: "audit", by, key = %stored.name, id = stored.id, "key revoked");
        Ok(view(&stored, self.clock.now()))
    }

    /// A name whose key has expired is free again; the store keeps it taken until it is revoked.
    async fn name_is_free(&self, name: &Name) -> Result<(), OperationError> {
        let live = self.store.api_keys().live().await?;
        if live.iter().any(|key| key.name == *name) {
            return Err(OperationError::Exists { kind: "key", name: name.to_string() });
        }
        match self.store.api_keys().revoke(name.as_str()).await {
            Ok(_) | Err(store::StoreError::Missing(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn view(key: &store::ApiKey, now: Timestamp) -> ApiKeyView {
    let state = match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(end)) if end <= now => "expired",
        _ => "live",
    };
    ApiKeyView {
        id: key.id.clone(),
        name: key.name.to_string(),
        last4: key.hint.clone(),
        state,
        client: key.client.as_ref().map(Name::to_string),
        subject: key.subject.clone(),
        scopes: key.scopes.clone(),
        created_at: key.created_at.rfc3339(),
        created_by: key.created_by.clone(),
        expires_at: key.expires_at.map(Timestamp::rfc3339),
        revoked_at: key.revoked_at.map(Timestamp::rfc3339),
        last_used_at: key.last_used_at.map(Timestamp::rfc3339),
    }
}

fn no_key(name: &str) -> OperationError {
    OperationError::NotFound { kind: "key", name: name.to_owned() }
}
