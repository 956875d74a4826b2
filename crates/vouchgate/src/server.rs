//! The running product: state opened, listeners bound, everything wired together, and taken down in order.

mod accounts;
mod ages;
mod anomalies;
mod app_configs;
mod apps;
mod audit_gauges;
mod budgets;
mod certificates;
mod gauges;
mod proofs;
mod publish;
mod record;
mod risk;
mod rotation;
mod upkeep;
mod webhooks;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use audit::Recorder;
use base::{Clock, Name, Rng};
use config::{Config, Fault};
use control::admin::{self, Admin, AdminSocket, Check, Hosts, Pending, Readiness};
use control::apps::{Apps, AppsParts};
use control::oauth::{self, AttemptLimits, EventCounts, Oauth, OauthParts};
use control::recording::{self, Recording, RecordingError};
use control::route::{RouteExplanation, RouteQuestion};
use control::{OperationError, Operations};
use gateway::{Deps, Gateway, Snapshot, States, Watch};
use net::jwks::{Jwks, Timing};
use net::{Egress, EgressConfig, EgressError};
use prometheus_client::registry::Registry;
use store::{Ledger, SharedError, Store, StoreError};
use tokio::sync::{Mutex, watch};
use vault::{KeyFileError, KeyId, MasterKey, Vault, VaultError};

