//! The running product: state opened, listeners bound, everything wired together, and taken down in order.

mod accounts;
mod ages;
mod anomalies;
mod app_configs;
mod apps;
mod audit_gauges;
mod budgets;
mod certificates;
mod error;
mod gauges;
mod proofs;
mod publish;
mod record;
mod reload;
mod risk;
mod rotation;
mod state;
mod status;
mod surfaces;
mod upkeep;
mod webhooks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use audit::Recorder;
use base::{Clock, Rng};
use config::{Config, Fault};
use control::Operations;
use control::admin;
use control::oauth::{self, EventCounts};
use control::recording::{self, Recording};
use gateway::{Deps, Gateway, Snapshot, States, Watch};
use net::jwks::Jwks;
use net::{Egress, EgressConfig};
use prometheus_client::registry::Registry;
use store::{Ledger, Store};
use tokio::sync::{Mutex, watch};

use crate::authorities::Authorities;
use crate::listen::{Caps, Drain, DrainTimes, Edge, Pressure, ServerTls};
use crate::public::Public;
use crate::tasks::{StopTasks, Tasks};
use crate::telemetry;
use crate::wire::{self, Builder, Referred, Refresh, ToJudge};
pub use ages::{end_of as certificate_end, threshold as days_left};
pub use error::StartError;
use proofs::Proofs;
use publish::{Publisher, Ways};
pub use state::master_key_path;
use state::{ensure_signing_key, external_url, key_sets, open_state, operations};
use surfaces::{admin_api, admin_caps, attest, leaf, listeners, load_tls, public_caps, serve_admin, token_service};

/// What a server is started with.
#[derive(Debug)]
pub struct Options {
    /// The configuration.
    pub config: Config,
    /// The file it came from, read again by a reload. Absent: a reload reads nothing but the store.
    pub file: Option<PathBuf>,
    /// Make a master key where there is none, instead of refusing to start.
    pub create_master_key: bool,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    running: Arc<Running>,
    public: SocketAddr,
    admin: SocketAddr,
    admin_drain: Drain,
    tasks: Tasks,
    stop: StopTasks,
    times: DrainTimes,
}

/// What a reload, a probe and the admin API look at.
struct Running {
    gateway: Gateway,
    builder: Builder,
    snapshot: Arc<ArcSwap<Snapshot>>,
    config: RwLock<Arc<Config>>,
    file: Option<PathBuf>,
    reloading: Mutex<()>,
    tls: Vec<Arc<ServerTls>>,
    authorities: Authorities,
    drain: Drain,
    registry: Registry,
    jwks: Arc<Jwks>,
    ledger: Ledger,
    publisher: Publisher,
    ends: app_configs::Ends,
    /// The store's version that is in force.
    in_force: watch::Sender<u64>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("file", &self.file).finish_non_exhaustive()
    }
}

/// How long tasks may take to end once nobody is connected.
const LAST_TASKS: Duration = Duration::from_secs(5);

