//! Revocations: what ends a token before its time, and never comes back with a restart.

use base::{Tenant, Timestamp};

use crate::engine::{Connection, Effects, Row, Statement, first, sql};
use crate::error::at_most;
use crate::revoked::Change;
use crate::{OWN_ISSUER, Page, Paged, Store, StoreError, next};

/// What every list of revocations reads.
macro_rules! select {
    () => {
        "SELECT seq, kind, issuer, value, not_before, expires_at, at, by, reason, lifted_at, lifted_by FROM revocations"
    };
}

/// What ends refresh token families that began before a moment.
macro_rules! end {
    ($which:literal) => {
        concat!(
            "UPDATE refresh_families SET revoked_at = $2, revoked_why = $3
             WHERE tenant = $1 AND revoked_at IS NULL AND created_at < $4 ",
            $which
        )
    };
}

/// The longest value a revocation can name, in bytes: a subject's limit.
const MAX_VALUE: usize = 1024;
const MAX_REASON: usize = 256;

/// What is revoked. An issuer is a configured name; our own is [`OWN_ISSUER`]. What another issuer's name stands before
/// (`corp|alice`) reaches our tokens for its people too: to revoke `alice` of `corp` ends both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revoke {
    /// One token, by its `jti`. No time makes it valid again. (Not by a hash of its text: whoever holds a token can give
    /// its ECDSA signature another form that is as good.)
    Token {
        /// Who issued it.
        issuer: String,
        /// Its `jti`.
        jti: String,
    },
    /// A subject's tokens, and its refresh tokens.
    Subject {
        /// Who vouches for it.
        issuer: String,
        /// Its `sub`.
        subject: String,
    },
    /// The tokens a client asked for, and its refresh tokens.
    Client {
        /// Who issued them.
        issuer: String,
        /// Its `client_id`.
        client: String,
    },
    /// A session's tokens, and its refresh tokens.
    Session {
        /// Whose session.
        issuer: String,
        /// Its `sid`.
        session: String,
    },
    /// A device's tokens, and its refresh tokens.
    Device {
        /// Who knows it.
        issuer: String,
        /// Its `device_id`.
        device: String,
    },
    /// All a key has signed or will sign: whoever stole it can write any time of issue.
    Key {
        /// Whose key.
        issuer: String,
        /// Its key id.
        kid: String,
    },
    /// All an issuer's tokens, and refresh tokens of its people.
    Issuer {
        /// Its name.
        issuer: String,
    },
    /// All tokens of all issuers, and all refresh tokens.
    Everything,
}

impl Revoke {
    /// Its kind, as stored and shown.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Subject { .. } => "subject",
            Self::Client { .. } => "client",
            Self::Session { .. } => "session",
            Self::Device { .. } => "device",
            Self::Key { .. } => "key",
            Self::Issuer { .. } => "issuer",
            Self::Everything => "everything",
        }
    }

    /// The issuer it names, or nothing.
    pub fn issuer(&self) -> &str {
        match self {
            Self::Token { issuer, .. }
            | Self::Subject { issuer, .. }
            | Self::Client { issuer, .. }
            | Self::Session { issuer, .. }
            | Self::Device { issuer, .. }
            | Self::Key { issuer, .. }
            | Self::Issuer { issuer } => issuer,
            Self::Everything => "",
        }
    }

    /// What of the issuer it names, or nothing.
    pub fn value(&self) -> &str {
        match self {
            Self::Token { jti: value, .. }
            | Self::Subject { subject: value, .. }
            | Self::Client { client: value, .. }
            | Self::Session { session: value, .. }
            | Self::Device { device: value, .. }
            | Self::Key { kid: value, .. } => value,
            Self::Issuer { .. } | Self::Everything => "",
        }
    }

    /// Whether it can be lifted: marks of who or what can, a token or key that was named stays dead.
    pub const fn can_be_lifted(&self) -> bool {
        !matches!(self, Self::Token { .. } | Self::Key { .. })
    }

    fn read(kind: &str, issuer: String, value: String) -> Option<Self> {
        Some(match kind {
            "token" => Self::Token { issuer, jti: value },
            "subject" => Self::Subject { issuer, subject: value },
            "client" => Self::Client { issuer, client: value },
            "session" => Self::Session { issuer, session: value },
            "device" => Self::Device { issuer, device: value },
            "key" => Self::Key { issuer, kid: value },
            "issuer" => Self::Issuer { issuer },
            "everything" => Self::Everything,
            _ => return None,
        })
    }
}

