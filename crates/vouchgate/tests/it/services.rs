//! Prompts published as endpoints, and other APIs behind the same checks: with a real `curl`.

use std::sync::Arc;

use http::Method;
use http_body_util::Full;
use serde_json::{Value, json};
use testkit::mock::{self, Mock};

use crate::support::{self, Gateway, secret_file};

const SERVICES: &str = r#"
[[service]]
name = "analyzing"
path = "/v1/analyzing"
model = "vouchgate/echo"
prompt = "Answer the question.\n\n{{input}}"

[[service]]
name = "letters"
path = "/v1/letters"
description = "Writes a letter."
model = "prov/writer"
prompt = "Write to {{name}} about {{input}}, {{times}} times."

[service.variables]
name = { type = "string", max_length = 10, description = "To whom." }
times = { type = "number", default = 2 }

[[service]]
name = "hidden"
path = "/v1/hidden"
model = "vouchgate/echo"
prompt = "{{input}}"

[[client]]
name = "app"
scopes = ["chat"]
token_ttl = "1h"

[[policy]]
name = "app"
who = { client = "app" }
may = { services = ["analyzing", "letters"], upstreams = ["maps"] }
"#;

const MAPS_KEY: &str = "fake-maps-key";

/// A gateway with services of the built-in model and of a provider, and an upstream.
async fn start(mock: &Mock) -> Gateway {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let key = secret_file(dir.path(), "provider-key", "fake-provider-key-for-services");
    let maps = secret_file(dir.path(), "maps-key", MAPS_KEY);
    let upstream = format!(
        "\n[[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"{}/api/\"\nallow_private = true\n\
         inject = {{ header = \"X-Api-Key\", value = {{ file = {:?} }} }}\n",
        mock.url(),
        maps.display().to_string()
    );
    let provider = support::provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
    Gateway::start_in(dir, &format!("{SERVICES}{provider}{upstream}")).await
}

