//! Approov's tokens and message signatures, and Firebase App Check's tokens.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base::{Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proof::attest::Level;
use proof::attest::appcheck::{self, AppCheckError, AppCheckRules};
use proof::attest::approov::message::{self, MessageError, MessageKey, MessageRules};
use proof::attest::approov::{ApproovError, ApproovKeys, ApproovRules, verify};
use proof::dpop::TargetUri;
use proof::jose::{KeySet, VerifyingKey, base64url_encode};
use serde_json::{Value, json};

use crate::support::{NOW, TestKey, changed, now, set};

fn reason(token: &str, rules: &ApproovRules<'_>) -> &'static str {
    verify(token, rules).map_or_else(ApproovError::reason, |_| "ok")
}

#[test]
fn every_published_and_made_token_has_the_outcome_it_must_have() {
    let Some(data) = vectors::data() else {
        return vectors::skipped("every_published_and_made_token_has_the_outcome_it_must_have");
    };
    let file: Value =
        serde_json::from_slice(&std::fs::read(data.join("attestation/approov/tokens.json")).unwrap()).unwrap();
    let secret = Secret::new(file["secret_b64"].as_str().unwrap().to_owned());
    let keys = ApproovKeys::secret(&secret).unwrap();
    let outcomes = [
        ("published-valid", "ok"),
        ("published-bad-signature", "bad_signature"),
        ("published-binding-valid", "ok"),
        ("published-binding-mismatch", "binding_mismatch"),
        ("made-full-claims-binding", "ok"),
        ("made-expired", "expired"),
        ("made-no-exp", "missing_claim"),
        ("made-exp-is-string", "bad_claim"),
        ("made-alg-none", "alg_not_allowed"),
        ("made-alg-hs512-header-hs256-mac", "alg_not_allowed"),
        ("made-binding-header-absent", "binding_header_missing"),
        ("made-binding-without-bearer-prefix", "binding_mismatch"),
        ("made-binding-hex-not-base64", "binding_mismatch"),
        ("made-binding-required-but-no-pay", "binding_missing"),
        ("made-key-used-undecoded", "bad_signature"),
        ("made-nbf-future", "not_yet_valid"),
        ("made-trailing-segment", "not_compact_jws"),
    ];
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), outcomes.len());
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let binding = case["binding_header"]["value"].as_str();
        let now = Timestamp::parse_rfc3339(case["now"].as_str().unwrap()).unwrap();
        let rules = ApproovRules { keys: &keys, issuer: None, binding, binding_required: binding.is_some(), now };
        let outcome = reason(case["token"].as_str().unwrap(), &rules);
        assert!(outcomes.contains(&(name, outcome)), "{name}: {outcome}, {}", case["expected"]);
        assert_eq!(outcome == "ok", case["expected"] == "accept", "{name}");
    }
}

