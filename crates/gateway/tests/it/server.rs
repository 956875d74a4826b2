//! The same behind a real HTTP server: what only a connection can show.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use testkit::mock::{Answer, Gate, Mock, Outcome};
use testkit::raw::Connection;
use tokio::net::TcpListener;

use crate::harness::World;

/// Serve HTTP/1.1 on a free port of loopback for as long as the test runs.
#[allow(clippy::disallowed_methods, reason = "the test's runtime ends with the test")]
async fn serve(world: Arc<World>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let world = Arc::clone(&world);
            let peer = gateway::Peer { addr: peer, tls: false, certificate: None, fingerprint: None };
            let service = service_fn(move |request| {
                let (world, peer) = (Arc::clone(&world), peer.clone());
                async move { Ok::<_, std::convert::Infallible>(world.gateway.handle(request, &peer).await) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    addr
}

fn config(mock: &Mock) -> String {
    format!(
        "[[provider]]\nname = \"p\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"p\"] }}\n",
        mock.url()
    )
}

#[tokio::test]
async fn a_client_that_closes_its_connection_cancels_the_upstream_call() {
    let gate = Gate::closed();
    let mock = Mock::start().await;
    let world = Arc::new(World::new(&config(&mock)));
    let addr = serve(Arc::clone(&world)).await;
    let bearer = format!("Bearer {}", world.token("alice"));
    let headers = [("host", "localhost"), ("authorization", bearer.as_str()), ("content-type", "application/json")];
    let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]});
    let body = json!({"model": "p/m", "stream": true, "messages": []}).to_string();

    // In the middle of a stream that says nothing.
    mock.push(Answer::openai_stream(&[chunk.clone(), chunk]).stall_after(90, &gate));
    let mut client = Connection::open(addr).await;
    client.request("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    assert!(client.piece().await.unwrap().is_some());
    drop(client);
    let dropped = async { mock.request(0).await.settled().await };
    assert_eq!(testkit::patiently("the upstream call to end", dropped).await, Outcome::Dropped);

    // Before the answer begins.
    mock.push(Answer::json(200, &json!({})).hold_head(&gate));
    let mut client = Connection::open(addr).await;
    client.request("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
    mock.request(1).await;
    drop(client);
    let dropped = async { mock.request(1).await.settled().await };
    assert_eq!(testkit::patiently("the upstream call to end", dropped).await, Outcome::Dropped);
}

#[tokio::test]
async fn an_opaque_answer_keeps_its_length_and_a_cut_one_never_looks_complete() {
    let mock = Mock::start().await;
    let world = Arc::new(World::new(&config(&mock)));
    let addr = serve(Arc::clone(&world)).await;
    let bearer = format!("Bearer {}", world.token("alice"));
    let headers = [("host", "localhost"), ("authorization", bearer.as_str())];
    let audio = || Answer::bytes(200, "audio/mpeg", vec![7u8; 5000]);
    mock.push(audio());
    let whole = testkit::raw::request(addr, "GET", "/providers/p/v1/models/m", &headers, b"").await;
    assert_eq!((whole.status(), whole.header("content-length")), (200, Some("5000")));
    mock.push(audio().cut_after(100));
    let mut client = Connection::open(addr).await;
    client.request("GET", "/providers/p/v1/models/m", &headers, b"").await;
    assert_eq!(client.head().await.unwrap().status, 200);
    let mut cut = false;
    loop {
        match client.piece().await {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => {
                cut = true;
                break;
            }
        }
    }
    assert!(cut);
}
