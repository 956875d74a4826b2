//! An app as Apple knows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An app as Apple knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IosApp {
    /// The team: 10 letters and digits.
    #[schemars(extend("x-kind" = "apple-team"))]
    pub team: String,
    /// The bundle identifier, in its exact case.
    #[schemars(extend("x-kind" = "bundle"))]
    pub bundle: String,
    /// The environments its evidence may come from. Absent: `production`.
    #[serde(default = "production", skip_serializing_if = "is_production")]
    #[schemars(length(min = 1, max = 2))]
    pub environments: Vec<AppleEnvironment>,
    /// The categories it may be distributed in, where the evidence names one (iOS 27 on): 2 `TestFlight`, 3 development,
    /// 4 App Store, 5 enterprise or ad hoc, 6 Developer ID. Absent: any that the environment allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(range(min = 1, max = 10)))]
    pub categories: Vec<u8>,
    /// The least bundle version, where the evidence names one (iOS 27 on): numbers with dots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kind" = "dotted-version"))]
    pub min_version: Option<String>,
}

impl IosApp {
    /// The app's identifier, as evidence has it.
    pub fn app_id(&self) -> String {
        format!("{}.{}", self.team, self.bundle)
    }
}

/// One of App Attest's environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppleEnvironment {
    /// Builds as they are distributed.
    Production,
    /// Development builds.
    Development,
}

fn production() -> Vec<AppleEnvironment> {
    vec![AppleEnvironment::Production]
}

fn is_production(environments: &[AppleEnvironment]) -> bool {
    environments == [AppleEnvironment::Production]
}
