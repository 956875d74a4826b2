//! OpenAI's Responses API: in front of a provider that has it, with what that stores, and every recording of it.

use serde_json::{Value, json};
use testkit::mock::{Answer, Cassette, Mock, Received};

use crate::compare;
use crate::harness::{PROVIDER_KEY, World};

fn config(mock: &Mock) -> String {
    let provider = |name: &str, kind: &str, rest: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{}/{name}/v1\"\nallow_private = true\n\
             api_key = {{ env = \"K\" }}\n{rest}",
            mock.url()
        )
    };
    format!(
        "{}{}{}{}[[model]]\nname = \"fast\"\ntargets = [{{ provider = \"o\", model = \"gpt-5-mini\" }}, \
         {{ provider = \"x\", model = \"grok-4.3\" }}]\nretry = {{ attempts = 1 }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"o\"], max_output_tokens = 900 }}\n",
        provider("o", "openai", ""),
        provider("x", "xai", ""),
        provider("c", "openai-compatible", "api = \"responses\"\n"),
        provider("m", "mistral", "") + &provider("a", "anthropic", "").replace("/a/v1", ""),
    )
}

fn ask() -> Value {
    json!({"model": "fast", "input": "hi"})
}

fn response(id: &str) -> Value {
    json!({"id": id, "object": "response", "created_at": 7, "status": "completed", "model": "gpt-5-mini",
        "output": [{"type": "message", "id": format!("msg_{id}"), "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": "hello", "annotations": []}]}],
        "usage": {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8,
            "output_tokens_details": {"reasoning_tokens": 2}}})
}

fn events(id: &str) -> Vec<Value> {
    let mut begun = response(id);
    begun["output"] = json!([]);
    begun["status"] = "in_progress".into();
    begun["usage"] = Value::Null;
    vec![
        json!({"type": "response.created", "sequence_number": 0, "response": begun}),
        json!({"type": "response.output_item.added", "sequence_number": 1, "output_index": 0,
            "item": {"type": "message", "id": format!("msg_{id}"), "role": "assistant", "content": []}}),
        json!({"type": "response.output_text.delta", "sequence_number": 2, "item_id": format!("msg_{id}"), "delta": "hello"}),
        json!({"type": "response.completed", "sequence_number": 3, "response": response(id)}),
    ]
}

fn framed(events: &[Value]) -> String {
    events.iter().fold(String::new(), |text, event| {
        text + &format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
    })
}

fn stream(events: &[Value]) -> Answer {
    Answer::sse(framed(events))
}

/// A provider that stores what it answers.
fn provider(request: &Received) -> Answer {
    let at = request.path().split('/').nth(1).unwrap_or_default().to_owned();
    match (request.method.as_str(), request.json()["stream"].as_bool()) {
        ("POST", Some(true)) => stream(&events(&format!("resp_{at}"))).pieces(7),
        ("POST", _) => Answer::json(200, &response(&format!("resp_{at}"))),
        ("DELETE", _) => Answer::json(200, &json!({"id": "resp_o", "object": "response", "deleted": true})),
        _ => Answer::json(200, &json!({"object": "list", "data": []})),
    }
}

#[tokio::test]
async fn a_client_reaches_a_provider_that_has_the_api_with_every_byte_and_only_what_must_be_changed() {
    let body = "{ \"object\" : \"response\",\n \"output\":[],\"usage\":{\"input_tokens\":5,\"output_tokens\":2} }";
    let mock = Mock::start_with(move |_| Answer::bytes(200, "application/json", body)).await;
    let world = World::new(&config(&mock));
    let token = format!("Bearer {}", world.token("alice"));
    for (sent, expected) in [
        (
            "{ \"input\":\"h\\u00e9\", \"x_unknown\": 1.0,\"model\":\"fast\",\"max_output_tokens\": 7 }",
            "{ \"input\":\"h\\u00e9\", \"x_unknown\": 1.0,\"model\":\"gpt-5-mini\",\"max_output_tokens\": 7 }",
        ),
        ("{\"input\":\"\",\"model\":\"c/m\"}", "{\"max_output_tokens\":900,\"input\":\"\",\"model\":\"m\"}"),
    ] {
        let answer = world.send("POST", "/v1/responses", &[("authorization", &token)], sent).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, body));
        let got = mock.request(mock.count() - 1).await;
        assert_eq!(String::from_utf8_lossy(&got.body), expected);
        assert!(got.target.ends_with("/v1/responses"), "{}", got.target);
        assert_eq!(got.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
        let record = world.record();
        assert_eq!((record.input_tokens, record.output_tokens), (Some(5), Some(2)));
    }
}

