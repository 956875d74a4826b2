//! The canonical model: what every dialect is read into and every provider's request is written from.
//!
//! Values the gateway has no need to understand stay JSON text ([`Json`]): numbers keep their digits, schemas and
//! tool arguments their exact form. Members nobody modelled are kept in `extra`, under the name of the dialect they
//! came in; the writer of another dialect refuses them by name or drops them by its documented table, never silently.

mod event;
mod usage;

use std::sync::Arc;

use crate::Dialect;

pub use event::Event;
pub use usage::Usage;

/// A piece of valid JSON, as its sender wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(Arc<str>);

impl Json {
    /// Take text that is known to be JSON.
    pub(crate) fn trusted(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of a JSON number.
    pub fn as_f64(&self) -> Option<f64> {
        self.0.parse().ok()
    }
}

impl From<&serde_json::Value> for Json {
    fn from(value: &serde_json::Value) -> Self {
        Self(Arc::from(value.to_string()))
    }
}

/// A member nobody modelled, kept under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// The member's name.
    pub name: String,
    /// Its value.
    pub value: Json,
}

/// A request for a chat completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The dialect it came in: names what `extra` means.
    pub dialect: Dialect,
    /// The model asked for.
    pub model: String,
    /// The conversation, oldest first; instructions are messages of role system or developer.
    pub messages: Vec<Message>,
    /// Whether the first message stood apart from the others (Anthropic's `system`).
    pub apart: bool,
    /// Functions the model may call.
    pub tools: Vec<Tool>,
    /// Which of them it may or must call.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once.
    pub parallel_tool_calls: Option<bool>,
    /// Upper bound on tokens generated, reasoning included.
    pub max_output_tokens: Option<u64>,
    /// Sampling temperature (0 to 2; Anthropic 0 to 1).
    pub temperature: Option<Json>,
    /// Nucleus sampling.
    pub top_p: Option<Json>,
    /// Sampling from the k likeliest tokens (Anthropic).
    pub top_k: Option<u64>,
    /// How else to sample, and how often.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The form of the answer.
    pub output: Output,
    /// How much to think first.
    pub reasoning: Option<Reasoning>,
    /// An opaque name of the end user.
    pub user: Option<String>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether the caller wants the usage at the end of the stream (Anthropic clients always get it).
    pub include_usage: bool,
    /// What is not modelled, by name.
    pub extra: Vec<Extra>,
}

impl Request {
    /// A request that asks `model` one question. Used by prompt services; `extra` is empty.
    pub fn from_prompt(model: &str, prompt: &str, output: Output) -> Self {
        Self {
            dialect: Dialect::OpenAiChat,
            model: model.to_owned(),
            messages: vec![Message::new(Role::User, vec![Part::text(prompt)])],
            apart: false,
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            max_output_tokens: None,
            temperature: None,
            top_p: None,
            top_k: None,
            sampling: Sampling::default(),
            stop: Vec::new(),
            output,
            reasoning: None,
            user: None,
            stream: false,
            include_usage: false,
            extra: Vec::new(),
        }
    }

    /// The JSON path of the content of message `index` in the request it came in.
    pub(crate) fn path(&self, index: usize) -> String {
        match (self.dialect, self.apart, index) {
            (Dialect::OpenAiResponses, true, 0) => "instructions".to_owned(),
            (Dialect::OpenAiResponses, ..) => match self.messages.get(index).and_then(|message| message.item) {
                Some(item) => format!("input[{item}].content"),
                None => "input".to_owned(),
            },
            (Dialect::Gemini, true, 0) => "systemInstruction.parts".to_owned(),
            (Dialect::Gemini, apart, index) => format!("contents[{}].parts", index.saturating_sub(usize::from(apart))),
            (_, true, 0) => "system".to_owned(),
            (_, apart, index) => format!("messages[{}].content", index.saturating_sub(usize::from(apart))),
        }
    }

    /// The JSON path of message `index` itself, for members beside its content.
    pub(crate) fn message_path(&self, index: usize) -> String {
        let content = self.path(index);
        content.rsplit_once('.').map_or(content.clone(), |(message, _)| message.to_owned())
    }

    /// The function whose call `id` stands nearest before message `at`.
    pub(crate) fn function_of(&self, at: usize, id: &str) -> Option<&str> {
        let before = self.messages.get(..at)?.iter().rev().flat_map(|message| message.parts.iter().rev());
        let mut calls = before.filter_map(|part| if let Body::ToolCall(call) = &part.body { Some(call) } else { None });
        calls.find(|call| call.id == id).map(|call| call.name.as_str())
    }

