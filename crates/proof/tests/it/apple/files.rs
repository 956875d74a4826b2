//! Recorded devices, and the cases made for this project.

use std::time::Duration;

use proof::attest::apple::{
    AppleError, AssertionRules, AttestationRules, ClientData, Environment, VerifiedAssertion, VerifiedAttestation,
    attestation_root, verify_assertion, verify_attestation,
};
use proof::attest::cbor;
use proof::attest::chain::Anchors;
use proof::attest::{FlagValue, Level};
use serde_json::Value;

use super::{bytes, moment, point, real, recordings};

/// A recorded attestation, with what it is to be judged by.
struct Recorded {
    name: String,
    object: Vec<u8>,
    app_id: String,
    anchors: Anchors,
    app_ids: [&'static str; 1],
    environment: Environment,
    environments: [Environment; 1],
    client: Vec<u8>,
    as_hash: bool,
    key_id: Vec<u8>,
    at: base::Timestamp,
    expected: Value,
}

impl Recorded {
    fn of((name, file): (String, Value)) -> Self {
        let hash = &file["client_data_hash"];
        let app_id = file["app_id"].as_str().unwrap();
        let environment = Environment::from_name(file["environment"].as_str().unwrap()).unwrap();
        Self {
            name,
            object: bytes(&file["attestation_b64"]),
            app_id: app_id.to_owned(),
            anchors: attestation_root().unwrap(),
            app_ids: [Box::leak(app_id.to_owned().into_boxed_str())],
            environment,
            environments: [environment],
            client: bytes(&hash["challenge_b64"]),
            as_hash: hash["mode"] == "raw",
            key_id: bytes(&file["key_id_b64"]),
            at: moment(&file["verify_at"]),
            expected: file["expected"].clone(),
        }
    }

    /// The verdict on `object` after `change` to what it is judged by.
    fn judge<'r>(
        &'r self,
        object: &[u8],
        change: impl FnOnce(&mut AttestationRules<'r>),
    ) -> Result<VerifiedAttestation, AppleError> {
        let client_data = if self.as_hash { ClientData::AsHash(&self.client) } else { ClientData::Plain(&self.client) };
        let mut rules = AttestationRules {
            anchors: &self.anchors,
            now: self.at,
            app_ids: &self.app_ids,
            environments: &self.environments,
            client_data,
            key_id: Some(&self.key_id),
        };
        change(&mut rules);
        verify_attestation(object, &rules)
    }

