//! Play Integrity: Google's verdict on app, device and account
//! (<https://developer.android.com/google/play/integrity/verdicts>).
//!
//! With response keys of the operator's own the token is opened here: a JWE around a JWS, both with one fixed algorithm.
//! Otherwise Google opens it, and what it answers is judged by the same rules ([`judge`]). A verdict is Google's word,
//! bound to our nonce and to no key.

mod verdict;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base::{Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::android::AndroidApp;
use super::jwe::{self, JweError};
use super::{Summary, spki};
use crate::jose::json::{self, JsonError, Limits};
use crate::jose::{Alg, JoseError, JsonObject, VerifyingKey, base64url_decode, parse_compact_within};

/// The longest token, in bytes. Google's have some two thousand.
pub const MAX_TOKEN_LEN: usize = 32 << 10;

/// How old a verdict may be, where nothing else is configured.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_mins(5);

/// How far in the future a verdict may be: clocks differ.
pub const MAX_SKEW: Duration = Duration::from_mins(1);

/// Why a token or verdict is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlayError {
    /// The outer object cannot be opened.
    #[error("{0}")]
    Jwe(#[from] JweError),
    /// The inner object is not a signed one.
    #[error("{0}")]
    Jose(#[from] JoseError),
    /// The inner object is signed with another algorithm than ES256.
    #[error("the verdict is not signed with ES256")]
    Algorithm,
    /// The signature is not Google's.
    #[error("the signature of the verdict is wrong")]
    Signature,
    /// The payload is not an acceptable JSON object.
    #[error("the verdict is refused: {0}")]
    Json(JsonError),
    /// A member is missing or has the wrong type.
    #[error("`{0}` is missing or has the wrong form")]
    Malformed(&'static str),
    /// Asked for with another nonce or request hash.
    #[error("the verdict was asked for with another nonce or request hash")]
    Nonce,
    /// Asked for by, or about, another package.
    #[error("the package is another one")]
    Package,
    /// Signed with another certificate: repackaged.
    #[error("the app is signed with another certificate")]
    Digest,
    /// Older than the app may be.
    #[error("the app is older than the least version")]
    Version,
    /// Asked for too long ago.
    #[error("the verdict is too old")]
    Old,
    /// Asked for in the future.
    #[error("the verdict is from the future")]
    Future,
    /// Made up by Google for a test.
    #[error("the verdict is a test response")]
    Testing,
}

impl PlayError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Jwe(error) => error.reason(),
            Self::Jose(error) => error.reason(),
            Self::Algorithm => "alg_not_allowed",
            Self::Signature => "bad_signature",
            Self::Json(error) => error.reason(),
            Self::Malformed(_) => "verdict_malformed",
            Self::Nonce => "nonce_mismatch",
            Self::Package => "package_mismatch",
            Self::Digest => "signing_digest_mismatch",
            Self::Version => "app_version_too_old",
            Self::Old => "verdict_too_old",
            Self::Future => "verdict_in_future",
            Self::Testing => "verdict_testing_response",
        }
    }
}

/// Why the response keys of the Play Console are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlayKeyError {
    /// Not 32 bytes in base64.
    #[error("the decryption key is not 32 bytes in base64")]
    Decryption,
    /// Not a public key on P-256 in base64.
    #[error("the verification key is not a public key on P-256 in base64")]
    Verification,
}

impl PlayKeyError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Decryption => "play_decryption_key",
            Self::Verification => "play_verification_key",
        }
    }
}

/// The response keys of an app whose operator manages them.
pub struct PlayKeys {
    decryption: Secret<[u8; 32]>,
    verification: Arc<VerifyingKey>,
}

impl PlayKeys {
    /// From the two texts the Play Console shows, each in base64.
    pub fn new(decryption: &Secret<String>, verification: &str) -> Result<Self, PlayKeyError> {
        let key = Zeroizing::new(STANDARD.decode(decryption.expose().trim()).map_err(|_| PlayKeyError::Decryption)?);
        let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| PlayKeyError::Decryption)?;
        let verification = spki::p256(verification).ok_or(PlayKeyError::Verification)?;
        Ok(Self { decryption: Secret::new(key), verification })
    }
}

impl std::fmt::Debug for PlayKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlayKeys").field("verification", &self.verification).finish_non_exhaustive()
    }
}

/// What a verdict must have been asked for with.
#[derive(Debug, Clone, Copy)]
pub enum Binding<'a> {
    /// The nonce of a classic request, in base64url.
    Nonce(&'a str),
    /// The hash of a standard request.
    RequestHash(&'a str),
}

/// What a verdict is judged by.
#[derive(Debug, Clone, Copy)]
pub struct PlayRules<'a> {
    /// The app.
    pub app: &'a AndroidApp,
    /// What it was asked for with.
    pub binding: Binding<'a>,
    /// The moment of the request.
    pub now: Timestamp,
    /// How old it may be.
    pub max_age: Duration,
    /// Whether test responses count: for development only.
    pub allow_testing: bool,
}

/// Open, verify and judge a token.
pub fn verify(token: &str, keys: &PlayKeys, rules: &PlayRules<'_>) -> Result<Summary, PlayError> {
    let opened = jwe::open(token, &keys.decryption, MAX_TOKEN_LEN)?;
    let inner = std::str::from_utf8(&opened).map_err(|_| PlayError::Jose(JoseError::NotCompact))?;
    let signed = parse_compact_within(inner, MAX_TOKEN_LEN)?;
    if signed.header.alg != Alg::Es256 {
        return Err(PlayError::Algorithm);
    }
    keys.verification
        .verify(Alg::Es256, signed.signing_input.as_bytes(), &signed.signature)
        .map_err(|_| PlayError::Signature)?;
    judge(&json::object(&signed.payload, Limits::CLAIMS).map_err(PlayError::Json)?, rules)
}

