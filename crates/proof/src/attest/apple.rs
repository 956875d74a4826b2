//! Apple App Attest: a key in the Secure Enclave that Apple's servers say was made by this app on a genuine device
//! (<https://developer.apple.com/documentation/devicecheck/validating-apps-that-connect-to-your-server>).
//!
//! An [attestation](verify_attestation) is verified once, when an installation is enrolled: its chain lives for days, so
//! stored ones are never judged again by a later clock. An [assertion](verify_assertion) is a signature by the attested
//! key, with a counter that only rises. Both end with a map of facts since iOS 27 and macOS 27; the flag bits do not say
//! so reliably, so the map is found by its place.

mod auth_data;
mod ber;
mod leaf;
mod receipt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base::{Timestamp, Who};
use serde_json::Value;

pub use auth_data::{CodeDirectory, Extensions};
pub use receipt::{MAX_RECEIPT_LEN, Receipt, ReceiptError, ReceiptRules, look_at_receipt, verify_receipt};

use super::asn1::{Der, Tag};
use super::cbor::{self, CborError, Limits};
use super::chain::{Anchors, Chain, ChainError, ChainLimits, Expiry};
use super::flag::Flags as _;
use super::{Evidence, Level, Summary};
use crate::jose::{JsonObject, sha256};
use auth_data::{AttestedKey, AuthData};

/// The longest attestation object, in bytes.
pub const MAX_ATTESTATION_LEN: usize = 64 << 10;

/// The longest assertion, in bytes. Real ones have up to about 300.
pub const MAX_ASSERTION_LEN: usize = 4 << 10;

const ATTESTATION: Limits = Limits { bytes: MAX_ATTESTATION_LEN, depth: 8, items: 64, shortest: true };
const ASSERTION: Limits = Limits { bytes: MAX_ASSERTION_LEN, depth: 4, items: 16, shortest: true };

/// Leaf and intermediate; the root is pinned and never sent.
const CHAIN: ChainLimits = ChainLimits { fewest: 2, most: 2, bytes: 16 << 10 };

/// Apple App Attestation Root CA, which all attestations end at.
pub fn attestation_root() -> Result<Anchors, ChainError> {
    Anchors::from_pem(include_str!("roots/apple-app-attestation-root-ca.pem"))
}

/// Apple Root CA - G3, which all receipts end at.
pub fn receipt_root() -> Result<Anchors, ChainError> {
    Anchors::from_pem(include_str!("roots/apple-root-ca-g3.pem"))
}

/// What the app called App Attest with.
#[derive(Debug, Clone, Copy)]
pub enum ClientData<'a> {
    /// The data whose SHA-256 it passed.
    Plain(&'a [u8]),
    /// What it passed as the hash, as it is. Apple's documented samples pass their challenge unhashed; a real enrolment
    /// is always verified from the data.
    AsHash(&'a [u8]),
}

impl ClientData<'_> {
    /// SHA-256 over `signed` and the hash of the client data.
    fn nonce(self, signed: &[u8]) -> [u8; 32] {
        match self {
            Self::Plain(data) => sha256(&[signed, &sha256(data)].concat()),
            Self::AsHash(hash) => sha256(&[signed, hash].concat()),
        }
    }
}

/// Which of Apple's two environments made the attestation, by its AAGUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// `appattest` and zeros.
    Production,
    /// `appattestdevelop`: a development build.
    Development,
}

impl Environment {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Development => "development",
        }
    }

    /// The environment of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Production, Self::Development].into_iter().find(|one| one.name() == name)
    }
}

/// What an attestation is judged by.
#[derive(Debug, Clone, Copy)]
pub struct AttestationRules<'a> {
    /// Whose attestations count: [`attestation_root`], in tests another.
    pub anchors: &'a Anchors,
    /// The moment of the enrolment.
    pub now: Timestamp,
    /// The identifiers of the app (`TEAMID.bundle.id`, case-sensitive), any of which may have made the key.
    pub app_ids: &'a [&'a str],
    /// The environments the app may come from.
    pub environments: &'a [Environment],
    /// What the app was to pass.
    pub client_data: ClientData<'a>,
    /// The key's identifier as the client sent it; `None` takes the one that is attested.
    pub key_id: Option<&'a [u8]>,
}

