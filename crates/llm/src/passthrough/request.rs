//! Looking at a request, and replacing values in it.

mod bedrock;
mod gemini;
mod ollama;
mod responses;

use std::borrow::Cow;

use crate::bound::Brought;
use crate::json::{Limits, Node, document, members, node, quoted};
use crate::{Dialect, RequestError};

pub use bedrock::is_familiar;

/// Members that tell other gateways and SDKs where to send a request, with which key, or which other model to use.
/// Destinations, keys and fallbacks come from this gateway's configuration only.
const STEERING: [&str; 28] = [
    "api_base",
    "base_url",
    "api_key",
    "api_type",
    "api_version",
    "azure_ad_token",
    "content_policy_fallbacks",
    "context_window_fallback_dict",
    "context_window_fallbacks",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_bedrock_runtime_endpoint",
    "custom_llm_provider",
    "default_headers",
    "endpoint_url",
    "extra_headers",
    "fallbacks",
    // vLLM: from which host another request's keys and values are taken.
    "kv_transfer_params",
    "litellm_params",
    "mock_response",
    "model_list",
    "models",
    "preset",
    "proxy",
    "user_config",
    "vertex_credentials",
    "vertex_project",
];

/// Members whose meaning the gateway relies on: a name that only a case-blind reader takes for one is refused.
const SENSITIVE: [&str; 14] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "messages",
    "system",
    "input",
    "tools",
    "functions",
    "tool_choice",
    "n",
    "store",
];

/// What the gateway must know of a request before it is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peek {
    /// The model asked for.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether the caller wants a usage chunk (OpenAI; an Anthropic stream always has it).
    pub include_usage: bool,
    /// The caller's own bound on tokens generated: the larger one where two are given.
    pub max_output_tokens: Option<u64>,
    /// How many answers are asked for (OpenAI `n`).
    pub answers: u64,
    /// Whether the model is given tools of any kind, the provider's own included.
    pub has_tools: bool,
    /// The names of those tools, or their `type` where they have no name.
    pub tool_names: Vec<String>,
    /// Whether the provider is to store the answer, where the request says so (`store`).
    pub store: Option<bool>,
    /// Further models the request would have the provider use (an advisor tool's `model`): a policy decides on each.
    pub other_models: Vec<String>,
    /// What it brings, for the bound on what it may take.
    pub brought: Brought,
    spans: Spans,
}

/// Where in the body the values lie that may be replaced: offset and length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Spans {
    open: usize,
    model: Option<(usize, usize)>,
    stream_options: Option<(usize, usize)>,
    max_tokens: Option<(usize, usize)>,
    max_completion_tokens: Option<(usize, usize)>,
    /// Gemini, Bedrock, Ollama: where the first member of `generationConfig`, `inferenceConfig` or `options` is or would be.
    config: Option<usize>,
    config_is_empty: bool,
    /// It is there, and null.
    null_config: Option<(usize, usize)>,
    /// There is no member at all.
    is_bare: bool,
}

/// The member that bounds the output, where a request has none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CapName {
    /// `max_tokens`: Anthropic, and what most OpenAI-compatible providers know.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`: OpenAI's own, which its reasoning models insist on.
    MaxCompletionTokens,
}

impl CapName {
    /// The member's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// What to set in a request. Everything else stays byte for byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    /// The provider's name of the model.
    pub model: Option<&'a str>,
    /// Ask for usage at the end of an OpenAI stream. Nothing for other dialects or without `stream`.
    pub include_usage: bool,
    /// The bound on tokens generated: replaces every bound there is, or is added.
    pub max_output_tokens: Option<u64>,
    /// Under which name it is added.
    pub cap_name: CapName,
}

