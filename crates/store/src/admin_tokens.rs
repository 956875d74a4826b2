//! Tokens of the admin API.

use base::{Name, Timestamp};

use crate::engine::{Row, first};
use crate::{Page, Paged, Store, StoreError};

/// What the bearer of an admin token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything, admin tokens and signing keys included.
    Owner,
    /// Changes resources, clients, keys and secrets.
    Operator,
    /// Reads everything, records included.
    Auditor,
    /// Reads the configuration.
    Viewer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Operator, Self::Auditor, Self::Viewer];

    /// The role as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Viewer => "viewer",
        }
    }

    /// The role of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// An admin token, without the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// Random id, `at_...`.
    pub id: String,
    /// Its name: who uses it.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Keyed hash of the token.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// From when it is refused; absent: never.
    pub expires_at: Option<Timestamp>,
    /// Since when it is revoked.
    pub revoked_at: Option<Timestamp>,
}

/// An admin token to be stored.
#[derive(Debug, Clone)]
pub struct NewAdminToken {
    /// Its name: who uses it.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Keyed hash of the token.
    pub hash: [u8; 32],
    /// From when it is refused; absent: never.
    pub expires_at: Option<Timestamp>,
    /// Who makes it.
    pub created_by: String,
}

/// Tokens of the admin API.
#[derive(Debug, Clone, Copy)]
pub struct AdminTokens<'a>(pub(crate) &'a Store);

impl AdminTokens<'_> {
    /// Store a new token. [`StoreError::Exists`] if one of that name is in force.
    pub async fn create(self, new: NewAdminToken) -> Result<AdminToken, StoreError> {
        let token = AdminToken {
            id: self.0.new_id("at"),
            name: new.name,
            role: new.role,
            hash: new.hash,
            created_at: self.0.now(),
            created_by: new.created_by,
            expires_at: new.expires_at,
            revoked_at: None,
        };
        let insert = self
            .0
            .sql(
                "INSERT INTO admin_tokens (tenant, id, name, role, hash, created_at, created_by, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            )
            .bind(&*token.id)
            .bind(&token.name)
            .bind(token.role.as_str())
            .bind(token.hash)
            .bind(token.created_at)
            .bind(&*token.created_by)
            .bind(token.expires_at);
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    if tx.execute(insert).await? == 0 { Err(StoreError::Exists("an admin token")) } else { Ok(token) }
                })
            })
            .await
    }

    /// The token with that keyed hash, if it is neither revoked nor expired now.
    pub async fn live(self, hash: [u8; 32]) -> Result<Option<AdminToken>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT id, name, role, hash, created_at, created_by, expires_at, revoked_at FROM admin_tokens
                 WHERE tenant = $1 AND hash = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)",
            )
            .bind(hash)
            .bind(self.0.now());
        Ok(self.0.read(select, read).await?.pop())
    }

    /// All tokens, in no particular order.
    pub async fn list(self, page: &Page) -> Result<Paged<AdminToken>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT id, name, role, hash, created_at, created_by, expires_at, revoked_at FROM admin_tokens
                 WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3",
            )
            .bind(page.after.as_deref().unwrap_or_default())
            .bind(page.rows() + 1);
        Ok(Paged::cut(self.0.read(select, read).await?, page, |token| token.id.clone()))
    }

    /// Revoke the token in force that has this id or name. [`StoreError::Missing`] if there is none.
    pub async fn revoke(self, id_or_name: &str) -> Result<AdminToken, StoreError> {
        let update = self
            .0
            .sql(
                "UPDATE admin_tokens SET revoked_at = $3
                 WHERE tenant = $1 AND (id = $2 OR name = $2) AND revoked_at IS NULL
                 RETURNING id, name, role, hash, created_at, created_by, expires_at, revoked_at",
            )
            .bind(id_or_name)
            .bind(self.0.now());
        self.0
            .write(move |tx| {
                Box::pin(
                    async move { first(tx.fetch(update).await?).map(read).ok_or(StoreError::Missing("admin token"))? },
                )
            })
            .await
    }
}

fn read(mut row: Row) -> Result<AdminToken, StoreError> {
    Ok(AdminToken {
        id: row.take()?,
        name: row.take()?,
        role: Role::parse(&row.take::<String>()?).ok_or(StoreError::Row("not a role"))?,
        hash: row.take()?,
        created_at: row.take()?,
        created_by: row.take()?,
        expires_at: row.take()?,
        revoked_at: row.take()?,
    })
}
