//! Kinds of evidence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// Apple's App Attest.
    AppleAppAttest,
    /// Android's key attestation.
    AndroidKey,
    /// Google Play Integrity.
    PlayIntegrity,
    /// Firebase App Check.
    Appcheck,
    /// Approov.
    Approov,
    /// A passkey.
    Webauthn,
    /// Proof of work.
    Altcha,
    /// Cloudflare Turnstile.
    Turnstile,
    /// hCaptcha.
    Hcaptcha,
    /// Google reCAPTCHA.
    Recaptcha,
}

impl EvidenceKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::AppleAppAttest,
        Self::AndroidKey,
        Self::PlayIntegrity,
        Self::Appcheck,
        Self::Approov,
        Self::Webauthn,
        Self::Altcha,
        Self::Turnstile,
        Self::Hcaptcha,
        Self::Recaptcha,
    ];

    /// The word in the configuration, in requests and in tokens (`att`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AppleAppAttest => "apple-app-attest",
            Self::AndroidKey => "android-key",
            Self::PlayIntegrity => "play-integrity",
            Self::Appcheck => "appcheck",
            Self::Approov => "approov",
            Self::Webauthn => "webauthn",
            Self::Altcha => "altcha",
            Self::Turnstile => "turnstile",
            Self::Hcaptcha => "hcaptcha",
            Self::Recaptcha => "recaptcha",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Where a puzzle is judged, by its makers' documentation.
    pub const fn judged_at(self) -> Option<&'static str> {
        match self {
            Self::Turnstile => Some("https://challenges.cloudflare.com/turnstile/v0/siteverify"),
            Self::Hcaptcha => Some("https://api.hcaptcha.com/siteverify"),
            Self::Recaptcha => Some("https://www.google.com/recaptcha/api/siteverify"),
            _ => None,
        }
    }

    /// Whether browsers bring it.
    pub const fn is_of_browsers(self) -> bool {
        matches!(self, Self::Webauthn | Self::Altcha | Self::Turnstile | Self::Hcaptcha | Self::Recaptcha)
    }

    /// Whether hardware vouches for the installation's key itself.
    pub const fn binds_key(self) -> bool {
        matches!(self, Self::AppleAppAttest | Self::AndroidKey)
    }
}
