//! The token service from outside.

mod bound;
mod client_auth;
mod exchange;
mod given_back;
mod people;
mod published;
mod refresh;
mod support;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base::{Clock, Name};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use proof::jose::KeySet;
use proof::token::{CacheLimits, Issuer, IssuerRules, Issuers, StaticKeys, VerifiedToken};
use serde_json::{Value, json};

use crate::credential::FileHash;
use crate::fixture::{Answer, ELSEWHERE, EXTERNAL, Fixture, NOW, send};

const GRANT: &str = "grant_type=client_credentials";

/// A client of the store with the scopes `chat` and `embed`, and its secret.
async fn client(fixture: &Fixture, name: &str) -> String {
    let body = json!({ "name": name, "scopes": ["chat", "embed"], "token_ttl": "10m" });
    let made = fixture.owner(Method::POST, "/admin/v1/clients", Some(body)).await;
    made.json()["client_secret"].as_str().unwrap().to_owned()
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

fn posted(id: &str, secret: &str) -> String {
    format!("{GRANT}&client_id={id}&client_secret={secret}")
}

/// Verify a token as the data plane does, with the keys that are served.
async fn verify(fixture: &Fixture, token: &str) -> Arc<VerifiedToken> {
    let keys = send(&fixture.public, Request::get("/.well-known/jwks.json").body(Body::empty()).unwrap()).await;
    let keys = KeySet::from_published(keys.text.as_bytes()).unwrap();
    let rules = IssuerRules::own(Name::new("vouchgate").unwrap(), EXTERNAL, vec![EXTERNAL.to_owned()]);
    let issuer = Issuer::new(rules, Arc::new(StaticKeys::new(keys)));
    let issuers = Issuers::new(vec![issuer], CacheLimits::default(), 1).unwrap();
    issuers.verify(token, fixture.clock.now()).unwrap()
}

fn error(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["error"].as_str().unwrap().to_owned())
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_client_gets_a_token_that_says_what_rfc_9068_wants() {
    let fixture = Fixture::new().await;
    let secret = client(&fixture, "batch").await;
    for (body, headers) in [
        (posted("batch", &secret), vec![]),
        (GRANT.to_owned(), vec![("authorization", basic("batch", &secret))]),
        (format!("{GRANT}&client_id=batch"), vec![("authorization", basic("batch", &secret))]),
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = fixture.ask_token(&body, &headers).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!((answer.header("cache-control"), answer.header("pragma")), ("no-store", "no-cache"));
        assert_eq!(answer.header("content-type"), "application/json");
        let answer = answer.json();
        assert_eq!((answer["token_type"].clone(), answer["expires_in"].clone()), (json!("Bearer"), json!(600)));
        assert_eq!(answer["scope"], "chat embed");

        let token = verify(&fixture, answer["access_token"].as_str().unwrap()).await;
        let claims = token.claims();
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!(EXTERNAL), &json!(EXTERNAL)));
        assert_eq!((&claims["sub"], &claims["client_id"]), (&json!("batch"), &json!("batch")));
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(NOW), &json!(NOW + 600)));
        assert_eq!(claims["scope"], "chat embed");
        assert!(claims["jti"].as_str().unwrap().len() >= 22);
        assert!(!claims.contains_key("cnf"));
    }
}

#[tokio::test]
async fn no_two_tokens_have_the_same_id() {
    let fixture = Fixture::new().await;
    let secret = client(&fixture, "batch").await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        let answer = fixture.ask_token(&posted("batch", &secret), &[]).await.json();
        let token = verify(&fixture, answer["access_token"].as_str().unwrap()).await;
        assert!(seen.insert(token.jti().unwrap().to_owned()));
    }
}

