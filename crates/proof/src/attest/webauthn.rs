//! Web Authentication (W3C, Level 3): that somebody holds a passkey or security key of this site, and was there.
//!
//! The device's make is not of interest: attestation is accepted as `none`, or in `packed` form by the key itself
//! (section 8.2), which says no more. What counts is the site (relying party and origin), our challenge, that the user was
//! present and, where asked, verified, and a counter that rises where the key has one.

mod auth_data;
mod key;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base::Who;
use serde_json::Value;

pub use key::CredentialKey;

use super::cbor::{self, CborError, Limits};
use super::flag::Flags as _;
use super::{Evidence, Level, Summary};
use crate::jose::{JsonError, JsonObject, base64url_encode, json, sha256};
use auth_data::{AuthData, Flag};

/// The longest attestation object, in bytes: browsers may pass on more than is asked for.
pub const MAX_ATTESTATION_LEN: usize = 64 << 10;

/// The longest authenticator data of an assertion, in bytes.
pub const MAX_AUTH_DATA_LEN: usize = 4 << 10;

/// The longest signature, in bytes: RSA with 8192 bits.
const MAX_SIGNATURE_LEN: usize = 1024;

/// Not in shortest form: that is the authenticator's duty, and what it wrote is rewritten by browsers.
const OBJECT: Limits = Limits { bytes: MAX_ATTESTATION_LEN, depth: 8, items: 256, shortest: false };

/// A site, and what it asks for.
#[derive(Debug, Clone, Copy)]
pub struct RelyingParty<'a> {
    /// Its identifier: a domain.
    pub id: &'a str,
    /// The origins that may ask, compared exactly, such as `https://app.example.com`.
    pub origins: &'a [&'a str],
    /// Whether the user must be verified (by PIN or biometrics), not only present.
    pub user_verification: bool,
}

/// Why a registration or assertion is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebAuthnError {
    /// The client data is not an acceptable JSON object.
    #[error("the client data is refused: {0}")]
    ClientData(#[from] JsonError),
    /// The client data is for another ceremony.
    #[error("the client data is for another ceremony")]
    Type,
    /// Another challenge.
    #[error("the challenge is another one")]
    Challenge,
    /// Another origin.
    #[error("the origin may not ask")]
    Origin,
    /// Asked for from within a page of another origin.
    #[error("asked for across origins")]
    CrossOrigin,
    /// The attestation object is not one strict CBOR item.
    #[error("the attestation object is not one strict CBOR item: {0}")]
    Cbor(CborError),
    /// The attestation object has other members.
    #[error("the attestation object has other members")]
    Members,
    /// An attestation by a maker, or in a form that is not known.
    #[error("the attestation's format is not accepted")]
    Format,
    /// An attestation by the key itself that does not hold.
    #[error("the attestation by the key itself does not hold")]
    SelfAttestation,
    /// Too long, too short, or with something behind it.
    #[error("the authenticator data is not well-formed")]
    AuthData,
    /// For another site.
    #[error("the authenticator data is for another relying party")]
    RelyingParty,
    /// The user was not present.
    #[error("the user was not present")]
    UserPresence,
    /// The user was not verified.
    #[error("the user was not verified")]
    UserVerification,
    /// Backed up, but not to be backed up (section 6.1.3).
    #[error("the flags contradict each other")]
    Flags,
    /// The key is not ES256, `EdDSA` or RS256 in COSE, or is one that must not be used.
    #[error("the credential's key is refused")]
    Key,
    /// The signature does not hold.
    #[error("the signature is wrong")]
    Signature,
    /// The counter did not rise: the key may have been copied (section 6.1.1).
    #[error("the counter did not rise")]
    Counter,
}

impl WebAuthnError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ClientData(error) => error.reason(),
            Self::Type => "wrong_ceremony",
            Self::Challenge => "challenge_mismatch",
            Self::Origin => "origin_not_allowed",
            Self::CrossOrigin => "cross_origin",
            Self::Cbor(error) => error.reason(),
            Self::Members => "unexpected_members",
            Self::Format => "wrong_format",
            Self::SelfAttestation => "self_attestation",
            Self::AuthData => "malformed_auth_data",
            Self::RelyingParty => "rp_id_mismatch",
            Self::UserPresence => "user_not_present",
            Self::UserVerification => "user_not_verified",
            Self::Flags => "contradicting_flags",
            Self::Key => "key_not_allowed",
            Self::Signature => "bad_signature",
            Self::Counter => "counter_regression",
        }
    }

    /// Whose fault it is: always the client's.
    pub const fn who(self) -> Who {
        Who::Client
    }

    /// Whether the same would pass later.
    pub const fn retryable(self) -> bool {
        false
    }
}

/// What a browser sends for a new credential.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    /// `clientDataJSON`, as it was sent.
    pub client_data: &'a [u8],
    /// `attestationObject`.
    pub attestation: &'a [u8],
}

/// A credential to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Credential {
    /// Its identifier, of 1 to 1023 bytes. Each may be registered once.
    pub id: Vec<u8>,
    /// Its key.
    pub key: CredentialKey,
    /// The counter so far; keys without one stay at 0.
    pub counter: u32,
    /// What a policy is told.
    pub summary: Summary,
}

/// What a browser sends for a credential it has.
#[derive(Debug, Clone, Copy)]
pub struct Assertion<'a> {
    /// `clientDataJSON`, as it was sent.
    pub client_data: &'a [u8],
    /// `authenticatorData`.
    pub auth_data: &'a [u8],
    /// `signature`.
    pub signature: &'a [u8],
}

