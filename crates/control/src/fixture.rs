//! A whole installation in a temporary directory, for tests.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use base::{Clock, FakeClock, Rng, Secret, SystemRng, Timestamp};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use proof::dpop::{DEFAULT_NONCE_SLOT, Nonces};
use serde_json::Value;
use store::{Store, StoreUrl};
use tempfile::TempDir;
use tower::ServiceExt;
use vault::{MasterKey, Vault};

use crate::admin::{self, Admin, Hosts};
use crate::oauth::{
    self, AttemptLimits, Documents, EventCounts, Nowhere, Oauth, OauthParts, OpenidProvider, Secrets, SubjectTokens,
};
use crate::operations::{CreateAdminToken, Operations, Parts};
use crate::{ClientAddress, ClientCertificate, external_url};

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const LOOPBACK: &str = "127.0.0.1";
pub(crate) const ELSEWHERE: &str = "192.0.2.7";
pub(crate) const EXTERNAL: &str = "https://ai.example.com";

/// An installation.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) clock: FakeClock,
    pub(crate) operations: Arc<Operations>,
    pub(crate) admin: Router,
    pub(crate) local: Router,
    pub(crate) public: Router,
}

/// What an installation can reach.
#[derive(Clone)]
pub(crate) struct Outside {
    pub(crate) subject_tokens: Arc<dyn SubjectTokens>,
    pub(crate) documents: Arc<dyn Documents>,
    pub(crate) provider: Arc<dyn OpenidProvider>,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) heard: Arc<EventCounts>,
    pub(crate) replay_entries: usize,
    pub(crate) probe: Option<Arc<dyn crate::operations::KeyProbe>>,
}

impl Default for Outside {
    fn default() -> Self {
        Self {
            subject_tokens: Arc::new(Nowhere),
            documents: Arc::new(Nowhere),
            provider: Arc::new(Nowhere),
            secrets: Arc::new(Nowhere),
            heard: Arc::default(),
            replay_entries: 1000,
            probe: None,
        }
    }
}

