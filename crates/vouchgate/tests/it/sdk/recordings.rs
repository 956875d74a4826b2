//! What the SDKs make of recorded answers of OpenAI and Anthropic: of their own provider's, and of the other's.

use std::sync::Arc;

use serde_json::Value;
use testkit::mock::{Cassette, Mock};

use super::{ALL, Sdk};
use crate::cassettes::told::{Told, arguments};
use crate::support::{self, Gateway, secret_file};

/// Recordings that tell less than they should, or more than one answer: what becomes of them is said beside
/// the cassettes.
const LEFT_OUT: [&str; 2] = ["9b8eb6393bcf", "de16fe5e4ec4"];

#[tokio::test]
async fn every_sdk_reads_what_both_providers_sent() {
    let test = "every_sdk_reads_what_both_providers_sent";
    let (Some(chat), Some(messages)) =
        (Cassette::of("openai", "chat.completions"), Cassette::of("anthropic", "messages"))
    else {
        vectors::skipped(test);
        return;
    };
    let usable = |cassette: &Arc<Cassette>| cassette.status == 200 && !LEFT_OUT.contains(&cassette.id.as_str());
    let recordings: Vec<_> = chat.into_iter().chain(messages).filter(usable).collect();
    let mock = Mock::start().await;
    mock.load(recordings.iter().cloned());
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let key = secret_file(dir.path(), "provider-key", "fake-provider-key-for-sdks");
    let openai = support::provider("openai", "openai", &format!("{}/v1", mock.url()), &key);
    let anthropic = support::provider("anthropic", "anthropic", &mock.url(), &key);
    let gateway = Gateway::start_in(dir, &format!("{}{openai}{anthropic}", support::APP)).await;
    let token = gateway.token("app").await;
    for sdk in ALL {
        let readable: Vec<_> = recordings.iter().filter(|cassette| fits(sdk, cassette)).collect();
        let step = |cassette: &&Arc<Cassette>| {
            sdk.ask(&format!("{}/replay-{}", cassette.provider, cassette.id), cassette.is_stream)
        };
        let steps: Vec<Value> = readable.iter().map(step).collect();
        let Some(results) = sdk.run(test, (&gateway, &token), 0, &steps).await else { return };
        let wrong: Vec<String> = readable
            .iter()
            .zip(&results)
            .filter_map(|(cassette, result)| {
                let why = differs(sdk, &original(cassette), result)?;
                Some(format!("{} {}: {why}", cassette.provider, cassette.id))
            })
            .collect();
        println!("{sdk:?}: {} of {} recordings read", readable.len() - wrong.len(), readable.len());
        assert!(wrong.is_empty(), "{sdk:?}: {wrong:#?}");
        assert!(readable.len() > 200, "{sdk:?}: {}", readable.len());
    }
    gateway.stop().await;
}

fn original(cassette: &Cassette) -> Told {
    match (cassette.endpoint.as_str(), cassette.is_stream) {
        ("messages", true) => Told::messages_stream(&cassette.response_body),
        ("messages", false) => Told::messages(&cassette.response_json()),
        (_, true) => Told::chat_stream(&cassette.response_body),
        (_, false) => Told::chat(&cassette.response_json()),
    }
}

/// Whether the other dialect has room for the answer: for several, or for arguments that are no JSON, it has not.
fn fits(sdk: Sdk, cassette: &Cassette) -> bool {
    let told = original(cassette);
    let same = sdk.speaks_openai() == (cassette.endpoint == "chat.completions");
    let objects = told.calls.iter().all(|call| arguments(&call.arguments).is_object());
    told.error.is_none() && (same || (told.answers == 1 && objects))
}

