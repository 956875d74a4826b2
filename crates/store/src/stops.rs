//! Callers that are stopped because they behave quite unlike themselves: kept, and in memory to ask on every request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use base::Timestamp;

use crate::engine::{Row, first};
use crate::error::at_most;
use crate::leases::moment;
use crate::{Page, Paged, Store, StoreError};

/// For how long a node may learn late that a caller was let in again.
const RECENT: Duration = Duration::from_mins(10);
/// How many stops are read into memory at most, the newest first.
const MOST: i64 = 10_000;

/// What becomes of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAction {
    /// It is only told of.
    Observe,
    /// It may make so many requests a minute, on each node.
    Throttle(u64),
    /// It is refused.
    Suspend,
}

impl StopAction {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Throttle(_) => "throttle",
            Self::Suspend => "suspend",
        }
    }

    const fn per_minute(self) -> Option<u64> {
        match self {
            Self::Throttle(most) => Some(most),
            Self::Observe | Self::Suspend => None,
        }
    }
}

/// A caller that is to be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStop {
    /// Whom: `key=NAME`, `client=...`, `subject=...`, `device=...`.
    pub whom: Arc<str>,
    /// What becomes of it.
    pub action: StopAction,
    /// Why, as a JSON object.
    pub why: String,
    /// Until when; absent: until it is let in again.
    pub ends_at: Option<Timestamp>,
}

/// A caller that is or was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Its number.
    pub id: i64,
    /// Whom.
    pub whom: Arc<str>,
    /// What became of it.
    pub action: StopAction,
    /// Why, as a JSON object.
    pub why: String,
    /// Since when.
    pub made_at: Timestamp,
    /// Until when; absent: until it is let in again.
    pub ends_at: Option<Timestamp>,
    /// When it was let in again.
    pub restored_at: Option<Timestamp>,
    /// By whom.
    pub restored_by: Option<String>,
}

impl Stop {
    /// Whether it is in force.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.restored_at.is_none() && self.ends_at.is_none_or(|end| now < end)
    }
}

/// What is done to somebody, and until when if it ends by itself.
type Stopping = (StopAction, Option<Timestamp>);

/// Who is stopped, in memory.
#[derive(Debug, Default)]
pub struct Stopped {
    any: AtomicBool,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    of: HashMap<Arc<str>, Stopping>,
    /// Of them, those found here that the database does not have yet: it cannot say that they are none.
    unkept: HashMap<Arc<str>, Stopping>,
    /// How often somebody was let in again or kept: what was read from the database before is old then.
    changes: u64,
}

impl Stopped {
    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// What becomes of a caller now, if anything.
    pub fn of(&self, whom: &str, now: Timestamp) -> Option<StopAction> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (action, end) = known.of.get(whom)?;
        end.is_none_or(|end| now < end).then_some(*action)
    }

    /// Stop a caller here, before it is kept.
    pub fn stop(&self, new: &NewStop) {
        if new.action == StopAction::Observe {
            return;
        }
        let mut known = self.write();
        known.of.insert(Arc::clone(&new.whom), (new.action, new.ends_at));
        known.unkept.insert(Arc::clone(&new.whom), (new.action, new.ends_at));
        self.any.store(true, Ordering::Release);
    }

    /// The database has it.
    fn kept(&self, new: &NewStop) {
        let mut known = self.write();
        known.changes = known.changes.wrapping_add(1);
        // What was found since may be harder.
        if known.unkept.get(&new.whom) == Some(&(new.action, new.ends_at)) {
            known.unkept.remove(&new.whom);
        }
        if new.action != StopAction::Observe {
            let hardest = known.of.entry(Arc::clone(&new.whom)).or_insert((new.action, new.ends_at));
            if rank(new.action) >= rank(hardest.0) {
                *hardest = (new.action, new.ends_at);
            }
            self.any.store(true, Ordering::Release);
        }
    }

    /// Let a caller in again here.
    pub fn restore(&self, whom: &str) {
        let mut known = self.write();
        known.changes = known.changes.wrapping_add(1);
        known.of.remove(whom);
        known.unkept.remove(whom);
        self.any.store(!known.of.is_empty(), Ordering::Release);
    }

    fn changes(&self) -> u64 {
        self.known.read().unwrap_or_else(PoisonError::into_inner).changes
    }

    /// What the database said, if nothing has changed since `changes`: else the next reading will tell.
    fn replace(&self, with: HashMap<Arc<str>, Stopping>, changes: u64) {
        let mut known = self.write();
        if known.changes != changes {
            return;
        }
        known.of = with;
        let unkept: Vec<_> = known.unkept.iter().map(|(whom, stopping)| (Arc::clone(whom), *stopping)).collect();
        for (whom, stopping) in unkept {
            let hardest = known.of.entry(whom).or_insert(stopping);
            if rank(stopping.0) > rank(hardest.0) {
                *hardest = stopping;
            }
        }
        self.any.store(!known.of.is_empty(), Ordering::Release);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Callers that are or were stopped, as they are kept.
#[derive(Debug, Clone, Copy)]
pub struct Stops<'a>(pub(crate) &'a Store);

