//! Values of runtime secrets: versions that follow one another, in the vault. What each secret is for is its resource
//! (`[[runtime_secret]]`); a version is sealed for the origin and the kind of use the resource has when it is set, so that
//! changing the resource alone never sends a value elsewhere or gives it to a device.

use audit::Event;
use base::{Name, Secret, Span, Timestamp};
use config::{AttestationLevel, Config, RuntimeSecret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{NewRuntimeVersion, Page, RuntimeVersion, SecretUse, SecretUses, StoreError};
use vault::{Label, Purpose};

use super::secrets::{Value, check_value};
use super::{Listed, OperationError, Operations, origin_of};
use crate::credential::last4;

/// The longest value, in bytes: one that fits into a header field of any server.
const LONGEST: usize = 4096;
/// The shortest that may be put into requests, in bytes: answers are searched for it, which a few characters are too common for.
const SHORTEST_SENT: usize = 8;
/// How long the version before stays known, unless it is said.
const OVERLAP: Span = Span::secs(3600);
/// The longest overlap, and the furthest a version's beginning may be off.
const FURTHEST: Span = Span::secs(366 * 86_400);

/// A runtime secret as it is shown: everything but its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RuntimeSecretView {
    /// Its name.
    pub name: String,
    /// Whether the configuration says what it is for; without that nobody can use it.
    pub configured: bool,
    /// The version in force. Absent: none, and whoever asks for it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// Its versions, newest first.
    pub versions: Vec<RuntimeVersionView>,
    /// What does not fit together, such as a value that was set for another origin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A version of a runtime secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RuntimeVersionView {
    /// Which one, from 1.
    pub version: u64,
    /// Where it stands.
    pub state: RuntimeState,
    /// The origin it may be sent to. Absent: it is put into no request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Whether it may be given to devices.
    pub deliver: bool,
    /// Tells two values apart.
    pub fingerprint: String,
    /// Its last four characters, where it is long enough to spare them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last4: Option<String>,
    /// From when on it is in force (RFC 3339).
    pub not_before: String,
    /// From when on it is not (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// When it was last used (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
    /// Until when devices may have it, as far as is known (RFC 3339): after the last time it was given to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until: Option<String>,
    /// How it was used.
    pub uses: Vec<RuntimeUse>,
    /// When the value was set (RFC 3339).
    pub created_at: String,
    /// Who set it.
    pub created_by: String,
}

/// Where a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeState {
    /// It will be in force.
    Next,
    /// It is what is used.
    Current,
    /// A newer one is used; what still has this one is let go on until its end.
    Old,
    /// It is not in force any more, or its value is forgotten.
    Ended,
}

/// How often a version was used in one way by one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RuntimeUse {
    /// Which app.
    pub app: String,
    /// `substituted`: put into a request here; `delivered`: given to a device; `held`: a device said that it still has it.
    pub how: String,
    /// How often.
    pub uses: u64,
    /// When last (RFC 3339).
    pub last_used_at: String,
}

/// A value to become the newest version.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRuntimeSecret {
    /// The value: text of at most 4 KiB without control characters.
    #[schemars(with = "String")]
    value: Value,
    /// How long the versions before it stay known once it is in force: `1h`. Absent: not at all when a value is set, an
    /// hour when it is rotated.
    #[serde(default)]
    overlap: Option<String>,
    /// After how long it is in force: `10m`. Absent: at once.
    #[serde(default)]
    after: Option<String>,
}

impl std::fmt::Debug for SetRuntimeSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("SetRuntimeSecret");
        shown.field("overlap", &self.overlap).field("after", &self.after).finish_non_exhaustive()
    }
}

/// Which versions to end.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetireRuntimeSecret {
    /// This one. Absent: all that are older than the one in force.
    #[serde(default)]
    version: Option<u64>,
}

/// A secret on its way to a device.
pub(crate) struct Deliverable {
    /// Its name.
    pub(crate) name: Name,
    /// Which version it is.
    pub(crate) version: u64,
    /// Its value.
    pub(crate) value: Secret<Vec<u8>>,
    keep: Span,
    /// When this version ends, or the next begins.
    change: Option<Timestamp>,
}

impl Deliverable {
    /// Until when the device may keep it.
    pub(crate) fn until(&self, now: Timestamp) -> Timestamp {
        let kept = now.plus(self.keep.duration());
        self.change.map_or(kept, |change| change.min(kept))
    }

