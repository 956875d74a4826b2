//! Secrets of the vault. A value goes in and is never shown again; it is bound to the one origin it may be sent to.

use base::{Name, Secret};
use config::{Config, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{NewSecret, Page, SecretVersion, Slot};
use vault::{Label, MAX_PLAINTEXT, Purpose};

use super::secret_slots::SlotView;
use super::{Listed, OperationError, Operations};
use crate::credential::last4;

/// A secret as it is shown: everything but its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// Which value it is, from 1.
    pub version: u64,
    /// The origin it may be sent to. Absent: none, it only verifies (an issuer's shared secret).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Tells two values apart.
    pub fingerprint: String,
    /// Its last four characters, where it is long enough to spare them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last4: Option<String>,
    /// What uses it: `provider openai`.
    pub used_by: Vec<String>,
    /// When the value was set (RFC 3339).
    pub created_at: String,
    /// Who set it.
    pub created_by: String,
    /// The values beside it: the next, and the old one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<SlotView>,
    /// What the providers that use it said of it, in the answer to a rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probed: Option<String>,
}

/// A value to be kept.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// The value: text of at most 64 KiB without control characters.
    #[schemars(with = "String")]
    value: Value,
    /// The origin it may be sent to. Absent: that of the provider or upstream that names the secret.
    #[serde(default)]
    origin: Option<String>,
}

/// A value on its way in: wiped when it goes.
pub(super) struct Value(pub(super) Secret<String>);

impl Value {
    pub(super) const fn secret(&self) -> &Secret<String> {
        &self.0
    }

    pub(super) fn text(&self) -> &str {
        self.0.expose()
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(Secret::new(text)))
    }
}

impl std::fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetSecret").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Where the configuration names a secret.
#[derive(Debug, Clone)]
pub struct Use<'a> {
    /// What kind of resource names it.
    pub kind: &'static str,
    /// Which one.
    pub by: &'a Name,
    /// How.
    pub reference: &'a SecretRef,
    /// The origin the value is sent to; `None` where it is not sent at all.
    pub origin: Option<String>,
    /// Whether it is the one to follow another.
    pub next: bool,
}

impl Use<'_> {
    /// By what its age is known where it is not in the vault.
    pub fn place(&self) -> String {
        let next = if self.next { ".next" } else { "" };
        format!("{}.{}{next}", self.kind.replace(' ', "."), self.by)
    }
}

/// Every place in a configuration that names a secret that is sent somewhere or verifies something.
pub fn uses(config: &Config) -> Vec<Use<'_>> {
    let mut uses = Vec::new();
    for provider in &config.providers {
        let origin = provider.base().and_then(|base| origin_of(&base));
        for (_, reference) in provider.secrets() {
            let origin = origin.clone();
            uses.push(Use { kind: "provider", by: &provider.name, reference, origin, next: false });
        }
    }
    for upstream in &config.upstreams {
        let origin = origin_of(upstream.url.as_str());
        for (at, (_, reference)) in upstream.inject.iter().flat_map(config::Inject::values).enumerate() {
            let origin = origin.clone();
            uses.push(Use { kind: "upstream", by: &upstream.name, reference, origin, next: at > 0 });
        }
    }
    for issuer in &config.issuers {
        for (at, reference) in issuer.shared_secrets().enumerate() {
            uses.push(Use { kind: "issuer", by: &issuer.name, reference, origin: None, next: at > 0 });
        }
    }
    for app in &config.apps {
        for (key, reference) in app.secrets() {
            // A puzzle's secret is sent to who judges it; the others open and verify.
            let origin = app.asked_with(key).and_then(|url| origin_of(&url));
            uses.push(Use { kind: "app", by: &app.name, reference, origin, next: false });
        }
    }
    for transmitter in &config.transmitters {
        if let Some(reference) = &transmitter.bearer {
            uses.push(Use { kind: "transmitter", by: &transmitter.name, reference, origin: None, next: false });
        }
    }
    for webhook in &config.webhooks {
        let (by, reference) = (&webhook.name, &webhook.secret);
        uses.push(Use { kind: "webhook", by, reference, origin: None, next: false });
    }
    for place in &config.audit.publish {
        if let Some(reference) = &place.key {
            // It signs, and is sent nowhere.
            uses.push(Use { kind: "audit publish", by: &place.name, reference, origin: None, next: false });
        }
    }
    if let Some(signin) = &config.signin
        && let Some(reference) = &signin.client_secret
    {
        // Where a provider's metadata says the token endpoint is, the operator has to say the origin.
        let origin = signin.token_endpoint.as_ref().and_then(|url| origin_of(url.as_str()));
        uses.push(Use { kind: "signin", by: &signin.issuer, reference, origin, next: false });
    }
    uses
}

