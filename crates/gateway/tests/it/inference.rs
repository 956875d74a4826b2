//! What reaches a provider, what comes back, and what happens when it does not.

use http_body_util::BodyExt;
use serde_json::{Value, json};
use testkit::mock::{Answer, Gate, Mock, Outcome};

use crate::harness::{PROVIDER_KEY, World, piece, read};

fn config(mock: &Mock, kind: &str) -> String {
    let base = if kind == "anthropic" { mock.url() } else { format!("{}/v1", mock.url()) };
    format!(
        "[[provider]]\nname = \"p\"\nkind = \"{kind}\"\nbase_url = \"{base}\"\nallow_private = true\napi_key = {{ env = \"K\" }}\n\
         [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"p\", model = \"big-1\" }}]\nretry = {{ attempts = 1 }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n"
    )
}

fn ask(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}], "x_unknown": [1.0, "é"]})
}

fn completion() -> Value {
    json!({"id": "c1", "object": "chat.completion", "model": "big-1-0601", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}})
}

fn chunk(content: &str, finish: Option<&str>) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "big-1-0601", "choices": [
        {"index": 0, "delta": {"content": content}, "finish_reason": finish}]})
}

fn usage_chunk() -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "big-1-0601", "choices": [],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}})
}

#[tokio::test]
async fn the_same_dialect_passes_through_byte_for_byte_but_for_the_model() {
    let body = "{ \"id\" : \"x\",\n \"choices\":[], \"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2} }";
    let mock = Mock::start_with(move |_| Answer::bytes(200, "application/json", body)).await;
    let world = World::new(&config(&mock, "openai-compatible"));
    let sent = "{\"messages\":[{\"role\":\"user\",\"content\":\"h\\u00e9\"}], \"model\" : \"fast\",\"seed\":1e2 }";
    let bearer = format!("Bearer {}", world.token("alice"));
    let answer = world.send("POST", "/v1/chat/completions", &[("authorization", &bearer)], sent).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, body));
    let got = mock.request(0).await;
    assert_eq!(String::from_utf8_lossy(&got.body), sent.replace("\"fast\"", "\"big-1\""));
    assert_eq!(got.target, "/v1/chat/completions");
    let record = world.record();
    assert_eq!((record.input_tokens, record.output_tokens), (Some(5), Some(2)));
    assert_eq!(record.model.as_deref(), Some("fast"));
    assert!(
        world
            .metrics()
            .contains("vouchgate_requests_total{route=\"chat\",provider=\"p\",model=\"fast\",outcome=\"ok\"} 1")
    );
}

#[tokio::test]
async fn a_46_tokens_stay_here_and_keys_go_only_to_their_provider() {
    let mock = Mock::start_with(|_| {
        Answer::json(200, &completion()).header("openai-organization", "org").header("set-cookie", "a=b")
    })
    .await;
    let world = World::new(&config(&mock, "openai-compatible"));
    let token = world.token("alice");
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("cookie", "session=1"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-auth-sub", "root"),
        ("x-stainless-lang", "python"),
        ("openai-beta", "assistants=v2"),
        ("openai-organization", "org-x"),
    ];
    let answer = world.send("POST", "/v1/chat/completions", &headers, ask("p/other", false).to_string()).await;
    assert_eq!(answer.status, 200);
    let got = mock.request(0).await;
    let head = String::from_utf8_lossy(&got.head).to_lowercase();
    assert!(!head.contains(&token.to_lowercase()) && !String::from_utf8_lossy(&got.body).contains(&token));
    assert_eq!(got.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
    assert_eq!(got.header("openai-beta"), Some("assistants=v2"));
    for name in ["cookie", "x-forwarded-for", "x-auth-sub", "x-stainless-lang", "openai-organization"] {
        assert_eq!(got.header(name), None, "{name}");
    }
    assert!(!answer.text().contains(PROVIDER_KEY) && !format!("{:?}", answer.headers).contains(PROVIDER_KEY));
    assert_eq!((answer.header("set-cookie"), answer.header("openai-organization")), ("", ""));
    assert_eq!(got.json()["model"], "other");
}

#[tokio::test]
async fn a_stream_passes_through_and_its_usage_is_counted_even_if_nobody_asked() {
    let mock = Mock::start_with(|_| {
        Answer::openai_stream(&[chunk("hel", None), chunk("lo", Some("stop")), usage_chunk()]).pieces(7)
    })
    .await;
    let world = World::new(&config(&mock, "openai-compatible"));
    let answer = world.post("/v1/chat/completions", &ask("fast", true)).await;
    assert_eq!(answer.header("content-type").split(';').next(), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), "no-cache, no-store");
    let expected = format!("data: {}\n\ndata: {}\n\ndata: [DONE]\n\n", chunk("hel", None), chunk("lo", Some("stop")));
    assert_eq!(answer.text(), expected);
    assert_eq!(mock.request(0).await.json()["stream_options"]["include_usage"], true);
    let record = world.record();
    assert_eq!((record.status, record.stream, record.error.as_deref()), (200, true, None));
    assert_eq!((record.input_tokens, record.output_tokens), (Some(5), Some(2)));
    assert!(record.ttft_ms.is_some());
    assert!(world.metrics().contains("vouchgate_streams_open 0"));
}

