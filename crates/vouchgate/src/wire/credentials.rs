//! The keys of providers and upstreams, sealed and bound to where they may be sent.

use std::collections::HashMap;
use std::sync::Arc;

use base::Name;
use config::{Config, KeyRef, SecretRef};
use gateway::{Credential, KeyValues, RuntimeValue};
use store::{SecretVersion, Slot, Store, StoreError};
use vault::{Vault, VaultError};

use crate::references::{self, ReferenceError};

/// Why no key at all is to be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The vault has no secret of the name: only a configuration file can name one that is not there.
    #[error("{kind} {name}: {error}")]
    Reference {
        /// `provider` or `upstream`.
        kind: &'static str,
        /// Its name.
        name: Name,
        /// Why.
        error: ReferenceError,
    },
    /// It cannot be sealed.
    #[error("{kind} {name}: {error}")]
    Vault {
        /// `provider` or `upstream`.
        kind: &'static str,
        /// Its name.
        name: Name,
        /// Why.
        error: VaultError,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys of all providers, in the order of [`config::Provider::key_refs`], the injected values of all
/// upstreams, and those of runtime secrets, by the resource's name.
#[derive(Debug, Default)]
pub struct Credentials {
    /// Of providers.
    pub providers: HashMap<Name, Vec<KeyValues>>,
    /// Of header fields of providers, by the field's name as the configuration writes it.
    pub fields: HashMap<(Name, String), Credential>,
    /// Of upstreams.
    pub upstreams: HashMap<Name, KeyValues>,
    /// The values of runtime secrets, newest version first.
    pub runtime: HashMap<Name, Vec<RuntimeValue>>,
}

impl Credentials {
    /// Collect what the configuration refers to.
    pub async fn collect(config: &Config, store: &Store, vault: &Arc<Vault>) -> Result<Self, CredentialsError> {
        let mut all = Self::default();
        for provider in &config.providers {
            let Some(base) = provider.base() else { continue };
            let of = Of { kind: "provider", name: &provider.name, url: &base };
            for (field, reference) in provider.secret_headers() {
                let credential = of.credential(reference, store, vault).await?;
                all.fields.insert((provider.name.clone(), field.to_owned()), credential);
            }
            for key in provider.key_refs() {
                let values = of.values(&key, store, vault).await?;
                all.providers.entry(provider.name.clone()).or_default().push(values);
            }
        }
        for upstream in &config.upstreams {
            if let Some(inject) = &upstream.inject {
                let of = Of { kind: "upstream", name: &upstream.name, url: upstream.url.as_str() };
                let (reference, next) = (&inject.value, inject.next_value.as_ref());
                let key = KeyRef { name: "inject", path: "inject.value".to_owned(), reference, next, signs: false };
                all.upstreams.insert(upstream.name.clone(), of.values(&key, store, vault).await?);
            }
        }
        if !config.runtime_secrets.is_empty() {
            for version in store.runtime_secrets().kept().await? {
                let Some(sealed) = version.sealed else { continue };
                // One that is bound to no origin is put into no request.
                let origin = version.origin.unwrap_or_default();
                let (vault, name) = (Arc::clone(vault), version.name.as_str());
                let credential = Credential::stored(vault, sealed, name, version.version, &origin);
                all.runtime.entry(version.name).or_default().push(RuntimeValue {
                    version: version.version,
                    not_before: version.not_before,
                    not_after: version.not_after,
                    credential: credential.of_runtime(version.delivered),
                });
            }
        }
        Ok(all)
    }
}

/// The resource a key belongs to.
struct Of<'a> {
    kind: &'static str,
    name: &'a Name,
    url: &'a str,
}

impl Of<'_> {
    /// All values of a key: of a secret those in its slots, and after them the one that the configuration names to follow.
    async fn values(&self, key: &KeyRef<'_>, store: &Store, vault: &Arc<Vault>) -> Result<KeyValues, CredentialsError> {
        let mut values = KeyValues::new(self.credential(key.reference, store, vault).await?);
        if let SecretRef::Secret(secret) = key.reference
            && !key.signs
        {
            for version in store.secrets().versions(secret).await? {
                if version.slot != Slot::Current {
                    values = values.and(version.slot, stored(vault, version));
                }
            }
        }
        match key.next {
            Some(next) => Ok(values.and(Slot::Next, self.credential(next, store, vault).await?)),
            None => Ok(values),
        }
    }

    async fn credential(
        &self,
        reference: &SecretRef,
        store: &Store,
        vault: &Arc<Vault>,
    ) -> Result<Credential, CredentialsError> {
        let (kind, name) = (self.kind, self.name);
        let missing = |error| CredentialsError::Reference { kind, name: name.clone(), error };
        let SecretRef::Secret(secret) = reference else {
            // A start and a reload have looked before; if it went away since, a change elsewhere, such as a revocation,
            // must come into force all the same.
            let value = match references::read(reference) {
                Ok(value) => value,
                Err(error) => {
                    tracing::error!(kind, %name, %error, "its key cannot be read: it is out of service");
                    return Ok(Credential::missing(Arc::clone(vault), name.as_str()));
                }
            };
            return Credential::seal(Arc::clone(vault), &format!("{kind}/{name}"), &self.origin(), &value)
                .map_err(|error| CredentialsError::Vault { kind, name: name.clone(), error });
        };
        let version = store.secrets().current(secret).await?;
        let version = version.ok_or_else(|| missing(ReferenceError::Missing(secret.clone())))?;
        Ok(stored(vault, version))
    }

    /// The origin of the resource's URL, as the data plane compares it. The URL was checked with the configuration.
    fn origin(&self) -> String {
        url::Url::parse(self.url).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }
}

fn stored(vault: &Arc<Vault>, version: SecretVersion) -> Credential {
    // One that is bound to no origin is sent to none.
    let origin = version.origin.unwrap_or_default();
    Credential::stored(Arc::clone(vault), version.sealed, version.name.as_str(), version.version, &origin)
}
