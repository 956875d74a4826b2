//! `[[webhook]]`: whom to tell of what happens.

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::Faults;
use crate::resource::Alone;
use crate::secret_ref::SecretRef;
use crate::text::NameText;
use crate::values::HttpUrl;

/// Somebody who is told of events: a signed `POST` for each, in the form of Standard Webhooks
/// (<https://github.com/standard-webhooks/standard-webhooks>, version 1), repeated until it is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// What logs and metrics call it.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// Where events are sent.
    pub url: HttpUrl,
    /// Allow loopback and private addresses, there also plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// What events are signed with: `whsec_` and base64 of 24 to 64 bytes, or a text of at least 24 bytes.
    pub secret: SecretRef,
    /// What it is told of.
    #[schemars(length(min = 1, max = 16))]
    pub events: Vec<WebhookEvent>,
}

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WebhookEvent {
    /// A share of a budget that is told of (`soft`) is used.
    #[serde(rename = "budget.threshold")]
    BudgetThreshold,
    /// A budget has refused a request.
    #[serde(rename = "budget.exhausted")]
    BudgetExhausted,
    /// A caller behaves quite unlike itself.
    #[serde(rename = "anomaly.found")]
    AnomalyFound,
    /// A caller that was throttled or suspended is let in as before.
    #[serde(rename = "anomaly.restored")]
    AnomalyRestored,
    /// A provider refuses its key.
    #[serde(rename = "provider.key_refused")]
    ProviderKeyRefused,
    /// A certificate of this server ends soon.
    #[serde(rename = "certificate.expiring")]
    CertificateExpiring,
    /// A provider's key in the vault was not replaced for long.
    #[serde(rename = "secret.old")]
    SecretOld,
    /// What an app is told over the air cannot be made anew.
    #[serde(rename = "app_config.stuck")]
    AppConfigStuck,
    /// The key that signs what apps are told may soon sign no more.
    #[serde(rename = "delegation.expiring")]
    DelegationExpiring,
    /// Another key than a provider's is older than it should be: the vault's master key, a client's secret, a signing key.
    #[serde(rename = "key.old")]
    KeyOld,
    /// A checkpoint of the audit log is signed.
    #[serde(rename = "audit.checkpoint")]
    AuditCheckpoint,
}

impl WebhookEvent {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::BudgetThreshold,
        Self::BudgetExhausted,
        Self::AnomalyFound,
        Self::AnomalyRestored,
        Self::ProviderKeyRefused,
        Self::CertificateExpiring,
        Self::SecretOld,
        Self::AppConfigStuck,
        Self::DelegationExpiring,
        Self::KeyOld,
        Self::AuditCheckpoint,
    ];

    /// Its name, the `type` of its message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BudgetThreshold => "budget.threshold",
            Self::BudgetExhausted => "budget.exhausted",
            Self::AnomalyFound => "anomaly.found",
            Self::AnomalyRestored => "anomaly.restored",
            Self::ProviderKeyRefused => "provider.key_refused",
            Self::CertificateExpiring => "certificate.expiring",
            Self::SecretOld => "secret.old",
            Self::AppConfigStuck => "app_config.stuck",
            Self::DelegationExpiring => "delegation.expiring",
            Self::KeyOld => "key.old",
            Self::AuditCheckpoint => "audit.checkpoint",
        }
    }
}

impl Alone for Webhook {
    fn alone(&self, faults: &mut Faults) {
        crate::alone::own_name(self.name.as_str(), faults);
        crate::alone::destination(&self.url, self.allow_private, "url", faults);
        crate::alone::twice(&self.events, "events", faults);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_as_it_is_sent() {
        for event in WebhookEvent::ALL {
            assert_eq!(serde_json::to_value(event).unwrap(), event.as_str());
        }
    }
}
