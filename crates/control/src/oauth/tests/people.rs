//! Codes and device codes, redeemed.

use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use proof::jose::KeySet;
use proof::token::{CacheLimits, Issuer, IssuerRules, Issuers, StaticKeys};
use serde_json::json;
use store::{NewRevocation, Revoke};
use testkit::dpop::Holder;

use super::support::{
    CALLBACK, CHALLENGE, VERIFIER, access_token, alice, claims, code, decide, device_code, encode, error, is, redeem,
    refresh_token, with_proof,
};
use crate::credential::FileHash;
use crate::fixture::{Answer, EXTERNAL, Fixture, NOW};
use crate::oauth::pending::Decision;
use base::{Clock, Name};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A public client `app`, a confidential client `web`, and an OpenID provider `corp`.
pub(super) fn config() -> String {
    let hash = FileHash::of(SECRET).unwrap();
    let client = |name: &str, auth: &str, more: &str| {
        format!(
            "[[client]]\nname = \"{name}\"\nscopes = [\"openid\", \"chat\", \"embed\"]\nauth = {auth}\n\
             grants = [\"authorization_code\", \"device_code\", \"refresh_token\"]\n\
             redirect_uris = [\"{CALLBACK}\"]\n{more}\n"
        )
    };
    let secret = format!("{{ method = \"client_secret\", hash = \"{hash}\" }}");
    let public = "{ method = \"none\" }";
    [
        "[signin]\nissuer = \"corp\"\nclient_id = \"vouchgate\"\n\
         authorization_endpoint = \"https://id.example.com/authorize\"\n\
         token_endpoint = \"https://id.example.com/token\"\n\
         [[issuer]]\nname = \"corp\"\nissuer = \"https://id.example.com/\"\naudience = [\"https://ai.example.com\"]\n\
         jwks_url = \"https://id.example.com/jwks\"\n",
        &client("app", public, "require = [\"dpop\"]"),
        &client("other-app", public, "require = [\"dpop\"]"),
        &client("web", &secret, ""),
        &client("other-web", &secret, ""),
    ]
    .concat()
}

/// Redeem a code as the confidential client `web`.
pub(super) async fn web(fixture: &Fixture, code: &str) -> Answer {
    fixture.ask_token(&format!("{}&client_secret={SECRET}", redeem("web", code)), &[]).await
}

#[tokio::test]
async fn a_code_gives_tokens_that_say_who_signed_in() {
    let fixture = Fixture::with(&config()).await;
    let answer = web(&fixture, &code(&fixture, "web", |_| {}).await).await;
    let said = answer.json();
    assert_eq!((&said["token_type"], &said["scope"]), (&json!("Bearer"), &json!("openid chat")));
    assert!(said["refresh_token"].as_str().unwrap().starts_with("vgr_"));
    let token = claims(&access_token(&answer));
    assert_eq!((&token["sub"], &token["client_id"]), (&json!("corp|alice"), &json!("web")));
    assert_eq!((&token["groups"], &token["auth_time"]), (&json!(["staff"]), &json!(NOW)));
    assert_eq!(token["orig_sid"], "corp-session");
    let id = claims(said["id_token"].as_str().unwrap());
    assert_eq!((&id["iss"], &id["aud"], &id["sub"]), (&json!(EXTERNAL), &json!("web"), &json!("corp|alice")));
    assert_eq!((&id["nonce"], &id["sid"], &id["auth_time"]), (&json!("n-1"), &token["sid"], &json!(NOW)));
    assert!(id["at_hash"].as_str().unwrap().len() == 22);
    assert!(!fixture.stores(said["refresh_token"].as_str().unwrap()));
    let unasked = code(&fixture, "web", |code| code.scopes = vec!["chat".to_owned()]).await;
    assert!(web(&fixture, &unasked).await.json().get("id_token").is_none());
}

#[tokio::test]
async fn a_22_an_id_token_is_no_access_token() {
    let fixture = Fixture::with(&config()).await;
    let answer = web(&fixture, &code(&fixture, "web", |_| {}).await).await;
    let id_token = answer.json()["id_token"].as_str().unwrap().to_owned();
    let keys = fixture.operations.published_keys().await.unwrap();
    let keys = KeySet::from_published(keys.json.as_bytes()).unwrap();
    // Even where the audience would fit.
    let audience = vec!["web".to_owned(), EXTERNAL.to_owned()];
    let rules = IssuerRules::own(Name::new("vouchgate").unwrap(), EXTERNAL, audience);
    let issuer = Issuer::new(rules, std::sync::Arc::new(StaticKeys::new(keys)));
    let issuers = Issuers::new(vec![issuer], CacheLimits::default(), 1).unwrap();
    assert!(issuers.verify(&access_token(&answer), fixture.clock.now()).is_ok());
    assert!(issuers.verify(&id_token, fixture.clock.now()).is_err());
}

