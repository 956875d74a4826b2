//! The OpenID provider of `[signin]`: how it is reached, and where its endpoints are.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base::{Name, Secret};
use proof::jose::{JsonObject, KeySet};
use proof::token::IssuerRules;
use serde_json::Value;
use url::Url;

use crate::admin::Pending;
use crate::oauth::{FetchError, Nowhere};

/// The provider's metadata is asked for again after so long.
const METADATA_AGE: Duration = Duration::from_mins(15);
/// And when that failed, after so long: visitors must not make us ask a provider that is down for each of them.
const FAILURE_AGE: Duration = Duration::from_secs(10);

/// The provider as the configuration in force describes it.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// What its tokens must look like, and where it puts subject and groups.
    pub rules: IssuerRules,
    /// Its keys, as far as they are known.
    pub keys: Option<Arc<KeySet>>,
    /// What we are called there.
    pub client_id: String,
    /// Whether we have a secret there.
    pub confidential: bool,
    /// What we ask for, besides `openid`.
    pub scopes: Vec<String>,
    /// Where browsers are sent, when the configuration says so.
    pub authorization_endpoint: Option<Url>,
    /// Where codes are redeemed, when the configuration says so.
    pub token_endpoint: Option<Url>,
    /// Whether it may lie on loopback or a private network.
    pub allow_private: bool,
}

/// What a form was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormAnswer {
    /// The status.
    pub status: u16,
    /// The body: said to be JSON, not parsed yet.
    pub body: Vec<u8>,
}

/// How a form is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormAuth {
    /// Our secret in the `Authorization` header (RFC 6749 section 2.3.1).
    Basic,
    /// Our secret in the form.
    Form,
    /// No secret: the form says who we are, and PKCE that it was us who asked.
    None,
}

/// The way to the provider. The binary implements it over what is in force and its own way out.
pub trait OpenidProvider: Send + Sync {
    /// What the configuration says; [`FetchError`] when nobody can sign in as things are.
    fn settings(&self) -> Result<ProviderSettings, FetchError>;

    /// Its metadata (OpenID Connect Discovery 1.0), proven to be of this issuer.
    fn metadata<'a>(&'a self, settings: &'a ProviderSettings) -> Pending<'a, Result<JsonObject, FetchError>>;

    /// Its keys, fetched anew unless that was done a moment ago.
    fn newer_keys<'a>(&'a self, issuer: &'a Name) -> Pending<'a, Option<Arc<KeySet>>>;

    /// Send a form to its token endpoint with our authentication. The secret goes to no other origin than the one it is
    /// bound to.
    fn post<'a>(
        &'a self,
        to: &'a Url,
        settings: &'a ProviderSettings,
        form: (Secret<String>, FormAuth),
    ) -> Pending<'a, Result<FormAnswer, FetchError>>;
}

impl OpenidProvider for Nowhere {
    fn settings(&self) -> Result<ProviderSettings, FetchError> {
        Err(no_signin())
    }

    fn metadata<'a>(&'a self, _: &'a ProviderSettings) -> Pending<'a, Result<JsonObject, FetchError>> {
        Box::pin(std::future::ready(Err(no_signin())))
    }

    fn newer_keys<'a>(&'a self, _: &'a Name) -> Pending<'a, Option<Arc<KeySet>>> {
        Box::pin(std::future::ready(None))
    }

    fn post<'a>(
        &'a self,
        _: &'a Url,
        _: &'a ProviderSettings,
        _: (Secret<String>, FormAuth),
    ) -> Pending<'a, Result<FormAnswer, FetchError>> {
        Box::pin(std::future::ready(Err(no_signin())))
    }
}

fn no_signin() -> FetchError {
    FetchError { reason: "no_signin", message: "there is no [signin], so nobody can sign in".to_owned() }
}

/// Where the provider does what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::oauth) struct Endpoints {
    /// Where browsers are sent.
    pub(in crate::oauth) authorization: Url,
    /// Where codes are redeemed.
    pub(in crate::oauth) token: Url,
    /// How we say who we are there.
    pub(in crate::oauth) auth: FormAuth,
    /// Whether its answers always say who it is (RFC 9207).
    pub(in crate::oauth) names_itself: bool,
}

/// Remembers the endpoints, so that a sign-in does not wait for the metadata each time.
#[derive(Debug, Default)]
pub(in crate::oauth) struct Known {
    last: RwLock<Option<Remembered>>,
    /// One asks, the others wait for what it learns.
    asking: tokio::sync::Mutex<()>,
}

/// Of which settings: the issuer, what we are called there, and whether we have a secret. Others ask anew.
type Of = (Option<String>, String, bool);

#[derive(Debug)]
struct Remembered {
    of: Of,
    since: Instant,
    outcome: Result<Endpoints, FetchError>,
}