impl Server {
    /// Open the state, bind the listeners and begin to serve.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        // Everything there is passes through it: kept off the stacks of those who start one.
        Box::pin(Self::begin(options)).await
    }

    async fn begin(options: Options) -> Result<Self, StartError> {
        let Options { config, file, create_master_key, clock, rng } = options;
        let config = Arc::new(config);
        let ((tasks, stop), server) = (Tasks::new(), &config.server);
        let (store, vault) = open_state(&config, create_master_key, &clock, &rng).await?;
        let (tls, admin_tls) = (load_tls(server.tls.as_ref())?, load_tls(server.admin_tls.as_ref())?);
        let (public, admin) = listeners(server, (tls.as_ref(), admin_tls.as_ref())).await?;
        let (public_address, admin_address) = (public.address(), admin.address());

        let url = external_url(&config, public_address);
        let egress = Egress::new(EgressConfig::default())?;
        let authorities = Authorities::open(&config, &egress)?;
        let operations = operations(&config, (&store, &vault), (&clock, &rng), (&url, &egress));
        let recording = Recording { config: &config, store: &store, vault: &vault, clock: &clock, rng: &rng };
        let publisher = Publisher::new(&config.audit.publish, store.notices().clone(), Arc::clone(&clock));
        let recorder = recording::open(recording, Some(publisher.announce())).await?;
        record::started(&recorder, &config).await;
        let ledger = budgets::open(&store, &server.data_dir, &*rng, &recorder).await?;
        let operations = operations.recorded_by(recorder.clone()).with_ledger(ledger.clone());
        let operations = operations.showing(leaf(tls.as_ref())).tried_by(move |config| wire::obstacle(config, &url));
        let operations = Arc::new(operations);
        ensure_signing_key(&operations).await?;
        let shared = proofs::shared_state(&config, &*rng)?;
        proofs::look_at(shared.as_ref()).await?;
        let proofs = Proofs::new(&config, (&store, shared.as_ref(), &vault), (&clock, &*rng)).await;
        let limits = proofs::fleet_limits(shared.as_ref(), &vault);
        let jwks = key_sets(&egress, &store, (&clock, &rng));
        let here = (vec![public_address], States::new(Arc::clone(&clock)));
        let builder = Builder::new(Arc::clone(&operations), vault, Arc::clone(&jwks), here);
        let before = store.version();
        let snapshot = Arc::new(builder.first(&config).await?);
        let (drain, admin_drain, heard) = (Drain::new(), Drain::new(), Arc::<EventCounts>::default());
        let mut registry = registry(&builder, (&store, &ledger), (&recorder, &publisher, &clock), (&proofs, &heard));
        risk::register(&mut registry, &operations, (&builder.vault, shared.as_ref()));
        let watch = anomalies::open(&store, ledger.node(), &config, &mut registry).await?;
        let apps = apps::AppServices::open(&config, (&egress, &store), &clock, &mut registry).await?;
        let webhooks = webhooks::Webhooks::new(&store, &recorder, &clock, &mut registry);
        let ends = register_ends(&mut registry, tls.as_ref(), admin_tls.as_ref());
        let deps = Deps {
            clock: Arc::clone(&clock),
            rng,
            egress: egress.clone(),
            refresh: Arc::new(Refresh(Arc::clone(&jwks))),
            records: Arc::new(store.sink()),
            audit: recorder.clone(),
            objects: Arc::new(store.clone()),
            revoked: Arc::new(store.revoked().clone()),
            replay: Arc::clone(&proofs.replay),
            single_use: Arc::new(store.clone()),
            ledger: Some(ledger.clone()),
            notices: store.notices().clone(),
            watch: Arc::clone(&watch),
            sights: Arc::new(ToJudge { operations: Arc::clone(&operations), clock: Arc::clone(&clock) }),
            nonces: Arc::clone(&proofs.nonces),
            limits,
            metrics: telemetry::metrics(&mut registry, &config, (&egress, &clock), (ledger.node(), &tasks))?,
            drain: drain.ending(),
            background: Arc::new(tasks.clone()),
        };
        let gateway = Gateway::new(Arc::clone(&snapshot), deps);
        let running = Arc::new(Running {
            gateway: gateway.clone(),
            builder,
            snapshot,
            config: RwLock::new(Arc::clone(&config)),
            file,
            reloading: Mutex::new(()),
            tls: tls.into_iter().chain(admin_tls).collect(),
            authorities,
            drain: drain.clone(),
            registry,
            jwks: Arc::clone(&jwks),
            ledger: ledger.clone(),
            publisher: publisher.clone(),
            ends,
            in_force: watch::Sender::new(before),
        });

        let token_service = Arc::new(token_service(&running, &config, (&clock, &egress), (proofs, heard)));
        let attest = attest(&running, &config, (&token_service, &egress), &apps);
        let pressure = Arc::new(Pressure::default());
        let edge = |drain: &Drain, caps: Arc<Caps>| Edge {
            limits: (&config.limits).into(),
            caps,
            drain: drain.clone(),
            pressure: Arc::clone(&pressure),
        };
        let surfaces = Arc::new(Public::new(gateway, (oauth::router(token_service), attest), drain.clone()));
        tasks.spawn_to_completion(public.serve(surfaces, edge(&drain, public_caps(&config)), tasks.clone()));
        let admin_api = admin_api(&config, operations, &running);
        serve_admin(&tasks, &server.data_dir, (admin, edge(&admin_drain, admin_caps())), &admin_api)?;
        running.record(&tasks, (&recorder, &egress), (&store, &clock));
        beside(&tasks, &running, (recorder, webhooks, watch), (&egress, &clock));
        apps.begin(&tasks, &running, egress.clone());
        upkeep::begin(&tasks, &running, &jwks, egress, pressure);
        upkeep::share(&tasks, &store, shared);
        tracing::info!(public = %public_address, admin = %admin_address, "listening");
        let (public, admin, times) = (public_address, admin_address, DrainTimes::from(&config.limits));
        Ok(Self { running, public, admin, admin_drain, tasks, stop, times })
    }

    /// The public listener's address.
    pub fn public_addr(&self) -> SocketAddr {
        self.public
    }

    /// The admin listener's address.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// The operations on the state, for `dev` and tests.
    pub fn operations(&self) -> &Operations {
        &self.running.builder.operations
    }

    /// Read the configuration file and certificates again and put them in force as a whole, or change nothing.
    pub async fn reload(&self) -> Result<(), Vec<Fault>> {
        self.running.reload().await
    }

    /// Wait until every change made so far is in force; whether that was soon.
    pub async fn settled(&self) -> bool {
        admin::Server::settled(self.running.as_ref()).await
    }

    /// Finish what runs, then stop: `/readyz` says no at once, streams get until the drain timeout, everything written
    /// is on disk at the end.
    pub async fn shut_down(self) {
        self.finish(self.times).await;
    }

    /// [`Server::shut_down`] without the time in which a load balancer may turn away.
    pub async fn shut_down_now(self) {
        self.finish(DrainTimes { pre_stop: Duration::ZERO, ..self.times }).await;
    }

    /// [`Server::shut_down`] without its pauses, for tests: streams are told to end at once.
    pub async fn stop(self) {
        let short = Duration::from_secs(1);
        self.finish(DrainTimes { pre_stop: Duration::ZERO, drain: Duration::ZERO, ending: short }).await;
    }

    async fn finish(&self, times: DrainTimes) {
        tracing::info!("draining");
        let cut = self.running.drain.run(times).await;
        if cut > 0 {
            tracing::warn!(connections = cut, "the drain timeout is over: what was left has been cut");
        }
        let quick = DrainTimes { pre_stop: Duration::ZERO, drain: Duration::from_secs(1), ending: Duration::ZERO };
        self.admin_drain.run(quick).await;
        self.stop.stop();
        if !self.tasks.finished(LAST_TASKS).await {
            tracing::warn!("background work did not end in time");
        }
        self.running.ledger.close().await;
        record::finish(self.operations().audit()).await;
        self.running.publisher.finish().await;
        let store = self.operations().store();
        if let Err(error) = store.write_secret_uses().await {
            tracing::warn!(reason = error.reason(), "the last uses of runtime secrets are not counted");
        }
        if let Err(error) = store.resign().await {
            tracing::warn!(%error, "what this node leads is another's only after its term");
        }
        store.close().await;
        tracing::info!("stopped");
    }
}

