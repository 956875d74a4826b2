//! Making one kind of encrypted object (RFC 7516 section 7.1): `ECDH-ES` in direct mode with `A256GCM`, compact, to a key that the
//! recipient made for this one delivery. Only who holds that key's private half can open it; ours is forgotten at once, so
//! that nobody can later.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{Algorithm, ECDH_P256, PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::digest::{Context, SHA256};
use base::{Rng, Secret};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::jose::{JsonObject, base64url_decode, base64url_encode};

/// The longest plaintext, in bytes.
pub const MAX_PLAINTEXT: usize = 256 << 10;
const COORDINATE: usize = 32;
const ENC: &str = "A256GCM";
/// A random P-256 scalar is out of range once in 2^32; so often never.
const ATTEMPTS: usize = 8;

/// Why a key is no recipient's, or nothing can be sealed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not a public key of P-256 or X25519 with these members and no others.
    #[error("the ephemeral key must be a public JWK: EC with crv P-256, x and y, or OKP with crv X25519 and x")]
    Form,
    /// The point is not on the curve, or of small order.
    #[error("the ephemeral key is not on its curve")]
    Point,
    /// What is to be sealed is over [`MAX_PLAINTEXT`].
    #[error("too much to seal at once")]
    TooLong,
    /// The cryptographic library refused; never expected.
    #[error("the cryptographic library failed")]
    Crypto,
}

impl SealError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Form => "epk_form",
            Self::Point => "epk_point",
            Self::TooLong => "seal_too_long",
            Self::Crypto => "seal_crypto",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    X25519,
}

impl Curve {
    const fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::P256 => &ECDH_P256,
            Self::X25519 => &X25519,
        }
    }

    /// A public key as a JWK (RFC 7518 section 6.2.1, RFC 8037 section 2).
    fn jwk(self, public: &[u8]) -> Option<Value> {
        Some(match self {
            Self::X25519 => json!({ "kty": "OKP", "crv": "X25519", "x": base64url_encode(public) }),
            Self::P256 => {
                let (x, y) = public.get(1..)?.split_at_checked(COORDINATE)?;
                json!({ "kty": "EC", "crv": "P-256", "x": base64url_encode(x), "y": base64url_encode(y) })
            }
        })
    }
}

/// A recipient's public key, made for one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EphemeralKey {
    curve: Curve,
    point: Vec<u8>,
}

impl EphemeralKey {
    /// Read a public JWK that has the members of its type and nothing else.
    pub fn from_jwk(jwk: &JsonObject) -> Result<Self, SealError> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str).ok_or(SealError::Form);
        let coordinate = |name: &str| {
            let bytes = base64url_decode(text(name)?).ok_or(SealError::Form)?;
            if bytes.len() == COORDINATE { Ok(bytes) } else { Err(SealError::Form) }
        };
        match (text("kty")?, text("crv")?, jwk.len()) {
            ("EC", "P-256", 4) => {
                let point = [&[4u8][..], &coordinate("x")?, &coordinate("y")?].concat();
                Ok(Self { curve: Curve::P256, point })
            }
            ("OKP", "X25519", 3) => Ok(Self { curve: Curve::X25519, point: coordinate("x")? }),
            _ => Err(SealError::Form),
        }
    }

    /// What tells two keys apart: the curve and the point, of which X25519 ignores one bit (RFC 7748 section 5).
    pub fn id(&self) -> String {
        let mut point = self.point.clone();
        if let (Curve::X25519, Some(last)) = (self.curve, point.last_mut()) {
            *last &= 0x7f;
        }
        let mut hash = Context::new(&SHA256);
        hash.update(&point);
        base64url_encode(hash.finish())
    }
}

/// Who takes part: what the key is bound to besides (RFC 7518 section 4.6.1).
#[derive(Debug, Clone, Copy)]
pub struct Parties<'a> {
    /// The producer's part (`apu`).
    pub apu: &'a [u8],
    /// The recipient's part (`apv`).
    pub apv: &'a [u8],
}

/// Seal `plaintext` to `recipient`.
pub fn seal(
    recipient: &EphemeralKey,
    parties: Parties<'_>,
    plaintext: &[u8],
    rng: &dyn Rng,
) -> Result<String, SealError> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(SealError::TooLong);
    }
    let own = fresh(recipient.curve, rng)?;
    seal_with(&own, recipient, parties, plaintext, rng)
}

fn fresh(curve: Curve, rng: &dyn Rng) -> Result<PrivateKey, SealError> {
    let mut bytes = Zeroizing::new([0u8; COORDINATE]);
    for _ in 0..ATTEMPTS {
        rng.fill(bytes.as_mut());
        if let Ok(key) = PrivateKey::from_private_key(curve.algorithm(), bytes.as_ref()) {
            return Ok(key);
        }
    }
    Err(SealError::Crypto)
}

