//! Compact signatures (RFC 7515) with ES256, and no other algorithm.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::signer::{KeyError, PublicJwk, Signer, base64url};

/// Sign `claims` under `header`, which says `"alg":"ES256"`.
pub(crate) fn sign(signer: &dyn Signer, header: &Value, claims: &Value) -> Result<String, KeyError> {
    let input = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
    let signature = signer.sign(input.as_bytes())?;
    Ok(format!("{input}.{}", base64url(signature)))
}

/// A compact signature, taken apart. Nothing in it is verified.
pub(crate) struct Compact<'t> {
    pub(crate) header: Map<String, Value>,
    pub(crate) payload: Map<String, Value>,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Compact<'t> {
    /// `None`: not three parts with two JSON objects.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let object = |part: &str| match serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()? {
            Value::Object(members) => Some(members),
            _ => None,
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(Self { header: object(header)?, payload: object(payload)?, signed, signature })
    }

    /// A member of the header that is a text.
    pub(crate) fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// Whether `key` signed it with ES256, and nothing in the header has to be understood that is not (`crit`).
    pub(crate) fn is_by(&self, key: &PublicJwk) -> bool {
        self.header_text("alg") == Some("ES256")
            && !self.header.contains_key("crit")
            && UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point())
                .verify(self.signed.as_bytes(), &self.signature)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::signer::SoftwareKey;

    #[test]
    fn only_es256_by_the_key_holds() {
        let key = SoftwareKey::generate().unwrap();
        let signed = |header: Value| sign(&key, &header, &json!({"a": 1})).unwrap();
        let good = signed(json!({"alg": "ES256"}));
        let parsed = Compact::parse(&good).unwrap();
        assert!(parsed.is_by(&key.public_jwk()));
        assert_eq!(parsed.payload["a"], 1);
        assert!(!parsed.is_by(&SoftwareKey::generate().unwrap().public_jwk()));
        for header in [json!({"alg": "none"}), json!({}), json!({"alg": "ES256", "crit": ["b64"]})] {
            assert!(!Compact::parse(&signed(header)).unwrap().is_by(&key.public_jwk()));
        }
        for text in ["", "a.b", "e30.e30", "e30.W10.AA", "e30.e30.!", "e30.e30.e30.AA"] {
            assert!(Compact::parse(text).is_none_or(|parsed| !parsed.is_by(&key.public_jwk())), "{text}");
        }
    }
}
