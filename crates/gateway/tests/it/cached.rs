//! Answers that are kept of services, of models asked for by their provider's name, and for clients of the Responses API; and what
//! the records say of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock, Received};

use crate::harness::{self, World};

/// A provider that never answers the same twice, and declines what it is told to.
async fn provider() -> Mock {
    let count = AtomicUsize::new(0);
    Mock::start_with(move |request| answer(request, count.fetch_add(1, Ordering::SeqCst))).await
}

fn answer(request: &Received, count: usize) -> Answer {
    let asked = request.json();
    if request.path().ends_with("/embeddings") {
        let vector = if asked["input"] == "how are you" { [1.0, 0.0] } else { [0.97, 0.243] };
        let data = json!([{"index": 0, "embedding": vector}]);
        return Answer::json(200, &json!({"object": "list", "model": "e", "data": data}));
    }
    let finish = if asked.to_string().contains("forbidden") { "content_filter" } else { "stop" };
    let text = format!("answer {count}");
    if asked["stream"] == true {
        let chunk = |delta: Value, finish: Value| {
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "big",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        };
        return Answer::openai_stream(&[chunk(json!({"content": text}), Value::Null), chunk(json!({}), json!(finish))]);
    }
    Answer::json(
        200,
        &json!({"id": "c", "object": "chat.completion", "created": 1, "model": "big", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}),
    )
}

fn world(mock: &Mock) -> World {
    let base = mock.url();
    World::new(&format!(
        "[[provider]]\nname = \"p\"\nkind = \"openai-compatible\"\nbase_url = \"{base}/v1\"\nallow_private = true\n\
         cache = {{ ttl = \"40s\" }}\n\
         [[provider]]\nname = \"q\"\nkind = \"openai-compatible\"\nbase_url = \"{base}/v1\"\nallow_private = true\n\
         [[model]]\nname = \"kept\"\ntargets = [{{ provider = \"p\", model = \"big\" }}]\n\
         cache = {{ ttl = \"40s\" }}\n\
         [[model]]\nname = \"alike\"\ntargets = [{{ provider = \"p\", model = \"big\" }}]\n\
         cache = {{ ttl = \"40s\", semantic = {{ provider = \"p\", model = \"e\" }} }}\n\
         [[model]]\nname = \"fresh\"\ntargets = [{{ provider = \"p\", model = \"big\" }}]\n\
         [[service]]\nname = \"asking\"\npath = \"/v1/asking\"\nmodel = \"kept\"\nprompt = \"Answer: {{{{input}}}}\"\n\
         [[service]]\nname = \"telling\"\npath = \"/v1/telling\"\nmodel = \"kept\"\nprompt = \"Answer: {{{{input}}}}\"\n\
         [[policy]]\nname = \"tools\"\nwho = {{ client = \"tools\" }}\nmay = {{ models = [\"*\"], services = [\"*\"] }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], services = [\"*\"] }}\n"
    ))
}

fn cache(answer: &harness::Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-vouchgate-cache")
}

#[tokio::test]
async fn a_service_is_asked_once_for_the_same() {
    let mock = provider().await;
    let world = world(&mock);
    let ask = async |path: &str, body: &Value| world.post(path, body).await;
    for stream in [false, true] {
        let same = json!({"input": "one", "stream": stream});
        let first = ask("/v1/asking", &same).await;
        let again = ask("/v1/asking", &json!({"variables": {"input": "one"}, "stream": stream})).await;
        assert_eq!((cache(&first), cache(&again)), ("miss", "hit"), "{stream}");
        assert_eq!(first.body, again.body, "{stream}");
        for other in [
            json!({"input": "two", "stream": stream}),
            json!({"input": "one", "stream": stream, "parameters": {"max_output_tokens": 9}}),
            json!({"input": "one", "stream": stream, "parameters": {"temperature": 0.5}}),
        ] {
            assert_eq!(cache(&ask("/v1/asking", &other).await), "miss", "{other}");
        }
        // Another service may have the same prompt: it is another one.
        assert_eq!(cache(&ask("/v1/telling", &same).await), "miss", "{stream}");
        let declined = json!({"input": "forbidden", "stream": stream});
        for _ in 0..2 {
            assert_eq!(cache(&ask("/v1/asking", &declined).await), "miss", "{stream}");
        }
    }
    let token = format!("Bearer {}", world.token("alice"));
    let headers =
        [("authorization", token.as_str()), ("content-type", "application/json"), ("cache-control", "no-store")];
    let answer = world.send("POST", "/v1/asking", &headers, json!({"input": "one"}).to_string()).await;
    assert_eq!(cache(&answer), "bypass");
    // What a service is asked is nobody's chat.
    let chat = json!({"model": "kept", "messages": [{"role": "user", "content": "Answer: one"}]});
    assert_eq!(cache(&world.post("/v1/chat/completions", &chat).await), "miss");
}

#[tokio::test]
async fn a_provider_may_keep_answers_of_models_asked_for_by_its_name() {
    let mock = provider().await;
    let world = world(&mock);
    let ask = async |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        cache(&world.post("/v1/chat/completions", &body).await).to_owned()
    };
    assert_eq!((ask("p/big").await, ask("p/big").await), ("miss".to_owned(), "hit".to_owned()));
    assert_eq!(ask("p/other").await, "miss");
    assert_eq!(ask("kept").await, "miss", "a model of its own has answers of its own");
    for none in ["q/big", "fresh"] {
        assert_eq!((ask(none).await, ask(none).await), (String::new(), String::new()), "{none}");
    }
    assert!(world.metrics().contains("vouchgate_cache_total{model=\"direct\",result=\"hit\"} 1"));
}

#[tokio::test]
async fn a_response_that_nobody_stores_is_kept_and_no_other() {
    let mock = provider().await;
    let world = world(&mock);
    let ask = async |changes: Value| {
        let mut body = json!({"model": "kept", "input": "hi", "store": false});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        world.post("/v1/responses", &body).await
    };
    for changes in [json!({}), json!({"stream": true}), json!({"input": [{"role": "user", "content": "hi"}]})] {
        let (first, again) = (ask(changes.clone()).await, ask(changes.clone()).await);
        assert_eq!((cache(&first), cache(&again)), ("miss", "hit"), "{changes}");
        assert_eq!(first.body, again.body, "{changes}");
    }
    for changes in [json!({"store": null}), json!({"store": true})] {
        let answer = ask(changes.clone()).await;
        // Where a provider would have to store it and cannot, it is refused before that.
        let told = if answer.status == 200 { answer.header("x-vouchgate-cache") } else { "bypass" };
        assert_eq!(told, "bypass", "{changes}: {}", answer.text());
    }
}

#[tokio::test]
async fn records_say_what_the_cache_did() {
    let mock = provider().await;
    let world = world(&mock);
    let record = async |model: &str, text: &str, effects: bool| {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
        if effects {
            body["store"] = true.into();
        }
        world.post("/v1/chat/completions", &body).await;
        let record = world.record();
        (record.cache.as_deref().unwrap_or_default().to_owned(), record.cache_similarity)
    };
    let told = |how: &str, similarity| (how.to_owned(), similarity);
    assert_eq!(record("alike", "how are you", false).await, told("miss", None));
    assert_eq!(record("alike", "how are you", false).await, told("hit", None));
    assert_eq!(record("alike", "hou are you", false).await, told("semantic", Some(970)));
    assert_eq!(record("alike", "how are you", true).await, told("bypass", None));
    assert_eq!(record("fresh", "how are you", false).await, told("", None));
}
