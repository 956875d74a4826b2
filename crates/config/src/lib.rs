//! The configuration file: its types, parsing and checking. Pure: text in, [`Config`] or [`Fault`]s out.
//!
//! Each resource has one type here, used by the file, the database and the admin API alike. Whether a file
//! or environment variable that is named exists is found out by whoever opens it, not here.

mod alone;
mod anomaly;
mod app;
mod attest;
mod audit;
mod aws;
mod bucket;
mod budget;
mod cache;
mod check;
mod client;
mod client_auth;
mod cloud;
mod fault;
mod hedge;
mod host;
mod issuer;
mod level;
mod model;
mod not_built;
mod oauth;
mod parse;
mod pins;
mod policy;
mod price;
mod provider;
mod redirect;
mod resilience;
mod resource;
mod risk;
mod rotation;
mod routes;
mod routing;
mod runtime_secret;
mod secret_ref;
mod sections;
mod service;
mod suggest;
mod telemetry;
mod template;
mod text;
mod time_window;
mod transmitter;
mod tree;
mod upstream;
mod values;
mod walk;
mod webhook;

#[cfg(test)]
mod tests;

pub use anomaly::{AnomalySection, OnAnomaly};
pub use app::{
    AltchaWork, AndroidApp, App, AppProof, AppleEnvironment, ApproovApp, AskDeviceCheck, AskFraudMetric, Captcha,
    ConsumeAppCheck, EvidenceKind, FirebaseApp, IosApp, KeyHardware, PlayIntegrity, Sha256Hex, TestRoots, WebApp,
    WebAuthnSite, dotted_version,
};
pub use attest::AttestSection;
pub use audit::{AuditPublish, AuditSection, OnAuditFailure};
pub use bucket::Bucket;
pub use budget::{Budget, BudgetMode, BudgetPer, BudgetUnit, BudgetWindow, OnUnknown, Over, Spend, Threshold};
pub use cache::{CacheScope, CacheSection, ModelCache, SemanticCache, Similarity};
pub use client::{Client, CredentialHeader, Grant, Requirement, Scope};
pub use client_auth::{ClientAuth, ClientKeys, TlsRule};
pub use cloud::{CloudIdentity, Entra, FieldText, FieldValue, PathName};
pub use fault::{Code, Fault};
pub use hedge::{Hedge, HedgeAfter, Share};
pub use host::HostPattern;
pub use issuer::{Algorithm, Claims, Issuer, KeySource, Preset};
pub use level::{AttestationLevel, Platform};
pub use model::{Model, OnUnsupported, Retry, Target, Timeout};
pub use oauth::{DpopSection, NonceMode, Signin, TokenSection};
pub use parse::{locate, parse};
pub use pins::{AppConfigSection, PinHash, PinMode, PinSet};
pub use policy::{Bound, May, OnRevocation, OneOrMany, Passthrough, Per, Policy, Rate, Tools, Who};
pub use price::{ImagePrice, Price, PriceTier};
pub use provider::{KeyRef, Provider, ProviderApi, ProviderDialect, ProviderKind};
pub use redirect::RedirectUri;
pub use resilience::{Breaker, ProviderKey, Queue};
pub use resource::{Resource, read};
pub use risk::{
    Annotation, BootKey, FORCED_PASS, FlagKind, FlagName, FlagWord, ForcedPass, Grace, Moment, Risk, RiskAction,
    RiskMode, RiskRule, RiskThrottle, RiskUnless, RiskWhen, STEP_UP_LASTS, StepUp,
};
pub use rotation::RotationSection;
pub use routing::{Sticky, Strategy, When};
pub use runtime_secret::RuntimeSecret;
pub use secret_ref::SecretRef;
pub use sections::{
    ClientCertificates, Cors, Limits, Log, LogFormat, LogLevel, Server, SharedAddress, StoreAddress, StoreSection, Tls,
    UpstreamCa, VaultSection,
};
pub use service::{ResponseFormat, Scalar, Service, Variable, VariableKind};
pub use telemetry::{OtlpExport, TelemetrySection};
pub use template::{Piece, Template};
pub use text::ValueError;
pub use time_window::TimeWindow;
pub use transmitter::Transmitter;
pub use upstream::{Inject, Upstream};
pub use values::{
    Cidr, EnvName, HeaderName, HttpUrl, Method, Origin, PathPattern, Pattern, RoutePath, ServerUrl, SharedUrl,
    StoreUrl, canonical,
};
pub use webhook::{Webhook, WebhookEvent};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What Vouchgate calls itself among issuers and providers: the issuer of its own tokens, the provider of the
/// built-in model. No resource may take the name.
pub const OWN_NAME: &str = "vouchgate";

/// The name of the built-in model.
pub const ECHO_MODEL: &str = "vouchgate/echo";

/// The longest configuration text, in bytes.
pub const MAX_TEXT: usize = 4 << 20;

