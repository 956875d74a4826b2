//! Another target is asked beside one that takes long.

use serde_json::{Value, json};
use std::time::Duration;
use testkit::mock::{Answer, Gate, Mock, Outcome};

use crate::harness::{World, piece};

fn completion(content: &str) -> Value {
    json!({"id": "c1", "object": "chat.completion", "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 5},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]})
}

fn error(message: &str) -> Value {
    json!({"error": {"message": message, "type": "server_error", "code": null}})
}

fn chunk(delta: &Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta}]})
}

fn role() -> Value {
    chunk(&json!({"role": "assistant", "content": ""}))
}

fn stream(content: &str) -> Answer {
    Answer::openai_stream(&[role(), chunk(&json!({"content": content}))])
}

fn provider(name: &str, mock: &Mock, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"{name}\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n{more}\n",
        mock.url()
    )
}

/// A model of the two providers with a hedge, and these lines.
fn model(lines: &str) -> String {
    format!(
        "[[model]]\nname = \"fast\"\ntargets = [{{ provider = \"a\", model = \"x\" }}, {{ provider = \"b\", model = \"y\" }}]\n\
         {lines}\n[[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n"
    )
}

const SOON: &str = "hedge = { after = \"20ms\" }";

fn ask() -> Value {
    json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]})
}

fn ask_stream() -> Value {
    json!({"model": "fast", "stream": true, "messages": [{"role": "user", "content": "hi"}]})
}

async fn chat(world: &World) -> crate::harness::Answer {
    testkit::patiently("an answer", world.post("/v1/chat/completions", &ask())).await
}

/// Nothing comes of a call for a while, whatever else happens.
async fn still_waits<T>(call: &mut std::pin::Pin<&mut impl Future<Output = T>>) {
    assert!(tokio::time::timeout(Duration::from_millis(60), call).await.is_err(), "it is not over");
}

fn told(answer: &crate::harness::Answer) -> (u16, &str, &str) {
    (answer.status.as_u16(), answer.header("x-vouchgate-target"), answer.header("x-vouchgate-attempts"))
}

fn has(world: &World, line: &str) -> bool {
    let metrics = world.metrics();
    assert!(metrics.contains(line), "{line} in\n{metrics}");
    true
}

/// Two providers, the first of which answers nothing until the gate is opened.
async fn slow(more: &str, lines: &str) -> (Gate, Mock, Mock, World) {
    let gate = Gate::closed();
    let held = gate.clone();
    let first = Mock::start_with(move |_| Answer::json(200, &completion("first")).hold_head(&held)).await;
    let second = Mock::start_with(|_| Answer::json(200, &completion("second"))).await;
    let world = World::new(&format!("{}{}{}", provider("a", &first, more), provider("b", &second, ""), model(lines)));
    (gate, first, second, world)
}

#[tokio::test]
async fn the_second_answers_for_a_first_that_takes_long_and_the_first_call_is_dropped() {
    let (_never, first, second, world) = slow("", SOON).await;
    let answer = chat(&world).await;
    assert_eq!(told(&answer), (200, "b/y", "2"));
    assert!(answer.text().contains("second"));
    let dropped = first.request(0).await;
    assert_eq!(dropped.settled().await, Outcome::Dropped);
    assert_eq!((first.count(), second.count()), (1, 1));
    assert!(has(&world, "vouchgate_hedges_total{model=\"fast\",result=\"won\"} 1"));
    assert!(has(&world, "vouchgate_upstream_cancelled_total{provider=\"a\"} 1"));
    // It neither failed nor answered, and nothing of it is left.
    assert!(has(&world, "vouchgate_breaker_state{provider=\"a\",key=\"none\"} 0"));
    assert!(has(&world, "vouchgate_target_active{provider=\"a\",model=\"x\"} 0"));
    let record = world.record();
    assert_eq!(record.provider.expect("a provider").as_str(), "b");
    assert_eq!((record.input_tokens, record.output_tokens), (Some(3), Some(5)));
    assert!(has(&world, "vouchgate_tokens_total{direction=\"output\",provider=\"b\",model=\"fast\"} 5"));
    assert!(!world.metrics().contains("vouchgate_tokens_total{direction=\"output\",provider=\"a\""));
}

