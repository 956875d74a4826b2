//! What an issuer's tokens must look like.

use std::time::Duration;

use base::Name;
use serde_json::Value;

use super::Preset;
use crate::jose::{Alg, JsonObject, media_type};

/// The largest clock difference that may be forgiven.
pub const MAX_LEEWAY: Duration = Duration::from_mins(1);

/// What the tokens of one issuer must look like, and where their claims are found.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerRules {
    /// What the operator calls the issuer: half of every identity it vouches for.
    pub name: Name,
    /// The exact `iss` (RFC 8725 section 3.8: compared as it is, no normalisation). `None` only for a shared secret.
    pub issuer: Option<String>,
    /// Accepted audiences; one must be in the token. Empty only for a shared secret.
    pub audience: Vec<String>,
    /// The algorithms that are accepted, in order of preference for keys that do not name their own.
    pub algorithms: Vec<Alg>,
    /// Which `typ` headers are accepted.
    pub typ: TypRule,
    /// Forgiven clock difference, at most [`MAX_LEEWAY`].
    pub leeway: Duration,
    /// The longest life of a token: from `iat`, or from now if it has none, to `exp`.
    pub max_lifetime: Option<Duration>,
    /// Where the claims are found.
    pub claims: ClaimMapping,
    /// Claims that must have one of some values.
    pub require: Vec<Requirement>,
    /// Whether ID tokens (OpenID Connect Core section 2) count as access tokens, as with Firebase and Google.
    pub id_tokens: bool,
    /// The keys are a shared secret: issuer and audience may be left out, and a token without `iss` is taken.
    pub shared_secret: bool,
}

/// Which `typ` header values are accepted (RFC 8725 section 3.11).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TypRule {
    /// `at+jwt` and with it the claims RFC 9068 section 2.2 requires: `sub`, `client_id`, `iat`, `jti`.
    AccessToken,
    /// `at+jwt`, `JWT` or none: for issuers that do not follow RFC 9068.
    #[default]
    Lenient,
    /// One of these, in the form [`TypRule::one_of`] gives them; none is not enough.
    OneOf(Vec<String>),
}

impl TypRule {
    /// One of these media types, compared without case and with `application/` implied (RFC 7515 section 4.1.9).
    pub fn one_of(types: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self::OneOf(types.into_iter().map(|typ| media_type(typ.as_ref())).collect())
    }
}

/// A claim that must be present and equal one of these strings.
#[derive(Debug, Clone, PartialEq)]
pub struct Requirement {
    /// The claim, reported by this name when it does not hold.
    pub claim: &'static str,
    /// Accepted values.
    pub values: Vec<String>,
    /// Whether a token without the claim passes.
    pub optional: bool,
}

/// Where a claim is found: a member name, or names joined by dots into nested objects. A member that is called
/// exactly like the whole path comes first, so that `https://example.com/roles` works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(String);

impl ClaimPath {
    /// The claim at `path`.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The claim's value, if it is there.
    pub fn find<'c>(&self, claims: &'c JsonObject) -> Option<&'c Value> {
        if let Some(value) = claims.get(&self.0) {
            return Some(value);
        }
        let mut parts = self.0.split('.');
        let mut value = claims.get(parts.next()?)?;
        for part in parts {
            value = value.as_object()?.get(part)?;
        }
        Some(value)
    }
}

/// Which claims say what. Several paths are tried or joined in order.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimMapping {
    /// Who: one claim, a string (with a shared secret also an integer).
    pub subject: ClaimPath,
    /// The client: the first of these that is there.
    pub client: Vec<ClaimPath>,
    /// Scopes: a string separated by spaces, or an array of strings; all of these together.
    pub scopes: Vec<ClaimPath>,
    /// Groups and roles: an array of strings, or one string; all of these together.
    pub groups: Vec<ClaimPath>,
    /// Where the audience is. Everywhere `aud`, except where an issuer has another.
    pub audience: ClaimPath,
}

impl Default for ClaimMapping {
    fn default() -> Self {
        let path = ClaimPath::new;
        Self {
            subject: path("sub"),
            client: vec![path("client_id"), path("azp")],
            scopes: vec![path("scope")],
            groups: vec![path("groups")],
            audience: path("aud"),
        }
    }
}

