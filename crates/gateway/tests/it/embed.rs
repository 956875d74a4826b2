//! Embeddings and token counts: each client's form in front of each provider's.

use base64::Engine as _;
use http::StatusCode;
use serde_json::{Value, json};
use testkit::mock::{Answer, Cassette, Mock};

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
        "{}{}{}{}{}[[model]]\nname = \"fast\"\ntargets = [{{ provider = \"g\", model = \"gemini-embedding-001\" }}]\n\
         retry = {{ attempts = 1 }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"g\"], tools = [\"known\"] }}\n",
        provider("g", "gemini", "/v1beta"),
        provider("o", "openai-compatible", "/v1"),
        provider("a", "anthropic", ""),
        provider("p", "perplexity", ""),
        provider("c", "cohere", "")
            + &provider("l", "ollama", "").replace("kind", "api = \"native\"\nkind")
            + &provider("v", "vertex", "").replace("kind", "express = true\nkind")
            + &provider("b", "bedrock", "")
            + &provider("y", "voyage", "/v1"),
    )
}

fn google(values: &str) -> Answer {
    Answer::bytes(
        200,
        "application/json; charset=UTF-8",
        format!("{{\"embeddings\":[{values}],\"usageMetadata\":{{\"promptTokenCount\":7}}}}"),
    )
}

#[tokio::test]
async fn an_openai_client_has_texts_embedded_by_gemini() {
    let mock = Mock::start_with(|_| google("{\"values\":[0.10,-2e-3]},{\"values\":[1,2]}")).await;
    let world = World::new(&config(&mock));
    let ask = json!({"model": "fast", "input": ["one", "two"], "dimensions": 2});
    let answer = world.post("/v1/embeddings", &ask).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(answer.text().contains("\"embedding\":[0.10,-2e-3]"), "digit for digit: {}", answer.text());
    assert_eq!(answer.json()["usage"], json!({"prompt_tokens": 7, "total_tokens": 7}));
    let got = mock.request(0).await;
    assert_eq!(got.target, "/v1beta/models/gemini-embedding-001:batchEmbedContents");
    assert_eq!(got.header("x-goog-api-key"), Some(PROVIDER_KEY));
    assert_eq!(
        got.json()["requests"][1],
        json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "two"}]}, "outputDimensionality": 2})
    );
    assert_eq!(world.record().input_tokens, Some(7));
    let mut coded = ask;
    coded["encoding_format"] = "base64".into();
    let answer = world.post("/v1/embeddings", &coded).await;
    assert_eq!(answer.json()["data"][1]["embedding"], "AACAPwAAAEA=");
}

