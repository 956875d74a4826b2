//! What the token service asks of the data plane and of the way out.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base::{Clock, Secret};
use config::SecretRef;
use control::admin::Pending;
use control::oauth::{Document, Documents, FetchError, Secrets, SubjectTokens};
use gateway::{KeyRefresh, Snapshot};
use net::jwks::Jwks;
use net::{Egress, FetchLimits, Reach};
use proof::token::{TokenError, VerifiedToken};
use store::Store;
use url::Url;
use vault::{Label, Purpose, Vault};

use super::Refresh;
use crate::references::{self, ReferenceError};

/// The issuers of the snapshot in force.
pub struct DataPlaneTokens {
    snapshot: Arc<ArcSwap<Snapshot>>,
    refresh: Refresh,
    clock: Arc<dyn Clock>,
}

impl DataPlaneTokens {
    /// Verifies with the issuers of `snapshot`, whose keys `jwks` fetches.
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>, jwks: Arc<Jwks>, clock: Arc<dyn Clock>) -> Self {
        Self { snapshot, refresh: Refresh(jwks), clock }
    }
}

impl SubjectTokens for DataPlaneTokens {
    fn verify<'a>(&'a self, token: &'a str) -> Pending<'a, Result<Arc<VerifiedToken>, TokenError>> {
        Box::pin(async move {
            let snapshot = self.snapshot.load_full();
            let first = snapshot.issuers().verify(token, self.clock.now());
            let Some(issuer) = first.as_ref().err().and_then(TokenError::refetch) else { return first };
            self.refresh.refresh(issuer).await;
            snapshot.issuers().verify(token, self.clock.now())
        })
    }
}

/// The way out of the process.
#[derive(Debug, Clone)]
pub struct WayOut(pub Egress);

impl Documents for WayOut {
    fn get<'a>(&'a self, url: &'a str, allow_private: bool) -> Pending<'a, Result<Document, FetchError>> {
        Box::pin(async move {
            let place = Url::parse(url).map_err(|error| failed("fetch_url", &error))?;
            let reach = if allow_private { Reach::Private } else { Reach::Public };
            let fetched = net::fetch_json(&self.0, &place, reach, FetchLimits::default()).await;
            let fetched = fetched.map_err(|error| failed(error.reason(), &error))?;
            Ok(Document { body: fetched.body, max_age: fetched.max_age })
        })
    }
}

/// What the configuration refers to, where it is compared and sent nowhere.
pub struct Referred {
    /// Where sealed values are.
    pub store: Store,
    /// What opens them.
    pub vault: Arc<Vault>,
}

impl Secrets for Referred {
    fn read<'a>(&'a self, reference: &'a SecretRef) -> Pending<'a, Result<Secret<String>, FetchError>> {
        Box::pin(async move {
            let SecretRef::Secret(name) = reference else {
                return references::read(reference).map_err(|error| failed("reference", &error));
            };
            let missing = || failed("secret_missing", &ReferenceError::Missing(name.clone()));
            let current = self.store.secrets().current(name).await.map_err(|error| failed(error.reason(), &error))?;
            let current = current.ok_or_else(missing)?;
            if current.origin.is_some() {
                let why = format!("the secret {name} was set to be sent somewhere; use one of its own");
                return Err(failed("secret_origin", &why));
            }
            let label = Label::new(self.store.tenant(), Purpose::Secret, name.as_str(), current.version);
            let opened = self.vault.open(&label, &current.sealed).map_err(|error| failed(error.reason(), &error))?;
            let text = String::from_utf8(opened.expose().clone());
            text.map(Secret::new).map_err(|_| failed("secret_text", &format!("the secret {name} is not text")))
        })
    }
}

fn failed(reason: &'static str, error: &dyn std::fmt::Display) -> FetchError {
    FetchError { reason, message: error.to_string() }
}
