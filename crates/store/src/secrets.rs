//! Secrets an operator gave us, sealed.

use base::{Name, Timestamp};
use vault::Sealed;

use crate::engine::{Row, first};
use crate::error::at_most;
use crate::{Page, Paged, Store, StoreError};

/// One version of a secret. The newest is the one in use; the one before it is kept for a way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretVersion {
    /// Its name.
    pub name: Name,
    /// Which version, from 1; grows by one, also over a deletion.
    pub version: u64,
    /// The value, sealed under its tenant, name, version and origin.
    pub sealed: Sealed,
    /// The origin it may be sent to.
    pub origin: Option<String>,
    /// Tells two values apart without showing either.
    pub fingerprint: String,
    /// What may be shown of it, when it is long enough: its first and last characters.
    pub hint: Option<String>,
    /// When it was set.
    pub created_at: Timestamp,
    /// Who set it.
    pub created_by: String,
}

/// A value to become a secret's newest version.
#[derive(Debug, Clone)]
pub struct NewSecret {
    /// Its name.
    pub name: Name,
    /// The version it was sealed for: one more than [`Secrets::last_version`].
    pub version: u64,
    /// The value, sealed.
    pub sealed: Sealed,
    /// The origin it may be sent to.
    pub origin: Option<String>,
    /// Tells two values apart without showing either.
    pub fingerprint: String,
    /// What may be shown of it.
    pub hint: Option<String>,
    /// Who sets it.
    pub created_by: String,
}

/// Sealed secrets.
#[derive(Debug, Clone, Copy)]
pub struct Secrets<'a>(pub(crate) &'a Store);

impl Secrets<'_> {
    /// The highest version this name ever had, 0 if none: a new value is sealed for one more.
    pub async fn last_version(self, name: &Name) -> Result<u64, StoreError> {
        let select = self.0.sql("SELECT last_version FROM secrets WHERE tenant = $1 AND name = $2").bind(name);
        first(self.0.fetch(select).await?).map_or(Ok(0), |mut row| row.take())
    }

    /// Store a new version; versions before the previous one are forgotten. [`StoreError::Conflict`] if somebody
    /// else has set the secret since [`Secrets::last_version`]: seal for the next version and try again.
    pub async fn put(self, new: NewSecret) -> Result<SecretVersion, StoreError> {
        at_most("hint", new.hint.as_ref().map_or(0, String::len), 16)?;
        at_most("origin", new.origin.as_ref().map_or(0, String::len), 2048)?;
        let secret = SecretVersion {
            name: new.name,
            version: new.version,
            sealed: new.sealed,
            origin: new.origin,
            fingerprint: new.fingerprint,
            hint: new.hint,
            created_at: self.0.now(),
            created_by: new.created_by,
        };
        let advance = self
            .0
            .sql(
                "INSERT INTO secrets (tenant, name, last_version) SELECT $1, $2, $3
                 WHERE $3 = COALESCE((SELECT last_version FROM secrets WHERE tenant = $1 AND name = $2), 0) + 1
                 ON CONFLICT (tenant, name) DO UPDATE SET last_version = excluded.last_version",
            )
            .bind(&secret.name)
            .bind(secret.version);
        let insert = self
            .0
            .sql(
                "INSERT INTO secret_versions
                 (tenant, name, version, sealed, origin, fingerprint, hint, created_at, created_by)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(&secret.name)
            .bind(secret.version)
            .bind(&secret.sealed)
            .bind(secret.origin.as_deref())
            .bind(&*secret.fingerprint)
            .bind(secret.hint.as_deref())
            .bind(secret.created_at)
            .bind(&*secret.created_by);
        let forget = self
            .0
            .sql("DELETE FROM secret_versions WHERE tenant = $1 AND name = $2 AND version < $3 - 1")
            .bind(&secret.name)
            .bind(secret.version);
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.execute(advance).await? == 0 {
                        return Err(StoreError::Conflict("secret"));
                    }
                    tx.execute(insert).await?;
                    tx.execute(forget).await?;
                    Ok(secret)
                })
            })
            .await
    }

    /// The version in use.
    pub async fn current(self, name: &Name) -> Result<Option<SecretVersion>, StoreError> {
        Ok(self.versions(name).await?.into_iter().next())
    }

    /// The versions kept, newest first: the one in use and the one before it.
    pub async fn versions(self, name: &Name) -> Result<Vec<SecretVersion>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT name, version, sealed, origin, fingerprint, hint, created_at, created_by
                 FROM secret_versions WHERE tenant = $1 AND name = $2 ORDER BY version DESC",
            )
            .bind(name);
        self.0.read(select, read).await
    }

    /// The version in use of every secret, by name.
    pub async fn list(self, page: &Page) -> Result<Paged<SecretVersion>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT v.name, v.version, v.sealed, v.origin, v.fingerprint, v.hint, v.created_at, v.created_by
                 FROM secrets s
                 JOIN secret_versions v ON v.tenant = s.tenant AND v.name = s.name AND v.version = s.last_version
                 WHERE s.tenant = $1 AND s.name > $2 ORDER BY s.name LIMIT $3",
            )
            .bind(page.after.as_deref().unwrap_or_default())
            .bind(page.rows() + 1);
        Ok(Paged::cut(self.0.read(select, read).await?, page, |secret| secret.name.to_string()))
    }

    /// Forget a secret, all versions of it. Its version number is not used again.
    pub async fn delete(self, name: &Name) -> Result<(), StoreError> {
        let delete = self.0.sql("DELETE FROM secret_versions WHERE tenant = $1 AND name = $2").bind(name);
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.execute(delete).await? == 0 { Err(StoreError::Missing("secret")) } else { Ok(()) }
                })
            })
            .await
    }
}

fn read(mut row: Row) -> Result<SecretVersion, StoreError> {
    Ok(SecretVersion {
        name: row.take()?,
        version: row.take()?,
        sealed: row.take()?,
        origin: row.take()?,
        fingerprint: row.take()?,
        hint: row.take()?,
        created_at: row.take()?,
        created_by: row.take()?,
    })
}
