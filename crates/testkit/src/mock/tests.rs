use serde_json::json;

use super::*;
use crate::raw;

const BODY: &[u8] = br#"{"model":"m"}"#;

async fn open(mock: &Mock) -> raw::Connection {
    let mut connection = raw::Connection::open(mock.addr()).await;
    connection.request("POST", "/v1/chat/completions", &[("X-Probe", "1")], BODY).await;
    connection
}

#[tokio::test]
async fn the_queue_is_answered_in_order_and_requests_are_remembered() {
    let mock = Mock::start().await;
    mock.push(Answer::json(200, &json!({"first": true})));
    mock.push(Answer::bytes(503, "text/plain", "busy").header("retry-after", "3"));
    let mut connection = open(&mock).await;
    assert_eq!(connection.response().await.json(), json!({"first": true}));
    connection.request("GET", "/v1/models?x=1", &[], b"").await;
    let second = connection.response().await;
    assert_eq!((second.status(), second.header("retry-after")), (503, Some("3")));

    let first = mock.request(0).await;
    assert_eq!((first.header("x-probe"), first.body.as_slice()), (Some("1"), BODY));
    assert_eq!(first.settled().await, Outcome::Answered);
    let second = mock.request(1).await;
    assert_eq!((second.path(), second.target.as_str(), second.connection), ("/v1/models", "/v1/models?x=1", 0));
    assert_eq!(raw::request(mock.addr(), "GET", "/unknown", &[], b"").await.status(), 599);
    assert_eq!(mock.connections(), 2);
}

#[tokio::test]
async fn a_chunked_request_is_put_together() {
    let mock = Mock::start_with(|_| Answer::bytes(200, "text/plain", "ok")).await;
    let mut connection = raw::Connection::open(mock.addr()).await;
    let head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.send(head).await;
    connection.send(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").await;
    assert_eq!(connection.response().await.text(), "ok");
    assert_eq!(mock.request(0).await.body, b"abcde");
}

#[tokio::test]
async fn pieces_arrive_one_at_a_time_as_the_gate_lets_them() {
    let mock = Mock::start().await;
    let gate = Gate::closed();
    mock.push(Answer::sse("data: 1\n\n").pieces(4).hold_pieces(&gate));
    let mut connection = open(&mock).await;
    assert_eq!(connection.head().await.unwrap().header("content-type"), Some("text/event-stream"));
    for piece in ["data", ": 1\n", "\n"] {
        gate.step(1);
        assert_eq!(connection.piece().await.unwrap().unwrap(), piece.as_bytes());
    }
    assert_eq!(connection.piece().await, Ok(None));
}

#[tokio::test]
async fn a_cut_leaves_the_body_without_its_end() {
    for answer in [Answer::sse("0123456789"), Answer::bytes(200, "text/plain", "0123456789")] {
        let mock = Mock::start().await;
        mock.push(answer.cut_after(4));
        let response = open(&mock).await.response().await;
        assert_eq!((response.body.as_slice(), response.complete), (b"0123".as_slice(), false));
    }
}

#[tokio::test]
async fn a_stalled_answer_notices_that_the_caller_has_gone() {
    let mock = Mock::start().await;
    mock.push(Answer::sse("0123456789").stall_after(4, &Gate::closed()));
    let mut connection = open(&mock).await;
    connection.head().await.unwrap();
    assert_eq!(connection.piece().await.unwrap().unwrap(), b"0123");
    assert_eq!(mock.request(0).await.outcome(), Outcome::Open);
    drop(connection);
    assert_eq!(mock.request(0).await.settled().await, Outcome::Dropped);
}

#[tokio::test]
async fn a_stall_ends_when_its_gate_opens() {
    let mock = Mock::start().await;
    let gate = Gate::closed();
    mock.push(Answer::sse("0123456789").hold_head(&gate).stall_after(4, &gate));
    let mut connection = open(&mock).await;
    gate.step(2);
    assert_eq!(connection.response().await.text(), "0123456789");
}

#[tokio::test]
async fn wrong_lengths_and_garbage_go_out_as_asked() {
    let mock = Mock::start().await;
    mock.push(Answer::bytes(200, "text/plain", "short").framing(Framing::WrongLength(50)));
    assert!(!open(&mock).await.response().await.complete);
    mock.push(Answer::bytes(200, "text/plain", "until the end").framing(Framing::UntilClose));
    assert_eq!(open(&mock).await.response().await.text(), "until the end");
    mock.push(Answer::raw("\u{16}\u{3}garbage\r\n"));
    assert_eq!(open(&mock).await.to_close().await, "\u{16}\u{3}garbage\r\n".as_bytes());
    mock.push(Answer::nothing());
    assert_eq!(open(&mock).await.try_response().await, None);
}

#[tokio::test]
async fn an_endless_answer_ends_with_its_caller() {
    let mock = Mock::start().await;
    mock.push(Answer::sse("data: again\n\n").repeat(u64::MAX));
    let mut connection = open(&mock).await;
    connection.head().await.unwrap();
    for _ in 0..100 {
        assert_eq!(connection.piece().await.unwrap().unwrap(), b"data: again\n\n");
    }
    drop(connection);
    assert_eq!(mock.request(0).await.settled().await, Outcome::Dropped);
}

#[tokio::test]
async fn a_mock_that_dies_takes_its_connections_along() {
    let mut mock = Mock::start().await;
    mock.push(Answer::sse("data").stall_after(2, &Gate::closed()));
    let mut connection = open(&mock).await;
    connection.head().await.unwrap();
    mock.die().await;
    assert!(!matches!(connection.to_close().await.as_slice(), [.., b't', b'a', b'\r', b'\n']));
}

#[tokio::test]
async fn it_serves_tls_with_a_certificate_made_on_the_spot() {
    let authority = crate::certs::Authority::new();
    let server = authority.server(&["localhost", "127.0.0.1"]);
    let client = authority.client("batch-jobs");
    let mock =
        Mock::start_tls(server.server_config(Some(&authority)), |_| Answer::bytes(200, "text/plain", "ok")).await;
    let config = authority.client_config(Some(&client), &["http/1.1"]);
    let mut connection = raw::Connection::open_tls(mock.addr(), "localhost", config).await.unwrap();
    connection.request("GET", "/", &[], b"").await;
    assert_eq!(connection.response().await.text(), "ok");

    let stranger = crate::certs::Authority::new();
    let refused = raw::Connection::open_tls(mock.addr(), "localhost", stranger.client_config(None, &[])).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn every_recording_is_replayed_byte_for_byte() {
    let Some(cassettes) = Cassette::all() else {
        vectors::skipped("every_recording_is_replayed_byte_for_byte");
        return;
    };
    assert!(cassettes.len() > 1_000, "{} recordings", cassettes.len());
    let mock = Mock::start().await;
    mock.load(cassettes.iter().cloned());
    let mut connection = raw::Connection::open(mock.addr()).await;
    for cassette in cassettes {
        connection.request("POST", "/any", &[("x-replay-id", &cassette.id)], b"{}").await;
        let response = connection.response().await;
        assert_eq!(response.status(), cassette.status, "{}", cassette.id);
        assert_eq!(response.body, cassette.response_body, "{}", cassette.id);
    }
    let chosen = &cassettes[0];
    let body = json!({"model": format!("replay-{}", chosen.id)}).to_string();
    connection.request("POST", "/v1/chat/completions", &[], body.as_bytes()).await;
    assert_eq!(connection.response().await.body, chosen.response_body);
}
