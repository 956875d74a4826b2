//! The one home of every change of state: what the admin API offers, and the command line through it.

mod admin_tokens;
mod anomalies;
mod apikeys;
mod app_configs;
mod audit_keys;
mod audit_log;
mod budgets;
mod clients;
mod error;
mod grants;
mod instance_tokens;
mod instances;
mod refresh_tokens;
mod registration;
mod resources;
mod revocations;
mod rewrap;
mod risk;
pub mod rotation;
mod runtime_secrets;
mod secret_slots;
mod secrets;
mod signing;
mod tokens;
mod usage;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use base::{Clock, Name, RequestId, Rng, Secret};
use config::Config;
use store::{Ledger, Store};
use tokio::sync::{Mutex, MutexGuard};
use vault::Vault;

use crate::risk::Judge;

pub use admin_tokens::{AdminTokenView, CreateAdminToken, IssuedAdminToken};
pub use anomalies::AnomalyView;
pub use apikeys::{ApiKeyView, CreateApiKey, IssuedApiKey};
pub use app_configs::{
    AcceptDelegation, AppConfigView, CertPlan, ConfigKeyView, HostPlan, KeyPlan, KillSwitches, PinFit, PinView,
    PinnedHostView, PlanStep, PublishAppConfig, PublishError, ServedConfig, ShownCertificate, pin_file_faults,
};
pub use audit_keys::{AuditKeyReplacementView, AuditKeyView, ReplaceAuditKey};
pub use audit_log::{AuditCheckpointView, AuditEntryView, AuditFilter, AuditProofView, EraseSubject, ErasedView};
pub use budgets::{Amount, BudgetAccount, RaiseBudget, RaiseView};
pub use clients::{ClientView, CreateClient, IssuedSecret, RotateClient, UpdateClient};
pub use error::OperationError;
pub(crate) use grants::{CodeHash, Redeemed};
pub use instances::{ArcView, ChangeDevice, DeviceFilter, DeviceView};
pub(crate) use refresh_tokens::FoundRefreshToken;
pub use registration::{AuthForm, Authentication, ClientForm, RegisteredKeys, Registration, client_auth_fault};
pub use resources::{Condition, Kind, ResourceView};
pub use revocations::{CreateRevocation, RevocationKind, RevocationView};
pub use rewrap::{HASH_KEYS, LASTING_HASH_KEY, RewrapView, SealedBy, VAULT_KEYS};
pub use risk::{ForcedPassView, GiveForcedPass, RiskDecisionView, RiskReport, SimulateRisk};
pub use rotation::{RotationView, first_certificate, known};
pub(crate) use runtime_secrets::Deliverable;
pub use runtime_secrets::{
    RetireRuntimeSecret, RuntimeSecretView, RuntimeState, RuntimeUse, RuntimeVersionView, SetRuntimeSecret,
};
pub use secret_slots::{ActivateSecret, KeyProbe, NotAccepted, RetireSecret, RotateSecret, SlotView};
pub use secrets::{SecretView, SetSecret, Use, origin_of, uses};
pub use signing::{KeyView, PublishedKeys, RotateKey};
pub use tokens::{Binding, MintToken, MintedToken};
pub(crate) use tokens::{NewIdToken, NewToken, granted};
pub use usage::{FiguresOf, RerateModel, RerateUsage, RerateView, USAGE_COLUMNS, UsageList, UsageQuestion, UsageView};

/// What [`Operations`] work on.
#[derive(Debug)]
pub struct Parts {
    /// Where state is kept.
    pub store: Store,
    /// What seals it.
    pub vault: Arc<Vault>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where credentials come from.
    pub rng: Arc<dyn Rng>,
    /// The configuration file as it was last read.
    pub file: Arc<Config>,
    /// What our tokens name as issuer and audience: `server.external_url`, or the URL of the bound address.
    pub external_url: String,
}

/// Every operation on the state. Changes are done one at a time: the data directory's lock makes this process the
/// only one that changes it, so that what was checked still holds when it is written.
#[derive(Debug)]
pub struct Operations {
    store: Store,
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    file: RwLock<Arc<FileInForce>>,
    external_url: String,
    changing: Mutex<()>,
    signing: signing::Cache,
    served: app_configs::Served,
    shown: app_configs::Shown,
    trial: Trial,
    audit: audit::Recorder,
    ledger: Option<Ledger>,
    figures: FiguresOf,
    judge: Judge,
    probe: Option<Arc<dyn KeyProbe>>,
}

