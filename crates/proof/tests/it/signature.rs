//! Request signatures (RFC 9421): the profile, taken away piece by piece.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proof::dpop::TargetUri;
use proof::jose::{VerifyingKey, base64url_encode};
use proof::signature::{ExpectedRequest, MAX_NONCE_LEN, SignatureProofError, SignedRequest, VerifiedSignature, verify};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{NOW, TestKey, now, set};

const URL: &str = "https://ai.example.com/v1/chat/completions";
static OTHER: LazyLock<[TargetUri; 1]> = LazyLock::new(|| [target("https://ai.example.com/v1/messages")]);
const BODY: &[u8] = br#"{"model":"fast"}"#;

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

fn digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha256(body)))
}

/// A signature in the making; every part can be bent.
#[derive(Clone)]
struct Signing {
    key: Arc<TestKey>,
    alg: &'static str,
    label: &'static str,
    /// What is covered and the value it is signed with.
    covered: Vec<(String, String)>,
    parameters: Vec<(&'static str, String)>,
    /// The fields as they are sent.
    fields: Vec<(String, Vec<u8>)>,
}

impl Signing {
    fn new() -> Self {
        Self::by(TestKey::p256(), "ES256", "ecdsa-p256-sha256")
    }

    fn by(key: TestKey, alg: &'static str, name: &str) -> Self {
        let key = Arc::new(key);
        let fields = [
            ("authorization", "DPoP token".to_owned()),
            ("content-digest", digest(BODY)),
            ("content-type", "application/json".to_owned()),
        ];
        let derived = [("@method", "POST".to_owned()), ("@target-uri", format!("{URL}?alt=sse"))];
        let covered = derived.iter().chain(&fields).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let parameters = vec![
            ("created", NOW.to_string()),
            ("expires", (NOW + 30).to_string()),
            ("nonce", "\"n-1\"".to_owned()),
            ("keyid", format!("\"{}\"", verifying(&key, alg).thumbprint_text())),
            ("alg", format!("\"{name}\"")),
            ("tag", "\"gw-req\"".to_owned()),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.into_bytes())).into();
        Self { key, alg, label: "gw", covered, parameters, fields }
    }

    fn parameter(mut self, name: &'static str, value: Option<&str>) -> Self {
        let at = self.parameters.iter().position(|(known, _)| *known == name);
        match (at, value) {
            (Some(at), Some(value)) => value.clone_into(&mut self.parameters[at].1),
            (Some(at), None) => drop(self.parameters.remove(at)),
            (None, Some(value)) => self.parameters.push((name, value.to_owned())),
            (None, None) => {}
        }
        self
    }

    fn without(mut self, component: &str) -> Self {
        self.covered.retain(|(name, _)| name != component);
        self
    }