/// Why rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// No `issuer`, and the keys are not a shared secret.
    #[error("issuer {0} needs `issuer`: the exact iss of its tokens")]
    NoIssuer(Name),
    /// No `audience`, and the keys are not a shared secret.
    #[error("issuer {0} needs `audience`: without it tokens meant for others would be accepted")]
    NoAudience(Name),
    /// No algorithm.
    #[error("issuer {0} allows no algorithm")]
    NoAlgorithm(Name),
    /// Shared-secret and public-key algorithms together invite forgeries with the public key as the secret.
    #[error("issuer {0} mixes HS* with public-key algorithms")]
    MixedAlgorithms(Name),
    /// More leeway than [`MAX_LEEWAY`].
    #[error("issuer {0}: the leeway is at most 60 seconds")]
    Leeway(Name),
    /// Two issuers with the same `iss`: tokens could not be told apart.
    #[error("issuers {0} and {1} have the same `issuer`")]
    SameIssuer(Name, Name),
    /// More than one issuer whose tokens may come without `iss`.
    #[error("issuers {0} and {1} both accept tokens without iss")]
    TwoWithoutIssuer(Name, Name),
    /// Two issuers of one name.
    #[error("two issuers are called {0}")]
    SameName(Name),
}

impl RulesError {
    /// A stable code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoIssuer(_) => "no_issuer",
            Self::NoAudience(_) => "no_audience",
            Self::NoAlgorithm(_) => "no_algorithm",
            Self::MixedAlgorithms(_) => "mixed_algorithms",
            Self::Leeway(_) => "leeway_too_long",
            Self::SameIssuer(..) => "same_issuer",
            Self::TwoWithoutIssuer(..) => "two_without_issuer",
            Self::SameName(_) => "same_name",
        }
    }
}

impl IssuerRules {
    /// Rules for an issuer that publishes its keys: default algorithms, no leeway, no limit on lifetime.
    pub fn new(name: Name, issuer: impl Into<String>, audience: Vec<String>) -> Self {
        Self {
            name,
            issuer: Some(issuer.into()),
            audience,
            algorithms: Alg::DEFAULT.to_vec(),
            typ: TypRule::Lenient,
            leeway: Duration::ZERO,
            max_lifetime: None,
            claims: ClaimMapping::default(),
            require: Vec::new(),
            id_tokens: false,
            shared_secret: false,
        }
    }

    /// Rules for our own tokens (RFC 9068): `at+jwt`, ES256 or Ed25519.
    pub fn own(name: Name, issuer: impl Into<String>, audience: Vec<String>) -> Self {
        Self {
            algorithms: vec![Alg::Es256, Alg::EdDsa],
            typ: TypRule::AccessToken,
            ..Self::new(name, issuer, audience)
        }
    }

    /// Rules for tokens made with a shared secret, as by Node's jsonwebtoken: HS256 only, issuer and audience optional.
    pub fn shared_secret(name: Name) -> Self {
        Self {
            issuer: None,
            algorithms: vec![Alg::Hs256],
            shared_secret: true,
            ..Self::new(name, String::new(), Vec::new())
        }
    }

    /// These rules with the ways of a known identity provider.
    #[must_use]
    pub fn with_preset(mut self, preset: Preset) -> Self {
        preset.apply(&mut self);
        self
    }

    pub(super) fn check(&self) -> Result<(), RulesError> {
        let name = || self.name.clone();
        if !self.shared_secret && self.issuer.as_deref().is_none_or(str::is_empty) {
            return Err(RulesError::NoIssuer(name()));
        }
        if !self.shared_secret && self.audience.is_empty() {
            return Err(RulesError::NoAudience(name()));
        }
        if self.algorithms.is_empty() {
            return Err(RulesError::NoAlgorithm(name()));
        }
        let symmetric = self.algorithms.iter().filter(|alg| alg.is_symmetric()).count();
        if symmetric != if self.shared_secret { self.algorithms.len() } else { 0 } {
            return Err(RulesError::MixedAlgorithms(name()));
        }
        if self.leeway > MAX_LEEWAY {
            return Err(RulesError::Leeway(name()));
        }
        Ok(())
    }
}
