//! Runtime secrets: delivered as a JWE (RFC 7516) with `ECDH-ES` and `A256GCM` to a key that lives for one delivery.
//!
//! A delivered secret is in the app's memory, and whoever owns the device can read it there. Where the gateway can put the
//! secret into the request itself, that is the better way.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{
    Algorithm, ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, X25519 as ECDH_X25519, agree_ephemeral,
};
use aws_lc_rs::rand::SystemRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::app_config::public_key;
use crate::signer::{PublicJwk, base64url, sha256};

/// The longest delivery, in bytes.
pub const MAX_LEN: usize = 1 << 20;

const TAG_LEN: usize = 16;

/// Why a delivery cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No key could be made.
    #[error("no key could be made")]
    Key,
    /// Not a JWE of the form that is asked for.
    #[error("not a JWE with ECDH-ES and A256GCM")]
    Form,
    /// Made for another installation or another request.
    #[error("made for another installation or request")]
    Party,
    /// Not encrypted to our key, or changed.
    #[error("cannot be decrypted")]
    Decrypt,
    /// What is inside is not a set of secrets.
    #[error("no secrets inside")]
    Payload,
}

impl SecretError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Key => "secret_key",
            Self::Form => "secret_form",
            Self::Party => "secret_party",
            Self::Decrypt => "secret_decrypt",
            Self::Payload => "secret_payload",
        }
    }
}

/// One secret as it was delivered. It is wiped from memory when it is dropped, and not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RuntimeSecret {
    /// Its version.
    pub version: u64,
    /// When it ends, in seconds since the epoch, where it does.
    pub exp: Option<i64>,
    value: Zeroizing<String>,
}

impl RuntimeSecret {
    /// The value.
    pub fn expose(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for RuntimeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeSecret").field("version", &self.version).field("exp", &self.exp).finish_non_exhaustive()
    }
}

/// What keys of deliveries are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Curve {
    /// P-256.
    #[default]
    P256,
    /// X25519 (RFC 7748).
    X25519,
}

/// The public half of such a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealingKey {
    /// A point on P-256.
    P256(PublicJwk),
    /// A coordinate of X25519.
    X25519([u8; 32]),
}

impl SealingKey {
    /// As a public JWK: RFC 7518 section 6.2.1, or RFC 8037 section 2.
    pub fn to_json(self) -> Value {
        match self {
            Self::P256(key) => key.to_json(),
            Self::X25519(x) => json!({"kty": "OKP", "crv": "X25519", "x": base64url(x)}),
        }
    }

    /// From the `epk` of a delivery.
    fn from_json(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if text("kty") != Some("OKP") {
            return public_key(jwk).map(Self::P256);
        }
        let x = URL_SAFE_NO_PAD.decode(text("x")?).ok()?.try_into().ok()?;
        (text("crv") == Some("X25519")).then_some(Self::X25519(x))
    }

    fn made(curve: Curve, public: &[u8]) -> Option<Self> {
        match curve {
            Curve::P256 => PublicJwk::from_point(public).map(Self::P256),
            Curve::X25519 => public.try_into().ok().map(Self::X25519),
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::P256(_) => &ECDH_P256,
            Self::X25519(_) => &ECDH_X25519,
        }
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.point().to_vec(),
            Self::X25519(x) => x.to_vec(),
        }
    }
}

/// The key of one delivery. [`Client`](crate::Client) makes one for each; an app that asks by itself does the same.
pub struct Recipient {
    private: EphemeralPrivateKey,
    public: SealingKey,
}

impl Recipient {
    /// A new key on P-256.
    pub fn new() -> Result<Self, SecretError> {
        Self::on(Curve::P256)
    }

    /// A new key on this curve.
    pub fn on(curve: Curve) -> Result<Self, SecretError> {
        let algorithm = match curve {
            Curve::P256 => &ECDH_P256,
            Curve::X25519 => &ECDH_X25519,
        };
        let private = EphemeralPrivateKey::generate(algorithm, &SystemRandom::new()).map_err(|_| SecretError::Key)?;
        let public = private.compute_public_key().map_err(|_| SecretError::Key)?;
        let public = SealingKey::made(curve, public.as_ref()).ok_or(SecretError::Key)?;
        Ok(Self { private, public })
    }

    /// What is sealed to (`epk` of the request).
    pub fn public_jwk(&self) -> SealingKey {
        self.public
    }