    /// Seconds until the device asks again.
    pub(crate) fn refresh_in(&self, now: Timestamp) -> u64 {
        u64::try_from(self.until(now).as_secs() - now.as_secs()).unwrap_or(0).max(1)
    }
}

impl Operations {
    /// The values of these secrets for an instance of `app` that was attested as well as `level`; or a stable code for why it
    /// gets none.
    pub(crate) async fn runtime_secrets_for(
        &self,
        (app, level): (&Name, AttestationLevel),
        names: &[Name],
    ) -> Result<Result<Vec<Deliverable>, &'static str>, OperationError> {
        let config = self.current_config().await?;
        let now = self.clock.now();
        // All of them are allowed before any is opened.
        let mut allowed = Vec::with_capacity(names.len());
        for name in names {
            let Some(secret) = described(&config, name).filter(|secret| secret.deliver) else {
                return Ok(Err("runtime_secret_unknown"));
            };
            if !secret.apps.contains(app) {
                return Ok(Err("runtime_secret_app"));
            }
            if level < secret.minimum_level || level == AttestationLevel::None {
                return Ok(Err("runtime_secret_level"));
            }
            allowed.push(secret);
        }
        let mut found = Vec::with_capacity(allowed.len());
        for secret in allowed {
            let versions = self.store.runtime_secrets().versions(&secret.name).await?;
            let in_force = current(&versions, now).filter(|version| version.delivered);
            let Some((version, sealed)) = in_force.and_then(|version| Some((version, version.sealed.as_ref()?))) else {
                tracing::error!(secret = %secret.name, "a runtime secret that is to be delivered has no value for it in force");
                return Ok(Err("runtime_secret_missing"));
            };
            let label = Label::new(self.store.tenant(), purpose(true), secret.name.as_str(), version.version);
            let value = self.vault.open(&label.origin(version.origin.as_deref()), sealed)?;
            let next = versions.iter().filter(|other| other.sealed.is_some() && other.not_before > now);
            let next = next.map(|other| other.not_before).min();
            found.push(Deliverable {
                name: secret.name.clone(),
                version: version.version,
                value,
                keep: secret.keep,
                change: next.into_iter().chain(version.not_after).min(),
            });
        }
        Ok(Ok(found))
    }

    /// Keep a value as the newest version. Those before it end when it begins, unless an overlap is said.
    pub async fn runtime_secret_set(
        &self,
        name: &str,
        set: &SetRuntimeSecret,
        by: &str,
    ) -> Result<RuntimeSecretView, OperationError> {
        let name = Name::new(name).map_err(OperationError::name("name"))?;
        let _changing = self.changing().await;
        self.keep_runtime(&name, set, Span::secs(0), by).await
    }

    /// Keep a new value of a secret that has one in force.
    pub async fn runtime_secret_rotate(
        &self,
        name: &str,
        set: &SetRuntimeSecret,
        by: &str,
    ) -> Result<RuntimeSecretView, OperationError> {
        let name = Name::new(name).map_err(|_| missing(name))?;
        let _changing = self.changing().await;
        let (versions, now) = (self.store.runtime_secrets().versions(&name).await?, self.clock.now());
        if !versions.iter().any(|version| version.holds(now)) {
            return Err(missing(name.as_str()));
        }
        self.keep_runtime(&name, set, OVERLAP, by).await
    }

    /// End older versions, or one, now, and forget their values.
    pub async fn runtime_secret_retire(
        &self,
        name: &str,
        retire: &RetireRuntimeSecret,
        by: &str,
    ) -> Result<RuntimeSecretView, OperationError> {
        let name = Name::new(name).map_err(|_| missing(name))?;
        let _changing = self.changing().await;
        let (versions, now) = (self.store.runtime_secrets().versions(&name).await?, self.clock.now());
        if versions.is_empty() {
            return Err(missing(name.as_str()));
        }
        let current = current(&versions, now).map(|version| version.version);
        let chosen: Vec<u64> = match retire.version {
            Some(wanted) => versions.iter().map(|v| v.version).filter(|version| *version == wanted).collect(),
            None => versions
                .iter()
                .filter(|version| version.sealed.is_some() && Some(version.version) < current)
                .map(|version| version.version)
                .collect(),
        };
        if chosen.is_empty() {
            let message = match retire.version {
                Some(version) => format!("the runtime secret {name} has no version {version}"),
                None => {
                    format!("the runtime secret {name} has no version older than the one in force; name one to end it")
                }
            };
            return Err(OperationError::NotAllowed(message));
        }
        for version in chosen {
            match self.store.runtime_secrets().end(&name, version).await {
                Err(StoreError::Missing(_)) => {
                    let message = format!("the value of version {version} of {name} is forgotten already");
                    return Err(OperationError::NotAllowed(message));
                }
                other => other?,
            }
            let event = Event::new("runtime_secret.retired").by(by).with("secret", name.as_str());
            self.audit.noted(event.with("version", version)).await;
            tracing::info!(target: "audit", by, secret = %name, version, "runtime secret retired");
        }
        self.runtime_view(&name, &self.current_config().await?).await
    }

    /// Forget all values of a secret.
    pub async fn runtime_secret_forget(&self, name: &str, by: &str) -> Result<(), OperationError> {
        let name = Name::new(name).map_err(|_| missing(name))?;
        let _changing = self.changing().await;
        match self.store.runtime_secrets().delete(&name).await {
            Err(StoreError::Missing(_)) => return Err(missing(name.as_str())),
            other => other?,
        }
        self.audit.noted(Event::new("runtime_secret.forgotten").by(by).with("secret", name.as_str())).await;
        tracing::info!(target: "audit", by, secret = %name, "runtime secret forgotten");
        Ok(())
    }

    /// The secrets that have values, by name.
    pub async fn runtime_secret_list(&self, page: &Page) -> Result<Listed<RuntimeSecretView>, OperationError> {
        self.store.write_secret_uses().await?;
        let config = self.current_config().await?;
        let names = self.store.runtime_secrets().names(page).await?;
        let mut items = Vec::with_capacity(names.items.len());
        for name in &names.items {
            items.push(self.runtime_view(name, &config).await?);
        }
        Ok(Listed { items, next: names.next })
    }

    /// One secret, with what its versions were used for.
    pub async fn runtime_secret_show(&self, name: &str) -> Result<RuntimeSecretView, OperationError> {
        self.store.write_secret_uses().await?;
        let config = self.current_config().await?;
        let known = Name::new(name).map_err(|_| missing(name))?;
        let view = self.runtime_view(&known, &config).await?;
        if view.versions.is_empty() && !view.configured { Err(missing(name)) } else { Ok(view) }
    }

    async fn keep_runtime(
        &self,
        name: &Name,
        set: &SetRuntimeSecret,
        overlap: Span,
        by: &str,
    ) -> Result<RuntimeSecretView, OperationError> {
        let text = set.value.0.expose();
        check_value(text)?;
        if text.len() > LONGEST {
            return Err(OperationError::value("value", "a runtime secret has at most 4 KiB"));
        }
        let overlap = span("overlap", set.overlap.as_deref())?.unwrap_or(overlap);
        let after = span("after", set.after.as_deref())?.unwrap_or(Span::secs(0));
        let config = self.current_config().await?;
        let secret = described(&config, name).ok_or_else(|| {
            let message = format!(
                "nothing says what the runtime secret {name} is for; describe it first: [[runtime_secret]] in the configuration file, or PUT /admin/v1/runtime-secrets/{name}"
            );
            OperationError::value("name", message)
        })?;
        if !secret.upstreams.is_empty() && text.len() < SHORTEST_SENT {
            return Err(OperationError::value(
                "value",
                "a runtime secret that is put into requests has at least 8 bytes: answers that repeat it are held back, and a shorter one could not be told from other text",
            ));
        }
        let origin = origin(&config, secret);
        let version = self.store.runtime_secrets().last_version(name).await?.saturating_add(1);
        let label = Label::new(self.store.tenant(), purpose(secret.deliver), name.as_str(), version);
        let sealed = self.vault.seal(&label.origin(origin.as_deref()), text.as_bytes())?;
        let not_before = self.clock.now().plus(after.duration());
        let others_end = not_before.plus(overlap.duration());
        let event = Event::new("runtime_secret.set").by(by).with("secret", name.as_str()).with("version", version);
        let event = event.with("not_before", not_before.rfc3339()).with("others_end", others_end.rfc3339());
        let new = NewRuntimeVersion {
            name: name.clone(),
            version,
            sealed,
            origin,
            delivered: secret.deliver,
            fingerprint: self.vault.fingerprint(text.as_bytes()),
            hint: last4(text),
            not_before,
            others_end,
            created_by: by.to_owned(),
        };
        self.store.runtime_secrets().put(new).await?;
        self.audit.noted(event).await;
        tracing::info!(target: "audit", by, secret = %name, version, "runtime secret set");
        self.runtime_view(name, &config).await
    }

    async fn runtime_view(&self, name: &Name, config: &Config) -> Result<RuntimeSecretView, OperationError> {
        let versions = self.store.runtime_secrets().versions(name).await?;
        let uses = self.store.runtime_secrets().uses(name).await?;
        Ok(view((name, described(config, name)), config, (&versions, &uses), self.clock.now()))
    }
}

