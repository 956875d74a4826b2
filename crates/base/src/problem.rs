//! One error at the edge.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

/// Whose fault an error is: decides what is logged, and whether the caller may be told more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// The caller sent something wrong, or may not do this.
    Client,
    /// Vouchgate or its operator's configuration.
    Us,
    /// The provider behind.
    Provider,
}

impl Who {
    /// `client`, `us` or `provider`, for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Us => "us",
            Self::Provider => "provider",
        }
    }
}

/// What the outside is told of an error. Each surface renders it in its own dialect: the caller's on the data
/// plane, RFC 6749 on the OAuth endpoints, RFC 9457 on the admin API. Holds nothing internal.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The HTTP status: 4xx or 5xx.
    pub status: StatusCode,
    /// A short stable code (`snake_case`), documented in docs/errors.md; also the metric label.
    pub code: &'static str,
    /// What is wrong, where, and what to do about it, for the caller. Never holds a secret, token or prompt.
    pub message: Cow<'static, str>,
    /// The request field the error is about, as a JSON path (`messages[0].content`).
    pub param: Option<String>,
    /// Whose fault it is.
    pub who: Who,
    /// Whether the same request may succeed later. `false` is sent as `x-should-retry: false`.
    pub retryable: bool,
    /// When to try again: the `Retry-After` header (whole seconds, rounded up).
    pub retry_after: Option<Duration>,
    /// `WWW-Authenticate` challenges (RFC 9110 section 11.6.1), one header line each.
    pub challenges: Vec<String>,
}

impl Problem {
    /// A problem of the caller's making: not retryable.
    pub fn client(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, code, message, Who::Client, false)
    }

    /// A problem of ours: retryable.
    pub fn us(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, code, message, Who::Us, true)
    }

    /// A problem of the provider's: retryable.
    pub fn provider(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, code, message, Who::Provider, true)
    }

    fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
        who: Who,
        retryable: bool,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            param: None,
            who,
            retryable,
            retry_after: None,
            challenges: Vec::new(),
        }
    }

    /// Name the request field the error is about.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Say when to try again; makes the problem retryable.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self.retryable = true;
        self
    }

    /// Add a `WWW-Authenticate` challenge.
    #[must_use]
    pub fn challenge(mut self, challenge: impl Into<String>) -> Self {
        self.challenges.push(challenge.into());
        self
    }
}
