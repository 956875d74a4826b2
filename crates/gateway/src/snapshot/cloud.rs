//! Where a cloud keeps what other providers have under one base: Azure's deployments and Vertex AI's publishers. Names in
//! paths are one segment each, so that no model's name leads to another path.

use config::ProviderKind;
use http::uri::PathAndQuery;
use llm::{Dialect, Flavour};

use super::destination::NAME;

/// A cloud's layout.
#[derive(Debug)]
pub(crate) enum Cloud {
    /// Azure.
    Azure(Azure),
    /// Vertex AI.
    Vertex(Vertex),
}

/// Azure OpenAI, and the models of Azure AI Foundry (learn.microsoft.com/azure/ai-foundry/openai/reference).
#[derive(Debug)]
pub(crate) struct Azure {
    /// The path of the resource, mostly none.
    base: String,
    deployment: Option<String>,
    surface: Surface,
}

/// What of Azure is called.
#[derive(Debug)]
enum Surface {
    /// `/openai/v1/...`, the model in the body.
    V1(Option<String>),
    /// `/openai/deployments/NAME/...?api-version=...`.
    Deployments(String),
    /// Foundry's `/models/...?api-version=...`, the model in the body.
    Models(String),
}

/// The version of Foundry's model inference that is asked for if none is configured: its latest.
const MODELS_VERSION: &str = "2024-05-01-preview";
/// Calls that a deployment answers; all others belong to the resource.
const OF_DEPLOYMENTS: [&str; 9] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/images/generations",
    "/images/edits",
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
    "/extensions/chat/completions",
];