    /// What the dialect it came in calls a member, given `OpenAI`'s name and Gemini's.
    pub(crate) fn called(&self, openai: &'static str, gemini: &'static str) -> &'static str {
        if self.dialect == Dialect::Gemini { gemini } else { openai }
    }

    /// What a part of a kind nobody modelled is told apart by.
    pub(crate) fn kind_of(&self, kind: &str) -> String {
        if self.dialect == Dialect::Gemini { format!(".{kind}") } else { ".type".to_owned() }
    }

    /// The last text of role user, or empty.
    pub fn last_user_text(&self) -> String {
        let users = self.messages.iter().rev().filter(|message| message.role == Role::User);
        users.map(Message::text).find(|text| !text.is_empty()).unwrap_or_default()
    }
}

/// How to sample besides temperature and its kin. Anthropic has none of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// How many answers (`n`, `candidateCount`).
    pub answers: Option<u64>,
    /// Makes sampling repeatable as far as the provider can.
    pub seed: Option<Json>,
    /// Against what was said already.
    pub presence_penalty: Option<Json>,
    /// Against what was said often.
    pub frequency_penalty: Option<Json>,
    /// Whether the probability of each token is told.
    pub logprobs: Option<bool>,
    /// Of how many likely tokens beside it.
    pub top_logprobs: Option<u64>,
}

impl Sampling {
    /// The first member that asks for anything, in `OpenAI`'s name and in Gemini's.
    pub(crate) fn asks(&self) -> Option<(&'static str, &'static str)> {
        let some = |number: &Option<Json>| number.as_ref().is_some_and(|number| number.as_f64() != Some(0.0));
        if self.answers.is_some_and(|answers| answers != 1) {
            Some(("n", "generationConfig.candidateCount"))
        } else if self.seed.is_some() {
            Some(("seed", "generationConfig.seed"))
        } else if some(&self.presence_penalty) {
            Some(("presence_penalty", "generationConfig.presencePenalty"))
        } else if some(&self.frequency_penalty) {
            Some(("frequency_penalty", "generationConfig.frequencyPenalty"))
        } else if self.logprobs == Some(true) {
            Some(("logprobs", "generationConfig.responseLogprobs"))
        } else if self.top_logprobs.is_some_and(|top| top > 0) {
            Some(("top_logprobs", "generationConfig.logprobs"))
        } else {
            None
        }
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// Instructions, as newer OpenAI models call them.
    Developer,
    /// The person or program asking; also carries tool results.
    User,
    /// The model.
    Assistant,
}

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub parts: Vec<Part>,
    /// A participant's name (OpenAI).
    pub name: Option<String>,
    /// Where the turn begins in the request it came in, if it was put together from several items (Responses).
    pub item: Option<usize>,
    /// What is not modelled.
    pub extra: Vec<Extra>,
}

impl Message {
    /// A turn with nothing but parts.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self { role, parts, name: None, item: None, extra: Vec::new() }
    }

    /// All its text, joined.
    pub fn text(&self) -> String {
        text_of(&self.parts)
    }
}

/// The text of `parts`, joined.
pub(crate) fn text_of(parts: &[Part]) -> String {
    parts.iter().filter_map(|part| if let Body::Text(text) = &part.body { Some(text.as_str()) } else { None }).collect()
}

/// One piece of a turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it is.
    pub body: Body,
    /// Anthropic's `cache_control`, also understood by several OpenAI-compatible providers.
    pub cache_control: Option<Json>,
    /// Sources the text leans on.
    pub citations: Vec<Citation>,
    /// What is not modelled.
    pub extra: Vec<Extra>,
}

impl Part {
    /// A part with nothing but its body.
    pub fn new(body: Body) -> Self {
        Self { body, cache_control: None, citations: Vec::new(), extra: Vec::new() }
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Body::Text(text.into()))
    }
}

/// How a signature of Google's begins here. Others are Anthropic's: neither takes the other's.
pub(crate) const GEMINI_SIGNATURE: &str = "gemini:";

/// How what `OpenAI` sealed begins here: then come the item's id, a colon, and the sealed reasoning.
pub(crate) const OPENAI_SIGNATURE: &str = "openai:";

