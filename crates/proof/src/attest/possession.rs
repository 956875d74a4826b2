//! That whoever enrols an installation, or asks for its next token, holds its key: a small signed object over our nonce,
//! the endpoint and the client data. Like a `DPoP` proof (RFC 9449), but made once and for one body: the nonce is used up
//! with it, so it needs neither a time nor an id of its own.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base::Who;
use serde_json::Value;

use crate::jose::{
    Alg, JoseError, JsonObject, KeyError, VerifyingKey, base64url_decode, base64url_encode, parse_compact_within,
    sha256,
};

/// The longest proof, in bytes.
pub const MAX_PROOF_LEN: usize = 4 << 10;

/// What the proof's header says it is (`typ`).
pub const TYP: &str = "gw-pop+jwt";

/// Why a key or proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PossessionError {
    /// The key is not a public key on P-256, or says more than its required members.
    #[error("the key is not a public key on P-256 with its required members only")]
    Key,
    /// The key is refused.
    #[error("the key is refused: {0}")]
    Jwk(KeyError),
    /// Not a signed object.
    #[error("{0}")]
    Jose(#[from] JoseError),
    /// The header has other members, or says something else, than it must.
    #[error("the header is not exactly alg ES256 and typ gw-pop+jwt")]
    Header,
    /// The payload has other members than it must.
    #[error("the payload is not exactly cd, htu and nonce")]
    Members,
    /// Made for another nonce.
    #[error("made for another nonce")]
    Nonce,
    /// Made for another endpoint.
    #[error("made for another endpoint")]
    Target,
    /// Made for other client data.
    #[error("made for other client data")]
    ClientData,
    /// Signed with another key.
    #[error("the signature is wrong")]
    Signature,
}

impl PossessionError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Key => "instance_key_form",
            Self::Jwk(error) => error.reason(),
            Self::Jose(error) => error.reason(),
            Self::Header => "possession_header",
            Self::Members => "possession_members",
            Self::Nonce => "possession_nonce",
            Self::Target => "possession_target",
            Self::ClientData => "possession_client_data",
            Self::Signature => "possession_signature",
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

/// The key of an installation: public, on P-256.
#[derive(Debug)]
pub struct InstanceKey {
    key: VerifyingKey,
    jwk: Value,
}

impl InstanceKey {
    /// From a JWK that has its required members and no others (RFC 7518 section 6.2.1).
    pub fn from_jwk(jwk: &Value) -> Result<Self, PossessionError> {
        let members = jwk.as_object().ok_or(PossessionError::Key)?;
        let is = |name: &str, wanted: &str| members.get(name).and_then(Value::as_str) == Some(wanted);
        if members.len() != 4 || !is("kty", "EC") || !is("crv", "P-256") {
            return Err(PossessionError::Key);
        }
        let key = VerifyingKey::from_confirmation(jwk).map_err(PossessionError::Jwk)?;
        Ok(Self { key, jwk: jwk.clone() })
    }

    /// The thumbprint (RFC 7638) as base64url.
    pub fn jkt(&self) -> String {
        self.key.thumbprint_text()
    }

    /// The thumbprint's bytes.
    pub fn thumbprint(&self) -> &[u8; 32] {
        self.key.thumbprint()
    }

    /// The key as it was given.
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// The point, uncompressed (SEC 1 section 2.3.3).
    pub fn point(&self) -> Option<[u8; 65]> {
        let half = |name: &str| base64url_decode(self.jwk.get(name)?.as_str()?).filter(|half| half.len() == 32);
        let point = [vec![4], half("x")?, half("y")?].concat();
        point.try_into().ok()
    }

    /// Check a proof made with this key.
    pub fn check(&self, proof: &str, wanted: &Wanted<'_>) -> Result<(), PossessionError> {
        let proof = parse_compact_within(proof, MAX_PROOF_LEN)?;
        let header = &proof.header;
        if header.members().len() != 2 || header.alg != Alg::Es256 || header.typ.as_deref() != Some(TYP) {
            return Err(PossessionError::Header);
        }
        let claims = proof.claims()?;
        if claims.len() != 3 {
            return Err(PossessionError::Members);
        }
        let (nonce, target) = (text(&claims, "nonce")?, text(&claims, "htu")?);
        let client_data = text(&claims, "cd")?;
        if !same(nonce, wanted.nonce) {
            return Err(PossessionError::Nonce);
        }
        if !wanted.targets.iter().any(|one| one == target) {
            return Err(PossessionError::Target);
        }
        if !same(client_data, &base64url_encode(sha256(wanted.client_data))) {
            return Err(PossessionError::ClientData);
        }
        let signed = proof.signing_input.as_bytes();
        self.key.verify(Alg::Es256, signed, &proof.signature).map_err(|_| PossessionError::Signature)
    }
}

