//! Same dialect in and out: forward the bytes, look at what the gateway must know, change only what it must set.
//!
//! A request is walked once ([`peek`]): bounded, duplicate members refused at every depth, and no member accepted
//! that would steer a gateway or that a reader which ignores case takes for another. Values are then replaced in
//! place ([`splice`]); every other byte stays. A streamed answer goes through a [`StreamTap`], which forwards the
//! very bytes it gets, except for a usage chunk nobody asked for.

mod direct;
mod form;
mod request;
mod said;
mod tap;

use std::borrow::Cow;

use crate::Dialect;
use crate::json::{Limits, picked};
use crate::model::Usage;
use crate::provider::usage::{AnthropicUsage, bedrock, by_shape, cohere, gemini, openai};

pub use direct::{AnswerTap, media_usage, peek_completions};
pub use form::{Form, FormError};
pub use request::{
    CapName, Edits, Models, Peek, anthropic_in_a_cloud, is_familiar, models, peek, peek_named, peek_or, splice,
};
pub(crate) use request::{apply, refuse_steering};
pub use said::Said;
pub use tap::StreamTap;

/// What a complete answer (not streamed) says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponsePeek<'a> {
    /// Whether it is a JSON object at all.
    pub is_object: bool,
    /// Tokens taken.
    pub usage: Usage,
    /// The model, as the provider names it.
    pub model: Option<Cow<'a, str>>,
}

/// Look at a complete answer. One that is not JSON of the dialect has no usage.
pub fn peek_response(dialect: Dialect, body: &[u8]) -> ResponsePeek<'_> {
    let mut seen = ResponsePeek::default();
    // Embeddings hold millions of numbers; they are walked, not built.
    let limits = Limits { nodes: usize::MAX, ..Limits::RESPONSE };
    let is_cohere = matches!(dialect, Dialect::CohereChat | Dialect::CohereChatV1 | Dialect::CohereEmbed);
    let found = picked(body, &limits, |name| {
        let counts = match dialect {
            Dialect::BedrockInvoke => {
                ["prompt_token_count", "generation_token_count", "inputTextTokenCount"].contains(&name)
            }
            Dialect::OllamaChat => matches!(name, "prompt_eval_count" | "eval_count"),
            _ => false,
        };
        let known = matches!(name, "usage" | "model" | "usageMetadata" | "modelVersion");
        known || counts || (is_cohere && name == "meta")
    });
    seen.is_object = found.is_ok();
    for (name, value) in found.unwrap_or_default() {
        match name.as_ref() {
            "usage" if dialect == Dialect::AnthropicMessages => {
                let mut usage = AnthropicUsage::default();
                usage.take(&value);
                seen.usage = usage.usage();
            }
            "usage" | "meta" if is_cohere => seen.usage = cohere(&value),
            "usageMetadata" => seen.usage = gemini(&value),
            "usage" if dialect == Dialect::BedrockConverse => seen.usage = bedrock(&value),
            "usage" if dialect == Dialect::BedrockInvoke => seen.usage = by_shape(&value),
            // Llama's, Titan's and Ollama's own forms.
            "prompt_token_count" | "inputTextTokenCount" | "prompt_eval_count" => {
                seen.usage.input_tokens = value.whole();
            }
            "generation_token_count" | "eval_count" => seen.usage.output_tokens = value.whole(),
            "usage" => seen.usage = openai(&value),
            _ => seen.model = value.text(),
        }
    }
    seen
}