use crate::listen::descriptor_limit;
use crate::listen::{Caps, Drain, DrainTimes, Edge, ListenError, Listener, Pressure, ServerTls, TlsError, TlsFiles};
use crate::master_keys;
use crate::preflight;
use crate::public::{Private, Public};
use crate::references::{self, SharedUrlError, StoreUrlError};
use crate::tasks::{StopTasks, Tasks};
use crate::telemetry;
use crate::wire::{
    self, BuildError, Builder, DataPlaneTokens, Kept, PuzzleServices, Referred, Refresh, RevokedKeys, SigninProvider,
    WayOut,
};
pub use ages::{end_of as certificate_end, threshold as days_left};
use proofs::Proofs;
use publish::{Publisher, Ways};

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

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The master key.
    #[error(transparent)]
    MasterKey(#[from] KeyFileError),
    /// `[vault] key` is not a file.
    #[error("[vault] key must be a file: the master key is never kept in a variable or in the vault itself")]
    MasterKeyPlace,
    /// A master key, but not the one this data directory was made with.
    #[error(
        "this master key is not the one the data was made with; put that one back (all nodes on one database have the same)"
    )]
    OtherMasterKey,
    /// Where the list of revoked attestation keys is.
    #[error("the address of the list of revoked attestation keys cannot be used")]
    RevocationList,
    /// Something is sealed with a master key that is not there.
    #[error(
        "{values} values are sealed with master key {id}, which is not there: name its file in [vault] older and run `vouchgate rotate vault-key`"
    )]
    MasterKeyGone {
        /// The key.
        id: KeyId,
        /// How many values.
        values: u64,
    },
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The data directory or database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Where the store is.
    #[error(transparent)]
    StoreUrl(#[from] StoreUrlError),
    /// Where what nodes share is.
    #[error(transparent)]
    SharedUrl(#[from] SharedUrlError),
    /// What is there.
    #[error("[store] shared: {0}")]
    Shared(SharedError),
    /// A certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The way out.
    #[error("the outgoing client cannot be set up: {0}")]
    Egress(#[from] EgressError),
    /// State.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The configuration, seen together with state.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Where metrics are to be sent.
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] RecordingError),
    /// The name of this node.
    #[error("the name of this node in {0} cannot be read or written: {1}")]
    NodeName(PathBuf, std::io::Error),
    /// `admin.sock`.
    #[error("admin.sock in {0} cannot be made: {1}")]
    Socket(PathBuf, std::io::Error),
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

/// How long a change may take to come into force before the admin API answers without it.
const SETTLE: Duration = Duration::from_secs(5);

/// Connections on the admin listener, a quarter of them from one address.
const ADMIN_CONNECTIONS: usize = 256;

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
        let (tasks, stop) = Tasks::new();
        let server = &config.server;
        let (store, vault) = open_state(&config, create_master_key, &clock, &rng).await?;
        let (tls, admin_tls) = (load_tls(server.tls.as_ref())?, load_tls(server.admin_tls.as_ref())?);
        let public = Listener::bind(server.listen, tls.clone(), server.plain_http).await?;
        let admin = Listener::bind(server.admin_listen, admin_tls.clone(), server.plain_http).await?;
        let (public_address, admin_address) = (public.address(), admin.address());

        let url = external_url(&config, public_address);
        let egress = Egress::new(EgressConfig::default())?;
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
        risk::register(&mut registry, &operations);
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
            nonces: Arc::clone(&proofs.nonces),
            limits,
            metrics: telemetry::metrics(&mut registry, &config, (&egress, &clock), (ledger.node(), &tasks))?,
            drain: drain.ending(),
            background: Arc::new(tasks.clone()),
        };
        let gateway = Gateway::new(Arc::clone(&snapshot), deps);
        let limits = &config.limits;
        let running = Arc::new(Running {
            gateway: gateway.clone(),
            builder,
            snapshot,
            config: RwLock::new(Arc::clone(&config)),
            file,
            reloading: Mutex::new(()),
            tls: tls.into_iter().chain(admin_tls).collect(),
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
            limits: limits.into(),
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
        apps.begin(&tasks, &running);
        upkeep::begin(&tasks, &running, &jwks, egress, pressure);
        upkeep::share(&tasks, &store, shared);
        tracing::info!(public = %public_address, admin = %admin_address, "listening");
        let (public, admin, times) = (public_address, admin_address, DrainTimes::from(limits));
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
    risk::begin(tasks, running);
    budgets::keep(tasks, (&running.ledger, recorder), (store, clock));
    app_configs::begin(tasks, running, Arc::clone(clock));
    let config = running.config();
    let keep = (config.store.retention.duration(), config.store.usage_retention.duration());
    tasks.spawn(upkeep::forget(store.clone(), Arc::clone(clock), keep));
    certificates::follow(tasks, running);
}

/// Who fetches the keys of issuers.
fn key_sets(egress: &Egress, store: &Store, (clock, rng): (&Arc<dyn Clock>, &Arc<dyn Rng>)) -> Arc<Jwks> {
    let (documents, kept) = (Arc::new(egress.clone()), Arc::new(Kept(store.clone())));
    Arc::new(Jwks::new(documents, kept, Arc::clone(clock), Arc::clone(rng), Timing::default()))
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
        let secrets = Referred { store: store.clone(), vault: Arc::clone(&self.builder.vault) };
        self.publisher.begin(tasks, Ways { egress: egress.clone(), secrets, clock: Arc::clone(clock) });
    }
}

/// What changes state.
fn operations(
    config: &Arc<Config>,
    (store, vault): (&Store, &Arc<Vault>),
    (clock, rng): (&Arc<dyn Clock>, &Arc<dyn Rng>),
    (url, egress): (&str, &Egress),
) -> Operations {
    Operations::new(control::Parts {
        store: store.clone(),
        vault: Arc::clone(vault),
        clock: Arc::clone(clock),
        rng: Arc::clone(rng),
        file: Arc::clone(config),
        external_url: url.to_owned(),
    })
    .priced_by(wire::figures)
    .probed_by(Arc::new(wire::AskProviders::new(egress.clone(), Arc::clone(clock))))
}

