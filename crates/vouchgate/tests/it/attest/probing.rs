//! Whoever probes for reasons learns none: a forged phone of each kind, an installation that is barred, a refresh that does not hold,
//! all are told the same, to the byte.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use testkit::raw::Response;
use vouchgate_client::signer::SoftwareKey;
use vouchgate_client::simulator::{AndroidDefect, IphoneDefect};

use super::World;
use super::hand::{Enrolment, client_data, key, possession, sha256};
use crate::support::command;

/// All of a refusal that is not its code.
fn seen(answer: &Response) -> String {
    assert_eq!(answer.status(), 401, "{}", answer.text());
    let mut said = answer.json();
    let arc = said["arc"].take();
    assert_eq!(arc.as_str().unwrap().len(), 8);
    let fields =
        ["content-type", "www-authenticate", "cache-control", "x-should-retry", "content-length", "retry-after"];
    let fields = fields.map(|name| answer.header(name).map(str::to_owned));
    format!("{said} {fields:?}")
}

/// The operator is told this of it.
fn told(world: &World, answer: &Response) -> String {
    world.reasons(answer.json()["arc"].as_str().unwrap()).remove(0)
}

/// An Android phone's enrolment: its installation's key, and the answer.
async fn android(world: &World, defect: Option<AndroidDefect>) -> (Arc<SoftwareKey>, Response) {
    let mut phone = world.android();
    phone.defect = defect;
    let nonce = world.nonce("android", None).await;
    let data = client_data(&nonce, None);
    let (key, chain) = phone.generate_key(&sha256(data.to_string().as_bytes())).unwrap();
    let chain: Vec<String> = chain.iter().map(|der| STANDARD.encode(der)).collect();
    let evidence = json!({"type": "android-key", "chain": chain});
    let enrolment = Enrolment { client_data: data, key: Arc::clone(&key), evidence, prover: None };
    (key, world.enrol(&enrolment).await)
}

async fn iphone(world: &World, defect: Option<IphoneDefect>, app: &str) -> Response {
    let mut iphone = world.iphone();
    iphone.defect = defect;
    let (key, id) = (key(), iphone.generate_key().unwrap());
    let nonce = world.nonce("ios", Some(&key)).await;
    let mut data = client_data(&nonce, Some(&key));
    let object = iphone.attest_key(&id, &sha256(data.to_string().as_bytes())).unwrap();
    let attestation = STANDARD.encode(object);
    let evidence = json!({"type": "apple-app-attest", "key_id": STANDARD.encode(id), "attestation": attestation});
    data["app"] = app.into();
    world.enrol(&Enrolment { client_data: data, key, evidence, prover: None }).await
}

/// An installation asks for its next token; `prover` says that it holds the key.
async fn refresh(world: &World, instance: &str, key: &SoftwareKey, prover: &SoftwareKey) -> Response {
    let nonce = world.nonce("android", Some(key)).await;
    let mut data = client_data(&nonce, Some(key));
    data["purpose"] = "refresh".into();
    let bytes = data.to_string();
    let proof = possession(prover, &nonce, &format!("{}/attest/v1/token", world.url()), bytes.as_bytes());
    let body = json!({"instance": instance, "client_data": URL_SAFE_NO_PAD.encode(&bytes), "proof": proof});
    world.ask("/attest/v1/token", &body).await
}

#[tokio::test]
async fn whoever_probes_for_reasons_learns_none() {
    let world = World::new().await;
    // From here on there is a list of what is revoked.
    world.ready(&Arc::new(world.android())).await.unwrap();
    let (mut all, mut reasons) = (BTreeSet::new(), BTreeSet::new());
    let mut note = |answer: &Response| {
        all.insert(seen(answer));
        reasons.insert(told(&world, answer));
    };
    note(&iphone(&world, None, "nothing-here").await);
    for defect in [IphoneDefect::OwnRoot, IphoneDefect::OtherApp, IphoneDefect::OtherKey] {
        note(&iphone(&world, Some(defect), "chat").await);
    }
    for defect in AndroidDefect::ALL {
        note(&android(&world, Some(defect)).await.1);
    }

    // Installations that are barred, and one whose key is not held by who asks.
    let barred = async |how: &str| {
        let (key, answer) = android(&world, None).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let instance = answer.json()["instance"].as_str().unwrap().to_owned();
        command(world.path(), &["device", how, &instance, "--reason", "a test"], b"");
        (key, instance)
    };
    for how in ["quarantine", "revoke"] {
        let (own, instance) = barred(how).await;
        note(&refresh(&world, &instance, &own, &own).await);
        note(&refresh(&world, &instance, &own, &key()).await);
    }
    let (own, answer) = android(&world, None).await;
    let instance = answer.json()["instance"].as_str().unwrap().to_owned();
    note(&refresh(&world, &instance, &own, &key()).await);
    assert_eq!(all.len(), 1, "{all:#?}");
    for reason in ["app_unknown", "chain_unknown_root", "instance_barred", "possession_signature", "key_purpose"] {
        assert!(reasons.contains(reason), "{reason} in {reasons:?}");
    }
    assert!(reasons.len() > 15, "the operator is told them apart: {reasons:?}");
    assert_eq!(refresh(&world, &instance, &own, &own).await.status(), 200, "nothing of it is held against the phone");

    // What there is not looks the same, whoever asks: an installation's id that was made up, and another's with one's own key.
    let other = key();
    let unknown: BTreeSet<String> = [
        seen(&refresh(&world, "in_made_up", &own, &own).await),
        seen(&refresh(&world, &instance, &other, &other).await),
        seen(&refresh(&world, "", &other, &other).await),
    ]
    .into();
    assert_eq!(unknown.len(), 1, "{unknown:#?}");
    let said: Value = serde_json::from_str(unknown.first().unwrap().split(" [").next().unwrap()).unwrap();
    assert_eq!(said["action"], "re-enroll");
}
