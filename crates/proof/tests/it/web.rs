//! What browsers bring: passkeys and work.

use std::time::Duration;

use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use aws_lc_rs::{rand::SystemRandom, rsa};
use base::{SeededRng, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proof::attest::altcha::{AltchaError, AltchaKey, MAX_COST, Solved, Work};
use proof::attest::webauthn::{
    Assertion, CredentialKey, Registration, RelyingParty, WebAuthnError, verify_assertion, verify_registration,
};
use proof::attest::{Evidence, Level};
use proof::jose::base64url_encode;
use serde_json::{Value, json};

const CHALLENGE: &[u8] = b"a challenge of ours";
const SITE: RelyingParty<'_> =
    RelyingParty { id: "example.com", origins: &["https://app.example.com"], user_verification: true };

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

/// A security key made on the spot.
enum Key {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Key {
    fn all() -> [Self; 3] {
        [
            Self::Ec(EcdsaKeyPair::generate(&sig::ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()),
            Self::Ed(Ed25519KeyPair::generate().unwrap()),
            Self::Rsa(RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap()),
        ]
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&sig::RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    fn cose(&self) -> Vec<u8> {
        match self {
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                let head = [0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
                [&head[..], &point[1..33], &[0x22, 0x58, 0x20], &point[33..]].concat()
            }
            Self::Ed(key) => {
                let head = [0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20];
                [&head[..], key.public_key().as_ref()].concat()
            }
            Self::Rsa(key) => {
                let n = key.public_key().modulus().big_endian_without_leading_zero().to_vec();
                let head = [0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20, 0x59, 0x01, 0x00];
                [&head[..], &n, &[0x21, 0x43, 0x01, 0x00, 0x01]].concat()
            }
        }
    }

    fn auth_data(&self, flags: u8) -> Vec<u8> {
        let fixed = [&sha256(b"example.com")[..], &[flags, 0, 0, 0, 0]].concat();
        if flags & 0x40 == 0 { fixed } else { [&fixed[..], &[0; 16], &[0, 3], b"id!", &self.cose()].concat() }
    }
}

fn client_data(ceremony: &str) -> Value {
    json!({"type": ceremony, "challenge": base64url_encode(CHALLENGE), "origin": "https://app.example.com",
           "crossOrigin": false, "other_keys_can_be_added_here": "do not compare"})
}

fn text(text: &str) -> Vec<u8> {
    [&[0x60 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&[0x59][..], &u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn object(format: &str, statement: &[u8], auth_data: &[u8]) -> Vec<u8> {
    let members = [text("fmt"), text(format), text("attStmt"), statement.to_vec(), text("authData"), string(auth_data)];
    [vec![0xa3], members.concat()].concat()
}

fn registered(client: &Value, attestation: &[u8]) -> Result<proof::attest::webauthn::Credential, WebAuthnError> {
    let client = client.to_string();
    verify_registration(&Registration { client_data: client.as_bytes(), attestation }, &SITE, CHALLENGE)
}

fn register(key: &Key) -> CredentialKey {
    registered(&client_data("webauthn.create"), &object("none", &[0xa0], &key.auth_data(0x45))).unwrap().key
}

#[test]
fn a_passkey_of_each_algorithm_is_registered_stored_and_used() {
    for key in Key::all() {
        let client = client_data("webauthn.create");
        let credential = registered(&client, &object("none", &[0xa0], &key.auth_data(0x45))).unwrap();
        assert_eq!((credential.id.as_slice(), credential.counter), (&b"id!"[..], 0));
        assert_eq!((credential.summary.evidence, credential.summary.level), (Evidence::WebAuthn, Level::Web));
        let stored = CredentialKey::from_jwk(&credential.key.to_jwk()).unwrap();
        assert_eq!(stored, credential.key);
        let client = client_data("webauthn.get").to_string();
        let auth_data = key.auth_data(0x05);
        let signature = key.sign(&[&auth_data[..], &sha256(client.as_bytes())].concat());
        let assertion = Assertion { client_data: client.as_bytes(), auth_data: &auth_data, signature: &signature };
        assert_eq!(verify_assertion(&assertion, (&stored, 0), &SITE, CHALLENGE).unwrap().counter, 0);
        let wrong = Assertion { signature: &signature[1..], ..assertion };
        assert_eq!(verify_assertion(&wrong, (&stored, 0), &SITE, CHALLENGE), Err(WebAuthnError::Signature));
        for other in Key::all() {
            let verdict = verify_assertion(&assertion, (&register(&other), 0), &SITE, CHALLENGE);
            assert_eq!(verdict, Err(WebAuthnError::Signature));
        }
    }
}

#[test]
fn an_attestation_by_the_key_itself_must_hold_and_a_makers_is_not_taken() {
    let [key, other, _] = Key::all();
    let (client, auth_data) = (client_data("webauthn.create"), key.auth_data(0x45));
    let signed = [&auth_data[..], &sha256(client.to_string().as_bytes())].concat();
    let statement =
        |alg: u8, signature: &[u8]| [vec![0xa2], text("alg"), vec![alg], text("sig"), string(signature)].concat();
    let by = |statement: &[u8]| registered(&client, &object("packed", statement, &auth_data)).map(drop);
    assert_eq!(by(&statement(0x26, &key.sign(&signed))), Ok(()));
    assert_eq!(by(&statement(0x27, &key.sign(&signed))), Err(WebAuthnError::SelfAttestation));
    assert_eq!(by(&statement(0x26, &other.sign(&signed))), Err(WebAuthnError::SelfAttestation));
    assert_eq!(by(&[0xa0]), Err(WebAuthnError::SelfAttestation));
    let chain = [vec![0xa1], text("x5c"), vec![0x80]].concat();
    assert_eq!(by(&chain), Err(WebAuthnError::Format));
    let form = |format: &str, statement: &[u8]| registered(&client, &object(format, statement, &auth_data)).map(drop);
    assert_eq!(form("none", &chain), Err(WebAuthnError::Format));
    assert_eq!(form("fido-u2f", &chain), Err(WebAuthnError::Format));
}

#[test]
fn client_data_is_for_one_ceremony_challenge_and_origin() {
    let key = &Key::all()[0];
    let attestation = object("none", &[0xa0], &key.auth_data(0x45));
    let with = |name: &str, value: Value| {
        let mut client = client_data("webauthn.create");
        client[name] = value;
        registered(&client, &attestation).map(drop)
    };
    assert_eq!(with("type", json!("webauthn.get")), Err(WebAuthnError::Type));
    assert_eq!(with("type", json!(1)), Err(WebAuthnError::Type));
    assert_eq!(with("challenge", json!(base64url_encode(b"other"))), Err(WebAuthnError::Challenge));
    assert_eq!(with("challenge", json!(STANDARD.encode(CHALLENGE))), Err(WebAuthnError::Challenge));
    for origin in
        ["https://app.example.com/", "https://example.com", "http://app.example.com", "https://APP.example.com"]
    {
        assert_eq!(with("origin", json!(origin)), Err(WebAuthnError::Origin), "{origin}");
    }
    assert_eq!(with("crossOrigin", json!(true)), Err(WebAuthnError::CrossOrigin));
    assert_eq!(with("crossOrigin", json!("false")), Err(WebAuthnError::CrossOrigin));
    assert_eq!(with("topOrigin", json!("https://app.example.com")), Err(WebAuthnError::CrossOrigin));
    let twice = client_data("webauthn.create").to_string().replacen('{', "{\"type\":\"webauthn.create\",", 1);
    let registration = Registration { client_data: twice.as_bytes(), attestation: &attestation };
    let error = verify_registration(&registration, &SITE, CHALLENGE).unwrap_err();
    assert_eq!(error.reason(), "duplicate_member");
    let empty = verify_registration(&registration, &SITE, b"").unwrap_err();
    assert_eq!(empty.reason(), "duplicate_member");
}

#[test]
fn flags_must_say_what_is_there_and_that_somebody_was() {
    let key = &Key::all()[0];
    let client = client_data("webauthn.create");
    let of = |auth_data: &[u8]| registered(&client, &object("none", &[0xa0], auth_data)).map(drop);
    assert_eq!(of(&key.auth_data(0x44)), Err(WebAuthnError::UserPresence));
    assert_eq!(of(&key.auth_data(0x41)), Err(WebAuthnError::UserVerification));
    assert_eq!(of(&key.auth_data(0x55)), Err(WebAuthnError::Flags));
    assert_eq!(of(&key.auth_data(0x5d)), Ok(()));
    assert_eq!(of(&key.auth_data(0x05)), Err(WebAuthnError::AuthData));
    let good = key.auth_data(0x45);
    assert_eq!(of(&[&good[..], &[0xa0]].concat()), Err(WebAuthnError::AuthData));
    let extended = key.auth_data(0xc5);
    assert_eq!(of(&extended), Err(WebAuthnError::AuthData));
    assert_eq!(of(&[&extended[..], &[0xa0]].concat()), Ok(()));
    assert_eq!(of(&[&extended[..], &[0x80]].concat()), Err(WebAuthnError::AuthData));
    for length in 0..good.len() {
        assert!(of(&good[..length]).is_err());
    }
    let mut other = good.clone();
    other[0] ^= 1;
    assert_eq!(of(&other), Err(WebAuthnError::RelyingParty));
    // ES384, and a point that is not on the curve.
    let at = good.len() - 77 + 4;
    let mut es384 = good.clone();
    es384[at] = 0x27;
    assert_eq!(of(&es384), Err(WebAuthnError::Key));
    let mut off_curve = good;
    let last = off_curve.len() - 1;
    off_curve[last] ^= 1;
    assert_eq!(of(&off_curve), Err(WebAuthnError::Key));
}

#[test]
fn a_counter_that_counts_must_rise() {
    let key = &Key::all()[0];
    let stored = register(key);
    let client = client_data("webauthn.get").to_string();
    let judge = |now: u32, before: u32| {
        let mut auth_data = key.auth_data(0x05);
        auth_data[33..37].copy_from_slice(&now.to_be_bytes());
        let signature = key.sign(&[&auth_data[..], &sha256(client.as_bytes())].concat());
        let assertion = Assertion { client_data: client.as_bytes(), auth_data: &auth_data, signature: &signature };
        verify_assertion(&assertion, (&stored, before), &SITE, CHALLENGE).map(|asserted| asserted.counter)
    };
    assert_eq!(judge(8, 7), Ok(8));
    for (now, before) in [(7, 7), (6, 7), (0, 7)] {
        assert_eq!(judge(now, before), Err(WebAuthnError::Counter));
    }
    assert_eq!(judge(0, 0), Ok(0));
}

const SEARCH: Work = Work::Search { most: 2_000 };
const DERIVE: Work = Work::Derive { cost: 1_000, zeros: 1 };

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn altcha() -> AltchaKey {
    AltchaKey::new(&[7; 32])
}

fn challenge(work: Work) -> Value {
    altcha().challenge(work, b"app", &SeededRng::new(7), (now(), Duration::from_mins(2))).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// What the widget does, and what it sends.
fn solve(challenge: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    if let Some(most) = challenge["maxnumber"].as_u64() {
        let (salt, wanted) = (text(&challenge["salt"]), text(&challenge["challenge"]));
        let number = (0..=most).find(|number| hex(&sha256(format!("{salt}{number}").as_bytes())) == wanted).unwrap();
        return json!({"algorithm": "SHA-256", "challenge": wanted, "number": number, "salt": salt,
                      "signature": challenge["signature"], "took": 12});
    }
    let parameters = &challenge["parameters"];
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let (nonce, salt) = (unhex(&text(&parameters["nonce"])), unhex(&text(&parameters["salt"])));
    let cost = u32::try_from(parameters["cost"].as_u64().unwrap()).unwrap().try_into().unwrap();
    let prefix = text(&parameters["keyPrefix"]);
    let key = |counter: u32| {
        let mut key = [0; 32];
        let password = [&nonce[..], &counter.to_be_bytes()].concat();
        aws_lc_rs::pbkdf2::derive(aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256, cost, &salt, &password, &mut key);
        hex(&key)
    };
    let counter = (0..100_000).find(|counter| key(*counter).starts_with(&prefix)).unwrap();
    json!({"challenge": challenge, "solution": {"counter": counter, "derivedKey": key(counter), "time": 1.5}})
}

fn verified(solution: &Value) -> Result<Solved, AltchaError> {
    altcha().verify(&STANDARD.encode(solution.to_string()), b"app", now())
}

#[test]
fn work_of_both_versions_is_done_and_verified() {
    for work in [SEARCH, DERIVE] {
        let solution = solve(&challenge(work));
        let solved = verified(&solution).unwrap();
        assert_eq!(solved.expires, now().plus(Duration::from_mins(2)));
        assert_eq!((solved.summary.evidence, solved.summary.level), (Evidence::Altcha, Level::Web));
        // The same challenge is the same, however its solution is written.
        assert_eq!(verified(&solution).unwrap().id, solved.id);
        let payload = STANDARD.encode(solution.to_string());
        let judged = |key: &AltchaKey, context: &[u8], at| key.verify(&payload, context, at).map(drop);
        assert_eq!(judged(&altcha(), b"other", now()), Err(AltchaError::Context));
        assert_eq!(judged(&altcha(), b"app", solved.expires), Err(AltchaError::Expired));
        assert_eq!(judged(&AltchaKey::new(&[8; 32]), b"app", now()), Err(AltchaError::Signature));
    }
}

#[test]
fn nothing_about_a_search_can_be_changed() {
    let good = solve(&challenge(SEARCH));
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        verified(&changed).map(drop).unwrap_err()
    };
    assert_eq!(with("number", json!(good["number"].as_u64().unwrap() + 1)), AltchaError::Solution);
    assert_eq!(with("number", json!(-1)), AltchaError::Member("number"));
    assert_eq!(with("number", json!(good["number"].to_string())), AltchaError::Member("number"));
    assert_eq!(with("algorithm", json!("SHA-1")), AltchaError::Algorithm);
    assert_eq!(with("more", json!(1)), AltchaError::Member("member"));
    let salt = good["salt"].as_str().unwrap();
    assert_eq!(with("salt", json!(salt.replace("expires=18", "expires=19"))), AltchaError::Solution);
    // Digits of the number moved into the salt hash to the same.
    let number = good["number"].to_string();
    if number.len() > 1 {
        let mut spliced = good.clone();
        spliced["salt"] = json!(format!("{salt}{}", &number[..1]));
        let rest: u64 = number[1..].parse().unwrap();
        if rest.to_string() == number[1..] {
            spliced["number"] = json!(rest);
            assert_eq!(verified(&spliced).map(drop), Err(AltchaError::Member("salt")));
        }
    }
    // A challenge of one's own, with the signature of ours.
    let own = format!("{}0", "00?expires=1900000000&ctx=x&");
    assert_eq!(with("challenge", json!(hex(&sha256(own.as_bytes())))), AltchaError::Signature);
}

#[test]
fn a_derived_key_counts_only_with_the_prefix_and_the_cost_that_were_asked_for() {
    let good = solve(&challenge(DERIVE));
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        verified(&changed).map(drop).unwrap_err()
    };
    assert_eq!(with("/challenge/parameters/cost", json!(1)), AltchaError::Signature);
    assert_eq!(with("/challenge/parameters/keyPrefix", json!("")), AltchaError::Signature);
    assert_eq!(with("/challenge/parameters/expiresAt", json!(1_900_000_000)), AltchaError::Signature);
    assert_eq!(with("/challenge/parameters/keyLength", json!(1)), AltchaError::Member("keyLength"));
    assert_eq!(with("/challenge/parameters/algorithm", json!("ARGON2ID")), AltchaError::Algorithm);
    assert_eq!(with("/solution/derivedKey", json!("00".repeat(32))), AltchaError::Solution);
    assert_eq!(with("/solution/counter", json!(u64::MAX)), AltchaError::Member("counter"));
    // The right key of a counter that is no solution.
    let mut unsigned = challenge(DERIVE);
    unsigned["parameters"]["keyPrefix"] = json!("ff");
    let mut other = solve(&unsigned);
    other["challenge"] = good["challenge"].clone();
    assert_eq!(verified(&other).map(drop), Err(AltchaError::Solution));
}

#[test]
fn what_is_no_payload_and_what_is_too_much_work_is_refused() {
    let judged = |payload: &str| altcha().verify(payload, b"app", now()).unwrap_err().reason();
    assert_eq!(judged("*"), "malformed_payload");
    assert_eq!(judged(""), "malformed_json");
    assert_eq!(judged(&STANDARD.encode("[]")), "not_an_object");
    assert_eq!(judged(&STANDARD.encode("{}")), "unexpected_members");
    assert_eq!(judged(&STANDARD.encode("{\"challenge\":{}}")), "unexpected_members");
    assert_eq!(judged(&"A".repeat(5_000)), "too_long");
    for work in [
        Work::Search { most: 10 },
        Work::Search { most: u32::MAX },
        Work::Derive { cost: 1, zeros: 1 },
        Work::Derive { cost: MAX_COST + 1, zeros: 1 },
        Work::Derive { cost: 1_000, zeros: 0 },
        Work::Derive { cost: 1_000, zeros: 4 },
    ] {
        let made = altcha().challenge(work, b"app", &SeededRng::new(7), (now(), Duration::from_mins(2)));
        assert_eq!(made.unwrap_err(), AltchaError::Work, "{work:?}");
    }
}
