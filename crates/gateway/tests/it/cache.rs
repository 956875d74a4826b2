//! Answers that are kept, and who gets them.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::mock::{Answer, Gate, Mock, Received};

use crate::harness::{self, World, piece, read};

/// A provider that never answers the same twice.
async fn provider() -> Mock {
    let count = AtomicUsize::new(0);
    Mock::start_with(move |request| answer(request, count.fetch_add(1, Ordering::SeqCst))).await
}

fn answer(request: &Received, count: usize) -> Answer {
    let asked = request.json();
    if request.path().ends_with("/embeddings") {
        return embedding(asked["input"].as_str().unwrap_or_default());
    }
    let text = format!("answer {count}");
    match (request.path().ends_with("/messages"), asked["stream"] == true) {
        (true, true) => Answer::anthropic_stream(&[
            json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "c",
                "content": [], "stop_reason": null, "usage": {"input_tokens": 3, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
            json!({"type": "message_stop"}),
        ]),
        (true, false) => Answer::json(
            200,
            &json!({"id": "m", "type": "message", "role": "assistant", "model": "c", "stop_reason": "end_turn",
                "content": [{"type": "text", "text": text}], "usage": {"input_tokens": 3, "output_tokens": 2}}),
        ),
        (false, true) => stream(&text).pieces(11),
        (false, false) => Answer::json(200, &completion(&text, "stop")),
    }
}

fn completion(text: &str, finish: &str) -> Value {
    json!({"id": "c", "object": "chat.completion", "created": 1, "model": "big", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}})
}

fn stream(text: &str) -> Answer {
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "big",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    Answer::openai_stream(&[chunk(json!({"content": text}), Value::Null), chunk(json!({}), json!("stop"))])
}

/// Near each other as their first letters are.
fn embedding(text: &str) -> Answer {
    let vector = match text.split_whitespace().next() {
        Some("how") => [1.0, 0.0],
        Some("hou") => [0.97, 0.243],
        _ => [0.0, 1.0],
    };
    Answer::json(
        200,
        &json!({"object": "list", "model": "e", "data": [{"index": 0, "embedding": vector}],
        "usage": {"prompt_tokens": 4, "total_tokens": 4}}),
    )
}

fn config(mock: &Mock, kind: &str, cache: &str) -> String {
    let base = if kind == "anthropic" { mock.url() } else { format!("{}/v1", mock.url()) };
    format!(
        "[[provider]]\nname = \"p\"\nkind = \"{kind}\"\nbase_url = \"{base}\"\nallow_private = true\n\
         [[model]]\nname = \"kept\"\ntargets = [{{ provider = \"p\", model = \"big\" }}]\nretry = {{ attempts = 1 }}\n\
         cache = {{ ttl = \"40s\"{cache} }}\n\
         [[model]]\nname = \"other\"\ntargets = [{{ provider = \"p\", model = \"big\" }}]\ncache = {{ ttl = \"10m\" }}\n\
         [[model]]\nname = \"fresh\"\ntargets = [{{ provider = \"p\", model = \"big\" }}]\n\
         [[policy]]\nname = \"tools\"\nwho = {{ client = \"tools\" }}\nmay = {{ models = [\"*\"] }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n"
    )
}

fn world(mock: &Mock, cache: &str) -> World {
    World::new(&config(mock, "openai-compatible", cache))
}

fn ask(text: &str) -> Value {
    json!({"model": "kept", "messages": [{"role": "user", "content": text}]})
}

async fn chat(world: &World, body: &Value) -> harness::Answer {
    world.post("/v1/chat/completions", body).await
}

fn told(answer: &harness::Answer) -> (String, String) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    (answer.header("x-vouchgate-cache").to_owned(), answer.json()["choices"][0]["message"]["content"].to_string())
}

fn pair(cache: &str, text: &str) -> (String, String) {
    (cache.to_owned(), format!("\"{text}\""))
}

