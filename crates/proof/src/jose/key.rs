//! A key that verifies, with exactly one algorithm per use (RFC 8725 section 3.1).

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use serde_json::Value;

use super::alg::sha256;
use super::jwk::{self, KeyError, Origin};
use super::{Alg, KeyType, base64url, weak};

/// A public or shared key, checked and parsed once. Verification never parses a key again.
pub struct VerifyingKey {
    kid: Option<String>,
    key_type: KeyType,
    thumbprint: [u8; 32],
    /// One entry for a key that names its algorithm or whose type has only one; RSA and symmetric keys without
    /// `alg` have one for each they are large enough for, of which [`VerifyingKey::bind`] picks one.
    verifiers: Vec<(Alg, Verifier)>,
}

enum Verifier {
    Public(ParsedPublicKey),
    Shared(Box<hmac::Key>),
}

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key is not for this algorithm.
    #[error("the key is not for this algorithm")]
    WrongAlg,
    /// The signature does not fit message and key.
    #[error("the signature is wrong")]
    Invalid,
}

impl SignatureError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::WrongAlg => "alg_key_mismatch",
            Self::Invalid => "bad_signature",
        }
    }
}

impl VerifyingKey {
    /// A public key that a proof carries in its own header (`jwk`, RFC 7515 section 4.1.3), imported as strictly as a
    /// published one. An RSA key that names no algorithm is taken for `alg` only.
    pub(crate) fn from_embedded(jwk: &Value, alg: Alg) -> Result<Self, KeyError> {
        let mut jwk = jwk.as_object().ok_or(KeyError::Form)?.clone();
        if jwk.get("kty").and_then(Value::as_str) == Some("RSA") && !jwk.contains_key("alg") {
            jwk.insert("alg".into(), alg.name().into());
        }
        jwk::import(&jwk, Origin::Published)
    }

    /// The public key a token is bound to (`cnf.jwk`, RFC 7800 section 3.2), imported as strictly as a published one.
    /// Symmetric and private keys are refused.
    pub(crate) fn from_confirmation(jwk: &Value) -> Result<Self, KeyError> {
        jwk::import(jwk.as_object().ok_or(KeyError::Form)?, Origin::Published)
    }

