//! What policies speak about.

use base::Name;
use config::{Config, ECHO_MODEL, ProviderDialect};

/// The names policies are about: what there is to allow.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Providers.
    pub providers: Vec<KnownProvider>,
    /// Names clients may use for models, the built-in one among them.
    pub models: Vec<Name>,
    /// Services.
    pub services: Vec<Name>,
    /// Upstreams.
    pub upstreams: Vec<Name>,
}

/// What of a provider decides which of its calls are inference.
#[derive(Debug, Clone)]
pub struct KnownProvider {
    /// Its name.
    pub name: Name,
    /// What it speaks.
    pub dialect: Option<ProviderDialect>,
    /// The path of its base URL, without a slash at its end: `/openai/v1`.
    pub base_path: String,
}

impl World {
    /// The names in a configuration.
    pub fn of(config: &Config) -> Self {
        let providers = config.providers.iter().map(|provider| KnownProvider {
            name: provider.name.clone(),
            dialect: provider.kind.dialect(),
            base_path: provider.base().map(|base| path_of(&base)).unwrap_or_default(),
        });
        Self {
            providers: providers.collect(),
            models: config.models.iter().map(|m| m.name.clone()).chain(Name::new(ECHO_MODEL)).collect(),
            services: config.services.iter().map(|s| s.name.clone()).collect(),
            upstreams: config.upstreams.iter().map(|u| u.name.clone()).collect(),
        }
    }
}

/// The path of a URL, without a slash at its end.
fn path_of(url: &str) -> String {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = after_scheme.find('/').and_then(|at| after_scheme.get(at..)).unwrap_or_default();
    path.trim_end_matches('/').to_owned()
}
