//! Everything a request is judged by, compiled once, never changed: a reload makes a new one and swaps it whole.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{Name, Timestamp};
use config::{Cidr, Config, ProviderDialect, ProviderKind};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use llm::{Dialect, Flavour};
use net::{Deadlines, Reach, Target};
use proof::token::Issuers;
use vault::{HashPurpose, Vault};

use crate::edge::{Authorities, Cors};
use crate::endpoint::service::Prompt;
use crate::metrics::Label;
use crate::upstream::Credential;

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
    /// The key of each provider that has one, by the provider's name.
    pub provider_keys: HashMap<Name, Credential>,
    /// The injected value of each upstream that has one, by the upstream's name.
    pub upstream_keys: HashMap<Name, Credential>,
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
    /// A key that is bound to another origin than its provider or upstream has now.
    #[error("{kind} {name}: its secret was set for {bound}, not for {origin}; set the secret again")]
    Origin {
        /// `provider` or `upstream`.
        kind: &'static str,
        /// Its name.
        name: Name,
        /// Where the secret may be sent.
        bound: String,
        /// Where it would be sent.
        origin: String,
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

/// An immutable set of resources.
pub struct Snapshot {
    pub(crate) authorities: Authorities,
    pub(crate) cors: Cors,
    pub(crate) trusted: Vec<Cidr>,
    pub(crate) limits: Limits,
    pub(crate) issuers: Arc<Issuers>,
    pub(crate) keys: KeyRing,
    pub(crate) policies: policy::Policies,
    generation: u64,
    providers: HashMap<Name, Arc<Provider>>,
    models: HashMap<Name, Arc<Model>>,
    services: HashMap<String, Arc<Service>>,
    upstreams: Vec<Arc<Upstream>>,
}

/// The limits the data plane itself applies.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) body: usize,
    pub(crate) body_idle: Duration,
    pub(crate) response_body: usize,
    pub(crate) uri: usize,
    pub(crate) token: usize,
    pub(crate) json: llm::Limits,
}

/// A provider, ready to be called.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: Name,
    pub(crate) label: Label,
    pub(crate) kind: ProviderKind,
    pub(crate) dialect: ProviderDialect,
    pub(crate) target: Target,
    pub(crate) origin: String,
    pub(crate) credential: Option<Credential>,
    pub(crate) deadlines: Deadlines,
    base: String,
    chat: PathAndQuery,
    embeddings: PathAndQuery,
}

/// A model name and what stands behind it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: Name,
    pub(crate) targets: Vec<ModelTarget>,
    pub(crate) attempts: u32,
    pub(crate) retry_on: Vec<u16>,
    pub(crate) timeout: config::Timeout,
}

/// One way to answer.
#[derive(Debug, Clone)]
pub(crate) enum ModelTarget {
    /// The built-in model.
    Echo,
    /// A provider's model.
    Remote(Arc<Provider>, Arc<str>),
}

/// A prompt with a URL.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) config: config::Service,
    pub(crate) prompt: Prompt,
}

/// A reverse-proxied API.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) name: Name,
    pub(crate) label: Label,
    pub(crate) target: Target,
    pub(crate) origin: String,
    pub(crate) inject: Option<Inject>,
    pub(crate) deadlines: Deadlines,
    path: String,
    base: String,
    allow: HeaderValue,
}

/// A header set in every request to an upstream.
#[derive(Debug)]
pub(crate) struct Inject {
    pub(crate) header: HeaderName,
    pub(crate) prefix: String,
    pub(crate) credential: Credential,
}

/// A Vouchgate key, as far as the data plane needs it.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// The id records name it by.
    pub id: Arc<str>,
    /// What policies call it.
    pub name: Name,
    /// The keyed hash (purpose [`HashPurpose::ApiKey`]) of the whole key, `vg_` included.
    pub hash: [u8; 32],
    /// Whom it speaks for.
    pub subject: String,
    /// Through which client.
    pub client: Option<String>,
    /// What it may ask for.
    pub scopes: Vec<String>,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

/// The Vouchgate keys in use. A key is found by its keyed hash, so finding one says nothing about any other.
#[derive(Debug)]
pub struct KeyRing {
    vault: Arc<Vault>,
    keys: HashMap<[u8; 32], Arc<ApiKey>>,
}