#[tokio::test]
async fn the_same_request_is_asked_once_until_its_time_is_over() {
    let mock = provider().await;
    let world = world(&mock, "");
    let first = chat(&world, &ask("hi")).await;
    assert_eq!(told(&first), pair("miss", "answer 0"));
    world.clock.advance(std::time::Duration::from_secs(7));
    let again = chat(&world, &ask("hi")).await;
    assert_eq!(told(&again), pair("hit", "answer 0"));
    assert_eq!((&again.body, again.header("age")), (&first.body, "7"));
    assert_ne!(again.headers["x-request-id"], first.headers["x-request-id"]);
    let record = world.record();
    assert_eq!((record.input_tokens, record.output_tokens, record.provider), (Some(0), Some(0), None));
    world.clock.advance(std::time::Duration::from_secs(33));
    assert_eq!(told(&chat(&world, &ask("hi")).await), pair("miss", "answer 1"));
    assert_eq!(mock.count(), 2);
    let metrics = world.metrics();
    for line in [
        "vouchgate_cache_total{model=\"kept\",result=\"hit\"} 1",
        "vouchgate_cache_total{model=\"kept\",result=\"miss\"} 2",
        "vouchgate_requests_total{route=\"chat\",provider=\"cache\",model=\"kept\",outcome=\"ok\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    let fresh = json!({"model": "fresh", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(told(&chat(&world, &fresh).await), pair("", "answer 2"));
}

#[tokio::test]
async fn white_space_and_member_order_do_not_matter_and_everything_else_does() {
    let mock = provider().await;
    let world = world(&mock, "");
    let bearer = format!("Bearer {}", world.token("alice"));
    let send = async |body: &str| {
        let answer = world.send("POST", "/v1/chat/completions", &[("authorization", &bearer)], body.to_owned()).await;
        answer.header("x-vouchgate-cache").to_owned()
    };
    let first = r#"{"model":"kept","messages":[{"role":"user","content":"hé"}],"temperature":0}"#;
    assert_eq!(send(first).await, "miss");
    let spaced =
        "{ \"temperature\" :0,\n\"messages\" : [ {\"content\":\"h\\u00e9\", \"role\":\"user\"} ],\t\"model\":\"kept\"}";
    assert_eq!(send(spaced).await, "hit");
    for other in [
        r#"{"model":"kept","messages":[{"role":"user","content":"h"}],"temperature":0}"#,
        r#"{"model":"kept","messages":[{"role":"user","content":"hé"}],"temperature":1}"#,
        r#"{"model":"kept","messages":[{"role":"user","content":"hé"}],"temperature":0,"seed":1}"#,
        r#"{"model":"kept","messages":[{"role":"user","content":"hé"}],"temperature":0,"x_unknown":1}"#,
        r#"{"model":"kept","messages":[{"role":"system","content":"hé"}],"temperature":0}"#,
        r#"{"model":"kept","messages":[{"role":"user","content":"hé"}],"temperature":0,"max_tokens":5}"#,
        r#"{"model":"kept","messages":[{"role":"user","content":"hé"}],"temperature":0,"tools":[{"type":"function","function":{"name":"f"}}]}"#,
        r#"{"model":"other","messages":[{"role":"user","content":"hé"}],"temperature":0}"#,
    ] {
        assert_eq!(send(other).await, "miss", "{other}");
    }
}

#[tokio::test]
async fn callers_of_one_policy_share_answers_and_no_others_do() {
    let mock = provider().await;
    let world = world(&mock, "");
    assert_eq!(told(&chat(&world, &ask("hi")).await), pair("miss", "answer 0"));
    let bob = world.post_as("bob", "/v1/chat/completions", &ask("hi")).await;
    assert_eq!(told(&bob), pair("hit", "answer 0"));
    let token = format!("Bearer {}", world.token_with(&json!({"client_id": "tools"})));
    let headers = [("authorization", token.as_str())];
    let tools = world.send("POST", "/v1/chat/completions", &headers, ask("hi").to_string()).await;
    assert_eq!(told(&tools), pair("miss", "answer 1"));
    let nobody = world.send("POST", "/v1/chat/completions", &[], ask("hi").to_string()).await;
    assert_eq!(nobody.status, 401);
}

#[tokio::test]
async fn what_decides_which_target_answers_decides_whose_answer_it_is() {
    let mock = provider().await;
    let target = "{ provider = \"p\", model = \"big\" }";
    let first = "{ provider = \"p\", model = \"gold\", when = { header = { x-tier = \"gold\" }, client = [\"app\"] } }";
    let config =
        config(&mock, "openai-compatible", "").replacen(&format!("[{target}]"), &format!("[{first}, {target}]"), 1);
    let world = World::new(&config);
    let token = format!("Bearer {}", world.token("alice"));
    for (tier, expected) in [("gold", "miss"), ("gold", "hit"), ("tin", "miss"), ("tin", "hit"), ("gold", "hit")] {
        let headers = [("authorization", token.as_str()), ("x-tier", tier)];
        let answer = world.send("POST", "/v1/chat/completions", &headers, ask("hi").to_string()).await;
        assert_eq!(told(&answer).0, expected, "{tier}");
    }
    let other = format!("Bearer {}", world.token_with(&json!({"client_id": "another"})));
    let headers = [("authorization", other.as_str()), ("x-tier", "gold")];
    let answer = world.send("POST", "/v1/chat/completions", &headers, ask("hi").to_string()).await;
    assert_eq!(told(&answer).0, "miss");
    let models: Vec<Value> = mock.requests().iter().map(|request| request.json()["model"].clone()).collect();
    assert_eq!(models, ["gold", "big", "big"]);
}

#[tokio::test]
async fn callers_may_each_have_answers_of_their_own() {
    let mock = provider().await;
    let world = world(&mock, ", scope = \"subject\"");
    assert_eq!(told(&chat(&world, &ask("hi")).await), pair("miss", "answer 0"));
    assert_eq!(told(&world.post_as("bob", "/v1/chat/completions", &ask("hi")).await), pair("miss", "answer 1"));
    let bearer = format!("Bearer {}", harness::API_KEY);
    assert_eq!(told(&chat(&world, &ask("hi")).await), pair("hit", "answer 0"));
    let keyed = world.send("POST", "/v1/chat/completions", &[("authorization", &bearer)], ask("hi").to_string()).await;
    assert_ne!(keyed.header("x-vouchgate-cache"), "hit");
}

#[tokio::test]
async fn no_answer_outlives_what_let_its_caller_in_or_a_change_of_the_configuration() {
    let mock = provider().await;
    let world = world(&mock, "");
    assert_eq!(told(&chat(&world, &ask("hi")).await), pair("miss", "answer 0"));
    let changed = config(&mock, "openai-compatible", "")
        .replace("may = { models = [\"*\"] }", "may = { models = [\"*\"], max_output_tokens = 9 }");
    world.reload(&changed);
    assert_eq!(told(&chat(&world, &ask("hi")).await), pair("miss", "answer 1"));
    assert_eq!(told(&chat(&world, &ask("hi")).await), pair("hit", "answer 1"));
    world.revoked.subject("alice");
    assert_eq!(chat(&world, &ask("hi")).await.status, 401);
    let refused =
        config(&mock, "openai-compatible", "").replace("may = { models = [\"*\"] }", "may = { models = [\"fresh\"] }");
    world.reload(&refused);
    assert_eq!(world.post_as("bob", "/v1/chat/completions", &ask("hi")).await.status, 403);
}

#[tokio::test]
async fn all_answers_are_forgotten_at_once_also_those_on_their_way() {
    let gate = Gate::closed();
    let mock = provider().await;
    let world = world(&mock, "");
    chat(&world, &ask("hi")).await;
    mock.push(Answer::json(200, &completion("before", "stop")).hold_head(&gate));
    let body = ask("slow");
    let forget = async {
        mock.request(1).await;
        world.gateway.forget_answers();
        gate.open();
    };
    let (slow, ()) = tokio::join!(chat(&world, &body), forget);
    assert_eq!(told(&slow), pair("miss", "before"));
    for text in ["hi", "slow"] {
        assert_eq!(told(&chat(&world, &ask(text)).await).0, "miss", "{text}");
    }
}

#[tokio::test]
async fn rates_count_what_is_answered_from_the_cache_too() {
    let mock = provider().await;
    let limited = config(&mock, "openai-compatible", "").replace(
        "[[policy]]\nname = \"all\"\n",
        "[[policy]]\nname = \"all\"\nrate = [{ requests = 2, per = \"subject\", window = \"1m\" }]\n",
    );
    let world = World::new(&limited);
    assert_eq!(told(&chat(&world, &ask("hi")).await).0, "miss");
    assert_eq!(told(&chat(&world, &ask("hi")).await).0, "hit");
    let third = chat(&world, &ask("hi")).await;
    assert_eq!((third.status.as_u16(), third.code().as_str()), (429, "rate_limited"));
}

#[tokio::test]
async fn a_stream_is_kept_as_it_went_out_and_given_again_as_a_stream() {
    let mock = provider().await;
    let world = world(&mock, "");
    let mut body = ask("hi");
    body["stream"] = json!(true);
    let first = chat(&world, &body).await;
    assert_eq!(first.header("x-vouchgate-cache"), "miss");
    let again = chat(&world, &body).await;
    assert_eq!((again.header("x-vouchgate-cache"), &again.body), ("hit", &first.body));
    assert!(again.header("content-type").starts_with("text/event-stream"), "{:?}", again.headers);
    assert!(again.text().ends_with("data: [DONE]\n\n"));
    let record = world.record();
    assert_eq!((record.stream, record.input_tokens, record.error), (true, Some(0), None));
    // Whole answers and streams are kept apart.
    assert_eq!(told(&chat(&world, &ask("hi")).await), pair("miss", "answer 1"));
}

#[tokio::test]
async fn what_is_translated_is_kept_as_its_caller_got_it() {
    let mock = provider().await;
    let world = World::new(&config(&mock, "anthropic", ""));
    for stream in [false, true] {
        let mut body = ask("hi");
        body["stream"] = json!(stream);
        let first = chat(&world, &body).await;
        let again = chat(&world, &body).await;
        assert_eq!((first.header("x-vouchgate-cache"), again.header("x-vouchgate-cache")), ("miss", "hit"), "{stream}");
        assert_eq!(again.body, first.body);
    }
    let messages = json!({"model": "kept", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    for (path, body) in [
        ("/v1/messages", &messages),
        ("/v1beta/models/kept:generateContent", &gemini),
        ("/v1beta/models/kept:streamGenerateContent", &gemini),
        ("/v1beta/models/kept:streamGenerateContent?alt=sse", &gemini),
    ] {
        let first = world.post(path, body).await;
        let again = world.post(path, body).await;
        let of = |answer: &harness::Answer| answer.header("x-vouchgate-cache").to_owned();
        // An array and events are two forms of the same stream.
        let expected = if path.ends_with("sse") { "hit" } else { "miss" };
        assert_eq!((of(&first).as_str(), of(&again).as_str()), (expected, "hit"), "{path}");
        assert_eq!(again.body, first.body, "{path}");
        assert_eq!(again.headers["content-type"], first.headers["content-type"]);
    }
    let versions = [("anthropic-beta", "a"), ("anthropic-beta", "b")];
    let token = format!("Bearer {}", world.token("alice"));
    for version in versions {
        let headers = [("authorization", token.as_str()), version];
        let answer = world.send("POST", "/v1/messages", &headers, messages.to_string()).await;
        assert_eq!(answer.header("x-vouchgate-cache"), "miss", "{version:?}");
    }
}

#[tokio::test]
async fn only_whole_answers_that_went_well_are_kept() {
    let mock = provider().await;
    let world = world(&mock, "");
    let bad = [
        Answer::json(500, &json!({"error": {"message": "no"}})),
        Answer::json(400, &json!({"error": {"message": "no"}})),
        Answer::json(200, &json!({"error": {"message": "no"}})),
        Answer::json(200, &completion("I will not", "content_filter")),
        Answer::json(200, &json!({"id": "c", "choices": []})),
    ];
    for (n, answer) in bad.into_iter().enumerate() {
        mock.push(answer);
        chat(&world, &ask("hi")).await;
        assert_eq!(told(&chat(&world, &ask("hi")).await), pair("miss", &format!("answer {n}")));
        // Away with what was kept now.
        world.clock.advance(std::time::Duration::from_secs(41));
    }
    let mut body = ask("streamed");
    body["stream"] = json!(true);
    for answer in [
        stream("cut").cut_after(150),
        Answer::sse("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n"),
        Answer::sse(
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"content_filter\"}]}\n\ndata: [DONE]\n\n",
        ),
        Answer::sse(
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"error\":{\"message\":\"no\"}}\n\n",
        ),
    ] {
        mock.push(answer);
        let first = chat(&world, &body).await;
        assert_eq!(first.header("x-vouchgate-cache"), "miss", "{}", first.text());
    }
    assert_eq!(chat(&world, &body).await.header("x-vouchgate-cache"), "miss");
    assert_eq!(chat(&world, &body).await.header("x-vouchgate-cache"), "hit");
}

#[tokio::test]
async fn a_stream_whose_client_goes_is_not_kept() {
    let gate = Gate::closed();
    let mock = provider().await;
    mock.push(stream("first").hold_pieces(&gate).pieces(60));
    let world = world(&mock, "");
    let mut body = ask("hi");
    body["stream"] = json!(true);
    gate.step(3);
    let mut response = world.open("/v1/chat/completions", &body).await.into_body();
    piece(&mut response).await;
    drop(response);
    let again = chat(&world, &body).await;
    assert_eq!(again.header("x-vouchgate-cache"), "miss");
    assert!(again.text().contains("answer 0") && !again.text().contains("first"));
}

#[tokio::test]
async fn a_caller_may_ask_for_less_than_it_would_get() {
    let mock = provider().await;
    let world = world(&mock, "");
    let token = format!("Bearer {}", world.token("alice"));
    let send = async |control: &str| {
        let headers = [("authorization", token.as_str()), ("cache-control", control)];
        told(&world.send("POST", "/v1/chat/completions", &headers, ask("hi").to_string()).await)
    };
    assert_eq!(send("no-store").await, pair("bypass", "answer 0"));
    assert_eq!(send("max-age=60").await, pair("miss", "answer 1"));
    assert_eq!(send("no-store").await, pair("bypass", "answer 2"));
    world.clock.advance(std::time::Duration::from_secs(30));
    assert_eq!(send("max-age=60").await, pair("hit", "answer 1"));
    assert_eq!(send("max-age=20").await, pair("miss", "answer 3"));
    assert_eq!(send("no-cache").await, pair("miss", "answer 4"));
    assert_eq!(send("private").await, pair("hit", "answer 4"));
}

#[tokio::test]
async fn requests_with_effects_are_neither_looked_for_nor_kept() {
    let mock = provider().await;
    let world = world(&mock, "");
    for (name, value) in [
        ("store", json!(true)),
        ("n", json!(2)),
        ("tools", json!([{"type": "web_search"}])),
        ("web_search_options", json!({})),
    ] {
        let mut body = ask("hi");
        body[name] = value;
        for _ in 0..2 {
            assert_eq!(chat(&world, &body).await.header("x-vouchgate-cache"), "bypass", "{name}");
        }
    }
    assert!(world.metrics().contains("vouchgate_cache_total{model=\"kept\",result=\"bypass\"} 8"));
}

#[tokio::test]
async fn of_many_that_ask_the_same_at_once_one_asks_the_provider() {
    let gate = Gate::closed();
    let mock = provider().await;
    mock.push(Answer::json(200, &completion("once", "stop")).hold_head(&gate));
    let world = world(&mock, "");
    let asks = async {
        let body = ask("hi");
        let all = (0..8).map(|_| chat(&world, &body));
        futures_util::future::join_all(all).await
    };
    let release = async {
        mock.request(0).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(asks, release);
    let mut told: Vec<(String, String)> = answers.iter().map(told).collect();
    told.sort();
    assert_eq!(told.pop(), Some(pair("miss", "once")));
    assert!(told.iter().all(|one| *one == pair("hit", "once")), "{told:?}");
    assert_eq!(mock.count(), 1);
}

#[tokio::test]
async fn those_who_wait_for_one_that_fails_or_goes_ask_themselves() {
    let gate = Gate::closed();
    let mock = provider().await;
    let world = world(&mock, "");
    mock.push(Answer::json(500, &json!({"error": {"message": "no"}})).hold_head(&gate));
    let body = ask("hi");
    let asks = async { futures_util::future::join_all((0..3).map(|_| chat(&world, &body))).await };
    let release = async {
        mock.request(0).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(asks, release);
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 500]);
    // The first one's client goes while another waits for it.
    let gate = Gate::closed();
    let body = ask("again");
    mock.push(Answer::json(200, &completion("never", "stop")).hold_head(&gate));
    let seen = mock.count();
    let mut first = Box::pin(world.open("/v1/chat/completions", &body));
    tokio::select! {
        _ = &mut first => panic!("the provider does not answer"),
        _ = mock.request(seen) => {}
    }
    let second = chat(&world, &body);
    let going = async { drop(first) };
    let (second, ()) = tokio::join!(second, going);
    assert_eq!(told(&second).0, "miss");
}

#[tokio::test]
async fn what_is_too_long_is_not_kept_and_the_oldest_make_room() {
    let mock = provider().await;
    let small = config(&mock, "openai-compatible", ", max_entry = \"1KiB\"").replacen(
        "[[provider]]",
        "[cache]\nsize = \"4KiB\"\n[[provider]]",
        1,
    );
    let world = World::new(&small);
    mock.push(Answer::json(200, &completion(&"x".repeat(2000), "stop")));
    chat(&world, &ask("long")).await;
    assert_eq!(told(&chat(&world, &ask("long")).await).0, "miss");
    for n in 0..40 {
        chat(&world, &ask(&format!("question {n}"))).await;
    }
    let mut kept = 0;
    for n in 0..40 {
        let headers = chat(&world, &ask(&format!("question {n}"))).await;
        kept += usize::from(headers.header("x-vouchgate-cache") == "hit");
    }
    assert!(kept < 8, "{kept} in 4 KiB");
    let none = World::new(&config(&mock, "openai-compatible", "").replacen(
        "[[provider]]",
        "[cache]\nsize = \"0B\"\n[[provider]]",
        1,
    ));
    for _ in 0..2 {
        assert_eq!(told(&chat(&none, &ask("hi")).await).0, "miss");
    }
}

#[tokio::test]
async fn embeddings_are_kept_too() {
    let mock = provider().await;
    let world = world(&mock, "");
    let body = json!({"model": "kept", "input": "how"});
    for expected in ["miss", "hit"] {
        let answer = world.post("/v1/embeddings", &body).await;
        assert_eq!(
            (answer.header("x-vouchgate-cache"), &answer.json()["data"][0]["embedding"][0]),
            (expected, &json!(1.0))
        );
    }
}

const SEMANTIC: &str = ", semantic = { provider = \"p\", model = \"e\" }";

#[tokio::test]
async fn a_question_that_means_nearly_the_same_gets_the_same_answer() {
    let mock = provider().await;
    let world = world(&mock, SEMANTIC);
    let first = chat(&world, &ask("how are you")).await;
    assert_eq!(told(&first).0, "miss");
    let near = chat(&world, &ask("hou are you")).await;
    assert_eq!((told(&near).0, &near.body), ("semantic".to_owned(), &first.body));
    assert_eq!(near.header("x-vouchgate-cache-similarity"), "0.970");
    assert_eq!(near.header("x-vouchgate-cache-original"), first.header("x-request-id"));
    assert_eq!(told(&chat(&world, &ask("how are you")).await).0, "hit");
    assert_eq!(told(&chat(&world, &ask("why")).await).0, "miss");
    let mut streamed = ask("how are you");
    streamed["stream"] = json!(true);
    assert_eq!(chat(&world, &streamed).await.header("x-vouchgate-cache"), "miss");
    streamed["messages"][0]["content"] = json!("hou");
    let near = chat(&world, &streamed).await;
    assert_eq!(near.header("x-vouchgate-cache"), "semantic");
    assert!(near.text().ends_with("data: [DONE]\n\n"), "{}", near.text());
    assert!(world.metrics().contains("vouchgate_cache_total{model=\"kept\",result=\"semantic\"} 2"));
    assert!(world.metrics().contains("vouchgate_tokens_total{direction=\"input\",provider=\"p\",model=\"kept\"}"));
}

#[tokio::test]
async fn what_differs_in_anything_but_the_last_words_is_never_alike() {
    let mock = provider().await;
    let world = world(&mock, SEMANTIC);
    chat(&world, &ask("how")).await;
    let image = json!([{"type": "text", "text": "hou"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]);
    for (name, value) in [
        ("temperature", json!(1)),
        ("tools", json!([{"type": "function", "function": {"name": "f"}}])),
        ("messages", json!([{"role": "system", "content": "s"}, {"role": "user", "content": "hou"}])),
        (
            "messages",
            json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "hou"}]),
        ),
        ("messages", json!([{"role": "user", "content": image}])),
        ("model", json!("other")),
    ] {
        let mut body = ask("hou");
        body[name] = value;
        assert_eq!(chat(&world, &body).await.header("x-vouchgate-cache"), "miss", "{body}");
    }
    let token = format!("Bearer {}", world.token_with(&json!({"client_id": "tools"})));
    let headers = [("authorization", token.as_str())];
    let crafted = world.send("POST", "/v1/chat/completions", &headers, ask("hou").to_string()).await;
    assert_eq!(told(&crafted).0, "miss", "another policy's answers");
    assert_eq!(told(&chat(&world, &ask("hou")).await).0, "semantic");
}

#[tokio::test]
async fn meaning_is_of_no_use_across_subjects_where_they_do_not_share() {
    let mock = provider().await;
    let world = world(&mock, &format!(", scope = \"subject\"{SEMANTIC}"));
    chat(&world, &ask("how")).await;
    assert_eq!(told(&world.post_as("mallory", "/v1/chat/completions", &ask("hou")).await).0, "miss");
    assert_eq!(told(&chat(&world, &ask("hou")).await).0, "semantic");
}

#[tokio::test]
async fn without_the_embedding_the_question_is_asked_all_the_same() {
    let mock = provider().await;
    let world = world(&mock, SEMANTIC);
    for bad in [
        Answer::json(500, &json!({"error": {"message": "no"}})),
        Answer::json(200, &json!({"data": []})),
        Answer::json(200, &json!({"data": [{"embedding": "AAAA"}]})),
        Answer::nothing(),
    ] {
        mock.push(bad);
        let answer = chat(&world, &ask("how")).await;
        assert_eq!(told(&answer).0, "miss");
        let record = world.record();
        assert_eq!((record.input_tokens, record.output_tokens), (Some(5), Some(2)));
        world.clock.advance(std::time::Duration::from_secs(41));
    }
    let read_none = read(world.open("/v1/chat/completions", &ask("how")).await).await;
    assert_eq!(read_none.header("x-vouchgate-cache"), "miss");
}
