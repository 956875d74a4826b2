//! Files of evidence as `attest verify` judges them: every one in the shared data, with the outcome it must have.

use std::path::{Path, PathBuf};

use base::Timestamp;
use proof::attest::Level;
use proof::attest::chain::Anchors;
use proof::attest::inspect::{File, InspectError, MAX_FILE_LEN, Options, Verdict, inspect};
use serde_json::{Value, json};

fn data(test: &str) -> Option<PathBuf> {
    let data = vectors::data().map(|data| data.join("attestation"));
    if data.is_none() {
        vectors::skipped(test);
    }
    data
}

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T00:00:00Z").unwrap()
}

fn judged(path: &Path, options: &Options) -> Result<Vec<Verdict>, InspectError> {
    let beside = |name: &str| std::fs::read(path.parent().unwrap().join(name)).ok();
    let bytes = std::fs::read(path).unwrap();
    let stem = path.file_stem().unwrap().to_str().unwrap();
    inspect(File { bytes: &bytes, stem, beside: &beside }, options, now())
}

fn text_judged(text: &str, options: &Options) -> Result<Vec<Verdict>, InspectError> {
    inspect(File { bytes: text.as_bytes(), stem: "it", beside: &|_| None }, options, now())
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if matches!(path.extension().and_then(|ending| ending.to_str()), Some("json" | "pem")) {
            found.push(path);
        }
    }
    found.sort();
}

/// The moment that makes a recording of Android valid, where its file does not say, and whether it is.
fn android(path: &str) -> (i64, bool) {
    match path {
        path if path.contains("caiman") => (1_758_909_600, true),
        // Unlocked: the chain holds, and the level says what it is worth. Keys on RSA are none of ours.
        path if path.contains("blueline") => (1_598_659_200, path.contains("TEE_EC")),
        path if path.contains("EC_SecurityLevel_TEE") => (1_598_659_200, true),
        path if path.contains("pixel-6") || path.contains("nokia-x10") => (1_681_482_622, true),
        path if path.contains("android-emulator") => (1_681_744_200, false),
        _ => (1_598_659_200, false),
    }
}