/// The version in use at `now`: the newest in force. `versions` has the newest first.
pub(crate) fn current(versions: &[RuntimeVersion], now: Timestamp) -> Option<&RuntimeVersion> {
    versions.iter().find(|version| version.holds(now))
}

/// What a value is sealed as: one that may be given to devices is another kind of thing than one that may not.
pub(crate) const fn purpose(delivered: bool) -> Purpose {
    if delivered { Purpose::DeliveredSecret } else { Purpose::RuntimeSecret }
}

fn described<'a>(config: &'a Config, name: &Name) -> Option<&'a RuntimeSecret> {
    config.runtime_secrets.iter().find(|secret| secret.name == *name)
}

/// The one origin of a secret's upstreams.
fn origin(config: &Config, secret: &RuntimeSecret) -> Option<String> {
    let upstream = config.upstreams.iter().find(|upstream| secret.upstreams.contains(&upstream.name))?;
    origin_of(upstream.url.as_str())
}

fn view(
    (name, secret): (&Name, Option<&RuntimeSecret>),
    config: &Config,
    (versions, uses): (&[RuntimeVersion], &[SecretUses]),
    now: Timestamp,
) -> RuntimeSecretView {
    let current = current(versions, now);
    let mut warnings = Vec::new();
    if let (Some(secret), Some(current)) = (secret, current) {
        let wanted = origin(config, secret);
        if wanted.is_some() && wanted != current.origin {
            warnings.push("its upstreams are of another origin than the value was set for: set it again".to_owned());
        }
        if secret.deliver && !current.delivered {
            warnings.push("the value was set when it was not to be delivered: set it again".to_owned());
        }
    }
    if secret.is_some() && current.is_none() {
        warnings.push(format!("no value is in force: vouchgate secret runtime set {name} < FILE"));
    }
    let one = |version: &RuntimeVersion| {
        let counts: Vec<&SecretUses> = uses.iter().filter(|used| used.version == version.version).collect();
        let delivered = counts.iter().filter(|used| used.how == SecretUse::Delivered.as_str());
        let keep = secret.map_or(Span::secs(300), |secret| secret.keep);
        RuntimeVersionView {
            version: version.version,
            state: match current {
                Some(current) if current.version == version.version => RuntimeState::Current,
                _ if version.holds(now) => RuntimeState::Old,
                _ if version.sealed.is_some() && now < version.not_before => RuntimeState::Next,
                _ => RuntimeState::Ended,
            },
            origin: version.origin.clone(),
            deliver: version.delivered,
            fingerprint: version.fingerprint.clone(),
            last4: version.hint.clone(),
            not_before: version.not_before.rfc3339(),
            not_after: version.not_after.map(Timestamp::rfc3339),
            last_used_at: counts.iter().map(|used| used.last_used_at).max().map(Timestamp::rfc3339),
            held_until: delivered.map(|used| used.last_used_at.plus(keep.duration())).max().map(Timestamp::rfc3339),
            uses: counts
                .iter()
                .map(|used| RuntimeUse {
                    app: used.app.clone(),
                    how: used.how.clone(),
                    uses: used.uses,
                    last_used_at: used.last_used_at.rfc3339(),
                })
                .collect(),
            created_at: version.created_at.rfc3339(),
            created_by: version.created_by.clone(),
        }
    };
    RuntimeSecretView {
        name: name.to_string(),
        configured: secret.is_some(),
        current: current.map(|version| version.version),
        versions: versions.iter().map(one).collect(),
        warnings,
    }
}

fn span(param: &'static str, text: Option<&str>) -> Result<Option<Span>, OperationError> {
    let Some(text) = text else { return Ok(None) };
    let span: Span = text.parse().map_err(|_| OperationError::value(param, "write a duration: \"1h\""))?;
    if span > FURTHEST { Err(OperationError::value(param, "at most 366d")) } else { Ok(Some(span)) }
}

fn missing(name: &str) -> OperationError {
    OperationError::NotFound { kind: "value of a runtime secret", name: name.to_owned() }
}