fn seal_with(
    own: &PrivateKey,
    recipient: &EphemeralKey,
    parties: Parties<'_>,
    plaintext: &[u8],
    rng: &dyn Rng,
) -> Result<String, SealError> {
    let public = own.compute_public_key().map_err(|_| SealError::Crypto)?;
    let epk = recipient.curve.jwk(public.as_ref()).ok_or(SealError::Crypto)?;
    let peer = UnparsedPublicKey::new(recipient.curve.algorithm(), &recipient.point);
    let key = agree(own, peer, SealError::Point, |shared| Ok(derive(shared, ENC, parties, 256)))?;
    let header = json!({
        "alg": "ECDH-ES",
        "enc": ENC,
        "epk": epk,
        "apu": base64url_encode(parties.apu),
        "apv": base64url_encode(parties.apv),
    });
    let header = base64url_encode(header.to_string());
    let mut iv = [0u8; NONCE_LEN];
    rng.fill(&mut iv);
    // Room for the tag from the start: growing would leave a copy of the plaintext behind.
    let mut sealed = Vec::with_capacity(plaintext.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(plaintext);
    let cipher = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| SealError::Crypto)?;
    LessSafeKey::new(cipher)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::from(header.as_bytes()), &mut sealed)
        .map_err(|_| SealError::Crypto)?;
    let (text, tag) = sealed.split_at_checked(plaintext.len()).ok_or(SealError::Crypto)?;
    Ok(format!("{header}..{}.{}.{}", base64url_encode(iv), base64url_encode(text), base64url_encode(tag)))
}

