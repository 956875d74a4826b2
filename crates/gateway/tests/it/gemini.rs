//! Google's dialect: its clients in front of anybody, Gemini behind anybody, and every recording of it.

use serde_json::{Value, json};
use testkit::mock::{Answer, Cassette, Mock};

use crate::compare;
use crate::harness::{PROVIDER_KEY, World};

fn config(mock: &Mock) -> String {
    let provider = |name: &str, kind: &str, base: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{}{base}\"\nallow_private = true\n\
             api_key = {{ env = \"K\" }}\n",
            mock.url()
        )
    };
    format!(
        "{}{}{}[[model]]\nname = \"fast\"\ntargets = [{{ provider = \"g\", model = \"gemini-2.5-flash\" }}]\n\
         retry = {{ attempts = 1 }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"g\"], max_output_tokens = 900 }}\n",
        provider("g", "gemini", "/v1beta/openai"),
        provider("o", "openai-compatible", "/v1"),
        provider("a", "anthropic", "")
    )
}

fn ask() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 50}})
}

fn said(text: &str, finish: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    json!({"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "responseId": "r1",
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 3, "totalTokenCount": 10}})
}

fn events(pieces: &[Value]) -> Answer {
    let framed = pieces.iter().flat_map(|piece| ["data: ".to_owned(), piece.to_string(), "\r\n\r\n".to_owned()]);
    Answer::sse(framed.collect::<String>())
}

#[tokio::test]
async fn a_gemini_client_reaches_gemini_with_every_byte_and_only_the_key_changed() {
    let body = "{ \"candidates\" : [],\n \"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":2} }";
    let mock = Mock::start_with(move |_| Answer::bytes(200, "application/json", body)).await;
    let world = World::new(&config(&mock));
    let sent = "{\"contents\":[{\"parts\":[{\"text\":\"h\\u00e9\"}]}], \"x_unknown\": 1.0,\"generation_config\":{\"max_output_tokens\":7}}";
    let token = world.token("alice");
    let headers = [("x-goog-api-key", token.as_str())];
    for path in ["/v1beta/models/fast:generateContent", "/v1/models/g%2Fgemini-2.5-flash:generateContent"] {
        let answer = world.send("POST", path, &headers, sent).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, body));
    }
    for got in [mock.request(0).await, mock.request(1).await] {
        assert_eq!(String::from_utf8_lossy(&got.body), sent);
        assert_eq!(got.target, "/v1beta/models/gemini-2.5-flash:generateContent");
        assert_eq!(got.header("x-goog-api-key"), Some(PROVIDER_KEY));
        assert_eq!(got.header("authorization"), None);
        assert!(!String::from_utf8_lossy(&got.head).contains(&token));
    }
    let record = world.record();
    assert_eq!((record.input_tokens, record.output_tokens), (Some(5), Some(2)));
}

