//! What can be wrong with a request, with an answer, and at the provider.

use base::Who;

use crate::json::JsonError;

/// Why a request cannot be taken or passed on. `param` is a JSON path: `messages[0].content`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not JSON we take.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// Not a form we take.
    #[error("{0}")]
    Form(crate::passthrough::FormError),
    /// A member that must be there is not.
    #[error("{param} is required")]
    Missing {
        /// Which.
        param: String,
    },
    /// A member has the wrong type or value.
    #[error("{param} must be {expected}")]
    Wrong {
        /// Which.
        param: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A member that would steer the gateway, or that a lenient reader takes for another.
    #[error("{param} is not accepted: {why}")]
    Forbidden {
        /// Which.
        param: String,
        /// Why.
        why: &'static str,
    },
    /// The provider this model is at cannot express it.
    #[error("{param} cannot be sent to this model's provider: {why}")]
    Unsupported {
        /// Which.
        param: String,
        /// Why, or what to use.
        why: &'static str,
    },
    /// It certainly does not fit into the model.
    #[error("The prompt is too long: at least {at_least} tokens, and the model takes at most {limit}")]
    TooLong {
        /// It has at least so many tokens.
        at_least: u64,
        /// So many fit.
        limit: u64,
    },
}

impl RequestError {
    /// A stable code for metrics, logs and the caller.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Json(error) => error.reason(),
            Self::Form(error) => error.reason(),
            Self::Missing { .. } => "missing_parameter",
            Self::Wrong { .. } => "invalid_parameter",
            Self::Forbidden { .. } => "forbidden_parameter",
            Self::Unsupported { .. } => "unsupported_parameter",
            Self::TooLong { .. } => "context_length_exceeded",
        }
    }

    /// The member it is about.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Json(JsonError::Duplicate(name)) => Some(name),
            Self::Json(_) | Self::Form(_) | Self::TooLong { .. } => None,
            Self::Missing { param }
            | Self::Wrong { param, .. }
            | Self::Forbidden { param, .. }
            | Self::Unsupported { param, .. } => Some(param),
        }
    }

    /// Always the caller's.
    pub const fn who(&self) -> Who {
        Who::Client
    }

    pub(crate) fn missing(param: impl Into<String>) -> Self {
        Self::Missing { param: param.into() }
    }

    pub(crate) fn wrong(param: impl Into<String>, expected: &'static str) -> Self {
        Self::Wrong { param: param.into(), expected }
    }

    pub(crate) fn unsupported(param: impl Into<String>, why: &'static str) -> Self {
        Self::Unsupported { param: param.into(), why }
    }
}

/// Why a provider's answer cannot be read or passed on. The provider's fault; worth another try elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Not JSON.
    #[error("the provider's answer is not valid JSON")]
    Json(#[from] JsonError),
    /// JSON of another shape.
    #[error("the provider's answer has no usable {0}")]
    Shape(&'static str),
    /// More answers than the caller's dialect can hold.
    #[error("The provider sent several answers; only one can be passed on")]
    ManyChoices,
    /// An error with a status that says there is none.
    #[error("The provider reported an error: {}", .0.message)]
    Failed(ProviderError),
}

impl ProviderError {
    /// A stream that is not what it should be.
    pub(crate) fn stream(message: impl Into<String>) -> Self {
        let code = Some("upstream_invalid_stream".to_owned());
        Self { code, message: message.into(), ..Self::default() }
    }
}

impl ResponseError {
    /// A stable code for metrics and logs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Json(_) => "upstream_invalid_json",
            Self::Shape(_) => "upstream_invalid_shape",
            Self::ManyChoices => "upstream_many_choices",
            Self::Failed(_) => "provider_error",
        }
    }

    /// Always the provider's.
    pub const fn who(&self) -> Who {
        Who::Provider
    }

    /// Another provider may do better.
    pub const fn retryable(&self) -> bool {
        true
    }
}

/// What a provider said went wrong, in its words; every text bounded and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProviderError {
    /// The HTTP status, of the answer or named in a stream's error event.
    pub status: Option<u16>,
    /// The provider's `type`.
    pub kind: Option<String>,
    /// The provider's `code`.
    pub code: Option<String>,
    /// The request member it is about, as the provider names it.
    pub param: Option<String>,
    /// The provider's message.
    pub message: String,
}