impl KeyRing {
    /// A ring of these keys; revoked ones are left out by whoever builds it.
    pub fn new(vault: Arc<Vault>, keys: impl IntoIterator<Item = ApiKey>) -> Self {
        Self { vault, keys: keys.into_iter().map(|key| (key.hash, Arc::new(key))).collect() }
    }

    /// The key presented as this text, expired or not.
    pub(crate) fn find(&self, presented: &str) -> Option<&Arc<ApiKey>> {
        let hashes = self.vault.keyed_hashes(HashPurpose::ApiKey, presented.as_bytes());
        hashes.iter().find_map(|hash| self.keys.get(hash))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Compile a configuration and what belongs to it. No I/O.
    pub fn build(parts: Parts) -> Result<Self, SnapshotError> {
        let Parts { config, listening, issuers, policies, keys, mut provider_keys, mut upstream_keys, generation } =
            parts;
        let deadlines = deadlines(&config.limits);
        let mut providers = HashMap::with_capacity(config.providers.len());
        for provider in &config.providers {
            let key = provider_keys.remove(&provider.name);
            providers.insert(provider.name.clone(), Arc::new(Provider::build(provider, key, deadlines)?));
        }
        let mut models = HashMap::with_capacity(config.models.len());
        for model in &config.models {
            models.insert(model.name.clone(), Arc::new(Model::build(model, &providers)?));
        }
        let mut services = HashMap::with_capacity(config.services.len());
        for service in &config.services {
            let prompt = Prompt::compile(service).map_err(|reason| SnapshotError::Resource {
                kind: "service",
                name: service.name.clone(),
                reason,
            })?;
            services.insert(service.path.as_str().to_owned(), Arc::new(Service { config: service.clone(), prompt }));
        }
        let mut upstreams = Vec::with_capacity(config.upstreams.len());
        for upstream in &config.upstreams {
            let key = upstream_keys.remove(&upstream.name);
            upstreams.push(Arc::new(Upstream::build(upstream, key, deadlines)?));
        }
        // The longest prefix is the one meant.
        upstreams.sort_by_key(|upstream| std::cmp::Reverse(upstream.path.len()));
        Ok(Self {
            authorities: Authorities::new(config.server.external_url.as_ref().map(config::HttpUrl::url), &listening),
            cors: Cors::new(config.cors.origins.iter().map(config::Origin::as_str), config.cors.max_age.duration()),
            trusted: config.server.trusted_proxies.clone(),
            limits: Limits::of(&config.limits),
            issuers,
            keys,
            policies,
            generation,
            providers,
            models,
            services,
            upstreams,
        })
    }

    /// How often the configuration had changed when this was built.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.get(name)
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

impl Limits {
    fn of(limits: &config::Limits) -> Self {
        Self {
            body: limits.body.as_usize(),
            body_idle: limits.body_idle.duration(),
            response_body: limits.response_body.as_usize(),
            uri: limits.uri.as_usize(),
            token: limits.token.as_usize(),
            json: llm::Limits {
                depth: usize::try_from(limits.json_depth).unwrap_or(usize::MAX),
                nodes: usize::try_from(limits.json_nodes).unwrap_or(usize::MAX),
                unique_members: true,
            },
        }
    }
}

fn deadlines(limits: &config::Limits) -> Deadlines {
    Deadlines {
        connect: limits.connect.duration(),
        tls: limits.connect.duration(),
        first_byte: limits.first_byte.duration(),
        idle: limits.idle.duration(),
    }
}

impl Provider {
    fn build(
        provider: &config::Provider,
        key: Option<Credential>,
        deadlines: Deadlines,
    ) -> Result<Self, SnapshotError> {
        let name = &provider.name;
        let wrong =
            |reason: &str| SnapshotError::Url { kind: "provider", name: name.clone(), reason: reason.to_owned() };
        let base = provider.base().ok_or_else(|| wrong("it needs a base_url"))?;
        let dialect = provider.kind.dialect().ok_or_else(|| wrong("this kind cannot be called"))?;
        let (target, origin, path) = destination("provider", name, base, provider.may_be_private())?;
        let (chat, embeddings) = match dialect {
            ProviderDialect::OpenAi => ("/chat/completions", "/embeddings"),
            ProviderDialect::Anthropic => ("/v1/messages", "/v1/embeddings"),
        };
        let join =
            |end: &str| PathAndQuery::try_from(format!("{path}{end}")).map_err(|_| wrong("its path cannot be sent"));
        let (chat, embeddings) = (join(chat)?, join(embeddings)?);
        if let Some(key) = &key {
            check_origin("provider", name, key, &origin)?;
        }
        Ok(Self {
            name: name.clone(),
            label: Label::Named(name.clone()),
            kind: provider.kind,
            dialect,
            target,
            origin,
            credential: key,
            deadlines,
            base: path,
            chat,
            embeddings,
        })
    }

    /// How its dialect differs from what `OpenAI` itself speaks.
    pub(crate) fn flavour(&self) -> Flavour {
        Flavour::of_kind(self.kind.as_str())
    }

    /// Whether a stream may be asked for its usage; the others refuse the member and tell the usage unasked.
    pub(crate) fn takes_stream_options(&self) -> bool {
        !matches!(self.kind, ProviderKind::Mistral | ProviderKind::Perplexity)
    }

    /// What the provider speaks on the endpoint that answers `client`'s dialect.
    pub(crate) fn speaks(&self, client: Dialect) -> Dialect {
        match (self.dialect, client) {
            (_, Dialect::OpenAiEmbeddings) => Dialect::OpenAiEmbeddings,
            (ProviderDialect::OpenAi, _) => Dialect::OpenAiChat,
            (ProviderDialect::Anthropic, _) => Dialect::AnthropicMessages,
        }
    }

    /// Whether it has an endpoint for what a client of this dialect asks.
    pub(crate) fn answers(&self, client: Dialect) -> bool {
        client != Dialect::OpenAiEmbeddings || self.dialect == ProviderDialect::OpenAi
    }

    /// Where requests in `dialect` go.
    pub(crate) fn path(&self, dialect: Dialect) -> &PathAndQuery {
        if dialect == Dialect::OpenAiEmbeddings { &self.embeddings } else { &self.chat }
    }

    /// The provider's own path for what follows `/providers/NAME`, written with its whole base path, with `/v1`, or with
    /// neither: `/openai/v1/files`, `/v1/files` and `/files` are the same.
    pub(crate) fn native_path(&self, rest: &str, query: Option<&str>) -> Option<PathAndQuery> {
        let below = self.below(rest);
        match self.dialect {
            ProviderDialect::OpenAi => join(&self.base, below, query),
            ProviderDialect::Anthropic => join(&format!("{}/v1", self.base), below, query),
        }
    }

    /// The part of such a path that names the resource: `/files`.
    pub(crate) fn below<'p>(&self, rest: &'p str) -> &'p str {
        let without = |prefix: &str| rest.strip_prefix(prefix).filter(|below| below.starts_with('/'));
        let whole = if self.base.is_empty() { None } else { without(&self.base) };
        match whole {
            Some(below) if self.base.ends_with("/v1") => below,
            Some(below) => below.strip_prefix("/v1").filter(|b| b.starts_with('/')).unwrap_or(below),
            None => without("/v1").unwrap_or(rest),
        }
    }
}

