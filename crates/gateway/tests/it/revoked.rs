//! What is revoked ends at once: tokens that are known already, keys, and, where the policy says so, open streams. And tokens
//! that are good for one request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use testkit::mock::{Answer, Gate, Mock};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::harness::{API_KEY, World, peer, piece, read, request};

const CHAT: &str = "/v1/chat/completions";

fn hello() -> Value {
    json!({"model": "vouchgate/echo", "messages": [{"role": "user", "content": "hi"}]})
}

fn world(policy: &str) -> World {
    World::new(&format!("[[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n{policy}"))
}

#[tokio::test]
async fn a_39_a_token_that_is_known_is_refused_from_the_moment_it_is_revoked() {
    let world = world("");
    let (alice, bob) = (world.token("alice"), world.token("bob"));
    let status = async |token: &str| {
        let bearer = format!("Bearer {token}");
        world.send("POST", CHAT, &[("authorization", &bearer)], hello().to_string()).await
    };
    assert_eq!(
        (status(&alice).await.status, status(&bob).await.status),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    world.revoked.subject("alice");
    let answer = status(&alice).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_token"));
    assert!(answer.header("www-authenticate").starts_with("Bearer realm=\"vouchgate\", error=\"invalid_token\""));
    assert_eq!(status(&bob).await.status, 200);
    assert!(world.metrics().contains("vouchgate_blocked_total{reason=\"token_revoked\"} 1"));
}

#[tokio::test]
async fn a_39_a_vouchgate_key_ends_with_whom_it_speaks_for() {
    let world = world("who = { key = \"tool\" }\n");
    let status = async || world.send("GET", "/v1/models", &[("x-api-key", API_KEY)], "").await.status.as_u16();
    assert_eq!(status().await, 200);
    world.revoked.subject("tool-owner");
    assert_eq!(status().await, 401);
}

fn chunk(content: &str) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "big-1", "choices": [
        {"index": 0, "delta": {"content": content}, "finish_reason": null}]})
}

async fn streaming(policy: &str, gate: &Gate) -> (Mock, World) {
    let mock = Mock::start().await;
    let first = format!("data: {}\n\n", chunk("first")).len();
    mock.push(Answer::openai_stream(&[chunk("first"), chunk("second")]).stall_after(first, gate));
    let world = World::new(&format!(
        "[[provider]]\nname = \"p\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         [[service]]\nname = \"s\"\npath = \"/v1/s\"\nmodel = \"fast\"\nprompt = \"{{{{input}}}}\"\n\
         [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"p\", model = \"big-1\" }}]\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], services = [\"*\"] }}\n{policy}",
        mock.url()
    ));
    (mock, world)
}

