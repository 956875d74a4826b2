//! Cohere and Ollama: behind anybody's client, and their own APIs below `/providers`.

use serde_json::{Value, json};
use testkit::mock::{Answer, Cassette, Mock};

use crate::compare;
use crate::harness::{PROVIDER_KEY, World};
use crate::said;

fn config(mock: &Mock) -> String {
    let provider = |name: &str, kind: &str, base: &str, more: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{}{base}\"\nallow_private = true\n{more}\n",
            mock.url()
        )
    };
    let key = "api_key = { env = \"K\" }";
    format!(
        "{}{}{}[[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"c\", \"l\"] }}\n",
        provider("c", "cohere", "/v2", key),
        provider("l", "ollama", "/v1", ""),
        provider("n", "ollama", "", "api = \"native\""),
    )
}

/// The same, with a bound.
fn bounded(mock: &Mock) -> String {
    config(mock).replace("models = [\"*\"]", "models = [\"*\"], max_output_tokens = 900")
}

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

fn cohere_answer() -> Value {
    json!({"id": "c1", "finish_reason": "COMPLETE", "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
        "usage": {"billed_units": {"input_tokens": 3, "output_tokens": 2}, "tokens": {"input_tokens": 70, "output_tokens": 4}, "cached_tokens": 64}})
}

fn cohere_events(end: bool) -> Answer {
    Answer::sse(cohere_stream(end))
}

fn cohere_stream(end: bool) -> String {
    let mut events = vec![
        json!({"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}}),
        json!({"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}),
        json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hel"}}}}),
        json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "lo."}}}}),
        json!({"type": "content-end", "index": 0}),
    ];
    if end {
        let usage = cohere_answer()["usage"].clone();
        events.push(json!({"type": "message-end", "delta": {"finish_reason": "MAX_TOKENS", "usage": usage}}));
    }
    let framed: Vec<String> =
        events.iter().map(|e| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap())).collect();
    framed.concat() + if end { "data: [DONE]\n\n" } else { "" }
}

#[tokio::test]
async fn openai_and_anthropic_clients_are_answered_by_cohere() {
    let mock = Mock::start().await;
    let world = World::new(&bounded(&mock));
    mock.push(Answer::json(200, &cohere_answer()));
    let answer = world.post("/v1/chat/completions", &ask("c/command-a-03-2025")).await;
    let told = compare::openai(&answer.json());
    assert_eq!((told.text.as_str(), told.model.as_str()), ("Hello.", "command-a-03-2025"));
    assert_eq!((told.usage.input, told.usage.output, told.usage.cache_read), (70, 4, 64));
    let record = world.record();
    assert_eq!((record.input_tokens, record.output_tokens), (Some(70), Some(4)));
    let got = mock.request(0).await;
    assert_eq!(got.target, "/v2/chat");
    assert_eq!(got.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
    assert_eq!((&got.json()["max_tokens"], &got.json()["stream"]), (&json!(900), &json!(false)));

    mock.push(cohere_events(true).pieces(5));
    let mut body = ask("c/command-r");
    body["stream"] = true.into();
    body["max_tokens"] = 50.into();
    let streamed = world.post("/v1/messages", &body).await.text();
    let told = compare::anthropic_stream(&streamed);
    assert_eq!((told.text.as_str(), told.stop.as_str(), told.model.as_str()), ("Hello.", "max_tokens", "command-r"));
    let got = mock.request(1).await;
    assert_eq!((got.header("accept"), &got.json()["max_tokens"]), (Some("text/event-stream"), &json!(50)));

    mock.push(cohere_events(false).pieces(5));
    let mut body = ask("c/command-r");
    body["stream"] = true.into();
    let cut = world.post("/v1/chat/completions", &body).await.text();
    assert!(cut.contains("\"code\":\"upstream_cut\"") && !cut.contains("[DONE]"), "{cut}");

    mock.push(Answer::json(404, &json!({"id": "e1", "message": "model 'x' not found"})));
    let answer = world.post("/v1/chat/completions", &ask("c/x")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["message"]), (404, &json!("model 'x' not found")));
    let mut body = ask("c/command-r");
    body["n"] = 2.into();
    let answer = world.post("/v1/chat/completions", &body).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["param"]), (400, &json!("n")));
    assert_eq!(mock.count(), 4);
}

