//! The four official SDKs, unmodified except for base URL and key, in front of the built-in model and of both kinds of
//! provider: their own, and the other.

mod cases;
mod direct;
mod errors;
mod models;
mod provider;
mod recordings;

use serde_json::{Value, json};

use crate::support::{self, Gateway};

/// One of the SDKs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sdk {
    OpenAiPython,
    OpenAiNode,
    AnthropicPython,
    AnthropicNode,
}

const ALL: [Sdk; 4] = [Sdk::OpenAiPython, Sdk::OpenAiNode, Sdk::AnthropicPython, Sdk::AnthropicNode];

impl Sdk {
    fn script(self) -> &'static str {
        match self {
            Self::OpenAiPython => "openai_sdk.py",
            Self::OpenAiNode => "openai_sdk.mjs",
            Self::AnthropicPython => "anthropic_sdk.py",
            Self::AnthropicNode => "anthropic_sdk.mjs",
        }
    }

    fn speaks_openai(self) -> bool {
        matches!(self, Self::OpenAiPython | Self::OpenAiNode)
    }

    /// The scenario that asks for a whole answer.
    fn whole(self) -> &'static str {
        if self.speaks_openai() { "chat" } else { "message" }
    }

    /// A step: ask `model` something, for a whole answer or a stream.
    fn ask(self, model: &str, stream: bool) -> Value {
        let messages = json!([{"role": "user", "content": "Hello there, gateway"}]);
        let mut arguments = json!({"model": model, "max_tokens": 1000, "messages": messages});
        if self.speaks_openai() && stream {
            arguments["stream_options"] = json!({"include_usage": true});
        }
        json!({"scenario": if stream { "stream" } else { self.whole() }, "arguments": arguments})
    }

    /// Run the SDK through these steps, one result each; `None` (and a note) where it is not installed.
    async fn run(
        self,
        test: &str,
        (gateway, token): (&Gateway, &str),
        retries: u8,
        steps: &[Value],
    ) -> Option<Vec<Value>> {
        let job = json!({"url": gateway.url(""), "token": token, "max_retries": retries, "steps": steps});
        let answer = support::client(self.script(), test, &job).await?;
        let results = answer["results"].as_array().unwrap().clone();
        assert_eq!(results.len(), steps.len(), "{self:?}: one result a step");
        Some(results)
    }
}

#[tokio::test]
async fn every_sdk_talks_to_the_built_in_model() {
    let test = "every_sdk_talks_to_the_built_in_model";
    let gateway = Gateway::start(support::APP).await;
    let token = gateway.token("app").await;
    for sdk in ALL {
        let mut steps = vec![
            sdk.ask("vouchgate/echo", false),
            sdk.ask("vouchgate/echo", true),
            json!({"scenario": "models", "arguments": {}}),
        ];
        if sdk.speaks_openai() {
            let arguments = json!({"model": "vouchgate/echo", "input": ["one", "two"]});
            steps.push(json!({"scenario": "embed", "arguments": arguments}));
        }
        let Some(results) = sdk.run(test, (&gateway, &token), 0, &steps).await else { return };
        for answer in &results[..2] {
            assert_eq!(answer["text"], "Hello there, gateway", "{sdk:?}: {answer}");
            let (input, output) = (&answer["usage"]["input"], &answer["usage"]["output"]);
            assert!(input.as_u64() > Some(0) && output.as_u64() > Some(0), "{sdk:?}: {answer}");
            let ended = if sdk.speaks_openai() { &answer["finish"] } else { &answer["stop"] };
            assert_eq!(ended, if sdk.speaks_openai() { "stop" } else { "end_turn" }, "{sdk:?}: {answer}");
        }
        if sdk.speaks_openai() {
            assert!(results[1]["chunks"].as_u64() > Some(3), "{sdk:?} had it in pieces: {}", results[1]);
            assert_eq!(results[3]["count"], 2, "{sdk:?}: {}", results[3]);
            assert!(results[3]["dimensions"].as_u64() > Some(1), "{sdk:?}: {}", results[3]);
        } else {
            let events: Vec<&str> = results[1]["events"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            assert_eq!(events.first(), Some(&"message_start"), "{sdk:?}");
            assert_eq!(events.last(), Some(&"message_stop"), "{sdk:?}");
            assert!(events.iter().filter(|event| **event == "content_block_delta").count() > 1, "{sdk:?}: {events:?}");
        }
        let ids = results[2]["ids"].as_array().unwrap();
        assert!(ids.contains(&json!("vouchgate/echo")), "{sdk:?}: {ids:?}");
    }
    gateway.stop().await;
}

/// The policy that names one of the two keys that are made.
const KEYS: &str = r#"
[[policy]]
name = "editor"
who = { key = "editor" }
may = { models = ["vouchgate/echo"] }
"#;

#[tokio::test]
async fn a_key_is_an_sdks_api_key_where_a_policy_names_it_and_nowhere_else() {
    let test = "a_key_is_an_sdks_api_key_where_a_policy_names_it_and_nowhere_else";
    let gateway = Gateway::start(&format!("{}{KEYS}", support::APP)).await;
    let mut keys = Vec::new();
    for name in ["editor", "unnamed"] {
        let new = serde_json::from_value(json!({"name": name, "scopes": ["chat"]})).unwrap();
        let issued = gateway.server().operations().apikey_create(&new, "test").await.unwrap();
        keys.push(serde_json::to_value(&issued).unwrap()["api_key"].as_str().unwrap().to_owned());
    }
    gateway.settled().await;
    for sdk in ALL {
        let steps = [sdk.ask("vouchgate/echo", false), sdk.ask("openai/gpt", false)];
        let Some(named) = sdk.run(test, (&gateway, &keys[0]), 0, &steps).await else { return };
        assert_eq!(named[0]["text"], "Hello there, gateway", "{sdk:?}: {}", named[0]);
        assert_eq!(named[1]["status"], 403, "{sdk:?}: {}", named[1]);
        let unnamed = sdk.run(test, (&gateway, &keys[1]), 0, &steps).await.unwrap();
        for refused in unnamed {
            assert_eq!(refused["error"], "PermissionDeniedError", "{sdk:?}: {refused}");
        }
        let wrong = format!("{}x", keys[0]);
        let wrong = sdk.run(test, (&gateway, &wrong), 0, &steps).await.unwrap();
        assert_eq!(wrong[0]["error"], "AuthenticationError", "{sdk:?}: {}", wrong[0]);
    }
    gateway.stop().await;
}
