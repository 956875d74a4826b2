//! What a provider stores is found again with the key that made it, where the provider has several: each may be another project's.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock, Received};

use crate::harness::World;

/// A provider that tells what it was asked with, and knows no key's objects by another.
async fn provider() -> Mock {
    let made: Mutex<BTreeMap<String, String>> = Mutex::default();
    Mock::start_with(move |request| answer(request, &mut made.lock().unwrap())).await
}

fn answer(request: &Received, made: &mut BTreeMap<String, String>) -> Answer {
    let key = request.header("authorization").unwrap_or_default().to_owned();
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let known = |id: &str| made.get(id) == Some(&key);
    let named = asked["previous_response_id"].as_str().or_else(|| {
        request.path().strip_prefix("/v1/responses/").or_else(|| request.path().strip_prefix("/v1/files/"))
    });
    let named = named.or_else(|| asked["input"][0]["content"][0]["file_id"].as_str());
    if named.is_some_and(|id| !known(id)) {
        return Answer::json(404, &json!({"error": {"message": "no such object", "type": "invalid_request_error"}}));
    }
    let file = request.path().contains("/files");
    let new = format!("{}_{}", if file { "file" } else { "resp" }, made.len());
    let id = if request.method == "POST" { new } else { named.unwrap_or_default().to_owned() };
    if request.method == "POST" {
        made.insert(id.clone(), key);
    }
    if file {
        return Answer::json(200, &json!({"id": id, "object": "file", "purpose": "user_data"}));
    }
    Answer::json(
        200,
        &json!({"id": id, "object": "response", "status": "completed", "model": "m", "output": [],
            "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}}),
    )
}

fn config(mock: &Mock) -> String {
    format!(
        "[[provider]]\nname = \"o\"\nkind = \"openai\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         keys = [{{ name = \"one\", api_key = {{ env = \"A\" }} }}, {{ name = \"two\", api_key = {{ env = \"B\" }} }}]\n\
         [[policy]]\nname = \"all\"\n\
         may = {{ models = [\"*\"], providers = [\"*\"], passthrough = [{{ provider = \"o\", methods = [\"GET\", \"POST\"], paths = [\"/**\"] }}] }}\n",
        mock.url()
    )
}

#[tokio::test]
async fn what_one_key_made_no_other_is_asked_for() {
    let mock = provider().await;
    let world = World::new(&config(&mock));
    let ask = |more: Value| {
        let mut body = json!({"model": "o/m", "input": "hi"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let mut keys = BTreeMap::new();
    for _ in 0..24 {
        let made = world.post("/v1/responses", &ask(json!({}))).await;
        assert_eq!(made.status, 200, "{}", made.text());
        let key = mock.request(mock.count() - 1).await.header("authorization").unwrap().to_owned();
        *keys.entry(key).or_insert(0) += 1;
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/responses/{id}");
        assert_eq!(world.get_as("alice", &path).await.status, 200, "found again");
        assert_eq!(world.get_as("alice", &format!("/providers/o{path}")).await.status, 200, "also below /providers");
        assert_eq!(world.get_as("bob", &path).await.status, 404, "by its maker only");
        let next = world.post("/v1/responses", &ask(json!({"previous_response_id": id}))).await;
        assert_eq!(next.status, 200, "continued: {}", next.text());
        // What was made in the course of it is bound, too.
        let id = next.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(world.get_as("alice", &format!("/v1/responses/{id}")).await.status, 200);
    }
    assert!(keys.len() == 2, "both keys make some: {keys:?}");
}

#[tokio::test]
async fn a_file_is_named_to_the_key_it_was_uploaded_with() {
    let mock = provider().await;
    let world = World::new(&config(&mock));
    for _ in 0..12 {
        let file = world.post("/providers/o/v1/files", &json!({"purpose": "user_data"})).await;
        assert_eq!(file.status, 200, "{}", file.text());
        let id = file.json()["id"].clone();
        let body =
            json!({"model": "o/m", "input": [{"role": "user", "content": [{"type": "input_file", "file_id": id}]}]});
        for path in ["/v1/responses", "/providers/o/v1/responses"] {
            let body = if path.starts_with("/prov") { body.to_string().replace("o/m", "m") } else { body.to_string() };
            let body: Value = serde_json::from_str(&body).unwrap();
            let answer = world.post(path, &body).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_key_that_is_gone_leaves_what_it_made_to_the_others() {
    let mock = provider().await;
    let world = World::new(&config(&mock));
    let made = world.post("/v1/responses", &json!({"model": "o/m", "input": "hi"})).await;
    let used = mock.request(0).await.header("authorization").unwrap().to_owned();
    let id = made.json()["id"].as_str().unwrap().to_owned();
    // The key is called something else now: nobody can tell which of them finds it.
    world.reload(&config(&mock).replace("\"one\"", "\"three\"").replace("\"two\"", "\"four\""));
    let answer = world.get_as("alice", &format!("/v1/responses/{id}")).await;
    let now = mock.request(1).await.header("authorization").unwrap().to_owned();
    assert_eq!(answer.status.as_u16(), if now == used { 200 } else { 404 });
}