#[tokio::test]
async fn a_stream_is_events_or_one_array_as_the_client_asks_and_a_bound_of_the_policy_is_set() {
    let mock = Mock::start_with(|_| events(&[said("hel", None), said("lo", Some("STOP"))]).pieces(7)).await;
    let world = World::new(&config(&mock));
    let unbound = json!({"contents": []});
    let path = "/v1beta/models/fast:streamGenerateContent";
    let streamed = world.post(&format!("{path}?alt=sse"), &unbound).await;
    assert_eq!(streamed.header("content-type").split(';').next(), Some("text/event-stream"));
    let expected = format!("data: {}\r\n\r\ndata: {}\r\n\r\n", said("hel", None), said("lo", Some("STOP")));
    assert_eq!(streamed.text(), expected);
    let record = world.record();
    assert_eq!((record.stream, record.input_tokens, record.output_tokens), (true, Some(5), Some(5)));
    let array = world.post(path, &unbound).await;
    assert_eq!(array.header("content-type").split(';').next(), Some("application/json"));
    assert_eq!(array.json(), json!([said("hel", None), said("lo", Some("STOP"))]));
    for at in [0, 1] {
        let got = mock.request(at).await;
        assert_eq!(got.target, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
        assert_eq!(got.json()["generationConfig"]["maxOutputTokens"], 900);
    }
}

#[tokio::test]
async fn a_stream_that_gemini_breaks_off_ends_in_an_error_of_the_clients_form() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let path = "/v1beta/models/fast:streamGenerateContent";
    mock.push(events(&[said("hel", None)]));
    let streamed = world.post(&format!("{path}?alt=sse"), &ask()).await.text();
    assert!(streamed.contains("data: {\"error\":{\"code\":502,") && streamed.ends_with("}\n\n"), "{streamed}");
    mock.push(events(&[said("hel", None)]));
    let array = world.post(path, &ask()).await.json();
    assert_eq!(array[1]["error"]["status"], "UNAVAILABLE");
    mock.push(events(&[
        said("hel", None),
        json!({"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}),
    ]));
    let body = json!({"model": "fast", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let chat = world.post("/v1/chat/completions", &body).await.text();
    assert!(chat.contains("\"message\":\"busy\"") && !chat.contains("[DONE]"), "{chat}");
}

#[tokio::test]
async fn a_gemini_client_is_answered_by_openai_and_by_anthropic() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    mock.push(Answer::json(
        200,
        &json!({"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"content": null,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1.50}"}}]}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}),
    ));
    let answer = world.post("/v1beta/models/o/m:generateContent", &ask()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer.text().contains(r#"{"functionCall":{"id":"c1","name":"f","args":{"a":1.50}}}"#),
        "{}",
        answer.text()
    );
    let got = mock.request(0).await.json();
    assert_eq!((&got["model"], &got["max_tokens"]), (&json!("m"), &json!(50)));
    mock.push(Answer::anthropic_stream(&[
        json!({"type": "message_start", "message": {"id": "m1", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 4}}),
        json!({"type": "message_stop"}),
    ]));
    let streamed = world.post("/v1beta/models/a/claude:streamGenerateContent?alt=sse", &ask()).await.text();
    let told = compare::gemini(&compare::payloads(&streamed));
    assert_eq!((told.text.as_str(), told.stop.as_str(), told.model.as_str()), ("hello", "max_tokens", "claude"));
    assert_eq!((told.usage.input, told.usage.output), (3, 4));
    assert_eq!(mock.request(1).await.json()["stream"], true);
}

#[tokio::test]
async fn the_built_in_model_answers_gemini_clients_too() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let whole = world.post("/v1beta/models/vouchgate/echo:generateContent", &ask()).await.json();
    assert_eq!(whole["candidates"][0]["content"]["parts"][0]["text"], "hi");
    let array = world.post("/v1beta/models/vouchgate/echo:streamGenerateContent", &ask()).await.json();
    let told = compare::gemini(array.as_array().expect("an array"));
    assert_eq!((told.text.as_str(), told.usage.output), ("hi", 1));
}

#[tokio::test]
async fn errors_are_googles_and_what_is_anothers_is_not_named() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let answer = world.send("POST", "/v1/models/fast:generateContent", &[], "{}").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["status"]), (401, &json!("UNAUTHENTICATED")));
    for (path, body, status) in [
        ("/v1beta/models/fast:generateContent", json!({"contents": [], "model": "models/other"}), 400),
        ("/v1beta/models/g/..%2F..:generateContent", ask(), 400),
        ("/v1beta/models/fast:predict", ask(), 404),
        ("/v1beta/models/fast:generateContent", json!({"contents": [], "cachedContent": "cachedContents/1"}), 404),
        (
            "/v1beta/models/fast:generateContent",
            json!({"contents": [{"parts": [{"file_data": {"file_uri": "https://generativelanguage.googleapis.com/v1beta/files/x"}}]}]}),
            404,
        ),
        ("/v1beta/models/o/m:generateContent", json!({"contents": [], "tools": [{"googleSearch": {}}]}), 400),
    ] {
        let answer = world.post(path, &body).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {body}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], status, "{path}");
    }
    assert_eq!(mock.count(), 0);
    mock.push(Answer::json(
        429,
        &json!({"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}),
    ));
    let chat = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
    let answer = world.post("/v1/chat/completions", &chat).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["type"]), (429, &json!("rate_limit_error")));
}

