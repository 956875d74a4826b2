//! Everything a request is judged by, compiled once, never changed: a reload makes a new one and swaps it whole.

mod cloud;
mod destination;
mod figures;
mod keys;
mod model;
mod proxied;
mod surface;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::Name;
use config::{Cidr, Config, NonceMode};
use net::Deadlines;
use proof::token::Issuers;
use store::SecretTally;

pub(crate) use self::destination::{Field, Provider};
pub use self::figures::own_figures;
pub use self::keys::{ApiKey, KeyRing};
pub(crate) use self::model::{Hedging, Model, ModelTarget, Route};
pub(crate) use self::proxied::{Inject, Upstream};

use crate::budget::Membership;
use crate::cache;
use crate::edge::{Authorities, Cors, CredentialFields};
use crate::endpoint::service::Prompt;
use crate::health::States;
use crate::upstream::{Credential, CredentialError, KeyValues, RuntimeSecret, RuntimeValue};

/// What the binary gives to build a snapshot from.
pub struct Parts {
    /// The merged configuration: of the file and of the admin API.
    pub config: Config,
    /// The addresses the public listener is bound to.
    pub listening: Vec<SocketAddr>,
    /// Whose tokens are accepted, our own among them.
    pub issuers: Arc<Issuers>,
    /// The compiled policies of the same configuration.
    pub policies: policy::Policies,
    /// The Vouchgate keys in use.
    pub keys: KeyRing,
    /// The keys of each provider that has any, by the provider's name, in the order of [`config::Provider::key_refs`].
    pub provider_keys: HashMap<Name, Vec<KeyValues>>,
    /// The header fields of providers whose values are secrets, by the provider's name and the field's.
    pub provider_fields: HashMap<(Name, String), Credential>,
    /// The injected value of each upstream that has one, by the upstream's name.
    pub upstream_keys: HashMap<Name, KeyValues>,
    /// The values of runtime secrets by name, newest version first; and where their uses are counted.
    pub runtime_secrets: (HashMap<Name, Vec<RuntimeValue>>, SecretTally),
    /// How providers have been doing: the same for every snapshot.
    pub states: Arc<States>,
    /// How often this configuration has changed since start: names it in logs.
    pub generation: u64,
}

/// Why a snapshot cannot be built. `config::parse` and `Config::check` find nearly all of it before, with its place.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A URL that cannot be called.
    #[error("{kind} {name}: {reason}")]
    Url {
        /// `provider` or `upstream`.
        kind: &'static str,
        /// Its name.
        name: Name,
        /// What is wrong with it.
        reason: String,
    },
    /// A resource that names one that is not there, or holds what cannot be used.
    #[error("{kind} {name}: {reason}")]
    Resource {
        /// What kind of resource.
        kind: &'static str,
        /// Its name.
        name: Name,
        /// What is wrong with it.
        reason: String,
    },
}

/// A provider or upstream whose key may not be sent where it is now, or could not be had: its requests are refused (503),
/// everything else works.
#[derive(Debug)]
pub struct Unusable {
    /// `provider` or `upstream`.
    pub kind: &'static str,
    /// Its name.
    pub name: Name,
    /// Why.
    pub error: CredentialError,
}

/// An immutable set of resources.
pub struct Snapshot {
    pub(crate) authorities: Authorities,
    pub(crate) cors: Cors,
    /// When a caller is quite unlike itself, and what becomes of it then.
    pub(crate) anomaly: config::AnomalySection,
    pub(crate) trusted: Vec<Cidr>,
    /// Where they say the fingerprint of a client's greeting.
    pub(crate) fingerprint_header: Option<config::HeaderName>,
    /// The origins under which clients reach us (`https://host[:port]`): what proofs name, never what a request says.
    pub(crate) origins: Vec<String>,
    /// Where our metadata as a protected resource is (RFC 9728 section 5.1).
    pub(crate) resource_metadata: String,
    pub(crate) dpop: Dpop,
    pub(crate) limits: Limits,
    pub(crate) credential_fields: CredentialFields,
    /// The header in which each app that has one sends its own user's token, by the app's name.
    pub(crate) user_tokens: HashMap<String, http::HeaderName>,
    pub(crate) issuers: Arc<Issuers>,
    pub(crate) keys: KeyRing,
    pub(crate) policies: policy::Policies,
    /// Who belongs to which organisation and project.
    pub(crate) membership: Membership,
    generation: u64,
    /// What answers that are kept depend on.
    pub(crate) cache_epoch: [u8; 32],
    providers: HashMap<Name, Arc<Provider>>,
    models: HashMap<Name, Arc<Model>>,
    services: HashMap<String, Arc<Service>>,
    upstreams: Vec<Arc<Upstream>>,
}

/// Where requests may go.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) providers: HashMap<Name, Arc<Provider>>,
    pub(crate) models: HashMap<Name, Arc<Model>>,
}

