//! Which of `OpenAI`'s smaller endpoints a provider has. What it has not, the next target may have.

use config::ProviderKind as Kind;
use http::uri::PathAndQuery;

use super::Provider;
use crate::endpoint::direct::Direct;

impl Provider {
    /// Where a request for `direct` goes; `None` where the provider documents no such endpoint.
    pub(crate) fn direct(&self, direct: Direct, model: &str) -> Option<PathAndQuery> {
        let below = direct.path().strip_prefix("/v1")?;
        let path = match (self.kind, &self.cloud) {
            (kind, _) if !has(kind, direct) => return None,
            (_, Some(cloud)) => return cloud.path(below, model, false),
            (Kind::Gemini, _) => format!("{}/openai{below}", self.base),
            _ => format!("{}{below}", self.base),
        };
        PathAndQuery::try_from(path).ok()
    }
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
