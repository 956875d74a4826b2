//! Who gets in: repackaged apps, forged chains, emulators, leaked keys, swapped keys, clones, development builds, floods.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vouchgate_client::attester::{AttestError, Attestation, Attester, Platform, Request};
use vouchgate_client::signer::Signer;
use vouchgate_client::simulator::{
    AndroidDefect, AndroidPhone, Boot, Environment, IosVersion, IphoneDefect, Origin, SecurityLevel,
};
use vouchgate_client::{Client, Memory, Options, Status, Volatile};

use super::hand::{Enrolment, client_data, key, sha256};
use super::{World, registered};
use crate::support::command;

#[tokio::test]
async fn genuine_phones_of_every_make_get_in() {
    let world = World::new().await;
    for system in [IosVersion::Ios14, IosVersion::Ios26, IosVersion::Ios27] {
        let mut iphone = world.iphone();
        iphone.system = system;
        let client = world.client(Arc::new(iphone));
        client.ready().await.unwrap_or_else(|error| panic!("{system:?}: {error}"));
        client.refresh().await.unwrap_or_else(|error| panic!("{system:?}: {error}"));
    }
    for (origin, level) in [
        (Origin::Factory, SecurityLevel::TrustedEnvironment),
        (Origin::Factory, SecurityLevel::StrongBox),
        (Origin::Remote, SecurityLevel::TrustedEnvironment),
        (Origin::Remote, SecurityLevel::StrongBox),
    ] {
        let keybox = world.google.keybox(origin, level).unwrap();
        let phone = Arc::new(AndroidPhone::with_keybox(&world.google, registered(), keybox));
        let client = world.ready(&phone).await.unwrap_or_else(|error| panic!("{origin:?} {level:?}: {error}"));
        client.refresh().await.unwrap();
    }
}

#[tokio::test]
async fn a_repackaged_app_does_not_get_in() {
    let world = World::new().await;
    let mut iphone = world.iphone();
    iphone.app_id = "ZZZZZ99999.com.example.chat".to_owned();
    let error = world.client(Arc::new(iphone)).ready().await.unwrap_err();
    world.refused_for(&error, "app_id_mismatch");
    let mut phone = world.android();
    phone.defect = Some(AndroidDefect::Repackaged);
    let error = world.ready(&Arc::new(phone)).await.err().unwrap();
    world.refused_for(&error, "signing_digest_mismatch");
}

#[tokio::test]
async fn forged_evidence_does_not_get_in_and_only_the_operator_is_told_why() {
    let world = World::new().await;
    for defect in IphoneDefect::ATTESTATION {
        let mut iphone = world.iphone();
        iphone.defect = Some(defect);
        let error = world.client(Arc::new(iphone)).ready().await.unwrap_err();
        world.refused_for(&error, defect.reason());
    }
    world.ready(&Arc::new(world.android())).await.unwrap();
    for defect in AndroidDefect::ALL {
        let mut phone = world.android();
        phone.defect = Some(defect);
        let error = world.ready(&Arc::new(phone)).await.err().unwrap();
        world.refused_for(&error, defect.reason());
    }
}

#[tokio::test]
async fn an_emulator_and_a_phone_that_is_open_do_not_get_in() {
    let world = World::new().await;
    world.ready(&Arc::new(world.android())).await.unwrap();
    // A farm of emulators: no root of Google's, and no hardware.
    for defect in [AndroidDefect::OwnRoot, AndroidDefect::SoftwareLevel] {
        for _ in 0..3 {
            let mut phone = world.android();
            phone.defect = Some(defect);
            let error = world.ready(&Arc::new(phone)).await.err().unwrap();
            world.refused_for(&error, defect.reason());
        }
    }
    for boot in [Boot::Unlocked, Boot::Failed, Boot::SelfSigned([9; 32])] {
        let mut phone = world.android();
        phone.boot = boot;
        let error = world.ready(&Arc::new(phone)).await.err().unwrap();
        world.refused_for(&error, "level_too_low");
    }
    // The simulator of a developer's desk has no App Attest at all.
    let error = world.client(Arc::new(NoHardware)).ready().await.unwrap_err();
    assert_eq!(error.status(), Status::Unsupported);
    assert_eq!(devices(&world), 1);
}

