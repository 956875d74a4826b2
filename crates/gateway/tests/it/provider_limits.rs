//! Limits of a policy per provider: counted as a provider is asked, and who is over one is passed over.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::mock::{Answer, Gate, Mock};

use crate::harness::World;

fn completion(content: &str) -> Value {
    json!({"id": "c1", "object": "chat.completion", "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
}

/// Two providers that answer with their names, a model of both, one of the second, an upstream, and these limits.
async fn two(rate: &str) -> (Mock, Mock, World) {
    let first = Mock::start_with(|_| Answer::json(200, &completion("a"))).await;
    let second = Mock::start_with(|_| Answer::json(200, &completion("b"))).await;
    let provider = |name: &str, mock: &Mock| {
        let url = mock.url();
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"openai-compatible\"\nbase_url = \"{url}/v1\"\nallow_private = true\n"
        )
    };
    let world = World::new(&format!(
        "{}{}[[model]]\nname = \"fast\"\ntargets = [{{ provider = \"a\", model = \"x\" }}, {{ provider = \"b\", model = \"y\" }}]\n\
         [[model]]\nname = \"kept\"\ntargets = [{{ provider = \"b\", model = \"y\" }}]\ncache = {{ ttl = \"10m\" }}\n\
         [[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"{url}/\"\nallow_private = true\n\
         [[upstream]]\nname = \"rain\"\npath = \"/rain/\"\nurl = \"{url}/\"\nallow_private = true\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], upstreams = [\"*\"], providers = [\"*\"], max_output_tokens = 100 }}\n\
         rate = [{rate}]\n",
        provider("a", &first),
        provider("b", &second),
        url = first.url(),
    ));
    (first, second, world)
}

async fn ask(world: &World, model: &str) -> crate::harness::Answer {
    world.post("/v1/chat/completions", &json!({"model": model, "messages": []})).await
}

/// Which provider answers, or the status.
async fn who(world: &World, model: &str) -> String {
    let answer = ask(world, model).await;
    if answer.status == 200 { answer.header("x-vouchgate-target").to_owned() } else { answer.status.to_string() }
}

#[tokio::test]
async fn who_is_over_its_rate_is_passed_over_and_nobody_is_left_is_429() {
    let (first, second, world) = two("{ requests = 2, per = \"provider\", window = \"1m\" }").await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(who(&world, "fast").await);
    }
    assert_eq!(seen, ["a/x", "a/x", "b/y", "b/y"]);
    let refused = ask(&world, "fast").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate_limited"));
    assert_eq!(refused.header("retry-after"), "30");
    assert_eq!(refused.header("ratelimit"), "\"requests-provider-60s\";r=0;t=60");
    assert_eq!((first.count(), second.count()), (2, 2), "nobody was asked who is over its rate");
    // Everybody together, and also on the provider's own API.
    let body = json!({"model": "x", "messages": []});
    assert_eq!(world.post_as("bob", "/providers/a/v1/chat/completions", &body).await.status, 429);
    world.clock.advance(Duration::from_secs(30));
    let back = ask(&world, "fast").await;
    assert_eq!((back.status.as_u16(), back.header("x-vouchgate-target")), (200, "a/x"));
    assert_eq!(back.header("ratelimit-policy"), "\"requests-provider-60s\";q=2;w=60");
    assert_eq!(back.header("x-ratelimit-remaining-requests"), "0");
}

#[tokio::test]
async fn each_attempt_counts_and_an_answer_that_was_kept_does_not() {
    let (first, second, world) = two("{ requests = 3, per = \"provider\", window = \"1h\" }").await;
    first.push(Answer::json(503, &json!({"error": {"message": "down"}})));
    assert_eq!(who(&world, "fast").await, "b/y");
    for _ in 0..5 {
        assert_eq!(ask(&world, "kept").await.status, 200);
    }
    assert_eq!(second.count(), 2, "the others were kept");
    assert_eq!(who(&world, "b/y").await, "b/y");
    assert_eq!(who(&world, "b/y").await, "429 Too Many Requests");
    assert_eq!((who(&world, "a/x").await, who(&world, "a/x").await), ("a/x".to_owned(), "a/x".to_owned()));
    assert_eq!(who(&world, "a/x").await, "429 Too Many Requests", "the attempt that failed was one");
}

