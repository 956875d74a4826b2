//! The keys our own tokens are signed with.

use base::Timestamp;
use vault::Sealed;

use crate::engine::{Row, Statement, first};
use crate::error::at_most;
use crate::revocations::{self, NewRevocation, Revoke};
use crate::{OWN_ISSUER, Revocation, Store, StoreError};

/// Where a signing key is in its life. Every key but a gone one is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// Published ahead of its use.
    Next,
    /// Signs. At most one per algorithm.
    Active,
    /// Signs no more; its tokens are still valid.
    Retiring,
    /// Neither signs nor verifies; its private half is erased.
    Gone,
}

impl KeyState {
    /// The state as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Gone => "gone",
        }
    }

    fn from_str(text: &str) -> Option<Self> {
        [Self::Next, Self::Active, Self::Retiring, Self::Gone].into_iter().find(|state| state.as_str() == text)
    }
}

/// A signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Its key id.
    pub kid: String,
    /// Its JOSE algorithm (`ES256`).
    pub alg: String,
    /// Where it is in its life.
    pub state: KeyState,
    /// Its public half, as a JWK.
    pub public_jwk: String,
    /// Its private half (PKCS #8), sealed under its `kid`; absent once it is gone.
    pub sealed: Option<Sealed>,
    /// Before this it must not sign, so that verifiers have had time to see it.
    pub not_before: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it began to sign.
    pub activated_at: Option<Timestamp>,
    /// When the last token it signed has expired; set once it is retiring.
    pub expires_at: Option<Timestamp>,
}

/// A signing key to be stored; it begins as [`KeyState::Next`].
#[derive(Debug, Clone)]
pub struct NewSigningKey {
    /// Its key id.
    pub kid: String,
    /// Its JOSE algorithm.
    pub alg: String,
    /// Its public half, as a JWK.
    pub public_jwk: String,
    /// Its private half (PKCS #8), sealed.
    pub sealed: Sealed,
    /// Before this it must not sign.
    pub not_before: Timestamp,
}

/// The keys our tokens are signed with.
#[derive(Debug, Clone, Copy)]
pub struct SigningKeys<'a>(pub(crate) &'a Store);

