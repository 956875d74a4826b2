//! Installations of apps that proved what they are, and why others were refused.
//!
//! What an installation proves itself with counts once: its nonce and its evidence are used up in the transaction that
//! writes it, so that storage only grows by what was proved. A counter only rises, by one statement that compares it.

use base::{Name, Timestamp};

use crate::engine::{Connection, Effects, Row, Statement, first};
use crate::error::at_most;
use crate::once::used;
use crate::revocations::{self, NewRevocation, Revoke, added};
use crate::{OWN_ISSUER, OneTime, Page, Paged, Store, StoreError, revoked};

/// How long a token of an installation can live at most, with what clocks differ by.
const LONGEST_TOKEN: std::time::Duration = std::time::Duration::from_mins(10);

macro_rules! select {
    () => {
        "SELECT id, app, platform, evidence, evidence_key, attested_key, jkt, jwk, counter, level, environment, category, version,
                serials, flags, annotations, device, arc, created_at, attested_at, reattest_at, seen_at, status, status_at, status_by,
                status_why FROM instances"
    };
}

/// Whether an installation may get tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstanceStatus {
    /// It may.
    Active,
    /// It may not, until it is released.
    Quarantined,
    /// It may not, ever.
    Revoked,
}

impl InstanceStatus {
    /// The word it is stored and shown by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Quarantined => "quarantined",
            Self::Revoked => "revoked",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Quarantined, Self::Revoked].into_iter().find(|status| status.as_str() == name)
    }
}

/// What an installation was found to be, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// `ios`, `android` or `web`.
    pub platform: String,
    /// The kind of evidence.
    pub evidence: String,
    /// What the evidence is known by: the credential's id, or a hash. No two installations show the same.
    pub evidence_key: [u8; 32],
    /// The attested key that signs assertions (App Attest): a point on P-256, uncompressed.
    pub attested_key: Option<Vec<u8>>,
    /// How far it carries.
    pub level: String,
    /// `production` or `development`, where the evidence says it.
    pub environment: Option<String>,
    /// How the app was distributed, where the evidence says it.
    pub category: Option<u16>,
    /// The app's version, where the evidence says it; else as the app says.
    pub version: Option<String>,
    /// Serial numbers to look up again when a revocation list changes.
    pub serials: Vec<String>,
    /// Flags, as a JSON array.
    pub flags: String,
    /// Annotations for its tokens.
    pub annotations: Vec<String>,
    /// A keyed hash of an identifier of the device, where somebody gave one.
    pub device: Option<String>,
    /// Until when the evidence counts.
    pub reattest_at: Timestamp,
}

/// An installation to be written.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Whose.
    pub app: Name,
    /// Thumbprint of its key (RFC 7638).
    pub jkt: String,
    /// Its public key, as JSON.
    pub jwk: String,
    /// What it was found to be.
    pub attested: Attested,
    /// The code of this enrolment.
    pub arc: String,
}

/// An installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id: the subject of its tokens.
    pub id: String,
    /// Whose.
    pub app: Name,
    /// Thumbprint of its key.
    pub jkt: String,
    /// Its public key, as JSON.
    pub jwk: String,
    /// The highest counter seen.
    pub counter: u64,
    /// What it was found to be.
    pub attested: Attested,
    /// The code of its last enrolment or token.
    pub arc: String,
    /// When it first enrolled.
    pub created_at: Timestamp,
    /// When it last showed its evidence.
    pub attested_at: Timestamp,
    /// When it last got a token.
    pub seen_at: Timestamp,
    /// Whether it may get tokens,
    pub status: InstanceStatus,
    /// since when,
    pub status_at: Timestamp,
    /// by whom,
    pub status_by: String,
    /// and why.
    pub status_why: String,
}

/// Something that counts once, used up with what it is shown for.
#[derive(Debug, Clone)]
pub struct UseUp {
    /// What it is.
    pub kind: OneTime,
    /// What it is known by.
    pub key: Vec<String>,
    /// From when on nobody takes it.
    pub until: Timestamp,
}

/// What became of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// It is written: a new one, or the same key with new evidence.
    Done(Box<Instance>),
    /// The nonce, or the evidence, was used before.
    Used(OneTime),
    /// Another installation has shown the same evidence.
    EvidenceTaken,
    /// An installation with this key is there and may not.
    Barred(InstanceStatus),
}

/// What a refresh brings.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// The nonce, and what else counts once.
    pub used: Vec<UseUp>,
    /// The counter of its assertion, where there is one: it must be higher than the highest seen.
    pub counter: Option<u64>,
    /// Annotations of its tokens from now on.
    pub annotations: Vec<String>,
    /// Flags from now on, as a JSON array.
    pub flags: String,
    /// The app's version from now on, where it says one.
    pub version: Option<String>,
    /// The code of this refresh.
    pub arc: String,
    /// Who is named where it is quarantined.
    pub by: String,
}

