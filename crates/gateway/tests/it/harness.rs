//! A gateway with its world in memory.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use base::{FakeClock, Name, Rng, Secret, SystemRng, Timestamp};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use gateway::{
    ApiKey, Credential, Deps, Gateway, GatewayBody, KeyRefresh, KeyRing, KeyValues, Metrics, Objects, Parts, Peer,
    Records, Revocations, RuntimeValue, SingleUse, Snapshot, States,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use net::{Egress, EgressConfig};
use prometheus_client::registry::Registry;
use proof::dpop::{DEFAULT_NONCE_SLOT, Nonces};
use proof::jose::KeySet;
use proof::token::{CacheLimits, Issuer, IssuerRules, Issuers, KeySource};
use serde_json::{Value, json};
use store::{
    AccountKey, Claim, Ledger, LedgerSettings, MemoryReplay, Replay, RequestRecord, SecretTally, Store, StoreError,
    StoreUrl, StoredObject, TokenFacts, Unit, Window,
};
use testkit::keys::{TestKey, key_set};
use tokio::sync::watch;
use vault::{HashPurpose, Label, MasterKey, Purpose, Vault};

pub const NOW: i64 = 1_795_000_000;
pub const ISSUER: &str = "https://id.example.com/";
pub const AUDIENCE: &str = "https://ai.example.com";
/// The provider's key: must never reach a caller, nor the caller's token a provider.
pub const PROVIDER_KEY: &str = "fake-provider-key-canary";

/// How many proofs are remembered at most.
pub const REPLAY_ENTRIES: usize = 200;

/// Requests recorded.
#[derive(Default)]
pub struct Recorded(pub Mutex<Vec<RequestRecord>>);

impl Records for Recorded {
    fn push(&self, record: RequestRecord) {
        self.0.lock().unwrap().push(record);
    }
}

/// Who made what, in memory.
#[derive(Default)]
pub struct Made(pub Mutex<HashMap<(Name, String), StoredObject>>);

impl Objects for Made {
    fn claim<'a>(
        &'a self,
        provider: &'a Name,
        object: &'a str,
        made: &'a StoredObject,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut all = self.0.lock().unwrap();
        let known = all.entry((provider.clone(), object.to_owned())).or_insert_with(|| made.clone());
        let claimed = if known.owner == made.owner { Ok(()) } else { Err(StoreError::Conflict("object")) };
        Box::pin(std::future::ready(claimed))
    }

    fn made<'a>(
        &'a self,
        provider: &'a Name,
        object: &'a str,
    ) -> BoxFuture<'a, Result<Option<StoredObject>, StoreError>> {
        let made = self.0.lock().unwrap().get(&(provider.clone(), object.to_owned())).cloned();
        Box::pin(std::future::ready(Ok(made)))
    }

    fn forget<'a>(&'a self, provider: &'a Name, object: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        let gone = self.0.lock().unwrap().remove(&(provider.clone(), object.to_owned()));
        Box::pin(std::future::ready(Ok(gone.is_some())))
    }
}

/// Subjects that have been revoked.
pub struct Revoked(Mutex<Vec<String>>, watch::Sender<u64>);

impl Revoked {
    fn new() -> Self {
        Self(Mutex::default(), watch::Sender::new(0))
    }

    /// Revoke everything of this subject.
    pub fn subject(&self, subject: &str) {
        self.0.lock().unwrap().push(subject.to_owned());
        self.1.send_modify(|epoch| *epoch += 1);
    }
}

impl Revocations for Revoked {
    fn is_revoked(&self, token: &TokenFacts<'_>) -> bool {
        self.0.lock().unwrap().iter().any(|subject| subject == token.subject)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }
}

/// Runs what no request waits for.
struct Spawned;

impl gateway::Background for Spawned {
    #[allow(clippy::disallowed_methods)] // a test's runtime ends with it
    fn run(&self, work: BoxFuture<'static, ()>) {
        tokio::spawn(work);
    }
}

/// Tokens that have been used, where each is good for one request.
#[derive(Default)]
pub struct Used(pub Mutex<HashSet<(String, String)>>);

impl SingleUse for Used {
    fn claim<'a>(&'a self, issuer: &'a str, jti: &'a str, _: Timestamp) -> BoxFuture<'a, Result<Claim, StoreError>> {
        let first = self.0.lock().unwrap().insert((issuer.to_owned(), jti.to_owned()));
        Box::pin(std::future::ready(Ok(if first { Claim::First } else { Claim::Seen })))
    }
}

