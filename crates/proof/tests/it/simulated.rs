//! The devices of the client's simulator: what they say is believed where their roots are, and each of their defects is
//! refused for its own reason.

use std::sync::Arc;

use base::Timestamp;
use proof::attest::altcha::{AltchaKey, Work};
use proof::attest::android::{self, AndroidRules, VerifiedAndroid};
use proof::attest::apple::{
    self, AppleError, AssertionRules, AttestationRules, ClientData, VerifiedAttestation, verify_assertion,
    verify_attestation,
};
use proof::attest::chain::Anchors;
use proof::attest::status::StatusList;
use proof::attest::{FlagValue, Level, Summary, webauthn};
use vouchgate_client::altcha::solve;
use vouchgate_client::clock::{Clock, SetClock};
use vouchgate_client::signer::Signer as _;
use vouchgate_client::simulator::{
    AndroidApp, AndroidDefect, AndroidPhone, Apple, Boot, Environment, Google, IosVersion, Iphone, IphoneDefect,
    Origin, Passkey, SecurityLevel,
};

const APP: &str = "ABCDE12345.com.example.chat";
const CLIENT_DATA: &[u8] = b"client data";

fn clock() -> Arc<SetClock> {
    Arc::new(SetClock::at(Timestamp::parse_rfc3339("2026-11-21T12:00:00Z").unwrap().as_secs()))
}

fn now(clock: &SetClock) -> Timestamp {
    Timestamp::from_secs(clock.now())
}

fn hash(data: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data).as_ref().try_into().unwrap()
}

struct Phone {
    clock: Arc<SetClock>,
    anchors: Anchors,
    iphone: Iphone,
}

