//! Resources: issuers, apps, providers, models, policies, risks, budgets, services, upstreams, runtime secrets, transmitters and
//! webhooks, from the configuration file (read-only) or made here. Both together have to be a valid configuration before anything is written.

use aws_lc_rs::digest;
use base::Name;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::{Config, Fault, PinSet, SecretRef};
use serde_json::{Map, Value};
use store::{Expect, Page};

use super::{Listed, OperationError, Operations, merge_pages};

/// What kinds of resources there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `[[issuer]]`
    Issuer,
    /// `[[app]]`
    App,
    /// `[[provider]]`
    Provider,
    /// `[[model]]`
    Model,
    /// `[[policy]]`
    Policy,
    /// `[[risk]]`
    Risk,
    /// `[[budget]]`
    Budget,
    /// `[[service]]`
    Service,
    /// `[[upstream]]`
    Upstream,
    /// `[[runtime_secret]]`
    RuntimeSecret,
    /// `[[transmitter]]`
    Transmitter,
    /// `[[webhook]]`
    Webhook,
    /// `[[pins]]`
    Pins,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::Issuer,
        Self::App,
        Self::Provider,
        Self::Model,
        Self::Policy,
        Self::Risk,
        Self::Budget,
        Self::Service,
        Self::Upstream,
        Self::RuntimeSecret,
        Self::Transmitter,
        Self::Webhook,
        Self::Pins,
    ];

    /// What the configuration file calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::App => "app",
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Policy => "policy",
            Self::Risk => "risk",
            Self::Budget => "budget",
            Self::Service => "service",
            Self::Upstream => "upstream",
            Self::RuntimeSecret => "runtime_secret",
            Self::Transmitter => "transmitter",
            Self::Webhook => "webhook",
            Self::Pins => "pins",
        }
    }

    /// What the admin API calls all of them.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Issuer => "issuers",
            Self::App => "apps",
            Self::Provider => "providers",
            Self::Model => "models",
            Self::Policy => "policies",
            Self::Risk => "risks",
            Self::Budget => "budgets",
            Self::Service => "services",
            Self::Upstream => "upstreams",
            Self::RuntimeSecret => "runtime-secrets",
            Self::Transmitter => "transmitters",
            Self::Webhook => "webhooks",
            Self::Pins => "pins",
        }
    }

    /// The name of its type in the schema of the configuration.
    pub const fn schema_name(self) -> &'static str {
        match self {
            Self::Issuer => "Issuer",
            Self::App => "App",
            Self::Provider => "Provider",
            Self::Model => "Model",
            Self::Policy => "Policy",
            Self::Risk => "Risk",
            Self::Budget => "Budget",
            Self::Service => "Service",
            Self::Upstream => "Upstream",
            Self::RuntimeSecret => "RuntimeSecret",
            Self::Transmitter => "Transmitter",
            Self::Webhook => "Webhook",
            Self::Pins => "PinSet",
        }
    }

    /// All resources of the kind in a configuration, as JSON objects with their names.
    fn of(self, config: &Config) -> Vec<(Name, Value)> {
        fn values<T: serde::Serialize>(items: &[T], name: impl Fn(&T) -> &Name) -> Vec<(Name, Value)> {
            items.iter().map(|i| (name(i).clone(), serde_json::to_value(i).unwrap_or_default())).collect()
        }
        match self {
            Self::Issuer => values(&config.issuers, |i| &i.name),
            Self::App => values(&config.apps, |i| &i.name),
            Self::Provider => values(&config.providers, |i| &i.name),
            Self::Model => values(&config.models, |i| &i.name),
            Self::Policy => values(&config.policies, |i| &i.name),
            Self::Risk => values(&config.risks, |i| &i.name),
            Self::Budget => values(&config.budgets, |i| &i.name),
            Self::Service => values(&config.services, |i| &i.name),
            Self::Upstream => values(&config.upstreams, |i| &i.name),
            Self::RuntimeSecret => values(&config.runtime_secrets, |i| &i.name),
            Self::Transmitter => values(&config.transmitters, |i| &i.name),
            Self::Webhook => values(&config.webhooks, |i| &i.name),
            Self::Pins => values(&config.pins, |i| &i.name),
        }
    }
}

/// A resource as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceView {
    /// Its name.
    pub name: String,
    /// The resource as the configuration file would hold it, and `source`: `file` or `api`.
    pub body: Value,
    /// Changes with the resource; for `If-Match`.
    pub etag: String,
    /// Whether the operation made it.
    pub created: bool,
    /// What will not work yet, such as a secret that has to be set.
    pub warnings: Vec<String>,
}

