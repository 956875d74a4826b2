//! Copies of requests for targets that nobody hears.

use serde_json::{Value, json};
use testkit::mock::{Answer, Gate, Mock, Outcome};

use crate::harness::World;

fn completion(content: &str) -> Value {
    json!({"id": "c1", "object": "chat.completion", "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 5},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]})
}

fn provider(name: &str, mock: &Mock, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"{name}\"\nkind = \"openai\"\nbase_url = \"{}/v1\"\nallow_private = true\napi_key = {{ env = \"K\" }}\n{more}\n",
        mock.url()
    )
}

/// Two providers, the second of which gets a copy of every request.
async fn shadowed(shadow: &Mock, more: &str, policy: &str) -> (Mock, World) {
    let first = Mock::start_with(|_| Answer::json(200, &completion("first"))).await;
    let config = format!(
        "{}{}[[model]]\nname = \"fast\"\ntargets = [{{ provider = \"a\", model = \"x\" }}, {{ provider = \"b\", model = \"y\", shadow = 1 }}]\n\
         [[model]]\nname = \"other\"\ntargets = [{{ provider = \"b\", model = \"z\" }}]\nretry = {{ attempts = 1 }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n{policy}\n",
        provider("a", &first, ""),
        provider("b", shadow, more)
    );
    (first, World::new(&config))
}

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

async fn chat(world: &World, model: &str) -> crate::harness::Answer {
    testkit::patiently("an answer", world.post("/v1/chat/completions", &ask(model))).await
}

/// Wait until the metrics have this line.
async fn comes(world: &World, line: &str) {
    testkit::patiently(line, async {
        while !world.metrics().contains(line) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn counted(result: &str, times: usize) -> String {
    format!("vouchgate_shadow_total{{model=\"fast\",target=\"b/y\",result=\"{result}\"}} {times}\n")
}

#[tokio::test]
async fn a_shadow_gets_a_copy_and_its_answer_is_measured_and_forgotten() {
    let shadow = Mock::start_with(|_| Answer::json(200, &completion("nobody hears this"))).await;
    let (first, world) = shadowed(&shadow, "", "").await;
    let answer = chat(&world, "fast").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-vouchgate-target")), (200, "a/x"));
    assert_eq!(answer.header("x-vouchgate-attempts"), "1");
    comes(&world, &counted("ok", 1)).await;
    let (original, copy) = (first.request(0).await, shadow.request(0).await);
    assert_eq!(copy.json(), json!({"model": "y", "messages": original.json()["messages"]}));
    assert_eq!(copy.header("authorization"), original.header("authorization"), "the provider's key, not the caller's");
    assert!(!answer.text().contains("nobody hears"));
    let metrics = world.metrics();
    for line in [
        "vouchgate_shadow_tokens_total{direction=\"output\",target=\"b/y\"} 5",
        "vouchgate_shadow_duration_seconds_count{model=\"fast\",target=\"b/y\"} 1",
        "vouchgate_tokens_total{direction=\"output\",provider=\"a\",model=\"fast\"} 5",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    assert!(!metrics.contains("vouchgate_upstream_attempts_total{provider=\"b\""), "{metrics}");
    assert!(!metrics.contains("vouchgate_tokens_total{direction=\"output\",provider=\"b\""), "{metrics}");
    assert_eq!(world.records.0.lock().unwrap().len(), 1, "one request, one record");
    // Another dialect, and a stream.
    let chunk = |delta: Value| json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta}]});
    let stream =
        Answer::openai_stream(&[chunk(json!({"role": "assistant", "content": ""})), chunk(json!({"content": "x"}))]);
    first.push(stream.clone());
    shadow.push(stream);
    let body =
        json!({"model": "fast", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let answer = testkit::patiently("a stream", world.post("/v1/messages", &body)).await;
    assert!(answer.text().contains("message_stop"), "{}", answer.text());
    comes(&world, &counted("ok", 2)).await;
    assert_eq!(shadow.request(1).await.json()["stream"], true);
}

#[tokio::test]
async fn embeddings_are_copied_in_both_forms_and_pictures_are_not() {
    let made = json!({"object": "list", "model": "e", "data": [{"index": 0, "object": "embedding", "embedding": [0.5, 1.0]}],
        "usage": {"prompt_tokens": 4, "total_tokens": 4}});
    let shadow = Mock::start_with({
        let made = made.clone();
        move |_| Answer::json(200, &made)
    })
    .await;
    let (first, world) = shadowed(&shadow, "", "").await;
    let google = "/v1beta/models/fast:embedContent";
    let asked = [
        ("/v1/embeddings", json!({"model": "fast", "input": "hi"})),
        (google, json!({"content": {"parts": [{"text": "hi"}]}})),
    ];
    for (at, (path, body)) in asked.iter().enumerate() {
        first.push(Answer::json(200, &made));
        let answer = testkit::patiently("embeddings", world.post(path, body)).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-vouchgate-target")), (200, "a/x"), "{}", answer.text());
        comes(&world, &counted("ok", at + 1)).await;
        let copy = shadow.request(at).await;
        assert_eq!((copy.path(), &copy.json()["model"]), ("/v1/embeddings", &json!("y")), "{path}");
        assert!(copy.json()["input"].to_string().contains("hi"), "{path}");
    }
    let pictures = json!({"created": 1, "data": [{"b64_json": "aGk="}]});
    first.push(Answer::json(200, &pictures));
    let body = json!({"model": "fast", "prompt": "a cat"});
    let answer = testkit::patiently("pictures", world.post("/v1/images/generations", &body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    comes(&world, &counted("unfit", 1)).await;
    assert_eq!(shadow.count(), asked.len());
}

#[tokio::test]
async fn whatever_a_shadow_does_nobody_else_notices() {
    let shadow = Mock::start_with(|_| Answer::json(200, &completion("well"))).await;
    let (_first, world) = shadowed(&shadow, "breaker = { consecutive = 1 }", "").await;
    let error = json!({"error": {"message": "no", "type": "x", "code": "insufficient_quota"}});
    let large = Answer::json(200, &completion("x")).repeat(1 << 20);
    for (at, (answer, result)) in [
        (Answer::json(500, &error), "provider_error"),
        (Answer::json(401, &error), "provider_key_refused"),
        (Answer::json(429, &error).header("retry-after", "3600"), "provider_error"),
        (Answer::nothing(), "upstream_closed"),
        (Answer::bytes(200, "text/html", "<html>"), "upstream_invalid_stream"),
        (large, "upstream_too_large"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = world.metrics();
        let line = format!("vouchgate_shadow_total{{model=\"fast\",target=\"b/y\",result=\"{result}\"}}");
        let count = |metrics: &str| {
            metrics.lines().find_map(|l| l.strip_prefix(&line)?.trim().parse::<u32>().ok()).unwrap_or(0)
        };
        shadow.push(answer);
        assert_eq!(chat(&world, "fast").await.header("x-vouchgate-target"), "a/x");
        testkit::patiently(result, async {
            while count(&world.metrics()) == count(&before) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(shadow.count(), 2 * at + 1);
        // The same provider with the same key, for somebody's answer.
        assert_eq!(chat(&world, "other").await.status, 200, "{result}");
    }
    assert!(
        world.metrics().contains("vouchgate_breaker_state{provider=\"b\",key=\"default\"} 0"),
        "{}",
        world.metrics()
    );
    assert!(world.left_alone().is_empty());
}

#[tokio::test]
async fn a_stream_without_end_is_given_up_and_one_that_hangs_ends_with_the_server() {
    let shadow = Mock::start().await;
    let (first, world) = shadowed(&shadow, "", "").await;
    let chunk = |content: &str| json!({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": content}}]});
    let event = |content: &str| format!("data: {}\n\n", chunk(content));
    // 128 MiB of it.
    shadow.push(Answer::sse(event(&"x".repeat(128 << 10))).repeat(1 << 10));
    first.push(Answer::sse(format!("{}data: [DONE]\n\n", event("x"))));
    let body = json!({"model": "fast", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let answer = testkit::patiently("a stream", world.post("/v1/chat/completions", &body)).await;
    assert_eq!(answer.status, 200);
    comes(&world, &counted("upstream_too_large", 1)).await;
    shadow.push(Answer::json(200, &completion("x")).hold_head(&Gate::closed()));
    assert_eq!(chat(&world, "fast").await.status, 200);
    let hangs = shadow.request(1).await;
    assert_eq!(hangs.outcome(), Outcome::Open);
    world.drain.send_replace(true);
    comes(&world, &counted("draining", 1)).await;
    assert_eq!(hangs.settled().await, Outcome::Dropped);
}

#[tokio::test]
async fn where_there_is_no_room_there_is_no_copy_and_callers_hold_no_places_for_them() {
    let never = Gate::closed();
    let held = never.clone();
    let shadow = Mock::start_with(move |_| Answer::json(200, &completion("x")).hold_head(&held)).await;
    let (_first, world) = shadowed(&shadow, "", "rate = [{ concurrent = 1, per = \"subject\" }]").await;
    for _ in 0..35 {
        // The copy of the last one is still under way.
        assert_eq!(chat(&world, "fast").await.status, 200);
    }
    comes(&world, &counted("full", 3)).await;
    shadow.request(31).await;
    assert_eq!(shadow.count(), 32);
    never.open();
    comes(&world, &counted("ok", 32)).await;
    assert_eq!(chat(&world, "fast").await.status, 200);
    comes(&world, &counted("ok", 33)).await;
}

#[tokio::test]
async fn a_shadow_gives_its_place_to_whoever_wants_it() {
    let shadow = Mock::start_with(|_| Answer::json(200, &completion("heard"))).await;
    let (_first, world) = shadowed(&shadow, "concurrency = 1\nqueue = { size = 0 }", "").await;
    shadow.push(Answer::json(200, &completion("x")).hold_head(&Gate::closed()));
    assert_eq!(chat(&world, "fast").await.status, 200);
    let copy = shadow.request(0).await;
    // The one place is the copy's: another copy finds none, a caller does.
    assert_eq!(chat(&world, "fast").await.status, 200);
    comes(&world, &counted("provider_queue_full", 1)).await;
    let answer = chat(&world, "other").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-vouchgate-target")), (200, "b/z"));
    assert_eq!(copy.settled().await, Outcome::Dropped);
    comes(&world, &counted("yielded", 1)).await;
}

#[tokio::test]
async fn what_would_be_kept_or_done_and_what_failed_is_not_copied() {
    let shadow = Mock::start_with(|_| Answer::json(200, &completion("x"))).await;
    let (first, world) = shadowed(&shadow, "", "").await;
    let mut stored = ask("fast");
    stored["store"] = json!(true);
    let mut searches = ask("fast");
    searches["web_search_options"] = json!({});
    for body in [stored, searches] {
        assert_eq!(world.post("/v1/chat/completions", &body).await.status, 200);
    }
    let response = json!({"object": "response", "id": "resp_1", "output": [], "status": "completed"});
    first.push(Answer::json(200, &response));
    assert_eq!(world.post("/v1/responses", &json!({"model": "fast", "input": "hi"})).await.status, 200);
    comes(&world, &counted("unfit", 3)).await;
    first.push(Answer::json(400, &json!({"error": {"message": "no"}})));
    assert_eq!(chat(&world, "fast").await.status, 400);
    assert_eq!(shadow.count(), 0);
}