    /// Why it is refused after `change`.
    fn refused<'r>(&'r self, change: impl FnOnce(&mut AttestationRules<'r>)) -> &'static str {
        self.judge(&self.object, change).unwrap_err().reason()
    }
}

fn attestations(test: &str) -> Option<Vec<Recorded>> {
    Some(real(&recordings(test)?, ".attestation.json").into_iter().map(Recorded::of).collect())
}

#[test]
fn every_recorded_device_is_accepted_at_its_time_with_its_facts() {
    let Some(all) = attestations("every_recorded_device_is_accepted_at_its_time_with_its_facts") else { return };
    for one in &all {
        let verified = one.judge(&one.object, |_| {}).unwrap_or_else(|error| panic!("{}: {error}", one.name));
        assert_eq!(verified.public_key, point(&one.expected["public_key_pem"]), "{}", one.name);
        assert_eq!(verified.environment, one.environment);
        assert_eq!(verified.key_id.as_slice(), one.key_id);
        let production = one.environment == Environment::Production;
        assert_eq!(verified.summary.level, if production { Level::HwStrong } else { Level::Hw });
        assert_eq!(verified.summary.flags.iter().any(|flag| flag.name() == "env_development"), !production);
        let extensions = &one.expected["extensions"];
        let category = extensions["apple_validation_category_01"].as_str();
        let expected = category.map(|hex| u32::from_str_radix(hex, 16).unwrap().swap_bytes());
        assert_eq!(verified.extensions.category, expected, "{}", one.name);
        assert_eq!(verified.extensions.bundle_version.as_deref(), extensions["apple_bundle_version_01"].as_str());
    }
}

#[test]
fn each_thing_that_is_not_as_asked_is_refused_for_its_own_reason() {
    let test = "each_thing_that_is_not_as_asked_is_refused_for_its_own_reason";
    let Some(all) = attestations(test) else { return };
    let google = Anchors::google().unwrap();
    let year = Duration::from_hours(400 * 24);
    for one in &all {
        let other = ["ABCDE12345.com.example.other"];
        let upper = one.app_id.to_ascii_uppercase();
        let upper = [upper.as_str()];
        assert_eq!(one.refused(|rules| rules.client_data = ClientData::Plain(b"another")), "nonce_mismatch");
        assert_eq!(one.refused(|rules| rules.client_data = ClientData::AsHash(b"another")), "nonce_mismatch");
        assert_eq!(one.refused(|rules| rules.key_id = Some(&[7; 32])), "key_id_mismatch");
        assert_eq!(one.refused(|rules| rules.key_id = Some(&[])), "key_id_mismatch");
        assert_eq!(one.refused(|rules| rules.app_ids = &other), "app_id_mismatch");
        assert_eq!(one.refused(|rules| rules.app_ids = &[]), "app_id_mismatch");
        assert_eq!(one.refused(|rules| rules.app_ids = &upper), "app_id_mismatch", "{}", one.name);
        assert_eq!(one.refused(|rules| rules.environments = &[]), "environment_not_allowed");
        assert_eq!(one.refused(|rules| rules.anchors = &google), "chain_unknown_root");
        assert_eq!(one.refused(|rules| rules.now = rules.now.plus(year)), "chain_expired");
        assert_eq!(one.refused(|rules| rules.now = rules.now.minus(year)), "chain_not_yet_valid");
        // Any of several identifiers will do, and the one that made it is named.
        let both = ["ABCDE12345.com.example.other", one.app_id.as_str()];
        let accepted = one.judge(&one.object, |rules| {
            rules.app_ids = &both;
            rules.environments = &[Environment::Production, Environment::Development];
            rules.key_id = None;
        });
        assert_eq!(accepted.unwrap().app_id, one.app_id);
    }
}

#[test]
fn another_devices_key_chain_or_data_does_not_fit() {
    let Some(all) = attestations("another_devices_key_chain_or_data_does_not_fit") else { return };
    for (one, other) in all.iter().zip(all.iter().skip(1)) {
        // Some devices were given one challenge.
        let wanted = if one.client == other.client { AppleError::KeyId } else { AppleError::Nonce };
        assert_eq!(one.judge(&other.object, |rules| rules.now = other.at).unwrap_err(), wanted);
        // The other's authenticator data under this one's chain.
        let (mine, theirs) = (split(&one.object), split(&other.object));
        let mixed = join(&mine.certificates, &mine.receipt, &theirs.auth_data);
        assert_eq!(one.judge(&mixed, |_| {}).unwrap_err(), AppleError::Nonce, "{}", one.name);
        // This one's authenticator data under the other's chain.
        let mixed = join(&theirs.certificates, &mine.receipt, &mine.auth_data);
        assert_eq!(one.judge(&mixed, |rules| rules.now = other.at).unwrap_err(), AppleError::Nonce);
        let reversed: Vec<_> = mine.certificates.iter().rev().cloned().collect();
        let reversed = join(&reversed, &mine.receipt, &mine.auth_data);
        assert!(one.judge(&reversed, |_| {}).unwrap_err().reason().starts_with("chain_"), "{}", one.name);
        for count in [0, 1, 3] {
            let chain: Vec<_> = mine.certificates.iter().cycle().take(count).cloned().collect();
            let error = one.judge(&join(&chain, &mine.receipt, &mine.auth_data), |_| {}).unwrap_err();
            assert_eq!(error.reason(), "chain_length", "{count} certificates");
        }
        assert!(one.judge(&join(&mine.certificates, &mine.receipt, &mine.auth_data), |_| {}).is_ok());
    }
}

#[test]
fn no_byte_that_counts_can_be_changed_or_cut_off() {
    let Some(all) = attestations("no_byte_that_counts_can_be_changed_or_cut_off") else { return };
    for one in all.iter().take(4) {
        let (receipt, mut accepted) = (split(&one.object).receipt, 0);
        let original = one.judge(&one.object, |_| {}).unwrap();
        let start = one.object.windows(receipt.len()).position(|window| window == receipt).unwrap();
        for at in (0..one.object.len()).filter(|at| !(start..start + receipt.len()).contains(at)).step_by(11) {
            let mut changed = one.object.clone();
            changed[at] ^= 1 << (at % 8);
            // What nobody signs (the algorithm's name outside the signed part) may change, what is read may not.
            if let Ok(verified) = one.judge(&changed, |_| {}) {
                assert_eq!(verified, original, "{}: byte {at}", one.name);
                accepted += 1;
            }
        }
        assert!(accepted < 3, "{}: {accepted} changes went unseen", one.name);
        for length in (0..one.object.len()).step_by(257) {
            assert!(one.judge(&one.object[..length], |_| {}).is_err(), "{}: {length} bytes", one.name);
        }
        let longer = [one.object.as_slice(), &[0]].concat();
        assert_eq!(one.judge(&longer, |_| {}).unwrap_err().reason(), "trailing_bytes");
    }
}

/// The reason each made case is refused for, by what its file expects.
fn reason_of(name: &str) -> &'static str {
    match name {
        "category-length-3" => "malformed_extensions",
        "ext-trailing-byte" => "auth_data_trailing",
        "ext-duplicate-key" | "cbor-duplicate-top-key" => "duplicate_key",
        "wrong-app" | "repackaged-other-team" => "app_id_mismatch",
        "environment-development-given-production-wanted" => "environment_not_allowed",
        "aaguid-unknown" => "unknown_environment",
        "counter-1" => "counter_not_zero",
        "credential-id-16" => "credential_id_mismatch",
        "cose-key-differs" => "cose_key_mismatch",
        "nonce-ext-inner-tag-0" | "nonce-ext-trailing" => "nonce_layout",
        "nonce-zero" => "nonce_mismatch",
        "chain-forged-root-appended" | "chain-leaf-only" => "chain_length",
        "chain-reversed" => "chain_unknown_root",
        "leaf-expired" | "intermediate-expired" => "chain_expired",
        "cbor-trailing" => "trailing_bytes",
        "cbor-deep-nesting" | "receipt-huge" => "too_long",
        "empty" => "cbor_truncated",
        "authdata-empty" => "auth_data_bounds",
        other => panic!("{other} has no reason here"),
    }
}

#[test]
fn each_made_attestation_has_the_outcome_it_was_made_for() {
    let Some(root) = recordings("each_made_attestation_has_the_outcome_it_was_made_for") else { return };
    let file: Value =
        serde_json::from_slice(&std::fs::read(root.join("synthetic/app-attest-testroot.json")).unwrap()).unwrap();
    let anchors = Anchors::from_pem(file["test_root_pem"].as_str().unwrap()).unwrap();
    for case in file["cases"].as_array().unwrap() {
        let (name, expected) = (case["name"].as_str().unwrap(), case["expected"].as_str().unwrap());
        let (key_id, client) = (bytes(&case["key_id_b64"]), bytes(&case["challenge_b64"]));
        let verdict = verify_attestation(
            &bytes(&case["attestation_b64"]),
            &AttestationRules {
                anchors: &anchors,
                now: moment(&case["verify_at"]),
                app_ids: &[case["app_id"].as_str().unwrap()],
                environments: &[Environment::from_name(case["environment"].as_str().unwrap()).unwrap()],
                client_data: ClientData::Plain(&client),
                key_id: Some(&key_id),
            },
        );
        if expected.starts_with("reject") {
            let error = verdict.err().unwrap_or_else(|| panic!("{name} is accepted"));
            if name == "chain-three-levels-pathlen" {
                assert!(error.reason().starts_with("chain_"), "{name}: {error}");
            } else {
                assert_eq!(error.reason(), reason_of(name), "{name}: {error}");
            }
            continue;
        }
        let verified = verdict.unwrap_or_else(|error| panic!("{name}: {error}"));
        let category = expected.split_once("category ").and_then(|(_, rest)| {
            rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|number| number.parse().ok())
        });
        if let Some(category) = category {
            let flag = verified.summary.flags.iter().find(|flag| flag.name() == "category");
            assert_eq!(flag.map(|flag| flag.value().clone()), Some(FlagValue::Number(category)), "{name}");
        }
    }
}