/// The limits the data plane itself applies.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) body: usize,
    pub(crate) upload: usize,
    pub(crate) body_idle: Duration,
    pub(crate) response_body: usize,
    pub(crate) uri: usize,
    pub(crate) token: usize,
    pub(crate) json: llm::Limits,
    /// Bytes of answers that are kept.
    pub(crate) cache: u64,
}

/// What proofs of possession have to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dpop {
    pub(crate) nonce: NonceMode,
    pub(crate) max_age: Duration,
    pub(crate) skew: Duration,
}

/// A prompt with a URL.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) config: config::Service,
    pub(crate) prompt: Prompt,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// Where apps send their own users' tokens.
fn user_tokens(config: &Config) -> HashMap<String, http::HeaderName> {
    let one = |app: &config::App| {
        let header = app.user_token.as_ref()?.as_str().parse().ok()?;
        Some((app.name.as_str().to_owned(), header))
    };
    config.apps.iter().filter_map(one).collect()
}

impl Snapshot {
    /// Compile a configuration and what belongs to it. No I/O.
    pub fn build(parts: Parts) -> Result<Self, SnapshotError> {
        let Parts { config, listening, issuers, policies, keys, states, generation, .. } = parts;
        let (mut provider_keys, mut upstream_keys) = (parts.provider_keys, parts.upstream_keys);
        let deadlines = deadlines(&config.limits);
        let mut providers = HashMap::with_capacity(config.providers.len());
        for provider in &config.providers {
            let keys = provider_keys.remove(&provider.name).unwrap_or_default();
            let mut built = Provider::build(provider, keys, (deadlines, &states))?;
            built.own = own_figures(&config.prices, provider.name.as_str());
            built.set_fields(provider, &parts.provider_fields)?;
            providers.insert(provider.name.clone(), Arc::new(built));
        }
        let mut models = HashMap::with_capacity(config.models.len());
        for model in &config.models {
            models.insert(model.name.clone(), Arc::new(Model::build(model, &providers)?));
        }
        let mut services = HashMap::with_capacity(config.services.len());
        for service in &config.services {
            services.insert(service.path.as_str().to_owned(), Arc::new(Service::build(service)?));
        }
        let secrets = runtime_secrets(&config, parts.runtime_secrets, &states);
        let mut upstreams = Vec::with_capacity(config.upstreams.len());
        for upstream in &config.upstreams {
            let key = upstream_keys.remove(&upstream.name);
            upstreams.push(Arc::new(Upstream::build(upstream, key, (deadlines, &states))?.with_secrets(&secrets)));
        }
        // The longest prefix is the one meant.
        upstreams.sort_by_key(|upstream| std::cmp::Reverse(upstream.path.len()));
        let origins = config.server.origins(&listening);
        let external = origins.first().map_or("", String::as_str);
        Ok(Self {
            authorities: Authorities::new(external_urls(&config.server), &listening),
            resource_metadata: format!("{external}/.well-known/oauth-protected-resource"),
            dpop: Dpop {
                nonce: config.dpop.nonce,
                max_age: config.dpop.max_age.duration(),
                skew: config.dpop.skew.duration(),
            },
            anomaly: config.anomaly.clone(),
            cors: Cors::new(config.cors.origins.iter().map(config::Origin::as_str), config.cors.max_age.duration()),
            trusted: config.server.trusted_proxies.clone(),
            fingerprint_header: config.server.fingerprint_header.clone(),
            origins,
            limits: Limits { cache: config.cache.size.as_u64(), ..Limits::of(&config.limits) },
            credential_fields: CredentialFields::of(&config.clients),
            user_tokens: user_tokens(&config),
            issuers,
            keys,
            policies,
            membership: Membership::of(&config),
            generation,
            cache_epoch: cache::key::epoch(&config),
            providers,
            models,
            services,
            upstreams,
        })
    }

    /// The providers and models of a configuration, without keys: to see where requests would go.
    pub(crate) fn routes(config: &Config) -> Result<Routes, SnapshotError> {
        let deadlines = deadlines(&config.limits);
        let states = States::new(Arc::new(base::SystemClock));
        let mut routes = Routes::default();
        for provider in &config.providers {
            let mut built = Provider::build(provider, Vec::new(), (deadlines, &states))?;
            built.own = own_figures(&config.prices, provider.name.as_str());
            routes.providers.insert(provider.name.clone(), Arc::new(built));
        }
        for model in &config.models {
            routes.models.insert(model.name.clone(), Arc::new(Model::build(model, &routes.providers)?));
        }
        Ok(routes)
    }

