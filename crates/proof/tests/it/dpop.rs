//! DPoP proofs (RFC 9449): what its section 4.3 demands, taken away piece by piece.

use std::sync::OnceLock;
use std::time::Duration;

use base::Timestamp;
use proof::dpop::{
    DpopError, Expectation, MAX_JTI_LEN, MAX_PROOF_LEN, Proof, Question, TargetUri, VerifiedProof, inspect, verify,
};
use proof::jose::{Alg, base64url_encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{NOW, TestKey, now};

const URL: &str = "https://ai.example.com/v1/chat/completions";
const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";

fn target(text: &str) -> TargetUri {
    TargetUri::parse(text).unwrap()
}

fn hash(text: &str) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref().try_into().unwrap()
}

fn claims() -> Value {
    json!({"jti": "proof-1", "htm": "POST", "htu": URL, "iat": NOW, "ath": base64url_encode(hash(TOKEN)), "nonce": "n-1"})
}

fn with(mut of: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            of.as_object_mut().unwrap().remove(name);
        } else {
            of[name] = value.clone();
        }
    }
    of
}

fn header(key: &TestKey, alg: &str) -> Value {
    json!({"typ": "dpop+jwt", "alg": alg, "jwk": key.jwk()})
}

/// A key, a good proof by it, and any wrong one.
struct Holder(TestKey);

impl Holder {
    fn new() -> Self {
        Self(TestKey::p256())
    }

    fn proof(&self, changes: &Value) -> String {
        self.0.token(&header(&self.0, "ES256").to_string(), with(claims(), changes).to_string())
    }

    fn proof_under(&self, changes: &Value) -> String {
        self.0.token(&with(header(&self.0, "ES256"), changes).to_string(), claims().to_string())
    }

    fn jkt(&self) -> [u8; 32] {
        *check(&self.proof(&json!({})), |_| {}).unwrap().jkt()
    }
}

/// Check a proof against the good request, changed as wanted.
fn check(proof: &str, change: impl FnOnce(&mut Expectation<'_>)) -> Result<VerifiedProof, DpopError> {
    let target = target(URL);
    let mut expected = Expectation { token_hash: Some(hash(TOKEN)), ..Expectation::new("POST", &target, now()) };
    change(&mut expected);
    verify(&Proof::parse(proof)?, &expected)
}

fn reason(proof: &str) -> &'static str {
    check(proof, |_| {}).map_or_else(DpopError::reason, |_| "ok")
}

#[test]
fn a_33_each_check_of_a_proof_negated() {
    let holder = Holder::new();
    assert_eq!(reason(&holder.proof(&json!({}))), "ok");
    for claim in ["jti", "htm", "htu", "iat", "ath"] {
        assert_eq!(reason(&holder.proof(&json!({claim: null}))), "missing_claim", "{claim}");
        for wrong in [json!(""), json!([]), json!({}), json!(true), json!("a\u{0}b")] {
            assert_eq!(reason(&holder.proof(&json!({claim: wrong}))), "bad_claim", "{claim} {wrong}");
        }
    }
    for (change, why) in [
        (json!({"jti": 7}), "bad_claim"),
        (json!({"jti": "j".repeat(MAX_JTI_LEN + 1)}), "bad_claim"),
        (json!({"nonce": 7}), "bad_claim"),
        (json!({"htm": "GET"}), "wrong_htm"),
        (json!({"htm": "post"}), "wrong_htm"),
        (json!({"htm": "POST "}), "wrong_htm"),
        (json!({"htm": ["POST"]}), "bad_claim"),
        (json!({"ath": base64url_encode(hash("another token"))}), "wrong_ath"),
        (json!({"ath": format!("{}=", base64url_encode(hash(TOKEN)))}), "wrong_ath"),
        (json!({"ath": TOKEN}), "wrong_ath"),
    ] {
        assert_eq!(reason(&holder.proof(&change)), why, "{change}");
    }
    assert_eq!(reason(&holder.proof(&json!({"jti": "j".repeat(MAX_JTI_LEN)}))), "ok");
    let huge = holder.proof(&json!({"jti": "j".repeat(100_000)}));
    assert!(huge.len() > MAX_PROOF_LEN && reason(&huge) == "token_too_long");
    let other = check(&holder.proof(&json!({})), |expected| expected.jkt = Some([7; 32])).unwrap_err();
    assert_eq!((other.reason(), other.error_code()), ("wrong_jkt", "invalid_token"));
    assert!(check(&holder.proof(&json!({})), |expected| expected.jkt = Some(holder.jkt())).is_ok());
}

