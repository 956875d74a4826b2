//! `[[provider]]`: where models run.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bucket::Bucket;
use crate::cache::ModelCache;
use crate::cloud::{CloudIdentity, Entra, FieldValue, PathName};
use crate::resilience::{Breaker, ProviderKey, Queue};
use crate::secret_ref::SecretRef;
use crate::text::NameText;
use crate::values::HttpUrl;

/// A provider of models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// What models, policies and `/providers/NAME/` call it: no `/` and no `:`.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// Whose API it speaks.
    pub kind: ProviderKind,
    /// Its key. Absent for providers that take none, such as a local Ollama.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// The key that is to follow `api_key`: used where the provider refuses that one. A secret of the vault needs none:
    /// `vouchgate secret rotate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_api_key: Option<SecretRef>,
    /// Several keys instead of `api_key`, used by their priority and weight; one that is used up or refused rests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub keys: Vec<ProviderKey>,
    /// Where its API begins, as the provider's own SDK takes it. Absent: the provider's public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<HttpUrl>,
    /// Which API requests that have to be translated are asked on: `chat` (OpenAI's chat completions), `responses` (OpenAI's Responses
    /// API), or `native` (Ollama's own). Absent: `chat`. Clients of the Responses API reach a provider that has it without translation, whatever stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ProviderApi>,
    /// Keep answers of its models that are asked for as `PROVIDER/MODEL` and give them again. A `[[model]]` says so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<ModelCache>,
    /// Allow loopback and private addresses, there also plain HTTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// Azure: the deployment every request goes to. Absent: the one called as the target's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<PathName>,
    /// Azure: the version of its API, `2024-10-21`. Absent: the surface without versions, `/openai/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<PathName>,
    /// Azure: ask with access tokens of Entra ID instead of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entra: Option<Entra>,
    /// Vertex AI: the project's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<PathName>,
    /// Vertex AI: where its models run. Absent: `global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<PathName>,
    /// Vertex AI: express mode, where `api_key` is an API key and there is no project.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub express: bool,
    /// Bedrock: the AWS region, `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<PathName>,
    /// Bedrock: the id of the access key that requests are signed with, instead of `api_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<PathName>,
    /// Bedrock: the secret of that access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretRef>,
    /// Bedrock: the session token, where the access key is a temporary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretRef>,
    /// Vertex AI: whose access tokens are shown, where there is no `api_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CloudIdentity>,
    /// Vertex AI, Gemini (`gs://`) and Bedrock (`s3://`): buckets, or paths in them, that callers may name in requests. The provider reads
    /// them with this provider's rights. Absent: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub buckets: Vec<Bucket>,
    /// Where access tokens are asked for, if not at Google's or Microsoft's usual place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<HttpUrl>,
    /// Header fields sent with every request: texts, or references to secrets. What a caller sends under these names is dropped.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, FieldValue>,
    /// When it is left alone because calls fail.
    #[serde(default, skip_serializing_if = "Breaker::is_default")]
    pub breaker: Breaker,
    /// The most calls at once. Absent: as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrency: Option<u32>,
    /// Those who wait for a place, of `concurrency` here or of a target.
    #[serde(default, skip_serializing_if = "Queue::is_default")]
    pub queue: Queue,
    /// Repeated attempts at this provider, in percent of the requests it got of late; ten in ten seconds are always allowed.
    /// Attempts at another provider do not count.
    #[serde(default = "retry_budget", skip_serializing_if = "is_retry_budget")]
    #[schemars(range(max = 1000))]
    pub retry_budget: u32,
}

const fn retry_budget() -> u32 {
    20
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_retry_budget(percent: &u32) -> bool {
    *percent == retry_budget()
}

/// One of the APIs for answers that a provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderApi {
    /// `POST {base}/chat/completions`.
    Chat,
    /// `POST {base}/responses`.
    Responses,
    /// Ollama's own, `POST /api/chat`.
    Native,
}