#[tokio::test]
async fn scopes_are_the_clients_or_fewer_and_compared_whole() {
    let fixture = Fixture::new().await;
    let secret = client(&fixture, "batch").await;
    let ask = async |scope: &str| fixture.ask_token(&format!("{}&scope={scope}", posted("batch", &secret)), &[]).await;
    assert_eq!(ask("chat").await.json()["scope"], "chat");
    assert_eq!(ask("embed+chat+embed").await.json()["scope"], "embed chat");
    for other in ["admin", "chat+admin", "cha", "chats", "CHAT", "chat,embed", "chat%09embed", "ch%D0%B0t", "chat%22"] {
        assert_eq!(error(&ask(other).await), is(400, "invalid_scope"), "{other}");
    }
}

#[tokio::test]
async fn a_token_is_for_this_gateway_only() {
    let fixture = Fixture::new().await;
    let secret = client(&fixture, "batch").await;
    for name in ["resource", "audience"] {
        let ask =
            async |value: &str| fixture.ask_token(&format!("{}&{name}={value}", posted("batch", &secret)), &[]).await;
        assert_eq!(ask("https://ai.example.com").await.status, StatusCode::OK);
        assert_eq!(error(&ask("https://other.example").await), is(400, "invalid_target"));
    }
}

/// A body, headers, and the status and error they get.
type Case<'a> = (String, Vec<(&'a str, &'a str)>, (u16, String));