/// A revocation to be written.
#[derive(Debug, Clone)]
pub struct NewRevocation {
    /// What is revoked.
    pub what: Revoke,
    /// What was issued before this moment is refused. See [`Revocations::now`] for "up to now".
    pub not_before: Timestamp,
    /// From when on it may be forgotten, since no token it is about is valid then; absent: never.
    pub expires_at: Option<Timestamp>,
    /// Who revokes.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, growing; never used twice.
    pub seq: u64,
    /// What is revoked.
    pub what: Revoke,
    /// What was issued before this moment is refused.
    pub not_before: Timestamp,
    /// From when on it may be forgotten; absent: never.
    pub expires_at: Option<Timestamp>,
    /// When it was written.
    pub at: Timestamp,
    /// Who revoked.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when it is lifted, and by whom.
    pub lifted: Option<(Timestamp, String)>,
}

/// Revocations.
#[derive(Debug, Clone, Copy)]
pub struct Revocations<'a>(pub(crate) &'a Store);

impl Revocations<'_> {
    /// The `not_before` that reaches everything issued up to now: `iat` has whole seconds, so what is issued later in
    /// this second is refused too.
    pub fn now(self) -> Timestamp {
        up_to(self.0.now())
    }

    /// Revoke. When it returns, the revocation is on the disk and in force; refresh tokens that began before it have
    /// ended in the same transaction.
    pub async fn revoke(self, new: NewRevocation) -> Result<Entry, StoreError> {
        self.revoke_all(vec![new]).await?.pop().ok_or(StoreError::Corrupt)
    }

    /// Revoke several things, all or none.
    pub async fn revoke_all(self, new: Vec<NewRevocation>) -> Result<Vec<Entry>, StoreError> {
        self.write_all(new, false).await
    }

    /// Revoke several things, all or none, each in place of earlier revocations of the same by the same that it covers:
    /// for sources that say the same again and again, so that there are no more entries than things they speak of.
    pub async fn revoke_anew(self, new: Vec<NewRevocation>) -> Result<Vec<Entry>, StoreError> {
        self.write_all(new, true).await
    }

    async fn write_all(self, new: Vec<NewRevocation>, anew: bool) -> Result<Vec<Entry>, StoreError> {
        for new in &new {
            at_most("issuer", new.what.issuer().len(), 256)?;
            at_most("revoked value", new.what.value().len(), MAX_VALUE)?;
            at_most("reason", new.reason.len(), MAX_REASON)?;
        }
        let store = self.0.clone();
        let order = self.0.shared.memory.order.adding().await;
        self.0
            .submit(order, move |tx| {
                Box::pin(async move {
                    let mut entries = Vec::new();
                    for new in new {
                        if anew {
                            tx.execute(covered(&store, &new)).await?;
                        }
                        entries.push(write(&store, tx, new).await?);
                    }
                    let changes = entries.iter().map(|entry| added(&store, entry)).collect();
                    Ok((entries, Effects { version: None, changes }))
                })
            })
            .await
    }

    /// Lift a revocation, which stays in the list. Tokens from before it count again where no other reaches them;
    /// refresh tokens it ended stay ended. [`StoreError::Missing`] unless it is in force and can be lifted.
    pub async fn lift(self, seq: u64, by: &str) -> Result<Entry, StoreError> {
        let store = self.0.clone();
        let find = self.0.sql(concat!(select!(), " WHERE tenant = $1 AND seq = $2 AND lifted_at IS NULL")).bind(seq);
        let lift = self
            .0
            .sql("UPDATE revocations SET lifted_at = $3, lifted_by = $4 WHERE tenant = $1 AND seq = $2")
            .bind(seq)
            .bind(self.0.now())
            .bind(by);
        let (now, by) = (self.0.now(), by.to_owned());
        let order = self.0.shared.memory.order.alone().await;
        self.0
            .submit(order, move |tx| {
                Box::pin(async move {
                    next(tx, "revocations").await?;
                    let entry = first(tx.fetch(find).await?).map(read).ok_or(StoreError::Missing("revocation"))??;
                    if !entry.what.can_be_lifted() {
                        return Err(StoreError::Missing("revocation that can be lifted"));
                    }
                    tx.execute(lift).await?;
                    next(tx, "lifted").await?;
                    let rest = store
                        .sql(concat!(
                            select!(),
                            " WHERE tenant = $1 AND kind = $2 AND issuer = $3 AND value = $4 AND lifted_at IS NULL
                             AND (expires_at IS NULL OR expires_at > $5)"
                        ))
                        .bind(entry.what.kind())
                        .bind(entry.what.issuer())
                        .bind(entry.what.value())
                        .bind(now);
                    let rest = tx.fetch(rest).await?.into_iter().map(read).collect::<Result<_, _>>()?;
                    let change = Change::Replace(store.tenant().clone(), entry.what.clone(), rest);
                    let entry = Entry { lifted: Some((now, by)), ..entry };
                    Ok((entry, Effects { version: None, changes: vec![change] }))
                })
            })
            .await
    }

    /// All that are not forgotten, newest first.
    pub async fn list(self, page: &Page) -> Result<Paged<Entry>, StoreError> {
        let before = page.after.as_deref().map_or(Some(i64::MAX), |after| after.parse().ok()).unwrap_or(0);
        let select = self
            .0
            .sql(concat!(select!(), " WHERE tenant = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3"))
            .bind(before)
            .bind(page.rows() + 1);
        Ok(Paged::cut(self.0.read(select, read).await?, page, |entry| entry.seq.to_string()))
    }

    /// Forget what may be forgotten, at most `limit`, on the disk and in memory; how many there were on the disk.
    pub async fn delete_expired(self, limit: u32) -> Result<u64, StoreError> {
        let now = self.0.now();
        let delete = self
            .0
            .sql(
                "DELETE FROM revocations WHERE tenant = $1 AND seq IN
                 (SELECT seq FROM revocations WHERE tenant = $1 AND expires_at <= $2 LIMIT $3)",
            )
            .bind(now)
            .bind(i64::from(limit));
        let deleted = self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await?;
        self.0.shared.memory.mirror.forget(now);
        Ok(deleted)
    }
}

