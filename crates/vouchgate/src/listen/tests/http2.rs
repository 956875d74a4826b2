//! HTTP/2 and its abuses (check 6).

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::listen::{DrainTimes, Limits};

use super::support::{Client, LONG, SHORT, Server, hasty, statuses};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block (RFC 7541): `:method`, `:scheme: http`, `:path`, `:authority: x`.
fn head(method_index: u8, path: &str) -> Vec<u8> {
    let mut block = vec![0x80 | method_index, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x41, 1, b'x']);
    block
}

const GET: u8 = 2;
const POST: u8 = 3;

/// A connection that has said hello in raw frames.
async fn raw(server: &Server, settings: &[u8]) -> Client {
    let mut client = server.connect().await;
    client.say([PREFACE, &frame(4, 0, 0, settings)].concat()).await;
    client
}

/// Send a flood in pieces until it is over or the server has had enough; then the server must have closed.
async fn flood(server: &Server, mut client: Client, piece: &[u8], times: usize) {
    for _ in 0..times {
        if tokio::time::timeout(LONG, client.0.write_all(piece)).await.expect("the server reads or closes").is_err() {
            break;
        }
    }
    client.rest().await;
    server.until(|server| server.edge.caps.open() == 0).await;
    // And nobody else notices.
    assert_eq!(statuses(&server.tell("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await), [200]);
}

/// Patient with everything but the flood.
fn limits() -> Limits {
    Limits { keep_alive: LONG * 10, ..Limits::default() }
}

#[tokio::test]
async fn rapid_reset_ends_the_connection_and_starts_few_requests() {
    let server = Server::start(limits()).await;
    let client = raw(&server, &[]).await;
    let mut piece = Vec::new();
    for stream in (1..20_001).step_by(2) {
        piece.extend(frame(1, END_STREAM | END_HEADERS, stream, &head(GET, "/hold")));
        piece.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
    }
    flood(&server, client, &piece, 1).await;
    let begun = server.seen().len();
    assert!(begun < 1000, "{begun} of 10,000 requests were begun");
}

#[tokio::test]
async fn a_header_block_without_end_ends_the_connection() {
    let server = Server::start(limits()).await;
    let mut client = raw(&server, &[]).await;
    client.say(frame(1, END_STREAM, 1, &head(GET, "/"))).await;
    // A literal header that is never complete: name and value keep coming.
    flood(&server, client, &frame(9, 0, 1, &[0x40; 16_000]), 10_000).await;

    let mut client = raw(&server, &[]).await;
    client.say(frame(1, END_STREAM, 1, &head(GET, "/"))).await;
    flood(&server, client, &frame(9, 0, 1, &[]).repeat(100), 10_000).await;
    assert_eq!(server.seen().len(), 2, "only the plain requests after the floods");
}

#[tokio::test]
async fn empty_data_ends_the_connection() {
    let server = Server::start(limits()).await;
    let mut client = raw(&server, &[]).await;
    client.say(frame(1, END_HEADERS, 1, &head(POST, "/hold"))).await;
    flood(&server, client, &frame(0, 0, 1, &[]).repeat(100), 10_000).await;
}

#[tokio::test]
async fn floods_of_settings_pings_and_priorities_end_the_connection() {
    let server = Server::start(limits()).await;
    for piece in
        [frame(4, 0, 0, &[]), frame(6, 0, 0, &[7; 8]), frame(2, 0, 1, &[0, 0, 0, 0, 1]), frame(0xfa, 0, 0, &[])]
    {
        let client = raw(&server, &[]).await;
        flood(&server, client, &piece.repeat(100), 10_000).await;
    }
}

#[tokio::test]
async fn a_client_that_opens_no_window_is_cut_and_its_answers_are_dropped() {
    let server = Server::start(hasty()).await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0
    let mut client = raw(&server, &[0, 4, 0, 0, 0, 0]).await;
    for stream in [1, 3, 5, 7, 9] {
        client.say(frame(1, END_STREAM | END_HEADERS, stream, &head(GET, "/endless"))).await;
    }
    client.rest().await;
    server.until(|server| server.desk.dropped.load(Ordering::SeqCst) == 5).await;
    let pieces = server.desk.pieces.load(Ordering::SeqCst);
    assert!(pieces <= 5 * 16, "{pieces} pieces of 16 KiB for five streams nobody reads");
    server.until(|server| server.edge.caps.open() == 0).await;
}

#[tokio::test]
async fn half_a_preface_is_not_waited_for_and_neither_is_silence_after_it() {
    let server = Server::start(hasty()).await;
    let mut client = server.connect().await;
    client.say(&PREFACE[..16]).await;
    assert_eq!(client.rest().await, "");
    let mut client = raw(&server, &[]).await;
    client.rest().await;
    let mut client = server.connect().await;
    client.say([PREFACE, &frame(4, 0, 0, &[]), &frame(1, END_STREAM, 1, &head(GET, "/"))].concat()).await;
    client.rest().await;
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_frames_end_the_connection() {
    let server = Server::start(limits()).await;
    for garbage in [&[0xff; 64][..], b"GET / HTTP/1.1\r\n\r\n", &frame(1, END_HEADERS | END_STREAM, 1, &[0xff; 20])] {
        let mut client = server.connect().await;
        client.say([PREFACE, garbage].concat()).await;
        client.rest().await;
    }
    assert!(server.seen().is_empty());
}

/// A well-behaved client.
async fn connect(server: &Server) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 16)
        .initial_connection_window_size(1 << 20)
        .max_header_list_size(1 << 20)
        .handshake(stream)
        .await
        .unwrap();
    server.tasks.spawn(async move {
        let _ = connection.await;
    });
    sender
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://x{path}")).body(()).unwrap()
}

/// Ends when the connection takes no more requests (GOAWAY).
async fn retired(mut sender: SendRequest<Bytes>) {
    while let Ok(mut ready) = sender.ready().await {
        let Ok((response, _)) = ready.send_request(get("/"), true) else { return };
        if response.await.is_err() {
            return;
        }
        sender = ready;
    }
}

#[tokio::test]
async fn requests_share_a_connection() {
    let server = Server::start(limits()).await;
    let mut sender = connect(&server).await.ready().await.unwrap();
    for path in ["/a", "/b"] {
        let (response, _) = sender.send_request(get(path), true).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(server.seen(), ["GET /a []", "GET /b []"]);
    assert!(server.desk.peers.lock().unwrap().iter().all(|peer| peer.http2 && !peer.tls));
    assert_eq!(server.edge.caps.open(), 1);
}

#[tokio::test]
async fn sizes_are_limited_as_on_http1() {
    let server = Server::start(limits()).await;
    let mut sender = connect(&server).await.ready().await.unwrap();
    let long = get(&format!("/{}", "a".repeat(9000)));
    let (response, _) = sender.send_request(long, true).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::URI_TOO_LONG);

    let mut many = get("/");
    for n in 0..101 {
        many.headers_mut()
            .insert(http::HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap(), "y".parse().unwrap());
    }
    let (response, _) = sender.send_request(many, true).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);

    let mut large = get("/");
    large.headers_mut().insert("x", "a".repeat(40_000).parse().unwrap());
    let (response, _) = sender.send_request(large, true).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_not_queued() {
    let server = Server::start(Limits { streams: 10, ..limits() }).await;
    let mut client = raw(&server, &[]).await;
    for stream in (1..61).step_by(2) {
        client.say(frame(1, END_STREAM | END_HEADERS, stream, &head(GET, "/hold"))).await;
    }
    server.until(|server| server.desk.seen.lock().unwrap().len() == 10).await;
    // Those beyond are reset with REFUSED_STREAM (7).
    let reset = frame(3, 0, 21, &[0, 0, 0, 7]);
    let mut read = Vec::new();
    let mut piece = [0; 1024];
    while !read.windows(reset.len()).any(|window| window == reset) {
        let got = tokio::time::timeout(LONG, tokio::io::AsyncReadExt::read(&mut client.0, &mut piece)).await;
        read.extend_from_slice(&piece[..got.expect("a reset").unwrap()]);
        assert!(read.len() < 1 << 20);
    }
    assert_eq!(server.desk.seen.lock().unwrap().len(), 10);
}

#[tokio::test]
async fn a_stalled_stream_does_not_take_a_living_one_with_it() {
    let server = Server::start(Limits { keep_alive: LONG, ..hasty() }).await;
    let mut sender = connect(&server).await.ready().await.unwrap();
    let (stalled, _) = sender.send_request(get("/endless"), true).unwrap();
    let (living, _) = sender.send_request(get("/hold"), true).unwrap();
    // The first is answered, and its answer is never read.
    let unread = stalled.await.unwrap();
    // The connection takes nothing new once the stall has been noticed.
    tokio::time::timeout(LONG, retired(sender)).await.expect("it is retired");
    server.desk.gate.add_permits(1);
    let mut body = living.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "GET /hold []");
    drop(body);
    server.until(|server| server.desk.dropped.load(Ordering::SeqCst) == 1).await;
    drop(unread);
}

#[tokio::test]
async fn a_panic_fails_its_own_stream_only() {
    let server = Server::start(limits()).await;
    let mut sender = connect(&server).await.ready().await.unwrap();
    let (held, _) = sender.send_request(get("/hold"), true).unwrap();
    let (panics, _) = sender.send_request(get("/panic"), true).unwrap();
    assert_eq!(panics.await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    let (explodes, _) = sender.send_request(get("/panic-body"), true).unwrap();
    if let Ok(response) = explodes.await {
        assert!(response.into_body().data().await.unwrap().is_err(), "cut off, not ended");
    }
    server.desk.gate.add_permits(1);
    assert_eq!(held.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_pauses_too_long_is_408() {
    let server = Server::start(Limits { keep_alive: LONG, ..hasty() }).await;
    let mut sender = connect(&server).await.ready().await.unwrap();
    let request = Request::post("http://x/").body(()).unwrap();
    let (response, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"abc"), false).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn draining_takes_nothing_new_and_finishes_what_runs() {
    let server = Server::start(limits()).await;
    let mut sender = connect(&server).await.ready().await.unwrap();
    let (held, _) = sender.send_request(get("/hold"), true).unwrap();
    server.until(|server| !server.desk.seen.lock().unwrap().is_empty()).await;
    let times = DrainTimes { pre_stop: Duration::ZERO, drain: LONG, ending: SHORT };
    let client = async {
        // GOAWAY: the client library takes no more requests for this connection.
        retired(sender).await;
        server.desk.gate.add_permits(1);
        let mut body = held.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "GET /hold []");
    };
    let (left, ()) = tokio::join!(server.edge.drain.run(times), client);
    assert_eq!(left, 0);
}