#[tokio::test]
async fn coheres_own_api_passes_unchanged_with_its_usage_and_the_bound_of_the_policy() {
    let mock = Mock::start().await;
    let world = World::new(&bounded(&mock));
    let sent = json!({"model": "command-r", "messages": [], "stream": true, "x_unknown": 1.0});
    mock.push(cohere_events(true).pieces(7));
    let answer = world.post("/providers/c/v2/chat", &sent).await;
    assert_eq!(answer.text(), cohere_stream(true));
    let record = world.record();
    assert_eq!((record.stream, record.input_tokens, record.output_tokens), (true, Some(70), Some(4)));
    let got = mock.request(0).await;
    assert_eq!(got.target, "/v2/chat");
    assert_eq!((&got.json()["max_tokens"], &got.json()["x_unknown"]), (&json!(900), &json!(1.0)));

    let lines = "{\"event_type\":\"text-generation\",\"text\":\"A\"}\n{\"event_type\":\"stream-end\",\"is_finished\":true,\
                 \"finish_reason\":\"COMPLETE\",\"response\":{\"meta\":{\"tokens\":{\"input_tokens\":6,\"output_tokens\":2}}}}\n";
    mock.push(Answer::bytes(200, "application/stream+json", lines).pieces(11));
    let answer = world.post("/providers/c/v1/chat", &json!({"message": "hi", "stream": true})).await;
    assert_eq!((answer.text().as_str(), answer.header("content-type")), (lines, "application/stream+json"));
    assert_eq!(world.record().output_tokens, Some(2));
    assert_eq!(mock.request(1).await.target, "/v1/chat");

    let embedded = json!({"id": "e", "embeddings": {"float": [[0.5]]}, "meta": {"billed_units": {"input_tokens": 4}}});
    mock.push(Answer::json(200, &embedded));
    let body = json!({"model": "embed-v4.0", "texts": ["x"], "input_type": "search_query", "max_tokens": null});
    let answer = world.post("/providers/c/v2/embed", &body).await;
    assert_eq!(answer.json(), embedded);
    assert_eq!(world.record().input_tokens, Some(4));
    assert_eq!(mock.request(2).await.json(), body, "a bound on what is generated is none on what is read");

    let answer = world.get_as("alice", "/providers/c/v1/datasets").await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (403, Some("path_not_allowed")));
    assert!(answer.json()["message"].is_string(), "in Cohere's own form");
    assert_eq!(mock.count(), 3);
}

#[tokio::test]
async fn what_cohere_stores_for_a_caller_is_that_callers_alone() {
    let mock = Mock::start_with(|request| match request.method.as_str() {
        "POST" => Answer::json(200, &json!({"id": "ds-1"})),
        _ => Answer::json(200, &json!({"dataset": {"id": "ds-1"}})),
    })
    .await;
    let open = "passthrough = [{ provider = \"c\", methods = [\"GET\", \"POST\"], paths = [\"/v1/**\", \"/v2/**\"] }]";
    let world = World::new(&config(&mock).replace("providers = [\"c\", \"l\"]", open));
    assert_eq!(world.post("/providers/c/v1/datasets", &json!({"name": "x"})).await.status, 200);
    for path in ["/providers/c/v1/datasets/ds-1", "/providers/c/v2/datasets/ds-1"] {
        assert_eq!(world.get_as("alice", path).await.status, 200, "{path}");
        assert_eq!(world.get_as("bob", path).await.status, 404, "{path}");
    }
    let job = json!({"model": "embed-v4.0", "dataset_id": "ds-1"});
    assert_eq!(world.post_as("bob", "/providers/c/v1/embed-jobs", &job).await.status, 404);
}

#[tokio::test]
async fn ollamas_own_api_passes_unchanged_with_its_usage_and_the_bound_of_the_policy() {
    let mock = Mock::start().await;
    let world = World::new(&bounded(&mock));
    let lines = "{\"model\":\"q\",\"message\":{\"role\":\"assistant\",\"content\":\"A\"},\"done\":false}\n\
                 {\"model\":\"q\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"prompt_eval_count\":9,\"eval_count\":3}\n";
    mock.push(Answer::bytes(200, "application/x-ndjson", lines).pieces(13));
    let answer = world.post("/providers/l/api/chat", &ask("q")).await;
    assert_eq!((answer.text().as_str(), answer.header("content-type")), (lines, "application/x-ndjson"));
    let record = world.record();
    assert_eq!((record.stream, record.input_tokens, record.output_tokens), (true, Some(9), Some(3)));
    let got = mock.request(0).await;
    assert_eq!((got.target.as_str(), &got.json()["options"]["num_predict"]), ("/api/chat", &json!(900)));
    assert_eq!(got.header("authorization"), None);

    let cut = lines.split_inclusive('\n').next().expect("a line");
    mock.push(Answer::bytes(200, "application/x-ndjson", cut).pieces(13));
    let answer = world.post("/providers/l/api/generate", &json!({"model": "q", "prompt": "x"})).await.text();
    let last = answer.lines().last().expect("a line").to_owned();
    assert!(answer.starts_with(cut) && last.starts_with("{\"error\":\"The provider's stream ended"), "{answer}");

    mock.push(Answer::json(200, &json!({"models": [{"name": "q"}]})));
    assert_eq!(world.get_as("alice", "/providers/l/api/tags").await.json()["models"][0]["name"], "q");
    for (path, method) in [("/providers/l/api/pull", "POST"), ("/providers/l/api/delete", "DELETE")] {
        let bearer = format!("Bearer {}", world.token("alice"));
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let answer = world.send(method, path, &headers, "{\"model\":\"q\"}").await;
        assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (403, Some("path_not_allowed")), "{path}");
        assert!(answer.json()["error"].is_string(), "in Ollama's own form");
    }
    assert_eq!(mock.count(), 3);
}

