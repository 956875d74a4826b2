//! `[[service]]`: a prompt published as a REST endpoint.

use std::collections::BTreeMap;

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::NameText;
use crate::values::RoutePath;

/// A prompt with a URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// What policies call it.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// Its path on the public listener.
    pub path: RoutePath,
    /// What it is for, in the `OpenAPI` document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000))]
    pub description: Option<String>,
    /// The model that answers: a `[[model]]`, or `PROVIDER/MODEL`.
    #[schemars(length(min = 1, max = 256))]
    pub model: String,
    /// The instructions of the system. May hold `{{variables}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1_000_000))]
    pub system: Option<String>,
    /// What the model is asked. `{{name}}` stands for a variable; write `\{{` for two braces.
    #[schemars(length(min = 1, max = 1_000_000))]
    pub prompt: String,
    /// What is known of the variables. Those not listed are required texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
    /// What the output is, unless the request says otherwise.
    #[serde(default)]
    pub response_format: ResponseFormat,
    /// Most output tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_output_tokens: Option<u64>,
}

/// One variable of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Variable {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: VariableKind,
    /// Whether a request must give it. Absent: it must, unless there is a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// Its value when a request does not give it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Scalar>,
    /// Most characters of a text.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_length: u32,
    /// What it is for, in the `OpenAPI` document.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000))]
    pub description: Option<String>,
}

impl Default for Variable {
    fn default() -> Self {
        Self { kind: VariableKind::String, required: None, default: None, max_length: 100_000, description: None }
    }
}

impl Variable {
    /// Whether a request must give it.
    pub fn is_required(&self) -> bool {
        self.required.unwrap_or(self.default.is_none())
    }
}

/// The type of a variable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// Text.
    #[default]
    String,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
}

/// A value of a variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// Yes or no.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Text.
    String(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::String(value) => f.write_str(value),
        }
    }
}

/// What an output is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResponseFormat {
    /// Text.
    #[default]
    Text,
    /// JSON; anything else from the model is an error (`output_not_json`).
    Json,
}
