//! Which of the smaller endpoints a provider has, and what it speaks there. What it has not, the next target may have.

use config::{ProviderDialect, ProviderKind as Kind};
use http::uri::PathAndQuery;
use llm::Dialect;
use llm::count;
use llm::embeddings::Surface;

use super::Provider;
use crate::endpoint::direct::Direct;

impl Provider {
    fn has(&self, direct: Direct) -> bool {
        if direct == Direct::Compact { self.has_all_of_responses() } else { has(self.kind, direct) }
    }

    /// Whether it has what OpenAI documents beside the Responses API itself: others do not tell of it
    /// (platform.openai.com/docs/api-reference/responses, learn.microsoft.com/azure/ai-foundry/openai/latest).
    fn has_all_of_responses(&self) -> bool {
        let known = [Kind::OpenAi, Kind::Azure, Kind::OpenAiCompatible, Kind::Portkey, Kind::LlmGateway, Kind::ApiPark];
        self.has_responses() && known.contains(&self.kind)
    }

    /// Where a request for `direct` and `model` goes; `None` where the provider documents no such endpoint.
    pub(crate) fn direct(&self, direct: Direct, model: &str) -> Option<PathAndQuery> {
        let below = direct.path().strip_prefix("/v1").filter(|_| self.has(direct))?;
        if let Some(cloud) = &self.cloud {
            return cloud.path(below, model, false);
        }
        let openai = if self.kind == Kind::Gemini { "/openai" } else { "" };
        PathAndQuery::try_from(format!("{}{openai}{below}", self.base)).ok()
    }

    /// Where requests for embeddings of `model` go, and what is spoken there. `batch`: whether Google is asked for several.
    pub(crate) fn embeds(&self, model: &str, batch: bool) -> Option<(Surface, PathAndQuery)> {
        let path = match (&self.cloud, self.kind) {
            (Some(cloud), Kind::Vertex) => return Some((Surface::Vertex, cloud.google(model, "predict")?)),
            (Some(cloud), _) => cloud.path("/embeddings", model, false),
            // Its chat is at the root, its embeddings are not (docs.perplexity.ai/api-reference/embeddings-post).
            (None, Kind::Perplexity) => {
                PathAndQuery::try_from(format!("{}/v1/embeddings", without_v1(&self.base))).ok()
            }
            (None, _) if self.dialect == ProviderDialect::Gemini => {
                let method = if batch { "batchEmbedContents" } else { "embedContent" };
                return Some((Surface::Gemini, self.google(model, method)?));
            }
            (None, _) if self.dialect == ProviderDialect::Cohere => {
                let path = PathAndQuery::try_from(format!("{}/v2/embed", self.base)).ok()?;
                return Some((Surface::Cohere, path));
            }
            (None, Kind::Ollama) if self.native => {
                return Some((
                    Surface::Ollama,
                    PathAndQuery::try_from(format!("{}/api/embed", without_v1(&self.base))).ok()?,
                ));
            }
            (None, Kind::Voyage) => {
                let path = self.path(Dialect::OpenAiEmbeddings, model, false)?;
                return Some((Surface::Voyage, path));
            }
            (None, Kind::Bedrock) if !self.is_mantle() => {
                let path = self.path(Dialect::BedrockInvoke, model, false)?;
                return Some((Surface::at_bedrock(model)?, path));
            }
            (None, _) if self.dialect == ProviderDialect::OpenAi => self.path(Dialect::OpenAiEmbeddings, model, false),
            _ => None,
        };
        Some((Surface::OpenAi, path?))
    }
}

impl Provider {
    /// Where tokens of requests for `model` are counted, and what is spoken there.
    pub(crate) fn counts(&self, model: &str) -> Option<(count::Surface, PathAndQuery)> {
        if self.has_all_of_responses() {
            let end = "/responses/input_tokens";
            let path = match &self.cloud {
                Some(cloud) => cloud.path(end, model, false),
                None => PathAndQuery::try_from(format!("{}{end}", self.base)).ok(),
            };
            return Some((count::Surface::OpenAi, path?));
        }
        if let Some(cloud) = &self.cloud {
            return Some((count::Surface::Vertex, cloud.google(model, "countTokens")?));
        }
        match self.dialect {
            ProviderDialect::Anthropic => {
                let path = PathAndQuery::try_from(format!("{}/v1/messages/count_tokens", self.base)).ok()?;
                Some((count::Surface::Anthropic, path))
            }
            ProviderDialect::Gemini => Some((count::Surface::Gemini, self.google(model, "countTokens")?)),
            ProviderDialect::Bedrock if !self.is_mantle() => {
                // Models are counted by their own ids, not by those of the profiles that lead to them from several regions.
                Some((count::Surface::Bedrock, self.bedrock(count::bedrock_model(model), "count-tokens")?))
            }
            ProviderDialect::OpenAi | ProviderDialect::Cohere | ProviderDialect::Bedrock => None,
        }
    }
}

fn without_v1(base: &str) -> &str {
    base.strip_suffix("/v1").unwrap_or(base)
}

/// Whether a kind of provider documents the endpoint.
fn has(kind: Kind, direct: Direct) -> bool {
    use Direct::{Completions, ImageEdits, ImageGenerations, Moderations, Speech, Transcriptions, Translations};
    let listed: &[Direct] = match kind {
        // platform.openai.com/docs/api-reference; what stands in for it or before it may have all of it too.
        Kind::OpenAi | Kind::OpenAiCompatible | Kind::Portkey | Kind::LlmGateway | Kind::ApiPark => return true,
        // docs.mistral.ai/api: no completions but for its code models, at a path of their own.
        Kind::Mistral => &[Moderations, Speech, Transcriptions],
        // console.groq.com/docs/api-reference
        Kind::Groq => &[Speech, Transcriptions, Translations],
        // docs.x.ai/docs/api-reference
        Kind::Xai => &[Completions, ImageGenerations, ImageEdits],
        // docs.together.ai/reference
        Kind::Together => &[Completions, ImageGenerations, Speech, Transcriptions, Translations],
        // openrouter.ai/docs/api
        Kind::OpenRouter => &[Completions, Speech, Transcriptions],
        // ai.google.dev/gemini-api/docs/openai
        Kind::Gemini => &[ImageGenerations],
        // docs.vllm.ai/en/latest/serving/openai_compatible_server
        Kind::Vllm => &[Completions, Transcriptions, Translations],
        // inference-docs.cerebras.ai/api-reference, docs.fireworks.ai/api-reference (audio and pictures are at other addresses),
        // github.com/ggml-org/llama.cpp/tree/master/tools/server, docs.ollama.com/api/openai-compatibility
        Kind::Cerebras | Kind::Fireworks | Kind::LlamaCpp | Kind::Ollama => &[Completions],
        // learn.microsoft.com/azure/ai-foundry/openai/reference
        Kind::Azure => &[Completions, ImageGenerations, ImageEdits, Speech, Transcriptions, Translations],
        // Anthropic, Bedrock, Cohere, DeepSeek, Hugging Face, Perplexity, Vertex AI: chat, embeddings and what is theirs alone.
        _ => &[],
    };
    listed.contains(&direct)
}
