//! Android Key Attestation: every published chain with the outcome it must have, chains with one defect each, and what
//! becomes of a genuine chain when anything about it is changed.

use std::path::{Path, PathBuf};

use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proof::attest::Level;
use proof::attest::android::{AndroidApp, AndroidRules, KeyDescription, VerifiedAndroid, verify};
use proof::attest::asn1::DerError;
use proof::attest::chain::{Anchors, Certificate, certificates_from_pem};
use proof::attest::status::StatusList;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A chain with everything it is judged by.
#[derive(Clone)]
struct Case {
    chain: Vec<Vec<u8>>,
    anchors: Anchors,
    status: StatusList,
    now: Timestamp,
    challenge: Option<Vec<u8>>,
    app: Option<AndroidApp>,
    boot_keys: Vec<Vec<u8>>,
}

impl Case {
    fn verify(&self) -> Result<VerifiedAndroid, &'static str> {
        let ders: Vec<&[u8]> = self.chain.iter().map(Vec::as_slice).collect();
        let rules = AndroidRules {
            anchors: &self.anchors,
            status: &self.status,
            now: self.now,
            challenge: self.challenge.as_deref(),
            app: self.app.as_ref(),
            boot_keys: &self.boot_keys,
        };
        verify(&ders, &rules).map_err(proof::attest::android::AndroidError::reason)
    }

    /// The reason of the refusal, or the level and the flags that are more than numbers.
    fn outcome(&self) -> String {
        match self.verify() {
            Err(reason) => reason.to_owned(),
            Ok(verified) => {
                let flags = verified.summary.flags.iter().map(proof::attest::Flag::name);
                let said =
                    flags.filter(|name| !["os_patch_age", "rkp_issue_count", "strongbox_missing"].contains(name));
                [verified.summary.level.name()].into_iter().chain(said).collect::<Vec<_>>().join(" ")
            }
        }
    }

    fn refusal(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut changed = self.clone();
        change(&mut changed);
        changed.outcome()
    }
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn data(test: &str) -> Option<PathBuf> {
    let data = vectors::data().map(|data| data.join("attestation"));
    if data.is_none() {
        vectors::skipped(test);
    }
    data
}

fn json_file(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    // One of Google's begins with a comment.
    let text: String = text.lines().filter(|line| !line.starts_with("//")).collect();
    serde_json::from_str(&text).unwrap()
}

/// A real chain, judged under Google's roots.
fn real(file: &Path, now: &str) -> Case {
    let chain = certificates_from_pem(&std::fs::read_to_string(file).unwrap(), 10).unwrap();
    let status = StatusList::empty();
    let anchors = Anchors::google().unwrap();
    Case { chain, anchors, status, now: at(now), challenge: None, app: None, boot_keys: Vec::new() }
}