/// A whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where Vouchgate listens and what it calls itself.
    pub server: Server,
    /// Every limit of the edge.
    pub limits: Limits,
    /// Web pages that may call.
    pub cors: Cors,
    /// Room for cached answers.
    pub cache: CacheSection,
    /// Where state is kept.
    pub store: StoreSection,
    /// The key that seals all secrets.
    pub vault: VaultSection,
    /// How old keys may grow.
    pub rotation: RotationSection,
    /// What is logged.
    pub log: Log,
    /// The audit log.
    pub audit: AuditSection,
    /// Metrics for a collector.
    pub telemetry: TelemetrySection,
    /// What becomes of a caller that behaves quite unlike itself.
    pub anomaly: AnomalySection,
    /// What apps are told over the air.
    pub app_config: AppConfigSection,
    /// Attestation of apps.
    pub attest: AttestSection,
    /// How long what we issue lives, and our signing keys.
    pub token: TokenSection,
    /// Proofs of possession.
    pub dpop: DpopSection,
    /// Where people sign in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signin: Option<Signin>,
    /// Whose tokens are accepted besides our own.
    #[serde(rename = "issuer", skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<Issuer>,
    /// Who may ask us for tokens.
    #[serde(rename = "client", skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<Client>,
    /// Apps whose installations prove by attestation what they are.
    #[serde(rename = "app", skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<App>,
    /// Where models run.
    #[serde(rename = "provider", skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<Provider>,
    /// Names clients use for models.
    #[serde(rename = "model", skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Model>,
    /// What models cost and how much fits in them, where the table of this version does not say it.
    #[serde(rename = "price", skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<Price>,
    /// Who may do what.
    #[serde(rename = "policy", skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
    /// What becomes of instances of apps, by what is known about them.
    #[serde(rename = "risk", skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<Risk>,
    /// What may be spent.
    #[serde(rename = "budget", skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
    /// Prompts published as endpoints.
    #[serde(rename = "service", skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Other HTTP APIs, protected the same way.
    #[serde(rename = "upstream", skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
    /// Secrets that apps use and do not carry.
    #[serde(rename = "runtime_secret", skip_serializing_if = "Vec::is_empty")]
    pub runtime_secrets: Vec<RuntimeSecret>,
    /// Whose security events are obeyed.
    #[serde(rename = "transmitter", skip_serializing_if = "Vec::is_empty")]
    pub transmitters: Vec<Transmitter>,
    /// Whom to tell of what happens.
    #[serde(rename = "webhook", skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
    /// Hosts whose keys apps are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<PinSet>,
}

impl Config {
    /// All defaults, no resources.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Faults that only show between resources: names taken twice, names nobody has, paths that collide. For a
    /// set merged from several places: [`parse`] has done it for a file. There are no lines, only paths.
    pub fn check(&self) -> Vec<Fault> {
        let mut faults = fault::Faults::default();
        check::World::of(self).check(&mut faults);
        faults.without_lines()
    }

    /// Every reference to a secret, each with its place (`provider.openai.api_key`).
    pub fn secret_refs(&self) -> Vec<(String, &SecretRef)> {
        let mut refs = vec![("vault.key".to_owned(), &self.vault.key)];
        let older = self.vault.older.iter().enumerate();
        refs.extend(older.map(|(index, key)| (format!("vault.older[{index}]"), key)));
        if let Some(secret) = self.signin.as_ref().and_then(|signin| signin.client_secret.as_ref()) {
            refs.push(("signin.client_secret".to_owned(), secret));
        }
        let issuers = self.issuers.iter().map(|i| (Issuer::KIND, &i.name, "hs256_secret", i.hs256_secret.as_ref()));
        let next_issuers =
            self.issuers.iter().map(|i| (Issuer::KIND, &i.name, "next_hs256_secret", i.next_hs256_secret.as_ref()));
        for upstream in &self.upstreams {
            let place = |key: &str| format!("{}.{}.inject.{key}", Upstream::KIND, upstream.name);
            refs.extend(upstream.inject.iter().flat_map(Inject::values).map(|(key, secret)| (place(key), secret)));
        }
        let transmitters = self.transmitters.iter().map(|t| (Transmitter::KIND, &t.name, "bearer", t.bearer.as_ref()));
        for provider in &self.providers {
            let place = |key: &str| format!("{}.{}.{key}", Provider::KIND, provider.name);
            refs.extend(provider.secrets().map(|(key, secret)| (place(&key), secret)));
        }
        for app in &self.apps {
            refs.extend(
                app.secrets().into_iter().map(|(key, secret)| (format!("{}.{}.{key}", App::KIND, app.name), secret)),
            );
        }
        let telemetry = self.telemetry.otlp.iter().flat_map(telemetry::OtlpExport::secrets);
        refs.extend(telemetry.map(|(key, secret)| (format!("telemetry.otlp.{key}"), secret)));
        let published = self.audit.publish.iter().filter_map(|to| to.key.as_ref().map(|key| (&to.name, key)));
        refs.extend(published.map(|(name, key)| (format!("audit.publish.{name}.key"), key)));
        let webhooks = self.webhooks.iter().map(|w| (Webhook::KIND, &w.name, "secret", Some(&w.secret)));
        for (kind, name, key, secret) in issuers.chain(next_issuers).chain(transmitters).chain(webhooks) {
            if let Some(secret) = secret {
                refs.push((format!("{kind}.{name}.{key}"), secret));
            }
        }
        refs
    }

    /// The configuration as a file that [`parse`] reads back to the same.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }
}

/// The JSON Schema of the file (draft 2020-12). Texts with a form of their own name it in `x-kind`.
pub fn schema() -> serde_json::Value {
    shared_schema().clone()
}

/// The schema, made once.
fn shared_schema() -> &'static serde_json::Value {
    static SCHEMA: std::sync::LazyLock<serde_json::Value> =
        std::sync::LazyLock::new(|| schemars::schema_for!(Config).to_value());
    &SCHEMA
}
