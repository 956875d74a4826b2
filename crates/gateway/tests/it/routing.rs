//! Which target answers, and what happens when one fails.

use serde_json::{Value, json};
use std::time::Duration;
use testkit::mock::{Answer, Gate, Mock};

use crate::harness::{PROVIDER_KEY, World};

fn completion(content: &str) -> Value {
    json!({"id": "c1", "object": "chat.completion", "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]})
}

fn error(message: &str) -> Value {
    json!({"error": {"message": message, "type": "server_error", "code": null}})
}

fn provider(name: &str, mock: &Mock, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"{name}\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n{more}\n",
        mock.url()
    )
}

/// A model `fast` with these lines.
fn model(lines: &str) -> String {
    format!("[[model]]\nname = \"fast\"\n{lines}\n[[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n")
}

const BOTH: &str = "targets = [{ provider = \"a\", model = \"x\" }, { provider = \"b\", model = \"y\" }]";

fn ask() -> Value {
    json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]})
}

async fn chat(world: &World) -> crate::harness::Answer {
    world.post("/v1/chat/completions", &ask()).await
}

/// Two providers, the second of which always answers.
async fn two(more: &str, lines: &str) -> (Mock, Mock, World) {
    let first = Mock::start_with(|_| Answer::json(200, &completion("first"))).await;
    let second = Mock::start_with(|_| Answer::json(200, &completion("second"))).await;
    let world = World::new(&format!("{}{}{}", provider("a", &first, more), provider("b", &second, ""), model(lines)));
    (first, second, world)
}

#[tokio::test]
async fn an_answer_says_who_gave_it_and_after_how_many_attempts() {
    let (first, _second, world) = two("", BOTH).await;
    let answer = chat(&world).await;
    assert_eq!((answer.header("x-vouchgate-target"), answer.header("x-vouchgate-attempts")), ("a/x", "1"));
    first.push(Answer::json(503, &error("down")));
    let answer = chat(&world).await;
    assert_eq!((answer.header("x-vouchgate-target"), answer.header("x-vouchgate-attempts")), ("b/y", "2"));
    let odd = "a/\u{e9} \u{1f600}<x>";
    let answer = world.post("/v1/chat/completions", &json!({"model": odd, "messages": []})).await;
    assert_eq!(answer.header("x-vouchgate-target"), "a/%C3%A9%20%F0%9F%98%80%3Cx%3E");
    let answer = world
        .post(
            "/v1/chat/completions",
            &json!({"model": "vouchgate/echo", "messages": [{"role": "user", "content": "x"}]}),
        )
        .await;
    assert_eq!(answer.header("x-vouchgate-target"), "vouchgate/echo");
}

#[tokio::test]
async fn when_all_fail_the_caller_hears_the_last_in_its_own_words() {
    let (first, second, world) = two("", &format!("{BOTH}\nretry = {{ attempts = 2 }}")).await;
    first.push(Answer::json(500, &error("first is down")));
    second.push(Answer::json(503, &error("second is down")).header("retry-after", "7"));
    let answer = chat(&world).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["message"].as_str()), (503, Some("second is down")));
    assert_eq!(answer.header("retry-after"), "7");
    assert_eq!((answer.header("x-vouchgate-target"), answer.header("x-vouchgate-attempts")), ("b/y", "2"));
    world.clock.advance(Duration::from_secs(7));
    first.push(Answer::nothing());
    second.push(Answer::nothing());
    let answer = chat(&world).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "upstream_closed"));
    assert_eq!(answer.header("x-vouchgate-attempts"), "2");
}

#[tokio::test]
async fn a_provider_that_keeps_failing_is_left_alone_until_one_call_finds_it_well() {
    let (first, second, world) = two("breaker = { consecutive = 3, open_for = \"10s\" }", BOTH).await;
    for _ in 0..3 {
        first.push(Answer::json(500, &error("down")));
        assert_eq!(chat(&world).await.status, 200);
    }
    assert!(world.metrics().contains("vouchgate_breaker_state{provider=\"a\",key=\"none\"} 2"), "{}", world.metrics());
    let (name, why) = world.left_alone().pop().expect("one provider");
    assert_eq!((name.as_str(), why.as_str()), ("a", "calls with key none fail; left alone for 10 s"));
    assert_eq!(chat(&world).await.header("x-vouchgate-attempts"), "1");
    assert_eq!((first.count(), second.count()), (3, 4));
    world.clock.advance(Duration::from_secs(10));
    assert!(world.metrics().contains("vouchgate_breaker_state{provider=\"a\",key=\"none\"} 1"));
    first.push(Answer::json(500, &error("still down")));
    assert_eq!(chat(&world).await.header("x-vouchgate-target"), "b/y");
    assert_eq!(chat(&world).await.header("x-vouchgate-attempts"), "1", "the probe failed: open again");
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(chat(&world).await.header("x-vouchgate-target"), "a/x");
    assert!(world.metrics().contains("vouchgate_breaker_state{provider=\"a\",key=\"none\"} 0"));
    assert_eq!(chat(&world).await.header("x-vouchgate-target"), "a/x");
}