/// Answer on the admin listener and on `admin.sock`.
fn serve_admin(
    tasks: &Tasks,
    data_dir: &Path,
    (listener, edge): (Listener, Edge),
    admin_api: &Arc<Admin>,
) -> Result<(), StartError> {
    let surfaces = Arc::new(Private(admin::router(admin_api)));
    tasks.spawn_to_completion(listener.serve(surfaces, edge, tasks.clone()));
    let socket = AdminSocket::bind(data_dir).map_err(|error| StartError::Socket(data_dir.to_owned(), error))?;
    tasks.spawn_to_completion(socket.serve(admin::local_router(admin_api), tasks.stopped()));
    Ok(())
}

/// The token service of the same origin.
fn token_service(
    running: &Running,
    config: &Config,
    (clock, egress): (&Arc<dyn Clock>, &Egress),
    (Proofs { replay, nonces }, heard): (Proofs, Arc<EventCounts>),
) -> Oauth {
    let operations = &running.builder.operations;
    let provider = SigninProvider {
        in_force: Arc::clone(&running.builder.signin),
        jwks: Arc::clone(&running.jwks),
        egress: egress.clone(),
        store: operations.store().clone(),
        vault: Arc::clone(&running.builder.vault),
    };
    let subject_tokens =
        DataPlaneTokens::new(Arc::clone(&running.snapshot), Arc::clone(&running.jwks), Arc::clone(clock));
    Oauth::new(OauthParts {
        operations: Arc::clone(operations),
        listening: running.builder.listening.clone(),
        limits: AttemptLimits::default(),
        body_limit: config.limits.token_body.as_usize(),
        replay,
        nonces,
        subject_tokens: Arc::new(subject_tokens),
        documents: Arc::new(WayOut(egress.clone())),
        provider: Arc::new(provider),
        secrets: Arc::new(Referred { store: operations.store().clone(), vault: Arc::clone(&running.builder.vault) }),
        heard,
    })
}

/// The endpoints for apps, of the same origin.
fn attest(
    running: &Running,
    config: &Config,
    (oauth, egress): (&Arc<Oauth>, &Egress),
    services: &apps::AppServices,
) -> axum::Router {
    let limits = AttemptLimits { per_minute: config.attest.requests_per_minute, ..AttemptLimits::default() };
    control::apps::router(Arc::new(Apps::new(AppsParts {
        operations: Arc::clone(&running.builder.operations),
        oauth: Arc::clone(oauth),
        in_force: Arc::clone(&running.builder.apps),
        listening: running.builder.listening.clone(),
        limits,
        revoked: Arc::new(RevokedKeys(Arc::clone(&services.revocations))),
        puzzles: Arc::new(PuzzleServices(egress.clone())),
        counts: Arc::clone(&services.counts),
    })))
}