#[tokio::test]
async fn a_piece_goes_out_as_soon_as_it_comes_and_a_client_that_goes_cancels_the_call() {
    let gate = Gate::closed();
    let stream = Answer::openai_stream(&[chunk("first", None), chunk("second", None)]);
    let first = format!("data: {}\n\n", chunk("first", None)).len();
    let mock = Mock::start().await;
    mock.push(stream.stall_after(first, &gate));
    let world = World::new(&config(&mock, "openai-compatible"));
    let response = world.open("/v1/chat/completions", &ask("fast", true)).await;
    let mut body = response.into_body();
    assert!(String::from_utf8_lossy(&piece(&mut body).await).contains("first"));
    assert!(world.metrics().contains("vouchgate_streams_open 1"));
    drop(body);
    let outcome = testkit::patiently("the upstream call to end", async { mock.request(0).await.settled().await }).await;
    assert_eq!(outcome, Outcome::Dropped);
    let record = world.record();
    assert_eq!((record.status, record.error.as_deref()), (499, Some("client_gone")));
    assert!(world.metrics().contains("outcome=\"client_gone\"} 1"));
}

#[tokio::test]
async fn a_client_that_goes_before_the_answer_begins_cancels_the_call_too() {
    let gate = Gate::closed();
    let mock = Mock::start().await;
    mock.push(Answer::json(200, &completion()).hold_head(&gate));
    let world = World::new(&config(&mock, "openai-compatible"));
    {
        let body = ask("fast", false);
        let pending = world.open("/v1/chat/completions", &body);
        tokio::pin!(pending);
        tokio::select! {
            _ = &mut pending => panic!("the mock does not answer"),
            _ = mock.request(0) => {}
        }
    }
    let outcome = testkit::patiently("the upstream call to end", async { mock.request(0).await.settled().await }).await;
    assert_eq!(outcome, Outcome::Dropped);
    assert_eq!(world.record().status, 499);
}

#[tokio::test]
async fn an_upstream_cut_is_an_error_event_and_never_a_clean_end() {
    let stream = || Answer::openai_stream(&[chunk("first", None), chunk("second", None)]);
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, "openai-compatible"));
    for cut in [10, 200] {
        mock.push(stream().cut_after(cut));
        let answer = world.post("/v1/chat/completions", &ask("fast", true)).await;
        assert!(!answer.text().contains("[DONE]"), "{}", answer.text());
        let last = answer.text();
        let last = last.trim_end().rsplit("data: ").next().expect("an event").to_owned();
        let event: Value = serde_json::from_str(&last).expect("an error event");
        assert_eq!(event["error"]["code"], "upstream_cut");
        let record = world.record();
        assert_eq!((record.status, record.error.as_deref()), (200, Some("body_cut")));
    }
}