/// What a write requires (RFC 9110 section 13.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'a> {
    /// Nothing.
    None,
    /// `If-None-Match: *`: there is none of that name.
    Absent,
    /// `If-Match: *`: there is one of that name.
    Present,
    /// `If-Match`: it has this entity tag.
    Is(&'a str),
}

impl Operations {
    /// Resources of the file and of the store, by name.
    pub async fn resource_list(&self, kind: Kind, page: &Page) -> Result<Listed<ResourceView>, OperationError> {
        let stored = self.store.resources().list(kind.as_str(), page).await?;
        let items = stored.items.iter().map(stored_view).collect::<Result<_, _>>()?;
        let stored = store::Paged { items, next: stored.next };
        let file = kind.of(&self.file()).into_iter().map(|(name, body)| file_view(&name, body)).collect();
        Ok(merge_pages(file, stored, page, |resource: &ResourceView| &resource.name))
    }

    /// One resource.
    pub async fn resource_get(&self, kind: Kind, name: &str) -> Result<ResourceView, OperationError> {
        if let Some((name, body)) = kind.of(&self.file()).into_iter().find(|(n, _)| n.as_str() == name) {
            return Ok(file_view(&name, body));
        }
        let stored = match Name::new(name) {
            Ok(name) => self.store.resources().get(kind.as_str(), &name).await?,
            Err(_) => None,
        };
        stored.as_ref().map(stored_view).ok_or_else(|| missing(kind, name))?
    }

    /// Make or replace a resource. `body` is what the configuration file would hold; its name may be left out.
    pub async fn resource_put(
        &self,
        (kind, name): (Kind, &str),
        body: Map<String, Value>,
        condition: Condition<'_>,
        by: &str,
    ) -> Result<ResourceView, OperationError> {
        let name = Name::new(name).map_err(OperationError::name("name"))?;
        let body = named(body, &name)?;
        let _changing = self.changing().await;
        let expect = self.resource_expect(kind, &name, condition).await?;
        let before = self.store.resources().get(kind.as_str(), &name).await?;

        let mut stored = self.store.resources().all().await?;
        stored.retain(|other| !(other.kind == kind.as_str() && other.name == name));
        let mut rows: Vec<(String, Name, Value)> = stored.iter().map(row).collect::<Result<_, _>>()?;
        rows.push((kind.as_str().to_owned(), name.clone(), Value::Object(body)));
        // The order of the store, so that what is checked is what will be in force.
        rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let merged = merge(&self.file(), &rows).map_err(OperationError::Faults)?;
        if let Some(message) = self.trial.0.as_ref().and_then(|refuses| refuses(&merged)) {
            return Err(OperationError::Faults(vec![fault(&format!("{}.{name}", kind.as_str()), &message)]));
        }
        let warnings = self.resource_references(kind, &name, &merged).await?;
        let body = kind.of(&merged).into_iter().find(|(n, _)| *n == name).map(|(_, body)| body).unwrap_or_default();

        let stored = self.store.resources().put((kind.as_str(), &name), body.to_string(), expect, by).await;
        let stored = stored.map_err(|error| condition_failed(error, kind, &name))?;
        tracing::info!(target: "audit", by, kind = kind.as_str(), %name, "resource written");
        let mut view = stored_view(&stored)?;
        view.created = before.is_none();
        view.warnings = warnings;
        Ok(view)
    }

    /// Delete a resource that nothing needs.
    pub async fn resource_delete(
        &self,
        (kind, name): (Kind, &str),
        condition: Condition<'_>,
        by: &str,
    ) -> Result<(), OperationError> {
        let name = Name::new(name).map_err(|_| missing(kind, name))?;
        let _changing = self.changing().await;
        let expect = self.resource_expect(kind, &name, condition).await?;
        let mut stored = self.store.resources().all().await?;
        let before = stored.len();
        stored.retain(|other| !(other.kind == kind.as_str() && other.name == name));
        if stored.len() == before {
            return Err(missing(kind, name.as_str()));
        }
        let rows: Vec<_> = stored.iter().map(row).collect::<Result<_, _>>()?;
        merge(&self.file(), &rows).map_err(OperationError::Faults)?;
        let deleted = self.store.resources().delete(kind.as_str(), &name, expect).await;
        deleted.map_err(|error| condition_failed(error, kind, &name))?;
        tracing::info!(target: "audit", by, kind = kind.as_str(), %name, "resource deleted");
        Ok(())
    }

    /// The configuration in force: the file's, and after it what the admin API made. Clients that are in both places
    /// are faults too.
    pub async fn merged_config(&self, file: &Config) -> Result<Result<Config, Vec<Fault>>, OperationError> {
        let stored = self.store.resources().all().await?;
        let rows: Vec<_> = stored.iter().map(row).collect::<Result<_, _>>()?;
        let mut doubled = Vec::new();
        for (index, client) in file.clients.iter().enumerate() {
            if self.store.clients().get(&client.name).await?.is_some() {
                doubled.push(in_both("client", index, &client.name));
            }
        }
        Ok(match merge(file, &rows) {
            Ok(config) if doubled.is_empty() => Ok(config),
            Ok(_) => Err(doubled),
            Err(mut faults) => {
                faults.append(&mut doubled);
                Err(faults)
            }
        })
    }

