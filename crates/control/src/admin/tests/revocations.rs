//! Revocations and signing keys, from outside.

use std::time::Duration;

use base::Clock;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use store::{Cause, OWN_ISSUER, TokenFacts};

use crate::fixture::{Answer, Fixture, NOW};

const REVOCATIONS: &str = "/admin/v1/revocations";
const ISSUERS: &str = "
    [[issuer]]
    name = \"corp\"
    issuer = \"https://id.example.com/\"
    audience = [\"https://ai.example.com\"]
    jwks_url = \"https://id.example.com/jwks\"
    max_lifetime = \"1h\"
";

async fn revoke(fixture: &Fixture, body: Value) -> Answer {
    fixture.owner(Method::POST, REVOCATIONS, Some(body)).await
}

async fn minted(fixture: &Fixture, client: &str) -> String {
    let body = json!({ "client": client });
    let answer = fixture.owner(Method::POST, "/admin/v1/tokens", Some(body)).await;
    answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
}

async fn with_client() -> Fixture {
    let fixture = Fixture::with(ISSUERS).await;
    fixture.owner(Method::POST, "/admin/v1/clients", Some(json!({ "name": "batch" }))).await;
    fixture
}

fn part(token: &str, part: usize) -> Value {
    use base64::Engine;
    let part = token.split('.').nth(part).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// What of a token of ours is revoked.
fn cause(fixture: &Fixture, token: &str) -> Option<Cause> {
    let (header, claims) = (part(token, 0), part(token, 1));
    fixture.operations.store().revoked().check(&TokenFacts {
        issuer: OWN_ISSUER,
        subject: claims["sub"].as_str().unwrap(),
        client: claims["client_id"].as_str(),
        jti: claims["jti"].as_str(),
        kid: header["kid"].as_str(),
        issued_at: claims["iat"].as_i64().map(base::Timestamp::from_secs),
        ..TokenFacts::default()
    })
}

#[tokio::test]
async fn a_39_each_kind_of_revocation_is_in_force_when_it_is_answered() {
    for (body, expected) in [
        (json!({ "kind": "subject", "value": "batch" }), Cause::Subject),
        (json!({ "kind": "client", "value": "batch" }), Cause::Client),
        (json!({ "kind": "issuer", "issuer": "vouchgate" }), Cause::Issuer),
        (json!({ "kind": "everything" }), Cause::Everything),
    ] {
        let fixture = with_client().await;
        let token = minted(&fixture, "batch").await;
        assert_eq!(cause(&fixture, &token), None);
        let answer = revoke(&fixture, body.clone()).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{body}: {}", answer.text);
        assert_eq!(cause(&fixture, &token), Some(expected), "{body}");
        assert_eq!(answer.json()["forgotten_at"], Value::Null, "{body}: Vouchgate keys live long");
        fixture.clock.advance(Duration::from_secs(1));
        let later = minted(&fixture, "batch").await;
        assert_eq!(cause(&fixture, &later), None, "{body}: what comes after is not meant");
    }
}

#[tokio::test]
async fn a_token_is_revoked_by_itself_or_by_its_jti_and_remembered_as_long_as_it_could_live() {
    let fixture = with_client().await;
    let (one, other) = (minted(&fixture, "batch").await, minted(&fixture, "batch").await);
    let answer = revoke(&fixture, json!({ "kind": "token", "token": one, "reason": "leaked" })).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let shown = answer.json();
    assert_eq!((&shown["issuer"], &shown["value"]), (&json!("vouchgate"), &part(&one, 1)["jti"]));
    assert_eq!((&shown["by"], &shown["reason"]), (&json!("local"), &json!("leaked")));
    assert!(!answer.text.contains(&one) && !fixture.stores(&one));
    assert_eq!((cause(&fixture, &one), cause(&fixture, &other)), (Some(Cause::Token), None));

    let jti = part(&other, 1)["jti"].clone();
    revoke(&fixture, json!({ "kind": "token", "value": jti })).await;
    assert_eq!(cause(&fixture, &other), Some(Cause::Token));
    assert_eq!(revoke(&fixture, json!({ "kind": "token", "issuer": "corp", "value": "x" })).await.status, 201);

    fixture.clock.advance(Duration::from_mins(64));
    let forget = async || fixture.operations.store().revocations().delete_expired(100).await.unwrap();
    assert_eq!(forget().await, 0);
    fixture.clock.advance(Duration::from_mins(2));
    assert_eq!(forget().await, 1, "5 minutes and an hour");
    fixture.clock.advance(Duration::from_hours(24));
    assert_eq!(forget().await, 2, "a day and an hour: as long as any token of ours may live");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_and_nothing_is_written() {
    let fixture = with_client().await;
    let token = minted(&fixture, "batch").await;
    let foreign = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2V2aWwuZXhhbXBsZS8iLCJqdGkiOiJ4In0.AA";
    for (body, param) in [
        (json!({ "kind": "subject" }), "value"),
        (json!({ "kind": "subject", "value": "" }), "value"),
        (json!({ "kind": "subject", "value": "a\nb" }), "value"),
        (json!({ "kind": "subject", "value": "x".repeat(1025) }), "value"),
        (json!({ "kind": "subject", "issuer": "crop", "value": "alice" }), "issuer"),
        (json!({ "kind": "issuer", "issuer": "corp", "value": "x" }), "value"),
        (json!({ "kind": "everything", "issuer": "corp" }), "value"),
        (json!({ "kind": "key", "value": "kid" }), "kind"),
        (json!({ "kind": "token", "value": "j", "before": "1h" }), "before"),
        (json!({ "kind": "subject", "value": "a", "before": "tomorrow" }), "before"),
        (json!({ "kind": "subject", "value": "a", "before": (NOW + 60).to_string() }), "before"),
        (json!({ "kind": "subject", "value": "a", "reason": "x".repeat(257) }), "reason"),
        (json!({ "kind": "token", "token": token, "issuer": "corp" }), "token"),
        (json!({ "kind": "subject", "token": token }), "token"),
        (json!({ "kind": "token", "token": "vgs_x" }), "token"),
        (json!({ "kind": "token", "token": foreign }), "token"),
    ] {
        let answer = revoke(&fixture, body.clone()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {}", answer.text);
        assert_eq!(answer.json()["param"], param, "{body}: {}", answer.text);
    }
    for body in [json!({ "kind": "user", "value": "a" }), json!({ "kind": "subject", "value": "a", "extra": 1 })] {
        assert_eq!(revoke(&fixture, body).await.code(), "invalid_body");
    }
    assert_eq!(fixture.operations.store().revoked().entries(), 0);
}

#[tokio::test]
async fn a_moment_is_so_long_ago_or_seconds_and_a_revocation_is_listed_and_lifted() {
    let fixture = with_client().await;
    let old = minted(&fixture, "batch").await;
    fixture.clock.advance(Duration::from_mins(10));
    let new = minted(&fixture, "batch").await;
    for (before, hit) in [("11m", false), ("9m", true), ("1800000001", true), ("1800000000", false)] {
        let body = json!({ "kind": "client", "value": "batch", "before": before });
        let made = revoke(&fixture, body).await.json();
        assert_eq!(cause(&fixture, &old).is_some(), hit, "{before}");
        assert_eq!(cause(&fixture, &new), None, "{before}");
        let path = format!("{REVOCATIONS}/{}", made["id"]);
        let lifted = fixture.owner(Method::DELETE, &path, None).await;
        assert_eq!(lifted.status, StatusCode::OK, "{}", lifted.text);
        assert_eq!(lifted.json()["lifted_by"], "local");
        assert_eq!(cause(&fixture, &old), None, "{before}");
        assert_eq!(fixture.owner(Method::DELETE, &path, None).await.status, StatusCode::NOT_FOUND);
    }
    let dead = revoke(&fixture, json!({ "kind": "token", "token": old })).await.json();
    for id in [dead["id"].to_string(), "0".into(), "x".into(), "-1".into()] {
        let answer = fixture.owner(Method::DELETE, &format!("{REVOCATIONS}/{id}"), None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{id}");
    }
    let page = fixture.owner(Method::GET, &format!("{REVOCATIONS}?limit=2"), None).await.json();
    assert_eq!((page["items"].as_array().unwrap().len(), page["items"][0]["kind"].as_str()), (2, Some("token")));
    let next = page["next_cursor"].as_str().unwrap();
    let page = fixture.owner(Method::GET, &format!("{REVOCATIONS}?limit=10&cursor={next}"), None).await.json();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next_cursor"]), (3, &Value::Null));
    assert!(page["items"].as_array().unwrap().iter().all(|item| item["lifted_at"].is_string()));
}

#[tokio::test]
async fn a_revocation_survives_a_restart() {
    let fixture = with_client().await;
    let token = minted(&fixture, "batch").await;
    revoke(&fixture, json!({ "kind": "token", "token": token })).await;
    let fixture = fixture.restarted(ISSUERS, crate::fixture::Outside::default()).await;
    assert_eq!(cause(&fixture, &token), Some(Cause::Token));
}

async fn keys(fixture: &Fixture) -> Vec<(String, String)> {
    let listed = fixture.owner(Method::GET, "/admin/v1/keys", None).await.json();
    let of = |key: &Value, member: &str| key[member].as_str().unwrap().to_owned();
    listed["items"].as_array().unwrap().iter().map(|key| (of(key, "kid"), of(key, "state"))).collect()
}

async fn states(fixture: &Fixture) -> Vec<String> {
    keys(fixture).await.into_iter().map(|(_, state)| state).collect()
}

async fn rotate(fixture: &Fixture, body: Value) -> Answer {
    // Keys are listed by when they were made.
    fixture.clock.advance(Duration::from_secs(1));
    fixture.owner(Method::POST, "/admin/v1/keys/rotate", Some(body)).await
}

async fn published(fixture: &Fixture) -> Vec<String> {
    let set: Value = serde_json::from_str(&fixture.operations.published_keys().await.unwrap().json).unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_verifies_after() {
    let fixture = with_client().await;
    let first = keys(&fixture).await[0].0.clone();
    let answer = rotate(&fixture, json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let next = answer.json()["items"][1].clone();
    assert_eq!((&next["state"], &next["signs_from"]), (&json!("next"), &json!("2027-01-16T08:00:01.000Z")));
    rotate(&fixture, json!({})).await;
    fixture.clock.set(base::Timestamp::from_secs(NOW + 1));
    assert_eq!(states(&fixture).await, ["active", "next"], "asked twice, one waits");
    let next = next["kid"].as_str().unwrap().to_owned();
    assert_eq!(published(&fixture).await, [first.clone(), next.clone()]);

    fixture.clock.advance(Duration::from_hours(24).checked_sub(Duration::from_millis(1)).unwrap());
    fixture.operations.keys_maintain().await.unwrap();
    assert_eq!(part(&minted(&fixture, "batch").await, 0)["kid"], first, "not before its time");
    fixture.clock.advance(Duration::from_millis(1));
    fixture.operations.keys_maintain().await.unwrap();
    assert_eq!(states(&fixture).await, ["retiring", "active"]);
    assert_eq!(part(&minted(&fixture, "batch").await, 0)["kid"], next);
    assert_eq!(published(&fixture).await, [first.clone(), next.clone()], "its tokens still verify");

    fixture.clock.advance(Duration::from_hours(24));
    fixture.operations.keys_maintain().await.unwrap();
    assert_eq!(states(&fixture).await, ["retiring", "active"]);
    fixture.clock.advance(Duration::from_mins(10));
    fixture.operations.keys_maintain().await.unwrap();
    assert_eq!(states(&fixture).await, ["gone", "active"]);
    assert_eq!(published(&fixture).await, [next]);
}

#[tokio::test]
async fn keys_rotate_by_themselves_in_time() {
    let fixture = Fixture::with("[token]\nkey_lifetime = \"10d\"\nkey_publish = \"2d\"\n").await;
    let mut seen = Vec::new();
    for _ in 0..(32 * 24 - 12) {
        fixture.clock.advance(Duration::from_hours(1));
        fixture.operations.keys_maintain().await.unwrap();
        let now = states(&fixture).await.join(" ");
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    assert_eq!(
        seen,
        [
            "active",
            "active next",
            "retiring active",
            "gone active",
            "gone active next",
            "gone retiring active",
            "gone gone active",
            "gone gone active next",
            "gone gone retiring active",
            "gone gone gone active"
        ]
    );
}

#[tokio::test]
async fn a_rotation_at_once_skips_the_wait() {
    let fixture = with_client().await;
    assert_eq!(rotate(&fixture, json!({ "now": true })).await.status, StatusCode::OK);
    assert_eq!(states(&fixture).await, ["retiring", "active"]);
    assert_eq!(rotate(&fixture, json!({ "then": true })).await.code(), "invalid_body");
}

#[tokio::test]
async fn a_39_a_compromised_key_ends_with_all_it_signed_and_another_signs() {
    let fixture = with_client().await;
    let token = minted(&fixture, "batch").await;
    let old = keys(&fixture).await[0].0.clone();
    let answer = rotate(&fixture, json!({ "compromised": old, "reason": "laptop stolen" })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(states(&fixture).await, ["gone", "active"]);
    assert_eq!(cause(&fixture, &token), Some(Cause::Key));
    assert!(!published(&fixture).await.contains(&old));
    let new = minted(&fixture, "batch").await;
    assert_ne!(part(&new, 0)["kid"], old);
    assert_eq!(cause(&fixture, &new), None);
    assert_eq!(rotate(&fixture, json!({ "compromised": old })).await.status, StatusCode::NOT_FOUND);
    assert_eq!(rotate(&fixture, json!({ "compromised": "nobody" })).await.status, StatusCode::NOT_FOUND);

    // One that only waits, or only verifies: no other has to take its place.
    rotate(&fixture, json!({})).await;
    let next = keys(&fixture).await[2].0.clone();
    rotate(&fixture, json!({ "compromised": next })).await;
    assert_eq!(states(&fixture).await, ["gone", "active", "gone"]);
    let listed = fixture.owner(Method::GET, REVOCATIONS, None).await.json();
    assert!(listed["items"].as_array().unwrap().iter().all(|item| item["kind"] == "key"));
    assert!(listed["items"][1]["reason"] == "laptop stolen" && listed["items"][1]["forgotten_at"].is_null());
}

#[tokio::test]
async fn a_compromise_that_was_interrupted_is_finished() {
    let fixture = with_client().await;
    let old = keys(&fixture).await[0].0.clone();
    // What is left of it when the process dies after the first step.
    let what = store::Revoke::Key { issuer: OWN_ISSUER.to_owned(), kid: old.clone() };
    let at = fixture.clock.now();
    fixture.clock.advance(Duration::from_secs(1));
    fixture.operations.revoke_now(vec![what], (at, "owner"), "leaked").await.unwrap();
    fixture.operations.keys_maintain().await.unwrap();
    assert_eq!(states(&fixture).await, ["gone", "active"]);
}
