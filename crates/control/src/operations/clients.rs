//! Clients: who may ask us for tokens.

mod put;

use std::time::Duration;

use base::{Name, Secret, Span, Timestamp};
use config::{ClientAuth, Grant, RedirectUri, Requirement};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{NewClient, Page};
use vault::HashPurpose;

use super::registration::{self, AuthForm, Authentication, ClientForm};
use super::{FileInForce, Listed, Once, OperationError, Operations, Registration, checked_scopes, merge_pages};
use crate::credential::{FileHash, Kind};

pub use put::UpdateClient;

/// How long tokens live unless the client says otherwise.
const DEFAULT_TTL: Duration = Duration::from_mins(5);
/// How long they live at least.
const MIN_TTL: Duration = Duration::from_secs(10);
/// How long they may live at most (R-67: minutes are meant; a day is for those who know why).
pub(super) const MAX_TTL: Duration = Duration::from_hours(24);
/// How long the secret before the newest may go on working at most.
const MAX_OVERLAP: Duration = Duration::from_hours(30 * 24);

/// A client as it is shown. Nothing of its secrets but how many there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClientView {
    /// Its `client_id`.
    pub name: String,
    /// The scopes it may ask for.
    pub scopes: Vec<String>,
    /// How long its tokens live.
    pub token_ttl: String,
    /// Whether it is refused.
    pub disabled: bool,
    /// How many of its secrets are valid now.
    pub live_secrets: usize,
    /// How it proves who it is: the `method` and what it is checked with, nothing secret. Absent: it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Value>,
    /// The grants it may use.
    pub grants: Vec<Grant>,
    /// Where people come back to after signing in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<RedirectUri>,
    /// What it must always do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
    /// Issuers whose tokens it may exchange.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub exchange: Vec<Name>,
    /// Whether it may ask about tokens that were issued to others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub introspect: bool,
    /// `file` or `api`.
    pub source: &'static str,
    /// When it was made (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Changes with the client; for `If-Match`.
    #[serde(skip)]
    pub etag: String,
}

/// A client to be made.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateClient {
    /// Its `client_id`.
    pub name: String,
    /// The scopes it may ask for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// How long its tokens live. Absent: 5m.
    #[serde(default)]
    pub token_ttl: Option<String>,
    /// How it proves who it is. Absent: with a secret, which we make.
    #[serde(default)]
    pub auth: Option<AuthForm>,
    /// The grants it may use. Absent: `client_credentials`, unless it is a public client.
    #[serde(default)]
    pub grants: Option<Vec<Grant>>,
    /// Where people come back to after signing in, compared byte by byte. Absent: nowhere.
    #[serde(default)]
    pub redirect_uris: Option<Vec<RedirectUri>>,
    /// What it must always do. Absent: nothing.
    #[serde(default)]
    pub require: Option<Vec<Requirement>>,
    /// Issuers, by name, whose tokens it may exchange for ours. Absent: none.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub exchange: Option<Vec<Name>>,
    /// Let it ask about tokens that were issued to others. Absent: no.
    #[serde(default)]
    pub introspect: Option<bool>,
}

/// A new secret for a client.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateClient {
    /// How long the old secret still works, at most 30d. Absent: 24h.
    pub overlap: Option<String>,
}

/// A client and its new secret, if it has one, which is shown this once.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct IssuedSecret {
    /// The client.
    #[serde(flatten)]
    pub client: ClientView,
    /// The secret: `vgs_` and 43 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Once>,
}

