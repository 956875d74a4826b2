//! `[[client]]`: who may ask us for tokens.

use base::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::{NameText, SpanText};

/// A client of our token endpoint.
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
    pub scopes: Vec<Scope>,
    /// How long its tokens live.
    #[serde(default = "default_token_ttl")]
    #[schemars(with = "SpanText")]
    pub token_ttl: Span,
    /// Refuse it for now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

const fn default_token_ttl() -> Span {
    Span::secs(300)
}

/// How a client proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientAuth {
    /// A secret (RFC 6749 section 2.3.1), of which only a hash is kept.
    ClientSecret {
        /// `sha256:` and the base64url SHA-256 of the secret: `vouchgate client hash` prints it.
        #[schemars(extend("x-kind" = "client-hash"))]
        hash: String,
    },
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