impl Provider {
    /// The address requests are built on, without a slash at its end: `base_url` or the kind's own. For
    /// Anthropic without `/v1`, for Gemini without `/openai`, for Azure without `/openai/v1`, for Cohere without `/v2`, whether or not
    /// it was written. `None` only if the kind has none of its own.
    pub fn base(&self) -> Option<Cow<'_, str>> {
        let base = match &self.base_url {
            Some(url) => url.trimmed(),
            None if self.kind == ProviderKind::Vertex => return Some(self.vertex_base()),
            None if self.kind == ProviderKind::Bedrock => return self.bedrock_base(),
            None => self.kind.default_base_url()?,
        };
        Some(Cow::Borrowed(match self.kind {
            ProviderKind::Anthropic => base.strip_suffix("/v1").unwrap_or(base),
            ProviderKind::Gemini => base.strip_suffix("/openai").unwrap_or(base),
            ProviderKind::Bedrock => {
                ["/openai/v1", "/v1"].iter().find_map(|end| base.strip_suffix(end)).unwrap_or(base)
            }
            ProviderKind::Azure => {
                ["/openai/v1", "/openai"].iter().find_map(|end| base.strip_suffix(end)).unwrap_or(base)
            }
            ProviderKind::Cohere => base.strip_suffix("/v2").or_else(|| base.strip_suffix("/v1")).unwrap_or(base),
            _ => base,
        }))
    }

    /// Whether requests in other dialects are asked on the Responses API.
    pub fn prefers_responses(&self) -> bool {
        self.api == Some(ProviderApi::Responses)
    }

    /// Whether requests in other dialects are asked on Ollama's own API.
    pub fn prefers_native(&self) -> bool {
        self.api == Some(ProviderApi::Native)
    }

    /// Whether it has an endpoint for the Responses API: its kind does, or the operator says so.
    pub fn has_responses(&self) -> bool {
        self.prefers_responses() || self.kind.has_responses()
    }

    /// Its keys, each with its name and place below the provider: `api_key`, which is called `default`, or `keys`.
    pub fn key_refs(&self) -> Vec<KeyRef<'_>> {
        let one = self.api_key.iter().map(|reference| KeyRef {
            name: DEFAULT_KEY,
            path: "api_key".to_owned(),
            reference,
            next: self.next_api_key.as_ref(),
            signs: false,
        });
        // Not sent, but what requests are signed with.
        let signing = self.secret_access_key.iter().map(|reference| KeyRef {
            name: DEFAULT_KEY,
            path: "secret_access_key".to_owned(),
            reference,
            next: None,
            signs: true,
        });
        let several = self.keys.iter().enumerate().map(|(index, key)| KeyRef {
            name: key.name.as_str(),
            path: format!("keys[{index}].api_key"),
            reference: &key.api_key,
            next: key.next_api_key.as_ref(),
            signs: false,
        });
        one.chain(signing).chain(several).collect()
    }

    /// Whether private addresses may be connected to: said so, or a kind that usually runs on this machine and
    /// is used at its default address.
    pub fn may_be_private(&self) -> bool {
        self.allow_private || (self.base_url.is_none() && self.kind.is_local())
    }
}

/// What the only key of a provider is called.
const DEFAULT_KEY: &str = "default";

