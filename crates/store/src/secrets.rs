//! Secrets an operator gave us, sealed.

use std::cmp::Ordering;

use base::{Name, Timestamp};
use vault::Sealed;

use crate::engine::{Row, Statement, first};
use crate::error::at_most;
use crate::{Page, Paged, Store, StoreError};

/// Which of a secret's values one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The one in use.
    Current,
    /// The one that is to be used next, and instead of the current one where that is refused.
    Next,
    /// The one that was used before: used where the current one is refused, until its time is over.
    Old,
}

impl Slot {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Old => "old",
        }
    }
}

/// One version of a secret. There are at most three: the current one, the next, and the one before.
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
    /// Which one it is.
    pub slot: Slot,
    /// When it became the current one; absent until it does.
    pub activated_at: Option<Timestamp>,
    /// When it is forgotten, if it is the old one.
    pub retire_at: Option<Timestamp>,
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

/// What a new version becomes.
#[derive(Debug, Clone, Copy)]
enum Becomes {
    /// The current one; the one before is kept until then, or not at all.
    Current { keep_until: Option<Timestamp> },
    /// The next one.
    Next,
}

impl Becomes {
    const fn slot(self) -> Slot {
        match self {
            Self::Current { .. } => Slot::Current,
            Self::Next => Slot::Next,
        }
    }
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

    /// Store a new version, the current one from now on; all others are forgotten. [`StoreError::Conflict`] if somebody
    /// else has set the secret since [`Secrets::last_version`]: seal for the next version and try again.
    pub async fn put(self, new: NewSecret) -> Result<SecretVersion, StoreError> {
        self.insert(new, Becomes::Current { keep_until: None }).await
    }

    /// Store a new version, the current one from now on. The one before is the old one until `keep_until`; all others are
    /// forgotten.
    pub async fn replace(self, new: NewSecret, keep_until: Timestamp) -> Result<SecretVersion, StoreError> {
        self.insert(new, Becomes::Current { keep_until: Some(keep_until) }).await
    }

    /// Store a new version that is not used yet, in the place of another that was not: the next one.
    pub async fn stage(self, new: NewSecret) -> Result<SecretVersion, StoreError> {
        self.insert(new, Becomes::Next).await
    }