impl Operations {
    /// Make a client and its secret.
    pub async fn client_create(&self, new: &CreateClient, by: &str) -> Result<IssuedSecret, OperationError> {
        let name = client_name(&new.name)?;
        let (scopes, ttl) = (checked_scopes(&new.scopes)?, token_ttl(new.token_ttl.as_deref())?);
        let form = ClientForm {
            auth: new.auth.clone(),
            grants: new.grants.clone(),
            redirect_uris: new.redirect_uris.clone().unwrap_or_default(),
            require: new.require.clone().unwrap_or_default(),
            exchange: new.exchange.clone().unwrap_or_default(),
            introspect: new.introspect.unwrap_or_default(),
        };
        let _changing = self.changing().await;
        self.client_not_in_file(&name)?;
        self.client_check(&name, &scopes, &form).await?;
        let secret = form.has_secret().then(|| Kind::ClientSecret.generate(&*self.rng));
        let hash =
            |secret: &Secret<String>| self.vault.keyed_hash(HashPurpose::ClientSecret, secret.expose().as_bytes());
        let new = NewClient {
            name: name.clone(),
            scopes,
            token_ttl: Some(ttl),
            settings: settings(&form)?,
            disabled: false,
            secret: secret.as_ref().map(hash),
            created_by: by.to_owned(),
        };
        let client = self.store.clients().create(new).await.map_err(|error| match error {
            store::StoreError::Exists(_) => OperationError::Exists { kind: "client", name: name.to_string() },
            other => other.into(),
        })?;
        tracing::info!(target: "audit", by, client = %name, "client created");
        Ok(IssuedSecret { client: self.stored_view(&client), client_secret: secret.map(Once) })
    }

    /// Clients of the file and of the store, by name.
    pub async fn client_list(&self, page: &Page) -> Result<Listed<ClientView>, OperationError> {
        let stored = self.store.clients().list(page).await?;
        let stored =
            store::Paged { items: stored.items.iter().map(|c| self.stored_view(c)).collect(), next: stored.next };
        let file = self.file().clients.iter().map(file_view).collect();
        Ok(merge_pages(file, stored, page, |client: &ClientView| &client.name))
    }

    /// One client.
    pub async fn client_show(&self, name: &str) -> Result<ClientView, OperationError> {
        if let Some(client) = self.file().clients.iter().find(|client| client.name.as_str() == name) {
            return Ok(file_view(client));
        }
        let stored = match Name::new(name) {
            Ok(name) => self.store.clients().get(&name).await?,
            Err(_) => None,
        };
        stored.map(|client| self.stored_view(&client)).ok_or_else(|| no_client(name))
    }

    /// Refuse a client, or let it in again.
    pub async fn client_set_disabled(
        &self,
        name: &str,
        disabled: bool,
        by: &str,
    ) -> Result<ClientView, OperationError> {
        let _changing = self.changing().await;
        let name = self.stored_client(name, None).await?;
        let client = self.store.clients().set_disabled(&name, disabled).await?;
        tracing::info!(target: "audit", by, client = %name, disabled, "client switched");
        Ok(self.stored_view(&client))
    }

    /// Give a client a new secret; the others work for the overlap.
    pub async fn client_rotate(
        &self,
        name: &str,
        rotate: &RotateClient,
        by: &str,
    ) -> Result<IssuedSecret, OperationError> {
        let overlap: Span = rotate
            .overlap
            .as_deref()
            .unwrap_or("24h")
            .parse()
            .map_err(|e: base::UnitError| OperationError::value("overlap", e.to_string()))?;
        if overlap.duration() > MAX_OVERLAP {
            return Err(OperationError::value("overlap", "at most 30d"));
        }
        let _changing = self.changing().await;
        let name = self.stored_client(name, None).await?;
        let before = self.store.clients().get(&name).await?.ok_or_else(|| no_client(name.as_str()))?;
        if !form_of(&before)?.has_secret() {
            return Err(OperationError::NotAllowed(format!(
                "the client {name} has no secret; it proves who it is otherwise"
            )));
        }
        let secret = Kind::ClientSecret.generate(&*self.rng);
        let hash = self.vault.keyed_hash(HashPurpose::ClientSecret, secret.expose().as_bytes());
        let client = self.store.clients().rotate(&name, hash, overlap.duration()).await?;
        tracing::info!(target: "audit", by, client = %name, "client secret rotated");
        Ok(IssuedSecret { client: self.stored_view(&client), client_secret: Some(Once(secret)) })
    }

    /// Forget a client.
    pub async fn client_delete(&self, name: &str, if_match: Option<&str>, by: &str) -> Result<(), OperationError> {
        let _changing = self.changing().await;
        let name = self.stored_client(name, if_match).await?;
        self.store.clients().delete(&name).await?;
        tracing::info!(target: "audit", by, client = %name, "client deleted");
        Ok(())
    }

