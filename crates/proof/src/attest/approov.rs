//! Tokens of Approov: another attestation service's word, so that an app that links its SDK can come to this gateway
//! (<https://approov.io/docs/latest/approov-usage-documentation/>).
//!
//! A token is a JWT with a short life, signed with the account's secret or with a key of a key set. It may carry the hash
//! of another header's value (`pay`) and the installation's public key (`ipk`), with which requests are then signed
//! ([`message`]). A failing app gets a token signed with a wrong key: why, only Approov says.

pub mod message;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base::{Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Evidence, Level, Summary, spki};
use crate::jose::{
    Alg, JoseError, JsonObject, KeySet, Lookup, SecretError, VerifyingKey, check_secret, parse_compact, sha256,
};

/// How far `nbf` and `iat` may be in the future: clocks differ.
const SKEW: Duration = Duration::from_mins(1);

/// The most annotations of one token, and the longest one in bytes.
const MAX_ANNOTATIONS: usize = 64;
const MAX_TEXT_LEN: usize = 256;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApproovError {
    /// Not a signed token.
    #[error("{0}")]
    Jose(#[from] JoseError),
    /// Another algorithm than the keys are for.
    #[error("the token is signed with another algorithm than its keys are for")]
    Algorithm,
    /// No key fits.
    #[error("no key fits the token")]
    UnknownKey,
    /// The signature is wrong: also what an app gets that fails its attestation.
    #[error("the signature of the token is wrong")]
    Signature,
    /// A claim is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A claim has the wrong form.
    #[error("`{0}` has the wrong form")]
    Claim(&'static str),
    /// Over.
    #[error("the token has expired")]
    Expired,
    /// From the future.
    #[error("the token is not yet valid")]
    NotYetValid,
    /// Another account's.
    #[error("the token is another account's")]
    Issuer,
    /// A binding is demanded, and the token has none.
    #[error("the token is bound to no header")]
    Unbound,
    /// The token is bound to a header that is not there.
    #[error("the header the token is bound to is absent")]
    BindingHeader,
    /// The token is bound to another value.
    #[error("the token is bound to another value of the header")]
    Binding,
}

impl ApproovError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Jose(error) => error.reason(),
            Self::Algorithm => "alg_not_allowed",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "bad_signature",
            Self::Missing(_) => "missing_claim",
            Self::Claim(_) => "bad_claim",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "wrong_issuer",
            Self::Unbound => "binding_missing",
            Self::BindingHeader => "binding_header_missing",
            Self::Binding => "binding_mismatch",
        }
    }
}

/// Why keys are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApproovKeyError {
    /// Not base64. The account's secret is handed out in base64 and used decoded.
    #[error("the secret is not base64")]
    Base64,
    /// Too weak.
    #[error("the secret is refused: {0}")]
    Secret(#[from] SecretError),
}

impl ApproovKeyError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Base64 => "secret_not_base64",
            Self::Secret(error) => error.reason(),
        }
    }
}

/// Keys, and the one kind of algorithm they are used with.
#[derive(Debug, Clone)]
pub struct ApproovKeys {
    set: Arc<KeySet>,
    algorithms: &'static [Alg],
}

impl ApproovKeys {
    /// The account's secret as `approov secret -get base64` prints it: HS256.
    pub fn secret(base64: &Secret<String>) -> Result<Self, ApproovKeyError> {
        let secret = STANDARD.decode(base64.expose().trim()).map_err(|_| ApproovKeyError::Base64)?;
        let secret = Secret::new(secret);
        check_secret(secret.expose(), Alg::Hs256)?;
        let set = KeySet::from_secret(&secret, &[Alg::Hs256]).map_err(|_| ApproovKeyError::Base64)?;
        Ok(Self { set: Arc::new(set), algorithms: &[Alg::Hs256] })
    }

    /// A key set of public keys (`approov api -keySetKID`): RS256 and ES256 and their longer kin.
    pub fn key_set(set: Arc<KeySet>) -> Self {
        const ALGORITHMS: &[Alg] = &[Alg::Rs256, Alg::Es256, Alg::Rs384, Alg::Es384, Alg::Rs512, Alg::Es512];
        Self { set, algorithms: ALGORITHMS }
    }
}

/// What a token is judged by.
#[derive(Debug, Clone, Copy)]
pub struct ApproovRules<'a> {
    /// The account's keys.
    pub keys: &'a ApproovKeys,
    /// The account (`ApproovAccountID.approov.io`), where the token is to name it.
    pub issuer: Option<&'a str>,
    /// The whole value of the header tokens are bound to, where they are: `Bearer eyJ..`.
    pub binding: Option<&'a str>,
    /// Whether a token that is bound to nothing is refused.
    pub binding_required: bool,
    /// The moment of the request.
    pub now: Timestamp,
}