/// A response, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Fixture {
    /// An installation with this configuration file.
    pub(crate) async fn with(toml: &str) -> Self {
        Self::reaching(toml, Outside::default()).await
    }

    /// The same with something outside to reach.
    pub(crate) async fn reaching(toml: &str, outside: Outside) -> Self {
        let clock = FakeClock::at(Timestamp::from_secs(NOW));
        Self::open(tempfile::tempdir().unwrap(), clock, toml, outside).await
    }

    /// The same, with its token service.
    pub(crate) async fn with_oauth(toml: &str, outside: Outside) -> (Self, Arc<Oauth>) {
        let clock = FakeClock::at(Timestamp::from_secs(NOW));
        Self::opened(tempfile::tempdir().unwrap(), clock, toml, outside).await
    }

    /// The same installation after a restart: what was only in memory is gone.
    pub(crate) async fn restarted(self, toml: &str, outside: Outside) -> Self {
        self.operations.store().close().await;
        let Self { dir, clock, .. } = self;
        Self::open(dir, clock, toml, outside).await
    }

    /// The same with providers that can be asked whether they accept a key.
    pub(crate) async fn probed(toml: &str, probe: Arc<dyn crate::operations::KeyProbe>) -> Self {
        let clock = FakeClock::at(Timestamp::from_secs(NOW));
        let outside = Outside { probe: Some(probe), ..Outside::default() };
        Self::open(tempfile::tempdir().unwrap(), clock, toml, outside).await
    }

    async fn open(dir: TempDir, clock: FakeClock, toml: &str, outside: Outside) -> Self {
        Self::opened(dir, clock, toml, outside).await.0
    }

    async fn opened(dir: TempDir, clock: FakeClock, toml: &str, outside: Outside) -> (Self, Arc<Oauth>) {
        let text = format!("[server]\nexternal_url = \"{EXTERNAL}\"\n{toml}");
        let file = Arc::new(config::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}")));
        let rng = Arc::new(SystemRng);
        let data = dir.path().join("data");
        let store = Store::open(&StoreUrl::default(), &data, Arc::new(clock.clone()), rng.clone()).await.unwrap();
        let master = dir.path().join("master.key");
        if !master.exists() {
            MasterKey::generate(&SystemRng).unwrap().create_file(&master).unwrap();
        }
        let vault = Arc::new(Vault::new(MasterKey::read_file(&master).unwrap(), rng.clone()).unwrap());
        let external_url = external_url(&file.server);
        let clock_of = Arc::new(clock.clone()) as Arc<dyn Clock>;
        let ledger = store::Ledger::open(&store, store::LedgerSettings::new("test")).await.unwrap();
        let operations = Operations::new(Parts { store, vault, clock: clock_of, rng, file, external_url });
        let operations = operations.with_ledger(ledger).priced_by(figures);
        let operations = Arc::new(match outside.probe {
            Some(probe) => operations.probed_by(probe),
            None => operations,
        });
        operations.signing_key_ensure().await.unwrap();
        let api = Admin::new(Arc::clone(&operations), None, Hosts::default(), 64 * 1024);
        let mut nonce_key = [0; 32];
        SystemRng.fill(&mut nonce_key);
        let service = Arc::new(Oauth::new(OauthParts {
            operations: Arc::clone(&operations),
            listening: Vec::new(),
            limits: AttemptLimits::default(),
            body_limit: 64 * 1024,
            replay: Arc::new(store::MemoryReplay::new(Arc::new(clock.clone()), outside.replay_entries)),
            nonces: Arc::new(Nonces::new(&Secret::new(nonce_key), DEFAULT_NONCE_SLOT)),
            subject_tokens: outside.subject_tokens,
            documents: outside.documents,
            provider: outside.provider,
            secrets: outside.secrets,
            heard: Arc::clone(&outside.heard),
        }));
        let fixture = Self {
            dir,
            clock,
            admin: admin::router(&api),
            local: admin::local_router(&api),
            public: oauth::router(Arc::clone(&service)),
            operations,
        };
        (fixture, service)
    }

    /// An installation with an empty configuration file.
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// A new admin token of that role.
    pub(crate) async fn token(&self, role: &str) -> String {
        let new = CreateAdminToken { name: format!("test-{role}"), role: role.to_owned(), expires: None };
        self.operations.admin_token_create(&new, "test").await.unwrap().admin_token.expose().to_owned()
    }

    /// A request as the local owner.
    pub(crate) async fn owner(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.owner_with(method, path, body, &[]).await
    }

    pub(crate) async fn owner_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        send(&self.local, request.body(Body::from(body)).unwrap()).await
    }

    /// A request over the network, from `address`.
    pub(crate) async fn network(
        &self,
        method: Method,
        path: &str,
        (address, headers): (&str, &[(&str, &str)]),
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:8081");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&self.admin, from(request.body(Body::empty()).unwrap(), address)).await
    }

    /// A request to the token endpoint.
    pub(crate) async fn ask_token(&self, body: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask_token_from(body, headers, ELSEWHERE).await
    }

    pub(crate) async fn ask_token_from(&self, body: &str, headers: &[(&str, &str)], address: &str) -> Answer {
        let mut request = Request::builder().method(Method::POST).uri("/oauth/token");
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&self.public, from(request.body(Body::from(body.to_owned())).unwrap(), address)).await
    }

    /// A form to another endpoint of the token service, perhaps over a connection with this certificate.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
        certificate: Option<ClientCertificate>,
    ) -> Answer {
        let mut request = Request::builder().method(Method::POST).uri(path);
        request = request.header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = from(request.body(Body::from(body.to_owned())).unwrap(), ELSEWHERE);
        if let Some(certificate) = certificate {
            request.extensions_mut().insert(Arc::new(certificate));
        }
        send(&self.public, request).await
    }

    /// Everything the data directory holds, as bytes.
    pub(crate) fn stored(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.dir.path().join("data")).unwrap() {
            all.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        all
    }

    /// Whether `text` is anywhere in the data directory.
    pub(crate) fn stores(&self, text: &str) -> bool {
        self.stored().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// One provider's one model costs 2 USD a million tokens read.
fn figures(_: &config::Config, provider: &base::Name, model: &str) -> Option<llm::catalogue::Figures> {
    use base::Money;
    use llm::catalogue::{Charges, Figures, Own, Price, TokenLimits};
    let price = Price::flat(Money::parse("2 USD").unwrap(), Money::ZERO);
    let (limits, charges) = (TokenLimits::default(), Charges::default());
    let own = Own { model: "gpt-5-mini".to_owned(), price: Some(price), limits, charges };
    (provider.as_str() == "openai").then(|| Figures::of("vllm", model, &[own]))
}

fn from(mut request: Request<Body>, address: &str) -> Request<Body> {
    request.extensions_mut().insert(ClientAddress(address.parse::<IpAddr>().unwrap()));
    request
}

/// Send one request to a router.
pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status, headers: head.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
}
