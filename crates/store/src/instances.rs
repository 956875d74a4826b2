//! Installations of apps that proved what they are, and why others were refused.
//!
//! What an installation proves itself with counts once: its nonce and its evidence are used up before it is written, even where
//! it is then refused, and only once they hold, so that storage only grows by what was proved. A counter only rises, by one
//! statement that compares it.

mod kinds;
mod refusals;

use base::{Name, Timestamp};

use crate::engine::{Connection, Effects, Row, Statement, first};
use crate::error::at_most;
use crate::once::used;
use crate::revocations::{self, NewRevocation, Revoke, added};
use crate::{OWN_ISSUER, Page, Paged, Store, StoreError, receipts, revoked};

pub use kinds::{
    Attested, Enrolled, Instance, InstanceCount, InstanceFilter, InstanceStatus, NewInstance, Refreshed, Renewed, UseUp,
};
pub use refusals::Refusal;

/// How long a token of an installation can live at most, with what clocks differ by.
const LONGEST_TOKEN: std::time::Duration = std::time::Duration::from_mins(10);

/// How far ahead another node's clock may be.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(4);

macro_rules! select {
    () => {
        "SELECT id, app, platform, evidence, evidence_key, attested_key, jkt, jwk, counter, level, environment, category, version,
                serials, flags, annotations, device, arc, created_at, attested_at, reattest_at, seen_at, status, status_at, status_by,
                status_why FROM instances"
    };
}

/// Installations of apps.
#[derive(Debug, Clone, Copy)]
pub struct Instances<'a>(pub(crate) &'a Store);