/// Look at a request. The body must be a JSON object within `limits`.
pub fn peek(dialect: Dialect, body: &[u8], limits: &Limits) -> Result<Peek, RequestError> {
    match dialect {
        Dialect::Gemini => return gemini::peek(body, limits),
        Dialect::BedrockConverse | Dialect::BedrockInvoke => return bedrock::peek(body, limits),
        Dialect::OllamaChat => return ollama::peek(body, limits),
        _ => {}
    }
    let seen = look(dialect, body, limits)?;
    // These have a model of their own for those who name none.
    let has_default = matches!(dialect, Dialect::CohereChatV1 | Dialect::CohereEmbed);
    if seen.model.is_empty() && !has_default { Err(RequestError::missing("model")) } else { Ok(seen) }
}

/// Look at a request that may name no model: then `default` is the one it means.
pub fn peek_or(default: &str, body: &[u8], limits: &Limits) -> Result<Peek, RequestError> {
    let mut seen = look(Dialect::OpenAiChat, body, limits)?;
    if seen.model.is_empty() {
        default.clone_into(&mut seen.model);
    }
    Ok(seen)
}

/// Look at a request to a path that names the model, whatever the body says.
pub fn peek_named(dialect: Dialect, model: &str, body: &[u8], limits: &Limits) -> Result<Peek, RequestError> {
    let mut seen = look(dialect, body, limits)?;
    let said = std::mem::replace(&mut seen.model, model.to_owned());
    // Anywhere else it could mean another: a policy decides on it too, but for the same name without its publisher or version.
    let name = model.rsplit('/').next().unwrap_or(model);
    let same = said.is_empty() || said == model || said == name || name.split('@').next() == Some(said.as_str());
    if !same {
        seen.other_models.push(said);
    }
    Ok(seen)
}

/// What a request in a dialect that says everything in its body says; the model is empty if it names none.
fn look(dialect: Dialect, body: &[u8], limits: &Limits) -> Result<Peek, RequestError> {
    let root = document(body, limits)?;
    let mut seen = Peek::of(&root, body);
    for (name, value) in root.members() {
        refuse_steering(name)?;
        let span = Some(value.span_in(body));
        let null = value.is_null();
        match name.as_ref() {
            "model" => {
                let name = value.text().filter(|name| !name.is_empty());
                seen.model = name.ok_or_else(|| RequestError::wrong("model", "a non-empty string"))?.into_owned();
                seen.spans.model = span;
            }
            "store" if !null => seen.store = value.boolean(),
            "stream" if !null => seen.stream = boolean(name, value)?,
            "stream_options" => {
                seen.spans.stream_options = span;
                seen.include_usage = include_usage(value)?;
            }
            "max_tokens" if !is_embedding(dialect) && dialect != Dialect::OpenAiResponses => {
                seen.spans.max_tokens = span;
                seen.bound(name, value)?;
            }
            // Its one bound; what other dialects call theirs means nothing there.
            "max_output_tokens" if dialect == Dialect::OpenAiResponses => {
                seen.spans.max_tokens = span;
                seen.bound(name, value)?;
            }
            "input" | "prompt" if dialect == Dialect::OpenAiResponses && !null => seen.brought(name, value),
            "max_completion_tokens" if dialect == Dialect::OpenAiChat => {
                seen.spans.max_completion_tokens = span;
                seen.bound(name, value)?;
            }
            "n" if !null && dialect == Dialect::OpenAiChat => seen.answers = seen.answers.max(whole(name, value)?),
            // vLLM generates so many, whatever `n` says.
            "best_of" if !null && dialect == Dialect::OpenAiChat => {
                seen.answers = seen.answers.max(whole(name, value)?);
            }
            // llama.cpp's server believes it more than `max_tokens`, and others have the second.
            "n_predict" | "max_new_tokens" if !null && dialect == Dialect::OpenAiChat => {
                let (param, why) = (name.to_string(), "the output is bounded by max_tokens");
                return Err(RequestError::Forbidden { param, why });
            }
            "tools" | "functions" if !null => seen.tools(name, value)?,
            // Vercel's gateway takes fallback models here.
            "providerOptions" if !null => {
                let models = value.get("gateway").and_then(|gateway| gateway.get("models"));
                let models = models.map(Node::items).unwrap_or_default().iter().filter_map(Node::text);
                seen.other_models.extend(models.map(Cow::into_owned));
            }
            // Groq's systems of several models take which here (console.groq.com/docs/compound).
            "compound_custom" if !null => {
                let models = value.get("models").map(Node::members).unwrap_or_default().iter();
                seen.other_models.extend(models.filter_map(|(_, model)| model.text().map(Cow::into_owned)));
                seen.has_tools |= value.get("tools").is_some();
            }
            "mcp_servers" | "plugins" | "connectors" | "search_parameters" | "web_search_options" if !null => {
                seen.has_tools = true;
                seen.tool_names.push(name.to_string());
            }
            _ => {}
        }
    }
    // Its streams tell the usage unasked.
    seen.include_usage |= dialect == Dialect::OpenAiResponses;
    Ok(seen)
}