#[tokio::test]
async fn one_caller_at_a_time_finds_out_where_nobody_else_could_answer() {
    let first = Mock::start_with(|_| Answer::json(200, &completion("well"))).await;
    let config = format!(
        "{}{}",
        provider("a", &first, "breaker = { consecutive = 1 }"),
        model("targets = [{ provider = \"a\", model = \"x\" }]\nretry = { attempts = 1 }")
    );
    let world = World::new(&config);
    first.push(Answer::json(500, &error("down")));
    assert_eq!(chat(&world).await.status, 500);
    let gate = Gate::closed();
    first.push(Answer::json(200, &completion("well again")).hold_head(&gate));
    let body = ask();
    let probe = world.open("/v1/chat/completions", &body);
    tokio::pin!(probe);
    tokio::select! {
        _ = &mut probe => panic!("the mock does not answer yet"),
        _ = first.request(1) => {}
    }
    let other = chat(&world).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (503, "provider_unavailable"));
    assert_eq!(other.header("retry-after"), "10");
    assert_eq!(first.count(), 2, "it was not asked");
    gate.open();
    assert_eq!(testkit::patiently("the probe", probe).await.status(), 200);
    assert_eq!(chat(&world).await.status, 200);
}

#[tokio::test]
async fn the_state_of_a_provider_outlives_a_reload_but_not_its_address() {
    let (first, second, world) = two("breaker = { consecutive = 1 }", BOTH).await;
    first.push(Answer::json(500, &error("down")));
    chat(&world).await;
    let config = |mock: &Mock| {
        format!(
            "{}{}{}",
            provider("a", mock, "breaker = { consecutive = 1 }\napi_key = { env = \"K\" }"),
            provider("b", &second, ""),
            model(BOTH)
        )
    };
    world.reload(&format!(
        "{}{}{}",
        provider("a", &first, "breaker = { consecutive = 2 }"),
        provider("b", &second, ""),
        model(BOTH)
    ));
    assert_eq!(chat(&world).await.header("x-vouchgate-target"), "b/y");
    world.reload(&config(&first));
    assert_eq!(chat(&world).await.header("x-vouchgate-target"), "a/x", "it has a key now");
}

#[tokio::test]
async fn another_key_is_used_when_one_is_refused_or_used_up() {
    let keys = "keys = [{ name = \"k1\", api_key = { env = \"A\" } }, { name = \"k2\", api_key = { env = \"B\" }, priority = 1 }]";
    let (first, second, world) = two(keys, BOTH).await;
    let key_of = async |index: usize| first.request(index).await.header("authorization").unwrap_or_default().to_owned();
    assert_eq!(chat(&world).await.status, 200);
    assert_eq!(key_of(0).await, format!("Bearer {PROVIDER_KEY}-k1"));
    // Used up: rests as long as was said, and the same provider answers with its other key.
    first.push(Answer::json(429, &error("slow down")).header("retry-after", "30"));
    let answer = chat(&world).await;
    assert_eq!((answer.header("x-vouchgate-target"), answer.header("x-vouchgate-attempts")), ("a/x", "2"));
    assert_eq!(key_of(2).await, format!("Bearer {PROVIDER_KEY}-k2"));
    assert_eq!(chat(&world).await.header("x-vouchgate-attempts"), "1");
    assert_eq!(key_of(3).await, format!("Bearer {PROVIDER_KEY}-k2"));
    world.clock.advance(Duration::from_secs(30));
    chat(&world).await;
    assert_eq!(key_of(4).await, format!("Bearer {PROVIDER_KEY}-k1"));
    // Refused: put aside, and shown so.
    first.push(Answer::json(401, &error("bad key")));
    assert_eq!(chat(&world).await.header("x-vouchgate-target"), "a/x");
    assert_eq!(key_of(6).await, format!("Bearer {PROVIDER_KEY}-k2"));
    assert!(world.metrics().contains("vouchgate_provider_key_up{provider=\"a\",key=\"k1\"} 0"), "{}", world.metrics());
    assert!(world.metrics().contains("vouchgate_provider_key_up{provider=\"a\",key=\"k2\"} 1"));
    first.push(Answer::json(401, &error("bad key too")));
    let answer = chat(&world).await;
    assert_eq!(answer.header("x-vouchgate-target"), "b/y");
    assert!(!answer.text().contains(PROVIDER_KEY));
    assert_eq!(second.count(), 1);
    assert!(second.request(0).await.header("authorization").is_none(), "a provider's key goes nowhere else");
}