/// Where the SDK's reading is not the recording's.
fn differs(sdk: Sdk, original: &Told, result: &Value) -> Option<String> {
    if result.get("error").is_some() {
        return Some(result.to_string());
    }
    let text = result["text"].as_str().unwrap_or_default();
    // A refusal is explained beside the text in Anthropic's dialect.
    if text != original.text && !(text.is_empty() && original.finish == "content_filter") {
        return Some(format!("text {:?} became {text:?}", original.text));
    }
    let finish = if sdk.speaks_openai() { &result["finish"] } else { &result["stop"] };
    let finish = match finish.as_str().unwrap_or_default() {
        "end_turn" | "stop_sequence" | "pause_turn" => "stop",
        "max_tokens" => "length",
        "tool_use" | "function_call" => "tool_calls",
        "refusal" => "content_filter",
        other => other,
    };
    let refused = original.finish == "content_filter" && finish == "stop";
    if finish != original.finish && !refused {
        return Some(format!("finish {:?} became {finish:?}", original.finish));
    }
    let calls = result["calls"].as_array().unwrap();
    // OpenAI's legacy functions have no id, and are no tool calls in its own SDKs.
    let shown = |id: &str| !sdk.speaks_openai() || !id.is_empty();
    let known: Vec<_> = original.calls.iter().filter(|call| shown(&call.id)).collect();
    for (call, seen) in known.iter().zip(calls) {
        let read =
            if sdk.speaks_openai() { arguments(seen["arguments"].as_str().unwrap()) } else { seen["input"].clone() };
        if seen["name"] != call.name.as_str() || read != arguments(&call.arguments) {
            return Some(format!("call {call:?} became {seen}"));
        }
    }
    if calls.len() != known.len() {
        return Some(format!("calls {known:?} became {calls:?}"));
    }
    let (input, output) = (result["usage"]["input"].as_u64(), result["usage"]["output"].as_u64());
    if (input.unwrap_or(0), output.unwrap_or(0)) != (original.input, original.output) {
        return Some(format!("usage {} and {} became {}", original.input, original.output, result["usage"]));
    }
    None
}

#[tokio::test]
async fn openais_sdks_read_recorded_embeddings() {
    let test = "openais_sdks_read_recorded_embeddings";
    let Some(all) = Cassette::all() else {
        vectors::skipped(test);
        return;
    };
    // Cohere's and Voyage's own forms are not OpenAI's.
    let usable = |one: &&Arc<Cassette>| {
        one.endpoint == "embeddings" && one.status == 200 && !["cohere", "voyage"].contains(&one.provider.as_str())
    };
    let recordings: Vec<_> = all.iter().filter(usable).cloned().collect();
    let mock = Mock::start().await;
    mock.load(recordings.iter().cloned());
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let key = secret_file(dir.path(), "provider-key", "fake-provider-key-for-embeddings");
    let provider = support::provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
    let gateway = Gateway::start_in(dir, &format!("{}{provider}", support::APP)).await;
    let token = gateway.token("app").await;
    let step = |cassette: &Arc<Cassette>| {
        let mut arguments = serde_json::json!({"model": format!("prov/replay-{}", cassette.id), "input": "hello"});
        // The SDKs ask for base64 unless told; what was recorded is what it is.
        let format = cassette.request_json()["encoding_format"].as_str().unwrap_or("float").to_owned();
        arguments["encoding_format"] = format.into();
        serde_json::json!({"scenario": "embed", "arguments": arguments})
    };
    let steps: Vec<Value> = recordings.iter().map(step).collect();
    for sdk in [Sdk::OpenAiPython, Sdk::OpenAiNode] {
        let Some(results) = sdk.run(test, (&gateway, &token), 0, &steps).await else { return };
        for (cassette, result) in recordings.iter().zip(&results) {
            let count = cassette.response_json()["data"].as_array().unwrap().len();
            assert_eq!(result["count"], count, "{sdk:?} {} {}: {result}", cassette.provider, cassette.id);
            assert!(result["dimensions"].as_u64() > Some(1), "{sdk:?} {}: {result}", cassette.id);
        }
    }
    assert!(recordings.len() >= 15, "{}", recordings.len());
    gateway.stop().await;
}
