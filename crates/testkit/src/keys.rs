//! Keys made on the spot and tokens signed with them, straight on the cryptographic library: what the product's own
//! signer does is not taken for granted here.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair, PqdsaKeyPair, RsaKeyPair};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Every algorithm [`TestKey::generate`] knows.
pub const ALGORITHMS: [&str; 16] = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
    "HS256",
    "HS384",
    "HS512",
    "ML-DSA-44",
    "ML-DSA-65",
];

/// Base64url without padding.
pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A signing key for one algorithm.
#[derive(Debug)]
pub struct TestKey {
    /// The JOSE name of the algorithm.
    pub alg: String,
    /// The key id, in the JWK and in the header of what [`TestKey::mint`] makes.
    pub kid: String,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair),
    Hmac(Vec<u8>),
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair")
    }
}

impl TestKey {
    /// A new key for the algorithm; RSA keys have 2048 bits. Fails the test for a name not in [`ALGORITHMS`].
    pub fn generate(alg: &str) -> Self {
        let pair = match alg {
            "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" => {
                Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
            }
            "ES256" => Pair::Ecdsa(EcdsaKeyPair::generate(&sig::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            "ES384" => Pair::Ecdsa(EcdsaKeyPair::generate(&sig::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
            "ES512" => Pair::Ecdsa(EcdsaKeyPair::generate(&sig::ECDSA_P521_SHA512_FIXED_SIGNING).unwrap()),
            "EdDSA" | "Ed25519" => Pair::Ed25519(Ed25519KeyPair::generate().unwrap()),
            "ML-DSA-44" => Pair::MlDsa(PqdsaKeyPair::generate(&sig::ML_DSA_44_SIGNING).unwrap()),
            "ML-DSA-65" => Pair::MlDsa(PqdsaKeyPair::generate(&sig::ML_DSA_65_SIGNING).unwrap()),
            "HS256" | "HS384" | "HS512" => {
                let mut secret = vec![0; 64];
                rand::fill(&mut secret).unwrap();
                Pair::Hmac(secret)
            }
            other => panic!("no such algorithm: {other}"),
        };
        let mut id = [0; 8];
        rand::fill(&mut id).unwrap();
        Self { alg: alg.to_owned(), kid: b64(id), pair }
    }

    /// A shared secret.
    pub fn hmac(alg: &str, secret: impl Into<Vec<u8>>) -> Self {
        Self { alg: alg.to_owned(), kid: "shared".to_owned(), pair: Pair::Hmac(secret.into()) }
    }

    /// The same ECDSA key once more, under the same id.
    pub fn copy_of(other: &Self) -> Self {
        let Pair::Ecdsa(pair) = &other.pair else { panic!("only ECDSA keys are handed out") };
        let signing = match other.alg.as_str() {
            "ES256" => &sig::ECDSA_P256_SHA256_FIXED_SIGNING,
            "ES384" => &sig::ECDSA_P384_SHA384_FIXED_SIGNING,
            _ => &sig::ECDSA_P521_SHA512_FIXED_SIGNING,
        };
        let pair = EcdsaKeyPair::from_pkcs8(signing, pair.to_pkcs8v1().unwrap().as_ref()).unwrap();
        Self { alg: other.alg.clone(), kid: other.kid.clone(), pair: Pair::Ecdsa(pair) }
    }

    /// With another key id.
    #[must_use]
    pub fn with_kid(mut self, kid: &str) -> Self {
        kid.clone_into(&mut self.kid);
        self
    }

    /// The shared secret of an HMAC key; empty for others.
    pub fn secret(&self) -> &[u8] {
        if let Pair::Hmac(secret) = &self.pair { secret } else { &[] }
    }

    /// The JWK to publish (of an HMAC key: the `oct` key, which must not be).
    pub fn public_jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA",
                    "n": b64(public.modulus().big_endian_without_leading_zero()),
                    "e": b64(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Pair::Ecdsa(pair) => {
                // The uncompressed point: 4, then both coordinates at the curve's full length.
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match self.alg.as_str() {
                    "ES256" => "P-256",
                    "ES384" => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)})
            }
            Pair::Ed25519(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key())}),
            Pair::MlDsa(pair) => json!({"kty": "AKP", "pub": b64(pair.public_key())}),
            Pair::Hmac(secret) => json!({"kty": "oct", "k": b64(secret)}),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.alg);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The public key in PEM (RFC 7468 `PUBLIC KEY`); fails the test for an HMAC key.
    pub fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Ecdsa(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
            Pair::MlDsa(pair) => pair.public_key().as_der(),
            Pair::Hmac(_) => panic!("a shared secret has no public key"),
        }
        .unwrap();
        pem("PUBLIC KEY", der.as_ref())
    }

    /// The private key in PEM (PKCS#8), for another program to sign with; fails the test for what is neither ECDSA nor RSA.
    pub fn private_pem(&self) -> String {
        match &self.pair {
            Pair::Ecdsa(pair) => pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()),
            Pair::Rsa(pair) => pem("PRIVATE KEY", AsDer::<Pkcs8V1Der<'_>>::as_der(pair).unwrap().as_ref()),
            _ => panic!("only ECDSA and RSA keys are handed out"),
        }
    }

    /// The bare JWS signature over these bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let padding: &dyn sig::RsaEncoding = match self.alg.as_str() {
                    "RS256" => &sig::RSA_PKCS1_SHA256,
                    "RS384" => &sig::RSA_PKCS1_SHA384,
                    "RS512" => &sig::RSA_PKCS1_SHA512,
                    "PS256" => &sig::RSA_PSS_SHA256,
                    "PS384" => &sig::RSA_PSS_SHA384,
                    _ => &sig::RSA_PSS_SHA512,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::MlDsa(pair) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                let length = pair.sign(message, &mut signature).unwrap();
                signature.truncate(length);
                signature
            }
            Pair::Hmac(secret) => {
                let hash = match self.alg.as_str() {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    _ => hmac::HMAC_SHA512,
                };
                hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec()
            }
        }
    }

    /// A token with these claims under the header a careful issuer writes (RFC 9068: `at+jwt`).
    pub fn mint(&self, claims: &Value) -> String {
        self.mint_with(&json!({"alg": self.alg, "kid": self.kid, "typ": "at+jwt"}), claims)
    }

    /// A token with this header and these claims.
    pub fn mint_with(&self, header: &Value, claims: &Value) -> String {
        self.compact(&header.to_string(), &claims.to_string())
    }

    /// A token whose header and payload are these texts to the byte, validly signed: duplicate members, odd white
    /// space, what is no JSON at all.
    pub fn compact(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", b64(header), b64(payload));
        let signature = self.sign(input.as_bytes());
        format!("{input}.{}", b64(signature))
    }
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A token without a signature, for `"alg": "none"` and its spellings.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}.", b64(header.to_string()), b64(claims.to_string()))
}