/// The end of the second that `now` is in.
pub(crate) fn up_to(now: Timestamp) -> Timestamp {
    Timestamp::from_secs(now.as_secs().saturating_add(1))
}

/// What is in force of all tenants: the mirror's beginning.
pub(crate) fn in_force(now: Timestamp) -> Statement {
    sql("SELECT tenant, seq, kind, issuer, value, not_before, expires_at, at, by, reason, lifted_at, lifted_by
         FROM revocations WHERE lifted_at IS NULL AND (expires_at IS NULL OR expires_at > $1)")
    .bind(now)
}

/// Those written after the one numbered `seq`, oldest first, each after whether it is lifted: what another node's mirror
/// lacks.
pub(crate) fn written_since(seq: i64, limit: i64) -> Statement {
    sql("SELECT CASE WHEN lifted_at IS NULL THEN 0 ELSE 1 END,
                tenant, seq, kind, issuer, value, not_before, expires_at, at, by, reason, lifted_at, lifted_by
         FROM revocations WHERE seq > $1 ORDER BY seq LIMIT $2")
    .bind(seq)
    .bind(limit)
}

pub(crate) fn read_with_tenant(mut row: Row) -> Result<(Tenant, Entry), StoreError> {
    let tenant = Tenant::new(row.take()?);
    Ok((tenant, read(row)?))
}

pub(crate) fn added(store: &Store, entry: &Entry) -> Change {
    Change::Add(store.tenant().clone(), Box::new(entry.clone()))
}

/// Write one within a transaction, and end the refresh tokens it reaches.
pub(crate) async fn write(store: &Store, tx: &mut dyn Connection, new: NewRevocation) -> Result<Entry, StoreError> {
    let now = store.now();
    // Others see them in the order of their numbers, so they are numbered one after the other.
    next(tx, "revocations").await?;
    let insert = store
        .sql(
            "INSERT INTO revocations (tenant, kind, issuer, value, not_before, expires_at, at, by, reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING seq",
        )
        .bind(new.what.kind())
        .bind(new.what.issuer())
        .bind(new.what.value())
        .bind(new.not_before)
        .bind(new.expires_at)
        .bind(now)
        .bind(&*new.by)
        .bind(&*new.reason);
    let seq = first(tx.fetch(insert).await?).ok_or(StoreError::Corrupt)?.take()?;
    if let Some(end) = end_families(store, &new, now) {
        tx.execute(end).await?;
    }
    let NewRevocation { what, not_before, expires_at, by, reason } = new;
    Ok(Entry { seq, what, not_before, expires_at, at: now, by, reason, lifted: None })
}

/// Take out what a new revocation covers. In memory nothing changes: the later moment counts there already.
fn covered(store: &Store, new: &NewRevocation) -> Statement {
    store
        .sql(
            "DELETE FROM revocations WHERE tenant = $1 AND kind = $2 AND issuer = $3 AND value = $4 AND by = $5
             AND not_before <= $6 AND lifted_at IS NULL AND (expires_at <= $7 OR $7 IS NULL)",
        )
        .bind(new.what.kind())
        .bind(new.what.issuer())
        .bind(new.what.value())
        .bind(&*new.by)
        .bind(new.not_before)
        .bind(new.expires_at)
}

/// End the families a revocation reaches. A family of somebody another issuer vouches for is that issuer's too.
fn end_families(store: &Store, new: &NewRevocation, now: Timestamp) -> Option<Statement> {
    let (issuer, value) = (new.what.issuer(), new.what.value());
    let end = |text| store.sql(text).bind(now).bind(&*new.reason).bind(new.not_before);
    let theirs = format!("{issuer}|");
    Some(match (&new.what, issuer == OWN_ISSUER) {
        (Revoke::Everything, _) | (Revoke::Issuer { .. }, true) => end(end!("")),
        (Revoke::Issuer { .. }, false) => end(end!("AND substr(subject, 1, length($5)) = $5")).bind(theirs),
        (Revoke::Subject { .. }, true) => end(end!("AND subject = $5")).bind(value),
        (Revoke::Subject { .. }, false) => end(end!("AND subject = $5")).bind(theirs + value),
        (Revoke::Session { .. }, true) => end(end!("AND sid = $5")).bind(value),
        (Revoke::Session { .. }, false) => {
            end(end!("AND upstream_sid = $5 AND substr(subject, 1, length($6)) = $6")).bind(value).bind(theirs)
        }
        (Revoke::Device { .. }, true) => end(end!("AND device = $5")).bind(value),
        (Revoke::Device { .. }, false) => {
            end(end!("AND device = $5 AND substr(subject, 1, length($6)) = $6")).bind(value).bind(theirs)
        }
        (Revoke::Client { .. }, true) => end(end!("AND client = $5")).bind(value),
        (Revoke::Client { .. }, false) | (Revoke::Token { .. } | Revoke::Key { .. }, _) => {
            return None;
        }
    })
}

pub(crate) fn read(mut row: Row) -> Result<Entry, StoreError> {
    let seq = row.take()?;
    let (kind, issuer, value): (String, String, String) = (row.take()?, row.take()?, row.take()?);
    let what = Revoke::read(&kind, issuer, value).ok_or(StoreError::Row("not a kind of revocation"))?;
    let mut entry = Entry {
        seq,
        what,
        not_before: row.take()?,
        expires_at: row.take()?,
        at: row.take()?,
        by: row.take()?,
        reason: row.take()?,
        lifted: None,
    };
    let (at, by): (Option<Timestamp>, Option<String>) = (row.take()?, row.take()?);
    entry.lifted = at.map(|at| (at, by.unwrap_or_default()));
    Ok(entry)
}