#[tokio::test]
async fn a_place_per_provider_is_held_while_it_answers() {
    let gate = Gate::closed();
    let (first, _second, world) = two("{ concurrent = 1, per = \"provider\" }").await;
    let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]});
    first.push(Answer::openai_stream(&[chunk.clone(), chunk]).stall_after(60, &gate));
    let stream = json!({"model": "fast", "stream": true, "messages": []});
    let body = world.open("/v1/chat/completions", &stream).await.into_body();
    assert_eq!(who(&world, "fast").await, "b/y", "the first has its hands full");
    assert_eq!(who(&world, "a/x").await, "429 Too Many Requests");
    drop(body);
    assert_eq!(who(&world, "fast").await, "a/x");
    // A call that failed holds nothing while another answers.
    first.push(Answer::json(503, &json!({"error": {"message": "down"}})));
    assert_eq!((who(&world, "fast").await, who(&world, "a/x").await), ("b/y".to_owned(), "a/x".to_owned()));
}

#[tokio::test]
async fn tokens_per_provider_are_counted_by_what_it_took() {
    let (_first, _second, world) = two("{ tokens = 1000, per = \"provider\", window = \"1h\" }").await;
    let mut seen = Vec::new();
    for _ in 0..30 {
        seen.push(who(&world, "a/x").await);
    }
    assert!(seen.iter().all(|who| who == "a/x"), "what was not taken is given back: {seen:?}");
    let told = ask(&world, "a/x").await;
    let left: u64 = told.header("x-ratelimit-remaining-tokens").parse().unwrap();
    assert!((1..1000 - 30 * 5).contains(&left), "{left}");
    assert_eq!(who(&world, "fast").await, "a/x");
    let many = json!({"model": "fast", "max_tokens": 100, "messages": [{"role": "user", "content": "x".repeat(1000)}]});
    let other = world.post("/v1/chat/completions", &many).await;
    assert_eq!((other.status.as_u16(), other.header("x-vouchgate-target")), (200, "b/y"), "there it fits");
}

#[tokio::test]
async fn the_built_in_model_is_a_providers_too_and_what_no_provider_answers_is_counted_together() {
    let (_first, _second, world) = two("{ requests = 1, per = \"provider\", window = \"1h\" }").await;
    assert_eq!(
        (who(&world, "vouchgate/echo").await, who(&world, "a/x").await),
        ("vouchgate/echo".into(), "a/x".into())
    );
    assert_eq!(who(&world, "vouchgate/echo").await, "429 Too Many Requests");
    let get = async |path: &str| world.get_as("alice", path).await.status.as_u16();
    assert_eq!((get("/maps/a").await, get("/rain/b").await), (200, 429));
}

#[tokio::test]
async fn a_limit_of_the_caller_and_one_of_the_provider_are_both_kept() {
    let (first, _second, world) = two(
        "{ requests = 3, per = \"subject\", window = \"1h\" }, { requests = 2, per = \"provider\", window = \"1h\" }",
    )
    .await;
    assert_eq!((who(&world, "a/x").await, who(&world, "a/x").await), ("a/x".to_owned(), "a/x".to_owned()));
    let refused = ask(&world, "a/x").await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.header("ratelimit"),
        "\"requests-subject-3600s\";r=0;t=3600, \"requests-provider-3600s\";r=0;t=3600"
    );
    assert_eq!(
        world.post_as("bob", "/v1/chat/completions", &json!({"model": "b/y", "messages": []})).await.status,
        200
    );
    assert_eq!(first.count(), 2);
}
