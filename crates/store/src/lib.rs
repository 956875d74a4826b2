//! What must survive a restart: clients, keys, secrets (sealed), resources, and a record of each request.
//!
//! A write is acknowledged only once it is durable; reads see what has been committed. With SQLite all writes go through
//! one writer, which commits what is waiting together. With PostgreSQL they run beside each other, and other nodes' too.
//! The repositories hold one SQL text per query and know no database; see `engine.rs` for the seam and
//! `docs/storage.md` for the tables.
//!
//! No prompt and no answer of a model is ever stored, and no credential in a form that can be used.

mod admin_tokens;
mod api_keys;
mod app_configs;
mod audit_subjects;
mod clients;
mod dir;
mod dump;
mod engine;
mod error;
mod follow;
mod grants;
mod habits;
mod idempotency;
mod instances;
mod jwks;
mod known_keys;
mod leases;
mod ledger;
mod meta;
mod migrate;
mod notices;
mod objects;
mod once;
mod outbox;
mod page;
mod postgres;
mod receipts;
mod records;
mod refresh;
mod replay;
mod repositories;
mod resources;
mod revocations;
mod revoked;
mod risk;
mod runtime_secrets;
mod sealed;
mod secret_tally;
mod secrets;
mod shared;
mod shown;
mod sightings;
mod signing_keys;
mod sink;
mod sqlite;
mod stops;
mod url;
mod usage;

use std::path::Path;
use std::sync::{Arc, PoisonError};

use base::{Clock, Rng, Tenant, Timestamp};
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, oneshot, watch};

use engine::{Connection, Effects, Engine, Memory, Order, Row, Statement, Task, first, sql};
use follow::Followed;
use revoked::{Change, Mirror};
use url::Place;

pub use admin_tokens::{AdminToken, AdminTokens, NewAdminToken, Role};
pub use api_keys::{ApiKey, ApiKeys, NewApiKey};
pub use app_configs::{AppConfig, AppConfigs, ConfigKey, ConfigKeyState, Delegated, NewConfigKey};
pub use audit_subjects::{AuditSubject, AuditSubjects};
pub use clients::{Client, ClientSecret, Clients, NewClient};
pub use dump::{Dump, MAX_PIECE, Source, schema_of};
pub use error::StoreError;
pub use grants::{Grant, GrantKind, Grants, Taken};
pub use habits::{Habit, Habits};
pub use idempotency::{Attempt, Begin, Idempotency};
pub use instances::{
    Attested, Enrolled, Instance, InstanceCount, InstanceFilter, InstanceStatus, Instances, NewInstance, Refreshed,
    Refusal, Renewed, UseUp,
};
pub use jwks::{JwksLastGood, LastGood};
pub use known_keys::KnownKeys;
pub use ledger::{
    AccountKey, AccountRef, Balance, BalanceFilter, Hold, HoldLine, Journal, Late, LeaseUse, Ledger, LedgerCounters,
    LedgerSettings, NewRaise, OpenLease, Period, Raise, Recovered, ReserveError, Seen, Settled, Unit, Unresolved, Want,
    Window,
};
pub use meta::Meta;
pub use notices::{Notice, Notices};
pub use objects::{Owner, StoredObject, StoredObjects};
pub use once::{OneTime, UsedOnce};
pub use outbox::{Message, Outbox, Sent};
pub use page::{Page, Paged};
pub use receipts::{DueReceipt, NewReceipt, Receipts};
pub use records::{RecordFilter, Records, RequestRecord};
pub use refresh::{Family, Holder, NewFamily, Refresh, RefreshState, Rotate, Rotation};
pub use replay::{Claim, MemoryReplay, Replay, ReplayError};
pub use resources::{Expect, Resource, Resources};
pub use revocations::{Entry as Revocation, NewRevocation, Revocations, Revoke};
pub use revoked::{Cause, OWN_ISSUER, Revoked, TokenFacts};
pub use risk::{ForcedPass, ForcedPasses, NewForcedPass, RiskDecision, RiskDecisions, StepUps};
pub use runtime_secrets::{NewRuntimeVersion, RuntimeSecrets, RuntimeVersion, SecretUse, SecretUses};
pub use sealed::{SealedKind, SealedRow, SealedValues};
pub use secret_tally::{SecretTally, Used};
pub use secrets::{NewSecret, SecretVersion, Secrets, Slot};
pub use shared::is_protected as shared_is_protected;
pub use shared::{LimitWant, Limited, SharedError, SharedLimits, SharedPlace, SharedReplay, SharedState, Standing};
pub use shown::StoredReplay;
pub use sightings::{Sighting, Sightings};
pub use signing_keys::{KeyState, NewSigningKey, SigningKey, SigningKeys};
pub use sink::RecordSink;
pub use stops::{NewStop, Stop, StopAction, Stopped, Stops};
pub use url::StoreUrl;
pub use usage::{
    Basis, Bucket, Charge, Correction, CorrectionEntry, Dimension, Ratable, Usage, UsageFilter, UsageRow, UsageSums,
    UsageTable,
};