impl Instances<'_> {
    /// Write an installation whose nonce and evidence were used up ([`crate::UsedOnce::claim_all`]). The same key again is the
    /// same installation with new evidence, unless it is barred.
    pub async fn enroll(self, new: NewInstance) -> Result<Enrolled, StoreError> {
        at_most("key", new.jwk.len(), 4096)?;
        at_most("list of flags", new.attested.flags.len(), 16 * 1024)?;
        at_most("list of serial numbers", new.attested.serials.iter().map(String::len).sum(), 4096)?;
        let (store, id) = (self.0.clone(), self.0.new_id("in"));
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    let known = store
                        .sql(concat!(select!(), " WHERE tenant = $1 AND app = $2 AND jkt = $3"))
                        .bind(&new.app)
                        .bind(&*new.jkt)
                        .for_update();
                    let known = first(tx.fetch(known).await?).map(read).transpose()?;
                    if let Some(known) = known.as_ref().filter(|known| known.status != InstanceStatus::Active) {
                        return Ok(Enrolled::Barred(known.status));
                    }
                    let again = known.is_some();
                    let id = known.map_or(id, |known| known.id);
                    let taken = store
                        .sql("SELECT 1 FROM instances WHERE tenant = $1 AND evidence = $2 AND evidence_key = $3 AND id <> $4")
                        .bind(&*new.attested.evidence)
                        .bind(new.attested.evidence_key)
                        .bind(&*id);
                    if !tx.fetch(taken).await?.is_empty() {
                        return Ok(Enrolled::EvidenceTaken);
                    }
                    let put = if again { renew(&store, &id, &new) } else { insert(&store, &id, &new) };
                    // Another transaction may have put the same evidence, or the same key, in between.
                    if tx.execute(put).await? == 0 {
                        return Ok(Enrolled::EvidenceTaken);
                    }
                    if let Some(receipt) = &new.receipt {
                        tx.execute(receipts::put(&store, &id, receipt)).await?;
                    }
                    Ok(Enrolled::Done(Box::new(read_one(&store, tx, &id).await?)))
                })
            })
            .await
    }

    /// Whether an installation of an app is on a device of this name.
    pub async fn device_known(self, app: &Name, device: &str) -> Result<bool, StoreError> {
        let select = self
            .0
            .sql("SELECT 1 FROM instances WHERE tenant = $1 AND app = $2 AND device = $3 LIMIT 1")
            .bind(app)
            .bind(device);
        Ok(!self.0.fetch(select).await?.is_empty())
    }

    /// Let an installation have another token, or quarantine it because its counter did not rise.
    pub async fn refresh(self, id: &str, new: Refreshed) -> Result<Renewed, StoreError> {
        at_most("list of flags", new.flags.len(), 16 * 1024)?;
        let (store, id) = (self.0.clone(), id.to_owned());
        let order = self.0.shared.memory.order.adding().await;
        self.0
            .submit(order, move |tx| {
                Box::pin(async move {
                    for one in &new.used {
                        if !used(&store, tx, one).await? {
                            return Ok((Renewed::Used(one.kind), Effects::default()));
                        }
                    }
                    if let Some(counter) = new.counter {
                        let rises = store
                            .sql(
                                "UPDATE instances SET counter = $3 WHERE tenant = $1 AND id = $2 AND counter < $3
                                 AND status = 'active'",
                            )
                            .bind(&*id)
                            .bind(counter);
                        if tx.execute(rises).await? == 0 {
                            let change =
                                Change { to: InstanceStatus::Quarantined, by: &new.by, why: "counter_regression" };
                            return Ok(match change.make(&store, tx, &id, true).await? {
                                Some((_, effects)) => (Renewed::CounterRegressed, effects),
                                None => (Renewed::Barred, Effects::default()),
                            });
                        }
                    }
                    let seen = store
                        .sql(
                            "UPDATE instances SET seen_at = $3, arc = $4, annotations = $5, flags = $6,
                                    version = COALESCE($7, version)
                             WHERE tenant = $1 AND id = $2 AND status = 'active'",
                        )
                        .bind(&*id)
                        .bind(store.now())
                        .bind(&*new.arc)
                        .bind(&*new.annotations)
                        .bind(&*new.flags)
                        .bind(new.version.clone());
                    if tx.execute(seen).await? == 0 {
                        return Ok((Renewed::Barred, Effects::default()));
                    }
                    let read = read_one(&store, tx, &id).await?;
                    Ok((Renewed::Done(Box::new(read)), Effects::default()))
                })
            })
            .await
    }

    /// Quarantine, revoke or release an installation. One that may not loses its tokens with that, on every node. What is
    /// revoked stays so: [`StoreError::Conflict`].
    pub async fn set_status(
        self,
        id: &str,
        to: InstanceStatus,
        (by, why): (&str, &str),
    ) -> Result<Instance, StoreError> {
        at_most("name", by.len(), 256)?;
        at_most("reason", why.len(), 256)?;
        let (store, id, by, why) = (self.0.clone(), id.to_owned(), by.to_owned(), why.to_owned());
        let order = self.0.shared.memory.order.adding().await;
        self.0
            .submit(order, move |tx| {
                Box::pin(async move {
                    let change = Change { to, by: &by, why: &why };
                    if let Some(changed) = change.make(&store, tx, &id, false).await? {
                        return Ok(changed);
                    }
                    let found = read_one(&store, tx, &id).await?;
                    if found.status == to {
                        return Ok((found, Effects::default()));
                    }
                    Err(StoreError::Conflict("instance"))
                })
            })
            .await
    }

    /// Forget an installation; its tokens are revoked, on every node. [`StoreError::Missing`] if there is none.
    pub async fn delete(self, id: &str, by: &str, why: &str) -> Result<(), StoreError> {
        let (store, id, by, why) = (self.0.clone(), id.to_owned(), by.to_owned(), why.to_owned());
        let order = self.0.shared.memory.order.adding().await;
        self.0
            .submit(order, move |tx| {
                Box::pin(async move {
                    let delete = store.sql("DELETE FROM instances WHERE tenant = $1 AND id = $2").bind(&*id);
                    if tx.execute(delete).await? == 0 {
                        return Err(StoreError::Missing("instance"));
                    }
                    tx.execute(receipts::delete(&store, &id)).await?;
                    let mut effects = Effects::default();
                    effects.changes.push(end_tokens(&store, tx, &id, (&by, &why)).await?);
                    Ok(((), effects))
                })
            })
            .await
    }

    /// The installation of that id.
    pub async fn get(self, id: &str) -> Result<Option<Instance>, StoreError> {
        Ok(self.0.read(by_id(self.0, id), read).await?.pop())
    }

    /// The installation whose last enrolment or token had this code.
    pub async fn of_arc(self, arc: &str) -> Result<Option<Instance>, StoreError> {
        let select = self.0.sql(concat!(select!(), " WHERE tenant = $1 AND arc = $2 LIMIT 1")).bind(arc);
        Ok(self.0.read(select, read).await?.pop())
    }

    /// Those that fit, by their ids.
    pub async fn list(self, filter: &InstanceFilter, page: &Page) -> Result<Paged<Instance>, StoreError> {
        let prefix = filter.search.as_deref().map(|text| format!("{}%", escaped(text)));
        let select = self
            .0
            .sql(concat!(
                select!(),
                " WHERE tenant = $1 AND id > $2 AND ($3 IS NULL OR app = $3) AND ($4 IS NULL OR status = $4)
                  AND ($5 IS NULL OR id LIKE $5 ESCAPE '!' OR jkt LIKE $5 ESCAPE '!' OR version LIKE $5 ESCAPE '!')
                  ORDER BY id LIMIT $6"
            ))
            .bind(page.after.as_deref().unwrap_or_default())
            .bind(filter.app.clone())
            .bind(filter.status.map(|status| status.as_str().to_owned()))
            .bind(prefix)
            .bind(page.rows() + 1);
        Ok(Paged::cut(self.0.read(select, read).await?, page, |instance| instance.id.clone()))
    }

    /// Those that may and have serial numbers, by their ids, from the one after `after` on: to look them up again.
    pub async fn with_serials(self, after: &str, limit: u32) -> Result<Vec<(String, Vec<String>)>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT id, serials FROM instances
                 WHERE tenant = $1 AND id > $2 AND status = 'active' AND serials <> '[]' ORDER BY id LIMIT $3",
            )
            .bind(after)
            .bind(i64::from(limit));
        self.0.read(select, |mut row| Ok((row.take()?, row.take()?))).await
    }

    /// How many there are.
    pub async fn counts(self) -> Result<Vec<InstanceCount>, StoreError> {
        let select = self.0.sql(
            "SELECT app, platform, status, COUNT(*) FROM instances WHERE tenant = $1 GROUP BY app, platform, status
             ORDER BY app, platform, status LIMIT 1000",
        );
        let count = |mut row: Row| {
            Ok(InstanceCount { app: row.take()?, platform: row.take()?, status: row.take()?, count: row.take()? })
        };
        self.0.read(select, count).await
    }

    /// Forget up to `limit` that were last seen before `moment` and whose evidence has ended, save those that are barred: they
    /// stay unless they were barred before `barred`; how many there were.
    pub async fn delete_unseen(self, moment: Timestamp, barred: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM instances WHERE tenant = $1 AND id IN
                 (SELECT id FROM instances WHERE tenant = $1 AND seen_at < $2 AND reattest_at < $2
                  AND (status = 'active' OR status_at < $3) LIMIT $4)",
            )
            .bind(moment)
            .bind(barred)
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }

    /// Forget up to `limit` that enrolled before `moment`, showed no device (level `none` or `web`) and never asked for another
    /// token since: whoever can do a little work can make any number of them. How many there were.
    pub async fn delete_unused(self, moment: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM instances WHERE tenant = $1 AND id IN
                 (SELECT id FROM instances WHERE tenant = $1 AND attested_at < $2 AND seen_at = attested_at
                  AND level IN ('none', 'web') AND status = 'active' LIMIT $3)",
            )
            .bind(moment)
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

