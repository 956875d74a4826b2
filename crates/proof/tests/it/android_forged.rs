//! Android Key Attestation: what a device could say that would fool a reader less strict.

use std::sync::OnceLock;

use base::Timestamp;
use proof::attest::android::{AndroidApp, AndroidError, AndroidRules, VerifiedAndroid, verify};
use proof::attest::chain::Anchors;
use proof::attest::status::StatusList;
use proof::attest::{FlagValue, Level};
use proof::jose::base64url_encode;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::device::{
    DESCRIPTION, Device, ML_DSA_65, PROVISIONING, application, der, foreign_spki, int, purposes, root_of_trust, tagged,
};

fn judge_at(device: &Device, now: &str) -> Result<VerifiedAndroid, AndroidError> {
    let chain = device.chain();
    let ders: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let anchors = Anchors::from_der([ders[3]]).unwrap();
    let app = AndroidApp { package: "com.example.app".into(), digests: vec![[7; 32]], least_version: Some(42) };
    let rules = AndroidRules {
        anchors: &anchors,
        status: &StatusList::empty(),
        now: Timestamp::parse_rfc3339(now).unwrap(),
        challenge: Some(b"challenge"),
        app: Some(&app),
        boot_keys: &[],
    };
    verify(&ders, &rules)
}

fn judge(change: impl FnOnce(&mut Device)) -> Result<VerifiedAndroid, AndroidError> {
    let mut device = Device::new();
    change(&mut device);
    judge_at(&device, "2026-11-21T00:00:00Z")
}

fn reason(change: impl FnOnce(&mut Device)) -> &'static str {
    judge(change).map_or_else(AndroidError::reason, |verified| verified.summary.level.name())
}

/// Put another member in the place of the one with the same tag.
fn replace(list: &mut [Vec<u8>], member: &[u8]) {
    let tag = |member: &[u8]| if member[0] == 0xbf { member[1..3].to_vec() } else { vec![member[0]] };
    let wanted = tag(member);
    *list.iter_mut().find(|known| tag(known) == wanted).unwrap() = member.to_vec();
}

#[test]
fn a_device_that_says_the_truth_is_believed() {
    let verified = judge(|_| {}).unwrap();
    assert_eq!(verified.summary.level, Level::HwStrong);
    let (x, y) = verified.public_key[1..].split_at(32);
    let jwk = format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, base64url_encode(x), base64url_encode(y));
    let set = proof::jose::KeySet::from_published(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).unwrap();
    assert_eq!(verified.jkt(), set.keys()[0].thumbprint_text());
    // Genuine secure elements write NULL parameters to an algorithm that has none.
    assert_eq!(reason(|device| device.null_parameters = true), "hw-strong");
    let strongbox = |device: &mut Device| (device.levels, device.organization) = ((2, 2), "StrongBox");
    assert!(judge(strongbox).unwrap().summary.flags.iter().all(|flag| flag.name() != "strongbox_missing"));
}

#[test]
fn what_android_says_does_not_replace_what_the_hardware_says() {
    for number in [702, 704] {
        let moved = reason(|device| {
            let tag = tagged(number, &[])[1..3].to_vec();
            let at =
                device.hardware.iter().position(|member| member[1..].starts_with(&tag) && member[0] == 0xbf).unwrap();
            let member = device.hardware.remove(at);
            device.software.insert(0, member);
        });
        let expected = if number == 702 { "key_origin_not_generated" } else { "root_of_trust_missing" };
        assert_eq!(moved, expected);
    }
    // A copy that Android adds changes nothing.
    assert_eq!(reason(|device| device.software.insert(0, root_of_trust(0, 2))), "hw-strong");
    let unlocked = |device: &mut Device| {
        replace(&mut device.hardware, &root_of_trust(0, 2));
        device.software.insert(0, root_of_trust(0xff, 0));
    };
    assert_eq!(reason(unlocked), "none");
}

#[test]
fn one_value_has_one_spelling() {
    let malformed = "key_description_malformed";
    for locked in [0x01, 0x7f, 0xfe] {
        assert_eq!(reason(|device| replace(&mut device.hardware, &root_of_trust(locked, 0))), malformed);
    }
    assert_eq!(reason(|device| replace(&mut device.hardware, &root_of_trust(0xff, 4))), malformed);
    assert_eq!(reason(|device| device.hardware.swap(0, 1)), malformed);
    assert_eq!(reason(|device| device.hardware.push(root_of_trust(0xff, 0))), malformed);
    assert_eq!(reason(|device| device.software.push(application("com.example.app"))), malformed);
    // A long length, a number with a zero too many, something behind a value.
    assert_eq!(reason(|device| replace(&mut device.hardware, &tagged(702, &[2, 0x81, 1, 0]))), malformed);
    assert_eq!(reason(|device| replace(&mut device.hardware, &tagged(702, &[2, 2, 0, 0]))), malformed);
    assert_eq!(reason(|device| replace(&mut device.hardware, &tagged(702, &[2, 1, 0, 5, 0]))), malformed);
    assert_eq!(reason(|device| device.hardware.push(tagged(720, &[]))), malformed);
    assert_eq!(reason(|device| device.hardware.push(der(0x80, &[1]))), malformed);
    assert_eq!(reason(|device| device.hardware.push(tagged(1000, &int(5)))), "hw-strong", "a tag of tomorrow");
    assert_eq!(reason(|device| device.levels = (3, 3)), malformed);
    assert_eq!(reason(|device| device.challenge = vec![0; 129]), malformed);
    let two_digests = |device: &mut Device| {
        let short = der(0x31, &der(4, &[7; 31]));
        let id = der(0x30, &[der(0x31, &[]), short].concat());
        device.software = vec![tagged(709, &der(4, &id))];
    };
    assert_eq!(reason(two_digests), malformed);
}