    /// What the store must find, after refusing what is in the file and comparing a file-independent entity tag.
    async fn resource_expect(
        &self,
        kind: Kind,
        name: &Name,
        condition: Condition<'_>,
    ) -> Result<Expect, OperationError> {
        if kind.of(&self.file()).iter().any(|(other, _)| other == name) {
            return Err(OperationError::InFile { kind: kind.as_str(), name: name.to_string() });
        }
        Ok(match condition {
            Condition::None => Expect::Any,
            Condition::Absent => Expect::Absent,
            Condition::Present | Condition::Is(_) => {
                let found = self.store.resources().get(kind.as_str(), name).await?;
                let wanted = |version| match condition {
                    Condition::Is(tag) => version_tag(version) == tag,
                    _ => true,
                };
                let version = found.map(|found| found.version).filter(|version| wanted(*version));
                Expect::Version(version.ok_or(OperationError::Stale(kind.as_str()))?)
            }
        })
    }

    /// What a resource made here may refer to: secrets of the vault that are set, and nothing on this machine. Whoever
    /// may write resources could otherwise have any file or environment variable of the server sent to a provider of
    /// their own. Returns what the caller should know.
    async fn resource_references(
        &self,
        kind: Kind,
        name: &Name,
        merged: &Config,
    ) -> Result<Vec<String>, OperationError> {
        let place = format!("{}.{name}", kind.as_str());
        let app = merged.apps.iter().find(|app| kind == Kind::App && app.name == *name);
        let file = match kind {
            Kind::Issuer if merged.issuers.iter().any(|i| i.name == *name && i.jwks_file.is_some()) => {
                Some("jwks_file")
            }
            Kind::Transmitter if merged.transmitters.iter().any(|t| t.name == *name && t.jwks_file.is_some()) => {
                Some("jwks_file")
            }
            Kind::App if app.is_some_and(|app| app.test_roots.is_some()) => Some("test_roots"),
            Kind::App if app.and_then(|app| app.approov.as_ref()).is_some_and(|a| a.jwks_file.is_some()) => {
                Some("approov.jwks_file")
            }
            Kind::Pins => merged.pins.iter().find(|set| set.name == *name).and_then(PinSet::file_key),
            _ => None,
        };
        if let Some(key) = file {
            return Err(OperationError::Faults(vec![only_in_file(&format!("{place}.{key}"))]));
        }
        let mut warnings = Vec::new();
        for used in super::secrets::uses(merged) {
            if used.kind != kind.as_str() || used.by != name {
                continue;
            }
            let SecretRef::Secret(secret) = used.reference else {
                return Err(OperationError::Faults(vec![only_in_file(&place)]));
            };
            match self.store.secrets().current(secret).await? {
                None => {
                    let message = format!("the vault holds no secret {secret}");
                    let hint = format!(
                        "set it first: vouchgate secret set {secret} --origin {}",
                        used.origin.unwrap_or_default()
                    );
                    return Err(OperationError::Faults(vec![Fault {
                        code: config::Code::UnknownReference.as_str(),
                        hint: Some(hint),
                        ..fault(&place, &message)
                    }]));
                }
                Some(found) if found.origin != used.origin => warnings.push(format!(
                    "the secret {secret} was set for another origin and is not sent to this one until it is set again"
                )),
                Some(_) => {}
            }
        }
        Ok(warnings)
    }
}

fn only_in_file(path: &str) -> Fault {
    Fault {
        hint: Some("store the value in the vault and write { \"secret\": \"NAME\" }".to_owned()),
        ..fault(path, "references to files and to the environment are for the configuration file")
    }
}