/// The models that a request of a provider's own API names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Models {
    /// Its own: the outermost `model`.
    pub own: Option<String>,
    /// All others, wherever they stand, each once: a policy decides on each.
    pub others: Vec<String>,
}

/// More models than anybody's request names.
const MOST_MODELS: usize = 64;

/// The models that a request in no dialect of ours names. The body must be a JSON object within `limits`; what steers is
/// refused as in those that are understood.
pub fn models(body: &[u8], limits: &Limits) -> Result<Models, RequestError> {
    let mut found = Models::default();
    for member in members(body, limits)? {
        refuse_steering(&member.name)?;
        match member.name.as_ref() {
            // Whatever stands there is the caller's own affair.
            "metadata" => {}
            "model" => found.own = node(member.raw, limits)?.text().map(Cow::into_owned),
            _ if member.raw.starts_with(['{', '[']) => found.collect(&node(member.raw, limits)?)?,
            _ => {}
        }
    }
    Ok(found)
}

impl Models {
    pub(crate) fn collect(&mut self, value: &Node<'_>) -> Result<(), RequestError> {
        for (name, value) in value.members() {
            match value.text() {
                Some(model) if fold(name) == "model" => self.add(model)?,
                _ => self.collect(value)?,
            }
        }
        value.items().iter().try_for_each(|item| self.collect(item))
    }

    fn add(&mut self, model: Cow<'_, str>) -> Result<(), RequestError> {
        if self.others.iter().any(|other| *other == model) {
            return Ok(());
        }
        if self.others.len() >= MOST_MODELS {
            return Err(RequestError::wrong("model", "one of a few models"));
        }
        self.others.push(model.into_owned());
        Ok(())
    }
}

/// A request to Anthropic's messages as clouds take it: the path names the model, the body `anthropic_version`
/// (docs.anthropic.com/en/api/claude-on-vertex-ai). Every other member stays as it is.
pub fn anthropic_in_a_cloud(body: &[u8], version: &str) -> Result<Vec<u8>, RequestError> {
    let mut out = format!("{{\"anthropic_version\":{}", quoted(version));
    for member in members(body, &Limits { nodes: usize::MAX, ..Limits::REQUEST })? {
        if !matches!(member.name.as_ref(), "model" | "anthropic_version") {
            out.extend([",", &quoted(&member.name), ":", member.raw]);
        }
    }
    out.push('}');
    Ok(out.into_bytes())
}

/// Whether nothing is generated: a bound there may be is of something else.
fn is_embedding(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::OpenAiEmbeddings | Dialect::CohereEmbed)
}

/// `body` with the values of `edits` set in place.
pub fn splice(dialect: Dialect, body: &[u8], edits: &Edits<'_>) -> Result<Vec<u8>, RequestError> {
    let limits = if dialect == Dialect::OpenAiEmbeddings { Limits::EMBEDDINGS } else { Limits::REQUEST };
    Ok(peek(dialect, body, &limits)?.splice(dialect, body, edits))
}

/// The object a bound stands in, and its name there, where it is not a member of the request itself.
const fn config_names(dialect: Dialect) -> Option<(&'static str, &'static str)> {
    match dialect {
        Dialect::Gemini => Some(("generationConfig", "maxOutputTokens")),
        Dialect::BedrockConverse | Dialect::BedrockInvoke => Some(("inferenceConfig", "maxTokens")),
        Dialect::OllamaChat => Some(("options", "num_predict")),
        _ => None,
    }
}