#[test]
fn a_33_the_target_in_every_disguise() {
    let holder = Holder::new();
    for same in [
        "HTTPS://AI.EXAMPLE.COM/v1/chat/completions",
        "https://ai.example.com:443/v1/chat/completions",
        "https://ai.example.com:/v1/chat/completions?a=b#c",
        "https://ai.example.com/v1/%63hat/completions",
        "https://ai.example.com/v1/x/../chat/./completions",
        "https://ai.example.com/v1/x/%2e%2E/chat/completions",
    ] {
        assert_eq!(reason(&holder.proof(&json!({"htu": same}))), "ok", "{same}");
    }
    for (other, why) in [
        ("https://evil.example/v1/chat/completions", "wrong_htu"),
        ("http://ai.example.com/v1/chat/completions", "wrong_htu"),
        ("https://ai.example.com./v1/chat/completions", "wrong_htu"),
        ("https://ai.example.com:8443/v1/chat/completions", "wrong_htu"),
        ("https://ai.example.com:80/v1/chat/completions", "wrong_htu"),
        ("https://ai.example.com.evil.example/v1/chat/completions", "wrong_htu"),
        ("https://[::1]/v1/chat/completions", "wrong_htu"),
        ("https://ai.example.com/v1/chat/completions/", "wrong_htu"),
        ("https://ai.example.com/v1/chat", "wrong_htu"),
        ("https://ai.example.com//v1/chat/completions", "wrong_htu"),
        ("https://ai.example.com/v1//chat/completions", "wrong_htu"),
        ("https://ai.example.com/v1/Chat/completions", "wrong_htu"),
        ("https://ai.example.com/v1%2Fchat/completions", "wrong_htu"),
        ("https://ai.example.com/v1/chat/completions/%2e%2e", "wrong_htu"),
        ("https://ai.example.com?/v1/chat/completions", "wrong_htu"),
        ("https://user@ai.example.com/v1/chat/completions", "bad_htu"),
        ("https://ai.example.com@evil.example/v1/chat/completions", "bad_htu"),
        ("https://ai.example.com\\v1/chat/completions", "bad_htu"),
        ("https://ai.example.com /v1/chat/completions", "bad_htu"),
        ("https://\u{0430}i.example.com/v1/chat/completions", "bad_htu"),
        ("//ai.example.com/v1/chat/completions", "bad_htu"),
        ("/v1/chat/completions", "bad_htu"),
    ] {
        assert_eq!(reason(&holder.proof(&json!({"htu": other}))), why, "{other}");
    }
}

