//! What can go wrong, and the one word an app needs of it.

use crate::app_config::ConfigError;
use crate::attester::AttestError;
use crate::secrets::SecretError;
use crate::signer::KeyError;

/// What an app does about an outcome depends on this word and nothing else. The names stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Done.
    Success,
    /// Nobody was reached: try again when there is a network.
    NoNetwork,
    /// Somebody was reached but did not answer in time, or not so that it can be read.
    PoorNetwork,
    /// Somebody else answered with a certificate that the system trusts. Nothing was sent.
    MitmDetected,
    /// The certificate is not trusted. Nothing was sent.
    Untrusted,
    /// What the app was told over the air counts no more, and nothing newer was had.
    ConfigStale,
    /// The gateway does not take this installation. The code ([`Error::arc`]) is for its user to tell support.
    Rejected,
    /// The app has to be updated.
    UpdateRequired,
    /// To be tried again after [`Error::retry_after`].
    RetryLater,
    /// This device cannot attest.
    Unsupported,
    /// Switched off over the air.
    Disabled,
    /// The caller asked for something that is not done: another host, a value that is no request.
    BadRequest,
    /// Anything else.
    InternalError,
}

impl Status {
    /// The word, for logs and other languages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::NoNetwork => "NO_NETWORK",
            Self::PoorNetwork => "POOR_NETWORK",
            Self::MitmDetected => "MITM_DETECTED",
            Self::Untrusted => "UNTRUSTED",
            Self::ConfigStale => "CONFIG_STALE",
            Self::Rejected => "REJECTED",
            Self::UpdateRequired => "UPDATE_REQUIRED",
            Self::RetryLater => "RETRY_LATER",
            Self::Unsupported => "UNSUPPORTED",
            Self::Disabled => "DISABLED",
            Self::BadRequest => "BAD_REQUEST",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// What the gateway says an app should do after a refusal. There is nothing else to learn from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Refresh with a new nonce.
    Refresh,
    /// Enrol with a new key.
    ReEnroll,
    /// Install a newer version.
    Update,
    /// Try again later.
    RetryAfter,
    /// Show something besides: done by the client where it can be.
    StepUp,
    /// Nothing helps.
    None,
}

impl Action {
    /// The action of this name; what is not known is [`Action::None`].
    pub fn from_name(name: &str) -> Self {
        match name {
            "refresh" => Self::Refresh,
            "re-enroll" => Self::ReEnroll,
            "update" => Self::Update,
            "retry-after" => Self::RetryAfter,
            "step-up" | "step_up" => Self::StepUp,
            _ => Self::None,
        }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("no connection to {host}")]
    Connect {
        /// To whom.
        host: String,
    },
    /// The certificate is not trusted, or TLS failed otherwise.
    #[error("TLS with {host} failed")]
    Tls {
        /// With whom.
        host: String,
    },
    /// A key that is not pinned.
    #[error("{host} shows a key that is not pinned")]
    PinMismatch {
        /// Who.
        host: String,
    },
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke, or the answer cannot be read.
    #[error("the answer broke off or cannot be read")]
    Answer,
    /// The gateway refused the installation.
    #[error("refused ({status}), code {arc}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The reference code; empty where none was given.
        arc: String,
        /// What to do.
        action: Action,
        /// After how many seconds to come again, where that was said.
        retry_after: Option<u64>,
    },
    /// Not tried, because the last attempts failed.
    #[error("to be tried again in {retry_after} s")]
    BackingOff {
        /// In how many seconds.
        retry_after: u64,
    },
    /// The device gave no evidence.
    #[error("{0}")]
    Attest(#[from] AttestError),
    /// What was told over the air is not accepted.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// What was told over the air counts no more.
    #[error("the configuration of the app has expired")]
    ConfigStale,
    /// Switched off over the air.
    #[error("switched off over the air")]
    Disabled,
    /// Not a request for the gateway.
    #[error("not a request for the gateway: {0}")]
    Request(&'static str),
    /// A delivered secret cannot be opened.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// Randomness or the runtime failed.
    #[error("the runtime failed")]
    Internal,
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        Self::Attest(error.into())
    }
}

impl Error {
    /// The one word.
    pub const fn status(&self) -> Status {
        match self {
            Self::Connect { .. } => Status::NoNetwork,
            Self::Timeout | Self::Answer => Status::PoorNetwork,
            Self::Tls { .. } => Status::Untrusted,
            Self::PinMismatch { .. } => Status::MitmDetected,
            Self::Rejected { action: Action::Update, .. } => Status::UpdateRequired,
            Self::Rejected { action: Action::RetryAfter, .. }
            | Self::BackingOff { .. }
            | Self::Attest(AttestError::Unavailable) => Status::RetryLater,
            Self::Rejected { .. } => Status::Rejected,
            Self::Attest(AttestError::Unsupported | AttestError::NotAccepted) => Status::Unsupported,
            Self::Config(_) | Self::ConfigStale => Status::ConfigStale,
            Self::Disabled => Status::Disabled,
            Self::Request(_) => Status::BadRequest,
            Self::Attest(_) | Self::Secret(_) | Self::Internal => Status::InternalError,
        }
    }

    /// A stable code, for logs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::PinMismatch { .. } => "pin_mismatch",
            Self::Timeout => "timeout",
            Self::Answer => "bad_answer",
            Self::Rejected { .. } => "rejected",
            Self::BackingOff { .. } => "backing_off",
            Self::Attest(error) => error.reason(),
            Self::Config(error) => error.reason(),
            Self::ConfigStale => "config_stale",
            Self::Disabled => "disabled",
            Self::Request(_) => "bad_request",
            Self::Secret(error) => error.reason(),
            Self::Internal => "internal",
        }
    }

    /// The code a user can tell support.
    pub fn arc(&self) -> Option<&str> {
        match self {
            Self::Rejected { arc, .. } if !arc.is_empty() => Some(arc),
            _ => None,
        }
    }

    /// Seconds to wait before the next attempt, where that is known.
    pub const fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Rejected { retry_after, .. } => *retry_after,
            Self::BackingOff { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether something has to be shown besides.
    pub(crate) const fn asks_for_step_up(&self) -> bool {
        matches!(self, Self::Rejected { action: Action::StepUp, .. })
    }

    /// Whether the installation's key or the platform's is of no more use: a new installation has to be enrolled.
    pub(crate) const fn asks_for_new_key(&self) -> bool {
        matches!(
            self,
            Self::Rejected { action: Action::ReEnroll, .. }
                | Self::Attest(AttestError::KeyGone | AttestError::Key(KeyError::Gone))
        )
    }
}