/// The store, as one tenant sees it. Cheap to clone; the last clone that goes finishes what is queued.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    tenant: Tenant,
}

struct Shared {
    engine: Box<dyn Engine>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    memory: Memory,
    sink: RecordSink,
    notices: Notices,
    secret_tally: SecretTally,
    stopped: Arc<stops::Stopped>,
    /// What this process goes by among the nodes of one database: random, new with each start.
    node: String,
    /// Why the last write that did not do what it should did not.
    failing: std::sync::Mutex<Option<StoreError>>,
    /// How far memory has followed what other nodes change.
    seen: Mutex<Followed>,
}

impl Store {
    /// Open the data directory, creating it (mode 0700) and a SQLite database as needed, and bring the schema up to date.
    /// Takes the directory's lock: a second process is refused until this one has closed the store. Several processes, each
    /// with a directory of its own, may use one PostgreSQL database.
    ///
    /// Must be called within a Tokio runtime.
    pub async fn open(
        url: &StoreUrl,
        data_dir: &Path,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, StoreError> {
        let sink = RecordSink::new();
        let engine = engine((url, data_dir), &clock, &sink, None).await?;
        let seen = Followed::read(&*engine).await?;
        let in_force = engine.fetch(revocations::in_force(clock.now())).await?;
        let in_force: Vec<_> = in_force.into_iter().map(revocations::read_with_tenant).collect::<Result<_, _>>()?;
        Ok(Self::of(engine, sink, (clock, rng), (seen, Mirror::new(in_force))))
    }

    /// A store with the schema as it was at a version, to put a dump into: nothing of what is kept is in memory.
    async fn open_at(
        place: (&StoreUrl, &Path),
        (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>),
        schema: u64,
    ) -> Result<Self, StoreError> {
        let sink = RecordSink::new();
        let engine = engine(place, &clock, &sink, Some(schema)).await?;
        Ok(Self::of(engine, sink, (clock, rng), (Followed::default(), Mirror::new([]))))
    }

    fn of(
        engine: Box<dyn Engine>,
        sink: RecordSink,
        (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>),
        (seen, mirror): (Followed, Mirror),
    ) -> Self {
        let (version, mirror) = (watch::Sender::new(seen.configuration()), Arc::new(mirror));
        let memory = Memory { version, mirror, order: Order::default() };
        let node = random_id(&*rng, "nd");
        let shared = Shared {
            engine,
            clock,
            rng,
            memory,
            sink,
            notices: Notices::default(),
            secret_tally: SecretTally::default(),
            stopped: Arc::default(),
            node,
            failing: std::sync::Mutex::default(),
            seen: Mutex::new(seen),
        };
        Self { shared: Arc::new(shared), tenant: Tenant::default() }
    }

    /// The same store as `tenant` sees it: nothing of any other tenant exists for it.
    pub fn for_tenant(&self, tenant: Tenant) -> Self {
        Self { shared: Arc::clone(&self.shared), tenant }
    }

    /// Whose rows this handle sees.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The configuration's version: grows with each change of a client, key, secret, signing key or resource.
    pub fn version(&self) -> u64 {
        *self.shared.memory.version.borrow()
    }

    /// Wakes whenever [`Store::version`] grows, once the change is durable: the time to build a new snapshot.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.memory.version.subscribe()
    }

    /// Where request records go, off the hot path.
    pub fn sink(&self) -> RecordSink {
        self.shared.sink.for_tenant(self.tenant.clone())
    }

    /// Where notices of what happens go, off the hot path.
    pub fn notices(&self) -> &Notices {
        &self.shared.notices
    }

    /// Where uses of runtime secrets are counted, off the hot path.
    pub fn secret_tally(&self) -> &SecretTally {
        &self.shared.secret_tally
    }