/// What an assertion is judged by.
#[derive(Debug, Clone, Copy)]
pub struct AssertionRules<'a> {
    /// The attested key: a point on P-256, uncompressed.
    pub public_key: &'a [u8; 65],
    /// The identifiers of the app, any of which may have made the assertion.
    pub app_ids: &'a [&'a str],
    /// The highest counter seen so far: 0 after the attestation. The store sets it only if it is still lower.
    pub previous_counter: u32,
    /// What the app was to pass.
    pub client_data: ClientData<'a>,
}

/// Why an attestation or assertion is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppleError {
    /// Not one strict CBOR item.
    #[error("not one strict CBOR item: {0}")]
    Cbor(CborError),
    /// Other members, or members of other types.
    #[error("other members than such an object has")]
    Members,
    /// `fmt` is not `apple-appattest`.
    #[error("the format is not apple-appattest")]
    Format,
    /// The chain does not hold.
    #[error("the certificate chain is refused: {0}")]
    Chain(#[from] ChainError),
    /// The leaf is a certificate authority's.
    #[error("the leaf is the certificate of an authority")]
    LeafAuthority,
    /// The leaf is for something else (extended key usage).
    #[error("the leaf is for another use")]
    KeyUsage,
    /// The leaf has no nonce, or one in another layout.
    #[error("the leaf's nonce extension is missing or has another layout")]
    NonceLayout,
    /// The nonce is not that of authenticator data and client data.
    #[error("the nonce is another one")]
    Nonce,
    /// The leaf's key is not on P-256.
    #[error("the leaf's key is not on P-256")]
    LeafKey,
    /// The key's identifier is not the leaf key's hash.
    #[error("the key identifier is not that of the attested key")]
    KeyId,
    /// The authenticator data is too short.
    #[error("the authenticator data ends too early")]
    AuthDataBounds,
    /// The credential id is not the leaf key's hash.
    #[error("the credential id is not that of the attested key")]
    CredentialId,
    /// The key in the authenticator data is not an ES256 key in COSE, or is not the leaf's.
    #[error("the key in the authenticator data is not the attested one")]
    CoseKey,
    /// The hash is of another app.
    #[error("made by another app")]
    App,
    /// A new key's counter is not 0.
    #[error("the counter of a new key is not 0")]
    CounterNotZero,
    /// Not one of Apple's two environments.
    #[error("of no known environment")]
    UnknownEnvironment,
    /// An environment the app may not come from.
    #[error("of an environment that is not allowed")]
    Environment,
    /// What follows is not one map in strict CBOR.
    #[error("what follows the fixed fields is not one map: {0}")]
    ExtensionCbor(CborError),
    /// What follows is CBOR but no map.
    #[error("what follows the fixed fields is no map")]
    ExtensionType,
    /// A known member of the map has another type or length.
    #[error("{0} has another type or length")]
    Extension(&'static str),
    /// On macOS the key may be used with reduced security.
    #[error("the key's access control is not the one macOS must have")]
    AccessControl,
    /// The signature is not in DER.
    #[error("the signature is not in DER")]
    SignatureEncoding,
    /// The signature does not hold.
    #[error("the signature is wrong")]
    Signature,
    /// The counter did not rise.
    #[error("the counter did not rise")]
    Counter,
}

impl AppleError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Members => "unexpected_members",
            Self::Format => "wrong_format",
            Self::Chain(error) => error.reason(),
            Self::LeafAuthority => "leaf_is_authority",
            Self::KeyUsage => "leaf_key_usage",
            Self::NonceLayout => "nonce_layout",
            Self::Nonce => "nonce_mismatch",
            Self::LeafKey => "key_not_p256",
            Self::KeyId => "key_id_mismatch",
            Self::AuthDataBounds => "auth_data_bounds",
            Self::CredentialId => "credential_id_mismatch",
            Self::CoseKey => "cose_key_mismatch",
            Self::App => "app_id_mismatch",
            Self::CounterNotZero => "counter_not_zero",
            Self::UnknownEnvironment => "unknown_environment",
            Self::Environment => "environment_not_allowed",
            Self::ExtensionCbor(CborError::Trailing) => "auth_data_trailing",
            Self::Cbor(error) | Self::ExtensionCbor(error) => error.reason(),
            Self::ExtensionType | Self::Extension(_) => "malformed_extensions",
            Self::AccessControl => "access_control",
            Self::SignatureEncoding => "signature_not_der",
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

/// An attestation that holds: what to store for the installation.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedAttestation {
    /// What a policy is told.
    pub summary: Summary,
    /// The attested key's point on P-256, uncompressed.
    pub public_key: [u8; 65],
    /// The key's identifier: SHA-256 of the point. Each may be enrolled once.
    pub key_id: [u8; 32],
    /// Which of the given identifiers made the key.
    pub app_id: String,
    /// The environment.
    pub environment: Environment,
    /// Since iOS 27 and macOS 27: how the app was distributed and which version it is.
    pub extensions: Extensions,
    /// For a fraud metric from Apple, and for [`verify_receipt`].
    pub receipt: Vec<u8>,
}