/// What a proof has to fit.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The nonce of the client data.
    pub nonce: &'a str,
    /// The endpoint's URL, under each origin that is configured.
    pub targets: &'a [String],
    /// The client data, as sent.
    pub client_data: &'a [u8],
}

fn text<'a>(claims: &'a JsonObject, name: &str) -> Result<&'a str, PossessionError> {
    claims.get(name).and_then(Value::as_str).ok_or(PossessionError::Members)
}

fn same(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ENROLL: &str = "https://ai.example.com/attest/v1/enroll";

    struct Device(EcdsaKeyPair);

    impl Device {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        fn jwk(&self) -> Value {
            let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
            json!({"kty": "EC", "crv": "P-256", "x": base64url_encode(x), "y": base64url_encode(y)})
        }

        fn proof(&self, header: &Value, payload: &Value) -> String {
            let input = format!("{}.{}", base64url_encode(header.to_string()), base64url_encode(payload.to_string()));
            let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
            format!("{input}.{}", base64url_encode(signature))
        }
    }

    fn header() -> Value {
        json!({"alg": "ES256", "typ": TYP})
    }

    fn payload() -> Value {
        json!({"cd": base64url_encode(sha256(b"data")), "htu": ENROLL, "nonce": "n-1"})
    }

    fn check(device: &Device, proof: &str) -> Result<(), &'static str> {
        let targets = [ENROLL.to_owned()];
        let wanted = Wanted { nonce: "n-1", targets: &targets, client_data: b"data" };
        let key = InstanceKey::from_jwk(&device.jwk()).unwrap();
        key.check(proof, &wanted).map_err(PossessionError::reason)
    }

    #[test]
    fn a_proof_is_for_one_nonce_endpoint_and_body() {
        let device = Device::new();
        assert_eq!(check(&device, &device.proof(&header(), &payload())), Ok(()));
        for (name, value, reason) in [
            ("nonce", "n-2", "possession_nonce"),
            ("htu", "https://ai.example.com/attest/v1/token", "possession_target"),
            ("cd", "AAAA", "possession_client_data"),
            ("iat", "1", "possession_members"),
        ] {
            let mut payload = payload();
            payload[name] = value.into();
            assert_eq!(check(&device, &device.proof(&header(), &payload)), Err(reason), "{name}");
        }
        let other = Device::new();
        assert_eq!(check(&device, &other.proof(&header(), &payload())), Err("possession_signature"));
        let mut cut = payload();
        cut.as_object_mut().unwrap().remove("htu");
        assert_eq!(check(&device, &device.proof(&header(), &cut)), Err("possession_members"));
    }

    #[test]
    fn another_header_is_refused() {
        let device = Device::new();
        for (header, reason) in [
            (json!({"alg": "ES256", "typ": "dpop+jwt"}), "possession_header"),
            (json!({"alg": "ES384", "typ": TYP}), "possession_header"),
            (json!({"alg": "none", "typ": TYP}), "unsupported_alg"),
            (json!({"alg": "ES256", "typ": TYP, "jwk": device.jwk()}), "possession_header"),
            (json!({"alg": "ES256", "typ": TYP, "crit": ["exp"]}), "crit_unsupported"),
        ] {
            assert_eq!(check(&device, &device.proof(&header, &payload())), Err(reason), "{header}");
        }
    }

    #[test]
    fn only_a_bare_public_key_on_p256_is_an_installations_key() {
        let jwk = Device::new().jwk();
        let key = InstanceKey::from_jwk(&jwk).unwrap();
        assert_eq!((key.jkt().len(), key.point().unwrap()[0]), (43, 4));
        let with = |name: &str, value: Value| {
            let mut jwk = jwk.clone();
            jwk[name] = value;
            InstanceKey::from_jwk(&jwk).map(|_| ()).map_err(PossessionError::reason)
        };
        for (name, value) in [("d", json!("AA")), ("kid", json!("k")), ("crv", json!("P-384")), ("kty", json!("oct"))] {
            assert_eq!(with(name, value), Err("instance_key_form"), "{name}");
        }
        assert!(with("x", json!("AAAA")).is_err() && InstanceKey::from_jwk(&json!([])).is_err());
    }

    proptest! {
        #[test]
        fn a_changed_proof_never_passes(at in 0usize..300, to in any::<u8>()) {
            let device = Device::new();
            let proof = device.proof(&header(), &payload());
            let mut changed = proof.clone().into_bytes();
            let at = at % changed.len();
            prop_assume!(changed[at] != to);
            changed[at] = to;
            let changed = String::from_utf8_lossy(&changed).into_owned();
            prop_assert!(check(&device, &changed).is_err());
        }
    }
}