    /// An RSA key from modulus and exponent, big-endian, for `alg` or for every RSA algorithm.
    pub(super) fn rsa(n: &[u8], e: &[u8], alg: Option<Alg>) -> Result<Self, KeyError> {
        weak::check_rsa(n, e)?;
        let components = RsaPublicKeyComponents { n, e };
        let mut verifiers = Vec::new();
        for alg in candidates(KeyType::Rsa, alg) {
            let Some(parameters) = alg.rsa() else { continue };
            let key = components.to_parsed_public_key(parameters).map_err(|_| KeyError::Encoding)?;
            verifiers.push((alg, Verifier::Public(key)));
        }
        let (n, e) = (base64url::encode(n), base64url::encode(e));
        let thumbprint = sha256(format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#).as_bytes());
        Ok(Self { kid: None, key_type: KeyType::Rsa, thumbprint, verifiers })
    }

    /// An EC key from its coordinates, each of full length (RFC 7518 section 6.2.1). Off-curve points are refused.
    pub(super) fn ec(key_type: KeyType, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        let (Some(len), Some(curve)) = (key_type.coordinate_len(), curve(key_type)) else {
            return Err(KeyError::UnsupportedCurve);
        };
        if x.len() != len || y.len() != len {
            return Err(KeyError::Encoding);
        }
        let point = [&[4], x, y].concat();
        let (x, y) = (base64url::encode(x), base64url::encode(y));
        let members = format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Self::with_only_alg(key_type, &point, &members)
    }

    /// An Ed25519 key.
    pub(super) fn ed25519(public: &[u8]) -> Result<Self, KeyError> {
        weak::check_ed25519(public)?;
        let x = base64url::encode(public);
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        Self::with_only_alg(KeyType::Ed25519, public, &members)
    }

    /// An ML-DSA key (RFC 9964).
    pub(super) fn ml_dsa(key_type: KeyType, public: &[u8]) -> Result<Self, KeyError> {
        let len = if key_type == KeyType::MlDsa44 { 1312 } else { 1952 };
        let Some(alg) = key_type.only_alg().filter(|_| public.len() == len) else { return Err(KeyError::Encoding) };
        let members = format!(r#"{{"alg":"{}","kty":"AKP","pub":"{}"}}"#, alg.name(), base64url::encode(public));
        Self::with_only_alg(key_type, public, &members)
    }

    /// A shared key, for `alg` or for every HMAC it is long enough for (RFC 7518 section 3.2). Its quality as a
    /// secret is [`check_secret`](super::check_secret)'s business.
    pub(super) fn symmetric(secret: &[u8], alg: Option<Alg>) -> Result<Self, KeyError> {
        let mut verifiers = Vec::new();
        for alg in candidates(KeyType::Symmetric, alg) {
            if let Some(mac) = alg.hmac().filter(|mac| secret.len() >= mac.tag_len()) {
                verifiers.push((alg, Verifier::Shared(Box::new(hmac::Key::new(mac, secret)))));
            }
        }
        if verifiers.is_empty() {
            return Err(KeyError::Size);
        }
        let thumbprint = sha256(format!(r#"{{"k":"{}","kty":"oct"}}"#, base64url::encode(secret)).as_bytes());
        Ok(Self { kid: None, key_type: KeyType::Symmetric, thumbprint, verifiers })
    }

    /// A shared key that is being replaced: what either makes holds. It is another key than either alone, so that what was
    /// verified by one that is taken away is verified anew.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.thumbprint = sha256(&[self.thumbprint, other.thumbprint].concat());
        self.verifiers.extend(other.verifiers);
        self
    }

    fn with_only_alg(key_type: KeyType, public: &[u8], members: &str) -> Result<Self, KeyError> {
        let (Some(alg), Some(verification)) = (key_type.only_alg(), key_type.verification()) else {
            return Err(KeyError::UnsupportedType);
        };
        let key = ParsedPublicKey::new(verification, public).map_err(|_| KeyError::Encoding)?;
        let thumbprint = sha256(members.as_bytes());
        Ok(Self { kid: None, key_type, thumbprint, verifiers: vec![(alg, Verifier::Public(key))] })
    }

    pub(super) fn with_kid(self, kid: Option<String>) -> Self {
        Self { kid, ..self }
    }

    /// The key's own `kid`.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The kind of key.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// SHA-256 thumbprint (RFC 7638), over the public members; of a shared key over the key itself.
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// The thumbprint as base64url: `jkt`, and the `kid` of our own keys.
    pub fn thumbprint_text(&self) -> String {
        base64url::encode(self.thumbprint)
    }

    /// The one algorithm this key is used with where `allowed` are: the key's own if it has only one, otherwise the
    /// first of `allowed` that fits it.
    pub fn bind(&self, allowed: &[Alg]) -> Option<Alg> {
        allowed.iter().copied().find(|&alg| self.verifier(alg).is_some())
    }

    /// Whether `signature` is `alg`'s over `message` under this key.
    ///
    /// ECDSA takes r‖s of exact length with r and s in \[1, n-1\] (RFC 7518 section 3.4), Ed25519 a canonical S,
    /// HMAC the whole tag, compared in constant time.
    pub fn verify(&self, alg: Alg, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        self.verifier(alg).ok_or(SignatureError::WrongAlg)?;
        let fits = |verifier: &Verifier| match verifier {
            Verifier::Public(key) => key.verify_sig(message, signature).is_ok(),
            Verifier::Shared(key) => hmac::verify(key, message, signature).is_ok(),
        };
        let mut own = self.verifiers.iter().filter(|(own, _)| *own == alg);
        if own.any(|(_, verifier)| fits(verifier)) { Ok(()) } else { Err(SignatureError::Invalid) }
    }

    fn verifier(&self, alg: Alg) -> Option<&Verifier> {
        self.verifiers.iter().find_map(|(own, verifier)| (*own == alg).then_some(verifier))
    }
}

/// The algorithms a key of this type may be used with: `alg` if it names one.
fn candidates(key_type: KeyType, alg: Option<Alg>) -> impl Iterator<Item = Alg> {
    Alg::ALL.into_iter().filter(move |other| other.key_type() == key_type && alg.is_none_or(|alg| alg == *other))
}

fn curve(key_type: KeyType) -> Option<&'static str> {
    match key_type {
        KeyType::P256 => Some("P-256"),
        KeyType::P384 => Some("P-384"),
        KeyType::P521 => Some("P-521"),
        _ => None,
    }
}

/// The same key, for the same algorithms, under the same name.
impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        let algs = |key: &Self| key.verifiers.iter().map(|(alg, _)| *alg).collect::<Vec<_>>();
        self.thumbprint == other.thumbprint && self.kid == other.kid && algs(self) == algs(other)
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algs: Vec<_> = self.verifiers.iter().map(|(alg, _)| alg.name()).collect();
        f.debug_struct("VerifyingKey").field("kid", &self.kid).field("algs", &algs).finish_non_exhaustive()
    }
}