#[test]
fn an_attested_key_cannot_attest() {
    let description = Device::new().description();
    assert_eq!(reason(|device| device.above = vec![(DESCRIPTION, description)]), "key_description_above_leaf");
    assert_eq!(reason(|device| replace(&mut device.hardware, &purposes(&[2, 7]))), "key_purpose");
    assert_eq!(reason(|device| replace(&mut device.hardware, &purposes(&[7]))), "key_purpose");
    assert_eq!(reason(|device| replace(&mut device.hardware, &purposes(&[3]))), "key_purpose");
    assert_eq!(reason(|device| replace(&mut device.hardware, &purposes(&[]))), "key_purpose");
}

#[test]
fn the_key_is_one_apps_own_and_on_p256() {
    assert_eq!(reason(|device| device.hardware.insert(5, tagged(600, &[5, 0]))), "key_purpose");
    assert_eq!(reason(|device| device.software.insert(0, tagged(600, &[5, 0]))), "key_purpose");
    assert_eq!(reason(|device| replace(&mut device.hardware, &tagged(2, &int(1)))), "key_not_p256");
    assert_eq!(reason(|device| replace(&mut device.hardware, &tagged(10, &int(2)))), "key_not_p256");
    let ml_dsa = foreign_spki(ML_DSA_65, &[5; 1952]);
    assert_eq!(reason(|device| device.leaf_spki = Some(ml_dsa)), "key_ml_dsa");
    let ed25519 = foreign_spki(&[0x2b, 0x65, 0x70], &[5; 32]);
    assert_eq!(reason(|device| device.leaf_spki = Some(ed25519)), "key_not_p256");
}

#[test]
fn a_level_is_the_keys_the_attestations_and_the_chains() {
    for (levels, organization, expected) in [
        ((0, 0), "TEE", "security_level_software"),
        ((0, 1), "TEE", "security_level_software"),
        ((1, 0), "TEE", "security_level_software"),
        ((1, 2), "TEE", "security_level_mismatch"),
        ((2, 1), "StrongBox", "security_level_mismatch"),
        ((2, 2), "TEE", "security_level_not_of_chain"),
        ((1, 1), "StrongBox", "security_level_not_of_chain"),
        ((2, 2), "StrongBox", "hw-strong"),
    ] {
        let said = reason(|device| (device.levels, device.organization) = (levels, organization));
        assert_eq!(said, expected, "{levels:?} {organization}");
    }
    let factory = |levels, organization| {
        reason(|device| (device.levels, device.organization, device.factory) = (levels, organization, true))
    };
    assert_eq!(factory((2, 2), "TEE"), "security_level_not_of_chain");
    assert_eq!(factory((2, 2), "StrongBox"), "hw-strong");
}

#[test]
fn a_factorys_certificates_outlive_their_dates_and_others_do_not() {
    let later = |factory| {
        let device = Device { factory, ..Device::new() };
        judge_at(&device, "2027-06-01T00:00:00Z")
            .map_or_else(AndroidError::reason, |verified| verified.provisioning.name())
    };
    assert_eq!(later(true), "factory");
    assert_eq!(later(false), "chain_expired");
}

#[test]
fn the_number_of_certificates_a_device_was_given_is_told() {
    let issued = |content: &[u8]| {
        let verified = judge(|device| device.above = vec![(PROVISIONING, content.to_vec())]).unwrap();
        let flag = verified.summary.flags.iter().find(|flag| flag.name() == "rkp_issue_count");
        flag.map(|flag| flag.value().clone())
    };
    assert_eq!(issued(&[0xa1, 0x01, 0x18, 0x64]), Some(FlagValue::Number(100)));
    assert_eq!(issued(&[0xa2, 0x01, 0x03, 0x04, 0x61, b'x']), Some(FlagValue::Number(3)));
    assert_eq!(issued(&[0xa0]), None);
    assert_eq!(issued(&[0xff]), None);
}

/// One chain for all cases: keys take longer to make than to use.
fn one_chain() -> &'static [Vec<u8>] {
    static CHAIN: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    CHAIN.get_or_init(|| Device::new().chain())
}

fn judge_chain(ders: &[&[u8]]) -> Result<VerifiedAndroid, AndroidError> {
    let anchors = Anchors::from_der([one_chain()[3].as_slice()]).unwrap();
    let now = Timestamp::parse_rfc3339("2026-11-21T00:00:00Z").unwrap();
    let status = StatusList::empty();
    let rules = AndroidRules { anchors: &anchors, status: &status, now, challenge: None, app: None, boot_keys: &[] };
    verify(ders, &rules)
}

proptest! {
    // Of the root only name and key count.
    #[test]
    fn one_octet_changed_below_the_root_is_refused(at in 0usize..3, place in any::<Index>(), change in 1u8..) {
        let mut chain = one_chain().to_vec();
        prop_assert!(judge_chain(&chain.iter().map(Vec::as_slice).collect::<Vec<_>>()).is_ok());
        let place = place.index(chain[at].len());
        chain[at][place] ^= change;
        prop_assert!(judge_chain(&chain.iter().map(Vec::as_slice).collect::<Vec<_>>()).is_err(), "{at} {place}");
    }

    #[test]
    fn whatever_stands_for_a_certificate_is_read_or_refused(at in 0usize..3, cut in any::<Index>(), more in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut chain = one_chain().to_vec();
        let cut = cut.index(chain[at].len());
        chain[at].truncate(cut);
        chain[at].extend(more);
        prop_assert!(judge_chain(&chain.iter().map(Vec::as_slice).collect::<Vec<_>>()).is_err());
    }
}