#[test]
fn every_recorded_and_made_assertion_has_its_outcome() {
    let Some(root) = recordings("every_recorded_and_made_assertion_has_its_outcome") else { return };
    let made: Value =
        serde_json::from_slice(&std::fs::read(root.join("synthetic/app-attest-assertions.json")).unwrap()).unwrap();
    let mut cases: Vec<Value> = real(&root, "assertion-0.json").into_iter().map(|(_, file)| file).collect();
    cases.extend(made["cases"].as_array().unwrap().iter().cloned());
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let verdict = Asserted::of(case).judge(|_| {});
        let wanted = match name {
            "counter-equal" | "counter-zero" => "counter_regression",
            "client-data-unhashed" | "signature-zero" => "bad_signature",
            "other-app" => "app_id_mismatch",
            "signature-raw" => "signature_not_der",
            "authdata-36" => "auth_data_bounds",
            "ext-array" => "malformed_extensions",
            "fields-swapped-types" => "unexpected_members",
            _ => "ok",
        };
        assert_eq!(verdict.as_ref().map_or_else(|error| error.reason(), |_| "ok"), wanted, "{name}");
        let expected = case["expected"].as_str().unwrap_or("valid");
        assert_eq!(verdict.is_ok(), expected.starts_with("valid"), "{name}");
        if let (Ok(verified), Some(counter)) = (&verdict, case["expected"]["counter"].as_u64()) {
            assert_eq!(u64::from(verified.counter), counter);
        }
    }
}

