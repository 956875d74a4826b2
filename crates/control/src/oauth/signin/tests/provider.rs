//! The way to the provider of the tests, over HTTP on loopback.

use std::sync::{Arc, Mutex};

use base::{Name, Secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use net::{Egress, EgressConfig, FetchLimits, FormPost, Reach, fetch_json, post_form};
use proof::jose::{Alg, JsonObject, KeySet};
use proof::token::IssuerRules;
use testkit::op::{CLIENT, Op};
use url::Url;

use crate::admin::Pending;
use crate::fixture::EXTERNAL;
use crate::oauth::{FetchError, FormAnswer, FormAuth, OpenidProvider, ProviderSettings};

pub(super) struct OverHttp {
    egress: Egress,
    pub(super) settings: Mutex<ProviderSettings>,
    issuer: String,
}

impl OverHttp {
    pub(super) fn new(op: &Op) -> Self {
        let name = Name::new("corp").unwrap();
        let mut rules = IssuerRules::new(name, op.issuer(), vec![EXTERNAL.to_owned()]);
        rules.algorithms = vec![Alg::Rs256, Alg::Es256];
        let settings = ProviderSettings {
            rules,
            keys: None,
            client_id: CLIENT.0.to_owned(),
            confidential: true,
            scopes: vec!["openid".to_owned(), "profile".to_owned()],
            authorization_endpoint: None,
            token_endpoint: None,
            allow_private: true,
        };
        Self {
            egress: Egress::new(EgressConfig::default()).unwrap(),
            settings: Mutex::new(settings),
            issuer: op.issuer(),
        }
    }

    async fn json(&self, path: &str) -> Result<Vec<u8>, FetchError> {
        let url = Url::parse(&format!("{}{path}", self.issuer)).unwrap();
        let fetched = fetch_json(&self.egress, &url, Reach::Private, FetchLimits::default()).await;
        fetched.map(|fetched| fetched.body).map_err(|error| failed(&error))
    }
}

impl OpenidProvider for OverHttp {
    fn settings(&self) -> Result<ProviderSettings, FetchError> {
        Ok(self.settings.lock().unwrap().clone())
    }

    fn metadata<'a>(&'a self, _: &'a ProviderSettings) -> Pending<'a, Result<JsonObject, FetchError>> {
        Box::pin(async {
            let body = self.json("/.well-known/openid-configuration").await?;
            Ok(serde_json::from_slice(&body).unwrap())
        })
    }

    fn newer_keys<'a>(&'a self, _: &'a Name) -> Pending<'a, Option<Arc<KeySet>>> {
        Box::pin(async {
            let set = KeySet::from_published(&self.json("/jwks").await.ok()?).ok().map(Arc::new);
            self.settings.lock().unwrap().keys.clone_from(&set);
            set
        })
    }

    fn post<'a>(
        &'a self,
        to: &'a Url,
        _: &'a ProviderSettings,
        (body, auth): (Secret<String>, FormAuth),
    ) -> Pending<'a, Result<FormAnswer, FetchError>> {
        Box::pin(async move {
            let encoded: String = url::form_urlencoded::byte_serialize(CLIENT.1.as_bytes()).collect();
            let basic = STANDARD.encode(format!("{}:{encoded}", CLIENT.0));
            let authorization = (auth == FormAuth::Basic).then(|| format!("Basic {basic}").parse().unwrap());
            let body = match auth {
                FormAuth::Form => Secret::new(format!("{}&client_secret={encoded}", body.expose())),
                _ => body,
            };
            let form = FormPost { body, authorization };
            let posted = post_form(&self.egress, to, Reach::Private, form, FetchLimits::default())
                .await
                .map_err(|error| failed(&error))?;
            Ok(FormAnswer { status: posted.status.as_u16(), body: posted.body })
        })
    }
}

fn failed(error: &net::FetchError) -> FetchError {
    FetchError { reason: error.reason(), message: error.to_string() }
}