#[tokio::test]
async fn a_stream_passes_as_it_is_and_one_that_is_cut_ends_in_an_error_event_that_goes_on_counting() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let mut streamed = ask();
    streamed["stream"] = true.into();
    mock.push(stream(&events("resp_1")).pieces(5));
    let answer = world.post("/v1/responses", &streamed).await;
    assert_eq!(answer.text(), framed(&events("resp_1")));
    let record = world.record();
    assert_eq!((record.stream, record.input_tokens, record.output_tokens), (true, Some(5), Some(3)));
    mock.push(stream(&events("resp_2")[..3]));
    let answer = world.post("/v1/responses", &streamed).await.text();
    let last = answer.trim_end().rsplit("\n\n").next().unwrap();
    let told: Value = serde_json::from_str(last.strip_prefix("event: error\ndata: ").expect("an error event")).unwrap();
    assert_eq!((&told["type"], &told["sequence_number"]), (&json!("error"), &json!(3)));
    assert_eq!(told["error"]["code"], "upstream_cut");
    // What the provider itself reports goes out as it is, to the last event.
    let failed = json!({"type": "response.failed", "sequence_number": 3,
        "response": {"object": "response", "id": "resp_3", "error": {"code": "server_error", "message": "no"}}});
    let mut broken = events("resp_3");
    broken.truncate(3);
    broken.push(failed.clone());
    mock.push(stream(&broken));
    let answer = world.post("/v1/responses", &streamed).await.text();
    assert!(answer.ends_with(&format!("event: response.failed\ndata: {failed}\n\n")), "{answer}");
}

#[tokio::test]
async fn what_a_provider_stores_is_its_callers_alone_and_goes_on_where_it_is() {
    for streamed in [false, true] {
        let mock = Mock::start_with(provider).await;
        let world = World::new(&config(&mock));
        let mut first = ask();
        first["model"] = "x/grok-4.3".into();
        first["stream"] = streamed.into();
        assert_eq!(world.post("/v1/responses", &first).await.status, 200);
        for next in [
            json!({"model": "fast", "input": "on", "previous_response_id": "resp_x"}),
            json!({"model": "fast", "input": [{"type": "item_reference", "id": "msg_resp_x"}, {"role": "user", "content": "on"}]}),
        ] {
            let before = mock.count();
            let answer = world.post_as("bob", "/v1/responses", &next).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "object_not_found"));
            assert_eq!(mock.count(), before);
            let answer = world.post("/v1/responses", &next).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            // Not to the first target, which knows nothing of it.
            assert_eq!(mock.request(mock.count() - 1).await.target, "/x/v1/responses");
            assert_eq!(mock.count(), before + 1);
        }
        let elsewhere = json!({"model": "o/gpt-5-mini", "input": "on", "previous_response_id": "resp_x"});
        assert_eq!(world.post("/v1/responses", &elsewhere).await.status, 404);
    }
}

