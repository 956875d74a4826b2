//! Small JSON documents (check 40, A-28).

use std::sync::Arc;
use std::time::Duration;

use base::{FakeClock, Name, Secret, SeededRng, Timestamp};
use net::jwks::{Forget, Jwks, KeyIssuer, Place, Refreshed, Timing};
use net::{FetchError, FetchLimits, Fetched, FormPost, Posted, Reach, fetch_json, post_form};

use crate::support::{LONG, Peer, egress};

async fn fetch(answer: &str, limits: FetchLimits) -> Result<Fetched, FetchError> {
    let mut peer = Peer::new().await;
    let (url, egress) = (peer.url().join("/keys?a=b").unwrap(), egress());
    let serve = async {
        let mut wire = peer.connection().await;
        let request = wire.request().await;
        assert!(request.starts_with("GET /keys?a=b HTTP/1.1\r\n"), "{request}");
        assert!(!request.contains("accept-encoding"), "nothing is decompressed, so nothing is asked for compressed");
        wire.say(answer).await;
        wire
    };
    tokio::join!(fetch_json(&egress, &url, Reach::Private, limits), serve).0
}

fn patient() -> FetchLimits {
    FetchLimits { bytes: 64, time: LONG }
}

#[tokio::test]
async fn a_json_document_comes_back_with_its_age() {
    let answer =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: max-age=60\r\ncontent-length: 2\r\n\r\n{}";
    let expected = Fetched { body: b"{}".to_vec(), max_age: Some(Duration::from_mins(1)) };
    assert_eq!(fetch(answer, patient()).await, Ok(expected));
}

/// Send a form; what the peer got and what came of its answer.
async fn post(answer: &str) -> (String, Result<Posted, FetchError>) {
    let mut peer = Peer::new().await;
    let (url, egress) = (peer.url().join("/token").unwrap(), egress());
    let form = FormPost {
        body: Secret::new("grant_type=authorization_code&code=c".to_owned()),
        authorization: Some("Basic YTpi".parse().unwrap()),
    };
    let serve = async {
        let mut wire = peer.connection().await;
        let request = wire.request().await;
        wire.say(answer).await;
        (wire, request)
    };
    let (posted, (_wire, request)) = tokio::join!(post_form(&egress, &url, Reach::Private, form, patient()), serve);
    (request, posted)
}

#[tokio::test]
async fn a_form_is_sent_and_its_answer_comes_back_also_when_it_is_an_oauth_error() {
    for status in [200, 400, 401] {
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}");
        let (request, posted) = post(&answer).await;
        assert!(request.starts_with("POST /token HTTP/1.1\r\n"), "{request}");
        for line in [
            "authorization: Basic YTpi\r\n",
            "content-type: application/x-www-form-urlencoded\r\n",
            "content-length: 36\r\n",
        ] {
            assert!(request.contains(line), "{line} {request}");
        }
        assert!(request.ends_with("\r\n\r\ngrant_type=authorization_code&code=c"), "{request}");
        let posted = posted.unwrap();
        assert_eq!((posted.status.as_u16(), posted.body), (status, b"{}".to_vec()));
    }
}

#[tokio::test]
async fn a_form_follows_no_redirect_and_takes_nothing_but_small_json() {
    for (answer, code) in [
        ("302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n", "fetch_status"),
        ("307 Moved\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n", "fetch_status"),
        ("500 Oops\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}", "fetch_status"),
        ("200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n{}", "fetch_type"),
        ("400 Bad\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n{}", "fetch_type"),
        (
            &format!("200 OK\r\ncontent-type: application/json\r\ncontent-length: 65\r\n\r\n{}", "x".repeat(65)),
            "fetch_too_large",
        ),
    ] {
        let (_, posted) = post(&format!("HTTP/1.1 {answer}")).await;
        assert_eq!(posted.unwrap_err().reason(), code, "{answer}");
    }
}

#[tokio::test]
async fn what_is_not_a_small_json_document_is_refused() {
    let big = "x".repeat(65);
    for (answer, code) in [
        ("302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n", "fetch_status"),
        ("404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}", "fetch_status"),
        ("200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n{}", "fetch_type"),
        ("200 OK\r\ncontent-length: 2\r\n\r\n{}", "fetch_type"),
        (
            "200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
            "fetch_type",
        ),
        (&format!("200 OK\r\ncontent-type: application/json\r\ncontent-length: 65\r\n\r\n{big}"), "fetch_too_large"),
        (
            &format!("200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n41\r\n{big}\r\n"),
            "fetch_too_large",
        ),
    ] {
        let error = fetch(&format!("HTTP/1.1 {answer}"), patient()).await.unwrap_err();
        assert_eq!(error.reason(), code, "{answer}");
    }
}

#[tokio::test]
async fn a_document_that_drips_in_is_given_up_in_time() {
    let limits = FetchLimits { time: Duration::from_millis(100), ..patient() };
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    assert_eq!(fetch(answer, limits).await, Err(FetchError::Timeout));
}

#[tokio::test]
async fn plain_http_and_private_addresses_are_refused_by_default() {
    let peer = Peer::new().await;
    let limits = FetchLimits::default();
    let plain = fetch_json(&egress(), &peer.url(), Reach::Public, limits).await.unwrap_err();
    assert_eq!(plain.reason(), "url_plain_http");
    let near = format!("https://{}/", peer.address).parse().unwrap();
    let private = fetch_json(&egress(), &near, Reach::Public, limits).await.unwrap_err();
    assert_eq!(private.reason(), "address_refused");
    assert_eq!(peer.connections(), 0);
}

#[tokio::test]
async fn the_keys_of_an_issuer_are_found_and_fetched_over_the_network() {
    const KEY: &str = r#"{"keys":[{"kid":"a","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let mut peer = Peer::new().await;
    let issuer = format!("http://{}/realm", peer.address);
    let clock = Arc::new(FakeClock::at(Timestamp::from_secs(1_000_000)));
    let jwks = Jwks::new(Arc::new(egress()), Arc::new(Forget), clock, Arc::new(SeededRng::new(1)), Timing::default());
    let name = Name::new("corp").unwrap();
    let place = Place::Discovery(issuer.clone());
    jwks.configure(vec![KeyIssuer { name: name.clone(), place, reach: Reach::Private }]).await;

    let metadata = format!(r#"{{"issuer":"{issuer}","jwks_uri":"http://{}/keys"}}"#, peer.address);
    let serve = async {
        let mut wire = peer.connection().await;
        for (path, status, body) in [
            ("/realm/.well-known/openid-configuration", "404 Not Found", ""),
            ("/.well-known/oauth-authorization-server/realm", "200 OK", metadata.as_str()),
            ("/keys", "200 OK", KEY),
        ] {
            let request = wire.request().await;
            assert!(request.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{request}");
            let length = body.len();
            wire.say(&format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            ))
            .await;
        }
        wire
    };
    let (refreshed, _wire) = tokio::join!(jwks.refresh(&name), serve);
    assert_eq!(refreshed, Refreshed::Fetched);
    assert_eq!(jwks.source(&name).unwrap().keys().unwrap().keys().len(), 1);
}