/// The configuration file, and what the files hold that it names for its clients: read once, not for every request.
#[derive(Debug)]
struct FileInForce {
    config: Arc<Config>,
    clients: HashMap<Name, Authentication>,
}

impl FileInForce {
    fn read(config: Arc<Config>) -> Self {
        let mut clients = HashMap::new();
        for client in &config.clients {
            let Some(auth) = &client.auth else { continue };
            let auth = registration::from_file(auth).unwrap_or_else(|error| {
                tracing::error!(client = %client.name, error, "the client cannot prove who it is");
                Authentication::Nothing
            });
            clients.insert(client.name.clone(), auth);
        }
        Self { config, clients }
    }

    fn authentication(&self, client: &Name) -> Authentication {
        self.clients.get(client).cloned().unwrap_or(Authentication::Nothing)
    }
}

/// Tells why a configuration could not be put in force; nothing if it could.
type Refuses = dyn Fn(&Config) -> Option<String> + Send + Sync;

/// What a changed configuration has to pass beyond its own rules.
#[derive(Default)]
struct Trial(Option<Box<Refuses>>);

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Trial").field(&self.0.is_some()).finish()
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The items, by name.
    pub items: Vec<T>,
    /// Where the next page begins; absent: this was the last.
    pub next: Option<String>,
}

impl Operations {
    /// Operations on these parts.
    pub fn new(parts: Parts) -> Self {
        Self {
            store: parts.store,
            vault: parts.vault,
            clock: parts.clock,
            rng: parts.rng,
            file: RwLock::new(Arc::new(FileInForce::read(parts.file))),
            external_url: parts.external_url,
            changing: Mutex::new(()),
            signing: signing::Cache::default(),
            served: app_configs::Served::default(),
            shown: app_configs::Shown::default(),
            trial: Trial::default(),
            audit: audit::Recorder::off(),
            ledger: None,
            figures: |_, _, _| None,
            judge: Judge::default(),
            probe: None,
        }
    }

    /// Have models' prices found so. Without it none is known.
    #[must_use]
    pub fn priced_by(self, figures: FiguresOf) -> Self {
        Self { figures, ..self }
    }

    /// Have every changed configuration tried before it is kept: one that is kept and cannot be put in force would keep all
    /// later changes, revocations among them, from coming into force too.
    #[must_use]
    pub fn tried_by(self, refuses: impl Fn(&Config) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { trial: Trial(Some(Box::new(refuses))), ..self }
    }

    /// Have what is done written into the audit log.
    #[must_use]
    pub fn recorded_by(self, audit: audit::Recorder) -> Self {
        Self { audit, ..self }
    }

    /// What decides about instances of apps.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// What writes the audit log.
    pub fn audit(&self) -> &audit::Recorder {
        &self.audit
    }

    /// The configuration file was read again.
    pub fn set_file(&self, file: Arc<Config>) {
        let read = Arc::new(FileInForce::read(file));
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = read;
    }

    /// The configuration file as it was last read.
    pub fn file(&self) -> Arc<Config> {
        Arc::clone(&self.in_force().config)
    }

    fn in_force(&self) -> Arc<FileInForce> {
        Arc::clone(&self.file.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What our tokens name as issuer and audience.
    pub fn external_url(&self) -> &str {
        &self.external_url
    }

    /// Write into the audit log that somebody was not let in.
    pub(crate) async fn refused(&self, surface: &str, reason: &str, claimed: Option<&str>, ip: Option<IpAddr>) {
        let failed = audit::Failed { at: self.clock.now(), surface, id: None, reason, claimed, ip };
        self.audit.failed(&failed).await;
    }

    /// The store, for what only reads it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn request_id(&self) -> RequestId {
        RequestId::new(&*self.rng)
    }

    /// What time it is here.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn shared_clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(crate) fn rng(&self) -> &dyn Rng {
        &*self.rng
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.vault
    }

    async fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }
}

/// The URL tokens name when nothing else is known: `external_url`, or plain HTTP(S) at the configured address.
pub fn external_url(server: &config::Server) -> String {
    match &server.external_url {
        Some(url) => url.as_str().to_owned(),
        None => format!("{}://{}", if server.tls.is_some() { "https" } else { "http" }, server.listen),
    }
}

/// A credential that is shown once, on its way to the caller.
#[derive(Debug, Clone)]
pub struct Once(Secret<String>);

impl Once {
    /// The credential.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl serde::Serialize for Once {
    /// Shown here, and only here: answers that hold one are sealed before they are kept.
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.expose())
    }
}

