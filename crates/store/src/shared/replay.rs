//! What has been shown once, remembered by Redis.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{Clock, Rng, Timestamp};
use futures_util::future::BoxFuture;
use redis::Script;

use super::{Link, SharedError};
use crate::{Claim, Replay, ReplayError};

/// Remembered for this much longer than anybody should accept it: nodes' clocks differ.
const LONGER: Duration = Duration::from_mins(2);
/// Which memory this is.
const MEMORY: &str = "vouchgate:1:memory";

/// The engine of nodes that share a Redis server. What it cannot say, it refuses.
pub struct SharedReplay {
    link: Link,
    script: Script,
    clock: Arc<dyn Clock>,
    /// The next name for a new memory, if this node is the one to find it new. Never the same twice.
    names: AtomicU64,
    /// Which memory this node knows; 0: none yet.
    known: AtomicU64,
    renewed: Box<dyn Fn(u64) + Send + Sync>,
}

impl SharedReplay {
    /// `renewed` is told the number of a memory that holds nothing of before: nonces from before are to be unknown then.
    pub(super) fn new(
        link: Link,
        clock: Arc<dyn Clock>,
        rng: &dyn Rng,
        renewed: Box<dyn Fn(u64) + Send + Sync>,
    ) -> Self {
        let mut name = [0; 8];
        rng.fill(&mut name);
        let script = Script::new(include_str!("replay.lua"));
        // Small enough for the server's numbers; 0 is none.
        let names = AtomicU64::new((u64::from_be_bytes(name) >> 16) | 1);
        Self { link, script, clock, names, known: AtomicU64::new(0), renewed }
    }

    /// Ask which memory it is, so that the first nonces are right.
    pub(super) async fn learn(&self) -> Result<(), SharedError> {
        self.note([0; 32], Duration::from_millis(1)).await.map(drop)
    }

    async fn note(&self, key: [u8; 32], life: Duration) -> Result<bool, SharedError> {
        let mut name = String::with_capacity(96);
        name.push_str("vouchgate:1:shown:");
        for byte in key {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX).clamp(1, 86_400_000);
        let mut call = self.script.prepare_invoke();
        call.key(name).key(MEMORY).arg(millis).arg(self.names.fetch_add(2, Ordering::Relaxed));
        let (first, memory): (u64, u64) = self.link.invoke(&call).await?;
        let before = self.known.swap(memory, Ordering::AcqRel);
        if before != memory {
            if before != 0 {
                tracing::warn!("the shared state has lost what it knew: nonces are made anew");
            }
            (self.renewed)(memory);
            if before != 0 {
                // The nonce this proof was judged by is one of the memory that is lost.
                return Err(SharedError::Down);
            }
        }
        Ok(first == 1)
    }
}

impl Replay for SharedReplay {
    fn claim(&self, key: [u8; 32], until: Timestamp) -> BoxFuture<'_, Result<Claim, ReplayError>> {
        Box::pin(async move {
            let life = until.since(self.clock.now()) + LONGER;
            match self.note(key, life).await {
                Ok(true) => Ok(Claim::First),
                Ok(false) => Ok(Claim::Seen),
                Err(SharedError::Full) => Err(ReplayError::Full),
                Err(SharedError::Down | SharedError::Cluster) => Err(ReplayError::Down),
            }
        })
    }

    // They are the server's to count.
    fn entries(&self) -> usize {
        0
    }

    fn capacity(&self) -> usize {
        usize::MAX
    }
}

impl fmt::Debug for SharedReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReplay").finish_non_exhaustive()
    }
}