#[tokio::test]
async fn a_stream_of_another_framing_than_the_providers_is_no_answer() {
    let mock = Mock::start_with(|_| Answer::bytes(200, "application/x-ndjson", "{}\n")).await;
    let world = World::new(&config(&mock));
    let mut body = ask("c/command-r");
    body["stream"] = true.into();
    let answer = world.post("/v1/chat/completions", &body).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "upstream_invalid_stream"));
}

fn of(provider: &str) -> Option<Vec<&'static Cassette>> {
    let all = Cassette::all()?.iter().map(AsRef::as_ref);
    Some(all.filter(|c| c.provider == provider && c.endpoint != "chat.completions").collect())
}

#[tokio::test]
async fn every_recording_of_cohere_and_ollama_comes_out_as_it_was() {
    let (Some(cohere), Some(ollama)) = (of("cohere"), of("ollama")) else {
        vectors::skipped("every_recording_of_cohere_and_ollama");
        return;
    };
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let mut exact = 0;
    for (cassette, provider) in cohere.iter().map(|c| (c, "c")).chain(ollama.iter().map(|c| (c, "l"))) {
        mock.push(Answer::cassette(cassette).pieces(997));
        let path = format!("/providers/{provider}{}", cassette.path);
        let recorded = cassette.request_json();
        let answer = match (cassette.method.as_str(), recorded.is_object()) {
            ("GET", _) => world.get_as("alice", &path).await,
            (_, true) => world.post(&path, &recorded).await,
            (_, false) => world.post(&path, &ask("some-model")).await,
        };
        if cassette.status == 401 {
            // About the provider's key: not shown to callers.
            assert_eq!(answer.status, 502, "{}", cassette.id);
            continue;
        }
        assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
        assert_eq!(answer.body, cassette.response_body, "{}", cassette.id);
        exact += 1;
    }
    println!("natives: {exact} byte for byte");
    assert!(exact >= 66, "{exact}");
}

#[tokio::test]
async fn clients_are_answered_by_ollamas_own_api_where_it_is_chosen() {
    let mock = Mock::start().await;
    let world = World::new(&bounded(&mock));
    let answer = json!({"model": "qwen3:4b", "created_at": "2026-08-17T08:22:52Z", "done": true, "done_reason": "stop",
        "message": {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1.50}}}]},
        "prompt_eval_count": 9, "eval_count": 3});
    mock.push(Answer::json(200, &answer));
    let told = compare::openai(&world.post("/v1/chat/completions", &ask("n/qwen3:4b")).await.json());
    assert_eq!((told.reasoning.as_str(), told.stop.as_str(), told.model.as_str()), ("Hm.", "tool_use", "qwen3:4b"));
    assert_eq!((told.calls[0].name.as_str(), told.usage.input, told.usage.output), ("f", 9, 3));
    assert!(!told.calls[0].id.is_empty());
    let got = mock.request(0).await;
    assert_eq!((got.target.as_str(), &got.json()["options"]["num_predict"]), ("/api/chat", &json!(900)));
    assert_eq!(got.json()["stream"], false);

    let line = "{\"model\":\"q\",\"message\":{\"role\":\"assistant\",\"content\":\"A\"},\"done\":false}\n";
    let failed = format!("{line}{{\"error\":\"model runner has stopped\"}}\n");
    for (lines, code) in [(failed, "model runner has stopped"), (line.to_owned(), "upstream_cut")] {
        mock.push(Answer::bytes(200, "application/x-ndjson", lines).pieces(9));
        let mut body = ask("n/q");
        body["stream"] = true.into();
        let cut = world.post("/v1/chat/completions", &body).await.text();
        assert!(cut.contains(code) && !cut.contains("[DONE]"), "{cut}");
    }
    assert_eq!(mock.request(1).await.header("accept"), Some("application/x-ndjson"));

    mock.push(Answer::json(200, &json!({"model": "e", "embeddings": [[0.5]], "prompt_eval_count": 1})));
    assert_eq!(world.post("/v1/embeddings", &json!({"model": "n/e", "input": "x"})).await.status, 200);
    assert_eq!(mock.request(3).await.target, "/api/embed");
}