/// A change of status within a transaction.
struct Change<'a> {
    to: InstanceStatus,
    by: &'a str,
    why: &'a str,
}

impl Change<'_> {
    /// Make it, and revoke the tokens of one that may not any more; nothing, if it is not in a status that can change so.
    async fn make(
        &self,
        store: &Store,
        tx: &mut dyn Connection,
        id: &str,
        only_active: bool,
    ) -> Result<Option<(Instance, Effects)>, StoreError> {
        let update = store
            .sql(if only_active || self.to == InstanceStatus::Quarantined {
                "UPDATE instances SET status = $3, status_at = $4, status_by = $5, status_why = $6
                 WHERE tenant = $1 AND id = $2 AND status = 'active'"
            } else if self.to == InstanceStatus::Active {
                "UPDATE instances SET status = $3, status_at = $4, status_by = $5, status_why = $6
                 WHERE tenant = $1 AND id = $2 AND status = 'quarantined'"
            } else {
                "UPDATE instances SET status = $3, status_at = $4, status_by = $5, status_why = $6
                 WHERE tenant = $1 AND id = $2 AND status <> 'revoked'"
            })
            .bind(id)
            .bind(self.to.as_str())
            .bind(store.now())
            .bind(self.by)
            .bind(self.why);
        if tx.execute(update).await? == 0 {
            return Ok(None);
        }
        let mut effects = Effects::default();
        if self.to != InstanceStatus::Active {
            effects.changes.push(end_tokens(store, tx, id, (self.by, self.why)).await?);
        }
        Ok(Some((read_one(store, tx, id).await?, effects)))
    }
}

