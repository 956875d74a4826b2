//! How full limits are, counted by Redis for all nodes.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Clock, Rng};
use futures_util::future::BoxFuture;
use redis::Script;
use tokio::sync::Notify;

use super::replay::SharedReplay;
use super::{Link, SharedError};
use crate::StoreError;

/// For how long a place is kept for a node that says nothing.
const LEASE: Duration = Duration::from_mins(2);
/// How often a node says that its places are still taken.
const RENEW: Duration = Duration::from_secs(40);

/// So much waits at most to be taken back; more empties by itself.
const UNUSED: usize = 65_536;

/// One of the limits a request counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitWant {
    /// What is counted: a keyed hash of the limit and of whom it counts.
    pub id: [u8; 16],
    /// So many at once, or in a window.
    pub limit: u64,
    /// In which window; absent: at once.
    pub window: Option<Duration>,
    /// How much.
    pub amount: u64,
}

/// How full a limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// So much fits now.
    pub remaining: u64,
    /// So long until all fits.
    pub reset: Duration,
}

/// What came of counting.
#[derive(Debug)]
pub enum Limited {
    /// All of it fits and is counted. The place, if one was asked for, is free again when it is dropped.
    Admitted(Vec<Standing>, Option<SharedPlace>),
    /// This one is full, and nothing was counted.
    Refused {
        /// Which, from 0.
        which: usize,
        /// When it fits; nothing for places.
        wait: Duration,
        /// How full it is.
        standing: Standing,
    },
}

/// Counts for all nodes.
pub trait SharedLimits: Send + Sync + fmt::Debug {
    /// Count against all of these, or none.
    fn take<'a>(&'a self, wants: &'a [LimitWant]) -> BoxFuture<'a, Result<Limited, SharedError>>;
    /// Take back what was counted and has not come to pass, soon and as far as the server answers: what cannot be given back now
    /// empties by itself in its window. Places are given back by dropping them.
    fn give_back(&self, wants: Vec<LimitWant>);
    /// Among how many nodes a limit is to be divided while the server does not answer.
    fn nodes(&self) -> u64;
}

/// A place among the requests at once; free again when dropped.
#[derive(Debug)]
pub struct SharedPlace {
    keys: Vec<String>,
    member: u64,
    held: Arc<Held>,
}

#[derive(Debug, Default)]
struct Held {
    taken: Mutex<HashMap<u64, Vec<String>>>,
    freed: Mutex<Vec<(u64, Vec<String>)>>,
    /// What is to be taken back from rates.
    unused: Mutex<Vec<LimitWant>>,
    wake: Notify,
}

impl Drop for SharedPlace {
    fn drop(&mut self) {
        self.held.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.member);
        let keys = std::mem::take(&mut self.keys);
        self.held.freed.lock().unwrap_or_else(PoisonError::into_inner).push((self.member, keys));
        self.held.wake.notify_one();
    }
}

/// The state all nodes share beside the database.
#[derive(Clone)]
pub struct SharedState(Arc<Inner>);

struct Inner {
    link: Link,
    script: Script,
    giving_back: Script,
    /// Before each member, so that no two nodes have the same.
    node: String,
    members: AtomicU64,
    held: Arc<Held>,
    nodes: AtomicU64,
}

impl SharedState {
    /// At `redis://`, `rediss://` (TLS) or `redis+unix://`. With `ca` (PEM), its certificate is to come from there. Connects when
    /// first asked.
    pub fn open(url: &str, ca: Option<&[u8]>, rng: &dyn Rng) -> Result<Self, StoreError> {
        let link = Link::open(url, ca)?;
        let (script, giving_back) =
            (Script::new(include_str!("limits.lua")), Script::new(include_str!("give_back.lua")));
        let node = crate::random_id(rng, "nd");
        let (members, nodes) = (AtomicU64::new(0), AtomicU64::new(1));
        Ok(Self(Arc::new(Inner { link, script, giving_back, node, members, held: Arc::default(), nodes })))
    }

    /// Used proofs, remembered there. `renewed` is told the number of a memory that holds nothing of what was before; the
    /// first time as soon as it is known.
    pub async fn replay(
        &self,
        (clock, rng): (Arc<dyn Clock>, &dyn Rng),
        renewed: Box<dyn Fn(u64) + Send + Sync>,
    ) -> SharedReplay {
        let replay = SharedReplay::new(self.0.link.clone(), clock, rng, renewed);
        if let Err(error) = replay.learn().await {
            tracing::warn!(reason = error.reason(), "requests with proofs are refused until the shared state answers");
        }
        replay
    }

    pub(super) fn link(&self) -> &Link {
        &self.0.link
    }

    /// How many nodes there are.
    pub fn set_nodes(&self, nodes: u64) {
        self.0.nodes.store(nodes.max(1), Ordering::Relaxed);
    }

    /// Whether it answers and is of a kind that can be used, and what about it is risky.
    pub async fn check(&self) -> Result<Vec<String>, SharedError> {
        let mut manager = self.0.link.manager.clone();
        let call = async move { redis::cmd("INFO").query_async::<String>(&mut manager).await };
        let info = self.0.link.within(call).await?;
        let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if value("redis_mode:") == Some("cluster") {
            return Err(SharedError::Cluster);
        }
        let evicts = value("maxmemory_policy:").is_some_and(|policy| policy != "noeviction");
        let bounded = value("maxmemory:").is_some_and(|most| most != "0");
        let risk = "it forgets keys when its memory is full: a used proof could be used again; set maxmemory-policy noeviction";
        Ok(if evicts && bounded { vec![risk.to_owned()] } else { Vec::new() })
    }

