//! Play Integrity: the synthetic tokens with the outcome each must have, and verdicts of every shape.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use base::{Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proof::attest::android::AndroidApp;
use proof::attest::play::{Binding, DEFAULT_MAX_AGE, PlayError, PlayKeys, PlayRules, judge_decoded, verify};
use proof::attest::{Flag, FlagValue, Level, Summary};
use proof::jose::{base64url_decode, base64url_encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::TestKey;

const NONCE: &str = "bm9uY2Utb2YtdGhlLXRlc3Q";
const NOW: i64 = 1_795_219_200_000;

fn app() -> AndroidApp {
    AndroidApp { package: "com.example.app".into(), digests: vec![[7; 32]], least_version: Some(40) }
}

fn rules(app: &AndroidApp) -> PlayRules<'_> {
    PlayRules {
        app,
        binding: Binding::Nonce(NONCE),
        now: Timestamp::from_millis(NOW),
        max_age: DEFAULT_MAX_AGE,
        allow_testing: false,
    }
}

fn payload() -> Value {
    json!({
        "requestDetails": {"requestPackageName": "com.example.app", "nonce": NONCE, "timestampMillis": "1795219195000"},
        "appIntegrity": {"appRecognitionVerdict": "PLAY_RECOGNIZED", "packageName": "com.example.app",
            "certificateSha256Digest": [base64url_encode([9; 32]), base64url_encode([7; 32])], "versionCode": "42"},
        "deviceIntegrity": {"deviceRecognitionVerdict": ["MEETS_DEVICE_INTEGRITY"]},
        "accountDetails": {"appLicensingVerdict": "LICENSED"},
        "environmentDetails": {"playProtectVerdict": "NO_ISSUES"},
    })
}

fn judged(payload: &Value, rules: &PlayRules<'_>) -> Result<Summary, PlayError> {
    judge_decoded(json!({"tokenPayloadExternal": payload}).to_string().as_bytes(), rules)
}

/// The payload with one member changed, or taken out.
fn changed(path: &str, value: Value) -> Value {
    let mut payload = payload();
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = payload.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.to_owned(), value);
    }
    payload
}

fn reason(payload: &Value) -> &'static str {
    judged(payload, &rules(&app())).map_or_else(PlayError::reason, |_| "ok")
}

fn flags(payload: &Value) -> (Level, Vec<(&'static str, FlagValue)>) {
    let summary = judged(payload, &rules(&app())).unwrap();
    (summary.level, summary.flags.iter().map(|flag| (flag.name(), flag.value().clone())).collect())
}

#[test]
fn every_synthetic_token_has_the_outcome_it_must_have() {
    let Some(data) = vectors::data() else {
        return vectors::skipped("every_synthetic_token_has_the_outcome_it_must_have");
    };
    let file = std::fs::read(data.join("attestation/synthetic/play-integrity.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let text = |name: &str| file[name].as_str().unwrap().to_owned();
    let decryption = Secret::new(text("decryption_key_b64"));
    let keys = PlayKeys::new(&decryption, &text("verification_key_spki_b64")).unwrap();
    let expect = &file["expect"];
    let digest = base64url_decode(expect["certificate_sha256_b64url"][0].as_str().unwrap()).unwrap();
    let package = expect["package"].as_str().unwrap().to_owned();
    let app = AndroidApp { package, digests: vec![digest.try_into().unwrap()], least_version: None };
    let rules = PlayRules {
        binding: Binding::Nonce(expect["nonce"].as_str().unwrap()),
        now: Timestamp::from_millis(expect["now_millis"].as_i64().unwrap()),
        ..rules(&app)
    };
    let outcomes = [
        ("valid-classic", "verdict"),
        ("bad-signer", "bad_signature"),
        ("alg-hs256-with-public-key-as-secret", "alg_not_allowed"),
        ("outer-alg-dir", "jwe_algorithm"),
        ("outer-zip", "jwe_compressed"),
        ("other-nonce", "nonce_mismatch"),
        ("other-request-package", "package_mismatch"),
        ("other-certificate", "signing_digest_mismatch"),
        ("unrecognized-version", "none pi_unrecognized_app"),
        ("no-device-verdict", "none pi_no_device"),
        ("virtual", "none pi_virtual"),
        ("unlicensed", "verdict pi_unlicensed"),
        ("future-2-min", "verdict_in_future"),
        ("testing-response", "verdict_testing_response"),
    ];
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), outcomes.len());
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let outcome = match verify(case["token"].as_str().unwrap(), &keys, &rules) {
            Err(error) => error.reason().to_owned(),
            Ok(summary) => {
                let flags = summary.flags.iter().map(Flag::name);
                [summary.level.name()].into_iter().chain(flags).collect::<Vec<_>>().join(" ")
            }
        };
        assert!(outcomes.contains(&(name, outcome.as_str())), "{name}: {outcome}, {}", case["expected"]);
    }
    let valid = cases.iter().find(|case| case["name"] == "valid-classic").unwrap()["token"].as_str().unwrap();
    let testing = cases.iter().find(|case| case["name"] == "testing-response").unwrap()["token"].as_str().unwrap();
    assert!(verify(testing, &keys, &PlayRules { allow_testing: true, ..rules }).is_ok());
    attacks(valid, &keys, &rules);
    let wrong = PlayKeys::new(&Secret::new(STANDARD.encode([1; 32])), &text("verification_key_spki_b64")).unwrap();
    assert_eq!(verify(valid, &wrong, &rules).unwrap_err().reason(), "jwe_decrypt");
}

