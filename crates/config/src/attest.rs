//! `[attest]`: attestation of apps, for all of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alone::destination;
use crate::fault::Faults;
use crate::resource::Alone;
use crate::values::HttpUrl;

/// `[attest]`: what the endpoints under `/attest/v1/` share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttestSection {
    /// Requests a minute of one address (one /64 of IPv6), of all kinds. Many phones may share one.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_minute: u32,
    /// Where the list of revoked Android attestation keys is. Absent: Google's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub android_status_url: Option<HttpUrl>,
    /// Allow the list to be fetched from loopback and private addresses, there also over plain HTTP.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
}

impl Default for AttestSection {
    fn default() -> Self {
        Self { requests_per_minute: 300, android_status_url: None, allow_private: false }
    }
}

impl Alone for AttestSection {
    fn alone(&self, faults: &mut Faults) {
        if let Some(url) = &self.android_status_url {
            destination(url, self.allow_private, "android_status_url", faults);
        }
    }
}
