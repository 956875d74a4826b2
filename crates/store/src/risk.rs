//! What was decided about instances of apps, counted without telling one from another, and the leave operators gave some.

use aws_lc_rs::digest;
use base::{Name, Timestamp};

use crate::engine::{Row, Statement, first};
use crate::error::at_most;
use crate::leases::moment;
use crate::{Page, Paged, Store, StoreError};

/// So many rows a day: what is decided about more kinds of instances is not counted.
const MOST_A_DAY: i64 = 20_000;
/// How many are written in one transaction.
const STEP: usize = 200;
const DAY: i64 = 86_400;

/// A decision, as often as it was made about instances of which the same was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RiskDecision {
    /// The day, counted from 1970-01-01 (UTC).
    pub day: i64,
    /// The app.
    pub app: String,
    /// Its version; empty where nobody says one.
    pub version: String,
    /// At which step: `enroll` or `token`.
    pub step: String,
    /// What was known, as JSON in one form only.
    pub known: String,
    /// What was done.
    pub action: String,
    /// What would have been if every set of rules were enforced.
    pub would: String,
    /// Why.
    pub reasons: Vec<String>,
    /// How often.
    pub count: u64,
}

impl RiskDecision {
    /// The day of a moment.
    pub const fn day_of(moment: Timestamp) -> i64 {
        moment.as_secs().div_euclid(DAY)
    }

    /// What tells it from others of its day. Each part has its length before it.
    fn hash(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let parts = [&self.app, &self.version, &self.step, &self.known, &self.action, &self.would];
        for part in parts.into_iter().chain(&self.reasons) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}

/// Leave that an operator gives an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewForcedPass {
    /// The app.
    pub app: Name,
    /// The thumbprint of the instance's key (RFC 7638).
    pub jkt: String,
    /// Until when.
    pub ends_at: Timestamp,
    /// Who gives it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Leave that an instance has or had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForcedPass {
    /// Its id.
    pub id: String,
    /// The app.
    pub app: Name,
    /// The thumbprint of the instance's key.
    pub jkt: String,
    /// Since when.
    pub made_at: Timestamp,
    /// Who gave it.
    pub made_by: String,
    /// Why.
    pub reason: String,
    /// Until when at most.
    pub ends_at: Timestamp,
    /// When it was taken back.
    pub ended_at: Option<Timestamp>,
    /// By whom.
    pub ended_by: Option<String>,
    /// How often an instance was let in by it.
    pub uses: u64,
    /// When it last was.
    pub used_at: Option<Timestamp>,
}

impl ForcedPass {
    /// Whether it is in force.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.ended_at.is_none() && now < self.ends_at
    }
}

/// What was decided about instances of apps.
#[derive(Debug, Clone, Copy)]
pub struct RiskDecisions<'a>(pub(crate) &'a Store);

impl RiskDecisions<'_> {
    /// Count decisions. Kinds beyond what a day holds are left out: how many decisions that were.
    pub async fn add(self, decisions: &[RiskDecision]) -> Result<u64, StoreError> {
        let mut left_out = 0;
        for some in decisions.chunks(STEP) {
            let (store, some) = (self.0.clone(), some.to_vec());
            for one in &some {
                at_most("text", one.known.len(), 8 * 1024)?;
                at_most("name", one.app.len().max(one.version.len()), 256)?;
            }
            let over: u64 = self
                .0
                .write(move |tx| {
                    Box::pin(async move {
                        let mut over = 0u64;
                        for one in &some {
                            if tx.execute(again(&store, one)).await? > 0 {
                                continue;
                            }
                            let count = store.sql("SELECT COUNT(*) FROM risk_decisions WHERE tenant = $1 AND day = $2");
                            let mut count = first(tx.fetch(count.bind(one.day)).await?).ok_or(StoreError::Corrupt)?;
                            if count.take::<i64>()? >= MOST_A_DAY {
                                over = over.saturating_add(one.count);
                            } else {
                                tx.execute(insert(&store, one)).await?;
                            }
                        }
                        Ok(over)
                    })
                })
                .await?;
            left_out += over;
        }
        Ok(left_out)
    }

    /// Those of `app` (absent: all) since a day, up to `limit`, most frequent first.
    pub async fn since(self, app: Option<&str>, day: i64, limit: u32) -> Result<Vec<RiskDecision>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT day, app, version, step, known, action, would, reasons, count FROM risk_decisions
                 WHERE tenant = $1 AND day >= $2 AND ($3 = '' OR app = $3) ORDER BY count DESC, day, hash LIMIT $4",
            )
            .bind(day)
            .bind(app.unwrap_or_default())
            .bind(i64::from(limit));
        self.0.read(select, read_decision).await
    }

    /// Forget up to `limit` rows of days before `day`; how many there were.
    pub async fn delete_before(self, day: i64, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM risk_decisions WHERE tenant = $1 AND (day, hash) IN
                 (SELECT day, hash FROM risk_decisions WHERE tenant = $1 AND day < $2 ORDER BY day LIMIT $3)",
            )
            .bind(day)
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

