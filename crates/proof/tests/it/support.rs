//! Keys made on the spot, tokens of any shape, and an issuer to try them on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, PqdsaKeyPair, RsaKeyPair};
use aws_lc_rs::{hmac, rsa};
use base::{Name, Timestamp};
use proof::jose::{KeySet, base64url_decode, base64url_encode};
use proof::token::{CacheLimits, Issuer, IssuerRules, Issuers, KeySource, StaticKeys, TokenError, VerifiedToken};
use serde_json::{Value, json};

/// The moment all tests happen at.
pub(crate) const NOW: i64 = 1_800_000_000;

pub(crate) const ISS: &str = "https://id.example.com/";
pub(crate) const AUD: &str = "https://ai.example.com";

pub(crate) fn now() -> Timestamp {
    Timestamp::from_secs(NOW)
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A private key of any kind.
pub(crate) enum TestKey {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
    Pq(PqdsaKeyPair, &'static str),
    Oct(Vec<u8>),
}

impl TestKey {
    pub(crate) fn p256() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&sig::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), "P-256")
    }

    pub(crate) fn p384() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&sig::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(), "P-384")
    }

    pub(crate) fn p521() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&sig::ECDSA_P521_SHA512_FIXED_SIGNING).unwrap(), "P-521")
    }

    pub(crate) fn ed25519() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn ml_dsa_44() -> Self {
        Self::Pq(PqdsaKeyPair::generate(&sig::ML_DSA_44_SIGNING).unwrap(), "ML-DSA-44")
    }

    pub(crate) fn ml_dsa_65() -> Self {
        Self::Pq(PqdsaKeyPair::generate(&sig::ML_DSA_65_SIGNING).unwrap(), "ML-DSA-65")
    }

    /// One RSA key for all tests: making one is slow.
    pub(crate) fn rsa() -> &'static Self {
        static KEY: OnceLock<TestKey> = OnceLock::new();
        KEY.get_or_init(|| Self::Rsa(RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap()))
    }

    pub(crate) fn oct(bytes: &[u8]) -> Self {
        Self::Oct(bytes.to_vec())
    }

    /// The public key as a JWK without kid, alg or use.
    pub(crate) fn jwk(&self) -> Value {
        match self {
            Self::Rsa(pair) => {
                let (n, e) = rsa_numbers(pair.public_key().as_ref());
                json!({"kty": "RSA", "n": base64url_encode(n), "e": base64url_encode(e)})
            }
            Self::Ec(pair, crv) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": crv, "x": base64url_encode(x), "y": base64url_encode(y)})
            }
            Self::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url_encode(pair.public_key())}),
            Self::Pq(pair, alg) => json!({"kty": "AKP", "alg": alg, "pub": base64url_encode(pair.public_key())}),
            Self::Oct(bytes) => json!({"kty": "oct", "k": base64url_encode(bytes)}),
        }
    }

    /// The public key with a kid and more members.
    pub(crate) fn jwk_with(&self, more: &Value) -> Value {
        let mut jwk = self.jwk();
        for (key, value) in more.as_object().unwrap() {
            jwk[key] = value.clone();
        }
        jwk
    }

    /// The signature of `alg` over `input`, whether or not the key ought to.
    pub(crate) fn signature(&self, alg: &str, input: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => {
                let padding: &'static dyn sig::RsaEncoding = match alg {
                    "RS384" => &sig::RSA_PKCS1_SHA384,
                    "RS512" => &sig::RSA_PKCS1_SHA512,
                    "PS256" => &sig::RSA_PSS_SHA256,
                    "PS384" => &sig::RSA_PSS_SHA384,
                    "PS512" => &sig::RSA_PSS_SHA512,
                    _ => &sig::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), input, &mut out).unwrap();
                out
            }
            Self::Ec(pair, _) => pair.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(input).as_ref().to_vec(),
            Self::Pq(pair, _) => {
                let mut out = vec![0; pair.algorithm().signature_len()];
                let len = pair.sign(input, &mut out).unwrap();
                out.truncate(len);
                out
            }
            Self::Oct(bytes) => {
                let mac = match alg {
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                hmac::sign(&hmac::Key::new(mac, bytes), input).as_ref().to_vec()
            }
        }
    }

    /// A compact token of any header and payload text, signed as the header's `alg` says.
    pub(crate) fn token(&self, header: &str, payload: impl AsRef<[u8]>) -> String {
        let input = format!("{}.{}", base64url_encode(header), base64url_encode(payload));
        let alg = serde_json::from_str::<Value>(header).ok();
        let alg = alg.as_ref().and_then(|header| header["alg"].as_str()).unwrap_or("");
        format!("{input}.{}", base64url_encode(self.signature(alg, input.as_bytes())))
    }
}