#[tokio::test]
async fn a_first_that_answers_in_time_or_before_the_second_is_the_one_that_counts() {
    let quick = Mock::start_with(|_| Answer::json(200, &completion("first"))).await;
    let never = Gate::closed();
    let held = never.clone();
    let second = Mock::start_with(move |_| Answer::json(200, &completion("second")).hold_head(&held)).await;
    let config = format!(
        "{}{}{}",
        provider("a", &quick, ""),
        provider("b", &second, ""),
        model("hedge = { after = \"10m\" }\ntimeout = { total = \"20m\" }")
    );
    let world = World::new(&config);
    assert_eq!(told(&chat(&world).await), (200, "a/x", "1"));
    assert_eq!(second.count(), 0);
    // The first takes long, the second longer.
    let (gate, first, second, world) = slow("", SOON).await;
    second.push(Answer::json(200, &completion("second")).hold_head(&never));
    let asked = ask();
    let call = world.post("/v1/chat/completions", &asked);
    tokio::pin!(call);
    let beside = tokio::select! {
        _ = &mut call => panic!("nobody answers yet"),
        beside = second.request(0) => beside,
    };
    gate.open();
    let answer = testkit::patiently("the first", call).await;
    assert_eq!(told(&answer), (200, "a/x", "2"));
    assert_eq!(beside.settled().await, Outcome::Dropped);
    assert_eq!(first.count(), 1);
    assert!(has(&world, "vouchgate_hedges_total{model=\"fast\",result=\"lost\"} 1"));
    assert!(has(&world, "vouchgate_upstream_cancelled_total{provider=\"b\"} 1"));
    assert_eq!(world.record().provider.expect("a provider").as_str(), "a");
}

#[tokio::test]
async fn of_two_streams_the_one_that_says_something_first_is_the_answer() {
    let never = Gate::closed();
    let begin = format!("data: {}\n\n", role()).len();
    let first = Mock::start().await;
    let second = Mock::start().await;
    let world = World::new(&format!("{}{}{}", provider("a", &first, ""), provider("b", &second, ""), model(SOON)));
    // It has begun, and said nothing.
    first.push(stream("from the first").stall_after(begin, &never));
    second.push(stream("from the second"));
    let answer = testkit::patiently("an answer", world.post("/v1/chat/completions", &ask_stream())).await;
    assert_eq!(told(&answer), (200, "b/y", "2"));
    assert!(answer.text().contains("from the second") && answer.text().contains("[DONE]"), "{}", answer.text());
    assert!(!answer.text().contains("from the first"));
    let dropped = first.request(0).await;
    assert_eq!(dropped.settled().await, Outcome::Dropped);
    // What has been said stands, however slowly it goes on: nobody else is asked.
    let said = begin + format!("data: {}\n\n", chunk(&json!({"content": "from the first"}))).len();
    let gate = Gate::closed();
    first.push(stream("from the first").stall_after(said, &gate));
    let response = testkit::patiently("the head", world.open("/v1/chat/completions", &ask_stream())).await;
    assert_eq!(response.headers()["x-vouchgate-target"], "a/x");
    let mut body = response.into_body();
    assert!(String::from_utf8_lossy(&piece(&mut body).await).contains("from the first"));
    tokio::time::timeout(Duration::from_millis(60), second.request(1)).await.expect_err("nobody else is asked");
    gate.open();
}

#[tokio::test]
async fn what_the_other_says_is_the_callers_only_if_the_first_fails() {
    let (gate, _first, second, world) = slow("", SOON).await;
    // A refusal of the second is no answer while the first may give one.
    second.push(Answer::json(400, &error("the second does not like it")));
    let asked = ask();
    let call = world.post("/v1/chat/completions", &asked);
    tokio::pin!(call);
    tokio::select! {
        _ = &mut call => panic!("a refusal is no answer yet"),
        _ = second.request(0) => {}
    }
    still_waits(&mut call).await;
    gate.open();
    assert_eq!(told(&testkit::patiently("the first", call).await), (200, "a/x", "2"));
    assert!(has(&world, "vouchgate_hedges_total{model=\"fast\",result=\"failed\"} 1"));

    // The first fails while the second is asked: the second's answer is awaited.
    let (gate, first, second, world) = slow("", SOON).await;
    let (held, slow_failure) = (Gate::closed(), Gate::closed());
    first.push(Answer::json(500, &error("down")).hold_head(&slow_failure));
    second.push(Answer::json(200, &completion("second")).hold_head(&held));
    let call = world.post("/v1/chat/completions", &asked);
    tokio::pin!(call);
    tokio::select! {
        _ = &mut call => panic!("nobody answers yet"),
        _ = second.request(0) => {}
    }
    slow_failure.open();
    still_waits(&mut call).await;
    held.open();
    assert_eq!(told(&testkit::patiently("the second", call).await), (200, "b/y", "2"));
    assert!(has(&world, "vouchgate_hedges_total{model=\"fast\",result=\"won\"} 1"));
    gate.open();
}