#[test]
fn r_40_one_well_formed_signed_object_with_a_public_key() {
    let holder = Holder::new();
    let good = holder.proof(&json!({}));
    for text in [
        String::new(),
        format!("{good}, {good}"),
        format!("{good},{good}"),
        format!("{good} "),
        format!("DPoP {good}"),
        format!("{good}."),
        good.replace('.', ".."),
        json!({"payload": "", "signatures": []}).to_string(),
    ] {
        assert_eq!(reason(&text), "not_compact_jws", "{text:.20}");
    }
    assert_eq!(reason(good.rsplit_once('.').map(|(input, _)| format!("{input}.")).unwrap().as_str()), "unsigned");
    let other = Holder::new();
    let mut private = holder.0.jwk();
    private["d"] = "AAAA".into();
    for (change, why) in [
        (json!({"jwk": null}), "missing_jwk"),
        (json!({"jwk": "key"}), "malformed_key"),
        (json!({"jwk": {}}), "malformed_key"),
        (json!({"jwk": [holder.0.jwk()]}), "malformed_key"),
        (json!({"jwk": private}), "private_key"),
        (json!({"jwk": other.0.jwk()}), "bad_signature"),
        (json!({"jwk": holder.0.jwk_with(&json!({"use": "enc"}))}), "key_use"),
        (json!({"jwk": holder.0.jwk_with(&json!({"alg": "ES384"}))}), "key_alg_mismatch"),
        (json!({"jwk": holder.0.jwk_with(&json!({"x": "AAAA"}))}), "key_encoding"),
        (json!({"jwk": TestKey::ed25519().jwk()}), "alg_key_mismatch"),
        (json!({"jwk": {"kty": "oct", "k": "AAAA"}}), "private_key"),
        (json!({"jwk": null, "jku": "https://evil.example/", "x5u": "https://evil.example/"}), "missing_jwk"),
        (json!({"crit": ["exp"]}), "crit_unsupported"),
        (json!({"b64": false}), "b64_unsupported"),
        (json!({"alg": null}), "missing_alg"),
    ] {
        assert_eq!(reason(&holder.proof_under(&change)), why, "{change}");
    }
    for member in ["d", "p", "q", "dp", "dq", "qi", "k", "priv"] {
        let jwk = holder.0.jwk_with(&json!({member: "AAAA"}));
        assert_eq!(reason(&holder.proof_under(&json!({"jwk": jwk}))), "private_key", "{member}");
    }
    assert_eq!(reason(&holder.proof_under(&json!({"kid": "ignored", "x5c": ["ignored"]}))), "ok");
    let mut altered = good.clone().into_bytes();
    let at = good.find('.').unwrap() + 3;
    altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
    assert!(check(std::str::from_utf8(&altered).unwrap(), |_| {}).is_err());
    let doubled = claims().to_string().replacen('{', r#"{"htm":"GET","#, 1);
    assert_eq!(reason(&holder.0.token(&header(&holder.0, "ES256").to_string(), doubled)), "duplicate_member");
}

#[test]
fn r_44_the_type_is_a_proof_s_and_the_algorithm_asymmetric_and_allowed() {
    let holder = Holder::new();
    for typ in ["JWT", "at+jwt", "dpop", "jwt+dpop", "dpop+jwt ", ""] {
        assert_eq!(reason(&holder.proof_under(&json!({"typ": typ}))), "wrong_typ", "{typ:?}");
    }
    assert_eq!(reason(&holder.proof_under(&json!({"typ": null}))), "wrong_typ");
    assert_eq!(reason(&holder.proof_under(&json!({"alg": "none"}))), "unsupported_alg");
    for alg in ["HS256", "HS384", "HS512"] {
        let key = TestKey::oct(holder.0.jwk().to_string().as_bytes());
        let proof = key.token(&header(&holder.0, alg).to_string(), claims().to_string());
        assert_eq!(reason(&proof), "alg_not_allowed", "{alg}: the public key as a secret");
        assert!(check(&proof, |expected| expected.algorithms = &Alg::ALL).is_err());
    }
    let (p384, p521, ed) = (TestKey::p384(), TestKey::p521(), TestKey::ed25519());
    let mut keys = vec![(&holder.0, "ES256"), (&p384, "ES384"), (&p521, "ES512"), (&ed, "EdDSA"), (&ed, "Ed25519")];
    keys.extend(["PS256", "PS384", "PS512", "RS256", "RS384", "RS512"].map(|alg| (TestKey::rsa(), alg)));
    for (key, alg) in keys {
        let proof = key.token(&header(key, alg).to_string(), claims().to_string());
        assert_eq!(reason(&proof), "ok", "{alg}");
        let refused = check(&proof, |expected| expected.algorithms = &[Alg::MlDsa44]).unwrap_err();
        assert_eq!(refused.reason(), "alg_not_allowed");
        let jwk = key.jwk_with(&json!({"alg": if alg == "PS256" { "RS256" } else { "PS256" }}));
        let proof = key.token(&with(header(key, alg), &json!({"jwk": jwk})).to_string(), claims().to_string());
        assert!(check(&proof, |_| {}).is_err(), "{alg}: the key names another algorithm");
    }
    let quantum = TestKey::ml_dsa_44();
    let proof = quantum.token(&header(&quantum, "ML-DSA-44").to_string(), claims().to_string());
    assert_eq!(reason(&proof), "alg_not_allowed", "only where it is listed");
    assert!(check(&proof, |expected| expected.algorithms = &[Alg::MlDsa44]).is_ok());
}

#[test]
fn r_43_a_proof_is_accepted_for_a_limited_time_only() {
    let holder = Holder::new();
    let at = |iat: Value, ms: i64| {
        check(&holder.proof(&json!({"iat": iat})), |expected| expected.now = Timestamp::from_millis(ms))
            .map_or_else(DpopError::reason, |_| "ok")
    };
    let ms = NOW * 1000;
    for (now, verdict) in [
        (ms, "ok"),
        (ms + 60_000, "ok"),
        (ms + 65_000, "ok"),
        (ms + 65_001, "too_old"),
        (ms - 5_000, "ok"),
        (ms - 5_001, "issued_in_future"),
        (i64::MAX, "too_old"),
        (i64::MIN, "issued_in_future"),
    ] {
        assert_eq!(at(json!(NOW), now), verdict, "{}", now.saturating_sub(ms));
    }
    for wrong in [
        json!(1.8e9),
        json!(1_800_000_000.5),
        json!(NOW.to_string()),
        json!(-1),
        json!(u64::MAX),
        json!(i64::MAX),
        json!([NOW]),
        json!(false),
    ] {
        assert_eq!(at(wrong.clone(), ms), "bad_claim", "{wrong}");
    }
    assert_eq!(at(json!(NOW * 1000), ms), "bad_claim", "milliseconds");
    let proof = check(&holder.proof(&json!({})), |_| {}).unwrap();
    assert_eq!(proof.acceptable_until(), Timestamp::from_secs(NOW + 65));
    assert_eq!((proof.jti(), proof.issued_at()), ("proof-1", now()));
    let forever = check(&holder.proof(&json!({"iat": 0})), |expected| expected.max_age = Duration::MAX);
    assert!(forever.is_ok());
}

#[test]
fn a_36_a_nonce_that_is_asked_for_must_be_there_and_accepted() {
    let holder = Holder::new();
    let verdict = |nonce: Value, accepted: Option<&'static [&'static str]>| {
        check(&holder.proof(&json!({"nonce": nonce})), |expected| expected.nonces = accepted)
            .map_or_else(|error| (error.reason(), error.error_code()), |_| ("ok", ""))
    };
    let missing = ("use_dpop_nonce", "use_dpop_nonce");
    let wrong = ("wrong_nonce", "use_dpop_nonce");
    assert_eq!(verdict(json!("n-2"), Some(&["n-1", "n-2"])), ("ok", ""));
    assert_eq!(verdict(Value::Null, Some(&["n-1"])), missing);
    assert_eq!(verdict(json!("n-3"), Some(&["n-1", "n-2"])), wrong);
    assert_eq!(verdict(json!("N-1"), Some(&["n-1"])), wrong);
    assert_eq!(verdict(json!("n-1x"), Some(&["n-1"])), wrong);
    assert_eq!(verdict(json!("n-1"), Some(&[])), wrong, "none is accepted now");
    assert_eq!(verdict(json!("n-1"), None), ("ok", ""), "none was asked for");
    assert_eq!(verdict(json!(""), None), ("bad_claim", "invalid_dpop_proof"));
    let forged = Holder::new().proof_under(&json!({"jwk": holder.0.jwk()}));
    let told = check(&forged, |expected| expected.nonces = Some(&["other"])).unwrap_err();
    assert_eq!(told, DpopError::BadSignature, "only the holder of the key is told to fetch a nonce");
}