#[tokio::test]
async fn a_gemini_client_has_texts_embedded_by_gemini_and_by_others() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let body = "{ \"content\":{\"parts\":[{\"text\":\"h\\u00e9\"}]}, \"x_unknown\":1.0, \"model\":\"models/fast\" }";
    let token = world.token("alice");
    let headers = [("x-goog-api-key", token.as_str())];
    mock.push(Answer::bytes(200, "application/json", "{ \"embedding\":{\"values\":[1]} }"));
    let answer = world.send("POST", "/v1beta/models/fast:embedContent", &headers, body).await;
    assert_eq!(answer.text(), "{ \"embedding\":{\"values\":[1]} }");
    let got = mock.request(0).await;
    assert_eq!(got.target, "/v1beta/models/gemini-embedding-001:embedContent");
    assert_eq!(String::from_utf8_lossy(&got.body), body.replace("models/fast", "models/gemini-embedding-001"));
    mock.push(Answer::json(
        200,
        &json!({"data": [{"index": 0, "embedding": "AACAPwAAAEA="}], "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}}),
    ));
    let ask = json!({"requests": [{"model": "models/o/m", "content": {"parts": [{"text": "a"}]}}]});
    let answer = world.post("/v1beta/models/o/m:batchEmbedContents", &ask).await;
    assert_eq!(answer.json()["embeddings"], json!([{"values": [1, 2]}]), "{}", answer.text());
    assert_eq!(mock.request(1).await.json(), json!({"model": "m", "input": ["a"], "encoding_format": "float"}));
    mock.push(Answer::json(404, &json!({"error": {"message": "no such model", "code": "model_not_found"}})));
    let answer = world.post("/v1beta/models/o/m:batchEmbedContents", &ask).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
    let echo = json!({"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 3});
    let answer = world.post("/v1beta/models/vouchgate/echo:embedContent", &echo).await;
    assert_eq!(answer.json()["embedding"]["values"].as_array().map(Vec::len), Some(3), "{}", answer.text());
}

#[tokio::test]
async fn each_provider_is_asked_for_embeddings_in_its_own_form_and_place() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    mock.push(Answer::json(
        200,
        &json!({"embeddings": {"float": [[0.5]]}, "meta": {"billed_units": {"input_tokens": 3}}}),
    ));
    let answer = world.post("/v1/embeddings", &json!({"model": "c/embed-v4.0", "input": "a"})).await;
    assert_eq!(answer.json()["data"][0]["embedding"], json!([0.5]), "{}", answer.text());
    assert_eq!(mock.request(0).await.target, "/v2/embed");
    assert_eq!(mock.request(0).await.json()["input_type"], "search_document");
    mock.push(Answer::json(200, &json!({"data": [], "usage": {}})));
    world.post("/v1/embeddings", &json!({"model": "p/pplx-embed", "input": "a"})).await;
    assert_eq!(mock.request(1).await.target, "/v1/embeddings");
    mock.push(Answer::json(
        200,
        &json!({"predictions": [{"embeddings": {"values": [0.5], "statistics": {"token_count": 3, "truncated": false}}}]}),
    ));
    let answer = world.post("/v1/embeddings", &json!({"model": "v/text-embedding-005", "input": "a"})).await;
    assert_eq!(answer.json()["data"][0]["embedding"], json!([0.5]), "{}", answer.text());
    assert_eq!(mock.request(2).await.target, "/v1beta1/publishers/google/models/text-embedding-005:predict");
    mock.push(Answer::json(200, &json!({"model": "m", "embeddings": [[0.5]], "prompt_eval_count": 3})));
    let answer = world.post("/v1/embeddings", &json!({"model": "l/nomic-embed-text", "input": "a"})).await;
    assert_eq!(answer.json()["data"][0]["embedding"], json!([0.5]), "{}", answer.text());
    assert_eq!(mock.request(3).await.target, "/api/embed");
    for model in ["a/claude", "v/claude-sonnet-4"] {
        let refused = world.post("/v1/embeddings", &json!({"model": model, "input": "a"})).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "unsupported_parameter"), "{model}");
    }
    let tokens = world.post("/v1/embeddings", &json!({"model": "fast", "input": [1, 2]})).await;
    assert_eq!(tokens.json()["error"]["param"], "input");
    assert_eq!(mock.count(), 4);
}

#[tokio::test]
async fn models_at_bedrock_embed_each_in_the_form_of_its_maker() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let titan = "b/amazon.titan-embed-text-v2:0";
    mock.push(Answer::json(200, &json!({"embedding": [0.25, -1], "inputTextTokenCount": 4})));
    let answer = world.post("/v1/embeddings", &json!({"model": titan, "input": "a", "dimensions": 256})).await;
    assert_eq!(answer.json()["data"][0]["embedding"], json!([0.25, -1]), "{}", answer.text());
    assert_eq!(world.record().input_tokens, Some(4));
    let got = mock.request(0).await;
    assert_eq!(got.target, "/model/amazon.titan-embed-text-v2%3A0/invoke");
    assert_eq!(got.json(), json!({"inputText": "a", "dimensions": 256}));
    assert_eq!(got.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
    mock.push(Answer::json(200, &json!({"embedding": [0.5], "inputTextTokenCount": 1})));
    let one = json!({"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 256});
    let answer = world.post("/v1beta/models/b/amazon.titan-embed-image-v1:embedContent", &one).await;
    assert_eq!(answer.json()["embedding"]["values"], json!([0.5]), "{}", answer.text());
    let expected = json!({"inputText": "a", "embeddingConfig": {"outputEmbeddingLength": 256}});
    assert_eq!(mock.request(1).await.json(), expected);
    let cohere = Answer::json(
        200,
        &json!({"embeddings": {"float": [[1], [2]]}, "id": "x", "response_type": "embeddings_by_type"}),
    );
    mock.push(cohere.header("x-amzn-bedrock-input-token-count", "9"));
    let answer = world.post("/v1/embeddings", &json!({"model": "b/us.cohere.embed-v4:0", "input": ["a", "b"]})).await;
    assert_eq!(answer.json()["usage"]["prompt_tokens"], 9, "{}", answer.text());
    assert_eq!(world.record().input_tokens, Some(9), "as Amazon's field tells");
    assert_eq!(mock.request(2).await.target, "/model/us.cohere.embed-v4%3A0/invoke");
    assert_eq!(mock.request(2).await.json()["texts"], json!(["a", "b"]));
    for (model, input, param) in [
        (titan, json!(["a", "b"]), "input"),
        (titan, json!([[1, 2]]), "input"),
        ("b/anthropic.claude-x", json!("a"), "model"),
    ] {
        let refused = world.post("/v1/embeddings", &json!({"model": model, "input": input})).await;
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(param)));
    }
    mock.push(Answer::json(400, &json!({"message": "Malformed input request"})));
    let failed = world.post("/v1/embeddings", &json!({"model": titan, "input": "a"})).await;
    assert_eq!((failed.status.as_u16(), &failed.json()["error"]["message"]), (400, &json!("Malformed input request")));
}

