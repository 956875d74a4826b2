//! Where requests go: providers, ready to be called.

use std::collections::HashMap;
use std::sync::Arc;

use base::{Name, Problem, Rng};
use config::{ProviderDialect, ProviderKind};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use llm::catalogue::{Figures, Overflow, Own};
use llm::{Dialect, Flavour, RequestError};
use net::{Deadlines, EgressError, Reach, Target};

use super::SnapshotError;
use super::cloud::Cloud;
use crate::cache;
use crate::endpoint::gemini;
use crate::health::{Care, Choice, Key, KeySlot, Keys, Pass, States, wanted};
use crate::metrics::Label;
use crate::upstream::{Credential, CredentialError, Grant, KeyValues, Signer, UpstreamError, signer};

/// What of a model's name is written as it is in a path.
pub(super) const NAME: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// What AWS writes as it is in a path: the unreserved characters (RFC 3986 section 2.3).
const ARN: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A provider, ready to be called.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: Name,
    pub(crate) label: Label,
    pub(crate) kind: ProviderKind,
    pub(crate) dialect: ProviderDialect,
    pub(crate) target: Target,
    pub(crate) origin: String,
    pub(crate) keys: Keys,
    pub(crate) deadlines: Deadlines,
    /// Which answers are kept of its models that are asked for by its name.
    pub(crate) cache: Option<cache::Rules>,
    /// What the configuration says of its models.
    pub(super) own: Vec<Own>,
    /// Who signs requests, where they are signed: the key is then not sent.
    pub(crate) signer: Option<Signer>,
    /// Sent with every request.
    pub(crate) fields: Vec<(HeaderName, Field)>,
    /// How access tokens are come by, where it takes them instead of its key.
    pub(crate) grant: Option<Arc<Grant>>,
    pub(super) cloud: Option<Cloud>,
    /// What of the operator's storage callers may name.
    pub(crate) buckets: Vec<config::Bucket>,
    /// Whether it has the Responses API, and whether other dialects are asked there.
    responses: (bool, bool),
    /// Whether other dialects are asked on Ollama's own API.
    pub(super) native: bool,
    pub(super) base: String,
    chat: PathAndQuery,
    embeddings: PathAndQuery,
}

/// The value of a header field that is sent with every request.
#[derive(Debug)]
pub(crate) enum Field {
    /// As configured.
    Text(HeaderValue),
    /// A secret, bound to the provider's origin.
    Secret(Credential),
}

impl Provider {
    pub(super) fn build(
        provider: &config::Provider,
        keys: Vec<KeyValues>,
        (deadlines, states): (Deadlines, &Arc<States>),
    ) -> Result<Self, SnapshotError> {
        let name = &provider.name;
        let wrong =
            |reason: &str| SnapshotError::Url { kind: "provider", name: name.clone(), reason: reason.to_owned() };
        let base = provider.base().ok_or_else(|| wrong("it needs a base_url"))?;
        let dialect = provider.kind.dialect().ok_or_else(|| wrong("this kind cannot be called"))?;
        let (target, origin, mut path) = destination("provider", name, &base, provider.may_be_private())?;
        if provider.kind == ProviderKind::Gemini && !["/v1beta", "/v1", "/v1alpha"].iter().any(|v| path.ends_with(v)) {
            // As Google's own SDK takes it: without the version.
            path.push_str("/v1beta");
        }
        if provider.prefers_native() && !path.ends_with("/v1") {
            // As Ollama's own SDK takes it; embeddings in OpenAI's form are below the version all the same.
            path.push_str("/v1");
        }
        let (chat, embeddings) = match dialect {
            ProviderDialect::OpenAi => ("/chat/completions", "/embeddings"),
            ProviderDialect::Anthropic => ("/v1/messages", "/v1/embeddings"),
            // Its own paths name the model.
            ProviderDialect::Gemini => ("/openai/chat/completions", "/openai/embeddings"),
            // Embeddings in OpenAI's form are on the surface it has for OpenAI's clients.
            ProviderDialect::Cohere => ("/v2/chat", "/compatibility/v1/embeddings"),
            // For models that are asked in OpenAI's dialect.
            ProviderDialect::Bedrock => ("/v1/chat/completions", "/v1/embeddings"),
        };
        let join =
            |end: &str| PathAndQuery::try_from(format!("{path}{end}")).map_err(|_| wrong("its path cannot be sent"));
        let (chat, embeddings) = (join(chat)?, join(embeddings)?);
        Ok(Self {
            name: name.clone(),
            label: Label::Named(name.clone()),
            kind: provider.kind,
            dialect,
            signer: signer(provider, &origin),
            target,
            keys: Self::keys(provider, keys, &origin, states),
            origin,
            deadlines,
            cache: cache::Rules::of_provider(provider),
            own: Vec::new(),
            fields: Vec::new(),
            grant: Grant::of(provider).map(Arc::new),
            cloud: Cloud::of(provider, &path),
            buckets: provider.buckets.clone(),
            responses: (provider.has_responses(), provider.prefers_responses()),
            native: provider.prefers_native(),
            base: path,
            chat,
            embeddings,
        })
    }

