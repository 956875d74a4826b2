//! What we publish about ourselves, and to whom pages may speak.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::people::config;
use crate::fixture::{Answer, EXTERNAL, Fixture, send};

async fn get(fixture: &Fixture, path: &str) -> Value {
    let answer = send(&fixture.public, Request::get(path).body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/json"), "{path}");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(answer.header("cache-control").contains("max-age=300"));
    answer.json()
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn metadata_names_what_is_on_and_nothing_else() {
    let fixture = Fixture::new().await;
    let about = get(&fixture, "/.well-known/oauth-authorization-server").await;
    assert_eq!(
        (&about["issuer"], &about["token_endpoint"]),
        (&json!(EXTERNAL), &json!(format!("{EXTERNAL}/oauth/token")))
    );
    assert_eq!(list(&about["grant_types_supported"]), ["client_credentials"]);
    assert_eq!(about["response_types_supported"], json!([]));
    for absent in ["authorization_endpoint", "pushed_authorization_request_endpoint", "device_authorization_endpoint"] {
        assert!(about.get(absent).is_none(), "{absent}");
    }
    let methods = list(&about["token_endpoint_auth_methods_supported"]);
    assert_eq!(methods, ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]);
    assert_eq!(about["tls_client_certificate_bound_access_tokens"], false);
    for unsafe_one in ["none", "HS256", "RS1"] {
        assert!(!list(&about["dpop_signing_alg_values_supported"]).iter().any(|alg| alg == unsafe_one));
        assert!(!list(&about["token_endpoint_auth_signing_alg_values_supported"]).iter().any(|alg| alg == unsafe_one));
    }
    assert!(!list(&about["introspection_endpoint_auth_methods_supported"]).iter().any(|method| method == "none"));
}

#[tokio::test]
async fn with_sign_in_and_proxies_more_is_on() {
    let fixture = Fixture::with(&format!("trusted_proxies = [\"10.0.0.0/8\"]\n{}", config())).await;
    let about = get(&fixture, "/.well-known/oauth-authorization-server").await;
    assert_eq!(about, get(&fixture, "/.well-known/openid-configuration").await);
    let grants = list(&about["grant_types_supported"]);
    assert_eq!(grants.len(), 5, "{grants:?}");
    assert!(!grants.iter().any(|grant| ["implicit", "password"].contains(&grant.as_str())));
    assert_eq!(about["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(about["response_types_supported"], json!(["code"]));
    assert_eq!(about["authorization_response_iss_parameter_supported"], true);
    assert!(list(&about["token_endpoint_auth_methods_supported"]).contains(&"tls_client_auth".to_owned()));
    // Every endpoint that is named is there.
    for (name, url) in about.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("_endpoint")) {
        let path = url.as_str().unwrap().strip_prefix(EXTERNAL).unwrap();
        let request = Request::builder().method(Method::PUT).uri(path).body(Body::empty()).unwrap();
        assert_eq!(send(&fixture.public, request).await.status, StatusCode::METHOD_NOT_ALLOWED, "{name}");
    }
}

#[tokio::test]
async fn the_resource_names_itself_and_who_gives_tokens_for_it() {
    let fixture = Fixture::new().await;
    let about = get(&fixture, "/.well-known/oauth-protected-resource").await;
    assert_eq!((&about["resource"], &about["authorization_servers"]), (&json!(EXTERNAL), &json!([EXTERNAL])));
    assert_eq!(about["bearer_methods_supported"], json!(["header"]));
    assert!(list(&about["dpop_signing_alg_values_supported"]).contains(&"ES256".to_owned()));
}

#[tokio::test]
async fn what_the_admin_api_adds_is_published_too() {
    let fixture = Fixture::with(
        "[[policy]]\nname = \"a\"\nwho = { issuer = \"*\", scope = \"chat\" }\nmay = { models = [\"*\"] }\n",
    )
    .await;
    let resource = "/.well-known/oauth-protected-resource";
    assert_eq!(get(&fixture, resource).await["scopes_supported"], json!(["chat"]));
    let issuer = json!({
        "issuer": "https://id.example.com/", "audience": [EXTERNAL], "discovery": true
    });
    let policy = json!({ "who": { "issuer": "*", "scope": ["embed"] }, "may": { "models": ["*"] } });
    for (path, body) in [("/admin/v1/issuers/corp", issuer), ("/admin/v1/policies/b", policy)] {
        let made = fixture.owner(Method::PUT, path, Some(body)).await;
        assert!(made.status.is_success(), "{}", made.text);
    }
    let about = get(&fixture, resource).await;
    assert_eq!(about["scopes_supported"], json!(["chat", "embed"]));
    assert_eq!(about["authorization_servers"], json!([EXTERNAL, "https://id.example.com/"]));
    let about = get(&fixture, "/.well-known/oauth-authorization-server").await;
    assert!(list(&about["grant_types_supported"]).iter().any(|grant| grant.ends_with("token-exchange")));
}

async fn from_page(fixture: &Fixture, method: Method, path: &str, origin: &str) -> Answer {
    let mut request = Request::builder().method(method.clone()).uri(path).header("origin", origin);
    if method == Method::OPTIONS {
        request = request.header("access-control-request-method", "POST");
    }
    send(&fixture.public, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn pages_of_configured_origins_may_ask_for_tokens_and_read_nonces() {
    let fixture = Fixture::with("[cors]\norigins = [\"https://app.example.com\"]\n").await;
    for path in ["/oauth/token", "/oauth/revoke", "/oauth/par"] {
        let preflight = from_page(&fixture, Method::OPTIONS, path, "https://app.example.com").await;
        assert_eq!(preflight.status, StatusCode::NO_CONTENT, "{path}");
        assert_eq!(preflight.header("access-control-allow-origin"), "https://app.example.com");
        assert!(preflight.header("access-control-allow-headers").contains("dpop"));
        let answer = from_page(&fixture, Method::POST, path, "https://app.example.com").await;
        assert_eq!(answer.header("access-control-allow-origin"), "https://app.example.com");
        assert!(answer.header("access-control-expose-headers").contains("dpop-nonce"));
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_not_and_nobodys_page_may_use_what_is_for_people() {
    let fixture = Fixture::with("[cors]\norigins = [\"https://app.example.com\"]\n").await;
    for (path, origin) in [
        ("/oauth/token", "https://evil.example"),
        ("/oauth/token", "https://app.example.com.evil.example"),
        ("/oauth/token", "http://app.example.com"),
        ("/oauth/token", "null"),
        ("/oauth/authorize", "https://app.example.com"),
        ("/oauth/device", "https://app.example.com"),
    ] {
        for method in [Method::OPTIONS, Method::POST] {
            let answer = from_page(&fixture, method, path, origin).await;
            assert!(!answer.headers.contains_key("access-control-allow-origin"), "{path} {origin}");
        }
    }
}