/// A token that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedApproov {
    /// What a policy is told.
    pub summary: Summary,
    /// What Approov's policy noted.
    pub annotations: Vec<String>,
    /// Approov's id of the device, as it is written: to be salted and hashed before it is kept.
    pub device: Option<String>,
    /// The key the installation signs requests with.
    pub installation_key: Option<Arc<VerifyingKey>>,
    /// When it ends.
    pub expires: Timestamp,
}

/// Verify a token.
pub fn verify(token: &str, rules: &ApproovRules<'_>) -> Result<VerifiedApproov, ApproovError> {
    let parsed = parse_compact(token).map_err(|error| match error {
        JoseError::UnsupportedAlg => ApproovError::Algorithm,
        other => ApproovError::Jose(other),
    })?;
    let alg = parsed.header.alg;
    if !rules.keys.algorithms.contains(&alg) {
        return Err(ApproovError::Algorithm);
    }
    let Lookup::Found(key) = rules.keys.set.find(parsed.header.kid.as_deref(), alg, &[alg]) else {
        return Err(ApproovError::UnknownKey);
    };
    key.verify(alg, parsed.signing_input.as_bytes(), &parsed.signature).map_err(|_| ApproovError::Signature)?;
    judge(&parsed.claims()?, rules)
}

/// Judge claims whose signature holds.
pub fn judge(claims: &JsonObject, rules: &ApproovRules<'_>) -> Result<VerifiedApproov, ApproovError> {
    let expires = moment(claims, "exp")?.ok_or(ApproovError::Missing("exp"))?;
    if rules.now >= expires {
        return Err(ApproovError::Expired);
    }
    for name in ["nbf", "iat"] {
        if moment(claims, name)?.is_some_and(|begins| begins > rules.now.plus(SKEW)) {
            return Err(ApproovError::NotYetValid);
        }
    }
    if rules.issuer.is_some() && text(claims, "iss")? != rules.issuer {
        return Err(ApproovError::Issuer);
    }
    check_binding(text(claims, "pay")?, rules)?;
    let annotations = annotations(claims)?;
    let installation_key = match claims.get("ipk") {
        None => None,
        Some(key) => Some(key.as_str().and_then(spki::p256).ok_or(ApproovError::Claim("ipk"))?),
    };
    let mut facts = JsonObject::new();
    facts.insert("annotations".to_owned(), annotations.clone().into());
    for name in ["arc", "iss"] {
        if let Some(value) = text(claims, name)? {
            facts.insert(name.to_owned(), value.into());
        }
    }
    facts.insert("bound".to_owned(), claims.contains_key("pay").into());
    let summary = Summary { evidence: Evidence::Approov, level: Level::Verdict, flags: Vec::new(), facts };
    let device = text(claims, "did")?.map(str::to_owned);
    Ok(VerifiedApproov { summary, annotations, device, installation_key, expires })
}

/// `pay` is the base64 of the SHA-256 of the header's whole value, its scheme included.
fn check_binding(pay: Option<&str>, rules: &ApproovRules<'_>) -> Result<(), ApproovError> {
    match (pay, rules.binding) {
        (None, _) if rules.binding_required => Err(ApproovError::Unbound),
        (None, _) => Ok(()),
        (Some(_), None) => Err(ApproovError::BindingHeader),
        (Some(pay), Some(value)) => {
            let wanted = STANDARD.encode(sha256(value.as_bytes()));
            verify_slices_are_equal(wanted.as_bytes(), pay.as_bytes()).map_err(|_| ApproovError::Binding)
        }
    }
}

/// Seconds since 1970, whole or with a fraction.
fn moment(claims: &JsonObject, name: &'static str) -> Result<Option<Timestamp>, ApproovError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    if let Some(secs) = value.as_i64() {
        let in_range = (0..=253_402_300_799).contains(&secs);
        return if in_range { Ok(Some(Timestamp::from_secs(secs))) } else { Err(ApproovError::Claim(name)) };
    }
    let secs = value.as_f64().filter(|secs| (0.0..=253_402_300_799.0).contains(secs));
    let millis = (secs.ok_or(ApproovError::Claim(name))? * 1000.0).floor();
    // In range: the largest is some 2.5e14.
    #[allow(clippy::cast_possible_truncation)]
    Ok(Some(Timestamp::from_millis(millis as i64)))
}

fn text<'c>(claims: &'c JsonObject, name: &'static str) -> Result<Option<&'c str>, ApproovError> {
    crate::jose::text(claims, name, MAX_TEXT_LEN).map_err(|_| ApproovError::Claim(name))
}

fn annotations(claims: &JsonObject) -> Result<Vec<String>, ApproovError> {
    const WRONG: ApproovError = ApproovError::Claim("anno");
    let Some(value) = claims.get("anno") else { return Ok(Vec::new()) };
    let list = value.as_array().filter(|list| list.len() <= MAX_ANNOTATIONS).ok_or(WRONG)?;
    let one = |value: &Value| value.as_str().filter(|text| text.len() <= MAX_TEXT_LEN).map(str::to_owned);
    list.iter().map(|value| one(value).ok_or(WRONG)).collect()
}