/// The Concat KDF (NIST SP 800-56A section 5.8.1, as RFC 7518 section 4.6.2 uses it) for a key of at most 256 bits: one round.
fn derive(shared: &[u8], algorithm: &str, parties: Parties<'_>, bits: u32) -> Secret<Vec<u8>> {
    let mut hash = Context::new(&SHA256);
    hash.update(&1u32.to_be_bytes());
    hash.update(shared);
    for part in [algorithm.as_bytes(), parties.apu, parties.apv] {
        hash.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update(&bits.to_be_bytes());
    let bytes = usize::try_from(bits / 8).unwrap_or(0);
    Secret::new(hash.finish().as_ref().iter().take(bytes).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;
    use proptest::prelude::*;

    fn object(value: Value) -> JsonObject {
        match value {
            Value::Object(object) => object,
            other => panic!("{other}"),
        }
    }

    fn decode(text: &str) -> Vec<u8> {
        base64url_decode(text).unwrap()
    }

    /// RFC 7518 appendix C: Alice sends to Bob.
    const ALICE: (&str, &str, &str) = (
        "gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
        "SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps",
        "0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo",
    );
    const BOB: (&str, &str, &str) = (
        "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
        "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
        "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw",
    );

    fn p256((x, y, d): (&str, &str, &str)) -> (EphemeralKey, PrivateKey) {
        let jwk = object(json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y }));
        (EphemeralKey::from_jwk(&jwk).unwrap(), PrivateKey::from_private_key(&ECDH_P256, &decode(d)).unwrap())
    }

    #[test]
    fn the_key_of_rfc_7518_appendix_c_is_derived_by_both_sides() {
        let ((alice, alice_key), (bob, bob_key)) = (p256(ALICE), p256(BOB));
        for (own, peer) in [(&alice_key, &bob), (&bob_key, &alice)] {
            let peer = UnparsedPublicKey::new(&ECDH_P256, &peer.point);
            let shared: Vec<u8> = agree(own, peer, (), |shared| Ok(shared.to_vec())).unwrap();
            assert_eq!(shared[..4], [158, 86, 217, 29]);
            let key = derive(&shared, "A128GCM", Parties { apu: b"Alice", apv: b"Bob" }, 128);
            assert_eq!(base64url_encode(key.expose()), "VqqN6vgjbSBcIijNcacQGg");
        }
    }

    #[test]
    fn what_is_sealed_opens_with_the_recipients_key_and_its_parties_only() {
        let rng = SeededRng::new(11);
        for curve in [Curve::P256, Curve::X25519] {
            let private = fresh(curve, &rng).unwrap();
            let public = private.compute_public_key().unwrap();
            let recipient = EphemeralKey::from_jwk(&object(curve.jwk(public.as_ref()).unwrap())).unwrap();
            let parties = Parties { apu: b"i-1", apv: b"nonce" };
            let jwe = seal(&recipient, parties, b"{\"a\":1}", &rng).unwrap();
            assert_ne!(jwe, seal(&recipient, parties, b"{\"a\":1}", &rng).unwrap(), "our key is new each time");
            let open = |jwe: &str, private: &PrivateKey, parties: Parties<'_>| {
                let parts: Vec<&str> = jwe.split('.').collect();
                let header: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
                assert_eq!((header["alg"].as_str(), header["enc"].as_str()), (Some("ECDH-ES"), Some("A256GCM")));
                assert_eq!((parts[1], header["apu"].as_str()), ("", Some("aS0x")));
                let epk = EphemeralKey::from_jwk(header["epk"].as_object().unwrap()).unwrap();
                let peer = UnparsedPublicKey::new(curve.algorithm(), &epk.point);
                let key = agree(private, peer, (), |shared| Ok(derive(shared, ENC, parties, 256))).ok()?;
                let mut sealed = [decode(parts[3]), decode(parts[4])].concat();
                let nonce = Nonce::try_assume_unique_for_key(&decode(parts[2])).unwrap();
                let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose()).unwrap());
                let opened = key.open_in_place(nonce, Aad::from(parts[0].as_bytes()), &mut sealed).ok()?;
                Some(opened.to_vec())
            };
            assert_eq!(open(&jwe, &private, parties).as_deref(), Some(&b"{\"a\":1}"[..]));
            assert_eq!(open(&jwe, &private, Parties { apv: b"other", ..parties }), None);
            assert_eq!(open(&jwe, &fresh(curve, &rng).unwrap(), parties), None);
        }
    }

    #[test]
    fn only_a_bare_public_key_on_its_curve_is_a_recipient() {
        let good = json!({ "kty": "EC", "crv": "P-256", "x": BOB.0, "y": BOB.1 });
        let changed = |change: Value| {
            let mut jwk = object(good.clone());
            for (name, value) in object(change) {
                if value.is_null() {
                    jwk.remove(&name)
                } else {
                    jwk.insert(name, value)
                };
            }
            EphemeralKey::from_jwk(&jwk)
        };
        assert!(changed(json!({})).is_ok());
        for change in [
            json!({ "d": BOB.2 }),
            json!({ "kid": "1" }),
            json!({ "y": null }),
            json!({ "x": format!("{}=", BOB.0) }),
            json!({ "x": "AQ" }),
            json!({ "x": 1 }),
            json!({ "crv": "P-384" }),
            json!({ "crv": "X25519" }),
            json!({ "kty": "OKP", "crv": "X25519" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "y": null }),
            json!({ "kty": "oct", "k": "AQAB" }),
        ] {
            assert_eq!(changed(change.clone()).err(), Some(SealError::Form), "{change}");
        }
        let rng = SeededRng::new(5);
        let parties = Parties { apu: b"", apv: b"" };
        let off = changed(json!({ "x": BOB.1, "y": BOB.0 })).unwrap();
        assert_eq!(seal(&off, parties, b"x", &rng), Err(SealError::Point), "not on the curve");
        for low in ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let jwk = object(json!({ "kty": "OKP", "crv": "X25519", "x": low }));
            let key = EphemeralKey::from_jwk(&jwk).unwrap();
            assert_eq!(seal(&key, parties, b"x", &rng), Err(SealError::Point), "of small order: {low}");
        }
        let long = vec![0; MAX_PLAINTEXT + 1];
        assert_eq!(seal(&changed(json!({})).unwrap(), parties, &long, &rng), Err(SealError::TooLong));
    }

    #[test]
    fn a_key_is_known_again_however_its_ignored_bit_is_written() {
        let of = |last: u8| {
            let mut point = [7u8; 32];
            point[31] = last;
            let jwk = json!({ "kty": "OKP", "crv": "X25519", "x": base64url_encode(point) });
            EphemeralKey::from_jwk(&object(jwk)).unwrap().id()
        };
        assert_eq!(of(0x12), of(0x92));
        assert_ne!(of(0x12), of(0x13));
    }

    proptest! {
        #[test]
        fn any_members_are_read_without_panic_and_sealed_to_or_refused(
            kty in "EC|OKP|oct", crv in "P-256|X25519|P-384", x in "[A-Za-z0-9_=-]{0,50}", y in "[A-Za-z0-9_-]{43}"
        ) {
            let jwk = object(json!({ "kty": kty, "crv": crv, "x": x, "y": y }));
            if let Ok(key) = EphemeralKey::from_jwk(&jwk) {
                let _refused_or_sealed = seal(&key, Parties { apu: b"a", apv: b"b" }, b"x", &SeededRng::new(1));
            }
        }
    }
}