    /// Open a delivery for `instance`. The key is used up.
    pub fn open(self, jwe: &str, instance: &str) -> Result<BTreeMap<String, RuntimeSecret>, SecretError> {
        let parts = Parts::parse(jwe).ok_or(SecretError::Form)?;
        let header = &parts.header;
        let text = |name: &str| header.get(name).and_then(Value::as_str);
        let plain = text("alg") == Some("ECDH-ES") && text("enc") == Some("A256GCM");
        if !plain || header.contains_key("zip") || header.contains_key("crit") {
            return Err(SecretError::Form);
        }
        let bytes = |name| URL_SAFE_NO_PAD.decode(text(name).unwrap_or_default()).map_err(|_| SecretError::Form);
        let (apu, apv) = (bytes("apu")?, bytes("apv")?);
        if apu != instance.as_bytes() {
            return Err(SecretError::Party);
        }
        // A key on another curve agrees on nothing with ours.
        let peer = header.get("epk").and_then(SealingKey::from_json).ok_or(SecretError::Form)?;
        let peer = UnparsedPublicKey::new(peer.algorithm(), peer.bytes());
        let key = agree_ephemeral(self.private, &peer, SecretError::Form, |shared| Ok(derive(shared, &apu, &apv)))?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| SecretError::Decrypt)?;
        let nonce = Nonce::try_assume_unique_for_key(&parts.iv).map_err(|_| SecretError::Form)?;
        let mut sealed = Zeroizing::new(parts.sealed);
        let opened = LessSafeKey::new(key)
            .open_in_place(nonce, Aad::from(parts.protected.as_bytes()), &mut sealed)
            .map_err(|_| SecretError::Decrypt)?;
        read(opened).ok_or(SecretError::Payload)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient").field("public", &self.public).finish_non_exhaustive()
    }
}

/// The Concat KDF (RFC 7518 section 4.6.2) for one key of 256 bits: one round of SHA-256.
fn derive(shared: &[u8], apu: &[u8], apv: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut input = Zeroizing::new(Vec::with_capacity(128));
    input.extend_from_slice(&1u32.to_be_bytes());
    input.extend_from_slice(shared);
    for part in [b"A256GCM", apu, apv] {
        input.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        input.extend_from_slice(part);
    }
    input.extend_from_slice(&256u32.to_be_bytes());
    Zeroizing::new(sha256(&input))
}

/// A compact JWE whose key is agreed on directly: the part of the encrypted key is empty.
struct Parts<'t> {
    header: Map<String, Value>,
    protected: &'t str,
    iv: Vec<u8>,
    /// Ciphertext and tag.
    sealed: Vec<u8>,
}

impl<'t> Parts<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let mut parts = Some(text).filter(|text| text.len() <= MAX_LEN)?.split('.');
        let (protected, key) = (parts.next()?, parts.next()?);
        let (iv, sealed, tag) = (parts.next()?, parts.next()?, parts.next()?);
        if !key.is_empty() || parts.next().is_some() {
            return None;
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let Value::Object(header) = serde_json::from_slice(&decode(protected)?).ok()? else { return None };
        let (mut sealed, tag) = (decode(sealed)?, decode(tag).filter(|tag| tag.len() == TAG_LEN)?);
        sealed.extend(tag);
        Some(Self { header, protected, iv: decode(iv)?, sealed })
    }
}

