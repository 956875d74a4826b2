//! Every way a provider can fail: with somebody else to answer, and without.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::mock::{Answer, Gate, Mock, Outcome};

use crate::harness::World;

fn completion(content: &str) -> Value {
    json!({"id": "c1", "object": "chat.completion", "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]})
}

fn chunk(delta: &Value, finish: Option<&str>) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
        {"index": 0, "delta": delta, "finish_reason": finish}]})
}

fn role() -> Value {
    chunk(&json!({"role": "assistant", "content": ""}), None)
}

fn stream(content: &str) -> Answer {
    Answer::openai_stream(&[role(), chunk(&json!({"content": content}), None), chunk(&json!({}), Some("stop"))])
}

fn provider(name: &str, url: &str, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"{name}\"\nkind = \"openai-compatible\"\nbase_url = \"{url}/v1\"\nallow_private = true\n\
         breaker = {{ enabled = false }}\n{more}\n"
    )
}

const LIMITS: &str =
    "[limits]\nresponse_body = \"64KiB\"\nconnect = \"200ms\"\nfirst_byte = \"100ms\"\nidle = \"100ms\"\n";

fn policy() -> &'static str {
    "[[policy]]\nname = \"all\"\nmay = { models = [\"*\"] }\n"
}

/// A model `alone` of the provider `a` at this address, and a model `fast` that `b` may answer too.
fn config(first: &str, second: &str) -> String {
    format!(
        "{LIMITS}{}{}[[model]]\nname = \"alone\"\ntargets = [{{ provider = \"a\", model = \"x\" }}]\nretry = {{ attempts = 1 }}\n\
         [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"a\", model = \"x\" }}, {{ provider = \"b\", model = \"y\" }}]\n\
         timeout = {{ total = \"20s\" }}\n{}",
        provider("a", first, ""),
        provider("b", second, ""),
        policy()
    )
}

fn ask(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

async fn well() -> Mock {
    Mock::start_with(|request| {
        let streamed = String::from_utf8_lossy(&request.body).contains("\"stream\":true");
        if streamed { stream("from the second") } else { Answer::json(200, &completion("from the second")) }
    })
    .await
}

/// What a failing provider does, and what the caller of a whole answer is told where nobody else can answer.
fn failures(never: &Gate) -> Vec<(&'static str, Answer, u16, &'static str)> {
    let error = json!({"error": {"message": "no", "type": "server_error", "code": "own_code"}});
    vec![
        ("429", Answer::json(429, &error), 429, "own_code"),
        ("500", Answer::json(500, &error), 500, "own_code"),
        ("503", Answer::json(503, &error), 503, "own_code"),
        ("no head", Answer::json(200, &completion("x")).hold_head(never), 504, "first_byte_timeout"),
        ("nothing after the head", Answer::json(200, &completion("x")).stall_after(0, never), 504, "body_idle_timeout"),
        ("a part", Answer::json(200, &completion("x")).stall_after(9, never), 504, "body_idle_timeout"),
        ("cut", Answer::json(200, &completion("x")).cut_after(9), 502, "body_cut"),
        ("no answer", Answer::nothing(), 502, "upstream_closed"),
        ("garbage", Answer::raw("garbage\r\n\r\n"), 502, "upstream_malformed"),
        ("a page", Answer::bytes(200, "text/html", "<html></html>"), 502, "upstream_invalid_stream"),
        ("100 MB", Answer::bytes(200, "application/json", "x".repeat(100_000)).repeat(1000), 502, "upstream_too_large"),
        ("redirect", Answer::redirect(302, "http://evil.example/"), 502, "upstream_redirect"),
        (
            "compressed",
            Answer::json(200, &completion("x")).header("content-encoding", "gzip"),
            502,
            "upstream_encoding",
        ),
        // Last: a key that was refused is put aside for a minute.
        ("401", Answer::json(401, &error), 502, "provider_key_refused"),
    ]
}

#[tokio::test]
async fn whatever_a_provider_does_the_other_answers_or_the_caller_is_told_what() {
    let (first, second, never) = (Mock::start().await, well().await, Gate::closed());
    let world = World::new(&config(&first.url(), &second.url()));
    for (name, failure, status, code) in failures(&never) {
        first.push(failure.clone());
        let answer = testkit::patiently(name, world.post("/v1/chat/completions", &ask("fast", false))).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-vouchgate-target")),
            (200, "b/y"),
            "{name}: {}",
            answer.text()
        );
        assert!(answer.text().contains("from the second"), "{name}");
        // What rests rests no longer.
        world.clock.advance(Duration::from_secs(2));
        first.push(failure);
        let answer = testkit::patiently(name, world.post("/v1/chat/completions", &ask("alone", false))).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{name}: {}", answer.text());
        assert_eq!(answer.header("x-vouchgate-attempts"), "1", "{name}");
        world.clock.advance(Duration::from_secs(2));
    }
    assert!(world.metrics().contains("vouchgate_streams_open 0"));
    assert!(world.metrics().contains("vouchgate_target_active{provider=\"a\",model=\"x\"} 0"), "{}", world.metrics());
    assert_eq!(second.count(), failures(&never).len());
}