/// An assertion that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedAssertion {
    /// To be stored if it is still higher than the stored one, in one statement.
    pub counter: u32,
    /// Which of the given identifiers made it.
    pub app_id: String,
    /// Since iOS 27 and macOS 27: how the app was distributed and which version it is.
    pub extensions: Extensions,
}

/// Verify an attestation object, in the order of Apple's guide: form, chain, nonce, key, app, counter, environment, facts.
pub fn verify_attestation(object: &[u8], rules: &AttestationRules<'_>) -> Result<VerifiedAttestation, AppleError> {
    let object = cbor::read(object, ATTESTATION).map_err(AppleError::Cbor)?;
    let parts = Parts::of(&object).ok_or(AppleError::Members)??;
    let chain = Chain::parse(&parts.certificates, CHAIN)?;
    chain.verify_below_root(rules.anchors)?;
    chain.check_dates(0..CHAIN.most, rules.now, Expiry::Refused)?;
    let leaf = chain.leaf().ok_or(ChainError::Count(0))?;
    leaf::check_use(leaf)?;
    let nonce = leaf::nonce(leaf).ok_or(AppleError::NonceLayout)?;
    if verify_slices_are_equal(nonce, &rules.client_data.nonce(parts.auth_data)).is_err() {
        return Err(AppleError::Nonce);
    }
    let public_key = leaf.p256_point().ok_or(AppleError::LeafKey)?;
    let key_id = sha256(&public_key);
    if rules.key_id.is_some_and(|sent| sent != key_id) {
        return Err(AppleError::KeyId);
    }
    let auth_data = AuthData::parse(parts.auth_data)?;
    let (key, rest) = AttestedKey::parse(auth_data.rest)?;
    if key.credential_id != key_id {
        return Err(AppleError::CredentialId);
    }
    if key.point != Some(public_key) {
        return Err(AppleError::CoseKey);
    }
    let app_id = app_of(&auth_data, rules.app_ids)?;
    if auth_data.counter != 0 {
        return Err(AppleError::CounterNotZero);
    }
    let environment = key.environment.ok_or(AppleError::UnknownEnvironment)?;
    if !rules.environments.contains(&environment) {
        return Err(AppleError::Environment);
    }
    let extensions = Extensions::parse(rest)?;
    let system = leaf::System::of(leaf);
    leaf::check_access_control(leaf, &system)?;
    let summary = summary(environment, &extensions, &system, app_id);
    let (app_id, receipt) = (app_id.to_owned(), parts.receipt.to_vec());
    Ok(VerifiedAttestation { summary, public_key, key_id, app_id, environment, extensions, receipt })
}

/// Verify an assertion by an attested key.
pub fn verify_assertion(object: &[u8], rules: &AssertionRules<'_>) -> Result<VerifiedAssertion, AppleError> {
    let object = cbor::read(object, ASSERTION).map_err(AppleError::Cbor)?;
    let members = object.map().filter(|map| map.len() == 2).ok_or(AppleError::Members)?;
    let bytes = |name| members.get(name).and_then(cbor::Value::bytes).ok_or(AppleError::Members);
    let (signature, signed) = (bytes("signature")?, bytes("authenticatorData")?);
    let auth_data = AuthData::parse(signed)?;
    check_der(signature)?;
    // The message is the nonce, which the algorithm hashes once more.
    let nonce = rules.client_data.nonce(signed);
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, rules.public_key)
        .verify(&nonce, signature)
        .map_err(|_| AppleError::Signature)?;
    let app_id = app_of(&auth_data, rules.app_ids)?.to_owned();
    if auth_data.counter <= rules.previous_counter {
        return Err(AppleError::Counter);
    }
    let extensions = Extensions::parse(auth_data.rest)?;
    Ok(VerifiedAssertion { counter: auth_data.counter, app_id, extensions })
}