/// An assertion that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Asserted {
    /// To be stored if it is still higher than the stored one, in one statement; 0 for keys without a counter.
    pub counter: u32,
    /// What a policy is told.
    pub summary: Summary,
}

/// Verify a registration (section 7.1). `challenge` is the one we gave, which the caller lets count once.
pub fn verify_registration(
    registration: &Registration<'_>,
    site: &RelyingParty<'_>,
    challenge: &[u8],
) -> Result<Credential, WebAuthnError> {
    check_client_data(registration.client_data, "webauthn.create", site, challenge)?;
    let object = cbor::read(registration.attestation, OBJECT).map_err(WebAuthnError::Cbor)?;
    let members = object.map().filter(|map| map.len() == 3).ok_or(WebAuthnError::Members)?;
    let format = members.get("fmt").and_then(cbor::Value::text).ok_or(WebAuthnError::Members)?;
    let statement = members.get("attStmt").and_then(cbor::Value::map).ok_or(WebAuthnError::Members)?;
    let bytes = members.get("authData").and_then(cbor::Value::bytes).ok_or(WebAuthnError::Members)?;
    let auth_data = AuthData::parse(bytes)?;
    check_auth_data(&auth_data, site)?;
    let attested = auth_data.attested.as_ref().ok_or(WebAuthnError::AuthData)?;
    match format {
        "none" if statement.is_empty() => {}
        "packed" if statement.get("x5c").is_none() => {
            let signed = [bytes, &sha256(registration.client_data)].concat();
            let signature = statement.get("sig").and_then(cbor::Value::bytes);
            let algorithm = statement.get("alg").and_then(cbor::Value::integer);
            let holds = algorithm == Some(attested.key.algorithm())
                && signature.is_some_and(|signature| attested.key.verify(&signed, signature));
            if !holds {
                return Err(WebAuthnError::SelfAttestation);
            }
        }
        _ => return Err(WebAuthnError::Format),
    }
    Ok(Credential {
        id: attested.id.to_vec(),
        key: attested.key.clone(),
        counter: auth_data.counter,
        summary: summary(&auth_data, &attested.key, site),
    })
}

/// Verify an assertion by a stored credential (section 7.2). `challenge` is the one we gave, which the caller lets count
/// once.
pub fn verify_assertion(
    assertion: &Assertion<'_>,
    (key, counter): (&CredentialKey, u32),
    site: &RelyingParty<'_>,
    challenge: &[u8],
) -> Result<Asserted, WebAuthnError> {
    check_client_data(assertion.client_data, "webauthn.get", site, challenge)?;
    if assertion.auth_data.len() > MAX_AUTH_DATA_LEN {
        return Err(WebAuthnError::AuthData);
    }
    let auth_data = AuthData::parse(assertion.auth_data)?;
    check_auth_data(&auth_data, site)?;
    let signed = [assertion.auth_data, &sha256(assertion.client_data)].concat();
    if assertion.signature.len() > MAX_SIGNATURE_LEN || !key.verify(&signed, assertion.signature) {
        return Err(WebAuthnError::Signature);
    }
    // Keys without a counter say 0 for ever; one that ever counted must go on.
    if (auth_data.counter != 0 || counter != 0) && auth_data.counter <= counter {
        return Err(WebAuthnError::Counter);
    }
    Ok(Asserted { counter: auth_data.counter, summary: summary(&auth_data, key, site) })
}

/// `CollectedClientData` (section 5.8.1). It is parsed as JSON here, which section 7.1 step 5 asks for; other members of
/// tomorrow are passed over.
fn check_client_data(
    bytes: &[u8],
    ceremony: &str,
    site: &RelyingParty<'_>,
    challenge: &[u8],
) -> Result<(), WebAuthnError> {
    let members = json::object(bytes, json::Limits::HEADER)?;
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("type") != ceremony {
        return Err(WebAuthnError::Type);
    }
    let wanted = base64url_encode(challenge);
    if challenge.is_empty() || verify_slices_are_equal(text("challenge").as_bytes(), wanted.as_bytes()).is_err() {
        return Err(WebAuthnError::Challenge);
    }
    if !site.origins.contains(&text("origin")) {
        return Err(WebAuthnError::Origin);
    }
    let same_origin = matches!(members.get("crossOrigin"), None | Some(Value::Bool(false)));
    if !same_origin || members.contains_key("topOrigin") {
        return Err(WebAuthnError::CrossOrigin);
    }
    Ok(())
}

fn check_auth_data(auth_data: &AuthData<'_>, site: &RelyingParty<'_>) -> Result<(), WebAuthnError> {
    if auth_data.rp_id_hash != sha256(site.id.as_bytes()) {
        return Err(WebAuthnError::RelyingParty);
    }
    if !auth_data.is(Flag::UserPresent) {
        return Err(WebAuthnError::UserPresence);
    }
    if site.user_verification && !auth_data.is(Flag::UserVerified) {
        return Err(WebAuthnError::UserVerification);
    }
    if auth_data.is(Flag::BackedUp) && !auth_data.is(Flag::BackupEligible) {
        return Err(WebAuthnError::Flags);
    }
    Ok(())
}

fn summary(auth_data: &AuthData<'_>, key: &CredentialKey, site: &RelyingParty<'_>) -> Summary {
    let mut flags = Vec::new();
    if !auth_data.is(Flag::UserVerified) {
        flags.set("user_not_verified");
    }
    if auth_data.is(Flag::BackupEligible) {
        flags.set("backup_eligible");
    }
    let mut facts = JsonObject::new();
    facts.insert("rp_id".into(), site.id.into());
    facts.insert("alg".into(), key.name().into());
    Summary { evidence: Evidence::WebAuthn, level: Level::Web, flags, facts }
}