/// What a part holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Text.
    Text(String),
    /// A picture.
    Image(Source),
    /// A document with its title or file name.
    Document {
        /// Where it is.
        source: Source,
        /// Its title or file name.
        title: Option<String>,
    },
    /// Speech or other sound, in base64.
    Audio {
        /// Its media type.
        media_type: String,
        /// The data.
        data: String,
    },
    /// The model calls a function.
    ToolCall(ToolCall),
    /// What a called function gave.
    ToolResult {
        /// The call's id.
        call: String,
        /// The result.
        parts: Vec<Part>,
        /// Whether the call failed (Anthropic).
        is_error: bool,
    },
    /// The model's reasoning, with the provider's signature where it signs.
    Thinking {
        /// The reasoning.
        text: String,
        /// The provider's proof that it is its own; Google's begins with [`GEMINI_SIGNATURE`], OpenAI's with
        /// [`OPENAI_SIGNATURE`].
        signature: Option<String>,
    },
    /// Reasoning only the provider can read.
    RedactedThinking(String),
    /// The model declines, in words.
    Refusal(String),
    /// A part of a kind that is not modelled.
    Other {
        /// Its `type`.
        kind: String,
        /// The whole part.
        raw: Json,
    },
}

/// Where media is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Base64 in the request.
    Base64 {
        /// Its media type.
        media_type: String,
        /// The data.
        data: String,
    },
    /// At a URL the provider fetches.
    Url(String),
    /// A file stored at the provider.
    File(String),
    /// Plain text in the request.
    Text(String),
}

/// A source a text leans on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Citation {
    /// Where it is.
    pub url: String,
    /// Its title.
    pub title: Option<String>,
    /// The words cited (Anthropic).
    pub cited_text: Option<String>,
}

/// A function call by the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Names the call, so that its result can be matched.
    pub id: String,
    /// The function.
    pub name: String,
    /// The arguments as the model wrote them: a JSON object, unless the model was cut off.
    pub arguments: String,
    /// Google's signature of the thought behind it, without which its newer models do not take the call back.
    pub signature: Option<String>,
}

/// A function the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub schema: Option<Json>,
    /// Whether the arguments must obey the schema.
    pub strict: Option<bool>,
    /// See [`Part::cache_control`].
    pub cache_control: Option<Json>,
    /// The whole tool, where it is not a function (a provider's own tool), with its `type`.
    pub native: Option<(String, Json)>,
    /// What is not modelled.
    pub extra: Vec<Extra>,
}

/// Which tools may or must be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Tool(String),
    /// Another form, as it came.
    Other(Json),
}

/// The form of the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Text.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that obeys a schema.
    JsonSchema {
        /// A name for the schema (OpenAI).
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// The JSON Schema.
        schema: Json,
        /// Whether the model is held to it.
        strict: Option<bool>,
    },
}

/// How much to think before answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reasoning {
    /// Not at all.
    Off,
    /// As much as the model likes.
    Auto,
    /// OpenAI's `reasoning_effort`, Anthropic's `output_config.effort`: `minimal`, `low`, `medium`, `high`, ...
    Effort(String),
    /// At most so many tokens.
    Budget(u64),
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The provider's dialect: names what an unmodelled part means.
    pub dialect: Dialect,
    /// The provider's id of it.
    pub id: Option<String>,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// When, in seconds since the epoch.
    pub created: Option<u64>,
    /// The answers: one, unless several were asked for.
    pub choices: Vec<Choice>,
    /// What it took.
    pub usage: Usage,
}

impl Response {
    /// The text of the first answer.
    pub fn text(&self) -> String {
        self.choices.first().map(|choice| text_of(&choice.parts)).unwrap_or_default()
    }
}

/// One of the answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Which, from 0.
    pub index: u32,
    /// What was said.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub stop: Stop,
    /// How likely each token was, where that was asked for.
    pub logprobs: Vec<TokenLogprob>,
}

/// A token with its log probability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLogprob {
    /// Its text.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: Json,
    /// Others that were likely at its place, with theirs.
    pub top: Vec<(String, Json)>,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The model was done.
    EndTurn,
    /// A stop text was met; which one, where the provider says so.
    StopSequence(Option<String>),
    /// The bound on tokens was reached.
    MaxTokens,
    /// The model waits for tool results.
    ToolUse,
    /// The model or a filter declined; the explanation, where there is one.
    Refusal(Option<String>),
    /// The model's context is full.
    ContextWindow,
    /// The provider paused a long turn of its own tools (Anthropic `pause_turn`).
    Pause,
}
