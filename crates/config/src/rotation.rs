//! `[rotation]`: how old keys may grow, and how long one that was replaced is kept.

use std::time::Duration;

use base::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alone::between;
use crate::fault::Faults;
use crate::resource::Alone;
use crate::text::SpanText;

/// `[rotation]`: a key older than it may be is told of once a week (`secret.old`, `key.old`), in `/metrics` and by
/// `vouchgate rotate status`. Nothing is refused for its age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotationSection {
    /// For how long a provider's key that was replaced is used where the provider refuses the new one.
    #[schemars(with = "SpanText")]
    pub keep_old: Span,
    /// How old keys of providers and other secrets may grow, in the vault, in files and in the environment.
    #[schemars(with = "SpanText")]
    pub secrets: Span,
    /// How old runtime secrets may grow. Absent: as old as other secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub runtime_secrets: Option<Span>,
    /// How old the secrets may grow that webhooks are signed with. Absent: as old as other secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub webhook_secrets: Option<Span>,
    /// How old secrets may grow that are shared with issuers. Absent: as old as other secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub issuer_secrets: Option<Span>,
    /// How old secrets of clients may grow.
    #[schemars(with = "SpanText")]
    pub client_secrets: Span,
    /// How old the vault's master key may grow.
    #[schemars(with = "SpanText")]
    pub vault_key: Span,
    /// How old a key may grow that signs what apps are told.
    #[schemars(with = "SpanText")]
    pub config_keys: Span,
    /// How old a root key may grow that is built into apps.
    #[schemars(with = "SpanText")]
    pub root_keys: Span,
    /// How old the key of an audit log may grow.
    #[schemars(with = "SpanText")]
    pub audit_key: Span,
}

impl RotationSection {
    /// How old secrets of this use may grow: `runtime`, `webhook`, `issuer`, or any other.
    pub fn secrets_of(&self, used_by: &str) -> Duration {
        let own = match used_by {
            "runtime" => self.runtime_secrets,
            "webhook" => self.webhook_secrets,
            "issuer" => self.issuer_secrets,
            _ => None,
        };
        own.unwrap_or(self.secrets).duration()
    }
}

const DAY: u64 = 86_400;

impl Default for RotationSection {
    fn default() -> Self {
        Self {
            keep_old: Span::secs(DAY),
            secrets: Span::secs(180 * DAY),
            client_secrets: Span::secs(365 * DAY),
            vault_key: Span::secs(365 * DAY),
            runtime_secrets: None,
            webhook_secrets: None,
            issuer_secrets: None,
            config_keys: Span::secs(365 * DAY),
            root_keys: Span::secs(1825 * DAY),
            audit_key: Span::secs(1825 * DAY),
        }
    }
}

impl Alone for RotationSection {
    fn alone(&self, faults: &mut Faults) {
        between(self.keep_old, Span::secs(60), Span::secs(30 * DAY), "keep_old", faults);
        let ages = [
            ("secrets", Some(self.secrets)),
            ("runtime_secrets", self.runtime_secrets),
            ("webhook_secrets", self.webhook_secrets),
            ("issuer_secrets", self.issuer_secrets),
            ("client_secrets", Some(self.client_secrets)),
            ("vault_key", Some(self.vault_key)),
            ("config_keys", Some(self.config_keys)),
            ("root_keys", Some(self.root_keys)),
            ("audit_key", Some(self.audit_key)),
        ];
        for (key, age) in ages.into_iter().filter_map(|(key, age)| Some((key, age?))) {
            between(age, Span::secs(3600), Span::secs(3650 * DAY), key, faults);
        }
    }
}