/// The origin of a URL (RFC 6454 section 6.2), as secrets are bound to it: `https://api.openai.com`.
pub fn origin_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    match url.origin() {
        url::Origin::Opaque(_) => None,
        origin @ url::Origin::Tuple(..) => Some(origin.ascii_serialization()),
    }
}

impl Operations {
    /// Keep a value. Replaces the one before, and may bind it to another origin.
    pub async fn secret_set(&self, name: &str, set: &SetSecret, by: &str) -> Result<SecretView, OperationError> {
        let name = Name::new(name).map_err(OperationError::name("name"))?;
        let _changing = self.changing().await;
        let config = self.current_config().await?;
        let origin = binding(&config, &name, set.origin.as_deref())?;
        self.keep(&name, &set.value.0, origin, by).await
    }

    /// All secrets, by name.
    pub async fn secret_list(&self, page: &Page) -> Result<Listed<SecretView>, OperationError> {
        let config = self.current_config().await?;
        let listed = self.store.secrets().list(page).await?;
        let mut items = Vec::with_capacity(listed.items.len());
        for secret in listed.items {
            let versions = self.store.secrets().versions(&secret.name).await?;
            items.extend(view(versions, &config));
        }
        Ok(Listed { items, next: listed.next })
    }

    /// One secret.
    pub async fn secret_show(&self, name: &str) -> Result<SecretView, OperationError> {
        let found = match Name::new(name) {
            Ok(name) => self.store.secrets().versions(&name).await?,
            Err(_) => Vec::new(),
        };
        let config = self.current_config().await?;
        view(found, &config).ok_or_else(|| no_secret(name))
    }

    /// Forget a secret, all versions of it.
    pub async fn secret_delete(&self, name: &str, by: &str) -> Result<(), OperationError> {
        let _changing = self.changing().await;
        let name = Name::new(name).map_err(|_| no_secret(name))?;
        let config = self.current_config().await?;
        if let Some(used) = uses(&config).into_iter().find(|used| names(used, &name)) {
            return Err(OperationError::NotAllowed(format!("{} {} uses the secret {name}", used.kind, used.by)));
        }
        match self.store.secrets().delete(&name).await {
            Err(store::StoreError::Missing(_)) => return Err(no_secret(name.as_str())),
            other => other?,
        }
        tracing::info!(target: "audit", by, secret = %name, "secret deleted");
        Ok(())
    }

    async fn keep(
        &self,
        name: &Name,
        value: &Secret<String>,
        origin: Option<String>,
        by: &str,
    ) -> Result<SecretView, OperationError> {
        check_value(value.expose())?;
        let new = self.sealed_secret(name, value.expose(), origin, by).await?;
        let version = new.version;
        self.store.secrets().put(new).await?;
        tracing::info!(target: "audit", by, secret = %name, version, "secret set");
        self.secret_show(name.as_str()).await
    }

