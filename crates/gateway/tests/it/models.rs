//! What `/v1/models` tells of limits.

use serde_json::json;

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
