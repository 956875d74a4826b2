//! A backup: everything in the database as of one moment, and the audit log, in one sealed file.
//!
//! ```text
//! vouchgate-backup-1\n     then a sealed stream (vault), and in it frames:
//! tag, u32, bytes          M manifest, S a piece of the database, F a file's path, C a piece of that file, E the end
//! ```
//!
//! The master key is not in it: a backup is worth nothing without, and both are to be kept apart.

mod read;
mod write;

use base::{Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use vault::{Label, Purpose};

pub use read::{Database, Found, Reader, RestoreError};
pub use write::Backup;

/// What the file begins with.
pub const MAGIC: &[u8] = b"vouchgate-backup-1\n";

/// Where in the data directory the name is that the ledger knows a node by: one process has the directory, and no two nodes
/// have the same.
pub const NODE_NAME: &str = "node-name";

/// Whether this can be a node's name.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The longest frame.
const MAX_FRAME: usize = 1 << 20;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the program that made it.
    pub version: String,
    /// When, in milliseconds since the Unix epoch.
    pub made_at: i64,
    /// What the ledger of budgets knew its node by: the audit log tells of that node's leases. Absent in older backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Manifest {
    fn new(now: Timestamp, node: Option<String>) -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), made_at: now.as_millis(), node }
    }
}

/// What the end says, so that nothing in the middle is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sum {
    /// Bytes of the database.
    database: u64,
    /// Files of the audit log.
    files: u64,
    /// Their bytes.
    audit: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Manifest,
    Database,
    File,
    Content,
    End,
}

impl Tag {
    const fn letter(self) -> u8 {
        match self {
            Self::Manifest => b'M',
            Self::Database => b'S',
            Self::File => b'F',
            Self::Content => b'C',
            Self::End => b'E',
        }
    }

    const fn of(letter: u8) -> Option<Self> {
        Some(match letter {
            b'M' => Self::Manifest,
            b'S' => Self::Database,
            b'F' => Self::File,
            b'C' => Self::Content,
            b'E' => Self::End,
            _ => return None,
        })
    }
}

fn label(tenant: &Tenant) -> Label<'_> {
    Label::new(tenant, Purpose::Backup, "backup", 1)
}
