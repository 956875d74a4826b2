use std::path::Path;

use base::{SystemClock, SystemRng};
use control::OperationError;
use control::admin::Readiness;
use control::operations::{Condition, Kind, SetSecret};
use serde_json::{Value, json};

use super::*;

const BY: &str = "test";

async fn start(dir: &Path, more: &str) -> Result<Server, StartError> {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ndata_dir = {:?}\n{more}",
        dir.join("data").display().to_string()
    );
    let config = config::parse(&text).unwrap();
    let (clock, rng) = (Arc::new(SystemClock), Arc::new(SystemRng));
    Server::start(Options { config, file: None, create_master_key: true, clock, rng }).await
}

async fn put(server: &Server, kind: Kind, name: &str, body: Value) -> Vec<String> {
    let Value::Object(body) = body else { panic!("a resource is an object") };
    let put = server.operations().resource_put((kind, name), body, Condition::None, BY).await.unwrap();
    assert!(server.settled().await, "{kind:?} {name} comes into force");
    put.warnings
}

async fn set(server: &Server, name: &str, value: &str, origin: Option<&str>) {
    let set: SetSecret = serde_json::from_value(json!({ "value": value, "origin": origin })).unwrap();
    server.operations().secret_set(name, &set, BY).await.unwrap();
}

fn out_of_service(server: &Server) -> Vec<String> {
    let all = server.running.snapshot.load().unusable();
    all.into_iter().map(|found| format!("{} {} {}", found.kind, found.name, found.error.reason())).collect()
}

#[tokio::test]
async fn a_key_bound_to_another_origin_takes_its_provider_out_of_service_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), "").await.unwrap();
    set(&server, "key", "not-a-real-key-1", Some("https://a.example")).await;
    let at = |host: &str| json!({ "kind": "openai", "base_url": format!("https://{host}/v1"), "api_key": { "secret": "key" } });
    put(&server, Kind::Provider, "p", at("a.example")).await;
    assert_eq!(out_of_service(&server), [""; 0]);

    let warnings = put(&server, Kind::Provider, "p", at("b.example")).await;
    assert_eq!(warnings.len(), 1);
    assert_eq!(out_of_service(&server), ["provider p secret_origin"]);
    let Readiness { ready, checks } = admin::Server::readiness(&*server.running).await;
    assert!(ready, "the rest serves");
    assert!(checks.iter().any(|check| check.name == "provider:p" && !check.ok), "{checks:?}");

    // What comes after it comes into force, and so does a start.
    put(
        &server,
        Kind::Provider,
        "q",
        json!({ "kind": "openai", "base_url": "https://a.example/v1", "api_key": { "secret": "key" } }),
    )
    .await;
    server.stop().await;
    let server = start(dir.path(), "").await.unwrap();
    assert_eq!(out_of_service(&server), ["provider p secret_origin"]);
    set(&server, "key", "not-a-real-key-2", Some("https://b.example")).await;
    assert!(server.settled().await);
    assert_eq!(out_of_service(&server), ["provider q secret_origin"]);
    server.stop().await;
}

#[tokio::test]
async fn a_key_file_that_goes_away_does_not_keep_other_changes_from_coming_into_force() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "not-a-real-key-1").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let provider = format!(
        "[[provider]]\nname = \"p\"\nkind = \"openai\"\napi_key = {{ file = {:?} }}\n",
        key.display().to_string()
    );
    let server = start(dir.path(), &provider).await.unwrap();
    assert_eq!(out_of_service(&server), [""; 0]);
    std::fs::remove_file(&key).unwrap();
    set(&server, "other", "not-a-real-key-2", Some("https://a.example")).await;
    assert!(server.settled().await);
    assert_eq!(out_of_service(&server), ["provider p secret_missing"]);
    server.stop().await;
}

