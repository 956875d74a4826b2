//! Refresh tokens: opaque, known by their keyed hashes, rotated with each use. All that follow from one sign-in are a
//! family, which ends as a whole (RFC 9700 section 4.14).

mod rotate;

use std::time::Duration;

use base::{Name, Timestamp};
use vault::Sealed;

use crate::engine::{Connection, Effects, Row, Statement, first};
use crate::error::at_most;
use crate::revocations::{self, Revoke};
use crate::revoked::Marks;
use crate::{OWN_ISSUER, Store, StoreError, TokenFacts};
use rotate::{Found, judge};

/// A family to be begun.
#[derive(Debug, Clone)]
pub struct NewFamily {
    /// Whom its tokens were given to.
    pub client: Name,
    /// The `sub` of the access tokens it renews (`corp|alice`, for people of the issuer `corp`).
    pub subject: String,
    /// What was granted; what is asked for later is never more.
    pub scopes: Vec<String>,
    /// The key it is bound to: the thumbprint of DPoP's.
    pub jkt: Option<[u8; 32]>,
    /// The certificate it is bound to: SHA-256 of its DER form.
    pub x5t: Option<[u8; 32]>,
    /// The `sid` of the access tokens it renews.
    pub session: Option<String>,
    /// Their `orig_sid`: the session at the issuer that vouches for the subject.
    pub upstream_session: Option<String>,
    /// Their `device_id`.
    pub device: Option<String>,
    /// When the person authenticated.
    pub auth_time: Option<Timestamp>,
    /// When what it follows from was granted: when the authorization code was made, or the device approved. A revocation
    /// after that moment refuses it. Absent: now.
    pub granted_at: Option<Timestamp>,
    /// What else is needed to renew access tokens (groups), as JSON. The store does not look inside.
    pub details: String,
    /// From when on nothing of it is accepted.
    pub absolute_end: Timestamp,
}

/// A family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Random id, `rf_...`.
    pub id: String,
    /// Whom its tokens were given to.
    pub client: Name,
    /// The `sub` of the access tokens it renews.
    pub subject: String,
    /// What was granted.
    pub scopes: Vec<String>,
    /// The thumbprint of the key it is bound to.
    pub jkt: Option<[u8; 32]>,
    /// The thumbprint of the certificate it is bound to.
    pub x5t: Option<[u8; 32]>,
    /// The `sid` of its access tokens.
    pub session: Option<String>,
    /// Their `orig_sid`: the session at the issuer that vouches for the subject.
    pub upstream_session: Option<String>,
    /// Their `device_id`.
    pub device: Option<String>,
    /// When the person signed in.
    pub auth_time: Option<Timestamp>,
    /// What else is needed to renew access tokens, as JSON.
    pub details: String,
    /// When it began.
    pub created_at: Timestamp,
    /// From when on nothing of it is accepted.
    pub absolute_end: Timestamp,
    /// Since when it is ended, and why.
    pub revoked: Option<(Timestamp, String)>,
}

/// Who presents a refresh token: authenticated, its proof verified.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The client.
    pub client: Name,
    /// The thumbprint of the key it proved to hold.
    pub jkt: Option<[u8; 32]>,
    /// The thumbprint of the certificate it proved to hold.
    pub x5t: Option<[u8; 32]>,
}

/// A refresh token that is presented, and what shall follow it.
#[derive(Debug, Clone)]
pub struct Rotate {
    /// The keyed hash of the one presented.
    pub presented: [u8; 32],
    /// Who presents it.
    pub holder: Holder,
    /// The keyed hash of its successor.
    pub successor: [u8; 32],
    /// The successor itself, sealed, in case the answer is lost.
    pub sealed: Sealed,
    /// How long the successor may stay unused.
    pub idle: Duration,
    /// How long the one presented may come again, to be given the same successor.
    pub grace: Duration,
}