/// A key of a provider.
#[derive(Debug, Clone)]
pub struct KeyRef<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Where it stands, below the provider.
    pub path: String,
    /// Where its value is.
    pub reference: &'a SecretRef,
    /// Where the value is that is to follow it.
    pub next: Option<&'a SecretRef>,
    /// Whether it is never sent, but signs: one value of it belongs to one access key id.
    pub signs: bool,
}

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderDialect {
    /// `OpenAI`: `POST {base}/chat/completions`, `/embeddings`; key as a Bearer token.
    OpenAi,
    /// Anthropic: `POST {base}/v1/messages`; key in `x-api-key`, `anthropic-version` required.
    Anthropic,
    /// Google: `POST {base}/models/{model}:generateContent`; key in `x-goog-api-key`.
    Gemini,
    /// Cohere: `POST {base}/v2/chat`; key as a Bearer token.
    Cohere,
    /// Amazon: `POST {base}/model/{model}/converse`; signed, or a key as a Bearer token.
    Bedrock,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $text:literal, $built:literal, $dialect:expr, $base:expr, $env:expr;)*) => {
        /// The kinds of provider.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProviderKind { $($(#[$doc])* $variant,)* }

        impl ProviderKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The kind as the configuration writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Whether this version can talk to it.
            pub const fn is_built(self) -> bool {
                match self { $(Self::$variant => $built,)* }
            }

            /// What it speaks; `None` for kinds that are not built.
            pub const fn dialect(self) -> Option<ProviderDialect> {
                match self { $(Self::$variant => $dialect,)* }
            }

            /// Its public address, where it has one.
            pub const fn default_base_url(self) -> Option<&'static str> {
                match self { $(Self::$variant => $base,)* }
            }

            /// The environment variable its users usually keep the key in.
            pub const fn env_key(self) -> Option<&'static str> {
                match self { $(Self::$variant => $env,)* }
            }
        }
    };
}

const OPENAI: Option<ProviderDialect> = Some(ProviderDialect::OpenAi);
const GEMINI: Option<ProviderDialect> = Some(ProviderDialect::Gemini);
const COHERE: Option<ProviderDialect> = Some(ProviderDialect::Cohere);
const BEDROCK: Option<ProviderDialect> = Some(ProviderDialect::Bedrock);
const ANTHROPIC: Option<ProviderDialect> = Some(ProviderDialect::Anthropic);

kinds! {
    /// `OpenAI`.
    OpenAi "openai", true, OPENAI, Some("https://api.openai.com/v1"), Some("OPENAI_API_KEY");
    /// Anthropic.
    Anthropic "anthropic", true, ANTHROPIC, Some("https://api.anthropic.com"), Some("ANTHROPIC_API_KEY");
    /// Google Gemini.
    Gemini "gemini", true, GEMINI, Some("https://generativelanguage.googleapis.com/v1beta"), Some("GEMINI_API_KEY");
    /// Mistral.
    Mistral "mistral", true, OPENAI, Some("https://api.mistral.ai/v1"), Some("MISTRAL_API_KEY");
    /// Ollama, through its OpenAI-compatible surface; by default on this machine.
    Ollama "ollama", true, OPENAI, Some("http://127.0.0.1:11434/v1"), None;
    /// Azure `OpenAI`.
    Azure "azure", true, OPENAI, None, Some("AZURE_OPENAI_API_KEY");
    /// Amazon Bedrock.
    Bedrock "bedrock", true, BEDROCK, None, Some("AWS_BEARER_TOKEN_BEDROCK");
    /// Google Vertex AI: Google's own models, Anthropic's, and others' by its OpenAI-compatible surface.
    Vertex "vertex", true, GEMINI, None, None;
    /// Groq.
    Groq "groq", true, OPENAI, Some("https://api.groq.com/openai/v1"), Some("GROQ_API_KEY");
    /// Cohere.
    Cohere "cohere", true, COHERE, Some("https://api.cohere.com"), Some("COHERE_API_KEY");
    /// `DeepSeek`.
    DeepSeek "deepseek", true, OPENAI, Some("https://api.deepseek.com/v1"), Some("DEEPSEEK_API_KEY");
    /// xAI.
    Xai "xai", true, OPENAI, Some("https://api.x.ai/v1"), Some("XAI_API_KEY");
    /// Together.
    Together "together", true, OPENAI, Some("https://api.together.xyz/v1"), Some("TOGETHER_API_KEY");
    /// Fireworks.
    Fireworks "fireworks", true, OPENAI, Some("https://api.fireworks.ai/inference/v1"), Some("FIREWORKS_API_KEY");
    /// `OpenRouter`.
    OpenRouter "openrouter", true, OPENAI, Some("https://openrouter.ai/api/v1"), Some("OPENROUTER_API_KEY");
    /// Perplexity.
    Perplexity "perplexity", true, OPENAI, Some("https://api.perplexity.ai"), Some("PERPLEXITY_API_KEY");
    /// Voyage: embeddings and reranking, no chat.
    Voyage "voyage", true, OPENAI, Some("https://api.voyageai.com/v1"), Some("VOYAGE_API_KEY");
    /// Cerebras.
    Cerebras "cerebras", true, OPENAI, Some("https://api.cerebras.ai/v1"), Some("CEREBRAS_API_KEY");
    /// Hugging Face inference providers.
    HuggingFace "huggingface", true, OPENAI, Some("https://router.huggingface.co/v1"), Some("HF_TOKEN");
    /// vLLM; by default on this machine.
    Vllm "vllm", true, OPENAI, Some("http://127.0.0.1:8000/v1"), None;
    /// llama.cpp's server; by default on this machine, at its own default port.
    LlamaCpp "llamacpp", true, OPENAI, None, None;
    /// Portkey.
    Portkey "portkey", true, OPENAI, Some("https://api.portkey.ai/v1"), Some("PORTKEY_API_KEY");
    /// LLM Gateway.
    LlmGateway "llmgateway", true, OPENAI, Some("https://api.llmgateway.io/v1"), Some("LLM_GATEWAY_API_KEY");
    /// `APIPark`.
    ApiPark "apipark", true, OPENAI, None, None;
    /// Anything else that speaks the dialect of `OpenAI`, at `base_url`.
    OpenAiCompatible "openai-compatible", true, OPENAI, None, None;
}

