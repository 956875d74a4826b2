//! What OpenAI's Responses API has beside answers: compaction, counts, and answers that are made in the background and paid for
//! when they are fetched, once.

use http::StatusCode;
use serde_json::{Value, json};
use testkit::mock::{Answer, Mock, Received};

use crate::harness::{PROVIDER_KEY, World};

fn config(mock: &Mock, may: &str) -> String {
    let provider = |name: &str, kind: &str, base: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{}{base}\"\nallow_private = true\n\
             api_key = {{ env = \"K\" }}\n",
            mock.url()
        )
    };
    format!(
        "{}{}{}[[model]]\nname = \"fast\"\ntargets = [{{ provider = \"c\", model = \"m\" }}, {{ provider = \"o\", model = \"gpt-5\" }}]\n\
         retry = {{ attempts = 2 }}\n[[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"o\", \"a\", \"c\"]{may} }}\n",
        provider("o", "openai", "/v1"),
        provider("a", "anthropic", ""),
        provider("c", "groq", "/openai/v1"),
    )
}

fn usage() -> Value {
    json!({"input_tokens": 50, "output_tokens": 20, "total_tokens": 70})
}

fn response(status: &str, usage: &Value) -> Value {
    json!({"id": "resp_b", "object": "response", "status": status, "background": true, "model": "gpt-5", "output": [], "usage": usage})
}

fn events(status: &[&str]) -> Answer {
    let event = |status: &&str| {
        let usage = if *status == "completed" { usage() } else { Value::Null };
        json!({"type": format!("response.{}", if *status == "queued" { "created" } else { status }), "response": response(status, &usage)})
    };
    Answer::anthropic_stream(&status.iter().map(event).collect::<Vec<_>>()).pieces(11)
}

#[tokio::test]
async fn a_conversation_is_compacted_by_the_provider_that_documents_it() {
    let told = "{ \"id\":\"resp_c\",\"object\":\"response.compaction\",\"output\":[{\"type\":\"compaction\",\"id\":\"cmp_1\",\
                \"encrypted_content\":\"x\"}],\"usage\":{\"input_tokens\":40,\"output_tokens\":9,\"total_tokens\":49} }";
    let mock = Mock::start_with(move |_| Answer::bytes(200, "application/json", told)).await;
    let world = World::new(&config(&mock, ""));
    let token = format!("Bearer {}", world.token("alice"));
    let body = "{ \"input\":\"h\\u00e9\", \"x_unknown\":1.0, \"model\":\"fast\" }";
    let answer = world.send("POST", "/v1/responses/compact", &[("authorization", token.as_str())], body).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, told));
    let got = mock.request(0).await;
    assert_eq!(got.target, "/v1/responses/compact");
    assert_eq!(got.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
    assert_eq!(String::from_utf8_lossy(&got.body), body.replace("fast", "gpt-5"));
    assert_eq!((world.record().input_tokens, world.record().output_tokens), (Some(40), Some(9)));
    for (body, status, code) in [
        (json!({"input": "x"}), 400, "missing_parameter"),
        (json!({"model": "a/claude", "input": "x"}), 400, "unsupported_parameter"),
        (json!({"model": "fast", "previous_response_id": "resp_v"}), 404, "object_not_found"),
    ] {
        let refused = world.post("/v1/responses/compact", &body).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (status, code), "{body}: {}", refused.text());
    }
    let bounded = World::new(&config(&mock, ", max_output_tokens = 10"));
    let refused = bounded.post("/v1/responses/compact", &json!({"model": "fast", "input": "x"})).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::BAD_REQUEST, "unsupported_parameter"));
    let hidden = json!({"model": "fast", "input": [{"type": "additional_tools", "tools": [{"type": "mcp", "server_label": "x"}]}]});
    let closed = World::new(&config(&mock, ", tools = false"));
    assert_eq!(closed.post("/v1/responses/compact", &hidden).await.status, 403);
    assert_eq!(mock.count(), 1);
}

