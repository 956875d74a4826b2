//! `[audit]`: the audit log.

use std::path::PathBuf;

use base::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret_ref::SecretRef;
use crate::text::{NameText, SpanText};
use crate::values::HttpUrl;

/// `[audit]`: what happened, in `data_dir/audit`, so that nobody can change it afterwards without being found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSection {
    /// Whether anything is recorded.
    pub enabled: bool,
    /// What becomes of requests when nothing can be recorded.
    pub on_failure: OnAuditFailure,
    /// How long entries are kept; their hashes are kept for ever, so that proofs still hold.
    #[schemars(with = "SpanText")]
    pub retention: Span,
    /// Where checkpoints are sent, so that a log that was cut or written anew as a whole is found out too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub publish: Vec<AuditPublish>,
}

impl Default for AuditSection {
    fn default() -> Self {
        let retention = Span::secs(400 * 86_400);
        Self { enabled: true, on_failure: OnAuditFailure::Deny, retention, publish: Vec::new() }
    }
}

/// What becomes of requests when nothing can be recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnAuditFailure {
    /// They are answered with 503 `audit_unavailable`, and no provider is asked.
    #[default]
    Deny,
    /// They go on; what is recorded of them comes later, or is lost and counted.
    Allow,
}

/// `[[audit.publish]]`: one place for checkpoints where whoever rules this machine does not rule. Exactly one of `file` and `s3`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditPublish {
    /// What metrics and messages call it.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// A file that each checkpoint is appended to: on another machine's disk, or where one collects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kind" = "file-path"))]
    pub file: Option<PathBuf>,
    /// A bucket, and a prefix in it, of a store that speaks S3's API: `https://BUCKET.s3.REGION.amazonaws.com/PREFIX`, or
    /// `https://HOST/BUCKET/PREFIX`. Each checkpoint becomes an object of its own; none is ever replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<HttpUrl>,
    /// The store's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// The store's key, in two parts with a colon between: `ACCESS_KEY_ID:SECRET_ACCESS_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretRef>,
    /// Allow loopback and private addresses, there also over plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
}
