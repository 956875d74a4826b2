//! What the endpoints for apps are judged by and whom they ask: secrets, the list of revoked attestation keys, services that judge
//! evidence.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Name, Secret, Timestamp};
use config::{App, Config, SecretRef};
use control::admin::Pending;
use control::apps::{AppsInForce, AskedError, Others, RevocationList};
use control::operations::origin_of;
use net::revocations::Revocations;
use net::{ASK_TIME, Egress, Reach};
use proof::attest::online::OnlineRequest;
use proof::attest::status::StatusList;
use store::Store;
use vault::{Label, Purpose, Vault};

use crate::references;

/// The apps of a configuration. A secret that cannot be read leaves its kind of evidence out of service, and nothing else.
pub(super) async fn compile(config: &Config, store: &Store, vault: &Vault) -> AppsInForce {
    let mut secrets: BTreeMap<(Name, &'static str), Secret<String>> = BTreeMap::new();
    for app in &config.apps {
        for (key, reference) in app.secrets() {
            let origin = app.asked_with(key).and_then(|url| origin_of(&url));
            match read(reference, origin.as_deref(), store, vault).await {
                Ok(value) => {
                    secrets.insert((app.name.clone(), key), value);
                }
                Err(error) => tracing::error!(app = %app.name, key, error, "evidence of this kind is refused"),
            }
        }
    }
    AppsInForce::compile(&config.apps, |app: &App, key: &str| {
        let found = secrets.iter().find(|((name, at), _)| *name == app.name && *at == key);
        found.map(|(_, value)| value.clone())
    })
}

/// The value of a reference. One of the vault that is sent somewhere must be bound to that place, and one that is not must be
/// bound to none.
async fn read(
    reference: &SecretRef,
    origin: Option<&str>,
    store: &Store,
    vault: &Vault,
) -> Result<Secret<String>, String> {
    let SecretRef::Secret(name) = reference else {
        return references::read(reference).map_err(|error| error.to_string());
    };
    let current = store.secrets().current(name).await.map_err(|error| error.to_string())?;
    let current = current.ok_or_else(|| format!("the vault holds no secret {name}"))?;
    if current.origin.as_deref() != origin {
        return Err(format!("the secret {name} was set for another place: {}", current.origin.unwrap_or_default()));
    }
    let label = Label::new(store.tenant(), Purpose::Secret, name.as_str(), current.version).origin(origin);
    let opened = vault.open(&label, &current.sealed).map_err(|error| error.to_string())?;
    String::from_utf8(opened.expose().clone()).map(Secret::new).map_err(|_| format!("the secret {name} is not text"))
}

/// Google's list of what is revoked.
#[derive(Debug)]
pub struct RevokedKeys(pub Arc<Revocations>);

impl RevocationList for RevokedKeys {
    fn list(&self) -> Result<Arc<StatusList>, &'static str> {
        self.0.list().map_err(|error| error.reason())
    }

    fn fetched_at(&self) -> Option<Timestamp> {
        self.0.fetched_at()
    }
}

/// Asks others about evidence.
#[derive(Debug, Clone)]
pub struct OtherServices(pub Egress);

impl Others for OtherServices {
    fn post(&self, question: OnlineRequest, allow_private: bool) -> Pending<'_, Result<(u16, Vec<u8>), AskedError>> {
        Box::pin(async move {
            let reach = if allow_private { Reach::Private } else { Reach::Public };
            net::post(&self.0, reach, question, ASK_TIME).await.map_err(|error| match error {
                net::AskError::Check(error) => error.into(),
                net::AskError::Fetch(error) => {
                    AskedError { reason: error.reason(), retryable: true, whose: error.who() }
                }
            })
        })
    }
}
