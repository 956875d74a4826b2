//! A mock identity provider: discovery document and key set, both programmable, each fetch counted.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::keys::{TestKey, key_set};
use crate::mock::{Answer, Mock, Received};

/// Where the documents lie.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// RFC 8414.
pub const OAUTH_DISCOVERY: &str = "/.well-known/oauth-authorization-server";
/// The key set.
pub const JWKS: &str = "/jwks";

/// A running identity provider.
#[derive(Debug)]
pub struct Idp {
    mock: Mock,
    documents: Arc<Documents>,
}

#[derive(Debug)]
struct Documents {
    discovery: Mutex<Answer>,
    jwks: Mutex<Answer>,
}

impl Idp {
    /// A provider on a free port that publishes these keys.
    pub async fn start(keys: &[&TestKey]) -> Self {
        Self::start_on(None, keys).await
    }

    /// The same behind TLS.
    pub async fn start_tls(config: Arc<rustls::ServerConfig>, keys: &[&TestKey]) -> Self {
        Self::start_on(Some(config), keys).await
    }

    async fn start_on(tls: Option<Arc<rustls::ServerConfig>>, keys: &[&TestKey]) -> Self {
        let documents = Arc::new(Documents {
            discovery: Mutex::new(Answer::nothing()),
            jwks: Mutex::new(Answer::json(200, &key_set(keys))),
        });
        let answering = Arc::clone(&documents);
        let respond = move |request: &Received| match request.path() {
            DISCOVERY | OAUTH_DISCOVERY => answering.discovery.lock().unwrap().clone(),
            JWKS => answering.jwks.lock().unwrap().clone(),
            _ => Answer::bytes(404, "text/plain", "not found"),
        };
        let mock = match tls {
            Some(config) => Mock::start_tls(config, respond).await,
            None => Mock::start_with(respond).await,
        };
        let idp = Self { mock, documents };
        idp.discover(Answer::json(200, &idp.metadata()));
        idp
    }

    /// Its identifier: what its tokens carry as `iss`.
    pub fn issuer(&self) -> String {
        self.mock.url()
    }

    /// Where its key set lies.
    pub fn jwks_url(&self) -> String {
        format!("{}{JWKS}", self.mock.url())
    }

    /// The discovery document it starts with.
    pub fn metadata(&self) -> Value {
        json!({
            "issuer": self.issuer(),
            "jwks_uri": self.jwks_url(),
            "authorization_endpoint": format!("{}/authorize", self.issuer()),
            "token_endpoint": format!("{}/token", self.issuer()),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        })
    }

    /// Answer fetches of the key set so from now on: other keys, an error, a stall, garbage.
    pub fn answer(&self, jwks: Answer) {
        *self.documents.jwks.lock().unwrap() = jwks;
    }

    /// Publish these keys from now on.
    pub fn rotate(&self, keys: &[&TestKey]) {
        self.answer(Answer::json(200, &key_set(keys)));
    }

    /// Answer fetches of the discovery document so from now on.
    pub fn discover(&self, document: Answer) {
        *self.documents.discovery.lock().unwrap() = document;
    }

    /// How often the key set was fetched.
    pub fn fetches(&self) -> usize {
        self.fetched(JWKS)
    }

    /// How often this path was fetched.
    pub fn fetched(&self, path: &str) -> usize {
        self.mock.requests().iter().filter(|request| request.path() == path).count()
    }

    /// The server behind it.
    pub fn mock(&self) -> &Mock {
        &self.mock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw;

    #[tokio::test]
    async fn it_publishes_counts_and_rotates_its_keys() {
        let (old, new) = (TestKey::generate("ES256"), TestKey::generate("EdDSA"));
        let idp = Idp::start(&[&old]).await;
        let addr = idp.mock().addr();
        let fetch = || async { raw::request(addr, "GET", JWKS, &[], b"").await.json() };
        assert_eq!(fetch().await["keys"][0]["kid"], old.kid);
        idp.rotate(&[&old, &new]);
        assert_eq!(fetch().await["keys"][1]["kid"], new.kid);
        let discovered = raw::request(addr, "GET", DISCOVERY, &[], b"").await.json();
        assert_eq!(discovered["jwks_uri"], idp.jwks_url());
        assert_eq!((idp.fetches(), idp.fetched(DISCOVERY)), (2, 1));
    }
}