/// What the app is, as Google's own reading of the chain says.
fn with_expectations(mut case: Case, description: &Value) -> Case {
    let application = &description["softwareEnforced"]["attestationApplicationId"];
    let package = &application["packages"][0];
    let digest = |text: &Value| {
        let text = text.as_str().unwrap();
        let bytes = if text.len() == 64 { unhex(text) } else { STANDARD.decode(text).unwrap() };
        <[u8; 32]>::try_from(bytes).unwrap()
    };
    let digests = application["signatures"].as_array().unwrap().iter().map(digest).collect();
    let name = package["name"].as_str().unwrap().to_owned();
    case.app = Some(AndroidApp { package: name, digests, least_version: None });
    let challenge = description["attestationChallenge"].as_str().unwrap();
    let hex = challenge.bytes().all(|b| b.is_ascii_hexdigit());
    case.challenge = Some(if hex { unhex(challenge) } else { STANDARD.decode(challenge).unwrap() });
    case
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_published_chain_has_the_outcome_it_must_have() {
    let Some(data) = data("every_published_chain_has_the_outcome_it_must_have") else { return };
    let unlocked = "none bootloader_unlocked boot_unverified";
    for (file, now, outcome) in [
        ("android-keyattestation/caiman/sdk36/SB_EC_RKP", "2025-09-26T18:00:00Z", "hw-strong"),
        ("android-keyattestation/caiman/sdk36/TEE_EC_RKP", "2025-09-26T18:00:00Z", "hw-strong"),
        ("android-keyattestation/blueline/sdk28/TEE_EC_NONE", "2020-08-29T00:00:00Z", unlocked),
        // A key on RSA is none of ours, whatever the device.
        ("android-keyattestation/blueline/sdk28/TEE_RSA_NONE", "2020-08-29T00:00:00Z", "key_not_p256"),
        ("android-keyattestation/blueline/sdk28/SB_RSA_NONE", "2020-08-29T00:00:00Z", "key_not_p256"),
        ("android-keyattestation/blueline/sdk28/SB_RSA_NONE_USERAUTH", "2020-08-29T00:00:00Z", "key_not_p256"),
        ("android-keyattestation/marlin/sdk29/TEE_EC_NONE", "2019-11-01T00:00:00Z", "chain_unknown_root"),
        ("android-keyattestation/marlin/sdk29/TEE_RSA_NONE", "2019-11-01T00:00:00Z", "chain_unknown_root"),
    ] {
        let description = json_file(&data.join(format!("{file}.json")));
        let case = with_expectations(real(&data.join(format!("{file}.pem")), now), &description);
        assert_eq!(case.outcome(), outcome, "{file}");
    }
    for (file, outcome) in [("pixel-6", "hw-strong"), ("nokia-x10", "hw-strong")] {
        let said = json_file(&data.join(format!("warden/{file}.json")));
        let case = real(&data.join(format!("warden/{file}.pem")), said["verify_at"].as_str().unwrap());
        assert_eq!(with_expectations(case, &said["key_description"]).outcome(), outcome, "{file}");
    }
    for (file, now, outcome) in [
        ("warden/android-emulator-ec", "2023-04-17T15:10:00Z", "chain_unknown_root"),
        ("warden/android-emulator-rsa", "2023-04-17T15:10:00Z", "chain_unknown_root"),
        ("google-android-key-attestation/algorithm_EC_SecurityLevel_TEE", "2018-06-01T00:00:00Z", unlocked),
        ("google-android-key-attestation/algorithm_RSA_SecurityLevel_TEE", "2018-06-01T00:00:00Z", "key_not_p256"),
        (
            "google-android-key-attestation/algorithm_EC_SecurityLevel_StrongBox",
            "2018-06-01T00:00:00Z",
            "chain_unknown_root",
        ),
        (
            "google-android-key-attestation/algorithm_RSA_SecurityLevel_StrongBox",
            "2018-06-01T00:00:00Z",
            "chain_unknown_root",
        ),
    ] {
        assert_eq!(real(&data.join(format!("{file}.pem")), now).outcome(), outcome, "{file}");
    }
}

#[test]
fn what_a_chain_says_is_what_google_reads_in_it() {
    let Some(data) = data("what_a_chain_says_is_what_google_reads_in_it") else { return };
    let dir = data.join("android-keyattestation/caiman/sdk36");
    let case = real(&dir.join("SB_EC_RKP.pem"), "2025-09-26T18:00:00Z");
    let verified = case.verify().unwrap();
    let facts = Value::Object(verified.summary.facts.clone());
    let said = json_file(&dir.join("SB_EC_RKP.json"));
    assert_eq!(facts["security_level"], "strongbox");
    assert_eq!(facts["provisioning"], "remote");
    assert_eq!(facts["boot_state"], "verified");
    assert_eq!(facts["device_locked"], true);
    assert_eq!(facts["attestation_version"], 300);
    assert_eq!(facts["os_version"].to_string(), said["hardwareEnforced"]["osVersion"].as_str().unwrap());
    assert_eq!(facts["os_patch_level"].to_string(), said["hardwareEnforced"]["osPatchLevel"].as_str().unwrap());
    assert_eq!(facts["packages"], json!([{"name": "com.google.android.attestation", "version": 0}]));
    assert_eq!(facts["certificate_serials"][0], "65d2949536924da695f5ae1eb290cd4d");
    assert_eq!(verified.serials.len(), 4);
    assert_eq!(verified.summary.level, Level::HwStrong);
    // What would name the device stays in the certificate.
    let shown = facts.to_string();
    assert!(!shown.contains("caiman") && !shown.contains("Pixel"), "{shown}");
    let nokia = real(&data.join("warden/nokia-x10.pem"), "2023-04-14T13:14:42Z").verify().unwrap();
    assert_eq!(nokia.summary.facts["provisioning"], "factory");
    assert_eq!(nokia.summary.facts["security_level"], "tee");
}

#[test]
fn anything_changed_about_a_genuine_chain_is_refused_for_its_own_reason() {
    let Some(data) = data("anything_changed_about_a_genuine_chain_is_refused_for_its_own_reason") else { return };
    let caiman = data.join("android-keyattestation/caiman/sdk36");
    let remote = ["SB_EC_RKP", "TEE_EC_RKP"].map(|name| {
        let case = real(&caiman.join(format!("{name}.pem")), "2025-09-26T18:00:00Z");
        (with_expectations(case, &json_file(&caiman.join(format!("{name}.json")))), true)
    });
    let warden = [("pixel-6", true), ("nokia-x10", false)].map(|(name, over_the_air)| {
        let said = json_file(&data.join(format!("warden/{name}.json")));
        let case = real(&data.join(format!("warden/{name}.pem")), said["verify_at"].as_str().unwrap());
        (with_expectations(case, &said["key_description"]), over_the_air)
    });
    for (case, over_the_air) in remote.into_iter().chain(warden) {
        assert_eq!(case.outcome(), "hw-strong");
        negatives(&case, over_the_air);
    }
}

/// Each change to a chain that holds, and the reason it is refused for.
fn negatives(case: &Case, over_the_air: bool) {
    let app = |change: &dyn Fn(&mut AndroidApp)| case.refusal(|case| change(case.app.as_mut().unwrap()));
    assert_eq!(case.refusal(|case| case.challenge.as_mut().unwrap()[0] ^= 1), "challenge_mismatch");
    assert_eq!(case.refusal(|case| case.challenge.as_mut().unwrap().truncate(3)), "challenge_mismatch");
    assert_eq!(case.refusal(|case| case.challenge = Some(Vec::new())), "challenge_mismatch");
    assert_eq!(app(&|app| app.package = "com.example.other".into()), "package_mismatch");
    assert_eq!(app(&|app| app.digests[0][31] ^= 1), "signing_digest_mismatch");
    assert_eq!(app(&|app| app.digests.clear()), "signing_digest_mismatch");
    assert_eq!(app(&|app| app.least_version = Some(1_000)), "app_version_too_old");
    assert_eq!(case.refusal(|case| case.chain.reverse()), "chain_root_missing");
    assert_eq!(case.refusal(|case| drop(case.chain.pop())), "chain_root_missing");
    assert_eq!(case.refusal(|case| drop(case.chain.remove(0))), "key_description_missing");
    assert_eq!(case.refusal(|case| drop(case.chain.remove(1))), "chain_issuer_mismatch");
    assert_eq!(case.refusal(|case| case.chain.swap(1, 2)), "chain_issuer_mismatch");
    assert_eq!(case.refusal(|case| case.chain.insert(1, case.chain[0].clone())), "key_description_above_leaf");
    assert_eq!(case.refusal(|case| case.chain.truncate(2)), "chain_length");
    assert_eq!(case.refusal(|case| case.chain[0].push(0)), "chain_malformed_certificate");
    assert_eq!(case.refusal(|case| case.chain[0].truncate(400)), "chain_malformed_certificate");
    let signature = case.chain[0].len() - 1;
    assert_eq!(case.refusal(|case| case.chain[0][signature] ^= 1), "chain_bad_signature");
    let only = |at: usize| {
        let ders = [case.chain[at].as_slice()];
        Anchors::from_der(ders).unwrap()
    };
    let root = case.chain.len() - 1;
    assert_eq!(case.refusal(|case| case.anchors = only(root)), "hw-strong");
    assert_eq!(case.refusal(|case| case.anchors = only(root - 1)), "chain_unknown_root");
    assert_eq!(case.refusal(|case| case.now = at("2016-01-01T00:00:00Z")), "chain_not_yet_valid");
    // What came over the air ends; what a factory put in stays.
    let later = if over_the_air { "chain_expired" } else { "hw-strong" };
    assert_eq!(case.refusal(|case| case.now = at("2036-01-01T00:00:00Z")), later);
    for position in 0..case.chain.len() {
        let hex = Certificate::parse(&case.chain[position], position).unwrap().serial_hex();
        let decimal = Certificate::parse(&case.chain[position], position).unwrap().serial_decimal();
        for (key, status, reason) in [
            (hex.clone(), "REVOKED", "certificate_revoked"),
            (hex.to_uppercase(), "REVOKED", "certificate_revoked"),
            (decimal, "REVOKED", "certificate_revoked"),
            (hex, "SUSPENDED", "certificate_suspended"),
        ] {
            let list = json!({"entries": {key: {"status": status}}}).to_string();
            let list = StatusList::parse(list.as_bytes()).unwrap();
            assert_eq!(case.refusal(|case| case.status = list), reason);
        }
    }
}

#[test]
fn the_leaf_of_another_chain_does_not_fit() {
    let Some(data) = data("the_leaf_of_another_chain_does_not_fit") else { return };
    let caiman = data.join("android-keyattestation/caiman/sdk36");
    let now = "2025-09-26T18:00:00Z";
    let (strongbox, tee) = (real(&caiman.join("SB_EC_RKP.pem"), now), real(&caiman.join("TEE_EC_RKP.pem"), now));
    assert_eq!(strongbox.refusal(|case| case.chain[0] = tee.chain[0].clone()), "chain_issuer_mismatch");
    // Both have intermediates of one name, and different keys.
    assert_eq!(strongbox.refusal(|case| case.chain[2] = tee.chain[2].clone()), "chain_bad_signature");
}

#[test]
fn googles_own_list_is_read_with_its_two_kinds_of_keys() {
    let Some(data) = data("googles_own_list_is_read_with_its_two_kinds_of_keys") else { return };
    let list = std::fs::read(data.join("google-android-key-attestation/status.json")).unwrap();
    let list = StatusList::parse(&list).unwrap();
    assert_eq!(list.len(), 5);
    let status = |hex: &str| list.of_serial(hex).map(proof::attest::status::Revocation::name);
    assert_eq!(status("cc66e9a93713b6e643b26c15879786f7"), Some("suspended"));
    assert_eq!(status("00CC66E9A93713B6E643B26C15879786F7"), Some("suspended"));
    assert_eq!(status(&format!("{:x}", 6_681_152_659_205_225_093_u64)), Some("revoked"));
    assert_eq!(status("6681152659205225093"), Some("revoked"));
    assert_eq!(status(&format!("{:x}", 6_681_152_659_205_225_094_u64)), None);
}

/// The synthetic chains: one defect each, under a root of their own.
fn synthetic(case: &Value, root: &str) -> Case {
    let chain = case["chain_b64"].as_array().unwrap().iter().map(|der| STANDARD.decode(der.as_str().unwrap()).unwrap());
    let expect = &case["expect"];
    let digest = |hex: &Value| <[u8; 32]>::try_from(unhex(hex.as_str().unwrap())).unwrap();
    let digests = expect["signing_digest_hex"].as_array().unwrap().iter().map(digest).collect();
    let package = expect["package"].as_str().unwrap().to_owned();
    let status = json!({"entries": case["revoked"]}).to_string();
    Case {
        chain: chain.collect(),
        anchors: Anchors::from_pem(root).unwrap(),
        status: StatusList::parse(status.as_bytes()).unwrap(),
        now: at(case["now"].as_str().unwrap()),
        challenge: Some(STANDARD.decode(expect["challenge_b64"].as_str().unwrap()).unwrap()),
        app: Some(AndroidApp { package, digests, least_version: None }),
        boot_keys: Vec::new(),
    }
}

#[test]
fn every_defect_is_refused_for_its_own_reason() {
    let Some(data) = data("every_defect_is_refused_for_its_own_reason") else { return };
    let file = json_file(&data.join("synthetic/android-testroot.json"));
    let expected = [
        ("valid-rkp-tee", "hw-strong"),
        ("valid-factory", "hw-strong"),
        ("valid-leaf-dates-nonsense", "hw-strong"),
        ("rkp-expired", "chain_expired"),
        ("forged-root", "chain_unknown_root"),
        ("chain-reversed", "chain_root_missing"),
        ("chain-root-missing", "chain_root_missing"),
        ("leaf-without-extension-below-genuine", "key_description_above_leaf"),
        ("issuer-not-ca", "chain_not_authority"),
        ("revoked-intermediate-decimal-key", "certificate_revoked"),
        ("revoked-other", "hw-strong"),
        ("challenge-empty", "challenge_mismatch"),
        ("package-other", "package_mismatch"),
        ("two-packages", "package_shared"),
        ("application-id-in-hardware-list", "application_id_missing"),
        ("software-level", "security_level_software"),
        ("strongbox-claimed-in-tee-chain", "security_level_not_of_chain"),
        ("boot-selfsigned-locked", "none boot_selfsigned"),
        ("boot-verified-but-unlocked", "none bootloader_unlocked"),
        ("root-of-trust-in-software-list-only", "root_of_trust_missing"),
        ("boot-state-9", "key_description_malformed"),
        ("origin-imported", "key_origin_not_generated"),
        ("origin-only-in-software-list", "key_origin_not_generated"),
        ("patch-level-old", "hw-strong"),
        ("patch-level-zero", "hw-strong os_patch_unknown"),
        ("future-attestation-version-900", "hw-strong"),
        ("root-of-trust-duplicated", "key_description_malformed"),
        ("key-description-truncated", "key_description_malformed"),
        ("key-description-nine-fields", "key_description_malformed"),
        ("leaf-key-p384", "key_not_p256"),
    ];
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), expected.len());
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let (_, outcome) = expected.iter().find(|(known, _)| *known == name).unwrap();
        let judged = synthetic(case, file["test_root_pem"].as_str().unwrap());
        assert_eq!(judged.outcome(), *outcome, "{name}: {}", case["expected"]);
        // A file that says "valid" is valid here, and one that says "reject" is not.
        let valid = judged.verify().is_ok_and(|verified| verified.summary.level > Level::None);
        let said = case["expected"].as_str().unwrap();
        assert_eq!(valid, said.starts_with("valid") || name.starts_with("patch-level"), "{name}: {said}");
    }
}