impl Phone {
    fn new() -> Self {
        let clock = clock();
        let apple = Apple::new(Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let anchors = Anchors::from_pem(&apple.root_pem()).unwrap();
        Self { clock, anchors, iphone: Iphone::new(&apple, APP) }
    }

    fn attested(&self) -> Result<VerifiedAttestation, AppleError> {
        let id = self.iphone.generate_key().unwrap();
        self.attested_key(&id)
    }

    fn attested_key(&self, id: &[u8; 32]) -> Result<VerifiedAttestation, AppleError> {
        let object = self.iphone.attest_key(id, &hash(CLIENT_DATA)).unwrap();
        let rules = AttestationRules {
            anchors: &self.anchors,
            now: now(&self.clock),
            app_ids: &[APP],
            environments: &[apple::Environment::Production],
            client_data: ClientData::Plain(CLIENT_DATA),
            key_id: Some(id),
        };
        verify_attestation(&object, &rules)
    }
}

fn asserted(
    iphone: &Iphone,
    (id, key): (&[u8; 32], &[u8; 65]),
    previous_counter: u32,
) -> Result<apple::VerifiedAssertion, AppleError> {
    let object = iphone.generate_assertion(id, &hash(CLIENT_DATA)).unwrap();
    let client_data = ClientData::Plain(CLIENT_DATA);
    verify_assertion(&object, &AssertionRules { public_key: key, app_ids: &[APP], previous_counter, client_data })
}

fn flag(summary: &Summary, name: &str) -> Option<FlagValue> {
    summary.flags.iter().find(|flag| flag.name() == name).map(|flag| flag.value().clone())
}

#[test]
fn an_iphone_of_every_system_is_believed() {
    for system in [IosVersion::Ios14, IosVersion::Ios26, IosVersion::Ios27] {
        let mut phone = Phone::new();
        phone.iphone.system = system;
        let id = phone.iphone.generate_key().unwrap();
        let verified = phone.attested_key(&id).unwrap_or_else(|error| panic!("{system:?}: {error}"));
        assert_eq!(verified.summary.level, Level::HwStrong);
        let newest = system == IosVersion::Ios27;
        assert_eq!(flag(&verified.summary, "category"), newest.then_some(FlagValue::Number(4)));
        assert_eq!(verified.extensions.bundle_version.is_some(), newest);
        assert_eq!(verified.summary.facts.contains_key("platform"), system != IosVersion::Ios14);
        for counter in 1..4 {
            let asserted = asserted(&phone.iphone, (&id, &verified.public_key), counter - 1).unwrap();
            assert_eq!(asserted.counter, counter);
            assert_eq!(asserted.extensions.category.is_some(), newest);
        }
    }
}

#[test]
fn a_development_build_is_for_apps_that_take_one() {
    let mut phone = Phone::new();
    phone.iphone.environment = Environment::Development;
    phone.iphone.category = 3;
    assert_eq!(phone.attested().unwrap_err().reason(), "environment_not_allowed");
}

#[test]
fn each_defect_of_an_attestation_has_its_reason() {
    for system in [IosVersion::Ios26, IosVersion::Ios27] {
        for defect in IphoneDefect::ATTESTATION {
            let mut phone = Phone::new();
            phone.iphone.system = system;
            phone.iphone.defect = Some(defect);
            assert_eq!(phone.attested().map_err(AppleError::reason), Err(defect.reason()), "{defect:?}");
        }
    }
}

#[test]
fn each_defect_of_an_assertion_has_its_reason() {
    for defect in IphoneDefect::ASSERTION {
        let mut phone = Phone::new();
        let id = phone.iphone.generate_key().unwrap();
        let key = phone.attested_key(&id).unwrap().public_key;
        assert_eq!(asserted(&phone.iphone, (&id, &key), 0).unwrap().counter, 1);
        phone.iphone.defect = Some(defect);
        let refused = asserted(&phone.iphone, (&id, &key), 1);
        assert_eq!(refused.map_err(AppleError::reason), Err(defect.reason()), "{defect:?}");
    }
}

#[test]
fn a_clone_falls_behind_in_its_counter() {
    let phone = Phone::new();
    let id = phone.iphone.generate_key().unwrap();
    let key = phone.attested_key(&id).unwrap().public_key;
    let clone = phone.iphone.cloned();
    assert_eq!(asserted(&phone.iphone, (&id, &key), 0).unwrap().counter, 1);
    assert_eq!(asserted(&clone, (&id, &key), 1).unwrap_err().reason(), "counter_regression");
}

#[test]
fn a_root_is_the_same_in_another_run() {
    let clock = clock();
    let apple = Apple::new(Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let anchors = Anchors::from_pem(&apple.root_pem()).unwrap();
    clock.advance(40 * 86_400);
    let again = Apple::from_pem(&apple.to_pem().unwrap(), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let phone = Phone { clock, anchors, iphone: Iphone::new(&again, APP) };
    assert_eq!(phone.attested().unwrap().summary.level, Level::HwStrong);
    let clock = self::clock();
    let google = Google::new(Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let anchors = Anchors::from_pem(&google.root_pem()).unwrap();
    let again = Google::from_pem(&google.to_pem().unwrap(), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let phone = AndroidPhone::new(&again, app()).unwrap();
    let judge = Judge { clock, anchors, status: StatusList::empty() };
    assert_eq!(judge.verdict(&phone).unwrap().summary.level, Level::HwStrong);
}

fn app() -> AndroidApp {
    AndroidApp { package: "com.example.chat".to_owned(), version: 42, digest: [7; 32] }
}

/// Who verifies Android phones.
struct Judge {
    clock: Arc<SetClock>,
    anchors: Anchors,
    status: StatusList,
}

impl Judge {
    fn new() -> (Self, Google) {
        let clock = clock();
        let google = Google::new(Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let anchors = Anchors::from_pem(&google.root_pem()).unwrap();
        (Self { clock, anchors, status: StatusList::empty() }, google)
    }

    fn verdict(&self, phone: &AndroidPhone) -> Result<VerifiedAndroid, android::AndroidError> {
        let (key, chain) = phone.generate_key(&hash(CLIENT_DATA)).unwrap();
        let ders: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        let app = app();
        let rules = AndroidRules {
            anchors: &self.anchors,
            status: &self.status,
            now: now(&self.clock),
            challenge: Some(&hash(CLIENT_DATA)),
            app: Some(&android::AndroidApp { package: app.package, digests: vec![app.digest], least_version: None }),
            boot_keys: &[vec![9; 32]],
        };
        let verified = android::verify(&ders, &rules)?;
        assert_eq!(verified.jkt(), key.public_jwk().thumbprint(), "the key that signs is the one attested");
        Ok(verified)
    }
}

#[test]
fn phones_of_every_make_are_believed() {
    let (judge, google) = Judge::new();
    for origin in [Origin::Factory, Origin::Remote] {
        for level in [SecurityLevel::TrustedEnvironment, SecurityLevel::StrongBox] {
            let phone = AndroidPhone::with_keybox(&google, app(), google.keybox(origin, level).unwrap());
            let verified = judge.verdict(&phone).unwrap_or_else(|error| panic!("{origin:?} {level:?}: {error}"));
            assert_eq!(verified.summary.level, Level::HwStrong);
            assert_eq!(flag(&verified.summary, "strongbox_missing").is_none(), level == SecurityLevel::StrongBox);
            assert_eq!(verified.provisioning == android::Provisioning::Factory, origin == Origin::Factory);
            assert!(verified.serials.contains(&phone.keybox.serial()));
        }
    }
}

#[test]
fn the_state_of_the_boot_is_told() {
    let (judge, google) = Judge::new();
    for (boot, level, name) in [
        (Boot::SelfSigned([9; 32]), Level::Hw, "boot_selfsigned"),
        (Boot::SelfSigned([8; 32]), Level::None, "boot_selfsigned"),
        (Boot::Unlocked, Level::None, "bootloader_unlocked"),
        (Boot::Failed, Level::None, "boot_failed"),
    ] {
        let mut phone = AndroidPhone::new(&google, app()).unwrap();
        phone.boot = boot.clone();
        let verified = judge.verdict(&phone).unwrap();
        assert_eq!(verified.summary.level, level, "{boot:?}");
        assert!(flag(&verified.summary, name).is_some(), "{boot:?}");
    }
    let mut old = AndroidPhone::new(&google, app()).unwrap();
    old.patch_level = Some(202_411);
    assert_eq!(flag(&judge.verdict(&old).unwrap().summary, "os_patch_age"), Some(FlagValue::Number(750)));
}

#[test]
fn each_defect_of_a_phone_has_its_reason() {
    let (judge, google) = Judge::new();
    for defect in AndroidDefect::ALL {
        let mut phone = AndroidPhone::new(&google, app()).unwrap();
        phone.defect = Some(defect);
        assert_eq!(judge.verdict(&phone).map_err(android::AndroidError::reason), Err(defect.reason()), "{defect:?}");
    }
}

#[test]
fn a_leaked_attestation_key_attests_anything_until_it_is_listed() {
    let (mut judge, google) = Judge::new();
    let serial = vec![0x0b, 0xad, 0xca, 0xfe];
    let leaked = google.keybox_with_serial(Origin::Factory, SecurityLevel::TrustedEnvironment, serial).unwrap();
    let script = AndroidPhone::with_keybox(&google, app(), leaked.clone());
    assert_eq!(judge.verdict(&script).unwrap().summary.level, Level::HwStrong);
    assert_eq!(leaked.serial(), "badcafe");
    judge.status = StatusList::parse(leaked.status_list().as_bytes()).unwrap();
    assert_eq!(judge.verdict(&script).unwrap_err().reason(), "certificate_revoked");
    let other = AndroidPhone::new(&google, app()).unwrap();
    assert!(judge.verdict(&other).is_ok());
}

#[test]
fn work_of_both_versions_is_done() {
    let key = AltchaKey::new(&[3; 32]);
    let at = Timestamp::from_secs(1_795_219_200);
    for work in [Work::Search { most: 5_000 }, Work::Derive { cost: 1_000, zeros: 1 }] {
        let lifetime = std::time::Duration::from_mins(5);
        let challenge = key.challenge(work, b"app", &base::SystemRng, (at, lifetime)).unwrap();
        let payload = solve(&challenge).unwrap();
        assert_eq!(key.verify(&payload, b"app", at).unwrap().summary.level, Level::Web);
        assert_eq!(key.verify(&payload, b"another", at).unwrap_err().reason(), "context_mismatch");
    }
}

#[test]
fn a_passkey_registers_and_signs_in() {
    let passkey = Passkey::new("example.com", "https://app.example.com").unwrap();
    let site =
        webauthn::RelyingParty { id: "example.com", origins: &["https://app.example.com"], user_verification: true };
    let [client_data, attestation] = passkey.create(b"challenge").unwrap();
    let registration = webauthn::Registration { client_data: &client_data, attestation: &attestation };
    let credential = webauthn::verify_registration(&registration, &site, b"challenge").unwrap();
    assert_eq!(credential.summary.level, Level::Web);
    let [client_data, auth_data, signature] = passkey.get(b"another").unwrap();
    let assertion = webauthn::Assertion { client_data: &client_data, auth_data: &auth_data, signature: &signature };
    let verify = |challenge: &[u8]| webauthn::verify_assertion(&assertion, (&credential.key, 0), &site, challenge);
    assert_eq!(verify(b"another").unwrap().counter, 1);
    assert_eq!(verify(b"challenge").unwrap_err().reason(), "challenge_mismatch");
}
