//! Making one, while the server goes on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use base::Tenant;
use bytes::Bytes;
use futures_util::Stream;
use store::Dump;
use vault::{PIECE, StreamSealer};

use super::{MAGIC, Manifest, NODE_NAME, Sum, Tag, is_name, label};
use crate::operations::{OperationError, Operations};

/// The bytes of a backup, made as they are asked for.
pub struct Backup {
    sealer: Option<StreamSealer>,
    /// What goes out before anything else.
    head: Option<Vec<u8>>,
    database: Option<Dump>,
    audit: Option<audit::Held>,
    files: VecDeque<(String, PathBuf, u64)>,
    /// The file whose pieces go out, and how much of it is left.
    open: Option<(File, u64)>,
    sum: Sum,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("sum", &self.sum).finish_non_exhaustive()
    }
}

impl Operations {
    /// Begin a backup of everything, as of now. Who takes it is in the audit log first.
    pub async fn backup(&self, by: &str) -> Result<Backup, OperationError> {
        self.audit().happened(audit::Event::new("backup.taken").by(by)).await?;
        let (opening, sealer) = self.vault().seal_stream(&label(&Tenant::default()))?;
        let (database, audit) = self.held().await?;
        let file = self.file();
        let files = audit.files().map(|(name, path, length)| (name.to_owned(), path.to_owned(), length)).collect();
        let node = std::fs::read_to_string(file.server.data_dir.join(NODE_NAME)).ok();
        let node = node.map(|name| name.trim().to_owned()).filter(|name| is_name(name));
        let manifest = Manifest::new(self.clock().now(), node);
        let mut backup = Backup {
            sealer: Some(sealer),
            head: None,
            database: Some(database),
            audit: Some(audit),
            files,
            open: None,
            sum: Sum::default(),
        };
        let first = backup.frame(Tag::Manifest, &json(&manifest)?)?;
        backup.head = Some([MAGIC, &opening, &first].concat());
        Ok(backup)
    }
}

impl Operations {
    /// The database and the audit log. The log last: what it says happened is in the database, or later. But the keys it has
    /// announced have to be in the database, or it could not be opened again: where one was replaced meanwhile, both anew.
    async fn held(&self) -> Result<(Dump, audit::Held), OperationError> {
        const TRIES: u32 = 5;
        let keys = || self.audit().log().map(audit::Log::keys_given);
        for _ in 0..TRIES {
            let before = keys();
            let database = self.store().dump().await?;
            let audit = audit::hold(&self.file().server.data_dir.join(audit::DIR))
                .map_err(|error| OperationError::Backup(error.to_string()))?;
            if keys() == before {
                return Ok((database, audit));
            }
        }
        Err(OperationError::Backup("the key of the audit log was replaced again and again meanwhile".to_owned()))
    }
}

impl Backup {
    fn frame(&mut self, tag: Tag, bytes: &[u8]) -> Result<Vec<u8>, OperationError> {
        let length = u32::try_from(bytes.len()).map_err(|_| OperationError::Backup("a frame is too long".into()))?;
        let sealer = self.sealer.as_mut().ok_or_else(|| OperationError::Backup("it has ended".into()))?;
        let mut out = sealer.push(&[&[tag.letter()], length.to_be_bytes().as_slice()].concat())?;
        out.extend(sealer.push(bytes)?);
        Ok(out)
    }

    /// The next piece of the audit log, and after the last one the end. Reading a few kilobytes of a local file that was just
    /// written does not wait for the disk.
    fn rest(&mut self) -> Result<Option<Vec<u8>>, OperationError> {
        let unreadable = |error: std::io::Error| OperationError::Backup(format!("a file of the audit log: {error}"));
        if let Some((file, left)) = &mut self.open {
            let mut piece = vec![0; usize::try_from(*left).unwrap_or(PIECE).min(PIECE)];
            file.read_exact(&mut piece).map_err(unreadable)?;
            *left -= piece.len() as u64;
            if *left == 0 {
                self.open = None;
            }
            self.sum.audit += piece.len() as u64;
            return self.frame(Tag::Content, &piece).map(Some);
        }
        if let Some((name, path, length)) = self.files.pop_front() {
            if length > 0 {
                self.open = Some((File::open(path).map_err(unreadable)?, length));
            }
            self.sum.files += 1;
            return self.frame(Tag::File, name.as_bytes()).map(Some);
        }
        if self.sealer.is_none() {
            return Ok(None);
        }
        self.audit = None;
        let mut last = self.frame(Tag::End, &json(&self.sum)?)?;
        if let Some(sealer) = self.sealer.take() {
            last.extend(sealer.finish()?);
        }
        Ok(Some(last))
    }
}

impl Stream for Backup {
    type Item = Result<Bytes, OperationError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(Bytes::from(head))));
        }
        if let Some(database) = &mut self.database {
            let Poll::Ready(piece) = Pin::new(database).poll_next(context) else { return Poll::Pending };
            let framed = match piece {
                Some(Ok(piece)) => {
                    self.sum.database += piece.len() as u64;
                    self.frame(Tag::Database, &piece)
                }
                Some(Err(error)) => Err(error.into()),
                None => {
                    self.database = None;
                    Ok(Vec::new())
                }
            };
            if framed.is_err() {
                // Nothing that follows would be of use.
                (self.database, self.sealer, self.open) = (None, None, None);
                self.files.clear();
            }
            return Poll::Ready(Some(framed.map(Bytes::from)));
        }
        let rest = self.rest();
        if rest.is_err() {
            (self.sealer, self.open) = (None, None);
            self.files.clear();
        }
        Poll::Ready(rest.map(|piece| piece.map(Bytes::from)).transpose())
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, OperationError> {
    serde_json::to_vec(value).map_err(|error| OperationError::Backup(error.to_string()))
}
