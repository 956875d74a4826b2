//! Clients that take their time (checks 4 and 5).

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::listen::Limits;

use super::support::{LONG, SHORT, Server, hasty, statuses};

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let server = Server::start(hasty()).await;
    assert_eq!(server.connect().await.rest().await, "");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_head_that_drips_in_is_given_up_however_long_it_drips() {
    let server = Server::start(hasty()).await;
    let began = Instant::now();
    let mut client = server.connect().await;
    let drip = async {
        for byte in GET.bytes().cycle().filter(|byte| *byte != b'\n') {
            let mut one = [0; 1];
            client.say([byte]).await;
            // Wait a little between two bytes, or until the connection closes.
            if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(SHORT / 20, client.0.read(&mut one)).await {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, drip).await.expect("it is given up");
    assert!(began.elapsed() >= SHORT, "not before its time");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn many_slow_heads_do_not_keep_others_from_being_answered() {
    let server = Server::start(hasty()).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut client = server.connect().await;
        client.say("GET / HTTP/1.1\r\nx: ").await;
        slow.push(client);
    }
    for _ in 0..20 {
        assert_eq!(statuses(&server.tell(GET).await), [200]);
    }
    for mut client in slow {
        client.rest().await;
    }
    server.until(|server| server.edge.caps.open() == 0).await;
}

#[tokio::test]
async fn a_connection_stays_open_between_requests_for_longer_than_a_head_may_take() {
    let limits = Limits { keep_alive: LONG, ..hasty() };
    let server = Server::start(limits).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.say(GET).await;
        client.until("GET / []").await;
        // Nothing happens for longer than the header timeout, and the connection is still there.
        let mut one = [0; 1];
        assert!(tokio::time::timeout(SHORT * 2, client.0.read(&mut one)).await.is_err());
    }
    client.say("GET / HT").await;
    assert_eq!(client.rest().await, "", "but a head begun must be finished");
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let server = Server::start(hasty()).await;
    let mut client = server.connect().await;
    client.say(GET).await;
    client.until("GET / []").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_body_that_pauses_too_long_is_408() {
    let server = Server::start(hasty()).await;
    for start in [
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut client = server.connect().await;
        client.say(start).await;
        let answer = client.rest().await;
        assert_eq!(statuses(&answer), [408], "{answer}");
    }
}

#[tokio::test]
async fn a_slow_but_steady_body_is_taken() {
    let idle = Duration::from_secs(1);
    let server = Server::start(Limits { body_idle: idle, ..hasty() }).await;
    let mut client = server.connect().await;
    client.say("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 12\r\n\r\n").await;
    for _ in 0..12 {
        // A pause between two bytes; all together are longer than a pause may be.
        let mut one = [0; 1];
        assert!(tokio::time::timeout(idle / 10, client.0.read(&mut one)).await.is_err(), "answered too early");
        client.say("a").await;
    }
    client.until("POST / [aaaaaaaaaaaa]").await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_and_little_is_held_for_it() {
    let server = Server::start(hasty()).await;
    let mut client = server.connect().await;
    client.say("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.until(|server| server.desk.dropped.load(Ordering::SeqCst) == 1).await;
    // What was produced went to the kernel's buffers; hardly more was held by us.
    let produced = server.desk.pieces.load(Ordering::SeqCst) * 16 * 1024;
    let (mut taken, mut piece) = (0, vec![0; 1 << 16]);
    while let Ok(got) = tokio::time::timeout(LONG, client.0.read(&mut piece)).await.expect("it is cut")
        && got > 0
    {
        taken += got;
    }
    assert!(produced <= taken + 512 * 1024, "produced {produced}, delivered {taken}");
}

#[tokio::test]
async fn a_reader_that_takes_a_little_now_and_then_is_served() {
    let server = Server::start(Limits { write_idle: Duration::from_secs(2), ..hasty() }).await;
    let mut client = server.connect().await;
    client.say("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut piece = vec![0; 1 << 20];
    for _ in 0..100 {
        let got = tokio::time::timeout(LONG, client.0.read(&mut piece)).await.expect("data").unwrap();
        assert!(got > 0, "cut although it reads");
    }
}

#[tokio::test]
async fn a_client_that_leaves_has_its_answer_dropped() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.connect().await;
    client.say("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    drop(client);
    server.until(|server| server.desk.dropped.load(Ordering::SeqCst) == 1).await;
    server.until(|server| server.edge.caps.open() == 0).await;
}