#[tokio::test]
async fn voyages_own_form_passes_and_openais_is_translated_for_it() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let told =
        "{ \"data\":[{\"index\":0,\"embedding\":[0.50]}],\"model\":\"voyage-3\",\"usage\":{\"total_tokens\":6} }";
    mock.push(Answer::bytes(200, "application/json", told));
    let own = "{\"truncation\":true, \"input\":[\"a\"], \"input_type\":\"document\", \"output_dtype\":null, \"model\":\"y/voyage-3\"}";
    let token = format!("Bearer {}", world.token("alice"));
    let answer = world.send("POST", "/v1/embeddings", &[("authorization", token.as_str())], own).await;
    assert_eq!(answer.text(), told);
    let got = mock.request(0).await;
    assert_eq!(
        (got.target.as_str(), got.header("authorization")),
        ("/v1/embeddings", Some(format!("Bearer {PROVIDER_KEY}").as_str()))
    );
    assert_eq!(String::from_utf8_lossy(&got.body), own.replace("y/voyage-3", "voyage-3"));
    assert_eq!(world.record().input_tokens, Some(6));
    mock.push(Answer::bytes(200, "application/json", told));
    let ask = json!({"model": "y/voyage-3", "input": "a", "encoding_format": "float", "dimensions": 512, "user": "u"});
    let answer = world.post("/v1/embeddings", &ask).await;
    assert_eq!(answer.json()["usage"], json!({"prompt_tokens": 6, "total_tokens": 6}), "{}", answer.text());
    assert_eq!(mock.request(1).await.json(), json!({"model": "voyage-3", "input": ["a"], "output_dimension": 512}));
    mock.push(Answer::bytes(200, "application/json", told));
    let google = json!({"content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY"});
    let answer = world.post("/v1beta/models/y/voyage-3:embedContent", &google).await;
    assert!(answer.text().contains("0.50"), "{}", answer.text());
    assert_eq!(mock.request(2).await.json()["input_type"], "query");
    let chat = json!({"model": "y/voyage-3", "messages": [{"role": "user", "content": "hi"}]});
    let refused = world.post("/v1/chat/completions", &chat).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "unsupported_parameter"));
    assert_eq!(mock.count(), 3);
}

#[tokio::test]
async fn bedrock_counts_tokens_for_clients_of_both_forms() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"inputTokens": 19}))).await;
    let world = World::new(&config(&mock));
    let model = "b/us.anthropic.claude-sonnet-4-20250514-v1:0";
    let ask = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    let answer = world.post("/v1/messages/count_tokens", &ask).await;
    assert_eq!(answer.json(), json!({"input_tokens": 19}), "{}", answer.text());
    let google = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    let answer = world.post(&format!("/v1beta/models/{model}:countTokens"), &google).await;
    assert_eq!(answer.json(), json!({"totalTokens": 19}), "{}", answer.text());
    for at in 0..2 {
        let got = mock.request(at).await;
        assert_eq!(got.target, "/model/anthropic.claude-sonnet-4-20250514-v1%3A0/count-tokens");
        assert_eq!(got.json()["input"]["converse"]["messages"], json!([{"role": "user", "content": [{"text": "hi"}]}]));
    }
}