#[test]
fn r_47_the_replay_key_is_one_for_all_spellings_and_signatures() {
    let holder = Holder::new();
    let key = |changes: Value| check(&holder.proof(&changes), |_| {}).unwrap().replay_key();
    let first = key(json!({}));
    assert_eq!(key(json!({})), first, "signed again");
    assert_eq!(key(json!({"iat": NOW - 3})), first, "another time");
    assert_eq!(key(json!({"nonce": "n-2", "extra": 1})), first);
    assert_eq!(key(json!({"htu": "HTTPS://ai.EXAMPLE.com:443/v1/x/%2e%2e/%63hat/completions?again#1"})), first);
    assert_ne!(key(json!({"jti": "proof-2"})), first);
    assert_ne!(key(json!({"jti": "PROOF-1"})), first, "a jti has case");
    let elsewhere = |method: &str, url: &str| {
        let at = target(url);
        let text = holder.proof(&json!({"htm": method, "htu": url}));
        verify(&Proof::parse(&text).unwrap(), &Expectation::new(method, &at, now())).unwrap().replay_key()
    };
    assert_eq!(elsewhere("POST", URL), first);
    assert_ne!(elsewhere("GET", URL), first);
    assert_ne!(elsewhere("POST", "https://ai.example.com/v1/embeddings"), first);
    assert_ne!(elsewhere("POST", "https://ai.example.com./v1/chat/completions"), first);
    let other = check(&Holder::new().proof(&json!({})), |_| {}).unwrap();
    assert_ne!(other.replay_key(), first, "another key's jti is its own");
}

