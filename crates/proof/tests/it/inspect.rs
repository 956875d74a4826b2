//! `vouchgate jwt verify` as a function.

use base::Timestamp;
use proof::inspect::{OperatorKeys, Options, Verdict, jwt};
use proof::jose::Alg;
use serde_json::{Value, json};

use crate::support::{AUD, ISS, NOW, TestKey, claims, claims_with, now};

fn keys(value: &Value) -> OperatorKeys {
    OperatorKeys::from_file(value.to_string().as_bytes()).unwrap()
}

fn options() -> Options {
    Options { now: now(), ..Options::default() }
}

fn check(key: &TestKey, header: &str, claims: &Value, options: &Options) -> Verdict {
    jwt(key.token(header, claims.to_string()).as_bytes(), &keys(&key.jwk()), options)
}

#[test]
fn the_algorithm_comes_from_the_key_or_from_the_option() {
    let key = TestKey::rsa();
    for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        assert!(check(key, &header, &claims(), &options()).valid, "{alg}");
        let only = Options { algorithms: vec![Alg::Rs256], ..options() };
        let verdict = check(key, &header, &claims(), &only);
        assert_eq!(
            (verdict.valid, verdict.reason),
            if alg == "RS256" { (true, "ok") } else { (false, "alg_not_allowed") }
        );
        let bound = keys(&key.jwk_with(&json!({"alg": "RS256"})));
        let verdict = jwt(key.token(&header, claims().to_string()).as_bytes(), &bound, &options());
        assert_eq!(verdict.valid, alg == "RS256");
    }
}

#[test]
fn an_operator_s_file_may_hold_shared_and_private_keys() {
    let secret = TestKey::oct(&[0xa5; 64]);
    for alg in ["HS256", "HS384", "HS512"] {
        assert!(check(&secret, &format!(r#"{{"alg":"{alg}","kid":"any"}}"#), &claims(), &options()).valid);
    }
    let short = TestKey::oct(&[0xa5; 31]);
    assert_eq!(check(&short, r#"{"alg":"HS256"}"#, &claims(), &options()).reason, "key_size");
    let key = TestKey::p256();
    let private = key.jwk_with(&json!({"d": "AAAA", "kid": "k1", "key_ops": ["sign"]}));
    let set = keys(&json!({"keys": [secret.jwk_with(&json!({"kid": "s"})), private]}));
    let verdict =
        |header: &str, key: &TestKey| jwt(key.token(header, claims().to_string()).as_bytes(), &set, &options());
    assert!(verdict(r#"{"alg":"ES256","kid":"k1"}"#, &key).valid);
    assert!(verdict(r#"{"alg":"ES256"}"#, &key).valid, "without kid every fitting key is tried");
    assert!(verdict(r#"{"alg":"HS256","kid":"s"}"#, &secret).valid);
    assert_eq!(verdict(r#"{"alg":"HS256","kid":"k1"}"#, &secret).reason, "alg_key_mismatch");
    assert_eq!(verdict(r#"{"alg":"ES256","kid":"zz"}"#, &key).reason, "unknown_key");
}

#[test]
fn claims_are_checked_as_asked() {
    let key = TestKey::p256();
    let header = r#"{"alg":"ES256","typ":"at+jwt"}"#;
    let reason = |change: Value, options: &Options| check(&key, header, &claims_with(&change), options).reason;
    let ask = Options {
        issuer: Some(ISS.into()),
        audience: Some(AUD.into()),
        typ: Some("application/AT+jwt".into()),
        ..options()
    };
    assert_eq!(reason(json!({}), &ask), "ok");
    assert_eq!(reason(json!({"iss": "x"}), &ask), "wrong_issuer");
    assert_eq!(reason(json!({"iss": [ISS]}), &ask), "bad_claim");
    assert_eq!(reason(json!({"iss": null}), &ask), "missing_claim");
    assert_eq!(reason(json!({"aud": "x"}), &ask), "wrong_audience");
    assert_eq!(reason(json!({"aud": [AUD, 7]}), &ask), "bad_claim");
    assert_eq!(reason(json!({"aud": null}), &ask), "missing_claim");
    assert_eq!(reason(json!({"exp": NOW}), &options()), "expired");
    assert_eq!(reason(json!({"exp": "x"}), &options()), "bad_claim");
    assert_eq!(reason(json!({"nbf": NOW + 1}), &options()), "not_yet_valid");
    assert_eq!(
        reason(json!({"exp": null, "iss": null, "aud": null, "sub": null}), &options()),
        "ok",
        "only what is asked"
    );
    let other = Options { typ: Some("dpop+jwt".into()), ..options() };
    assert_eq!(reason(json!({}), &other), "wrong_typ");
    let long_ago = Options { now: Timestamp::from_secs(1), ..options() };
    assert_eq!(reason(json!({}), &long_ago), "issued_in_future");
}

#[test]
fn the_verdict_prints_as_the_contract_says() {
    let key = TestKey::p256();
    let verdict = check(&key, r#"{"alg":"ES256"}"#, &claims(), &options());
    let printed = serde_json::to_value(&verdict).unwrap();
    assert_eq!(printed, json!({"valid": true, "reason": "ok", "header": {"alg": "ES256"}, "claims": claims()}));
    let verdict = jwt(b"nonsense", &keys(&key.jwk()), &options());
    assert_eq!(serde_json::to_value(&verdict).unwrap(), json!({"valid": false, "reason": "not_compact_jws"}));
}

#[test]
fn a_raw_payload_is_anything_and_shown_only_when_it_is_signed() {
    let key = TestKey::ed25519();
    let raw = Options { raw: true, ..options() };
    let token = key.token(r#"{"alg":"EdDSA"}"#, b"\xff not json");
    let verdict = jwt(format!("{token}\n").as_bytes(), &keys(&key.jwk()), &raw);
    assert_eq!(verdict.payload.as_deref(), Some("_yBub3QganNvbg"));
    assert!(verdict.valid && verdict.claims.is_none());
    let other = TestKey::ed25519();
    let verdict = jwt(token.as_bytes(), &keys(&other.jwk()), &raw);
    assert_eq!((verdict.valid, verdict.reason, verdict.payload), (false, "bad_signature", None));
    assert_eq!(jwt(token.as_bytes(), &keys(&key.jwk()), &options()).reason, "malformed_json");
}

#[test]
fn a_secret_file_ends_where_its_text_ends() {
    let secret = b"tVm3x9QzKf7RwYb2NhJc8LpDs5GaEu4X";
    let token = TestKey::oct(secret).token(r#"{"alg":"HS256","typ":"JWT"}"#, claims().to_string());
    for end in ["", "\n", "\r\n"] {
        let file = [secret.as_slice(), end.as_bytes()].concat();
        let keys = OperatorKeys::from_secret_file(&file, &[]).unwrap();
        assert!(jwt(token.as_bytes(), &keys, &options()).valid, "{end:?}");
    }
    let keys = OperatorKeys::from_secret_file(&[secret.as_slice(), b"\n\n"].concat(), &[]).unwrap();
    assert!(!jwt(token.as_bytes(), &keys, &options()).valid, "only one line break is the editor's");
    assert_eq!(OperatorKeys::from_secret_file(b"secret\n", &[]).unwrap_err().reason(), "well_known_secret");
}
