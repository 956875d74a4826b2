//! `[telemetry]`: metrics for a collector.

use std::collections::BTreeMap;

use base::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::SpanText;
use crate::values::HttpUrl;
use crate::{FieldValue, SecretRef};

/// `[telemetry]`: where metrics are sent, besides being read at `/metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySection {
    /// An `OpenTelemetry` collector, reached by OTLP over HTTP in JSON. Absent: nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<OtlpExport>,
}

/// An `OpenTelemetry` collector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpExport {
    /// Its base URL: `/v1/metrics` is added.
    pub url: HttpUrl,
    /// Whether it may be on this machine or a private network, and be spoken to without TLS.
    #[serde(default)]
    pub allow_private: bool,
    /// How often metrics are sent.
    #[serde(default = "often")]
    #[schemars(with = "SpanText")]
    pub interval: Span,
    /// Header fields to send along, such as what it knows us by: texts, or secrets in the environment or a file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub headers: BTreeMap<String, FieldValue>,
}

impl OtlpExport {
    /// Every secret it names, with the key that names it.
    pub fn secrets(&self) -> impl Iterator<Item = (String, &SecretRef)> {
        self.headers.iter().filter_map(|(name, value)| match value {
            FieldValue::Secret(reference) => Some((format!("headers.{name}"), reference)),
            FieldValue::Text(_) => None,
        })
    }
}

fn often() -> Span {
    Span::secs(30)
}
