//! Vouchgate keys: static credentials for tools that can hold nothing better.

use base::{Name, Timestamp};

use crate::engine::{Row, first};
use crate::error::at_most;
use crate::{Page, Paged, Store, StoreError};

/// A Vouchgate key, without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Random id, `ak_...`.
    pub id: String,
    /// The name policies know it by.
    pub name: Name,
    /// Keyed hash of the whole key.
    pub hash: [u8; 32],
    /// What may be shown of it: its first and last characters.
    pub hint: String,
    /// The client it acts for.
    pub client: Option<Name>,
    /// The subject it acts for.
    pub subject: String,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// From when it is refused; absent: never.
    pub expires_at: Option<Timestamp>,
    /// Since when it is revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute; lags by the request records.
    pub last_used_at: Option<Timestamp>,
}

/// A Vouchgate key to be stored.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// The name policies know it by.
    pub name: Name,
    /// Keyed hash of the whole key.
    pub hash: [u8; 32],
    /// What may be shown of it: its first and last characters, never enough to use.
    pub hint: String,
    /// The client it acts for.
    pub client: Option<Name>,
    /// The subject it acts for.
    pub subject: String,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// From when it is refused; absent: never.
    pub expires_at: Option<Timestamp>,
    /// Who makes it.
    pub created_by: String,
}

/// Vouchgate keys.
#[derive(Debug, Clone, Copy)]
pub struct ApiKeys<'a>(pub(crate) &'a Store);

impl ApiKeys<'_> {
    /// Store a new key. [`StoreError::Exists`] if one of that name is in force.
    pub async fn create(self, new: NewApiKey) -> Result<ApiKey, StoreError> {
        at_most("hint", new.hint.len(), 16)?;
        at_most("subject", new.subject.len(), 256)?;
        at_most("list of scopes", new.scopes.iter().map(String::len).sum(), 4096)?;
        let key = ApiKey {
            id: self.0.new_id("ak"),
            name: new.name,
            hash: new.hash,
            hint: new.hint,
            client: new.client,
            subject: new.subject,
            scopes: new.scopes,
            created_at: self.0.now(),
            created_by: new.created_by,
            expires_at: new.expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        let insert = self
            .0
            .sql(
                "INSERT INTO api_keys
                 (tenant, id, name, hash, hint, client, subject, scopes, created_at, created_by, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
            )
            .bind(&*key.id)
            .bind(&key.name)
            .bind(key.hash)
            .bind(&*key.hint)
            .bind(key.client.as_ref())
            .bind(&*key.subject)
            .bind(&*key.scopes)
            .bind(key.created_at)
            .bind(&*key.created_by)
            .bind(key.expires_at);
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.execute(insert).await? == 0 { Err(StoreError::Exists("a key")) } else { Ok(key) }
                })
            })
            .await
    }

    /// The key with that id, whatever its state.
    pub async fn get(self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT id, name, hash, hint, client, subject, scopes, created_at, created_by, expires_at, revoked_at,
                        last_used_at FROM api_keys WHERE tenant = $1 AND id = $2",
            )
            .bind(id);
        Ok(self.0.read(select, read).await?.pop())
    }

    /// The key with that keyed hash, whatever its state.
    pub async fn by_hash(self, hash: [u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT id, name, hash, hint, client, subject, scopes, created_at, created_by, expires_at, revoked_at,
                        last_used_at FROM api_keys WHERE tenant = $1 AND hash = $2",
            )
            .bind(hash);
        Ok(self.0.read(select, read).await?.pop())
    }

    /// All keys, in no particular order.
    pub async fn list(self, page: &Page) -> Result<Paged<ApiKey>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT id, name, hash, hint, client, subject, scopes, created_at, created_by, expires_at, revoked_at,
                        last_used_at FROM api_keys WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3",
            )
            .bind(page.after.as_deref().unwrap_or_default())
            .bind(page.rows() + 1);
        Ok(Paged::cut(self.0.read(select, read).await?, page, |key| key.id.clone()))
    }

    /// Every key that is neither revoked nor expired now: what a snapshot holds.
    pub async fn live(self) -> Result<Vec<ApiKey>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT id, name, hash, hint, client, subject, scopes, created_at, created_by, expires_at, revoked_at,
                        last_used_at FROM api_keys
                 WHERE tenant = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) ORDER BY name",
            )
            .bind(self.0.now());
        self.0.read(select, read).await
    }

    /// Revoke the key in force that has this id or name. [`StoreError::Missing`] if there is none.
    pub async fn revoke(self, id_or_name: &str) -> Result<ApiKey, StoreError> {
        let update = self
            .0
            .sql(
                "UPDATE api_keys SET revoked_at = $3
                 WHERE tenant = $1 AND (id = $2 OR name = $2) AND revoked_at IS NULL
                 RETURNING id, name, hash, hint, client, subject, scopes, created_at, created_by, expires_at, revoked_at,
                           last_used_at",
            )
            .bind(id_or_name)
            .bind(self.0.now());
        self.0
            .change(move |tx, _| {
                Box::pin(async move { first(tx.fetch(update).await?).map(read).ok_or(StoreError::Missing("key"))? })
            })
            .await
    }
}

fn read(mut row: Row) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.take()?,
        name: row.take()?,
        hash: row.take()?,
        hint: row.take()?,
        client: row.take()?,
        subject: row.take()?,
        scopes: row.take()?,
        created_at: row.take()?,
        created_by: row.take()?,
        expires_at: row.take()?,
        revoked_at: row.take()?,
        last_used_at: row.take()?,
    })
}
