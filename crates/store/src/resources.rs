//! Resources made through the admin API: the same types as in the configuration file, as JSON.

use base::{Name, Timestamp};

use crate::engine::{Row, first};
use crate::error::at_most;
use crate::{Page, Paged, Store, StoreError};

/// The longest resource, in bytes of JSON.
const MAX_BODY: usize = 1024 * 1024;

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What it is, as the configuration calls it: `provider`, `model`, `policy`.
    pub kind: String,
    /// Its name.
    pub name: Name,
    /// The resource as JSON. The store does not look inside.
    pub body: String,
    /// The configuration version that last changed it: its `ETag`. Never used twice, not even after a deletion.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Who changed it last.
    pub updated_by: String,
}

/// What must be true for a write to happen (RFC 9110 section 13.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// There is none of that name: `If-None-Match: *`.
    Absent,
    /// It has exactly this version: `If-Match: "..."`.
    Version(u64),
}

/// Resources made through the admin API.
#[derive(Debug, Clone, Copy)]
pub struct Resources<'a>(pub(crate) &'a Store);

impl Resources<'_> {
    /// Make or replace a resource. [`StoreError::Exists`] or [`StoreError::Conflict`] if it is not as expected.
    pub async fn put(
        self,
        (kind, name): (&str, &Name),
        body: String,
        expect: Expect,
        by: &str,
    ) -> Result<Resource, StoreError> {
        at_most("resource", body.len(), MAX_BODY)?;
        at_most("kind", kind.len(), 64)?;
        let now = self.0.now();
        let found = self
            .0
            .sql("SELECT version FROM resources WHERE tenant = $1 AND kind = $2 AND name = $3")
            .bind(kind)
            .bind(name);
        let put = self
            .0
            .sql(
                "INSERT INTO resources (tenant, kind, name, body, created_at, created_by, updated_at, updated_by, version)
                 VALUES ($1, $2, $3, $4, $5, $6, $5, $6, $7)
                 ON CONFLICT (tenant, kind, name) DO UPDATE SET body = excluded.body, version = excluded.version,
                     updated_at = excluded.updated_at, updated_by = excluded.updated_by
                 RETURNING kind, name, body, version, created_at, created_by, updated_at, updated_by",
            )
            .bind(kind)
            .bind(name)
            .bind(body)
            .bind(now)
            .bind(by);
        self.0
            .change(move |tx, version| {
                Box::pin(async move {
                    check(first(tx.fetch(found).await?), expect)?;
                    first(tx.fetch(put.bind(version)).await?).map(read).ok_or(StoreError::Conflict("resource"))?
                })
            })
            .await
    }

    /// Delete a resource.
    pub async fn delete(self, kind: &str, name: &Name, expect: Expect) -> Result<(), StoreError> {
        let found = self
            .0
            .sql("SELECT version FROM resources WHERE tenant = $1 AND kind = $2 AND name = $3")
            .bind(kind)
            .bind(name);
        let delete =
            self.0.sql("DELETE FROM resources WHERE tenant = $1 AND kind = $2 AND name = $3").bind(kind).bind(name);
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    let row = first(tx.fetch(found).await?).ok_or(StoreError::Missing("resource"))?;
                    check(Some(row), expect)?;
                    tx.execute(delete).await.map(drop)
                })
            })
            .await
    }

    /// The resource of that kind and name.
    pub async fn get(self, kind: &str, name: &Name) -> Result<Option<Resource>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT kind, name, body, version, created_at, created_by, updated_at, updated_by
                 FROM resources WHERE tenant = $1 AND kind = $2 AND name = $3",
            )
            .bind(kind)
            .bind(name);
        Ok(self.0.read(select, read).await?.pop())
    }

    /// The resources of a kind, by name.
    pub async fn list(self, kind: &str, page: &Page) -> Result<Paged<Resource>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT kind, name, body, version, created_at, created_by, updated_at, updated_by
                 FROM resources WHERE tenant = $1 AND kind = $2 AND name > $3 ORDER BY name LIMIT $4",
            )
            .bind(kind)
            .bind(page.after.as_deref().unwrap_or_default())
            .bind(page.rows() + 1);
        Ok(Paged::cut(self.0.read(select, read).await?, page, |resource| resource.name.to_string()))
    }

    /// Every resource, as of one moment: what a snapshot is built from.
    pub async fn all(self) -> Result<Vec<Resource>, StoreError> {
        let select = self.0.sql(
            "SELECT kind, name, body, version, created_at, created_by, updated_at, updated_by
             FROM resources WHERE tenant = $1 ORDER BY kind, name",
        );
        self.0.read(select, read).await
    }
}

fn check(found: Option<Row>, expect: Expect) -> Result<(), StoreError> {
    let found: Option<u64> = found.map(|mut row| row.take()).transpose()?;
    match (expect, found) {
        (Expect::Any, _) | (Expect::Absent, None) => Ok(()),
        (Expect::Absent, Some(_)) => Err(StoreError::Exists("a resource")),
        (Expect::Version(wanted), Some(version)) if wanted == version => Ok(()),
        (Expect::Version(_), _) => Err(StoreError::Conflict("resource")),
    }
}

fn read(mut row: Row) -> Result<Resource, StoreError> {
    Ok(Resource {
        kind: row.take()?,
        name: row.take()?,
        body: row.take()?,
        version: row.take()?,
        created_at: row.take()?,
        created_by: row.take()?,
        updated_at: row.take()?,
        updated_by: row.take()?,
    })
}
