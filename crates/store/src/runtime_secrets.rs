//! Secrets that apps use at run time: sealed versions of them, each in force for a time, and how often each was used.

use base::{Name, Timestamp};
use vault::Sealed;

use crate::engine::{Row, first};
use crate::error::at_most;
use crate::{Page, Paged, Store, StoreError};

/// How many versions of a secret are remembered, with or without their values.
const KEPT: i64 = 8;

/// How many counts are written in one transaction.
const STEP: usize = 200;

/// One version of a runtime secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// The secret's name.
    pub name: Name,
    /// Which version, from 1; grows by one, also over a deletion.
    pub version: u64,
    /// The value, sealed under its tenant, name, version, origin and whether it may be delivered. Absent: forgotten.
    pub sealed: Option<Sealed>,
    /// The origin it may be sent to.
    pub origin: Option<String>,
    /// Whether it may be given to devices.
    pub delivered: bool,
    /// Tells two values apart without showing either.
    pub fingerprint: String,
    /// What may be shown of it, when it is long enough.
    pub hint: Option<String>,
    /// From when on it is in force.
    pub not_before: Timestamp,
    /// From when on it is not; absent: it has no end.
    pub not_after: Option<Timestamp>,
    /// When it was set.
    pub created_at: Timestamp,
    /// Who set it.
    pub created_by: String,
}

impl RuntimeVersion {
    /// Whether it is in force at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.sealed.is_some() && self.not_before <= now && self.not_after.is_none_or(|end| now < end)
    }
}

/// A value to become a secret's newest version.
#[derive(Debug, Clone)]
pub struct NewRuntimeVersion {
    /// The secret's name.
    pub name: Name,
    /// The version it was sealed for: one more than [`RuntimeSecrets::last_version`].
    pub version: u64,
    /// The value, sealed.
    pub sealed: Sealed,
    /// The origin it may be sent to.
    pub origin: Option<String>,
    /// Whether it may be given to devices.
    pub delivered: bool,
    /// Tells two values apart without showing either.
    pub fingerprint: String,
    /// What may be shown of it.
    pub hint: Option<String>,
    /// From when on it is in force.
    pub not_before: Timestamp,
    /// When the versions before it end, those that end earlier or at once excepted.
    pub others_end: Timestamp,
    /// Who sets it.
    pub created_by: String,
}

/// What was done with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretUse {
    /// It was put into a request here.
    Substituted,
    /// It was given to a device.
    Delivered,
    /// A device said that it still has it.
    Held,
}

impl SecretUse {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Substituted => "substituted",
            Self::Delivered => "delivered",
            Self::Held => "held",
        }
    }
}

/// How often a version was used in one way by one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUses {
    /// The secret's name.
    pub name: Name,
    /// Which version.
    pub version: u64,
    /// By which app.
    pub app: String,
    /// How: one of the words of [`SecretUse`].
    pub how: String,
    /// How often.
    pub uses: u64,
    /// When last.
    pub last_used_at: Timestamp,
}

/// Runtime secrets.
#[derive(Debug, Clone, Copy)]
pub struct RuntimeSecrets<'a>(pub(crate) &'a Store);