/// What came of presenting a refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// It is used up; its successor stands.
    Rotated(Family),
    /// It was used up a moment ago by the same holder: here is the successor it was given then.
    Again(Family, Sealed),
    /// It was used up before: somebody has a copy. The family has ended with this, and its session's access tokens.
    Reused(Family),
    /// Its client holds another key than it is bound to. The family has ended with this, and its session's access
    /// tokens.
    WrongKey(Family),
    /// It is another client's. Nothing has changed.
    WrongClient(Family),
    /// Its family has ended.
    Revoked(Family),
    /// It was not used for too long, or its family's time is over.
    Expired(Family),
    /// There is none.
    Unknown,
}

/// Where a refresh token is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshState {
    /// It can be used.
    Live {
        /// Until when, if nobody uses it.
        until: Timestamp,
    },
    /// It has been used.
    Rotated,
    /// Its time is over.
    Expired,
    /// Its family has ended.
    Revoked,
}

/// Refresh tokens.
#[derive(Debug, Clone, Copy)]
pub struct Refresh<'a>(pub(crate) &'a Store);

macro_rules! columns {
    () => {
        "f.id, f.client, f.subject, f.scopes, f.jkt, f.x5t, f.sid, f.upstream_sid, f.device, f.auth_time, f.details, f.created_at,
         f.absolute_end, f.revoked_at, f.revoked_why"
    };
}