    /// The client of that name, from the file or the store; the store is asked in any case, so that the time it takes
    /// does not tell where a client is, or whether it is anywhere.
    pub async fn client_registration(&self, name: &str) -> Result<Option<Registration>, OperationError> {
        // Our own name is no client's, so it stands in for texts that are no names.
        let asked =
            Name::new(name).or_else(|_| Name::new(config::OWN_NAME)).map_err(OperationError::name("client_id"))?;
        let stored = self.store.clients().get(&asked).await?;
        let file = self.in_force();
        if let Some(client) = file.config.clients.iter().find(|client| client.name.as_str() == name) {
            return Ok(Some(from_file(client, &file)));
        }
        let now = self.clock.now();
        stored.filter(|client| client.name.as_str() == name).map(|client| from_store(client, now)).transpose()
    }

    /// Whether `secret` is one of the client's. Does the same work for a client that does not exist.
    pub(crate) fn client_secret_matches(&self, client: Option<&Registration>, secret: &str) -> bool {
        const NOTHING: [u8; 32] = [0; 32];
        let hashes = client.map(|client| client.keyed_hashes.as_slice()).unwrap_or_default();
        let mut matched = false;
        // At least two comparisons, as many as a client in rotation has.
        for index in 0..hashes.len().max(2) {
            let hash = hashes.get(index);
            let equal = self.vault.matches(HashPurpose::ClientSecret, secret.as_bytes(), hash.unwrap_or(&NOTHING));
            matched |= equal & hash.is_some();
        }
        let file = client.and_then(|client| client.file_hash.as_ref());
        let stand_in = FileHash::stand_in();
        matched |= file.unwrap_or(&stand_in).matches(secret) & file.is_some();
        matched & client.is_some_and(|client| !client.disabled)
    }

    /// Refuse what the configuration file would refuse of a client, here beside everything else that is in force.
    async fn client_check(&self, name: &Name, scopes: &[String], form: &ClientForm) -> Result<(), OperationError> {
        form.authentication().map_err(|message| OperationError::value("auth", message))?;
        let client: config::Client = config::read(&form.in_a_file(name, scopes)).map_err(OperationError::Faults)?;
        let file = self.file();
        let mut merged = self.merged_config(&file).await?.map_err(OperationError::Faults)?;
        merged.clients.push(client);
        let faults = merged.check();
        if faults.is_empty() { Ok(()) } else { Err(OperationError::Faults(faults)) }
    }

    /// The client of that name in the store, unless the file has it or it has changed.
    async fn stored_client(&self, name: &str, if_match: Option<&str>) -> Result<Name, OperationError> {
        let name = Name::new(name).map_err(|_| no_client(name))?;
        self.client_not_in_file(&name)?;
        let client = self.store.clients().get(&name).await?.ok_or_else(|| no_client(name.as_str()))?;
        if if_match.is_some_and(|expected| expected != self.stored_view(&client).etag) {
            return Err(OperationError::Stale("client"));
        }
        Ok(name)
    }

    fn client_not_in_file(&self, name: &Name) -> Result<(), OperationError> {
        if self.file().clients.iter().any(|client| client.name == *name) {
            return Err(OperationError::InFile { kind: "client", name: name.to_string() });
        }
        Ok(())
    }

    fn stored_view(&self, client: &store::Client) -> ClientView {
        // Settings that cannot be read are shown as none; the token service refuses the client.
        let form = form_of(client).unwrap_or_default();
        let auth = form.auth.clone().unwrap_or(AuthForm::ClientSecret {});
        let newest = client.secrets.last().map_or(client.created_at, |secret| secret.created_at);
        ClientView {
            name: client.name.to_string(),
            scopes: client.scopes.clone(),
            token_ttl: Span::new(client.token_ttl.unwrap_or(DEFAULT_TTL)).to_string(),
            disabled: client.disabled,
            live_secrets: if form.has_secret() { client.live_secrets(self.clock.now()).count() } else { 0 },
            auth: serde_json::to_value(auth).ok(),
            grants: form.grants(),
            redirect_uris: form.redirect_uris,
            require: form.require,
            exchange: form.exchange,
            introspect: form.introspect,
            source: "api",
            created_at: Some(client.created_at.rfc3339()),
            created_by: Some(client.created_by.clone()),
            etag: etag(client, newest),
        }
    }
}

