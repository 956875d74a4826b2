//! Answers kept for their `Idempotency-Key`, so that a repeated request is done once.
//!
//! An answer may show a new credential, so it is stored sealed; the type leaves no other way.

use std::time::Duration;

use vault::Sealed;

use crate::engine::{Row, first};
use crate::error::at_most;
use crate::{Store, StoreError};

/// How long a request may be under way before its key is taken to be abandoned (the process died).
const ABANDONED: Duration = Duration::from_mins(5);

/// A request that is being done under its key; hand it back with the answer.
#[derive(Debug, Clone)]
pub struct Attempt {
    principal: String,
    key: String,
    id: String,
}

impl Attempt {
    /// A name for this attempt, random: what its answer is sealed under.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// What to do with a request that carries an `Idempotency-Key`.
#[derive(Debug)]
pub enum Begin {
    /// It is new: do it, then [`Idempotency::complete`] or [`Idempotency::abandon`] it.
    Proceed(Attempt),
    /// It was done: answer the same again.
    Replay {
        /// The HTTP status.
        status: u16,
        /// The answer's body, sealed under the id of its attempt.
        answer: Sealed,
        /// That id.
        attempt: String,
    },
    /// The first one is still under way: 409.
    UnderWay,
    /// The key was used for another request: 422.
    Mismatch,
}

/// Answers kept for their `Idempotency-Key`.
#[derive(Debug, Clone, Copy)]
pub struct Idempotency<'a>(pub(crate) &'a Store);

impl Idempotency<'_> {
    /// Claim `key` for the request of `principal` whose method, path and body hash to `request_hash`.
    pub async fn begin(self, principal: &str, key: &str, request_hash: [u8; 32]) -> Result<Begin, StoreError> {
        at_most("idempotency key", key.len(), 255)?;
        at_most("principal", principal.len(), 255)?;
        let now = self.0.now();
        let attempt = Attempt { principal: principal.to_owned(), key: key.to_owned(), id: self.0.new_id("ia") };
        let insert = self
            .0
            .sql(
                "INSERT INTO idempotency (tenant, principal, key, request_hash, attempt, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (tenant, principal, key) DO UPDATE
                 SET request_hash = excluded.request_hash, attempt = excluded.attempt, status = NULL, answer = NULL,
                     expires_at = excluded.expires_at
                 WHERE idempotency.expires_at <= $7",
            )
            .bind(principal)
            .bind(key)
            .bind(request_hash)
            .bind(attempt.id())
            .bind(now.plus(ABANDONED))
            .bind(now);
        let select = self
            .0
            .sql(
                "SELECT request_hash, status, answer, attempt FROM idempotency
                 WHERE tenant = $1 AND principal = $2 AND key = $3",
            )
            .bind(principal)
            .bind(key);
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    if tx.execute(insert).await? == 1 {
                        return Ok(Begin::Proceed(attempt));
                    }
                    let row = first(tx.fetch(select).await?).ok_or(StoreError::Conflict("idempotency key"))?;
                    earlier(row, request_hash)
                })
            })
            .await
    }

    /// Keep the answer for `keep`. Nothing is kept if the attempt took so long that another has begun.
    pub async fn complete(
        self,
        attempt: Attempt,
        status: u16,
        answer: &Sealed,
        keep: Duration,
    ) -> Result<(), StoreError> {
        let update = self
            .0
            .sql(
                "UPDATE idempotency SET status = $5, answer = $6, expires_at = $7
                 WHERE tenant = $1 AND principal = $2 AND key = $3 AND attempt = $4",
            )
            .bind(attempt.principal)
            .bind(attempt.key)
            .bind(attempt.id)
            .bind(status)
            .bind(answer)
            .bind(self.0.now().plus(keep));
        self.0.write(move |tx| Box::pin(async move { tx.execute(update).await.map(drop) })).await
    }

    /// Give the key free: the request failed and may be tried again.
    pub async fn abandon(self, attempt: Attempt) -> Result<(), StoreError> {
        let delete = self
            .0
            .sql("DELETE FROM idempotency WHERE tenant = $1 AND principal = $2 AND key = $3 AND attempt = $4")
            .bind(attempt.principal)
            .bind(attempt.key)
            .bind(attempt.id);
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await.map(drop) })).await
    }

    /// Forget the answers whose time is over; how many there were.
    pub async fn delete_expired(self) -> Result<u64, StoreError> {
        let delete = self.0.sql("DELETE FROM idempotency WHERE tenant = $1 AND expires_at <= $2").bind(self.0.now());
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

fn earlier(mut row: Row, request_hash: [u8; 32]) -> Result<Begin, StoreError> {
    let hash: [u8; 32] = row.take()?;
    let (status, answer): (Option<u16>, Option<Sealed>) = (row.take()?, row.take()?);
    Ok(match (hash == request_hash, status, answer) {
        (false, _, _) => Begin::Mismatch,
        (true, Some(status), Some(answer)) => Begin::Replay { status, answer, attempt: row.take()? },
        (true, _, _) => Begin::UnderWay,
    })
}