/// What a simulator, an App Clip or a script has to show.
struct NoHardware;

impl Attester for NoHardware {
    fn platform(&self) -> Platform {
        Platform::Ios
    }

    fn new_key(&self) -> Result<Option<Arc<dyn Signer>>, AttestError> {
        Ok(Some(key()))
    }

    fn attest(&self, _: &Request<'_>, _: Option<Arc<dyn Signer>>) -> Result<Attestation, AttestError> {
        Err(AttestError::Unsupported)
    }
}

#[tokio::test]
async fn a_script_without_the_app_gets_nothing() {
    let world = World::new().await;
    for (platform, evidence) in [
        ("ios", json!({"type": "apple-app-attest", "key_id": "AAAA", "attestation": "AAAA"})),
        ("ios", json!({"type": "apple-app-attest", "key_id": "", "attestation": ""})),
        ("android", json!({"type": "android-key", "chain": []})),
        ("android", json!({"type": "android-key", "chain": ["AAAA", "AAAA", "AAAA"]})),
        ("ios", json!({"type": "altcha", "payload": "e30="})),
        ("ios", json!({"type": "approov", "token": "a.b.c"})),
    ] {
        let key = key();
        let nonce = world.nonce(platform, Some(&key)).await;
        let client_data = client_data(&nonce, Some(&key));
        let answer = world.enrol(&Enrolment { client_data, key, evidence: evidence.clone(), prover: None }).await;
        assert_eq!(answer.status(), 401, "{evidence}");
    }
    for body in [json!({}), json!([]), json!({"app": "chat"}), json!({"app": "chat", "platform": "ios", "x": 1})] {
        assert_eq!(world.ask("/attest/v1/enroll", &body).await.status(), 400);
    }
    let models = testkit::raw::request(world.program.public, "GET", "/v1/models", &[], b"").await;
    assert_eq!(models.status(), 401);
    assert_eq!(devices(&world), 0);
}

#[tokio::test]
async fn a_leaked_attestation_key_is_worth_nothing_once_it_is_listed() {
    let mut world = World::new().await;
    let serial = vec![0x5a; 16];
    let leaked = world.google.keybox_with_serial(Origin::Factory, SecurityLevel::TrustedEnvironment, serial).unwrap();
    // Before Google lists it, nothing tells the script from a phone.
    let script = Arc::new(AndroidPhone::with_keybox(&world.google, registered(), leaked.clone()));
    let client = world.ready(&script).await.unwrap();
    let honest = Arc::new(world.android());
    let memory: Arc<Volatile> = Arc::default();
    let remembered = Options { memory: Arc::clone(&memory) as Arc<dyn Memory>, ..world.options() };
    let kept = Client::new(remembered, Arc::clone(&script) as _).unwrap();
    kept.ready().await.unwrap();
    client.refresh().await.unwrap();
    world.list(leaked.status_list());
    world.restart().await;
    world.ready(&honest).await.expect("other phones go on");
    let error = world.ready(&script).await.err().unwrap();
    world.refused_for(&error, "certificate_revoked");
    // What was enrolled before goes too.
    let again = Options { memory, ..world.options() };
    let error = Client::new(again, script).unwrap().ready().await.unwrap_err();
    let reasons = world.reasons(error.arc().unwrap());
    assert!(["certificate_revoked", "instance_barred"].contains(&reasons[0].as_str()), "{reasons:?}");
    let revoked = command(world.path(), &["device", "list", "--status", "revoked", "--json"], b"");
    let revoked: Value = serde_json::from_str(&revoked).unwrap();
    assert!(revoked.as_array().is_some_and(|all| !all.is_empty()), "{revoked}");
}

