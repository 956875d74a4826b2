//! What OpenAI's and Anthropic's SDKs make of recorded answers of the smaller endpoints.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::mock::{Answer, Cassette, Mock};

use super::Sdk;
use crate::support::{self, Gateway, secret_file};

/// The step that asks for what a recording answers, and what the SDK has to make of it.
fn step(cassette: &Cassette) -> Option<(Value, Value)> {
    let told = cassette.response_json();
    let ask = |scenario: &str, arguments: Value| json!({"scenario": scenario, "arguments": arguments});
    let model = "prov/m";
    Some(match cassette.endpoint.as_str() {
        "completions" if cassette.is_stream => {
            let events = String::from_utf8_lossy(&cassette.response_body).into_owned();
            let pieces = events.lines().filter_map(|line| {
                let event: Value = serde_json::from_str(line.strip_prefix("data: ")?).ok()?;
                Some(event["choices"][0]["text"].as_str()?.to_owned())
            });
            (
                ask("complete_stream", json!({"model": model, "prompt": "a"})),
                json!({"text": pieces.collect::<String>()}),
            )
        }
        "completions" => {
            let expected = json!({"text": told["choices"][0]["text"], "count": told["choices"].as_array()?.len()});
            (ask("complete", json!({"model": model, "prompt": "a"})), expected)
        }
        "moderations" => {
            let flagged: Vec<&Value> = told["results"].as_array()?.iter().map(|result| &result["flagged"]).collect();
            (ask("moderate", json!({"model": model, "input": "a"})), json!({"flagged": flagged}))
        }
        "images.generations" => {
            let expected = json!({"count": told["data"].as_array()?.len(), "url": told["data"][0]["url"], "b64": told["data"][0]["b64_json"]});
            (ask("image", json!({"model": model, "prompt": "a"})), expected)
        }
        "audio.speech" => (
            ask("speak", json!({"model": model, "input": "a", "voice": "alloy"})),
            json!({"bytes": cassette.response_body.len()}),
        ),
        "audio.transcriptions" => (ask("transcribe", json!({"model": model})), json!({"text": told["text"]})),
        _ => return None,
    })
}

#[tokio::test]
async fn openais_sdks_read_recordings_of_the_smaller_endpoints() {
    let test = "openais_sdks_read_recordings_of_the_smaller_endpoints";
    let Some(all) = Cassette::all() else {
        vectors::skipped(test);
        return;
    };
    let usable: Vec<(&Arc<Cassette>, Value, Value)> = all
        .iter()
        .filter(|cassette| cassette.status == 200)
        .filter_map(|cassette| step(cassette).map(|(step, expected)| (cassette, step, expected)))
        .collect();
    let mock = Mock::start().await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let key = secret_file(dir.path(), "provider-key", "fake-provider-key-for-direct");
    let provider = support::provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
    let gateway = Gateway::start_in(dir, &format!("{}{provider}", support::APP)).await;
    let token = gateway.token("app").await;
    let steps: Vec<Value> = usable.iter().map(|(_, step, _)| step.clone()).collect();
    for sdk in [Sdk::OpenAiPython, Sdk::OpenAiNode] {
        for (cassette, ..) in &usable {
            mock.push(Answer::cassette(cassette));
        }
        let Some(results) = sdk.run(test, (&gateway, &token), 0, &steps).await else { return };
        for ((cassette, _, expected), result) in usable.iter().zip(&results) {
            for (name, value) in expected.as_object().unwrap() {
                assert_eq!(&result[name], value, "{sdk:?} {} {}: {result}", cassette.endpoint, cassette.id);
            }
        }
    }
    assert!(usable.len() >= 40, "{}", usable.len());
    gateway.stop().await;
}

#[tokio::test]
async fn anthropics_sdks_count_tokens() {
    let test = "anthropics_sdks_count_tokens";
    let Some(all) = Cassette::of("anthropic", "messages.count_tokens") else {
        vectors::skipped(test);
        return;
    };
    let mock = Mock::start().await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let key = secret_file(dir.path(), "provider-key", "fake-provider-key-for-counting");
    let provider = support::provider("prov", "anthropic", &mock.url(), &key);
    let gateway = Gateway::start_in(dir, &format!("{}{provider}", support::APP)).await;
    let token = gateway.token("app").await;
    let messages = json!([{"role": "user", "content": "Hello"}]);
    let step = json!({"scenario": "count", "arguments": {"model": "prov/claude", "messages": messages}});
    let steps: Vec<Value> = all.iter().map(|_| step.clone()).collect();
    for sdk in [Sdk::AnthropicPython, Sdk::AnthropicNode] {
        for cassette in &all {
            mock.push(Answer::cassette(cassette));
        }
        let Some(results) = sdk.run(test, (&gateway, &token), 0, &steps).await else { return };
        for (cassette, result) in all.iter().zip(&results) {
            if cassette.status == 200 {
                assert_eq!(result["input_tokens"], cassette.response_json()["input_tokens"], "{sdk:?}: {result}");
            } else {
                assert_eq!(result["status"], cassette.status, "{sdk:?}: {result}");
            }
        }
    }
    gateway.stop().await;
}