    /// The value, sealed as the next version of the secret.
    pub(super) async fn sealed_secret(
        &self,
        name: &Name,
        text: &str,
        origin: Option<String>,
        by: &str,
    ) -> Result<NewSecret, OperationError> {
        let version = self.store.secrets().last_version(name).await?.saturating_add(1);
        let label = Label::new(self.store.tenant(), Purpose::Secret, name.as_str(), version).origin(origin.as_deref());
        let sealed = self.vault.seal(&label, text.as_bytes())?;
        Ok(NewSecret {
            name: name.clone(),
            version,
            sealed,
            origin,
            fingerprint: self.vault.fingerprint(text.as_bytes()),
            hint: last4(text),
            created_by: by.to_owned(),
        })
    }

    /// The configuration in force, or the file's where the two do not fit together: a secret must be settable then too.
    pub(super) async fn current_config(&self) -> Result<Config, OperationError> {
        let file = self.file();
        Ok(self.merged_config(&file).await?.unwrap_or_else(|_| (*file).clone()))
    }
}

/// What a secret's value may be.
pub(super) fn check_value(text: &str) -> Result<(), OperationError> {
    // A line break would end the header it is sent in; a key that ends in one was copied wrongly.
    if text.is_empty() || text.len() > MAX_PLAINTEXT || text.chars().any(char::is_control) {
        let message = "a secret is text of 1 byte to 64 KiB without control characters";
        return Err(OperationError::value("value", message));
    }
    if text.trim() != text {
        return Err(OperationError::value("value", "a secret does not begin or end with a space"));
    }
    Ok(())
}

/// The one origin a secret may be sent to: that of whatever names it, or the one that was asked for. An origin that
/// was asked for wins over the configuration's, so that a secret can be set before the configuration changes; until
/// then it is not sent anywhere.
fn binding(config: &Config, name: &Name, asked: Option<&str>) -> Result<Option<String>, OperationError> {
    if let Some(asked) = asked {
        let origin = origin_of(asked).filter(|origin| origin.starts_with("https://") || origin.starts_with("http://"));
        return match origin {
            Some(origin) => Ok(Some(origin)),
            None => Err(OperationError::value("origin", "write it as https://host.example.com")),
        };
    }
    let named: Vec<Use<'_>> = uses(config).into_iter().filter(|used| names(used, name)).collect();
    let Some(first) = named.first() else {
        return Err(OperationError::value(
            "origin",
            format!(
                "nothing in the configuration names the secret {name} yet; say which origin it may be sent to (--origin https://host.example.com), or name it in a provider or upstream first"
            ),
        ));
    };
    match named.iter().find(|other| other.origin != first.origin) {
        None if first.kind == "signin" && first.origin.is_none() => Err(OperationError::value(
            "origin",
            format!("[signin] sends the secret {name} to the provider's token endpoint; say its origin (--origin)"),
        )),
        None => Ok(first.origin.clone()),
        Some(other) => Err(OperationError::value(
            "origin",
            format!(
                "{} {} and {} {} name the secret {name} for different origins; use a secret for each",
                first.kind, first.by, other.kind, other.by
            ),
        )),
    }
}

/// A secret as it is shown, of all its versions.
pub(super) fn view(versions: Vec<SecretVersion>, config: &Config) -> Option<SecretView> {
    let (current, others): (Vec<_>, Vec<_>) = versions.into_iter().partition(|version| version.slot == Slot::Current);
    let secret = current.into_iter().next()?;
    let used_by = uses(config)
        .into_iter()
        .filter(|used| names(used, &secret.name))
        .map(|used| format!("{} {}", used.kind, used.by))
        .collect();
    Some(SecretView {
        name: secret.name.to_string(),
        version: secret.version,
        origin: secret.origin,
        fingerprint: secret.fingerprint,
        last4: secret.hint,
        used_by,
        created_at: secret.created_at.rfc3339(),
        created_by: secret.created_by,
        slots: others.into_iter().filter_map(SlotView::of).collect(),
        probed: None,
    })
}

fn names(used: &Use<'_>, name: &Name) -> bool {
    matches!(used.reference, SecretRef::Secret(other) if other == name)
}

pub(super) fn no_secret(name: &str) -> OperationError {
    OperationError::NotFound { kind: "secret", name: name.to_owned() }
}
