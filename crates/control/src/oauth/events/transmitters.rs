//! Whose events are heard: `[[transmitter]]`, their keys, and what they say in `Authorization`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::Secret;
use config::{Config, HttpUrl, KeySource};
use http::{HeaderMap, header};
use proof::jose::{Alg, KeySet};
use serde_json::Value;

use super::super::request::unavailable;
use super::super::{Oauth, OauthError};
use super::{RETRY, Refused, Stop};
use crate::operations::RegisteredKeys;

/// How long what a transmitter's metadata says is believed.
const METADATA: Duration = Duration::from_hours(1);

/// Where transmitters publish their metadata: the framework, its draft, and RISC before it.
const WELL_KNOWN: [&str; 3] = ["ssf-configuration", "sse-configuration", "risc-configuration"];

/// The transmitters of the configuration in force.
#[derive(Default)]
pub(super) struct Transmitters {
    held: Mutex<Option<Held>>,
    metadata: tokio::sync::Mutex<HashMap<String, (Instant, Option<HttpUrl>)>>,
}

impl std::fmt::Debug for Transmitters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transmitters").finish_non_exhaustive()
    }
}

/// What was read, good until the file or the store changes.
struct Held {
    version: u64,
    file: Arc<Config>,
    by_issuer: HashMap<String, Arc<Known>>,
}

/// A transmitter, ready.
#[derive(Debug)]
pub(super) struct Known {
    /// As it is configured.
    pub(super) transmitter: config::Transmitter,
    /// What it may sign with.
    pub(super) algorithms: Vec<Alg>,
    /// The `iss` of the issuer whose subjects it speaks about, if its tokens have one.
    pub(super) subjects_iss: Option<String>,
    /// Whether that issuer's subjects are mail addresses.
    pub(super) subjects_are_mail: bool,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    At(RegisteredKeys),
    ByMetadata,
    Unusable,
}

impl Known {
    fn of(transmitter: &config::Transmitter, config: &Config) -> Self {
        let keys = match transmitter.key_source() {
            Some(KeySource::Discovery) => Keys::ByMetadata,
            Some(KeySource::JwksUrl(url)) => {
                Keys::At(RegisteredKeys::Url { url: url.clone(), allow_private: transmitter.allow_private })
            }
            Some(KeySource::JwksFile(path)) => {
                let set = std::fs::read(path).map_err(|error| error.to_string());
                let set = set.and_then(|text| KeySet::from_issuer_file(&text).map_err(|error| error.to_string()));
                match set {
                    Ok(set) => Keys::At(RegisteredKeys::Set(Arc::new(set))),
                    Err(error) => {
                        tracing::error!(transmitter = %transmitter.name, error, "the keys of a transmitter cannot be read");
                        Keys::Unusable
                    }
                }
            }
            Some(KeySource::SharedSecret(_)) | None => Keys::Unusable,
        };
        let subjects = config.issuers.iter().find(|issuer| issuer.name == transmitter.subjects);
        Self {
            algorithms: transmitter.algorithms().iter().filter_map(|alg| Alg::from_name(alg.as_str())).collect(),
            subjects_iss: subjects.and_then(|issuer| issuer.issuer.clone()),
            subjects_are_mail: subjects.is_some_and(|issuer| issuer.claims.subject.as_deref() == Some("email")),
            transmitter: transmitter.clone(),
            keys,
        }
    }
}

impl Oauth {
    /// The transmitter whose tokens say `iss`.
    pub(super) async fn transmitter(&self, iss: &str) -> Result<Option<Arc<Known>>, Stop> {
        let file = self.operations().file();
        // Read before the resources: a change in between makes the next call read again.
        let version = self.operations().store().version();
        let found = |held: &Held| held.by_issuer.get(iss).map(Arc::clone);
        {
            let held = self.ears.transmitters.held.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(held) = held.as_ref().filter(|h| h.version == version && Arc::ptr_eq(&h.file, &file)) {
                return Ok(found(held));
            }
        }
        let merged = self.operations().merged_config(&file).await.map_err(|error| Stop::Error(unavailable(&error)))?;
        // What does not go together is not in force; the file alone is.
        let merged = merged.unwrap_or_else(|_| (*file).clone());
        let ready = merged.transmitters.iter().map(|t| (t.issuer.clone(), Arc::new(Known::of(t, &merged))));
        let held = Held { version, file, by_issuer: ready.collect() };
        let known = found(&held);
        *self.ears.transmitters.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(known)
    }