impl Model {
    fn build(model: &config::Model, providers: &HashMap<Name, Arc<Provider>>) -> Result<Self, SnapshotError> {
        let targets = model.targets.iter().map(|target| {
            if target.provider.as_str() == config::OWN_NAME {
                return Ok(ModelTarget::Echo);
            }
            let provider = providers.get(&target.provider).ok_or_else(|| SnapshotError::Resource {
                kind: "model",
                name: model.name.clone(),
                reason: format!("there is no provider {}", target.provider),
            })?;
            Ok(ModelTarget::Remote(Arc::clone(provider), Arc::from(target.model.as_str())))
        });
        Ok(Self {
            name: model.name.clone(),
            targets: targets.collect::<Result<_, _>>()?,
            attempts: model.retry.attempts.max(1),
            retry_on: model.retry.on.clone(),
            timeout: model.timeout.clone(),
        })
    }
}

impl Upstream {
    fn build(
        upstream: &config::Upstream,
        key: Option<Credential>,
        deadlines: Deadlines,
    ) -> Result<Self, SnapshotError> {
        let name = &upstream.name;
        let wrong =
            |reason: &str| SnapshotError::Resource { kind: "upstream", name: name.clone(), reason: reason.to_owned() };
        let (target, origin, base) = destination("upstream", name, upstream.url.as_str(), upstream.allow_private)?;
        let inject = match (&upstream.inject, key) {
            (Some(inject), Some(credential)) => {
                check_origin("upstream", name, &credential, &origin)?;
                let header =
                    HeaderName::try_from(inject.header.as_str()).map_err(|_| wrong("its header has no valid name"))?;
                Some(Inject { header, prefix: inject.prefix.clone(), credential })
            }
            (None, _) => None,
            (Some(_), None) => return Err(wrong("its injected value is missing")),
        };
        let methods: Vec<&str> = upstream.methods.iter().map(config::Method::as_str).collect();
        let allow = HeaderValue::try_from(methods.join(", ")).map_err(|_| wrong("its methods cannot be named"))?;
        let (label, path) = (Label::Named(name.clone()), upstream.path.as_str().to_owned());
        Ok(Self { name: name.clone(), label, target, origin, inject, deadlines, path, base, allow })
    }

