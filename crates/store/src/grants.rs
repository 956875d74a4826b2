//! One-time credentials of the token service: authorization codes, pushed requests, sign-ins under way, device codes.
//! Known by their keyed hashes; what each stands for is sealed.

use base::Timestamp;
use vault::Sealed;

use crate::engine::{Row, first};
use crate::{Store, StoreError};

/// What kind of one-time credential. One hash can be there once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantKind {
    /// An authorization code (RFC 6749 section 4.1).
    Code,
    /// A pushed authorization request (RFC 9126).
    Pushed,
    /// A sign-in at another issuer that is under way.
    Signin,
    /// A device code (RFC 8628).
    Device,
    /// The code a person types in for a device.
    UserCode,
}

impl GrantKind {
    /// The kind as stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Pushed => "par",
            Self::Signin => "signin",
            Self::Device => "device",
            Self::UserCode => "user_code",
        }
    }
}

/// What a one-time credential stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Sealed by whoever put it here.
    pub body: Sealed,
    /// Which version of the body it is, from 1.
    pub revision: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// Since when it is used up.
    pub used_at: Option<Timestamp>,
}

/// What came of using a credential up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is yours, and nobody else's any more.
    First(Grant),
    /// It was used before: a sign of theft.
    AlreadyUsed(Grant),
    /// Its time is over.
    Expired,
    /// There is none, or no longer.
    Unknown,
}

/// One-time credentials of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Grants<'a>(pub(crate) &'a Store, pub(crate) GrantKind);

impl Grants<'_> {
    /// Keep what the credential with that keyed hash stands for. [`StoreError::Exists`] if there is one.
    pub async fn put(self, hash: [u8; 32], body: &Sealed, until: Timestamp) -> Result<(), StoreError> {
        let insert = self
            .0
            .sql(
                "INSERT INTO grants_pending (tenant, kind, hash, body, revision, created_at, expires_at)
                 VALUES ($1, $2, $3, $4, 1, $5, $6) ON CONFLICT DO NOTHING",
            )
            .bind(self.1.as_str())
            .bind(hash)
            .bind(body)
            .bind(self.0.now())
            .bind(until);
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    if tx.execute(insert).await? == 0 { Err(StoreError::Exists("a code")) } else { Ok(()) }
                })
            })
            .await
    }

    /// What it stands for, used or not, unless its time is over.
    pub async fn get(self, hash: [u8; 32]) -> Result<Option<Grant>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT body, revision, created_at, expires_at, used_at FROM grants_pending
                 WHERE tenant = $1 AND kind = $2 AND hash = $3 AND expires_at > $4",
            )
            .bind(self.1.as_str())
            .bind(hash)
            .bind(self.0.now());
        first(self.0.fetch(select).await?).map(read).transpose()
    }

    /// Change what it stands for, if it is still at `revision`, unused and in time: [`StoreError::Conflict`] if not.
    pub async fn replace(self, hash: [u8; 32], revision: u64, body: &Sealed) -> Result<(), StoreError> {
        let update = self
            .0
            .sql(
                "UPDATE grants_pending SET body = $5, revision = revision + 1
                 WHERE tenant = $1 AND kind = $2 AND hash = $3 AND revision = $4 AND used_at IS NULL AND expires_at > $6",
            )
            .bind(self.1.as_str())
            .bind(hash)
            .bind(revision)
            .bind(body)
            .bind(self.0.now());
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    if tx.execute(update).await? == 0 { Err(StoreError::Conflict("code")) } else { Ok(()) }
                })
            })
            .await
    }

    /// Use it up. Of any number that try at the same time, one is told [`Taken::First`].
    pub async fn take(self, hash: [u8; 32]) -> Result<Taken, StoreError> {
        let now = self.0.now();
        let take = self
            .0
            .sql(
                "UPDATE grants_pending SET used_at = $4
                 WHERE tenant = $1 AND kind = $2 AND hash = $3 AND used_at IS NULL AND expires_at > $4
                 RETURNING body, revision, created_at, expires_at, used_at",
            )
            .bind(self.1.as_str())
            .bind(hash)
            .bind(now);
        let select = self
            .0
            .sql(
                "SELECT body, revision, created_at, expires_at, used_at FROM grants_pending
                 WHERE tenant = $1 AND kind = $2 AND hash = $3",
            )
            .bind(self.1.as_str())
            .bind(hash);
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    if let Some(row) = first(tx.fetch(take).await?) {
                        return Ok(Taken::First(read(row)?));
                    }
                    Ok(match first(tx.fetch(select).await?).map(read).transpose()? {
                        None => Taken::Unknown,
                        Some(grant) if grant.used_at.is_some() => Taken::AlreadyUsed(grant),
                        Some(_) => Taken::Expired,
                    })
                })
            })
            .await
    }

    /// Forget it.
    pub async fn delete(self, hash: [u8; 32]) -> Result<(), StoreError> {
        let delete = self
            .0
            .sql("DELETE FROM grants_pending WHERE tenant = $1 AND kind = $2 AND hash = $3")
            .bind(self.1.as_str())
            .bind(hash);
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await.map(drop) })).await
    }

    /// Forget those of every kind whose time has been over for a while, at most `limit`; how many there were. Until
    /// then a late use is told from that of something that never was.
    pub async fn delete_expired(self, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM grants_pending WHERE tenant = $1 AND (kind, hash) IN
                 (SELECT kind, hash FROM grants_pending WHERE tenant = $1 AND expires_at <= $2 LIMIT $3)",
            )
            .bind(self.0.now().minus(AFTERWARDS))
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

/// How long an expired credential is still told from an unknown one.
const AFTERWARDS: std::time::Duration = std::time::Duration::from_mins(5);

fn read(mut row: Row) -> Result<Grant, StoreError> {
    Ok(Grant {
        body: row.take()?,
        revision: row.take()?,
        created_at: row.take()?,
        expires_at: row.take()?,
        used_at: row.take()?,
    })
}