impl schemars::JsonSchema for Once {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Once".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "Shown this once." })
    }
}

/// A page of what is both in the file (all of it at hand, any order) and in the store (its page after the cursor).
fn merge_pages<T>(file: Vec<T>, stored: store::Paged<T>, page: &store::Page, name: impl Fn(&T) -> &str) -> Listed<T> {
    let limit = usize::try_from(page.limit.clamp(1, 1000)).unwrap_or(1000);
    let after = page.after.as_deref().unwrap_or_default();
    let more_stored = stored.next.is_some();
    let last_stored = stored.items.last().map(|item| name(item).to_owned());
    let mut items: Vec<T> = file
        .into_iter()
        .filter(|item| name(item) > after)
        // Names of the file past the store's page belong to a later page.
        .filter(|item| !more_stored || last_stored.as_deref().is_some_and(|last| name(item) <= last))
        .chain(stored.items)
        .collect();
    items.sort_by(|a, b| name(a).cmp(name(b)));
    let more = more_stored || items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|item| name(item).to_owned());
    Listed { items, next }
}

/// Scopes as RFC 6749 section 3.3 writes them: separated by single spaces.
pub(crate) fn parse_scopes(text: &str) -> Result<Vec<String>, OperationError> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in text.split(' ').filter(|scope| !scope.is_empty()) {
        let scope = checked_scope(scope)?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Ok(scopes)
}

fn checked_scope(scope: &str) -> Result<String, OperationError> {
    match scope.parse::<config::Scope>() {
        Ok(scope) => Ok(scope.to_string()),
        Err(_) => {
            Err(OperationError::value("scopes", "a scope is 1 to 128 printable characters without space, \" and \\"))
        }
    }
}

fn checked_scopes(scopes: &[String]) -> Result<Vec<String>, OperationError> {
    let mut checked = Vec::new();
    for scope in scopes {
        let scope = checked_scope(scope)?;
        if !checked.contains(&scope) {
            checked.push(scope);
        }
    }
    Ok(checked)
}

/// How long a credential lives: `"90d"`, at least a minute and at most ten years.
fn lifetime(param: &'static str, text: Option<&str>, default: &str) -> Result<std::time::Duration, OperationError> {
    let span: base::Span =
        text.unwrap_or(default).parse().map_err(|e: base::UnitError| OperationError::value(param, e.to_string()))?;
    let range = std::time::Duration::from_mins(1)..=std::time::Duration::from_hours(3650 * 24);
    if range.contains(&span.duration()) {
        Ok(span.duration())
    } else {
        Err(OperationError::value(param, "between 1m and 3650d"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Page, Paged};

    fn merge(file: &[&str], stored: &[&str], next: Option<&str>, page: &Page) -> (Vec<String>, Option<String>) {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<String>>();
        let paged = Paged { items: own(stored), next: next.map(str::to_owned) };
        let listed = merge_pages(own(file), paged, page, |name| name);
        (listed.items, listed.next)
    }

    #[test]
    fn pages_of_file_and_store_together_give_each_name_once_and_in_order() {
        let file = ["b", "d", "z"];
        let page = Page { after: None, limit: 2 };
        assert_eq!(merge(&file, &["a", "c"], Some("c"), &page), (vec!["a".into(), "b".into()], Some("b".into())));
        let page = Page { after: Some("b".into()), limit: 2 };
        assert_eq!(merge(&file, &["c", "e"], None, &page), (vec!["c".into(), "d".into()], Some("d".into())));
        let page = Page { after: Some("d".into()), limit: 2 };
        assert_eq!(merge(&file, &["e"], None, &page), (vec!["e".into(), "z".into()], None));
        let page = Page { after: Some("z".into()), limit: 2 };
        assert_eq!(merge(&file, &[], None, &page), (vec![], None));
    }

    #[test]
    fn scopes_are_split_at_spaces_and_checked() {
        assert_eq!(parse_scopes("chat  embed chat").unwrap(), ["chat", "embed"]);
        assert!(parse_scopes("").unwrap().is_empty());
        for bad in ["a\"b", "a\\b", "a\tb", "ä", &"x".repeat(129)] {
            assert!(parse_scopes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lifetime_has_bounds() {
        assert_eq!(lifetime("expires", None, "90d").unwrap().as_secs(), 90 * 86_400);
        for bad in ["0s", "59s", "3651d", "soon", "-1d"] {
            assert!(lifetime("expires", Some(bad), "90d").is_err(), "{bad}");
        }
    }
}
