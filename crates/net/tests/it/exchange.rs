//! Requests and responses over plain HTTP/1.1.

use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use net::{BodyError, Deadlines, Egress, EgressConfig, EgressError};
use tokio::io::AsyncWriteExt;

use crate::support::{Peer, egress, get, patient, post, text};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Send while the peer reads the request and answers with `answer`; the peer's connection comes back too.
async fn answered(
    peer: &mut Peer,
    egress: &Egress,
    answer: &str,
) -> Result<http::Response<net::UpstreamBody>, EgressError> {
    let target = peer.target();
    let deadlines = patient();
    let sending = egress.send(&target, get("/"), &deadlines);
    let serving = async {
        let mut wire = peer.connection().await;
        wire.request().await;
        wire.say(answer).await;
        drop(wire);
    };
    tokio::join!(sending, serving).0
}

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let (mut peer, egress) = (Peer::new().await, egress());
    let (target, deadlines) = (peer.target(), patient());
    let client = async {
        for _ in 0..3 {
            let response = egress.send(&target, post("/v1/x?y=1", "body"), &deadlines).await.unwrap();
            assert_eq!(text(response.into_body()).await.unwrap(), "ok");
        }
    };
    let server = async {
        let mut wire = peer.connection().await;
        for _ in 0..3 {
            let request = wire.request().await;
            assert!(request.starts_with("POST /v1/x?y=1 HTTP/1.1\r\n"), "{request}");
            assert!(request.contains(&format!("host: {}\r\n", wire.0.local_addr().unwrap())), "{request}");
            assert!(request.ends_with("\r\n\r\nbody"), "{request}");
            wire.say(OK).await;
        }
        wire
    };
    let ((), _wire) = tokio::join!(client, server);
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn however_little_is_left_of_a_tasks_turn_its_answer_reaches_it() {
    const TURN: usize = 128;
    let (mut peer, egress) = (Peer::new().await, egress());
    let (target, deadlines) = (peer.target(), patient());
    let client = async {
        for used in 0..TURN {
            tokio::task::yield_now().await;
            for _ in 0..used {
                tokio::task::consume_budget().await;
            }
            let response = egress.send(&target, get("/"), &deadlines).await.unwrap();
            assert_eq!(text(response.into_body()).await.unwrap(), "ok", "after {used}");
        }
    };
    #[allow(clippy::disallowed_methods)] // what it says has to be waited for
    let server = tokio::spawn(async move {
        let mut wire = peer.connection().await;
        wire.0.set_nodelay(true).unwrap();
        for _ in 0..TURN {
            wire.request().await;
            // The body comes by itself, so that it too is waited for.
            let (head, body) = OK.split_at(OK.len() - 2);
            wire.say(head).await;
            tokio::task::yield_now().await;
            wire.say(body).await;
        }
        peer.connections()
    });
    client.await;
    assert_eq!(server.await.unwrap(), 1);
}

#[tokio::test]
async fn a_connection_that_its_peer_is_done_with_is_let_go_of_by_a_sweep() {
    let (mut peer, egress) = (Peer::new().await, egress());
    let (target, deadlines) = (peer.target(), patient());
    let client = async { text(egress.send(&target, get("/"), &deadlines).await.unwrap().into_body()).await.unwrap() };
    let server = async {
        let mut wire = peer.connection().await;
        wire.request().await;
        wire.say(OK).await;
        wire
    };
    let (_, mut wire) = tokio::join!(client, server);
    wire.0.shutdown().await.unwrap();
    for _ in 0..100 {
        // The runtime hears of it in its own time.
        tokio::task::yield_now().await;
    }
    egress.sweep();
    assert!(wire.closed().await);
}

