//! What other nodes on the same database change: seen by looking, at most two seconds later; a word from them is only a
//! hint to look at once.

use std::time::Duration;

use crate::engine::{Engine, first, sql};
use crate::{Store, StoreError, revocations};

/// How often to look without a hint.
const LOOK: Duration = Duration::from_secs(2);
/// How many revocations are read at once.
const STEP: i64 = 10_000;

/// How far memory has followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Followed {
    configuration: u64,
    revocations: u64,
    lifted: u64,
    /// The highest number of a revocation. They are committed in the order of their numbers.
    seq: i64,
}

impl Followed {
    pub(crate) async fn read(engine: &dyn Engine) -> Result<Self, StoreError> {
        let select = sql("SELECT name, value FROM counters WHERE tenant = '*'");
        let mut seen = Self::default();
        for mut row in engine.fetch(select).await? {
            let (name, value): (String, u64) = (row.take()?, row.take()?);
            match name.as_str() {
                "configuration" => seen.configuration = value,
                "revocations" => seen.revocations = value,
                "lifted" => seen.lifted = value,
                _ => {}
            }
        }
        let newest = engine.fetch(sql("SELECT COALESCE(MAX(seq), 0) FROM revocations")).await?;
        seen.seq = first(newest).ok_or(StoreError::Corrupt)?.take()?;
        Ok(seen)
    }

    pub(crate) const fn configuration(&self) -> u64 {
        self.configuration
    }
}

impl Store {
    /// See what other nodes have changed: configuration and revocations are in force here when it returns. Returns at once
    /// where there are no other nodes.
    pub async fn sync(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        if !shared.engine.is_shared() {
            return Ok(());
        }
        let mut seen = shared.seen.lock().await;
        let now = Followed::read(&*shared.engine).await?;
        if (now.revocations, now.lifted) != (seen.revocations, seen.lifted) {
            // Nothing is added here between what is read now and what it makes of memory.
            let _alone = shared.memory.order.alone().await;
            if now.lifted == seen.lifted {
                self.add_since(&mut seen.seq).await?;
            } else {
                let newest = shared.engine.fetch(sql("SELECT COALESCE(MAX(seq), 0) FROM revocations")).await?;
                let newest = first(newest).ok_or(StoreError::Corrupt)?.take()?;
                let rows = shared.engine.fetch(revocations::in_force(shared.clock.now())).await?;
                let all = rows.into_iter().map(revocations::read_with_tenant).collect::<Result<Vec<_>, _>>()?;
                shared.memory.mirror.replace(all);
                seen.seq = newest;
            }
            (seen.revocations, seen.lifted) = (now.revocations, now.lifted);
        }
        seen.configuration = now.configuration;
        shared.memory.saw_version(now.configuration);
        Ok(())
    }

    /// [`Store::sync`] whenever there may be something to see. Ends at once where there are no other nodes, else never.
    pub async fn follow(&self) {
        if !self.shared.engine.is_shared() {
            return;
        }
        let mut failing = false;
        loop {
            let _ = tokio::time::timeout(LOOK, self.shared.engine.hint()).await;
            match self.sync().await {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("following the other nodes again");
                    }
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(reason = error.reason(), %error, "what other nodes change is not seen");
                    }
                    // Nobody hints while the server is gone, or all the time.
                    tokio::time::sleep(LOOK / 4).await;
                }
            }
        }
    }

    async fn add_since(&self, seq: &mut i64) -> Result<(), StoreError> {
        loop {
            let rows = self.shared.engine.fetch(revocations::written_since(*seq, STEP)).await?;
            let count = rows.len();
            let mut changes = Vec::with_capacity(count);
            for mut row in rows {
                let lifted: bool = row.take()?;
                let (tenant, entry) = revocations::read_with_tenant(row)?;
                *seq = (*seq).max(i64::try_from(entry.seq).unwrap_or(i64::MAX));
                if !lifted {
                    changes.push(crate::revoked::Change::Add(tenant, Box::new(entry)));
                }
            }
            self.shared.memory.mirror.apply(changes);
            if i64::try_from(count).unwrap_or(STEP) < STEP {
                return Ok(());
            }
        }
    }
}