    /// Whether a configuration can be compiled, whatever its keys are: what stands in its way.
    pub fn check(config: &Config) -> Result<(), SnapshotError> {
        let deadlines = deadlines(&config.limits);
        let states = States::new(Arc::new(base::SystemClock));
        for provider in &config.providers {
            Provider::build(provider, Vec::new(), (deadlines, &states))?;
        }
        for upstream in &config.upstreams {
            let bare = config::Upstream { inject: None, ..upstream.clone() };
            Upstream::build(&bare, None, (deadlines, &states))?;
        }
        config.services.iter().try_for_each(|service| Service::build(service).map(drop))
    }

    /// How often the configuration had changed when this was built.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What is out of service until its key is set again.
    pub fn unusable(&self) -> Vec<Unusable> {
        let found = |kind, name: &Name, error| Unusable { kind, name: name.clone(), error };
        let providers =
            self.providers.values().filter_map(|p| p.trouble().map(|error| found("provider", &p.name, error)));
        let upstreams =
            self.upstreams.iter().filter_map(|u| u.trouble().map(|error| found("upstream", &u.name, error)));
        let mut all: Vec<Unusable> = providers.chain(upstreams).collect();
        all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        all
    }

    /// The issuers whose tokens are accepted.
    pub fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    pub(crate) fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.get(name)
    }

    pub(crate) fn providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.values()
    }

    pub(crate) fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(name)
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    pub(crate) fn service_at(&self, path: &str) -> Option<&Arc<Service>> {
        self.services.get(path)
    }

    /// The upstream a path belongs to, and the path it has there.
    pub(crate) fn upstream_at(&self, path: &str) -> Option<(&Arc<Upstream>, String)> {
        self.upstreams.iter().find_map(|upstream| Some((upstream, upstream.path_there(path)?)))
    }
}

/// What requests to upstreams may have put into them.
fn runtime_secrets(
    config: &Config,
    (mut values, tally): (HashMap<Name, Vec<RuntimeValue>>, SecretTally),
    states: &Arc<States>,
) -> Vec<Arc<RuntimeSecret>> {
    let secret = |rules: &config::RuntimeSecret| {
        let values = values.remove(&rules.name).unwrap_or_default();
        Arc::new(RuntimeSecret::new(rules.clone(), values, (tally.clone(), states)))
    };
    config.runtime_secrets.iter().map(secret).collect()
}

impl Limits {
    fn of(limits: &config::Limits) -> Self {
        Self {
            body: limits.body.as_usize(),
            upload: limits.upload.as_usize(),
            body_idle: limits.body_idle.duration(),
            response_body: limits.response_body.as_usize(),
            uri: limits.uri.as_usize(),
            token: limits.token.as_usize(),
            json: llm::Limits {
                depth: usize::try_from(limits.json_depth).unwrap_or(usize::MAX),
                nodes: usize::try_from(limits.json_nodes).unwrap_or(usize::MAX),
                unique_members: true,
            },
            cache: 0,
        }
    }
}

/// The URLs under which clients reach us, where the operator says so; the first is the one tokens name.
fn external_urls(server: &config::Server) -> impl Iterator<Item = &url::Url> {
    server.external_url.iter().chain(&server.external_urls).map(config::HttpUrl::url)
}

fn deadlines(limits: &config::Limits) -> Deadlines {
    Deadlines {
        connect: limits.connect.duration(),
        tls: limits.connect.duration(),
        first_byte: limits.first_byte.duration(),
        idle: limits.idle.duration(),
    }
}

impl Service {
    fn build(service: &config::Service) -> Result<Self, SnapshotError> {
        let failed = |reason| SnapshotError::Resource { kind: "service", name: service.name.clone(), reason };
        Ok(Self { config: service.clone(), prompt: Prompt::compile(service).map_err(failed)? })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use base::Timestamp;

    use super::*;

    /// A model with these targets, of the providers `a` and `b`.
    pub(crate) fn model(targets: &str, strategy: &str) -> Model {
        model_with(targets, strategy, "")
    }

    /// The same with something more in the configuration.
    pub(crate) fn model_with(targets: &str, strategy: &str, more: &str) -> Model {
        let provider = |name: &str| format!("[[provider]]\nname = \"{name}\"\nkind = \"ollama\"\n");
        let model = format!("[[model]]\nname = \"m\"\nstrategy = \"{strategy}\"\ntargets = {targets}\n");
        let config = config::parse(&format!("{}{}{model}{more}", provider("a"), provider("b"))).expect("good");
        let states = States::new(Arc::new(base::FakeClock::at(Timestamp::from_secs(1))));
        let built = config.providers.iter().map(|provider| {
            let mut built = Provider::build(provider, Vec::new(), (Deadlines::default(), &states)).expect("builds");
            built.own = own_figures(&config.prices, provider.name.as_str());
            (provider.name.clone(), Arc::new(built))
        });
        Model::build(config.models.first().expect("one"), &built.collect()).expect("builds")
    }
}
