//! `[[policy]]`: who may do what. Nothing is allowed unless a policy allows it.

use base::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::EvidenceKind;
use crate::budget::Spend;
use crate::client::Scope;
use crate::level::AttestationLevel;
use crate::text::{NameText, SpanText};
use crate::time_window::TimeWindow;
use crate::values::{Cidr, Method, PathPattern, Pattern};

/// A rule. The first whose `who` and `may` both match a request decides it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Named in every decision.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// Which callers: every condition given must hold. Absent: every caller with a valid token.
    #[serde(default)]
    pub who: Who,
    /// What they may do: a request matches if one list names its target and every other condition holds.
    pub may: May,
    /// How often. All of them apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub rate: Vec<Rate>,
    /// What may be spent. All of them apply, and every `[[budget]]` that counts the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub spend: Vec<Spend>,
    /// What its requests are counted and reported under besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub tags: Vec<String>,
    /// Tags a caller may give a request in `x-vouchgate-tag`, for records, sums and budgets that count `per = "tag"`; any other is no tag.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub caller_tags: OneOrMany<Pattern>,
    /// Take each access token once only; for good, also over a restart. Tokens need a `jti` then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_use: bool,
    /// What happens to answers under way when their token is revoked.
    #[serde(default, skip_serializing_if = "OnRevocation::is_default")]
    pub on_revocation: OnRevocation,
}

/// What happens to answers under way when their token is revoked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnRevocation {
    /// They end as they would have; the next request is refused.
    #[default]
    Finish,
    /// They are cut within 5 seconds.
    Cut,
}

impl OnRevocation {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A proof that the sender of a request holds what its token is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// A `DPoP` proof (RFC 9449).
    Dpop,
    /// The client certificate of the connection (RFC 8705).
    Mtls,
    /// A signature over the request (RFC 9421).
    Signature,
}

impl Bound {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dpop => "dpop",
            Self::Mtls => "mtls",
            Self::Signature => "signature",
        }
    }
}

/// Conditions on the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Who {
    /// The issuer's name, one of these; `vouchgate` is our own.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub issuer: OneOrMany<Pattern>,
    /// The client, one of these.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub client: OneOrMany<Pattern>,
    /// The subject, one of these. A subject means nothing without its issuer: name both.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub subject: OneOrMany<Pattern>,
    /// Scopes, all of which the token must have.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub scope: OneOrMany<Scope>,
    /// Groups, one of which the caller must be in.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub groups: OneOrMany<Pattern>,
    /// Names of `vg_` keys. A policy without this is for tokens only, one with it for these keys only.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub key: OneOrMany<Pattern>,
    /// Address ranges, one of which the caller must be in.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub ip: OneOrMany<Cidr>,
    /// Times of the week, one of which it must be.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub time: OneOrMany<TimeWindow>,
    /// Proofs, one of which the request must bring, that its sender holds what the token is bound to.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub bound: OneOrMany<Bound>,
    /// Kinds of evidence, one of which the caller's installation has proved itself with (`[[app]]`).
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub attested: OneOrMany<EvidenceKind>,
    /// How far that evidence must carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<AttestationLevel>,
    /// Annotations, one of which the installation's token must have.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub annotations: OneOrMany<Pattern>,
    /// Annotations, none of which it may have.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub not_annotated: OneOrMany<Pattern>,
}

/// What is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct May {
    /// Models, by the name the client asks for.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub models: OneOrMany<Pattern>,
    /// Services, by name.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub services: OneOrMany<Pattern>,
    /// Upstreams, by name.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub upstreams: OneOrMany<Pattern>,
    /// Providers whose own API may be called below `/providers/NAME/`: inference only.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub providers: OneOrMany<Pattern>,
    /// More of a provider's own API: the methods and paths listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub passthrough: Vec<Passthrough>,
    /// Most output tokens a request may ask for. Set in requests that ask for no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_output_tokens: Option<u64>,
    /// Whether tools may be used: `true`, `false`, or their names.
    #[serde(skip_serializing_if = "Tools::is_default")]
    pub tools: Tools,
}

