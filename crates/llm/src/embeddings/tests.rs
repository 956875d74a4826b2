use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Limits, RequestError};

fn read(client: Client, body: &Value) -> Result<Embed, RequestError> {
    Embed::read(client, body.to_string().as_bytes(), &Limits::EMBEDDINGS)
}

fn written(client: Client, body: &Value, surface: Surface) -> Value {
    serde_json::from_slice(&read(client, body).unwrap().write(surface, "m").unwrap()).unwrap()
}

#[test]
fn openais_request_is_written_for_every_provider() {
    let ask =
        json!({"model": "x", "input": ["one", "two"], "dimensions": 256, "encoding_format": "base64", "user": "u"});
    for (surface, expected) in [
        (
            Surface::Gemini,
            json!({"requests": [
                {"model": "models/m", "content": {"parts": [{"text": "one"}]}, "outputDimensionality": 256},
                {"model": "models/m", "content": {"parts": [{"text": "two"}]}, "outputDimensionality": 256},
            ]}),
        ),
        (
            Surface::Vertex,
            json!({"instances": [{"content": "one"}, {"content": "two"}], "parameters": {"outputDimensionality": 256}}),
        ),
        (
            Surface::Cohere,
            json!({"model": "m", "texts": ["one", "two"], "input_type": "search_document", "embedding_types": ["float"], "output_dimension": 256}),
        ),
        (
            Surface::BedrockCohere,
            json!({"texts": ["one", "two"], "input_type": "search_document", "embedding_types": ["float"], "output_dimension": 256}),
        ),
        (Surface::Voyage, json!({"model": "m", "input": ["one", "two"], "output_dimension": 256})),
        (Surface::Ollama, json!({"model": "m", "input": ["one", "two"], "dimensions": 256})),
        (
            Surface::OpenAi,
            json!({"model": "m", "input": ["one", "two"], "dimensions": 256, "encoding_format": "float"}),
        ),
    ] {
        assert_eq!(written(Client::OpenAi, &ask, surface), expected, "{surface:?}");
    }
    let one = json!({"model": "x", "input": "one", "input_type": "search_query"});
    assert_eq!(written(Client::OpenAi, &one, Surface::Cohere)["input_type"], "search_query");
    assert_eq!(written(Client::OpenAi, &one, Surface::Gemini)["requests"][0]["taskType"], "RETRIEVAL_QUERY");
    let plain = json!({"model": "x", "input": "one"});
    assert_eq!(written(Client::OpenAi, &plain, Surface::BedrockTitan), json!({"inputText": "one"}));
}

#[test]
fn googles_requests_are_written_for_others_in_either_spelling() {
    let one = json!({"model": "models/x", "content": {"parts": [{"text": "a"}, {"text": "b"}]}, "output_dimensionality": 8,
        "task_type": "RETRIEVAL_QUERY"});
    assert_eq!(
        written(Client::Gemini, &one, Surface::Cohere),
        json!({"model": "m", "texts": ["ab"], "input_type": "search_query", "embedding_types": ["float"], "output_dimension": 8})
    );
    let plain = |text: &str| json!({"model": "models/x", "content": {"parts": [{"text": text}]}, "taskType": "TASK_TYPE_UNSPECIFIED"});
    let several = json!({"requests": [plain("a"), plain("b")]});
    assert_eq!(
        written(Client::GeminiBatch, &several, Surface::OpenAi),
        json!({"model": "m", "input": ["a", "b"], "encoding_format": "float"})
    );
    let titled = json!({"content": {"parts": [{"text": "a"}]}, "title": "T", "taskType": "RETRIEVAL_DOCUMENT"});
    assert_eq!(
        written(Client::Gemini, &titled, Surface::Vertex),
        json!({"instances": [{"content": "a", "task_type": "RETRIEVAL_DOCUMENT", "title": "T"}]})
    );
}