#[test]
fn a_proof_does_not_show_itself() {
    let holder = Holder::new();
    let text = holder.proof(&json!({"jti": "canary-jti"}));
    let proof = Proof::parse(&text).unwrap();
    let shown = format!("{proof:?} {:?}", check(&text, |_| {}).unwrap());
    assert!(!shown.contains("canary") && !shown.contains(text.rsplit('.').next().unwrap()), "{shown}");
    assert_eq!((proof.nonce(), proof.header()["alg"].as_str()), (Some("n-1"), Some("ES256")));
}

#[test]
fn the_examples_of_rfc_9449_are_valid_for_their_requests_only() {
    let file = vectors::data().map(|dir| dir.join("jose/rfc-text/rfc9449_examples.json")).filter(|file| file.is_file());
    let Some(file) = file else {
        return vectors::skipped("the_examples_of_rfc_9449_are_valid_for_their_requests_only");
    };
    let data: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let token = data["access_token"].as_str().unwrap();
    assert_eq!(data["ath_computed"], base64url_encode(hash(token)));
    let mut proofs = 0;
    for example in data["tokens"].as_array().unwrap() {
        let text = example["token"].as_str().unwrap();
        if example["header"]["typ"] != "dpop+jwt" {
            assert_eq!(Proof::parse(text).unwrap_err(), DpopError::WrongTyp);
            continue;
        }
        proofs += 1;
        let claim = |name: &str| example["claims"][name].as_str().unwrap();
        let iat = Timestamp::from_secs(example["claims"]["iat"].as_i64().unwrap());
        let at = target(claim("htu"));
        let token = example["claims"].get("ath").map(|_| token);
        let question = Question {
            method: claim("htm"),
            target: &at,
            token: token.map(str::as_bytes),
            nonce: None,
            max_age: Duration::from_mins(1),
            now: iat,
        };
        let verdict = inspect(format!("{text}\n").as_bytes(), &question);
        let printed = serde_json::to_value(&verdict).unwrap();
        assert_eq!(
            printed,
            json!({"valid": true, "reason": "ok", "header": example["header"], "claims": example["claims"],
                   "jkt": example["jkt"]})
        );
        let reason = |question: Question<'_>| inspect(text.as_bytes(), &question).reason;
        assert_eq!(reason(Question { method: "PUT", ..question }), "wrong_htm");
        assert_eq!(reason(Question { target: &target(URL), ..question }), "wrong_htu");
        assert_eq!(reason(Question { nonce: Some("n"), ..question }), "use_dpop_nonce");
        assert_eq!(reason(Question { now: iat.plus(Duration::from_secs(66)), ..question }), "too_old");
        assert_eq!(reason(Question { now: iat.minus(Duration::from_secs(6)), ..question }), "issued_in_future");
        let wrong = if token.is_some() { "wrong_ath" } else { "missing_claim" };
        assert_eq!(reason(Question { token: Some(b"another"), ..question }), wrong);
    }
    println!("RFC 9449: {proofs} proofs valid for their requests");
    assert_eq!(proofs, 3);
}