#[tokio::test]
async fn when_both_fail_the_next_attempt_is_one_like_any_other() {
    let held = Gate::closed();
    let (first, second) = (Mock::start().await, Mock::start().await);
    let config = |attempts: u32| {
        let lines = format!("{SOON}\nretry = {{ attempts = {attempts} }}");
        format!("{}{}{}", provider("a", &first, ""), provider("b", &second, ""), model(&lines))
    };
    let world = World::new(&config(3));
    first.push(Answer::json(500, &error("first is down")).hold_head(&held));
    second.push(Answer::json(503, &error("second is down")));
    first.push(Answer::json(200, &completion("well again")));
    second.push(Answer::json(200, &completion("well again")));
    let asked = ask();
    let call = world.post("/v1/chat/completions", &asked);
    tokio::pin!(call);
    tokio::select! {
        _ = &mut call => panic!("nobody answers yet"),
        _ = second.request(0) => {}
    }
    still_waits(&mut call).await;
    held.open();
    let answer = testkit::patiently("an answer", call).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-vouchgate-attempts")), (200, "3"));
    // With no attempt left the caller hears what was said.
    let world = World::new(&config(2));
    let held = Gate::closed();
    first.forget();
    second.forget();
    first.push(Answer::json(500, &error("first is down")).hold_head(&held));
    second.push(Answer::json(503, &error("second is down")));
    let before = second.count();
    let call = world.post("/v1/chat/completions", &asked);
    tokio::pin!(call);
    tokio::select! {
        _ = &mut call => panic!("nobody answers yet"),
        _ = second.request(before) => {}
    }
    held.open();
    let answer = testkit::patiently("an answer", call).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-vouchgate-attempts")), (503, "2"));
    assert!(answer.text().contains("second is down"), "{}", answer.text());
}

#[tokio::test]
async fn a_caller_that_goes_takes_both_calls_along() {
    let (_gate, first, second, world) = slow("concurrency = 1", SOON).await;
    second.push(Answer::json(200, &completion("second")).hold_head(&Gate::closed()));
    let asked = ask();
    let mut call = Box::pin(world.post("/v1/chat/completions", &asked));
    let beside = tokio::select! {
        _ = &mut call => panic!("nobody answers yet"),
        beside = second.request(0) => beside,
    };
    drop(call);
    let asked_first = first.request(0).await;
    for call in [asked_first, beside] {
        assert_eq!(call.settled().await, Outcome::Dropped);
    }
    for line in [
        "vouchgate_hedges_total{model=\"fast\",result=\"gone\"} 1",
        "vouchgate_target_active{provider=\"a\",model=\"x\"} 0",
        "vouchgate_target_active{provider=\"b\",model=\"y\"} 0",
        "vouchgate_breaker_state{provider=\"a\",key=\"none\"} 0",
        "vouchgate_breaker_state{provider=\"b\",key=\"none\"} 0",
    ] {
        assert!(has(&world, line));
    }
    assert_eq!(world.record().error.as_deref(), Some("client_gone"));
}

#[tokio::test]
async fn a_loser_gives_back_its_place_and_a_breakers_only_probe() {
    let (gate, first, second, world) =
        slow("concurrency = 1\nqueue = { size = 0 }\nbreaker = { consecutive = 1, open_for = \"10s\" }", SOON).await;
    first.push(Answer::json(500, &error("down")));
    assert_eq!(told(&chat(&world).await).1, "b/y");
    world.clock.advance(Duration::from_secs(10));
    assert!(has(&world, "vouchgate_breaker_state{provider=\"a\",key=\"none\"} 1"));
    // The probe takes long and loses: it has found out nothing, and holds nothing.
    for _ in 0..3 {
        let before = first.count();
        assert_eq!(told(&chat(&world).await), (200, "b/y", "2"));
        assert_eq!(first.count(), before + 1, "each time the next request is the probe");
        assert!(has(&world, "vouchgate_breaker_state{provider=\"a\",key=\"none\"} 1"));
    }
    gate.open();
    assert_eq!(told(&chat(&world).await), (200, "a/x", "1"), "its place is free");
    assert!(has(&world, "vouchgate_breaker_state{provider=\"a\",key=\"none\"} 0"));
    assert!(second.count() >= 4);
}

