//! `[audit]`: the audit log.

use base::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::SpanText;

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
}

impl Default for AuditSection {
    fn default() -> Self {
        let retention = Span::secs(400 * 86_400);
        Self { enabled: true, on_failure: OnAuditFailure::Deny, retention }
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
