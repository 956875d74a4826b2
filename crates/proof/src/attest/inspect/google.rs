//! Recorded chains of Android Key Attestation, and tokens of Play Integrity and Approov.

use base::Secret;
use serde_json::Value;

use super::case::{Case, decode};
use super::{Evidence, InspectError, Verdict};
use crate::attest::android::{self, AndroidApp, AndroidError, AndroidRules};
use crate::attest::approov::{self, ApproovKeys, ApproovRules};
use crate::attest::chain::{Anchors, ChainError, certificates_from_pem};
use crate::attest::play::{self, Binding, DEFAULT_MAX_AGE, PlayKeys, PlayRules};
use crate::attest::status::StatusList;

/// The most certificates that are read of a text.
const MAX_CERTIFICATES: usize = 16;

/// A chain on its own: judged under Google's roots, by the options alone.
pub(super) fn chain_in_pem(text: &str, case: &Case<'_>) -> Result<Verdict, InspectError> {
    Ok(match certificates_from_pem(text, MAX_CERTIFICATES) {
        Err(error) => refused(error.into()),
        Ok(ders) => judge(&ders, case, None)?,
    })
}

/// `{chain_b64: [..], expect?: {package, signing_digest_hex, challenge_b64}, revoked?}`, or `{chain: "file.pem"}`, or
/// Google's reading of the chain in the file of the same name.
pub(super) fn chain(case: &Case<'_>) -> Result<Verdict, InspectError> {
    let listed = case.members.get("chain_b64").or_else(|| case.members.get("chain")).unwrap_or(&Value::Null);
    let ders = match listed {
        Value::Array(chain) => match chain.iter().map(decode).collect::<Option<Vec<_>>>() {
            None => return Ok(Verdict::refused(Evidence::AndroidKey, "bad_base64")),
            Some(ders) => Ok(ders),
        },
        Value::String(pem) if pem.contains("-----BEGIN ") => certificates_from_pem(pem, MAX_CERTIFICATES),
        Value::String(name) => from_beside(case, name)?,
        _ => from_beside(case, &format!("{}.pem", case.file.stem))?,
    };
    match ders {
        Err(error) => Ok(refused(error.into())),
        Ok(ders) => judge(&ders, case, challenge(case)?),
    }
}

/// The chain in a file beside this one.
fn from_beside(case: &Case<'_>, name: &str) -> Result<Result<Vec<Vec<u8>>, ChainError>, InspectError> {
    let text = bare(case, name).and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| InspectError::Beside(name.to_owned()))?;
    Ok(certificates_from_pem(&text, MAX_CERTIFICATES))
}

/// The certificates that the file lists as revoked: `revoked: {serial: {status}}`, or `status`, a list as Google publishes
/// it or the name of one beside the file.
fn listed(case: &Case<'_>) -> Result<Option<StatusList>, InspectError> {
    let list = match (case.get("revoked"), case.get("status")) {
        (Some(entries), _) => serde_json::json!({ "entries": entries }).to_string().into_bytes(),
        (None, Some(Value::String(name))) => bare(case, name).ok_or_else(|| InspectError::Beside(name.to_owned()))?,
        (None, Some(list)) => list.to_string().into_bytes(),
        (None, None) => return Ok(None),
    };
    StatusList::parse(&list).map(Some).map_err(|_| InspectError::Malformed("revoked"))
}

/// A file in the same directory: a bare name, so no file leads anywhere else.
fn bare(case: &Case<'_>, name: &str) -> Option<Vec<u8>> {
    let bare = !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.');
    bare.then(|| (case.file.beside)(name)).flatten()
}

/// What the key was made with, where the file says it.
fn challenge(case: &Case<'_>) -> Result<Option<Vec<u8>>, InspectError> {
    let said = case.expect("challenge_b64").or_else(|| case.get("challenge_b64"));
    let said = said.or_else(|| case.get("attestationChallenge"));
    said.map(|said| decode(said).ok_or(InspectError::Malformed("challenge_b64"))).transpose()
}

fn judge(ders: &[Vec<u8>], case: &Case<'_>, challenge: Option<Vec<u8>>) -> Result<Verdict, InspectError> {
    let anchors = case.anchors(|| Anchors::google().ok())?;
    let (listed, none) = (listed(case)?, StatusList::empty());
    let status = case.options.status.as_ref().or(listed.as_ref()).unwrap_or(&none);
    let app = app(case)?;
    let challenge = case.options.challenge.clone().or(challenge);
    let rules = AndroidRules {
        anchors: &anchors,
        status,
        now: case.moment()?,
        challenge: challenge.as_deref(),
        app: app.as_ref(),
        boot_keys: &[],
    };
    let chain: Vec<&[u8]> = ders.iter().map(Vec::as_slice).collect();
    Ok(match android::verify(&chain, &rules) {
        Err(error) => refused(error),
        Ok(verified) => match check_package(case, &verified) {
            Err(error) => refused(error),
            Ok(()) => Verdict::holds(verified.summary),
        },
    })
}