#[tokio::test]
async fn the_providers_own_path_takes_the_same_requests_and_no_stream_that_cannot_be_read_along() {
    let mock = Mock::start_with(|_| events(&[said("hello", Some("STOP"))])).await;
    let world = World::new(&config(&mock));
    let path = "/providers/g/v1beta/models/gemini-2.5-flash:streamGenerateContent";
    let answer = world.post(&format!("{path}?alt=sse"), &ask()).await;
    assert_eq!(answer.text(), format!("data: {}\r\n\r\n", said("hello", Some("STOP"))));
    assert_eq!(mock.request(0).await.target, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
    assert_eq!(world.record().output_tokens, Some(5));
    let answer = world.post(path, &ask()).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    let answer = world.post("/providers/g/v1beta/cachedContents", &json!({"model": "models/m"})).await;
    assert_eq!(answer.status, 403);
}

/// The recordings of Google's own answers, with the model their path names.
fn recordings() -> Option<Vec<(&'static Cassette, String)>> {
    let all = Cassette::all()?.iter().filter(|cassette| cassette.endpoint.starts_with("generateContent"));
    Some(all.map(|cassette| (cassette.as_ref(), "gemini-2.5-flash".to_owned())).collect())
}

#[tokio::test]
async fn every_recording_of_gemini_comes_out_as_it_was_and_says_the_same_to_others() {
    let Some(recordings) = recordings() else {
        vectors::skipped("every_recording_of_gemini");
        return;
    };
    let mock = Mock::start().await;
    let world = World::new(&config(&mock).replace(", max_output_tokens = 900", ""));
    let (mut exact, mut translated) = (0, 0);
    for (cassette, model) in &recordings {
        let recorded = cassette.request_json();
        let stored = recorded.to_string();
        let names_stored =
            ["cachedContent", "generativelanguage.googleapis.com", "gs://"].iter().any(|n| stored.contains(n));
        // What is stored at Google is not the caller's here, so such a request is refused: then a plain one asks.
        let body = if recorded.is_object() && !names_stored { recorded } else { ask() };
        let method = if cassette.is_stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        mock.push(Answer::cassette(cassette).pieces(997));
        let answer = world.post(&format!("/v1beta/models/g/{model}:{method}"), &body).await;
        assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
        assert_eq!(answer.body, cassette.response_body, "{}", cassette.id);
        exact += 1;
        for (path, openai) in [("/v1/chat/completions", true), ("/v1/messages", false)] {
            mock.push(Answer::cassette(cassette).pieces(41));
            let body = json!({"model": format!("g/{model}"), "max_tokens": 500, "stream": cassette.is_stream,
                "messages": [{"role": "user", "content": "Go on."}]});
            let mut body = body;
            if openai && cassette.is_stream {
                body["stream_options"] = json!({"include_usage": true});
            }
            let answer = world.post(path, &body).await;
            assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
            translated += 1;
            if cassette.status >= 400 {
                assert!(answer.json()["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{}", cassette.id);
                continue;
            }
            let original = if cassette.is_stream {
                compare::payloads(&String::from_utf8_lossy(&cassette.response_body))
            } else {
                vec![cassette.response_json()]
            };
            let told = match (openai, cassette.is_stream) {
                (true, true) => compare::openai_stream(&answer.text()),
                (true, false) => compare::openai(&answer.json()),
                (false, true) => compare::anthropic_stream(&answer.text()),
                (false, false) => compare::anthropic(&answer.json()),
            };
            let mut original = compare::gemini(&original);
            if original.model.is_empty() {
                // Then it is the one that was asked for.
                original.model.clone_from(model);
            }
            let difference = compare::difference(&original, &told);
            assert_eq!(difference, None, "{} at {path}", cassette.id);
        }
    }
    println!("gemini: {exact} byte for byte, {translated} translated");
    assert!(exact >= 200);
}