#[test]
fn a_system_the_operator_trusts_counts_although_its_owner_signed_it() {
    let Some(data) = data("a_system_the_operator_trusts_counts_although_its_owner_signed_it") else { return };
    let file = json_file(&data.join("synthetic/android-testroot.json"));
    let cases = file["cases"].as_array().unwrap();
    let named = |name: &str| {
        let case = cases.iter().find(|case| case["name"] == name).unwrap();
        synthetic(case, file["test_root_pem"].as_str().unwrap())
    };
    let case = named("boot-selfsigned-locked");
    let boot_key = case.verify().unwrap().description.hardware.root_of_trust.unwrap().verified_boot_key;
    assert_eq!(case.refusal(|case| case.boot_keys = vec![boot_key.clone()]), "hw boot_selfsigned");
    assert_eq!(case.refusal(|case| case.boot_keys = vec![vec![0; 32]]), "none boot_selfsigned");
    let unlocked = named("boot-verified-but-unlocked");
    assert_eq!(unlocked.refusal(|case| case.boot_keys = vec![boot_key.clone()]), "none bootloader_unlocked");
    let age = named("patch-level-old").verify().unwrap().summary.flags;
    let age = age.iter().find(|flag| flag.name() == "os_patch_age").unwrap();
    assert_eq!(*age.value(), proof::attest::FlagValue::Number(1785));
}