#[test]
fn every_file_of_the_shared_data_has_the_outcome_its_description_says() {
    let test = "every_file_of_the_shared_data_has_the_outcome_its_description_says";
    let Some(root) = data(test) else { return };
    let mut found = Vec::new();
    files(&root, &mut found);
    let mut judged_cases = 0;
    for path in found {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        // What others' evidence is judged by is no evidence.
        if name.starts_with("roots/") || name.ends_with("status.json") {
            continue;
        }
        let real_android = ["android-keyattestation", "google-android", "warden"];
        let verdicts = if real_android.iter().any(|dir| name.starts_with(dir)) {
            let (moment, valid) = android(&name);
            let options = Options { now: Some(Timestamp::from_secs(moment)), ..Options::default() };
            let verdicts = judged(&path, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(verdicts[0].valid, valid, "{name}: {:?}", verdicts[0]);
            verdicts
        } else {
            judged(&path, &Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        judged_cases += verdicts.len();
        if path.extension().is_some_and(|ending| ending == "pem")
            || real_android.iter().any(|dir| name.starts_with(dir))
        {
            continue;
        }
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let whole = [file.clone()];
        let cases = file["cases"].as_array().or(file["receipts"].as_array()).map_or(&whole[..], Vec::as_slice);
        assert_eq!(cases.len(), verdicts.len(), "{name}");
        for (case, verdict) in cases.iter().zip(&verdicts) {
            let expected = case["expected"].as_str().or(case["expected"]["result"].as_str()).unwrap_or("valid");
            let refused = expected.starts_with("reject") || expected.starts_with("policy/reject");
            assert_eq!(verdict.valid, !refused, "{name}: {verdict:?}, expected {expected}");
            assert_eq!(verdict.valid, verdict.reason == "ok", "{name}");
            assert_eq!(verdict.case.as_deref(), case["name"].as_str());
            if expected.starts_with("policy") && !refused {
                let noted = !verdict.flags.is_empty() || verdict.level == Some(Level::None);
                assert!(noted, "{name}: {verdict:?}, expected {expected}");
            }
        }
    }
    assert!(judged_cases > 100, "{judged_cases}");
}

#[test]
fn an_option_goes_before_what_the_file_says() {
    let Some(root) = data("an_option_goes_before_what_the_file_says") else { return };
    let apple = root.join("bas-d/chiff-attestation-test.attestation.json");
    let reason = |path: &Path, options: Options| judged(path, &options).unwrap()[0].reason;
    let none = Options::default;
    assert_eq!(reason(&apple, none()), "ok");
    assert_eq!(reason(&apple, Options { app: Some("A.b".into()), ..none() }), "app_id_mismatch");
    assert_eq!(reason(&apple, Options { challenge: Some(b"other".to_vec()), ..none() }), "nonce_mismatch");
    assert_eq!(reason(&apple, Options { now: Some(now()), ..none() }), "chain_expired");
    assert_eq!(reason(&apple, Options { anchors: Some(Anchors::google().unwrap()), ..none() }), "chain_unknown_root");
    let pixel = root.join("warden/pixel-6.json");
    assert_eq!(reason(&pixel, none()), "ok");
    let package = Options { app: Some("at.asitplus.attestation_client".into()), ..none() };
    assert_eq!(reason(&pixel, package), "ok");
    assert_eq!(reason(&pixel, Options { app: Some("com.example".into()), ..none() }), "package_mismatch");
    assert_eq!(reason(&pixel, Options { challenge: Some(b"other".to_vec()), ..none() }), "challenge_mismatch");
    let apples =
        Anchors::from_pem(&std::fs::read_to_string(root.join("roots/Apple_App_Attestation_Root_CA.pem")).unwrap());
    assert_eq!(reason(&pixel, Options { anchors: Some(apples.unwrap()), ..none() }), "chain_unknown_root");
    // A list with one of the chain's serial numbers.
    let serials = judged(&pixel, &none()).unwrap()[0].facts["certificate_serials"].clone();
    let list = json!({"entries": {serials[0].as_str().unwrap(): {"status": "SUSPENDED"}}}).to_string();
    let listed = Options { status: Some(Options::status(list.as_bytes()).unwrap()), ..none() };
    assert_eq!(reason(&pixel, listed), "certificate_suspended");
}

#[test]
fn what_is_no_evidence_is_neither_valid_nor_invalid() {
    let none = Options::default();
    let error = |text: &str| text_judged(text, &none).unwrap_err();
    assert_eq!(error(""), InspectError::Form);
    assert_eq!(error("certificates"), InspectError::Form);
    assert_eq!(error("{\"a\": 1"), InspectError::Form);
    assert_eq!(error("{}"), InspectError::Unknown);
    assert_eq!(error("{\"entries\": {}}"), InspectError::Unknown);
    assert_eq!(error("{\"cases\": [1]}"), InspectError::Unknown);
    assert_eq!(error("{\"cases\": [{}]}"), InspectError::Unknown);
    assert_eq!(error(&" ".repeat(MAX_FILE_LEN + 1)), InspectError::TooLong);
    let missing = error(&json!({"attestation_b64": "oA=="}).to_string());
    assert_eq!(missing, InspectError::Missing("the app", "--app"));
    let missing = error(&json!({"attestation_b64": "oA==", "app_id": "A.b"}).to_string());
    assert_eq!(missing, InspectError::Missing("the challenge", "--challenge"));
    let options = Options { app: Some("A.b".into()), challenge: Some(vec![1]), ..Options::default() };
    let verdict = &text_judged(&json!({"attestation_b64": "oA=="}).to_string(), &options).unwrap()[0];
    assert_eq!((verdict.valid, verdict.reason, verdict.level), (false, "unexpected_members", Some(Level::None)));
    let verdict = &text_judged(&json!({"attestation_b64": "*"}).to_string(), &options).unwrap()[0];
    assert_eq!((verdict.valid, verdict.reason), (false, "bad_base64"));
    let verdict = &text_judged("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", &options).unwrap()[0];
    assert_eq!((verdict.valid, verdict.reason), (false, "chain_malformed_pem"));
    assert!(text_judged("{\"cases\": []}", &options).unwrap().is_empty());
}

#[test]
fn a_case_that_cannot_be_judged_does_not_keep_the_others_from_it() {
    let options = Options { app: Some("A.b".into()), challenge: Some(vec![1]), ..Options::default() };
    let good = json!({"name": "good", "attestation_b64": "oA=="});
    let no_key = json!({"name": "no-key", "assertion_b64": "oA==", "public_key_pem": "x"});
    let cases = json!({"cases": [no_key, 1, {}, good, {"chain": "missing.pem"}]}).to_string();
    let verdicts = text_judged(&cases, &options).unwrap();
    let reasons: Vec<_> = verdicts.iter().map(|verdict| (verdict.valid, verdict.reason)).collect();
    let expected = ["expectation_malformed", "no_evidence", "no_evidence", "unexpected_members", "file_missing"]
        .map(|one| (false, one));
    assert_eq!(reasons, expected);
    assert_eq!(verdicts[0].case.as_deref(), Some("no-key"));
}

#[test]
fn a_file_leads_to_no_other_directory() {
    let asked = std::cell::RefCell::new(Vec::new());
    let beside = |name: &str| {
        asked.borrow_mut().push(name.to_owned());
        None
    };
    for name in ["../chain.pem", "/etc/passwd", "a/b.pem", "..\\b", ".hidden", ""] {
        let text = json!({ "chain": name }).to_string();
        let file = File { bytes: text.as_bytes(), stem: "it", beside: &beside };
        assert_eq!(inspect(file, &Options::default(), now()), Err(InspectError::Beside(name.to_owned())));
    }
    assert!(asked.borrow().is_empty());
}

#[test]
fn a_verdict_is_one_flat_object() {
    let options = Options { app: Some("A.b".into()), challenge: Some(vec![1]), ..Options::default() };
    let verdict = &text_judged(&json!({"name": "n", "attestation_b64": ""}).to_string(), &options).unwrap()[0];
    let printed = serde_json::to_value(verdict).unwrap();
    let expected = json!({"valid": false, "reason": "cbor_truncated", "case": "n", "evidence": "apple-app-attest",
                          "level": "none", "flags": []});
    assert_eq!(printed, expected);
}
