//! `[[upstream]]`: any other HTTP API, protected the same way.

use base::{Money, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret_ref::SecretRef;
use crate::text::{MoneyText, NameText};
use crate::values::{HeaderName, HttpUrl, Method, RoutePath};

/// An HTTP API behind Vouchgate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// What policies call it.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// Its path on the public listener. With `/` at its end: everything below, without this prefix, is sent on.
    pub path: RoutePath,
    /// Where requests go.
    pub url: HttpUrl,
    /// Allow loopback and private addresses, there also plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// Methods that are passed on.
    #[serde(default = "default_methods")]
    #[schemars(length(min = 1))]
    pub methods: Vec<Method>,
    /// What a request costs. Absent: nothing, and no budget of money counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub price: Option<Money>,
    /// A header that is set in every request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<Inject>,
}

fn default_methods() -> Vec<Method> {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].into_iter().filter_map(|m| m.parse().ok()).collect()
}

/// A header to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    /// Its name. What a client sends under it is dropped.
    pub header: HeaderName,
    /// Its value.
    pub value: SecretRef,
    /// The value that is to follow it: used where the API refuses that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_value: Option<SecretRef>,
    /// What stands before the value: `"Bearer "`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub prefix: String,
}

impl Inject {
    /// Its values, each with its key: the one in use, and the one that is to follow.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, &SecretRef)> {
        let next = self.next_value.iter().map(|next| ("next_value", next));
        std::iter::once(("value", &self.value)).chain(next)
    }
}
