//! Whom the audit log speaks of, and the keys under which what it says of them can be read.

use vault::Sealed;

use crate::engine::{Row, first};
use crate::error::at_most;
use crate::{Store, StoreError};

/// A subject of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSubject {
    /// The keyed hash of who it is.
    pub lookup: [u8; 32],
    /// The name it has in entries: random.
    pub id: String,
    /// The key, sealed under that name.
    pub sealed: Sealed,
}

/// Subjects of the audit log.
#[derive(Debug, Clone, Copy)]
pub struct AuditSubjects<'a>(pub(crate) &'a Store);

impl AuditSubjects<'_> {
    /// The subject of that hash.
    pub async fn find(self, lookup: &[u8; 32]) -> Result<Option<AuditSubject>, StoreError> {
        let select = self
            .0
            .sql("SELECT lookup, id, sealed FROM audit_subjects WHERE tenant = $1 AND lookup = $2")
            .bind(lookup.to_vec());
        Ok(self.0.read(select, read).await?.pop())
    }

    /// The subject that has that name in entries.
    pub async fn by_id(self, id: &str) -> Result<Option<AuditSubject>, StoreError> {
        let select = self.0.sql("SELECT lookup, id, sealed FROM audit_subjects WHERE tenant = $1 AND id = $2").bind(id);
        Ok(self.0.read(select, read).await?.pop())
    }

    /// Keep a new subject; the one there is, if somebody was faster.
    pub async fn insert(self, new: AuditSubject) -> Result<AuditSubject, StoreError> {
        at_most("id", new.id.len(), 64)?;
        let insert = self
            .0
            .sql(
                "INSERT INTO audit_subjects (tenant, lookup, id, sealed, created_at) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT DO NOTHING",
            )
            .bind(new.lookup.to_vec())
            .bind(&*new.id)
            .bind(Some(&new.sealed))
            .bind(self.0.now());
        let select = self
            .0
            .sql("SELECT lookup, id, sealed FROM audit_subjects WHERE tenant = $1 AND lookup = $2")
            .bind(new.lookup.to_vec());
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    tx.execute(insert).await?;
                    read(first(tx.fetch(select).await?).ok_or(StoreError::Corrupt)?)
                })
            })
            .await
    }

    /// Destroy a subject's key; the name it had in entries. Every node hears of it, because the configuration's version grows.
    pub async fn erase(self, lookup: &[u8; 32]) -> Result<String, StoreError> {
        let delete = self
            .0
            .sql("DELETE FROM audit_subjects WHERE tenant = $1 AND lookup = $2 RETURNING id")
            .bind(lookup.to_vec());
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    first(tx.fetch(delete).await?).ok_or(StoreError::Missing("subject of the audit log"))?.take()
                })
            })
            .await
    }
}

fn read(mut row: Row) -> Result<AuditSubject, StoreError> {
    let lookup: Vec<u8> = row.take()?;
    let lookup = lookup.try_into().map_err(|_| StoreError::Row("not a hash"))?;
    Ok(AuditSubject { lookup, id: row.take()?, sealed: row.take()? })
}
