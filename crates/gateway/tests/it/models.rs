//! What `/v1/models` tells of limits.

use serde_json::json;
use testkit::mock::{Answer, Mock};

use crate::harness::World;

#[tokio::test]
async fn anthropics_list_of_models_tells_how_much_fits_in_each_target() {
    let config = "
[[provider]]
name = \"anthropic\"
kind = \"anthropic\"
base_url = \"http://127.0.0.1:1\"
allow_private = true

[[model]]
name = \"short\"
targets = [{ provider = \"anthropic\", model = \"claude-opus-4-6\" }, { provider = \"anthropic\", model = \"claude-haiku-4-5\" }]

[[model]]
name = \"unknown\"
targets = [{ provider = \"anthropic\", model = \"claude-opus-4-6\" }, { provider = \"anthropic\", model = \"mine\" }]

[[price]]
provider = \"anthropic\"
model = \"mine\"
max_output = 77

[[policy]]
name = \"all\"
may = { models = \"*\" }
";
    let world = World::new(config);
    let token = format!("Bearer {}", world.token("alice"));
    let headers = [("authorization", token.as_str()), ("anthropic-version", "2023-06-01")];
    let listed = world.send("GET", "/v1/models", &headers, "").await.json();
    let of = |id: &str| listed["data"].as_array().unwrap().iter().find(|m| m["id"] == id).unwrap().clone();
    assert_eq!((&of("short")["max_input_tokens"], &of("short")["max_tokens"]), (&json!(200_000), &json!(64_000)));
    assert_eq!((of("unknown").get("max_input_tokens"), &of("unknown")["max_tokens"]), (None, &json!(77)));
    let direct = world.send("GET", "/v1/models/anthropic%2Fclaude-haiku-4-5", &headers, "").await.json();
    assert_eq!(direct["max_tokens"], 64_000);
}

fn long(words: usize) -> serde_json::Value {
    json!([{"role": "user", "content": "a ".repeat(words)}])
}

#[tokio::test]
async fn what_certainly_does_not_fit_is_refused_before_a_provider_is_asked() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"choices": [{"message": {"content": "x"}}]}))).await;
    let world = World::new(&format!(
        "[[provider]]\nname = \"o\"\nkind = \"openai\"\nbase_url = \"{0}/v1\"\nallow_private = true\n\
         [[provider]]\nname = \"v\"\nkind = \"vllm\"\nbase_url = \"{0}/v1\"\nallow_private = true\n\
         [[price]]\nprovider = \"v\"\nmodel = \"*\"\ncontext = 1000\n\
         [[model]]\nname = \"both\"\ntargets = [{{ provider = \"v\", model = \"small\" }}, {{ provider = \"o\", model = \"gpt-4\" }}]\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = \"*\" }}\n",
        mock.url()
    ));
    let refused = world.post("/v1/chat/completions", &json!({"model": "both", "messages": long(9000)})).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "context_length_exceeded"));
    assert_eq!(refused.json()["error"]["type"], "invalid_request_error");
    let anthropic = json!({"model": "o/gpt-4", "max_tokens": 5, "messages": long(9000)});
    let refused = world.post("/v1/messages", &anthropic).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    assert!(refused.text().contains("prompt is too long"), "{}", refused.text());
    let gemini = json!({"contents": [{"parts": [{"text": "a ".repeat(9000)}]}]});
    let refused = world.post("/v1beta/models/v%2Fsmall:generateContent", &gemini).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    assert_eq!(mock.count(), 0);
    // The target it does not fit into is passed over.
    let fits = world.post("/v1/chat/completions", &json!({"model": "both", "messages": long(2000)})).await;
    assert_eq!(fits.status, 200);
    assert_eq!(mock.request(0).await.json()["model"], "gpt-4");
    assert_eq!(mock.count(), 1);
}
