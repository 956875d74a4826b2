//! `GET /v1/models` is what OpenAI and Anthropic say of theirs: by the published schema, and by the types of Anthropic's SDK.

use std::sync::Arc;

use http::Method;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{self, Gateway, secret_file};

/// A model that the catalogue knows, and one that nobody knows.
const MODELS: &str = r#"
[[model]]
name = "fast"
targets = [{ provider = "openai", model = "gpt-5-mini" }]

[[model]]
name = "unheard-of"
targets = [{ provider = "openai", model = "unheard-of" }]
"#;

#[tokio::test]
async fn the_list_of_models_fits_what_both_publish() {
    let test = "the_list_of_models_fits_what_both_publish";
    let Some(data) = vectors::data() else { return vectors::skipped(test) };
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let key = secret_file(dir.path(), "provider-key", "fake-provider-key-for-models");
    let provider = support::provider("openai", "openai", "http://127.0.0.1:9/v1", &key);
    let gateway = Gateway::start_in(dir, &format!("{}{provider}{MODELS}", support::APP)).await;
    let token = gateway.token("app").await;
    let get = async |path: &str, anthropic: bool| -> Value {
        let request = gateway.request(Method::GET, path, &token);
        let request = if anthropic { request.header("anthropic-version", "2023-06-01") } else { request };
        let answer = gateway.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text());
        answer.json()
    };
    let mut answers = vec![json!({"kind": "models", "name": "list", "body": get("/v1/models", false).await})];
    for name in ["fast", "unheard-of", "vouchgate/echo"] {
        let path = format!("/v1/models/{name}");
        answers.push(json!({"kind": "model", "name": name, "body": get(&path, false).await}));
        answers.push(json!({"kind": "anthropic-model", "name": name, "body": get(&path, true).await}));
    }
    let list = get("/v1/models", true).await;
    let listed = list["data"].as_array().unwrap();
    assert!(listed.len() >= 3, "{list}");
    let ends = (listed.first().map(|model| &model["id"]), listed.last().map(|model| &model["id"]));
    assert_eq!((Some(&list["first_id"]), Some(&list["last_id"])), ends);
    assert_eq!(list["has_more"], false);
    answers.extend(listed.iter().map(|body| json!({"kind": "anthropic-model", "name": "listed", "body": body})));
    let job = json!({"specs": data.join("specs"), "answers": answers});
    let Some(verdict) = support::client("schemas.py", test, &job).await else { return };
    assert_eq!(verdict["violations"], json!([]));
    assert!(verdict["shapes"].as_u64() >= Some(3), "{verdict}");
    gateway.stop().await;
}
