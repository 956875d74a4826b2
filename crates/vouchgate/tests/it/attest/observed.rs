//! What is seen of installations on the wire, against the built program: a script that has a phone sign for it, and an app whose
//! configuration was held back.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use testkit::balancer::Balancer;
use testkit::certs::Authority;
use testkit::raw::Connection;
use vouchgate_client::{Client, Options};

use super::World;
use super::between::der;
use crate::support::secret_file;

const CHAT: &str = "/v1/chat/completions";

const RULES: &str = "[[risk]]\nname = \"seen\"\nrules = [\
    { when = { flag = \"tls_fingerprint_changed\" }, do = \"annotate\", as = \"other-stack\" }]\n";

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// A script's TLS stack: other cipher suites than the app's.
fn script(authority: &Authority) -> Arc<ClientConfig> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.truncate(1);
    let mut roots = RootCertStore::empty();
    roots.add(der(&authority.pem()).into()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_has_a_phone_sign_for_it_speaks_tls_by_another_stack() {
    let authority = Authority::new();
    let identity = authority.server(&["localhost", "127.0.0.1"]);
    let files = tempfile::tempdir().unwrap();
    let (cert, key) = (
        secret_file(files.path(), "cert.pem", &identity.cert_pem),
        secret_file(files.path(), "key.pem", &identity.key_pem),
    );
    let front = Balancer::new().await;
    let port = front.address().port();
    // The first URL, which tokens name, is not https: where it is, no app may trust the makers of simulated phones.
    let server = format!(
        "external_url = \"http://localhost:{port}\"\nexternal_urls = [\"https://localhost:{port}\"]\n\
         tls = {{ cert = {cert:?}, key = {key:?} }}"
    );
    let world = World::with(&server, RULES).await;
    front.add(world.program.public);
    let url = format!("https://localhost:{port}");
    let options = Options { extra_roots: vec![der(&authority.pem())], ..Options::new(&url, "chat") };
    let client = Client::new(options, Arc::new(world.iphone())).unwrap();
    client.refresh().await.unwrap();
    assert_eq!(client.send(super::chat("vouchgate/echo")).await.unwrap().status, 200);
    client.refresh().await.unwrap();
    let before = claims(&client.token().await.unwrap());
    assert_eq!(before["anno"], json!([]), "{before}");
    assert!(before["tls"].as_str().unwrap().starts_with("13"), "{before}");

    let body =
        Bytes::from(json!({"model": "vouchgate/echo", "messages": [{"role": "user", "content": "x"}]}).to_string());
    let mut given = HeaderMap::new();
    given.insert("content-type", HeaderValue::from_static("application/json"));
    let signed = client.sign(&Method::POST, &Uri::from_static(CHAT), &given, &body).await.unwrap();
    let host = format!("localhost:{port}");
    let mut headers = vec![("host", host.as_str())];
    headers.extend(signed.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())));
    let mut connection = Connection::open_tls(front.address(), "localhost", script(&authority)).await.unwrap();
    connection.request("POST", CHAT, &headers, &body).await;
    assert_eq!(connection.response().await.status(), 200, "the signature holds");

    client.refresh().await.unwrap();
    assert_eq!(claims(&client.token().await.unwrap())["anno"], json!(["other-stack"]), "it is seen at the next token");
}
