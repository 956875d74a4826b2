//! What is sealed, whatever it is: to seal it anew under another master key.

use std::collections::BTreeMap;

use vault::{KeyId, Purpose, Sealed};

use crate::engine::{Row, Statement};
use crate::{Store, StoreError};

/// A kind of sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedKind {
    /// Secrets of the vault.
    Secret,
    /// Our signing keys.
    SigningKey,
    /// Keys of the audit log's subjects.
    AuditSubject,
    /// Keys that sign what apps are told.
    ConfigKey,
    /// Runtime secrets that are put into requests here.
    RuntimeSecret,
    /// Runtime secrets that may be given to devices.
    DeliveredSecret,
    /// Receipts of App Attest.
    Receipt,
    /// What stands for one-time credentials of the token service: gone within minutes.
    Code,
    /// Refresh tokens that follow rotated ones: gone within minutes.
    Successor,
    /// Answers that are kept for their idempotency key: gone within a day.
    Answer,
}

impl SealedKind {
    /// Those that stay until they are sealed anew.
    pub const LASTING: [Self; 7] = [
        Self::Secret,
        Self::SigningKey,
        Self::AuditSubject,
        Self::ConfigKey,
        Self::RuntimeSecret,
        Self::DeliveredSecret,
        Self::Receipt,
    ];
    /// Those that are gone by themselves.
    pub const PASSING: [Self; 3] = [Self::Code, Self::Successor, Self::Answer];

    /// What it is sealed as.
    pub const fn purpose(self) -> Purpose {
        match self {
            Self::Secret => Purpose::Secret,
            Self::SigningKey => Purpose::SigningKey,
            Self::AuditSubject => Purpose::AuditSubject,
            Self::ConfigKey => Purpose::ConfigKey,
            Self::RuntimeSecret => Purpose::RuntimeSecret,
            Self::DeliveredSecret => Purpose::DeliveredSecret,
            Self::Receipt => Purpose::Receipt,
            Self::Code => Purpose::Grant,
            Self::Successor => Purpose::Successor,
            Self::Answer => Purpose::Answer,
        }
    }
}

/// A sealed value with what it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRow {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// The origin it may be sent to.
    pub origin: Option<String>,
    /// The value.
    pub sealed: Sealed,
}

/// Sealed values of all kinds.
#[derive(Debug, Clone, Copy)]
pub struct SealedValues<'a>(pub(crate) &'a Store);