/// A part of a provider's own API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Passthrough {
    /// The provider.
    #[schemars(with = "NameText")]
    pub provider: Name,
    /// Request methods.
    #[schemars(length(min = 1))]
    pub methods: Vec<Method>,
    /// Paths as written after `/providers/NAME`.
    #[schemars(length(min = 1, max = 64))]
    pub paths: Vec<PathPattern>,
    /// Models the request may name. Absent: any.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub models: OneOrMany<Pattern>,
}

/// Whether tools may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Tools {
    /// Any, or none.
    All(bool),
    /// Those named.
    Named(Vec<Pattern>),
}

impl Default for Tools {
    fn default() -> Self {
        Self::All(true)
    }
}

impl Tools {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A limit on how often, or how many at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Rate {
    /// So many requests in a window.
    Requests {
        /// How many.
        #[schemars(range(min = 1, max = 1_000_000_000))]
        requests: u32,
        /// Counted for each of these on its own.
        per: Per,
        /// In how long.
        #[schemars(with = "SpanText")]
        window: Span,
    },
    /// So many tokens in a window, read and generated: as many as a request may take are counted before, and what it did not take is
    /// given back.
    Tokens {
        /// How many.
        #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
        tokens: u64,
        /// Counted for each of these on its own.
        per: Per,
        /// In how long.
        #[schemars(with = "SpanText")]
        window: Span,
    },
    /// So many at once.
    Concurrent {
        /// How many.
        #[schemars(range(min = 1, max = 1_000_000))]
        concurrent: u32,
        /// Counted for each of these on its own.
        per: Per,
    },
}

/// What a limit counts separately. Requests that have none of it are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// The pair (issuer, subject).
    Subject,
    /// The client.
    Client,
    /// Everybody the policy lets in, together.
    Policy,
    /// The client's address (its /64 for IPv6).
    Ip,
    /// The `vg_` key.
    Key,
    /// The caller's organisation.
    Organisation,
    /// The caller's project.
    Project,
    /// The key or certificate the token is bound to.
    Device,
    /// The model, by the name the client asks for; names of a provider's models that the built-in table does not know are counted
    /// together.
    Model,
    /// The service.
    Service,
    /// The upstream.
    Upstream,
    /// The provider that is asked: each call counts, when it is made. One that is over is passed over where the model has another target.
    Provider,
    /// The tag a caller gives its request (`x-vouchgate-tag`), of those its policy allows (`caller_tags`).
    Tag,
}

impl Per {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Subject,
        Self::Client,
        Self::Policy,
        Self::Ip,
        Self::Key,
        Self::Organisation,
        Self::Project,
        Self::Device,
        Self::Model,
        Self::Service,
        Self::Upstream,
        Self::Provider,
        Self::Tag,
    ];

    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Client => "client",
            Self::Policy => "policy",
            Self::Ip => "ip",
            Self::Key => "key",
            Self::Organisation => "organisation",
            Self::Project => "project",
            Self::Device => "device",
            Self::Model => "model",
            Self::Service => "service",
            Self::Upstream => "upstream",
            Self::Provider => "provider",
            Self::Tag => "tag",
        }
    }
}

impl Rate {
    /// What it counts separately.
    pub const fn per(&self) -> Per {
        let (Self::Requests { per, .. } | Self::Tokens { per, .. } | Self::Concurrent { per, .. }) = self;
        *per
    }
}

/// One value or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<T>(Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> std::ops::Deref for OneOrMany<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> From<Vec<T>> for OneOrMany<T> {
    fn from(values: Vec<T>) -> Self {
        Self(values)
    }
}

impl<T> FromIterator<T> for OneOrMany<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(to),
            many => many.serialize(to),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<T> {
            Many(Vec<T>),
            One(T),
        }
        Ok(match Either::deserialize(from)? {
            Either::Many(many) => Self(many),
            Either::One(one) => Self(vec![one]),
        })
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<T>();
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1, "maxItems": 1024 }] })
    }
}