#[test]
fn an_assertion_is_good_for_its_key_its_data_its_app_and_once() {
    let Some(root) = recordings("an_assertion_is_good_for_its_key_its_data_its_app_and_once") else { return };
    let all: Vec<Value> = real(&root, "assertion-0.json").into_iter().map(|(_, file)| file).collect();
    for (one, other) in all.iter().zip(all.iter().cycle().skip(1)) {
        let (theirs, data) = (point(&other["public_key_pem"]), bytes(&one["client_data_b64"]));
        let hash = bytes(&one["client_data_hash_b64"]);
        let apps = ["ABCDE12345.com.example.other"];
        let one = Asserted::of(one);
        assert_eq!(one.refused(|rules| rules.previous_counter = 1), "counter_regression");
        assert_eq!(one.refused(|rules| rules.client_data = ClientData::Plain(b"other")), "bad_signature");
        assert_eq!(one.refused(|rules| rules.client_data = ClientData::AsHash(b"other")), "bad_signature");
        assert_eq!(one.refused(|rules| rules.client_data = ClientData::AsHash(&data)), "bad_signature");
        assert_eq!(one.refused(|rules| rules.app_ids = &apps), "app_id_mismatch");
        if theirs != one.key {
            assert_eq!(one.refused(|rules| rules.public_key = &theirs), "bad_signature");
        }
        // The hash the device was given is that of the data.
        assert!(one.judge(|rules| rules.client_data = ClientData::AsHash(&hash)).is_ok());
    }
}

/// A recorded assertion, with what it is to be judged by.
struct Asserted {
    object: Vec<u8>,
    key: [u8; 65],
    app_ids: [&'static str; 1],
    previous: u32,
    data: Vec<u8>,
}

impl Asserted {
    fn of(case: &Value) -> Self {
        Self {
            object: bytes(&case["assertion_b64"]),
            key: point(&case["public_key_pem"]),
            app_ids: [Box::leak(case["app_id"].as_str().unwrap().to_owned().into_boxed_str())],
            previous: u32::try_from(case["previous_counter"].as_u64().unwrap()).unwrap(),
            data: bytes(&case["client_data_b64"]),
        }
    }

    fn judge<'r>(&'r self, change: impl FnOnce(&mut AssertionRules<'r>)) -> Result<VerifiedAssertion, AppleError> {
        let mut rules = AssertionRules {
            public_key: &self.key,
            app_ids: &self.app_ids,
            previous_counter: self.previous,
            client_data: ClientData::Plain(&self.data),
        };
        change(&mut rules);
        verify_assertion(&self.object, &rules)
    }

    fn refused<'r>(&'r self, change: impl FnOnce(&mut AssertionRules<'r>)) -> &'static str {
        self.judge(change).unwrap_err().reason()
    }
}

/// An attestation object taken apart.
struct Split {
    certificates: Vec<Vec<u8>>,
    receipt: Vec<u8>,
    auth_data: Vec<u8>,
}

fn split(object: &[u8]) -> Split {
    let limits = cbor::Limits { bytes: 64 << 10, depth: 8, items: 64, shortest: true };
    let value = cbor::read(object, limits).unwrap();
    let map = value.map().unwrap();
    let statement = map.get("attStmt").unwrap().map().unwrap();
    let certificates = statement.get("x5c").unwrap().array().unwrap();
    Split {
        certificates: certificates.iter().map(|one| one.bytes().unwrap().to_vec()).collect(),
        receipt: statement.get("receipt").unwrap().bytes().unwrap().to_vec(),
        auth_data: map.get("authData").unwrap().bytes().unwrap().to_vec(),
    }
}

fn join(certificates: &[Vec<u8>], receipt: &[u8], auth_data: &[u8]) -> Vec<u8> {
    super::made::object(certificates, receipt, auth_data)
}