#[tokio::test]
async fn an_issuers_shared_secret_may_be_in_the_vault_and_a_weak_one_verifies_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), "").await.unwrap();
    let issuer = json!({ "hs256_secret": { "secret": "shared" } });
    let refused = server
        .operations()
        .resource_put((Kind::Issuer, "app"), issuer.as_object().unwrap().clone(), Condition::None, BY)
        .await;
    assert!(refused.is_err(), "the secret is not there yet");
    // A value to be sent somewhere is none to verify with.
    set(&server, "shared", "kX9vQ2mZ7rT4wL8nB3cF6hJ1dS5gP0yA", Some("https://a.example")).await;
    put(&server, Kind::Issuer, "app", issuer).await;
    assert!(!has_keys(&server));
    set(&server, "shared", "kX9vQ2mZ7rT4wL8nB3cF6hJ1dS5gP0yA", None).await;
    assert!(server.settled().await);
    assert!(has_keys(&server));
    set(&server, "shared", "your-256-bit-secret", None).await;
    assert!(server.settled().await, "a weak secret holds nothing else up");
    assert!(!has_keys(&server));
    server.stop().await;
}

#[tokio::test]
async fn while_an_issuers_shared_secret_is_replaced_tokens_of_both_are_accepted() {
    const VALUES: [&str; 2] = ["kX9vQ2mZ7rT4wL8nB3cF6hJ1dS5gP0yA", "Zq7Lw2Mr9Tn4Vx1Bd6Hs8Kf3Jp5Gc0Ye"];
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), "").await.unwrap();
    // What nothing names yet needs an origin, and what verifies has none.
    set(&server, "shared", VALUES[0], Some("https://a.example")).await;
    let issuer = json!({ "hs256_secret": { "secret": "shared" }, "claims": { "subject": "id" } });
    put(&server, Kind::Issuer, "app", issuer).await;
    set(&server, "shared", VALUES[0], None).await;
    assert!(server.settled().await);
    let accepted = || VALUES.map(|value| accepts(&server, value));
    assert_eq!(accepted(), [true, false]);
    let next = serde_json::from_value(json!({ "value": VALUES[1], "next": true })).unwrap();
    server.operations().secret_rotate("shared", &next, BY).await.unwrap();
    assert!(server.settled().await);
    assert_eq!(accepted(), [true, true], "the next one is accepted before anybody uses it");
    server.operations().secret_activate("shared", &serde_json::from_value(json!({})).unwrap(), BY).await.unwrap();
    assert!(server.settled().await);
    assert_eq!(accepted(), [true, true], "and the old one after");
    server
        .operations()
        .secret_retire("shared", &serde_json::from_value(json!({ "slot": "old" })).unwrap(), BY)
        .await
        .unwrap();
    assert!(server.settled().await);
    assert_eq!(accepted(), [false, true]);
    server.stop().await;
}

/// Whether a token that is made with this secret is accepted now.
fn accepts(server: &Server, secret: &str) -> bool {
    let now = SystemClock.now();
    let claims = json!({ "id": "u1", "iat": now.as_secs(), "exp": now.as_secs() + 300 });
    let token = testkit::keys::TestKey::hmac("HS256", secret.as_bytes()).mint(&claims);
    server.running.snapshot.load().issuers().verify(&token, now).is_ok()
}

#[tokio::test]
async fn what_could_not_be_put_in_force_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), "").await.unwrap();
    let own = format!("http://{}", server.public_addr());
    let ours = json!({ "issuer": own, "audience": ["a"], "jwks_url": "https://id.example/jwks" });
    let nowhere = json!({ "kind": "openai-compatible", "base_url": "https://a..b/v1" });
    for (kind, body) in [(Kind::Issuer, ours), (Kind::Provider, nowhere)] {
        let Value::Object(body) = body else { panic!("a resource is an object") };
        let refused = server.operations().resource_put((kind, "x"), body, Condition::None, BY).await;
        assert!(matches!(refused, Err(OperationError::Faults(_))), "{kind:?} {refused:?}");
    }
    server.stop().await;
}

/// Whether the issuer `app` has keys in force.
fn has_keys(server: &Server) -> bool {
    let snapshot = server.running.snapshot.load();
    snapshot.issuers().issuers().iter().any(|issuer| issuer.rules().name.as_str() == "app" && issuer.has_keys())
}