fn again(store: &Store, one: &RiskDecision) -> Statement {
    store
        .sql("UPDATE risk_decisions SET count = count + $4 WHERE tenant = $1 AND day = $2 AND hash = $3")
        .bind(one.day)
        .bind(one.hash())
        .bind(one.count)
}

fn insert(store: &Store, one: &RiskDecision) -> Statement {
    store
        .sql(
            "INSERT INTO risk_decisions (tenant, day, hash, app, version, step, known, action, would, reasons, count)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (tenant, day, hash) DO UPDATE SET count = risk_decisions.count + excluded.count",
        )
        .bind(one.day)
        .bind(one.hash())
        .bind(&*one.app)
        .bind(&*one.version)
        .bind(&*one.step)
        .bind(&*one.known)
        .bind(&*one.action)
        .bind(&*one.would)
        .bind(&*one.reasons)
        .bind(one.count)
}

fn read_decision(mut row: Row) -> Result<RiskDecision, StoreError> {
    Ok(RiskDecision {
        day: row.take()?,
        app: row.take()?,
        version: row.take()?,
        step: row.take()?,
        known: row.take()?,
        action: row.take()?,
        would: row.take()?,
        reasons: row.take()?,
        count: row.take()?,
    })
}

/// Leave that operators gave.
#[derive(Debug, Clone, Copy)]
pub struct ForcedPasses<'a>(pub(crate) &'a Store);

impl ForcedPasses<'_> {
    /// Give an instance leave, instead of what it has.
    pub async fn give(self, new: NewForcedPass) -> Result<ForcedPass, StoreError> {
        at_most("reason", new.reason.len(), 1000)?;
        at_most("name", new.by.len().max(new.jkt.len()), 256)?;
        let (store, id) = (self.0.clone(), self.0.new_id("fp"));
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    let now = moment(tx, &store).await?;
                    let end = store
                        .sql(
                            "UPDATE forced_passes SET ended_at = $4, ended_by = $5
                             WHERE tenant = $1 AND app = $2 AND jkt = $3 AND ended_at IS NULL AND ends_at > $4",
                        )
                        .bind(&new.app)
                        .bind(&*new.jkt)
                        .bind(now)
                        .bind(&*new.by);
                    tx.execute(end).await?;
                    let insert = store
                        .sql(
                            "INSERT INTO forced_passes (tenant, id, app, jkt, made_at, made_by, reason, ends_at)
                             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                             RETURNING id, app, jkt, made_at, made_by, reason, ends_at, ended_at, ended_by, uses, used_at",
                        )
                        .bind(&*id)
                        .bind(&new.app)
                        .bind(&*new.jkt)
                        .bind(now)
                        .bind(&*new.by)
                        .bind(&*new.reason)
                        .bind(new.ends_at);
                    read_pass(first(tx.fetch(insert).await?).ok_or(StoreError::Corrupt)?)
                })
            })
            .await
    }

    /// Take leave back, by its id. [`StoreError::Missing`] if it is not in force.
    pub async fn end(self, id: &str, by: &str) -> Result<ForcedPass, StoreError> {
        at_most("name", by.len(), 256)?;
        let (store, id, by) = (self.0.clone(), id.to_owned(), by.to_owned());
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    let now = moment(tx, &store).await?;
                    let update = store
                        .sql(
                            "UPDATE forced_passes SET ended_at = $3, ended_by = $4
                             WHERE tenant = $1 AND id = $2 AND ended_at IS NULL AND ends_at > $3
                             RETURNING id, app, jkt, made_at, made_by, reason, ends_at, ended_at, ended_by, uses, used_at",
                        )
                        .bind(&*id)
                        .bind(now)
                        .bind(&*by);
                    read_pass(first(tx.fetch(update).await?).ok_or(StoreError::Missing("forced pass"))?)
                })
            })
            .await
    }

    /// What an instance has in force, by the thumbprint of its key.
    pub async fn of(self, app: &str, jkt: &str) -> Result<Option<ForcedPass>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT id, app, jkt, made_at, made_by, reason, ends_at, ended_at, ended_by, uses, used_at FROM forced_passes
                 WHERE tenant = $1 AND app = $2 AND jkt = $3 AND ended_at IS NULL AND ends_at > $4
                 ORDER BY ends_at DESC LIMIT 1",
            )
            .bind(app)
            .bind(jkt)
            .bind(self.0.now());
        Ok(self.0.read(select, read_pass).await?.into_iter().next())
    }

    /// Those there are and were, the newest first.
    pub async fn list(self, page: &Page) -> Result<Paged<ForcedPass>, StoreError> {
        let after = page.after.as_deref().and_then(|after| after.split_once('.'));
        let (before, id) = after.map_or((i64::MAX, ""), |(at, id)| (at.parse().unwrap_or(i64::MAX), id));
        let select = self
            .0
            .sql(
                "SELECT id, app, jkt, made_at, made_by, reason, ends_at, ended_at, ended_by, uses, used_at FROM forced_passes
                 WHERE tenant = $1 AND (made_at < $2 OR (made_at = $2 AND id > $3)) ORDER BY made_at DESC, id LIMIT $4",
            )
            .bind(before)
            .bind(id)
            .bind(page.rows() + 1);
        let passes = self.0.read(select, read_pass).await?;
        Ok(Paged::cut(passes, page, |pass| format!("{}.{}", pass.made_at.as_millis(), pass.id)))
    }

    /// Count that an instance was let in by it `uses` times, last at `at`.
    pub async fn used(self, id: &str, uses: u64, at: Timestamp) -> Result<(), StoreError> {
        let update = self
            .0
            .sql("UPDATE forced_passes SET uses = uses + $3, used_at = $4 WHERE tenant = $1 AND id = $2")
            .bind(id)
            .bind(uses)
            .bind(at);
        self.0.write(move |tx| Box::pin(async move { tx.execute(update).await })).await.map(drop)
    }

    /// Forget up to `limit` that ended before `moment`; how many there were.
    pub async fn delete_before(self, moment: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM forced_passes WHERE tenant = $1 AND id IN
                 (SELECT id FROM forced_passes WHERE tenant = $1 AND ends_at < $2 ORDER BY ends_at LIMIT $3)",
            )
            .bind(moment)
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

