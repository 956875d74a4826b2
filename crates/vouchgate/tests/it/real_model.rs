//! A small real language model behind the product, as a newcomer runs one: text nobody wrote beforehand, streamed through,
//! and counted as the model counts it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use store::{Page, RecordFilter, RequestRecord};
use testkit::process::Process;
use testkit::raw;

use crate::support::{self, Gateway};

/// How long the model has to load.
const LOADING: Duration = Duration::from_mins(1);

/// The model, running; and its port.
async fn model(test: &str) -> Option<(Process, u16)> {
    let Some(dir) = vectors::model() else {
        vectors::skip(test, "the small real model is not installed (cargo xtask test installs it)");
        return None;
    };
    // Its server takes a port and no zero; one that was free a moment ago is free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut model = Process::start(Path::new("node"), &["server.mjs", &port.to_string(), "model.gguf"], &dir, &[]);
    model.line_within(LOADING, "real LLM").await;
    Some((model, port))
}

async fn gateway(port: u16) -> Gateway {
    let provider = |name: &str, kind: &str| {
        format!(
            "\n[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"http://127.0.0.1:{port}/v1\"\n\
             allow_private = true\n"
        )
    };
    let service = "\n[[service]]\nname = \"analyzing\"\npath = \"/v1/analyzing\"\nmodel = \"local/smollm2\"\n\
                   prompt = \"Answer the question.\\n\\n{{input}}\"\nmax_output_tokens = 16\n";
    let providers = [provider("compatible", "openai-compatible"), provider("local", "ollama")].concat();
    Gateway::start(&format!("{}{providers}{service}", support::APP)).await
}

/// A step of the OpenAI SDKs.
fn step(model: &str, stream: bool, usage: bool) -> Value {
    let messages = json!([{"role": "user", "content": "Name three animals that live in the sea, and say why."}]);
    let mut arguments = json!({"model": model, "max_tokens": 24, "temperature": 0, "seed": 7, "messages": messages});
    if usage {
        arguments["stream_options"] = json!({"include_usage": true});
    }
    json!({"scenario": if stream { "stream" } else { "chat" }, "arguments": arguments})
}

/// What was recorded, oldest first.
async fn records(gateway: &Gateway) -> Vec<RequestRecord> {
    let store = gateway.server().operations().store();
    store.flush().await.unwrap();
    let mut records = store.records().list(&RecordFilter::default(), &Page::first(100)).await.unwrap().items;
    records.reverse();
    records
}

fn counted(record: &RequestRecord) -> Value {
    json!({"input": record.input_tokens, "output": record.output_tokens})
}

/// The counter of tokens in one direction, over all providers.
async fn metric(gateway: &Gateway, direction: &str) -> u64 {
    let metrics = raw::request(gateway.admin, "GET", "/metrics", &[], b"").await;
    let wanted = format!("direction=\"{direction}\"");
    let lines = metrics.text();
    let counts = lines.lines().filter(|line| line.starts_with("vouchgate_tokens_total{") && line.contains(&wanted));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_real_model_speaks_through_the_gateway_and_is_counted() {
    let test = "a_real_model_speaks_through_the_gateway_and_is_counted";
    let Some((_model, port)) = model(test).await else { return };
    let gateway = gateway(port).await;
    let token = gateway.token("app").await;
    let mut seen: Vec<Value> = Vec::new();
    for (script, model) in [("openai_sdk.py", "compatible/smollm2"), ("openai_sdk.mjs", "local/smollm2")] {
        let steps = [step(model, true, true), step(model, true, false), step(model, false, false)];
        let job = json!({"url": gateway.url(""), "token": token, "steps": steps});
        let Some(answer) = support::client(script, test, &job).await else { return };
        let [asked, unasked, whole] = answer["results"].as_array().unwrap().as_slice() else { panic!("{answer}") };
        for said in [asked, unasked, whole] {
            let words = said["text"].as_str().unwrap_or_else(|| panic!("{said}"));
            assert!(words.split_whitespace().count() > 5, "{script}: {said}");
            // With temperature 0 and one seed the model says the same thing however it is asked.
            assert_eq!(words, asked["text"].as_str().unwrap(), "{script}");
            assert!(["stop", "length"].contains(&said["finish"].as_str().unwrap()), "{script}: {said}");
        }
        assert!(asked["chunks"].as_u64() > Some(6), "{script}: it came in pieces: {asked}");
        assert!(asked["usage"]["output"].as_u64() > Some(5), "{script}: {asked}");
        assert!(unasked["usage"].is_null(), "{script}: usage is told to those who ask: {unasked}");
        assert_eq!(whole["usage"]["output"], asked["usage"]["output"], "{script}");
        println!("{model}: {}", asked["text"]);
        seen.extend([asked.clone(), unasked.clone(), whole.clone()]);
    }

    // What was recorded is what the model said, also where the caller did not ask.
    let recorded = records(&gateway).await;
    assert_eq!(recorded.len(), seen.len());
    for (record, said) in recorded.iter().zip(&seen) {
        assert_eq!((record.status, record.error.as_deref()), (200, None));
        assert!(record.input_tokens > Some(0) && record.output_tokens > Some(5), "{record:?}");
        if !said["usage"].is_null() {
            assert_eq!(counted(record), said["usage"]);
        }
        assert_eq!(record.ttft_ms.is_some(), record.stream, "{record:?}");
    }
    let total = |of: fn(&RequestRecord) -> Option<u64>| recorded.iter().filter_map(of).sum::<u64>();
    assert_eq!(metric(&gateway, "input").await, total(|record| record.input_tokens));
    assert_eq!(metric(&gateway, "output").await, total(|record| record.output_tokens));

    a_service_answers(&gateway, &token).await;
    gateway.stop().await;
}

/// A prompt published as an endpoint answers with the model's words too, and with its figures.
async fn a_service_answers(gateway: &Gateway, token: &str) {
    let answer = gateway.post("/v1/analyzing", token, &json!({"input": "What is the sea?"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = answer.json();
    assert!(said["output"].as_str().unwrap().split_whitespace().count() > 2, "{said}");
    assert!(said["usage"]["output_tokens"].as_u64() > Some(2), "{said}");
    let last = records(gateway).await.pop().unwrap();
    assert_eq!(
        counted(&last),
        json!({"input": said["usage"]["input_tokens"], "output": said["usage"]["output_tokens"]})
    );
}