#[test]
fn what_a_provider_has_no_word_for_is_refused_by_name() {
    let openai = |extra: Value| {
        let mut body = json!({"model": "x", "input": "a"});
        extra.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    let google = |extra: Value| {
        let mut body = json!({"content": {"parts": [{"text": "a"}]}});
        extra.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    for (client, body, surface, param) in [
        (Client::OpenAi, openai(json!({"input": [1, 2]})), Surface::Gemini, "input"),
        (Client::OpenAi, openai(json!({"input": [[1], [2]]})), Surface::Cohere, "input"),
        (Client::OpenAi, openai(json!({"input": ["a", "b"]})), Surface::BedrockTitan, "input"),
        (Client::OpenAi, openai(json!({"input_type": "clustering"})), Surface::Voyage, "input_type"),
        (Client::OpenAi, openai(json!({"truncation": true})), Surface::Gemini, "truncation"),
        (Client::Gemini, google(json!({"taskType": "SEMANTIC_SIMILARITY"})), Surface::Cohere, "taskType"),
        (Client::Gemini, google(json!({"taskType": "RETRIEVAL_QUERY"})), Surface::OpenAi, "taskType"),
        (Client::Gemini, google(json!({"title": "T"})), Surface::Ollama, "title"),
        (Client::Gemini, google(json!({"config": {}})), Surface::OpenAi, "config"),
        (
            Client::Gemini,
            json!({"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}}),
            Surface::OpenAi,
            "content.parts",
        ),
        (
            Client::GeminiBatch,
            json!({"requests": [google(json!({})), google(json!({"outputDimensionality": 8}))]}),
            Surface::OpenAi,
            "requests[1]",
        ),
    ] {
        let error = read(client, &body).and_then(|embed| embed.write(surface, "m")).unwrap_err();
        assert_eq!((error.reason(), error.param()), ("unsupported_parameter", Some(param)), "{body} {surface:?}");
    }
    for (body, param) in [
        (json!({"model": "x"}), "input"),
        (openai(json!({"input": []})), "input"),
        (openai(json!({"input": ["a", 1]})), "input"),
        (openai(json!({"input": [[]]})), "input"),
        (openai(json!({"dimensions": 0})), "dimensions"),
        (openai(json!({"encoding_format": "hex"})), "encoding_format"),
        (openai(json!({"input_type": "image"})), "input_type"),
    ] {
        assert_eq!(read(Client::OpenAi, &body).unwrap_err().param(), Some(param), "{body}");
    }
    assert!(read(Client::GeminiBatch, &json!({"requests": []})).is_err());
}

fn answered(client: Client, base64: bool, surface: Surface, answer: &str) -> Value {
    let body = match client {
        Client::OpenAi => json!({"input": ["a", "b"], "encoding_format": if base64 { "base64" } else { "float" }}),
        _ => json!({"requests": [{"content": {"parts": [{"text": "a"}]}}, {"content": {"parts": [{"text": "b"}]}}]}),
    };
    let embed = read(client, &body).unwrap();
    serde_json::from_slice(&embed.answer(surface, answer.as_bytes(), "m", None).unwrap().body).unwrap()
}

#[test]
fn every_providers_vectors_reach_openais_client_digit_for_digit() {
    let answers = [
        (
            Surface::Gemini,
            r#"{"embeddings":[{"values":[0.10,-2E-3]},{"values":[1,2]}],"usageMetadata":{"promptTokenCount":7}}"#,
        ),
        (
            Surface::Vertex,
            r#"{"predictions":[{"embeddings":{"values":[0.10,-2E-3],"statistics":{"token_count":3}}},{"embeddings":{"values":[1,2],"statistics":{"token_count":4.0}}}]}"#,
        ),
        (
            Surface::Cohere,
            r#"{"embeddings":{"float":[[0.10,-2E-3],[1,2]]},"meta":{"billed_units":{"input_tokens":7}}}"#,
        ),
        (Surface::Ollama, r#"{"model":"m","embeddings":[[0.10,-2E-3],[1,2]],"prompt_eval_count":7}"#),
        (
            Surface::OpenAi,
            r#"{"data":[{"index":1,"embedding":[1,2]},{"index":0,"embedding":[0.10,-2E-3]}],"usage":{"prompt_tokens":7,"total_tokens":7}}"#,
        ),
        (
            Surface::Voyage,
            r#"{"data":[{"index":0,"embedding":[0.10,-2E-3]},{"index":1,"embedding":[1,2]}],"usage":{"total_tokens":7}}"#,
        ),
    ];
    for (surface, answer) in answers {
        let embed = read(Client::OpenAi, &json!({"input": ["a", "b"]})).unwrap();
        let got = embed.answer(surface, answer.as_bytes(), "m", None).unwrap();
        let text = String::from_utf8(got.body).unwrap();
        assert_eq!(
            text,
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.10,-2E-3]},{"object":"embedding","index":1,"embedding":[1,2]}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}"#,
            "{surface:?}"
        );
        assert_eq!(got.usage.input_tokens, Some(7));
        let coded = answered(Client::OpenAi, true, surface, answer);
        assert_eq!(coded["data"][1]["embedding"], "AACAPwAAAEA=", "{surface:?}");
        let google = answered(Client::GeminiBatch, false, surface, answer);
        assert_eq!(google["embeddings"][1]["values"], json!([1, 2]), "{surface:?}");
        assert_eq!(google["usageMetadata"]["promptTokenCount"], 7);
    }
    let one = read(Client::Gemini, &json!({"content": {"parts": [{"text": "a"}]}})).unwrap();
    let got = one.answer(Surface::BedrockTitan, br#"{"embedding":[0.5],"inputTextTokenCount":2}"#, "m", None).unwrap();
    assert_eq!(
        got.body,
        br#"{"embedding":{"values":[0.5]},"usageMetadata":{"promptTokenCount":2,"totalTokenCount":2}}"#
    );
}

#[test]
fn an_answer_of_another_shape_is_none() {
    let embed = read(Client::OpenAi, &json!({"input": ["a", "b"]})).unwrap();
    for answer in [
        "{}",
        "[]",
        "<html>",
        r#"{"data":[]}"#,
        r#"{"data":[{"embedding":[1]}]}"#,
        r#"{"data":[{"embedding":[1]},{"embedding":["x"]}]}"#,
        r#"{"data":[{"embedding":[1]},{"embedding":[]}]}"#,
        r#"{"data":[{"embedding":[1]},{"embedding":[[1]]}]}"#,
        r#"{"data":[{"embedding":[1]},{"embedding":"AAAA"}]}"#,
        r#"{"data":[{"embedding":[1]},{"embedding":"not base64"}]}"#,
    ] {
        assert!(embed.answer(Surface::OpenAi, answer.as_bytes(), "m", None).is_err(), "{answer}");
    }
    let error = embed.answer(Surface::OpenAi, br#"{"error":{"message":"no"}}"#, "m", None).unwrap_err();
    assert_eq!(error.reason(), "provider_error");
    let nan = r#"{"data":[{"embedding":"AADAfw=="},{"embedding":"AADAfw=="}]}"#;
    assert!(embed.answer(Surface::OpenAi, nan.as_bytes(), "m", None).is_err());
}

#[test]
fn googles_own_requests_have_only_their_models_name_set() {
    let body = br#"{ "requests" : [ {"model":"models/fast", "content":{"parts":[{"text":"a"}]}} , {"content":{}, "model": "models/fast"} ] }"#;
    let set = named(body, "fast", &Limits::EMBEDDINGS).unwrap().set(body, "gemini-embedding-001");
    assert_eq!(
        String::from_utf8(set).unwrap(),
        String::from_utf8_lossy(body).replace("models/fast", "models/gemini-embedding-001")
    );
    let body = br#"{"generateContentRequest":{"model":"models/fast","contents":[]}}"#;
    let set = named(body, "fast", &Limits::EMBEDDINGS).unwrap().set(body, "x");
    assert_eq!(set, br#"{"generateContentRequest":{"model":"models/x","contents":[]}}"#);
    for other in [
        r#"{"requests":[{"model":"models/fast"},{"model":"models/other"}]}"#,
        r#"{"model":"models/other"}"#,
        r#"{"generateContentRequest":{"model":"models/other"}}"#,
        r#"{"requests":[{"base_url":"x"}]}"#,
        r#"{"model":7}"#,
        r#"{"Model":"models/fast"}"#,
    ] {
        assert!(named(other.as_bytes(), "fast", &Limits::EMBEDDINGS).is_err(), "{other}");
    }
}

proptest! {
    #[test]
    fn a_float_is_the_same_after_base64_and_back(floats in prop::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 1..20)) {
        let numbers = format!("[{}]", floats.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
        let coded = vector::Vector::read(&numbers).unwrap().base64().unwrap();
        let back = vector::Vector::read(&coded).unwrap();
        prop_assert_eq!(back.numbers().unwrap(), numbers);
        prop_assert_eq!(back.base64().unwrap(), coded);
    }

    #[test]
    fn any_bytes_are_read_without_panic(body in any::<Vec<u8>>(), inner in "[\\[\\]{}\":,a-z0-9.]{0,40}") {
        let embed = read(Client::OpenAi, &json!({"input": "a"})).unwrap();
        let shaped = format!("{{\"data\":{inner},\"embeddings\":{inner},\"predictions\":{inner},\"embedding\":{inner}}}");
        for surface in [Surface::OpenAi, Surface::Gemini, Surface::Vertex, Surface::Cohere, Surface::BedrockTitan, Surface::Ollama] {
            let _ = (embed.answer(surface, &body, "m", None), embed.answer(surface, shaped.as_bytes(), "m", None));
        }
        for client in [Client::OpenAi, Client::Gemini, Client::GeminiBatch] {
            let _ = Embed::read(client, &body, &Limits::EMBEDDINGS);
        }
        let _ = named(&body, "m", &Limits::EMBEDDINGS);
    }
}