fn completion(text: &str) -> Value {
    json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "writer-1", "choices": [{"index": 0,
        "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}})
}

/// Run a shell command with the token in `$TOKEN`; what it printed.
async fn shell(command: &str, token: &str) -> String {
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", command]).env("TOKEN", token).kill_on_drop(true);
    let output = testkit::patiently("curl", shell.output()).await.unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_curl_of_the_documentation_works_with_a_real_token() {
    let mock = Mock::start().await;
    let gateway = start(&mock).await;
    let token = gateway.token("app").await;
    let command = r#"curl -sS http://127.0.0.1:8080/v1/analyzing -H 'Content-Type: application/json' -H "Authorization: Bearer $TOKEN" \
      --data '{"input": "What is the future of AI in business?", "parameters": {"response_format": "json"}}'"#;
    let command = command.replace("127.0.0.1:8080", &gateway.public.to_string());
    let answer: Value = serde_json::from_str(&shell(&command, &token).await).unwrap();
    let asked = "Answer the question.\n\nWhat is the future of AI in business?";
    assert_eq!((&answer["output"], &answer["model"]), (&json!({"echo": asked}), &json!("vouchgate/echo")), "{answer}");
    assert!(answer["usage"]["output_tokens"].as_u64() > Some(0), "{answer}");
    assert!(answer["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{answer}");

    let text = command.replace(r#""response_format": "json""#, r#""response_format": "text""#);
    let answer: Value = serde_json::from_str(&shell(&text, &token).await).unwrap();
    assert_eq!(answer["output"], asked);

    let streamed =
        shell(&command.replace("{\"input\"", "{\"stream\": true, \"input\"").replace("-sS", "-sSN"), &token).await;
    let events: Vec<Value> =
        streamed.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let (last, deltas) = events.split_last().unwrap();
    let said: String = deltas.iter().map(|event| event["delta"].as_str().unwrap()).collect();
    assert!(deltas.len() > 1 && deltas.iter().all(|event| event["type"] == "delta"), "{streamed}");
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), last["output"], "{streamed}");
    assert_eq!((&last["type"], &last["output"]), (&json!("done"), &json!({"echo": asked})), "{streamed}");

    let anonymous = command.replace(" -H \"Authorization: Bearer $TOKEN\"", " -w '%{http_code}' -o /dev/null");
    assert_eq!(shell(&anonymous, &token).await, "401");
    gateway.stop().await;
}

#[tokio::test]
async fn variables_are_checked_and_put_into_the_prompt() {
    let mock = Mock::start().await;
    let gateway = start(&mock).await;
    let token = gateway.token("app").await;
    mock.push(mock::Answer::json(200, &completion("Dear Ann, ...")));
    let body = json!({"input": "cats {{name}}", "variables": {"name": "Ann"}});
    let answer = gateway.post("/v1/letters", &token, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!((&told["output"], &told["model"]), (&json!("Dear Ann, ..."), &json!("writer-1")));
    assert_eq!((&told["usage"]["input_tokens"], &told["usage"]["output_tokens"]), (&json!(9), &json!(4)));
    assert_eq!(Some(told["request_id"].as_str().unwrap()), answer.header("x-request-id"));
    // Values are text, never a template of their own.
    let sent = mock.request(0).await.json();
    assert_eq!(sent["messages"][0]["content"], "Write to Ann about cats {{name}}, 2 times.");
    assert_eq!(sent["model"], "writer");

    for (body, member) in [
        (json!({"input": "cats"}), "name"),
        (json!({"variables": {"name": "Ann"}}), "input"),
        (json!({"input": "cats", "variables": {"name": 7}}), "name"),
        (json!({"input": "cats", "variables": {"name": "Ann", "times": "two"}}), "times"),
        (json!({"input": "cats", "variables": {"name": "much too long"}}), "name"),
        (json!({"input": "cats", "variables": {"name": "Ann", "other": "x"}}), "other"),
        (
            json!({"input": "cats", "variables": {"name": "Ann"}, "parameters": {"response_format": "xml"}}),
            "response_format",
        ),
    ] {
        let answer = gateway.post("/v1/letters", &token, &body).await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status.as_u16(), &error["code"], &error["param"]),
            (400, &json!("invalid_parameter"), &json!(member)),
            "{body}"
        );
    }
    assert_eq!(mock.count(), 1, "nothing of that reached the provider");
    gateway.stop().await;
}

#[tokio::test]
async fn json_asked_and_not_obtained_is_told_and_never_passed_off_as_json() {
    let mock = Mock::start().await;
    let gateway = start(&mock).await;
    let token = gateway.token("app").await;
    let body = json!({"input": "cats", "variables": {"name": "Ann"}, "parameters": {"response_format": "json"}});
    mock.push(mock::Answer::json(200, &completion("```json\n{\"letter\": \"Dear Ann\"}\n```")));
    let answer = gateway.post("/v1/letters", &token, &body).await;
    assert_eq!(answer.json()["output"], json!({"letter": "Dear Ann"}), "{}", answer.text());
    assert_eq!(mock.request(0).await.json()["response_format"]["type"], "json_object");

    mock.push(mock::Answer::json(200, &completion("Sure! Here it is: {\"letter\":")));
    let answer = gateway.post("/v1/letters", &token, &body).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "output_not_json"), "{}", answer.text());

    let mut body = body;
    body["stream"] = true.into();
    let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "writer-1",
        "choices": [{"index": 0, "delta": {"content": "Sure!"}, "finish_reason": "stop"}]});
    mock.push(mock::Answer::openai_stream(&[chunk]));
    let answer = gateway.post("/v1/letters", &token, &body).await;
    assert!(answer.text().contains("output_not_json") && !answer.text().contains("\"done\""), "{}", answer.text());
    gateway.stop().await;
}

