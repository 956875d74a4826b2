//! What apps are told over the air: published on purpose, made anew by itself, signed by a key that a root key vouches for.

mod build;
mod fit;
mod keys;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base::{Name, Timestamp};
use config::Config;
use proof::app_config::{AppConfig, Enforce, Kill, PinnedHost};
use proof::attest::client_data::{HeldConfig, HeldPins};
use proof::jose::SigningKey;
use proof::mtls::ClientCertificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::Delegated;

use super::{OperationError, Operations};

pub use build::PublishError;
pub use fit::PinFit;
pub use keys::{AcceptDelegation, ConfigKeyView, pin_file_faults};
pub use plan::{CertPlan, HostPlan, KeyPlan, PlanStep, ShownCertificate};

/// The certificate that the public listener shows (the leaf, DER), if TLS ends there.
type Leaf = dyn Fn() -> Option<Vec<u8>> + Send + Sync;

/// How it is found out what the public listener shows. Without a server it is what the file holds that the configuration names.
#[derive(Default)]
pub(super) struct Shown(pub(super) Option<Box<Leaf>>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shown").field(&self.0.is_some()).finish()
    }
}

/// A certificate as far as pins go.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) pin: [u8; 32],
    pub(super) names: ClientCertificate,
}

impl Certificate {
    fn parse(der: &[u8]) -> Option<Self> {
        let pin = proof::app_config::pin_of_certificate(der).ok()?;
        Some(Self { pin, names: ClientCertificate::parse(der).ok()? })
    }

    /// Whether it is for a host as it stands in URLs (RFC 9525 section 6.3: a wildcard is a whole first label).
    pub(super) fn covers(&self, host: &str) -> bool {
        if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return self.names.ip().contains(&ip);
        }
        self.names.dns().iter().any(|name| {
            let wildcard = name.strip_prefix("*.").zip(host.split_once('.'));
            name.eq_ignore_ascii_case(host) || wildcard.is_some_and(|(rest, (_, of))| rest.eq_ignore_ascii_case(of))
        })
    }
}

/// What is served, good until the store's version grows.
#[derive(Debug, Default)]
pub(super) struct Served(RwLock<Option<Arc<InForce>>>);

#[derive(Debug)]
struct InForce {
    version: u64,
    configs: HashMap<Name, Arc<ServedConfig>>,
}

/// A configuration as it is served.
#[derive(Debug)]
pub struct ServedConfig {
    /// The compact JWS.
    pub jws: String,
    /// Changes with it.
    pub etag: String,
    /// This one and those before it that count still, oldest first.
    published: Vec<Published>,
}

/// What a configuration means to whoever says which one it holds.
#[derive(Debug, Clone, Copy)]
struct Published {
    seq: u64,
    issued_at: Timestamp,
    expires_at: Timestamp,
    /// Whether apps are to compare the keys of a host.
    enforces: bool,
}

/// What is found of the configuration an installation says it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// It is older than it may be, or none that was published.
    pub(crate) stale: bool,
    /// It does not say that it compares keys, although it is to.
    pub(crate) unreported: bool,
}

impl ServedConfig {
    /// What to think of an installation that says it holds `held`, when whoever is not up to date has `grace` for it.
    pub(crate) fn judge(&self, held: Option<HeldConfig>, grace: Duration, now: Timestamp) -> Held {
        let late = |published: &Published| published.issued_at.plus(grace) <= now;
        let latest = self.published.last().filter(|latest| now < latest.expires_at);
        // What there is counts no more: that is the operator's to mend.
        let Some(latest) = latest else { return Held::default() };
        let seq = held.map(|held| held.seq);
        let known = self.published.iter().any(|published| Some(published.seq) == seq && now < published.expires_at);
        let overtaken =
            self.published.iter().any(|published| seq.is_some_and(|seq| seq < published.seq) && late(published));
        let stale = held.is_some_and(|held| overtaken || !known && (held.seq > latest.seq || late(latest)));
        // As long as all that counts says so.
        let enforced = latest.enforces && self.published.iter().any(|published| published.enforces && late(published));
        Held { stale, unreported: enforced && held.is_none_or(|held| held.pins == HeldPins::Off) }
    }
}

/// A configuration that is asked for.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PublishAppConfig {
    /// Keys that hosts have shown and that are still told of, to be dropped now (`sha256/...`): others may have them.
    #[schemars(length(max = 8))]
    pub drop: Vec<String>,
}