impl RuntimeSecrets<'_> {
    /// The highest version this name ever had, 0 if none: a new value is sealed for one more.
    pub async fn last_version(self, name: &Name) -> Result<u64, StoreError> {
        let select = self.0.sql("SELECT last_version FROM runtime_secrets WHERE tenant = $1 AND name = $2").bind(name);
        first(self.0.fetch(select).await?).map_or(Ok(0), |mut row| row.take())
    }

    /// Store a new version, and say when those before it end. Beyond eight, the oldest are forgotten.
    /// [`StoreError::Conflict`] if somebody else has set the secret since [`RuntimeSecrets::last_version`].
    pub async fn put(self, new: NewRuntimeVersion) -> Result<(), StoreError> {
        at_most("hint", new.hint.as_ref().map_or(0, String::len), 16)?;
        at_most("origin", new.origin.as_ref().map_or(0, String::len), 2048)?;
        let advance = self
            .0
            .sql(
                "INSERT INTO runtime_secrets (tenant, name, last_version) SELECT $1, $2, $3
                 WHERE $3 = COALESCE((SELECT last_version FROM runtime_secrets WHERE tenant = $1 AND name = $2), 0) + 1
                 ON CONFLICT (tenant, name) DO UPDATE SET last_version = excluded.last_version",
            )
            .bind(&new.name)
            .bind(new.version);
        let end = self
            .0
            .sql(
                "UPDATE runtime_secret_versions SET not_after = $3
                 WHERE tenant = $1 AND name = $2 AND (not_after IS NULL OR not_after > $3)",
            )
            .bind(&new.name)
            .bind(new.others_end);
        let insert = self
            .0
            .sql(
                "INSERT INTO runtime_secret_versions (tenant, name, version, sealed, origin, delivered, fingerprint, hint,
                     not_before, not_after, created_at, created_by)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL, $10, $11)",
            )
            .bind(&new.name)
            .bind(new.version)
            .bind(&new.sealed)
            .bind(new.origin.as_deref())
            .bind(new.delivered)
            .bind(&*new.fingerprint)
            .bind(new.hint.as_deref())
            .bind(new.not_before)
            .bind(self.0.now())
            .bind(&*new.created_by);
        let before = i64::try_from(new.version).unwrap_or(i64::MAX).saturating_sub(KEPT);
        let old = |text: &'static str| self.0.sql(text).bind(&new.name).bind(before);
        let forget = old("DELETE FROM runtime_secret_versions WHERE tenant = $1 AND name = $2 AND version <= $3");
        let uses = old("DELETE FROM runtime_secret_uses WHERE tenant = $1 AND name = $2 AND version <= $3");
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.execute(advance).await? == 0 {
                        return Err(StoreError::Conflict("runtime secret"));
                    }
                    for statement in [end, insert, forget, uses] {
                        tx.execute(statement).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// The versions of a secret that are remembered, newest first.
    pub async fn versions(self, name: &Name) -> Result<Vec<RuntimeVersion>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT name, version, sealed, origin, delivered, fingerprint, hint, not_before, not_after, created_at,
                     created_by
                 FROM runtime_secret_versions WHERE tenant = $1 AND name = $2 ORDER BY version DESC",
            )
            .bind(name);
        self.0.read(select, read).await
    }

    /// Every version whose value is not forgotten, newest first among those of a name: what requests are served with.
    pub async fn kept(self) -> Result<Vec<RuntimeVersion>, StoreError> {
        let select = self.0.sql(
            "SELECT name, version, sealed, origin, delivered, fingerprint, hint, not_before, not_after, created_at,
                 created_by
             FROM runtime_secret_versions WHERE tenant = $1 AND sealed IS NOT NULL ORDER BY name, version DESC",
        );
        self.0.read(select, read).await
    }

    /// The names of the secrets that have versions, in order.
    pub async fn names(self, page: &Page) -> Result<Paged<Name>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT DISTINCT name FROM runtime_secret_versions WHERE tenant = $1 AND name > $2
                 ORDER BY name LIMIT $3",
            )
            .bind(page.after.as_deref().unwrap_or_default())
            .bind(page.rows() + 1);
        Ok(Paged::cut(self.0.read(select, |mut row: Row| row.take()).await?, page, Name::to_string))
    }

    /// End a version now and forget its value. [`StoreError::Missing`] if there is no such version with a value.
    pub async fn end(self, name: &Name, version: u64) -> Result<(), StoreError> {
        let end = self
            .0
            .sql(
                "UPDATE runtime_secret_versions
                 SET sealed = NULL, not_after = CASE WHEN not_after < $4 THEN not_after ELSE $4 END
                 WHERE tenant = $1 AND name = $2 AND version = $3 AND sealed IS NOT NULL",
            )
            .bind(name)
            .bind(version)
            .bind(self.0.now());
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.execute(end).await? == 0 { Err(StoreError::Missing("runtime secret")) } else { Ok(()) }
                })
            })
            .await
    }

    /// Forget a secret, all versions of it and their uses. Its version numbers are not used again.
    pub async fn delete(self, name: &Name) -> Result<(), StoreError> {
        let delete = self.0.sql("DELETE FROM runtime_secret_versions WHERE tenant = $1 AND name = $2").bind(name);
        let uses = self.0.sql("DELETE FROM runtime_secret_uses WHERE tenant = $1 AND name = $2").bind(name);
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.execute(delete).await? == 0 {
                        return Err(StoreError::Missing("runtime secret"));
                    }
                    tx.execute(uses).await.map(drop)
                })
            })
            .await
    }

    /// Forget the values of versions that ended before `moment`; how many there were.
    pub async fn forget_ended(self, moment: Timestamp) -> Result<u64, StoreError> {
        let forget = self
            .0
            .sql(
                "UPDATE runtime_secret_versions SET sealed = NULL
                 WHERE tenant = $1 AND sealed IS NOT NULL AND not_after < $2",
            )
            .bind(moment);
        self.0.write(move |tx| Box::pin(async move { tx.execute(forget).await })).await
    }

    /// Add to the counts. Those of versions that are forgotten are left out.
    pub async fn used(self, counts: &[SecretUses]) -> Result<(), StoreError> {
        for some in counts.chunks(STEP) {
            let mut adds = Vec::with_capacity(some.len());
            for count in some {
                at_most("app", count.app.len(), 256)?;
                adds.push(
                    self.0
                        .sql(
                            "INSERT INTO runtime_secret_uses (tenant, name, version, app, how, uses, last_used_at)
                             SELECT $1, $2, $3, $4, $5, $6, $7
                             WHERE EXISTS (SELECT 1 FROM runtime_secret_versions
                                           WHERE tenant = $1 AND name = $2 AND version = $3)
                             ON CONFLICT (tenant, name, version, app, how) DO UPDATE SET
                                 uses = runtime_secret_uses.uses + excluded.uses,
                                 last_used_at = CASE WHEN runtime_secret_uses.last_used_at > excluded.last_used_at
                                     THEN runtime_secret_uses.last_used_at ELSE excluded.last_used_at END",
                        )
                        .bind(&count.name)
                        .bind(count.version)
                        .bind(&*count.app)
                        .bind(&*count.how)
                        .bind(count.uses)
                        .bind(count.last_used_at),
                );
            }
            self.0
                .write(move |tx| {
                    Box::pin(async move {
                        for add in adds {
                            tx.execute(add).await?;
                        }
                        Ok(())
                    })
                })
                .await?;
        }
        Ok(())
    }

    /// How often the versions of a secret were used, newest version first.
    pub async fn uses(self, name: &Name) -> Result<Vec<SecretUses>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT name, version, app, how, uses, last_used_at FROM runtime_secret_uses
                 WHERE tenant = $1 AND name = $2 ORDER BY version DESC, app, how LIMIT 5000",
            )
            .bind(name);
        self.0
            .read(select, |mut row| {
                Ok(SecretUses {
                    name: row.take()?,
                    version: row.take()?,
                    app: row.take()?,
                    how: row.take()?,
                    uses: row.take()?,
                    last_used_at: row.take()?,
                })
            })
            .await
    }
}

fn read(mut row: Row) -> Result<RuntimeVersion, StoreError> {
    Ok(RuntimeVersion {
        name: row.take()?,
        version: row.take()?,
        sealed: row.take()?,
        origin: row.take()?,
        delivered: row.take()?,
        fingerprint: row.take()?,
        hint: row.take()?,
        not_before: row.take()?,
        not_after: row.take()?,
        created_at: row.take()?,
        created_by: row.take()?,
    })
}