    fn field(mut self, name: &str, value: Option<&str>) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self.fields.extend(value.map(|value| (name.to_owned(), value.as_bytes().to_vec())));
        self
    }

    fn sign(&self) -> Vec<(String, Vec<u8>)> {
        let list = self.covered.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(" ");
        let mut params = format!("({list})");
        for (name, value) in &self.parameters {
            write!(params, ";{name}={value}").unwrap();
        }
        let mut base = String::new();
        for (name, value) in &self.covered {
            writeln!(base, "\"{name}\": {value}").unwrap();
        }
        write!(base, "\"@signature-params\": {params}").unwrap();
        let signature = self.key.signature(self.alg, base.as_bytes());
        let mut fields = self.fields.clone();
        let own = [("signature-input", params), ("signature", format!(":{}:", STANDARD.encode(signature)))];
        fields.extend(own.map(|(name, value)| (name.to_owned(), format!("{}={value}", self.label).into_bytes())));
        fields
    }

    fn check(&self) -> Result<VerifiedSignature, SignatureProofError> {
        self.check_as(&self.sign(), |_| {})
    }

    fn check_as(
        &self,
        fields: &[(String, Vec<u8>)],
        change: impl FnOnce(&mut ExpectedRequest<'_>),
    ) -> Result<VerifiedSignature, SignatureProofError> {
        let targets = [target("https://alt.example.com/v1/chat/completions"), target(URL)];
        let good = ExpectedRequest::new("POST", &targets, now());
        let mut expected = ExpectedRequest { query: Some("alt=sse"), has_body: true, ..good };
        change(&mut expected);
        let request = parse(fields)?.unwrap();
        verify(&request, &verifying(&self.key, self.alg), &expected)
    }

    fn reason(&self) -> &'static str {
        self.check().map_or_else(SignatureProofError::reason, |_| "ok")
    }

    fn reason_of(&self, change: impl FnOnce(&mut ExpectedRequest<'_>)) -> &'static str {
        self.check_as(&self.sign(), change).map_or_else(SignatureProofError::reason, |_| "ok")
    }
}

fn target(text: &str) -> TargetUri {
    TargetUri::parse(text).unwrap()
}

fn parse(fields: &[(String, Vec<u8>)]) -> Result<Option<SignedRequest>, SignatureProofError> {
    SignedRequest::parse(fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
}

/// The public key, an RSA one for its PSS algorithm only.
fn verifying(key: &TestKey, alg: &str) -> Arc<VerifyingKey> {
    let set = set(&[key.jwk_with(&json!({"alg": alg}))]);
    set.keys().first().unwrap().clone()
}

#[test]
fn a_good_signature_proves_the_key_and_the_body() {
    let rsa = TestKey::Rsa(aws_lc_rs::signature::RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap());
    for (key, alg, name) in [
        (TestKey::p256(), "ES256", "ecdsa-p256-sha256"),
        (TestKey::p384(), "ES384", "ecdsa-p384-sha384"),
        (TestKey::ed25519(), "EdDSA", "ed25519"),
        (rsa, "PS512", "rsa-pss-sha512"),
    ] {
        let signing = Signing::by(key, alg, name);
        let verified = signing.check().unwrap();
        assert_eq!(verified.jkt(), verifying(&signing.key, alg).thumbprint());
        assert_eq!(verified.content_digest().unwrap().as_slice(), sha256(BODY));
        assert_eq!(verified.check_body(BODY), Ok(()));
        assert_eq!(verified.check_body(b"").unwrap_err().reason(), "wrong_content_digest");
        assert_eq!(verified.check_body(br#"{"model":"fast" }"#).unwrap_err().reason(), "wrong_content_digest");
        assert_eq!(verified.expires(), Timestamp::from_secs(NOW + 30));
        assert_eq!(verified.acceptable_until(), Timestamp::from_secs(NOW + 35));
        let shown = format!("{verified:?}{:?}", parse(&signing.sign()).unwrap());
        assert!(!shown.contains("n-1"), "{shown}");
        assert_eq!(signing.parameter("alg", None).reason(), "ok", "the key says it all");
    }
}

#[test]
fn a_request_without_body_needs_no_digest_and_has_no_body_then() {
    let signing = Signing::new().without("content-digest").without("content-type");
    assert_eq!(signing.reason(), "component_not_covered");
    let none = |expected: &mut ExpectedRequest<'_>| expected.has_body = false;
    let verified = signing.check_as(&signing.sign(), none).unwrap();
    assert_eq!(verified.content_digest(), None);
    assert_eq!(verified.check_body(b""), Ok(()));
    assert_eq!(verified.check_body(b"{}").unwrap_err().reason(), "wrong_content_digest");
}

#[test]
fn a_33_each_covered_component_taken_away_or_changed() {
    let signing = Signing::new();
    for name in ["@method", "@target-uri", "authorization", "content-digest", "content-type"] {
        assert_eq!(signing.clone().without(name).reason(), "component_not_covered", "{name}");
    }
    for (name, value) in
        [("authorization", "DPoP other"), ("content-digest", &digest(b"other")), ("content-type", "text/plain")]
    {
        assert_eq!(signing.clone().field(name, Some(value)).reason(), "bad_signature", "{name}");
        assert_eq!(signing.clone().field(name, None).reason(), "bad_component", "{name} is covered but absent");
        let mut twice = signing.sign();
        twice.push((name.to_owned(), value.as_bytes().to_vec()));
        assert!(signing.check_as(&twice, |_| {}).is_err(), "{name} twice");
    }
    assert_eq!(signing.reason_of(|expected| expected.method = "PUT"), "bad_signature");
    assert_eq!(signing.reason_of(|expected| expected.targets = &*OTHER), "bad_signature");
    assert_eq!(signing.reason_of(|expected| expected.targets = &[]), "bad_signature");
    assert_eq!(signing.reason_of(|expected| expected.query = None), "bad_signature");
    assert_eq!(signing.reason_of(|expected| expected.query = Some("alt=json")), "bad_signature");
    assert_eq!(signing.reason_of(|expected| expected.query = Some("")), "bad_signature");
    // The credential that counts is the one that must be covered.
    assert_eq!(signing.reason_of(|expected| expected.credential = "x-api-key"), "component_not_covered");
    let mut zipped = signing.clone();
    zipped.fields.push(("content-encoding".to_owned(), b"gzip".to_vec()));
    assert_eq!(zipped.reason(), "component_not_covered", "what says how to read the body");
    zipped.covered.push(("content-encoding".to_owned(), "gzip".to_owned()));
    assert_eq!(zipped.reason(), "ok");
}

#[test]
fn a_33_each_parameter_taken_away_or_bent() {
    let signing = Signing::new();
    for name in ["created", "expires", "nonce", "keyid", "tag"] {
        assert_eq!(signing.clone().parameter(name, None).reason(), "missing_parameter", "{name}");
    }
    let long = format!("\"{}\"", "n".repeat(MAX_NONCE_LEN + 1));
    for (name, value, why) in [
        ("created", "\"1800000000\"", "bad_parameter"),
        ("created", "1800000000.5", "bad_parameter"),
        ("created", "1800000006", "issued_in_future"),
        ("created", "1799999969", "lifetime_too_long"),
        ("expires", "?1", "bad_parameter"),
        ("expires", "1800000031", "lifetime_too_long"),
        ("expires", "1799999999", "lifetime_too_long"),
        ("nonce", "\"\"", "bad_parameter"),
        ("nonce", long.as_str(), "bad_parameter"),
        ("nonce", "n-1", "bad_parameter"),
        ("nonce", "7", "bad_parameter"),
        ("keyid", "\"k1\"", "wrong_keyid"),
        ("keyid", "7", "bad_parameter"),
        ("alg", "\"ed25519\"", "alg_key_mismatch"),
        ("alg", "\"hmac-sha256\"", "alg_key_mismatch"),
        ("alg", "\"rsa-v1_5-sha256\"", "alg_key_mismatch"),
        ("alg", "\"ECDSA-P256-SHA256\"", "alg_key_mismatch"),
        ("alg", "\"none\"", "alg_key_mismatch"),
        ("tag", "\"other\"", "wrong_tag"),
        ("tag", "\"\"", "bad_parameter"),
        ("tag", "gw-req", "bad_parameter"),
        ("other", "1", "bad_parameter"),
    ] {
        assert_eq!(signing.clone().parameter(name, Some(value)).reason(), why, "{name}={value}");
    }
    let longest = format!("\"{}\"", "n".repeat(MAX_NONCE_LEN));
    assert_eq!(signing.clone().parameter("nonce", Some(&longest)).reason(), "ok");
    assert_eq!(signing.parameter("created", Some("1800000005")).reason(), "ok", "a clock that is ahead");
}

#[test]
fn a_signature_lives_until_it_expires_and_no_skew_longer() {
    let signing = Signing::new();
    for (now, why) in [(NOW - 5, "ok"), (NOW - 6, "issued_in_future"), (NOW + 35, "ok"), (NOW + 36, "expired")] {
        assert_eq!(signing.reason_of(|expected| expected.now = Timestamp::from_secs(now)), why, "{now}");
    }
    let strict = |expected: &mut ExpectedRequest<'_>| {
        (expected.skew, expected.now) = (Duration::ZERO, Timestamp::from_secs(NOW + 31));
    };
    assert_eq!(signing.reason_of(strict), "expired");
}

#[test]
fn a_35_after_a_restart_nothing_from_before_it_is_accepted() {
    let signing = Signing::new();
    let since =
        |secs| move |expected: &mut ExpectedRequest<'_>| expected.remembered_since = Some(Timestamp::from_secs(secs));
    assert_eq!(signing.reason_of(since(NOW - 6)), "ok");
    for start in [NOW - 5, NOW - 4, NOW, NOW + 20] {
        assert_eq!(signing.reason_of(since(start)), "made_before_start", "{start}");
    }
}

#[test]
fn a_35_the_replay_key_is_of_key_and_nonce_and_nothing_else() {
    let signing = Signing::new();
    let key = |signing: &Signing| signing.check().unwrap().replay_key();
    let first = key(&signing);
    assert_eq!(key(&signing), first, "a new ECDSA signature over the same");
    assert_eq!(key(&signing.clone().parameter("created", Some("1800000001"))), first, "made anew");
    assert_ne!(key(&signing.clone().parameter("nonce", Some("\"N-1\""))), first);
    assert_ne!(key(&Signing::new()), first, "by another key");
}

#[test]
fn a_12_the_other_form_of_an_ecdsa_signature_is_the_same_use() {
    let signing = Signing::new();
    let fields = signing.sign();
    let text = String::from_utf8(fields.last().unwrap().1.clone()).unwrap();
    let mut bytes = STANDARD.decode(text.trim_start_matches("gw=:").trim_end_matches(':')).unwrap();
    crate::support::negate_s(&mut bytes);
    let mut twin = fields.clone();
    twin.last_mut().unwrap().1 = format!("gw=:{}:", STANDARD.encode(bytes)).into_bytes();
    assert_ne!(twin, fields);
    let key = |fields: &[_]| signing.check_as(fields, |_| {}).unwrap().replay_key();
    assert_eq!(key(&twin), key(&fields));
}

#[test]
fn a_2_a_signature_that_is_changed_cut_or_another_keys_is_refused() {
    let signing = Signing::new();
    let fields = signing.sign();
    let text = String::from_utf8(fields.last().unwrap().1.clone()).unwrap();
    let bytes = STANDARD.decode(text.trim_start_matches("gw=:").trim_end_matches(':')).unwrap();
    let with = |bytes: &[u8]| {
        let mut fields = fields.clone();
        fields.last_mut().unwrap().1 = format!("gw=:{}:", STANDARD.encode(bytes)).into_bytes();
        signing.check_as(&fields, |_| {}).map_or_else(SignatureProofError::reason, |_| "ok")
    };
    assert_eq!(with(&bytes), "ok");
    for at in [0, 31, 32, 63] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_eq!(with(&changed), "bad_signature", "byte {at}");
    }
    for wrong in [&[][..], &bytes[..63], &[0; 64], &[bytes.as_slice(), &[0]].concat()] {
        assert_eq!(with(wrong), "bad_signature", "{} bytes", wrong.len());
    }
    // By a stranger who names the token's key.
    let stranger = Signing { key: Arc::new(TestKey::p256()), ..signing.clone() };
    assert_eq!(signing.check_as(&stranger.sign(), |_| {}).unwrap_err().reason(), "bad_signature");
}

#[test]
fn a_key_that_rfc_9421_has_no_algorithm_for_proves_nothing() {
    let p521 = Signing::by(TestKey::p521(), "ES512", "ecdsa-p521-sha512");
    assert_eq!(p521.reason(), "alg_key_mismatch");
    assert_eq!(p521.parameter("alg", None).reason(), "alg_key_mismatch");
    let rsa = TestKey::Rsa(aws_lc_rs::signature::RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap());
    let pkcs1 = Signing::by(rsa, "RS256", "rsa-v1_5-sha256");
    assert_eq!(pkcs1.reason(), "alg_key_mismatch");
    assert_eq!(pkcs1.parameter("alg", Some("\"rsa-pss-sha512\"")).reason(), "alg_key_mismatch", "the key is for RS256");
}

#[test]
fn other_labels_are_somebody_elses_and_half_a_signature_is_none() {
    let signing = Signing::new();
    let other = Signing { label: "sig1", ..signing.clone() };
    assert!(parse(&other.sign()).unwrap().is_none());
    assert!(parse(&signing.fields).unwrap().is_none());
    // Ours beside another's, in one line and in two.
    let (mut two, both) = (other.sign(), signing.sign());
    two.extend(both.iter().filter(|(name, _)| name.starts_with("signature")).cloned());
    assert!(signing.check_as(&two, |_| {}).is_ok());
    for half in ["signature", "signature-input"] {
        let fields: Vec<_> = both.iter().filter(|(name, _)| name != half).cloned().collect();
        assert_eq!(parse(&fields).unwrap_err().reason(), "signature_unpaired", "{half}");
        let mut twice = both.clone();
        twice.extend(both.iter().filter(|(name, _)| name == half).cloned());
        assert_eq!(parse(&twice).unwrap_err().reason(), "duplicate_key", "{half}");
    }
    for (name, value, why) in [
        ("signature", "gw=:AQ", "malformed_field"),
        ("signature", "gw=\"AQ\"", "malformed_field"),
        ("signature", "gw=:AQ==:;a=1", "malformed_field"),
        ("signature", "gw=(:AQ==:)", "signature_unpaired"),
        ("signature", "gw", "malformed_field"),
        ("signature-input", "gw=1", "signature_unpaired"),
        ("signature-input", "gw=()", "missing_parameter"),
        ("signature-input", "gw=(\"@status\");tag=\"gw-req\"", "bad_component"),
        ("signature-input", "gw=(\"authorization\";sf)", "bad_component"),
        ("signature-input", "\u{e9}", "malformed_field"),
        ("signature-input", &"a".repeat(9000), "field_too_large"),
    ] {
        let mut fields = both.clone();
        fields.retain(|(known, _)| known != name);
        fields.push((name.to_owned(), value.as_bytes().to_vec()));
        assert_eq!(parse(&fields).err().map(SignatureProofError::reason), Some(why), "{name}: {value}");
    }
}

#[test]
fn a_digest_without_a_usable_sha_256_is_no_digest() {
    let sha512 = format!("sha-512=:{}:", STANDARD.encode([7; 64]));
    for (value, why) in [
        (sha512.as_str(), "bad_content_digest"),
        ("sha-256=:AQ==:", "bad_content_digest"),
        ("sha-256=abc", "bad_content_digest"),
        ("sha-256=(:AQ==:)", "bad_content_digest"),
        ("", "bad_content_digest"),
        ("SHA-256=:AQ==:", "malformed_field"),
    ] {
        assert_eq!(Signing::new().field("content-digest", Some(value)).reason(), why, "{value}");
    }
    let mut both = Signing::new();
    let value = format!("{sha512}, {}", digest(BODY));
    both.covered.iter_mut().find(|(name, _)| name == "content-digest").unwrap().1.clone_from(&value);
    assert_eq!(both.field("content-digest", Some(&value)).reason(), "ok");
}

proptest! {
    #[test]
    fn any_fields_are_read_or_refused(input in "gw=.{0,100}|.{0,60}", signature in "gw=:[A-Za-z0-9+/=]{0,20}:|.{0,40}", value in any::<Vec<u8>>()) {
        let fields = [
            ("signature-input", input.as_bytes()),
            ("signature", signature.as_bytes()),
            ("authorization", value.as_slice()),
            ("content-digest", value.as_slice()),
        ];
        let _ = SignedRequest::parse(fields);
    }

    #[test]
    fn a_changed_character_of_the_parameters_is_never_accepted(at in 0usize..200, to in 0x21u8..0x7f) {
        let signing = Signing::new();
        let mut fields = signing.sign();
        let input = &mut fields.iter_mut().find(|(name, _)| name == "signature-input").unwrap().1;
        let at = 3 + at % (input.len() - 3);
        prop_assume!(input[at] != to);
        input[at] = to;
        let accepted = parse(&fields).is_ok_and(|request| request.is_some_and(|request| {
            let targets = [target(URL)];
            let good = ExpectedRequest::new("POST", &targets, now());
            let expected = ExpectedRequest { query: Some("alt=sse"), has_body: true, ..good };
            verify(&request, &verifying(&signing.key, "ES256"), &expected).is_ok()
        }));
        prop_assert!(!accepted);
    }
}

#[test]
fn a_tokens_own_key_is_what_a_signature_is_checked_with() {
    let (world, key) = (crate::support::World::new(), TestKey::p256());
    let jwk = key.jwk();
    let jkt = verifying(&key, "ES256").thumbprint_text();
    let sign = |cnf: serde_json::Value| world.sign(&crate::support::claims_with(&json!({"cnf": cnf})));
    let both = world.verify(&sign(json!({"jkt": jkt, "jwk": jwk}))).unwrap();
    let held = both.cnf().unwrap().jwk.as_ref().unwrap();
    assert_eq!(held.thumbprint_text(), jkt);
    assert_eq!(base64url_encode(both.cnf().unwrap().jkt.unwrap()), jkt);
    // RFC 7800 section 3.2: the key alone is a confirmation too.
    let alone = world.verify(&sign(json!({"jwk": jwk}))).unwrap();
    assert_eq!(alone.cnf().unwrap().jkt, both.cnf().unwrap().jkt);
    assert!(world.verify(&sign(json!({"jkt": jkt}))).unwrap().cnf().unwrap().jwk.is_none());
    let other = TestKey::p256().jwk();
    let with_d = key.jwk_with(&json!({"d": "AQ"}));
    let encrypts = key.jwk_with(&json!({"use": "enc"}));
    for wrong in [
        json!({"jkt": jkt, "jwk": other}),
        json!({"jkt": jkt, "jwk": with_d}),
        json!({"jkt": jkt, "jwk": encrypts}),
        json!({"jkt": jkt, "jwk": "x"}),
        json!({"jkt": jkt, "jwk": {}}),
        json!({"jkt": jkt, "jwk": {"kty": "oct", "k": "AQID"}}),
        json!({"jwk": {"kty": "oct", "k": "AQID"}}),
    ] {
        assert_eq!(world.verify(&sign(wrong.clone())).unwrap_err().reason(), "bad_claim", "{wrong}");
    }
}