/// What is to be switched off or on again.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KillSwitches {
    /// Whether apps stop comparing keys. Absent: as it is.
    pub pinning: Option<bool>,
    /// Whether apps stop asking their platform for evidence. Absent: as it is.
    pub attest: Option<bool>,
}

/// What an app is told, as it is shown.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AppConfigView {
    /// The app.
    pub app: String,
    /// Its number.
    pub seq: u64,
    /// When it was made (RFC 3339).
    pub issued_at: String,
    /// From when on it does not count.
    pub expires_at: String,
    /// Who made it.
    pub by: String,
    /// The oldest version of the SDK that is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_sdk: Option<String>,
    /// The pinned hosts.
    pub hosts: Vec<PinnedHostView>,
    /// Whether apps do not compare keys.
    pub kill_pinning: bool,
    /// Whether apps do not ask their platform for evidence.
    pub kill_attest: bool,
    /// What deserves a second look.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A pinned host, as it is shown.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PinnedHostView {
    /// Its name.
    pub host: String,
    /// What apps do when it shows another key: `enforce` or `report`.
    pub mode: &'static str,
    /// The keys.
    pub pins: Vec<PinView>,
}

/// A pinned key, as it is shown.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PinView {
    /// `sha256/` and base64.
    pub pin: String,
    /// `current`, `next` or `backup`.
    pub role: &'static str,
    /// When it is dropped by itself (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl Operations {
    /// Have the certificate that the public listener shows found so.
    #[must_use]
    pub fn showing(self, leaf: impl Fn() -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self { shown: Shown(Some(Box::new(leaf))), ..self }
    }

    /// What the public listener shows, if TLS ends there.
    pub(super) fn shown(&self, config: &Config) -> Option<Certificate> {
        let der = if let Some(leaf) = &self.shown.0 {
            leaf()?
        } else {
            let path = &config.server.tls.as_ref()?.cert;
            CertificateDer::pem_file_iter(path).ok()?.next()?.ok()?.to_vec()
        };
        Certificate::parse(&der)
    }

    /// What each app is told, by name.
    pub async fn app_config_list(&self) -> Result<Vec<AppConfigView>, OperationError> {
        self.store.app_configs().latest().await?.iter().map(|stored| view(stored, Vec::new())).collect()
    }

    /// What one app is told.
    pub async fn app_config_show(&self, app: &str) -> Result<AppConfigView, OperationError> {
        view(&self.latest_config(app).await?, Vec::new())
    }

    /// Tell an app what the configuration says now. Refused where that does not fit what the listener shows, or would leave no
    /// key to go on with.
    pub async fn app_config_publish(
        &self,
        app: &str,
        asked: &PublishAppConfig,
        by: &str,
    ) -> Result<AppConfigView, OperationError> {
        let drop = build::dropped(&asked.drop)?;
        let _changing = self.changing().await;
        let config = self.current_config().await?;
        let name = known(&config, app)?;
        let last = self.store.app_configs().latest().await?.into_iter().find(|stored| stored.app == name);
        let before = last.as_ref().map(payload).transpose()?;
        let shown = self.shown(&config);
        let now = self.clock.now();
        let hosts =
            build::hosts(&build::Facts { config: &config, shown: shown.as_ref(), now }, &name, before.as_ref(), &drop)?;
        let warnings = publish_warnings(&config, before.as_ref(), &hosts);
        let kill = before.as_ref().map(|before| before.kill).unwrap_or_default();
        let stored = self.tell(&config, (&name, last.map_or(0, |last| last.seq)), (hosts, kill), by).await?;
        tracing::info!(target: "audit", by, app, seq = stored.seq, "configuration of an app published");
        view(&stored, warnings)
    }

    /// Switch something off in an app, or on again: what it is told is made anew with nothing else changed.
    pub async fn app_config_kill(
        &self,
        app: &str,
        switches: &KillSwitches,
        by: &str,
    ) -> Result<AppConfigView, OperationError> {
        let _changing = self.changing().await;
        let config = self.current_config().await?;
        let last = self.latest_config(app).await?;
        let before = payload(&last)?;
        let kill = Kill {
            pinning: switches.pinning.unwrap_or(before.kill.pinning),
            attest: switches.attest.unwrap_or(before.kill.attest),
        };
        let stored = self.tell(&config, (&last.app, last.seq), (before.hosts, kill), by).await?;
        tracing::warn!(target: "audit", by, app, pinning = kill.pinning, attest = kill.attest, "switches of an app set");
        view(&stored, Vec::new())
    }

    /// What goes on by itself: what apps are told is made anew after half of its time, with the same keys but for those whose
    /// time is over. To be called every minute or so, by one node. The apps it could not be done for, and why.
    pub async fn app_configs_maintain(&self) -> Result<Vec<(Name, OperationError)>, OperationError> {
        self.app_configs_renew("vouchgate", |stored, now| {
            let life = stored.expires_at.since(stored.issued_at);
            now >= stored.issued_at.plus(life / 2)
        })
        .await
    }

    async fn app_configs_renew(
        &self,
        by: &str,
        due: impl Fn(&store::AppConfig, Timestamp) -> bool,
    ) -> Result<Vec<(Name, OperationError)>, OperationError> {
        let now = self.clock.now();
        let latest = self.store.app_configs().latest().await?;
        if !latest.iter().any(|stored| due(stored, now)) {
            return Ok(Vec::new());
        }
        let _changing = self.changing().await;
        let config = self.current_config().await?;
        let shown = self.shown(&config);
        let mut left = Vec::new();
        for stored in latest {
            // An app that is gone is told nothing more.
            if !due(&stored, now) || known(&config, stored.app.as_str()).is_err() {
                continue;
            }
            let facts = build::Facts { config: &config, shown: shown.as_ref(), now };
            if let Err(error) = self.renew(&facts, &stored, by).await {
                left.push((stored.app, error));
            }
        }
        Ok(left)
    }

    async fn renew(&self, facts: &build::Facts<'_>, last: &store::AppConfig, by: &str) -> Result<(), OperationError> {
        let before = payload(last)?;
        let hosts = build::renewed(facts, &last.app, before.hosts)?;
        let renewed = audit::Event::new("app_config.renewed").by(by).with("app", last.app.as_str());
        self.audit.happened(renewed.with("seq", last.seq + 1)).await?;
        match self.tell(facts.config, (&last.app, last.seq), (hosts, before.kill), by).await {
            // Another node was faster.
            Err(error) if error.reason() == "conflict" => Ok(()),
            done => done.map(drop),
        }
    }

    /// Sign and keep a configuration that follows number `last`.
    async fn tell(
        &self,
        config: &Config,
        (app, last): (&Name, u64),
        (hosts, kill): (Vec<PinnedHost>, Kill),
        by: &str,
    ) -> Result<store::AppConfig, OperationError> {
        let (key, delegated) = self.config_signer().await?;
        let now = self.clock.now();
        let expires = build::end(config, now, delegated.until)?;
        let payload = AppConfig {
            v: 1,
            app: app.to_string(),
            seq: last.saturating_add(1),
            iat: now.as_secs(),
            exp: expires.as_secs(),
            min_sdk: config.app_config.min_sdk.clone(),
            hosts,
            endpoints: build::endpoints(&self.external_url, app),
            refresh_after: config.app_config.refresh_after.duration().as_secs(),
            kill,
        };
        self.keep_config(app, &payload, (&key, &delegated), by).await
    }

    async fn keep_config(
        &self,
        app: &Name,
        payload: &AppConfig,
        (key, delegated): (&SigningKey, &Delegated),
        by: &str,
    ) -> Result<store::AppConfig, OperationError> {
        let jws = proof::app_config::sign(key, &delegated.jws, payload)?;
        if jws.len() > proof::app_config::MAX_CONFIG_LEN {
            return Err(PublishError::TooLong.into());
        }
        let new = store::AppConfig {
            app: app.clone(),
            seq: payload.seq,
            payload: serde_json::to_string(payload).map_err(|_| proof::jose::SignError::Claims)?,
            jws,
            issued_at: Timestamp::from_secs(payload.iat),
            expires_at: Timestamp::from_secs(payload.exp),
            made_by: by.to_owned(),
        };
        Ok(self.store.app_configs().publish(new).await?)
    }

    /// What an app is served, if there is something: what `/.well-known/gateway-config/APP` answers.
    pub async fn served_app_config(&self, app: &str) -> Result<Option<Arc<ServedConfig>>, OperationError> {
        // Read before the configurations: a change in between makes the next call read again.
        let version = self.store.version();
        let cached = self.served.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let in_force = if let Some(cached) = cached.filter(|cached| cached.version == version) {
            cached
        } else {
            let latest = self.store.app_configs().latest().await?;
            let before = self.store.app_configs().since(self.clock.now()).await?;
            let served = |stored: store::AppConfig| {
                let etag = super::resources::digest(&stored.jws);
                let older = before.iter().filter(|one| one.app == stored.app && one.seq < stored.seq);
                let published = older.chain([&stored]).filter_map(published).collect();
                (stored.app, Arc::new(ServedConfig { jws: stored.jws, etag, published }))
            };
            let read = Arc::new(InForce { version, configs: latest.into_iter().map(served).collect() });
            *self.served.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&read));
            read
        };
        Ok(Name::new(app).ok().and_then(|app| in_force.configs.get(&app).cloned()))
    }

    async fn latest_config(&self, app: &str) -> Result<store::AppConfig, OperationError> {
        let latest = self.store.app_configs().latest().await?;
        latest.into_iter().find(|stored| stored.app.as_str() == app).ok_or_else(|| nothing_told(app))
    }
}

