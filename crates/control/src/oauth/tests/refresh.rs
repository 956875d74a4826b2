//! Refresh tokens: rotation, grace, reuse (RFC 9700 section 4.14).

use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;
use testkit::dpop::Holder;

use super::people::{config, web};
use super::support::{access_token, claims, code, error, is, redeem, refresh_token, with_proof};
use crate::fixture::{Answer, Fixture, Outside};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What `web` gets for a new code.
async fn signed_in(fixture: &Fixture) -> Answer {
    web(fixture, &code(fixture, "web", |_| {}).await).await
}

fn body(client: &str, token: &str) -> String {
    format!("grant_type=refresh_token&client_id={client}&client_secret={SECRET}&refresh_token={token}")
}

async fn refresh(fixture: &Fixture, token: &str) -> Answer {
    fixture.ask_token(&body("web", token), &[]).await
}

async fn active(fixture: &Fixture, token: &str) -> bool {
    let body = format!("client_id=web&client_secret={SECRET}&token={token}");
    fixture.post("/oauth/introspect", &body, &[], None).await.json()["active"] == json!(true)
}

#[tokio::test]
async fn each_refresh_gives_a_new_token_of_both_kinds_for_the_same_person() {
    let fixture = Fixture::with(&config()).await;
    let first = signed_in(&fixture).await;
    let mut token = refresh_token(&first);
    let before = claims(&access_token(&first));
    for _ in 0..5 {
        fixture.clock.advance(Duration::from_hours(24));
        let answer = refresh(&fixture, &token).await;
        let claims = claims(&access_token(&answer));
        for name in ["sub", "client_id", "groups", "sid", "orig_sid", "auth_time", "scope"] {
            assert_eq!(claims[name], before[name], "{name}");
        }
        assert_ne!(claims["jti"], before["jti"]);
        let next = refresh_token(&answer);
        assert_ne!(next, token);
        token = next;
    }
}

#[tokio::test]
async fn a_43_a_used_refresh_token_ends_the_family_and_its_access_tokens() {
    let fixture = Fixture::with(&config()).await;
    let first = signed_in(&fixture).await;
    let stolen = refresh_token(&first);
    let next = refresh(&fixture, &stolen).await;
    fixture.clock.advance(Duration::from_secs(11));
    let (access, live) = (access_token(&next), refresh_token(&next));
    assert!(active(&fixture, &access).await && active(&fixture, &live).await && !active(&fixture, &stolen).await);

    assert_eq!(error(&refresh(&fixture, &stolen).await), is(400, "invalid_grant"));
    assert_eq!(error(&refresh(&fixture, &live).await), is(400, "invalid_grant"), "the whole family has ended");
    assert!(!active(&fixture, &access).await && !active(&fixture, &live).await);
    // Also after a restart.
    let fixture = fixture.restarted(&config(), Outside::default()).await;
    assert_eq!(error(&refresh(&fixture, &live).await), is(400, "invalid_grant"));
    assert!(!active(&fixture, &access).await);
    // The same person may sign in again.
    assert!(active(&fixture, &access_token(&signed_in(&fixture).await)).await);
}

#[tokio::test]
async fn a_43_two_at_once_get_the_same_successor_and_nobody_loses() {
    let fixture = Fixture::with(&config()).await;
    let first = refresh_token(&signed_in(&fixture).await);
    let answers = join_all((0..10).map(|_| refresh(&fixture, &first))).await;
    let successors: Vec<String> = answers.iter().map(refresh_token).collect();
    assert!(successors.iter().all(|successor| *successor == successors[0]), "one successor for all");
    fixture.clock.advance(Duration::from_secs(9));
    assert_eq!(refresh_token(&refresh(&fixture, &first).await), successors[0], "also a lost answer, a moment later");
    assert_eq!(refresh(&fixture, &successors[0]).await.status, StatusCode::OK);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(error(&refresh(&fixture, &first).await), is(400, "invalid_grant"));
}

#[tokio::test]
async fn a_43_without_grace_a_second_use_is_reuse() {
    let toml = format!("[token]\nrefresh_grace = \"0s\"\n{}", config());
    let fixture = Fixture::with(&toml).await;
    let first = refresh_token(&signed_in(&fixture).await);
    let next = refresh_token(&refresh(&fixture, &first).await);
    assert_eq!(error(&refresh(&fixture, &first).await), is(400, "invalid_grant"));
    assert_eq!(error(&refresh(&fixture, &next).await), is(400, "invalid_grant"));
}

