//! What is calling: evidence from a platform that a genuine app on a sane device speaks, verified offline.
//!
//! Each kind of [`Evidence`] has a verifier of its own, with its own error enum whose `reason()` is stable. Trust
//! anchors, the time and revocation lists are parameters. A verifier says what is so, as a [`Summary`]: how far the
//! evidence carries ([`Level`]), what a policy may want to know ([`Flag`]) and facts for the operator's log. Whether
//! that is enough is the policy's decision.

pub mod altcha;
pub mod android;
pub mod appcheck;
pub mod apple;
pub mod approov;
pub mod asn1;
pub mod cbor;
pub mod chain;
pub mod client_data;
pub mod enrolment;
mod flag;
pub mod inspect;
pub mod jwe;
pub mod online;
pub mod play;
pub mod possession;
pub mod seal;
mod spki;
pub mod status;
pub mod webauthn;

pub use flag::{CATALOGUE, Flag, FlagValue, Provenance, provenance};

use std::fmt;

use serde::{Serialize, Serializer};

use crate::jose::JsonObject;

/// A kind of evidence, named as in configuration and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evidence {
    /// Apple App Attest.
    AppleAppAttest,
    /// Android Key Attestation.
    AndroidKey,
    /// Google Play Integrity, on its own.
    PlayIntegrity,
    /// Firebase App Check.
    AppCheck,
    /// A token of Approov.
    Approov,
    /// Apple `DeviceCheck`.
    DeviceCheck,
    /// W3C Web Authentication.
    WebAuthn,
    /// ALTCHA proof of work.
    Altcha,
    /// Cloudflare Turnstile.
    Turnstile,
    /// hCaptcha.
    HCaptcha,
    /// Google reCAPTCHA.
    ReCaptcha,
}

impl Evidence {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::AppleAppAttest,
        Self::AndroidKey,
        Self::PlayIntegrity,
        Self::AppCheck,
        Self::Approov,
        Self::DeviceCheck,
        Self::WebAuthn,
        Self::Altcha,
        Self::Turnstile,
        Self::HCaptcha,
        Self::ReCaptcha,
    ];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AppleAppAttest => "apple-app-attest",
            Self::AndroidKey => "android-key",
            Self::PlayIntegrity => "play-integrity",
            Self::AppCheck => "appcheck",
            Self::Approov => "approov",
            Self::DeviceCheck => "devicecheck",
            Self::WebAuthn => "webauthn",
            Self::Altcha => "altcha",
            Self::Turnstile => "turnstile",
            Self::HCaptcha => "hcaptcha",
            Self::ReCaptcha => "recaptcha",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How far evidence carries, weakest first: a policy's minimum is compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is shown.
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

impl Level {
    /// Every level, weakest first.
    pub const ALL: [Self; 5] = [Self::None, Self::Web, Self::Verdict, Self::Hw, Self::HwStrong];

    /// The name.
    pub const fn name(self) -> &'static str {
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
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What a piece of evidence that holds says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// What it is.
    pub evidence: Evidence,
    /// How far it carries.
    pub level: Level,
    /// What a policy may act on, in the order found.
    pub flags: Vec<Flag>,
    /// What else stands in it, for the operator: versions, environment, dates. No device identifiers.
    pub facts: JsonObject,
}

/// Lower-case hex.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again_and_distinct() {
        for kind in Evidence::ALL {
            assert_eq!(Evidence::from_name(kind.name()), Some(kind));
        }
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
        }
        assert_eq!(Evidence::from_name("apple"), None);
        assert_eq!(Level::from_name("HW"), None);
    }

    #[test]
    fn levels_are_ordered_weakest_first() {
        assert!(Level::ALL.is_sorted());
        assert!(Level::HwStrong > Level::Hw && Level::Web > Level::None);
    }
}
