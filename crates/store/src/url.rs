//! Where the data is: the `[store] url` of the configuration.

use std::fmt;
use std::path::PathBuf;

use crate::StoreError;
use crate::postgres::Server;

/// Where the data is. Shows no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl(pub(crate) Place);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A SQLite file, relative to the data directory.
    File(PathBuf),
    /// A PostgreSQL database.
    Server(Box<Server>),
}

impl StoreUrl {
    /// Read the `[store] url` of the configuration: `sqlite:` (a database in the data directory), `sqlite:FILE`
    /// (relative to the data directory), or `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?OPTIONS]`.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self(Place::Server(Box::new(Server::parse(text)?))));
        }
        let file = text.strip_prefix("sqlite:").ok_or_else(|| StoreError::Url(scheme(text)))?;
        let file = if file.is_empty() { "vouchgate.db" } else { file };
        if file.ends_with('/') || file.starts_with("//") || file.contains(['?', '#', '\0', '%']) || file == ":memory:" {
            return Err(StoreError::Url(text.to_owned()));
        }
        Ok(Self(Place::File(PathBuf::from(file))))
    }

    /// Take the time from the node's clock where nodes must agree on it, and not from the database server's: for tests,
    /// whose clocks stand still.
    #[must_use]
    pub fn with_node_clock(self) -> Self {
        match self.0 {
            Place::File(_) => self,
            Place::Server(server) => Self(Place::Server(Box::new(server.with_node_clock()))),
        }
    }

    /// Whether several nodes may use it.
    pub const fn is_shared(&self) -> bool {
        matches!(self.0, Place::Server(_))
    }

    /// Whether what passes between us and the data cannot be read or changed on the way.
    pub const fn is_protected(&self) -> bool {
        match &self.0 {
            Place::File(_) => true,
            Place::Server(server) => server.is_protected(),
        }
    }
}

impl Default for StoreUrl {
    fn default() -> Self {
        Self(Place::File(PathBuf::from("vouchgate.db")))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(file) => write!(f, "sqlite:{}", file.display()),
            Place::Server(server) => write!(f, "{server}"),
        }
    }
}

/// What may be shown of a URL that may hold a password.
fn scheme(url: &str) -> String {
    url.split_once(':').map_or_else(|| "(no scheme)".to_owned(), |(scheme, _)| format!("{scheme}:"))
}