/// What goes on beside requests with what they leave behind: notices, habits, books.
fn beside(
    tasks: &Tasks,
    running: &Arc<Running>,
    (recorder, webhooks, watch): (audit::Recorder, webhooks::Webhooks, Arc<Watch>),
    (egress, clock): (&Egress, &Arc<dyn Clock>),
) {
    let store = running.builder.operations.store();
    webhooks.begin(tasks, running, egress);
    tasks.spawn(upkeep::count_secrets(store.clone()));
    anomalies::begin(tasks, running, watch);
    risk::begin(tasks, running, Arc::clone(clock));
    budgets::keep(tasks, (&running.ledger, recorder), (store, clock));
    app_configs::begin(tasks, running, Arc::clone(clock));
    let config = running.config();
    let keep = (config.store.retention.duration(), config.store.usage_retention.duration());
    tasks.spawn(upkeep::forget(store.clone(), Arc::clone(clock), keep));
    certificates::follow(tasks, running);
    certificates::follow_authorities(tasks, running);
}

/// What `/metrics` shows, with everything that counts for itself in it.
fn registry(
    builder: &Builder,
    books: (&Store, &Ledger),
    (recorder, publisher, clock): (&Recorder, &Publisher, &Arc<dyn Clock>),
    (proofs, heard): (&Proofs, &Arc<EventCounts>),
) -> Registry {
    let mut registry = Registry::default();
    builder.states.register(&mut registry);
    builder.states.tell(books.0.notices().clone());
    gauges::register(&mut registry, books, &proofs.replay, heard);
    audit_gauges::register(&mut registry, recorder, publisher, clock);
    registry
}

impl Running {
    /// Begin what goes on beside the audit log: its checkpoints are sent elsewhere.
    fn record(
        &self,
        tasks: &Tasks,
        (recorder, egress): (&Recorder, &Egress),
        (store, clock): (&Store, &Arc<dyn Clock>),
    ) {
        record::begin(tasks, recorder, store.watch());
        record::follow_keys(tasks, &self.builder.operations, store.watch());
        let secrets = Referred { store: store.clone(), vault: Arc::clone(&self.builder.vault) };
        self.publisher.begin(tasks, Ways { egress: egress.clone(), secrets, clock: Arc::clone(clock) });
    }
}

/// Have `/metrics` show when things end: certificates, and what apps are told.
fn register_ends(
    registry: &mut Registry,
    public: Option<&Arc<ServerTls>>,
    admin: Option<&Arc<ServerTls>>,
) -> app_configs::Ends {
    registry.register_collector(Box::new(ages::Certificates::of(public, admin)));
    app_configs::Ends::register(registry)
}

#[cfg(test)]
mod tests;
