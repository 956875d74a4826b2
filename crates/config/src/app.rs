//! `[[app]]`: an app whose installations prove by attestation what they are, and get tokens for it.

use std::path::PathBuf;

use base::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::Scope;
use crate::level::AttestationLevel;
use crate::secret_ref::SecretRef;
use crate::text::{NameText, SpanText};
use crate::values::{HeaderName, HttpUrl};

mod android;
mod apple;
mod digest;
mod evidence;
mod web;

pub use android::{AndroidApp, KeyHardware, PlayIntegrity};
pub use apple::{AppleEnvironment, AskDeviceCheck, AskFraudMetric, IosApp};
pub use digest::{Sha256Hex, dotted_version};
pub use evidence::EvidenceKind;
pub use web::{AltchaWork, Captcha, WebApp, WebAuthnSite};

/// An app. It is a client of its own name: its tokens have `client_id = NAME` and `sub` = the installation. At least one of
/// `ios`, `android`, `web`, `firebase` and `approov` says what its installations prove themselves with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its name, and the `client_id` of its tokens.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// As Apple knows it: App Attest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ios: Option<IosApp>,
    /// As Android knows it: key attestation, Play Integrity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub android: Option<AndroidApp>,
    /// As browsers know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<WebApp>,
    /// As Firebase App Check knows it, for an app that moves over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firebase: Option<FirebaseApp>,
    /// As Approov knows it, for an app that moves over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approov: Option<ApproovApp>,
    /// Scopes of its tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub scopes: Vec<Scope>,
    /// Evidence must carry at least this far. Absent: as far as the weakest kind that is listed can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_level: Option<AttestationLevel>,
    /// How long its tokens live: 1 to 5 minutes.
    #[serde(default = "default_token_ttl")]
    #[schemars(with = "SpanText")]
    pub token_ttl: Span,
    /// What every request with its tokens has to bring.
    #[serde(default)]
    pub proof: AppProof,
    /// After how long an installation has to enrol anew. Absent: 14 days, or 1 day where no hardware vouches for its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub reattest_after: Option<Span>,
    /// Enrolments a minute, of all its installations together.
    #[serde(default = "default_enrolments")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub enrolments_per_minute: u32,
    /// The header in which the app sends its own user's token. A token given to a request with it is only good together
    /// with the same value (claim `pay`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_token: Option<HeaderName>,
    /// Refuse it, without forgetting it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Say in refusals why: for development only, since it helps whoever probes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expose_reasons: bool,
    /// Roots that count beside Apple's and Google's: for simulated devices, in development only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_roots: Option<TestRoots>,
}

/// An app as Firebase App Check knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirebaseApp {
    /// The project's number.
    #[schemars(length(min = 1, max = 32))]
    pub project: String,
    /// The identifiers of the app, as in `1:1234:ios:abcd`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub apps: Vec<String>,
    /// Where Google's keys are. Absent: `https://firebaseappcheck.googleapis.com/v1/jwks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<HttpUrl>,
    /// Have Google use each token up, so that it counts nowhere else either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consume: Option<ConsumeAppCheck>,
    /// Allow loopback and private addresses, there also plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
}

/// Google's replay protection: each token is asked about and used up when it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumeAppCheck {
    /// A service account of the project that may verify App Check tokens, the JSON file that the Cloud console gives.
    pub service_account: SecretRef,
    /// The origin that is asked. Absent: Google's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpUrl>,
    /// Where access tokens come from. Absent: Google's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<HttpUrl>,
}

/// An app as Approov knows it. Exactly one of `secret` and `jwks_file`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproovApp {
    /// The account's secret, in base64 (`approov secret -get base64`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// The public keys of a key set, a JWK Set in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kind" = "file-path"))]
    pub jwks_file: Option<PathBuf>,
    /// What `iss` must say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub issuer: Option<String>,
    /// Accept tokens that are not bound (`pay`) to the thumbprint of the installation's key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_unbound: bool,
}

/// Roots of simulated devices, in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TestRoots {
    /// Beside Apple's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kind" = "file-path"))]
    pub apple: Option<PathBuf>,
    /// Beside Google's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kind" = "file-path"))]
    pub android: Option<PathBuf>,
}

/// What a request with an app's token has to bring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppProof {
    /// A signature over the request, its body included (RFC 9421).
    #[default]
    Signature,
    /// A `DPoP` proof (RFC 9449), which covers neither query nor body; or a signature.
    Dpop,
}

impl AppProof {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Dpop => "dpop",
        }
    }
}