    /// The methods passed on, as `Allow` lists them.
    pub(crate) fn allow(&self) -> &HeaderValue {
        &self.allow
    }

    /// The path below this upstream's prefix, with a slash before it; empty for a path of its own.
    fn path_there(&self, path: &str) -> Option<String> {
        let rest = path.strip_prefix(&self.path)?;
        match (self.path.ends_with('/'), rest.is_empty()) {
            (true, _) => Some(format!("/{rest}")),
            (false, true) => Some(String::new()),
            (false, false) => None,
        }
    }

    /// A `Location` of the upstream's as a path here; `None` if it leads elsewhere, which is nobody's business.
    pub(crate) fn location_here(&self, location: &HeaderValue) -> Option<HeaderValue> {
        let text = location.to_str().ok()?;
        let absolute = text.strip_prefix(&self.origin).unwrap_or(text);
        let below = absolute.strip_prefix(&self.base)?;
        let inside = below.starts_with('/') && !below.starts_with("//") && self.path.ends_with('/');
        HeaderValue::try_from(format!("{}{}", self.path, below.strip_prefix('/').filter(|_| inside)?)).ok()
    }

    /// The whole path sent for `rest`.
    pub(crate) fn request_path(&self, rest: &str, query: Option<&str>) -> Option<PathAndQuery> {
        let whole = if rest.is_empty() && self.base.is_empty() { "/" } else { rest };
        join(&self.base, whole, query)
    }
}

fn join(base: &str, rest: &str, query: Option<&str>) -> Option<PathAndQuery> {
    let text = match query {
        Some(query) => format!("{base}{rest}?{query}"),
        None => format!("{base}{rest}"),
    };
    PathAndQuery::try_from(text).ok()
}

/// Where a base URL leads: its target, its origin as text, and its path without a slash at the end.
fn destination(
    kind: &'static str,
    name: &Name,
    base: &str,
    private: bool,
) -> Result<(Target, String, String), SnapshotError> {
    let wrong = |reason: String| SnapshotError::Url { kind, name: name.clone(), reason };
    let url = url::Url::parse(base).map_err(|error| wrong(error.to_string()))?;
    let reach = if private { Reach::Private } else { Reach::Public };
    let target = Target::new(&url, reach).map_err(|error| wrong(error.to_string()))?;
    let origin = url.origin().ascii_serialization();
    Ok((target, origin, url.path().trim_end_matches('/').to_owned()))
}

/// Fail at build time what would fail on every request.
fn check_origin(kind: &'static str, name: &Name, key: &Credential, origin: &str) -> Result<(), SnapshotError> {
    if key.origin() == origin {
        return Ok(());
    }
    let (bound, origin) = (key.origin().to_owned(), origin.to_owned());
    Err(SnapshotError::Origin { kind, name: name.clone(), bound, origin })
}
