//! The OpenID provider of `[signin]`: what is in force about it, and the way to it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base::{Name, Secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::{Config, Issuer, KeySource, SecretRef, Signin};
use control::admin::Pending;
use control::oauth::{FetchError, FormAnswer, FormAuth, OpenidProvider, ProviderSettings};
use http::HeaderValue;
use net::jwks::{Jwks, metadata};
use net::{Egress, FetchLimits, FormPost, Reach, post_form};
use proof::jose::{JsonObject, KeySet};
use store::Store;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};
use vault::{Label, Purpose, Vault};

use super::issuers::{rules_of, static_keys};
use crate::references;

/// The section in force, with the issuer it names.
#[derive(Debug)]
pub struct InForce {
    signin: Signin,
    issuer: Issuer,
    /// Keys that are in a file; others are fetched.
    file_keys: Option<Arc<KeySet>>,
}

impl InForce {
    /// What a configuration says; nothing, where nobody can sign in.
    pub fn of(config: &Config) -> Option<Arc<Self>> {
        let signin = config.signin.clone()?;
        let issuer = config.issuers.iter().find(|issuer| issuer.name == signin.issuer)?.clone();
        let file_keys = match issuer.key_source() {
            // A file that cannot be read takes its issuer out of service: that has been logged already.
            Some(KeySource::JwksFile(_)) => static_keys(&issuer).ok().flatten().map(Arc::new),
            _ => None,
        };
        Some(Arc::new(Self { signin, issuer, file_keys }))
    }

    fn reach(&self) -> Reach {
        if self.issuer.allow_private { Reach::Private } else { Reach::Public }
    }
}

/// The provider, reached from here.
pub struct Provider {
    /// What is in force; changes with every reload.
    pub in_force: Arc<ArcSwapOption<InForce>>,
    /// Keys of issuers.
    pub jwks: Arc<Jwks>,
    /// The way out.
    pub egress: Egress,
    /// Where our secret may be kept.
    pub store: Store,
    /// What opens it.
    pub vault: Arc<Vault>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("in_force", &self.in_force).finish_non_exhaustive()
    }
}

impl OpenidProvider for Provider {
    fn settings(&self) -> Result<ProviderSettings, FetchError> {
        let now = self.current()?;
        let keys = now.file_keys.clone().or_else(|| self.jwks.source(&now.issuer.name)?.keys());
        let endpoint = |url: &Option<config::HttpUrl>| url.as_ref().map(|url| url.url().clone());
        Ok(ProviderSettings {
            rules: rules_of(&now.issuer),
            keys,
            client_id: now.signin.client_id.clone(),
            confidential: now.signin.client_secret.is_some(),
            scopes: now.signin.scopes.iter().map(ToString::to_string).collect(),
            authorization_endpoint: endpoint(&now.signin.authorization_endpoint),
            token_endpoint: endpoint(&now.signin.token_endpoint),
            allow_private: now.issuer.allow_private,
        })
    }

    fn metadata<'a>(&'a self, settings: &'a ProviderSettings) -> Pending<'a, Result<JsonObject, FetchError>> {
        Box::pin(async move {
            let issuer = settings.rules.issuer.as_deref().unwrap_or_default();
            let found = metadata(&self.egress, issuer, self.current()?.reach()).await;
            found.map_err(|error| FetchError { reason: error.reason(), message: error.to_string() })
        })
    }

    fn newer_keys<'a>(&'a self, issuer: &'a Name) -> Pending<'a, Option<Arc<KeySet>>> {
        Box::pin(async move {
            if let Some(keys) = self.current().ok().and_then(|now| now.file_keys.clone()) {
                return Some(keys);
            }
            self.jwks.refresh(issuer).await;
            self.jwks.source(issuer)?.keys()
        })
    }

    fn post<'a>(
        &'a self,
        to: &'a Url,
        settings: &'a ProviderSettings,
        (body, auth): (Secret<String>, FormAuth),
    ) -> Pending<'a, Result<FormAnswer, FetchError>> {
        Box::pin(async move {
            let now = self.current()?;
            let form = match auth {
                FormAuth::None => FormPost { body, authorization: None },
                FormAuth::Basic => {
                    let authorization = Some(basic(&settings.client_id, &self.secret(&now, to).await?)?);
                    FormPost { body, authorization }
                }
                FormAuth::Form => {
                    let secret = self.secret(&now, to).await?;
                    let mut form = Serializer::new(body.expose().clone());
                    form.append_pair("client_secret", secret.expose());
                    FormPost { body: Secret::new(form.finish()), authorization: None }
                }
            };
            let limits = FetchLimits { bytes: 128 * 1024, ..FetchLimits::default() };
            let posted = post_form(&self.egress, to, now.reach(), form, limits).await;
            let posted = posted.map_err(|error| FetchError { reason: error.reason(), message: error.to_string() })?;
            Ok(FormAnswer { status: posted.status.as_u16(), body: posted.body })
        })
    }
}

impl Provider {
    fn current(&self) -> Result<Arc<InForce>, FetchError> {
        let missing = || failed("no_signin", "there is no [signin], so nobody can sign in");
        self.in_force.load_full().ok_or_else(missing)
    }

    /// Our secret at the provider. One of the vault goes only to the origin it was set for.
    async fn secret(&self, now: &InForce, to: &Url) -> Result<Secret<String>, FetchError> {
        let reference = now.signin.client_secret.as_ref();
        let reference = reference.ok_or_else(|| failed("signin_secret", "there is no client_secret in [signin]"))?;
        let SecretRef::Secret(name) = reference else {
            return references::read(reference).map_err(|error| failed("signin_secret", &error.to_string()));
        };
        let version = self.store.secrets().current(name).await;
        let version = version.map_err(|error| failed(error.reason(), &error.to_string()))?;
        let version = version.ok_or_else(|| failed("signin_secret", &format!("the vault holds no secret {name}")))?;
        let origin = to.origin().ascii_serialization();
        if version.origin.as_deref() != Some(origin.as_str()) {
            let set = "set it again with --origin";
            let message = format!("the secret {name} may not be sent to the token endpoint: {set} {origin}");
            return Err(failed("signin_secret", &message));
        }
        let label =
            Label::new(self.store.tenant(), Purpose::Secret, name.as_str(), version.version).origin(Some(&origin));
        let opened = self.vault.open(&label, &version.sealed);
        let opened = opened.map_err(|error| failed("signin_secret", &error.to_string()))?;
        let text = String::from_utf8(opened.expose().clone());
        text.map(Secret::new).map_err(|_| failed("signin_secret", "the secret is not text"))
    }
}

/// `client_secret_basic`: both form-encoded first (RFC 6749 section 2.3.1).
fn basic(id: &str, secret: &Secret<String>) -> Result<HeaderValue, FetchError> {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Secret::new(format!("{}:{}", encoded(id), encoded(secret.expose())));
    let header = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
    HeaderValue::from_str(header.expose()).map_err(|_| failed("signin_secret", "the secret makes no header"))
}

fn failed(reason: &'static str, message: &str) -> FetchError {
    FetchError { reason, message: message.to_owned() }
}

#[cfg(test)]
mod tests;