    /// Take the header fields that are configured, those that are secrets from `secrets`.
    pub(super) fn set_fields(
        &mut self,
        provider: &config::Provider,
        secrets: &HashMap<(Name, String), Credential>,
    ) -> Result<(), SnapshotError> {
        if provider.session_token.is_some() {
            let name = config::Provider::SESSION_TOKEN_FIELD;
            let secret = secrets.get(&(provider.name.clone(), name.to_owned())).cloned();
            let reason = "its session token is missing".to_owned();
            let missing = SnapshotError::Resource { kind: "provider", name: provider.name.clone(), reason };
            self.fields.push((HeaderName::from_static(name), Field::Secret(secret.ok_or(missing)?)));
        }
        for (name, value) in &provider.headers {
            let wrong = |reason: &str| SnapshotError::Resource {
                kind: "provider",
                name: provider.name.clone(),
                reason: format!("its header {name} {reason}"),
            };
            let field = HeaderName::try_from(name.as_str()).map_err(|_| wrong("has no valid name"))?;
            let value = match value {
                config::FieldValue::Text(text) => {
                    Field::Text(HeaderValue::from_str(text.as_str()).map_err(|_| wrong("cannot be sent"))?)
                }
                config::FieldValue::Secret(_) => {
                    let secret = secrets.get(&(provider.name.clone(), name.clone()));
                    Field::Secret(secret.cloned().ok_or_else(|| wrong("is missing"))?)
                }
            };
            self.fields.push((field, value));
        }
        Ok(())
    }

