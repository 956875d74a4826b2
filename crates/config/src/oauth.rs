//! The token service's own sections: `[token]`, `[dpop]`, `[signin]`.

use base::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::Scope;
use crate::secret_ref::SecretRef;
use crate::text::{NameText, SpanText};
use crate::values::HttpUrl;

/// `[token]`: how long what we issue lives, and our signing keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSection {
    /// A refresh token that was not used for so long ends.
    #[schemars(with = "SpanText")]
    pub refresh_idle: Span,
    /// All refresh tokens that came from one sign-in end after so long, however often they were used.
    #[schemars(with = "SpanText")]
    pub refresh_lifetime: Span,
    /// For so long after its use a refresh token gets the same successor again, for clients that ask twice at once.
    /// Later its use means that it was stolen, and ends them all. At most 60s.
    #[schemars(with = "SpanText")]
    pub refresh_grace: Span,
    /// How long a signing key signs; then the next one does.
    #[schemars(with = "SpanText")]
    pub key_lifetime: Span,
    /// How long the next signing key is published before it signs. At most half of `key_lifetime`.
    #[schemars(with = "SpanText")]
    pub key_publish: Span,
    /// How long an authorization code can be used.
    #[schemars(with = "SpanText")]
    pub code_ttl: Span,
    /// How long a device code waits for a person.
    #[schemars(with = "SpanText")]
    pub device_ttl: Span,
    /// How long a pushed authorization request can be used.
    #[schemars(with = "SpanText")]
    pub par_ttl: Span,
}

impl Default for TokenSection {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            refresh_idle: Span::secs(14 * DAY),
            refresh_lifetime: Span::secs(90 * DAY),
            refresh_grace: Span::secs(10),
            key_lifetime: Span::secs(30 * DAY),
            key_publish: Span::secs(DAY),
            code_ttl: Span::secs(60),
            device_ttl: Span::secs(600),
            par_ttl: Span::secs(90),
        }
    }
}

/// `[dpop]`: proofs of possession (RFC 9449).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DpopSection {
    /// Whether a proof must carry a nonce of ours.
    pub nonce: NonceMode,
    /// How old a proof may be.
    #[schemars(with = "SpanText")]
    pub max_age: Span,
    /// How far a proof may come from the future, since clocks differ.
    #[schemars(with = "SpanText")]
    pub skew: Span,
    /// Most proofs remembered, so that none is taken twice. When there is no room for another, requests that bring one
    /// are refused (503).
    #[schemars(range(min = 1000, max = 100_000_000))]
    pub replay_entries: u32,
}

impl Default for DpopSection {
    fn default() -> Self {
        Self { nonce: NonceMode::Required, max_age: Span::secs(60), skew: Span::secs(5), replay_entries: 1_000_000 }
    }
}

/// Whether a proof must carry a nonce of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NonceMode {
    /// Always: a proof made beforehand is worth nothing.
    #[default]
    Required,
    /// Only for `max_age` and `skew` after a start, when proofs from before it are no longer remembered.
    Optional,
}

/// `[signin]`: where people sign in for the code and device grants. We hold no passwords.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signin {
    /// The name of the issuer, an OpenID provider: with `discovery = true`, or else with both endpoints given here.
    #[schemars(with = "NameText")]
    pub issuer: Name,
    /// What we are called there.
    #[schemars(length(min = 1, max = 256))]
    pub client_id: String,
    /// Our secret there. Absent: we are a public client there, with PKCE alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretRef>,
    /// What we ask for; `openid` is always among them.
    #[serde(default = "default_scopes")]
    #[schemars(length(min = 1, max = 32))]
    pub scopes: Vec<Scope>,
    /// Where browsers are sent, where the issuer has no metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<HttpUrl>,
    /// Where we redeem codes, where the issuer has no metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<HttpUrl>,
}

fn default_scopes() -> Vec<Scope> {
    ["openid", "profile"].iter().filter_map(|scope| scope.parse().ok()).collect()
}
