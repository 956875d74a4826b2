//! Keys of an installation: P-256, because the Secure Enclave, `StrongBox` and `WebCrypto` all have it.
//!
//! The key itself never comes here. Whoever holds it ([`Signer`]) lives in the app: a Secure Enclave key, an entry of the
//! Android Keystore, a key in a TPM. [`SoftwareKey`] is for where there is no such thing.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A public key on P-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicJwk {
    x: [u8; 32],
    y: [u8; 32],
}

impl PublicJwk {
    /// From an uncompressed point (SEC 1 section 2.3.3): 0x04, X, Y. `None` for anything else. Whether the point is on
    /// the curve is for the server to check.
    pub fn from_point(point: &[u8]) -> Option<Self> {
        let (x, y) = point.strip_prefix(&[4])?.split_at_checked(32)?;
        Some(Self { x: x.try_into().ok()?, y: y.try_into().ok()? })
    }

    /// The uncompressed point.
    pub fn point(&self) -> [u8; 65] {
        let mut point = [4; 65];
        let (_, coordinates) = point.split_at_mut(1);
        let (x, y) = coordinates.split_at_mut(32);
        x.copy_from_slice(&self.x);
        y.copy_from_slice(&self.y);
        point
    }

    /// As a JWK with its required members (RFC 7517, RFC 7518 section 6.2.1).
    pub fn to_json(&self) -> Value {
        json!({"kty": "EC", "crv": "P-256", "x": base64url(self.x), "y": base64url(self.y)})
    }

    /// The thumbprint (RFC 7638 section 3): SHA-256, as base64url.
    pub fn thumbprint(&self) -> String {
        let (x, y) = (base64url(self.x), base64url(self.y));
        base64url(sha256(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes()))
    }
}

impl fmt::Debug for PublicJwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicJwk").field(&self.thumbprint()).finish()
    }
}

/// Why a key did not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is gone: deleted, or carried over to another device by a backup. A new installation has to be enrolled.
    #[error("the key is gone")]
    Gone,
    /// The hardware failed, or the device is locked; the same may work later.
    #[error("the key cannot be used now")]
    Unavailable,
}

impl KeyError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Gone => "key_gone",
            Self::Unavailable => "key_unavailable",
        }
    }
}

/// Who holds a key. Called from several threads; a call may take as long as the hardware does.
pub trait Signer: Send + Sync {
    /// The public key.
    fn public_jwk(&self) -> PublicJwk;

    /// ECDSA with SHA-256 over `message`: r and s of 32 bytes each, not DER.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError>;
}

/// A key in memory. It shows possession and nothing else: whoever copies the process has it.
pub struct SoftwareKey {
    pair: EcdsaKeyPair,
    public: PublicJwk,
}

impl SoftwareKey {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::Unavailable)?;
        Self::of(pair)
    }

    /// From what [`SoftwareKey::to_pkcs8`] gave.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        Self::of(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| KeyError::Gone)?)
    }

    fn of(pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let public = PublicJwk::from_point(pair.public_key().as_ref()).ok_or(KeyError::Gone)?;
        Ok(Self { pair, public })
    }

    /// The private key in PKCS #8, for a store that only this app can read.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>, KeyError> {
        Ok(self.pair.to_pkcs8v1().map_err(|_| KeyError::Unavailable)?.as_ref().to_vec())
    }
}

impl Signer for SoftwareKey {
    fn public_jwk(&self) -> PublicJwk {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Unavailable)?;
        signature.as_ref().try_into().map_err(|_| KeyError::Unavailable)
    }
}

/// Shows the public key only.
impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SoftwareKey").field(&self.public).finish()
    }
}

/// Base64url without padding.
pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap_or_default()
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_key_signs_and_is_found_again_in_pkcs8() {
        let key = SoftwareKey::generate().unwrap();
        let again = SoftwareKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(key.public_jwk(), again.public_jwk());
        let signature = again.sign(b"message").unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_jwk().point());
        public.verify(b"message", &signature).unwrap();
        assert!(public.verify(b"another", &signature).is_err());
        assert_eq!(SoftwareKey::from_pkcs8(b"no key").unwrap_err(), KeyError::Gone);
    }

    #[test]
    fn only_an_uncompressed_point_is_a_key() {
        let point = SoftwareKey::generate().unwrap().public_jwk().point();
        assert_eq!(PublicJwk::from_point(&point).unwrap().point(), point);
        assert_eq!(PublicJwk::from_point(&point[..64]), None);
        assert_eq!(PublicJwk::from_point(&[&[2], &point[1..]].concat()), None);
        assert_eq!(PublicJwk::from_point(&[&point[..], &[0]].concat()), None);
    }

    #[test]
    fn the_thumbprint_is_over_the_required_members_in_order() {
        let jwk = SoftwareKey::generate().unwrap().public_jwk();
        let json = jwk.to_json();
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, json["x"], json["y"]);
        assert_eq!(jwk.thumbprint(), base64url(sha256(text.as_bytes())));
    }
}
