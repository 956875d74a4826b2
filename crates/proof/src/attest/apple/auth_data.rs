//! Authenticator data as App Attest writes it: the fixed fields of `WebAuthn` (section 6.1 of that specification), then, in
//! an attestation, the attested key, then since iOS 27 and macOS 27 a map of facts.

use super::{AppleError, Environment};
use crate::attest::cbor::{self, CborError, Limits, Map, Value};
use crate::attest::hex;
use crate::jose::JsonObject;

const PRODUCTION: [u8; 16] = *b"appattest\0\0\0\0\0\0\0";
const DEVELOPMENT: [u8; 16] = *b"appattestdevelop";

const CREDENTIAL_ID_LEN: u16 = 32;

const COSE: Limits = Limits { bytes: 4 << 10, depth: 2, items: 16, shortest: true };
const MAP: Limits = Limits { bytes: 4 << 10, depth: 8, items: 64, shortest: true };

/// The longest bundle version that is taken, in bytes.
const MAX_VERSION_LEN: usize = 128;

/// The longest hash of a code directory.
const MAX_CODE_HASH_LEN: usize = 64;

/// The fixed fields. The flag bits are not among them: genuine devices set and clear them without regard to what follows.
pub(super) struct AuthData<'a> {
    pub(super) rp_id_hash: [u8; 32],
    pub(super) counter: u32,
    /// What follows.
    pub(super) rest: &'a [u8],
}

impl<'a> AuthData<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, AppleError> {
        let split = || {
            let (rp_id_hash, rest) = bytes.split_first_chunk::<32>()?;
            let (_flags, rest) = rest.split_first()?;
            let (counter, rest) = rest.split_first_chunk::<4>()?;
            Some(Self { rp_id_hash: *rp_id_hash, counter: u32::from_be_bytes(*counter), rest })
        };
        split().ok_or(AppleError::AuthDataBounds)
    }
}

/// The key in an attestation.
pub(super) struct AttestedKey<'a> {
    /// By the AAGUID; `None` for one that is not Apple's.
    pub(super) environment: Option<Environment>,
    pub(super) credential_id: &'a [u8],
    /// The point, uncompressed; `None` for anything but an ES256 key with the five members it has.
    pub(super) point: Option<[u8; 65]>,
}

impl<'a> AttestedKey<'a> {
    /// The key, and what follows it.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), AppleError> {
        let (aaguid, rest) = bytes.split_first_chunk::<16>().ok_or(AppleError::AuthDataBounds)?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(AppleError::AuthDataBounds)?;
        let length = u16::from_be_bytes(*length);
        if length != CREDENTIAL_ID_LEN {
            return Err(AppleError::CredentialId);
        }
        let (credential_id, rest) = rest.split_at_checked(length.into()).ok_or(AppleError::AuthDataBounds)?;
        let (key, rest) = cbor::read_prefix(rest, COSE).map_err(|error| match error {
            CborError::Truncated => AppleError::AuthDataBounds,
            _ => AppleError::CoseKey,
        })?;
        let environment = match *aaguid {
            PRODUCTION => Some(Environment::Production),
            DEVELOPMENT => Some(Environment::Development),
            _ => None,
        };
        Ok((Self { environment, credential_id, point: key.map().and_then(point) }, rest))
    }
}

/// An ES256 key on P-256 (RFC 9053 sections 2.1 and 7.1.1).
fn point(key: &Map<'_>) -> Option<[u8; 65]> {
    let number = |label| key.label(label)?.integer();
    let coordinate = |label| <[u8; 32]>::try_from(key.label(label)?.bytes()?).ok();
    if key.len() != 5 || number(1) != Some(2) || number(3) != Some(-7) || number(-1) != Some(1) {
        return None;
    }
    [&[4][..], &coordinate(-2)?, &coordinate(-3)?].concat().try_into().ok()
}

/// The hash of the app's code directory, where the app asks for it by entitlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeDirectory {
    /// The kind of hash as `codesign` numbers them: 2 is SHA-256.
    pub kind: u8,
    /// The hash, whole (32 bytes) or its first 20 bytes.
    pub hash: Vec<u8>,
}

/// The map at the end of what iOS 27 and macOS 27 write. Members that are not known are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    /// How the app was distributed: 1 part of the system, 2 `TestFlight`, 3 development, 4 App Store, 5 enterprise or ad
    /// hoc, 6 Developer ID, 7 to 9 restricted, 10 none of these. `None` where the system is older.
    pub category: Option<u32>,
    /// `CFBundleVersion`.
    pub bundle_version: Option<String>,
    /// The app's code directory.
    pub code_directory: Option<CodeDirectory>,
}

impl Extensions {
    /// Read what follows the fixed fields, and the attested key in an attestation: nothing, or one map.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, AppleError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let value = cbor::read(bytes, MAP).map_err(AppleError::ExtensionCbor)?;
        let map = value.map().ok_or(AppleError::ExtensionType)?;
        Ok(Self {
            category: category(map)?,
            bundle_version: bundle_version(map)?,
            code_directory: code_directory(map)?,
        })
    }

    /// Add what is there to the facts.
    pub(crate) fn describe(&self, facts: &mut JsonObject) {
        let mut add =
            |name: &str, value: Option<serde_json::Value>| value.and_then(|value| facts.insert(name.to_owned(), value));
        add("category", self.category.map(Into::into));
        add("bundle_version", self.bundle_version.clone().map(Into::into));
        add("code_directory_hash", self.code_directory.as_ref().map(|code| hex(&code.hash).into()));
    }
}

/// Devices write four bytes, little-endian; the documentation says `UInt32`, so a number is taken too.
fn category(map: &Map<'_>) -> Result<Option<u32>, AppleError> {
    const NAME: &str = "apple_validation_category_01";
    let Some(value) = map.get(NAME) else { return Ok(None) };
    let category = match value {
        Value::Bytes(bytes) => <[u8; 4]>::try_from(*bytes).ok().map(u32::from_le_bytes),
        Value::Unsigned(number) => u32::try_from(*number).ok(),
        _ => None,
    };
    category.map(Some).ok_or(AppleError::Extension(NAME))
}

fn bundle_version(map: &Map<'_>) -> Result<Option<String>, AppleError> {
    const NAME: &str = "apple_bundle_version_01";
    let Some(value) = map.get(NAME) else { return Ok(None) };
    let text = value.text().filter(|text| text.len() <= MAX_VERSION_LEN);
    text.map(|text| Some(text.to_owned())).ok_or(AppleError::Extension(NAME))
}

fn code_directory(map: &Map<'_>) -> Result<Option<CodeDirectory>, AppleError> {
    const HASH: &str = "apple_cd_hash_hash_01";
    const TYPE: &str = "apple_cd_hash_type_01";
    match (map.get(HASH), map.get(TYPE)) {
        (None, None) => Ok(None),
        (Some(hash), Some(kind)) => {
            let hash = hash.bytes().filter(|hash| !hash.is_empty() && hash.len() <= MAX_CODE_HASH_LEN);
            let hash = hash.ok_or(AppleError::Extension(HASH))?.to_vec();
            match kind.bytes() {
                Some(&[kind]) => Ok(Some(CodeDirectory { kind, hash })),
                _ => Err(AppleError::Extension(TYPE)),
            }
        }
        (None, Some(_)) => Err(AppleError::Extension(HASH)),
        (Some(_), None) => Err(AppleError::Extension(TYPE)),
    }
}
