//! Keys that sign our own tokens.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base::Secret;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Alg, KeyType, VerifyingKey, base64url};

/// What we sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SigningAlg {
    /// ECDSA on P-256: every verifier knows it.
    #[default]
    Es256,
    /// Ed25519.
    EdDsa,
}

/// A private key that signs tokens. Its `kid` is its thumbprint (RFC 7638).
pub struct SigningKey {
    pair: Pair,
    kid: String,
    public_jwk: Value,
}

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// Why a key cannot be made, read or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The cryptographic library could not generate or use a key.
    #[error("the cryptographic library failed")]
    Library,
    /// The bytes are not a PKCS#8 key of the algorithm.
    #[error("the private key is not PKCS#8 of this algorithm")]
    Pkcs8,
    /// The claims are not representable as JSON.
    #[error("the claims are not representable as JSON")]
    Claims,
}

impl SignError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Library => "crypto_failed",
            Self::Pkcs8 => "bad_private_key",
            Self::Claims => "bad_claims",
        }
    }
}

impl SigningKey {
    /// A new key. Its randomness is the cryptographic library's own, seeded by the operating system: aws-lc takes no
    /// other source for key generation.
    pub fn generate(alg: SigningAlg) -> Result<Self, SignError> {
        let pair = match alg {
            SigningAlg::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::Es256),
            SigningAlg::EdDsa => Ed25519KeyPair::generate().map(Pair::EdDsa),
        };
        Self::from_pair(pair.map_err(|_| SignError::Library)?)
    }

    /// From PKCS#8 DER (RFC 5958), as [`SigningKey::to_pkcs8`] gives it.
    pub fn from_pkcs8(alg: SigningAlg, der: &Secret<Vec<u8>>) -> Result<Self, SignError> {
        let pair = match alg {
            SigningAlg::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.expose()).map(Pair::Es256)
            }
            SigningAlg::EdDsa => Ed25519KeyPair::from_pkcs8(der.expose()).map(Pair::EdDsa),
        };
        Self::from_pair(pair.map_err(|_| SignError::Pkcs8)?)
    }

    fn from_pair(pair: Pair) -> Result<Self, SignError> {
        let mut public_jwk = match &pair {
            Pair::Es256(pair) => {
                let (x, y) = coordinates(pair).ok_or(SignError::Library)?;
                json!({"kty": "EC", "crv": "P-256", "x": base64url::encode(x), "y": base64url::encode(y)})
            }
            Pair::EdDsa(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url::encode(pair.public_key())})
            }
        };
        let kid = public(&pair)?.thumbprint_text();
        if let Some(members) = public_jwk.as_object_mut() {
            members.insert("alg".into(), pair.alg().name().into());
            members.insert("use".into(), "sig".into());
            members.insert("kid".into(), kid.as_str().into());
        }
        Ok(Self { pair, kid, public_jwk })
    }

    /// The private key as PKCS#8 DER, to be sealed.
    pub fn to_pkcs8(&self) -> Result<Secret<Vec<u8>>, SignError> {
        let document = match &self.pair {
            Pair::Es256(pair) => pair.to_pkcs8v1(),
            Pair::EdDsa(pair) => pair.to_pkcs8(),
        };
        document.map(|der| Secret::new(der.as_ref().to_vec())).map_err(|_| SignError::Library)
    }

    /// The algorithm.
    pub fn alg(&self) -> Alg {
        self.pair.alg()
    }

    /// The key's id: its thumbprint as base64url.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a JWK with `kid`, `alg` and `use`, for `/.well-known/jwks.json`.
    pub fn public_jwk(&self) -> &Value {
        &self.public_jwk
    }

    /// The public key, to verify with.
    pub fn verifying_key(&self) -> Result<VerifyingKey, SignError> {
        Ok(public(&self.pair)?.with_kid(Some(self.kid.clone())))
    }

    /// Sign a claims set as a compact token whose header is `alg`, `kid` and `typ` (for an access token `at+jwt`,
    /// RFC 9068 section 2.1).
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String, SignError> {
        self.sign_with(typ, &[], claims)
    }

    /// [`SigningKey::sign`] with further members in the header.
    pub fn sign_with(
        &self,
        typ: &str,
        members: &[(&str, Value)],
        claims: &impl Serialize,
    ) -> Result<String, SignError> {
        let mut header = json!({"alg": self.alg().name(), "kid": self.kid, "typ": typ});
        if let Some(header) = header.as_object_mut() {
            header.extend(members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        }
        let header = header.to_string();
        let claims = serde_json::to_vec(claims).map_err(|_| SignError::Claims)?;
        let input = format!("{}.{}", base64url::encode(header), base64url::encode(claims));
        let signature = match &self.pair {
            Pair::Es256(pair) => pair.sign(&SystemRandom::new(), input.as_bytes()),
            Pair::EdDsa(pair) => pair.try_sign(input.as_bytes()),
        };
        Ok(format!("{input}.{}", base64url::encode(signature.map_err(|_| SignError::Library)?)))
    }
}

impl Pair {
    fn alg(&self) -> Alg {
        match self {
            Self::Es256(_) => Alg::Es256,
            Self::EdDsa(_) => Alg::EdDsa,
        }
    }
}

fn coordinates(pair: &EcdsaKeyPair) -> Option<(&[u8], &[u8])> {
    pair.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)
}

fn public(pair: &Pair) -> Result<VerifyingKey, SignError> {
    let key = match pair {
        Pair::Es256(pair) => {
            let (x, y) = coordinates(pair).ok_or(SignError::Library)?;
            VerifyingKey::ec(KeyType::P256, x, y)
        }
        Pair::EdDsa(pair) => VerifyingKey::ed25519(pair.public_key().as_ref()),
    };
    key.map_err(|_| SignError::Library)
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("alg", &self.alg().name()).field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::{KeySet, Lookup, parse_compact};

    #[test]
    fn what_is_signed_verifies_under_the_published_key_and_no_other() {
        for alg in [SigningAlg::Es256, SigningAlg::EdDsa] {
            let key = SigningKey::generate(alg).unwrap();
            let token = key.sign("at+jwt", &json!({"sub": "a"})).unwrap();
            let compact = parse_compact(&token).unwrap();
            assert_eq!(compact.header.typ.as_deref(), Some("at+jwt"));
            assert_eq!(compact.header.kid.as_deref(), Some(key.kid()));
            let published = json!({"keys": [key.public_jwk()]}).to_string();
            let set = KeySet::from_published(published.as_bytes()).unwrap();
            let Lookup::Found(public) = set.find(Some(key.kid()), key.alg(), &[key.alg()]) else { unreachable!() };
            assert_eq!(public.thumbprint_text(), key.kid());
            assert!(public.verify(key.alg(), compact.signing_input.as_bytes(), &compact.signature).is_ok());
            let other = SigningKey::generate(alg).unwrap().verifying_key().unwrap();
            assert!(other.verify(key.alg(), compact.signing_input.as_bytes(), &compact.signature).is_err());
        }
    }

    #[test]
    fn a_key_survives_being_sealed_and_shows_nothing() {
        for alg in [SigningAlg::Es256, SigningAlg::EdDsa] {
            let key = SigningKey::generate(alg).unwrap();
            let again = SigningKey::from_pkcs8(alg, &key.to_pkcs8().unwrap()).unwrap();
            assert_eq!(again.kid(), key.kid());
            assert!(!format!("{key:?}{}", key.public_jwk()).contains("\"d\""));
        }
        assert_eq!(SigningKey::from_pkcs8(SigningAlg::Es256, &Secret::new(vec![1, 2])).err(), Some(SignError::Pkcs8));
    }
}