impl Refresh<'_> {
    /// Begin a family with its first token, which may stay unused for `idle`. [`StoreError::Conflict`] if its session is
    /// revoked, or if its subject, client or device was after the grant: a code from before a revocation gives nothing
    /// after it.
    pub async fn create(self, new: NewFamily, token: [u8; 32], idle: Duration) -> Result<Family, StoreError> {
        at_most("subject", new.subject.len(), 1024)?;
        at_most("session", new.session.as_deref().map_or(0, str::len), 1024)?;
        at_most("session", new.upstream_session.as_deref().map_or(0, str::len), 1024)?;
        at_most("device", new.device.as_deref().map_or(0, str::len), 1024)?;
        at_most("list of scopes", new.scopes.iter().map(String::len).sum(), 4096)?;
        at_most("grant's details", new.details.len(), 65_536)?;
        let store = self.0.clone();
        let now = self.0.now();
        let granted_at = new.granted_at.unwrap_or(now);
        let family = Family {
            id: store.new_id("rf"),
            client: new.client,
            subject: new.subject,
            scopes: new.scopes,
            jkt: new.jkt,
            x5t: new.x5t,
            session: new.session,
            upstream_session: new.upstream_session,
            device: new.device,
            auth_time: new.auth_time,
            details: new.details,
            created_at: now,
            absolute_end: new.absolute_end,
            revoked: None,
        };
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    refuse_revoked(&store, tx, &family, granted_at).await?;
                    let insert = store
                        .sql(
                            "INSERT INTO refresh_families (tenant, id, client, subject, scopes, jkt, x5t, sid,
                                 upstream_sid, device, auth_time, details, created_at, absolute_end)
                             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
                        )
                        .bind(&*family.id)
                        .bind(&family.client)
                        .bind(&*family.subject)
                        .bind(&*family.scopes)
                        .bind(family.jkt)
                        .bind(family.x5t)
                        .bind(family.session.as_deref())
                        .bind(family.upstream_session.as_deref())
                        .bind(family.device.as_deref())
                        .bind(family.auth_time)
                        .bind(&*family.details)
                        .bind(family.created_at)
                        .bind(family.absolute_end);
                    tx.execute(insert).await?;
                    insert_token(&store, tx, &family, token, idle).await?;
                    Ok(family)
                })
            })
            .await
    }

    /// The family of a token and where the token is in its life. Changes nothing.
    pub async fn find(self, token: [u8; 32]) -> Result<Option<(Family, RefreshState)>, StoreError> {
        let now = self.0.now();
        let found = first(self.0.fetch(select(self.0, token)).await?).map(read_token).transpose()?;
        Ok(found.map(|found| {
            let state = found.state(now);
            (found.family, state)
        }))
    }

    /// Use a token up for its successor, all in one transaction. Who presents it is checked before anything changes.
    pub async fn rotate(self, rotate: Rotate) -> Result<Rotation, StoreError> {
        let store = self.0.clone();
        let order = self.0.shared.memory.order.adding().await;
        self.0
            .submit(order, move |tx| {
                Box::pin(async move {
                    let now = store.now();
                    // Of any number that present it at the same time, the second sees what the first has made of it.
                    let select = select(&store, rotate.presented).for_update();
                    let Some(found) = first(tx.fetch(select).await?) else {
                        return Ok((Rotation::Unknown, Effects::default()));
                    };
                    let found = read_token(found)?;
                    judge(&store, tx, found, rotate, now).await
                })
            })
            .await
    }

    /// Whether a family that has not ended is of that session of another issuer's.
    pub async fn knows_session(self, issuer: &str, session: &str) -> Result<bool, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT 1 FROM refresh_families WHERE tenant = $1 AND upstream_sid = $2 AND revoked_at IS NULL
                 AND substr(subject, 1, length($3)) = $3 LIMIT 1",
            )
            .bind(session)
            .bind(format!("{issuer}|"));
        Ok(!self.0.fetch(select).await?.is_empty())
    }

    /// Whether a family that has not ended is of that device of another issuer's.
    pub async fn knows_device(self, issuer: &str, device: &str) -> Result<bool, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT 1 FROM refresh_families WHERE tenant = $1 AND device = $2 AND revoked_at IS NULL
                 AND substr(subject, 1, length($3)) = $3 LIMIT 1",
            )
            .bind(device)
            .bind(format!("{issuer}|"));
        Ok(!self.0.fetch(select).await?.is_empty())
    }

    /// End a family. [`StoreError::Missing`] unless there is one that has not ended.
    pub async fn revoke_family(self, id: &str, reason: &str) -> Result<(), StoreError> {
        let end = self
            .0
            .sql(
                "UPDATE refresh_families SET revoked_at = $3, revoked_why = $4
                 WHERE tenant = $1 AND id = $2 AND revoked_at IS NULL",
            )
            .bind(id)
            .bind(self.0.now())
            .bind(reason);
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    if tx.execute(end).await? == 0 { Err(StoreError::Missing("refresh token")) } else { Ok(()) }
                })
            })
            .await
    }

    /// Forget families whose time is over, at most `limit`, and the successors that can no longer be asked for again;
    /// how many families there were.
    pub async fn delete_expired(self, limit: u32) -> Result<u64, StoreError> {
        let now = self.0.now();
        let successors = self
            .0
            .sql(
                "UPDATE refresh_tokens SET successor = NULL
                 WHERE tenant = $1 AND successor IS NOT NULL AND rotated_at <= $2",
            )
            .bind(now.minus(GRACE_MAX));
        let families = self
            .0
            .sql(
                "DELETE FROM refresh_families WHERE tenant = $1 AND id IN
                 (SELECT id FROM refresh_families WHERE tenant = $1 AND absolute_end <= $2 LIMIT $3)",
            )
            .bind(now)
            .bind(i64::from(limit));
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    tx.execute(successors).await?;
                    tx.execute(families).await
                })
            })
            .await
    }
}

/// The longest grace a configuration can give.
const GRACE_MAX: Duration = Duration::from_mins(1);

