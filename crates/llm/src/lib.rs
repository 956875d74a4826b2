//! Dialects and providers around one canonical model. No I/O, no async.
//!
//! A caller speaks a [`Dialect`], a provider speaks one too. Where both are the same, [`passthrough`] forwards the
//! bytes and only looks; where they differ, a [`Translation`] reads one into the canonical [`model`] and writes the
//! other. `dialect/` is the side clients speak to, `provider/` the side providers answer on: N+N, never pairs.

pub mod bound;
pub mod catalogue;
mod codec;
pub mod count;
mod dialect;
pub mod echo;
pub mod embeddings;
mod error;
mod json;
pub mod model;
mod omit;
pub mod passthrough;
mod provider;
pub mod realtime;
#[cfg(test)]
mod roundtrip;
pub mod sameness;
pub mod tokens;
mod translate;

pub use codec::array::JsonArray;
pub use codec::event_stream::{EventStreamDecoder, EventStreamMessage, EventStreamValue, event_stream_message};
pub use codec::frames::Framing;
pub use codec::sse::{SseDecoder, SseError, SseEvent};
pub use dialect::{Failure, aws_error, error_body, stream_error_event};
pub use error::{ProviderError, RequestError, ResponseError};
pub use json::{JsonError, Limits};
pub use model::{Event, Request, Response, Usage};
pub use provider::{Decoder, Flavour, provider_error};
pub use translate::{Answer, Options, Outcome, StreamTranslation, Translation};

/// Whether `body` is a JSON object within `limits`, for requests whose dialect is not one of ours.
pub fn check_json(body: &[u8], limits: &Limits) -> Result<(), JsonError> {
    json::members(body, limits).map(drop)
}

/// `body` as a value, for whoever looks for something in it: read by the parser that checks it, so that nothing hides behind what
/// other parsers stumble over. Half a surrogate pair reads as U+FFFD, a number beyond what a float holds as null.
pub fn read_json(body: &[u8], limits: &Limits) -> Result<serde_json::Value, JsonError> {
    let text = std::str::from_utf8(body).map_err(|error| JsonError::Utf8(error.valid_up_to()))?;
    Ok(json::node(text, limits)?.to_value())
}

/// A surface: what a client speaks, or what a provider does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's `POST /v1/chat/completions`.
    OpenAiChat,
    /// OpenAI's `POST /v1/responses`.
    OpenAiResponses,
    /// OpenAI's `POST /v1/embeddings`.
    OpenAiEmbeddings,
    /// Anthropic's `POST /v1/messages`.
    AnthropicMessages,
    /// Google's `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`. The path says which model is
    /// asked for and whether the answer is streamed; the body does not.
    Gemini,
    /// Amazon Bedrock's `POST /model/{model}/converse` and `/converse-stream`. The path says which model is asked for and
    /// whether the answer is streamed; the body does not.
    BedrockConverse,
    /// Amazon Bedrock's `POST /model/{model}/invoke` and `/invoke-with-response-stream`: the body is in the form of the model's
    /// maker. It is passed on, never translated.
    BedrockInvoke,
    /// Cohere's `POST /v2/chat`. Providers speak it; clients of theirs do below `/providers`.
    CohereChat,
    /// Cohere's `POST /v1/chat`, which may leave the model out and streams one JSON text a line.
    CohereChatV1,
    /// Cohere's `POST /v2/embed`, `/v2/rerank` and their kin of v1: nothing is generated.
    CohereEmbed,
    /// Ollama's `POST /api/chat`, and its `/api/generate` and `/api/embed`, whose frame is the same.
    OllamaChat,
}

impl Dialect {
    /// How its streamed answers are framed.
    pub const fn framing(self) -> Framing {
        match self {
            Self::BedrockConverse | Self::BedrockInvoke => Framing::EventStream,
            Self::CohereChatV1 | Self::OllamaChat => Framing::Lines,
            _ => Framing::Sse,
        }
    }

    /// Whether its streamed answers may be framed so. Converse's are also written one event a line, by those who record them or
    /// answer in Amazon's place.
    pub fn comes_in(self, framing: Framing) -> bool {
        framing == self.framing() || (self == Self::BedrockConverse && framing == Framing::Lines)
    }

    /// A short stable name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai.chat",
            Self::OpenAiResponses => "openai.responses",
            Self::OpenAiEmbeddings => "openai.embeddings",
            Self::AnthropicMessages => "anthropic.messages",
            Self::Gemini => "gemini.generate_content",
            Self::BedrockConverse => "bedrock.converse",
            Self::BedrockInvoke => "bedrock.invoke",
            Self::CohereChat => "cohere.chat",
            Self::CohereChatV1 => "cohere.chat.v1",
            Self::CohereEmbed => "cohere.embed",
            Self::OllamaChat => "ollama.chat",
        }
    }
}
