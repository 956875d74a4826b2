//! The pieces of a streamed answer.

use super::{Citation, Json, Stop, TokenLogprob, Usage};

/// One event of a streamed answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The answer begins.
    Start {
        /// The provider's id of it.
        id: Option<String>,
        /// The model that answers.
        model: String,
        /// When, in seconds since the epoch.
        created: Option<u64>,
    },
    /// More text.
    Text {
        /// Of which answer.
        choice: u32,
        /// The text.
        text: String,
    },
    /// More reasoning.
    Thinking {
        /// Of which answer.
        choice: u32,
        /// The reasoning.
        text: String,
    },
    /// The signature of the reasoning so far.
    Signature {
        /// Of which answer.
        choice: u32,
        /// The signature.
        signature: String,
    },
    /// Reasoning only the provider can read.
    RedactedThinking {
        /// Of which answer.
        choice: u32,
        /// The data.
        data: String,
    },
    /// More of a refusal.
    Refusal {
        /// Of which answer.
        choice: u32,
        /// The words.
        text: String,
    },
    /// A function call begins.
    ToolCall {
        /// Of which answer.
        choice: u32,
        /// Which call, from 0.
        call: u32,
        /// Its id.
        id: String,
        /// The function.
        name: String,
        /// See [`ToolCall::signature`](super::ToolCall::signature).
        signature: Option<String>,
    },
    /// More of a call's arguments.
    Arguments {
        /// Of which answer.
        choice: u32,
        /// Which call.
        call: u32,
        /// A piece of JSON text.
        json: String,
    },
    /// A source the text leans on.
    Citation {
        /// Of which answer.
        choice: u32,
        /// The source.
        citation: Citation,
    },
    /// A part of a kind that is not modelled, whole.
    Other {
        /// Of which answer.
        choice: u32,
        /// The part.
        raw: Json,
    },
    /// How likely the tokens just said were.
    Logprobs {
        /// Of which answer.
        choice: u32,
        /// The tokens.
        tokens: Vec<TokenLogprob>,
    },
    /// An answer ended.
    Stop {
        /// Which.
        choice: u32,
        /// Why.
        stop: Stop,
    },
    /// What it has taken so far.
    Usage(Usage),
    /// A sign of life.
    Ping,
    /// The provider failed in the middle.
    Error(crate::ProviderError),
    /// The stream is complete.
    End,
}

impl Event {
    /// Which answer it belongs to, if to one.
    pub fn choice(&self) -> Option<u32> {
        match self {
            Self::Text { choice, .. }
            | Self::Thinking { choice, .. }
            | Self::Signature { choice, .. }
            | Self::RedactedThinking { choice, .. }
            | Self::Refusal { choice, .. }
            | Self::ToolCall { choice, .. }
            | Self::Arguments { choice, .. }
            | Self::Citation { choice, .. }
            | Self::Other { choice, .. }
            | Self::Logprobs { choice, .. }
            | Self::Stop { choice, .. } => Some(*choice),
            Self::Start { .. } | Self::Usage(_) | Self::Ping | Self::Error(_) | Self::End => None,
        }
    }
}