async fn refuse_revoked(
    store: &Store,
    tx: &mut dyn Connection,
    family: &Family,
    granted_at: Timestamp,
) -> Result<(), StoreError> {
    let facts = TokenFacts {
        issuer: OWN_ISSUER,
        subject: &family.subject,
        client: Some(family.client.as_str()),
        session: family.session.as_deref(),
        upstream_session: family.upstream_session.as_deref(),
        device: family.device.as_deref(),
        issued_at: Some(granted_at),
        ..TokenFacts::default()
    };
    if store.revoked().check(&facts).is_some() {
        return Err(StoreError::Conflict("sign-in"));
    }
    // One revoked in this very commit or by another node is not in memory yet; one that is being revoked now would not see
    // this family to end it. So: no revocation between this look and the end of this transaction.
    let counter = crate::engine::sql("SELECT value FROM counters WHERE tenant = '*' AND name = 'revocations'");
    tx.fetch(counter.for_share()).await?;
    let mut marks = Marks::default();
    for row in tx.fetch(reaching(store, &facts)).await? {
        let entry = revocations::read(row)?;
        // Whatever its time: a code used twice at once must give nothing.
        if matches!(&entry.what, Revoke::Session { issuer, .. } if issuer == OWN_ISSUER) {
            return Err(StoreError::Conflict("session"));
        }
        marks.add(&entry);
    }
    if marks.check(&facts).is_some() { Err(StoreError::Conflict("sign-in")) } else { Ok(()) }
}

/// The revocations in force that name anything of a family to be.
fn reaching(store: &Store, facts: &TokenFacts<'_>) -> Statement {
    let theirs = facts.subject.split_once('|');
    let origin = theirs.map(|(origin, _)| origin);
    store
        .sql(
            "SELECT seq, kind, issuer, value, not_before, expires_at, at, by, reason, lifted_at, lifted_by
             FROM revocations WHERE tenant = $1 AND lifted_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
             AND (kind, issuer, value) IN (VALUES ('everything', '', ''), ('issuer', $3, ''), ('issuer', $4, ''),
                 ('subject', $3, $5), ('subject', $4, $6), ('client', $3, $7), ('session', $3, $8),
                 ('session', $4, $9), ('device', $3, $10), ('device', $4, $10))",
        )
        .bind(store.now())
        .bind(OWN_ISSUER)
        .bind(origin)
        .bind(facts.subject)
        .bind(theirs.map(|(_, subject)| subject))
        .bind(facts.client)
        .bind(facts.session)
        .bind(facts.upstream_session)
        .bind(facts.device)
}

async fn insert_token(
    store: &Store,
    tx: &mut dyn Connection,
    family: &Family,
    token: [u8; 32],
    idle: Duration,
) -> Result<(), StoreError> {
    let now = store.now();
    let insert = store
        .sql(
            "INSERT INTO refresh_tokens (tenant, hash, family, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
        )
        .bind(token)
        .bind(&*family.id)
        .bind(now)
        .bind(now.plus(idle).min(family.absolute_end));
    if tx.execute(insert).await? == 0 { Err(StoreError::Exists("a refresh token")) } else { Ok(()) }
}

fn select(store: &Store, token: [u8; 32]) -> Statement {
    store
        .sql(concat!(
            "SELECT t.expires_at, t.rotated_at, t.successor, ",
            columns!(),
            " FROM refresh_tokens t JOIN refresh_families f ON f.tenant = t.tenant AND f.id = t.family
             WHERE t.tenant = $1 AND t.hash = $2"
        ))
        .bind(token)
}

fn read_token(mut row: Row) -> Result<Found, StoreError> {
    let (expires_at, rotated_at, successor) = (row.take()?, row.take()?, row.take()?);
    Ok(Found { expires_at, rotated_at, successor, family: read(row)? })
}

fn read(mut row: Row) -> Result<Family, StoreError> {
    let mut family = Family {
        id: row.take()?,
        client: row.take()?,
        subject: row.take()?,
        scopes: row.take()?,
        jkt: row.take()?,
        x5t: row.take()?,
        session: row.take()?,
        upstream_session: row.take()?,
        device: row.take()?,
        auth_time: row.take()?,
        details: row.take()?,
        created_at: row.take()?,
        absolute_end: row.take()?,
        revoked: None,
    };
    let (at, why): (Option<Timestamp>, Option<String>) = (row.take()?, row.take()?);
    family.revoked = at.map(|at| (at, why.unwrap_or_default()));
    Ok(family)
}
