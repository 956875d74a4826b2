//! Introspection (RFC 7662) and revocation (RFC 7009).

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use testkit::dpop::Holder;

use super::people::{config, web};
use super::support::{access_token, claims, code, error, is, redeem, refresh_token, with_proof};
use crate::credential::FileHash;
use crate::fixture::{Answer, EXTERNAL, Fixture, Outside};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// [`config`] and a resource server that may ask about everybody's tokens.
fn with_resource_server() -> String {
    let hash = FileHash::of(SECRET).unwrap();
    format!(
        "{}[[client]]\nname = \"resource\"\nauth = {{ method = \"client_secret\", hash = \"{hash}\" }}\n\
         introspect = true\n",
        config()
    )
}

async fn ask(fixture: &Fixture, path: &str, client: &str, token: &str) -> Answer {
    let body = format!("client_id={client}&client_secret={SECRET}&token={token}");
    fixture.post(path, &body, &[], None).await
}

async fn introspect(fixture: &Fixture, client: &str, token: &str) -> Value {
    let answer = ask(fixture, "/oauth/introspect", client, token).await;
    assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::OK, "no-store"), "{}", answer.text);
    answer.json()
}

async fn revoke(fixture: &Fixture, client: &str, token: &str) -> Answer {
    ask(fixture, "/oauth/revoke", client, token).await
}

fn inactive() -> Value {
    json!({ "active": false })
}

async fn signed_in(fixture: &Fixture) -> (String, String) {
    let answer = web(fixture, &code(fixture, "web", |_| {}).await).await;
    (access_token(&answer), refresh_token(&answer))
}

#[tokio::test]
async fn a_client_learns_of_its_own_tokens_what_they_say() {
    let fixture = Fixture::with(&with_resource_server()).await;
    let (access, refresh) = signed_in(&fixture).await;
    for client in ["web", "resource"] {
        let said = introspect(&fixture, client, &access).await;
        assert_eq!((&said["active"], &said["token_type"]), (&json!(true), &json!("Bearer")));
        let claims = claims(&access);
        for name in ["iss", "sub", "aud", "client_id", "exp", "iat", "jti", "scope", "sid"] {
            assert_eq!(said[name], claims[name], "{name}");
        }
    }
    let said = introspect(&fixture, "web", &refresh).await;
    assert_eq!((&said["active"], &said["client_id"], &said["iss"]), (&json!(true), &json!("web"), &json!(EXTERNAL)));
    assert_eq!((&said["scope"], &said["sub"]), (&json!("openid chat"), &json!("corp|alice")));
}

#[tokio::test]
async fn what_is_none_of_a_clients_business_looks_like_what_is_nothing() {
    let fixture = Fixture::with(&with_resource_server()).await;
    let (access, refresh) = signed_in(&fixture).await;
    let mut altered = access.clone();
    altered.replace_range(altered.len() - 6.., "AAAAAA");
    for (client, token) in [
        ("other-web", access.as_str()),
        ("other-web", &refresh),
        ("resource", &refresh),
        ("web", &altered),
        ("web", "x"),
        ("web", &format!("vgr_{}", "A".repeat(43))),
    ] {
        assert_eq!(introspect(&fixture, client, token).await, inactive(), "{client}");
    }
    fixture.clock.advance(Duration::from_mins(5));
    assert_eq!(introspect(&fixture, "web", &access).await, inactive(), "expired");
    assert_eq!(introspect(&fixture, "web", &refresh).await["active"], true);
    fixture.clock.advance(Duration::from_hours(14 * 24));
    assert_eq!(introspect(&fixture, "web", &refresh).await, inactive(), "idle for too long");
}

#[tokio::test]
async fn only_who_proves_who_it_is_may_ask() {
    let fixture = Fixture::with(&with_resource_server()).await;
    let (access, _) = signed_in(&fixture).await;
    for body in [
        format!("token={access}"),
        format!("client_id=web&token={access}"),
        format!("client_id=app&token={access}"),
        format!("client_id=web&client_secret=wrong&token={access}"),
    ] {
        let answer = fixture.post("/oauth/introspect", &body, &[], None).await;
        assert_eq!(error(&answer), is(401, "invalid_client"), "{body}");
    }
    let no_token = format!("client_id=web&client_secret={SECRET}");
    for path in ["/oauth/introspect", "/oauth/revoke"] {
        assert_eq!(error(&fixture.post(path, &no_token, &[], None).await), is(400, "invalid_request"));
    }
}

