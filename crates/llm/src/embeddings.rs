//! Embeddings: a client's request as any provider takes it, and the vectors as the client does.
//!
//! A request is small and is read whole. An answer is large and is not: vectors are cut out of it as they are written, and
//! their numbers go on digit for digit wherever the client takes numbers.

mod answer;
mod request;
mod splice;
mod vector;

pub use request::is_voyages;
pub use splice::{Named, named};

use crate::{Dialect, Failure, error_body, provider_error};

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// OpenAI's `POST /v1/embeddings`.
    OpenAi,
    /// Google's `POST /v1beta/models/{model}:embedContent`.
    Gemini,
    /// Google's `POST /v1beta/models/{model}:batchEmbedContents`.
    GeminiBatch,
}

impl Client {
    /// In which dialect it is told of errors.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::OpenAi => Dialect::OpenAiEmbeddings,
            Self::Gemini | Self::GeminiBatch => Dialect::Gemini,
        }
    }

    /// A provider's error answer in its form.
    pub fn error(self, status: u16, body: &[u8]) -> Vec<u8> {
        error_body(self.dialect(), &Failure::from(&provider_error(status, body)))
    }
}

/// What a provider speaks. Which requests it takes is in its documentation, named at each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// OpenAI's `/embeddings`, and its many kin.
    OpenAi,
    /// Voyage's `/embeddings` (docs.voyageai.com/reference/embeddings-api): OpenAI's with names of its own.
    Voyage,
    /// Google's `:batchEmbedContents` (ai.google.dev/api/embeddings).
    Gemini,
    /// Vertex AI's `:predict` (cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api).
    Vertex,
    /// Cohere's `/v2/embed` (docs.cohere.com/reference/embed).
    Cohere,
    /// Cohere's models at Amazon Bedrock, by `InvokeModel`
    /// (docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html).
    BedrockCohere,
    /// Amazon's Titan, by `InvokeModel`
    /// (docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html).
    BedrockTitan,
    /// Ollama's `/api/embed` (docs.ollama.com/api/embed).
    Ollama,
}

impl Surface {
    /// How a model at Amazon Bedrock is asked for embeddings; `None` where its name does not tell that it makes any.
    pub fn at_bedrock(model: &str) -> Option<Self> {
        if model.contains("cohere.embed") {
            return Some(Self::BedrockCohere);
        }
        model.contains("amazon.titan-embed").then_some(Self::BedrockTitan)
    }
}

/// What is to be embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Input {
    Text(String),
    /// A list of tokens, as it is written.
    Tokens(String),
}

/// What the vectors are for: some models make others for each purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Query,
    Document,
    Similarity,
    Classification,
    Clustering,
    QuestionAnswering,
    FactVerification,
    CodeQuery,
}

/// A request for embeddings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embed {
    client: Client,
    inputs: Vec<Input>,
    dimensions: Option<u64>,
    /// The client takes vectors in base64.
    base64: bool,
    task: Option<Task>,
    title: Option<String>,
}

#[cfg(test)]
mod tests;
