//! The key of a credential: ES256, `EdDSA` or RS256 (RFC 9053, RFC 8812), and no other.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::attest::cbor::{self, Map};
use crate::jose::{Alg, VerifyingKey, base64url_decode, base64url_encode};

/// A credential's public key, checked as strictly as any key of ours: on its curve, RSA of 2048 to 8192 bits without
/// known weaknesses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialKey {
    kind: Kind,
    /// The members of the JWK, for storing.
    jwk: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A point on P-256, uncompressed. `WebAuthn`'s ES256 signatures are in DER, those of JOSE are not.
    Es256([u8; 65]),
    EdDsa,
    Rs256,
}

impl CredentialKey {
    /// From a `COSE_Key` (RFC 9052 section 7).
    pub(super) fn from_cose(key: &Map<'_>) -> Option<Self> {
        let number = |label| key.label(label).and_then(cbor::Value::integer);
        let bytes = |label| key.label(label).and_then(cbor::Value::bytes);
        let text = |label| bytes(label).map(base64url_encode);
        let jwk = match (number(1)?, number(3)?) {
            (2, -7) if number(-1)? == 1 => {
                vec![("kty", "EC".to_owned()), ("crv", "P-256".to_owned()), ("x", text(-2)?), ("y", text(-3)?)]
            }
            (1, -8) if number(-1)? == 6 => {
                vec![("kty", "OKP".to_owned()), ("crv", "Ed25519".to_owned()), ("x", text(-2)?)]
            }
            (3, -257) => vec![("kty", "RSA".to_owned()), ("n", text(-1)?), ("e", text(-2)?)],
            _ => return None,
        };
        Self::of(jwk)
    }

    /// From the JWK that [`CredentialKey::to_jwk`] wrote.
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let member = |name: &'static str| Some((name, jwk.get(name)?.as_str()?.to_owned()));
        let names: &[&'static str] = match jwk.get("kty")?.as_str()? {
            "EC" => &["kty", "crv", "x", "y"],
            "OKP" => &["kty", "crv", "x"],
            "RSA" => &["kty", "n", "e"],
            _ => return None,
        };
        Self::of(names.iter().map(|name| member(name)).collect::<Option<_>>()?)
    }

    fn of(jwk: Vec<(&'static str, String)>) -> Option<Self> {
        let member = |name: &str| jwk.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        let kind = match (member("kty")?, member("crv")) {
            ("EC", Some("P-256")) => {
                let coordinate = |name| base64url_decode(member(name)?);
                Kind::Es256([&[4][..], &coordinate("x")?, &coordinate("y")?].concat().try_into().ok()?)
            }
            ("OKP", Some("Ed25519")) => Kind::EdDsa,
            ("RSA", None) => Kind::Rs256,
            _ => return None,
        };
        let key = Self { kind, jwk };
        key.import().map(|_| key)
    }

    /// As a JWK (RFC 7517), for storing.
    pub fn to_jwk(&self) -> Value {
        let mut jwk = json!({});
        for (name, value) in &self.jwk {
            if let Some(members) = jwk.as_object_mut() {
                members.insert((*name).to_owned(), value.clone().into());
            }
        }
        jwk
    }

    fn import(&self) -> Option<VerifyingKey> {
        let mut jwk = self.to_jwk();
        if let (Kind::Rs256, Some(members)) = (&self.kind, jwk.as_object_mut()) {
            members.insert("alg".to_owned(), "RS256".into());
        }
        VerifyingKey::from_confirmation(&jwk).ok()
    }

    /// The algorithm's number in COSE.
    pub const fn algorithm(&self) -> i64 {
        match self.kind {
            Kind::Es256(_) => -7,
            Kind::EdDsa => -8,
            Kind::Rs256 => -257,
        }
    }

    /// The algorithm's name in JOSE.
    pub const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Es256(_) => "ES256",
            Kind::EdDsa => "EdDSA",
            Kind::Rs256 => "RS256",
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let by = |alg| self.import().is_some_and(|key| key.verify(alg, message, signature).is_ok());
        match &self.kind {
            Kind::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature).is_ok()
            }
            Kind::EdDsa => by(Alg::EdDsa),
            Kind::Rs256 => by(Alg::Rs256),
        }
    }
}
