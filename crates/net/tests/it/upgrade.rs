//! Connections that switch to another protocol.

use http::{Response, StatusCode};
use net::{EgressError, UpstreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Peer, Wire, egress, get, patient, text};

/// Ask for a WebSocket; the peer answers with `answer`.
async fn ask(answer: &str) -> (Result<Response<UpstreamBody>, EgressError>, Wire, String) {
    let (mut peer, egress) = (Peer::new().await, egress());
    let (target, deadlines) = (peer.target(), patient());
    let asking = egress.upgrade(&target, get("/v1/realtime?model=x"), "websocket", &deadlines);
    let serving = async {
        let mut wire = peer.connection().await;
        let request = wire.request().await;
        wire.say(answer).await;
        (wire, request)
    };
    let (asked, (wire, request)) = tokio::join!(asking, serving);
    (asked, wire, request)
}

const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: WebSocket\r\nx-a: b\r\n\r\n";

#[tokio::test]
async fn after_a_switch_bytes_go_both_ways() {
    let (asked, mut wire, request) = ask(&format!("{SWITCHING}early")).await;
    assert!(request.starts_with("GET /v1/realtime?model=x HTTP/1.1\r\n"), "{request}");
    assert!(request.to_ascii_lowercase().contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{request}");
    let (head, body) = asked.unwrap().into_parts();
    assert_eq!((head.status, head.headers["x-a"].as_bytes()), (StatusCode::SWITCHING_PROTOCOLS, b"b".as_slice()));
    let mut tunnel = body.into_tunnel().expect("a tunnel");
    tunnel.write_all(b"hello").await.unwrap();
    let (mut there, mut here) = ([0; 5], [0; 5]);
    wire.0.read_exact(&mut there).await.unwrap();
    tunnel.read_exact(&mut here).await.unwrap();
    assert_eq!((&there, &here), (b"hello", b"early"));
    drop(tunnel);
    assert!(wire.closed().await);
}

#[tokio::test]
async fn an_answer_that_does_not_switch_is_an_answer() {
    let (asked, mut wire, _) = ask("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\nno").await;
    let response = asked.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(!response.body().is_tunnel());
    assert_eq!(text(response.into_body()).await.unwrap(), "no");
    assert!(wire.closed().await, "the connection is nobody else's");
}

#[tokio::test]
async fn a_switch_to_something_else_is_refused() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n",
    ] {
        let (asked, mut wire, _) = ask(answer).await;
        assert!(matches!(asked, Err(EgressError::Malformed)));
        assert!(wire.closed().await);
    }
}