/// Revoke the tokens an installation has.
async fn end_tokens(
    store: &Store,
    tx: &mut dyn Connection,
    id: &str,
    (by, why): (&str, &str),
) -> Result<revoked::Change, StoreError> {
    let new = NewRevocation {
        what: Revoke::Subject { issuer: OWN_ISSUER.to_owned(), subject: id.to_owned() },
        // A node whose clock is ahead may have given it one a moment ago.
        not_before: revocations::up_to(store.now().plus(AHEAD)),
        // It gets no more, so none is valid then.
        expires_at: Some(store.now().plus(LONGEST_TOKEN)),
        by: by.to_owned(),
        reason: why.to_owned(),
    };
    Ok(added(store, &revocations::write(store, tx, new).await?))
}

/// Put a new one in.
fn insert(store: &Store, id: &str, new: &NewInstance) -> Statement {
    let insert = store
        .sql(
            "INSERT INTO instances (tenant, id, platform, evidence, evidence_key, attested_key, level, environment, category,
                    version, serials, flags, annotations, device, arc, attested_at, reattest_at, counter, app, jkt, jwk,
                    created_at, seen_at, status, status_at, status_by, status_why)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $21, $18, $19, $20, $16, $16,
                    'active', $16, '', '') ON CONFLICT DO NOTHING",
        )
        .bind(id);
    found(store, insert, new).bind(&new.app).bind(&*new.jkt).bind(&*new.jwk).bind(i64::from(new.counter))
}

/// New evidence of the same key.
fn renew(store: &Store, id: &str, new: &NewInstance) -> Statement {
    let update = store
        .sql(
            "UPDATE instances SET platform = $3, evidence = $4, evidence_key = $5, attested_key = $6, level = $7,
                    environment = $8, category = $9, version = $10, serials = $11, flags = $12, annotations = $13, device = $14,
                    arc = $15, attested_at = $16, reattest_at = $17, seen_at = $16, counter = $18
             WHERE tenant = $1 AND id = $2 AND status = 'active'",
        )
        .bind(id);
    found(store, update, new).bind(i64::from(new.counter))
}

/// What it was found to be, from the third placeholder on.
fn found(store: &Store, statement: Statement, new: &NewInstance) -> Statement {
    let of = &new.attested;
    statement
        .bind(&*of.platform)
        .bind(&*of.evidence)
        .bind(of.evidence_key)
        .bind(of.attested_key.clone())
        .bind(&*of.level)
        .bind(of.environment.clone())
        .bind(of.category)
        .bind(of.version.clone())
        .bind(&*of.serials)
        .bind(&*of.flags)
        .bind(&*of.annotations)
        .bind(of.device.clone())
        .bind(&*new.arc)
        .bind(store.now())
        .bind(of.reattest_at)
}

fn by_id(store: &Store, id: &str) -> Statement {
    store.sql(concat!(select!(), " WHERE tenant = $1 AND id = $2")).bind(id)
}

async fn read_one(store: &Store, tx: &mut dyn Connection, id: &str) -> Result<Instance, StoreError> {
    first(tx.fetch(by_id(store, id)).await?).map(read).ok_or(StoreError::Missing("instance"))?
}

/// A text as `LIKE` has it, with `!` before what means something there.
fn escaped(text: &str) -> String {
    text.chars().take(128).flat_map(|c| matches!(c, '%' | '_' | '!').then_some('!').into_iter().chain([c])).collect()
}

fn read(mut row: Row) -> Result<Instance, StoreError> {
    let (id, app, platform, evidence) = (row.take()?, row.take()?, row.take()?, row.take()?);
    let (evidence_key, attested_key, jkt, jwk) = (row.take()?, row.take()?, row.take()?, row.take()?);
    let (counter, level, environment, category) = (row.take()?, row.take()?, row.take()?, row.take()?);
    let (version, serials, flags, annotations) = (row.take()?, row.take()?, row.take()?, row.take()?);
    let (device, arc, created_at, attested_at) = (row.take()?, row.take()?, row.take()?, row.take()?);
    let (reattest_at, seen_at, status) = (row.take()?, row.take()?, row.take::<String>()?);
    let status = InstanceStatus::from_name(&status).ok_or(StoreError::Row("not the status of an instance"))?;
    Ok(Instance {
        id,
        app,
        jkt,
        jwk,
        counter,
        attested: Attested {
            platform,
            evidence,
            evidence_key,
            attested_key,
            level,
            environment,
            category,
            version,
            serials,
            flags,
            annotations,
            device,
            reattest_at,
        },
        arc,
        created_at,
        attested_at,
        seen_at,
        status,
        status_at: row.take()?,
        status_by: row.take()?,
        status_why: row.take()?,
    })
}
