//! Requests that two readers could read differently (check 12).
//!
//! Every case is refused with 400, or is exactly the one request it seems to be, followed by nothing.

use crate::listen::Limits;

use super::support::{Server, statuses};

const INNER: &str = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";

/// Tell the server these bytes; what it answered and saw.
async fn tell(server: &Server, bytes: &str) -> (Vec<u16>, Vec<String>) {
    let answer = server.tell(bytes).await;
    (statuses(&answer), server.seen())
}

#[tokio::test]
async fn a_request_that_could_end_in_two_places_is_refused_before_it_is_answered() {
    let server = Server::start(Limits::default()).await;
    let chunked = format!("0\r\n\r\n{INNER}");
    let length = chunked.len();
    for headers in [
        // CL.TE and TE.CL
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        format!("Content-Length: {length}\r\nTRANSFER-ENCODING: CHUNKED\r\n"),
        // Two lengths, equal or not
        format!("content-length: 0\r\ncontent-length: {length}\r\n"),
        format!("content-length: {length}\r\ncontent-length: {length}\r\n"),
        format!("content-length: 0, {length}\r\n"),
        format!("content-length: +{length}\r\n"),
        format!("content-length : {length}\r\n"),
        format!("content-length:\x0b{length}\r\n"),
        format!("content-length: {length}x\r\n"),
        "content-length: -5\r\n".to_owned(),
        "content-length: 18446744073709551616\r\n".to_owned(),
        "content-length: \r\n".to_owned(),
        // Variants of the transfer coding
        "transfer-encoding: xchunked\r\n".to_owned(),
        "transfer-encoding : chunked\r\n".to_owned(),
        "transfer-encoding:\x0bchunked\r\n".to_owned(),
        "transfer-encoding: chunked, identity\r\n".to_owned(),
        "transfer-encoding: identity, chunked\r\n".to_owned(),
        "transfer-encoding: gzip, chunked\r\n".to_owned(),
        "transfer-encoding: identity\r\n".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: x\r\n".to_owned(),
        "transfer-encoding: x\r\ntransfer-encoding: chunked\r\n".to_owned(),
        "transfer-encoding: 'chunked'\r\n".to_owned(),
        "transfer-encoding:\r\n chunked\r\n".to_owned(),
        "x: y\r\n transfer-encoding: chunked\r\n".to_owned(),
        "\ttransfer-encoding: chunked\r\n".to_owned(),
        " transfer-encoding: chunked\r\n".to_owned(),
        "x: y\r\rtransfer-encoding: chunked\r\n".to_owned(),
        // Line ends and bytes that are none
        format!("x: y\ncontent-length: {length}\r\n"),
        "x: y\ntransfer-encoding: chunked\r\n".to_owned(),
        "x\0y: z\r\n".to_owned(),
        "x: y\0z\r\n".to_owned(),
        "x y: z\r\n".to_owned(),
        ": z\r\n".to_owned(),
        "no colon\r\n".to_owned(),
    ] {
        let bytes = format!("POST /outer HTTP/1.1\r\nhost: x\r\n{headers}\r\n{chunked}");
        let (answers, seen) = tell(&server, &bytes).await;
        assert_eq!((answers, seen), (vec![400], vec![]), "{headers:?}");
    }
}

#[tokio::test]
async fn a_chunk_that_could_end_in_two_places_ends_the_connection() {
    let server = Server::start(Limits::default()).await;
    let start = "POST /outer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    for chunks in [
        "3\nabc\n0\n\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "3;\nabc\r\n0\r\n\r\n",
        "3;x\rabc\r\n0\r\n\r\n",
        "3;x\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3 x\r\nabc\r\n0\r\n\r\n",
        "\r\n3\r\nabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "0\n\n",
        "0\r\n\n",
    ] {
        let (answers, seen) = tell(&server, &format!("{start}{chunks}{INNER}")).await;
        assert_eq!(answers, [400], "{chunks:?}");
        assert_eq!(seen, ["POST /outer"], "{chunks:?}: nothing behind it is a request");
    }
}

