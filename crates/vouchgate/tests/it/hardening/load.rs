//! Memory and HTTP/2 under abuse, measured on the real program from outside.

use serde_json::json;
use testkit::mock::{Answer as Reply, Gate, Mock};
use testkit::raw::{self, Connection};

use super::{configuration, question, stream_of};
use crate::support::{Program, command, write_config};

async fn serve(dir: &std::path::Path, mock: &Mock, limits: &str) -> (Program, String) {
    write_config(
        dir,
        "",
        &format!("[limits]\npre_stop = \"0s\"\ndrain_timeout = \"1s\"\n{limits}\n{}", configuration(dir, mock)),
    );
    let program = Program::serve(dir, &[]).await;
    let token = command(dir, &["token", "mint", "--client", "app"], b"");
    (program, token)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block (RFC 7541): `:method GET`, `:scheme http`, `:path /`, `:authority localhost`.
const GET: &[u8] = b"\x82\x86\x84\x41\x09localhost";

#[tokio::test]
async fn check_06_floods_of_http2_frames_end_the_connection_and_cost_little() {
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let dir = tempfile::tempdir().unwrap();
    let (mut program, token) = serve(dir.path(), &mock, "").await;
    assert_eq!(program.post("/v1/chat/completions", &token, &question()).await.status(), 200);
    let before = program.process.cost().resident;
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat();
    let mut resets = Vec::new();
    for stream in (1..20_001).step_by(2) {
        resets.extend(frame(1, 5, stream, GET));
        resets.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
    }
    let floods: [(&str, Vec<u8>, Vec<u8>, usize); 7] = [
        ("rapid reset", Vec::new(), resets, 1),
        ("continuation", frame(1, 1, 1, GET), frame(9, 0, 1, &[0x40; 16_000]), 2000),
        ("empty continuation", frame(1, 1, 1, GET), frame(9, 0, 1, &[]).repeat(1000), 1000),
        ("empty data", frame(1, 4, 1, &[&[0x83], &GET[1..]].concat()), frame(0, 0, 1, &[]).repeat(1000), 1000),
        ("settings", Vec::new(), frame(4, 0, 0, &[]).repeat(1000), 1000),
        ("ping", Vec::new(), frame(6, 0, 0, &[7; 8]).repeat(1000), 1000),
        ("no window", frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]), frame(2, 0, 1, &[0, 0, 0, 0, 1]).repeat(1000), 1000),
    ];
    for (done, (what, start, piece, times)) in floods.into_iter().enumerate() {
        let mut connection = Connection::open(program.public).await;
        connection.send(&[hello.as_slice(), &start].concat()).await;
        for _ in 0..times {
            connection.send(&piece).await;
        }
        // It closes, so that reading comes to an end, and says little before: of millions of bytes hardly any are answered.
        let said = connection.to_close().await.len();
        assert!(said < 64 << 10, "{said} bytes in answer to {what}");
        let answer = program.post("/v1/chat/completions", &token, &question()).await;
        assert_eq!(answer.status(), 200, "after {what}");
        assert_eq!(mock.count(), done + 2, "{what} reaches no provider");
    }
    let grown = program.process.cost().resident.saturating_sub(before);
    assert!(grown < 10 << 20, "{grown} bytes more");
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test]
async fn check_08_a_thousand_open_streams_take_little_memory() {
    let gate = Gate::closed();
    let held = gate.clone();
    let first = format!("data: {}\n\n", stream_of("first"));
    let (length, count) = (first.len(), 1000);
    let mock = Mock::start_with(move |request| {
        if request.json()["stream"] == true {
            Reply::openai_stream(&[stream_of("first"), stream_of("second")]).stall_after(length, &held)
        } else {
            crate::attacks::chat_answer()
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (mut program, token) = serve(dir.path(), &mock, "connections_per_address = 2000").await;
    assert_eq!(program.post("/v1/chat/completions", &token, &question()).await.status(), 200);
    let before = program.process.cost().resident;
    let mut body = question();
    body["stream"] = json!(true);
    let (bearer, body) = (format!("Bearer {token}"), body.to_string());
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::open(program.public).await;
        connection.request("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
        streams.push(connection);
    }
    for connection in &mut streams {
        assert_eq!(connection.head().await.unwrap().status, 200);
        connection.piece().await.unwrap();
    }
    let grown = program.process.cost().resident.saturating_sub(before);
    println!("{count} open streams: {} KiB each", grown / 1024 / u64::try_from(count).unwrap());
    // 64 MiB is the bound for the program as it is shipped; built for tests it is allowed half as much again.
    assert!(grown < 96 << 20, "{} MiB for {count} streams", grown >> 20);
    assert_eq!(program.post("/v1/chat/completions", &token, &question()).await.status(), 200, "others are served");
    gate.open();
    for connection in &mut streams {
        while connection.piece().await.unwrap().is_some() {}
    }
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test]
async fn check_09_no_unauthenticated_request_costs_a_hundred_times_its_bytes() {
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let dir = tempfile::tempdir().unwrap();
    let (mut program, token) = serve(dir.path(), &mock, "").await;
    assert_eq!(program.post("/v1/chat/completions", &token, &question()).await.status(), 200);
    let bomb = format!("{{\"z\":{}", "[".repeat(60_000));
    let hostile = [
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{bomb}",
            bomb.len()
        ),
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 9999999\r\n\r\n",
            "a.".repeat(7000)
        ),
        format!(
            "POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n{}",
            "a=b&".repeat(15_000)
        ),
        format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(98)),
        format!("GET /v1/models?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a=b&".repeat(1900)),
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
    ];
    for request in &hostile {
        let start = program.process.cost();
        let (times, mut open) = (50, Vec::new());
        for _ in 0..times {
            let mut connection = Connection::open(program.public).await;
            connection.send(request.as_bytes()).await;
            open.push(connection);
        }
        for connection in &mut open {
            let _ = connection.try_response().await;
        }
        let end = program.process.cost();
        let sent = u64::try_from(request.len() * times).unwrap();
        // Below a megabyte it is the allocator that is measured, not the request.
        let allowed = (sent * 100).max(8 << 20);
        let grown = end.resident.saturating_sub(start.resident);
        assert!(grown < allowed, "{request:.60}: {grown} bytes for {sent}");
    }
    assert_eq!(mock.count(), 1);
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test]
async fn check_39_proxies_of_the_environment_are_ignored() {
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let lure = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let dir = tempfile::tempdir().unwrap();
    write_config(dir.path(), "", &format!("[limits]\npre_stop = \"0s\"\n{}", configuration(dir.path(), &mock)));
    let url = lure.url();
    let env: Vec<(&str, &str)> = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .map(|name| (name, url.as_str()))
        .into();
    let mut program = Program::serve(dir.path(), &env).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    assert_eq!(program.post("/v1/chat/completions", &token, &question()).await.status(), 200);
    assert_eq!((mock.count(), lure.connections()), (1, 0));
    assert_eq!(raw::request(program.public, "GET", "/livez", &[], b"").await.status(), 200);
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}
