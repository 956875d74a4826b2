//! Evidence that somebody else must be asked about. What is asked and what an answer means stands here; sending is
//! the caller's (`net::ask`).
//!
//! Who is asked is a constant or the operator's choice, never the client's. No answer is a refusal, and so is an answer that
//! cannot be read.

mod account;
mod apple;
mod google;
mod siteverify;

use base::{Secret, Who};

pub use account::{Access, AccessToken, PLAY_SCOPE, ServiceAccount, TOKEN_URL};
pub use apple::{AppleKey, DeviceBits, DeviceCheck, Environment, FraudMetric};
pub use google::{APP_CHECK_ORIGIN, APP_CHECK_SCOPE, AppCheckConsume, PLAY_ORIGIN, PlayDecode};
pub use siteverify::{CaptchaKind, CaptchaRules, Siteverify};

use crate::jose::{JsonError, SignError};

/// The longest answer that is read, in bytes.
pub const MAX_ANSWER_LEN: usize = 64 << 10;

/// Something that somebody is asked about.
pub trait OnlineCheck {
    /// What comes of it.
    type Answer;

    /// What to send.
    fn request(&self) -> Result<OnlineRequest, OnlineError>;

    /// What an answer with this status and body means.
    fn judge(&self, status: u16, body: &[u8]) -> Result<Self::Answer, OnlineError>;
}

/// A POST to be sent.
#[derive(Debug)]
pub struct OnlineRequest {
    /// Where to.
    pub url: String,
    /// The body's type.
    pub content_type: &'static str,
    /// The `Authorization` header, if there is one.
    pub authorization: Option<Secret<String>>,
    /// The body. It may hold a secret.
    pub body: Secret<Vec<u8>>,
}

/// Why a check does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OnlineError {
    /// What the client sent cannot be such evidence: empty, too long.
    #[error("what is to be checked has the wrong form")]
    Token,
    /// The answer is: no.
    #[error("the check failed")]
    Failed,
    /// It has been checked before, or too long ago.
    #[error("it was used before, or is too old")]
    UsedOrOld,
    /// Solved on another site.
    #[error("it was solved on another site")]
    Hostname,
    /// Solved for something else.
    #[error("it was solved for another action")]
    Action,
    /// Solved for another installation.
    #[error("it was solved for another installation")]
    Bound,
    /// Less than the least score.
    #[error("the score is below the least one")]
    Score,
    /// Our secret or key is refused.
    #[error("the other side refuses our credentials")]
    Credentials,
    /// It has nothing more to say now: ask later.
    #[error("there is nothing new")]
    NothingNew,
    /// It asks us to slow down, or fails.
    #[error("the other side answered {0}")]
    Unavailable(u16),
    /// The answer is not an acceptable JSON object.
    #[error("the answer is refused: {0}")]
    Json(JsonError),
    /// The answer has not the documented form.
    #[error("the answer has not the documented form")]
    Answer,
    /// Our own key cannot sign.
    #[error("the key cannot sign: {0}")]
    Key(SignError),
}

impl OnlineError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Token => "check_token_malformed",
            Self::Failed => "check_failed",
            Self::UsedOrOld => "check_used_or_old",
            Self::Hostname => "check_hostname",
            Self::Action => "check_action",
            Self::Bound => "check_bound_elsewhere",
            Self::Score => "check_score",
            Self::Credentials => "check_credentials",
            Self::NothingNew => "check_nothing_new",
            Self::Unavailable(_) => "check_unavailable",
            Self::Json(error) => error.reason(),
            Self::Answer => "check_answer_malformed",
            Self::Key(error) => error.reason(),
        }
    }

    /// Whose fault it is.
    pub const fn who(self) -> Who {
        match self {
            Self::Credentials | Self::Key(_) => Who::Us,
            Self::Unavailable(_) | Self::Json(_) | Self::Answer | Self::NothingNew => Who::Provider,
            _ => Who::Client,
        }
    }

    /// Whether the same would pass later.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::NothingNew)
    }
}
