//! Asking other services about evidence: a peer answers as their documentation says, or does not.

use base::{Secret, Timestamp};
use net::{AskError, FetchError, Reach, ask};
use proof::attest::online::{
    AppleKey, CaptchaKind, CaptchaRules, DeviceCheck, FraudMetric, MAX_ANSWER_LEN, OnlineError, Siteverify,
};
use proof::attest::{Evidence, Level, Summary};
use proof::jose::{SigningAlg, SigningKey};

use crate::support::{LONG, Peer, egress};

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T00:00:00Z").unwrap()
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Ask a peer that answers so; what it was sent and what came of it.
async fn turnstile(answer: &str) -> (String, Result<Summary, AskError>) {
    let mut peer = Peer::new().await;
    let url = peer.url().join("/turnstile/v0/siteverify").unwrap();
    let (secret, hostnames) = (Secret::new("1x00-secret".to_owned()), ["app.example.com".to_owned()]);
    let check = Siteverify {
        kind: CaptchaKind::Turnstile,
        url: url.as_str(),
        secret: &secret,
        response: "the.answer",
        remote: None,
        rules: CaptchaRules {
            hostnames: &hostnames,
            action: Some("enroll"),
            bound: None,
            least_score: None,
            now: now(),
        },
    };
    let serve = async {
        let mut wire = peer.connection().await;
        let request = wire.request().await;
        wire.say(answer).await;
        request
    };
    let egress = egress();
    let (asked, request) = tokio::join!(ask(&egress, Reach::Private, &check, LONG), serve);
    (request, asked)
}

#[tokio::test]
async fn a_solved_puzzle_is_checked_with_one_post() {
    let body =
        r#"{"success":true,"challenge_ts":"2026-11-20T23:59:00Z","hostname":"app.example.com","action":"enroll"}"#;
    let (request, asked) = turnstile(&answer("200 OK", "application/json", body)).await;
    assert!(request.starts_with("POST /turnstile/v0/siteverify HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/x-www-form-urlencoded\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nsecret=1x00-secret&response=the.answer"), "{request}");
    assert!(!request.contains("authorization"), "{request}");
    let summary = asked.unwrap();
    assert_eq!((summary.evidence, summary.level), (Evidence::Turnstile, Level::Web));
}