#[tokio::test]
async fn a_stored_response_is_fetched_listed_and_deleted_by_its_maker_where_it_is() {
    let mock = Mock::start_with(provider).await;
    let world = World::new(&config(&mock));
    assert_eq!(world.post("/v1/responses", &ask()).await.status, 200);
    let send = |method: &'static str, path: &'static str, subject: &'static str| {
        let (world, token) = (&world, format!("Bearer {}", world.token(subject)));
        async move { world.send(method, path, &[("authorization", &token)], "").await }
    };
    for (method, path) in [
        ("GET", "/v1/responses/resp_o?include[]=message.output_text.logprobs"),
        ("GET", "/v1/responses/resp_o/input_items?limit=5"),
        ("POST", "/v1/responses/resp_o/cancel"),
    ] {
        let before = mock.count();
        assert_eq!(send(method, path, "bob").await.status, 404, "{path}");
        assert_eq!(mock.count(), before);
        assert_eq!(send(method, path, "alice").await.status, 200, "{path}");
        let got = mock.request(before).await;
        assert_eq!((got.method.as_str(), got.target.as_str()), (method, format!("/o{path}").as_str()));
        assert_eq!(got.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
    }
    assert_eq!(send("DELETE", "/v1/responses/resp_o", "bob").await.status, 404);
    assert_eq!(send("DELETE", "/v1/responses/resp_o", "alice").await.status, 200);
    assert_eq!(send("GET", "/v1/responses/resp_o", "alice").await.status, 404, "it is gone");
    for (method, path, status) in [
        ("GET", "/v1/responses", 405),
        ("POST", "/v1/responses/resp_o", 405),
        ("DELETE", "/v1/responses/resp_o/input_items", 405),
        ("GET", "/v1/responses/resp_o/other", 404),
        ("GET", "/v1/responses/resp_o/input_items/msg_1", 404),
        ("GET", "/v1/responses/", 404),
    ] {
        assert_eq!(send(method, path, "alice").await.status.as_u16(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn what_is_not_stored_is_not_noted_and_what_cannot_be_noted_is_not_told() {
    let mock = Mock::start_with(provider).await;
    let world = World::new(&config(&mock));
    let mut body = ask();
    body["store"] = false.into();
    assert_eq!(world.post("/v1/responses", &body).await.status, 200);
    assert!(world.objects.0.lock().unwrap().is_empty());
    let owner = store::Owner { issuer: "corp".to_owned(), subject: "bob".to_owned(), client: None };
    world
        .objects
        .0
        .lock()
        .unwrap()
        .insert((base::Name::new("o").unwrap(), "resp_resp_o".to_owned()), owner.clone().into());
    world.objects.0.lock().unwrap().insert((base::Name::new("o").unwrap(), "resp_o".to_owned()), owner.into());
    let answer = world.post("/v1/responses", &ask()).await;
    assert_eq!(answer.status, 503);
    let mut streamed = ask();
    streamed["stream"] = true.into();
    let answer = world.post("/v1/responses", &streamed).await.text();
    assert!(!answer.contains("resp_o") && answer.contains("event: error"), "{answer}");
}

#[tokio::test]
async fn a_policy_without_tools_or_models_holds_for_every_form_of_the_request() {
    let mock = Mock::start_with(provider).await;
    let rules = config(&mock).replace("models = [\"*\"]", "models = [\"fast\"], tools = false");
    let world = World::new(&rules);
    assert_eq!(world.post("/v1/responses", &ask()).await.status, 200);
    for brought in [
        json!({"tools": [{"type": "web_search"}]}),
        json!({"input": [{"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "f"}]}]}),
        json!({"prompt": {"id": "pmpt_1"}}),
        json!({"model": "o/gpt-5-mini"}),
        json!({"max_output_tokens": 901}),
    ] {
        let mut body = ask();
        for (name, value) in brought.as_object().unwrap() {
            body[name] = value.clone();
        }
        assert_eq!(world.post("/v1/responses", &body).await.status, 403, "{body}");
    }
    assert_eq!(mock.count(), 1);
}

#[tokio::test]
async fn the_providers_own_path_is_read_along_too() {
    let mock = Mock::start_with(provider).await;
    let world = World::new(&config(&mock));
    for streamed in [false, true] {
        let body = json!({"model": "gpt-5-mini", "input": "x", "stream": streamed});
        assert_eq!(world.post("/providers/o/v1/responses", &body).await.status, 200);
        assert_eq!(mock.request(mock.count() - 1).await.json()["max_output_tokens"], 900);
        assert_eq!(world.record().output_tokens, Some(3));
        assert_eq!(world.get_as("alice", "/v1/responses/resp_o").await.status, 200);
        assert_eq!(world.get_as("bob", "/v1/responses/resp_o").await.status, 404);
    }
}

#[tokio::test]
async fn every_client_is_answered_by_a_provider_that_is_asked_on_the_responses_api() {
    let mock = Mock::start_with(provider).await;
    let world = World::new(&config(&mock));
    let chat = json!({"model": "c/gpt-5", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50});
    let messages = json!({"model": "c/gpt-5", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]});
    let google = json!({"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 50}});
    for (path, streamed_path, body) in [
        ("/v1/chat/completions", "/v1/chat/completions", chat),
        ("/v1/messages", "/v1/messages", messages),
        ("/v1beta/models/c/gpt-5:generateContent", "/v1beta/models/c/gpt-5:streamGenerateContent?alt=sse", google),
    ] {
        for streamed in [false, true] {
            let mut body = body.clone();
            if streamed && !path.starts_with("/v1beta") {
                body["stream"] = true.into();
            }
            let answer = world.post(if streamed { streamed_path } else { path }, &body).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let told = match (path, streamed) {
                ("/v1/chat/completions", true) => compare::openai_stream(&answer.text()),
                ("/v1/chat/completions", false) => compare::openai(&answer.json()),
                ("/v1/messages", true) => compare::anthropic_stream(&answer.text()),
                ("/v1/messages", false) => compare::anthropic(&answer.json()),
                (_, true) => compare::gemini(&compare::payloads(&answer.text())),
                (_, false) => compare::gemini(&[answer.json()]),
            };
            assert_eq!(
                (told.text.as_str(), told.stop.as_str(), told.model.as_str()),
                ("hello", "end_turn", "gpt-5-mini")
            );
            let got = mock.request(mock.count() - 1).await;
            assert_eq!(got.target, "/c/v1/responses");
            let sent = got.json();
            assert_eq!(sent["input"], json!([{"type": "message", "role": "user", "content": "hi"}]));
            assert_eq!((&sent["max_output_tokens"], &sent["store"]), (&json!(50), &json!(false)));
            assert_eq!(sent["stream"].as_bool(), streamed.then_some(true));
            let record = world.record();
            assert_eq!((record.input_tokens, record.output_tokens), (Some(5), Some(3)));
        }
    }
    assert!(world.objects.0.lock().unwrap().is_empty(), "nothing is stored");
}

#[tokio::test]
async fn a_client_is_answered_by_providers_without_the_api() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let tools = json!([{"type": "function", "name": "add", "parameters": {"type": "object"}}]);
    let body = |model: &str, streamed: bool| json!({"model": model, "input": "hi", "tools": tools, "stream": streamed});
    mock.push(Answer::json(
        200,
        &json!({"id": "c1", "model": "mistral-small", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "content": null, "tool_calls": [{"id": "call_1", "function": {"name": "add", "arguments": "{\"a\":1.50}"}}]}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}),
    ));
    let answer = world.post("/v1/responses", &body("m/mistral-small", false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!(mock.request(0).await.target, "/m/v1/chat/completions");
    assert_eq!(
        (&told["object"], &told["status"], &told["store"]),
        (&json!("response"), &json!("completed"), &json!(false))
    );
    assert_eq!(told["tools"], tools);
    let said = compare::responses(&told);
    assert_eq!((said.calls[0].id.as_str(), said.calls[0].arguments.as_str()), ("call_1", "{\"a\":1.50}"));
    mock.push(Answer::anthropic_stream(&[
        json!({"type": "message_start", "message": {"id": "m1", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}),
        json!({"type": "message_stop"}),
    ]));
    let streamed = world.post("/v1/responses", &body("a/claude", true)).await.text();
    assert_eq!(compare::responses_fault(&streamed), None, "{streamed}");
    let said = compare::responses_stream(&streamed);
    assert_eq!((said.text.as_str(), said.usage.input, said.usage.output), ("hello", 3, 4));
    assert!(world.objects.0.lock().unwrap().is_empty(), "nothing is stored");
    // A stream that breaks off, and an error.
    mock.push(Answer::anthropic_stream(&[
        json!({"type": "message_start", "message": {"id": "m1", "model": "claude", "usage": {"input_tokens": 3}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "hel"}}),
    ]));
    let cut = world.post("/v1/responses", &body("a/claude", true)).await.text();
    let events = compare::payloads(&cut);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["error"]["code"]), (&json!("error"), &json!("upstream_cut")));
    assert_eq!(last["sequence_number"], json!(events.len() - 1));
    mock.push(Answer::json(
        429,
        &json!({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down."}}),
    ));
    let answer = world.post("/v1/responses", &body("a/claude", false)).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["message"]), (429, &json!("Slow down.")));
}

#[tokio::test]
async fn what_needs_state_is_refused_where_nothing_is_stored() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    for (name, value, status) in [
        ("background", json!(true), 400),
        ("prompt", json!({"id": "pmpt_1"}), 400),
        ("truncation", json!("auto"), 400),
        ("tools", json!([{"type": "web_search"}]), 400),
        ("previous_response_id", json!("resp_1"), 404),
        ("conversation", json!("conv_1"), 404),
    ] {
        let mut body = json!({"model": "a/claude", "input": "hi"});
        body[name] = value;
        let answer = world.post("/v1/responses", &body).await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {}", answer.text());
        if status == 400 {
            assert_eq!(answer.code(), "unsupported_parameter", "{name}");
        }
    }
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn the_built_in_model_answers_clients_of_the_responses_api_too() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let mut body = json!({"model": "vouchgate/echo", "instructions": "Be kind.", "input": "hi there",
        "metadata": {"k": "v"}, "temperature": 0.50});
    let whole = world.post("/v1/responses", &body).await.json();
    assert_eq!(compare::responses(&whole).text, "hi there");
    assert_eq!((&whole["instructions"], &whole["metadata"]["k"]), (&json!("Be kind."), &json!("v")));
    body["stream"] = true.into();
    let streamed = world.post("/v1/responses", &body).await.text();
    assert_eq!(compare::responses_fault(&streamed), None, "{streamed}");
    assert_eq!(compare::responses_stream(&streamed).text, "hi there");
}

/// The recordings of `POST /responses`.
fn recordings() -> Option<Vec<&'static Cassette>> {
    let all = Cassette::all()?.iter().filter(|one| one.endpoint == "responses");
    Some(all.map(AsRef::as_ref).filter(|one| one.path.ends_with("/responses")).collect())
}

/// A key that is refused is the operator's affair: callers see no 401 of a provider's.
fn is_about_the_key(cassette: &Cassette) -> bool {
    cassette.status == 401
}

#[tokio::test]
async fn every_recording_of_the_responses_api_comes_out_as_it_was() {
    let Some(recordings) = recordings() else {
        vectors::skipped("every_recording_of_the_responses_api");
        return;
    };
    let mock = Mock::start().await;
    let world = World::new(&config(&mock).replace(", max_output_tokens = 900", ""));
    let (mut exact, mut keys) = (0, 0);
    for cassette in &recordings {
        let mut body = cassette.request_json();
        // What is stored at OpenAI is not the caller's here, so such a request is refused: then a plain one asks.
        let stored = ["previous_response_id", "vector_store_ids", "file_id", "item_reference", "container"];
        if !body.is_object() || stored.iter().any(|name| body.to_string().contains(&format!("\"{name}\""))) {
            body = json!({"input": "x"});
        }
        body["model"] = "o/m".into();
        body["stream"] = cassette.is_stream.into();
        mock.push(Answer::cassette(cassette).pieces(997));
        let answer = world.post("/v1/responses", &body).await;
        if is_about_the_key(cassette) {
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "provider_key_refused"));
            keys += 1;
            continue;
        }
        assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
        assert_eq!(answer.body, cassette.response_body, "{}", cassette.id);
        exact += 1;
    }
    println!("responses: {exact} byte for byte, {keys} about the key");
    assert!(exact + keys == recordings.len() && exact >= 180, "{exact} of {}", recordings.len());
}