/// Modulus and exponent out of `RSAPublicKey` DER of a 2048-bit key.
pub(crate) fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    let modulus = &der[9..9 + 256];
    (modulus, &der[der.len() - 3..])
}

/// Make the other signature out of an ECDSA signature on P-256, one that is valid too: s becomes n - s.
pub(crate) fn negate_s(signature: &mut [u8]) {
    let order = base64url_decode("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE").unwrap();
    let mut borrow = 0i32;
    for (order, s) in order.iter().zip(&mut signature[32..]).rev() {
        let digit = i32::from(*order) - i32::from(*s) - borrow;
        borrow = i32::from(digit < 0);
        *s = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
}

/// Claims every rule accepts.
pub(crate) fn claims() -> Value {
    json!({"iss": ISS, "aud": AUD, "sub": "user-1", "exp": NOW + 300, "iat": NOW, "client_id": "app",
           "jti": "j-1", "scope": "chat read"})
}

/// `claims()` with members replaced, or taken out where the value is null.
pub(crate) fn claims_with(more: &Value) -> Value {
    changed(claims(), more)
}

/// An object with members replaced, or taken out where the value is null.
pub(crate) fn changed(mut of: Value, more: &Value) -> Value {
    let object = of.as_object_mut().unwrap();
    for (key, value) in more.as_object().unwrap() {
        object.remove(key);
        if !value.is_null() {
            object.insert(key.clone(), value.clone());
        }
    }
    of
}

/// A key source whose set a test can swap.
#[derive(Default)]
pub(crate) struct Swappable {
    keys: Mutex<Option<Arc<KeySet>>>,
    generation: AtomicU64,
}

impl Swappable {
    pub(crate) fn set(&self, jwks: &Value) {
        let keys = KeySet::from_published(jwks.to_string().as_bytes()).unwrap();
        *self.keys.lock().unwrap() = Some(Arc::new(keys));
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl KeySource for Swappable {
    fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.lock().unwrap().clone()
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

pub(crate) fn set(keys: &[Value]) -> KeySet {
    KeySet::from_published(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

pub(crate) fn fixed(keys: &[Value]) -> Arc<dyn KeySource> {
    Arc::new(StaticKeys::new(set(keys)))
}

pub(crate) fn rules() -> IssuerRules {
    IssuerRules::new(name("corp"), ISS, vec![AUD.into()])
}

pub(crate) fn issuers(list: Vec<Issuer>) -> Issuers {
    Issuers::new(list, CacheLimits::default(), 1).unwrap()
}

/// An issuer with one ES256 key `k1`, and what is needed to attack it.
pub(crate) struct World {
    pub(crate) key: TestKey,
    pub(crate) issuers: Issuers,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut IssuerRules)) -> Self {
        let key = TestKey::p256();
        let mut rules = rules();
        change(&mut rules);
        let keys = fixed(&[key.jwk_with(&json!({"kid": "k1", "alg": "ES256", "use": "sig"}))]);
        Self { key, issuers: issuers(vec![Issuer::new(rules, keys)]) }
    }

    pub(crate) fn good(&self) -> String {
        self.sign(&claims())
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(r#"{"alg":"ES256","kid":"k1","typ":"at+jwt"}"#, claims.to_string())
    }

    pub(crate) fn sign_with(&self, header: &str, payload: impl AsRef<[u8]>) -> String {
        self.key.token(header, payload)
    }

    pub(crate) fn verify(&self, token: &str) -> Result<Arc<VerifiedToken>, TokenError> {
        self.issuers.verify(token, now())
    }

    /// The stable code of the refusal, or `ok`.
    pub(crate) fn verdict(&self, token: &str) -> &'static str {
        self.verify(token).map_or_else(|error| error.reason(), |_| "ok")
    }

    /// Every token is refused, whatever the reason, and the good one still passes afterwards.
    pub(crate) fn refuses_all<T: AsRef<str>>(&self, tokens: impl IntoIterator<Item = T>) {
        for token in tokens {
            let token = token.as_ref();
            let shown: String = token.chars().take(300).collect();
            assert!(self.verify(token).is_err(), "accepted: {shown}");
            assert!(self.verify(token).is_err(), "accepted the second time: {shown}");
        }
        assert_eq!(self.verdict(&self.good()), "ok", "the good token after the attack");
    }

    /// Each of these headers around good claims is refused.
    pub(crate) fn refuses_headers<T: AsRef<str>>(&self, headers: impl IntoIterator<Item = T>) {
        self.refuses_all(headers.into_iter().map(|header| self.sign_with(header.as_ref(), claims().to_string())));
    }

    /// Each of these changes to good claims is refused.
    pub(crate) fn refuses_claims(&self, changes: impl IntoIterator<Item = Value>) {
        self.refuses_all(changes.into_iter().map(|change| self.sign(&claims_with(&change))));
    }
}