#[tokio::test]
async fn no_more_than_the_budgets_share_asks_two() {
    let first = Mock::start_with(|_| Answer::json(200, &completion("first")).hold_head(&Gate::closed())).await;
    let second = Mock::start_with(|_| Answer::json(200, &completion("second"))).await;
    let lines =
        "hedge = { after = \"20ms\", budget = 1 }\ntimeout = { first_byte = \"500ms\" }\nretry = { attempts = 2 }";
    let config = format!(
        "{}{}{}",
        provider("a", &first, "breaker = { enabled = false }"),
        provider("b", &second, ""),
        model(lines)
    );
    let world = World::new(&config);
    for _ in 0..15 {
        assert_eq!(told(&chat(&world).await), (200, "b/y", "2"));
    }
    // Ten at once are saved up; then the first is waited for, fails, and the second is asked after it.
    assert!(has(&world, "vouchgate_hedges_total{model=\"fast\",result=\"won\"} 10"));
    assert!(has(&world, "vouchgate_hedges_total{model=\"fast\",result=\"over_budget\"} 5"));
    assert!(has(&world, "vouchgate_upstream_attempts_total{provider=\"a\",result=\"first_byte_timeout\"} 5"));
    assert!(has(&world, "vouchgate_upstream_cancelled_total{provider=\"a\"} 10"));
}

#[tokio::test]
async fn what_may_be_kept_or_done_twice_is_asked_of_one_at_a_time() {
    let gate = Gate::closed();
    let held = gate.clone();
    let first = Mock::start_with(move |_| Answer::json(200, &completion("first")).hold_head(&held)).await;
    let second = Mock::start().await;
    let openai = |name: &str, mock: &Mock| {
        provider(name, mock, "api_key = { env = \"K\" }").replace("openai-compatible", "openai")
    };
    let world = World::new(&format!("{}{}{}", openai("a", &first), openai("b", &second), model(SOON)));
    let chat = |more: Value| {
        let mut body = ask();
        for (name, value) in more.as_object().expect("members") {
            body[name] = value.clone();
        }
        ("/v1/chat/completions", body)
    };
    let asked = [
        chat(json!({"store": true})),
        chat(json!({"web_search_options": {}})),
        chat(json!({"tools": [{"type": "mcp", "server_url": "https://x.example"}]})),
        ("/v1/responses", json!({"model": "fast", "input": "hi"})),
        (
            "/v1/responses",
            json!({"model": "fast", "input": "hi", "store": false, "tools": [{"type": "code_interpreter"}]}),
        ),
    ];
    for (at, (path, body)) in asked.iter().enumerate() {
        let mut call = Box::pin(world.post(path, body));
        tokio::select! {
            answer = &mut call => panic!("{}", answer.text()),
            _ = first.request(at) => {}
        }
        let beside = tokio::time::timeout(Duration::from_millis(80), async {
            tokio::select! {
                _ = &mut call => {}
                _ = second.request(0) => {}
            }
        });
        assert!(beside.await.is_err(), "{body}: nobody else is asked");
    }
    assert_eq!(second.count(), 0);
    gate.open();
}

#[tokio::test]
async fn the_same_key_is_asked_twice_only_where_it_is_said_so() {
    let gate = Gate::closed();
    let held = gate.clone();
    let only = Mock::start_with(move |received| match received.json()["model"].as_str() {
        Some("x") => Answer::json(200, &completion("first")).hold_head(&held),
        _ => Answer::json(200, &completion("second")),
    })
    .await;
    let config = |keys: &str, hedge: &str| {
        format!(
            "{}[[model]]\nname = \"fast\"\ntargets = [{{ provider = \"a\", model = \"x\" }}, {{ provider = \"a\", model = \"y\" }}]\n\
             hedge = {{ after = \"20ms\"{hedge} }}\n[[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n",
            provider("a", &only, keys)
        )
    };
    let two = "keys = [{ name = \"main\", api_key = { env = \"K\" } }, { name = \"spare\", api_key = { env = \"L\" }, priority = 1 }]";
    let world = World::new(&config(two, ""));
    assert_eq!(told(&chat(&world).await), (200, "a/y", "2"));
    let keys: Vec<String> =
        only.requests().iter().map(|call| call.header("authorization").unwrap_or_default().to_owned()).collect();
    assert_eq!(keys.len(), 2);
    assert!(keys[0].ends_with("-main") && keys[1].ends_with("-spare"), "{keys:?}");
    let world = World::new(&config("", ", same_key = true"));
    assert_eq!(told(&chat(&world).await), (200, "a/y", "2"));
    gate.open();
}

#[tokio::test]
async fn a_percentile_asks_nobody_else_until_enough_is_known() {
    let (gate, first, second, world) = slow("", "hedge = { after = \"p95\" }").await;
    gate.open();
    for _ in 0..20 {
        assert_eq!(told(&chat(&world).await), (200, "a/x", "1"));
    }
    let never = Gate::closed();
    first.push(Answer::json(200, &completion("first")).hold_head(&never));
    assert_eq!(told(&chat(&world).await), (200, "b/y", "2"));
    assert_eq!(second.count(), 1);
}
