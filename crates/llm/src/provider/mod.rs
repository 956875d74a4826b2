//! The side providers answer on: requests are written, answers, streams and errors read.

pub(crate) mod anthropic;
pub(crate) mod bedrock;
pub(crate) mod cohere;
pub(crate) mod gemini;
pub(crate) mod neutral;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod openai_responses;
pub(crate) mod usage;

use crate::codec::frames::Frames;
use crate::codec::sse::{SseError, SseEvent};
use crate::json::{Kind, Limits, Node, node};
use crate::model::{Event, Request, Response, Usage};
use crate::passthrough::CapName;
use crate::{Dialect, Framing, ProviderError, RequestError, ResponseError};

/// How a provider of OpenAI's dialect differs from the others: some refuse every member they do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Flavour {
    /// OpenAI itself, and Azure: `max_completion_tokens`, `user`.
    OpenAi,
    /// Everybody else: `max_tokens`; earlier reasoning is not sent back.
    #[default]
    Compatible,
    /// Compatible, and earlier reasoning is sent back as `reasoning_content` (`DeepSeek` insists in a tool loop).
    Thinking,
    /// Compatible, and usage comes unasked: `stream_options` is refused (Perplexity).
    Strict,
    /// The same, and every member it does not know is refused: the seed is called `random_seed` (docs.mistral.ai/api).
    Mistral,
}

impl Flavour {
    /// The flavour of a provider kind as the configuration names it.
    pub fn of_kind(kind: &str) -> Self {
        match kind {
            "openai" | "azure" => Self::OpenAi,
            "deepseek" | "openrouter" | "vllm" | "llamacpp" => Self::Thinking,
            "perplexity" => Self::Strict,
            "mistral" => Self::Mistral,
            _ => Self::Compatible,
        }
    }

    /// Whether a stream must be asked for its usage (`stream_options.include_usage`).
    pub const fn asks_usage(self) -> bool {
        !matches!(self, Self::Strict | Self::Mistral)
    }

    /// The name of the bound on tokens generated.
    pub const fn cap_name(self) -> CapName {
        match self {
            Self::OpenAi => CapName::MaxCompletionTokens,
            _ => CapName::MaxTokens,
        }
    }
}

impl From<Flavour> for CapName {
    fn from(flavour: Flavour) -> Self {
        flavour.cap_name()
    }
}

/// `request` as the body for a provider of `dialect`. What it cannot express is refused by name.
pub(crate) fn encode(dialect: Dialect, flavour: Flavour, request: &Request) -> Result<Vec<u8>, RequestError> {
    match dialect {
        Dialect::AnthropicMessages => anthropic::request(request).map(String::into_bytes),
        Dialect::OpenAiChat => openai::request(request, flavour).map(String::into_bytes),
        Dialect::Gemini => gemini::request(request).map(String::into_bytes),
        Dialect::BedrockConverse => bedrock::request(request).map(String::into_bytes),
        Dialect::OpenAiResponses => openai_responses::request(request, flavour).map(String::into_bytes),
        Dialect::CohereChat => cohere::request(request).map(String::into_bytes),
        Dialect::OllamaChat => ollama::request(request).map(String::into_bytes),
        Dialect::OpenAiEmbeddings | Dialect::BedrockInvoke | Dialect::CohereChatV1 | Dialect::CohereEmbed => {
            Err(RequestError::unsupported("model", "it is not a chat model"))
        }
    }
}

/// A provider's complete answer.
pub(crate) fn decode(dialect: Dialect, body: &[u8]) -> Result<Response, ResponseError> {
    let text = std::str::from_utf8(body).map_err(|_| ResponseError::Shape("text"))?;
    let root = node(text, &Limits::RESPONSE)?;
    if !root.is_object() {
        return Err(ResponseError::Shape("object"));
    }
    // OpenRouter reports some failures with status 200.
    if root.get("error").is_some()
        && ["choices", "content", "candidates", "message"].iter().all(|name| root.get(name).is_none())
    {
        return Err(ResponseError::Failed(error_of(&root)));
    }
    match dialect {
        Dialect::AnthropicMessages => anthropic::response(&root),
        Dialect::OpenAiChat => openai::response(&root),
        Dialect::Gemini => gemini::response(&root),
        Dialect::BedrockConverse => bedrock::response(&root),
        Dialect::OpenAiResponses => openai_responses::response(&root),
        Dialect::CohereChat => cohere::response(&root),
        Dialect::OllamaChat => ollama::response(&root),
        Dialect::OpenAiEmbeddings | Dialect::BedrockInvoke | Dialect::CohereChatV1 | Dialect::CohereEmbed => {
            Err(ResponseError::Shape("choices"))
        }
    }
}