impl App {
    /// The kinds of evidence its installations may bring.
    pub fn evidence(&self) -> Vec<EvidenceKind> {
        let web = |listed: fn(&WebApp) -> bool| self.web.as_ref().is_some_and(listed);
        let play = self.android.as_ref().is_some_and(|android| android.play_integrity.is_some());
        let listed = |kind: &EvidenceKind| match kind {
            EvidenceKind::AppleAppAttest => self.ios.is_some(),
            EvidenceKind::AndroidKey => self.android.is_some(),
            EvidenceKind::PlayIntegrity => play,
            EvidenceKind::Appcheck => self.firebase.is_some(),
            EvidenceKind::Approov => self.approov.is_some(),
            EvidenceKind::Webauthn => web(|web| web.webauthn.is_some()),
            EvidenceKind::Altcha => web(|web| web.altcha.is_some()),
            EvidenceKind::Turnstile | EvidenceKind::Hcaptcha | EvidenceKind::Recaptcha => {
                let captcha = self.web.as_ref().and_then(|web| web.captcha(*kind));
                captcha.is_some_and(|captcha| !captcha.step_up_only)
            }
        };
        EvidenceKind::ALL.into_iter().filter(listed).collect()
    }

    /// How far its evidence must carry: as configured, or as far as the weakest listed kind can.
    pub fn minimum_level(&self) -> AttestationLevel {
        let development =
            self.ios.as_ref().is_some_and(|ios| ios.environments.contains(&AppleEnvironment::Development));
        let own_systems = self.android.as_ref().is_some_and(|android| !android.boot_keys.is_empty());
        let by_browsers = self.evidence().iter().any(|kind| kind.is_of_browsers());
        self.minimum_level.unwrap_or(if by_browsers {
            AttestationLevel::Web
        } else if self.firebase.is_some() || self.approov.is_some() {
            AttestationLevel::Verdict
        } else if development || own_systems {
            AttestationLevel::Hw
        } else {
            AttestationLevel::HwStrong
        })
    }

    /// After how long an installation that enrolled with this evidence has to enrol anew.
    pub fn reattest_after(&self, evidence: EvidenceKind) -> Span {
        let usual = if evidence.binds_key() { Span::secs(14 * 86_400) } else { Span::secs(86_400) };
        self.reattest_after.unwrap_or(usual)
    }

    /// Whether something in it is for development only.
    pub fn is_for_development(&self) -> bool {
        let testing = |play: &PlayIntegrity| play.allow_testing;
        self.expose_reasons
            || self.test_roots.is_some()
            || self.android.as_ref().and_then(|android| android.play_integrity.as_ref()).is_some_and(testing)
    }

    /// Every reference to a secret, each with its key.
    pub fn secrets(&self) -> Vec<(&'static str, &SecretRef)> {
        let play = self.android.as_ref().and_then(|android| android.play_integrity.as_ref());
        let captcha = |kind| self.web.as_ref().and_then(|web| web.captcha(kind)).map(|captcha| &captcha.secret);
        [
            ("ios.fraud_metric.key", self.ios.as_ref().and_then(|ios| ios.fraud_metric.as_ref()).map(|ask| &ask.key)),
            ("ios.device_check.key", self.ios.as_ref().and_then(|ios| ios.device_check.as_ref()).map(|ask| &ask.key)),
            (
                "firebase.consume.service_account",
                self.firebase.as_ref().and_then(|firebase| firebase.consume.as_ref()).map(|ask| &ask.service_account),
            ),
            ("android.play_integrity.decryption_key", play.and_then(|play| play.decryption_key.as_ref())),
            ("android.play_integrity.service_account", play.and_then(|play| play.service_account.as_ref())),
            ("web.turnstile.secret", captcha(EvidenceKind::Turnstile)),
            ("web.hcaptcha.secret", captcha(EvidenceKind::Hcaptcha)),
            ("web.recaptcha.secret", captcha(EvidenceKind::Recaptcha)),
            ("approov.secret", self.approov.as_ref().and_then(|approov| approov.secret.as_ref())),
        ]
        .into_iter()
        .filter_map(|(key, secret)| Some((key, secret?)))
        .collect()
    }
}

impl App {
    /// Where the secret at a key of [`App::secrets`] is sent; `None` if it is not sent anywhere.
    pub fn asked_with(&self, key: &str) -> Option<String> {
        let kind = EvidenceKind::from_name(key.strip_prefix("web.")?.strip_suffix(".secret")?)?;
        let captcha = self.web.as_ref()?.captcha(kind)?;
        Some(captcha.url.as_ref().map_or(kind.judged_at()?, HttpUrl::as_str).to_owned())
    }
}

const fn default_token_ttl() -> Span {
    Span::secs(300)
}

const fn default_enrolments() -> u32 {
    600
}