#[tokio::test]
async fn a_spent_quota_rests_for_its_model_only() {
    let lines = "targets = [{ provider = \"a\", model = \"x\" }, { provider = \"a\", model = \"y\" }]";
    let (first, _second, world) = two("", lines).await;
    let spent = Answer::json(200, &completion("the last"))
        .header("x-ratelimit-remaining-requests", "0")
        .header("x-ratelimit-reset-requests", "1m0s");
    first.push(spent);
    assert_eq!(chat(&world).await.header("x-vouchgate-target"), "a/x");
    assert_eq!(chat(&world).await.header("x-vouchgate-target"), "a/y");
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(chat(&world).await.header("x-vouchgate-target"), "a/x");
}

#[tokio::test]
async fn without_anybody_else_a_spent_quota_is_told_with_its_end() {
    let first = Mock::start().await;
    let world = World::new(&format!(
        "{}{}",
        provider("a", &first, ""),
        model("targets = [{ provider = \"a\", model = \"x\" }]")
    ));
    first.push(Answer::json(429, &error("slow down")).header("retry-after", "40"));
    let answer = chat(&world).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("retry-after"), first.count()),
        (429, "40", 1),
        "too long to wait for"
    );
    let gate = Gate::closed();
    first.push(Answer::json(200, &completion("x")).hold_head(&gate));
    let body = ask();
    let probe = world.open("/v1/chat/completions", &body);
    tokio::pin!(probe);
    tokio::select! {
        _ = &mut probe => panic!("the mock does not answer yet"),
        _ = first.request(1) => {}
    }
    let other = chat(&world).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (429, "provider_quota_exhausted"));
    assert_eq!(other.header("retry-after"), "40");
}

#[tokio::test]
async fn a_short_wait_that_a_provider_asks_for_is_kept() {
    let first = Mock::start_with(|_| Answer::json(200, &completion("x"))).await;
    let world = World::new(&format!(
        "{}{}",
        provider("a", &first, ""),
        model("targets = [{ provider = \"a\", model = \"x\" }]")
    ));
    first.push(Answer::json(429, &error("slow down")).header("retry-after-ms", "20"));
    let answer = chat(&world).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-vouchgate-attempts")), (200, "2"));
}

#[tokio::test]
async fn retries_cannot_multiply_an_outage() {
    let first = Mock::start_with(|_| Answer::json(503, &error("down"))).await;
    let config = format!(
        "{}{}",
        provider("a", &first, "retry_budget = 0\nbreaker = { enabled = false }"),
        model("targets = [{ provider = \"a\", model = \"x\" }]\nretry = { attempts = 2 }")
    );
    let world = World::new(&config);
    for _ in 0..12 {
        assert_eq!(chat(&world).await.status, 503);
    }
    assert_eq!(first.count(), 12 + 10, "ten retries in ten seconds, and no more");
}

#[tokio::test]
async fn the_whole_request_ends_in_time_whatever_its_attempts_do() {
    let gate = Gate::closed();
    let hang = gate.clone();
    let first = Mock::start_with(move |_| Answer::json(200, &completion("x")).hold_head(&hang)).await;
    let config = format!(
        "{}{}",
        provider("a", &first, ""),
        model("targets = [{ provider = \"a\", model = \"x\" }]\ntimeout = { total = \"60ms\" }")
    );
    let world = World::new(&config);
    let answer = testkit::patiently("an answer", chat(&world)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "request_timeout"));
    // One byte at a time never ends; the caller's wait does.
    first.push(Answer::json(200, &completion("x")).stall_after(3, &gate));
    let answer = testkit::patiently("an answer", chat(&world)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "request_timeout"));
}

