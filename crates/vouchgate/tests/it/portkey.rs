//! Portkey on both sides: its SDKs in front, with the token where they put it, and its real gateway behind.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};
use testkit::process::Process;

use crate::support::{self, Gateway};

/// How long the gateway of Portkey has to start.
const STARTING: Duration = Duration::from_mins(1);

/// Two clients, of which one may send its credential where Portkey's SDKs put it.
fn clients() -> String {
    support::APP
        .replace("name = \"app\"\nscopes", "name = \"app\"\ncredential_headers = [\"x-portkey-api-key\"]\nscopes")
        + "\n[[client]]\nname = \"other\"\nscopes = [\"chat\"]\n\
           [[policy]]\nname = \"other\"\nwho = { client = \"other\" }\nmay = { models = [\"*\"] }\n"
}

fn steps(model: &str) -> Value {
    let arguments =
        json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello there, gateway"}]});
    json!([{"scenario": "chat", "arguments": arguments}, {"scenario": "stream", "arguments": arguments}])
}

#[tokio::test]
async fn portkeys_sdks_work_in_front_where_their_client_is_configured_so_and_nowhere_else() {
    let test = "portkeys_sdks_work_in_front_where_their_client_is_configured_so_and_nowhere_else";
    let gateway = Gateway::start(&clients()).await;
    for script in ["portkey_sdk.py", "portkey_sdk.mjs"] {
        for (client, works) in [("app", true), ("other", false)] {
            let token = gateway.token(client).await;
            let job = json!({"url": gateway.url(""), "token": token, "steps": steps("vouchgate/echo")});
            let Some(answer) = support::client(script, test, &job).await else { return };
            for said in answer["results"].as_array().unwrap() {
                if works {
                    assert_eq!(said["text"], "Hello there, gateway", "{script}: {said}");
                } else {
                    assert_eq!(said["status"], 400, "{script}: {said}");
                }
            }
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_31_the_field_is_one_clients_and_two_different_credentials_stay_two() {
    let gateway = Gateway::start(&clients()).await;
    let (app, other) = (gateway.token("app").await, gateway.token("other").await);
    let body = json!({"model": "vouchgate/echo", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let bearer = |token: &str| format!("Bearer {token}");
    for (fields, status) in [
        (vec![("x-portkey-api-key", app.clone())], 200),
        (vec![("x-portkey-api-key", app.clone()), ("authorization", bearer(&app))], 200),
        (vec![("x-portkey-api-key", app.clone()), ("authorization", bearer("OPENAI_API_KEY"))], 200),
        (vec![("x-portkey-api-key", app.clone()), ("authorization", bearer("DUMMY-KEY"))], 200),
        // Somebody else's.
        (vec![("x-portkey-api-key", other.clone())], 400),
        (vec![("x-portkey-api-key", other.clone()), ("authorization", bearer(&other))], 400),
        // Two that differ, either way round.
        (vec![("x-portkey-api-key", app.clone()), ("authorization", bearer(&other))], 400),
        (vec![("x-portkey-api-key", other.clone()), ("authorization", bearer(&app))], 400),
        (vec![("x-portkey-api-key", app.clone()), ("authorization", bearer("sk-anything"))], 400),
        (vec![("x-portkey-api-key", app.clone()), ("x-api-key", app.clone())], 400),
        (vec![("x-portkey-api-key", app.clone()), ("x-portkey-api-key", app.clone())], 400),
        (vec![("api-key", app.clone())], 400),
        // What is no token is none there either.
        (vec![("x-portkey-api-key", "DUMMY-KEY".to_owned())], 401),
        (vec![("x-portkey-api-key", format!("{app}x"))], 401),
        (vec![("authorization", bearer("DUMMY-KEY"))], 401),
    ] {
        let mut request = http::Request::builder().method("POST").uri(gateway.url("/v1/chat/completions"));
        for (name, value) in &fields {
            request = request.header(*name, value);
        }
        let request = request.header("content-type", "application/json").body(body.clone().into()).unwrap();
        let answer = gateway.send(request).await;
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(answer.status.as_u16(), status, "{names:?}: {}", answer.text());
    }
    gateway.stop().await;
}

/// Portkey's gateway, running; and its port.
async fn portkey(test: &str) -> Option<(Process, u16)> {
    let server = vectors::node_project().map(|dir| dir.join("node_modules/@portkey-ai/gateway/build/start-server.js"));
    let Some(server) = server.filter(|server| server.is_file()) else {
        vectors::skip(test, "Portkey's gateway is not installed (cargo xtask test installs it)");
        return None;
    };
    // It takes a port and no zero; one that was free a moment ago is free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let arguments = [server.to_str().unwrap(), &format!("--port={port}"), "--headless"];
    let mut process = Process::start(Path::new("node"), &arguments, server.parent().unwrap(), &[]);
    process.line_within(STARTING, "Ready for connections").await;
    Some((process, port))
}

fn whole(message: &Value, finish: &str) -> Answer {
    Answer::json(
        200,
        &json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-x",
            "choices": [{"index": 0, "finish_reason": finish, "message": message}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}),
    )
}

#[tokio::test]
async fn the_real_gateway_of_portkey_is_a_provider_whose_fields_come_from_configuration_alone() {
    let test = "the_real_gateway_of_portkey_is_a_provider_whose_fields_come_from_configuration_alone";
    let Some((_process, port)) = portkey(test).await else { return };
    let mock = Mock::start().await;
    let dir = tempfile::tempdir().unwrap();
    let routing =
        json!({"provider": "openai", "api_key": "fake-upstream-key", "custom_host": format!("{}/v1", mock.url())});
    let routing = support::secret_file(dir.path(), "portkey.json", &routing.to_string());
    let google = json!({"provider": "google", "api_key": "fake-upstream-key", "custom_host": mock.url()});
    let google = support::secret_file(dir.path(), "google.json", &google.to_string());
    let key = support::secret_file(dir.path(), "portkey.key", "fake-portkey-key");
    let provider = |name: &str, fields: &str| {
        let base = format!("http://127.0.0.1:{port}/v1");
        format!("{}headers = {{ {fields} }}\n", support::provider(name, "portkey", &base, &key))
    };
    let config = format!(
        "{}{}{}{}",
        support::APP,
        provider("by-google", &format!("x-portkey-config = {{ file = {:?} }}", google.display().to_string())),
        provider("by-config", &format!("x-portkey-config = {{ file = {:?} }}", routing.display().to_string())),
        provider("by-host", &format!("x-portkey-provider = \"openai\", x-portkey-custom-host = \"{}/v1\"", mock.url())),
    );
    let gateway = Gateway::start(&config).await;
    let token = gateway.token("app").await;
    let ask = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});

    mock.push(whole(&json!({"role": "assistant", "content": "hello"}), "stop"));
    // What a caller says to Portkey does not arrive there.
    let evil = Mock::start().await;
    let request = gateway
        .request(http::Method::POST, "/v1/chat/completions", &token)
        .header("content-type", "application/json")
        .header("x-portkey-custom-host", format!("{}/v1", evil.url()))
        .header("x-portkey-config", "{\"provider\":\"anthropic\"}")
        .header("x-portkey-trace-id", "caller")
        .body(ask("by-config/gpt-x").to_string().into())
        .unwrap();
    let answer = gateway.send(request).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["choices"][0]["message"]["content"]), (200, &json!("hello")));
    assert_eq!(answer.json()["usage"]["completion_tokens"], 3);
    let got = mock.request(0).await;
    assert_eq!((got.path(), got.header("authorization")), ("/v1/chat/completions", Some("Bearer fake-upstream-key")));
    assert_eq!(got.json()["model"], "gpt-x");
    assert_eq!(evil.count(), 0);

    let called = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function",
        "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}}]});
    mock.push(whole(&called, "tool_calls"));
    let mut tools = ask("by-host/gpt-x");
    let function =
        json!({"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}});
    tools["tools"] = json!([{"type": "function", "function": function}]);
    let answer = gateway.post("/v1/chat/completions", &token, &tools).await.json();
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], "{\"city\":\"Oslo\"}");
    assert_eq!(mock.request(1).await.json()["tools"][0]["function"], function);

    // Streams of its Google provider: those of others end in an error of its own on the Node of today (its issue 1389).
    let said = |text: &str, finish: Value| {
        json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, "finishReason": finish}],
            "modelVersion": "gemini-x", "responseId": "r", "usageMetadata":
            {"promptTokenCount": 7, "candidatesTokenCount": 2, "totalTokenCount": 9}})
    };
    let events = format!("data: {}\r\n\r\ndata: {}\r\n\r\n", said("hel", Value::Null), said("lo", json!("STOP")));
    mock.push(Answer::sse(events.clone()));
    let mut stream = ask("by-google/gemini-x");
    stream["stream"] = true.into();
    let streamed = gateway.post("/v1/chat/completions", &token, &stream).await.text();
    let pieces: String = streamed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(pieces, "hello", "{streamed}");
    assert!(!streamed.contains("\"error\""), "{streamed}");

    // Another dialect in front.
    mock.push(Answer::sse(events));
    let body = json!({"model": "by-google/gemini-x", "max_tokens": 50, "stream": true,
        "messages": [{"role": "user", "content": "hi"}]});
    let streamed = gateway.post("/v1/messages", &token, &body).await.text();
    assert!(streamed.contains("message_stop") && streamed.contains("\"output_tokens\":2"), "{streamed}");

    let error = json!({"error": {"message": "No such model.", "type": "invalid_request_error", "param": null, "code": "model_not_found"}});
    mock.push(Answer::json(404, &error));
    let answer = gateway.post("/v1/chat/completions", &token, &ask("by-config/gpt-x")).await;
    assert_eq!(answer.status.as_u16(), 404, "{}", answer.text());
    assert!(answer.text().contains("No such model."), "{}", answer.text());
    gateway.stop().await;
}