impl Azure {
    fn new(provider: &config::Provider, base: &str) -> Self {
        let version = provider.api_version.as_ref().map(|version| version.as_str().to_owned());
        let dated = version.as_ref().is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()));
        let surface = match version {
            version if base.ends_with("/models") => {
                Surface::Models(version.unwrap_or_else(|| MODELS_VERSION.to_owned()))
            }
            Some(version) if dated => Surface::Deployments(version),
            named => Surface::V1(named),
        };
        let deployment = provider.deployment.as_ref().map(|deployment| deployment.as_str().to_owned());
        Self { base: base.to_owned(), deployment, surface }
    }

    /// Where `end` (`/chat/completions`) of a model is. `None`: no such name can stand in a path.
    fn path(&self, end: &str, model: &str) -> Option<PathAndQuery> {
        let base = &self.base;
        let text = match &self.surface {
            Surface::V1(None) => format!("{base}/openai/v1{end}"),
            Surface::V1(Some(version)) => format!("{base}/openai/v1{end}?api-version={version}"),
            Surface::Models(version) => format!("{base}{end}?api-version={version}"),
            Surface::Deployments(version) if OF_DEPLOYMENTS.contains(&end) => {
                let name = segment(self.deployment.as_deref().unwrap_or(model))?;
                format!("{base}/openai/deployments/{name}{end}?api-version={version}")
            }
            Surface::Deployments(version) => format!("{base}/openai{end}?api-version={version}"),
        };
        PathAndQuery::try_from(text).ok()
    }

    /// Where a realtime session is opened: with the deployment as model, or in the dated form by its own name
    /// (learn.microsoft.com/azure/ai-foundry/openai/how-to/realtime-audio-websockets).
    fn realtime(&self, model: &str) -> Option<PathAndQuery> {
        let base = &self.base;
        let name = percent_encoding::utf8_percent_encode(self.deployment.as_deref().unwrap_or(model), NAME);
        let text = match &self.surface {
            // The version is in the path, and no other is taken there.
            Surface::V1(_) => format!("{base}/openai/v1/realtime?model={name}"),
            Surface::Deployments(version) => format!("{base}/openai/realtime?api-version={version}&deployment={name}"),
            Surface::Models(_) => return None,
        };
        PathAndQuery::try_from(text).ok()
    }

    /// Where a call written by a client is: as Azure's SDKs write it, with `/openai` before it, or as OpenAI's do, without.
    fn native(&self, rest: &str, query: Option<&str>) -> Option<PathAndQuery> {
        let own = query.filter(|query| !query.is_empty());
        let path = if rest.starts_with("/openai/") {
            format!("{}{rest}", self.base.strip_suffix("/models").unwrap_or(&self.base))
        } else {
            self.path(self.below(rest), "")?.path().to_owned()
        };
        let version = match &self.surface {
            Surface::V1(version) => version.as_deref().filter(|_| path.contains("/openai/v1/")),
            Surface::Deployments(version) | Surface::Models(version) => {
                Some(version.as_str()).filter(|_| !path.contains("/openai/v1/"))
            }
        };
        let told = own.is_some_and(|query| crate::edge::query_names(Some(query), "api-version"));
        let version = version.filter(|_| !told).map(|version| format!("api-version={version}"));
        let query: Vec<&str> = own.into_iter().chain(version.as_deref()).collect();
        let text = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
        PathAndQuery::try_from(text).ok()
    }

    /// The part of such a call that names the resource: `/files`.
    fn below<'p>(&self, rest: &'p str) -> &'p str {
        let without = |prefix: &str| rest.strip_prefix(prefix).filter(|below| below.starts_with('/'));
        if let Some(below) = without("/openai/v1") {
            return below;
        }
        if let Some(below) = without("/openai/deployments").filter(|below| deployment_of(below).is_some()) {
            // `/NAME/chat/completions`
            return below.get(1..).and_then(|below| below.find('/').and_then(|at| below.get(at..))).unwrap_or(rest);
        }
        let models = without("/models")
            .filter(|below| matches!(self.surface, Surface::Models(_)) && OF_DEPLOYMENTS.contains(below));
        models.or_else(|| without("/openai")).or_else(|| without("/v1")).unwrap_or(rest)
    }

    /// The deployment a call written by a client names in its path.
    fn named(rest: &str) -> Option<String> {
        deployment_of(rest.strip_prefix("/openai/deployments")?)
    }

    /// Members came with versions: `max_completion_tokens` and `stream_options` in September 2024; Foundry's surface knows
    /// `max_tokens` only.
    fn flavour(&self) -> Flavour {
        match &self.surface {
            Surface::V1(_) => Flavour::OpenAi,
            Surface::Deployments(version) if version.as_str() >= "2024-09-01" => Flavour::OpenAi,
            Surface::Deployments(_) | Surface::Models(_) => Flavour::Compatible,
        }
    }

    fn takes_stream_options(&self) -> bool {
        !matches!(&self.surface, Surface::Deployments(version) if version.as_str() < "2024-09-01")
    }
}