fn fresh_nonces() -> Nonces {
    let mut key = [0; 32];
    SystemRng.fill(&mut key);
    Nonces::new(&Secret::new(key), DEFAULT_NONCE_SLOT)
}

/// A gateway and everything around it.
pub struct World {
    pub gateway: Gateway,
    snapshot: Arc<ArcSwap<Snapshot>>,
    states: Arc<States>,
    pub clock: FakeClock,
    pub key: Arc<TestKey>,
    source: Arc<Source>,
    pub records: Arc<Recorded>,
    pub objects: Arc<Made>,
    pub revoked: Arc<Revoked>,
    pub used: Arc<Used>,
    pub drain: watch::Sender<bool>,
    /// Who is stopped for being unlike themselves.
    pub stopped: Arc<store::Stopped>,
    pub registry: Registry,
    pub books: Books,
    pub notices: store::Notices,
}

/// What budgets have left.
pub struct Books {
    pub ledger: Option<Ledger>,
    clock: FakeClock,
    audit: audit::Recorder,
    _dir: Option<tempfile::TempDir>,
}

impl Default for Books {
    fn default() -> Self {
        let clock = FakeClock::at(Timestamp::from_secs(NOW));
        Self { ledger: None, clock, audit: audit::Recorder::off(), _dir: None }
    }
}

impl Books {
    async fn open(dir: tempfile::TempDir, clock: FakeClock) -> Self {
        let url = StoreUrl::default();
        let store = Store::open(&url, dir.path(), Arc::new(clock.clone()), Arc::new(SystemRng)).await.unwrap();
        let ledger = Ledger::open(&store, LedgerSettings::new("node")).await.unwrap();
        Self { ledger: Some(ledger), clock, audit: audit::Recorder::off(), _dir: Some(dir) }
    }

