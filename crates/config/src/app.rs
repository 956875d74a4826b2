//! `[[app]]`: an app whose installations prove by attestation what they are, and get tokens for it.

use std::path::PathBuf;

use base::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::Scope;
use crate::level::AttestationLevel;
use crate::secret_ref::SecretRef;
use crate::text::{NameText, SpanText, ValueError};
use crate::values::{HeaderName, HttpUrl, Origin};

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

/// An app as Apple knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IosApp {
    /// The team: 10 letters and digits.
    #[schemars(extend("x-kind" = "apple-team"))]
    pub team: String,
    /// The bundle identifier, in its exact case.
    #[schemars(extend("x-kind" = "bundle"))]
    pub bundle: String,
    /// The environments its evidence may come from. Absent: `production`.
    #[serde(default = "production", skip_serializing_if = "is_production")]
    #[schemars(length(min = 1, max = 2))]
    pub environments: Vec<AppleEnvironment>,
    /// The categories it may be distributed in, where the evidence names one (iOS 27 on): 2 `TestFlight`, 3 development,
    /// 4 App Store, 5 enterprise or ad hoc, 6 Developer ID. Absent: any that the environment allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(range(min = 1, max = 10)))]
    pub categories: Vec<u8>,
    /// The least bundle version, where the evidence names one (iOS 27 on): numbers with dots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kind" = "dotted-version"))]
    pub min_version: Option<String>,
}

impl IosApp {
    /// The app's identifier, as evidence has it.
    pub fn app_id(&self) -> String {
        format!("{}.{}", self.team, self.bundle)
    }
}

/// One of App Attest's environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppleEnvironment {
    /// Builds as they are distributed.
    Production,
    /// Development builds.
    Development,
}

/// An app as Android knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AndroidApp {
    /// The package.
    #[schemars(extend("x-kind" = "bundle"))]
    pub package: String,
    /// SHA-256 of each certificate it may be signed with, in hex; colons are allowed.
    #[schemars(length(min = 1, max = 16))]
    pub digests: Vec<Sha256Hex>,
    /// The least version code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_version: Option<u64>,
    /// `verifiedBootKey`, in hex, of systems that are trusted although their owner signed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub boot_keys: Vec<Sha256Hex>,
    /// Where its key may be kept. Absent: either.
    #[serde(default = "hardware", skip_serializing_if = "is_hardware")]
    #[schemars(length(min = 1, max = 2))]
    pub levels: Vec<KeyHardware>,
    /// Google's verdict, beside the key attestation or where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play_integrity: Option<PlayIntegrity>,
}

/// Hardware that keeps Android keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyHardware {
    /// A chip of its own.
    StrongBox,
    /// A part of the main chip that Android cannot look into.
    TrustedEnvironment,
}

/// Google's verdicts, opened with keys of one's own (Play Console, classic requests).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlayIntegrity {
    /// The response decryption key: base64, as the Play Console gives it.
    pub decryption_key: SecretRef,
    /// The response verification key: base64, as the Play Console gives it. It is public.
    #[schemars(length(min = 64, max = 512))]
    pub verification_key: String,
    /// Refuse a key attestation without a verdict beside it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Accept the test responses that can be set up in the Play Console: in development only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_testing: bool,
}

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
    /// Allow loopback and private addresses, there also plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
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

    /// Whether hardware vouches for the installation's key itself.
    pub const fn binds_key(self) -> bool {
        matches!(self, Self::AppleAppAttest | Self::AndroidKey)
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
            EvidenceKind::Turnstile => web(|web| web.turnstile.is_some()),
            EvidenceKind::Hcaptcha => web(|web| web.hcaptcha.is_some()),
            EvidenceKind::Recaptcha => web(|web| web.recaptcha.is_some()),
        };
        EvidenceKind::ALL.into_iter().filter(listed).collect()
    }

    /// How far its evidence must carry: as configured, or as far as the weakest listed kind can.
    pub fn minimum_level(&self) -> AttestationLevel {
        let development =
            self.ios.as_ref().is_some_and(|ios| ios.environments.contains(&AppleEnvironment::Development));
        let own_systems = self.android.as_ref().is_some_and(|android| !android.boot_keys.is_empty());
        self.minimum_level.unwrap_or(if self.web.is_some() {
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
            ("android.play_integrity.decryption_key", play.map(|play| &play.decryption_key)),
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

/// A SHA-256: 64 hex digits, with or without colons between the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Hex([u8; 32]);

crate::text::text_value!(
    Sha256Hex,
    "sha256-hex",
    "A SHA-256 in hex.",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
);

impl Sha256Hex {
    /// The bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::str::FromStr for Sha256Hex {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong =
            || ValueError::new("not a SHA-256 in hex").hint("64 digits; `apksigner verify --print-certs` prints them");
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
        let (pairs, rest) = digits.as_chunks::<2>();
        let mut bytes = [0u8; 32];
        if pairs.len() != bytes.len() || !rest.is_empty() || text.len() > 128 {
            return Err(wrong());
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            let digit = |digit: &u8| char::from(*digit).to_digit(16).ok_or_else(wrong);
            *byte = u8::try_from(digit(high)? * 16 + digit(low)?).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl std::fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A version of numbers with dots, for comparison: `1.2` is `1.2.0`, and less than `1.10`.
pub fn dotted_version(text: &str) -> Option<Vec<u64>> {
    let mut numbers = text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    Some(numbers)
}

const fn default_token_ttl() -> Span {
    Span::secs(300)
}

const fn default_enrolments() -> u32 {
    600
}

fn production() -> Vec<AppleEnvironment> {
    vec![AppleEnvironment::Production]
}

fn is_production(environments: &[AppleEnvironment]) -> bool {
    environments == [AppleEnvironment::Production]
}

fn hardware() -> Vec<KeyHardware> {
    vec![KeyHardware::StrongBox, KeyHardware::TrustedEnvironment]
}

fn is_hardware(levels: &[KeyHardware]) -> bool {
    levels == hardware()
}
