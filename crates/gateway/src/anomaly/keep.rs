//! What goes on beside requests: who is stopped is kept and told, habits are saved and read, and what other nodes know is known.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::Timestamp;
use config::AnomalySection;
use store::{Store, StoreError};

use super::habit::Habit;
use super::{Kept, MOST, SHARDS, WAITING, Watch, locked};

/// Habits of callers that were not seen for longer are forgotten.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);
/// For how long a caller that was let in again is only watched.
const RELEARNS: Duration = Duration::from_hours(1);
/// How many habits are looked up at once.
const LOOKED_UP: usize = 64;
/// How many of other nodes' habits are read at once.
const OTHERS: u32 = 10_000;

impl Watch {
    /// Read what was known before the start, and who is stopped.
    pub async fn load(&self, store: &Store, node: &str, rules: &AnomalySection) -> Result<(), StoreError> {
        let now = store.now();
        let most = u32::try_from(SHARDS * MOST).unwrap_or(u32::MAX);
        let rows = store.habits().since(now.minus(REMEMBERED), most).await?;
        self.more.store(rows.len() >= usize::try_from(most).unwrap_or(usize::MAX), Ordering::Relaxed);
        // What this node saw itself is the base; others' is merged into it.
        let mut known: HashMap<Arc<str>, Habit> = HashMap::new();
        for own in [true, false] {
            for row in rows.iter().filter(|row| (row.node == node) == own) {
                let Ok(habit) = serde_json::from_str::<Habit>(&row.habit) else { continue };
                known.entry(Arc::clone(&row.whom)).and_modify(|before| before.merge(&habit)).or_insert(habit);
            }
        }
        for (whom, habit) in known {
            self.shard(&whom).entry(whom).or_insert(Kept { habit, changed: false, told: None });
        }
        self.refresh(store, rules).await
    }

    /// See who is stopped and who was let in again, at other nodes too: to be called every second or two.
    pub async fn refresh(&self, store: &Store, rules: &AnomalySection) -> Result<(), StoreError> {
        for (whom, at) in store.stops().refresh().await? {
            let until = at.plus(RELEARNS);
            if until > store.now() {
                self.with(&whom, (rules, store.now()), |kept| kept.habit.relearn(until));
            }
        }
        Ok(())
    }

    /// Keep and tell what was found, and look up what is wanted: to be called every second or two.
    pub async fn keep(&self, store: &Store, rules: &AnomalySection) -> Result<(), StoreError> {
        let (found, wanted) = {
            let mut waiting = locked(&self.waiting);
            let some = waiting.wanted.len().min(LOOKED_UP);
            (std::mem::take(&mut waiting.found), waiting.wanted.drain(..some).collect::<Vec<_>>())
        };
        let mut left = found.into_iter();
        while let Some((stop, notice)) = left.next() {
            match store.stops().add(&stop).await {
                Ok(Some(id)) => store.notices().send(notice.with("id", id)),
                // Another node was first.
                Ok(None) => {}
                Err(error) => {
                    let mut waiting = locked(&self.waiting);
                    let room = WAITING.saturating_sub(waiting.found.len());
                    waiting.found.extend(std::iter::once((stop, notice)).chain(left).take(room));
                    return Err(error);
                }
            }
        }
        for whom in wanted {
            for row in store.habits().of(&whom).await? {
                let Ok(known) = serde_json::from_str::<Habit>(&row.habit) else { continue };
                self.with(&whom, (rules, store.now()), |kept| kept.habit.merge(&known));
            }
        }
        Ok(())
    }

    /// Save what has changed, and learn what other nodes saw since `since`: to be called every minute, and at the end.
    pub async fn save(&self, store: &Store, node: &str, since: Timestamp) -> Result<(), StoreError> {
        let mut changed: Vec<(Arc<str>, Habit)> = std::mem::take(&mut locked(&self.waiting).gone);
        for shard in &self.shards {
            for (whom, kept) in locked(shard).iter_mut().filter(|(_, kept)| kept.changed) {
                kept.changed = false;
                changed.push((Arc::clone(whom), kept.habit.clone()));
            }
        }
        let row = |(whom, habit): (Arc<str>, Habit)| store::Habit {
            node: node.to_owned(),
            seen_at: Timestamp::from_secs(habit.last),
            habit: serde_json::to_string(&habit).unwrap_or_default(),
            whom,
        };
        let rows: Vec<store::Habit> = changed.into_iter().map(row).collect();
        if let Err(error) = store.habits().save(&rows).await {
            for row in &rows {
                if let Some(kept) = self.shard(&row.whom).get_mut(&row.whom) {
                    kept.changed = true;
                }
            }
            return Err(error);
        }
        if !store.is_shared() {
            return Ok(());
        }
        for row in store.habits().since(since, OTHERS).await?.iter().filter(|row| row.node != node) {
            let Ok(known) = serde_json::from_str::<Habit>(&row.habit) else { continue };
            if let Some(kept) = self.shard(&row.whom).get_mut(&row.whom) {
                kept.habit.merge(&known);
            }
        }
        Ok(())
    }
}