    /// What an account has used, what is under way included.
    pub fn used(&self, budget: &str, whom: &str, unit: Unit, window: Window) -> i64 {
        let key = AccountKey { budget: budget.into(), whom: whom.into(), unit, window };
        self.ledger.as_ref().unwrap().account(&key).unwrap().seen().map_or(0, |seen| seen.used)
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether it broke off.
    pub broken: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code of an error in OpenAI's form.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl World {
    /// A gateway with this configuration: its `corp` issuer's tokens are made by [`World::token`].
    pub fn new(config: &str) -> Self {
        Self::build(config, new_key(), true, true)
    }

    /// The same, and what happens is written down.
    pub fn recorded(config: &str, audit: audit::Recorder) -> Self {
        let books = Books { audit, ..Books::default() };
        Self::at(config, (PROVIDER_KEY, new_key(), (true, true)), books)
    }

    /// The same, with this as every provider's key.
    pub fn with_provider_key(config: &str, provider_key: &str) -> Self {
        Self::keyed(config, provider_key, new_key(), (true, true))
    }

    /// The same gateway after a start: it takes the same tokens.
    pub fn with_issuer_of(config: &str, before: &Self) -> Self {
        Self::build(config, Arc::clone(&before.key), true, true)
    }

    /// The same, but the issuer's keys come only when they are fetched.
    pub fn with_keys_after_refresh(config: &str) -> Self {
        Self::build(config, new_key(), false, true)
    }

    /// The same, but the issuer's keys cannot be had.
    pub fn without_keys(config: &str) -> Self {
        Self::build(config, new_key(), false, false)
    }

    /// How often the keys were fetched.
    pub fn refreshes(&self) -> u64 {
        self.source.generation()
    }

    fn build(config: &str, key: Arc<TestKey>, keys_known: bool, keys_come: bool) -> Self {
        Self::keyed(config, PROVIDER_KEY, key, (keys_known, keys_come))
    }

    fn keyed(config: &str, provider_key: &str, key: Arc<TestKey>, known: (bool, bool)) -> Self {
        Self::at(config, (provider_key, key, known), Books::default())
    }

    /// The same with budgets that can be spent.
    pub async fn with_budgets(config: &str) -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), FakeClock::at(Timestamp::from_secs(NOW)));
        let books = Books::open(dir, clock).await;
        Self::at(config, (PROVIDER_KEY, new_key(), (true, true)), books)
    }

    /// The same, and what happens is written down.
    pub async fn with_recorded_budgets(config: &str, audit: audit::Recorder) -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), FakeClock::at(Timestamp::from_secs(NOW)));
        let books = Books { audit, ..Books::open(dir, clock).await };
        Self::at(config, (PROVIDER_KEY, new_key(), (true, true)), books)
    }

    fn at(
        config: &str,
        (provider_key, key, (keys_known, keys_come)): (&str, Arc<TestKey>, (bool, bool)),
        books: Books,
    ) -> Self {
        let set = Arc::new(KeySet::from_published(key_set(&[&key]).to_string().as_bytes()).unwrap());
        let source = Arc::new(Source {
            now: ArcSwapOption::new(keys_known.then(|| Arc::clone(&set))),
            next: keys_come.then_some(set),
            fetches: AtomicU64::new(0),
        });
        let clock = books.clock.clone();
        let states = States::new(Arc::new(clock.clone()));
        let snapshot = Arc::new(ArcSwap::from_pointee(compiled(config, &source, (&states, provider_key))));
        let mut registry = Registry::default();
        states.register(&mut registry);
        let (drain, draining) = watch::channel(false);
        let stopped = Arc::<store::Stopped>::default();
        let (records, objects) = (Arc::new(Recorded::default()), Arc::new(Made::default()));
        let (revoked, used) = (Arc::new(Revoked::new()), Arc::new(Used::default()));
        let replay = Arc::new(MemoryReplay::new(Arc::new(clock.clone()), REPLAY_ENTRIES));
        let notices = store::Notices::default();
        states.tell(notices.clone());
        let deps = Deps {
            revoked: Arc::clone(&revoked) as Arc<dyn Revocations>,
            replay: Arc::clone(&replay) as Arc<dyn Replay>,
            single_use: Arc::clone(&used) as Arc<dyn SingleUse>,
            ledger: books.ledger.clone(),
            nonces: Arc::new(fresh_nonces()),
            clock: Arc::new(clock.clone()),
            rng: Arc::new(SystemRng),
            egress: Egress::new(EgressConfig::default()).unwrap(),
            refresh: Arc::clone(&source) as Arc<dyn KeyRefresh>,
            records: Arc::clone(&records) as Arc<dyn Records>,
            audit: books.audit.clone(),
            objects: Arc::clone(&objects) as Arc<dyn Objects>,
            notices: notices.clone(),
            watch: Arc::new(gateway::Watch::new(Arc::clone(&stopped))),
            sights: Arc::new(()),
            limits: None,
            metrics: Metrics::register(&mut registry),
            drain: draining,
            background: Arc::new(Spawned),
        };
        let gateway = Gateway::new(Arc::clone(&snapshot), deps);
        Self {
            gateway,
            snapshot,
            states,
            clock,
            key,
            source,
            records,
            objects,
            revoked,
            used,
            drain,
            stopped,
            registry,
            books,
            notices,
        }
    }

    /// Providers that are left alone, with why.
    pub fn left_alone(&self) -> Vec<(Name, String)> {
        self.snapshot.load().left_alone()
    }

    /// Put another configuration in force, as a reload does.
    pub fn reload(&self, config: &str) {
        self.snapshot.store(Arc::new(compiled(config, &self.source, (&self.states, PROVIDER_KEY))));
    }

    /// A token of `subject` with scope `chat`.
    pub fn token(&self, subject: &str) -> String {
        self.token_with(&json!({"sub": subject}))
    }

    /// A token with these claims besides the usual ones.
    pub fn token_with(&self, extra: &Value) -> String {
        let mut claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "app", "scope": "chat", "jti": "t1",
            "iat": NOW, "exp": NOW + 300,
        });
        for (name, value) in extra.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.key.mint(&claims)
    }

    /// Send a request as it is.
    pub async fn raw(&self, request: Request<Full<Bytes>>) -> Response<GatewayBody> {
        // Boxed: it is large, and tests hold many.
        Box::pin(self.gateway.handle(request, &peer())).await
    }

    /// Send a request with these header fields and read the answer.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        read(self.raw(request(method, path, headers, body)).await).await
    }

    /// POST JSON as `alice`.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as("alice", path, body).await
    }

    /// POST JSON as somebody.
    pub async fn post_as(&self, subject: &str, path: &str, body: &Value) -> Answer {
        let token = format!("Bearer {}", self.token(subject));
        self.send("POST", path, &[("authorization", &token), ("content-type", "application/json")], body.to_string())
            .await
    }

    /// GET as somebody.
    pub async fn get_as(&self, subject: &str, path: &str) -> Answer {
        let token = format!("Bearer {}", self.token(subject));
        self.send("GET", path, &[("authorization", &token)], "").await
    }

    /// POST JSON as `alice` and take the answer as it begins.
    pub async fn open(&self, path: &str, body: &Value) -> Response<GatewayBody> {
        let token = format!("Bearer {}", self.token("alice"));
        self.raw(request("POST", path, &[("authorization", &token)], body.to_string())).await
    }

    pub fn record(&self) -> RequestRecord {
        self.records.0.lock().unwrap().last().expect("a record").clone()
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

fn new_key() -> Arc<TestKey> {
    Arc::new(TestKey::generate("ES256"))
}

/// The other end of the connections of [`World::raw`].
pub fn peer() -> Peer {
    Peer { addr: "203.0.113.7:50000".parse().unwrap(), tls: false, certificate: None, fingerprint: None }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost:8080");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

/// Read an answer to its end, wherever that is.
pub async fn read(response: Response<GatewayBody>) -> Answer {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut broken = false;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => broken = true,
        }
    }
    Answer { status: head.status, headers: head.headers, body: bytes.into(), broken }
}