#[tokio::test]
async fn a_target_that_takes_too_long_is_given_up_for_the_next() {
    let lines = "targets = [{ provider = \"a\", model = \"x\", timeout = { total = \"50ms\" } }, { provider = \"b\", model = \"y\" }]";
    let (first, _second, world) = two("", lines).await;
    first.push(Answer::json(200, &completion("x")).stall_after(3, &Gate::closed()));
    let answer = testkit::patiently("an answer", chat(&world)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-vouchgate-target")), (200, "b/y"), "{}", answer.text());
    first.push(Answer::json(200, &completion("x")).hold_head(&Gate::closed()));
    let answer = testkit::patiently("an answer", chat(&world)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-vouchgate-target")), (200, "b/y"), "{}", answer.text());
}

#[tokio::test]
async fn an_attempt_that_takes_longer_than_its_target_may_counts_against_its_provider() {
    let lines = "targets = [{ provider = \"a\", model = \"x\", timeout = { total = \"50ms\" } }, { provider = \"b\", model = \"y\" }]";
    let (first, _second, world) = two("breaker = { consecutive = 1 }", lines).await;
    first.push(Answer::json(200, &completion("late")).hold_head(&Gate::closed()));
    assert_eq!(chat(&world).await.header("x-vouchgate-attempts"), "2");
    assert!(world.metrics().contains("vouchgate_breaker_state{provider=\"a\",key=\"none\"} 2"), "{}", world.metrics());
    assert_eq!(chat(&world).await.header("x-vouchgate-attempts"), "1", "it is left alone");
}

#[tokio::test]
async fn a_model_that_is_gone_is_passed_over_and_its_provider_is_not() {
    let lines = "targets = [{ provider = \"a\", model = \"gone\" }, { provider = \"a\", model = \"y\" }]\nretry = { on = [404] }";
    let (first, _second, world) = two("breaker = { consecutive = 2 }", lines).await;
    for _ in 0..2 {
        first.push(Answer::json(404, &error("no such model")));
        assert_eq!(chat(&world).await.header("x-vouchgate-attempts"), "2");
    }
    let answer = chat(&world).await;
    assert_eq!((answer.header("x-vouchgate-target"), answer.header("x-vouchgate-attempts")), ("a/y", "1"));
    let metrics = world.metrics();
    assert!(metrics.contains("vouchgate_target_breaker_state{provider=\"a\",model=\"gone\"} 2"), "{metrics}");
    assert!(metrics.contains("vouchgate_breaker_state{provider=\"a\",key=\"none\"} 0"));
}

#[tokio::test]
async fn conditions_choose_and_what_nobody_takes_is_refused() {
    let lines = "targets = [{ provider = \"a\", model = \"x\", when = { tools = false, max_body = \"1KiB\" } }, \
                 { provider = \"b\", model = \"y\", when = { header = { x-tier = \"gold\" } } }]";
    let (_first, _second, world) = two("", lines).await;
    assert_eq!(chat(&world).await.header("x-vouchgate-target"), "a/x");
    let mut tools = ask();
    tools["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    let answer = world.post("/v1/chat/completions", &tools).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "no_target_matches"));
    let bearer = format!("Bearer {}", world.token("alice"));
    let headers = [("authorization", bearer.as_str()), ("x-tier", "gold")];
    let answer = world.send("POST", "/v1/chat/completions", &headers, tools.to_string()).await;
    assert_eq!(answer.header("x-vouchgate-target"), "b/y");
}

#[tokio::test]
async fn weights_share_and_sessions_stay() {
    let lines = format!("{BOTH}\nstrategy = \"weighted\"\nsticky = \"header:x-session\"");
    let (first, second, world) = two("", &lines).await;
    let bearer = format!("Bearer {}", world.token("alice"));
    for session in 0..12 {
        let session = session.to_string();
        let headers = [("authorization", bearer.as_str()), ("x-session", session.as_str())];
        let mut targets = Vec::new();
        for _ in 0..3 {
            let answer = world.send("POST", "/v1/chat/completions", &headers, ask().to_string()).await;
            targets.push(answer.header("x-vouchgate-target").to_owned());
        }
        targets.dedup();
        assert_eq!(targets.len(), 1, "{targets:?}");
    }
    assert!(first.count() > 0 && second.count() > 0, "{} and {}", first.count(), second.count());
    assert_eq!(first.count() + second.count(), 36);
}