#[tokio::test]
async fn a_server_that_drains_ends_streams_with_an_error_event() {
    let gate = Gate::closed();
    let mock = Mock::start().await;
    let first = format!("data: {}\n\n", chunk("first", None)).len();
    mock.push(Answer::openai_stream(&[chunk("first", None), chunk("second", None)]).stall_after(first, &gate));
    let world = World::new(&config(&mock, "openai-compatible"));
    let mut body = world.open("/v1/chat/completions", &ask("fast", true)).await.into_body();
    piece(&mut body).await;
    world.drain.send_replace(true);
    assert!(String::from_utf8_lossy(&piece(&mut body).await).contains("\"error\""));
    assert!(testkit::patiently("the end", body.frame()).await.is_none());
    drop(body);
    assert_eq!(world.record().error.as_deref(), Some("draining"));
}

#[tokio::test]
async fn a_silent_upstream_ends_in_a_typed_error() {
    let gate = Gate::closed();
    let mock = Mock::start().await;
    let quick = "[limits]\nfirst_byte = \"50ms\"\nidle = \"50ms\"\n";
    let world = World::new(&format!("{quick}{}", config(&mock, "openai-compatible")));
    mock.push(Answer::json(200, &completion()).hold_head(&gate));
    let answer = world.post("/v1/chat/completions", &ask("fast", false)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "first_byte_timeout"));
    mock.push(Answer::json(200, &completion()).stall_after(5, &gate));
    let answer = world.post("/v1/chat/completions", &ask("fast", false)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "body_idle_timeout"));
    mock.push(Answer::openai_stream(&[chunk("a", None)]).stall_after(5, &gate));
    let answer = world.post("/v1/chat/completions", &ask("fast", true)).await;
    assert!(answer.text().contains("\"error\""));
    assert_eq!(world.record().error.as_deref(), Some("body_idle_timeout"));
}

#[tokio::test]
async fn what_cannot_be_passed_on_is_a_bad_gateway() {
    let mock = Mock::start().await;
    let limits = "[limits]\nresponse_body = \"1KiB\"\n";
    let world = World::new(&format!("{limits}{}", config(&mock, "openai-compatible")));
    for (answer, code) in [
        (Answer::redirect(302, "http://evil.example/"), "upstream_redirect"),
        (Answer::json(401, &json!({"error": {"message": format!("bad key {PROVIDER_KEY}")}})), "provider_key_refused"),
        (Answer::json(200, &completion()).header("content-encoding", "gzip"), "upstream_encoding"),
        (Answer::bytes(200, "application/json", "x".repeat(2000)), "upstream_too_large"),
        (Answer::json(200, &completion()).cut_after(10), "body_cut"),
        (Answer::nothing(), "upstream_closed"),
        (Answer::raw("garbage\r\n\r\n"), "upstream_malformed"),
    ] {
        mock.push(answer);
        let answer = world.post("/v1/chat/completions", &ask("fast", false)).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, code));
        assert!(!answer.text().contains(PROVIDER_KEY) && !answer.text().contains("127.0.0.1"));
    }
}

#[tokio::test]
async fn a_providers_error_is_passed_on_in_its_own_words() {
    let body = json!({"error": {"message": "bad", "type": "invalid_request_error", "param": "seed", "code": null}});
    let expected = body.to_string();
    let mock = Mock::start_with(move |_| Answer::json(400, &body)).await;
    let world = World::new(&config(&mock, "openai-compatible"));
    let answer = world.post("/v1/chat/completions", &ask("fast", true)).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (400, expected));
    assert_eq!(world.record().error.as_deref(), Some("provider_error"));
}

#[tokio::test]
async fn an_openai_client_is_answered_by_anthropic() {
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "big-1", "stop_reason": "end_turn",
        "stop_sequence": null, "content": [{"type": "text", "text": "hello"}], "usage": {"input_tokens": 5, "output_tokens": 2}});
    let mock = Mock::start_with(move |_| Answer::json(200, &answer)).await;
    let world = World::new(&config(&mock, "anthropic"));
    let body = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9});
    let answer = world.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "hello");
    assert_eq!(answer.json()["usage"]["total_tokens"], 7);
    let got = mock.request(0).await;
    assert_eq!((got.target.as_str(), got.header("x-api-key")), ("/v1/messages", Some(PROVIDER_KEY)));
    assert_eq!((got.header("anthropic-version"), got.header("authorization")), (Some("2023-06-01"), None));
    assert_eq!((&got.json()["model"], &got.json()["max_tokens"]), (&json!("big-1"), &json!(9)));
    let wrong = world.post("/v1/embeddings", &json!({"model": "fast", "input": "x"})).await;
    assert_eq!((wrong.status.as_u16(), wrong.code().as_str()), (400, "unsupported_parameter"));
}