/// The next piece of a streamed answer.
pub async fn piece(body: &mut GatewayBody) -> Bytes {
    testkit::patiently("a piece", body.frame())
        .await
        .expect("a piece")
        .expect("a frame")
        .into_data()
        .unwrap_or_default()
}

/// The Vouchgate key of [`World`].
pub const API_KEY: &str = "vg_ZmFrZS1rZXktZm9yLXRlc3RzLW9ubHktMDAwMDAwMDA";

fn api_key(vault: &Vault) -> ApiKey {
    ApiKey {
        id: Arc::from("key_1"),
        name: Name::new("tool").unwrap(),
        hash: vault.keyed_hash(HashPurpose::ApiKey, API_KEY.as_bytes()),
        subject: "tool-owner".to_owned(),
        client: None,
        scopes: vec!["chat".to_owned()],
        created_at: Timestamp::from_secs(NOW - 1000),
        expires_at: Some(Timestamp::from_secs(NOW + 1000)),
    }
}

/// The same for all configurations, as it is in a server: what tells keys apart is keyed by it.
fn vault() -> Arc<Vault> {
    static VAULT: LazyLock<Arc<Vault>> = LazyLock::new(|| {
        let master = MasterKey::generate(&SystemRng).unwrap();
        Arc::new(Vault::new(master, Arc::new(SystemRng)).unwrap())
    });
    Arc::clone(&VAULT)
}

fn sealed(vault: &Arc<Vault>, (name, key): (&str, &str), base: &str) -> Credential {
    let origin = url::Url::parse(base).unwrap().origin().ascii_serialization();
    Credential::seal(Arc::clone(vault), name, &origin, &Secret::new(key.to_owned())).unwrap()
}

/// The keys of a provider: [`PROVIDER_KEY`] for the only one, with its name behind it for one of several.
fn sealed_keys(vault: &Arc<Vault>, provider: &config::Provider, key: &str) -> Vec<KeyValues> {
    let origin = url::Url::parse(&provider.base().unwrap()).unwrap().origin().ascii_serialization();
    let value = |name: &str| if provider.keys.is_empty() { key.to_owned() } else { format!("{key}-{name}") };
    let keys = provider.key_refs().into_iter().map(|key| value(key.name));
    let sealed = |key: String| Credential::seal(Arc::clone(vault), "key", &origin, &Secret::new(key)).unwrap();
    let next = provider.next_api_key.is_some().then(|| sealed(format!("{key}-next")));
    let values = |value| match &next {
        Some(next) => KeyValues::new(value).and(store::Slot::Next, next.clone()),
        None => KeyValues::new(value),
    };
    keys.map(sealed).map(values).collect()
}

fn issuers(source: &Arc<Source>) -> Issuers {
    let rules = IssuerRules::new(Name::new("corp").unwrap(), ISSUER, vec![AUDIENCE.to_owned()]);
    let own = IssuerRules::new(Name::new(config::OWN_NAME).unwrap(), AUDIENCE, vec![AUDIENCE.to_owned()]);
    let keys = || Arc::clone(source) as Arc<dyn KeySource>;
    let issuers = vec![Issuer::new(rules, keys()), Issuer::new(own, keys())];
    Issuers::new(issuers, CacheLimits::default(), 1).unwrap()
}

