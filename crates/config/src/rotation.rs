//! `[rotation]`: how old keys may grow, and how long one that was replaced is kept.

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
    /// How old secrets of clients may grow.
    #[schemars(with = "SpanText")]
    pub client_secrets: Span,
    /// How old the vault's master key may grow.
    #[schemars(with = "SpanText")]
    pub vault_key: Span,
}

const DAY: u64 = 86_400;

impl Default for RotationSection {
    fn default() -> Self {
        Self {
            keep_old: Span::secs(DAY),
            secrets: Span::secs(180 * DAY),
            client_secrets: Span::secs(365 * DAY),
            vault_key: Span::secs(365 * DAY),
        }
    }
}

impl Alone for RotationSection {
    fn alone(&self, faults: &mut Faults) {
        between(self.keep_old, Span::secs(60), Span::secs(30 * DAY), "keep_old", faults);
        let ages = [("secrets", self.secrets), ("client_secrets", self.client_secrets), ("vault_key", self.vault_key)];
        for (key, age) in ages {
            between(age, Span::secs(3600), Span::secs(3650 * DAY), key, faults);
        }
    }
}
