//! What the targets of App Attest, `WebAuthn`, ALTCHA, of what installations send, and of what is sealed to them do with their
//! input. Included by the targets and by a test of the `proof` crate.

use base::Timestamp;
use proof::attest::altcha::{AltchaKey, Work};
use proof::attest::apple::{self, AssertionRules, AttestationRules, ClientData, Environment, ReceiptRules};
use proof::attest::cbor::{self, Limits};
use proof::attest::client_data::{ClientData as Said, Purpose};
use proof::attest::enrolment::{self, Enrolment, Refresh};
use proof::attest::inspect::{File, Options, inspect};
use proof::attest::possession::{InstanceKey, Wanted};
use proof::attest::seal::{EphemeralKey, Parties, SealError, seal};
use proof::attest::webauthn::{self, CredentialKey, RelyingParty};
use proof::attest::{Provenance, provenance};
use proof::jose::base64url_encode;
use serde_json::Value;
use vouchgate_client::secrets::{Curve, Recipient, SecretError};

/// What a target does with its input.
type Entry = fn(&[u8]);

/// Every target: its name, and what it does.
pub(crate) const ENTRIES: &[(&str, Entry)] = &[
    ("cbor", cbor),
    ("apple_attestation", attestation),
    ("apple_assertion", assertion),
    ("apple_receipt", receipt),
    ("webauthn", webauthn),
    ("altcha", altcha),
    ("evidence_file", evidence_file),
    ("client_data", client_data),
    ("enrolment", enrolment),
    ("seal", sealing),
    ("sealed_secrets", sealed_secrets),
];

const APP: &[&str] = &["ABCDE12345.com.example.gateway"];