/// Two versions of every runtime secret, one after the other in an hour: `runtime-NAME-1+/x` and `runtime-NAME-2+/x`, for the
/// origin of its upstreams. One that is called `unset` has none, one that is called `elsewhere` is for another origin.
fn runtime_values(config: &config::Config, vault: &Arc<Vault>) -> HashMap<Name, Vec<RuntimeValue>> {
    let values = |secret: &config::RuntimeSecret| {
        let upstream = config.upstreams.iter().find(|upstream| secret.upstreams.contains(&upstream.name)).unwrap();
        let origin = url::Url::parse(upstream.url.as_str()).unwrap().origin().ascii_serialization();
        let origin = if secret.name.as_str() == "elsewhere" { "https://elsewhere.example".to_owned() } else { origin };
        let value = |version: u64| {
            let (tenant, name) = (base::Tenant::default(), secret.name.as_str());
            let label = Label::new(&tenant, Purpose::RuntimeSecret, name, version).origin(Some(&origin));
            let sealed = vault.seal(&label, format!("runtime-{name}-{version}+/x").as_bytes()).unwrap();
            let change = Timestamp::from_secs(NOW + 3600);
            RuntimeValue {
                version,
                not_before: if version == 1 { Timestamp::from_secs(NOW) } else { change },
                not_after: (version == 1).then(|| change.plus(std::time::Duration::from_mins(1))),
                credential: Credential::stored(Arc::clone(vault), sealed, name, version, &origin).of_runtime(false),
            }
        };
        (secret.name.clone(), vec![value(2), value(1)])
    };
    config.runtime_secrets.iter().filter(|secret| secret.name.as_str() != "unset").map(values).collect()
}

fn compiled(config: &str, source: &Arc<Source>, (states, provider_key): (&Arc<States>, &str)) -> Snapshot {
    let config = config::parse(config).unwrap_or_else(|faults| panic!("{faults:?}"));
    let vault = vault();
    let policies = policy::compile(&config.policies, &policy::World::of(&config)).unwrap();
    let provider_keys = config
        .providers
        .iter()
        .filter(|p| !p.key_refs().is_empty())
        .map(|provider| (provider.name.clone(), sealed_keys(&vault, provider, provider_key)));
    let fields = config.providers.iter().flat_map(|provider| {
        let base = provider.base().unwrap();
        let sealed = |(name, _): (&str, _)| {
            ((provider.name.clone(), name.to_owned()), sealed(&vault, (name, PROVIDER_KEY), &base))
        };
        provider.secret_headers().map(sealed).collect::<Vec<_>>()
    });
    let upstream_keys = config.upstreams.iter().filter_map(|upstream| {
        let inject = upstream.inject.as_ref()?;
        let sealed = |key: &str| sealed(&vault, (upstream.name.as_str(), key), upstream.url.as_str());
        let values = KeyValues::new(sealed(PROVIDER_KEY));
        let next = inject.next_value.as_ref().map(|_| sealed(&format!("{PROVIDER_KEY}-next")));
        let values = next.into_iter().fold(values, |values, next| values.and(store::Slot::Next, next));
        Some((upstream.name.clone(), values))
    });
    let parts = Parts {
        listening: vec!["192.0.2.1:8080".parse().unwrap()],
        issuers: Arc::new(issuers(source)),
        policies,
        keys: KeyRing::new(Arc::clone(&vault), [api_key(&vault)]),
        provider_keys: provider_keys.collect(),
        provider_fields: fields.collect(),
        upstream_keys: upstream_keys.collect(),
        runtime_secrets: (runtime_values(&config, &vault), SecretTally::default()),
        states: Arc::clone(states),
        generation: 1,
        config,
    };
    Snapshot::build(parts).unwrap()
}

/// Keys that may have to be fetched.
struct Source {
    now: ArcSwapOption<KeySet>,
    next: Option<Arc<KeySet>>,
    fetches: AtomicU64,
}

impl KeySource for Source {
    fn keys(&self) -> Option<Arc<KeySet>> {
        self.now.load_full()
    }

    fn generation(&self) -> u64 {
        self.fetches.load(Ordering::SeqCst)
    }
}

impl KeyRefresh for Source {
    fn refresh<'a>(&'a self, issuer: &'a Name) -> BoxFuture<'a, ()> {
        assert_eq!(issuer.as_str(), "corp");
        self.now.store(self.next.clone());
        self.fetches.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(()))
    }
}
