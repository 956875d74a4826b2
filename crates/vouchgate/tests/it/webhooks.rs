//! Whom to tell of what happens: signed, at least once, also after a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use audit::disk::{Disk, RealDisk};
use audit::note::Verifier;
use audit::verify::{self, Trusted};
use base::{FakeClock, SystemClock, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control::operations::SetSecret;
use net::WebhookKey;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::mock::{Answer, Mock, Received};
use testkit::patiently;

use crate::support::{APP, Gateway, contents_below, secret_file};

const PATH: &str = "/v1/chat/completions";
const BUDGET: &str = "
[[budget]]
name = \"few\"
requests = 2
window = \"day\"
soft = [0.5]
";

fn question() -> Value {
    json!({"model": "vouchgate/echo", "messages": [{"role": "user", "content": "hello"}]})
}

/// A key that was made for this test alone.
fn key() -> String {
    format!("whsec_{}", STANDARD.encode([7u8; 32]))
}

fn hook(dir: &Path, mock: &Mock, events: &str) -> String {
    let secret = secret_file(dir, "webhook.key", &key());
    format!(
        "\n[[webhook]]\nname = \"on-call\"\nurl = \"{}/told\"\nallow_private = true\nsecret = {{ file = {:?} }}\nevents = {events}\n",
        mock.url(),
        secret.display().to_string()
    )
}

/// What a message says, once its signature is that of its key.
fn verified(message: &Received) -> Value {
    let header = |name: &str| message.header(name).unwrap_or_else(|| panic!("no {name}")).to_owned();
    let (id, seconds) = (header("webhook-id"), header("webhook-timestamp"));
    let body = String::from_utf8(message.body.clone()).unwrap();
    let key = WebhookKey::parse(&base::Secret::new(key())).unwrap();
    assert_eq!(header("webhook-signature"), key.sign(&id, seconds.parse().unwrap(), &body));
    assert_eq!(header("content-type"), "application/json");
    message.json()
}

async fn start(dir: &Arc<TempDir>, config: &str, clock: &FakeClock) -> Gateway {
    Gateway::start_at(Arc::clone(dir), config, clock.clone(), None).await
}

fn now() -> FakeClock {
    // Noon, so that no day ends while a test runs.
    let today = base::Clock::now(&SystemClock).as_secs() / 86_400 * 86_400;
    FakeClock::at(Timestamp::from_secs(today + 43_200))
}

#[tokio::test]
async fn a_budget_that_nears_its_end_is_told_once_and_signed() {
    let told = Mock::start_with(|_| Answer::json(204, &Value::Null)).await;
    let (dir, clock) = (Arc::new(tempfile::tempdir().unwrap()), now());
    let hook = hook(dir.path(), &told, "[\"budget.threshold\", \"budget.exhausted\"]");
    let gateway = start(&dir, &format!("{APP}{BUDGET}{hook}"), &clock).await;
    let token = gateway.token("app").await;
    for status in [200, 200, 429, 429] {
        assert_eq!(gateway.post(PATH, &token, &question()).await.status, status);
    }
    told.request(1).await;
    let mut said: Vec<Value> = told.requests().iter().map(|message| verified(message)).collect();
    said.sort_by_key(|said| said["type"].to_string());
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!((&said[0]["type"], &said[0]["data"]["budget"]), (&json!("budget.exhausted"), &json!("few")));
    assert_eq!(said[0]["data"]["limit"], 2);
    assert_eq!((&said[1]["type"], &said[1]["data"]["threshold"]), (&json!("budget.threshold"), &json!(0.5)));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again_under_its_id_also_after_a_restart() {
    let told = Mock::start_with(|_| Answer::json(204, &Value::Null)).await;
    told.push(Answer::json(503, &Value::Null));
    let (dir, clock) = (Arc::new(tempfile::tempdir().unwrap()), now());
    let config = format!("{APP}{BUDGET}{}", hook(dir.path(), &told, "[\"budget.threshold\"]"));
    let gateway = start(&dir, &config, &clock).await;
    let token = gateway.token("app").await;
    assert_eq!(gateway.post(PATH, &token, &question()).await.status, 200);
    let first = told.request(0).await;
    // What came of it is kept before a stop is over.
    gateway.stop().await;

    clock.advance(Duration::from_mins(2));
    let gateway = start(&dir, &config, &clock).await;
    let second = told.request(1).await;
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(verified(&first), verified(&second));
    assert!(first.header("webhook-timestamp") < second.header("webhook-timestamp"));
    let outbox = || gateway.server().operations().store().clone();
    patiently("it to be done with", async { while outbox().outbox().waiting().await.unwrap() > 0 {} }).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_redirect_is_no_delivery_and_is_not_followed() {
    let elsewhere = Mock::start_with(|_| Answer::json(204, &Value::Null)).await;
    let place = format!("{}/steal", elsewhere.url());
    let told = Mock::start_with(move |_| Answer::json(307, &Value::Null).header("location", &place)).await;
    let (dir, clock) = (Arc::new(tempfile::tempdir().unwrap()), now());
    let gateway =
        start(&dir, &format!("{APP}{BUDGET}{}", hook(dir.path(), &told, "[\"budget.threshold\"]")), &clock).await;
    let token = gateway.token("app").await;
    assert_eq!(gateway.post(PATH, &token, &question()).await.status, 200);
    told.request(0).await;
    let metrics = || async {
        let address = gateway.admin;
        testkit::raw::request(address, "GET", "/metrics", &[("host", "localhost")], b"").await.text()
    };
    patiently("the failure to be counted", async {
        while !metrics().await.contains("vouchgate_webhook_messages_total{outcome=\"failed\"} 1") {}
    })
    .await;
    assert_eq!(elsewhere.count(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_that_was_not_replaced_for_long_is_told() {
    let told = Mock::start_with(|_| Answer::json(204, &Value::Null)).await;
    let (dir, clock) = (Arc::new(tempfile::tempdir().unwrap()), now());
    let hook = hook(dir.path(), &told, "[\"secret.old\"]");
    let provider = "[[provider]]\nname = \"prov\"\nkind = \"openai\"\napi_key = { secret = \"prov-key\" }\n";
    let gateway = start(&dir, &format!("{APP}{hook}"), &clock).await;
    let set = json!({"value": "a-key-made-for-this-test", "origin": "https://api.openai.com"});
    let set: SetSecret = serde_json::from_value(set).unwrap();
    gateway.server().operations().secret_set("prov-key", &set, "test").await.unwrap();
    gateway.stop().await;
    assert_eq!(told.count(), 0);

    clock.advance(Duration::from_hours(190 * 24));
    let gateway = start(&dir, &format!("{APP}{provider}{hook}"), &clock).await;
    let message = told.request(0).await;
    let said = verified(&message);
    assert_eq!((&said["type"], &said["data"]["secret"]), (&json!("secret.old"), &json!("prov-key")), "{said}");
    assert_eq!(said["data"]["days"], 190);
    gateway.stop().await;
}

#[tokio::test]
async fn a_checkpoint_that_a_webhook_was_told_shows_a_log_that_was_cut() {
    let told = Mock::start_with(|_| Answer::json(204, &Value::Null)).await;
    let (dir, clock) = (Arc::new(tempfile::tempdir().unwrap()), now());
    let config = format!("{APP}{}", hook(dir.path(), &told, "[\"audit.checkpoint\"]"));
    let gateway = start(&dir, &config, &clock).await;
    let first = told.request(0).await;
    let log = dir.path().join("data/audit");
    let before: Vec<_> = contents_below(&log);
    let token = gateway.token("app").await;
    assert_eq!(gateway.post(PATH, &token, &question()).await.status, 200);
    gateway.stop().await;
    // The last one, signed when the log is closed, is told at the next start at the latest.
    clock.advance(Duration::from_mins(1));
    let gateway = start(&dir, &config, &clock).await;
    let last = told.request(1).await;
    gateway.stop().await;

    let said = [verified(&first), verified(&last)];
    assert!(said.iter().all(|said| said["type"] == "audit.checkpoint"), "{said:?}");
    let size = |n: usize| said[n]["data"]["size"].as_u64().unwrap();
    assert!(size(0) < size(1), "{said:?}");
    let checkpoints =
        said.iter().map(|said| said["data"]["checkpoint"].as_str().unwrap().as_bytes().to_vec()).collect();
    let vkey = std::fs::read_to_string(log.join("vkey")).unwrap();
    let trusted = Trusted { verifier: Some(Verifier::parse(&vkey).unwrap()), checkpoints };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let report = verify::directory(&disk, &log, &trusted);
    assert!(report.valid && report.outside == 2, "{report:?}");
    // As it was when the first was signed: by itself it is whole.
    std::fs::remove_dir_all(&log).unwrap();
    for (path, bytes) in before {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    assert!(verify::directory(&disk, &log, &Trusted::default()).valid);
    assert_eq!(verify::directory(&disk, &log, &trusted).reason, "log_truncated");
}