#[tokio::test]
async fn malformed_requests_get_the_errors_of_rfc_6749() {
    let fixture = Fixture::new().await;
    let secret = client(&fixture, "batch").await;
    let good = posted("batch", &secret);
    let both = basic("batch", &secret);
    let cases: [Case<'_>; 12] = [
        (format!("client_id=batch&client_secret={secret}"), vec![], is(400, "invalid_request")),
        (good.replace("client_credentials", "password"), vec![], is(400, "unsupported_grant_type")),
        (good.replace("client_credentials", "refresh_token"), vec![], is(400, "unauthorized_client")),
        (format!("{good}&{GRANT}"), vec![], is(400, "invalid_request")),
        (format!("{good}&client_id=batch"), vec![], is(400, "invalid_request")),
        (format!("{good}&scope=chat&scope=embed"), vec![], is(400, "invalid_request")),
        (format!("{good}&x=%zz"), vec![], is(400, "invalid_request")),
        (good.clone(), vec![("content-type", "application/json")], is(400, "invalid_request")),
        (
            good.clone(),
            vec![("content-type", "application/x-www-form-urlencoded; charset=utf-16")],
            is(400, "invalid_request"),
        ),
        (good.clone(), vec![("authorization", &both)], is(400, "invalid_request")),
        (format!("{good}&client_assertion=x"), vec![], is(400, "invalid_request")),
        (format!("{good}&pad={}", "x".repeat(65_536)), vec![], is(413, "invalid_request")),
    ];
    for (body, headers, expected) in cases {
        let answer = fixture.ask_token(&body, &headers).await;
        assert_eq!(error(&answer), expected, "{}", &body[..body.len().min(120)]);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(!answer.text.contains(&secret));
    }
    let in_url =
        Request::post(format!("/oauth/token?{good}")).header("content-type", "application/x-www-form-urlencoded");
    let mut request = in_url.body(Body::from(good.clone())).unwrap();
    request.extensions_mut().insert(crate::ClientAddress(ELSEWHERE.parse().unwrap()));
    assert_eq!(error(&send(&fixture.public, request).await), is(400, "invalid_request"));
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let request = Request::builder().method(method).uri("/oauth/token").body(Body::empty()).unwrap();
        let answer = send(&fixture.public, request).await;
        assert_eq!((error(&answer), answer.header("allow")), (is(405, "invalid_request"), "POST"));
    }
    assert_eq!(
        fixture.ask_token(&good, &[("content-type", "application/x-www-form-urlencoded;charset=UTF-8")]).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_unknown_client_a_wrong_secret_and_a_disabled_client_are_answered_alike() {
    let fixture = Fixture::with("[[client]]\nname = \"mint-only\"\nscopes = [\"chat\"]\n").await;
    let secret = client(&fixture, "batch").await;
    let disabled = client(&fixture, "gone").await;
    fixture.owner(Method::POST, "/admin/v1/clients/gone/disable", None).await;
    let wrong = format!("vgs_{}", "A".repeat(43));
    let tries = [
        ("batch", wrong.as_str()),
        ("nobody", &wrong),
        ("gone", &disabled),
        ("mint-only", &wrong),
        ("not a name", &wrong),
        ("vouchgate", &secret),
        ("batch", &secret[..secret.len() - 1]),
    ];
    let mut answers = Vec::new();
    for (id, secret) in tries {
        let posted = fixture.ask_token(&posted(&id.replace(' ', "+"), secret), &[]).await;
        assert_eq!(error(&posted), is(401, "invalid_client"), "{id}");
        assert!(!posted.headers.contains_key("www-authenticate"));
        let header = fixture.ask_token(GRANT, &[("authorization", &basic(id, secret))]).await;
        assert_eq!(header.header("www-authenticate"), "Basic realm=\"vouchgate\"", "{id}");
        answers.push((posted.text, header.text));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn a_name_closes_after_five_failures_whether_it_exists_or_not() {
    let fixture = Fixture::new().await;
    let secret = client(&fixture, "batch").await;
    for id in ["batch", "nobody"] {
        for _ in 0..5 {
            assert_eq!(error(&fixture.ask_token(&posted(id, "wrong"), &[]).await), is(401, "invalid_client"));
        }
        let closed = fixture.ask_token(&posted(id, &secret), &[]).await;
        assert_eq!((error(&closed), closed.header("retry-after")), (is(429, "temporarily_unavailable"), "900"));
    }
    // From elsewhere it is open, and here it opens again.
    assert_eq!(fixture.ask_token_from(&posted("batch", &secret), &[], "192.0.2.8").await.status, StatusCode::OK);
    fixture.clock.advance(Duration::from_mins(15));
    assert_eq!(fixture.ask_token(&posted("batch", &secret), &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn one_address_may_not_ask_without_end() {
    let fixture = Fixture::new().await;
    let secret = client(&fixture, "batch").await;
    let limit = super::AttemptLimits::default().per_minute;
    for i in 0..limit {
        fixture.ask_token(&posted(&format!("nobody{i}"), "wrong"), &[]).await;
    }
    let answer = fixture.ask_token(&posted("batch", &secret), &[]).await;
    assert_eq!((error(&answer), answer.header("retry-after")), (is(429, "temporarily_unavailable"), "60"));
    fixture.clock.advance(Duration::from_mins(1));
    assert_eq!(fixture.ask_token(&posted("batch", &secret), &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_old_secret_works_until_its_overlap_ends() {
    let fixture = Fixture::new().await;
    let old = client(&fixture, "batch").await;
    let body = json!({ "overlap": "1h" });
    let rotated = fixture.owner(Method::POST, "/admin/v1/clients/batch/rotate", Some(body)).await.json();
    let new = rotated["client_secret"].as_str().unwrap();
    let works = async |secret: &str| fixture.ask_token(&posted("batch", secret), &[]).await.status == StatusCode::OK;
    assert!(works(&old).await && works(new).await);
    fixture.clock.advance(Duration::from_mins(59));
    assert!(works(&old).await);
    fixture.clock.advance(Duration::from_mins(1));
    assert!(!works(&old).await);
    assert!(works(new).await);
    let leaked = fixture.owner(Method::POST, "/admin/v1/clients/batch/rotate", Some(json!({ "overlap": "0s" }))).await;
    assert_eq!(leaked.json()["live_secrets"], 1);
    assert!(!works(new).await);
}

#[tokio::test]
async fn a_client_of_the_file_proves_itself_by_the_hash_there() {
    let secret = "0123456789abcdef0123456789abcdef";
    let hash = FileHash::of(secret).unwrap();
    let fixture = Fixture::with(&format!(
        "[[client]]\nname = \"filed\"\nscopes = [\"chat\"]\nauth = {{ method = \"client_secret\", hash = \"{hash}\" }}\n"
    ))
    .await;
    let answer = fixture.ask_token(&posted("filed", secret), &[]).await;
    assert_eq!((answer.status, answer.json()["expires_in"].clone()), (StatusCode::OK, json!(300)));
    assert_eq!(error(&fixture.ask_token(&posted("filed", "other"), &[]).await), is(401, "invalid_client"));
    // The hash itself is no secret that works.
    assert_eq!(error(&fixture.ask_token(&posted("filed", &hash.to_string()), &[]).await), is(401, "invalid_client"));
}

#[tokio::test]
async fn published_keys_are_public_cacheable_and_known_by_their_tag() {
    let fixture = Fixture::new().await;
    let get = async |headers: &[(&str, &str)]| {
        let mut request = Request::get("/.well-known/jwks.json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&fixture.public, request.body(Body::empty()).unwrap()).await
    };
    let answer = get(&[]).await;
    let set: Value = answer.json();
    assert_eq!(set["keys"].as_array().unwrap().len(), 1);
    let members: Vec<&str> = set["keys"][0].as_object().unwrap().keys().map(String::as_str).collect();
    assert!(members.iter().all(|member| ["kty", "crv", "x", "y", "alg", "use", "kid"].contains(member)), "{members:?}");
    assert_eq!(set["keys"][0]["alg"], "ES256");
    assert!(answer.header("cache-control").contains("max-age=300"));
    let tag = answer.header("etag").to_owned();
    let known = get(&[("if-none-match", &tag)]).await;
    assert_eq!((known.status, known.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(get(&[("if-none-match", "\"other\"")]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn endpoints_there_are_not_say_so_and_every_answer_has_an_id() {
    let fixture = Fixture::new().await;
    let secret = client(&fixture, "batch").await;
    for path in ["/oauth/nothing", "/oauth/token/", "/.well-known/nothing"] {
        let answer = send(&fixture.public, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(error(&answer), is(404, "invalid_request"), "{path}");
    }
    let issued = fixture.ask_token(&posted("batch", &secret), &[]).await;
    let refused = fixture.ask_token(&posted("batch", "wrong"), &[]).await;
    assert!(issued.header("x-request-id").starts_with("req_"));
    assert_ne!(issued.header("x-request-id"), refused.header("x-request-id"));
}

#[tokio::test]
async fn the_signing_key_is_made_once_and_stays() {
    let fixture = Fixture::new().await;
    assert!(!fixture.operations.signing_key_ensure().await.unwrap());
    let keys = fixture.operations.key_list().await.unwrap();
    assert_eq!((keys.len(), keys[0].state, keys[0].alg.as_str()), (1, "active", "ES256"));
}

#[tokio::test]
async fn without_the_clients_address_no_token_is_given() {
    let fixture = Fixture::new().await;
    let secret = client(&fixture, "batch").await;
    let request = Request::post("/oauth/token").header("content-type", "application/x-www-form-urlencoded");
    let answer = send(&fixture.public, request.body(Body::from(posted("batch", &secret))).unwrap()).await;
    assert_eq!(error(&answer), is(503, "temporarily_unavailable"));
}

#[tokio::test]
async fn with_the_store_closed_no_token_is_given() {
    let fixture = Fixture::new().await;
    let secret = client(&fixture, "batch").await;
    fixture.operations.store().close().await;
    let answer = fixture.ask_token(&posted("batch", &secret), &[]).await;
    assert_eq!(error(&answer), is(503, "temporarily_unavailable"));
    let authorization = format!("Bearer vga_{}", "A".repeat(43));
    let admin =
        fixture.network(Method::GET, "/admin/v1/clients", (ELSEWHERE, &[("authorization", &authorization)])).await;
    assert_eq!(admin.status, StatusCode::SERVICE_UNAVAILABLE);
}