/// `{name: {"v": n, "value": text, "exp": s}}`
fn read(opened: &[u8]) -> Option<BTreeMap<String, RuntimeSecret>> {
    let Value::Object(members) = serde_json::from_slice(opened).ok()? else { return None };
    let one = |(name, value): (String, Value)| {
        let text = value.get("value")?.as_str()?;
        let exp = value.get("exp").and_then(Value::as_i64);
        let secret = RuntimeSecret { version: value.get("v")?.as_u64()?, exp, value: Zeroizing::new(text.to_owned()) };
        Some((name, secret))
    };
    members.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::signer::base64url;

    /// What a gateway would send to this key.
    fn sealed(to: &SealingKey, header: &Value, payload: &Value) -> String {
        let curve = if matches!(to, SealingKey::P256(_)) { Curve::P256 } else { Curve::X25519 };
        let Recipient { private: sender, public: epk } = Recipient::on(curve).unwrap();
        let mut header = header.clone();
        header["epk"] = epk.to_json();
        let part = |name: &str| URL_SAFE_NO_PAD.decode(header[name].as_str().unwrap()).unwrap();
        let peer = UnparsedPublicKey::new(to.algorithm(), to.bytes());
        let derived = |shared: &[u8]| Ok::<_, ()>(derive(shared, &part("apu"), &part("apv")));
        let key = agree_ephemeral(sender, &peer, (), derived).unwrap();
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).unwrap());
        let protected = base64url(header.to_string());
        let mut text = payload.to_string().into_bytes();
        let nonce = Nonce::assume_unique_for_key([5; 12]);
        let aad = Aad::from(protected.as_bytes());
        key.seal_in_place_append_tag(nonce, aad, &mut text).unwrap();
        let (text, tag) = text.split_at(text.len() - TAG_LEN);
        format!("{protected}..{}.{}.{}", base64url([5; 12]), base64url(text), base64url(tag))
    }

    fn header() -> Value {
        json!({"alg": "ECDH-ES", "enc": "A256GCM", "apu": base64url("i-1"), "apv": base64url("nonce")})
    }

    #[test]
    fn a_delivery_is_opened_by_its_key_only() {
        let payload = json!({"maps": {"v": 3, "value": "k", "exp": 9}, "more": {"v": 1, "value": "x"}});
        for curve in [Curve::P256, Curve::X25519] {
            let recipient = Recipient::on(curve).unwrap();
            let jwe = sealed(&recipient.public_jwk(), &header(), &payload);
            let secrets = recipient.open(&jwe, "i-1").unwrap();
            assert_eq!((secrets["maps"].expose(), secrets["maps"].version, secrets["maps"].exp), ("k", 3, Some(9)));
            assert_eq!(secrets["more"].exp, None);
            assert!(!format!("{secrets:?}").contains("\"k\""));
            assert_eq!(Recipient::on(curve).unwrap().open(&jwe, "i-1"), Err(SecretError::Decrypt));
            assert_eq!(Recipient::on(curve).unwrap().open(&jwe, "i-2"), Err(SecretError::Party));
        }
    }

    #[test]
    fn a_key_on_another_curve_or_of_no_order_opens_nothing() {
        let of = |curve| Recipient::on(curve).unwrap();
        for (own, other) in [(Curve::P256, Curve::X25519), (Curve::X25519, Curve::P256)] {
            let jwe = sealed(&of(other).public_jwk(), &header(), &json!({}));
            assert_eq!(of(own).open(&jwe, "i-1"), Err(SecretError::Form));
        }
        // What a coordinate of small order agrees on is known to everybody (RFC 7748 section 6.1).
        let mut header = header();
        header["epk"] = SealingKey::X25519([0; 32]).to_json();
        let jwe = format!("{}..{}.AA.{}", base64url(header.to_string()), base64url([5; 12]), base64url([0; 16]));
        assert_eq!(of(Curve::X25519).open(&jwe, "i-1"), Err(SecretError::Form));
    }

    #[test]
    fn other_forms_are_refused() {
        for (name, value) in
            [("alg", json!("ECDH-ES+A256KW")), ("enc", json!("A128GCM")), ("zip", json!("DEF")), ("crit", json!(["x"]))]
        {
            let recipient = Recipient::new().unwrap();
            let mut header = header();
            header[name] = value;
            let jwe = sealed(&recipient.public_jwk(), &header, &json!({}));
            assert_eq!(recipient.open(&jwe, "i-1"), Err(SecretError::Form), "{name}");
        }
        for text in ["", "a.b.c.d", "e30..AA.AA.AA", "e30.AA.AA.AA.AA"] {
            assert_eq!(Recipient::new().unwrap().open(text, "i-1"), Err(SecretError::Form), "{text}");
        }
        let recipient = Recipient::new().unwrap();
        let jwe = sealed(&recipient.public_jwk(), &header(), &json!({"maps": "k"}));
        assert_eq!(recipient.open(&jwe, "i-1"), Err(SecretError::Payload));
    }

    #[test]
    fn the_derivation_is_that_of_rfc_7518() {
        // Appendix C, with its key of 128 bits: the first half of what one round gives for its input.
        let shared = [
            158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110, 163, 218, 128,
            106, 72, 246, 218, 167, 121, 140, 254, 144, 196,
        ];
        let mut input = vec![0, 0, 0, 1];
        input.extend(shared);
        for part in [&b"A128GCM"[..], b"Alice", b"Bob"] {
            input.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            input.extend(part);
        }
        input.extend(128u32.to_be_bytes());
        assert_eq!(base64url(&sha256(&input)[..16]), "VqqN6vgjbSBcIijNcacQGg");
        // The same function with another name and length is what `derive` computes.
        let mut ours = input;
        let end = ours.len() - 4;
        ours[end..].copy_from_slice(&256u32.to_be_bytes());
        let at = ours.windows(7).position(|window| window == b"A128GCM").unwrap();
        ours[at..at + 7].copy_from_slice(b"A256GCM");
        assert_eq!(*derive(&shared, b"Alice", b"Bob"), sha256(&ours));
    }
}
