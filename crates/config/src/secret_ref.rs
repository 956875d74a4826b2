//! A secret is never written in the configuration, only where it is to be found.

use std::path::PathBuf;

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::NameText;
use crate::values::EnvName;

/// Where a secret value is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[schemars(extend("x-kind" = "secret"))]
pub enum SecretRef {
    /// In an environment variable, read once at start and at reload.
    Env(EnvName),
    /// In a file; one line break at its end does not count.
    File(#[schemars(extend("x-kind" = "file-path"))] PathBuf),
    /// In the vault, put there with `vouchgate secret set NAME`.
    Secret(#[schemars(with = "NameText")] Name),
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Secret(name) => write!(f, "secret {name} of the vault"),
        }
    }
}
