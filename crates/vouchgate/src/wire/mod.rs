//! From configuration and state to what the data plane works with.

mod apps;
mod credentials;
pub(crate) mod issuers;
mod last_good;
mod probe;
mod refresh;
mod sights;
mod signin;
mod token_service;
pub(crate) mod told;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use base::Secret;
use config::{AnomalySection, Config, Fault, Webhook};
use control::apps::AppsInForce;
use control::{OperationError, Operations};
use gateway::{ApiKey, KeyRing, Parts, Snapshot, SnapshotError, States};
use net::jwks::{Jwks, KeyIssuer};
use policy::{PolicyFault, World};
use proof::jose::KeySet;
use store::StoreError;
use tokio::sync::Mutex;
use vault::Vault;

pub use apps::{OtherServices, RevokedKeys};
pub use credentials::{Credentials, CredentialsError};
pub use issuers::IssuerError;
pub(crate) use issuers::rules_of;
pub use last_good::Kept;
pub use probe::AskProviders;
pub use refresh::Refresh;
pub use sights::ToJudge;
pub use signin::{InForce as SigninInForce, Provider as SigninProvider};
pub use token_service::{DataPlaneTokens, Referred, WayOut};

/// What is known of a model of a provider under a configuration.
pub fn figures(config: &Config, provider: &base::Name, model: &str) -> Option<llm::catalogue::Figures> {
    let known = config.providers.iter().find(|known| known.name == *provider)?;
    let own = gateway::own_figures(&config.prices, provider.as_str());
    Some(llm::catalogue::Figures::of(known.kind.as_str(), model, &own))
}

