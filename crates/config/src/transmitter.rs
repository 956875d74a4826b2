//! `[[transmitter]]`: whose security events are obeyed (Shared Signals).

use std::path::PathBuf;

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::issuer::{Algorithm, KeySource};
use crate::secret_ref::SecretRef;
use crate::text::NameText;
use crate::values::HttpUrl;

/// Somebody whose Security Event Tokens (RFC 8417) end sessions, pushed to `/oauth/events` (RFC 8935). Exactly one of
/// `discovery`, `jwks_url` and `jwks_file` says where its keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transmitter {
    /// What records call it.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// The exact `iss` of its tokens.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// A token must be meant for one of these (`aud`).
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 2048)))]
    pub audience: Vec<String>,
    /// The name of the issuer whose subjects it speaks about: their tokens, and those we made from them.
    #[schemars(with = "NameText")]
    pub subjects: Name,
    /// Accepted signature algorithms. Absent: RS256, PS256 and ES256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub algorithms: Vec<Algorithm>,
    /// Find its keys through its own metadata (Shared Signals Framework 1.0 section 7).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discovery: bool,
    /// Its JWK Set (RFC 7517 section 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<HttpUrl>,
    /// A JWK Set in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kind" = "file-path"))]
    pub jwks_file: Option<PathBuf>,
    /// Allow its keys to be fetched from loopback and private addresses, there also over plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// What it must send as `Authorization: Bearer`. Absent: its signature alone says who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretRef>,
}

impl Transmitter {
    /// Where the keys come from; `None` unless exactly one source is given, which [`crate::parse`] makes sure of.
    pub fn key_source(&self) -> Option<KeySource<'_>> {
        let sources = [
            self.discovery.then_some(KeySource::Discovery),
            self.jwks_url.as_ref().map(KeySource::JwksUrl),
            self.jwks_file.as_deref().map(KeySource::JwksFile),
        ];
        let mut given = sources.into_iter().flatten();
        let first = given.next();
        if given.next().is_some() { None } else { first }
    }

    /// The algorithms in force: those given, or the defaults.
    pub fn algorithms(&self) -> &[Algorithm] {
        const DEFAULTS: &[Algorithm] = &[Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256];
        if self.algorithms.is_empty() { DEFAULTS } else { &self.algorithms }
    }
}