fn published(stored: &store::AppConfig) -> Option<Published> {
    let payload = payload(stored).ok()?;
    let enforces = !payload.kill.pinning && payload.hosts.iter().any(|host| host.enforce == Enforce::Yes);
    let store::AppConfig { seq, issued_at, expires_at, .. } = *stored;
    Some(Published { seq, issued_at, expires_at, enforces })
}

/// What works and still deserves a second look.
fn publish_warnings(config: &Config, before: Option<&AppConfig>, hosts: &[PinnedHost]) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.app_config.roots.len() < 2 {
        let message =
            "there is one root key only: build a spare into the app, kept elsewhere, for when this one is lost";
        warnings.push(message.to_owned());
    }
    for host in hosts {
        let known = before.and_then(|before| before.hosts.iter().find(|other| other.host == host.host));
        let (Some(known), Some(current)) = (known, host.pins.first()) else { continue };
        if !known.pins.iter().any(|pin| pin.spki_sha256 == current.spki_sha256) {
            warnings.push(format!(
                "{} shows a key that apps are not told of so far: until they have fetched this configuration they refuse it",
                host.host
            ));
        }
    }
    warnings
}

/// The app of that name.
fn known(config: &Config, app: &str) -> Result<Name, OperationError> {
    let found = config.apps.iter().map(|app| &app.name).find(|known| known.as_str() == app);
    found.cloned().ok_or_else(|| OperationError::NotFound { kind: "app", name: app.to_owned() })
}

