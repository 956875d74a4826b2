//! Words about what is calling that several parts of the configuration use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far evidence carries, weakest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AttestationLevel {
    /// Nothing is shown.
    #[default]
    None,
    /// Somebody solved a puzzle, did work or used a passkey in a browser.
    Web,
    /// Another party's word that the app is genuine, bound to no key.
    Verdict,
    /// Hardware's word, about a development build or a system its owner signed.
    Hw,
    /// Hardware's word, about the app as it is distributed, on a locked device with the vendor's system.
    HwStrong,
}

impl AttestationLevel {
    /// Every level, weakest first.
    pub const ALL: [Self; 5] = [Self::None, Self::Web, Self::Verdict, Self::Hw, Self::HwStrong];

    /// The word in the configuration and in tokens (`lvl`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Web => "web",
            Self::Verdict => "verdict",
            Self::Hw => "hw",
            Self::HwStrong => "hw-strong",
        }
    }

    /// The level of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// What an instance of an app runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// iOS, iPadOS, macOS and what else has App Attest.
    Ios,
    /// Android.
    Android,
    /// A browser.
    Web,
}

impl Platform {
    /// Every platform.
    pub const ALL: [Self; 3] = [Self::Ios, Self::Android, Self::Web];

    /// The word in configuration and tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ios => "ios",
            Self::Android => "android",
            Self::Web => "web",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_written_as_they_are_called_and_levels_are_ordered() {
        for level in AttestationLevel::ALL {
            assert_eq!(serde_json::to_value(level).unwrap(), level.as_str());
            assert_eq!(AttestationLevel::from_name(level.as_str()), Some(level));
        }
        for platform in Platform::ALL {
            assert_eq!(serde_json::to_value(platform).unwrap(), platform.as_str());
        }
        assert!(AttestationLevel::ALL.is_sorted());
    }
}