    /// Every secret it is called with.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Credential> {
        let keys = self.keys.iter().flat_map(|key| key.slots.iter().filter_map(|slot| slot.credential.as_ref()));
        keys.chain(self.secret_fields())
    }

    fn secret_fields(&self) -> impl Iterator<Item = &Credential> {
        self.fields.iter().filter_map(|(_, value)| match value {
            Field::Secret(credential) => Some(credential),
            Field::Text(_) => None,
        })
    }

    /// Why it cannot be called until somebody sets its key again.
    pub(super) fn trouble(&self) -> Option<CredentialError> {
        let keys = self.keys.iter().filter_map(|key| key.slots.first()?.credential.as_ref());
        keys.chain(self.secret_fields()).find_map(|credential| credential.trouble(&self.origin))
    }

    /// Leave for a call that only this provider can answer, with the key that suits best.
    pub(crate) fn pass(&self, model: &str, key: Option<&str>, rng: &dyn Rng) -> Result<Pass, Problem> {
        let model = Arc::from(model);
        let wanted = wanted(&model, None, false).with_key(key);
        let pass = self.keys.regardless(wanted, Choice { sticky: None, rng });
        pass.ok_or_else(|| UpstreamError::Egress(EgressError::Busy).problem())
    }

    fn keys(provider: &config::Provider, values: Vec<KeyValues>, origin: &str, states: &Arc<States>) -> Keys {
        let ranks = provider.keys.iter().map(|key| (key.priority, key.weight)).chain(std::iter::once((0, 1)));
        let keys = provider.key_refs().into_iter().zip(values).zip(ranks);
        let keys = keys.map(|((key, values), (priority, weight))| {
            let mut same = None;
            let mut slots: Vec<Arc<KeySlot>> = Vec::new();
            for (which, credential) in values.usable(origin) {
                let fingerprint = credential.fingerprint();
                let state = states.slot(&provider.name, key.name, fingerprint);
                same.get_or_insert(fingerprint);
                let slot = KeySlot { which, credential: Some(credential), state };
                if !slots.iter().any(|other| other.is_same(&slot)) {
                    slots.push(Arc::new(slot));
                }
            }
            states.set_slots(&provider.name, key.name, &slots);
            let state = states.key(&provider.name, key.name, same.unwrap_or_default());
            Key { name: key.name.to_owned(), state, slots, priority, weight }
        });
        Keys::new(Arc::new(Care::new(provider, states)), keys.collect())
    }

    /// What is known of its model of this name: what it costs, how much fits in it.
    pub(crate) fn figures(&self, model: &str) -> Figures {
        Figures::of(self.kind.as_str(), model, &self.own)
    }

    /// Whether a request certainly does not fit into its model of this name.
    pub(crate) fn overflow(&self, model: &str, body: &[u8]) -> Option<Overflow> {
        llm::catalogue::overflow(self.kind.as_str(), model, &self.own, body)
    }

    /// How its dialect differs from what `OpenAI` itself speaks.
    pub(crate) fn flavour(&self, model: &str) -> Flavour {
        match &self.cloud {
            Some(cloud) => cloud.flavour(model),
            None => Flavour::of_kind(self.kind.as_str()),
        }
    }

    /// Whether a stream may be asked for its usage; the others refuse the member and tell the usage unasked.
    pub(crate) fn takes_stream_options(&self, model: &str) -> bool {
        match &self.cloud {
            Some(cloud) => cloud.takes_stream_options(model),
            None => !matches!(self.kind, ProviderKind::Mistral | ProviderKind::Perplexity),
        }
    }

    /// What the provider speaks on the endpoint where `model` answers `client`'s dialect.
    pub(crate) fn speaks(&self, client: Dialect, model: &str) -> Dialect {
        let chat = client != Dialect::OpenAiEmbeddings;
        if let Some(spoken) = self.cloud.as_ref().filter(|_| chat).and_then(|cloud| cloud.speaks(model)) {
            return spoken;
        }
        match (self.dialect, client) {
            (_, Dialect::OpenAiEmbeddings) => Dialect::OpenAiEmbeddings,
            (ProviderDialect::OpenAi, Dialect::OpenAiResponses) if self.responses.0 => Dialect::OpenAiResponses,
            (ProviderDialect::OpenAi, _) if self.responses.1 => Dialect::OpenAiResponses,
            (ProviderDialect::OpenAi, _) if self.native => Dialect::OllamaChat,
            (ProviderDialect::OpenAi, _) => Dialect::OpenAiChat,
            (ProviderDialect::Anthropic, _) => Dialect::AnthropicMessages,
            (ProviderDialect::Gemini, _) => Dialect::Gemini,
            (ProviderDialect::Cohere, _) => Dialect::CohereChat,
            // (docs.aws.amazon.com/bedrock/latest/userguide/inference-messages-api.html)
            (ProviderDialect::Bedrock, _) if self.is_mantle() && model.contains("anthropic.") => {
                Dialect::AnthropicMessages
            }
            (ProviderDialect::Bedrock, _) if self.is_mantle() => Dialect::OpenAiChat,
            (ProviderDialect::Bedrock, _) => Dialect::BedrockConverse,
        }
    }

    /// Whether it has any models to talk with.
    pub(crate) fn chats(&self) -> bool {
        self.kind != ProviderKind::Voyage
    }

    /// Whether it has the Responses API.
    pub(crate) fn has_responses(&self) -> bool {
        self.responses.0
    }

    /// What the body of a request calls `model`.
    pub(crate) fn called<'m>(&'m self, model: &'m str) -> &'m str {
        self.cloud.as_ref().map_or(model, |cloud| cloud.called(model))
    }

    /// A request's body as it is sent: where a cloud has Anthropic's models, the path names the model and the body the version.
    pub(crate) fn body(&self, spoken: Dialect, body: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        let version = self.cloud.as_ref().filter(|_| spoken == Dialect::AnthropicMessages);
        match version.and_then(Cloud::anthropic_version) {
            Some(version) => llm::passthrough::anthropic_in_a_cloud(&body, version),
            None => Ok(body),
        }
    }

    /// Whether it is Bedrock's other endpoint, which speaks `OpenAI`'s dialects, and Anthropic's with Anthropic's models
    /// (docs.aws.amazon.com/bedrock/latest/userguide/bedrock-mantle.html).
    pub(super) fn is_mantle(&self) -> bool {
        self.origin.starts_with("https://bedrock-mantle.")
    }

    /// What is spoken at a cloud's own endpoint of one model, and the model.
    pub(crate) fn raw(&self, rest: &str) -> Option<(Dialect, String)> {
        self.cloud.as_ref()?.raw(rest)
    }

    /// The model that a native path names, whatever the body says.
    pub(crate) fn named(&self, rest: &str) -> Option<String> {
        match &self.cloud {
            Some(cloud) => cloud.named(rest),
            None if self.dialect == ProviderDialect::Gemini => {
                gemini::Path::of(self.below(rest)).map(|path| path.model)
            }
            None => None,
        }
    }

    /// Where requests in `dialect` for `model` go. `None`: its name cannot stand in a path.
    pub(crate) fn path(&self, dialect: Dialect, model: &str, stream: bool) -> Option<PathAndQuery> {
        if let Some(cloud) = &self.cloud {
            let end = match dialect {
                Dialect::OpenAiEmbeddings => "/embeddings",
                Dialect::OpenAiResponses => "/responses",
                _ => "/chat/completions",
            };
            return cloud.path(end, model, stream);
        }
        match dialect {
            Dialect::OpenAiEmbeddings => Some(self.embeddings.clone()),
            Dialect::OpenAiResponses => PathAndQuery::try_from(format!("{}/responses", self.base)).ok(),
            Dialect::Gemini => {
                self.google(model, if stream { "streamGenerateContent?alt=sse" } else { "generateContent" })
            }
            Dialect::BedrockConverse | Dialect::BedrockInvoke => {
                let call = match (dialect, stream) {
                    (Dialect::BedrockConverse, false) => "converse",
                    (Dialect::BedrockConverse, true) => "converse-stream",
                    (_, false) => "invoke",
                    (_, true) => "invoke-with-response-stream",
                };
                self.bedrock(model, call)
            }
            Dialect::AnthropicMessages if self.dialect == ProviderDialect::Bedrock => {
                join(&self.base, "/anthropic/v1/messages", None)
            }
            Dialect::OllamaChat => join(self.root(), "/api/chat", None),
            _ => Some(self.chat.clone()),
        }
    }

    /// Where Bedrock's `call` of `model` is. `None`: its name cannot stand in a path.
    pub(super) fn bedrock(&self, model: &str, call: &str) -> Option<PathAndQuery> {
        // One segment, ARNs too: AWS takes everything else in it encoded.
        let name = Some(model).filter(|name| !name.is_empty() && !matches!(*name, "." | ".."))?;
        let name = percent_encoding::utf8_percent_encode(name, ARN);
        PathAndQuery::try_from(format!("{}/model/{name}/{call}", self.base)).ok()
    }

    /// Where Google's `method` is called for `model`. `None`: its name cannot stand in a path.
    pub(super) fn google(&self, model: &str, method: &str) -> Option<PathAndQuery> {
        // One name, one segment: nothing a caller writes leads to another path.
        let known = |name: &&str| !name.is_empty() && !matches!(*name, "." | "..") && !name.contains(['/', '\\']);
        let (collection, name) = match model.split_once('/') {
            Some((collection @ ("models" | "tunedModels"), name)) => (collection, name),
            _ => ("models", model),
        };
        let name = percent_encoding::utf8_percent_encode(Some(name).filter(known)?, NAME);
        PathAndQuery::try_from(format!("{}/{collection}/{name}:{method}", self.base)).ok()
    }

    /// Where a realtime session with `model` is opened, where the provider speaks OpenAI's Realtime API.
    pub(crate) fn realtime(&self, model: &str) -> Option<PathAndQuery> {
        if let Some(cloud) = &self.cloud {
            return cloud.realtime(model);
        }
        let speaks = matches!(self.kind, ProviderKind::OpenAi | ProviderKind::Xai | ProviderKind::OpenAiCompatible);
        let model = percent_encoding::utf8_percent_encode(model, NAME);
        PathAndQuery::try_from(format!("{}/realtime?model={model}", self.base)).ok().filter(|_| speaks)
    }

    /// The address without the version of `OpenAI`'s API: where Ollama's own begins.
    fn root(&self) -> &str {
        self.base.strip_suffix("/v1").unwrap_or(&self.base)
    }

    /// The part of a path at which Google takes and gives the bytes of files (`/upload/v1beta/files`), and what follows it.
    fn wing<'p>(&self, rest: &'p str) -> Option<(&'static str, &'p str)> {
        let wings = ["/upload", "/download"].into_iter().filter(|_| self.takes_uploads());
        wings.into_iter().find_map(|wing| Some((wing, rest.strip_prefix(wing).filter(|below| below.starts_with('/'))?)))
    }

    /// Whether files are sent to it by Google's protocol for uploads.
    pub(crate) fn takes_uploads(&self) -> bool {
        self.dialect == ProviderDialect::Gemini && self.cloud.is_none()
    }

    /// What stands before the version in its base path: where its uploads begin.
    pub(crate) fn root_path(&self) -> &str {
        self.base.rfind('/').and_then(|at| self.base.get(..at)).unwrap_or_default()
    }

    /// Whether a path below `/providers/NAME` is of Ollama's own API, which stands beside `OpenAI`'s.
    pub(crate) fn is_own(&self, rest: &str) -> bool {
        self.kind == ProviderKind::Ollama && rest.starts_with("/api/")
    }

    /// The provider's own path for what follows `/providers/NAME`, written with its whole base path, with `/v1`, or with
    /// neither: `/openai/v1/files`, `/v1/files` and `/files` are the same.
    pub(crate) fn native_path(&self, rest: &str, query: Option<&str>) -> Option<PathAndQuery> {
        if let Some(cloud) = &self.cloud {
            return cloud.native(rest, query);
        }
        let below = self.below(rest);
        if let Some((wing, _)) = self.wing(rest) {
            let version = self.base.strip_prefix(self.root_path()).unwrap_or_default();
            return join(&format!("{}{wing}{version}", self.root_path()), below, query);
        }
        match self.dialect {
            _ if self.is_own(rest) => join(self.root(), rest, query),
            // The version is the caller's to say: v1 and v2 are different APIs.
            ProviderDialect::Cohere => {
                let rest = rest.strip_prefix(&self.base).filter(|below| below.starts_with('/')).unwrap_or(rest);
                join(&self.base, rest, query)
            }
            ProviderDialect::OpenAi | ProviderDialect::Gemini => join(&self.base, below, query),
            ProviderDialect::Anthropic => join(&format!("{}/v1", self.base), below, query),
            // Its two surfaces of OpenAI's differ in their prefix.
            ProviderDialect::Bedrock => {
                let (call, model) = match rest.strip_prefix("/model/").and_then(|named| named.split_once('/')) {
                    Some((model, call)) => (call, percent_encoding::percent_decode_str(model).decode_utf8().ok()?),
                    None => return join(&self.base, rest, query),
                };
                // As AWS's own clients write it.
                let model = percent_encoding::utf8_percent_encode(&model, ARN);
                join(&self.base, &format!("/model/{model}/{call}"), query)
            }
        }
    }

    /// The part of such a path that names the resource: `/files`.
    pub(crate) fn below<'p>(&self, rest: &'p str) -> &'p str {
        if let Some(cloud) = &self.cloud {
            return cloud.below(rest);
        }
        let rest = self.wing(rest).map_or(rest, |(_, below)| below);
        let without = |prefix: &str| rest.strip_prefix(prefix).filter(|below| below.starts_with('/'));
        if self.dialect == ProviderDialect::Gemini {
            // Each version is below its own name, whichever is configured.
            let version = ["/v1beta", "/v1alpha", "/v1"].into_iter().find_map(without);
            return without(&self.base).filter(|_| !self.base.is_empty()).or(version).unwrap_or(rest);
        }
        if self.dialect == ProviderDialect::Bedrock {
            return ["/openai/v1", "/anthropic/v1", "/v1"].into_iter().find_map(without).unwrap_or(rest);
        }
        let whole = if self.base.is_empty() { None } else { without(&self.base) };
        if self.is_own(rest) {
            return rest;
        }
        match whole {
            _ if self.dialect == ProviderDialect::Cohere => {
                let rest = whole.unwrap_or(rest);
                let version = ["/v1", "/v2", "/compatibility/v1"].iter().find_map(|version| rest.strip_prefix(version));
                version.filter(|below| below.starts_with('/')).unwrap_or(rest)
            }
            Some(below) if self.base.ends_with("/v1") => below,
            Some(below) => below.strip_prefix("/v1").filter(|b| b.starts_with('/')).unwrap_or(below),
            None => without("/v1").unwrap_or(rest),
        }
    }
}

pub(super) fn join(base: &str, rest: &str, query: Option<&str>) -> Option<PathAndQuery> {
    let text = match query {
        Some(query) => format!("{base}{rest}?{query}"),
        None => format!("{base}{rest}"),
    };
    PathAndQuery::try_from(text).ok()
}

/// Where a base URL leads: its target, its origin as text, and its path without a slash at the end.
pub(super) fn destination(
    kind: &'static str,
    name: &Name,
    base: &str,
    private: bool,
) -> Result<(Target, String, String), SnapshotError> {
    let wrong = |reason: String| SnapshotError::Url { kind, name: name.clone(), reason };
    let url = url::Url::parse(base).map_err(|error| wrong(error.to_string()))?;
    let reach = if private { Reach::Private } else { Reach::Public };
    let target = Target::new(&url, reach).map_err(|error| wrong(error.to_string()))?;
    let origin = url.origin().ascii_serialization();
    Ok((target, origin, url.path().trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests;
