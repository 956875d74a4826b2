//! Why an operation was not done.

use base::{NameError, Problem, Who};
use config::Fault;
use http::StatusCode;
use proof::jose::SignError;
use store::StoreError;
use vault::VaultError;

use crate::admin::Refusal;

/// Why an operation was not done. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// There is none of that name.
    #[error("there is no {kind} named {name}")]
    NotFound {
        /// What was looked for.
        kind: &'static str,
        /// Its name, as it was asked for.
        name: String,
    },
    /// There is one of that name already.
    #[error("there is already a {kind} named {name}")]
    Exists {
        /// What was to be made.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It is in the configuration file, so only the file can change it.
    #[error(
        "the {kind} {name} is in the configuration file; change it there and reload, or take it out of the file first"
    )]
    InFile {
        /// What was to be changed.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It has changed since the caller read it, or is there although it must not be.
    #[error("the {0} has changed since it was read; read it again and repeat the change")]
    Stale(&'static str),
    /// A value is not one that can be taken.
    #[error("{message}")]
    Value {
        /// Which value.
        param: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The configuration that would result is not valid.
    #[error("the resource is not valid, so nothing was changed")]
    Faults(Vec<Fault>),
    /// The state does not allow it.
    #[error("{0}")]
    NotAllowed(String),
    /// A provider does not accept a key, or it could not be found out whether it does.
    #[error("{message}")]
    Probe {
        /// Whether the provider said so.
        refused: bool,
        /// What was seen, and what to do.
        message: String,
    },
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The vault could not do it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What would be done cannot be written into the audit log.
    #[error("this cannot be written into the audit log, so it is not done: {0}")]
    Audit(#[from] audit::AppendError),
    /// The audit log cannot be read.
    #[error(transparent)]
    AuditLog(audit::LogError),
    /// A signing key could not be made or used.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// An app is not told what was asked for.
    #[error(transparent)]
    Publish(#[from] super::PublishError),
    /// A backup could not be made.
    #[error("the backup could not be made: {0}")]
    Backup(String),
}

impl From<audit::LogError> for OperationError {
    fn from(error: audit::LogError) -> Self {
        match error {
            audit::LogError::Missing(index) => {
                Self::NotFound { kind: "entry of the audit log", name: index.to_string() }
            }
            error => Self::AuditLog(error),
        }
    }
}

impl From<crate::recording::RecordingError> for OperationError {
    fn from(error: crate::recording::RecordingError) -> Self {
        use crate::recording::RecordingError;
        match error {
            RecordingError::Log(error) => error.into(),
            RecordingError::Key(error) => Self::AuditLog(error.into()),
            RecordingError::Store(error) => error.into(),
            RecordingError::Vault(error) => error.into(),
            RecordingError::Origin(_) | RecordingError::Damaged => Self::Store(StoreError::Corrupt),
        }
    }
}

impl OperationError {
    /// A value that cannot be taken.
    pub(crate) fn value(param: &'static str, message: impl Into<String>) -> Self {
        Self::Value { param, message: message.into() }
    }

    /// A text that is no name.
    pub(crate) fn name(param: &'static str) -> impl Fn(NameError) -> Self {
        move |error| Self::value(param, error.to_string())
    }

    /// A stable code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Exists { .. } => "already_exists",
            Self::InFile { .. } => "in_configuration_file",
            Self::Stale(_) => "precondition_failed",
            Self::Value { .. } => "invalid_value",
            Self::Faults(_) => "invalid_resource",
            Self::NotAllowed(_) => "not_allowed",
            Self::Probe { refused: true, .. } => "key_refused",
            Self::Probe { refused: false, .. } => "key_not_probed",
            Self::Store(error) => error.reason(),
            Self::Vault(error) => error.reason(),
            Self::Audit(_) => "audit_unavailable",
            Self::AuditLog(error) => error.reason(),
            Self::Sign(error) => error.reason(),
            Self::Publish(error) => error.reason(),
            Self::Backup(_) => "backup_failed",
        }
    }

    /// Whose fault it is.
    pub fn who(&self) -> Who {
        match self {
            Self::Store(error) => error.who(),
            Self::Vault(error) => error.who(),
            Self::Sign(_) | Self::Audit(_) | Self::AuditLog(_) | Self::Backup(_) => Who::Us,
            _ => Who::Client,
        }
    }

    /// Whether the same call may succeed later without anybody changing it.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Audit(_)) || matches!(self, Self::Store(error) if error.retryable())
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } | Self::Store(StoreError::Missing(_)) => StatusCode::NOT_FOUND,
            Self::Exists { .. }
            | Self::InFile { .. }
            | Self::NotAllowed(_)
            | Self::Publish(_)
            | Self::Store(StoreError::Exists(_) | StoreError::Conflict(_)) => StatusCode::CONFLICT,
            Self::Stale(_) => StatusCode::PRECONDITION_FAILED,
            Self::Value { .. }
            | Self::Faults(_)
            | Self::Probe { .. }
            | Self::Store(StoreError::TooLong { .. })
            | Self::Vault(VaultError::TooLong) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Store(StoreError::Full) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Store(_) | Self::Audit(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Vault(_) | Self::Sign(_) | Self::AuditLog(_) | Self::Backup(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<OperationError> for Refusal {
    /// What the caller is told. Whoever administers may know what is wrong with the store and the vault; their
    /// errors hold no stored value.
    fn from(error: OperationError) -> Self {
        let (status, code, message) = (error.status(), error.reason(), error.to_string());
        if error.who() == Who::Us {
            tracing::error!(code, error = %error, "an administrative operation failed");
        }
        let problem = match error.who() {
            Who::Client => Problem::client(status, code, message),
            _ => Problem { retryable: error.retryable(), ..Problem::us(status, code, message) },
        };
        match error {
            OperationError::Value { param, .. } => problem.param(param).into(),
            OperationError::Faults(faults) => Self::with_faults(problem, faults),
            _ => problem.into(),
        }
    }
}
