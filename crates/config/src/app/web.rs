//! An app as browsers know it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EvidenceKind;
use crate::secret_ref::SecretRef;
use crate::values::{HttpUrl, Origin};

/// An app as browsers know it. At least one kind of evidence is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebApp {
    /// Where its pages are from: exact origins. They are let in by `[cors]` too.
    #[schemars(length(min = 1, max = 64))]
    pub origins: Vec<Origin>,
    /// Proof of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub altcha: Option<AltchaWork>,
    /// Cloudflare Turnstile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turnstile: Option<Captcha>,
    /// hCaptcha.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hcaptcha: Option<Captcha>,
    /// Google reCAPTCHA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recaptcha: Option<Captcha>,
    /// Passkeys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webauthn: Option<WebAuthnSite>,
}

impl WebApp {
    /// Whether any CAPTCHA is listed.
    pub fn has_captcha(&self) -> bool {
        self.turnstile.is_some() || self.hcaptcha.is_some() || self.recaptcha.is_some()
    }

    /// The CAPTCHA of a kind, if it is listed.
    pub fn captcha(&self, kind: EvidenceKind) -> Option<&Captcha> {
        match kind {
            EvidenceKind::Turnstile => self.turnstile.as_ref(),
            EvidenceKind::Hcaptcha => self.hcaptcha.as_ref(),
            EvidenceKind::Recaptcha => self.recaptcha.as_ref(),
            _ => None,
        }
    }
}

/// How much work a browser does (ALTCHA version 2): counters are tried until a derived key begins with zeros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AltchaWork {
    /// Iterations of one derivation.
    #[schemars(range(min = 1_000, max = 200_000))]
    pub cost: u32,
    /// Bytes that are zero: 1 takes 256 derivations on average, 2 takes 65,536.
    #[schemars(range(min = 1, max = 3))]
    pub zeros: u8,
}

impl Default for AltchaWork {
    fn default() -> Self {
        Self { cost: 5_000, zeros: 1 }
    }
}

/// A puzzle that somebody else judges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Captcha {
    /// The site's secret.
    pub secret: SecretRef,
    /// What it must be solved for, where the service says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub action: Option<String>,
    /// The least score, from 0 (a machine) to 100 (a person).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub least_score: Option<u8>,
    /// It is no evidence to enrol with, only what a risk rule can ask for besides (`step_up`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub step_up_only: bool,
    /// Where it is judged. Absent: the service's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpUrl>,
    /// Allow loopback and private addresses, there also plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
}

/// A site that has passkeys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebAuthnSite {
    /// The relying party's identifier: the domain.
    #[schemars(length(min = 1, max = 253))]
    pub rp_id: String,
    /// Whether the user must be verified, by PIN or biometrics.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user_verification: bool,
    /// The passkey is shown for every token, not only to enrol.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_refresh: bool,
}