#[tokio::test]
async fn every_recorded_chat_of_cohere_and_ollama_says_the_same_to_others() {
    let (Some(cohere), Some(ollama)) = (of("cohere"), of("ollama")) else {
        vectors::skipped("every_recorded_chat_of_cohere_and_ollama");
        return;
    };
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let mut translated = 0;
    let chats = ["cohere.chat.v2", "ollama.chat"];
    for cassette in cohere.iter().chain(&ollama).filter(|c| chats.contains(&c.endpoint.as_str()) && c.status == 200) {
        let body = String::from_utf8_lossy(&cassette.response_body);
        let is_stream = cassette.content_type.contains("stream") || cassette.content_type.contains("ndjson");
        let (provider, expected) = match (cassette.provider.as_str(), is_stream) {
            ("cohere", true) => ("c", said::cohere_stream(&compare::payloads(&body), "m")),
            ("cohere", false) => ("c", said::cohere(&cassette.response_json(), "m")),
            (_, true) => ("n", said::ollama(&said::lines(&body))),
            (_, false) => ("n", said::ollama(&[cassette.response_json()])),
        };
        for (path, openai) in [("/v1/chat/completions", true), ("/v1/messages", false)] {
            mock.push(Answer::cassette(cassette).pieces(41));
            let mut body = ask(&format!("{provider}/m"));
            body["max_tokens"] = 500.into();
            body["stream"] = is_stream.into();
            if openai && is_stream {
                body["stream_options"] = json!({"include_usage": true});
            }
            let answer = world.post(path, &body).await;
            assert_eq!(answer.status, 200, "{}: {}", cassette.id, answer.text());
            let mut told = match (openai, is_stream) {
                (true, true) => compare::openai_stream(&answer.text()),
                (true, false) => compare::openai(&answer.json()),
                (false, true) => compare::anthropic_stream(&answer.text()),
                (false, false) => compare::anthropic(&answer.json()),
            };
            // An older Ollama gives its calls no id.
            let mut expected = expected.clone();
            for (expected, told) in expected.calls.iter_mut().zip(&mut told.calls).filter(|(e, _)| e.id.is_empty()) {
                expected.id.clone_from(&told.id);
            }
            assert_eq!(compare::difference(&expected, &told), None, "{} at {path}", cassette.id);
            translated += 1;
        }
    }
    println!("natives: {translated} translated");
    assert!(translated >= 100, "{translated}");
}

#[tokio::test]
async fn what_a_target_cannot_express_is_left_out_only_where_the_route_says_so_and_named() {
    let mock = Mock::start_with(|_| Answer::json(200, &cohere_answer())).await;
    let model = |name: &str, more: &str| {
        format!("[[model]]\nname = \"{name}\"\ntargets = [{{ provider = \"c\", model = \"command-r\" }}]\n{more}\n")
    };
    let drops = model("drops", "on_unsupported = \"drop\"");
    let world = World::new(&format!("{}{}{drops}", config(&mock), model("plain", "")));
    let mut body = ask("drops");
    body["n"] = 2.into();
    body["logit_bias"] = json!({"5": -100});
    body["seed"] = 7.into();
    let answer = world.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut named: Vec<&str> = answer.header("x-vouchgate-dropped").split(", ").collect();
    named.sort_unstable();
    assert_eq!(named, ["logit_bias", "n"]);
    let sent = mock.request(0).await.json();
    assert_eq!((sent.get("n"), sent.get("logit_bias"), &sent["seed"]), (None, None, &json!(7)));

    assert_eq!(world.post("/v1/chat/completions", &ask("drops")).await.header("x-vouchgate-dropped"), "");
    for (name, param) in [("plain", "logit_bias"), ("c/command-r", "logit_bias")] {
        body["model"] = name.into();
        let refused = world.post("/v1/chat/completions", &body).await;
        assert_eq!((refused.status.as_u16(), refused.json()["error"]["param"].as_str()), (400, Some(param)), "{name}");
    }
    // What is asked is never left out.
    let mut body = ask("drops");
    body["n"] = 2.into();
    body["messages"][0]["content"] = json!([{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]);
    let refused = world.post("/v1/chat/completions", &body).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "unsupported_parameter"));
    assert_eq!(mock.count(), 2);
}
