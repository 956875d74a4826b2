//! Configurations as an app reads them, and as somebody in between would like it to.

use super::*;
use crate::jose::{SigningAlg, base64url_decode, base64url_encode};
use proptest::prelude::*;

const NOW: i64 = 1_795_219_200;

struct World {
    root: SigningKey,
    key: SigningKey,
    roots: KeySet,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

fn world() -> World {
    let root = SigningKey::generate(SigningAlg::Es256).unwrap();
    let key = SigningKey::generate(SigningAlg::Es256).unwrap();
    let spare = SigningKey::generate(SigningAlg::Es256).unwrap();
    let roots = json!({ "keys": [root.public_jwk(), spare.public_jwk()] }).to_string();
    World { roots: KeySet::from_published(roots.as_bytes()).unwrap(), root, key }
}

fn config() -> AppConfig {
    AppConfig {
        v: 1,
        app: "chat-ios".to_owned(),
        seq: 7,
        iat: NOW - 60,
        exp: NOW + 86_400,
        min_sdk: Some("1.0.0".to_owned()),
        hosts: vec![PinnedHost {
            host: "ai.example.com".to_owned(),
            enforce: Enforce::Report,
            pins: vec![Pin { spki_sha256: pin_text(&[7; 32]), role: Role::Current, nbf: None, exp: Some(NOW) }],
        }],
        endpoints: BTreeMap::from([("api".to_owned(), "https://ai.example.com".to_owned())]),
        refresh_after: 3600,
        kill: Kill::default(),
    }
}

impl World {
    fn delegation(&self) -> String {
        let times = (at(NOW - 100), at(NOW - 100), at(NOW + 90 * 86_400));
        delegate(&self.root, self.key.public_jwk(), times).unwrap()
    }

    fn signed(&self, config: &AppConfig) -> String {
        sign(&self.key, &self.delegation(), config).unwrap()
    }

    fn rules(&self) -> Rules<'_> {
        Rules { roots: &self.roots, app: "chat-ios", now: at(NOW), seen: None }
    }

    fn refused(&self, text: &str) -> &'static str {
        verify(text, &self.rules()).map_or_else(ConfigError::reason, |_| "accepted")
    }
}

