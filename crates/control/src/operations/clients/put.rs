//! A client as it is to be from now on: changed, or made where it needs no secret of ours.

use base::Name;
use config::{Grant, RedirectUri, Requirement};
use schemars::JsonSchema;
use serde::Deserialize;
use store::NewClient;

use super::super::registration::{AuthForm, ClientForm};
use super::super::{Condition, OperationError, Operations, checked_scopes};
use super::{ClientView, client_name, form_of, no_client, settings, token_ttl};

/// What a client may ask for from now on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateClient {
    /// The scopes it may ask for.
    pub scopes: Vec<String>,
    /// How long its tokens live. Absent: 5m.
    #[serde(default)]
    pub token_ttl: Option<String>,
    /// Whether it is refused.
    #[serde(default)]
    pub disabled: bool,
    /// How it proves who it is. Absent: as before; a client that is made this way has to have one that needs no secret of ours.
    #[serde(default)]
    pub auth: Option<AuthForm>,
    /// The grants it may use. Absent: as before.
    #[serde(default)]
    pub grants: Option<Vec<Grant>>,
    /// Where people come back to after signing in, compared byte by byte. Absent: as before.
    #[serde(default)]
    pub redirect_uris: Option<Vec<RedirectUri>>,
    /// What it must always do. Absent: as before.
    #[serde(default)]
    pub require: Option<Vec<Requirement>>,
    /// Issuers, by name, whose tokens it may exchange for ours. Absent: as before.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub exchange: Option<Vec<Name>>,
    /// Let it ask about tokens that were issued to others. Absent: as before.
    #[serde(default)]
    pub introspect: Option<bool>,
}

impl UpdateClient {
    /// What it says, and for what it does not say what was `before`.
    fn over(&self, before: ClientForm) -> ClientForm {
        ClientForm {
            auth: self.auth.clone().or(before.auth),
            grants: self.grants.clone().or(before.grants),
            redirect_uris: self.redirect_uris.clone().unwrap_or(before.redirect_uris),
            require: self.require.clone().unwrap_or(before.require),
            exchange: self.exchange.clone().unwrap_or(before.exchange),
            introspect: self.introspect.unwrap_or(before.introspect),
        }
    }
}

impl Operations {
    /// Change what a client may ask for, or make one that proves who it is without a secret of ours; and whether it was made.
    /// A secret is shown when it is made, and a repeated PUT could not show it: such clients are made by
    /// [`Operations::client_create`].
    pub async fn client_put(
        &self,
        name: &str,
        update: &UpdateClient,
        condition: Condition<'_>,
        by: &str,
    ) -> Result<(ClientView, bool), OperationError> {
        let (scopes, ttl) = (checked_scopes(&update.scopes)?, token_ttl(update.token_ttl.as_deref())?);
        let _changing = self.changing().await;
        let name = client_name(name)?;
        self.client_not_in_file(&name)?;
        let before = self.store.clients().get(&name).await?;
        let holds = match (condition, &before) {
            (Condition::None, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
            (Condition::Is(tag), Some(client)) => self.stored_view(client).etag == tag,
            (Condition::Absent, Some(_)) | (Condition::Present | Condition::Is(_), None) => false,
        };
        if !holds {
            return Err(OperationError::Stale("client"));
        }
        let Some(before) = before else {
            let form = update.over(ClientForm::default());
            makes_no_secret(&name, update)?;
            self.client_check(&name, &scopes, &form).await?;
            let new = NewClient {
                name: name.clone(),
                scopes,
                token_ttl: Some(ttl),
                settings: settings(&form)?,
                disabled: update.disabled,
                secret: None,
                created_by: by.to_owned(),
            };
            let client = self.store.clients().create(new).await.map_err(|error| match error {
                // Another node was faster.
                store::StoreError::Exists(_) => OperationError::Stale("client"),
                other => other.into(),
            })?;
            tracing::info!(target: "audit", by, client = %name, "client created");
            return Ok((self.stored_view(&client), true));
        };
        let form = update.over(form_of(&before)?);
        self.client_check(&name, &scopes, &form).await?;
        self.store.clients().update(&name, scopes, Some(ttl), settings(&form)?).await?;
        let client = self.store.clients().set_disabled(&name, update.disabled).await?;
        tracing::info!(target: "audit", by, client = %name, disabled = update.disabled, "client changed");
        Ok((self.stored_view(&client), false))
    }
}

/// That nothing has to be shown once for such a client.
fn makes_no_secret(name: &Name, update: &UpdateClient) -> Result<(), OperationError> {
    match &update.auth {
        // Written as a change of a client that is there.
        None => Err(no_client(name.as_str())),
        Some(AuthForm::ClientSecret {}) => Err(OperationError::NotAllowed(format!(
            "there is no client {name}, and one with a secret is made by POST, which shows the secret once"
        ))),
        Some(_) => Ok(()),
    }
}