fn nothing_told(app: &str) -> OperationError {
    OperationError::NotFound { kind: "configuration of an app", name: app.to_owned() }
}

pub(super) fn payload(stored: &store::AppConfig) -> Result<AppConfig, OperationError> {
    let read = proof::app_config::read(stored.payload.as_bytes());
    Ok(read.map_err(|_| store::StoreError::Row("not a configuration of an app"))?)
}

fn view(stored: &store::AppConfig, warnings: Vec<String>) -> Result<AppConfigView, OperationError> {
    let payload = payload(stored)?;
    Ok(AppConfigView {
        app: payload.app,
        seq: payload.seq,
        issued_at: stored.issued_at.rfc3339(),
        expires_at: stored.expires_at.rfc3339(),
        by: stored.made_by.clone(),
        min_sdk: payload.min_sdk,
        hosts: payload.hosts.iter().map(host_view).collect(),
        kill_pinning: payload.kill.pinning,
        kill_attest: payload.kill.attest,
        warnings,
    })
}

fn host_view(host: &PinnedHost) -> PinnedHostView {
    let pin = |pin: &proof::app_config::Pin| PinView {
        pin: format!("sha256/{}", pin.spki_sha256),
        role: pin.role.as_str(),
        until: pin.exp.map(|end| Timestamp::from_secs(end).rfc3339()),
    };
    let mode = match host.enforce {
        Enforce::Yes => "enforce",
        Enforce::Report => "report",
    };
    PinnedHostView { host: host.host.clone(), mode, pins: host.pins.iter().map(pin).collect() }
}