#[tokio::test]
async fn a_public_client_proves_its_key_or_gets_nothing() {
    let fixture = Fixture::with(&config()).await;
    let key = Holder::new("ES256");
    let code = code(&fixture, "app", |_| {}).await;
    assert_eq!(error(&fixture.ask_token(&redeem("app", &code), &[]).await), is(400, "invalid_dpop_proof"));
    let answer = with_proof(&fixture, &key, &redeem("app", &code)).await;
    assert_eq!(claims(&access_token(&answer))["cnf"]["jkt"], key.jkt());
    assert_eq!(answer.json()["token_type"], "DPoP");
}

#[tokio::test]
async fn a_code_is_only_for_the_client_the_redirect_the_verifier_and_the_key_it_was_made_for() {
    let fixture = Fixture::with(&config()).await;
    let fresh = async || code(&fixture, "web", |_| {}).await;
    let secret = format!("&client_secret={SECRET}");
    let ask = async |body: String| fixture.ask_token(&body, &[]).await;
    let redirect = format!("&redirect_uri={}", encode(CALLBACK));
    for (from, to, code_of, expected) in [
        (VERIFIER, CHALLENGE, "invalid_grant", 400),
        (VERIFIER, "short", "invalid_grant", 400),
        (VERIFIER, &"a".repeat(43), "invalid_grant", 400),
        (&format!("&code_verifier={VERIFIER}")[..], "", "invalid_request", 400),
        (&redirect, "", "invalid_grant", 400),
        (&redirect, &format!("{redirect}%2F"), "invalid_grant", 400),
        ("app.example.com", "app.example.com.evil.example", "invalid_grant", 400),
    ] {
        let body = redeem("web", &fresh().await) + &secret;
        let bad = body.replace(from, to);
        assert_ne!(bad, body);
        assert_eq!(error(&ask(bad).await), is(expected, code_of), "{to}");
    }
    // There is one try at the verifier.
    let code = fresh().await;
    let guess = (redeem("web", &code) + &secret).replace(VERIFIER, &"b".repeat(43));
    assert_eq!(error(&ask(guess).await), is(400, "invalid_grant"));
    assert_eq!(error(&web(&fixture, &code).await), is(400, "invalid_grant"));
    // Another client cannot use it, nor use it up.
    let code = fresh().await;
    let other = redeem("other-web", &code) + &secret;
    assert_eq!(error(&ask(other).await), is(400, "invalid_grant"));
    assert_eq!(web(&fixture, &code).await.status, StatusCode::OK);
    for unknown in ["x", "", &"A".repeat(43), &"A".repeat(5000)] {
        let expected = if unknown.is_empty() { "invalid_request" } else { "invalid_grant" };
        assert_eq!(error(&web(&fixture, unknown).await), is(400, expected));
    }
}

#[tokio::test]
async fn a_code_bound_to_a_key_is_redeemed_with_that_key_only() {
    let fixture = Fixture::with(&config()).await;
    let (key, thief) = (Holder::new("ES256"), Holder::new("ES256"));
    let jkt = key.jkt();
    let bound = async || code(&fixture, "app", |code| code.dpop_jkt = Some(jkt.clone())).await;
    let stolen = with_proof(&fixture, &thief, &redeem("app", &bound().await)).await;
    assert_eq!(error(&stolen), is(400, "invalid_grant"));
    assert_eq!(with_proof(&fixture, &key, &redeem("app", &bound().await)).await.status, StatusCode::OK);
    let confidential = code(&fixture, "web", |code| code.dpop_jkt = Some(jkt.clone())).await;
    assert_eq!(error(&web(&fixture, &confidential).await), is(400, "invalid_grant"));
}

#[tokio::test]
async fn a_code_expires() {
    let fixture = Fixture::with(&config()).await;
    let code = code(&fixture, "web", |_| {}).await;
    fixture.clock.advance(Duration::from_mins(1));
    assert_eq!(error(&web(&fixture, &code).await), is(400, "invalid_grant"));
}

#[tokio::test]
async fn a_code_used_twice_ends_what_it_gave() {
    let fixture = Fixture::with(&config()).await;
    let code = code(&fixture, "web", |_| {}).await;
    let first = web(&fixture, &code).await;
    let (access, refresh) = (access_token(&first), refresh_token(&first));
    let active = async |token: &str| {
        let body = format!("client_id=web&client_secret={SECRET}&token={token}");
        fixture.post("/oauth/introspect", &body, &[], None).await.json()["active"].clone()
    };
    assert_eq!((active(&access).await, active(&refresh).await), (json!(true), json!(true)));
    // Not when somebody else tries.
    let other = redeem("other-web", &code) + &format!("&client_secret={SECRET}");
    assert_eq!(error(&fixture.ask_token(&other, &[]).await), is(400, "invalid_grant"));
    assert_eq!(active(&access).await, json!(true));

    assert_eq!(error(&web(&fixture, &code).await), is(400, "invalid_grant"));
    assert_eq!((active(&access).await, active(&refresh).await), (json!(false), json!(false)));
    let body = format!("grant_type=refresh_token&client_id=web&client_secret={SECRET}&refresh_token={refresh}");
    assert_eq!(error(&fixture.ask_token(&body, &[]).await), is(400, "invalid_grant"));
}