/// The base point of P-256, as somebody's key.
const POINT: [u8; 65] = [
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03,
    0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe,
    0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce,
    0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

fn now() -> Timestamp {
    Timestamp::from_secs(1_795_219_200)
}

/// What is read strictly is read the same without strictness, and no shorter start of it is an item.
fn cbor(data: &[u8]) {
    let limits = Limits { bytes: 1 << 16, depth: 8, items: 256, shortest: true };
    let lenient = Limits { shortest: false, ..limits };
    if let Ok((value, rest)) = cbor::read_prefix(data, limits) {
        assert_eq!(cbor::read_prefix(data, lenient), Ok((value, rest)));
        let end = data.len() - rest.len();
        assert!(data.get(..end.saturating_sub(1)).is_some_and(|cut| cbor::read(cut, lenient).is_err()));
    }
}

/// Nobody but Apple can make one.
fn attestation(data: &[u8]) {
    let Ok(anchors) = apple::attestation_root() else { return };
    let rules = AttestationRules {
        anchors: &anchors,
        now: now(),
        app_ids: APP,
        environments: &[Environment::Production, Environment::Development],
        client_data: ClientData::Plain(b"client data"),
        key_id: None,
    };
    assert!(apple::verify_attestation(data, &rules).is_err());
    let limits = Limits { bytes: 1 << 16, depth: 8, items: 64, shortest: true };
    let Ok(object) = cbor::read(data, limits) else { return };
    if let Some(auth_data) = object.map().and_then(|map| map.get("authData")?.bytes()) {
        let _ = apple::look_at(auth_data, true);
    }
}

/// Nobody has this key.
fn assertion(data: &[u8]) {
    let client_data = ClientData::Plain(b"client data");
    let rules = AssertionRules { public_key: &POINT, app_ids: APP, previous_counter: 0, client_data };
    assert!(apple::verify_assertion(data, &rules).is_err());
    let _ = apple::look_at(data, false);
}

fn receipt(data: &[u8]) {
    let Ok(anchors) = apple::receipt_root() else { return };
    let rules = ReceiptRules { anchors: &anchors, now: None, app_ids: APP, public_key: None, max_age: None };
    assert!(apple::verify_receipt(data, &rules).is_err());
    let _ = apple::look_at_receipt(data, APP);
}

/// The client data up to the first line break, then an attestation object or authenticator data.
fn webauthn(data: &[u8]) {
    const SITE: RelyingParty<'_> =
        RelyingParty { id: "example.com", origins: &["https://app.example.com"], user_verification: false };
    let challenge = b"a challenge of ours";
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (client_data, rest) = data.split_at(end);
    let rest = rest.get(1..).unwrap_or_default();
    let registration = webauthn::Registration { client_data, attestation: rest };
    if let Ok(credential) = webauthn::verify_registration(&registration, &SITE, challenge) {
        assert!(!credential.id.is_empty());
        assert_eq!(CredentialKey::from_jwk(&credential.key.to_jwk()).as_ref(), Some(&credential.key));
        let assertion = webauthn::Assertion { client_data, auth_data: rest, signature: b"signature" };
        assert!(webauthn::verify_assertion(&assertion, (&credential.key, 0), &SITE, challenge).is_err());
    }
}

/// A payload as the widget sends it: nobody can sign a challenge.
fn altcha(data: &[u8]) {
    let key = AltchaKey::new(&[7; 32]);
    if let Ok(payload) = std::str::from_utf8(data) {
        assert!(key.verify(payload, b"app", now()).is_err());
    }
    // The same bytes as what is in the base64.
    let rng = base::SeededRng::new(u64::try_from(data.len()).unwrap_or_default());
    let lifetime = std::time::Duration::from_mins(1);
    let made = key.challenge(Work::Search { most: 1_000 }, data, &rng, (now(), lifetime));
    assert!(made.is_ok());
}

/// A file as an operator hands it over, which names nothing beside itself.
fn evidence_file(data: &[u8]) {
    let options = Options { app: Some("ABCDE12345.com.example.gateway".into()), ..Options::default() };
    let file = File { bytes: data, stem: "file", beside: &|_| None };
    if let Ok(verdicts) = inspect(file, &options, now()) {
        assert!(verdicts.iter().all(|verdict| verdict.valid == (verdict.reason == "ok")));
    }
}

/// Client data is for one purpose, and nothing an app says of itself is more than a report.
fn client_data(data: &[u8]) {
    let (enrol, refresh) = (Said::read(data, Purpose::Enroll), Said::read(data, Purpose::Refresh));
    assert!(enrol.is_err() || refresh.is_err());
    let Ok(said) = enrol.or(refresh) else { return };
    assert!(said.flags.iter().all(|flag| provenance(flag.name()) == Some(Provenance::Reported)));
    let texts = [Some(&said.app), Some(&said.nonce), Some(&said.sdk), said.jkt.as_ref(), said.app_version.as_ref()];
    for text in texts.into_iter().flatten() {
        assert!((1..=128).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
    }
}

/// Bodies of the two requests: evidence is what it is called, and a proof counts for its nonce, endpoint and client data only.
fn enrolment(data: &[u8]) {
    const ENROLL: &str = "https://ai.example.com/attest/v1/enroll";
    if let Ok(asked) = enrolment::read::<Refresh>(data) {
        let _ = enrolment::client_data(&asked.client_data).map(|said| Said::read(&said, Purpose::Refresh));
    }
    let Ok(asked) = enrolment::read::<Enrolment>(data) else { return };
    let Ok(whole) = serde_json::from_slice::<Value>(data) else { panic!("read strictly, but no JSON") };
    assert_eq!(whole["evidence"]["type"], asked.evidence.evidence().name());
    assert!(enrolment::read::<Refresh>(data).is_err());
    let Ok(bytes) = enrolment::client_data(&asked.client_data) else { return };
    let (Ok(said), Ok(key)) = (Said::read(&bytes, Purpose::Enroll), InstanceKey::from_jwk(&asked.jwk)) else { return };
    assert!(key.point().is_some());
    let targets = [ENROLL.to_owned()];
    let wanted = Wanted { nonce: &said.nonce, targets: &targets, client_data: &bytes };
    if key.check(&asked.proof, &wanted).is_ok() {
        let other = [bytes.as_slice(), b" "].concat();
        for wrong in [
            Wanted { nonce: "another", ..wanted },
            Wanted { targets: &[], ..wanted },
            Wanted { client_data: &other, ..wanted },
        ] {
            assert!(key.check(&asked.proof, &wrong).is_err());
        }
    }
}

/// A recipient's key up to the first line break, then what is to be sealed. Whatever that is, an installation opens what is
/// sealed to it, and finds secrets in it or none.
fn sealing(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (jwk, rest) = data.split_at(end);
    let plaintext = rest.get(1..).unwrap_or_default();
    let rng = base::SeededRng::new(u64::try_from(data.len()).unwrap_or_default());
    let parties = Parties { apu: b"installation", apv: plaintext.get(..8).unwrap_or_default() };
    let to = |jwk: &[u8]| match serde_json::from_slice::<Value>(jwk) {
        Ok(Value::Object(jwk)) => EphemeralKey::from_jwk(&jwk),
        _ => Err(SealError::Form),
    };
    if let Ok(key) = to(jwk) {
        assert_eq!(key.id().len(), 43);
        match seal(&key, parties, plaintext, &rng) {
            Ok(sealed) => assert_eq!(sealed.split('.').count(), 5),
            Err(error) => assert_eq!(error, SealError::Point),
        }
    }
    for curve in [Curve::P256, Curve::X25519] {
        let Ok(recipient) = Recipient::on(curve) else { return };
        let own = recipient.public_jwk().to_json().to_string();
        let Ok(key) = to(own.as_bytes()) else { panic!("a key of our client") };
        let Ok(sealed) = seal(&key, parties, plaintext, &rng) else { panic!("sealed to a key of our client") };
        let opened = recipient.open(&sealed, "installation");
        assert!(matches!(opened, Ok(_) | Err(SecretError::Payload)), "{opened:?}");
    }
}

/// What a server answers: whole, then as a header up to the first line break and what is encrypted. Nobody who does not know the
/// key can make what opens.
fn sealed_secrets(data: &[u8]) {
    let opens = |jwe: &str| {
        [Curve::P256, Curve::X25519]
            .into_iter()
            .any(|curve| Recipient::on(curve).is_ok_and(|recipient| recipient.open(jwe, "installation").is_ok()))
    };
    if let Ok(jwe) = std::str::from_utf8(data) {
        assert!(!opens(jwe));
    }
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, rest) = data.split_at(end);
    let (iv, rest) = rest.get(1..).unwrap_or_default().split_at_checked(12).unwrap_or_default();
    let (tag, text) = rest.split_at_checked(16).unwrap_or_default();
    let [header, iv, text, tag] = [header, iv, text, tag].map(base64url_encode);
    assert!(!opens(&format!("{header}..{iv}.{text}.{tag}")));
}