/// Open the store and the vault that belong together. The store makes the data directory and takes its lock: first of
/// all, so that two servers never share one.
async fn open_state(
    config: &Config,
    create_master_key: bool,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> Result<(Store, Arc<Vault>), StartError> {
    let url = references::store_url(config)?;
    let store = Store::open(&url, &config.server.data_dir, Arc::clone(clock), Arc::clone(rng)).await?;
    let missing = |path: &Path| {
        if !create_master_key {
            return Ok(None);
        }
        let key = MasterKey::generate(&**rng)?;
        key.create_file(path)?;
        tracing::info!(path = %path.display(), "made a master key: without this file nothing in the vault can be opened");
        Ok(Some(key))
    };
    let vault = master_keys::vault(config, missing, Arc::clone(rng))?;
    master_keys::agree(&vault, &store).await?;
    Ok((store, Arc::new(vault)))
}

fn admin_api(config: &Config, operations: Arc<Operations>, running: &Arc<Running>) -> Arc<Admin> {
    let hosts = config.server.external_url.iter().filter_map(|url| url.url().host_str().map(str::to_owned));
    let server = Arc::clone(running) as Arc<dyn admin::Server>;
    Admin::new(operations, Some(server), Hosts::new(hosts), config.limits.admin_body.as_usize())
}

/// The master key is where the configuration says; the default, a bare name, lies in the data directory.
pub fn master_key_path(data_dir: &Path, configured: &Path) -> PathBuf {
    if configured == Path::new("master.key") { data_dir.join(configured) } else { configured.to_owned() }
}

fn load_tls(tls: Option<&config::Tls>) -> Result<Option<Arc<ServerTls>>, TlsError> {
    tls.map(|tls| ServerTls::load(TlsFiles::from(tls))).transpose()
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

/// How it is found out which certificate a listener shows: the leaf, DER.
fn leaf(tls: Option<&Arc<ServerTls>>) -> impl Fn() -> Option<Vec<u8>> + Send + Sync + 'static {
    let tls = tls.cloned();
    move || tls.as_ref().map(|tls| tls.leaf().to_vec())
}

/// What our tokens name as issuer and audience.
fn external_url(config: &Config, bound: SocketAddr) -> String {
    let server = config::Server { listen: bound, ..config.server.clone() };
    control::external_url(&server)
}

/// Tokens can be signed from the first start on.
async fn ensure_signing_key(operations: &Operations) -> Result<(), OperationError> {
    if operations.signing_key_ensure().await? {
        tracing::info!("made the first signing key");
    }
    Ok(())
}

fn admin_caps() -> Arc<Caps> {
    Caps::new(ADMIN_CONNECTIONS, ADMIN_CONNECTIONS / 4, Vec::new())
}

/// Trusted proxies speak for many clients: they are bounded by the total only.
fn public_caps(config: &Config) -> Arc<Caps> {
    let limits = &config.limits;
    let proxies = config.server.trusted_proxies.iter().filter_map(|network| network.to_string().parse().ok());
    let total = usize::try_from(limits.connections).unwrap_or(usize::MAX);
    // Half of the descriptors stay for the way out, the store and the admin listener.
    let total = descriptor_limit().map_or(total, |descriptors| total.min(descriptors / 2));
    Caps::new(total, usize::try_from(limits.connections_per_address).unwrap_or(usize::MAX), proxies.collect())
}

impl Running {
    async fn reload(&self) -> Result<(), Vec<Fault>> {
        let _one = self.reloading.lock().await;
        let outcome = self.try_reload().await;
        let first = outcome.as_ref().err().map(|faults| faults.first().map_or_else(String::new, ToString::to_string));
        let config = self.config();
        let told = first.as_deref().map_or(Ok(&*config), Err);
        record::reloaded(self.builder.operations.audit(), told).await;
        match &outcome {
            Ok(()) => tracing::info!(generation = self.snapshot.load().generation(), "reloaded"),
            Err(faults) => {
                let first = faults.first().map_or_else(String::new, ToString::to_string);
                tracing::error!(faults = faults.len(), first, "not reloaded: what was in force stays in force");
            }
        }
        outcome
    }

    async fn try_reload(&self) -> Result<(), Vec<Fault>> {
        let config = match &self.file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
                Arc::new(preflight::read(&text)?)
            }
            None => self.config(),
        };
        let (vault, store) = (&self.builder.vault, self.builder.operations.store());
        master_keys::again(&config, vault, store).await.map_err(|error| unusable(&error))?;
        for tls in &self.tls {
            tls.reload().map_err(|error| BuildError::from(error).into_faults())?;
        }
        self.put_in_force(config).await.map_err(BuildError::into_faults)
    }

    async fn put_in_force(&self, config: Arc<Config>) -> Result<(), BuildError> {
        let version = self.builder.replace(&config, &self.snapshot).await?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.in_force.send_if_modified(|current| std::mem::replace(current, version.max(*current)) < version);
        Ok(())
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Build a new snapshot whenever something in the store has changed.
    async fn follow_store(&self) {
        let mut versions = self.builder.operations.store().watch();
        while versions.changed().await.is_ok() {
            let _one = self.reloading.lock().await;
            if *versions.borrow_and_update() <= *self.in_force.borrow() {
                continue;
            }
            if let Err(error) = self.put_in_force(self.config()).await {
                tracing::error!(%error, "a change is not in force: what was in force stays in force");
            }
        }
    }
}

