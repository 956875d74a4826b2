//! What an answer is found by: a keyed hash over everything it depends on.

use aws_lc_rs::{digest, hmac};
use base::Rng;
use config::{CacheScope, Config, ModelCache};
use http::HeaderMap;
use llm::Dialect;
use policy::Permit;

use crate::authenticate::Caller;

/// Names an answer. Nobody who does not know this process's secret can make two requests with the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

/// Makes keys.
pub(crate) struct Hasher(hmac::Key);

/// Everything an answer depends on besides the request's body.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// The configuration it was given under ([`epoch`]).
    pub(crate) epoch: &'a [u8; 32],
    /// How often everything had been forgotten ([`Cache::era`](super::Cache::era)).
    pub(crate) era: u64,
    pub(crate) permit: &'a Permit,
    pub(crate) caller: &'a Caller,
    pub(crate) model: &'a str,
    pub(crate) dialect: Dialect,
    pub(crate) stream: bool,
    pub(crate) headers: &'a HeaderMap,
    /// What else may decide which target answers.
    pub(crate) rules: &'a Rules,
}

/// Which answers of a model are kept, and what its targets tell requests apart by.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) config: ModelCache,
    by_client: bool,
    by_headers: Vec<String>,
}

impl Rules {
    /// Those of a provider, for models asked for by its name; `None` if their answers are not kept.
    pub(crate) fn of_provider(provider: &config::Provider) -> Option<Self> {
        Some(Self { config: provider.cache.clone()?, by_client: false, by_headers: Vec::new() })
    }

    /// Those of a model; `None` if its answers are not kept.
    pub(crate) fn of(model: &config::Model) -> Option<Self> {
        let config = model.cache.clone()?;
        let conditions = || model.targets.iter().map(|target| &target.when);
        let mut by_headers: Vec<String> = conditions().flat_map(|when| when.header.keys().cloned()).collect();
        by_headers.sort_unstable();
        by_headers.dedup();
        Some(Self { config, by_client: conditions().any(|when| !when.client.is_empty()), by_headers })
    }
}

/// What a body is hashed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// All but its last question.
    Rest,
    /// What a service asks, in place of a body.
    Service,
}

/// Header fields of a caller that reach a provider.
const HEADERS: [&str; 3] = ["anthropic-version", "anthropic-beta", "openai-beta"];

impl Hasher {
    /// With a secret of its own.
    pub(crate) fn new(rng: &dyn Rng) -> Self {
        let mut secret = [0; 32];
        rng.fill(&mut secret);
        Self(hmac::Key::new(hmac::HMAC_SHA256, &secret))
    }

    /// The key of a body, in its canonical form, within a scope.
    pub(crate) fn key(&self, scope: &Scope<'_>, (part, canonical): (Part, &[u8])) -> Key {
        let mut hash = hmac::Context::with_key(&self.0);
        let mut field = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        field(scope.epoch);
        field(&scope.era.to_be_bytes());
        field(scope.permit.policy().as_str().as_bytes());
        match scope.rules.config.scope {
            CacheScope::Policy => field(b"policy"),
            CacheScope::Subject => {
                field(b"subject");
                field(scope.caller.issuer().as_bytes());
                field(scope.caller.subject().as_bytes());
                field(scope.caller.key_id().as_deref().unwrap_or_default().as_bytes());
            }
        }
        field(scope.model.as_bytes());
        field(scope.dialect.as_str().as_bytes());
        field(&[u8::from(scope.stream), part as u8]);
        field(&scope.permit.max_output_tokens().map_or([0; 9], limit));
        if scope.rules.by_client {
            field(scope.caller.client().unwrap_or_default().as_bytes());
        }
        for name in HEADERS.into_iter().chain(scope.rules.by_headers.iter().map(String::as_str)) {
            let values = scope.headers.get_all(name);
            field(&(values.iter().count() as u64).to_be_bytes());
            for value in values {
                field(value.as_bytes());
            }
        }
        field(canonical);
        let mut key = [0; 32];
        // An HMAC-SHA-256 tag has 32 bytes.
        key.iter_mut().zip(hash.sign().as_ref()).for_each(|(to, from)| *to = *from);
        Key(key)
    }
}

fn limit(tokens: u64) -> [u8; 9] {
    let mut bytes = [1; 9];
    bytes.iter_mut().skip(1).zip(tokens.to_be_bytes()).for_each(|(to, from)| *to = from);
    bytes
}

/// What of a configuration answers depend on, in short: policies, models and where they run. No answer outlives a change.
pub(crate) fn epoch(config: &Config) -> [u8; 32] {
    let parts = (&config.policies, &config.models, &config.providers);
    // Configuration is made of texts, numbers, lists and tables: it can always be written.
    let written = serde_json::to_vec(&parts).unwrap_or_default();
    let mut epoch = [0; 32];
    epoch.iter_mut().zip(digest::digest(&digest::SHA256, &written).as_ref()).for_each(|(to, from)| *to = *from);
    epoch
}

#[cfg(test)]
impl Key {
    pub(crate) fn of(byte: u8) -> Self {
        Self([byte; 32])
    }
}
