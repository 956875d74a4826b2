//! Hosts whose certificates are by an authority of the operator's own.

use std::path::Path;
use std::sync::Arc;

use base::{Clock, FakeClock, SystemClock};
use serde_json::{Value, json};
use testkit::certs::Authority;
use testkit::mock::{Answer, Mock};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::{APP, Gateway, provider, secret_file};

fn question() -> Value {
    json!({"model": "prov/m1", "messages": [{"role": "user", "content": "hello"}]})
}

/// Something that speaks TLS for `localhost` by a certificate of `authority`, in front of a provider; its port.
async fn in_front(mock: &Mock, authority: &Authority, tasks: &mut JoinSet<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = authority.server(&["localhost"]).server_config(None);
    tasks.spawn(testkit::proxy::run(listener, Some(tls), mock.addr()));
    port
}

fn config(dir: &Path, port: u16, hosts: &str) -> String {
    let ca = dir.join("ca.pem").display().to_string();
    let key = secret_file(dir, "provider.key", "fake-provider-key");
    let mut prov = provider("prov", "openai-compatible", &format!("https://localhost:{port}/v1"), &key);
    prov.push_str("breaker = { enabled = false }\n");
    format!(
        "upstream_ca = [{{ file = {ca:?}, hosts = [{hosts}] }}]\n[vault]\nkey = {{ file = {:?} }}\n{APP}{prov}",
        dir.join("v.key").display().to_string()
    )
}

async fn asked(gateway: &Gateway) -> (u16, String) {
    let token = gateway.token("app").await;
    let answer = gateway.post("/v1/chat/completions", &token, &question()).await;
    (answer.status.as_u16(), if answer.status == 200 { String::new() } else { answer.code() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_with_a_certificate_of_ones_own_authority_is_asked_and_no_other_host_may_show_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"id": "x", "choices": []}))).await;
    let mut tasks = JoinSet::new();
    let port = in_front(&mock, &authority, &mut tasks).await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let (ca, file) = (dir.path().join("ca.pem"), dir.path().join("vouchgate.toml"));
    std::fs::write(&ca, authority.pem()).unwrap();
    let clock = FakeClock::at(SystemClock.now());
    let text = config(dir.path(), port, "\"localhost\"");
    let gateway = Gateway::start_at(Arc::clone(&dir), &text, clock, Some(file.clone())).await;
    assert_eq!(asked(&gateway).await, (200, String::new()));

    // Another one's certificates are no good, and connections that the first vouched for are not used again.
    std::fs::write(&ca, other.pem()).unwrap();
    gateway.server().reload().await.unwrap();
    assert_eq!(asked(&gateway).await, (502, "tls_failed".to_owned()));

    // A file that holds none changes nothing, and the fault names it.
    std::fs::write(&ca, "nothing").unwrap();
    let faults = gateway.server().reload().await.unwrap_err();
    let fault = &faults[0];
    assert_eq!((fault.code, fault.path.as_str()), ("unusable_tls", "server.upstream_ca[0].file"), "{faults:?}");
    assert!(fault.message.contains(&ca.display().to_string()) && fault.line == 5, "{faults:?}");

    // Both, of which one vouches for it.
    std::fs::write(&ca, format!("{}{}", other.pem(), authority.pem())).unwrap();
    gateway.server().reload().await.unwrap();
    assert_eq!(asked(&gateway).await, (200, String::new()));

    // For another host it says nothing.
    let elsewhere = std::fs::read_to_string(&file).unwrap().replace("[\"localhost\"]", "[\"*.corp.example\"]");
    std::fs::write(&file, elsewhere).unwrap();
    gateway.server().reload().await.unwrap();
    assert_eq!(asked(&gateway).await, (502, "tls_failed".to_owned()));
    assert_eq!(mock.count(), 2);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_authorities_that_changes_is_read_again_by_itself() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"id": "x", "choices": []}))).await;
    let mut tasks = JoinSet::new();
    let port = in_front(&mock, &authority, &mut tasks).await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, other.pem()).unwrap();
    let gateway = Gateway::start_in(Arc::clone(&dir), &config(dir.path(), port, "\"*\"")).await;
    assert_eq!(asked(&gateway).await, (502, "tls_failed".to_owned()));
    std::fs::write(&ca, authority.pem()).unwrap();
    let again = async { while asked(&gateway).await.0 != 200 {} };
    testkit::patiently("the file to be read again", again).await;
    gateway.stop().await;
}
