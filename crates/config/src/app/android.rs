//! An app as Android knows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sha256Hex;
use crate::secret_ref::SecretRef;

/// An app as Android knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AndroidApp {
    /// The package.
    #[schemars(extend("x-kind" = "bundle"))]
    pub package: String,
    /// SHA-256 of each certificate it may be signed with, in hex; colons are allowed.
    #[schemars(length(min = 1, max = 16))]
    pub digests: Vec<Sha256Hex>,
    /// The least version code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_version: Option<u64>,
    /// `verifiedBootKey`, in hex, of systems that are trusted although their owner signed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub boot_keys: Vec<Sha256Hex>,
    /// Where its key may be kept. Absent: either.
    #[serde(default = "hardware", skip_serializing_if = "is_hardware")]
    #[schemars(length(min = 1, max = 2))]
    pub levels: Vec<KeyHardware>,
    /// Google's verdict, beside the key attestation or where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play_integrity: Option<PlayIntegrity>,
}

/// Hardware that keeps Android keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyHardware {
    /// A chip of its own.
    StrongBox,
    /// A part of the main chip that Android cannot look into.
    TrustedEnvironment,
}

/// Google's verdicts, opened with keys of one's own (Play Console, classic requests).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlayIntegrity {
    /// The response decryption key: base64, as the Play Console gives it.
    pub decryption_key: SecretRef,
    /// The response verification key: base64, as the Play Console gives it. It is public.
    #[schemars(length(min = 64, max = 512))]
    pub verification_key: String,
    /// Refuse a key attestation without a verdict beside it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Accept the test responses that can be set up in the Play Console: in development only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_testing: bool,
}

fn hardware() -> Vec<KeyHardware> {
    vec![KeyHardware::StrongBox, KeyHardware::TrustedEnvironment]
}

fn is_hardware(levels: &[KeyHardware]) -> bool {
    levels == hardware()
}
