//! A key that is replaced: where the provider refuses one value of it, the other is used.

use std::time::Duration;

use config::WebhookEvent;
use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};
use tokio::task::JoinSet;

use crate::harness::{PROVIDER_KEY, World};

fn config(mock: &Mock, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"p\"\nkind = \"openai\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         api_key = {{ env = \"X\" }}\n{more}\n\
         [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"p\", model = \"m\" }}]\nretry = {{ attempts = 1 }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], passthrough = [{{ provider = \"p\", methods = [\"POST\"], paths = [\"/v1/**\"] }}] }}\n",
        mock.url()
    )
}

const NEXT: &str = "next_api_key = { env = \"Y\" }";

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

fn completion() -> Value {
    json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "well"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
}

/// A provider that accepts only keys that end so.
async fn accepting(end: &'static str) -> Mock {
    Mock::start_with(move |request| {
        if request.header("authorization").is_some_and(|shown| shown.ends_with(end)) {
            Answer::json(200, &completion())
        } else {
            Answer::json(401, &json!({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}))
        }
    })
    .await
}

async fn shown(mock: &Mock) -> Vec<String> {
    let mut all = Vec::new();
    for index in 0..mock.count() {
        all.push(mock.request(index).await.header("authorization").unwrap().to_owned());
    }
    all
}

#[tokio::test]
async fn a_refused_key_costs_no_request_and_is_left_alone_afterwards() {
    let mock = accepting("-next").await;
    let world = World::new(&config(&mock, NEXT));
    for _ in 0..3 {
        assert_eq!(world.post("/v1/chat/completions", &ask("fast")).await.status, 200);
    }
    let (old, next) = (format!("Bearer {PROVIDER_KEY}"), format!("Bearer {PROVIDER_KEY}-next"));
    assert_eq!(shown(&mock).await, [&old, &next, &next, &next].map(String::as_str), "refused once, then not asked");
    let metrics = world.metrics();
    assert!(metrics.contains("vouchgate_provider_key_up{provider=\"p\",key=\"default\"} 0"), "{metrics}");
    let fallbacks = "vouchgate_provider_key_fallbacks_total{provider=\"p\",key=\"default\",slot=\"next\"} 1";
    assert!(metrics.contains(fallbacks), "{metrics}");
    assert!(world.left_alone()[0].1.contains("another value"), "{:?}", world.left_alone());
    // After a minute it is asked again, once, and the request is answered all the same.
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.post("/v1/chat/completions", &ask("p/m")).await.status, 200);
    assert_eq!(shown(&mock).await[4..], [&old, &next].map(String::clone));
}

#[tokio::test]
async fn a_providers_own_api_falls_back_too() {
    let mock = accepting("-next").await;
    let world = World::new(&config(&mock, NEXT));
    let answer = world.post("/providers/p/v1/chat/completions", &ask("m")).await;
    assert_eq!((answer.status.as_u16(), mock.count()), (200, 2), "{}", answer.text());
}

#[tokio::test]
async fn a_request_is_repeated_once_and_then_told_that_the_key_is_refused() {
    let mock = accepting("nobody has this").await;
    let world = World::new(&config(&mock, NEXT));
    let answer = world.post("/v1/chat/completions", &ask("fast")).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "provider_key_refused"));
    assert_eq!(mock.count(), 2);
}

#[tokio::test]
async fn what_a_caller_may_not_do_is_no_reason_to_use_another_key() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, NEXT));
    let error = json!({"error": {"message": "You wrote: Incorrect API key provided", "code": "model_not_allowed"}});
    mock.push(Answer::json(403, &error));
    assert_eq!(world.post("/v1/chat/completions", &ask("fast")).await.status, 403);
    assert_eq!(mock.count(), 1);
}

#[tokio::test]
async fn one_value_alone_is_refused_as_before_and_it_is_told_which() {
    let mock = accepting("nobody has this").await;
    let world = World::new(&config(&mock, ""));
    assert_eq!(world.post("/v1/chat/completions", &ask("fast")).await.code(), "provider_key_refused");
    assert_eq!(mock.count(), 1);
    let told = world.notices.take();
    assert_eq!((told.len(), told[0].event), (1, WebhookEvent::ProviderKeyRefused.as_str()));
    assert_eq!((&told[0].data["slot"], told[0].data.get("used_instead")), (&json!("current"), None));
}