/// Reads a provider's stream into canonical events. Any chunking gives the same events.
#[derive(Debug)]
pub struct Decoder {
    frames: Frames,
    inner: Inner,
    failed: bool,
}

#[derive(Debug)]
enum Inner {
    OpenAi(openai::Stream),
    Cohere(cohere::Stream),
    Ollama(ollama::Stream),
    Anthropic(anthropic::Stream),
    Gemini(gemini::Stream),
    Bedrock(bedrock::Stream),
    Responses(openai_responses::Stream),
}

impl Inner {
    fn take(&mut self, event: &SseEvent, events: &mut Vec<Event>) {
        match self {
            Self::OpenAi(stream) => stream.take(event, events),
            Self::Cohere(stream) => stream.take(event, events),
            Self::Ollama(stream) => stream.take(event, events),
            Self::Anthropic(stream) => stream.take(event, events),
            Self::Gemini(stream) => stream.take(event, events),
            Self::Bedrock(stream) => stream.take(event, events),
            Self::Responses(stream) => stream.take(event, events),
        }
    }
}

impl Decoder {
    /// A decoder for a provider of `dialect`.
    pub fn new(dialect: Dialect) -> Self {
        Self::framed(dialect, dialect.framing())
    }

    /// The same for a stream whose framing is not the dialect's usual one.
    pub fn framed(dialect: Dialect, framing: Framing) -> Self {
        let inner = match dialect {
            Dialect::AnthropicMessages => Inner::Anthropic(anthropic::Stream::default()),
            Dialect::Gemini => Inner::Gemini(gemini::Stream::default()),
            Dialect::BedrockConverse => Inner::Bedrock(bedrock::Stream::default()),
            Dialect::OpenAiResponses => Inner::Responses(openai_responses::Stream::default()),
            Dialect::CohereChat => Inner::Cohere(cohere::Stream::default()),
            Dialect::OllamaChat => Inner::Ollama(ollama::Stream::default()),
            _ => Inner::OpenAi(openai::Stream::default()),
        };
        Self { frames: Frames::new(framing), inner, failed: false }
    }

    /// Take `chunk`, append its events. An error means that the stream cannot be read on; later bytes are ignored.
    pub fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), SseError> {
        if self.failed {
            return Ok(());
        }
        let inner = &mut self.inner;
        let result = self.frames.feed(chunk, |event, _| inner.take(&event, events));
        self.failed = result.is_err();
        result
    }

    /// The provider has closed the stream, `clean`ly or not: appends [`Event::End`] where what came was a complete
    /// answer without its terminal event. Says whether the answer is complete.
    pub fn finish(&mut self, clean: bool, events: &mut Vec<Event>) -> bool {
        let last = if clean && !self.failed { self.frames.finish().filter(is_whole) } else { None };
        if let Some(event) = &last {
            self.inner.take(event, events);
        }
        let clean = clean && !self.failed;
        match &mut self.inner {
            Inner::OpenAi(stream) => stream.finish(clean, events),
            Inner::Anthropic(stream) => stream.is_ended(),
            Inner::Cohere(stream) => stream.is_ended(),
            Inner::Ollama(stream) => stream.is_ended(),
            Inner::Gemini(stream) => stream.finish(clean, events),
            Inner::Bedrock(stream) => stream.finish(clean, events),
            Inner::Responses(stream) => stream.is_ended(),
        }
    }

    /// Usage seen so far.
    pub fn usage(&self) -> Usage {
        match &self.inner {
            Inner::OpenAi(stream) => stream.usage(),
            Inner::Cohere(stream) => stream.usage(),
            Inner::Ollama(stream) => stream.usage(),
            Inner::Anthropic(stream) => stream.usage(),
            Inner::Gemini(stream) => stream.usage(),
            Inner::Bedrock(stream) => stream.usage(),
            Inner::Responses(stream) => stream.usage(),
        }
    }
}

/// Whether an event that no empty line ended is there to its last byte: cut-off JSON is no JSON.
pub(crate) fn is_whole(event: &SseEvent) -> bool {
    event.data.trim() == "[DONE]" || node(&event.data, &Limits::RESPONSE).is_ok_and(|data| data.is_object())
}

