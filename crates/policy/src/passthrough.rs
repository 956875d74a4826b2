//! What of a provider's own API a policy opens.

use config::{Passthrough, ProviderDialect, ProviderKind};

use crate::glob::{Glob, PathGlob};
use crate::world::KnownProvider;

/// Methods and paths of one provider, and the models they may name.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    methods: Box<[Box<str>]>,
    paths: Box<[PathGlob]>,
    models: Box<[Glob]>,
}

/// Calls that ask a model something and store nothing that could be fetched later by another path.
const OPENAI_POST: &[&str] = &[
    "/chat/completions",
    "/completions",
    "/responses",
    "/embeddings",
    "/moderations",
    "/images/generations",
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
];
const OPENAI_GET: &[&str] = &["/models", "/models/**"];
const ANTHROPIC_POST: &[&str] = &["/messages", "/messages/count_tokens"];
const ANTHROPIC_GET: &[&str] = &["/models", "/models/*"];
const GEMINI_POST: &[&str] = &[
    "/models/*:generateContent",
    "/models/*:streamGenerateContent",
    "/models/*:countTokens",
    "/models/*:embedContent",
    "/models/*:batchEmbedContents",
];
const VERTEX_POST: &[&str] = &[
    "/models/*:generateContent",
    "/models/*:streamGenerateContent",
    "/models/*:countTokens",
    "/models/*:embedContent",
    "/publishers/google/models/*:generateContent",
    "/publishers/google/models/*:streamGenerateContent",
    "/publishers/google/models/*:countTokens",
    "/publishers/google/models/*:embedContent",
    "/publishers/google/models/*:predict",
    "/publishers/anthropic/models/*:rawPredict",
    "/publishers/anthropic/models/*:streamRawPredict",
    "/chat/completions",
    "/endpoints/openapi/chat/completions",
];
/// Cohere's two versions are different APIs, so the version stands in the path.
const COHERE_POST: &[&str] = &[
    "/v2/chat",
    "/v2/embed",
    "/v2/rerank",
    "/v1/chat",
    "/v1/embed",
    "/v1/rerank",
    "/v1/classify",
    "/v1/tokenize",
    "/v1/detokenize",
    "/compatibility/v1/chat/completions",
    "/compatibility/v1/embeddings",
];
const COHERE_GET: &[&str] = &["/v1/models", "/v1/models/*"];
/// Ollama's own API beside `OpenAI`'s. What loads, copies or deletes models is not among it.
const OLLAMA_POST: &[&str] = &["/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show"];
const OLLAMA_GET: &[&str] = &["/api/tags", "/api/ps", "/api/version"];
const BEDROCK_POST: &[&str] = &[
    "/model/*/converse",
    "/model/*/converse-stream",
    "/model/*/invoke",
    "/model/*/invoke-with-response-stream",
    "/model/*/count-tokens",
    "/chat/completions",
    "/responses",
];
const BEDROCK_GET: &[&str] = &["/models", "/models/*"];
const GEMINI_GET: &[&str] = &["/models", "/models/*"];

impl Opening {
    /// What a policy lists.
    pub(crate) fn listed(listed: &Passthrough) -> Self {
        Self {
            methods: listed.methods.iter().map(|m| Box::from(m.as_str())).collect(),
            paths: listed.paths.iter().map(PathGlob::new).collect(),
            models: listed.models.iter().map(Glob::new).collect(),
        }
    }

    /// What a provider named without paths opens: inference only, with and without the version in the path.
    pub(crate) fn inference(provider: &KnownProvider) -> Vec<Self> {
        let (post, get) = match provider.dialect {
            Some(ProviderDialect::OpenAi) => (OPENAI_POST, OPENAI_GET),
            Some(ProviderDialect::Anthropic) => (ANTHROPIC_POST, ANTHROPIC_GET),
            Some(ProviderDialect::Gemini) if provider.kind == ProviderKind::Vertex => (VERTEX_POST, [].as_slice()),
            Some(ProviderDialect::Gemini) => (GEMINI_POST, GEMINI_GET),
            Some(ProviderDialect::Cohere) => (COHERE_POST, COHERE_GET),
            Some(ProviderDialect::Bedrock) => (BEDROCK_POST, BEDROCK_GET),
            None => return Vec::new(),
        };
        let mut prefixes = vec!["", "/v1"];
        prefixes.extend(provider.prefixes.iter().map(String::as_str));
        prefixes.sort_unstable();
        prefixes.dedup();
        let paths = |list: &[&str]| {
            let each = |prefix: &&str| list.iter().map(|path| format!("{prefix}{path}")).collect::<Vec<_>>();
            prefixes.iter().flat_map(each).map(|path| PathGlob::from_text(&path)).collect()
        };
        let opening =
            |method: &str, list| Self { methods: [method.into()].into(), paths: paths(list), models: [].into() };
        let mut openings = vec![opening("POST", post), opening("GET", get)];
        if provider.kind == ProviderKind::Ollama {
            openings.extend([opening("POST", OLLAMA_POST), opening("GET", OLLAMA_GET)]);
        }
        openings
    }

    /// Whether the call is part of it. A body that names no readable model does not fit a list of models.
    pub(crate) fn admits(&self, method: &str, path: &str, model: Option<&str>) -> bool {
        self.methods.iter().any(|m| **m == *method)
            && self.paths.iter().any(|glob| glob.matches(path))
            && (self.models.is_empty() || model.is_some_and(|model| self.models.iter().any(|glob| glob.matches(model))))
    }
}