/// Why no snapshot can be built: what was in force stays in force.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The file and the resources of the admin API do not go together.
    #[error("the configuration has {} fault(s), the first: {}", .0.len(), first(.0))]
    Config(Vec<Fault>),
    /// Policies that cannot be compiled.
    #[error("policies: {}", list(.0))]
    Policies(Vec<PolicyFault>),
    /// An issuer whose tokens cannot be verified.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// A key that is not to be had.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A certificate that cannot be used.
    #[error(transparent)]
    Tls(#[from] crate::listen::TlsError),
    /// The parts do not fit.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Our own keys cannot be read back.
    #[error("our own signing keys cannot be read: {0}")]
    OwnKeys(#[from] proof::jose::KeySetError),
    /// State cannot be read.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn first(faults: &[Fault]) -> &str {
    faults.first().map_or("none", |fault| &fault.message)
}

fn list(faults: &[PolicyFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl BuildError {
    /// The same as faults of the configuration, for whoever shows those.
    pub fn into_faults(self) -> Vec<Fault> {
        match self {
            Self::Config(faults) => faults,
            other => vec![Fault {
                line: 1,
                column: 1,
                path: String::new(),
                code: "not_usable",
                message: other.to_string(),
                hint: None,
            }],
        }
    }
}

/// Why a configuration could not be put in force whatever its keys are, with `url` as our own issuer's; nothing if it could.
pub fn obstacle(config: &Config, url: &str) -> Option<String> {
    let issuers = issuers::check(url, &config.issuers).err().map(|error| error.to_string());
    issuers.or_else(|| Snapshot::check(config).err().map(|error| error.to_string()))
}

/// Builds snapshots, one at a time, and puts each in force.
pub struct Builder {
    /// State and the operations on it.
    pub operations: Arc<Operations>,
    /// What opens secrets.
    pub vault: Arc<Vault>,
    /// Keys of issuers.
    pub jwks: Arc<Jwks>,
    /// The addresses the public listener is bound to.
    pub listening: Vec<SocketAddr>,
    /// How providers have been doing, whatever the snapshot.
    pub states: Arc<States>,
    generation: AtomicU64,
    /// The issuers of the snapshot in force.
    issuers: Mutex<Vec<KeyIssuer>>,
    /// Where people sign in, as of the snapshot in force.
    pub signin: Arc<ArcSwapOption<SigninInForce>>,
    /// Whom to tell of what happens, as of the snapshot in force.
    pub webhooks: Arc<ArcSwap<Vec<Webhook>>>,
    /// Apps, as of the snapshot in force.
    pub apps: Arc<ArcSwap<AppsInForce>>,
    /// When a caller is quite unlike itself, as of the snapshot in force.
    pub anomaly: Arc<ArcSwap<AnomalySection>>,
}

impl Builder {
    /// A builder that has built nothing yet.
    pub fn new(
        operations: Arc<Operations>,
        vault: Arc<Vault>,
        jwks: Arc<Jwks>,
        (listening, states): (Vec<SocketAddr>, Arc<States>),
    ) -> Self {
        let (generation, issuers) = (AtomicU64::new(0), Mutex::default());
        Self {
            operations,
            vault,
            jwks,
            listening,
            states,
            generation,
            issuers,
            signin: Arc::default(),
            webhooks: Arc::default(),
            apps: Arc::default(),
            anomaly: Arc::default(),
        }
    }

    /// The first snapshot.
    pub async fn first(&self, file: &Arc<Config>) -> Result<ArcSwap<Snapshot>, BuildError> {
        let mut issuers = self.issuers.lock().await;
        let Built { snapshot, issuers: wanted, signin, webhooks, apps, anomaly, risks } = self.build(file).await?;
        *issuers = wanted;
        self.signin.store(signin);
        self.webhooks.store(Arc::new(webhooks));
        self.apps.store(Arc::new(apps));
        self.anomaly.store(Arc::new(anomaly));
        self.operations.judge().set_rules(risks);
        Ok(ArcSwap::from_pointee(snapshot))
    }

    /// Build a snapshot of `file` and the present state, and put it in force; or change nothing. Returns the store's
    /// version it shows.
    pub async fn replace(&self, file: &Arc<Config>, current: &ArcSwap<Snapshot>) -> Result<u64, BuildError> {
        let mut issuers = self.issuers.lock().await;
        let version = self.operations.store().version();
        match self.build(file).await {
            Ok(Built { snapshot, issuers: wanted, signin, webhooks, apps, anomaly, risks }) => {
                *issuers = wanted;
                self.signin.store(signin);
                self.webhooks.store(Arc::new(webhooks));
                self.apps.store(Arc::new(apps));
                self.anomaly.store(Arc::new(anomaly));
                self.operations.judge().set_rules(risks);
                current.store(Arc::new(snapshot));
                self.operations.set_file(Arc::clone(file));
                Ok(version)
            }
            Err(error) => {
                // The snapshot in force goes on asking for the keys of its own issuers.
                self.jwks.configure(issuers.clone()).await;
                Err(error)
            }
        }
    }

    async fn build(&self, file: &Arc<Config>) -> Result<Built, BuildError> {
        let config = self.operations.merged_config(file).await?.map_err(BuildError::Config)?;
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        let own = issuers::Own {
            url: self.operations.external_url().to_owned(),
            keys: KeySet::from_published(self.operations.published_keys().await?.json.as_bytes())?,
        };
        let wanted = issuers::fetched(&config.issuers);
        self.jwks.configure(wanted.clone()).await;
        let secrets = issuers::Secrets::collect(&config.issuers, self.operations.store(), &self.vault).await?;
        let issuers = issuers::compile(own, (&config.issuers, &secrets), &self.jwks, &config.limits, generation)?;
        let policies = policy::compile(&config.policies, &World::of(&config)).map_err(BuildError::Policies)?;
        let store = self.operations.store();
        let keys = store.api_keys().live().await?.into_iter().map(|key| ApiKey {
            id: Arc::from(key.id),
            name: key.name,
            hash: key.hash,
            subject: key.subject,
            client: key.client.map(|client| client.as_str().to_owned()),
            scopes: key.scopes,
            created_at: key.created_at,
            expires_at: key.expires_at,
        });
        let keys = KeyRing::new(Arc::clone(&self.vault), keys);
        let Credentials { providers, fields, upstreams, runtime } =
            Credentials::collect(&config, store, &self.vault).await?;
        let signin = SigninInForce::of(&config);
        let (webhooks, anomaly) = (config.webhooks.clone(), config.anomaly.clone());
        let risks = policy::risk::Rules::compile(&config.risks);
        let apps = apps::compile(&config, store, &self.vault).await;
        let parts = Parts {
            config,
            listening: self.listening.clone(),
            issuers: Arc::new(issuers),
            policies,
            keys,
            provider_keys: providers,
            provider_fields: fields,
            upstream_keys: upstreams,
            runtime_secrets: (runtime, store.secret_tally().clone()),
            states: Arc::clone(&self.states),
            generation,
        };
        let snapshot = Snapshot::build(parts)?;
        for gateway::Unusable { kind, name, error } in snapshot.unusable() {
            tracing::error!(kind, %name, reason = error.reason(), %error, "out of service");
        }
        Ok(Built { snapshot, issuers: wanted, signin, webhooks, apps, anomaly, risks })
    }
}

/// What a configuration comes to.
struct Built {
    snapshot: Snapshot,
    issuers: Vec<KeyIssuer>,
    signin: Option<Arc<SigninInForce>>,
    webhooks: Vec<Webhook>,
    apps: AppsInForce,
    anomaly: AnomalySection,
    risks: policy::risk::Rules,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("listening", &self.listening).finish_non_exhaustive()
    }
}

/// A secret in a form that is not text.
pub(crate) fn bytes_of(secret: &Secret<String>) -> Secret<Vec<u8>> {
    Secret::new(secret.expose().as_bytes().to_vec())
}