/// What installations showed besides their evidence, and when.
#[derive(Debug, Clone, Copy)]
pub struct StepUps<'a>(pub(crate) &'a Store);

impl StepUps<'_> {
    /// An instance, known by the thumbprint of its key, shows this now.
    pub async fn put(self, app: &str, jkt: &str, what: &str) -> Result<(), StoreError> {
        at_most("name", app.len().max(jkt.len()).max(what.len()), 256)?;
        let put = self
            .0
            .sql(
                "INSERT INTO step_ups (tenant, app, jkt, what, shown_at) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tenant, app, jkt, what) DO UPDATE SET shown_at = excluded.shown_at",
            )
            .bind(app)
            .bind(jkt)
            .bind(what)
            .bind(self.0.now());
        self.0.write(move |tx| Box::pin(async move { tx.execute(put).await })).await.map(drop)
    }

    /// What an instance showed, and when it last did.
    pub async fn of(self, app: &str, jkt: &str) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let select =
            self.0.sql("SELECT what, shown_at FROM step_ups WHERE tenant = $1 AND app = $2 AND jkt = $3 LIMIT 16");
        self.0.read(select.bind(app).bind(jkt), |mut row| Ok((row.take()?, row.take()?))).await
    }

    /// Forget up to `limit` that were shown before `moment`; how many there were.
    pub async fn delete_before(self, moment: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM step_ups WHERE tenant = $1 AND (app, jkt, what) IN
                 (SELECT app, jkt, what FROM step_ups WHERE tenant = $1 AND shown_at < $2 ORDER BY shown_at LIMIT $3)",
            )
            .bind(moment)
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

fn read_pass(mut row: Row) -> Result<ForcedPass, StoreError> {
    Ok(ForcedPass {
        id: row.take()?,
        app: row.take()?,
        jkt: row.take()?,
        made_at: row.take()?,
        made_by: row.take()?,
        reason: row.take()?,
        ends_at: row.take()?,
        ended_at: row.take()?,
        ended_by: row.take()?,
        uses: row.take()?,
        used_at: row.take()?,
    })
}
