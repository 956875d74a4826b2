//! Prompts published as endpoints.

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};

use crate::harness::World;

fn world(mock: &Mock, kind: &str) -> World {
    let base = if kind == "anthropic" { mock.url() } else { format!("{}/v1", mock.url()) };
    World::new(&format!(
        "[[provider]]\nname = \"p\"\nkind = \"{kind}\"\nbase_url = \"{base}\"\nallow_private = true\n\
         [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"p\", model = \"big-1\" }}]\nretry = {{ attempts = 1 }}\n\
         [[service]]\nname = \"analyzing\"\npath = \"/v1/analyzing\"\nmodel = \"fast\"\nprompt = \"Answer.\\n\\n{{{{input}}}}\"\n\
         [[service]]\nname = \"hidden\"\npath = \"/v1/hidden\"\nmodel = \"fast\"\nprompt = \"{{{{input}}}} {{{{lang}}}}\"\n\
         [[policy]]\nname = \"all\"\nmay = {{ services = [\"analyzing\"] }}\n"
    ))
}

fn completion(text: &str) -> Value {
    json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "big-1-0601", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}})
}

fn json_asked() -> Value {
    json!({"input": "What is the future?", "parameters": {"response_format": "json"}})
}

#[tokio::test]
async fn a_service_answers_in_text_or_in_json() {
    let mock = Mock::start().await;
    let world = world(&mock, "openai-compatible");
    mock.push(Answer::json(200, &completion("fine")));
    let answer = world.post("/v1/analyzing", &json!({"input": "{{lang}} What?"})).await;
    let body = answer.json();
    assert_eq!((&body["output"], &body["model"]), (&json!("fine"), &json!("big-1-0601")), "{body}");
    assert_eq!((&body["usage"]["input_tokens"], &body["usage"]["output_tokens"]), (&json!(5), &json!(2)));
    assert_eq!(body["request_id"], answer.header("x-request-id"));
    let sent = mock.request(0).await.json();
    assert_eq!(
        (&sent["model"], &sent["messages"][0]["content"]),
        (&json!("big-1"), &json!("Answer.\n\n{{lang}} What?"))
    );

    mock.push(Answer::json(200, &completion("```json\n{\"future\": [\"bright\"]}\n```")));
    assert_eq!(world.post("/v1/analyzing", &json_asked()).await.json()["output"], json!({"future": ["bright"]}));
    assert_eq!(mock.request(1).await.json()["response_format"]["type"], "json_object");
    assert_eq!(world.record().output_tokens, Some(2));
}

#[tokio::test]
async fn json_asked_and_not_obtained_is_an_error() {
    let mock = Mock::start_with(|_| Answer::json(200, &completion("Sure! {\"a\": 1}"))).await;
    let world = world(&mock, "openai-compatible");
    let answer = world.post("/v1/analyzing", &json_asked()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "output_not_json"));
    assert_eq!(mock.count(), 1);
}

#[tokio::test]
async fn a_service_works_on_a_provider_without_a_switch_for_json() {
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "big-1", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "{\"a\":1}"}], "usage": {"input_tokens": 5, "output_tokens": 2}});
    let mock = Mock::start_with(move |_| Answer::json(200, &message)).await;
    let world = world(&mock, "anthropic");
    let answer = world.post("/v1/analyzing", &json_asked()).await;
    assert_eq!(answer.json()["output"], json!({"a": 1}), "{}", answer.text());
    assert!(mock.request(0).await.json().to_string().contains("JSON"));
}

#[tokio::test]
async fn a_service_streams_deltas_and_ends_with_the_whole() {
    let chunk = |text: &str, finish: Option<&str>| json!({"id": "c", "model": "big-1", "created": 1, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]});
    let usage =
        json!({"id": "c", "model": "big-1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}});
    let mock = Mock::start().await;
    let world = world(&mock, "openai-compatible");
    let stream = || Answer::openai_stream(&[chunk("hel", None), chunk("lo", Some("stop")), usage.clone()]);
    mock.push(stream().pieces(13));
    let text = world.post("/v1/analyzing", &json!({"input": "x", "stream": true})).await.text();
    let events: Vec<Value> =
        text.split("\n\n").filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok()).collect();
    assert_eq!(events[0], json!({"type": "delta", "delta": "hel"}));
    let done = events.last().expect("an event");
    assert_eq!(
        (&done["type"], &done["output"], &done["usage"]["output_tokens"]),
        (&json!("done"), &json!("hello"), &json!(2))
    );
    assert_eq!(world.record().output_tokens, Some(2));

    mock.push(stream().cut_after(150));
    let cut = world.post("/v1/analyzing", &json!({"input": "x", "stream": true})).await.text();
    assert!(cut.contains("\"upstream_cut\"") && !cut.contains("\"done\""), "{cut}");
    mock.push(stream());
    let body = json!({"input": "x", "parameters": {"stream": true, "response_format": "json"}});
    assert!(world.post("/v1/analyzing", &body).await.text().contains("output_not_json"));
    assert_eq!(world.record().error.as_deref(), Some("output_not_json"));
}

#[tokio::test]
async fn a_service_says_what_it_misses_and_who_may_not() {
    let mock = Mock::start().await;
    let world = world(&mock, "openai-compatible");
    let missing = world.post("/v1/analyzing", &json!({})).await;
    assert_eq!((missing.status.as_u16(), &missing.json()["error"]["param"]), (400, &json!("input")));
    assert_eq!(world.post("/v1/analyzing", &json!({"input": "x", "other": 1})).await.status, 400);
    let bearer = format!("Bearer {}", world.token("alice"));
    let twice =
        world.send("POST", "/v1/analyzing", &[("authorization", &bearer)], "{\"input\":\"a\",\"input\":\"b\"}").await;
    assert_eq!(twice.status, 400);
    let denied = world.post("/v1/hidden", &json!({"input": "x", "variables": {"lang": "fr"}})).await;
    assert_eq!((denied.status.as_u16(), denied.code().as_str()), (403, "service_not_allowed"));
    assert_eq!(world.send("GET", "/v1/analyzing", &[("authorization", &bearer)], "").await.status, 405);
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn the_openapi_document_names_the_services_the_caller_may_use() {
    let mock = Mock::start().await;
    let document = world(&mock, "openai-compatible").get_as("alice", "/openapi.json").await.json();
    let paths: Vec<&String> = document["paths"].as_object().expect("paths").keys().collect();
    assert_eq!(paths, ["/v1/analyzing"]);
    let operation = &document["paths"]["/v1/analyzing"]["post"];
    assert!(operation["description"].is_string(), "null is no description: {operation}");
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!((&schema["required"], &schema["properties"]["input"]["type"]), (&json!(["input"]), &json!("string")));
}

#[tokio::test]
async fn the_built_in_model_serves_services_too() {
    let world = World::new(
        "[[service]]\nname = \"s\"\npath = \"/v1/s\"\nmodel = \"vouchgate/echo\"\nprompt = \"{{input}}\"\n\
         [[policy]]\nname = \"all\"\nmay = { services = [\"*\"] }\n",
    );
    assert_eq!(world.post("/v1/s", &json!({"input": "say it"})).await.json()["output"], "say it");
    let text = world.post("/v1/s", &json!({"input": "say it", "stream": true})).await.text();
    assert!(text.contains("\"delta\"") && text.contains("\"output\":\"say it\""), "{text}");
}