/// `NAME` of `/NAME/chat/completions`.
fn deployment_of(below: &str) -> Option<String> {
    let (name, _) = below.strip_prefix('/')?.split_once('/')?;
    let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

/// Vertex AI: Google's own models, Anthropic's, and others' by its OpenAI-compatible surface
/// (cloud.google.com/vertex-ai/generative-ai/docs/reference/rest).
#[derive(Debug)]
pub(crate) struct Vertex {
    /// The path before the version, mostly none.
    base: String,
    /// The version, where `base_url` names one.
    version: Option<&'static str>,
    /// `/projects/NAME/locations/NAME`; empty in express mode.
    resource: String,
}

/// Whose model a name on Vertex AI means, and what it is called there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker<'m> {
    /// `gemini-2.5-pro`, `google/gemini-2.5-pro`.
    Google(&'m str),
    /// `endpoints/123`: a tuned one of Google's.
    Tuned(&'m str),
    /// `claude-sonnet-4@20250514`, `anthropic/...`.
    Anthropic(&'m str),
    /// `openai/123`: one that was deployed from the Model Garden, at an endpoint of its own.
    Deployed(&'m str),
    /// `mistralai/mistral-medium-3`, `ai21/jamba-...`: those that take OpenAI's form, but by `rawPredict`. The publisher and the name.
    Raw(&'m str, &'m str),
    /// `meta/llama-...`: anybody else's, as a service.
    Other,
}

/// Publishers whose models are asked by `rawPredict` in OpenAI's form
/// (cloud.google.com/vertex-ai/generative-ai/docs/partner-models/mistral and `.../ai21`).
const RAW: [&str; 2] = ["mistralai", "ai21"];

impl<'m> Maker<'m> {
    fn of(model: &'m str) -> Self {
        match model.split_once('/') {
            Some(("google", name)) => Self::Google(name),
            Some(("anthropic", name)) => Self::Anthropic(name),
            Some(("endpoints", id)) => Self::Tuned(id),
            Some((publisher, name)) if RAW.contains(&publisher) => Self::Raw(publisher, name),
            Some(("openai", id)) if id.bytes().all(|b| b.is_ascii_digit()) => Self::Deployed(id),
            Some(_) => Self::Other,
            None if model.starts_with("claude") => Self::Anthropic(model),
            None => Self::Google(model),
        }
    }
}

/// What Google's own SDK asks for where nothing is configured: it knows members the first version does not.
const GOOGLE_VERSION: &str = "v1beta1";
/// What Anthropic's SDK asks for, and what the OpenAI-compatible surface is documented with.
const OTHERS_VERSION: &str = "v1";
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// What stands in the body instead of the field `anthropic-version`.
const ANTHROPIC_ON_VERTEX: &str = "vertex-2023-10-16";

impl Vertex {
    fn new(provider: &config::Provider, base: &str) -> Self {
        let version = VERSIONS.into_iter().find(|version| base.ends_with(&format!("/{version}")));
        let base = version.and_then(|version| base.strip_suffix(&format!("/{version}"))).unwrap_or(base).to_owned();
        let location = provider.location.as_ref().map_or("global", |location| location.as_str());
        let project = provider.project.as_ref().filter(|_| !provider.express);
        let resource = project.map(|project| format!("/projects/{project}/locations/{location}")).unwrap_or_default();
        Self { base, version, resource }
    }

    fn speaks(model: &str) -> Dialect {
        match Maker::of(model) {
            Maker::Google(_) | Maker::Tuned(_) => Dialect::Gemini,
            Maker::Anthropic(_) => Dialect::AnthropicMessages,
            Maker::Raw(..) | Maker::Deployed(_) | Maker::Other => Dialect::OpenAiChat,
        }
    }

    /// What a body calls `model`: by the name alone, without its version, where it is asked by `rawPredict`.
    fn called(model: &str) -> &str {
        match Maker::of(model) {
            Maker::Raw(_, name) => name.split_once('@').map_or(name, |(name, _)| name),
            _ => model,
        }
    }

    fn flavour(model: &str) -> Flavour {
        match Maker::of(model) {
            Maker::Raw("mistralai", _) => Flavour::Mistral,
            Maker::Raw(..) => Flavour::Strict,
            _ => Flavour::Compatible,
        }
    }

    /// What is spoken by a call that a client has written to a model's `rawPredict`, and the model as it is configured.
    fn raw(&self, rest: &str) -> Option<(Dialect, String)> {
        let (_, tail) = self.tail(rest);
        let (publisher, of) = tail.strip_prefix("/publishers/")?.split_once("/models/")?;
        let (name, method) = of.rsplit_once(':')?;
        let dialect = if publisher == "anthropic" { Dialect::AnthropicMessages } else { Dialect::OpenAiChat };
        let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
        matches!(method, "rawPredict" | "streamRawPredict").then(|| (dialect, format!("{publisher}/{name}")))
    }

    fn path(&self, model: &str, stream: bool) -> Option<PathAndQuery> {
        let Self { base, version, resource } = self;
        let generate = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        let predict = if stream { "streamRawPredict" } else { "rawPredict" };
        let (usual, below) = match Maker::of(model) {
            Maker::Google(name) => (GOOGLE_VERSION, format!("publishers/google/models/{}:{generate}", segment(name)?)),
            Maker::Tuned(id) => (GOOGLE_VERSION, format!("endpoints/{}:{generate}", segment(id)?)),
            Maker::Anthropic(name) => {
                (OTHERS_VERSION, format!("publishers/anthropic/models/{}:{predict}", segment(name)?))
            }
            Maker::Raw(publisher, name) => {
                (OTHERS_VERSION, format!("publishers/{publisher}/models/{}:{predict}", segment(name)?))
            }
            Maker::Deployed(id) => (OTHERS_VERSION, format!("endpoints/{}/chat/completions", segment(id)?)),
            Maker::Other => (OTHERS_VERSION, "endpoints/openapi/chat/completions".to_owned()),
        };
        PathAndQuery::try_from(format!("{base}/{}{resource}/{below}", version.unwrap_or(usual))).ok()
    }

    /// Where Google's own `model` answers `method` (`predict`); `None` for others' models.
    fn google(&self, model: &str, method: &str) -> Option<PathAndQuery> {
        let Self { base, version, resource } = self;
        let below = match Maker::of(model) {
            Maker::Google(name) => format!("publishers/google/models/{}:{method}", segment(name)?),
            Maker::Tuned(id) => format!("endpoints/{}:{method}", segment(id)?),
            _ => return None,
        };
        PathAndQuery::try_from(format!("{base}/{}{resource}/{below}", version.unwrap_or(GOOGLE_VERSION))).ok()
    }

    /// What a call written by a client has after version, project and location, and the version if it names one.
    fn tail<'p>(&self, rest: &'p str) -> (Option<&'static str>, &'p str) {
        let without = |rest: &'p str, prefix: &str| rest.strip_prefix(prefix).filter(|below| below.starts_with('/'));
        let found = VERSIONS.into_iter().find_map(|version| Some((version, without(rest, &format!("/{version}"))?)));
        let (version, rest) = match found {
            Some((version, rest)) => (Some(version), rest),
            None => (None, rest),
        };
        let inside = if self.resource.is_empty() { None } else { without(rest, &self.resource) };
        (version, inside.unwrap_or(rest))
    }

    fn native(&self, rest: &str, query: Option<&str>) -> Option<PathAndQuery> {
        let (told, tail) = self.tail(rest);
        let Self { base, version, resource } = self;
        let before = if tail.starts_with("/models/") {
            "/publishers/google"
        } else if tail == "/chat/completions" {
            "/endpoints/openapi"
        } else {
            ""
        };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let version = version.or(told).unwrap_or(GOOGLE_VERSION);
        PathAndQuery::try_from(format!("{base}/{version}{resource}{before}{tail}{query}")).ok()
    }

    fn below<'p>(&self, rest: &'p str) -> &'p str {
        let (_, tail) = self.tail(rest);
        ["/publishers/google", "/endpoints/openapi"]
            .iter()
            .find_map(|prefix| tail.strip_prefix(prefix).filter(|below| below.starts_with('/')))
            .unwrap_or(tail)
    }

    /// The model a call written by a client names in its path.
    fn named(&self, rest: &str) -> Option<String> {
        let (_, tail) = self.tail(rest);
        let decoded = |text: &str| Some(percent_encoding::percent_decode_str(text).decode_utf8().ok()?.into_owned());
        if let Some(of) = tail.strip_prefix("/endpoints/") {
            let end = of.find([':', '/']).unwrap_or(of.len());
            let id = of.get(..end).filter(|id| *id != "openapi")?;
            return Some(format!("endpoints/{}", decoded(id)?));
        }
        let of = match tail.strip_prefix("/publishers/") {
            Some(of) => of.split_once("/models/")?.1,
            None => tail.strip_prefix("/models/")?,
        };
        decoded(of.rsplit_once(':').map_or(of, |(name, _)| name)).filter(|name| !name.is_empty())
    }
}

impl Cloud {
    /// The layout of `provider`, whose base URL has the path `base`, if it has one of its own.
    pub(super) fn of(provider: &config::Provider, base: &str) -> Option<Self> {
        match provider.kind {
            ProviderKind::Azure => Some(Self::Azure(Azure::new(provider, base))),
            ProviderKind::Vertex => Some(Self::Vertex(Vertex::new(provider, base))),
            _ => None,
        }
    }

    /// What is spoken with a chat model, where that depends on the model.
    pub(super) fn speaks(&self, model: &str) -> Option<Dialect> {
        match self {
            Self::Azure(_) => None,
            Self::Vertex(_) => Some(Vertex::speaks(model)),
        }
    }

    /// Where a request for `model` goes: `end` is what it would be below OpenAI's base (`/chat/completions`).
    pub(super) fn path(&self, end: &str, model: &str, stream: bool) -> Option<PathAndQuery> {
        match self {
            Self::Azure(azure) => azure.path(end, model),
            Self::Vertex(vertex) => vertex.path(model, stream),
        }
    }

    /// Where Google's own `model` answers `method`; `None` where there are none of Google's.
    pub(super) fn google(&self, model: &str, method: &str) -> Option<PathAndQuery> {
        match self {
            Self::Azure(_) => None,
            Self::Vertex(vertex) => vertex.google(model, method),
        }
    }

    /// What the body calls `model`.
    pub(super) fn called<'m>(&'m self, model: &'m str) -> &'m str {
        match self {
            Self::Azure(azure) => azure.deployment.as_deref().unwrap_or(model),
            Self::Vertex(_) => Vertex::called(model),
        }
    }

    /// What is spoken by a call that a client has written to a model's own endpoint, and the model.
    pub(super) fn raw(&self, rest: &str) -> Option<(Dialect, String)> {
        match self {
            Self::Azure(_) => None,
            Self::Vertex(vertex) => vertex.raw(rest),
        }
    }

    /// Where a realtime session with `model` is opened; `None` where there are none.
    pub(super) fn realtime(&self, model: &str) -> Option<PathAndQuery> {
        match self {
            Self::Azure(azure) => azure.realtime(model),
            Self::Vertex(_) => None,
        }
    }

    /// The provider's own path for what a client wrote after `/providers/NAME`.
    pub(super) fn native(&self, rest: &str, query: Option<&str>) -> Option<PathAndQuery> {
        match self {
            Self::Azure(azure) => azure.native(rest, query),
            Self::Vertex(vertex) => vertex.native(rest, query),
        }
    }

    /// The part of such a path that names the resource.
    pub(super) fn below<'p>(&self, rest: &'p str) -> &'p str {
        match self {
            Self::Azure(azure) => azure.below(rest),
            Self::Vertex(vertex) => vertex.below(rest),
        }
    }

    /// The model such a path names, whatever the body says.
    pub(super) fn named(&self, rest: &str) -> Option<String> {
        match self {
            Self::Azure(_) => Azure::named(rest),
            Self::Vertex(vertex) => vertex.named(rest),
        }
    }

    /// How its dialect differs from OpenAI's own.
    pub(super) fn flavour(&self, model: &str) -> Flavour {
        match self {
            Self::Azure(azure) => azure.flavour(),
            Self::Vertex(_) => Vertex::flavour(model),
        }
    }

    /// Whether a stream may be asked for its usage.
    pub(super) fn takes_stream_options(&self, model: &str) -> bool {
        match self {
            Self::Azure(azure) => azure.takes_stream_options(),
            Self::Vertex(_) => Vertex::flavour(model).asks_usage(),
        }
    }

    /// The version of Anthropic's API, where it stands in the body and the model does not.
    pub(super) fn anthropic_version(&self) -> Option<&'static str> {
        matches!(self, Self::Vertex(_)).then_some(ANTHROPIC_ON_VERTEX)
    }
}

/// A name as one segment of a path.
fn segment(name: &str) -> Option<impl std::fmt::Display + '_> {
    let known = !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '\\']);
    known.then(|| percent_encoding::utf8_percent_encode(name, NAME))
}
