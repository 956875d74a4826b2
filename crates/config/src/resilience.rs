//! What a provider may be asked, with which of its keys, and when it is left alone.

use base::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret_ref::SecretRef;
use crate::text::{NameText, SpanText};

/// One of several keys of a provider: all of one account, so that what one of them stores the others find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderKey {
    /// What metrics and logs call it.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// The key.
    pub api_key: SecretRef,
    /// The key that is to follow it: used where the provider refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_api_key: Option<SecretRef>,
    /// Keys with the lowest number are used first; others while those may not be.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = 1000))]
    pub priority: u32,
    /// Its share of the requests among keys of one priority.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_one(number: &u32) -> bool {
    *number == 1
}

const fn one() -> u32 {
    1
}

/// Those who wait for a place among a provider's calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// How many may wait; 0: nobody.
    #[schemars(range(max = 100_000))]
    pub size: u32,
    /// How long each may.
    #[schemars(with = "SpanText")]
    pub timeout: Span,
}

impl Default for Queue {
    fn default() -> Self {
        Self { size: 100, timeout: Span::secs(5) }
    }
}

impl Queue {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When a provider's key, or one of its models, is left alone because calls fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Whether there is one.
    pub enabled: bool,
    /// It opens after so many failures in a row,
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: u32,
    /// or when so many of a hundred calls fail,
    #[schemars(range(min = 1, max = 100))]
    pub failure_rate: u32,
    /// of at least so many
    #[schemars(range(min = 1, max = 100_000))]
    pub minimum_calls: u32,
    /// within so long.
    #[schemars(with = "SpanText")]
    pub window: Span,
    /// A call that takes longer to begin its answer counts as failed for the rate. Absent: none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub slow_call: Option<Span>,
    /// How long it stays open; then one call may find out whether things are better. Twice as long each time they are not,
    #[schemars(with = "SpanText")]
    pub open_for: Span,
    /// but no longer than this.
    #[schemars(with = "SpanText")]
    pub max_open: Span,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive: 5,
            failure_rate: 50,
            minimum_calls: 20,
            window: Span::secs(30),
            slow_call: None,
            open_for: Span::secs(10),
            max_open: Span::secs(300),
        }
    }
}

impl Breaker {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