const KNOWN: &str =
    "SELECT id, whom, action, per_minute, why, made_at, ends_at, restored_at, restored_by FROM anomaly_stops
     WHERE tenant = $1 AND whom = $2 AND restored_at IS NULL ORDER BY id DESC LIMIT 100";

impl Stops<'_> {
    /// Who is stopped, in memory.
    pub fn in_force(&self) -> &Arc<Stopped> {
        &self.0.shared.stopped
    }

    /// Stop a caller, unless it is stopped as hard already (by this node or another): its number, if it is new.
    pub async fn add(self, new: &NewStop) -> Result<Option<i64>, StoreError> {
        at_most("whom", new.whom.len(), 600)?;
        at_most("why", new.why.len(), 4096)?;
        let store = self.0.clone();
        // All who stop this caller wait here for whoever does.
        let known = self.0.sql(KNOWN).bind(&*new.whom);
        let insert = self
            .0
            .sql(
                "INSERT INTO anomaly_stops (tenant, whom, action, per_minute, why, ends_at, made_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
            )
            .bind(&*new.whom)
            .bind(new.action.as_str())
            .bind(new.action.per_minute())
            .bind(&*new.why)
            .bind(new.ends_at);
        let action = new.action;
        let id = self
            .0
            .write(move |tx| {
                Box::pin(async move {
                    let now = moment(tx, &store).await?;
                    let stops: Vec<Stop> =
                        tx.fetch(known.for_update()).await?.into_iter().map(read).collect::<Result<_, _>>()?;
                    if stops.iter().any(|stop| stop.is_in_force(now) && rank(stop.action) >= rank(action)) {
                        return Ok(None);
                    }
                    Ok(Some(first(tx.fetch(insert.bind(now)).await?).ok_or(StoreError::Corrupt)?.take::<i64>()?))
                })
            })
            .await?;
        self.in_force().kept(new);
        Ok(id)
    }

    /// Let a caller in again, by the number of what stopped it or by whom: all that stops it. What did, the newest first;
    /// [`StoreError::Missing`] if nothing does.
    pub async fn restore(self, which: &str, by: &str) -> Result<Vec<Stop>, StoreError> {
        at_most("name", by.len(), 256)?;
        let store = self.0.clone();
        let id: i64 = which.parse().unwrap_or(0);
        let find = self.0.sql("SELECT whom FROM anomaly_stops WHERE tenant = $1 AND (id = $2 OR whom = $3) LIMIT 1");
        let (find, by) = (find.bind(id).bind(which), by.to_owned());
        let restored: Vec<Stop> = self
            .0
            .write(move |tx| {
                Box::pin(async move {
                    let now = moment(tx, &store).await?;
                    let found = first(tx.fetch(find).await?).ok_or(StoreError::Missing("stop"))?.take::<String>()?;
                    let update = store
                        .sql(
                            "UPDATE anomaly_stops SET restored_at = $3, restored_by = $4
                             WHERE tenant = $1 AND whom = $2 AND restored_at IS NULL AND (ends_at IS NULL OR ends_at > $3)
                             RETURNING id, whom, action, per_minute, why, made_at, ends_at, restored_at, restored_by",
                        )
                        .bind(found)
                        .bind(now)
                        .bind(by);
                    let mut restored: Vec<Stop> =
                        tx.fetch(update).await?.into_iter().map(read).collect::<Result<_, _>>()?;
                    if restored.is_empty() {
                        return Err(StoreError::Missing("stop"));
                    }
                    restored.sort_by_key(|stop| std::cmp::Reverse(stop.id));
                    Ok(restored)
                })
            })
            .await?;
        if let Some(stop) = restored.first() {
            self.in_force().restore(&stop.whom);
        }
        Ok(restored)
    }

    /// Those there are and were, the newest first.
    pub async fn list(self, page: &Page) -> Result<Paged<Stop>, StoreError> {
        let before: i64 = page.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(i64::MAX);
        let select = self
            .0
            .sql(
                "SELECT id, whom, action, per_minute, why, made_at, ends_at, restored_at, restored_by FROM anomaly_stops
                 WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            )
            .bind(before)
            .bind(page.rows() + 1);
        let stops = self.0.read(select, read).await?;
        Ok(Paged::cut(stops, page, |stop| stop.id.to_string()))
    }

    /// Read into memory who is stopped, as all nodes have it; who was let in again of late, and when.
    pub async fn refresh(self) -> Result<Vec<(Arc<str>, Timestamp)>, StoreError> {
        let (now, changes) = (self.0.now(), self.in_force().changes());
        let select = self
            .0
            .sql(
                "SELECT id, whom, action, per_minute, why, made_at, ends_at, restored_at, restored_by FROM anomaly_stops
                 WHERE tenant = $1 AND (restored_at > $2 OR (restored_at IS NULL AND (ends_at IS NULL OR ends_at > $3)))
                 ORDER BY id DESC LIMIT $4",
            )
            .bind(now.minus(RECENT))
            .bind(now)
            .bind(MOST);
        let (mut in_force, mut restored) = (HashMap::new(), Vec::new());
        for stop in self.0.read(select, read).await? {
            match stop.restored_at {
                Some(at) => restored.push((stop.whom, at)),
                None if stop.action == StopAction::Observe => {}
                None => {
                    let hardest = in_force.entry(stop.whom).or_insert((stop.action, stop.ends_at));
                    if rank(stop.action) > rank(hardest.0) {
                        *hardest = (stop.action, stop.ends_at);
                    }
                }
            }
        }
        self.in_force().replace(in_force, changes);
        Ok(restored)
    }

    /// Forget up to `limit` that ended before `moment`; how many there were.
    pub async fn delete_before(self, moment: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM anomaly_stops WHERE tenant = $1 AND id IN
                 (SELECT id FROM anomaly_stops WHERE tenant = $1 AND made_at < $2
                  AND (restored_at < $2 OR (ends_at IS NOT NULL AND ends_at < $2)) ORDER BY id LIMIT $3)",
            )
            .bind(moment)
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

