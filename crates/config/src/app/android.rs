//! An app as Android knows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sha256Hex;
use crate::secret_ref::SecretRef;
use crate::values::HttpUrl;

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

/// Google's verdicts: opened here with keys of one's own (Play Console, classic requests), or by Google (`service_account`), who is
/// asked about each. Exactly one of the two ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
// Each is a key of the file.
#[allow(clippy::struct_excessive_bools)]
pub struct PlayIntegrity {
    /// The response decryption key: base64, as the Play Console gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decryption_key: Option<SecretRef>,
    /// The response verification key: base64, as the Play Console gives it. It is public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 512))]
    pub verification_key: Option<String>,
    /// The key file of a service account that may ask Google to open tokens (JSON).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<SecretRef>,
    /// Tokens come from standard requests: they carry the hash of the request in the place of a nonce. Only Google opens them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standard: bool,
    /// The origin Google is asked at. Absent: `https://playintegrity.googleapis.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpUrl>,
    /// Where the service account gets its access tokens. Absent: Google's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<HttpUrl>,
    /// Allow loopback and private addresses, there also plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
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
