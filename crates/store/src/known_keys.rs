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
    /// This is the key of that kind and name, told from others by `hash`: since when it is. Now, if it was another one
    /// before.
    pub async fn seen(self, kind: &str, name: &str, hash: [u8; 32]) -> Result<Timestamp, StoreError> {
        at_most("kind", kind.len(), 64)?;
        at_most("name", name.len(), 256)?;
        let now = self.0.now();
        let select = self
            .0
            .sql("SELECT since FROM known_keys WHERE tenant = $1 AND kind = $2 AND name = $3 AND hash = $4")
            .bind(kind)
            .bind(name)
            .bind(hash);
        if let Some(mut row) = first(self.0.fetch(select).await?) {
            return row.take();
        }
        let put = self
            .0
            .sql(
                "INSERT INTO known_keys (tenant, kind, name, hash, since) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tenant, kind, name) DO UPDATE SET hash = excluded.hash, since = excluded.since",
            )
            .bind(kind)
            .bind(name)
            .bind(hash)
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
