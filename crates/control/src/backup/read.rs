//! Reading one: everything in it is authenticated before it is given.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use base::Tenant;
use store::{Source, StoreError};
use vault::{StreamOpener, Vault, VaultError};

use super::{MAGIC, MAX_FRAME, Manifest, Sum, Tag, is_name, label};

/// Why a backup cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is something else.
    #[error("this is not a backup made by `vouchgate backup`")]
    NotOne,
    /// Another master key, or it was altered or cut.
    #[error("{0}")]
    Vault(#[from] VaultError),
    /// It opens, and says what none says.
    #[error("the backup is damaged: {0}")]
    Damaged(&'static str),
    /// The file system.
    #[error("the backup cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

impl RestoreError {
    /// A short stable code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotOne => "backup_unknown",
            Self::Vault(error) => error.reason(),
            Self::Damaged(_) => "backup_damaged",
            Self::Io(_) => "backup_unreadable",
        }
    }
}

/// A part of a backup after its database.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A file of the audit log begins: its path below the log's directory, which stays below it.
    File(String),
    /// A piece of it.
    Content(Vec<u8>),
    /// That was all.
    End,
}

/// Reads a backup from its beginning: the manifest, the database (as a [`Source`]), then the files.
pub struct Reader<R> {
    file: R,
    opener: Option<StreamOpener>,
    open: VecDeque<u8>,
    manifest: Manifest,
    sum: Sum,
    /// A frame that was read and belongs to who comes next.
    ahead: Option<(Tag, Vec<u8>)>,
    failed: Option<RestoreError>,
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl<R: Read + Send> Reader<R> {
    /// Begin to read.
    pub fn open(mut file: R, vault: Arc<Vault>) -> Result<Self, RestoreError> {
        let mut magic = [0u8; MAGIC.len()];
        let mut got = 0;
        while let Some(room) = magic.get_mut(got..).filter(|room| !room.is_empty()) {
            match file.read(room)? {
                0 => return Err(RestoreError::NotOne),
                more => got += more,
            }
        }
        if magic != MAGIC {
            return Err(RestoreError::NotOne);
        }
        let mut reader = Self {
            file,
            opener: Some(StreamOpener::new(move |key| vault.open(&label(&Tenant::default()), key))),
            open: VecDeque::new(),
            manifest: Manifest { version: String::new(), made_at: 0, node: None },
            sum: Sum::default(),
            ahead: None,
            failed: None,
        };
        let (tag, bytes) = reader.frame()?;
        if tag != Tag::Manifest {
            return Err(RestoreError::Damaged("it does not begin with what it is"));
        }
        reader.manifest = serde_json::from_slice(&bytes).map_err(|_| RestoreError::Damaged("its manifest"))?;
        if reader.manifest.node.as_deref().is_some_and(|node| !is_name(node)) {
            return Err(RestoreError::Damaged("its manifest"));
        }
        Ok(reader)
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What went wrong while the database was read, if anything did.
    pub fn failed(&mut self) -> Option<RestoreError> {
        self.failed.take()
    }

    /// The next part after the database.
    pub fn part(&mut self) -> Result<Found, RestoreError> {
        match self.frame()? {
            (Tag::File, path) => {
                let path = String::from_utf8(path).map_err(|_| RestoreError::Damaged("the path of a file"))?;
                if !is_below(&path) {
                    return Err(RestoreError::Damaged("the path of a file leads elsewhere"));
                }
                self.sum.files += 1;
                Ok(Found::File(path))
            }
            (Tag::Content, bytes) if self.sum.files > 0 => {
                self.sum.audit += bytes.len() as u64;
                Ok(Found::Content(bytes))
            }
            (Tag::End, bytes) => {
                let said: Sum = serde_json::from_slice(&bytes).map_err(|_| RestoreError::Damaged("its end"))?;
                let over = self.open.is_empty() && self.fill().is_ok_and(|more| !more) && self.open.is_empty();
                if said != self.sum || !over {
                    return Err(RestoreError::Damaged("something is missing in it, or too much"));
                }
                Ok(Found::End)
            }
            _ => Err(RestoreError::Damaged("its parts come in another order")),
        }
    }

    fn frame(&mut self) -> Result<(Tag, Vec<u8>), RestoreError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(ahead);
        }
        let head: [u8; 5] = self.take(5)?.try_into().map_err(|_| RestoreError::Damaged("a frame"))?;
        let [letter, length @ ..] = head;
        let tag = Tag::of(letter).ok_or(RestoreError::Damaged("a frame of an unknown kind"))?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_FRAME + store::MAX_PIECE {
            return Err(RestoreError::Damaged("a frame is too long"));
        }
        Ok((tag, self.take(length)?))
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, RestoreError> {
        while self.open.len() < length {
            if !self.fill()? {
                return Err(RestoreError::Damaged("it ends early"));
            }
        }
        Ok(self.open.drain(..length).collect())
    }

    /// Open more of the file. Whether there was any.
    fn fill(&mut self) -> Result<bool, RestoreError> {
        let mut buffer = vec![0u8; 128 << 10];
        let got = match self.file.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(true),
            got => got?,
        };
        let opened = match (got, &mut self.opener) {
            (0, opener) => match opener.take() {
                None => return Ok(false),
                Some(opener) => opener.finish()?,
            },
            (_, None) => return Err(RestoreError::Damaged("something follows its end")),
            (got, Some(opener)) => opener.push(buffer.get(..got).unwrap_or_default())?,
        };
        self.open.extend(opened.expose());
        Ok(true)
    }
}

/// The database of a backup, for [`store::Store::load`]; what comes after it is read by [`Reader::part`].
#[derive(Debug, Clone)]
pub struct Database<R>(pub Arc<Mutex<Reader<R>>>);

impl<R: Read + Send> Source for Database<R> {
    fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).database()
    }
}

impl<R: Read + Send> Reader<R> {
    fn database(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.frame() {
            Ok((Tag::Database, piece)) => {
                self.sum.database += piece.len() as u64;
                Ok(Some(piece))
            }
            Ok(other) => {
                self.ahead = Some(other);
                Ok(None)
            }
            Err(error) => {
                self.failed = Some(error);
                Err(StoreError::Row("the backup cannot be read"))
            }
        }
    }
}

/// Whether a path leads to a file below where it begins: plain names, no `..`, nothing absolute.
fn is_below(path: &str) -> bool {
    let plain = |name: &str| {
        !name.is_empty()
            && name != "."
            && name != ".."
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    !path.is_empty() && path.len() <= 200 && path.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_where_it_begins() {
        for good in ["checkpoint", "tile/0/x001/234", "tile/entries/000.p/5", "journal/0000000001.seg"] {
            assert!(is_below(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "tile/../../x", "a//b", "a/", "a\\b", "a\0b", ".", "a/."] {
            assert!(!is_below(bad), "{bad}");
        }
    }
}