#[tokio::test]
async fn tokens_are_counted_by_anthropic_and_by_google_for_clients_of_both() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let anthropic = json!({"model": "a/claude", "messages": [{"role": "user", "content": "hi"}]});
    mock.push(Answer::bytes(200, "application/json", "{ \"input_tokens\": 14 }"));
    let answer = world.post("/v1/messages/count_tokens", &anthropic).await;
    assert_eq!(answer.text(), "{ \"input_tokens\": 14 }");
    let got = mock.request(0).await;
    assert_eq!((got.target.as_str(), got.header("x-api-key")), ("/v1/messages/count_tokens", Some(PROVIDER_KEY)));
    assert_eq!(got.json()["model"], "claude");
    mock.push(Answer::json(200, &json!({"totalTokens": 12})));
    let mut for_google = anthropic.clone();
    for_google["model"] = "g/gemini-2.5-flash".into();
    let answer = world.post("/v1/messages/count_tokens", &for_google).await;
    assert_eq!(answer.json(), json!({"input_tokens": 12}), "{}", answer.text());
    let got = mock.request(1).await;
    assert_eq!(got.target, "/v1beta/models/gemini-2.5-flash:countTokens");
    assert_eq!(got.json()["generateContentRequest"]["contents"][0]["parts"][0]["text"], "hi");
    let google = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    mock.push(Answer::json(200, &json!({"input_tokens": 9})));
    let answer = world.post("/v1beta/models/a/claude:countTokens", &google).await;
    assert_eq!(answer.json(), json!({"totalTokens": 9}), "{}", answer.text());
    assert_eq!(mock.request(2).await.json()["messages"][0]["role"], "user");
    mock.push(Answer::json(200, &json!({"totalTokens": 5})));
    let wrapped = json!({"generateContentRequest": {"model": "models/g/gemini-x", "contents": []}});
    let answer = world.post("/v1beta/models/g/gemini-x:countTokens", &wrapped).await;
    assert_eq!(answer.json()["totalTokens"], 5, "{}", answer.text());
    assert_eq!(mock.request(3).await.json()["generateContentRequest"]["model"], "models/gemini-x");
    mock.push(Answer::json(200, &json!({"totalTokens": 6})));
    let answer = world.post("/v1beta/models/v/gemini-x:countTokens", &google).await;
    assert_eq!(answer.json()["totalTokens"], 6, "{}", answer.text());
    assert_eq!(mock.request(4).await.json(), google, "Vertex AI takes the request as it stands");
    let record = world.record();
    assert_eq!((record.input_tokens, record.output_tokens), (None, None), "nothing was used");
}