impl Peek {
    /// Of a request that asks for nothing but one answer.
    fn of(root: &Node<'_>, body: &[u8]) -> Self {
        let open = root.offset_in(body) + 1;
        Self {
            model: String::new(),
            stream: false,
            include_usage: false,
            max_output_tokens: None,
            answers: 1,
            has_tools: false,
            tool_names: Vec::new(),
            store: None,
            other_models: Vec::new(),
            brought: Brought::read(root, body.len()),
            spans: Spans { open, is_bare: root.members().is_empty(), ..Spans::default() },
        }
    }

    /// The first member of `config` is where a bound would be set.
    fn configured(&mut self, config: &Node<'_>, body: &[u8]) {
        self.spans.config = Some(config.offset_in(body) + 1);
        self.spans.config_is_empty = config.members().is_empty();
    }

    /// [`splice`] for the very body that was looked at, without walking it again.
    pub fn splice(&self, dialect: Dialect, body: &[u8], edits: &Edits<'_>) -> Vec<u8> {
        let mut changes: Vec<(usize, usize, String)> = Vec::new();
        let mut added = String::new();
        if let (Some((at, length)), Some(model)) = (self.spans.model, edits.model) {
            let named = if dialect == Dialect::Gemini { quoted(&format!("models/{model}")) } else { quoted(model) };
            changes.push((at, length, named));
        }
        if let (None, Some(model), true) = (self.spans.model, edits.model, dialect == Dialect::OpenAiChat) {
            added.extend(["\"model\":", &quoted(model), ","]);
        }
        if edits.include_usage && self.stream && dialect == Dialect::OpenAiChat && !self.include_usage {
            match self.spans.stream_options {
                Some((at, length)) => {
                    let old = body.get(at..at + length).unwrap_or_default();
                    changes.push((at, length, with_usage(&String::from_utf8_lossy(old))));
                }
                None => added.push_str(r#""stream_options":{"include_usage":true},"#),
            }
        }
        if let Some(bound) = edits.max_output_tokens.filter(|_| !is_embedding(dialect)) {
            let present = [self.spans.max_tokens, self.spans.max_completion_tokens];
            for (at, length) in present.into_iter().flatten() {
                // A null beside a real bound stays what it is.
                if body.get(at..at + length) != Some(b"null") || self.max_output_tokens.is_none() {
                    changes.push((at, length, bound.to_string()));
                }
            }
            if let (Some(names), [None, None]) = (config_names(dialect), present) {
                self.bound_in_config(names, bound, (&mut changes, &mut added));
            } else if present == [None, None] {
                let responses = dialect == Dialect::OpenAiResponses;
                let name = if responses { "max_output_tokens" } else { edits.cap_name.as_str() };
                added.extend(["\"", name, "\":", &bound.to_string(), ","]);
            }
        }
        if !added.is_empty() {
            if self.spans.is_bare {
                added.pop();
            }
            changes.push((self.spans.open, 0, added));
        }
        apply(body, changes)
    }

    /// A bound that stands in an object of its own, where there is none yet.
    fn bound_in_config(
        &self,
        (config, name): (&str, &str),
        bound: u64,
        (changes, added): (&mut Vec<(usize, usize, String)>, &mut String),
    ) {
        let comma = if self.spans.config_is_empty { "" } else { "," };
        match (self.spans.config, self.spans.null_config) {
            (Some(at), _) => changes.push((at, 0, format!("\"{name}\":{bound}{comma}"))),
            (None, Some((at, length))) => changes.push((at, length, format!("{{\"{name}\":{bound}}}"))),
            (None, None) => added.extend(["\"", config, "\":{\"", name, "\":", &bound.to_string(), "},"]),
        }
    }

    fn bound(&mut self, name: &str, value: &Node<'_>) -> Result<(), RequestError> {
        if !value.is_null() {
            let bound = whole(name, value)?;
            self.max_output_tokens = self.max_output_tokens.max(Some(bound));
        }
        Ok(())
    }

    fn tools(&mut self, name: &str, list: &Node<'_>) -> Result<(), RequestError> {
        if !list.is_array() {
            return Err(RequestError::wrong(name, "an array"));
        }
        list.items().iter().for_each(|tool| self.named_tool(tool));
        Ok(())
    }

    fn named_tool(&mut self, tool: &Node<'_>) {
        self.has_tools = true;
        let function = tool.get("function").or_else(|| tool.get("custom")).unwrap_or(tool);
        let name = function.text_of("name").or_else(|| tool.text_of("name")).or_else(|| tool.text_of("type"));
        self.tool_names.extend(name.map(Cow::into_owned));
        let models = [Some(tool), tool.get("parameters")];
        let native = tool.text_of("type").is_some_and(|kind| kind != "function" && kind != "custom");
        if native {
            let models = models.into_iter().flatten().filter_map(|of: &Node<'_>| of.text_of("model"));
            self.other_models.extend(models.map(Cow::into_owned));
            // A namespace of OpenAI's holds tools.
            tool.get("tools").map(Node::items).unwrap_or_default().iter().for_each(|inner| self.named_tool(inner));
        }
    }
}

/// Refuse a member that steers, or whose name only differs from an important one in a way some readers ignore.
pub(crate) fn refuse_steering(name: &str) -> Result<(), RequestError> {
    let folded = fold(name);
    let forbidden = |why| Err(RequestError::Forbidden { param: name.chars().take(64).collect(), why });
    if STEERING.contains(&&*folded) {
        return forbidden("destinations, keys and fallbacks come from the gateway's configuration");
    }
    if folded != name && SENSITIVE.contains(&&*folded) {
        return forbidden("its name differs from a known one only in case");
    }
    Ok(())
}

/// Names that readers which ignore case (Go's encoding/json) hold equal get the same form.
pub(super) fn fold(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    name.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

fn boolean(name: &str, value: &Node<'_>) -> Result<bool, RequestError> {
    value.boolean().ok_or_else(|| RequestError::wrong(name, "true or false"))
}

fn whole(name: &str, value: &Node<'_>) -> Result<u64, RequestError> {
    value.whole().ok_or_else(|| RequestError::wrong(name, "a whole number"))
}

fn include_usage(options: &Node<'_>) -> Result<bool, RequestError> {
    if options.is_null() {
        return Ok(false);
    }
    if !options.is_object() {
        return Err(RequestError::wrong("stream_options", "an object"));
    }
    let Some(include) = options.get("include_usage") else { return Ok(false) };
    include.boolean().ok_or_else(|| RequestError::wrong("stream_options.include_usage", "true or false"))
}

/// `stream_options` with `include_usage` true and the rest as it was.
fn with_usage(options: &str) -> String {
    let members = members(options.as_bytes(), &Limits::REQUEST).unwrap_or_default();
    if let Some(member) = members.iter().find(|member| member.name == "include_usage") {
        let changed = apply(options.as_bytes(), vec![(member.at, member.raw.len(), "true".to_owned())]);
        return String::from_utf8(changed).unwrap_or_default();
    }
    let mut all = vec![r#""include_usage":true"#.to_owned()];
    all.extend(members.iter().map(|member| format!("{}:{}", quoted(&member.name), member.raw)));
    format!("{{{}}}", all.join(","))
}

/// `body` with each `(offset, length, text)` replaced.
pub(crate) fn apply(body: &[u8], mut changes: Vec<(usize, usize, String)>) -> Vec<u8> {
    changes.sort_by_key(|(at, _, _)| *at);
    let grown: usize = changes.iter().map(|(_, _, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + grown);
    let mut from = 0;
    for (at, length, text) in changes {
        out.extend_from_slice(body.get(from..at).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        from = at + length;
    }
    out.extend_from_slice(body.get(from..).unwrap_or_default());
    out
}
