//! What policies speak about.

use base::Name;
use config::{Budget, Config, ECHO_MODEL, ProviderDialect, ProviderKind};

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
    /// What may be spent.
    pub budgets: Vec<Budget>,
}

/// What of a provider decides which of its calls are inference.
#[derive(Debug, Clone)]
pub struct KnownProvider {
    /// Its name.
    pub name: Name,
    /// Whose API it is.
    pub kind: ProviderKind,
    /// What it speaks.
    pub dialect: Option<ProviderDialect>,
    /// What may stand before the paths of its API: the path of its base URL (`/openai/v1`), and what its cloud has there.
    pub prefixes: Vec<String>,
}

impl World {
    /// The names in a configuration.
    pub fn of(config: &Config) -> Self {
        let providers = config.providers.iter().map(|provider| KnownProvider {
            name: provider.name.clone(),
            kind: provider.kind,
            dialect: provider.kind.dialect(),
            prefixes: prefixes(provider),
        });
        Self {
            providers: providers.collect(),
            models: config.models.iter().map(|m| m.name.clone()).chain(Name::new(ECHO_MODEL)).collect(),
            services: config.services.iter().map(|s| s.name.clone()).collect(),
            upstreams: config.upstreams.iter().map(|u| u.name.clone()).collect(),
            budgets: config.budgets.clone(),
        }
    }
}

fn prefixes(provider: &config::Provider) -> Vec<String> {
    let base = provider.base().map(|base| path_of(&base)).unwrap_or_default();
    match provider.kind {
        ProviderKind::Azure => ["/openai/v1", "/openai", "/openai/deployments/*"].map(str::to_owned).into(),
        ProviderKind::Bedrock => vec!["/openai/v1".to_owned()],
        ProviderKind::Vertex => {
            let location = provider.location.as_ref().map_or("global", config::PathName::as_str);
            let resource = provider.project.as_ref().map(|project| format!("/projects/{project}/locations/{location}"));
            let resource = resource.unwrap_or_default();
            let versions = ["", "/v1", "/v1beta1"].iter();
            versions.flat_map(|version| [format!("{version}{resource}"), (*version).to_owned()]).collect()
        }
        _ => vec![base],
    }
}

/// The path of a URL, without a slash at its end.
fn path_of(url: &str) -> String {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = after_scheme.find('/').and_then(|at| after_scheme.get(at..)).unwrap_or_default();
    path.trim_end_matches('/').to_owned()
}
