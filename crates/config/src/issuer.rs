//! `[[issuer]]`: whose tokens are accepted besides our own.

use std::path::PathBuf;

use base::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret_ref::SecretRef;
use crate::text::{NameText, SpanText};
use crate::values::HttpUrl;

/// Somebody whose tokens are accepted. Exactly one of `discovery`, `jwks_url`, `jwks_file` and `hs256_secret`
/// says where its keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What policies and records call it. `vouchgate` is our own issuer and taken.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// Where this kind of issuer puts things: subject, scopes, groups, client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// The exact `iss` claim, compared byte by byte (RFC 7519 section 4.1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: Option<String>,
    /// A token must be meant for one of these (`aud`, RFC 7519 section 4.1.3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 2048)))]
    pub audience: Vec<String>,
    /// Accepted signature algorithms. Absent: RS256, PS256, ES256, ES384 and `EdDSA`; HS256 for a shared secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub algorithms: Vec<Algorithm>,
    /// Find the keys through the issuer's own metadata (OpenID Connect Discovery, RFC 8414).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discovery: bool,
    /// The issuer's JWK Set (RFC 7517 section 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<HttpUrl>,
    /// A JWK Set in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kind" = "file-path"))]
    pub jwks_file: Option<PathBuf>,
    /// A secret shared with whoever makes the tokens, as with Node's jsonwebtoken. At most one such issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hs256_secret: Option<SecretRef>,
    /// The secret that is to follow `hs256_secret`: tokens made with either are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hs256_secret: Option<SecretRef>,
    /// Header types (`typ`) of which a token must have one. Absent: none, `JWT` and `at+jwt` are accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub typ: Vec<String>,
    /// Longest time between `iat` (or now, where absent) and `exp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub max_lifetime: Option<Span>,
    /// How far clocks may differ: at most 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub leeway: Option<Span>,
    /// Claims that are called otherwise here. Overrides the preset.
    #[serde(default, skip_serializing_if = "Claims::is_empty")]
    pub claims: Claims,
    /// Allow keys to be fetched from loopback and private addresses, there also over plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
}

/// Where the keys of an [`Issuer`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource<'a> {
    /// The metadata found below the `iss` value.
    Discovery,
    /// A JWK Set at a URL.
    JwksUrl(&'a HttpUrl),
    /// A JWK Set in a file.
    JwksFile(&'a std::path::Path),
    /// A shared secret.
    SharedSecret(&'a SecretRef),
}

impl Issuer {
    /// Where the keys come from; `None` unless exactly one source is given, which [`crate::parse`] makes sure of.
    pub fn key_source(&self) -> Option<KeySource<'_>> {
        let sources = [
            self.discovery.then_some(KeySource::Discovery),
            self.jwks_url.as_ref().map(KeySource::JwksUrl),
            self.jwks_file.as_deref().map(KeySource::JwksFile),
            self.hs256_secret.as_ref().map(KeySource::SharedSecret),
        ];
        let mut given = sources.into_iter().flatten();
        let first = given.next();
        if given.next().is_some() { None } else { first }
    }

    /// The secrets shared with whoever makes the tokens: the one in use, and the one that is to follow it.
    pub fn shared_secrets(&self) -> impl Iterator<Item = &SecretRef> {
        self.hs256_secret.iter().chain(&self.next_hs256_secret)
    }

    /// The algorithms in force: those given, or the defaults.
    pub fn algorithms(&self) -> &[Algorithm] {
        match (self.algorithms.as_slice(), &self.hs256_secret) {
            ([], Some(_)) => &[Algorithm::Hs256],
            ([], None) => Algorithm::PUBLIC_DEFAULTS,
            (given, _) => given,
        }
    }
}

/// Identity providers whose token forms are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Auth0.
    Auth0,
    /// Okta, with a custom authorization server.
    Okta,
    /// Microsoft Entra ID, version 2.0 tokens.
    Entra,
    /// Keycloak.
    Keycloak,
    /// Firebase Authentication.
    Firebase,
    /// Amazon Cognito user pools.
    Cognito,
    /// Google.
    Google,
}

/// Signature algorithms (RFC 7518 section 3.1, RFC 8037, RFC 9864, RFC 9964).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // they are called what they are
pub enum Algorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
    #[serde(rename = "PS256")]
    Ps256,
    #[serde(rename = "PS384")]
    Ps384,
    #[serde(rename = "PS512")]
    Ps512,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "ES512")]
    Es512,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "Ed25519")]
    Ed25519,
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "HS384")]
    Hs384,
    #[serde(rename = "HS512")]
    Hs512,
    #[serde(rename = "ML-DSA-44")]
    MlDsa44,
    #[serde(rename = "ML-DSA-65")]
    MlDsa65,
}

impl Algorithm {
    /// Those accepted of public keys where nothing else is said.
    pub const PUBLIC_DEFAULTS: &'static [Self] = &[Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    /// The JOSE name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::MlDsa44 => "ML-DSA-44",
            Self::MlDsa65 => "ML-DSA-65",
        }
    }

    /// Whether it is an HMAC: the verifier could also have signed.
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// The claims an identity is read from: a name, or a path like `realm_access.roles`. A claim whose own name has
/// dots is found by its whole name first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    /// Who: `sub` unless said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub subject: Option<String>,
    /// What the token is for: `scope` (a list, or words between spaces).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub scope: Option<String>,
    /// Groups or roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub groups: Option<String>,
    /// The client that got the token: `client_id`, or `azp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub client: Option<String>,
    /// The organisation, by which budgets count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub organisation: Option<String>,
    /// The project, by which budgets count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub project: Option<String>,
}

impl Claims {
    /// Whether nothing is said otherwise.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