#[tokio::test]
async fn evidence_for_one_key_does_not_enrol_another() {
    let world = World::new().await;
    let iphone = world.iphone();
    // A genuine phone signs over its own key; the attacker sends theirs.
    let (theirs, own) = (key(), key());
    let nonce = world.nonce("ios", Some(&theirs)).await;
    let id = iphone.generate_key().unwrap();
    let over = |data: &Value| {
        let object = iphone.attest_key(&id, &sha256(data.to_string().as_bytes())).unwrap();
        json!({"type": "apple-app-attest", "key_id": STANDARD.encode(id), "attestation": STANDARD.encode(object)})
    };
    let genuine = client_data(&nonce, Some(&theirs));
    let swapped =
        Enrolment { client_data: genuine.clone(), key: Arc::clone(&own), evidence: over(&genuine), prover: None };
    refused(&world, &swapped, "client_data_key").await;
    // With client data of their own, the evidence is over another one.
    let nonce = world.nonce("ios", Some(&own)).await;
    let forged = client_data(&nonce, Some(&own));
    let evidence = over(&genuine);
    let swapped = Enrolment { client_data: forged.clone(), key: Arc::clone(&own), evidence, prover: None };
    refused(&world, &swapped, "nonce_mismatch").await;
    // With the phone's key and everything right, but without holding it.
    let nonce = world.nonce("ios", Some(&theirs)).await;
    let genuine = client_data(&nonce, Some(&theirs));
    let evidence = over(&genuine);
    let prover = Some(Arc::clone(&own));
    let unproved = Enrolment { client_data: genuine.clone(), key: Arc::clone(&theirs), evidence, prover };
    refused(&world, &unproved, "possession_signature").await;
    // A nonce that was given for another key.
    let nonce = world.nonce("ios", Some(&own)).await;
    let crossed = client_data(&nonce, Some(&theirs));
    let evidence = over(&crossed);
    let crossed = Enrolment { client_data: crossed, key: Arc::clone(&theirs), evidence, prover: None };
    refused(&world, &crossed, "nonce_unknown").await;
    // And the phone itself still gets in, once.
    let good = Enrolment { client_data: genuine.clone(), key: theirs, evidence: over(&genuine), prover: None };
    assert_eq!(world.enrol(&good).await.status(), 200);
    refused(&world, &good, "nonce_used").await;
}

#[tokio::test]
async fn an_android_chain_for_one_key_does_not_enrol_another() {
    let world = World::new().await;
    let phone = Arc::new(world.android());
    world.ready(&phone).await.unwrap();
    let nonce = world.nonce("android", None).await;
    let data = client_data(&nonce, None);
    let (_, chain) = phone.generate_key(&sha256(data.to_string().as_bytes())).unwrap();
    let chain: Vec<String> = chain.iter().map(|der| STANDARD.encode(der)).collect();
    let evidence = json!({"type": "android-key", "chain": chain});
    refused(&world, &Enrolment { client_data: data, key: key(), evidence, prover: None }, "attested_key_mismatch")
        .await;
}

#[tokio::test]
async fn a_cloned_installation_is_found_and_stopped() {
    let world = World::new().await;
    let original = Arc::new(world.iphone());
    let memory: Arc<Volatile> = Arc::default();
    let options = |memory: &Arc<Volatile>| Options { memory: Arc::clone(memory) as Arc<dyn Memory>, ..world.options() };
    let app = Client::new(options(&memory), Arc::clone(&original) as _).unwrap();
    let instance = app.ready().await.unwrap().instance;
    // Everything the app keeps, on another phone.
    let copy: Arc<Volatile> = Arc::default();
    copy.save(&memory.load().unwrap());
    let clone = Client::new(options(&copy), Arc::new(original.cloned())).unwrap();
    app.refresh().await.unwrap();
    app.refresh().await.unwrap();
    let error = clone.ready().await.unwrap_err();
    world.refused_for(&error, "counter_regression");
    // Nobody can say which of the two is the original: neither gets on until the operator has looked.
    let error = app.refresh().await.unwrap_err();
    world.refused_for(&error, "instance_barred");
    let shown = command(world.path(), &["device", "show", &instance], b"");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["status"], "quarantined");
    command(world.path(), &["device", "release", &instance, "--reason", "looked at"], b"");
}