/// What becomes of a good token in the hands of others.
fn attacks(valid: &str, keys: &PlayKeys, rules: &PlayRules<'_>) {
    let reason = |token: &str| verify(token, keys, rules).unwrap_err().reason();
    let parts: Vec<&str> = valid.split('.').collect();
    for at in 0..5 {
        let mut bytes = base64url_decode(parts[at]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let mut changed: Vec<String> = parts.iter().map(ToString::to_string).collect();
        changed[at] = base64url_encode(bytes);
        let reason = reason(&changed.join("."));
        assert!(["jwe_decrypt", "jwe_algorithm", "malformed_json"].contains(&reason), "part {at}: {reason}");
    }
    for token in
        ["", "a.b.c", &parts[..4].join("."), &format!("{valid}.AAAA"), &valid.replace('.', ".."), &parts.join(".A")]
    {
        assert_eq!(reason(token), "not_compact_jwe", "{token}");
    }
    assert_eq!(reason(&"A".repeat(40_000)), "token_too_long");
    let old = PlayRules { now: rules.now.plus(Duration::from_mins(6)), ..*rules };
    assert_eq!(verify(valid, keys, &old).unwrap_err().reason(), "verdict_too_old");
    let hash = PlayRules { binding: Binding::RequestHash(NONCE), ..*rules };
    assert_eq!(verify(valid, keys, &hash).unwrap_err().reason(), "nonce_mismatch");
}

/// A token whose inner text is anything.
fn sealed(header: &str, inner: &str, kek: &[u8; 32]) -> String {
    let content_key = [3; 32];
    let mut wrapped = [0; 40];
    let wrapped = AesKek::new(&AES_256, kek).unwrap().wrap(&content_key, &mut wrapped).unwrap().to_vec();
    let header = base64url_encode(header);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &content_key).unwrap());
    let mut content = inner.as_bytes().to_vec();
    let nonce = Nonce::assume_unique_for_key([5; 12]);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(header.as_bytes()), &mut content).unwrap();
    let parts = [wrapped.as_slice(), &[5; 12], &content, tag.as_ref()].map(base64url_encode).join(".");
    format!("{header}.{parts}")
}