#[tokio::test]
async fn the_callers_framing_and_connection_headers_do_not_go_out() {
    let (mut peer, egress) = (Peer::new().await, egress());
    let target = peer.target();
    let mut request = post("/", "abc");
    for (name, value) in [
        ("content-length", "7"),
        ("transfer-encoding", "chunked"),
        ("connection", "upgrade, x-secret"),
        ("upgrade", "websocket"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic x"),
        ("te", "trailers"),
        ("host", "evil.example"),
        ("expect", "100-continue"),
    ] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let deadlines = patient();
    let (sent, seen) = tokio::join!(egress.send(&target, request, &deadlines), async {
        let mut wire = peer.connection().await;
        let seen = wire.request().await;
        wire.say(OK).await;
        seen
    });
    sent.unwrap();
    assert!(seen.contains("content-length: 3\r\n"), "{seen}");
    for gone in ["transfer-encoding", "upgrade", "keep-alive", "proxy-", "\r\nte:", "evil.example", "expect"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (mut peer, mut other) = (Peer::new().await, Peer::new().await);
    let location = other.url();
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let answer = format!("HTTP/1.1 {status}\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let response = answered(&mut peer, &egress(), &answer).await.unwrap();
        assert!(response.status().is_redirection());
        assert_eq!(response.headers()[header::LOCATION], location.as_str());
    }
    assert_eq!(other.connections(), 0);
    // The other peer does answer those who ask it.
    answered(&mut other, &egress(), OK).await.unwrap();
}

#[tokio::test]
async fn dropping_the_body_of_a_silent_stream_closes_the_connection() {
    let (mut peer, egress) = (Peer::new().await, egress());
    let (target, deadlines) = (peer.target(), patient());
    let (sent, mut wire) = tokio::join!(egress.send(&target, get("/"), &deadlines), async {
        let mut wire = peer.connection().await;
        wire.request().await;
        wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        wire
    });
    let mut body = sent.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
    drop(body);
    assert!(wire.closed().await);
}

#[tokio::test]
async fn giving_up_before_the_response_closes_the_connection() {
    let (mut peer, egress) = (Peer::new().await, egress());
    let (target, deadlines) = (peer.target(), patient());
    let mut sending = Box::pin(egress.send(&target, get("/"), &deadlines));
    let mut wire = tokio::select! {
        _ = &mut sending => unreachable!("nothing answers"),
        wire = async { let mut wire = peer.connection().await; wire.request().await; wire } => wire,
    };
    drop(sending);
    assert!(wire.closed().await);
}

#[tokio::test]
async fn a_kept_connection_that_the_peer_closed_is_replaced_without_an_error() {
    let (mut peer, egress) = (Peer::new().await, egress());
    for _ in 0..3 {
        // The peer closes after each answer without saying so.
        let response = answered(&mut peer, &egress, OK).await.unwrap();
        assert_eq!(text(response.into_body()).await.unwrap(), "ok");
    }
    assert_eq!(peer.connections(), 3);
}

#[tokio::test]
async fn silence_has_a_limit_before_and_inside_the_response() {
    let (mut peer, egress) = (Peer::new().await, egress());
    let target = peer.target();
    let short = Deadlines { first_byte: Duration::from_millis(50), idle: Duration::from_millis(50), ..patient() };

    let (sent, mut wire) = tokio::join!(egress.send(&target, get("/"), &short), peer.connection());
    assert_eq!(sent.unwrap_err(), EgressError::FirstByteTimeout);
    assert!(wire.closed().await);

    let unhurried = Deadlines { first_byte: patient().first_byte, ..short };
    let (sent, mut wire) = tokio::join!(egress.send(&target, get("/"), &unhurried), async {
        let mut wire = peer.connection().await;
        wire.request().await;
        wire.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await;
        wire
    });
    assert_eq!(text(sent.unwrap().into_body()).await, Err(BodyError::Idle));
    assert!(wire.closed().await);
}

#[tokio::test]
async fn a_body_that_ends_early_or_is_framed_wrongly_is_an_error() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", BodyError::Cut),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", BodyError::Cut),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n", BodyError::Malformed),
    ] {
        let response = answered(&mut Peer::new().await, &egress(), answer).await.unwrap();
        assert_eq!(text(response.into_body()).await, Err(expected), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_typed_error() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(100 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200));
    for (answer, expected) in [
        ("SSH-2.0-OpenSSH\r\n\r\n", EgressError::Malformed),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", EgressError::Malformed),
        ("HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", EgressError::Malformed),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", EgressError::Malformed),
        (long.as_str(), EgressError::HeadTooLarge),
        (many.as_str(), EgressError::HeadTooLarge),
        ("", EgressError::Closed { reused: false }),
    ] {
        let error = answered(&mut Peer::new().await, &egress(), answer).await.unwrap_err();
        assert_eq!(error, expected, "{answer:.60}");
    }
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error() {
    let (target, gone) = {
        let peer = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = peer.local_addr().unwrap();
        (net::Target::new(&format!("http://{address}").parse().unwrap(), net::Reach::Private).unwrap(), address)
    };
    let error = egress().send(&target, get("/"), &patient()).await.unwrap_err();
    assert_eq!((error.reason(), error.unsent()), ("connect_failed", true), "{gone}");
}

#[tokio::test]
async fn requests_side_by_side_use_connections_of_their_own() {
    let (mut peer, egress) = (Peer::new().await, egress());
    let (target, deadlines) = (peer.target(), patient());
    let both = async {
        let (a, b) =
            tokio::join!(egress.send(&target, get("/a"), &deadlines), egress.send(&target, get("/b"), &deadlines));
        (a.unwrap(), b.unwrap())
    };
    let serve = async {
        let (mut one, mut two) = (peer.connection().await, peer.connection().await);
        tokio::join!(one.request(), two.request());
        one.say(OK).await;
        two.say(OK).await;
        (one, two)
    };
    let ((a, b), _wires) = tokio::join!(both, serve);
    assert_eq!((a.status(), b.status()), (StatusCode::OK, StatusCode::OK));
}

#[tokio::test]
async fn an_idle_connection_is_not_kept_for_ever() {
    let mut peer = Peer::new().await;
    let egress = Egress::new(EgressConfig { idle_time: Duration::ZERO, ..EgressConfig::default() }).unwrap();
    let (target, deadlines) = (peer.target(), patient());
    let (sent, mut wire) = tokio::join!(egress.send(&target, get("/"), &deadlines), async {
        let mut wire = peer.connection().await;
        wire.request().await;
        wire.say(OK).await;
        wire
    });
    text(sent.unwrap().into_body()).await.unwrap();
    egress.sweep();
    assert!(wire.closed().await);
}
