//! Since when keys are known that say it nowhere: those in files and in the environment, the master key.

use std::collections::HashMap;

use base::Timestamp;

use crate::engine::first;
use crate::error::at_most;
use crate::{Store, StoreError};

/// Since when keys are known.
#[derive(Debug, Clone, Copy)]
pub struct KnownKeys<'a>(pub(crate) &'a Store);

impl KnownKeys<'_> {
    /// This is the key of that kind and name: since when it is. Now, if it was another one before. It is told from others by
    /// any of `hashes`; the first is remembered.
    pub async fn seen(self, kind: &str, name: &str, hashes: &[[u8; 32]]) -> Result<Timestamp, StoreError> {
        at_most("kind", kind.len(), 64)?;
        at_most("name", name.len(), 512)?;
        let Some(hash) = hashes.first() else { return Err(StoreError::Missing("hash of the key")) };
        let mut now = self.0.now();
        let select = self
            .0
            .sql("SELECT hash, since FROM known_keys WHERE tenant = $1 AND kind = $2 AND name = $3")
            .bind(kind)
            .bind(name);
        if let Some(mut row) = first(self.0.fetch(select).await?) {
            let (known, since) = (row.take::<Vec<u8>>()?, row.take::<Timestamp>()?);
            if known == hash {
                return Ok(since);
            }
            if hashes.iter().any(|hash| known == hash) {
                now = since;
            }
        }
        let put = self
            .0
            .sql(
                "INSERT INTO known_keys (tenant, kind, name, hash, since) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tenant, kind, name) DO UPDATE SET hash = excluded.hash, since = excluded.since",
            )
            .bind(kind)
            .bind(name)
            .bind(*hash)
            .bind(now);
        self.0.write(move |tx| Box::pin(async move { tx.execute(put).await.map(drop) })).await?;
        Ok(now)
    }

    /// Since when each key of a kind is known, by its name.
    pub async fn of_kind(self, kind: &str) -> Result<HashMap<String, Timestamp>, StoreError> {
        let select = self.0.sql("SELECT name, since FROM known_keys WHERE tenant = $1 AND kind = $2").bind(kind);
        Ok(self.0.read(select, |mut row| Ok((row.take()?, row.take()?))).await?.into_iter().collect())
    }
}