#[tokio::test]
async fn counting_is_decided_on_like_asking() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let tool = |name: &str| json!([{"name": name, "input_schema": {"type": "object"}}]);
    let messages = json!([{"role": "user", "content": "hi"}]);
    let refused = world
        .post("/v1/messages/count_tokens", &json!({"model": "a/claude", "messages": messages, "tools": tool("other")}))
        .await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::FORBIDDEN, "tools_not_allowed"));
    let none = world.post("/v1/messages/count_tokens", &json!({"model": "o/m", "messages": messages})).await;
    assert_eq!((none.status, none.code().as_str()), (StatusCode::BAD_REQUEST, "unsupported_parameter"));
    let inside =
        json!({"generateContentRequest": {"contents": [], "tools": [{"functionDeclarations": [{"name": "other"}]}]}});
    let refused = world.post("/v1beta/models/fast:countTokens", &inside).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
    for body in [
        json!({"generateContentRequest": {"model": "models/other", "contents": []}}),
        json!({"contents": [], "generateContentRequest": {"contents": []}}),
        json!({"generateContentRequest": {"contents": [], "base_url": "http://evil.example"}}),
    ] {
        let refused = world.post("/v1beta/models/fast:countTokens", &body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{body}: {}", refused.text());
    }
    let stored = json!({"contents": [{"parts": [{"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}}]}]});
    assert_eq!(world.post("/v1beta/models/fast:countTokens", &stored).await.status, StatusCode::NOT_FOUND);
    let counted =
        world.post("/v1/messages/count_tokens", &json!({"model": "vouchgate/echo", "messages": messages})).await;
    assert_eq!(counted.json(), json!({"input_tokens": 1}));
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn below_a_providers_own_path_the_model_of_the_path_is_the_one_decided_on() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"totalTokens": 5}))).await;
    let opened = "passthrough = [{ provider = \"g\", methods = [\"POST\"], paths = [\"/v1beta/models/**\"], models = [\"gemini-x\", \"models/gemini-x\"] }]";
    let world = World::new(&config(&mock).replace("providers = [\"g\"], tools = [\"known\"]", opened));
    let ask = json!({"contents": []});
    let allowed = world.post("/providers/g/v1beta/models/gemini-x:countTokens", &ask).await;
    assert_eq!(allowed.status, StatusCode::OK, "{}", allowed.text());
    for (path, body) in [
        ("other:countTokens", ask.clone()),
        ("other:embedContent", json!({"model": "gemini-x", "content": {}})),
        ("gemini-x:batchEmbedContents", json!({"requests": [{"model": "models/other", "content": {}}]})),
    ] {
        let refused = world.post(&format!("/providers/g/v1beta/models/{path}"), &body).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}: {}", refused.text());
    }
    assert_eq!(mock.count(), 1);
}

/// What a recording's vectors are, read without any of the translator's code.
fn vectors_of(cassette: &Cassette) -> Option<Vec<Vec<f64>>> {
    let answer = cassette.response_json();
    let floats = |value: &Value| -> Vec<f64> {
        match value {
            Value::String(text) => base64::engine::general_purpose::STANDARD
                .decode(text)
                .unwrap()
                .chunks_exact(4)
                .map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap())))
                .collect(),
            list => list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect(),
        }
    };
    let list = |list: &Value, name: &str| Some(list.as_array()?.iter().map(|item| floats(&item[name])).collect());
    match cassette.endpoint.as_str() {
        "embedContent" => list(&answer["embeddings"], "values"),
        "invoke" => Some(answer["embeddings"]["float"].as_array()?.iter().map(floats).collect()),
        "predict" => {
            let vectors = answer["predictions"].as_array()?.iter();
            Some(vectors.map(|prediction| floats(&prediction["embeddings"]["values"])).collect())
        }
        _ if cassette.provider == "cohere" => {
            Some(answer["embeddings"]["float"].as_array()?.iter().map(floats).collect())
        }
        _ => list(&answer["data"], "embedding"),
    }
}

fn near(one: &[Vec<f64>], other: &[Vec<f64>]) -> bool {
    let same = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-6 * a.abs().max(1e-30);
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(same))
}