#[tokio::test]
async fn the_description_of_the_services_is_valid_and_shows_only_the_allowed_ones() {
    let mock = Mock::start().await;
    let gateway = start(&mock).await;
    let token = gateway.token("app").await;
    let document = gateway.get("/openapi.json", &token).await.json();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/v1/analyzing", "/v1/letters"], "{document}");
    valid_openapi(&document);
    let body = &document["paths"]["/v1/letters"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["properties"]["variables"]["required"], json!(["name"]), "{body}");
    assert_eq!(body["properties"]["variables"]["properties"]["name"]["maxLength"], 10, "{body}");
    assert_eq!(gateway.post("/v1/hidden", &token, &json!({"input": "x"})).await.status, 403);
    let anonymous = http::Request::get(gateway.url("/openapi.json")).body(Full::default()).unwrap();
    assert_eq!(gateway.send(anonymous).await.status, 401);
    gateway.stop().await;
}

/// What `OpenAPI` 3.1 asks of a document of this kind: required members, known types, references that lead somewhere,
/// responses with descriptions, security schemes that exist, operation ids that occur once.
fn valid_openapi(document: &Value) {
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        assert!(path.starts_with('/'), "{path}");
        for (method, operation) in item.as_object().unwrap() {
            assert!(["get", "put", "post", "delete", "patch"].contains(&method.as_str()), "{path} {method}");
            ids.push(operation["operationId"].as_str().unwrap().to_owned());
            let contents = operation["requestBody"]["content"].as_object().unwrap();
            assert!(!contents.is_empty() && contents.values().all(|content| content["schema"].is_object()), "{path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()), "{path} {status}");
                assert!(response["description"].is_string(), "{path} {status}");
            }
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids occur once");
    for requirement in document["security"].as_array().unwrap() {
        for name in requirement.as_object().unwrap().keys() {
            assert!(document["components"]["securitySchemes"][name]["type"].is_string(), "{name}");
        }
    }
    walk(document, document);
}

fn walk(document: &Value, value: &Value) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(document, item)),
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            if let (Some(Value::String(kind)), true) = (members.get("type"), members.contains_key("properties")) {
                assert_eq!(kind, "object", "{value}");
            }
            members.values().for_each(|member| walk(document, member));
        }
        _ => {}
    }
}

#[tokio::test]
async fn an_upstream_gets_its_own_key_and_nothing_of_the_callers() {
    let mock = Mock::start().await;
    let gateway = start(&mock).await;
    let token = gateway.token("app").await;
    mock.push(mock::Answer::json(201, &json!({"route": [1, 2]})).header("x-maps", "yes").header("set-cookie", "a=b"));
    let request = gateway
        .request(Method::POST, "/maps/v1/route?from=a&to=b%20c", &token)
        .header("content-type", "application/json")
        .header("accept", "application/json");
    let answer = gateway.send(request.body(Full::from("{\"by\":\"foot\"}")).unwrap()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!((answer.json(), answer.header("x-maps")), (json!({"route": [1, 2]}), Some("yes")));

    let received = mock.request(0).await;
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/api/v1/route?from=a&to=b%20c"));
    assert_eq!(received.body, b"{\"by\":\"foot\"}");
    let keys: Vec<&str> = received
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-api-key"))
        .map(|(_, v)| v.as_str())
        .collect();
    assert_eq!(keys, [MAPS_KEY]);
    assert!(received.header("authorization").is_none());
    assert!(!String::from_utf8_lossy(&received.head).contains(&token), "the caller's token stays here");
    assert!(!answer.text().contains(MAPS_KEY));

    // A credential in the very header that is injected is taken out of it.
    mock.push(mock::Answer::json(200, &json!([])));
    let request = http::Request::get(gateway.url("/maps/v1/route")).header("x-api-key", token.as_str());
    assert_eq!(gateway.send(request.body(Full::default()).unwrap()).await.status, 200);
    let received = mock.request(1).await;
    assert_eq!(received.header("x-api-key"), Some(MAPS_KEY));
    assert!(!String::from_utf8_lossy(&received.head).contains(&token), "the caller's token stays here");

    let anonymous = http::Request::get(gateway.url("/maps/v1/route")).body(Full::default()).unwrap();
    assert_eq!(gateway.send(anonymous).await.status, 401);
    let outside = gateway.get("/maps/../v1/models", &token).await.status.as_u16();
    assert!([400, 403, 404].contains(&outside), "{outside}");
    assert_eq!(mock.count(), 2);
    gateway.stop().await;
}
