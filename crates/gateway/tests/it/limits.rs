//! A policy's limits, all together or not at all.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::mock::{Answer, Gate, Mock};

use crate::harness::{World, piece};

fn echo(rate: &str) -> World {
    World::new(&format!("[[policy]]\nname = \"all\"\nmay = {{ models = [\"vouchgate/echo\"] }}\nrate = [{rate}]\n"))
}

fn hello() -> Value {
    json!({"model": "vouchgate/echo", "messages": [{"role": "user", "content": "hi"}]})
}

#[tokio::test]
async fn a_rate_is_kept_for_each_subject_and_says_when_to_come_back() {
    let world = echo("{ requests = 2, per = \"subject\", window = \"1m\" }");
    let status = async |subject: &str| world.post_as(subject, "/v1/chat/completions", &hello()).await;
    assert_eq!(status("alice").await.status, 200);
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(status("alice").await.status, 200);
    let refused = status("alice").await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str(), refused.header("retry-after")),
        (429, "rate_limited", "10")
    );
    assert_eq!(
        (refused.header("ratelimit"), refused.header("ratelimit-policy")),
        ("\"requests-subject-60s\";r=0;t=40", "\"requests-subject-60s\";q=2;w=60")
    );
    let fresh = status("bob").await;
    assert_eq!(fresh.status, 200);
    let told =
        ["limit", "remaining", "reset"].map(|what| fresh.header(&format!("x-ratelimit-{what}-requests")).to_owned());
    assert_eq!(told, ["2", "1", "30s"]);
    assert_eq!(world.record().status, 200);
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(status("alice").await.status, 200);
    assert_eq!(status("alice").await.status, 429);
    assert!(world.metrics().contains("vouchgate_blocked_total{reason=\"rate_limited\"} 2"));
}

#[tokio::test]
async fn limits_count_together_or_not_at_all() {
    let world = echo(
        "{ requests = 3, per = \"policy\", window = \"1m\" }, { requests = 1, per = \"subject\", window = \"1m\" }",
    );
    let status = async |subject: &str| world.post_as(subject, "/v1/chat/completions", &hello()).await.status.as_u16();
    assert_eq!(status("alice").await, 200);
    for _ in 0..5 {
        assert_eq!(status("alice").await, 429, "refused by the second limit, so not counted by the first");
    }
    assert_eq!(status("bob").await, 200);
    assert_eq!(status("carol").await, 200);
    assert_eq!(status("dave").await, 429);
}

#[tokio::test]
async fn a_place_is_held_until_the_last_byte_and_free_again_when_the_client_goes() {
    let gate = Gate::closed();
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"id": "x", "choices": []}))).await;
    let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]});
    mock.push(Answer::openai_stream(&[chunk.clone(), chunk]).stall_after(60, &gate));
    let world = World::new(&format!(
        "[[provider]]\nname = \"p\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\nrate = [{{ concurrent = 1, per = \"subject\" }}]\n",
        mock.url()
    ));
    let ask = |stream: bool| json!({"model": "p/m", "stream": stream, "messages": []});
    let mut body = world.open("/v1/chat/completions", &ask(true)).await.into_body();
    let bodies = async || world.post("/v1/chat/completions", &ask(false)).await;
    let refused = bodies().await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    assert_eq!(world.post_as("bob", "/v1/chat/completions", &ask(false)).await.status, 200);
    drop(body);
    assert_eq!(bodies().await.status, 200);
    // And after a stream that was read to its end.
    mock.push(Answer::openai_stream(&[
        json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
    ]));
    body = world.open("/v1/chat/completions", &ask(true)).await.into_body();
    while !piece(&mut body).await.ends_with(b"[DONE]\n\n") {}
    drop(body);
    assert_eq!(bodies().await.status, 200);
}

#[tokio::test]
async fn a_refused_request_calls_nobody() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"id": "x", "choices": []}))).await;
    let world = World::new(&format!(
        "[[provider]]\nname = \"p\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\nrate = [{{ requests = 50, per = \"policy\", window = \"1h\" }}]\n",
        mock.url()
    ));
    let ask = json!({"model": "p/m", "messages": []});
    let calls = (0..200).map(|n| {
        let (world, ask) = (&world, &ask);
        async move { world.post_as(&format!("s{n}"), "/v1/chat/completions", ask).await.status.as_u16() }
    });
    let statuses = futures_util::future::join_all(calls).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 50);
    assert_eq!(mock.count(), 50);
}

/// A gateway with two models, a service and an upstream that the mock answers, and one request a minute for each `per`.
async fn apart(per: &str) -> (Mock, World) {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"id": "x", "choices": []}))).await;
    let url = mock.url();
    let world = World::new(&format!(
        "[[provider]]\nname = \"p\"\nkind = \"openai-compatible\"\nbase_url = \"{url}/v1\"\nallow_private = true\n\
         [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"p\", model = \"a\" }}]\n\
         [[model]]\nname = \"slow\"\ntargets = [{{ provider = \"p\", model = \"b\" }}]\n\
         [[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"{url}/\"\nallow_private = true\n\
         [[upstream]]\nname = \"rain\"\npath = \"/rain/\"\nurl = \"{url}/\"\nallow_private = true\n\
         [[issuer]]\nname = \"corp\"\nissuer = \"https://id.example.com/\"\naudience = [\"a\"]\n\
         jwks_url = \"https://id.example.com/jwks\"\nclaims = {{ organisation = \"org\", project = \"proj\" }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], upstreams = [\"*\"] }}\ncaller_tags = [\"web-*\"]\n\
         rate = [{{ requests = 1, per = \"{per}\", window = \"1m\" }}]\n"
    ));
    (mock, world)
}