#[tokio::test]
async fn introspection_says_which_key_a_token_is_bound_to() {
    let fixture = Fixture::with(&with_resource_server()).await;
    let key = Holder::new("ES256");
    let code = code(&fixture, "app", |_| {}).await;
    let answer = with_proof(&fixture, &key, &redeem("app", &code)).await;
    let said = introspect(&fixture, "resource", &access_token(&answer)).await;
    assert_eq!((&said["token_type"], &said["cnf"]), (&json!("DPoP"), &json!({ "jkt": key.jkt() })));
}

#[tokio::test]
async fn a_39_a_client_ends_an_access_token_of_its_own_for_good() {
    let fixture = Fixture::with(&with_resource_server()).await;
    let (access, refresh) = signed_in(&fixture).await;
    let answer = revoke(&fixture, "web", &access).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, ""));
    assert_eq!(introspect(&fixture, "resource", &access).await, inactive());
    assert_eq!(introspect(&fixture, "web", &refresh).await["active"], true, "only the token that was named");
    assert_eq!(revoke(&fixture, "web", &access).await.status, StatusCode::OK, "again is no error");
    let fixture = fixture.restarted(&with_resource_server(), Outside::default()).await;
    assert_eq!(introspect(&fixture, "resource", &access).await, inactive());
}

#[tokio::test]
async fn a_39_a_refresh_token_that_is_given_back_ends_its_access_tokens_too() {
    let fixture = Fixture::with(&with_resource_server()).await;
    let (access, refresh) = signed_in(&fixture).await;
    let (elsewhere, _) = signed_in(&fixture).await;
    let hinted = format!("client_id=web&client_secret={SECRET}&token={refresh}&token_type_hint=nonsense");
    assert_eq!(fixture.post("/oauth/revoke", &hinted, &[], None).await.status, StatusCode::OK);
    assert_eq!(introspect(&fixture, "web", &refresh).await, inactive());
    assert_eq!(introspect(&fixture, "web", &access).await, inactive());
    assert_eq!(introspect(&fixture, "web", &elsewhere).await["active"], true, "another sign-in goes on");
    let body = format!("grant_type=refresh_token&client_id=web&client_secret={SECRET}&refresh_token={refresh}");
    assert_eq!(error(&fixture.ask_token(&body, &[]).await), is(400, "invalid_grant"));
    assert_eq!(revoke(&fixture, "web", &refresh).await.status, StatusCode::OK);
}

#[tokio::test]
async fn nobody_ends_anothers_tokens_and_nonsense_is_no_error() {
    let fixture = Fixture::with(&with_resource_server()).await;
    let (access, refresh) = signed_in(&fixture).await;
    for token in [&access, &refresh] {
        for client in ["other-web", "resource"] {
            assert_eq!(error(&revoke(&fixture, client, token).await), is(400, "unauthorized_client"));
        }
        assert_eq!(introspect(&fixture, "web", token).await["active"], true);
    }
    for token in ["x", "vgr_x", &format!("vgr_{}", "A".repeat(43)), "a.b.c"] {
        assert_eq!(revoke(&fixture, "web", token).await.status, StatusCode::OK);
    }
    let wrong = format!("client_id=web&client_secret=wrong&token={access}");
    assert_eq!(error(&fixture.post("/oauth/revoke", &wrong, &[], None).await), is(401, "invalid_client"));
}

#[tokio::test]
async fn a_public_client_gives_back_what_it_has() {
    let fixture = Fixture::with(&with_resource_server()).await;
    let key = Holder::new("ES256");
    let code = code(&fixture, "app", |_| {}).await;
    let answer = with_proof(&fixture, &key, &redeem("app", &code)).await;
    let body = format!("client_id=app&token={}", refresh_token(&answer));
    assert_eq!(fixture.post("/oauth/revoke", &body, &[], None).await.status, StatusCode::OK);
    assert_eq!(introspect(&fixture, "resource", &access_token(&answer)).await, inactive());
}

#[tokio::test]
async fn with_the_store_closed_nothing_is_said_to_be_revoked() {
    let fixture = Fixture::with(&with_resource_server()).await;
    let (access, _) = signed_in(&fixture).await;
    fixture.operations.store().close().await;
    let answer = revoke(&fixture, "web", &access).await;
    assert_eq!((error(&answer), answer.header("retry-after")), (is(503, "temporarily_unavailable"), "5"));
}
