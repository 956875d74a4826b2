//! Why the log could not do what was asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::Who;

use crate::keys::KeysError;
use crate::note::NoteError;

/// Why the log cannot be opened, read or extended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Another process has the log.
    #[error("the audit log {} is in use by another vouchgate process", .0.display())]
    Locked(PathBuf),
    /// The file system failed.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: Arc<std::io::Error>,
    },
    /// What is on the disk is not what was written.
    #[error(
        "the audit log {} is damaged at entry {index}: {why}; keep it for `vouchgate audit verify`, and move it away to begin another",
        .path.display()
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// The first entry that is not as it was.
        index: u64,
        /// How that shows.
        why: &'static str,
    },
    /// The log is another node's, or its key another's.
    #[error("the audit log {} is of {found:?}, not of {expected:?}", .path.display())]
    Origin {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Nothing can be signed.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// What the log says of its keys is wrong.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The log has announced keys that are not those it is opened with.
    #[error("the keys in {} are not those this installation has", .path.display())]
    KeyUnknown {
        /// Where.
        path: PathBuf,
    },
    /// The log is as it was before its key was replaced.
    #[error("the audit log {} has announced {has} replacements of its key, and had announced {announced}: an older copy of it is in its place", .path.display())]
    KeyRolledBack {
        /// Where.
        path: PathBuf,
        /// How many there are.
        has: usize,
        /// How many there were.
        announced: usize,
    },
    /// An entry could not be added.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// There is no such entry, or it has been deleted by retention.
    #[error("there is no entry {0} in the log")]
    Missing(u64),
    /// The log has been closed.
    #[error("the audit log is closed")]
    Closed,
    /// What was asked for did not happen in time.
    #[error("the audit log did not answer in time")]
    Late,
}

impl LogError {
    /// A short stable code for logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Locked(_) => "audit_locked",
            Self::File { .. } => "audit_file",
            Self::Damaged { .. } => "audit_damaged",
            Self::Origin { .. } => "audit_origin",
            Self::Note(error) => error.reason(),
            Self::Keys(error) => error.reason(),
            Self::KeyUnknown { .. } => "audit_key_unknown",
            Self::KeyRolledBack { .. } => "audit_key_rolled_back",
            Self::Append(error) => error.reason(),
            Self::Missing(_) => "audit_entry_missing",
            Self::Closed => "audit_closed",
            Self::Late => "audit_late",
        }
    }

    /// Whose fault it is.
    pub const fn who(&self) -> Who {
        match self {
            Self::Missing(_) => Who::Client,
            _ => Who::Us,
        }
    }

    pub(crate) fn file(path: &Path, error: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), error: Arc::new(error) }
    }
}

/// Why an entry is not in the log, or not known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log cannot be written now: the disk is full, read-only or failing.
    #[error("the audit log cannot be written")]
    Unwritable,
    /// A write takes too long.
    #[error("the audit log does not answer")]
    Stalled,
    /// More is waiting than the queue holds.
    #[error("the audit log has more to write than it can keep up with")]
    Full,
    /// The entry is longer than an entry may be.
    #[error("the entry is too long for the audit log")]
    TooLong,
    /// The log has been closed.
    #[error("the audit log is closed")]
    Closed,
}

impl AppendError {
    /// A short stable code for logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unwritable => "audit_unwritable",
            Self::Stalled => "audit_stalled",
            Self::Full => "audit_queue_full",
            Self::TooLong => "audit_entry_too_long",
            Self::Closed => "audit_closed",
        }
    }
}
