//! Why the store could not do what was asked.

use std::path::PathBuf;
use std::sync::Arc;

use base::Who;

/// Why the store could not do what was asked. Holds no stored value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store's URL is not one this build can open.
    #[error(
        "the store url {0:?} is not supported; write \"sqlite:\" for a database in the data directory, or \"postgres://USER@HOST/DATABASE\""
    )]
    Url(String),
    /// Another process has the data directory, or the database.
    #[error("{} is in use by another vouchgate process; stop it, or choose another data directory", .0.display())]
    Locked(PathBuf),
    /// The database was written by a newer version.
    #[error(
        "the database has schema version {found}, this program knows up to {known}; run the newer version that wrote it, or restore a backup from before the upgrade"
    )]
    NewerSchema {
        /// What the database says.
        found: u64,
        /// The newest this program knows.
        known: u64,
    },
    /// A file or directory could not be made or opened.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: Arc<std::io::Error>,
    },
    /// The disk is full, or the database has reached its size limit. Nothing was written.
    #[error("the database cannot grow: the disk is full")]
    Full,
    /// The database, or the disk it is on, can only be read.
    #[error("the database is read-only")]
    ReadOnly,
    /// The disk failed to write or read. Nothing was written.
    #[error("the disk the database is on fails: {0}")]
    Disk(Arc<sqlx::Error>),
    /// The file is damaged, or no database.
    #[error("the database file is damaged or is no vouchgate database; restore a backup")]
    Corrupt,
    /// More work is waiting than the queue holds, or the database stayed locked. Nothing was written.
    #[error("the store has more to write than it can keep up with")]
    Busy,
    /// The transaction was in the way of another, several times over, and gave way. Nothing was written.
    #[error("the database is too busy with others changing the same")]
    Collided,
    /// There is no connection to the database server. Nothing was written.
    #[error("the database server cannot be reached")]
    Unreachable,
    /// The connection was lost while a transaction was being committed. Ask before trying again.
    #[error("the database server went away in the middle of a commit: it is not known whether it was written")]
    Unknown,
    /// The database server refuses us, or is not set up as it must be. Holds its own words, never a password.
    #[error("the database server cannot be used: {0}")]
    Refused(Arc<str>),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// Something is in it already, which nothing overwrites.
    #[error("{0}: a backup is put into a new data directory and a new, empty database")]
    NotNew(&'static str),
    /// There is one of that name already.
    #[error("there is already {0} of that name")]
    Exists(&'static str),
    /// There is none of that name.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// It is not in the state or version the caller expected; somebody else changed it.
    #[error("the {0} has changed meanwhile")]
    Conflict(&'static str),
    /// A value is too long to be stored.
    #[error("the {what} is too long: at most {limit} bytes are stored")]
    TooLong {
        /// Which value.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// A stored row cannot be read: the database was changed by hand.
    #[error("a stored row cannot be read: {0}")]
    Row(&'static str),
    /// The database failed in another way.
    #[error("the database failed: {0}")]
    Database(Arc<sqlx::Error>),
}

impl StoreError {
    /// A short stable code for logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Url(_) => "store_url",
            Self::Locked(_) => "store_locked",
            Self::NewerSchema { .. } => "store_newer_schema",
            Self::File { .. } => "store_file",
            Self::Full => "store_full",
            Self::ReadOnly => "store_read_only",
            Self::Disk(_) => "store_disk",
            Self::Corrupt => "store_corrupt",
            Self::Busy => "store_busy",
            Self::Collided => "store_collided",
            Self::Unreachable => "store_unreachable",
            Self::Unknown => "store_unknown",
            Self::Refused(_) => "store_refused",
            Self::Closed => "store_closed",
            Self::NotNew(_) => "store_not_new",
            Self::Exists(_) => "already_exists",
            Self::Missing(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::TooLong { .. } => "too_long",
            Self::Row(_) => "store_row",
            Self::Database(_) => "store_failed",
        }
    }

    /// Whose fault it is.
    pub const fn who(&self) -> Who {
        match self {
            Self::Exists(_) | Self::Missing(_) | Self::Conflict(_) | Self::TooLong { .. } => Who::Client,
            _ => Who::Us,
        }
    }

    /// Whether the same call may succeed later without anybody changing it.
    pub const fn retryable(&self) -> bool {
        matches!(
            self,
            Self::Full
                | Self::ReadOnly
                | Self::Disk(_)
                | Self::Busy
                | Self::Collided
                | Self::Unreachable
                | Self::Database(_)
        )
    }

    /// Whether the database does not do what it should, whatever it is asked to write.
    pub(crate) const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Full
                | Self::ReadOnly
                | Self::Disk(_)
                | Self::Corrupt
                | Self::Busy
                | Self::Unreachable
                | Self::Refused(_)
                | Self::Database(_)
        )
    }

    pub(crate) fn file(path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        Self::File { path: path.into(), error: Arc::new(error) }
    }
}

/// Refuse a value over its limit in bytes.
pub(crate) fn at_most(what: &'static str, length: usize, limit: usize) -> Result<(), StoreError> {
    if length > limit { Err(StoreError::TooLong { what, limit }) } else { Ok(()) }
}