#[tokio::test]
async fn no_good_answer_is_a_refusal() {
    let json = "application/json";
    for (answer, expected) in [
        (answer("200 OK", json, r#"{"success":false,"error-codes":["timeout-or-duplicate"]}"#), "check_used_or_old"),
        (
            answer("400 Bad Request", json, r#"{"success":false,"error-codes":["invalid-input-secret"]}"#),
            "check_credentials",
        ),
        (answer("200 OK", json, r#"{"success":true,"hostname":"evil.example"}"#), "check_hostname"),
        (answer("503 Service Unavailable", "text/html", "<html>"), "check_unavailable"),
        (answer("200 OK", "text/html", "<html>"), "malformed_json"),
        (
            answer("302 Found", "text/html", "").replace("\r\n\r\n", "\r\nlocation: /elsewhere\r\n\r\n"),
            "check_unavailable",
        ),
        (answer("200 OK", json, &" ".repeat(MAX_ANSWER_LEN + 1)), "fetch_too_large"),
        (answer("200 OK", json, "{}").replace("\r\n\r\n", "\r\ncontent-encoding: gzip\r\n\r\n"), "fetch_type"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_owned(), "body_cut"),
        ("nonsense\r\n\r\n".to_owned(), "upstream_malformed"),
    ] {
        let (_, asked) = turnstile(&answer).await;
        assert_eq!(asked.unwrap_err().reason(), expected, "{}", answer.get(..60).unwrap_or(&answer));
    }
}

#[tokio::test]
async fn nobody_else_is_asked_than_who_is_configured() {
    let mut peer = Peer::new().await;
    let (secret, hostnames) = (Secret::new("s".to_owned()), []);
    let rules = CaptchaRules { hostnames: &hostnames, action: None, bound: None, least_score: None, now: now() };
    let url = peer.url();
    let kind = CaptchaKind::ReCaptcha;
    let check = Siteverify { kind, url: url.as_str(), secret: &secret, response: "r", remote: None, rules };
    // Plain HTTP, and a private address, only where the operator says so.
    let refused = ask(&egress(), Reach::Public, &check, LONG).await.unwrap_err();
    assert!(matches!(refused, AskError::Fetch(FetchError::Target(_))), "{refused}");
    let empty = Siteverify { response: "", ..check };
    assert_eq!(ask(&egress(), Reach::Private, &empty, LONG).await, Err(AskError::Check(OnlineError::Token)));
    assert_eq!(peer.connections(), 0);
    // A service that takes the question and says nothing.
    let silent = async { drop(peer.connection().await) };
    let egress = egress();
    let (asked, ()) = tokio::join!(ask(&egress, Reach::Private, &check, LONG), silent);
    assert!(matches!(asked, Err(AskError::Fetch(FetchError::Egress(_)))), "{asked:?}");
}

fn team_key() -> AppleKey {
    use base64::Engine as _;
    let key = SigningKey::generate(SigningAlg::Es256).unwrap().to_pkcs8().unwrap();
    let body = base64::engine::general_purpose::STANDARD.encode(key.expose());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    AppleKey::new(&Secret::new(pem), "KEYID12345", "TEAMID1234").unwrap()
}

#[tokio::test]
async fn apple_is_asked_with_the_teams_token() {
    let (mut peer, key) = (Peer::new().await, team_key());
    let origin = peer.url();
    let origin = origin.as_str().trim_end_matches('/');
    let device = DeviceCheck { origin, key: &key, token: "AAAA", transaction: "t-1", write: None, now: now() };
    let serve = async {
        let mut wire = peer.connection().await;
        let request = wire.request().await;
        wire.say(&answer("200 OK", "text/plain", "Failed to find bit state")).await;
        request
    };
    let egress = egress();
    let (asked, request) = tokio::join!(ask(&egress, Reach::Private, &device, LONG), serve);
    assert!(request.starts_with("POST /v1/query_two_bits HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer eyJ"), "{request}");
    assert_eq!(asked.unwrap().level, Level::Verdict);

    let mut peer = Peer::new().await;
    let origin = peer.url();
    let origin = origin.as_str().trim_end_matches('/');
    let metric = FraudMetric { origin, key: &key, receipt: b"old", now: now() };
    let serve = async {
        let mut wire = peer.connection().await;
        let request = wire.request().await;
        wire.say(&answer("200 OK", "application/octet-stream", "bmV3")).await;
        request
    };
    let (asked, request) = tokio::join!(ask(&egress, Reach::Private, &metric, LONG), serve);
    assert!(request.starts_with("POST /v1/attestationData HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: eyJ") && request.ends_with("\r\n\r\nb2xk"), "{request}");
    assert_eq!(asked, Ok(b"new".to_vec()));
}

#[tokio::test]
async fn the_revocation_list_comes_through_the_same_way_out() {
    use std::sync::Arc;

    use net::jwks::Forget;
    use net::revocations::{LargeDocuments, RevocationSource, RevocationTiming, Revocations};

    let mut peer = Peer::new().await;
    let url = peer.url().join("/attestation/status").unwrap();
    let source = RevocationSource { name: base::Name::new("android-status").unwrap(), url, reach: Reach::Private };
    let (documents, clock) = (Arc::new(LargeDocuments(egress())), base::FakeClock::at(now()));
    let timing = RevocationTiming::default();
    let list = Revocations::new(source, documents, Arc::new(Forget), Arc::new(clock.clone()), timing);
    // Longer than other documents may be.
    let comment = "x".repeat(300 << 10);
    let body = format!(r#"{{"entries":{{"abc123":{{"status":"REVOKED","comment":"{comment}"}}}}}}"#);
    let answer = answer("200 OK", "application/json", &body);
    let answer = answer.replacen("\r\n\r\n", "\r\ncache-control: public, max-age=7200\r\n\r\n", 1);
    let serve = async {
        let mut wire = peer.connection().await;
        let request = wire.request().await;
        wire.say(&answer).await;
        request
    };
    let (refreshed, request) = tokio::join!(list.refresh(), serve);
    assert_eq!(refreshed, Ok(()));
    assert!(request.starts_with("GET /attestation/status HTTP/1.1\r\n"), "{request}");
    assert!(list.list().unwrap().of_serial("ABC123").is_some());
    clock.advance(std::time::Duration::from_secs(7199));
    assert!(!list.is_due());
    clock.advance(std::time::Duration::from_secs(1));
    assert!(list.is_due());
}