#[tokio::test]
async fn an_anthropic_client_is_answered_by_an_openai_compatible_provider_in_events() {
    let mock = Mock::start_with(|_| {
        Answer::openai_stream(&[chunk("hel", None), chunk("lo", Some("stop")), usage_chunk()]).pieces(11)
    })
    .await;
    let world = World::new(&config(&mock, "openai-compatible"));
    let body =
        json!({"model": "fast", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let answer = world.post("/v1/messages", &body).await;
    let text = answer.text();
    assert!(
        text.contains("event: message_start") && text.trim_end().ends_with("data: {\"type\":\"message_stop\"}"),
        "{text}"
    );
    assert_eq!((world.record().input_tokens, world.record().output_tokens), (Some(5), Some(2)));
    mock.push(Answer::openai_stream(&[chunk("hel", None)]).cut_after(30));
    let cut = world.post("/v1/messages", &body).await.text();
    assert!(cut.contains("event: error") && !cut.contains("message_stop"), "{cut}");
}

#[tokio::test]
async fn the_next_target_is_tried_until_an_answer_begins() {
    let (first, second) = (Mock::start().await, Mock::start_with(|_| Answer::json(200, &completion())).await);
    let provider = |name: &str, mock: &Mock| {
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n",
            mock.url()
        )
    };
    let world = World::new(&format!(
        "{}{}[[model]]\nname = \"fast\"\nretry = {{ attempts = 2, on = [429, 503] }}\ntargets = [{{ provider = \"a\", model = \"x\" }}, \
         {{ provider = \"b\", model = \"y\" }}]\n[[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n",
        provider("a", &first),
        provider("b", &second)
    ));
    for failure in [
        Answer::json(429, &json!({"error": {"message": "slow"}})),
        Answer::nothing(),
        Answer::json(200, &completion()).cut_after(10),
    ] {
        first.push(failure);
        let answer = world.post("/v1/chat/completions", &ask("fast", false)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        // What is asked too often rests for a moment.
        world.clock.advance(std::time::Duration::from_secs(1));
    }
    assert_eq!((first.count(), second.count()), (3, 3));
    assert_eq!(second.request(0).await.json()["model"], "y");
    let first_event = format!("data: {}\n\n", chunk("a", None)).len();
    // A status that is not listed is an answer.
    first.push(Answer::json(400, &json!({"error": {"message": "no"}})));
    assert_eq!(world.post("/v1/chat/completions", &ask("fast", false)).await.status, 400);
    assert_eq!(second.count(), 3);
    // A stream that has begun is an answer, however it ends.
    first.push(Answer::openai_stream(&[chunk("a", None), chunk("b", None)]).cut_after(first_event + 20));
    assert!(world.post("/v1/chat/completions", &ask("fast", true)).await.text().contains("upstream_cut"));
    assert_eq!(second.count(), 3);
}

#[tokio::test]
async fn models_are_listed_as_far_as_they_may_be_used() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, "openai-compatible").replace("[\"*\"]", "[\"fast\", \"p/small-*\"]"));
    let list = world.get_as("alice", "/v1/models").await.json();
    assert_eq!(list["data"].as_array().map(Vec::len), Some(1));
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("fast")));
    assert_eq!(world.get_as("alice", "/v1/models/p%2Fsmall-1").await.json()["id"], "p/small-1");
    assert_eq!(world.get_as("alice", "/v1/models/vouchgate/echo").await.code(), "model_not_found");
    let bearer = format!("Bearer {}", world.token("alice"));
    let headers = [("authorization", bearer.as_str()), ("anthropic-version", "2023-06-01")];
    let list = world.send("GET", "/v1/models", &headers, "").await.json();
    assert_eq!(
        (&list["data"][0]["type"], &list["has_more"], &list["first_id"]),
        (&json!("model"), &json!(false), &json!("fast"))
    );
    let denied = world.post("/v1/chat/completions", &ask("p/big", false)).await;
    assert_eq!((denied.status.as_u16(), denied.code().as_str()), (403, "model_not_allowed"));
    let unknown =
        World::new(&config(&mock, "openai-compatible")).post("/v1/chat/completions", &ask("nothing", false)).await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (404, "model_not_found"));
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn the_built_in_model_speaks_every_dialect_whole_and_in_events() {
    let world = World::new("[[policy]]\nname = \"all\"\nmay = { models = [\"vouchgate/*\"], max_output_tokens = 3 }\n");
    let chat = |stream| json!({"model": "vouchgate/echo", "stream": stream, "messages": [{"role": "user", "content": "one two three four"}]});
    let whole = world.post("/v1/chat/completions", &chat(false)).await.json();
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    let events = world.post("/v1/chat/completions", &chat(true)).await;
    assert!(events.text().trim_end().ends_with("data: [DONE]") && events.text().matches("data: ").count() > 3);
    assert_eq!(world.record().output_tokens, Some(3));
    let message = json!({"model": "vouchgate/echo", "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(world.post("/v1/messages", &message).await.json()["content"][0]["text"], "hi");
    let embedding = world.post("/v1/embeddings", &json!({"model": "vouchgate/echo", "input": "hi"})).await.json();
    assert!(embedding["data"][0]["embedding"].is_array());
}

#[tokio::test]
async fn a_request_that_names_somebody_elses_file_is_not_sent() {
    let mock = Mock::start_with(|_| Answer::json(200, &completion())).await;
    let world = World::new(&config(&mock, "openai-compatible"));
    let body = json!({"model": "fast", "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]});
    let answer = world.post("/v1/chat/completions", &body).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str(), mock.count()), (404, "object_not_found", 0));
    let owner = store::Owner { issuer: "corp".to_owned(), subject: "alice".to_owned(), client: Some("app".to_owned()) };
    world.objects.0.lock().unwrap().insert((base::Name::new("p").unwrap(), "file-1".to_owned()), owner.into());
    assert_eq!(world.post("/v1/chat/completions", &body).await.status, 200);
    assert_eq!(world.post_as("bob", "/v1/chat/completions", &body).await.status, 404);
}

#[tokio::test]
async fn a_connection_that_serves_many_requests_is_kept() {
    let mock = Mock::start_with(|_| Answer::json(200, &completion())).await;
    let world = World::new(&config(&mock, "openai-compatible"));
    for _ in 0..5 {
        assert_eq!(read(world.open("/v1/chat/completions", &ask("fast", false)).await).await.status, 200);
    }
    assert_eq!((mock.count(), mock.connections()), (5, 1));
}

#[tokio::test]
async fn a_target_that_cannot_is_passed_over_and_not_asked_again() {
    let (first, second) = (Mock::start().await, Mock::start_with(|_| Answer::json(200, &completion())).await);
    let world = World::new(&format!(
        "[[provider]]\nname = \"a\"\nkind = \"anthropic\"\nbase_url = \"{}\"\nallow_private = true\n\
         [[provider]]\nname = \"b\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"a\", model = \"x\" }}, {{ provider = \"b\", model = \"y\" }}]\n\
         [[model]]\nname = \"only\"\ntargets = [{{ provider = \"a\", model = \"x\" }}]\nretry = {{ attempts = 10 }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n",
        first.url(),
        second.url()
    ));
    let plain = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    // What Anthropic cannot express goes to the next; a failure of Anthropic's too, across the dialects.
    let two = |model: &str| json!({"model": model, "n": 2, "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(world.post("/v1/chat/completions", &two("fast")).await.status, 200);
    assert_eq!((first.count(), second.count()), (0, 1));
    first.push(Answer::json(503, &json!({"type": "error", "error": {"type": "overloaded_error", "message": "x"}})));
    assert_eq!(world.post("/v1/chat/completions", &plain("fast")).await.status, 200);
    assert_eq!((first.count(), second.count()), (1, 2));
    // Where there is no other, the same question is not put ten times.
    let refused = world.post("/v1/chat/completions", &two("only")).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "unsupported_parameter"));
    first.push(Answer::json(401, &json!({"type": "error", "error": {"type": "authentication_error", "message": "x"}})));
    assert_eq!(world.post("/v1/chat/completions", &plain("only")).await.code(), "provider_key_refused");
    assert_eq!(first.count(), 2);
}