#[test]
fn what_is_signed_under_a_delegation_is_read_back() {
    let world = world();
    let text = world.signed(&config());
    let verified = verify(&text, &world.rules()).unwrap();
    assert_eq!(verified.config, config());
    assert_eq!(verified.delegation.root, world.root.kid());
    assert_eq!(verified.delegation.key.thumbprint_text(), world.key.kid());
    let payload: Value = serde_json::from_slice(&base64url_decode(text.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert_eq!(payload["hosts"][0]["enforce"], "report");
    assert_eq!(payload["kill"], json!({ "pinning": false, "attest": false }));
    let strict =
        AppConfig { hosts: vec![PinnedHost { enforce: Enforce::Yes, ..config().hosts[0].clone() }], ..config() };
    assert_eq!(serde_json::to_value(&strict).unwrap()["hosts"][0]["enforce"], true);
    assert!(!config().hosts[0].pins[0].counts(at(NOW)) && config().hosts[0].pins[0].counts(at(NOW - 1)));
}

#[test]
fn a_configuration_by_anybody_else_is_refused() {
    let world = world();
    let stranger = SigningKey::generate(SigningAlg::Es256).unwrap();
    let times = (at(NOW - 100), at(NOW - 100), at(NOW + 90 * 86_400));
    // A key of somebody's own, under the genuine delegation; under one by itself; under none.
    assert_eq!(world.refused(&sign(&stranger, &world.delegation(), &config()).unwrap()), "config_other_key");
    let own = delegate(&stranger, stranger.public_jwk(), times).unwrap();
    assert_eq!(world.refused(&sign(&stranger, &own, &config()).unwrap()), "delegation_unknown_root");
    assert_eq!(world.refused(&stranger.sign(CONFIG_TYP, &config()).unwrap()), "delegation_missing");
    // A root key's name on somebody else's delegation.
    let mut parts: Vec<String> = own.split('.').map(str::to_owned).collect();
    parts[0] = base64url_encode(json!({"alg": "ES256", "typ": DELEGATION_TYP, "kid": world.root.kid()}).to_string());
    assert_eq!(world.refused(&sign(&stranger, &parts.join("."), &config()).unwrap()), "delegation_signature");
    // The root key signs delegations, not configurations; an access token is neither.
    assert_eq!(world.refused(&sign(&world.root, &world.delegation(), &config()).unwrap()), "config_other_key");
    assert_eq!(world.refused(&world.key.sign("at+jwt", &config()).unwrap()), "wrong_typ");
    let token = world.root.sign("at+jwt", &json!({})).unwrap();
    assert_eq!(world.refused(&sign(&world.key, &token, &config()).unwrap()), "delegation_malformed");
    assert_eq!(world.refused(""), "not_compact_jws");
}

#[test]
fn a_changed_byte_is_refused() {
    let world = world();
    let text = world.signed(&config());
    let mut parts: Vec<String> = text.split('.').map(str::to_owned).collect();
    parts[1] = base64url_encode(serde_json::to_string(&AppConfig { seq: 8, ..config() }).unwrap());
    assert_eq!(world.refused(&parts.join(".")), "bad_signature");
}

#[test]
fn time_sequence_and_app_are_compared() {
    let world = world();
    assert_eq!(world.refused(&world.signed(&AppConfig { exp: NOW, ..config() })), "config_expired");
    assert_eq!(world.refused(&world.signed(&AppConfig { app: "other".into(), ..config() })), "config_wrong_app");
    assert_eq!(world.refused(&world.signed(&AppConfig { v: 2, ..config() })), "config_version");
    assert_eq!(world.refused(&world.signed(&AppConfig { iat: NOW - 101, ..config() })), "delegation_time");
    assert_eq!(world.refused(&world.signed(&AppConfig { exp: NOW + 91 * 86_400, ..config() })), "delegation_time");
    let text = world.signed(&config());
    let with = |seq, delegated_at| Rules { seen: Some(Seen { seq, delegated_at }), ..world.rules() };
    assert!(verify(&text, &with(7, NOW - 100)).is_ok());
    assert_eq!(verify(&text, &with(8, 0)).unwrap_err(), ConfigError::RolledBack);
    assert_eq!(verify(&text, &with(1, NOW)).unwrap_err(), ConfigError::DelegationReplaced);
}

#[test]
fn a_delegation_that_lasts_too_long_is_refused() {
    let world = world();
    let refused = |nbf: i64, days: i64| {
        let text = delegate(&world.root, world.key.public_jwk(), (at(NOW), at(nbf), at(NOW + days * 86_400))).unwrap();
        verify_delegation(&text, &world.roots).err()
    };
    assert_eq!(refused(NOW - 300, 90), None);
    assert_eq!(refused(NOW, 92), Some(ConfigError::DelegationTime));
    assert_eq!(refused(NOW + 30 * 86_400, 120), Some(ConfigError::DelegationTime), "counted from when it was made");
    assert_eq!(refused(0, 1), Some(ConfigError::DelegationTime));
}

#[test]
fn only_p_256_is_delegated_to() {
    let world = world();
    let times = (at(NOW - 100), at(NOW - 100), at(NOW + 100));
    let claims = |jwk: &Value| json!({ "jwk": jwk, "iat": NOW, "nbf": times.1.as_secs(), "exp": times.2.as_secs() });
    for (jwk, reason) in [
        (SigningKey::generate(SigningAlg::EdDsa).unwrap().public_jwk().clone(), "unsupported_alg"),
        (json!({"kty": "oct", "k": "AAAA"}), "private_key"),
        (json!("key"), "malformed_key"),
    ] {
        let text = world.root.sign(DELEGATION_TYP, &claims(&jwk)).unwrap();
        assert_eq!(verify_delegation(&text, &world.roots).unwrap_err().reason(), reason);
    }
    let cut = world.root.sign(DELEGATION_TYP, &json!({ "jwk": world.key.public_jwk(), "iat": 1, "nbf": 1 })).unwrap();
    assert_eq!(verify_delegation(&cut, &world.roots).unwrap_err(), ConfigError::Delegation);
}

#[test]
fn payloads_that_are_none_are_refused() {
    let whole = serde_json::to_value(config()).unwrap();
    for member in ["app", "seq", "iat", "exp", "hosts", "refresh_after"] {
        let mut cut = whole.clone();
        cut.as_object_mut().unwrap().remove(member);
        assert_eq!(read(cut.to_string().as_bytes()).unwrap_err(), ConfigError::Payload, "{member}");
    }
    for enforce in [json!(false), json!("no"), json!(1)] {
        let mut wrong = whole.clone();
        wrong["hosts"][0]["enforce"] = enforce;
        assert_eq!(read(wrong.to_string().as_bytes()).unwrap_err(), ConfigError::Payload);
    }
    let twice = whole.to_string().replacen('{', "{\"seq\":1,", 1);
    assert_eq!(read(twice.as_bytes()).unwrap_err(), ConfigError::Payload);
    let mut later = whole;
    later["something"] = json!("new");
    assert_eq!(read(later.to_string().as_bytes()).unwrap(), config());
}

#[test]
fn a_key_has_one_pin_wherever_it_is_read_from() {
    for algorithm in
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256]
    {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec!["ai.example.com".to_owned()]).unwrap();
        let certificate = params.self_signed(&pair).unwrap();
        let request = params.serialize_request(&pair).unwrap().pem().unwrap();
        let pin = pin_of_certificate(certificate.der()).unwrap();
        assert_eq!(pin, sha256_of(&pair));
        for pem in [certificate.pem(), request, pair.public_key_pem(), pair.serialize_pem()] {
            assert_eq!(pin_of_pem(pem.as_bytes()), Ok(pin), "{pem}");
            assert_eq!(pin_of_pem(format!("subject=CN = a\n{pem}\nmore").as_bytes()), Ok(pin));
        }
    }
}

