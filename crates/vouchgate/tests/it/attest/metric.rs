//! The fraud metric, against the built program: receipts are exchanged at Apple's, and what it says is a flag.

use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::mock::{Answer, Mock};
use testkit::patiently;
use vouchgate_client::simulator::Iphone;
use vouchgate_client::{Client, Error};

use super::World;
use crate::support::secret_file;

/// A key as Apple's developer site hands it out.
fn team_key() -> String {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(pair.as_ref()))
}

/// What Apple answers to this receipt, in base64 as it is sent.
type Exchange = dyn Fn(&str) -> (u16, String) + Send + Sync;

/// A gateway that asks this Apple, and denies above 5.
async fn world(apple: &Arc<Mutex<Box<Exchange>>>) -> (World, Mock, tempfile::TempDir) {
    let answers = Arc::clone(apple);
    let data = Mock::start_with(move |request| {
        let (status, body) = answers.lock().unwrap()(&String::from_utf8_lossy(&request.body));
        Answer::bytes(status, "text/plain", body)
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let key = secret_file(dir.path(), "AuthKey_KEYID12345.p8", &team_key());
    let ios = format!(
        ", fraud_metric = {{ key = {{ file = \"{}\" }}, key_id = \"KEYID12345\", url = \"{}\", allow_private = true }}",
        key.display(),
        data.url()
    );
    let rules = "[[risk]]\nname = \"farms\"\nrules = [{ when = { flag = \"fraud_metric\", gt = 5 }, do = \"deny\" }]\n";
    (World::with_ios("", &ios, rules).await, data, dir)
}

fn exchange(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Arc<Mutex<Box<Exchange>>> {
    Arc::new(Mutex::new(Box::new(answer)))
}

/// Get tokens until the rules refuse.
async fn refused(client: &Client) -> Error {
    patiently("the metric to be known", async {
        loop {
            match client.refresh().await {
                Err(error) if error.status().name() == "REJECTED" => return error,
                // After a refusal the client waits a while before it asks again.
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

fn in_base64(receipt: &[u8]) -> String {
    STANDARD.encode(receipt)
}

/// Whether this is the receipt that the phone has in its attestation.
fn is_of(phone: &Iphone, receipt: &str) -> bool {
    phone.receipt_in_last().is_some_and(|own| in_base64(&own) == receipt)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_apple_says_of_a_device_is_acted_on_and_stays_while_apple_is_silent() {
    let apple = exchange(|_| (503, String::new()));
    let (world, data, _dir) = world(&apple).await;
    let phone = Arc::new(world.iphone());
    let client = world.client(Arc::clone(&phone) as _);
    client.ready().await.unwrap();
    // Nobody waits for Apple, and nothing comes of its silence.
    let asked = data.request(0).await;
    client.refresh().await.unwrap();
    assert_eq!((asked.method.as_str(), asked.path()), ("POST", "/v1/attestationData"));
    assert!(is_of(&phone, &String::from_utf8_lossy(&asked.body)), "the receipt in base64, and nothing else");
    let authorization = asked.header("authorization").unwrap();
    assert_eq!(authorization.split('.').count(), 3, "a token of the team's, without a scheme");

    // Of the next phone it says much.
    let mut farm = world.iphone();
    farm.receipts_every = 2;
    let farm = Arc::new(farm);
    let told = Arc::clone(&farm);
    *apple.lock().unwrap() = Box::new(move |receipt| {
        if is_of(&told, receipt) { (200, in_base64(&told.newer_receipt(9).unwrap())) } else { (503, String::new()) }
    });
    let farmed = world.client(Arc::clone(&farm) as _);
    farmed.ready().await.unwrap();
    data.request(1).await;
    world.refused_for(&refused(&farmed).await, "fraud_metric");
    // The newer receipt's time comes, and Apple is silent: what it said stays.
    data.request(2).await;
    world.refused_for(&refused(&farmed).await, "fraud_metric");
    client.refresh().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metric_of_another_app_or_device_and_a_receipt_shown_again_say_nothing() {
    let apple = exchange(|_| (503, String::new()));
    let (world, data, _dir) = world(&apple).await;
    let mut elsewhere = world.iphone();
    elsewhere.app_id = "ABCDE12345.com.example.other".to_owned();
    elsewhere.attest_key(&elsewhere.generate_key().unwrap(), &[7; 32]).unwrap();
    let phones: Vec<Arc<Iphone>> = (0..4).map(|_| Arc::new(world.iphone())).collect();
    let told = phones.clone();
    *apple.lock().unwrap() = Box::new(move |receipt| {
        let newer = match told.iter().position(|phone| is_of(phone, receipt)) {
            Some(0) => elsewhere.newer_receipt(9),
            // Of the last, which is a farm's.
            Some(1 | 3) => told[3].newer_receipt(9),
            Some(2) => return (200, receipt.to_owned()),
            _ => return (404, String::new()),
        };
        (200, in_base64(&newer.unwrap()))
    });
    let farm = world.client(Arc::clone(&phones[3]) as _);
    farm.ready().await.unwrap();
    data.request(0).await;
    world.refused_for(&refused(&farm).await, "fraud_metric");
    let mut clients = Vec::new();
    for phone in &phones[..3] {
        let client = world.client(Arc::clone(phone) as _);
        client.ready().await.unwrap();
        clients.push(client);
    }
    data.request(3).await;
    // Another is asked about after them: when what is said of it is known, they were judged.
    let last = Arc::new(world.iphone());
    let told = Arc::clone(&last);
    *apple.lock().unwrap() = Box::new(move |_| (200, in_base64(&told.newer_receipt(9).unwrap())));
    let client = world.client(Arc::clone(&last) as _);
    client.ready().await.unwrap();
    world.refused_for(&refused(&client).await, "fraud_metric");
    for client in &clients {
        client.refresh().await.expect("what Apple said was not of this one");
    }
}