/// A description as a device of ours would write it, from the fuzz corpus.
fn description() -> Vec<u8> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/android_key_description");
    std::fs::read(corpus.join("valid_rkp_tee")).unwrap()
}

proptest! {
    #[test]
    fn any_description_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = KeyDescription::parse(&bytes);
    }

    #[test]
    fn a_description_that_is_cut_or_longer_is_refused(cut in 0usize..300, more in 1usize..4) {
        let whole = description();
        prop_assume!(cut < whole.len());
        prop_assert!(KeyDescription::parse(&whole[..cut]).is_err());
        prop_assert!(KeyDescription::parse(&[whole.as_slice(), &vec![0; more]].concat()).is_err());
    }

    #[test]
    fn a_boolean_has_two_spellings(octet in 1u8..=0xfe) {
        let mut bytes = description();
        // The only BOOLEAN: after the boot key, before the boot state.
        let at = bytes.windows(6).position(|six| six == [1, 1, 0xff, 0x0a, 1, 0]).unwrap() + 2;
        bytes[at] = octet;
        prop_assert_eq!(KeyDescription::parse(&bytes), Err(DerError::NotDer));
        bytes[at] = 0;
        prop_assert!(!KeyDescription::parse(&bytes).unwrap().hardware.root_of_trust.unwrap().device_locked);
    }
}