/// Which of two is harder.
const fn rank(action: StopAction) -> u8 {
    match action {
        StopAction::Observe => 0,
        StopAction::Throttle(_) => 1,
        StopAction::Suspend => 2,
    }
}

fn read(mut row: Row) -> Result<Stop, StoreError> {
    let (id, whom, action, most) = (row.take()?, row.take()?, row.take::<String>()?, row.take::<Option<u64>>()?);
    let action = match action.as_str() {
        "observe" => StopAction::Observe,
        "throttle" => StopAction::Throttle(most.unwrap_or(1)),
        "suspend" => StopAction::Suspend,
        _ => return Err(StoreError::Row("not what becomes of a caller")),
    };
    Ok(Stop {
        id,
        whom,
        action,
        why: row.take()?,
        made_at: row.take()?,
        ends_at: row.take()?,
        restored_at: row.take()?,
        restored_by: row.take()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(whom: &str, action: StopAction) -> NewStop {
        NewStop { whom: whom.into(), action, why: "{}".to_owned(), ends_at: None }
    }

    #[test]
    fn who_was_stopped_while_the_database_was_read_stays_stopped_and_who_was_let_in_stays_in() {
        let (stopped, now) = (Stopped::default(), Timestamp::from_secs(1));
        let suspended = |whom: &str| stopped.of(whom, now) == Some(StopAction::Suspend);
        let found = stop("key=a", StopAction::Suspend);
        let changes = stopped.changes();
        stopped.stop(&found);
        stopped.replace(HashMap::new(), changes);
        assert!(suspended("key=a") && !stopped.is_empty(), "it is not kept yet");
        stopped.replace(HashMap::from([("key=a".into(), (StopAction::Throttle(3), None))]), stopped.changes());
        assert!(suspended("key=a"), "the harder of both");

        let changes = stopped.changes();
        stopped.kept(&found);
        stopped.replace(HashMap::new(), changes);
        assert!(suspended("key=a"), "that was read before it was kept");
        let (before, in_force) = (stopped.changes(), HashMap::from([("key=a".into(), (StopAction::Suspend, None))]));
        stopped.restore("key=a");
        stopped.replace(in_force, before);
        assert!(stopped.is_empty(), "that was read before it was let in");
        stopped.stop(&found);
        stopped.kept(&found);
        stopped.replace(HashMap::new(), stopped.changes());
        assert!(stopped.is_empty(), "the database knows");
    }
}