#[tokio::test]
async fn input_tokens_are_counted_where_the_model_is() {
    let mock = Mock::start_with(|request: &Received| match request.path() {
        "/v1/messages/count_tokens" => Answer::json(200, &json!({"input_tokens": 9})),
        _ => Answer::bytes(200, "application/json", "{ \"object\":\"response.input_tokens\", \"input_tokens\":11 }"),
    })
    .await;
    let world = World::new(&config(&mock, ""));
    let ask = json!({"model": "fast", "input": "hi", "instructions": "Be brief.", "personality": "warm"});
    let answer = world.post("/v1/responses/input_tokens", &ask).await;
    assert_eq!(answer.text(), "{ \"object\":\"response.input_tokens\", \"input_tokens\":11 }");
    let got = mock.request(0).await;
    assert_eq!((got.target.as_str(), &got.json()["personality"]), ("/v1/responses/input_tokens", &json!("warm")));
    assert_eq!(world.record().input_tokens, None, "nothing was used");
    let other = json!({"model": "a/claude", "input": "hi", "instructions": "Be brief."});
    let answer = world.post("/v1/responses/input_tokens", &other).await;
    assert_eq!(answer.json(), json!({"object": "response.input_tokens", "input_tokens": 9}), "{}", answer.text());
    assert_eq!(
        mock.request(1).await.json()["system"][0]["text"].as_str().or(mock.request(1).await.json()["system"].as_str()),
        Some("Be brief.")
    );
    let messages = json!({"model": "o/gpt-5", "messages": [{"role": "user", "content": "hi"}]});
    let answer = world.post("/v1/messages/count_tokens", &messages).await;
    assert_eq!(answer.json(), json!({"input_tokens": 11}), "{}", answer.text());
    let echo = world.post("/v1/responses/input_tokens", &json!({"model": "vouchgate/echo", "input": "hi"})).await;
    assert_eq!(echo.json(), json!({"object": "response.input_tokens", "input_tokens": 1}));
    let none = world.post("/v1/responses/input_tokens", &json!({"model": "c/m", "input": "hi"})).await;
    assert_eq!((none.status.as_u16(), none.code().as_str()), (400, "unsupported_parameter"));
}

#[tokio::test]
async fn what_was_made_in_the_background_is_counted_when_it_is_first_fetched_and_never_again() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, ""));
    mock.push(Answer::json(200, &response("queued", &Value::Null)));
    let ask = json!({"model": "o/gpt-5", "input": "x", "background": true});
    assert_eq!(world.post("/v1/responses", &ask).await.json()["status"], "queued");
    assert_eq!(world.record().output_tokens, None);
    let fetch = || world.get_as("alice", "/v1/responses/resp_b");
    mock.push(Answer::json(200, &response("in_progress", &Value::Null)));
    assert_eq!(fetch().await.json()["status"], "in_progress");
    assert_eq!(world.record().output_tokens, None);
    assert_eq!(world.get_as("bob", "/v1/responses/resp_b").await.status, 404);
    for (n, told) in [Some(20), None, None].into_iter().enumerate() {
        mock.push(Answer::json(200, &response("completed", &usage())));
        assert_eq!(fetch().await.json()["usage"], usage());
        assert_eq!(world.record().output_tokens, told, "{n}");
    }
}

#[tokio::test]
async fn a_stream_of_the_background_counts_once_whoever_sees_its_end() {
    let streamed = json!({"model": "o/gpt-5", "input": "x", "background": true, "stream": true});
    // Seen to its end by who asked: a look at it later is free.
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, ""));
    mock.push(events(&["queued", "in_progress", "completed"]));
    assert!(world.post("/v1/responses", &streamed).await.text().contains("response.completed"));
    assert_eq!(world.record().output_tokens, Some(20));
    mock.push(Answer::json(200, &response("completed", &usage())));
    world.get_as("alice", "/v1/responses/resp_b").await;
    assert_eq!(world.record().output_tokens, None);
    // Left midway and followed later, as a stream.
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, ""));
    mock.push(events(&["queued"]));
    world.post("/v1/responses", &streamed).await;
    assert_eq!(world.record().output_tokens, None);
    for told in [Some(20), None] {
        mock.push(events(&["in_progress", "completed"]));
        let answer = world.get_as("alice", "/v1/responses/resp_b?stream=true&starting_after=1").await;
        assert!(answer.text().contains("response.completed"), "{}", answer.text());
        assert_eq!(world.record().output_tokens, told);
    }
}