/// The status of a request for `model`, with a tag, by somebody with these claims.
async fn asked(world: &World, model: &str, tag: &str, claims: &Value) -> u16 {
    let token = format!("Bearer {}", world.token_with(claims));
    let headers = [("authorization", token.as_str()), ("content-type", "application/json"), ("x-vouchgate-tag", tag)];
    let body = json!({"model": model, "messages": []}).to_string();
    world.send("POST", "/v1/chat/completions", &headers, body).await.status.as_u16()
}

#[tokio::test]
async fn a_rate_may_count_organisations_projects_and_tags_on_their_own() {
    let (_mock, world) = apart("organisation").await;
    let ask = async |claims: Value| asked(&world, "fast", "", &claims).await;
    assert_eq!(ask(json!({"sub": "a", "org": "x"})).await, 200);
    assert_eq!(
        ask(json!({"sub": "b", "org": "x", "proj": "p"})).await,
        429,
        "another subject of the same organisation"
    );
    assert_eq!(ask(json!({"sub": "a", "org": "y"})).await, 200, "the same subject in another organisation");
    assert_eq!(ask(json!({"sub": "a"})).await, 200);
    assert_eq!(ask(json!({"sub": "b"})).await, 429, "those in none are counted together");

    let (_mock, world) = apart("project").await;
    let ask = async |claims: Value| asked(&world, "fast", "", &claims).await;
    assert_eq!(ask(json!({"proj": "p"})).await, 200);
    assert_eq!(ask(json!({"proj": "p", "org": "x"})).await, 429);
    assert_eq!(ask(json!({"proj": "q"})).await, 200);

    let (_mock, world) = apart("tag").await;
    let ask = async |tag: &str| asked(&world, "fast", tag, &json!({})).await;
    assert_eq!((ask("web-a").await, ask("web-a").await, ask("web-b").await), (200, 429, 200));
    assert_eq!((ask("made-up-1").await, ask("made-up-2").await), (200, 429), "a tag that is not allowed is none");
}

#[tokio::test]
async fn a_rate_may_count_models_and_upstreams_on_their_own_and_made_up_names_together() {
    let (_mock, world) = apart("model").await;
    let ask = async |model: &str| asked(&world, model, "", &json!({})).await;
    assert_eq!((ask("fast").await, ask("fast").await, ask("slow").await), (200, 429, 200));
    assert_eq!(ask("p/made-up-1").await, 200);
    assert_eq!(ask("p/made-up-2").await, 429, "a name nobody has written down is no way around the limit");
    assert_eq!((ask("nowhere/1").await, ask("nowhere/2").await), (404, 429), "nor fills the table of what is counted");

    let (_mock, world) = apart("upstream").await;
    let get = async |path: &str| world.get_as("alice", path).await.status.as_u16();
    assert_eq!((get("/maps/a").await, get("/maps/b").await, get("/rain/a").await), (200, 429, 200));
}

#[tokio::test]
async fn places_and_tokens_may_be_counted_for_each_model_too() {
    let gate = Gate::closed();
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"id": "x", "choices": []}))).await;
    let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]});
    mock.push(Answer::openai_stream(&[chunk.clone(), chunk]).stall_after(60, &gate));
    let world = World::new(&format!(
        "[[provider]]\nname = \"p\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"p\", model = \"a\" }}]\n\
         [[model]]\nname = \"slow\"\ntargets = [{{ provider = \"p\", model = \"b\" }}]\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], max_output_tokens = 100 }}\n\
         rate = [{{ concurrent = 1, per = \"model\" }}, {{ tokens = 150, per = \"model\", window = \"1h\" }}]\n",
        mock.url()
    ));
    let ask = |model: &str| json!({"model": model, "stream": true, "messages": []});
    let body = world.open("/v1/chat/completions", &ask("fast")).await.into_body();
    assert_eq!(world.post_as("bob", "/v1/chat/completions", &ask("fast")).await.status, 429, "its place is taken");
    let plain = |model: &str| json!({"model": model, "messages": []});
    let slow = world.post_as("bob", "/v1/chat/completions", &plain("slow")).await;
    assert_eq!(slow.status, 200);
    assert!(slow.header("ratelimit-policy").contains("tokens-model-3600s"), "{}", slow.header("ratelimit-policy"));
    drop(body);
    let again = world.post_as("bob", "/v1/chat/completions", &plain("fast")).await;
    assert_eq!((again.status.as_u16(), again.code().as_str()), (429, "rate_limited"), "its tokens are used up");
}