    /// Write the request records that are queued, instead of waiting for the next batch.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.shared.engine.flush().await
    }

    /// Whether the writer runs and can open a transaction. Writes nothing.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let run = self.run(Order::none(), |tx| {
            Box::pin(async move { Ok((tx.fetch(sql("SELECT 1")).await.map(drop)?, Effects::default())) })
        });
        run.await
    }

    /// Why nothing can be written, as far as the last write tells: a full disk answers to [`Store::ping`].
    pub fn failing(&self) -> Option<StoreError> {
        self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The database's own check of its files (slow on a large one): its complaints, none when sound.
    pub async fn check(&self) -> Result<Vec<String>, StoreError> {
        self.shared.engine.check().await
    }

    /// Settings of the database server under which what an acknowledged write promises does not hold; none with SQLite.
    pub async fn risks(&self) -> Result<Vec<String>, StoreError> {
        self.shared.engine.risks().await
    }

    /// Finish what is queued, close the database and give the data directory free. Later calls fail with
    /// [`StoreError::Closed`].
    pub async fn close(&self) {
        self.shared.engine.close().await;
    }

    /// The revocations in force, in memory: to ask on every request.
    pub fn revoked(&self) -> Revoked {
        self.shared.memory.mirror.seen_by(&self.tenant)
    }

    /// One-time credentials of a kind, and what they stand for.
    pub fn grants(&self, kind: GrantKind) -> Grants<'_> {
        Grants(self, kind)
    }

    /// Authorization codes.
    pub fn codes(&self) -> Grants<'_> {
        self.grants(GrantKind::Code)
    }

    /// Pushed authorization requests, by their `request_uri`.
    pub fn pushed(&self) -> Grants<'_> {
        self.grants(GrantKind::Pushed)
    }

    /// Sign-ins under way, by their state.
    pub fn signins(&self) -> Grants<'_> {
        self.grants(GrantKind::Signin)
    }

    /// Device codes.
    pub fn devices(&self) -> Grants<'_> {
        self.grants(GrantKind::Device)
    }

    /// The user codes of devices.
    pub fn user_codes(&self) -> Grants<'_> {
        self.grants(GrantKind::UserCode)
    }

    /// The moment, by the clock it was opened with.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// A statement whose first placeholder is the tenant: every one but the schema's own.
    fn sql(&self, text: &'static str) -> Statement {
        sql(text).bind(self.tenant.as_str())
    }

    /// A new random id: the prefix and 26 characters (128 random bits, base32).
    fn new_id(&self, prefix: &str) -> String {
        random_id(&*self.shared.rng, prefix)
    }

    async fn fetch(&self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        self.shared.engine.fetch(statement).await
    }

    /// Read every row as a `T`.
    async fn read<T>(
        &self,
        statement: Statement,
        read: impl Fn(Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.fetch(statement).await?.into_iter().map(read).collect()
    }

    /// Do `body` in a transaction; returns once it is durable.
    async fn write<T, F>(&self, body: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut dyn Connection) -> BoxFuture<'c, Result<T, StoreError>> + Clone + Send + 'static,
    {
        self.submit(Order::none(), move |tx| Box::pin(async move { Ok((body(tx).await?, Effects::default())) })).await
    }

    /// Do `body` in a transaction that makes a new configuration version, which it is given. Such transactions come one
    /// after the other, also those of other nodes.
    async fn change<T, F>(&self, body: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut dyn Connection, u64) -> BoxFuture<'c, Result<T, StoreError>> + Clone + Send + 'static,
    {
        self.submit(Order::none(), move |tx| {
            Box::pin(async move {
                let version = next(tx, "configuration").await?;
                Ok((body(tx, version).await?, Effects { version: Some(version), changes: Vec::new() }))
            })
        })
        .await
    }

    /// The same for what revokes too.
    async fn change_and_revoke<T, F>(&self, body: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut dyn Connection, u64) -> BoxFuture<'c, Result<(T, Vec<Change>), StoreError>>
            + Clone
            + Send
            + 'static,
    {
        let order = self.shared.memory.order.adding().await;
        self.submit(order, move |tx| {
            Box::pin(async move {
                let version = next(tx, "configuration").await?;
                let (value, changes) = body(tx, version).await?;
                Ok((value, Effects { version: Some(version), changes }))
            })
        })
        .await
    }

    async fn submit<T, F>(&self, order: engine::Held, body: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut dyn Connection) -> BoxFuture<'c, engine::Outcome<T>> + Clone + Send + 'static,
    {
        let outcome = self.run(order, body).await;
        match &outcome {
            Ok(_) => *self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner) = None,
            Err(error) if error.is_outage() => {
                *self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            }
            Err(_) => {}
        }
        outcome
    }

    async fn run<T, F>(&self, order: engine::Held, body: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut dyn Connection) -> BoxFuture<'c, engine::Outcome<T>> + Clone + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let memory = self.shared.memory.clone();
        self.shared.engine.submit(Box::new(Task { body, outcome: None, reply, memory, order }))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Open the database, with the schema as it is now or as it was at a version.
async fn engine(
    (url, data_dir): (&StoreUrl, &Path),
    clock: &Arc<dyn Clock>,
    sink: &RecordSink,
    schema: Option<u64>,
) -> Result<Box<dyn Engine>, StoreError> {
    Ok(match &url.0 {
        Place::File(file) => {
            let opened = sqlite::open(&data_dir.join(file), data_dir, (clock, sink), schema).await;
            Box::new(opened?)
        }
        Place::Server(server) => Box::new(postgres::open(server, data_dir, (clock, sink), schema).await?),
    })
}

fn random_id(rng: &dyn Rng, prefix: &str) -> String {
    let id = base::RequestId::new(rng);
    let random = id.as_str().strip_prefix("req_").unwrap_or_default();
    format!("{prefix}_{random}")
}

/// Count a change of a kind. All who make such changes wait here for whoever makes one, until that is committed.
async fn next(tx: &mut dyn Connection, kind: &'static str) -> Result<u64, StoreError> {
    let count =
        sql("UPDATE counters SET value = value + 1 WHERE tenant = '*' AND name = $1 RETURNING value").bind(kind);
    first(tx.fetch(count).await?).ok_or(StoreError::Corrupt)?.take()
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("tenant", &self.tenant).field("version", &self.version()).finish_non_exhaustive()
    }
}
