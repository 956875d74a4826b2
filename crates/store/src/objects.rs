//! Who made what a provider stores (responses, files, batches), so that it is that caller's alone.

use base::{Name, Timestamp};

use crate::engine::{Row, first};
use crate::error::at_most;
use crate::{Store, StoreError};

/// The caller that made an object. Another caller is told that there is no such object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The configured name of the issuer that vouched for it.
    pub issuer: String,
    /// Its subject.
    pub subject: String,
    /// Its client.
    pub client: Option<String>,
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// The caller that made it.
    pub owner: Owner,
    /// The name of the provider's key it was made with, where the provider has several.
    pub key: Option<String>,
}

impl From<Owner> for StoredObject {
    /// Made with the provider's only key.
    fn from(owner: Owner) -> Self {
        Self { owner, key: None }
    }
}

/// Who made what a provider stores.
#[derive(Debug, Clone, Copy)]
pub struct StoredObjects<'a>(pub(crate) &'a Store);

impl StoredObjects<'_> {
    /// Note that this caller made the object (an id, or a path). [`StoreError::Conflict`] if another caller did.
    pub async fn claim(self, provider: &Name, object: &str, made: &StoredObject) -> Result<(), StoreError> {
        let owner = &made.owner;
        at_most("object id", object.len(), 512)?;
        at_most("subject", owner.subject.len(), 1024)?;
        let insert = self
            .0
            .sql(
                "INSERT INTO stored_objects (tenant, provider, object, issuer, subject, client, provider_key, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            )
            .bind(provider)
            .bind(object)
            .bind(&*owner.issuer)
            .bind(&*owner.subject)
            .bind(owner.client.as_deref())
            .bind(made.key.as_deref())
            .bind(self.0.now());
        let select = self
            .0
            .sql("SELECT issuer, subject, client, provider_key FROM stored_objects WHERE tenant = $1 AND provider = $2 AND object = $3")
            .bind(provider)
            .bind(object);
        let owner = owner.clone();
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    if tx.execute(insert).await? == 1 {
                        return Ok(());
                    }
                    let found = first(tx.fetch(select).await?).map(read).transpose()?;
                    if found.is_some_and(|found| found.owner == owner) {
                        Ok(())
                    } else {
                        Err(StoreError::Conflict("object"))
                    }
                })
            })
            .await
    }

    /// Who made the object, and with which key; nobody, if it was not made through here.
    pub async fn made(self, provider: &Name, object: &str) -> Result<Option<StoredObject>, StoreError> {
        let select = self
            .0
            .sql("SELECT issuer, subject, client, provider_key FROM stored_objects WHERE tenant = $1 AND provider = $2 AND object = $3")
            .bind(provider)
            .bind(object);
        Ok(self.0.read(select, read).await?.pop())
    }

    /// Forget an object that has been deleted at the provider; whether it was known. Of several who ask at once one is told so.
    pub async fn forget(self, provider: &Name, object: &str) -> Result<bool, StoreError> {
        let delete = self
            .0
            .sql("DELETE FROM stored_objects WHERE tenant = $1 AND provider = $2 AND object = $3")
            .bind(provider)
            .bind(object);
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await.map(|gone| gone > 0) })).await
    }

    /// Forget up to `limit` of the objects made before `moment`; how many there were.
    pub async fn delete_before(self, moment: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM stored_objects WHERE tenant = $1 AND (provider, object) IN
                 (SELECT provider, object FROM stored_objects WHERE tenant = $1 AND created_at < $2
                  ORDER BY created_at LIMIT $3)",
            )
            .bind(moment)
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

fn read(mut row: Row) -> Result<StoredObject, StoreError> {
    let owner = Owner { issuer: row.take()?, subject: row.take()?, client: row.take()? };
    Ok(StoredObject { owner, key: row.take()? })
}