#[tokio::test]
async fn every_recorded_vector_reaches_clients_of_both_forms() {
    let Some(all) = Cassette::all() else {
        vectors::skipped("every_recorded_vector_reaches_clients_of_both_forms");
        return;
    };
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let (mut exact, mut told, mut errors) = (0, 0, 0);
    for cassette in all {
        let provider = match (cassette.endpoint.as_str(), cassette.provider.as_str()) {
            ("predict", _) => "v/text-embedding-004",
            ("embedContent", _) => "g/gemini-embedding-001",
            ("embeddings", "cohere") => "c/embed-v4.0",
            ("embeddings", "voyage") => "y/voyage-3-lite",
            ("invoke", _) if cassette.path.contains("cohere.embed") => "b/us.cohere.embed-v4:0",
            // Their vectors are no floats of 32 bits: bytes, and floats of 64.
            ("embeddings", "perplexity" | "local-openai-compat") => continue,
            ("embeddings", _) => "o/m",
            _ => continue,
        };
        if cassette.status == 401 {
            continue;
        }
        // Its own form, byte for byte.
        let recorded = cassette.request_json();
        if cassette.endpoint == "embedContent" {
            let mut body = recorded.clone();
            for one in body["requests"].as_array_mut().unwrap() {
                one["model"] = format!("models/{provider}").into();
            }
            mock.push(Answer::cassette(cassette).pieces(997));
            let answer = world.post(&format!("/v1beta/models/{provider}:batchEmbedContents"), &body).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.body[..]),
                (cassette.status, &cassette.response_body[..]),
                "{}",
                cassette.id
            );
            exact += 1;
        }
        let vectors = vectors_of(cassette);
        let count = vectors.as_ref().map_or(1, Vec::len);
        let texts: Vec<String> = (0..count).map(|n| format!("text {n}")).collect();
        // To a client of OpenAI's form where the provider's is another, and to one of Google's.
        let openai = json!({"model": provider, "input": texts, "encoding_format": "base64"});
        let requests: Vec<Value> = texts.iter().map(|text| json!({"content": {"parts": [{"text": text}]}})).collect();
        let google = json!({"requests": requests});
        let path = format!("/v1beta/models/{provider}:batchEmbedContents");
        for (path, body) in [("/v1/embeddings", &openai), (path.as_str(), &google)] {
            mock.push(Answer::cassette(cassette).pieces(997));
            let answer = world.post(path, body).await;
            assert_eq!(answer.status.as_u16(), cassette.status, "{} {path}: {}", cassette.id, answer.text());
            let Some(vectors) = &vectors else {
                let same = provider == "o/m" && path == "/v1/embeddings" && answer.body == cassette.response_body;
                assert!(same || !answer.json()["error"].is_null(), "{}", cassette.id);
                errors += 1;
                continue;
            };
            let got = if path == "/v1/embeddings" {
                let list = answer.json()["data"].as_array().unwrap().clone();
                list.iter()
                    .map(|item| match &item["embedding"] {
                        Value::String(text) => base64::engine::general_purpose::STANDARD
                            .decode(text)
                            .unwrap()
                            .chunks_exact(4)
                            .map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap())))
                            .collect(),
                        list => list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<f64>>(),
                    })
                    .collect::<Vec<_>>()
            } else {
                let list = answer.json()["embeddings"].as_array().unwrap().clone();
                let values =
                    |item: &Value| item["values"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
                list.iter().map(values).collect()
            };
            assert!(near(vectors, &got), "{} {} at {path}", cassette.provider, cassette.id);
            told += 1;
        }
    }
    println!("embeddings: {exact} byte for byte, {told} with the same vectors, {errors} errors told");
    assert!(exact >= 4 && told >= 30, "{exact} {told}");
}

#[tokio::test]
async fn every_recorded_count_is_told_to_clients_of_both_forms() {
    let Some(all) = Cassette::all() else {
        vectors::skipped("every_recorded_count_is_told_to_clients_of_both_forms");
        return;
    };
    let mock = Mock::start().await;
    let world = World::new(&config(&mock).replace(", tools = [\"known\"]", ""));
    let (mut exact, mut told) = (0, 0);
    for cassette in all {
        let (provider, anthropic) = match (cassette.endpoint.as_str(), cassette.provider.as_str()) {
            ("messages.count_tokens", _) => ("a/claude-x", true),
            ("countTokens", "vertex") => ("v/gemini-x", false),
            ("countTokens", "gemini") => ("g/gemini-x", false),
            ("count-tokens", _) => ("b/anthropic.claude-x", true),
            _ => continue,
        };
        let google = format!("/v1beta/models/{provider}:countTokens");
        let mut recorded = cassette.request_json();
        let own_form = cassette.endpoint != "count-tokens";
        if anthropic && own_form {
            recorded["model"] = provider.into();
        }
        if own_form {
            mock.push(Answer::cassette(cassette));
            let own = if anthropic { "/v1/messages/count_tokens" } else { google.as_str() };
            let answer = world.post(own, &recorded).await;
            assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
            // Vertex AI tells more than a count.
            if cassette.provider != "vertex" {
                assert_eq!(&answer.body[..], &cassette.response_body[..], "{}", cassette.id);
                exact += 1;
            }
        }
        let total = cassette.response_json();
        let total = ["input_tokens", "totalTokens", "inputTokens"].iter().find_map(|name| total[name].as_u64());
        for (path, body, name) in [
            (
                "/v1/messages/count_tokens",
                json!({"model": provider, "messages": [{"role": "user", "content": "hi"}]}),
                "input_tokens",
            ),
            (google.as_str(), json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}), "totalTokens"),
        ] {
            mock.push(Answer::cassette(cassette));
            let answer = world.post(path, &body).await;
            assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
            match total {
                Some(total) => assert_eq!(answer.json()[name], total, "{}", cassette.id),
                None => assert!(!answer.json()["error"]["message"].is_null(), "{}", cassette.id),
            }
            told += 1;
        }
    }
    println!("counts: {exact} byte for byte, {told} told");
    assert!(exact >= 10 && told >= 30, "{exact} {told}");
}
