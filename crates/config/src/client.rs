//! `[[client]]`: who may ask us for tokens, and how.

use base::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client_auth::ClientAuth;
use crate::redirect::RedirectUri;
use crate::text::{NameText, SpanText};

/// A client of our token service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Its `client_id`.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// How it proves who it is. Absent: it cannot ask for tokens itself (`vouchgate token mint` still can).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ClientAuth>,
    /// Scopes it may ask for. All of them when it asks for none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub scopes: Vec<Scope>,
    /// The organisation it belongs to, by which budgets count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub organisation: Option<String>,
    /// The project it belongs to, by which budgets count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub project: Option<String>,
    /// How long its tokens live.
    #[serde(default = "default_token_ttl")]
    #[schemars(with = "SpanText")]
    pub token_ttl: Span,
    /// Refuse it, without forgetting it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// The grants it may use. Absent: `client_credentials`, for a client that proves who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub grants: Option<Vec<Grant>>,
    /// Where people come back to after signing in (RFC 6749 section 3.1.2), compared byte by byte.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub redirect_uris: Vec<RedirectUri>,
    /// What it must always do; a request without it is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub require: Vec<Requirement>,
    /// Issuers, by name, whose tokens it may exchange for ours (RFC 8693).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), with = "Vec<NameText>")]
    pub exchange: Vec<Name>,
    /// Let it ask about tokens that were issued to others (RFC 7662), as a resource server does. About its own any
    /// client may ask.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub introspect: bool,
    /// Further header fields in which its SDK sends its token or key. A copy of the same in `Authorization`, or the placeholder
    /// some SDKs put there, is then no second credential.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub credential_headers: Vec<CredentialHeader>,
}

/// A header field of somebody's SDK that holds a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialHeader {
    /// `x-portkey-api-key`: Portkey's SDKs.
    XPortkeyApiKey,
    /// `api-key`: Azure's.
    ApiKey,
}

impl CredentialHeader {
    /// The field's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::XPortkeyApiKey => "x-portkey-api-key",
            Self::ApiKey => "api-key",
        }
    }
}

const fn default_token_ttl() -> Span {
    Span::secs(300)
}

impl Client {
    /// The grants in force: those given, or the default.
    pub fn grants(&self) -> &[Grant] {
        match (&self.grants, &self.auth) {
            (Some(given), _) => given,
            (None, None | Some(ClientAuth::None | ClientAuth::Attestation {})) => &[],
            (None, Some(_)) => &[Grant::ClientCredentials],
        }
    }

    /// Whether it must always do this.
    pub fn requires(&self, requirement: Requirement) -> bool {
        self.require.contains(&requirement)
    }
}

/// A way to get a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// In its own name (RFC 6749 section 4.4).
    ClientCredentials,
    /// With a refresh token (RFC 6749 section 6); and being given one at all.
    RefreshToken,
    /// For a person who signs in with a browser (RFC 6749 section 4.1), with PKCE S256 (RFC 7636).
    AuthorizationCode,
    /// For a person who signs in on another device (RFC 8628).
    DeviceCode,
    /// With a token of another issuer (RFC 8693).
    TokenExchange,
}

impl Grant {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ClientCredentials, Self::RefreshToken, Self::AuthorizationCode, Self::DeviceCode, Self::TokenExchange];

    /// The value of `grant_type` at the token endpoint.
    pub const fn grant_type(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken => "refresh_token",
            Self::AuthorizationCode => "authorization_code",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken => "refresh_token",
            Self::AuthorizationCode => "authorization_code",
            Self::DeviceCode => "device_code",
            Self::TokenExchange => "token_exchange",
        }
    }

    /// Whether a person signs in for it.
    pub const fn signs_in(self) -> bool {
        matches!(self, Self::AuthorizationCode | Self::DeviceCode)
    }
}

/// What a client must always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Requirement {
    /// Get tokens bound to a key of its own and prove it holds that key (RFC 9449).
    Dpop,
    /// Get tokens bound to its TLS certificate (RFC 8705 section 3).
    Mtls,
    /// Sign every request it makes with its tokens (RFC 9421). Its tokens carry its public key.
    Signature,
    /// Push its authorization requests first (RFC 9126).
    Par,
}

impl Requirement {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dpop => "dpop",
            Self::Mtls => "mtls",
            Self::Signature => "signature",
            Self::Par => "par",
        }
    }
}

/// One scope (RFC 6749 section 3.3): printable ASCII without space, `"` and `\`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(String);

crate::text::text_value!(Scope, "scope", "A scope: printable characters without spaces.", "chat");

impl Scope {
    /// The scope as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Scope {
    type Err = crate::ValueError;
    fn from_str(text: &str) -> Result<Self, crate::ValueError> {
        let good = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if text.is_empty() || text.len() > 128 || !text.bytes().all(good) {
            return Err(crate::ValueError::new("not a scope")
                .hint("one scope is 1 to 128 printable characters without space, \" and \\; write several as a list"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