#[tokio::test]
async fn of_a_code_tried_at_once_nothing_survives() {
    let fixture = Fixture::with(&config()).await;
    let code = code(&fixture, "web", |_| {}).await;
    let answers = join_all((0..10).map(|_| web(&fixture, &code))).await;
    let given: Vec<&Answer> = answers.iter().filter(|answer| answer.status == StatusCode::OK).collect();
    assert!(given.len() <= 1);
    for answer in given {
        let body = format!("client_id=web&client_secret={SECRET}&token={}", access_token(answer));
        let said = fixture.post("/oauth/introspect", &body, &[], None).await.json();
        assert_eq!(said, json!({"active": false}));
    }
}

#[tokio::test]
async fn a_39_a_code_from_before_a_revocation_gives_nothing_after_it() {
    for what in [
        Revoke::Subject { issuer: "corp".to_owned(), subject: "alice".to_owned() },
        Revoke::Client { issuer: "vouchgate".to_owned(), client: "web".to_owned() },
        Revoke::Session { issuer: "corp".to_owned(), session: "corp-session".to_owned() },
        Revoke::Everything,
    ] {
        let fixture = Fixture::with(&config()).await;
        let before = code(&fixture, "web", |_| {}).await;
        let revocations = fixture.operations.store().revocations();
        let new = NewRevocation {
            what: what.clone(),
            not_before: revocations.now(),
            expires_at: None,
            by: "test".to_owned(),
            reason: "test".to_owned(),
        };
        revocations.revoke(new).await.unwrap();
        assert_eq!(error(&web(&fixture, &before).await), is(400, "invalid_grant"), "{what:?}");
        fixture.clock.advance(Duration::from_secs(1));
        let after = code(&fixture, "web", |code| code.person.upstream_sid = Some("a new one".to_owned())).await;
        assert_eq!(web(&fixture, &after).await.status, StatusCode::OK, "{what:?}");
    }
}

fn device_body(client: &str, code: &str) -> String {
    format!(
        "grant_type={}&client_id={client}&client_secret={SECRET}&device_code={code}",
        encode("urn:ietf:params:oauth:grant-type:device_code")
    )
}

#[tokio::test]
async fn a_device_asks_until_somebody_has_decided() {
    let fixture = Fixture::with(&config()).await;
    let code = device_code(&fixture, "web").await;
    let ask = async || fixture.ask_token(&device_body("web", &code), &[]).await;
    assert_eq!(error(&ask().await), is(400, "authorization_pending"));
    fixture.clock.advance(Duration::from_secs(5));
    assert_eq!(error(&ask().await), is(400, "authorization_pending"));
    fixture.clock.advance(Duration::from_secs(4));
    assert_eq!(error(&ask().await), is(400, "slow_down"));
    fixture.clock.advance(Duration::from_secs(9));
    assert_eq!(error(&ask().await), is(400, "slow_down"));
    fixture.clock.advance(Duration::from_secs(15));
    assert_eq!(error(&ask().await), is(400, "authorization_pending"));
    decide(&fixture, &code, Decision::Approved { person: alice(&fixture) }).await;
    let other = fixture.ask_token(&device_body("other-web", &code), &[]).await;
    assert_eq!(error(&other), is(400, "invalid_grant"));
    let given = ask().await;
    assert_eq!(claims(&access_token(&given))["sub"], "corp|alice");
    assert!(given.json()["refresh_token"].is_string());
    assert_eq!(error(&ask().await), is(400, "invalid_grant"));
}

#[tokio::test]
async fn a_device_that_was_refused_or_waited_too_long_is_told_so() {
    let fixture = Fixture::with(&config()).await;
    let ask = async |code: &str| fixture.ask_token(&device_body("web", code), &[]).await;
    let refused = device_code(&fixture, "web").await;
    decide(&fixture, &refused, Decision::Denied).await;
    assert_eq!(error(&ask(&refused).await), is(400, "access_denied"));
    assert_eq!(error(&ask(&refused).await), is(400, "invalid_grant"));
    let late = device_code(&fixture, "web").await;
    fixture.clock.advance(Duration::from_mins(10));
    assert_eq!(error(&ask(&late).await), is(400, "expired_token"));
    assert_eq!(error(&ask("unknown").await), is(400, "invalid_grant"));
}

#[tokio::test]
async fn an_approved_device_gets_its_token_once() {
    let fixture = Fixture::with(&config()).await;
    let code = device_code(&fixture, "web").await;
    decide(&fixture, &code, Decision::Approved { person: alice(&fixture) }).await;
    let body = device_body("web", &code);
    let answers = join_all((0..10).map(|_| fixture.ask_token(&body, &[]))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
}
