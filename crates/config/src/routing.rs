//! How one of several targets is chosen.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::OneOrMany;
use crate::text::{SizeText, ValueError, text_value};
use crate::values::Pattern;

/// How a target is chosen. Whatever is chosen, the others are tried when it fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// In the order they are written.
    #[default]
    Fallback,
    /// By chance, each as often as its weight says.
    Weighted,
    /// The one that has begun its answers soonest of late; now and then another, to find out.
    Latency,
    /// The one that costs least for what the request asks, as far as prices are known.
    Cost,
}

impl Strategy {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fallback => "fallback",
            Self::Weighted => "weighted",
            Self::Latency => "latency",
            Self::Cost => "cost",
        }
    }
}

/// Conditions on a request: every one that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// The request's body has at least so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SizeText>")]
    pub min_body: Option<ByteSize>,
    /// It has at most so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SizeText>")]
    pub max_body: Option<ByteSize>,
    /// Its input has at least so many tokens: an estimate, four bytes each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_input_tokens: Option<u64>,
    /// Its input has at most so many tokens: an estimate, four bytes each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_input_tokens: Option<u64>,
    /// It brings tools, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<bool>,
    /// It brings images, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<bool>,
    /// It asks for a stream, or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Its caller's client is one of these.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub client: OneOrMany<Pattern>,
    /// Members of its `metadata` that are texts, and one of the values each has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, OneOrMany<Pattern>>,
    /// Header fields, and one of the values each has. Whoever calls can send them: they choose, they permit nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, OneOrMany<Pattern>>,
}

impl When {
    /// Whether it holds for every request.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What keeps requests together at one target.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Sticky {
    /// The pair (issuer, subject) of the caller.
    Subject,
    /// The caller's client.
    Client,
    /// What the request calls its user: `user` or `safety_identifier` (OpenAI), `metadata.user_id` (Anthropic).
    User,
    /// A header field.
    Header(String),
    /// A member of `metadata`.
    Metadata(String),
}

text_value!(
    Sticky,
    "sticky",
    "What keeps requests together: subject, client, user, header:NAME or metadata:KEY.",
    "header:x-session-id"
);

impl FromStr for Sticky {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once(':') {
            Some(("header", name)) if is_header(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            Some(("metadata", key)) if !key.is_empty() && key.len() <= 64 => Ok(Self::Metadata(key.to_owned())),
            None if text == "subject" => Ok(Self::Subject),
            None if text == "client" => Ok(Self::Client),
            None if text == "user" => Ok(Self::User),
            _ => Err(ValueError::new("not something that requests have in common")
                .hint("subject, client, user, header:NAME or metadata:KEY")),
        }
    }
}

impl fmt::Display for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject => f.write_str("subject"),
            Self::Client => f.write_str("client"),
            Self::User => f.write_str("user"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Metadata(key) => write!(f, "metadata:{key}"),
        }
    }
}

/// Whether requests may be told apart by this header field: a credential's is nobody's to look into.
pub(crate) fn is_header(name: &str) -> bool {
    const NOT: [&str; 9] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "dpop",
        "signature",
        "x-api-key",
        "x-goog-api-key",
        "x-portkey-api-key",
        "api-key",
    ];
    let lower = name.to_ascii_lowercase();
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !NOT.contains(&lower.as_str())
}