    /// Refuse who does not say what a transmitter has to in `Authorization`.
    pub(super) async fn bearer(&self, known: &Known, headers: &HeaderMap) -> Result<(), Stop> {
        let Some(reference) = &known.transmitter.bearer else { return Ok(()) };
        let expected: Secret<String> = self.parts.secrets.read(reference).await.map_err(|error| {
            tracing::error!(transmitter = %known.transmitter.name, reason = error.reason, %error, "a secret cannot be read");
            Stop::Error(OauthError::Unavailable)
        })?;
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(Refused::Authentication.into()) };
        let (scheme, said) = value.as_bytes().split_at_checked(7).ok_or(Refused::Authentication)?;
        let right = scheme.eq_ignore_ascii_case(b"bearer ") & expected.matches(said.trim_ascii());
        if right { Ok(()) } else { Err(Refused::Authentication.into()) }
    }

    /// Its keys; `anew`: those held do not have the one that was used.
    pub(super) async fn transmitter_keys(&self, known: &Known, anew: bool) -> Result<Arc<KeySet>, OauthError> {
        let transmitter = &known.transmitter;
        match &known.keys {
            Keys::At(place) => self.client_keys.of(place, anew).await,
            Keys::Unusable => Err(OauthError::Unavailable),
            Keys::ByMetadata => {
                let url = self.key_set_url(transmitter).await.ok_or(OauthError::Unavailable)?;
                let place = RegisteredKeys::Url { url, allow_private: transmitter.allow_private };
                self.client_keys.of(&place, anew).await
            }
        }
    }

    /// Where a transmitter's metadata says its keys are (Shared Signals Framework section 7). Asked for once in an hour, and
    /// once in a while where it gave nothing.
    async fn key_set_url(&self, transmitter: &config::Transmitter) -> Option<HttpUrl> {
        // One at a time: who waits finds what the one before has brought.
        let mut held = self.ears.transmitters.metadata.lock().await;
        let now = self.operations().clock().monotonic();
        if let Some((at, url)) = held.get(&transmitter.issuer) {
            let good_for = if url.is_some() { METADATA } else { RETRY };
            if now.saturating_duration_since(*at) < good_for {
                return url.clone();
            }
        }
        let mut found = None;
        for name in WELL_KNOWN {
            let Some(url) = well_known(&transmitter.issuer, name) else { break };
            match self.parts.documents.get(&url, transmitter.allow_private).await {
                Ok(document) => {
                    found = key_set_url(&document.body, &transmitter.issuer);
                    if found.is_none() {
                        tracing::warn!(transmitter = %transmitter.name, url, "the metadata is another's, or names no keys");
                    }
                }
                Err(error) => {
                    tracing::info!(transmitter = %transmitter.name, url, reason = error.reason, %error, "no metadata");
                }
            }
            if found.is_some() {
                break;
            }
        }
        // Bounded by what is configured: only its issuers are asked for.
        held.insert(transmitter.issuer.clone(), (now, found.clone()));
        found
    }
}

/// The well-known name goes between host and path.
fn well_known(issuer: &str, name: &str) -> Option<String> {
    let mut url = url::Url::parse(issuer).ok()?;
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("/.well-known/{name}{path}"));
    (url.query().is_none() && url.fragment().is_none()).then(|| url.to_string())
}

/// `jwks_uri` of metadata that are the issuer's own.
fn key_set_url(body: &[u8], issuer: &str) -> Option<HttpUrl> {
    let metadata: Value = serde_json::from_slice(body).ok()?;
    if metadata.get("issuer")?.as_str()? != issuer {
        return None;
    }
    metadata.get("jwks_uri")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_lie_between_host_and_path_and_are_believed_about_their_own_issuer_only() {
        let at = |issuer| well_known(issuer, "ssf-configuration");
        assert_eq!(at("https://a.example").as_deref(), Some("https://a.example/.well-known/ssf-configuration"));
        assert_eq!(
            at("https://a.example/t/1/").as_deref(),
            Some("https://a.example/.well-known/ssf-configuration/t/1")
        );
        assert_eq!(at("https://a.example/?q"), None);
        assert_eq!(at("a"), None);
        let body = br#"{"issuer":"https://a.example","jwks_uri":"https://a.example/jwks"}"#;
        assert!(key_set_url(body, "https://a.example").is_some());
        for issuer in ["https://a.example/", "https://b.example"] {
            assert!(key_set_url(body, issuer).is_none(), "{issuer}");
        }
        assert!(key_set_url(b"[]", "https://a.example").is_none());
    }
}