/// Longest text of a provider's error that is passed on, in characters.
const MESSAGE: usize = 2_000;
/// Longest code, type or parameter name.
const CODE: usize = 100;

/// What a provider's error answer says. Any form is understood: OpenAI's, Anthropic's, a bare `message` or `detail`
/// (Mistral, `FastAPI`), an `error` that is only text (Venice), plain text; HTML is not repeated.
pub fn provider_error(status: u16, body: &[u8]) -> ProviderError {
    let text = String::from_utf8_lossy(body);
    let mut error = match node(&text, &Limits::RESPONSE) {
        Ok(root) => error_of(&root),
        Err(_) if text.trim_start().starts_with('<') => ProviderError::default(),
        Err(_) => ProviderError { message: clean(&text, MESSAGE), ..ProviderError::default() },
    };
    error.status = Some(status);
    if error.message.is_empty() {
        error.message = format!("The provider answered with status {status}.");
    }
    error
}

/// The error in `root`, or in its member `error`.
pub(crate) fn error_of(root: &Node<'_>) -> ProviderError {
    // Google wraps its errors in an array, others list several.
    let root = root.items().first().unwrap_or(root);
    let inner = root.get("error").or_else(|| root.get("errors")?.items().first()).unwrap_or(root);
    if let Some(message) = inner.text() {
        return ProviderError { message: clean(&message, MESSAGE), ..ProviderError::default() };
    }
    let text = |name: &str, most: usize| {
        inner.get(name).and_then(|value| match value.kind {
            Kind::String { .. } => value.text().map(|text| clean(&text, most)),
            Kind::Number => Some(clean(value.raw, most)),
            _ => None,
        })
    };
    let detail = || {
        let detail = inner.get("detail").or_else(|| root.get("detail"))?;
        // FastAPI: a text, or a list of {loc, msg, type}.
        detail.text().or_else(|| detail.items().first()?.text_of("msg")).map(|text| clean(&text, MESSAGE))
    };
    // Google's `status` is a name.
    let google = text("status", CODE).filter(|status| status.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
    let kind = text("type", CODE).filter(|kind| kind != "error").or(google);
    let status = ["status_code", "code", "status"]
        .iter()
        .find_map(|name| inner.get(name)?.whole())
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (400..600).contains(status));
    ProviderError {
        status,
        kind,
        code: text("code", CODE),
        param: text("param", CODE),
        message: ["message", "Message", "msg", "error_description"]
            .iter()
            .find_map(|name| text(name, MESSAGE))
            .or_else(detail)
            .unwrap_or_default(),
    }
}

/// `text` in at most `most` characters, without control characters.
fn clean(text: &str, most: usize) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_error_is_understood() {
        let read = |status, body: &str| provider_error(status, body.as_bytes());
        let openai = read(
            404,
            r#"{"error":{"message":"no","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#,
        );
        assert_eq!((openai.code.as_deref(), openai.param.as_deref()), (Some("model_not_found"), Some("model")));
        let anthropic = read(529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#);
        assert_eq!((anthropic.kind.as_deref(), anthropic.message.as_str()), (Some("overloaded_error"), "Overloaded"));
        assert_eq!(
            read(400, r#"{"code":"1500","message":"Invalid model","type":"invalid_model"}"#).code.as_deref(),
            Some("1500")
        );
        assert_eq!(read(401, r#"{"detail":"Invalid API Key"}"#).message, "Invalid API Key");
        assert_eq!(read(422, r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#).message, "field required");
        assert_eq!(read(404, r#"{"error":"not found: x"}"#).message, "not found: x");
        assert_eq!(read(429, r#"{"error":{"message":"slow","code":429}}"#).code.as_deref(), Some("429"));
        assert_eq!(read(400, r#"[{"error":{"code":400,"message":"bad key","status":"INVALID"}}]"#).message, "bad key");
        assert_eq!(read(400, r#"{"errors":[{"message":"first"},{"message":"second"}]}"#).message, "first");
        assert_eq!(read(502, "<html>Bad gateway</html>").message, "The provider answered with status 502.");
        assert_eq!(read(500, "").message, "The provider answered with status 500.");
        assert_eq!(read(500, &"x\u{1b}".repeat(5000)).message.chars().count(), MESSAGE);
        assert!(!read(500, "a\r\nb\u{1b}[31m").message.contains(char::is_control));
    }
}
