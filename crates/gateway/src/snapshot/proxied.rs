//! Reverse-proxied APIs, ready to be called.

use std::sync::Arc;

use base::{Money, Name};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use net::{Deadlines, Target};

use super::SnapshotError;
use super::destination::{destination, join};
use crate::health::{Standby, States};
use crate::metrics::Label;
use crate::upstream::{Credential, CredentialError, KeyValues, RuntimeSecret};

/// A reverse-proxied API.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) name: Name,
    pub(crate) label: Label,
    pub(crate) target: Target,
    pub(crate) origin: String,
    pub(crate) inject: Option<Inject>,
    /// The runtime secrets that its callers may have put into their requests.
    pub(crate) secrets: Vec<Arc<RuntimeSecret>>,
    /// What a request costs.
    pub(crate) price: Money,
    pub(crate) deadlines: Deadlines,
    pub(super) path: String,
    base: String,
    allow: HeaderValue,
}

/// A header set in every request to an upstream.
#[derive(Debug)]
pub(crate) struct Inject {
    pub(crate) header: HeaderName,
    pub(crate) prefix: String,
    /// Its values: the one in use, and those to fall back on where the API refuses it.
    pub(crate) values: Standby,
}

impl Inject {
    /// The value that may be accepted, as far as is known.
    pub(crate) fn chosen(&self) -> usize {
        let all: Vec<usize> = (0..self.values.slots().len()).collect();
        self.values.choose(&all).unwrap_or_default()
    }

    /// Another value than the one at this place.
    pub(crate) fn other(&self, used: usize) -> Option<usize> {
        (0..self.values.slots().len()).find(|at| *at != used)
    }

    /// The value at this place.
    pub(crate) fn value(&self, at: usize) -> Option<&Credential> {
        self.values.slots().get(at)?.credential.as_ref()
    }
}

impl Upstream {
    pub(super) fn build(
        upstream: &config::Upstream,
        key: Option<KeyValues>,
        (deadlines, states): (Deadlines, &Arc<States>),
    ) -> Result<Self, SnapshotError> {
        let name = &upstream.name;
        let wrong =
            |reason: &str| SnapshotError::Resource { kind: "upstream", name: name.clone(), reason: reason.to_owned() };
        let (target, origin, base) = destination("upstream", name, upstream.url.as_str(), upstream.allow_private)?;
        let inject = match (&upstream.inject, key) {
            (Some(inject), Some(values)) => {
                let header =
                    HeaderName::try_from(inject.header.as_str()).map_err(|_| wrong("its header has no valid name"))?;
                let values = Standby::new((name, "inject"), values.usable(&origin), states);
                Some(Inject { header, prefix: inject.prefix.clone(), values })
            }
            (None, _) => None,
            (Some(_), None) => return Err(wrong("its injected value is missing")),
        };
        let methods: Vec<&str> = upstream.methods.iter().map(config::Method::as_str).collect();
        let allow = HeaderValue::try_from(methods.join(", ")).map_err(|_| wrong("its methods cannot be named"))?;
        let (label, path) = (Label::Named(name.clone()), upstream.path.as_str().to_owned());
        let price = upstream.price.unwrap_or(Money::ZERO);
        let (name, secrets) = (name.clone(), Vec::new());
        Ok(Self { name, label, target, origin, inject, secrets, price, deadlines, path, base, allow })
    }

    /// Those of `all` that are for it are put into requests to it.
    pub(super) fn with_secrets(mut self, all: &[Arc<RuntimeSecret>]) -> Self {
        self.secrets = all.iter().filter(|secret| secret.is_for(&self.name)).map(Arc::clone).collect();
        self
    }

    /// Why it cannot be called until somebody sets its injected value again.
    pub(super) fn trouble(&self) -> Option<CredentialError> {
        self.inject.as_ref()?.value(0)?.trouble(&self.origin)
    }

    /// The methods passed on, as `Allow` lists them.
    pub(crate) fn allow(&self) -> &HeaderValue {
        &self.allow
    }

    /// The path below this upstream's prefix, with a slash before it; empty for a path of its own.
    pub(super) fn path_there(&self, path: &str) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(path: &str, url: &str) -> Upstream {
        let config: config::Upstream =
            serde_json::from_value(serde_json::json!({"name": "u", "path": path, "url": url})).expect("upstream");
        let states = States::new(Arc::new(base::SystemClock));
        Upstream::build(&config, None, (Deadlines::default(), &states)).expect("builds")
    }

    #[test]
    fn an_upstream_takes_its_prefix_off_and_matches_whole_segments() {
        let maps = upstream("/maps/", "https://maps.example/api/");
        assert_eq!(maps.path_there("/maps/a/b").as_deref(), Some("/a/b"));
        assert_eq!(maps.path_there("/maps/").as_deref(), Some("/"));
        assert_eq!(maps.path_there("/mapsx"), None);
        assert_eq!(maps.request_path("/a/b", None).expect("path").as_str(), "/api/a/b");
        let one = upstream("/one", "https://maps.example");
        assert_eq!(one.path_there("/one").as_deref(), Some(""));
        assert_eq!(one.path_there("/one/two"), None);
        assert_eq!(one.request_path("", Some("q")).expect("path").as_str(), "/?q");
    }

    #[test]
    fn a_location_is_told_only_if_it_leads_back_here() {
        let maps = upstream("/maps/", "https://maps.example/api/");
        let here = |text: &'static str| {
            maps.location_here(&HeaderValue::from_static(text)).map(|v| v.to_str().expect("text").to_owned())
        };
        assert_eq!(here("https://maps.example/api/x?y").as_deref(), Some("/maps/x?y"));
        assert_eq!(here("/api/x").as_deref(), Some("/maps/x"));
        for elsewhere in [
            "https://evil.example/api/x",
            "https://maps.example.evil.example/api/x",
            "//evil.example/api/x",
            "/other",
            "x",
        ] {
            assert_eq!(here(elsewhere), None, "{elsewhere}");
        }
    }
}