impl SigningKeys<'_> {
    /// Store a new key, to be activated later. [`StoreError::Exists`] if one waits already: of several nodes that make the
    /// next key at the same time, one does.
    pub async fn insert(self, new: NewSigningKey) -> Result<SigningKey, StoreError> {
        at_most("kid", new.kid.len(), 256)?;
        at_most("public key", new.public_jwk.len(), 8192)?;
        let key = SigningKey {
            kid: new.kid,
            alg: new.alg,
            state: KeyState::Next,
            public_jwk: new.public_jwk,
            sealed: Some(new.sealed),
            not_before: new.not_before,
            created_at: self.0.now(),
            activated_at: None,
            expires_at: None,
        };
        let insert = self
            .0
            .sql(
                "INSERT INTO signing_keys (tenant, kid, alg, state, public_jwk, sealed, not_before, created_at)
                 VALUES ($1, $2, $3, 'next', $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            )
            .bind(&*key.kid)
            .bind(&*key.alg)
            .bind(&*key.public_jwk)
            .bind(key.sealed.as_ref())
            .bind(key.not_before)
            .bind(key.created_at);
        let waiting = self
            .0
            .sql("SELECT 1 FROM signing_keys WHERE tenant = $1 AND alg = $2 AND state = 'next' LIMIT 1")
            .bind(&*key.alg);
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    let waits = !tx.fetch(waiting).await?.is_empty();
                    if waits || tx.execute(insert).await? == 0 {
                        return Err(StoreError::Exists("a signing key"));
                    }
                    Ok(key)
                })
            })
            .await
    }

    /// All keys, oldest first.
    pub async fn list(self) -> Result<Vec<SigningKey>, StoreError> {
        let select = self.0.sql(
            "SELECT kid, alg, state, public_jwk, sealed, not_before, created_at, activated_at, expires_at
             FROM signing_keys WHERE tenant = $1 ORDER BY created_at, kid",
        );
        self.0.read(select, read).await
    }

    /// Make a waiting key the one that signs; the one before it retires, to be gone after `old_until`.
    /// [`StoreError::Conflict`] unless the key is [`KeyState::Next`].
    pub async fn activate(self, kid: &str, old_until: Timestamp) -> Result<SigningKey, StoreError> {
        let retire = self
            .0
            .sql(
                "UPDATE signing_keys SET state = 'retiring', expires_at = $3 WHERE tenant = $1 AND state = 'active'
                 AND alg = (SELECT alg FROM signing_keys WHERE tenant = $1 AND kid = $2)",
            )
            .bind(kid)
            .bind(old_until);
        let activate = self
            .0
            .sql(
                "UPDATE signing_keys SET state = 'active', activated_at = $3
                 WHERE tenant = $1 AND kid = $2 AND state = 'next'
                 RETURNING kid, alg, state, public_jwk, sealed, not_before, created_at, activated_at, expires_at",
            )
            .bind(kid)
            .bind(self.0.now());
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    tx.execute(retire).await?;
                    first(tx.fetch(activate).await?).map(read).ok_or(StoreError::Conflict("signing key"))?
                })
            })
            .await
    }

    /// End a key at once, whatever its state, and erase its private half: nothing it signed verifies any more.
    pub async fn erase(self, kid: &str) -> Result<(), StoreError> {
        let update = erase(self.0, kid);
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.execute(update).await? == 0 { Err(StoreError::Missing("signing key")) } else { Ok(()) }
                })
            })
            .await
    }

    /// End a key that others may have, and revoke all it signed or will sign, in one step. If it was the one that signs,
    /// `successor` does from now on, which must be [`KeyState::Next`]. [`StoreError::Missing`] unless there is such a key
    /// that is not gone yet.
    pub async fn compromised(
        self,
        kid: &str,
        successor: Option<&str>,
        by: &str,
        reason: &str,
    ) -> Result<Revocation, StoreError> {
        let store = self.0.clone();
        let select =
            self.0.sql("SELECT state FROM signing_keys WHERE tenant = $1 AND kid = $2 AND state <> 'gone'").bind(kid);
        let erase = erase(self.0, kid);
        let activate = successor.map(|successor| {
            self.0
                .sql(
                    "UPDATE signing_keys SET state = 'active', activated_at = $3
                     WHERE tenant = $1 AND kid = $2 AND state = 'next'",
                )
                .bind(successor)
                .bind(self.0.now())
        });
        let revocation = NewRevocation {
            what: Revoke::Key { issuer: OWN_ISSUER.to_owned(), kid: kid.to_owned() },
            not_before: self.0.revocations().now(),
            // The key may be used as long as others remember it.
            expires_at: None,
            by: by.to_owned(),
            reason: reason.to_owned(),
        };
        self.0
            .change_and_revoke(move |tx, _| {
                Box::pin(async move {
                    let mut row = first(tx.fetch(select).await?).ok_or(StoreError::Missing("signing key"))?;
                    let active = row.take::<String>()? == KeyState::Active.as_str();
                    tx.execute(erase).await?;
                    if active {
                        let activated = match activate {
                            Some(activate) => tx.execute(activate).await?,
                            None => 0,
                        };
                        if activated == 0 {
                            return Err(StoreError::Conflict("signing key"));
                        }
                    }
                    let entry = revocations::write(&store, tx, revocation).await?;
                    let change = revocations::added(&store, &entry);
                    Ok((entry, vec![change]))
                })
            })
            .await
    }

    /// Erase the retiring keys whose time is over; how many there were.
    pub async fn erase_expired(self) -> Result<u64, StoreError> {
        let due = self
            .0
            .sql("SELECT kid FROM signing_keys WHERE tenant = $1 AND state = 'retiring' AND expires_at <= $2 LIMIT 1")
            .bind(self.0.now());
        if self.0.fetch(due).await?.is_empty() {
            return Ok(0);
        }
        let update = self
            .0
            .sql(
                "UPDATE signing_keys SET state = 'gone', sealed = NULL
                 WHERE tenant = $1 AND state = 'retiring' AND expires_at <= $2",
            )
            .bind(self.0.now());
        self.0.change(move |tx, _| Box::pin(async move { tx.execute(update).await })).await
    }
}

fn erase(store: &Store, kid: &str) -> Statement {
    store
        .sql(
            "UPDATE signing_keys SET state = 'gone', sealed = NULL
             WHERE tenant = $1 AND kid = $2 AND state <> 'gone'",
        )
        .bind(kid)
}

fn read(mut row: Row) -> Result<SigningKey, StoreError> {
    Ok(SigningKey {
        kid: row.take()?,
        alg: row.take()?,
        state: KeyState::from_str(&row.take::<String>()?).ok_or(StoreError::Row("not a state of a signing key"))?,
        public_jwk: row.take()?,
        sealed: row.take()?,
        not_before: row.take()?,
        created_at: row.take()?,
        activated_at: row.take()?,
        expires_at: row.take()?,
    })
}
