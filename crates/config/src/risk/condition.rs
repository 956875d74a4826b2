//! What has to be so for a rule to match, and for one not to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BootKey, FlagName, FlagWord};
use crate::level::Platform;
use crate::policy::OneOrMany;

/// A condition on flags with what else it asks. (serde refuses unknown keys only of structs that are not put together.)
macro_rules! condition {
    ($(#[$of:meta])* $name:ident { $(#[$about:meta])* $own:ident: $type:ty }) => {
        $(#[$of])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// This flag is there, with a value that the other keys allow.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub flag: Option<FlagName>,
            /// Its number is greater.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub gt: Option<i64>,
            /// Its number is less.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub lt: Option<i64>,
            /// Its value is one of these.
            #[serde(rename = "in", skip_serializing_if = "Vec::is_empty")]
            #[schemars(length(max = 64))]
            pub is_in: Vec<FlagWord>,
            /// Its value is none of these.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            #[schemars(length(max = 64))]
            pub not_in: Vec<FlagWord>,
            /// One of these is there.
            #[serde(skip_serializing_if = "OneOrMany::is_empty")]
            pub any: OneOrMany<FlagName>,
            /// All of these are there.
            #[serde(skip_serializing_if = "OneOrMany::is_empty")]
            pub all: OneOrMany<FlagName>,
            $(#[$about])*
            #[serde(skip_serializing_if = "OneOrMany::is_empty")]
            pub $own: $type,
        }
    };
}

condition! {
    /// A condition on flags: one of `flag`, `any` and `all`, and every other that is given, must hold.
    RiskWhen {
        /// The instance runs on one of these.
        platform: OneOrMany<Platform>
    }
}

condition! {
    /// A condition under which a rule does nothing.
    RiskUnless {
        /// The device's system is signed with one of these keys: SHA-256 in hex, as the flag `boot_selfsigned` has it.
        verified_boot_key_in: OneOrMany<BootKey>
    }
}

impl RiskUnless {
    /// The part that a rule's `when` can say too.
    pub fn flags(&self) -> RiskWhen {
        let Self { flag, gt, lt, is_in, not_in, any, all, verified_boot_key_in: _ } = self.clone();
        RiskWhen { flag, gt, lt, is_in, not_in, any, all, platform: OneOrMany::default() }
    }
}
