//! The product in front of one mock provider that stands for all of them.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use testkit::mock::{self, Cassette, Mock};

use crate::support::{self, Answer, Gateway, secret_file};

/// What the mock's providers are given as their key.
const PROVIDER_KEY: &str = "fake-provider-key-for-cassettes";

/// A dialect of the public listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Chat,
    Messages,
    Embeddings,
}

impl Spoken {
    /// What a recording speaks; `None` for what this product does not take part in.
    pub(super) fn of(cassette: &Cassette) -> Option<Self> {
        match cassette.endpoint.as_str() {
            "chat.completions" => Some(Self::Chat),
            "messages" => Some(Self::Messages),
            "embeddings" => Some(Self::Embeddings),
            _ => None,
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Messages => "/v1/messages",
            Self::Embeddings => "/v1/embeddings",
        }
    }

    /// The other one of the two a translation connects.
    pub(super) fn other(self) -> Self {
        if self == Self::Chat { Self::Messages } else { Self::Chat }
    }
}

/// The running product, its providers named after the recordings', and who answers for them.
pub(super) struct World {
    pub(super) gateway: Gateway,
    pub(super) mock: Mock,
    token: String,
}

/// The kinds that have a name of their own; every other provider is one more `openai-compatible`.
const KINDS: [&str; 11] = [
    "cerebras",
    "deepseek",
    "groq",
    "huggingface",
    "llamacpp",
    "mistral",
    "ollama",
    "openai",
    "openrouter",
    "perplexity",
    "together",
];

impl World {
    /// Start with every provider that recorded anything; `None` (and a note) without the recordings.
    pub(super) async fn start(test: &str) -> Option<(Self, Vec<&'static Arc<Cassette>>)> {
        let Some(all) = Cassette::all() else {
            vectors::skipped(test);
            return None;
        };
        let cassettes: Vec<_> = all.iter().filter(|cassette| Spoken::of(cassette).is_some()).collect();
        let mock = Mock::start().await;
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let key = secret_file(dir.path(), "provider-key", PROVIDER_KEY);
        let mut names: Vec<String> = cassettes.iter().map(|cassette| name(cassette)).collect();
        names.sort();
        names.dedup();
        let mut config = support::APP.to_owned();
        for name in &names {
            let kind = match name.as_str() {
                "anthropic" | "local-anthropic" => "anthropic",
                "xai" => "xai",
                kind if KINDS.contains(&kind) => kind,
                _ => "openai-compatible",
            };
            let base = if kind == "anthropic" { mock.url() } else { format!("{}/v1", mock.url()) };
            config.push_str(&support::provider(name, kind, &base, &key));
        }
        let gateway = Gateway::start_in(dir, &config).await;
        let token = gateway.token("app").await;
        Some((Self { gateway, mock, token }, cassettes))
    }

    /// Send a body to an endpoint and have the mock answer with this; the answer, and what reached the mock.
    pub(super) async fn ask(
        &self,
        spoken: Spoken,
        body: Vec<u8>,
        reply: mock::Answer,
    ) -> (Answer, Option<Arc<mock::Received>>) {
        let before = self.mock.count();
        self.mock.push(reply);
        let answer = self.post(spoken, body).await;
        let received = self.mock.requests().get(before).cloned();
        if received.is_none() {
            // Refused before it left: the reply waits, and must not go to the next request.
            let body = json!({"model": "openai/drain", "messages": []}).to_string();
            self.post(Spoken::Chat, body.into_bytes()).await;
        }
        (answer, received)
    }

    /// The same. What the caller did not store through here it cannot name, so a request that does is refused; once the
    /// caller owns it, it is asked again.
    pub(super) async fn ask_as_owner(
        &self,
        (spoken, provider): (Spoken, &str),
        body: &[u8],
        reply: &mock::Answer,
    ) -> (Answer, Option<Arc<mock::Received>>) {
        let first = self.ask(spoken, body.to_vec(), reply.clone()).await;
        if first.0.status != StatusCode::NOT_FOUND || first.1.is_some() || first.0.code() != "object_not_found" {
            return first;
        }
        let owner =
            store::Owner { issuer: "vouchgate".to_owned(), subject: "app".to_owned(), client: Some("app".to_owned()) };
        let objects = self.gateway.server().operations().store().stored_objects();
        for object in stored(&serde_json::from_slice(body).unwrap()) {
            objects.claim(&provider.parse().unwrap(), &object, &owner.clone().into()).await.unwrap();
        }
        self.ask(spoken, body.to_vec(), reply.clone()).await
    }

    async fn post(&self, spoken: Spoken, body: Vec<u8>) -> Answer {
        let request = self.gateway.request(Method::POST, spoken.path(), &self.token);
        let request = request.header("content-type", "application/json");
        self.gateway.send(request.body(Full::new(Bytes::from(body))).unwrap()).await
    }
}

/// The stored objects a recorded request names.
pub(super) fn stored(request: &Value) -> Vec<String> {
    match request {
        Value::Array(items) => items.iter().flat_map(stored).collect(),
        Value::Object(members) => {
            let named = |name: &str, value: &Value| match (name, value) {
                ("file_id" | "container" | "skill_id", Value::String(id)) => vec![id.clone()],
                ("container", Value::Object(container)) if container.contains_key("id") => {
                    let mut found = stored(value);
                    found.extend(container["id"].as_str().map(str::to_owned));
                    found
                }
                _ => stored(value),
            };
            members.iter().flat_map(|(name, value)| named(name, value)).collect()
        }
        _ => Vec::new(),
    }
}

/// What the provider of a recording is called here.
pub(super) fn name(cassette: &Cassette) -> String {
    match (cassette.provider.as_str(), cassette.endpoint.as_str()) {
        // Anthropic's own surface for OpenAI's clients, and a local server that speaks Anthropic's dialect.
        ("anthropic", "chat.completions") => "anthropic-for-openai".to_owned(),
        ("local-openai-compat", "messages") => "local-anthropic".to_owned(),
        (provider, _) => provider.replace('(', "-").replace(')', ""),
    }
}

/// A plain request, valid in both dialects.
pub(super) fn plain(model: &str, stream: bool) -> Value {
    let mut body = json!({"model": model, "max_tokens": 1000, "messages": [{"role": "user", "content": "Go on."}]});
    if stream {
        body["stream"] = true.into();
    }
    body
}