#[tokio::test]
async fn a_39_an_open_stream_is_cut_where_the_policy_says_so_and_told_why() {
    for (path, ask) in [
        (CHAT, json!({"model": "fast", "stream": true, "messages": [{"role": "user", "content": "hi"}]})),
        (
            "/v1/messages",
            json!({"model": "fast", "stream": true, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
        ),
        ("/v1/s", json!({"input": "hi", "stream": true})),
    ] {
        let gate = Gate::closed();
        let (_mock, world) = streaming("on_revocation = \"cut\"\n", &gate).await;
        let mut body = world.open(path, &ask).await.into_body();
        let first = piece(&mut body).await;
        assert!(!first.is_empty(), "{path}");
        world.revoked.subject("bob");
        world.revoked.subject("alice");
        let last = piece(&mut body).await;
        let last = String::from_utf8_lossy(&last);
        assert!(last.contains("\"error\"") && last.contains("token_revoked"), "{path}: {last}");
        assert!(testkit::patiently("the end", body.frame()).await.is_none(), "{path}");
        drop(body);
        assert_eq!(world.record().error.as_deref(), Some("token_revoked"), "{path}");
    }
}

#[tokio::test]
async fn an_open_stream_is_finished_where_the_policy_does_not_say_otherwise() {
    let gate = Gate::closed();
    let (_mock, world) = streaming("", &gate).await;
    let ask = json!({"model": "fast", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let mut body = world.open(CHAT, &ask).await.into_body();
    piece(&mut body).await;
    world.revoked.subject("alice");
    gate.open();
    let second = piece(&mut body).await;
    assert!(String::from_utf8_lossy(&second).contains("second"));
    assert_eq!(world.post(CHAT, &hello()).await.status, 401, "the next request is refused all the same");
}

#[tokio::test]
async fn a_38_a_token_is_good_for_one_request_where_the_policy_says_so() {
    let world = world("single_use = true\n");
    let token = format!("Bearer {}", world.token("alice"));
    let chat = async |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        world.send("POST", CHAT, &[("authorization", &token)], body.to_string()).await
    };
    assert_eq!(
        world.send("GET", "/v1/models", &[("authorization", &token)], "").await.status,
        200,
        "no policy decides that"
    );
    assert_eq!(chat("vouchgate/echo").await.status, 200);
    let answer = chat("vouchgate/echo").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_token"));
    assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
    assert_eq!(world.record().error.as_deref(), Some("token_used"));
    assert_eq!(world.used.0.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_38_of_many_requests_with_a_single_use_token_one_succeeds() {
    let world = world("single_use = true\n");
    let token = format!("Bearer {}", world.token("alice"));
    let gate = Arc::new(Barrier::new(100));
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let (gateway, gate) = (world.gateway.clone(), Arc::clone(&gate));
        let request = request("POST", CHAT, &[("authorization", &token)], hello().to_string());
        requests.spawn(async move {
            gate.wait().await;
            gateway.handle(request, &peer()).await.status().as_u16()
        });
    }
    let statuses = requests.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
}

#[tokio::test]
async fn a_38_what_cannot_be_told_apart_is_not_good_once() {
    let world = world("single_use = true\n");
    let unnumbered = format!(
        "Bearer {}",
        world.key.mint(&json!({
            "iss": crate::harness::ISSUER, "aud": crate::harness::AUDIENCE, "sub": "a", "iat": crate::harness::NOW,
            "exp": crate::harness::NOW + 60,
        }))
    );
    let answer = world.send("POST", CHAT, &[("authorization", &unnumbered)], hello().to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_token"));
    assert_eq!(world.record().error.as_deref(), Some("token_unnumbered"));
}

#[tokio::test]
async fn a_38_a_request_that_is_refused_uses_nothing_up() {
    let world = world("single_use = true\nrate = [{ requests = 1, per = \"policy\", window = \"1m\" }]\n");
    let token = |jti: &str| format!("Bearer {}", world.token_with(&json!({"jti": jti})));
    let chat =
        async |token: &str| world.send("POST", CHAT, &[("authorization", token)], hello().to_string()).await.status;
    assert_eq!(chat(&token("a")).await, 200);
    assert_eq!(chat(&token("b")).await, 429);
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(chat(&token("b")).await, 200);
}

/// A chat request whose body arrives after `meanwhile` was done.
fn slow<F>(credential: &str, meanwhile: F) -> Request<impl Body<Data = Bytes, Error = std::io::Error> + Send + use<F>>
where
    F: FnOnce() + Send + 'static,
{
    let request = request("POST", CHAT, &[("authorization", credential)], "");
    let late = stream::once(async move {
        meanwhile();
        Ok(Frame::data(Bytes::from(hello().to_string())))
    });
    request.map(|_| StreamBody::new(late))
}

#[tokio::test]
async fn a_39_a_request_that_takes_its_time_does_not_outlive_what_let_it_in() {
    let world = world("");
    let alice = format!("Bearer {}", world.token("alice"));
    let answer = read(world.gateway.handle(slow(&alice, || ()), &peer()).await).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let clock = world.clock.clone();
    let overdue = slow(&alice, move || clock.advance(Duration::from_secs(361)));
    assert_eq!(read(world.gateway.handle(overdue, &peer()).await).await.code(), "invalid_token", "expired meanwhile");
    assert_eq!(world.record().error.as_deref(), Some("expired"));
    let later = world.token_with(&json!({"iat": crate::harness::NOW + 361, "exp": crate::harness::NOW + 600}));
    let revoked = Arc::clone(&world.revoked);
    let ended = slow(&format!("Bearer {later}"), move || revoked.subject("alice"));
    assert_eq!(read(world.gateway.handle(ended, &peer()).await).await.code(), "invalid_token", "revoked meanwhile");
    assert_eq!(world.record().error.as_deref(), Some("token_revoked"));
}

#[tokio::test]
async fn a_39_a_vouchgate_key_does_not_outlive_its_end_in_a_slow_request() {
    let world = world("who = { key = \"tool\" }\n");
    let clock = world.clock.clone();
    let overdue = slow(&format!("Bearer {API_KEY}"), move || clock.advance(Duration::from_secs(1000)));
    assert_eq!(read(world.gateway.handle(overdue, &peer()).await).await.code(), "invalid_token");
}

#[tokio::test]
async fn a_38_a_single_use_token_that_comes_too_late_to_be_told_from_a_used_one_is_refused() {
    let world = world("single_use = true\n");
    let token = format!("Bearer {}", world.token("alice"));
    let clock = world.clock.clone();
    let late = slow(&token, move || clock.advance(Duration::from_mins(6)));
    assert_eq!(read(world.gateway.handle(late, &peer()).await).await.code(), "invalid_token");
    assert!(world.used.0.lock().unwrap().is_empty());
}