fn refused(error: AndroidError) -> Verdict {
    Verdict::refused(Evidence::AndroidKey, error.reason())
}

/// The app that the file expects, with its digests.
fn app(case: &Case<'_>) -> Result<Option<AndroidApp>, InspectError> {
    let Some(package) = case.expect("package").and_then(Value::as_str) else { return Ok(None) };
    let digests = case.expect("signing_digest_hex").and_then(Value::as_array);
    let digests = digests.ok_or(InspectError::Malformed("signing_digest_hex"))?;
    let digests = digests.iter().map(|digest| unhex(digest.as_str()?)).collect::<Option<_>>();
    let digests = digests.ok_or(InspectError::Malformed("signing_digest_hex"))?;
    let package = case.options.app.as_deref().unwrap_or(package).to_owned();
    Ok(Some(AndroidApp { package, digests, least_version: None }))
}

/// The package alone, where the operator names one and nothing says how it is signed.
fn check_package(case: &Case<'_>, verified: &android::VerifiedAndroid) -> Result<(), AndroidError> {
    let Some(wanted) = case.options.app.as_deref() else { return Ok(()) };
    let named = verified.description.software.application.as_ref().ok_or(AndroidError::NoApplication)?;
    match named.packages.as_slice() {
        [(package, _)] if package == wanted => Ok(()),
        [_] => Err(AndroidError::Package),
        [] => Err(AndroidError::NoApplication),
        _ => Err(AndroidError::SharedPackage),
    }
}

/// `{token}` in a file with both keys of an app and what is expected.
pub(super) fn play(case: &Case<'_>) -> Result<Verdict, InspectError> {
    let key = |name: &'static str| case.text(name).ok_or(InspectError::Malformed(name));
    let decryption = Secret::new(key("decryption_key_b64")?.to_owned());
    let keys = PlayKeys::new(&decryption, key("verification_key_spki_b64")?);
    let keys = keys.map_err(|_| InspectError::Malformed("the keys"))?;
    let digests = case.expect("certificate_sha256_b64url").and_then(Value::as_array);
    let digests = digests.ok_or(InspectError::Malformed("certificate_sha256_b64url"))?;
    let digests = digests.iter().map(|digest| decode(digest)?.try_into().ok()).collect::<Option<_>>();
    let package = case.options.app.as_deref().or_else(|| case.expect("package").and_then(Value::as_str));
    let app = AndroidApp {
        package: package.ok_or(InspectError::Missing("the app", "--app"))?.to_owned(),
        digests: digests.ok_or(InspectError::Malformed("certificate_sha256_b64url"))?,
        least_version: None,
    };
    let given = case.options.challenge.as_ref().map(crate::jose::base64url_encode);
    let nonce = case.expect("nonce").and_then(Value::as_str).map(Binding::Nonce);
    let hash = case.expect("request_hash").and_then(Value::as_str).map(Binding::RequestHash);
    let binding = given.as_deref().map(Binding::Nonce).or(nonce).or(hash);
    let rules = PlayRules {
        app: &app,
        binding: binding.ok_or(InspectError::Missing("the nonce", "--challenge"))?,
        now: case.moment()?,
        max_age: DEFAULT_MAX_AGE,
        allow_testing: false,
    };
    let token = token(case)?;
    Ok(match play::verify(token, &keys, &rules) {
        Err(error) => Verdict::refused(Evidence::PlayIntegrity, error.reason()),
        Ok(summary) => Verdict::holds(summary),
    })
}

/// `{token, binding_header?: {value}, now}` in a file with the account's secret. A token that comes with a header must be
/// bound to it.
pub(super) fn approov(case: &Case<'_>) -> Result<Verdict, InspectError> {
    let secret = case.text("secret_b64").ok_or(InspectError::Malformed("secret_b64"))?;
    let keys = ApproovKeys::secret(&Secret::new(secret.to_owned()));
    let keys = keys.map_err(|_| InspectError::Malformed("secret_b64"))?;
    let binding = case.get("binding_header").and_then(|header| header.get("value")).and_then(Value::as_str);
    let rules =
        ApproovRules { keys: &keys, issuer: None, binding, binding_required: binding.is_some(), now: case.moment()? };
    Ok(match approov::verify(token(case)?, &rules) {
        Err(error) => Verdict::refused(Evidence::Approov, error.reason()),
        Ok(verified) => Verdict::holds(verified.summary),
    })
}

fn token<'c>(case: &Case<'c>) -> Result<&'c str, InspectError> {
    case.members.get("token").and_then(Value::as_str).ok_or(InspectError::Malformed("token"))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> =
        text.as_bytes().chunks(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect();
    bytes?.try_into().ok()
}
