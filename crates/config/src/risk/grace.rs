//! What is put up with, and for whom.

use base::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::SpanText;

/// What is put up with when something fails that is not the device's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grace {
    /// How old the list of revoked attestation keys may be before no Android device is enrolled.
    #[schemars(with = "SpanText")]
    pub revocation_list_max_age: Span,
    /// For how long after a configuration was published for an app its installations may hold an older one, or report no pins,
    /// before they have the flags `stale_pin_config` and `pin_report_missing`.
    #[schemars(with = "SpanText")]
    pub config_update: Span,
    /// For how long after an installation was to enrol anew it gets tokens still, with the flag `reattestation_due`: for
    /// platforms that are down, and devices that cannot reach them.
    #[schemars(with = "SpanText")]
    pub reattestation: Span,
}

impl Default for Grace {
    fn default() -> Self {
        let (config_update, reattestation) = (Span::secs(86_400), Span::secs(0));
        Self { revocation_list_max_age: Self::LONGEST, config_update, reattestation }
    }
}

impl Grace {
    /// No list that is older counts, whatever the rules say.
    pub const LONGEST: Span = Span::secs(7 * 86_400);

    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The stricter of two, part by part.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        Self {
            revocation_list_max_age: self.revocation_list_max_age.min(other.revocation_list_max_age),
            config_update: self.config_update.min(other.config_update),
            reattestation: self.reattestation.min(other.reattestation),
        }
    }
}

/// Leave for single instances whatever the rules say, given by an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForcedPass {
    /// Whether there is any.
    pub allowed: bool,
    /// For how long it may be given.
    #[schemars(with = "SpanText")]
    pub longest: Span,
}

impl Default for ForcedPass {
    fn default() -> Self {
        Self { allowed: true, longest: Self::LONGEST }
    }
}

impl ForcedPass {
    /// No forced pass is good for longer.
    pub const LONGEST: Span = Span::secs(30 * 86_400);

    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
