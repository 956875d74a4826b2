//! `[[model]]`: a name clients use, and what stands behind it.

use base::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cache::ModelCache;
use crate::hedge::{Hedge, Share};
use crate::routing::{Sticky, Strategy, When};
use crate::text::{NameText, SpanText};

/// A model name and the models behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What clients ask for. Names that begin with `vouchgate/` are taken.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// How a target is chosen.
    #[serde(default)]
    pub strategy: Strategy,
    /// The models behind it.
    #[schemars(length(min = 1, max = 16))]
    pub targets: Vec<Target>,
    /// What keeps requests together at one target, with the strategy `weighted`, and with one key of a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// What happens when a target fails before its answer began.
    #[serde(default)]
    pub retry: Retry,
    /// Ask another target beside one that takes long. Absent: the next is asked when one has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// Times of its own instead of those in `[limits]`.
    #[serde(default, skip_serializing_if = "Timeout::is_empty")]
    pub timeout: Timeout,
    /// Keep answers for a while. Absent: none is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<ModelCache>,
    /// What becomes of a request that holds what a target cannot express.
    #[serde(default)]
    pub on_unsupported: OnUnsupported,
}

/// What becomes of a request that holds what a target cannot express.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnsupported {
    /// The next target is tried; if none can, the answer is 400 and names the member.
    #[default]
    Refuse,
    /// Members that only tune the answer (`n`, `seed`, ...) are left out and named in `x-vouchgate-dropped`.
    Drop,
}

/// One model of one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The provider's name here; `vouchgate` for the built-in model.
    #[schemars(with = "NameText")]
    pub provider: Name,
    /// The model as the provider calls it; `echo` for the built-in one.
    #[schemars(length(min = 1, max = 256))]
    pub model: String,
    /// Its share of the requests, with the strategy `weighted`. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u32>,
    /// Requests it is for. Absent: all.
    #[serde(default, skip_serializing_if = "When::is_empty")]
    pub when: When,
    /// It gets so many of a hundred requests before all others, and no other request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub canary: Option<u32>,
    /// It gets a copy of this share of the requests, from 0 to 1, beside the targets that answer; what it says is measured
    /// and nobody hears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub shadow: Option<Share>,
    /// The most calls at once. Absent: as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrency: Option<u32>,
    /// Times of its own, before those of the model. `total` is the time for one attempt here.
    #[serde(default, skip_serializing_if = "Timeout::is_empty")]
    pub timeout: Timeout,
}

/// When another attempt is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Most attempts for one request, over all targets. The first counts.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// Statuses of a provider after which another attempt is made. A connection that fails counts as one.
    #[schemars(inner(range(min = 400, max = 599)))]
    pub on: Vec<u16>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, on: vec![429, 500, 502, 503, 504] }
    }
}

/// Times of a model's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeout {
    /// Time for a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub connect: Option<Span>,
    /// Time until the answer begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub first_byte: Option<Span>,
    /// Longest pause within the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub idle: Option<Span>,
    /// How long the caller is kept waiting over all attempts: until a stream begins, or for the whole of an answer that is
    /// none. Absent: 10 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub total: Option<Span>,
}

impl Timeout {
    /// Whether no time of its own is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