#[tokio::test]
async fn a_stream_that_fails_before_it_said_anything_is_another_targets_to_answer() {
    let (first, second, never) = (Mock::start().await, well().await, Gate::closed());
    let world = World::new(&config(&first.url(), &second.url()));
    let begin = format!("data: {}\n\n", role()).len();
    let overloaded = "data: {\"error\":{\"message\":\"overloaded\",\"code\":529}}\n\n";
    for (name, failure) in [
        ("cut in the first event", stream("x").cut_after(20)),
        ("cut after the role", stream("x").cut_after(begin)),
        ("silent after the role", stream("x").stall_after(begin, &never)),
        ("an error event", Answer::sse(overloaded)),
        ("an error event after the role", Answer::sse(format!("data: {}\n\n{overloaded}", role()))),
        ("an end without an answer", Answer::sse("")),
        ("no event stream", Answer::sse("<html>\n\n")),
        ("an error for a body", Answer::json(200, &json!({"error": {"message": "overloaded", "code": 502}}))),
    ] {
        first.push(failure);
        let answer = testkit::patiently(name, world.post("/v1/chat/completions", &ask("fast", true))).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-vouchgate-target")),
            (200, "b/y"),
            "{name}: {}",
            answer.text()
        );
        assert!(
            answer.text().contains("from the second") && answer.text().contains("[DONE]"),
            "{name}: {}",
            answer.text()
        );
        assert!(!answer.text().contains("overloaded"), "{name}");
    }
    assert!(world.metrics().contains("vouchgate_streams_open 0"));
}

#[tokio::test]
async fn what_has_been_said_stands_and_its_end_is_told() {
    let (first, second) = (Mock::start().await, well().await);
    let world = World::new(&config(&first.url(), &second.url()));
    let said = format!("data: {}\n\ndata: {}\n\n", role(), chunk(&json!({"content": "from the first"}), None)).len();
    first.push(stream("from the first").cut_after(said + 9));
    let answer = world.post("/v1/chat/completions", &ask("fast", true)).await;
    assert_eq!(answer.header("x-vouchgate-target"), "a/x");
    assert!(answer.text().contains("from the first") && answer.text().contains("upstream_cut"), "{}", answer.text());
    assert!(!answer.text().contains("[DONE]"));
    assert_eq!(second.count(), 0);
}

#[tokio::test]
async fn nothing_of_a_stream_that_was_held_back_is_lost() {
    let (first, second) = (Mock::start().await, well().await);
    let world = World::new(&config(&first.url(), &second.url()));
    for piece in [1, 7, 100, usize::MAX] {
        let whole = stream("h\u{e9}llo").pieces(piece);
        first.push(whole.clone());
        let held = world.post("/v1/chat/completions", &ask("fast", true)).await;
        first.push(whole);
        let plain = world.post("/v1/chat/completions", &ask("alone", true)).await;
        assert_eq!((held.text(), held.header("x-vouchgate-target")), (plain.text(), "a/x"), "{piece}");
    }
    assert_eq!(second.count(), 0);
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_or_believed_is_passed_over() {
    let second = well().await;
    let gone = Mock::start().await;
    let refused = gone.url();
    drop(gone);
    let untrusted =
        Mock::start_tls(testkit::certs::Authority::new().server(&["127.0.0.1"]).server_config(None), |_| {
            Answer::nothing()
        })
        .await;
    for (url, code) in [(refused, "connect_failed"), (untrusted.url(), "tls_failed")] {
        let world = World::new(&config(&url, &second.url()));
        let answer = testkit::patiently(code, world.post("/v1/chat/completions", &ask("fast", false))).await;
        assert_eq!(answer.header("x-vouchgate-target"), "b/y", "{code}");
        let answer = testkit::patiently(code, world.post("/v1/chat/completions", &ask("alone", false))).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, code));
    }
}

