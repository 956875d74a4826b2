//! Tokens of the admin API (`vga_...`).

use base::{Name, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{NewAdminToken, Page, Role};
use vault::HashPurpose;

use super::{Listed, Once, OperationError, Operations, lifetime};
use crate::credential::Kind;

/// How long a token lives unless it is said.
const DEFAULT_LIFETIME: &str = "90d";

/// A token as it is shown: everything but the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AdminTokenView {
    /// Its id.
    pub id: String,
    /// Its name: who uses it.
    pub name: String,
    /// `owner`, `operator`, `auditor` or `viewer`.
    pub role: &'static str,
    /// `live`, `expired` or `revoked`.
    pub state: &'static str,
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
}

/// A token to be made.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAdminToken {
    /// Its name: who uses it.
    pub name: String,
    /// `owner`, `operator`, `auditor` or `viewer`.
    pub role: String,
    /// How long it lives: `"90d"`, which it is when absent.
    #[serde(default)]
    pub expires: Option<String>,
}

/// A token, shown this once.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct IssuedAdminToken {
    /// What is shown of it later too.
    #[serde(flatten)]
    pub token: AdminTokenView,
    /// The token: `vga_` and 43 characters.
    pub admin_token: Once,
}

impl Operations {
    /// Make a token.
    pub async fn admin_token_create(
        &self,
        new: &CreateAdminToken,
        by: &str,
    ) -> Result<IssuedAdminToken, OperationError> {
        let name = Name::new(&new.name).map_err(OperationError::name("name"))?;
        let role = Role::parse(&new.role)
            .ok_or_else(|| OperationError::value("role", "a role is owner, operator, auditor or viewer"))?;
        let expires = lifetime("expires", new.expires.as_deref(), DEFAULT_LIFETIME)?;
        let _changing = self.changing().await;
        self.retire_expired(&name).await?;
        let token = Kind::AdminToken.generate(&*self.rng);
        let new = NewAdminToken {
            name: name.clone(),
            role,
            hash: self.vault.keyed_hash(HashPurpose::AdminToken, token.expose().as_bytes()),
            expires_at: Some(self.clock.now().plus(expires)),
            created_by: by.to_owned(),
        };
        let stored = match self.store.admin_tokens().create(new).await {
            Err(store::StoreError::Exists(_)) => {
                return Err(OperationError::Exists { kind: "admin token", name: name.to_string() });
            }
            other => other?,
        };
        tracing::info!(target: "audit", by, token = %name, role = role.as_str(), "admin token created");
        Ok(IssuedAdminToken { token: view(&stored, self.clock.now()), admin_token: Once(token) })
    }

    /// All tokens, in no particular order.
    pub async fn admin_token_list(&self, page: &Page) -> Result<Listed<AdminTokenView>, OperationError> {
        let (listed, now) = (self.store.admin_tokens().list(page).await?, self.clock.now());
        Ok(Listed { items: listed.items.iter().map(|token| view(token, now)).collect(), next: listed.next })
    }

    /// Refuse a token from now on.
    pub async fn admin_token_revoke(&self, id_or_name: &str, by: &str) -> Result<AdminTokenView, OperationError> {
        let _changing = self.changing().await;
        let stored = match self.store.admin_tokens().revoke(id_or_name).await {
            Err(store::StoreError::Missing(_)) => {
                return Err(OperationError::NotFound { kind: "admin token", name: id_or_name.to_owned() });
            }
            other => other?,
        };
        tracing::info!(target: "audit", by, token = %stored.name, "admin token revoked");
        Ok(view(&stored, self.clock.now()))
    }

    /// Whose token this is, if it is anybody's.
    pub(crate) async fn admin_token_bearer(&self, token: &str) -> Result<Option<(Name, Role)>, OperationError> {
        if !Kind::AdminToken.has_form(token) {
            return Ok(None);
        }
        for hash in self.vault.keyed_hashes(HashPurpose::AdminToken, token.as_bytes()) {
            if let Some(found) = self.store.admin_tokens().live(hash).await? {
                return Ok(Some((found.name, found.role)));
            }
        }
        Ok(None)
    }

    /// Whether there is a token in force: a data directory without one has just been made.
    pub async fn has_admin_token(&self) -> Result<bool, OperationError> {
        Ok(self.admin_tokens_all().await?.iter().any(|token| token.state == "live"))
    }

    /// A name whose token has expired is free again; the store keeps it taken until it is revoked.
    async fn retire_expired(&self, name: &Name) -> Result<(), OperationError> {
        let all = self.admin_tokens_all().await?;
        for token in all.iter().filter(|token| token.name == name.as_str() && token.state == "expired") {
            self.store.admin_tokens().revoke(&token.id).await?;
        }
        Ok(())
    }

    async fn admin_tokens_all(&self) -> Result<Vec<AdminTokenView>, OperationError> {
        let (mut all, mut page) = (Vec::new(), Page::first(1000));
        loop {
            let listed = self.admin_token_list(&page).await?;
            all.extend(listed.items);
            match listed.next {
                Some(next) => page.after = Some(next),
                None => return Ok(all),
            }
        }
    }
}

fn view(token: &store::AdminToken, now: Timestamp) -> AdminTokenView {
    let state = match (token.revoked_at, token.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(end)) if end <= now => "expired",
        _ => "live",
    };
    AdminTokenView {
        id: token.id.clone(),
        name: token.name.to_string(),
        role: token.role.as_str(),
        state,
        created_at: token.created_at.rfc3339(),
        created_by: token.created_by.clone(),
        expires_at: token.expires_at.map(Timestamp::rfc3339),
        revoked_at: token.revoked_at.map(Timestamp::rfc3339),
    }
}