#[tokio::test]
async fn a_request_that_waited_while_the_key_was_replaced_uses_the_new_one() {
    let gate = testkit::mock::Gate::closed();
    let mock = accepting("-next").await;
    let first = Answer::json(401, &json!({"error": {"code": "invalid_api_key"}})).hold_head(&gate);
    mock.push(first);
    let world = std::sync::Arc::new(World::new(&config(&mock, "")));
    let asking = std::sync::Arc::clone(&world);
    let mut answer = JoinSet::new();
    answer.spawn(async move { asking.post("/v1/chat/completions", &ask("fast")).await.status });
    let _sent = mock.request(0).await;
    // Meanwhile there is another value, which the request does not know of.
    world.reload(&config(&mock, NEXT));
    gate.open();
    assert_eq!(answer.join_all().await, [200]);
}

fn upstream(mock: &Mock, next: &str) -> String {
    format!(
        "[[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"{}/api/\"\nallow_private = true\nmethods = [\"GET\", \"POST\"]\n\
         inject = {{ header = \"Authorization\", value = {{ env = \"X\" }}, prefix = \"Bearer \"{next} }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ upstreams = [\"maps\"] }}\n",
        mock.url()
    )
}

const NEXT_VALUE: &str = ", next_value = { env = \"Y\" }";

#[tokio::test]
async fn an_upstream_that_refuses_the_injected_value_is_asked_with_the_one_that_follows() {
    let mock = accepting("-next").await;
    let world = World::new(&upstream(&mock, NEXT_VALUE));
    let body = json!({"where": "Lindau"});
    for _ in 0..3 {
        assert_eq!(world.post("/maps/find", &body).await.status, 200);
    }
    let (old, next) = (format!("Bearer {PROVIDER_KEY}"), format!("Bearer {PROVIDER_KEY}-next"));
    assert_eq!(shown(&mock).await, [&old, &next, &next, &next].map(String::as_str), "refused once, then not asked");
    assert_eq!(mock.request(1).await.body, body.to_string().as_bytes(), "the same request");
    let told = world.notices.take();
    assert_eq!((told.len(), &told[0].data["provider"], &told[0].data["key"]), (1, &json!("maps"), &json!("inject")));
    assert_eq!((&told[0].data["slot"], &told[0].data["used_instead"]), (&json!("current"), &json!("next")));
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.post("/maps/find", &body).await.status, 200);
    assert_eq!(shown(&mock).await[4..], [&old, &next].map(String::clone));
}

#[tokio::test]
async fn an_upstreams_refusal_is_passed_on_where_no_value_is_accepted_or_there_is_one_only() {
    let mock = accepting("nobody has this").await;
    let world = World::new(&upstream(&mock, NEXT_VALUE));
    let answer = world.post("/maps/find", &json!({})).await;
    assert_eq!((answer.status.as_u16(), mock.count()), (401, 2), "asked twice, and no more");
    assert!(world.notices.take().is_empty(), "it may have refused something else");
    let world = World::new(&upstream(&mock, ""));
    assert_eq!((world.post("/maps/find", &json!({})).await.status.as_u16(), mock.count()), (401, 3));
}

#[tokio::test]
async fn what_an_upstream_says_of_anything_else_is_no_reason_to_use_another_value() {
    let mock = Mock::start().await;
    let world = World::new(&upstream(&mock, NEXT_VALUE));
    for (status, body) in
        [(403, json!({"error": {"code": "forbidden"}})), (400, json!({"error": "Incorrect"})), (500, json!({}))]
    {
        mock.push(Answer::json(status, &body));
        let answer = world.post("/maps/find", &json!({})).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (status, body));
    }
    assert_eq!(mock.count(), 3);
    // Google's way to say it.
    mock.push(Answer::json(400, &json!({"error": {"code": 400, "details": [{"reason": "API_KEY_INVALID"}]}})));
    mock.push(Answer::json(200, &json!({"well": true})));
    assert_eq!(world.post("/maps/find", &json!({})).await.json(), json!({"well": true}));
}