/// The file and the rows (kind, name, body) as one configuration, checked as a whole.
fn merge(file: &Config, rows: &[(String, Name, Value)]) -> Result<Config, Vec<Fault>> {
    let mut merged = file.clone();
    let mut faults = Vec::new();
    for (kind, name, body) in rows {
        let Some(kind) = Kind::ALL.into_iter().find(|known| known.as_str() == kind) else {
            faults.push(fault(kind, "no such kind of resource"));
            continue;
        };
        if let Some(index) = kind.of(file).iter().position(|(other, _)| other == name) {
            faults.push(in_both(kind.as_str(), index, name));
            continue;
        }
        let read = match kind {
            Kind::Issuer => config::read(body).map(|resource| merged.issuers.push(resource)),
            Kind::App => config::read(body).map(|resource| merged.apps.push(resource)),
            Kind::Provider => config::read(body).map(|resource| merged.providers.push(resource)),
            Kind::Model => config::read(body).map(|resource| merged.models.push(resource)),
            Kind::Policy => config::read(body).map(|resource| merged.policies.push(resource)),
            Kind::Risk => config::read(body).map(|resource| merged.risks.push(resource)),
            Kind::Budget => config::read(body).map(|resource| merged.budgets.push(resource)),
            Kind::Service => config::read(body).map(|resource| merged.services.push(resource)),
            Kind::Upstream => config::read(body).map(|resource| merged.upstreams.push(resource)),
            Kind::RuntimeSecret => config::read(body).map(|resource| merged.runtime_secrets.push(resource)),
            Kind::Transmitter => config::read(body).map(|resource| merged.transmitters.push(resource)),
            Kind::Webhook => config::read(body).map(|resource| merged.webhooks.push(resource)),
            Kind::Pins => config::read(body).map(|resource| merged.pins.push(resource)),
        };
        if let Err(found) = read {
            faults.extend(found.into_iter().map(|fault| below(&format!("{}.{name}", kind.as_str()), fault)));
        }
    }
    if faults.is_empty() {
        faults = merged.check();
    }
    if faults.is_empty() {
        let compiled = policy::compile(&merged.policies, &policy::World::of(&merged));
        faults = compiled.err().unwrap_or_default().iter().map(|f| fault("policy", &f.to_string())).collect();
    }
    if faults.is_empty() { Ok(merged) } else { Err(faults) }
}

/// A fault of one resource, at its place among all.
fn below(place: &str, mut fault: Fault) -> Fault {
    let joint = if fault.path.is_empty() || fault.path.starts_with('[') { "" } else { "." };
    fault.path = format!("{place}{joint}{}", fault.path);
    fault
}

fn fault(path: &str, message: &str) -> Fault {
    Fault {
        line: 0,
        column: 0,
        path: path.to_owned(),
        code: config::Code::BadValue.as_str(),
        message: message.to_owned(),
        hint: None,
    }
}

fn in_both(kind: &str, index: usize, name: &Name) -> Fault {
    Fault {
        code: config::Code::DuplicateName.as_str(),
        hint: Some("delete one of the two".to_owned()),
        ..fault(
            &format!("{kind}[{index}]"),
            &format!("the {kind} {name} is in the configuration file and was made through the admin API too"),
        )
    }
}

/// The body under the name of its path: a name in it may only repeat that one.
fn named(mut body: Map<String, Value>, name: &Name) -> Result<Map<String, Value>, OperationError> {
    match body.get("name") {
        None => {}
        Some(Value::String(other)) if other == name.as_str() => {}
        Some(_) => return Err(OperationError::value("name", "the name in the body is not the one in the path")),
    }
    body.insert("name".into(), name.as_str().into());
    Ok(body)
}

fn row(stored: &store::Resource) -> Result<(String, Name, Value), OperationError> {
    let body = serde_json::from_str(&stored.body).map_err(|_| store::StoreError::Row("a resource is not JSON"))?;
    Ok((stored.kind.clone(), stored.name.clone(), body))
}

fn stored_view(stored: &store::Resource) -> Result<ResourceView, OperationError> {
    let (_, _, body) = row(stored)?;
    Ok(ResourceView {
        name: stored.name.to_string(),
        body: with_source(body, "api"),
        etag: version_tag(stored.version),
        created: false,
        warnings: Vec::new(),
    })
}

fn file_view(name: &Name, body: Value) -> ResourceView {
    let etag = digest(&body.to_string());
    ResourceView { name: name.to_string(), body: with_source(body, "file"), etag, created: false, warnings: Vec::new() }
}

fn with_source(mut body: Value, source: &str) -> Value {
    if let Some(object) = body.as_object_mut() {
        object.insert("source".into(), source.into());
    }
    body
}

/// The entity tag of a stored resource.
fn version_tag(version: u64) -> String {
    format!("\"v{version}\"")
}

/// An entity tag made of what is shown.
pub(super) fn digest(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let short: Vec<u8> = hash.as_ref().iter().take(12).copied().collect();
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(short))
}

fn condition_failed(error: store::StoreError, kind: Kind, name: &Name) -> OperationError {
    match error {
        store::StoreError::Exists(_) | store::StoreError::Conflict(_) => OperationError::Stale(kind.as_str()),
        store::StoreError::Missing(_) => missing(kind, name.as_str()),
        other => other.into(),
    }
}

fn missing(kind: Kind, name: &str) -> OperationError {
    OperationError::NotFound { kind: kind.as_str(), name: name.to_owned() }
}
