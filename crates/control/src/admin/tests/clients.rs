//! Clients with more than a secret: what they prove, may, and must.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture};
use crate::operations::Authentication;

const CLIENTS: &str = "/admin/v1/clients";
const SIGNIN: &str = "
    [[issuer]]
    name = \"corp\"
    issuer = \"https://id.example.com/\"
    audience = [\"https://ai.example.com\"]
    discovery = true
    [signin]
    issuer = \"corp\"
    client_id = \"vouchgate\"
";

async fn create(fixture: &Fixture, body: Value) -> Answer {
    fixture.owner(Method::POST, CLIENTS, Some(body)).await
}

fn key_set() -> Value {
    let key = proof::jose::SigningKey::generate(proof::jose::SigningAlg::Es256).unwrap();
    json!({ "keys": [key.public_jwk()] })
}

async fn authentication(fixture: &Fixture, name: &str) -> Authentication {
    fixture.operations.client_registration(name).await.unwrap().unwrap().auth
}

#[tokio::test]
async fn a_client_has_the_authentication_it_was_made_with_and_a_secret_only_then() {
    let fixture = Fixture::with("trusted_proxies = [\"10.0.0.0/8\"]\n").await;
    let certificate = testkit::certs::Identity::self_signed("batch").cert_pem;
    for (auth, method, secret) in [
        (Value::Null, "client_secret", true),
        (json!({ "method": "client_secret" }), "client_secret", true),
        (json!({ "method": "private_key_jwt", "jwks": key_set() }), "private_key_jwt", false),
        (
            json!({ "method": "private_key_jwt", "jwks_url": "https://app.example.com/jwks", "algorithms": ["ES256"] }),
            "private_key_jwt",
            false,
        ),
        (json!({ "method": "tls_client_auth", "subject_dn": "CN=batch,O=Example" }), "tls_client_auth", false),
        (json!({ "method": "tls_client_auth", "san_ip": "192.0.2.1" }), "tls_client_auth", false),
        (
            json!({ "method": "self_signed_tls_client_auth", "certificate": certificate }),
            "self_signed_tls_client_auth",
            false,
        ),
    ] {
        let answer = create(&fixture, json!({ "name": "c", "scopes": ["chat"], "auth": auth })).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{auth}: {}", answer.text);
        let made = answer.json();
        assert_eq!(made["client_secret"].is_string(), secret, "{auth}");
        assert_eq!((&made["auth"]["method"], &made["grants"]), (&json!(method), &json!(["client_credentials"])));
        assert_eq!(authentication(&fixture, "c").await.method(), method);
        let shown = fixture.owner(Method::GET, "/admin/v1/clients/c", None).await.json();
        if auth.is_object() {
            assert_eq!(shown["auth"], auth, "what is shown can be written again");
        }
        let rotated = fixture.owner(Method::POST, "/admin/v1/clients/c/rotate", None).await;
        assert_eq!(rotated.status == StatusCode::OK, secret, "{auth}: {}", rotated.text);
        fixture.owner(Method::DELETE, "/admin/v1/clients/c", None).await;
    }
}

#[tokio::test]
async fn an_app_is_a_public_client_with_redirects_and_requirements() {
    let fixture = Fixture::with(SIGNIN).await;
    let app = json!({
        "name": "app", "scopes": ["chat"], "auth": { "method": "none" }, "require": ["dpop", "par"],
        "grants": ["authorization_code", "refresh_token"],
        "redirect_uris": ["com.example.app:/cb", "http://127.0.0.1/cb"],
    });
    let answer = create(&fixture, app.clone()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert!(answer.json()["client_secret"].is_null());
    let client = fixture.operations.client_registration("app").await.unwrap().unwrap();
    assert!(client.is_public() && client.requires(config::Requirement::Dpop));
    assert!(client.allows(config::Grant::AuthorizationCode) && !client.allows(config::Grant::ClientCredentials));
    assert!(client.redirect_uris.iter().any(|uri| uri.matches("http://127.0.0.1:4711/cb")));

    // A change leaves what it does not name.
    let put = async |body: Value| fixture.owner(Method::PUT, "/admin/v1/clients/app", Some(body)).await;
    let changed = put(json!({ "scopes": ["chat", "embed"] })).await.json();
    assert_eq!((&changed["auth"], &changed["redirect_uris"]), (&app["auth"], &app["redirect_uris"]));
    let changed = put(json!({ "scopes": [], "require": ["dpop"], "redirect_uris": ["com.example.app:/cb"] })).await;
    assert_eq!(changed.json()["require"], json!(["dpop"]), "{}", changed.text);
    let refused = put(json!({ "scopes": [], "require": [] })).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "a public client must bind its tokens");
    let client = fixture.operations.client_registration("app").await.unwrap().unwrap();
    assert!(client.requires(config::Requirement::Dpop), "nothing was changed");
}

#[tokio::test]
async fn a_client_that_needs_no_secret_of_ours_is_made_by_putting_it_any_number_of_times() {
    let fixture = Fixture::with("trusted_proxies = [\"10.0.0.0/8\"]\n").await;
    let certificate = testkit::certs::Identity::self_signed("batch").cert_pem;
    for auth in [
        json!({ "method": "private_key_jwt", "jwks": key_set() }),
        json!({ "method": "tls_client_auth", "san_dns": "batch.example.com" }),
        json!({ "method": "self_signed_tls_client_auth", "certificate": certificate }),
    ] {
        let body = json!({ "scopes": ["chat"], "token_ttl": "10m", "disabled": true, "auth": auth });
        let put = async || fixture.owner(Method::PUT, "/admin/v1/clients/made", Some(body.clone())).await;
        let made = put().await;
        assert_eq!(made.status, StatusCode::CREATED, "{auth}: {}", made.text);
        let shown = made.json();
        assert_eq!((&shown["auth"], &shown["token_ttl"], &shown["disabled"]), (&auth, &json!("10m"), &json!(true)));
        assert!(shown["client_secret"].is_null() && shown["live_secrets"] == 0, "{}", made.text);
        let again = put().await;
        assert_eq!((again.status, again.json()), (StatusCode::OK, shown), "the same again changes nothing");
        fixture.owner(Method::DELETE, "/admin/v1/clients/made", None).await;
    }
    // What has a secret is made where the secret can be shown; what is not there cannot be changed.
    let put = async |body: Value| {
        let answer = fixture.owner(Method::PUT, "/admin/v1/clients/new", Some(body)).await;
        (answer.status.as_u16(), answer.code())
    };
    assert_eq!(put(json!({ "scopes": [], "auth": { "method": "client_secret" } })).await, (409, "not_allowed".into()));
    assert_eq!(put(json!({ "scopes": [] })).await, (404, "not_found".into()));
    assert_eq!(put(json!({ "scopes": [], "auth": { "method": "none" } })).await, (422, "invalid_resource".into()));
    let own = fixture.owner(Method::PUT, "/admin/v1/clients/vouchgate", Some(json!({ "scopes": [] }))).await;
    assert_eq!(own.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", own.text);
    assert_eq!(fixture.owner(Method::GET, CLIENTS, None).await.json()["items"], json!([]));
}

#[tokio::test]
async fn conditions_hold_for_a_client_that_is_put() {
    let fixture = Fixture::new().await;
    let body = json!({ "scopes": [], "auth": { "method": "private_key_jwt", "jwks": key_set() } });
    let put = async |name: &str, value: &str| {
        fixture.owner_with(Method::PUT, "/admin/v1/clients/c", Some(body.clone()), &[(name, value)]).await
    };
    assert_eq!(put("if-match", "*").await.status, StatusCode::PRECONDITION_FAILED, "there is none");
    assert_eq!(put("if-match", "\"a\"").await.status, StatusCode::PRECONDITION_FAILED, "there is none");
    let made = put("if-none-match", "*").await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(put("if-none-match", "*").await.status, StatusCode::PRECONDITION_FAILED, "there is one");
    assert_eq!(put("if-match", "\"a\"").await.status, StatusCode::PRECONDITION_FAILED, "another one");
    assert_eq!(put("if-match", "*").await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_the_file_would_refuse_of_a_client_is_refused_here() {
    let fixture = Fixture::new().await;
    let long = "x".repeat(2100);
    for client in [
        json!({ "auth": { "method": "none" } }),
        json!({ "auth": { "method": "none" }, "require": ["dpop"], "grants": ["client_credentials"] }),
        json!({ "auth": { "method": "private_key_jwt" } }),
        json!({ "auth": { "method": "private_key_jwt", "jwks": { "keys": [] } } }),
        json!({ "auth": { "method": "private_key_jwt", "jwks": {
            "keys": [{ "kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }] } } }),
        json!({ "auth": { "method": "private_key_jwt", "jwks": key_set(), "jwks_url": "https://a.example/jwks" } }),
        json!({ "auth": { "method": "private_key_jwt", "jwks": key_set(), "algorithms": ["HS256"] } }),
        json!({ "auth": { "method": "private_key_jwt", "jwks_url": "http://a.example/jwks" } }),
        json!({ "auth": { "method": "tls_client_auth" } }),
        json!({ "auth": { "method": "tls_client_auth", "san_dns": "a.example", "san_ip": "192.0.2.1" } }),
        json!({ "auth": { "method": "tls_client_auth", "subject_dn": "batch" } }),
        json!({ "auth": { "method": "tls_client_auth", "san_dns": "a.example" } }),
        json!({ "auth": { "method": "self_signed_tls_client_auth", "certificate": "-----BEGIN X-----" } }),
        json!({ "grants": ["authorization_code"], "redirect_uris": ["https://a.example/cb"] }),
        json!({ "grants": ["authorization_code"] }),
        json!({ "redirect_uris": ["https://a.example/cb"] }),
        json!({ "redirect_uris": [long] }),
        json!({ "grants": ["token_exchange"], "exchange": ["nobody"] }),
        json!({ "grants": ["password"] }),
        json!({ "require": ["mtls"] }),
        json!({ "auth": { "method": "client_secret", "hash": "sha256:x" } }),
        json!({ "jwks_file": "/etc/passwd" }),
    ] {
        let mut body = client.clone();
        body["name"] = "c".into();
        let answer = create(&fixture, body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{client}: {}", answer.text);
    }
    assert_eq!(fixture.owner(Method::GET, CLIENTS, None).await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_client_of_the_file_is_shown_without_the_hash_of_its_secret() {
    let hash = format!("sha256:{}", "A".repeat(43));
    let fixture = Fixture::with(&format!(
        "[[client]]\nname = \"batch\"\nauth = {{ method = \"client_secret\", hash = \"{hash}\" }}\n[[client]]\nname = \"none\"\n"
    ))
    .await;
    let answer = fixture.owner(Method::GET, CLIENTS, None).await;
    assert!(!answer.text.contains(&hash), "{}", answer.text);
    let items = answer.json()["items"].clone();
    assert_eq!((&items[0]["auth"], &items[0]["live_secrets"]), (&json!({ "method": "client_secret" }), &json!(1)));
    assert_eq!((&items[1]["auth"], &items[1]["grants"]), (&Value::Null, &json!([])));
}

#[tokio::test]
async fn files_a_client_names_are_read_once_and_one_that_is_gone_lets_nobody_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, key_set().to_string()).unwrap();
    let toml = |file: &std::path::Path| {
        format!(
            "[[client]]\nname = \"batch\"\nauth = {{ method = \"private_key_jwt\", jwks_file = \"{}\" }}\n",
            file.display()
        )
    };
    let fixture = Fixture::with(&toml(&file)).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(authentication(&fixture, "batch").await.method(), "private_key_jwt");
    let text = format!("[server]\nexternal_url = \"https://ai.example.com\"\n{}", toml(&file));
    fixture.operations.set_file(std::sync::Arc::new(config::parse(&text).unwrap()));
    assert_eq!(authentication(&fixture, "batch").await.method(), "nothing");
}