#[test]
fn both_layers_have_one_algorithm_each() {
    let (kek, key) = ([8; 32], TestKey::p256());
    let TestKey::Ec(pair, _) = &key else { panic!("made on P-256") };
    let spki = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(
        aws_lc_rs::signature::KeyPair::public_key(pair),
    );
    let keys = PlayKeys::new(&Secret::new(STANDARD.encode(kek)), &STANDARD.encode(spki.unwrap().as_ref())).unwrap();
    let (app, outer) = (app(), r#"{"alg":"A256KW","enc":"A256GCM"}"#);
    let rules = rules(&app);
    let reason = |token: &str| verify(token, &keys, &rules).map_or_else(PlayError::reason, |_| "ok");
    let inner = key.token(r#"{"alg":"ES256"}"#, payload().to_string());
    assert_eq!(reason(&sealed(outer, &inner, &kek)), "ok");
    for (header, expected) in [
        (r#"{"alg":"A256KW","enc":"A256GCM","kid":"k","typ":"JWT"}"#, "ok"),
        (r#"{"alg":"A256KW","enc":"A256GCM","zip":"DEF"}"#, "jwe_compressed"),
        (r#"{"alg":"A256KW","enc":"A256GCM","crit":["x"],"x":1}"#, "crit_unsupported"),
        (r#"{"alg":"A256GCMKW","enc":"A256GCM"}"#, "jwe_algorithm"),
        (r#"{"alg":"A256KW","enc":"A128CBC-HS256"}"#, "jwe_algorithm"),
        (r#"{"alg":"none","enc":"A256GCM"}"#, "jwe_algorithm"),
        (r#"{"alg":"A256KW"}"#, "jwe_algorithm"),
        (r#"{"alg":"dir","alg":"A256KW","enc":"A256GCM"}"#, "duplicate_member"),
        ("[]", "not_an_object"),
    ] {
        assert_eq!(reason(&sealed(header, &inner, &kek)), expected, "{header}");
    }
    for (inner, expected) in [
        (TestKey::p256().token(r#"{"alg":"ES256"}"#, payload().to_string()), "bad_signature"),
        (TestKey::p384().token(r#"{"alg":"ES384"}"#, payload().to_string()), "alg_not_allowed"),
        (key.token(r#"{"alg":"none"}"#, payload().to_string()), "unsupported_alg"),
        (key.token(r#"{"alg":"ES256","crit":["x"]}"#, payload().to_string()), "crit_unsupported"),
        (key.token(r#"{"alg":"ES256"}"#, "[]"), "not_an_object"),
        (payload().to_string(), "not_compact_jws"),
        (String::new(), "not_compact_jws"),
    ] {
        assert_eq!(reason(&sealed(outer, &inner, &kek)), expected, "{inner}");
    }
}

#[test]
fn keys_of_another_kind_are_refused() {
    let good = Secret::new(STANDARD.encode([1; 32]));
    for wrong in ["", "AAAA", "not base64"] {
        let refused = PlayKeys::new(&Secret::new(wrong.into()), "AAAA").unwrap_err();
        assert_eq!(refused.reason(), "play_decryption_key");
        assert_eq!(PlayKeys::new(&good, wrong).unwrap_err().reason(), "play_verification_key");
    }
}

#[test]
fn what_was_asked_for_is_compared_first() {
    assert_eq!(reason(&payload()), "ok");
    for (path, value, expected) in [
        ("/requestDetails/requestPackageName", json!("com.evil.app"), "package_mismatch"),
        ("/requestDetails/requestPackageName", Value::Null, "verdict_malformed"),
        ("/requestDetails/nonce", json!("b3RoZXI"), "nonce_mismatch"),
        ("/requestDetails/nonce", json!(""), "nonce_mismatch"),
        ("/requestDetails/nonce", Value::Null, "nonce_mismatch"),
        ("/requestDetails/nonce", json!(format!("{NONCE}==")), "ok"),
        ("/requestDetails/nonce", json!([NONCE]), "verdict_malformed"),
        ("/requestDetails/timestampMillis", json!(NOW - 5000), "ok"),
        ("/requestDetails/timestampMillis", json!((NOW - 301_000).to_string()), "verdict_too_old"),
        ("/requestDetails/timestampMillis", json!((NOW + 61_000).to_string()), "verdict_in_future"),
        ("/requestDetails/timestampMillis", json!((NOW + 59_000).to_string()), "ok"),
        ("/requestDetails/timestampMillis", json!("-1"), "verdict_malformed"),
        ("/requestDetails/timestampMillis", json!("1e12"), "verdict_malformed"),
        ("/requestDetails/timestampMillis", json!(""), "verdict_malformed"),
        ("/requestDetails/timestampMillis", json!(1.5), "verdict_malformed"),
        ("/requestDetails/timestampMillis", Value::Null, "verdict_malformed"),
        ("/requestDetails", Value::Null, "verdict_malformed"),
        ("/appIntegrity/packageName", json!("com.evil.app"), "package_mismatch"),
        ("/appIntegrity/packageName", Value::Null, "package_mismatch"),
        ("/appIntegrity/certificateSha256Digest", json!([base64url_encode([8; 32])]), "signing_digest_mismatch"),
        ("/appIntegrity/certificateSha256Digest", json!([]), "signing_digest_mismatch"),
        ("/appIntegrity/certificateSha256Digest", json!("x"), "verdict_malformed"),
        ("/appIntegrity/versionCode", json!("39"), "app_version_too_old"),
        ("/appIntegrity/versionCode", json!(40), "ok"),
        ("/appIntegrity/versionCode", Value::Null, "app_version_too_old"),
        ("/appIntegrity", Value::Null, "verdict_malformed"),
        ("/testingDetails", json!({"isTestingResponse": true}), "verdict_testing_response"),
        ("/testingDetails", json!({"isTestingResponse": "no"}), "verdict_malformed"),
        ("/testingDetails", json!({}), "ok"),
        ("/deviceIntegrity", json!([]), "verdict_malformed"),
        ("/deviceIntegrity/deviceRecognitionVerdict", json!("MEETS_DEVICE_INTEGRITY"), "verdict_malformed"),
        ("/accountDetails", json!(1), "verdict_malformed"),
    ] {
        assert_eq!(reason(&changed(path, value.clone())), expected, "{path}: {value}");
    }
    // A standard request has a hash of its own.
    let standard = changed("/requestDetails/requestHash", json!("aGFzaA"));
    let (app, hash) = (app(), Binding::RequestHash("aGFzaA"));
    assert!(judged(&standard, &PlayRules { binding: hash, ..rules(&app) }).is_ok());
    assert_eq!(judged(&payload(), &PlayRules { binding: hash, ..rules(&app) }), Err(PlayError::Nonce));
    assert_eq!(judged(&payload(), &PlayRules { binding: Binding::Nonce(""), ..rules(&app) }), Err(PlayError::Nonce));
    assert_eq!(judge_decoded(b"{}", &rules(&app)).unwrap_err().reason(), "verdict_malformed");
}

#[test]
fn every_field_of_a_verdict_becomes_a_flag_or_a_fact() {
    assert_eq!(flags(&payload()), (Level::Verdict, Vec::new()));
    let text = |text: &str| FlagValue::Text(text.into());
    let one = |level: Level, name: &'static str, value: FlagValue| (level, vec![(name, value)]);
    for (path, value, expected) in [
        (
            "/deviceIntegrity/deviceRecognitionVerdict",
            json!(["MEETS_BASIC_INTEGRITY"]),
            one(Level::None, "pi_basic_only", FlagValue::Set(true)),
        ),
        (
            "/deviceIntegrity/deviceRecognitionVerdict",
            json!(["MEETS_NEW_THING"]),
            one(Level::None, "pi_no_device", FlagValue::Set(true)),
        ),
        (
            "/deviceIntegrity/deviceRecognitionVerdict",
            json!(["MEETS_STRONG_INTEGRITY", "MEETS_NEW_THING"]),
            (Level::Verdict, Vec::new()),
        ),
        ("/deviceIntegrity", Value::Null, one(Level::None, "pi_no_device", FlagValue::Set(true))),
        (
            "/deviceIntegrity/recentDeviceActivity",
            json!({"deviceActivityLevel": "LEVEL_4"}),
            one(Level::Verdict, "pi_device_activity", FlagValue::Number(4)),
        ),
        (
            "/deviceIntegrity/recentDeviceActivity",
            json!({"deviceActivityLevel": "UNEVALUATED"}),
            (Level::Verdict, Vec::new()),
        ),
        (
            "/deviceIntegrity/deviceRecall",
            json!({"values": {"bitFirst": true, "bitSecond": false, "bitThird": true}, "writeDates": {"yyyymmFirst": 202_610}}),
            one(Level::Verdict, "pi_device_recall", FlagValue::Number(5)),
        ),
        (
            "/accountDetails/appLicensingVerdict",
            json!("UNLICENSED"),
            one(Level::Verdict, "pi_unlicensed", FlagValue::Set(true)),
        ),
        ("/accountDetails/appLicensingVerdict", json!("SOMETHING_NEW"), (Level::Verdict, Vec::new())),
        (
            "/environmentDetails/playProtectVerdict",
            json!("HIGH_RISK"),
            one(Level::Verdict, "pi_play_protect", text("HIGH_RISK")),
        ),
        (
            "/environmentDetails/appAccessRiskVerdict",
            json!({"appsDetected": ["KNOWN_INSTALLED", "UNKNOWN_CONTROLLING", "NEW"]}),
            one(Level::Verdict, "pi_app_access", text("UNKNOWN_CONTROLLING")),
        ),
        (
            "/appIntegrity/appRecognitionVerdict",
            json!("UNRECOGNIZED_VERSION"),
            one(Level::None, "pi_unrecognized_app", text("UNRECOGNIZED_VERSION")),
        ),
        (
            "/appIntegrity/appRecognitionVerdict",
            json!("SOMETHING_NEW"),
            one(Level::None, "pi_unrecognized_app", text("UNEVALUATED")),
        ),
        (
            "/appIntegrity",
            json!({"appRecognitionVerdict": "UNEVALUATED"}),
            one(Level::None, "pi_unrecognized_app", text("UNEVALUATED")),
        ),
    ] {
        assert_eq!(flags(&changed(path, value.clone())), expected, "{path}: {value}");
    }
    let mut payload = changed("/deviceIntegrity/deviceAttributes", json!({"sdkVersion": 36}));
    payload["deviceIntegrity"]["legacyDeviceRecognitionVerdict"] = json!(["MEETS_BASIC_INTEGRITY"]);
    let facts = Value::Object(judged(&payload, &rules(&app())).unwrap().facts);
    assert_eq!(facts["sdk_version"], 36);
    assert_eq!(facts["version_code"], 42);
    assert_eq!(facts["licensing"], "LICENSED");
    assert_eq!(facts["legacy_device_recognition"], json!(["MEETS_BASIC_INTEGRITY"]));
}

proptest! {
    #[test]
    fn any_payload_is_judged_or_refused(
        path in "/(requestDetails|appIntegrity|deviceIntegrity|accountDetails|environmentDetails)/[a-zA-Z]{1,12}",
        value in prop_oneof![Just(json!(true)), Just(json!([{}])), Just(json!({"a": [1]})), "[A-Z_]{0,9}".prop_map(Value::from)],
    ) {
        let mut payload = payload();
        let (parent, name) = path.rsplit_once('/').unwrap();
        payload.pointer_mut(parent).unwrap()[name] = value;
        // Members of tomorrow change nothing.
        prop_assert_eq!(reason(&payload), "ok");
    }

    #[test]
    fn any_text_is_opened_or_refused(text in "[A-Za-z0-9_.-]{0,200}") {
        let key = STANDARD.encode([1; 32]);
        let spki = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7EgIkQ+HmqAWaJ6jPs+Ar6UlSy+6UJ2wPGDlBj8sNnhc1YVrBRf+J5ZG9cPtfazLHqedx3R3tPt8NK13xy2x4w==";
        let keys = PlayKeys::new(&Secret::new(key), spki).unwrap();
        prop_assert!(verify(&text, &keys, &rules(&app())).is_err());
    }
}