impl Known {
    /// The endpoints of the provider with these settings.
    pub(in crate::oauth) async fn endpoints(
        &self,
        provider: &dyn OpenidProvider,
        settings: &ProviderSettings,
        now: Instant,
    ) -> Result<Endpoints, FetchError> {
        let given = (&settings.authorization_endpoint, &settings.token_endpoint);
        if let (Some(authorization), Some(token)) = given {
            let (authorization, token) = (authorization.clone(), token.clone());
            let auth = if settings.confidential { FormAuth::Basic } else { FormAuth::None };
            return Ok(Endpoints { authorization, token, auth, names_itself: false });
        }
        let of = (settings.rules.issuer.clone(), settings.client_id.clone(), settings.confidential);
        if let Some(outcome) = self.remembered(&of, now) {
            return outcome;
        }
        let _turn = self.asking.lock().await;
        if let Some(outcome) = self.remembered(&of, now) {
            return outcome;
        }
        let outcome = provider.metadata(settings).await.and_then(|metadata| read(&metadata, settings));
        let remembered = Remembered { of, since: now, outcome: outcome.clone() };
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(remembered);
        outcome
    }

    fn remembered(&self, of: &Of, now: Instant) -> Option<Result<Endpoints, FetchError>> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        let last = last.as_ref().filter(|last| last.of == *of)?;
        let age = if last.outcome.is_ok() { METADATA_AGE } else { FAILURE_AGE };
        (now.saturating_duration_since(last.since) < age).then(|| last.outcome.clone())
    }
}

fn read(metadata: &JsonObject, settings: &ProviderSettings) -> Result<Endpoints, FetchError> {
    let unusable = |what: &str| FetchError {
        reason: "provider_metadata",
        message: format!("the provider's metadata has no usable {what}"),
    };
    let endpoint = |name: &str, given: Option<&Url>| {
        if let Some(given) = given {
            return Ok(given.clone());
        }
        let text = metadata.get(name).and_then(Value::as_str).ok_or_else(|| unusable(name))?;
        let url = Url::parse(text).map_err(|_| unusable(name))?;
        let secure = url.scheme() == "https" || (url.scheme() == "http" && settings.allow_private);
        let plain = url.has_host() && url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if secure && plain { Ok(url) } else { Err(unusable(name)) }
    };
    let listed = |name: &str| {
        let list = metadata.get(name).and_then(Value::as_array);
        list.map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>())
    };
    let auth = match listed("token_endpoint_auth_methods_supported") {
        _ if !settings.confidential => FormAuth::None,
        // The default of RFC 8414 section 2 is Basic.
        Some(methods) if !methods.contains(&"client_secret_basic") && methods.contains(&"client_secret_post") => {
            FormAuth::Form
        }
        _ => FormAuth::Basic,
    };
    let names_itself = metadata.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true));
    Ok(Endpoints {
        authorization: endpoint("authorization_endpoint", settings.authorization_endpoint.as_ref())?,
        token: endpoint("token_endpoint", settings.token_endpoint.as_ref())?,
        auth,
        names_itself,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings() -> ProviderSettings {
        let name = Name::new("corp").unwrap();
        ProviderSettings {
            rules: IssuerRules::new(name, "https://id.example.com/", vec!["a".to_owned()]),
            keys: None,
            client_id: "us".to_owned(),
            confidential: true,
            scopes: Vec::new(),
            authorization_endpoint: None,
            token_endpoint: None,
            allow_private: false,
        }
    }

    fn of(metadata: &Value, settings: &ProviderSettings) -> Result<Endpoints, FetchError> {
        read(metadata.as_object().unwrap(), settings)
    }

    #[test]
    fn the_metadata_says_where_and_how() {
        let mut metadata = json!({
            "authorization_endpoint": "https://id.example.com/authorize?tenant=1",
            "token_endpoint": "https://tokens.example.com/token",
        });
        let endpoints = of(&metadata, &settings()).unwrap();
        assert_eq!(endpoints.authorization.query(), Some("tenant=1"));
        assert_eq!((endpoints.auth, endpoints.names_itself), (FormAuth::Basic, false));

        metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_post", "private_key_jwt"]);
        metadata["authorization_response_iss_parameter_supported"] = json!(true);
        let endpoints = of(&metadata, &settings()).unwrap();
        assert_eq!((endpoints.auth, endpoints.names_itself), (FormAuth::Form, true));
        let public = ProviderSettings { confidential: false, ..settings() };
        assert_eq!(of(&metadata, &public).unwrap().auth, FormAuth::None);
    }

    #[test]
    fn an_endpoint_that_is_not_https_is_not_used() {
        for bad in [
            json!("http://id.example.com/authorize"),
            json!("javascript:alert(1)"),
            json!("https://user:pw@id.example.com/"),
            json!("https://id.example.com/#x"),
            json!("/authorize"),
            json!(7),
            Value::Null,
        ] {
            let metadata = json!({"authorization_endpoint": bad, "token_endpoint": "https://id.example.com/token"});
            assert_eq!(of(&metadata, &settings()).unwrap_err().reason, "provider_metadata", "{metadata}");
        }
        let near = ProviderSettings { allow_private: true, ..settings() };
        let metadata =
            json!({"authorization_endpoint": "http://127.0.0.1:1/a", "token_endpoint": "http://127.0.0.1:1/t"});
        assert!(of(&metadata, &near).is_ok());
    }
}