fn sha256_of(pair: &rcgen::KeyPair) -> [u8; 32] {
    crate::jose::sha256(&rcgen::PublicKeyData::subject_public_key_info(pair))
}

#[test]
fn what_is_no_key_has_no_pin() {
    let block = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    for (text, error) in [
        (String::new(), PinError::NoPem),
        ("-----BEGIN CERTIFICATE-----\nAAAA".to_owned(), PinError::NoPem),
        (block("CERTIFICATE", "!"), PinError::NoPem),
        (block("CERTIFICATE", "AAAA"), PinError::Malformed),
        (block("CERTIFICATE REQUEST", "AAAA"), PinError::Malformed),
        (block("PUBLIC KEY", "AAAA"), PinError::Malformed),
        (block("PRIVATE KEY", "AAAA"), PinError::Malformed),
        (block("OPENSSH PRIVATE KEY", "AAAA"), PinError::Kind),
        ("a".repeat(MAX_PEM_LEN + 1), PinError::TooLong),
    ] {
        assert_eq!(pin_of_pem(text.as_bytes()), Err(error));
    }
    assert_eq!(pin_of_certificate(&vec![0; crate::mtls::MAX_CERTIFICATE_LEN + 1]), Err(PinError::TooLong));
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in ".{0,300}") {
        let world = world();
        prop_assert!(verify(&text, &world.rules()).is_err());
        prop_assert!(verify_delegation(&text, &world.roots).is_err());
        let _ = pin_of_pem(text.as_bytes());
    }

    #[test]
    fn any_payload_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let _ = pin_of_certificate(&bytes);
    }

    #[test]
    fn a_flipped_bit_never_holds(bit in 0usize..4000) {
        let world = world();
        let mut bytes = world.signed(&config()).into_bytes();
        let index = (bit / 8) % bytes.len();
        bytes[index] ^= 1 << (bit % 8);
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert!(verify(&text, &world.rules()).is_err());
        }
    }
}