/// What became of a refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// It may have a token.
    Done(Box<Instance>),
    /// The nonce was used before.
    Used(OneTime),
    /// The counter did not rise: its key may have been copied. It is quarantined, its tokens are revoked.
    CounterRegressed,
    /// It may not, or is not there.
    Barred,
}

/// Which installations to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceFilter {
    /// Of this app.
    pub app: Option<String>,
    /// Of this status.
    pub status: Option<InstanceStatus>,
    /// Whose id, key's thumbprint or version begins so.
    pub search: Option<String>,
}

/// How many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceCount {
    /// Of which app.
    pub app: String,
    /// On which platform.
    pub platform: String,
    /// With which status.
    pub status: String,
    /// How many.
    pub count: u64,
}

/// Why an installation was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it was told.
    pub arc: String,
    /// When.
    pub at: Timestamp,
    /// Which app it said.
    pub app: Option<String>,
    /// Which installation, where that is known.
    pub instance: Option<String>,
    /// At which step: `challenge`, `enroll`, `token`, ...
    pub step: String,
    /// What it was told to do.
    pub action: String,
    /// Stable codes.
    pub reasons: Vec<String>,
    /// What else is known, as a JSON object.
    pub detail: String,
}

/// Installations of apps.
#[derive(Debug, Clone, Copy)]
pub struct Instances<'a>(pub(crate) &'a Store);

impl Instances<'_> {
    /// Write an installation and use up what it showed, all or nothing. The same key again is the same installation with
    /// new evidence, unless it is barred.
    pub async fn enroll(self, new: NewInstance, used_up: Vec<UseUp>) -> Result<Enrolled, StoreError> {
        at_most("key", new.jwk.len(), 4096)?;
        at_most("list of flags", new.attested.flags.len(), 16 * 1024)?;
        at_most("list of serial numbers", new.attested.serials.iter().map(String::len).sum(), 4096)?;
        let (store, id) = (self.0.clone(), self.0.new_id("in"));
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    for one in &used_up {
                        if !used(&store, tx, one).await? {
                            return Ok(Enrolled::Used(one.kind));
                        }
                    }
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

    /// Keep why an installation was refused.
    pub async fn refuse(self, refusal: &Refusal) -> Result<(), StoreError> {
        at_most("detail", refusal.detail.len(), 16 * 1024)?;
        let insert = self
            .0
            .sql(
                "INSERT INTO attest_refusals (tenant, arc, at, app, instance, step, action, reasons, detail)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
            )
            .bind(&*refusal.arc)
            .bind(refusal.at)
            .bind(refusal.app.clone())
            .bind(refusal.instance.clone())
            .bind(&*refusal.step)
            .bind(&*refusal.action)
            .bind(&*refusal.reasons)
            .bind(&*refusal.detail);
        self.0.write(move |tx| Box::pin(async move { tx.execute(insert).await.map(drop) })).await
    }

    /// Why the one that was told this code was refused.
    pub async fn refusal(self, arc: &str) -> Result<Option<Refusal>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT arc, at, app, instance, step, action, reasons, detail FROM attest_refusals
                 WHERE tenant = $1 AND arc = $2",
            )
            .bind(arc);
        Ok(self.0.read(select, read_refusal).await?.pop())
    }

    /// Forget up to `limit` refusals from before `moment`, and the oldest of those beyond `most`; how many there were.
    pub async fn delete_refusals(self, moment: Timestamp, most: u32, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM attest_refusals WHERE tenant = $1 AND arc IN
                 (SELECT arc FROM attest_refusals WHERE tenant = $1 AND
                  (at < $2 OR at < COALESCE((SELECT at FROM attest_refusals WHERE tenant = $1 ORDER BY at DESC LIMIT 1 OFFSET $3), $2))
                  LIMIT $4)",
            )
            .bind(moment)
            .bind(i64::from(most))
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
        not_before: revocations::up_to(store.now()),
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
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 0, $18, $19, $20, $16, $16,
                    'active', $16, '', '') ON CONFLICT DO NOTHING",
        )
        .bind(id);
    found(store, insert, new).bind(&new.app).bind(&*new.jkt).bind(&*new.jwk)
}

/// New evidence of the same key.
fn renew(store: &Store, id: &str, new: &NewInstance) -> Statement {
    let update = store
        .sql(
            "UPDATE instances SET platform = $3, evidence = $4, evidence_key = $5, attested_key = $6, level = $7,
                    environment = $8, category = $9, version = $10, serials = $11, flags = $12, annotations = $13, device = $14,
                    arc = $15, attested_at = $16, reattest_at = $17, seen_at = $16, counter = 0
             WHERE tenant = $1 AND id = $2 AND status = 'active'",
        )
        .bind(id);
    found(store, update, new)
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

fn read_refusal(mut row: Row) -> Result<Refusal, StoreError> {
    Ok(Refusal {
        arc: row.take()?,
        at: row.take()?,
        app: row.take()?,
        instance: row.take()?,
        step: row.take()?,
        action: row.take()?,
        reasons: row.take()?,
        detail: row.take()?,
    })
}
