//! What the SDKs raise: the gateway's refusals, a provider's errors in either dialect, and streams that break off.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};

use super::{ALL, Sdk};
use crate::support::{self, Gateway, secret_file};

/// A client that may use two providers and nothing else.
const LIMITED: &str = r#"
[[client]]
name = "app"
scopes = ["chat"]

[[policy]]
name = "app"
who = { client = "app" }
may = { models = ["openai/*", "anthropic/*", "nowhere/*", "vouchgate/echo"] }
"#;

const PROVIDER_KEY: &str = "fake-provider-key-for-errors";
const PROVIDERS: [&str; 2] = ["openai", "anthropic"];

async fn start(mock: &Mock) -> Gateway {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let key = secret_file(dir.path(), "provider-key", PROVIDER_KEY);
    let openai = support::provider("openai", "openai", &format!("{}/v1", mock.url()), &key);
    let anthropic = support::provider("anthropic", "anthropic", &mock.url(), &key);
    Gateway::start_in(dir, &format!("{LIMITED}{openai}{anthropic}")).await
}

/// An error as the provider itself words it.
fn provider_error(provider: &str, status: u16, message: &str) -> Answer {
    let error = json!({"type": "invalid_request_error", "message": message});
    let body = match provider {
        "anthropic" => json!({"type": "error", "error": error, "request_id": "req_provider"}),
        _ => json!({"error": error}),
    };
    Answer::json(status, &body)
}

/// The steps of one SDK, what the mock answers, and what the SDK has to raise: class, status, a word of its message.
struct Script {
    steps: Vec<Value>,
    raised: Vec<(&'static str, u16, &'static str)>,
}

fn refusals(sdk: Sdk, mock: &Mock) -> Script {
    let mut script = Script { steps: Vec::new(), raised: Vec::new() };
    let mut step = |model: &str, raised| {
        script.steps.push(sdk.ask(model, false));
        script.raised.push(raised);
    };
    step("other/model", ("PermissionDeniedError", 403, "model"));
    step("nowhere/model", ("NotFoundError", 404, "model"));
    for provider in PROVIDERS {
        let model = format!("{provider}/m");
        mock.push(provider_error(provider, 429, "Slow down, please.").header("retry-after", "7"));
        step(&model, ("RateLimitError", 429, "Slow down, please."));
        mock.push(provider_error(provider, 400, "This model is too small."));
        step(&model, ("BadRequestError", 400, "This model is too small."));
        mock.push(provider_error(provider, 404, "Never heard of m."));
        step(&model, ("NotFoundError", 404, "Never heard of m."));
        mock.push(provider_error(provider, 503, "Too many of you."));
        step(&model, ("InternalServerError", 503, "Too many of you."));
        // The provider's opinion of our key is not the caller's business.
        mock.push(provider_error(provider, 401, &format!("Incorrect API key provided: {PROVIDER_KEY}")));
        step(&model, ("InternalServerError", 502, "operator"));
        mock.push(Answer::nothing());
        step(&model, ("InternalServerError", 502, "reached"));
    }
    script
}

#[tokio::test]
async fn every_sdk_raises_refusals_and_provider_errors_as_its_own() {
    let test = "every_sdk_raises_refusals_and_provider_errors_as_its_own";
    let mock = Mock::start().await;
    let gateway = start(&mock).await;
    let token = gateway.token("app").await;
    for sdk in ALL {
        let before = mock.count();
        let script = refusals(sdk, &mock);
        let Some(results) = sdk.run(test, (&gateway, &token), 0, &script.steps).await else { return };
        for (result, (class, status, word)) in results.iter().zip(&script.raised) {
            // Anthropic's SDKs have classes for some of the statuses above 500 of their own.
            let raised = result["error"].as_str().unwrap_or_default();
            let server = *status >= 500 && ["ServiceUnavailableError", "OverloadedError"].contains(&raised);
            assert!(raised == *class || server, "{sdk:?}: wanted {class} in {result}");
            assert_eq!(result["status"], *status, "{sdk:?}: {result}");
            assert!(result["message"].as_str().unwrap().contains(word), "{sdk:?}: wanted {word:?} in {result}");
            assert!(result["request_id"].is_string(), "{sdk:?}: {result}");
            assert_eq!(result["retry_after"] == "7", *status == 429, "{sdk:?}: {result}");
            assert!(!result.to_string().contains(PROVIDER_KEY), "{sdk:?}: {result}");
        }
        // The two refusals reached nobody.
        assert_eq!(mock.count() - before, script.steps.len() - 2, "{sdk:?}");
        let forged = format!("{}x", &token[..token.len() - 1]);
        let wrong = sdk.run(test, (&gateway, &forged), 2, &[sdk.ask("vouchgate/echo", false)]).await.unwrap();
        assert_eq!((&wrong[0]["error"], &wrong[0]["status"]), (&json!("AuthenticationError"), &json!(401)), "{sdk:?}");
    }
    gateway.stop().await;
}