    /// Keep the places this node has, and give back those it has no more and what was counted too much. Never ends.
    pub async fn keep_places(&self) {
        let inner = &self.0;
        let mut renew = tokio::time::interval(RENEW);
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = renew.tick() => {
                    let taken: Vec<(u64, Vec<String>)> = {
                        let taken = inner.held.taken.lock().unwrap_or_else(PoisonError::into_inner);
                        taken.iter().map(|(member, keys)| (*member, keys.clone())).collect()
                    };
                    self.renew(&taken).await;
                }
                () = inner.held.wake.notified() => {
                    let freed = std::mem::take(&mut *inner.held.freed.lock().unwrap_or_else(PoisonError::into_inner));
                    // What cannot be given back now lapses by itself.
                    let _ = self.free(&freed).await;
                    let unused = std::mem::take(&mut *inner.held.unused.lock().unwrap_or_else(PoisonError::into_inner));
                    let _ = self.take_back(&unused).await;
                }
            }
        }
    }

    async fn free(&self, freed: &[(u64, Vec<String>)]) -> Result<(), SharedError> {
        for part in freed.chunks(256) {
            let mut pipe = redis::pipe();
            for (member, keys) in part {
                for key in keys {
                    pipe.cmd("ZREM").arg(key).arg(self.member(*member)).ignore();
                }
            }
            let mut manager = self.0.link.manager.clone();
            self.0.link.within(async move { pipe.query_async::<()>(&mut manager).await }).await?;
        }
        Ok(())
    }

    async fn take_back(&self, unused: &[LimitWant]) -> Result<(), SharedError> {
        let inner = &self.0;
        for part in unused.chunks(256) {
            let mut call = inner.giving_back.prepare_invoke();
            for LimitWant { id, limit, window, amount } in part {
                let Some(window) = window else { continue };
                call.key(name_of(id, true)).arg(*limit).arg(micros(*window)).arg(*amount);
            }
            inner.link.invoke::<()>(&call).await?;
        }
        Ok(())
    }

    async fn renew(&self, taken: &[(u64, Vec<String>)]) {
        for part in taken.chunks(256) {
            let mut manager = self.0.link.manager.clone();
            let mut clock = manager.clone();
            let now = async move { redis::cmd("TIME").query_async::<(u64, u64)>(&mut clock).await };
            let Ok((secs, _)) = self.0.link.within(now).await else { return };
            let until = secs.saturating_add(LEASE.as_secs()).saturating_mul(1000);
            let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
            let mut pipe = redis::pipe();
            for (member, keys) in part {
                for key in keys {
                    pipe.cmd("ZADD").arg(key).arg(until).arg(self.member(*member)).ignore();
                    pipe.cmd("PEXPIRE").arg(key).arg(lease).ignore();
                }
            }
            if self.0.link.within(async move { pipe.query_async::<()>(&mut manager).await }).await.is_err() {
                return;
            }
        }
    }

    fn member(&self, number: u64) -> String {
        format!("{}:{number}", self.0.node)
    }

    async fn count(&self, wants: &[LimitWant]) -> Result<Limited, SharedError> {
        let inner = &self.0;
        let member = inner.members.fetch_add(1, Ordering::Relaxed);
        let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        let mut call = inner.script.prepare_invoke();
        call.arg(self.member(member)).arg(lease);
        let mut places = Vec::new();
        for want in wants {
            let id = name_of(&want.id, want.window.is_some());
            if let Some(window) = want.window {
                call.arg("rate").arg(want.limit).arg(micros(window)).arg(want.amount.max(1));
            } else {
                call.arg("place").arg(want.limit).arg(0).arg(0);
                places.push(id.clone());
            }
            call.key(id);
        }
        let told: Vec<i64> = inner.link.invoke(&call).await?;
        let mut told = told.into_iter().map(|number| u64::try_from(number).unwrap_or(0));
        let (refused, wait) = (told.next().unwrap_or(0), told.next().unwrap_or(0));
        let mut standings = Vec::with_capacity(wants.len());
        while let (Some(remaining), Some(reset)) = (told.next(), told.next()) {
            standings.push(Standing { remaining, reset: Duration::from_micros(reset) });
        }
        if let Some(which) = usize::try_from(refused).ok().and_then(|refused| refused.checked_sub(1)) {
            let standing = standings.pop().unwrap_or(Standing { remaining: 0, reset: Duration::ZERO });
            return Ok(Limited::Refused { which, wait: Duration::from_micros(wait), standing });
        }
        let place = (!places.is_empty()).then(|| {
            inner.held.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(member, places.clone());
            SharedPlace { keys: places, member, held: Arc::clone(&inner.held) }
        });
        Ok(Limited::Admitted(standings, place))
    }
}

impl SharedLimits for SharedState {
    fn take<'a>(&'a self, wants: &'a [LimitWant]) -> BoxFuture<'a, Result<Limited, SharedError>> {
        Box::pin(self.count(wants))
    }

    fn give_back(&self, wants: Vec<LimitWant>) {
        let mut unused = self.0.held.unused.lock().unwrap_or_else(PoisonError::into_inner);
        if unused.len() < UNUSED {
            unused.extend(wants);
            drop(unused);
            self.0.held.wake.notify_one();
        }
    }

    fn nodes(&self) -> u64 {
        self.0.nodes.load(Ordering::Relaxed)
    }
}

/// The name of a limit there.
fn name_of(id: &[u8; 16], is_rate: bool) -> String {
    let mut name = String::with_capacity(56);
    name.push_str(if is_rate { "vouchgate:1:rate:" } else { "vouchgate:1:place:" });
    for byte in id {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

fn micros(window: Duration) -> u64 {
    u64::try_from(window.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedState").field("nodes", &self.nodes()).finish_non_exhaustive()
    }
}