#[tokio::test]
async fn one_byte_at_a_time_ends_with_the_time_of_the_request() {
    let first = Mock::start().await;
    let gate = Gate::closed();
    let config = format!(
        "{}[[model]]\nname = \"slow\"\ntargets = [{{ provider = \"a\", model = \"x\" }}]\ntimeout = {{ total = \"150ms\", idle = \"60s\" }}\n{}",
        provider("a", &first.url(), ""),
        policy()
    );
    let world = World::new(&config);
    first.push(Answer::json(200, &completion("x")).pieces(1).hold_pieces(&gate));
    gate.step(5);
    let answer = testkit::patiently("an answer", world.post("/v1/chat/completions", &ask("slow", false))).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "request_timeout"));
    let outcome = testkit::patiently("the call to end", async { first.request(0).await.settled().await }).await;
    assert_eq!(outcome, Outcome::Dropped);
}

#[tokio::test]
async fn what_a_provider_may_have_kept_is_not_sent_again() {
    let (first, second) = (Mock::start().await, well().await);
    let world = World::new(&config(&first.url(), &second.url()));
    let mut stored = ask("fast", false);
    stored["store"] = json!(true);
    for (failure, code) in
        [(Answer::nothing(), "upstream_closed"), (Answer::json(200, &completion("x")).cut_after(9), "body_cut")]
    {
        first.push(failure);
        let answer = world.post("/v1/chat/completions", &stored).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, code));
    }
    assert_eq!(second.count(), 0);
    // What certainly was not done may be asked of another.
    first.push(Answer::json(503, &json!({"error": {"message": "no"}})));
    assert_eq!(world.post("/v1/chat/completions", &stored).await.header("x-vouchgate-target"), "b/y");
}

#[tokio::test]
async fn calls_at_once_are_bounded_and_wait_in_line_for_as_long_as_they_may() {
    let (gate, second) = (Gate::closed(), well().await);
    let hold = gate.clone();
    let first = Mock::start_with(move |_| Answer::json(200, &completion("x")).hold_head(&hold)).await;
    let config = format!(
        "{}{}[[model]]\nname = \"alone\"\ntargets = [{{ provider = \"a\", model = \"x\" }}]\nretry = {{ attempts = 1 }}\n\
         [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"a\", model = \"x\" }}, {{ provider = \"b\", model = \"y\" }}]\n{}",
        provider("a", &first.url(), "concurrency = 1\nqueue = { size = 1, timeout = \"40s\" }"),
        provider("b", &second.url(), ""),
        policy()
    );
    let world = World::new(&config);
    let alone = ask("alone", false);
    let mut under_way = Box::pin(world.post("/v1/chat/completions", &alone));
    let mut waiting = Box::pin(world.post("/v1/chat/completions", &alone));
    tokio::select! {
        _ = &mut under_way => panic!("the mock does not answer yet"),
        _ = first.request(0) => {}
    }
    assert!(futures_util::FutureExt::now_or_never(&mut waiting).is_none());
    assert!(world.metrics().contains("vouchgate_provider_queue{provider=\"a\"} 1"), "{}", world.metrics());
    let answer = world.post("/v1/chat/completions", &alone).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "provider_queue_full"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(world.post("/v1/chat/completions", &ask("fast", false)).await.header("x-vouchgate-target"), "b/y");
    assert_eq!(first.count(), 1);
    // Who goes leaves the line, and the next has the place.
    drop(waiting);
    let mut next = Box::pin(world.post("/v1/chat/completions", &alone));
    assert!(futures_util::FutureExt::now_or_never(&mut next).is_none());
    gate.open();
    assert_eq!(testkit::patiently("the first", under_way).await.status, 200);
    assert_eq!(testkit::patiently("the next", next).await.status, 200);
    assert_eq!(world.post("/v1/chat/completions", &alone).await.status, 200, "no place is lost");
    assert_eq!(first.count(), 3);
}
