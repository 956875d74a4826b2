//! The last good key set of each issuer, so that a restart does not depend on the issuer being up; other lists that are
//! fetched, such as that of revoked attestation certificates, are kept in the same way.

use base::{Name, Timestamp};

use crate::engine::Row;
use crate::error::at_most;
use crate::{Store, StoreError};

/// The longest document, in bytes. Key sets are shorter; the list of revoked attestation certificates grows.
const MAX_BODY: usize = 8 << 20;

/// A key set as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastGood {
    /// The configured name of its issuer.
    pub issuer: Name,
    /// Where it came from. It must not be used once the issuer is configured with another.
    pub url: String,
    /// The bytes that were fetched.
    pub body: Vec<u8>,
    /// When.
    pub fetched_at: Timestamp,
}

/// The last good key set of each issuer.
#[derive(Debug, Clone, Copy)]
pub struct JwksLastGood<'a>(pub(crate) &'a Store);

impl JwksLastGood<'_> {
    /// Keep a key set; one that was fetched later is not replaced.
    pub async fn save(self, set: &LastGood) -> Result<(), StoreError> {
        at_most("key set", set.body.len(), MAX_BODY)?;
        at_most("key set's url", set.url.len(), 2048)?;
        let put = self
            .0
            .sql(
                "INSERT INTO jwks_last_good (tenant, issuer, url, body, fetched_at) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tenant, issuer) DO UPDATE
                 SET url = excluded.url, body = excluded.body, fetched_at = excluded.fetched_at
                 WHERE excluded.fetched_at >= jwks_last_good.fetched_at",
            )
            .bind(&set.issuer)
            .bind(&*set.url)
            .bind(set.body.clone())
            .bind(set.fetched_at);
        self.0.write(move |tx| Box::pin(async move { tx.execute(put).await.map(drop) })).await
    }

    /// The key set kept for an issuer.
    pub async fn load(self, issuer: &Name) -> Result<Option<LastGood>, StoreError> {
        let select = self
            .0
            .sql("SELECT issuer, url, body, fetched_at FROM jwks_last_good WHERE tenant = $1 AND issuer = $2")
            .bind(issuer);
        Ok(self.0.read(select, read).await?.pop())
    }
}

fn read(mut row: Row) -> Result<LastGood, StoreError> {
    Ok(LastGood { issuer: row.take()?, url: row.take()?, body: row.take()?, fetched_at: row.take()? })
}