    async fn insert(self, new: NewSecret, becomes: Becomes) -> Result<SecretVersion, StoreError> {
        at_most("hint", new.hint.as_ref().map_or(0, String::len), 16)?;
        at_most("origin", new.origin.as_ref().map_or(0, String::len), 2048)?;
        let now = self.0.now();
        let secret = SecretVersion {
            name: new.name,
            version: new.version,
            sealed: new.sealed,
            origin: new.origin,
            fingerprint: new.fingerprint,
            hint: new.hint,
            created_at: now,
            created_by: new.created_by,
            slot: becomes.slot(),
            activated_at: (becomes.slot() == Slot::Current).then_some(now),
            retire_at: None,
        };
        let advance = self
            .0
            .sql(
                "INSERT INTO secrets (tenant, name, last_version, current_version) SELECT $1, $2, $3, 0
                 WHERE $3 = COALESCE((SELECT last_version FROM secrets WHERE tenant = $1 AND name = $2), 0) + 1
                 ON CONFLICT (tenant, name) DO UPDATE SET last_version = excluded.last_version",
            )
            .bind(&secret.name)
            .bind(secret.version);
        // What waited to be the next one is not any more.
        let replace = self
            .0
            .sql(
                "DELETE FROM secret_versions WHERE tenant = $1 AND name = $2 AND version >
                 (SELECT current_version FROM secrets WHERE tenant = $1 AND name = $2)",
            )
            .bind(&secret.name);
        let insert = self
            .0
            .sql(
                "INSERT INTO secret_versions
                 (tenant, name, version, sealed, origin, fingerprint, hint, created_at, created_by, activated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            )
            .bind(&secret.name)
            .bind(secret.version)
            .bind(&secret.sealed)
            .bind(secret.origin.as_deref())
            .bind(&*secret.fingerprint)
            .bind(secret.hint.as_deref())
            .bind(secret.created_at)
            .bind(&*secret.created_by)
            .bind(secret.activated_at);
        let change = match becomes {
            Becomes::Current { keep_until } => Some(self.makes_current(&secret.name, secret.version, keep_until)),
            Becomes::Next => None,
        };
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.execute(advance).await? == 0 {
                        return Err(StoreError::Conflict("secret"));
                    }
                    tx.execute(replace).await?;
                    tx.execute(insert).await?;
                    for statement in change.into_iter().flatten() {
                        tx.execute(statement).await?;
                    }
                    Ok(secret)
                })
            })
            .await
    }

    /// What makes `version` the current one.
    fn makes_current(self, name: &Name, version: u64, keep_until: Option<Timestamp>) -> [Statement; 4] {
        let forget = match keep_until {
            Some(_) => self.0.sql(
                "DELETE FROM secret_versions WHERE tenant = $1 AND name = $2 AND version <
                 (SELECT current_version FROM secrets WHERE tenant = $1 AND name = $2)",
            ),
            None => self.0.sql("DELETE FROM secret_versions WHERE tenant = $1 AND name = $2 AND version < $3"),
        };
        let forget = match keep_until {
            Some(_) => forget.bind(name),
            None => forget.bind(name).bind(version),
        };
        let retire =
            self.0.sql("UPDATE secret_versions SET retire_at = $4 WHERE tenant = $1 AND name = $2 AND version < $3");
        let begin =
            self.0.sql("UPDATE secret_versions SET activated_at = $4 WHERE tenant = $1 AND name = $2 AND version = $3");
        let switch = self.0.sql("UPDATE secrets SET current_version = $3 WHERE tenant = $1 AND name = $2");
        [
            forget,
            retire.bind(name).bind(version).bind(keep_until),
            begin.bind(name).bind(version).bind(self.0.now()),
            switch.bind(name).bind(version),
        ]
    }

    /// Make the next version the current one. The one before is kept until `keep_until`, or forgotten at once.
    /// [`StoreError::Conflict`] if `version` is not the next one any more.
    pub async fn activate(
        self,
        name: &Name,
        version: u64,
        keep_until: Option<Timestamp>,
    ) -> Result<SecretVersion, StoreError> {
        let next = self
            .0
            .sql(
                "SELECT 1 FROM secret_versions v JOIN secrets s ON s.tenant = v.tenant AND s.name = v.name
                 WHERE v.tenant = $1 AND v.name = $2 AND v.version = $3 AND v.version > s.current_version",
            )
            .bind(name)
            .bind(version);
        let change = self.makes_current(name, version, keep_until);
        let select = self.select(name);
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.fetch(next).await?.is_empty() {
                        return Err(StoreError::Conflict("secret"));
                    }
                    for statement in change {
                        tx.execute(statement).await?;
                    }
                    let mut versions = tx.fetch(select).await?.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
                    let current = versions.iter().position(|version| version.slot == Slot::Current);
                    Ok(versions.swap_remove(current.ok_or(StoreError::Corrupt)?))
                })
            })
            .await
    }

    /// Forget the next version, or the old one. [`StoreError::Missing`] if there is none, also for the current one.
    pub async fn retire(self, name: &Name, slot: Slot) -> Result<(), StoreError> {
        let delete = match slot {
            Slot::Current => return Err(StoreError::Missing("secret")),
            Slot::Next => self.0.sql(
                "DELETE FROM secret_versions WHERE tenant = $1 AND name = $2 AND version >
                 (SELECT current_version FROM secrets WHERE tenant = $1 AND name = $2)",
            ),
            Slot::Old => self.0.sql(
                "DELETE FROM secret_versions WHERE tenant = $1 AND name = $2 AND version <
                 (SELECT current_version FROM secrets WHERE tenant = $1 AND name = $2)",
            ),
        };
        let delete = delete.bind(name);
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.execute(delete).await? == 0 { Err(StoreError::Missing("secret")) } else { Ok(()) }
                })
            })
            .await
    }

    /// Forget the old versions whose time is over; how many there were.
    pub async fn retire_due(self) -> Result<u64, StoreError> {
        let due = self.0.sql("SELECT 1 FROM secret_versions WHERE tenant = $1 AND retire_at <= $2 LIMIT 1");
        if self.0.fetch(due.bind(self.0.now())).await?.is_empty() {
            return Ok(0);
        }
        let delete = self.0.sql("DELETE FROM secret_versions WHERE tenant = $1 AND retire_at <= $2").bind(self.0.now());
        self.0.change(move |tx, _| Box::pin(async move { tx.execute(delete).await })).await
    }

    /// The version in use.
    pub async fn current(self, name: &Name) -> Result<Option<SecretVersion>, StoreError> {
        Ok(self.versions(name).await?.into_iter().find(|version| version.slot == Slot::Current))
    }

    /// The versions there are: the current one, the next, and the old one whose time is not over.
    pub async fn versions(self, name: &Name) -> Result<Vec<SecretVersion>, StoreError> {
        let now = self.0.now();
        let mut versions = self.0.read(self.select(name), read).await?;
        versions.retain(|version| version.retire_at.is_none_or(|end| end > now));
        versions.sort_by_key(|version| version.slot as u8);
        Ok(versions)
    }

    fn select(self, name: &Name) -> Statement {
        self.0
            .sql(
                "SELECT v.name, v.version, v.sealed, v.origin, v.fingerprint, v.hint, v.created_at, v.created_by,
                 s.current_version, v.activated_at, v.retire_at
                 FROM secret_versions v JOIN secrets s ON s.tenant = v.tenant AND s.name = v.name
                 WHERE v.tenant = $1 AND v.name = $2 ORDER BY v.version DESC",
            )
            .bind(name)
    }

    /// The version in use of every secret, by name.
    pub async fn list(self, page: &Page) -> Result<Paged<SecretVersion>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT v.name, v.version, v.sealed, v.origin, v.fingerprint, v.hint, v.created_at, v.created_by,
                 s.current_version, v.activated_at, v.retire_at
                 FROM secrets s
                 JOIN secret_versions v ON v.tenant = s.tenant AND v.name = s.name AND v.version = s.current_version
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
    let (name, version) = (row.take()?, row.take::<u64>()?);
    let (sealed, origin, fingerprint, hint) = (row.take()?, row.take()?, row.take()?, row.take()?);
    let (created_at, created_by) = (row.take()?, row.take()?);
    let slot = match version.cmp(&row.take::<u64>()?) {
        Ordering::Equal => Slot::Current,
        Ordering::Greater => Slot::Next,
        Ordering::Less => Slot::Old,
    };
    let (activated_at, retire_at) = (row.take()?, row.take()?);
    Ok(SecretVersion {
        name,
        version,
        sealed,
        origin,
        fingerprint,
        hint,
        created_at,
        created_by,
        slot,
        activated_at,
        retire_at,
    })
}