/// A whole answer in a provider's own words.
fn answer(provider: &str) -> Answer {
    let body = match provider {
        "anthropic" => json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": "now"}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 3, "output_tokens": 1}}),
        _ => json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
            "finish_reason": "stop", "message": {"role": "assistant", "content": "now"}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}),
    };
    Answer::json(200, &body)
}

#[tokio::test]
async fn every_sdk_retries_when_the_provider_says_so_and_not_when_refused() {
    let test = "every_sdk_retries_when_the_provider_says_so_and_not_when_refused";
    let mock = Mock::start().await;
    let gateway = start(&mock).await;
    let token = gateway.token("app").await;
    for sdk in ALL {
        let before = mock.count();
        let mut steps = vec![sdk.ask("other/model", false)];
        for provider in PROVIDERS {
            let busy = provider_error(provider, 429, "Slow down.").header("retry-after-ms", "5");
            mock.push(busy);
            mock.push(answer(provider));
            steps.push(sdk.ask(&format!("{provider}/m"), false));
        }
        let Some(results) = sdk.run(test, (&gateway, &token), 2, &steps).await else { return };
        assert_eq!(results[0]["status"], 403, "{sdk:?}: {}", results[0]);
        for result in &results[1..] {
            assert_eq!(result["text"], "now", "{sdk:?}: {result}");
        }
        assert_eq!(mock.count() - before, 4, "{sdk:?}: one retry for each provider, none for the refusal");
    }
    gateway.stop().await;
}

/// The first half of a streamed answer, without its end.
fn half(provider: &str) -> Answer {
    if provider == "anthropic" {
        return Answer::anthropic_stream(&[
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                "model": "m", "content": [], "stop_reason": null, "stop_sequence": null,
                "usage": {"input_tokens": 3, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Once upon"}}),
        ]);
    }
    let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
        {"index": 0, "delta": {"role": "assistant", "content": "Once upon"}, "finish_reason": null}]});
    Answer::sse(format!("data: {chunk}\n\ndata: {chunk}\n\n"))
}

#[tokio::test]
async fn a_stream_cut_at_the_provider_is_an_error_in_every_sdk() {
    let test = "a_stream_cut_at_the_provider_is_an_error_in_every_sdk";
    let mock = Mock::start().await;
    let gateway = start(&mock).await;
    let token = gateway.token("app").await;
    for sdk in ALL {
        let mut steps = Vec::new();
        for provider in PROVIDERS {
            // Broken off between events, in the middle of one, and closed as if that were all.
            let whole = half(provider);
            let length = if provider == "anthropic" { 330 } else { 180 };
            for cut in [whole.clone().cut_after(length), whole.clone().cut_after(length + 7), whole] {
                mock.push(cut);
                steps.push(sdk.ask(&format!("{provider}/m"), true));
            }
            let inband =
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded, alas."}});
            mock.push(Answer::anthropic_stream(&[inband]));
            steps.push(sdk.ask(&format!("{provider}/m"), true));
        }
        let Some(results) = sdk.run(test, (&gateway, &token), 0, &steps).await else { return };
        for (at, result) in results.iter().enumerate() {
            assert!(result["error"].is_string(), "{sdk:?}, stream {at} ended as if it were complete: {result}");
            let told = result["message"].as_str().unwrap_or_default();
            let said = if at % 4 == 3 { told.contains("Overloaded, alas.") } else { !told.is_empty() };
            assert!(said, "{sdk:?}, stream {at}: {result}");
        }
    }
    gateway.stop().await;
}