/// Judge what Google answers to `decodeIntegrityToken`: `{"tokenPayloadExternal": ..}`.
pub fn judge_decoded(answer: &[u8], rules: &PlayRules<'_>) -> Result<Summary, PlayError> {
    let answer = json::object(answer, Limits::CLAIMS).map_err(PlayError::Json)?;
    let payload = answer.get("tokenPayloadExternal").and_then(Value::as_object);
    judge(payload.ok_or(PlayError::Malformed("tokenPayloadExternal"))?, rules)
}

/// Judge a payload whose origin is known. What was asked for is compared first, as Google's documentation demands.
pub fn judge(payload: &JsonObject, rules: &PlayRules<'_>) -> Result<Summary, PlayError> {
    let request = member(payload, "requestDetails")?.ok_or(PlayError::Malformed("requestDetails"))?;
    let package = text(request, "requestPackageName")?.ok_or(PlayError::Malformed("requestPackageName"))?;
    if package != rules.app.package {
        return Err(PlayError::Package);
    }
    check_binding(request, rules.binding)?;
    check_time(request, rules)?;
    let app = member(payload, "appIntegrity")?.ok_or(PlayError::Malformed("appIntegrity"))?;
    check_app(app, rules.app)?;
    let testing = member(payload, "testingDetails")?.map(|details| flag(details, "isTestingResponse")).transpose()?;
    let testing = testing.flatten().unwrap_or(false);
    if testing && !rules.allow_testing {
        return Err(PlayError::Testing);
    }
    verdict::summary(payload, app, testing)
}

fn check_binding(request: &JsonObject, binding: Binding<'_>) -> Result<(), PlayError> {
    let (name, wanted) = match binding {
        Binding::Nonce(nonce) => ("nonce", nonce),
        Binding::RequestHash(hash) => ("requestHash", hash),
    };
    // Clients encode with and without padding.
    let found = text(request, name)?.ok_or(PlayError::Nonce)?.trim_end_matches('=');
    let wanted = wanted.trim_end_matches('=');
    let same = !wanted.is_empty() && verify_slices_are_equal(found.as_bytes(), wanted.as_bytes()).is_ok();
    if same { Ok(()) } else { Err(PlayError::Nonce) }
}

fn check_time(request: &JsonObject, rules: &PlayRules<'_>) -> Result<(), PlayError> {
    let millis = number(request, "timestampMillis")?.ok_or(PlayError::Malformed("timestampMillis"))?;
    let made = Timestamp::from_millis(millis);
    if made > rules.now.plus(MAX_SKEW) {
        return Err(PlayError::Future);
    }
    if rules.now.since(made) > rules.max_age {
        return Err(PlayError::Old);
    }
    Ok(())
}

/// Package, signature and version of the app. All three are missing where Google did not look at the app, which
/// [`verdict::summary`] then says.
fn check_app(app: &JsonObject, registered: &AndroidApp) -> Result<(), PlayError> {
    let evaluated = text(app, "appRecognitionVerdict")? != Some("UNEVALUATED");
    match text(app, "packageName")? {
        Some(package) if package != registered.package => return Err(PlayError::Package),
        None if evaluated => return Err(PlayError::Package),
        _ => {}
    }
    let digests = texts(app, "certificateSha256Digest")?;
    let decode = |text: &&str| base64url_decode(text.trim_end_matches('='));
    let known = |digest: Vec<u8>| registered.digests.iter().any(|own| own.as_slice() == digest.as_slice());
    let listed = digests.iter().flatten().filter_map(decode).any(known);
    if !listed && (evaluated || digests.is_some()) {
        return Err(PlayError::Digest);
    }
    if let Some(least) = registered.least_version {
        let version = number(app, "versionCode")?.and_then(|version| u64::try_from(version).ok());
        if version.is_none_or(|version| version < least) && (evaluated || version.is_some()) {
            return Err(PlayError::Version);
        }
    }
    Ok(())
}

/// An object, or nothing.
fn member<'v>(of: &'v JsonObject, name: &'static str) -> Result<Option<&'v JsonObject>, PlayError> {
    match of.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_object().map(Some).ok_or(PlayError::Malformed(name)),
    }
}

/// A string, or nothing.
fn text<'v>(of: &'v JsonObject, name: &'static str) -> Result<Option<&'v str>, PlayError> {
    match of.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(PlayError::Malformed(name)),
    }
}

fn flag(of: &JsonObject, name: &'static str) -> Result<Option<bool>, PlayError> {
    match of.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_bool().map(Some).ok_or(PlayError::Malformed(name)),
    }
}

/// A list of strings, or nothing.
fn texts<'v>(of: &'v JsonObject, name: &'static str) -> Result<Option<Vec<&'v str>>, PlayError> {
    let Some(value) = of.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let list = value.as_array().ok_or(PlayError::Malformed(name))?;
    list.iter().map(|one| one.as_str().ok_or(PlayError::Malformed(name))).collect::<Result<_, _>>().map(Some)
}

/// A whole number as JSON has it, or as a string, as Google writes 64 bits.
fn number(of: &JsonObject, name: &'static str) -> Result<Option<i64>, PlayError> {
    let read = match of.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok()
        }
        Some(value) => value.as_i64(),
    };
    read.map(Some).ok_or(PlayError::Malformed(name))
}