#[test]
fn a_key_set_is_used_with_public_keys_only() {
    let (rsa, ec) = (TestKey::rsa(), TestKey::p256());
    let keys = set(&[rsa.jwk_with(&json!({"kid": "r", "alg": "RS256"})), ec.jwk_with(&json!({"kid": "e"}))]);
    let keys = ApproovKeys::key_set(Arc::new(keys));
    let rules = ApproovRules { keys: &keys, issuer: None, binding: None, binding_required: false, now: now() };
    let claims =
        json!({"exp": f64::from(1_800_000_300) + 0.5, "anno": ["first-fetch"], "arc": "JFZS7ZNUT3"}).to_string();
    assert_eq!(reason(&rsa.token(r#"{"alg":"RS256","kid":"r"}"#, &claims), &rules), "ok");
    assert_eq!(reason(&ec.token(r#"{"alg":"ES256","kid":"e"}"#, &claims), &rules), "ok");
    assert_eq!(reason(&ec.token(r#"{"alg":"ES256","kid":"x"}"#, &claims), &rules), "unknown_key");
    assert_eq!(reason(&ec.token(r#"{"alg":"ES256","kid":"r"}"#, &claims), &rules), "bad_signature");
    let shared = TestKey::oct(b"0123456789abcdef0123456789abcdef");
    assert_eq!(reason(&shared.token(r#"{"alg":"HS256","kid":"r"}"#, &claims), &rules), "alg_not_allowed");
    let verified = verify(&ec.token(r#"{"alg":"ES256","kid":"e"}"#, &claims), &rules).unwrap();
    assert_eq!(verified.summary.level, Level::Verdict);
    assert_eq!(verified.annotations, ["first-fetch"]);
    assert_eq!(verified.expires, Timestamp::from_millis(1_800_000_300_500));
}

#[test]
fn claims_of_the_wrong_form_are_refused() {
    let key = TestKey::p256();
    let keys = ApproovKeys::key_set(Arc::new(set(&[key.jwk_with(&json!({"kid": "e"}))])));
    let rules = ApproovRules {
        keys: &keys,
        issuer: Some("account.approov.io"),
        binding: Some("Bearer x"),
        binding_required: false,
        now: now(),
    };
    let good = json!({"exp": NOW + 300, "iss": "account.approov.io"});
    let judge = |more: &Value| {
        reason(&key.token(r#"{"alg":"ES256","kid":"e"}"#, changed(good.clone(), more).to_string()), &rules)
    };
    for (more, expected) in [
        (json!({}), "ok"),
        (json!({"exp": NOW}), "expired"),
        (json!({"exp": f64::from(1_799_999_999) + 0.99}), "expired"),
        (json!({"exp": -1}), "bad_claim"),
        (json!({"exp": 1e300}), "bad_claim"),
        (json!({"exp": true}), "bad_claim"),
        (json!({"iat": NOW + 61}), "not_yet_valid"),
        (json!({"iat": NOW + 59}), "ok"),
        (json!({"iss": "other.approov.io"}), "wrong_issuer"),
        (json!({"iss": null}), "wrong_issuer"),
        (json!({"pay": STANDARD.encode([0; 32])}), "binding_mismatch"),
        (json!({"pay": 5}), "bad_claim"),
        (json!({"anno": "x"}), "bad_claim"),
        (json!({"anno": [1]}), "bad_claim"),
        (json!({"ipk": "AAAA"}), "bad_claim"),
    ] {
        assert_eq!(judge(&more), expected, "{more}");
    }
    assert_eq!(ApproovKeys::secret(&Secret::new("not base64!".into())).unwrap_err().reason(), "secret_not_base64");
    assert_eq!(ApproovKeys::secret(&Secret::new("AAAA".into())).unwrap_err().reason(), "short_secret");
}

/// A request that is signed as Approov's layers sign.
struct Signed {
    covered: String,
    base: String,
    headers: Vec<(&'static str, String)>,
}

const BODY: &[u8] = br#"{"model":"fast"}"#;

fn digest(body: &[u8], quote: char) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    format!("sha-256={quote}{}{quote}", STANDARD.encode(digest))
}

fn request(alg: &str, created: i64, expires: i64, quote: char) -> Signed {
    let headers = vec![("approov-token", "a.b.c".to_owned()), ("content-digest", digest(BODY, quote))];
    let covered = format!(
        r#"("@method" "@target-uri" "approov-token" "content-digest");alg="{alg}";created={created};expires={expires}"#
    );
    let base = format!(
        "\"@method\": POST\n\"@target-uri\": https://ai.example.com/v1/chat?x=1\n\"approov-token\": a.b.c\n\
         \"content-digest\": {}\n\"@signature-params\": {covered}",
        headers[1].1
    );
    Signed { covered, base, headers }
}

fn check(
    signed: &Signed,
    signature: &str,
    key: MessageKey<'_>,
    change: impl FnOnce(&mut MessageRules<'_>),
) -> Result<message::VerifiedMessage, MessageError> {
    let label = format!("{key:?}");
    let mut headers = signed.headers.clone();
    headers.push(("signature-input", format!("{label}={}", signed.covered)));
    headers.push(("signature", format!("{label}={signature}")));
    let targets = [TargetUri::parse("https://ai.example.com/v1/chat").unwrap()];
    let mut rules = MessageRules {
        method: "POST",
        targets: &targets,
        query: Some("x=1"),
        token_field: "approov-token",
        digest_required: true,
        strings: false,
        now: now(),
    };
    change(&mut rules);
    message::verify(headers.iter().map(|(name, value)| (*name, value.as_bytes())), key, &rules)
}

fn public(key: &TestKey) -> Arc<VerifyingKey> {
    Arc::clone(&set(&[key.jwk_with(&json!({"kid": "i"}))]).keys()[0])
}

#[test]
fn an_installation_signs_its_requests() {
    let key = TestKey::p256();
    let public = public(&key);
    let install = MessageKey::Install(&public);
    let signed = request("ecdsa-p256-sha256", NOW, NOW + 15, ':');
    let bytes = STANDARD.encode(key.signature("ES256", signed.base.as_bytes()));
    let signature = format!(":{bytes}:");
    let verified = check(&signed, &signature, install, |_| {}).unwrap();
    assert_eq!(verified.check_body(BODY), Ok(()));
    assert_eq!(verified.check_body(b"other"), Err(MessageError::Body));
    // Strings for byte sequences only where they are allowed.
    let quoted = format!("\"{bytes}\"");
    assert_eq!(check(&signed, &quoted, install, |_| {}).unwrap_err().reason(), "malformed_field");
    assert!(check(&signed, &quoted, install, |rules| rules.strings = true).is_ok());
    let strings = request("ecdsa-p256-sha256", NOW, NOW + 15, '"');
    let of_strings = format!(":{}:", STANDARD.encode(key.signature("ES256", strings.base.as_bytes())));
    assert_eq!(check(&strings, &of_strings, install, |_| {}).unwrap_err().reason(), "malformed_field");
    let verified = check(&strings, &of_strings, install, |rules| rules.strings = true).unwrap();
    assert_eq!(verified.check_body(BODY), Ok(()));

    let reason =
        |change: &dyn Fn(&mut MessageRules<'_>)| check(&signed, &signature, install, change).unwrap_err().reason();
    assert_eq!(reason(&|rules| rules.method = "GET"), "bad_signature");
    assert_eq!(reason(&|rules| rules.query = Some("x=2")), "bad_signature");
    assert_eq!(reason(&|rules| rules.query = None), "bad_signature");
    assert_eq!(reason(&|rules| rules.targets = &[]), "bad_signature");
    assert_eq!(reason(&|rules| rules.token_field = "authorization"), "message_signature_not_covered");
    assert_eq!(reason(&|rules| rules.now = rules.now.plus(Duration::from_secs(21))), "message_signature_expired");
    assert_eq!(reason(&|rules| rules.now = rules.now.minus(Duration::from_secs(6))), "message_signature_in_future");
    let other = self::public(&TestKey::p256());
    assert_eq!(check(&signed, &signature, MessageKey::Install(&other), |_| {}), Err(MessageError::Signature));
    let mut changed = request("ecdsa-p256-sha256", NOW, NOW + 15, ':');
    changed.headers[0].1 = "x.y.z".into();
    assert_eq!(check(&changed, &signature, install, |_| {}), Err(MessageError::Signature));
    for (alg, created, expires, expected) in [
        ("hmac-sha256", NOW, NOW + 15, "alg_not_allowed"),
        ("ecdsa-p256-sha256", NOW, NOW + 3600, "message_signature_lifetime"),
        ("ecdsa-p256-sha256", NOW + 10, NOW, "message_signature_lifetime"),
    ] {
        let signed = request(alg, created, expires, ':');
        let signature = format!(":{}:", STANDARD.encode(key.signature("ES256", signed.base.as_bytes())));
        assert_eq!(check(&signed, &signature, install, |_| {}).unwrap_err().reason(), expected, "{alg} {created}");
    }
}

#[test]
fn the_accounts_secret_signs_too_and_the_two_are_not_mixed_up() {
    let secret = Secret::new(b"a secret only attested apps have".to_vec());
    let account = MessageKey::Account(&secret);
    let signed = request("hmac-sha256", NOW, NOW + 15, ':');
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose()), signed.base.as_bytes());
    let signature = format!(":{}:", STANDARD.encode(tag));
    assert!(check(&signed, &signature, account, |_| {}).is_ok());
    let random = Secret::new(b"what a failing app is handed out".to_vec());
    assert_eq!(check(&signed, &signature, MessageKey::Account(&random), |_| {}), Err(MessageError::Signature));
    let key = public(&TestKey::p256());
    assert_eq!(check(&signed, &signature, MessageKey::Install(&key), |_| {}), Err(MessageError::Algorithm));
    let rules = |headers: &[(&'static str, &'static str)]| {
        let targets = [TargetUri::parse("https://ai.example.com/v1/chat").unwrap()];
        let rules = MessageRules {
            method: "POST",
            targets: &targets,
            query: None,
            token_field: "approov-token",
            digest_required: false,
            strings: true,
            now: now(),
        };
        message::verify(headers.iter().map(|(name, value)| (*name, value.as_bytes())), account, &rules)
            .unwrap_err()
            .reason()
    };
    assert_eq!(rules(&[]), "message_signature_missing");
    assert_eq!(
        rules(&[("signature", "install=:AA==:"), ("signature-input", "install=()")]),
        "message_signature_missing"
    );
    assert_eq!(rules(&[("signature", "account=:AA==:")]), "message_signature_unpaired");
    assert_eq!(rules(&[("signature", "account=("), ("signature-input", "account=()")]), "malformed_field");
    assert_eq!(
        rules(&[("signature", "account=:AA==:"), ("signature-input", "account=()")]),
        "message_signature_parameter"
    );
}

#[test]
fn an_app_check_token_counts_for_its_project_and_app_only() {
    let (google, other) = (TestKey::rsa(), TestKey::p256());
    let keys: KeySet = set(&[google.jwk_with(&json!({"kid": "g", "alg": "RS256", "use": "sig"}))]);
    let apps = ["1:1234567890:android:0123456789abcdef".to_owned()];
    let rules = AppCheckRules { keys: &keys, project: "1234567890", apps: &apps, now: now() };
    let good = json!({
        "iss": "https://firebaseappcheck.googleapis.com/1234567890",
        "aud": ["projects/1234567890", "projects/example"],
        "sub": apps[0], "iat": NOW - 60, "exp": NOW + 3540, "jti": "t-1",
    });
    let header = r#"{"alg":"RS256","kid":"g","typ":"JWT"}"#;
    let judge = |token: &str| appcheck::verify(token, &rules).map_or_else(AppCheckError::reason, |_| "ok");
    let verified = appcheck::verify(&google.token(header, good.to_string()), &rules).unwrap();
    assert_eq!((verified.summary.level, verified.jti.as_deref()), (Level::Verdict, Some("t-1")));
    assert_eq!(verified.summary.flags[0].name(), "appcheck_only");
    for (more, expected) in [
        (json!({"iss": "https://firebaseappcheck.googleapis.com/999"}), "wrong_issuer"),
        (json!({"iss": "https://evil.example/1234567890"}), "wrong_issuer"),
        (json!({"iss": null}), "bad_claim"),
        (json!({"aud": ["projects/999"]}), "wrong_audience"),
        (json!({"aud": "projects/1234567890"}), "ok"),
        (json!({"aud": []}), "bad_claim"),
        (json!({"sub": "1:1234567890:ios:other"}), "wrong_app"),
        (json!({"exp": NOW}), "expired"),
        (json!({"exp": "soon"}), "bad_claim"),
        (json!({"exp": null}), "bad_claim"),
        (json!({"iat": NOW + 120}), "not_yet_valid"),
        (json!({"exp": NOW + 8 * 86_400}), "lifetime_too_long"),
        (json!({"jti": 5}), "bad_claim"),
    ] {
        assert_eq!(judge(&google.token(header, changed(good.clone(), &more).to_string())), expected, "{more}");
    }
    for (header, expected) in [
        (r#"{"alg":"RS256","kid":"x","typ":"JWT"}"#, "unknown_key"),
        (r#"{"alg":"RS256","typ":"JWT"}"#, "unknown_key"),
        (r#"{"alg":"RS512","kid":"g"}"#, "alg_not_allowed"),
        (r#"{"alg":"PS256","kid":"g"}"#, "alg_not_allowed"),
        (r#"{"alg":"RS256","kid":"g","typ":"at+jwt"}"#, "wrong_typ"),
    ] {
        assert_eq!(judge(&google.token(header, good.to_string())), expected, "{header}");
    }
    assert_eq!(judge(&other.token(r#"{"alg":"ES256","kid":"g"}"#, good.to_string())), "alg_not_allowed");
    let forged =
        format!("{}.{}.{}", base64url_encode(header), base64url_encode(good.to_string()), base64url_encode([1; 256]));
    assert_eq!(judge(&forged), "bad_signature");
}