#[tokio::test]
async fn a_development_build_is_not_let_in_for_production() {
    let world = World::new().await;
    let mut iphone = world.iphone();
    iphone.environment = Environment::Development;
    iphone.category = 3;
    let error = world.client(Arc::new(iphone)).ready().await.unwrap_err();
    world.refused_for(&error, "environment_not_allowed");
    for category in [2, 3, 5] {
        let mut iphone = world.iphone();
        iphone.category = category;
        let error = world.client(Arc::new(iphone)).ready().await.unwrap_err();
        world.refused_for(&error, "category_not_allowed");
    }
}

#[tokio::test]
async fn a_flood_of_enrolments_fills_nothing_and_is_stopped() {
    let world = World::with("", "").await;
    let bad = json!({"type": "apple-app-attest", "key_id": "AAAA", "attestation": "AAAA"});
    let flood = async |times: usize| {
        let mut statuses = BTreeSet::new();
        for _ in 0..times {
            let key = key();
            let nonce = world.nonce("ios", Some(&key)).await;
            let client_data = client_data(&nonce, Some(&key));
            let answer = world.enrol(&Enrolment { client_data, key, evidence: bad.clone(), prover: None }).await;
            statuses.insert(answer.status());
        }
        statuses
    };
    // What is kept of refusals, for the operator, is kept of the first ones of a minute.
    flood(150).await;
    let (before, logged) = (size(&world), audited(&world));
    assert_eq!(flood(300).await, BTreeSet::from([401]));
    let grown = size(&world).saturating_sub(before);
    assert!(grown < 128 << 10, "the database grew by {grown} bytes in 300 refusals");
    let grown = audited(&world).saturating_sub(logged);
    assert!(grown < 128 << 10, "the audit log grew by {grown} bytes in 300 refusals");
    assert_eq!(devices(&world), 0);
}

#[tokio::test]
async fn an_address_that_asks_too_often_waits_before_anything_is_read() {
    let world = World::new().await;
    let file = world.path().join("vouchgate.toml");
    let text =
        std::fs::read_to_string(&file).unwrap().replace("requests_per_minute = 100000", "requests_per_minute = 20");
    std::fs::write(&file, text).unwrap();
    let mut world = world;
    world.restart().await;
    let mut answers = Vec::new();
    for _ in 0..60 {
        answers.push(world.ask("/attest/v1/challenge", &json!({"app": "chat", "platform": "ios"})).await);
    }
    let late: Vec<_> = answers.iter().filter(|answer| answer.status() == 429).collect();
    assert!(!late.is_empty() && late.iter().all(|answer| answer.header("retry-after").is_some()));
}

/// That an enrolment is refused, for this reason.
async fn refused(world: &World, enrolment: &Enrolment, reason: &str) {
    let answer = world.enrol(enrolment).await;
    assert_eq!(answer.status(), 401, "{reason}: {}", answer.text());
    assert_eq!(world.reasons(answer.json()["arc"].as_str().unwrap()), [reason]);
}

/// How many installations there are.
fn devices(world: &World) -> usize {
    let listed = command(world.path(), &["device", "list", "--json"], b"");
    serde_json::from_str::<Value>(&listed).unwrap().as_array().unwrap().len()
}

/// What the database takes on the disk.
fn size(world: &World) -> u64 {
    let files = std::fs::read_dir(world.path().join("data")).unwrap();
    let files = files.map(|entry| entry.unwrap()).filter(|entry| entry.file_name().to_string_lossy().contains(".db"));
    files.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// What the audit log takes on the disk.
fn audited(world: &World) -> u64 {
    let (mut sum, mut folders) = (0, vec![world.path().join("data/audit")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.metadata() {
                Ok(about) if about.is_dir() => folders.push(entry.path()),
                // A file may be replaced meanwhile.
                about => sum += about.map_or(0, |about| about.len()),
            }
        }
    }
    sum
}