#[tokio::test]
async fn what_is_unusual_but_clear_is_one_request_with_its_body() {
    let server = Server::start(Limits::default()).await;
    for (request, body) in [
        ("content-length: 3\r\n\r\nabc", "abc"),
        ("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("transfer-encoding: chunked\r\n\r\n3;name=\"value\"\r\nabc\r\n0;last\r\n\r\n", "abc"),
        ("transfer-encoding: chunked\r\n\r\n003\r\nabc\r\n0\r\nx-trailer: y\r\n\r\n", "abc"),
        ("Transfer-Encoding:  Chunked \r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc"),
        ("connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 3\r\n\r\nabc", "abc"),
        ("upgrade: h2c\r\nconnection: upgrade, http2-settings\r\ncontent-length: 3\r\n\r\nabc", "abc"),
    ] {
        let bytes = format!("POST /outer HTTP/1.1\r\nhost: x\r\n{request}");
        let (answers, seen) = tell(&server, &bytes).await;
        assert_eq!((answers, seen), (vec![200], vec![format!("POST /outer [{body}]")]), "{request:?}");
    }
}

#[tokio::test]
async fn what_follows_an_upgrade_request_is_not_taken_for_another_protocol() {
    // RUSTSEC-2026: a proxy that switched before the 101 let the rest through unseen.
    let server = Server::start(Limits::default()).await;
    let bytes = format!("GET /outer HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n{INNER}");
    let (answers, seen) = tell(&server, &bytes).await;
    assert_eq!(answers, [200, 200], "no 101");
    assert_eq!(seen, ["GET /outer []", "GET /smuggled []"], "two plain requests, both seen");
}

#[tokio::test]
async fn a_refused_connect_tunnels_nothing() {
    let server = Server::start(Limits::default()).await;
    let bytes = format!("CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n{INNER}");
    let (answers, seen) = tell(&server, &bytes).await;
    assert_eq!(answers.first(), Some(&405));
    assert!(seen.len() == answers.len(), "what follows is a request like any other, or nothing: {seen:?}");
}

#[tokio::test]
async fn http_1_0_with_a_transfer_coding_is_refused() {
    let server = Server::start(Limits::default()).await;
    for connection in ["", "connection: keep-alive\r\n"] {
        let bytes = format!("POST /outer HTTP/1.0\r\n{connection}transfer-encoding: chunked\r\n\r\n0\r\n\r\n{INNER}");
        assert_eq!(tell(&server, &bytes).await, (vec![400], vec![]));
    }
}

#[tokio::test]
async fn a_request_line_with_oddities_is_refused() {
    let server = Server::start(Limits::default()).await;
    for line in [
        "GET  / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / http/1.1",
        "GET /",
        "GET",
        " GET / HTTP/1.1",
        "G\0T / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\r HTTP/1.1",
        "GET\t/ HTTP/1.1",
    ] {
        let (answers, seen) = tell(&server, &format!("{line}\r\nhost: x\r\n\r\n{INNER}")).await;
        assert_eq!((answers, seen), (vec![400], vec![]), "{line:?}");
    }
    let (answers, seen) = tell(&server, &format!("GET / HTTP/1.1\nhost: x\n\n{INNER}")).await;
    assert_eq!((answers, seen), (vec![400], vec![]), "bare line feeds");
}

#[tokio::test]
async fn an_ambiguous_request_behind_a_good_one_does_not_spoil_it() {
    let server = Server::start(Limits::default()).await;
    let bytes = format!(
        "GET /good HTTP/1.1\r\nhost: x\r\n\r\nPOST /bad HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{INNER}"
    );
    for cut in [1, 7, 40, 100, bytes.len() - 1] {
        let mut client = server.connect().await;
        let (first, second) = bytes.split_at(cut);
        client.say(first).await;
        client.say(second).await;
        let answer = client.rest().await;
        assert_eq!(statuses(&answer), [200, 400], "cut at {cut}");
        assert_eq!(server.seen(), ["GET /good []"]);
    }
}