#[test]
fn a_token_that_names_its_holder_s_key_is_held_to_it_by_the_verdict() {
    let holder = Holder::new();
    let at = target(URL);
    let verdict = |cnf: Value| {
        let token = TestKey::p256().token(r#"{"alg":"ES256"}"#, json!({"cnf": cnf}).to_string());
        let proof = holder.proof(&json!({"ath": base64url_encode(hash(&token))}));
        let file = format!("{token}\r\n");
        let max_age = Duration::from_mins(1);
        let token = Some(file.as_bytes());
        inspect(proof.as_bytes(), &Question { method: "POST", target: &at, token, nonce: None, max_age, now: now() })
            .reason
    };
    assert_eq!(verdict(json!({"jkt": base64url_encode(holder.jkt())})), "ok");
    assert_eq!(verdict(json!({"jkt": base64url_encode([7; 32])})), "wrong_jkt");
    for broken in [json!(7), json!(""), json!("AAAA")] {
        assert_eq!(verdict(json!({"jkt": broken})), "wrong_jkt");
    }
    assert_eq!(verdict(json!({"x5t#S256": "other"})), "ok", "not a key of this kind");
    assert_eq!(verdict(json!({"jwk": holder.0.jwk()})), "ok", "the key itself");
    for other in [TestKey::p256().jwk(), json!({}), json!("key")] {
        assert_eq!(verdict(json!({"jwk": other})), "wrong_jkt");
    }
}

fn shared() -> &'static Holder {
    static HOLDER: OnceLock<Holder> = OnceLock::new();
    HOLDER.get_or_init(Holder::new)
}

fn any_claim() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "https?://[a-z.:@0-9]{0,12}[/%.a-f0-9?#]{0,20}".prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn any_bytes_get_a_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let at = target(URL);
        let max_age = Duration::from_mins(1);
        let question = Question { method: "POST", target: &at, token: Some(&bytes), nonce: None, max_age, now: now() };
        prop_assert!(!inspect(&bytes, &question).valid);
        let text = bytes.iter().map(|b| char::from(b % 128)).collect::<String>();
        prop_assert!(Proof::parse(&text).is_err());
    }

    #[test]
    fn any_claims_get_a_verdict_and_other_headers_too(
        name in prop_oneof![Just("jti"), Just("htm"), Just("htu"), Just("iat"), Just("ath"), Just("nonce")],
        member in prop_oneof![Just("typ"), Just("jwk"), Just("kid"), Just("alg"), Just("x5c")],
        value in any_claim(),
    ) {
        let _ = check(&shared().proof(&json!({name: value})), |_| {});
        let _ = check(&shared().proof_under(&json!({member: value})), |_| {});
    }

    #[test]
    fn one_changed_character_makes_no_second_proof(at in 0usize..2000, to in "[A-Za-z0-9_.-]") {
        let good = shared().proof(&json!({}));
        let at = at % good.len();
        let mut changed = good.clone();
        changed.replace_range(at..=at, &to);
        let refused = check(&changed, |_| {}).is_err();
        prop_assert!(changed == good || refused);
    }
}