impl SealedValues<'_> {
    /// The first `limit` lasting values that were not sealed with the master key `id`.
    pub async fn other_than(self, kind: SealedKind, id: KeyId, limit: u32) -> Result<Vec<SealedRow>, StoreError> {
        // A sealed value is its form, a byte, and then the id of its master key.
        let sql = match kind {
            SealedKind::Secret => {
                "SELECT name, version, origin, sealed FROM secret_versions
                 WHERE tenant = $1 AND substr(sealed, 2, 8) <> $2 ORDER BY name, version LIMIT $3"
            }
            SealedKind::SigningKey => {
                "SELECT kid, CAST(1 AS BIGINT), CAST(NULL AS TEXT), sealed FROM signing_keys
                 WHERE tenant = $1 AND sealed IS NOT NULL AND substr(sealed, 2, 8) <> $2 ORDER BY kid LIMIT $3"
            }
            SealedKind::AuditSubject => {
                "SELECT id, CAST(1 AS BIGINT), CAST(NULL AS TEXT), sealed FROM audit_subjects
                 WHERE tenant = $1 AND substr(sealed, 2, 8) <> $2 ORDER BY id LIMIT $3"
            }
            SealedKind::ConfigKey => {
                "SELECT kid, CAST(1 AS BIGINT), CAST(NULL AS TEXT), sealed FROM config_keys
                 WHERE tenant = $1 AND sealed IS NOT NULL AND substr(sealed, 2, 8) <> $2 ORDER BY kid LIMIT $3"
            }
            SealedKind::RuntimeSecret => {
                "SELECT name, version, origin, sealed FROM runtime_secret_versions
                 WHERE tenant = $1 AND delivered = 0 AND sealed IS NOT NULL AND substr(sealed, 2, 8) <> $2
                 ORDER BY name, version LIMIT $3"
            }
            SealedKind::DeliveredSecret => {
                "SELECT name, version, origin, sealed FROM runtime_secret_versions
                 WHERE tenant = $1 AND delivered = 1 AND sealed IS NOT NULL AND substr(sealed, 2, 8) <> $2
                 ORDER BY name, version LIMIT $3"
            }
            SealedKind::Receipt => {
                "SELECT name, CAST(1 AS BIGINT), CAST(NULL AS TEXT), sealed FROM receipts
                 WHERE tenant = $1 AND substr(sealed, 2, 8) <> $2 ORDER BY name LIMIT $3"
            }
            SealedKind::Code | SealedKind::Successor | SealedKind::Answer => return Ok(Vec::new()),
        };
        let select = self.0.sql(sql).bind(id.as_bytes().to_vec()).bind(i64::from(limit));
        self.0.read(select, read).await
    }

    /// Put each value in the place of the one before, unless that has changed meanwhile; how many were put. Every node hears
    /// of it.
    pub async fn replace(self, kind: SealedKind, rows: Vec<(SealedRow, Sealed)>) -> Result<u64, StoreError> {
        let statements = rows.iter().filter_map(|(row, new)| self.update(kind, row, new)).collect::<Vec<_>>();
        if statements.is_empty() {
            return Ok(0);
        }
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    let mut put = 0;
                    for statement in statements {
                        put += tx.execute(statement).await?;
                    }
                    Ok(put)
                })
            })
            .await
    }

    fn update(self, kind: SealedKind, row: &SealedRow, new: &Sealed) -> Option<Statement> {
        let statement = match kind {
            SealedKind::Secret => self
                .0
                .sql("UPDATE secret_versions SET sealed = $2 WHERE tenant = $1 AND sealed = $3 AND name = $4 AND version = $5")
                .bind(new)
                .bind(&row.sealed)
                .bind(&*row.name)
                .bind(row.version),
            SealedKind::SigningKey => self
                .0
                .sql("UPDATE signing_keys SET sealed = $2 WHERE tenant = $1 AND sealed = $3 AND kid = $4")
                .bind(new)
                .bind(&row.sealed)
                .bind(&*row.name),
            SealedKind::AuditSubject => self
                .0
                .sql("UPDATE audit_subjects SET sealed = $2 WHERE tenant = $1 AND sealed = $3 AND id = $4")
                .bind(new)
                .bind(&row.sealed)
                .bind(&*row.name),
            SealedKind::ConfigKey => self
                .0
                .sql("UPDATE config_keys SET sealed = $2 WHERE tenant = $1 AND sealed = $3 AND kid = $4")
                .bind(new)
                .bind(&row.sealed)
                .bind(&*row.name),
            SealedKind::RuntimeSecret | SealedKind::DeliveredSecret => self
                .0
                .sql(
                    "UPDATE runtime_secret_versions SET sealed = $2
                     WHERE tenant = $1 AND sealed = $3 AND name = $4 AND version = $5",
                )
                .bind(new)
                .bind(&row.sealed)
                .bind(&*row.name)
                .bind(row.version),
            SealedKind::Receipt => self
                .0
                .sql("UPDATE receipts SET sealed = $2 WHERE tenant = $1 AND sealed = $3 AND name = $4")
                .bind(new)
                .bind(&row.sealed)
                .bind(&*row.name),
            SealedKind::Code | SealedKind::Successor | SealedKind::Answer => return None,
        };
        Some(statement)
    }

    /// How many values of these kinds each master key has sealed.
    pub async fn counts(self, kinds: &[SealedKind]) -> Result<Vec<(KeyId, u64)>, StoreError> {
        let mut all: BTreeMap<[u8; 8], u64> = BTreeMap::new();
        for kind in kinds {
            let sql = match kind {
                SealedKind::Secret => {
                    "SELECT substr(sealed, 2, 8), COUNT(*) FROM secret_versions WHERE tenant = $1 GROUP BY 1"
                }
                SealedKind::SigningKey => {
                    "SELECT substr(sealed, 2, 8), COUNT(*) FROM signing_keys WHERE tenant = $1 AND sealed IS NOT NULL
                     GROUP BY 1"
                }
                SealedKind::AuditSubject => {
                    "SELECT substr(sealed, 2, 8), COUNT(*) FROM audit_subjects WHERE tenant = $1 GROUP BY 1"
                }
                SealedKind::ConfigKey => {
                    "SELECT substr(sealed, 2, 8), COUNT(*) FROM config_keys WHERE tenant = $1 AND sealed IS NOT NULL
                     GROUP BY 1"
                }
                SealedKind::RuntimeSecret => {
                    "SELECT substr(sealed, 2, 8), COUNT(*) FROM runtime_secret_versions
                     WHERE tenant = $1 AND delivered = 0 AND sealed IS NOT NULL GROUP BY 1"
                }
                SealedKind::DeliveredSecret => {
                    "SELECT substr(sealed, 2, 8), COUNT(*) FROM runtime_secret_versions
                     WHERE tenant = $1 AND delivered = 1 AND sealed IS NOT NULL GROUP BY 1"
                }
                SealedKind::Receipt => {
                    "SELECT substr(sealed, 2, 8), COUNT(*) FROM receipts WHERE tenant = $1 GROUP BY 1"
                }
                SealedKind::Code => {
                    "SELECT substr(body, 2, 8), COUNT(*) FROM grants_pending WHERE tenant = $1 GROUP BY 1"
                }
                SealedKind::Successor => {
                    "SELECT substr(successor, 2, 8), COUNT(*) FROM refresh_tokens
                     WHERE tenant = $1 AND successor IS NOT NULL GROUP BY 1"
                }
                SealedKind::Answer => {
                    "SELECT substr(answer, 2, 8), COUNT(*) FROM idempotency
                     WHERE tenant = $1 AND answer IS NOT NULL GROUP BY 1"
                }
            };
            for (id, count) in
                self.0.read(self.0.sql(sql), |mut row| Ok((row.take::<Vec<u8>>()?, row.take::<u64>()?))).await?
            {
                let id = <[u8; 8]>::try_from(id).map_err(|_| StoreError::Row("not a sealed value"))?;
                *all.entry(id).or_default() += count;
            }
        }
        Ok(all.into_iter().map(|(id, count)| (KeyId::from_bytes(id), count)).collect())
    }
}

fn read(mut row: Row) -> Result<SealedRow, StoreError> {
    Ok(SealedRow { name: row.take()?, version: row.take()?, origin: row.take()?, sealed: row.take()? })
}
