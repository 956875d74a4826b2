//! Small facts about the installation, such as which master key its secrets are sealed with.

use crate::engine::first;
use crate::error::at_most;
use crate::{Store, StoreError};

/// Small facts about the installation.
#[derive(Debug, Clone, Copy)]
pub struct Meta<'a>(pub(crate) &'a Store);

impl Meta<'_> {
    /// The value of a key.
    pub async fn get(self, key: &str) -> Result<Option<String>, StoreError> {
        let select = self.0.sql("SELECT value FROM meta WHERE tenant = $1 AND key = $2").bind(key);
        first(self.0.fetch(select).await?).map(|mut row| row.take()).transpose()
    }

    /// Set the value of a key.
    pub async fn set(self, key: &str, value: &str) -> Result<(), StoreError> {
        at_most("key", key.len(), 128)?;
        at_most("value", value.len(), 4096)?;
        let put = self
            .0
            .sql(
                "INSERT INTO meta (tenant, key, value) VALUES ($1, $2, $3)
                 ON CONFLICT (tenant, key) DO UPDATE SET value = excluded.value",
            )
            .bind(key)
            .bind(value);
        self.0.write(move |tx| Box::pin(async move { tx.execute(put).await.map(drop) })).await
    }

    /// The keys that begin so, with their values.
    pub async fn starting_with(self, beginning: &str) -> Result<Vec<(String, String)>, StoreError> {
        let length = i64::try_from(beginning.chars().count()).unwrap_or(i64::MAX);
        let select = self
            .0
            .sql("SELECT key, value FROM meta WHERE tenant = $1 AND substr(key, 1, CAST($2 AS INTEGER)) = $3 ORDER BY key")
            .bind(length)
            .bind(beginning);
        self.0.read(select, |mut row| Ok((row.take()?, row.take()?))).await
    }

    /// Set the value of a key that has this one; whether it had.
    pub async fn replace(self, key: &str, before: &str, value: &str) -> Result<bool, StoreError> {
        at_most("value", value.len(), 4096)?;
        let put = self
            .0
            .sql("UPDATE meta SET value = $3 WHERE tenant = $1 AND key = $2 AND value = $4")
            .bind(key)
            .bind(value)
            .bind(before);
        self.0.write(move |tx| Box::pin(async move { Ok(tx.execute(put).await? > 0) })).await
    }

    /// Set the value of a key that has this one, or none; whether it had. Every node hears of it.
    pub async fn tell(self, key: &str, before: Option<&str>, value: &str) -> Result<bool, StoreError> {
        at_most("key", key.len(), 128)?;
        at_most("value", value.len(), 4096)?;
        let put = match before {
            Some(before) => self
                .0
                .sql("UPDATE meta SET value = $3 WHERE tenant = $1 AND key = $2 AND value = $4")
                .bind(key)
                .bind(value)
                .bind(before),
            None => self
                .0
                .sql("INSERT INTO meta (tenant, key, value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                .bind(key)
                .bind(value),
        };
        self.0.change(move |tx, _| Box::pin(async move { Ok(tx.execute(put).await? > 0) })).await
    }

    /// Set the value of a key unless it has one; the value it has then. Two who try at once agree on one.
    pub async fn set_once(self, key: &str, value: &str) -> Result<String, StoreError> {
        at_most("key", key.len(), 128)?;
        at_most("value", value.len(), 4096)?;
        let put = self
            .0
            .sql("INSERT INTO meta (tenant, key, value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(key)
            .bind(value);
        let select = self.0.sql("SELECT value FROM meta WHERE tenant = $1 AND key = $2").bind(key);
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    tx.execute(put).await?;
                    first(tx.fetch(select).await?).ok_or(StoreError::Corrupt)?.take()
                })
            })
            .await
    }
}
