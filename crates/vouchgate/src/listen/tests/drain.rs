//! Going away (check 64).

use std::time::Duration;

use crate::listen::{DrainTimes, Limits, Phase};

use super::support::{LONG, SHORT, Server, statuses};

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

fn patient() -> DrainTimes {
    DrainTimes { pre_stop: SHORT, drain: LONG, ending: LONG }
}

#[tokio::test]
async fn readiness_goes_first_and_connections_are_still_taken() {
    let server = Server::start(Limits::default()).await;
    assert!(server.edge.drain.is_ready());
    let client = async {
        let mut phase = server.edge.drain.follow();
        phase.wait_for(|phase| *phase == Phase::Leaving).await.unwrap();
        assert!(!server.edge.drain.is_ready());
        assert_eq!(statuses(&server.tell(GET).await), [200]);
    };
    let (left, ()) = tokio::join!(server.edge.drain.run(patient()), client);
    assert_eq!(left, 0);
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn idle_connections_close_and_a_running_answer_is_finished() {
    let server = Server::start(Limits::default()).await;
    let (mut idle, mut busy) = (server.connect().await, server.connect().await);
    idle.say(GET).await;
    idle.until("GET / []").await;
    busy.say("GET /hold HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.until(|server| server.desk.seen.lock().unwrap().len() == 2).await;
    let clients = async {
        assert_eq!(idle.rest().await, "");
        server.desk.gate.add_permits(1);
        let answer = busy.rest().await;
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        assert!(answer.ends_with("GET /hold []"), "{answer}");
    };
    let (left, ()) = tokio::join!(server.edge.drain.run(patient()), clients);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_stream_that_does_not_end_gets_an_error_event_never_a_silent_cut() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.connect().await;
    client.say("GET /stream HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.until("data: one\n\n").await;
    let times = DrainTimes { pre_stop: Duration::ZERO, drain: SHORT, ending: LONG };
    let (left, rest) = tokio::join!(server.edge.drain.run(times), client.rest());
    assert!(rest.contains("event: error\n\n"), "{rest}");
    assert!(rest.ends_with("0\r\n\r\n"), "and then a proper end: {rest}");
    assert_eq!(left, 0);
}

#[tokio::test]
async fn what_is_left_in_the_end_is_cut_and_counted() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.connect().await;
    client.say("GET /hold HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.until(|server| !server.desk.seen.lock().unwrap().is_empty()).await;
    let times = DrainTimes { pre_stop: Duration::ZERO, drain: SHORT, ending: SHORT };
    assert_eq!(server.edge.drain.run(times).await, 1);
    assert_eq!(client.rest().await, "");
    assert!(server.edge.drain.run(times).await == 0, "a second shutdown has nothing to do");
}

#[tokio::test]
async fn tasks_end_with_their_connections() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.connect().await;
    client.say(GET).await;
    client.until("GET / []").await;
    server.edge.drain.run(DrainTimes { pre_stop: Duration::ZERO, ..patient() }).await;
    assert!(server.tasks.finished(LONG).await);
}
