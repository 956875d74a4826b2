//! An app as Apple knows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret_ref::SecretRef;
use crate::values::HttpUrl;

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
    /// Keep the receipts of App Attest, and have Apple exchange them for its measure of how many keys the app attested on a device
    /// lately: the flag `fraud_metric`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraud_metric: Option<AskFraudMetric>,
    /// Ask Apple about each device's two bits when an installation enrols: the flag `devicecheck_bits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_check: Option<AskDeviceCheck>,
}

impl IosApp {
    /// The app's identifier, as evidence has it.
    pub fn app_id(&self) -> String {
        format!("{}.{}", self.team, self.bundle)
    }
}

/// The fraud metric of App Attest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskFraudMetric {
    /// A key of the team's with `DeviceCheck`, as Apple hands it out (`AuthKey_KEYID.p8`).
    pub key: SecretRef,
    /// The key's id: 10 letters and digits.
    #[schemars(extend("x-kind" = "apple-team"))]
    pub key_id: String,
    /// The origin that is asked. Absent: Apple's, by the environment of the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpUrl>,
    /// Allow loopback and private addresses, there also plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
}

/// `DeviceCheck`: two bits that Apple keeps for a team and a device, also beyond a new installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskDeviceCheck {
    /// A key of the team's with `DeviceCheck`, as Apple hands it out (`AuthKey_KEYID.p8`).
    pub key: SecretRef,
    /// The key's id: 10 letters and digits.
    #[schemars(extend("x-kind" = "apple-team"))]
    pub key_id: String,
    /// Refuse an enrolment without the device's token, or when Apple does not answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The bit, 0 or 1, that is set when an installation that was revoked shows itself again with the device's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub mark_revoked: Option<u8>,
    /// The origin that is asked. Absent: Apple's, by the environment of the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpUrl>,
    /// Allow loopback and private addresses, there also plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
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