/// Of each pinned host, whether apps accept what this node shows, as a check that keeps nobody away.
fn checks_of_pins(
    fits: Result<Vec<control::operations::PinFit>, OperationError>,
    check: &mut impl FnMut(String, bool, Option<String>),
) {
    for fit in fits.unwrap_or_default() {
        let refused: Vec<&str> = fit.refused_by.iter().map(Name::as_str).collect();
        let detail = match refused.as_slice() {
            [] => format!("apps accept {}", fit.shown),
            apps => format!("{} is refused by {}, which is told of other keys only", fit.shown, apps.join(", ")),
        };
        check(format!("pins:{}", fit.host), refused.is_empty(), Some(detail));
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Vec<Fault> {
    fault("unreadable", format!("cannot read {}: {error}", path.display()))
}

fn unusable(error: &StartError) -> Vec<Fault> {
    fault("not_usable", error.to_string())
}

fn fault(code: &'static str, message: String) -> Vec<Fault> {
    vec![Fault { line: 1, column: 1, path: String::new(), code, message, hint: None }]
}

impl admin::Server for Running {
    fn reload(&self) -> Pending<'_, Result<(), Vec<Fault>>> {
        Box::pin(self.reload())
    }

    fn settled(&self) -> Pending<'_, bool> {
        Box::pin(async {
            let version = self.builder.operations.store().version();
            let mut in_force = self.in_force.subscribe();
            let there = in_force.wait_for(|current| *current >= version);
            tokio::time::timeout(SETTLE, there).await.is_ok_and(|reached| reached.is_ok())
        })
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        text
    }

    fn explain_route(&self, question: &RouteQuestion) -> Option<RouteExplanation> {
        let told = self.snapshot.load().explain(&wire::told::question(question))?;
        Some(wire::told::explanation(&question.model, told))
    }

    fn forget_answers(&self) {
        self.gateway.forget_answers();
    }

    fn readiness(&self) -> Pending<'_, Readiness> {
        Box::pin(async {
            let mut checks = Vec::new();
            let mut check = |name: String, ok: bool, detail: Option<String>| checks.push(Check { name, ok, detail });
            let store = self.builder.operations.store();
            let error = store.ping().await.err().or_else(|| store.failing());
            check("store".into(), error.is_none(), error.map(|error| error.to_string()));
            check("serving".into(), self.drain.is_ready(), None);
            if let Some(found) = record::check(self.builder.operations.audit()) {
                check(found.name, found.ok, found.detail);
            }
            for found in self.publisher.checks() {
                check(found.name, found.ok, found.detail);
            }
            checks_of_pins(self.builder.operations.pin_fits().await, &mut check);
            for status in self.jwks.status() {
                let detail = status.error.map(|error| error.to_string());
                check(format!("jwks:{}", status.name), status.keys.is_some(), detail);
            }
            let snapshot = self.snapshot.load();
            for gateway::Unusable { kind, name, error } in snapshot.unusable() {
                check(format!("{kind}:{name}"), false, Some(error.to_string()));
            }
            for (name, why) in snapshot.left_alone() {
                check(format!("provider:{name}"), false, Some(why));
            }
            for issuer in snapshot.issuers().issuers().iter().filter(|issuer| !issuer.has_keys()) {
                check(format!("issuer:{}", issuer.rules().name), false, Some("no keys to verify with".to_owned()));
            }
            // An issuer that is down, or a provider without its key, takes only its own callers with it.
            let needed = |check: &&Check| !check.name.contains(':');
            let ready = checks.iter().filter(needed).all(|check| check.ok);
            Readiness { ready, checks }
        })
    }
}

#[cfg(test)]
mod tests;