impl ProviderKind {
    /// Whether it has `OpenAI`'s Responses API, `POST {base}/responses`, by its documentation:
    ///
    /// | Kind | Where that is said |
    /// |---|---|
    /// | `openai` | platform.openai.com/docs/api-reference/responses |
    /// | `azure` | learn.microsoft.com/azure/ai-foundry/openai/how-to/responses (below `/openai/v1`) |
    /// | `xai` | docs.x.ai/docs/api-reference, "Create new response" |
    /// | `openrouter` | openrouter.ai/docs/api/reference/responses/overview |
    /// | `groq` | console.groq.com/docs/responses-api |
    /// | `ollama` | docs.ollama.com/api/openai-compatibility, from version 0.13.3 |
    /// | `vllm` | docs.vllm.ai, "OpenAI-Compatible Server", "Responses API" |
    /// | `deepseek` | api-docs.deepseek.com/guides/responses_api |
    /// | `llamacpp` | tools/server/README.md of llama.cpp, "POST /v1/responses" |
    /// | `huggingface` | huggingface.co/docs/inference-providers/guides/responses-api |
    /// | `fireworks` | docs.fireworks.ai/guides/response-api |
    pub const fn has_responses(self) -> bool {
        matches!(
            self,
            Self::OpenAi
                | Self::Azure
                | Self::Xai
                | Self::OpenRouter
                | Self::Groq
                | Self::Ollama
                | Self::Vllm
                | Self::LlamaCpp
                | Self::HuggingFace
                | Self::Fireworks
                | Self::DeepSeek
        )
    }

    /// Whether it usually runs on this machine, at a default address.
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Ollama | Self::Vllm)
    }

    /// The kind written as `text`.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }
}

impl std::fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ProviderKind {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ProviderKind {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(from)?;
        Self::from_text(&text).ok_or_else(|| serde::de::Error::custom("not a kind of provider"))
    }
}

impl JsonSchema for ProviderKind {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "ProviderKind".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let built: Vec<&str> = Self::ALL.iter().filter(|kind| kind.is_built()).map(|kind| kind.as_str()).collect();
        schemars::json_schema!({ "type": "string", "enum": built })
    }
}