/// What authenticator data says, unverified: for a look at evidence that is refused, and for fuzzing. Nothing in it is to
/// be believed. `attested` says whether a key is expected in it, as in an attestation.
pub fn look_at(auth_data: &[u8], attested: bool) -> Result<(u32, Extensions), AppleError> {
    let auth_data = AuthData::parse(auth_data)?;
    let rest = if attested { AttestedKey::parse(auth_data.rest)?.1 } else { auth_data.rest };
    Ok((auth_data.counter, Extensions::parse(rest)?))
}

/// Compare two values of `CFBundleVersion`: up to eight numbers with points between. `None` where one is not that.
pub fn compare_bundle_versions(one: &str, other: &str) -> Option<std::cmp::Ordering> {
    let numbers = |text: &str| {
        let mut parts = text.split('.').map(str::parse::<u64>).collect::<Result<Vec<_>, _>>().ok()?;
        while parts.last() == Some(&0) {
            parts.pop();
        }
        (parts.len() <= 8).then_some(parts)
    };
    Some(numbers(one)?.cmp(&numbers(other)?))
}

/// The members of an attestation object.
struct Parts<'a> {
    certificates: Vec<&'a [u8]>,
    receipt: &'a [u8],
    auth_data: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Exactly the three members, with exactly the two of the statement.
    fn of(object: &cbor::Value<'a>) -> Option<Result<Self, AppleError>> {
        let object = object.map().filter(|map| map.len() == 3)?;
        let format = object.get("fmt")?.text()?;
        let statement = object.get("attStmt")?.map()?;
        let auth_data = object.get("authData")?.bytes()?;
        if format != "apple-appattest" {
            return Some(Err(AppleError::Format));
        }
        if statement.len() != 2 {
            return None;
        }
        let certificates = statement.get("x5c")?.array()?.iter().map(cbor::Value::bytes).collect::<Option<_>>()?;
        Some(Ok(Self { certificates, receipt: statement.get("receipt")?.bytes()?, auth_data }))
    }
}

fn app_of<'a>(auth_data: &AuthData<'_>, app_ids: &[&'a str]) -> Result<&'a str, AppleError> {
    app_ids.iter().find(|id| sha256(id.as_bytes()) == auth_data.rp_id_hash).copied().ok_or(AppleError::App)
}

/// ECDSA-Sig-Value (RFC 3279 section 2.2.3) in DER: two positive integers as short as can be.
fn check_der(signature: &[u8]) -> Result<(), AppleError> {
    let read = || {
        let mut der = Der::new(signature);
        let mut inside = der.sequence()?;
        let numbers = (inside.read(Tag::INTEGER)?, inside.read(Tag::INTEGER)?);
        inside.finish()?;
        der.finish()?;
        Ok::<_, super::asn1::DerError>(numbers)
    };
    let shortest = |number: &[u8]| match number {
        [] => false,
        [0, next, ..] => *next >= 0x80,
        [first, ..] => *first < 0x80,
    };
    let (r, s) = read().map_err(|_| AppleError::SignatureEncoding)?;
    let number = |number: &[u8]| number == [0] || shortest(number);
    if number(r) && number(s) { Ok(()) } else { Err(AppleError::SignatureEncoding) }
}

fn summary(environment: Environment, extensions: &Extensions, system: &leaf::System, app_id: &str) -> Summary {
    let mut flags = Vec::new();
    let level = match environment {
        Environment::Production => Level::HwStrong,
        Environment::Development => Level::Hw,
    };
    if environment == Environment::Development {
        flags.set("env_development");
    }
    if let Some(category) = extensions.category {
        flags.number("category", category.into());
    }
    let mut facts = JsonObject::new();
    let mut add = |name: &str, value: Option<Value>| value.and_then(|value| facts.insert(name.to_owned(), value));
    add("app_id", Some(app_id.into()));
    add("environment", Some(environment.name().into()));
    add("platform", system.platform.clone().map(Value::from));
    add("os_version", system.version.clone().map(Value::from));
    extensions.describe(&mut facts);
    Summary { evidence: Evidence::AppleAppAttest, level, flags, facts }
}
