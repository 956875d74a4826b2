//! Where a request would go: the question and its answer, as the admin API has them. The data plane knows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A request that is only supposed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteQuestion {
    /// The model asked for.
    pub model: String,
    /// Tokens of input, about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// The most tokens of output it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// Whether it brings tools.
    #[serde(default)]
    pub tools: bool,
    /// Whether it brings images.
    #[serde(default)]
    pub images: bool,
    /// Whether it asks for a stream.
    #[serde(default)]
    pub stream: bool,
    /// The client it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Texts in its `metadata`.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Its header fields.
    #[serde(default)]
    pub header: BTreeMap<String, String>,
}

/// What would happen to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RouteExplanation {
    /// The model asked for.
    pub model: String,
    /// How a target is chosen: `fallback`, `weighted`, `latency`, `cost`, or `direct`.
    pub strategy: String,
    /// What keeps requests together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<String>,
    /// When another target is asked beside the first, if ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge: Option<String>,
    /// The targets in the order they are tried, then those that are not.
    pub targets: Vec<RouteTarget>,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RouteTarget {
    /// `PROVIDER/MODEL`.
    pub target: String,
    /// Its place in the order, from 1. Absent: it is not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
    /// Why it has this place, or none.
    pub why: String,
    /// Whether it could be called now.
    pub ready: bool,
    /// What its answers take to begin, in milliseconds, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_ms: Option<u64>,
    /// What the request costs there, about, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// Calls under way.
    pub active: u32,
    /// How calls for its model have been doing: `closed`, `half_open` or `open`.
    pub breaker: String,
    /// The provider's keys.
    pub keys: Vec<RouteKey>,
}

/// One key of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RouteKey {
    /// What it is called; `none` for a provider that takes no key.
    pub name: String,
    /// How calls with it have been doing: `closed`, `half_open` or `open`.
    pub breaker: String,
    /// Whether the provider accepts it, as far as known.
    pub accepted: bool,
    /// For how many milliseconds more it rests because its quota is used up.
    pub rests_ms: u64,
}