/// The claims of a token, whoever signed it; fails the test if it is none.
pub fn unverified(token: &str) -> Value {
    part(token, 1)
}

/// The header of a token; fails the test if it is none.
pub fn header(token: &str) -> Value {
    part(token, 0)
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("a token has three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The set that holds these keys' public halves.
pub fn key_set(keys: &[&TestKey]) -> Value {
    json!({"keys": keys.iter().map(|key| key.public_jwk()).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::UnparsedPublicKey;

    use super::*;

    #[test]
    fn every_algorithm_signs_a_token_of_three_parts() {
        for alg in ALGORITHMS {
            let key = TestKey::generate(alg);
            let token = key.mint(&json!({"sub": "alice"}));
            assert_eq!(token.split('.').count(), 3, "{alg}");
            assert_eq!(key.public_jwk()["alg"], alg);
        }
    }

    #[test]
    fn a_signature_verifies_under_the_published_key() {
        let key = TestKey::generate("ES256");
        let jwk = key.public_jwk();
        let decode = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        let point = [vec![4], decode("x"), decode("y")].concat();
        let token = key.mint(&json!({"sub": "alice"}));
        let (input, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public = UnparsedPublicKey::new(&sig::ECDSA_P256_SHA256_FIXED, point);
        assert!(public.verify(input.as_bytes(), &signature).is_ok());
        assert!(public.verify(b"something else", &signature).is_err());
    }
}
