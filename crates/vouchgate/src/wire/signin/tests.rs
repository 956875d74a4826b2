//! Signing in through the whole server: discovery, keys, and our secret on its way to the provider.

use std::path::Path;
use std::time::Duration;

use base::{Clock, FakeClock, SystemClock, SystemRng};
use control::operations::SetSecret;
use serde_json::json;
use testkit::keys::TestKey;
use testkit::op::{CLIENT, Op, encode, parameters};
use testkit::raw;

use super::*;
use crate::server::{Options, Server};

const BACK: &str = "https://app.example.com/cb";

fn config(dir: &Path, op: &Op, signin: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ndata_dir = {:?}\n\
         [[issuer]]\nname = \"corp\"\nissuer = \"{}\"\naudience = [\"a\"]\ndiscovery = true\nallow_private = true\n\
         {signin}",
        dir.join("data").display().to_string(),
        op.issuer(),
    )
}

fn signin(secret: &str) -> String {
    format!(
        "[signin]\nissuer = \"corp\"\nclient_id = \"{}\"\n{secret}\n\
         [[client]]\nname = \"web\"\nauth = {{ method = \"client_secret\", hash = \"{}\" }}\n\
         grants = [\"authorization_code\"]\nredirect_uris = [\"{BACK}\"]\nscopes = [\"chat\"]\n",
        CLIENT.0,
        control::credential::FileHash::of("a secret of the tests, long enough".replace(' ', "-").as_str()).unwrap(),
    )
}

async fn start(dir: &Path, op: &Op, text: &str, clock: &FakeClock) -> Server {
    let file = dir.join("vouchgate.toml");
    std::fs::write(&file, text).unwrap();
    let config = config::parse(text).unwrap_or_else(|faults| panic!("{faults:?}"));
    op.change(|op| op.now = Some(clock.now().as_secs()));
    let (clock, rng) = (Arc::new(clock.clone()), Arc::new(SystemRng));
    Server::start(Options { config, file: Some(file), create_master_key: true, clock, rng }).await.unwrap()
}

/// A whole sign-in: what the client's URI is told.
async fn sign_in(server: &Server, op: &Op) -> std::collections::HashMap<String, String> {
    let request = [
        ("response_type", "code"),
        ("client_id", "web"),
        ("scope", "chat"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
    ];
    let request: Vec<(String, String)> = request.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let ask = async |target: &str, cookie: &str| {
        let answer = raw::request(server.public_addr(), "GET", target, &[("cookie", cookie)], b"").await;
        assert_eq!(answer.status(), 303, "{}", answer.text());
        let location = answer.header("location").unwrap().to_owned();
        let cookie = answer.header("set-cookie").and_then(|line| line.split(';').next());
        (location, cookie.unwrap_or_default().to_owned())
    };
    let (mut location, cookie) = ask(&format!("/oauth/authorize?{}", encode(&request)), "a=b").await;
    if location.starts_with(&op.issuer()) {
        let callback = op.visit(&location);
        let path = callback.strip_prefix(&format!("http://{}", server.public_addr())).unwrap();
        location = ask(path, &cookie).await.0;
    }
    assert!(location.starts_with(BACK), "{location}");
    parameters(location.split_once('?').unwrap().1)
}

fn now() -> FakeClock {
    FakeClock::at(SystemClock.now())
}

fn secret_file(dir: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("op.secret");
    std::fs::write(&path, CLIENT.1).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("client_secret = {{ file = {:?} }}", path.display().to_string())
}

#[tokio::test]
async fn people_sign_in_also_after_the_provider_rotated_its_keys_and_no_more_once_signin_is_gone() {
    let (dir, clock, op) = (tempfile::tempdir().unwrap(), now(), Op::start("ES256").await);
    let with = config(dir.path(), &op, &signin(&secret_file(dir.path())));
    let server = start(dir.path(), &op, &with, &clock).await;
    let told = sign_in(&server, &op).await;
    assert!(told.contains_key("code"), "{told:?}");
    assert_eq!(told["iss"], format!("http://{}", server.public_addr()));

    let new = Arc::new(TestKey::generate("RS256"));
    clock.advance(Duration::from_secs(31));
    op.change(|op| {
        op.published = vec![Arc::clone(&new)];
        op.key = new;
        op.now = Some(clock.now().as_secs());
    });
    assert!(sign_in(&server, &op).await.contains_key("code"));

    let without = config(dir.path(), &op, "");
    std::fs::write(dir.path().join("vouchgate.toml"), without).unwrap();
    server.reload().await.unwrap();
    let request = "/oauth/authorize?client_id=web";
    let answer = raw::request(server.public_addr(), "GET", request, &[], b"").await;
    assert_eq!(answer.status(), 400, "neither the client nor the provider is here any more");
    server.stop().await;
}

#[tokio::test]
async fn a_secret_of_the_vault_goes_to_the_provider_it_was_set_for_and_nowhere_else() {
    let (dir, clock, op) = (tempfile::tempdir().unwrap(), now(), Op::start("ES256").await);
    op.change(|op| op.metadata = json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]}));
    let text = config(dir.path(), &op, &signin("client_secret = { secret = \"op\" }"));
    let server = start(dir.path(), &op, &text, &clock).await;
    let set = async |origin: &str| {
        let set: SetSecret = serde_json::from_value(json!({ "value": CLIENT.1, "origin": origin })).unwrap();
        server.operations().secret_set("op", &set, "test").await.unwrap();
    };
    assert_eq!(sign_in(&server, &op).await["error"], "temporarily_unavailable", "there is none yet");
    set("https://elsewhere.example").await;
    assert_eq!(sign_in(&server, &op).await["error"], "temporarily_unavailable");
    assert_eq!(op.asked("/token"), 0, "nothing was sent");
    set(&op.issuer()).await;
    let told = sign_in(&server, &op).await;
    assert!(told.contains_key("code"), "{told:?}");
    let form = op.mock().requests().into_iter().find(|request| request.path() == "/token").unwrap();
    assert_eq!(
        (form.header("authorization"), parameters(&String::from_utf8_lossy(&form.body))["client_secret"].as_str()),
        (None, CLIENT.1)
    );
    server.stop().await;
}

#[tokio::test]
async fn a_public_client_at_the_provider_sends_no_secret() {
    let (dir, clock, op) = (tempfile::tempdir().unwrap(), now(), Op::start("ES256").await);
    op.public_client();
    let server = start(dir.path(), &op, &config(dir.path(), &op, &signin("")), &clock).await;
    assert!(sign_in(&server, &op).await.contains_key("code"));
    server.stop().await;
}

#[test]
fn the_secret_is_form_encoded_before_it_is_put_into_the_header() {
    let header = basic("a:b", &Secret::new("c d+é".to_owned())).unwrap();
    let text = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
    assert_eq!(STANDARD.decode(text).unwrap(), b"a%3Ab:c+d%2B%C3%A9");
}
