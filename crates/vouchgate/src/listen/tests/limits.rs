//! Sizes (check 1), and whose fault a failure is (check 23).

use std::time::Duration;

use crate::listen::{DrainTimes, Limits};

use super::support::{LONG, Server, statuses};

async fn status(server: &Server, request: &str) -> (u16, String) {
    let answer = server.tell(request).await;
    assert_eq!(statuses(&answer).len(), 1, "{answer:.300}");
    (statuses(&answer)[0], answer)
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

#[tokio::test]
async fn a_target_over_8_kib_is_414_and_one_below_is_not() {
    let server = Server::start(Limits::default()).await;
    assert_eq!(status(&server, &get(&format!("/{}", "a".repeat(8000)), "")).await.0, 200);
    for length in [8192, 20_000, 40_000] {
        let (code, answer) = status(&server, &get(&format!("/{}", "a".repeat(length)), "")).await;
        assert_eq!(code, 414, "{length}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer:.300}");
    }
    let query = format!("/?{}", "a".repeat(9000));
    assert_eq!(status(&server, &get(&query, "")).await.0, 414);
}

#[tokio::test]
async fn a_header_section_over_32_kib_is_431_and_the_connection_closes() {
    let server = Server::start(Limits::default()).await;
    let line = format!("x: {}\r\n", "a".repeat(1000));
    assert_eq!(status(&server, &get("/", &line.repeat(30))).await.0, 200);
    for lines in [33, 60, 90] {
        let mut client = server.connect().await;
        client.say(get("/", &line.repeat(lines))).await;
        let answer = client.rest().await;
        assert_eq!(statuses(&answer), [431], "{lines}: {answer:.300}");
    }
    let one = format!("x: {}\r\n", "a".repeat(33 * 1024));
    assert_eq!(status(&server, &get("/", &one)).await.0, 431);
}

#[tokio::test]
async fn more_than_100_headers_are_431() {
    let server = Server::start(Limits::default()).await;
    assert_eq!(status(&server, &get("/", &"a: b\r\n".repeat(99))).await.0, 200);
    assert_eq!(status(&server, &get("/", &"a: b\r\n".repeat(100))).await.0, 431);
    assert_eq!(status(&server, &get("/", &"a: b\r\n".repeat(1000))).await.0, 431);
}

#[tokio::test]
async fn a_panic_fails_its_own_request_only() {
    let server = Server::start(Limits::default()).await;
    let mut other = server.connect().await;
    other.say("GET /hold HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.until(|server| !server.desk.seen.lock().unwrap().is_empty()).await;

    let (code, answer) = status(&server, &get("/panic", "")).await;
    assert_eq!(code, 500);
    assert!(answer.ends_with("internal_error"), "{answer}");
    assert!(!answer.contains("in the handler"), "nothing of the panic is told");
    // In the body it is too late for a status: the answer is cut off, not ended.
    let cut = server.tell(get("/panic-body", "")).await;
    assert!(!cut.contains("\r\n0\r\n\r\n"), "{cut}");

    server.desk.gate.add_permits(1);
    assert!(other.until("[]").await.starts_with("HTTP/1.1 200"));
    assert_eq!(status(&server, &get("/", "")).await.0, 200);
}

#[tokio::test]
async fn memory_pressure_closes_connections_first_and_refuses_requests_then() {
    let server = Server::start(Limits { header_timeout: Duration::from_secs(1), ..Limits::default() }).await;
    let mut stream = server.connect().await;
    stream.say("GET /stream HTTP/1.1\r\nhost: x\r\n\r\n").await;
    stream.until("data: one\n\n").await;

    server.edge.pressure.sample(96, 100);
    let (code, answer) = status(&server, &get("/", "")).await;
    assert_eq!(code, 503);
    assert!(answer.ends_with("overloaded"), "{answer}");

    server.edge.pressure.sample(93, 100);
    let mut client = server.connect().await;
    client.say(get("/", "")).await;
    let answer = client.rest().await;
    assert_eq!(statuses(&answer), [200], "answered, then closed by itself");
    server.edge.pressure.sample(10, 100);

    // The stream that was open has lived through it.
    let times = DrainTimes { pre_stop: Duration::ZERO, drain: Duration::ZERO, ending: LONG };
    let (last, left) = tokio::join!(stream.until("event: error\n\n"), server.edge.drain.run(times));
    assert!(last.ends_with("event: error\n\n"));
    assert_eq!(left, 0);
}