#[tokio::test]
async fn a_43_scopes_get_fewer_never_more() {
    let fixture = Fixture::with(&config()).await;
    let token = refresh_token(&signed_in(&fixture).await);
    for scope in ["embed", "chat+embed", "admin", "cha", "chat%22"] {
        let answer = fixture.ask_token(&format!("{}&scope={scope}", body("web", &token)), &[]).await;
        assert_eq!(error(&answer), is(400, "invalid_scope"), "{scope}");
    }
    // Asking for too much has used nothing up.
    let fewer = fixture.ask_token(&format!("{}&scope=chat", body("web", &token)), &[]).await;
    assert_eq!(claims(&access_token(&fewer))["scope"], "chat");
    // The grant stays what it was: the next may be for all of it again.
    let all = refresh(&fixture, &refresh_token(&fewer)).await;
    assert_eq!(claims(&access_token(&all))["scope"], "openid chat");
}

#[tokio::test]
async fn a_43_another_clients_refresh_token_is_worth_nothing_and_stays_its_owners() {
    let fixture = Fixture::with(&config()).await;
    let token = refresh_token(&signed_in(&fixture).await);
    assert_eq!(error(&fixture.ask_token(&body("other-web", &token), &[]).await), is(400, "invalid_grant"));
    assert_eq!(refresh(&fixture, &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_43_a_public_clients_refresh_token_is_bound_to_its_key_and_a_thief_ends_it() {
    let fixture = Fixture::with(&config()).await;
    let (key, thief) = (Holder::new("ES256"), Holder::new("ES256"));
    let code = code(&fixture, "app", |_| {}).await;
    let first = with_proof(&fixture, &key, &redeem("app", &code)).await;
    let body = |token: &str| format!("grant_type=refresh_token&client_id=app&refresh_token={token}");
    let token = refresh_token(&first);
    assert_eq!(error(&fixture.ask_token(&body(&token), &[]).await), is(400, "invalid_dpop_proof"));
    let next = with_proof(&fixture, &key, &body(&token)).await;
    assert_eq!(claims(&access_token(&next))["cnf"]["jkt"], key.jkt());
    let live = refresh_token(&next);
    assert_eq!(error(&with_proof(&fixture, &thief, &body(&live)).await), is(400, "invalid_grant"));
    assert_eq!(
        error(&with_proof(&fixture, &key, &body(&live)).await),
        is(400, "invalid_grant"),
        "the family has ended"
    );
}

#[tokio::test]
async fn a_confidential_client_may_change_its_key() {
    let fixture = Fixture::with(&config()).await;
    let (old, new) = (Holder::new("ES256"), Holder::new("ES256"));
    let code = code(&fixture, "web", |_| {}).await;
    let redeem = format!("{}&client_secret={SECRET}", redeem("web", &code));
    let first = with_proof(&fixture, &old, &redeem).await;
    assert_eq!(first.json()["token_type"], "DPoP");
    let next = with_proof(&fixture, &new, &body("web", &refresh_token(&first))).await;
    assert_eq!(claims(&access_token(&next))["cnf"]["jkt"], new.jkt());
}

#[tokio::test]
async fn refresh_tokens_end_when_idle_and_at_last_in_any_case() {
    let toml = format!("[token]\nrefresh_idle = \"10d\"\nrefresh_lifetime = \"25d\"\n{}", config());
    let fixture = Fixture::with(&toml).await;
    let day = Duration::from_hours(24);
    let idle = refresh_token(&signed_in(&fixture).await);
    let mut used = refresh_token(&signed_in(&fixture).await);
    for _ in 0..2 {
        fixture.clock.advance(9 * day);
        used = refresh_token(&refresh(&fixture, &used).await);
    }
    assert_eq!(error(&refresh(&fixture, &idle).await), is(400, "invalid_grant"));
    fixture.clock.advance(Duration::from_mins(7 * 1440 - 1));
    let last = refresh(&fixture, &used).await;
    assert_eq!(last.json()["expires_in"], 60, "no access token outlives its family");
    fixture.clock.advance(Duration::from_mins(1));
    assert_eq!(error(&refresh(&fixture, &refresh_token(&last)).await), is(400, "invalid_grant"));
}

#[tokio::test]
async fn what_is_no_refresh_token_is_an_invalid_grant() {
    let fixture = Fixture::with(&config()).await;
    let first = signed_in(&fixture).await;
    let (access, id) = (access_token(&first), first.json()["id_token"].as_str().unwrap().to_owned());
    for token in [access.as_str(), &id, "vgr_", &format!("vgr_{}", "A".repeat(43)), "x"] {
        assert_eq!(error(&refresh(&fixture, token).await), is(400, "invalid_grant"), "{token}");
    }
    assert_eq!(error(&refresh(&fixture, "").await), is(400, "invalid_request"));
}

#[tokio::test]
async fn a_disabled_client_refreshes_nothing() {
    let fixture = Fixture::with(&config()).await;
    let token = refresh_token(&signed_in(&fixture).await);
    let off = config().replace("name = \"web\"\n", "name = \"web\"\ndisabled = true\n");
    let fixture = fixture.restarted(&off, Outside::default()).await;
    assert_eq!(error(&refresh(&fixture, &token).await), is(401, "invalid_client"));
}
