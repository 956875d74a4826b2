//! What has been shown once, remembered in the database: for several nodes without Redis.

use std::fmt;
use std::time::Duration;

use base::Timestamp;
use futures_util::future::BoxFuture;

use crate::{Claim, Replay, ReplayError, Store, StoreError};

/// Remembered for this much longer than anybody should accept it: nodes' clocks differ.
const LONGER: Duration = Duration::from_mins(2);

/// The engine of nodes that share a database. Durable, so a proof stays used over restarts of nodes and of the database;
/// each claim is a transaction.
pub struct StoredReplay(Store);

impl StoredReplay {
    /// What is shown to any node of this store is known to all of them.
    pub fn new(store: Store) -> Self {
        Self(store)
    }
}

impl Replay for StoredReplay {
    fn claim(&self, key: [u8; 32], until: Timestamp) -> BoxFuture<'_, Result<Claim, ReplayError>> {
        Box::pin(async move {
            let insert = self
                .0
                .sql("INSERT INTO shown (tenant, hash, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                .bind(key)
                .bind(until.plus(LONGER));
            let inserted = self.0.write(move |tx| Box::pin(async move { tx.execute(insert).await })).await;
            match inserted {
                Ok(1) => Ok(Claim::First),
                Ok(_) => Ok(Claim::Seen),
                Err(StoreError::Full | StoreError::Busy) => Err(ReplayError::Full),
                Err(_) => Err(ReplayError::Down),
            }
        })
    }

    // Counting them would cost more than the number is worth.
    fn entries(&self) -> usize {
        0
    }

    fn capacity(&self) -> usize {
        usize::MAX
    }
}

impl fmt::Debug for StoredReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredReplay")
    }
}

impl Store {
    /// Forget proofs nobody accepts any more, at most `limit`; how many there were.
    pub async fn forget_shown(&self, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .sql(
                "DELETE FROM shown WHERE tenant = $1 AND hash IN
                 (SELECT hash FROM shown WHERE tenant = $1 AND expires_at <= $2 LIMIT $3)",
            )
            .bind(self.now())
            .bind(i64::from(limit));
        self.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}