/// Two changes within one millisecond would share `updated_at`, so what can change goes in too.
fn etag(client: &store::Client, newest: Timestamp) -> String {
    let state =
        (&client.id, client.updated_at, newest, client.disabled, &client.scopes, client.token_ttl, &client.settings);
    super::resources::digest(&format!("{state:?}"))
}

fn file_view(client: &config::Client) -> ClientView {
    ClientView {
        name: client.name.to_string(),
        scopes: client.scopes.iter().map(ToString::to_string).collect(),
        token_ttl: client.token_ttl.to_string(),
        disabled: client.disabled,
        live_secrets: usize::from(matches!(client.auth, Some(ClientAuth::ClientSecret { .. }))),
        auth: client.auth.as_ref().map(registration::shown),
        grants: client.grants().to_vec(),
        redirect_uris: client.redirect_uris.clone(),
        require: client.require.clone(),
        exchange: client.exchange.clone(),
        introspect: client.introspect,
        source: "file",
        created_at: None,
        created_by: None,
        etag: super::resources::digest(&format!("{client:?}")),
    }
}

fn from_file(client: &config::Client, file: &FileInForce) -> Registration {
    let hash = match &client.auth {
        Some(ClientAuth::ClientSecret { hash }) => Some(hash),
        _ => None,
    };
    Registration {
        name: client.name.clone(),
        scopes: client.scopes.iter().map(ToString::to_string).collect(),
        token_ttl: client.token_ttl.duration(),
        disabled: client.disabled,
        auth: file.authentication(&client.name),
        grants: client.grants().to_vec(),
        redirect_uris: client.redirect_uris.clone(),
        require: client.require.clone(),
        exchange: client.exchange.clone(),
        introspect: client.introspect,
        // A hash that cannot be read matches nothing; `check` names it.
        file_hash: hash.and_then(|hash| FileHash::parse(hash).ok()),
        keyed_hashes: Vec::new(),
    }
}

fn from_store(client: store::Client, now: Timestamp) -> Result<Registration, OperationError> {
    let form = form_of(&client)?;
    let auth = form.authentication().unwrap_or_else(|error| {
        tracing::error!(client = %client.name, error, "what a client is registered with cannot be read");
        Authentication::Nothing
    });
    let has_secret = matches!(auth, Authentication::Secret);
    Ok(Registration {
        keyed_hashes: client.live_secrets(now).copied().filter(|_| has_secret).collect(),
        name: client.name,
        scopes: client.scopes,
        token_ttl: client.token_ttl.unwrap_or(DEFAULT_TTL),
        disabled: client.disabled,
        auth,
        grants: form.grants(),
        redirect_uris: form.redirect_uris,
        require: form.require,
        exchange: form.exchange,
        introspect: form.introspect,
        file_hash: None,
    })
}

fn settings(form: &ClientForm) -> Result<String, OperationError> {
    Ok(serde_json::to_string(form).map_err(|_| store::StoreError::Row("a client's settings"))?)
}

/// What a stored client may do and how.
fn form_of(client: &store::Client) -> Result<ClientForm, OperationError> {
    let form = serde_json::from_str(&client.settings);
    Ok(form.map_err(|_| store::StoreError::Row("a client's settings"))?)
}

/// A client's name goes into `Basic` credentials and token claims.
fn client_name(text: &str) -> Result<Name, OperationError> {
    let name = Name::new(text).map_err(OperationError::name("name"))?;
    if name.as_str() == config::OWN_NAME {
        return Err(OperationError::value("name", "vouchgate is our own name"));
    }
    Ok(name)
}

fn token_ttl(text: Option<&str>) -> Result<Duration, OperationError> {
    let Some(text) = text else { return Ok(DEFAULT_TTL) };
    let span: Span = text.parse().map_err(|e: base::UnitError| OperationError::value("token_ttl", e.to_string()))?;
    if (MIN_TTL..=MAX_TTL).contains(&span.duration()) {
        Ok(span.duration())
    } else {
        Err(OperationError::value("token_ttl", "between 10s and 1d"))
    }
}

fn no_client(name: &str) -> OperationError {
    OperationError::NotFound { kind: "client", name: name.to_owned() }
}
