//! One JSON Web Key and whether it may verify signatures (RFC 7517, 7518, 8037, 9964).

use serde_json::Value;

use super::json::JsonObject;
use super::{Alg, KeyType, VerifyingKey, base64url};

/// Members that hold private or shared key material, of any key type.
const PRIVATE_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// Why a key is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a JSON object, or a member of the wrong JSON type.
    #[error("the key is not a well-formed JWK")]
    Form,
    /// A number, coordinate or point is not in its one correct encoding, or the point is not on its curve.
    #[error("the key's values are not correctly encoded")]
    Encoding,
    /// An unknown `kty`, or one that does not sign.
    #[error("the key's type is not supported")]
    UnsupportedType,
    /// An unknown `crv`, or one that does not sign.
    #[error("the key's curve is not supported")]
    UnsupportedCurve,
    /// An unknown `alg`.
    #[error("the key's alg is not supported")]
    UnsupportedAlg,
    /// `alg` does not go with the key's type.
    #[error("the key's alg does not go with its type")]
    AlgMismatch,
    /// `use` or `key_ops` says that the key is not for verifying signatures.
    #[error("the key is not meant for verifying signatures")]
    Use,
    /// A private or shared key where only public ones belong.
    #[error("the key set holds a private or shared key")]
    Private,
    /// Too small or too large.
    #[error("the key's size is outside the limits")]
    Size,
    /// An RSA public exponent that is even or under 65,537.
    #[error("the RSA exponent is too small or even")]
    Exponent,
    /// An RSA modulus with a small factor.
    #[error("the RSA modulus has a small factor")]
    Modulus,
    /// An RSA modulus with the fingerprint of CVE-2017-15361.
    #[error("the RSA key comes from a flawed generator (ROCA)")]
    Roca,
    /// An Ed25519 point of small order.
    #[error("the Ed25519 key has small order")]
    SmallOrder,
}

impl KeyError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Form => "malformed_key",
            Self::Encoding => "key_encoding",
            Self::UnsupportedType => "unsupported_key_type",
            Self::UnsupportedCurve => "unsupported_curve",
            Self::UnsupportedAlg => "unsupported_key_alg",
            Self::AlgMismatch => "key_alg_mismatch",
            Self::Use => "key_use",
            Self::Private => "private_key",
            Self::Size => "key_size",
            Self::Exponent => "weak_exponent",
            Self::Modulus => "weak_modulus",
            Self::Roca => "roca",
            Self::SmallOrder => "small_order_key",
        }
    }
}

/// Whose keys are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A published set: public keys only. A private or shared key in it is everybody's.
    Published,
    /// A file with the public keys of an issuer, which the operator chose: as strict, but one key may go without `kid`.
    IssuerFile,
    /// A file of the operator's own: may hold shared keys, and private ones, of which only the public half is used.
    Operator,
}

/// Whether an entry holds secret key material.
fn is_private(jwk: &JsonObject) -> bool {
    jwk.get("kty").and_then(Value::as_str) == Some("oct") || PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(*name))
}

/// Check and parse one key.
pub(super) fn import(jwk: &JsonObject, origin: Origin) -> Result<VerifyingKey, KeyError> {
    if origin != Origin::Operator && is_private(jwk) {
        return Err(KeyError::Private);
    }
    let kid = string(jwk, "kid")?.map(str::to_owned);
    if kid.as_deref().is_some_and(|kid| kid.is_empty() || kid.len() > 1024) {
        return Err(KeyError::Form);
    }
    check_use(jwk)?;
    let alg = match string(jwk, "alg")? {
        None => None,
        Some(name) => Some(Alg::from_name(name).ok_or(KeyError::UnsupportedAlg)?),
    };
    let key_type = key_type(jwk, alg)?;
    if alg.is_some_and(|alg| alg.key_type() != key_type) {
        return Err(KeyError::AlgMismatch);
    }
    let key = match key_type {
        KeyType::Rsa => VerifyingKey::rsa(&bytes(jwk, "n")?, &bytes(jwk, "e")?, alg),
        KeyType::P256 | KeyType::P384 | KeyType::P521 => {
            VerifyingKey::ec(key_type, &bytes(jwk, "x")?, &bytes(jwk, "y")?)
        }
        KeyType::Ed25519 => VerifyingKey::ed25519(&bytes(jwk, "x")?),
        KeyType::MlDsa44 | KeyType::MlDsa65 => VerifyingKey::ml_dsa(key_type, &bytes(jwk, "pub")?),
        KeyType::Symmetric => VerifyingKey::symmetric(&bytes(jwk, "k")?, alg),
    }?;
    Ok(key.with_kid(kid))
}

fn key_type(jwk: &JsonObject, alg: Option<Alg>) -> Result<KeyType, KeyError> {
    let crv = string(jwk, "crv")?;
    match string(jwk, "kty")?.ok_or(KeyError::Form)? {
        "RSA" => Ok(KeyType::Rsa),
        "oct" => Ok(KeyType::Symmetric),
        "EC" => match crv.ok_or(KeyError::Form)? {
            "P-256" => Ok(KeyType::P256),
            "P-384" => Ok(KeyType::P384),
            "P-521" => Ok(KeyType::P521),
            _ => Err(KeyError::UnsupportedCurve),
        },
        "OKP" => match crv.ok_or(KeyError::Form)? {
            "Ed25519" => Ok(KeyType::Ed25519),
            _ => Err(KeyError::UnsupportedCurve),
        },
        // RFC 9964 section 3: alg is required and says everything.
        "AKP" => match alg.ok_or(KeyError::Form)? {
            Alg::MlDsa44 => Ok(KeyType::MlDsa44),
            Alg::MlDsa65 => Ok(KeyType::MlDsa65),
            _ => Err(KeyError::AlgMismatch),
        },
        _ => Err(KeyError::UnsupportedType),
    }
}

/// `use` and `key_ops` (RFC 7517 sections 4.2 and 4.3): verifying must be allowed, and nothing but signing beside it.
/// A private key that may only sign still verifies through its public half.
fn check_use(jwk: &JsonObject) -> Result<(), KeyError> {
    if string(jwk, "use")?.is_some_and(|usage| usage != "sig") {
        return Err(KeyError::Use);
    }
    let Some(ops) = jwk.get("key_ops") else { return Ok(()) };
    let ops = ops.as_array().ok_or(KeyError::Form)?;
    let mut seen = Vec::with_capacity(ops.len().min(2));
    for op in ops {
        let op = op.as_str().ok_or(KeyError::Form)?;
        if seen.contains(&op) {
            return Err(KeyError::Form);
        }
        if op != "verify" && op != "sign" {
            return Err(KeyError::Use);
        }
        seen.push(op);
    }
    let private_half = jwk.contains_key("d") || jwk.contains_key("priv");
    if seen.contains(&"verify") || (private_half && seen.contains(&"sign")) { Ok(()) } else { Err(KeyError::Use) }
}

fn string<'a>(jwk: &'a JsonObject, name: &str) -> Result<Option<&'a str>, KeyError> {
    match jwk.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(KeyError::Form),
    }
}

fn bytes(jwk: &JsonObject, name: &str) -> Result<Vec<u8>, KeyError> {
    let text = string(jwk, name)?.ok_or(KeyError::Form)?;
    base64url::decode(text).ok_or(KeyError::Encoding)
}
