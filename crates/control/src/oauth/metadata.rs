//! What clients learn about us before they ask: RFC 8414 and OpenID Connect Discovery for the token service, RFC 9728 for
//! the gateway. Only what is on is listed.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use config::{Algorithm, Config, Grant};
use http::{HeaderValue, header};
use proof::dpop::ALGORITHMS;
use serde_json::{Map, Value, json};

use super::request::unavailable;
use super::{Oauth, OauthError};

/// How long what we publish about ourselves may be remembered.
const MAX_AGE: &str = "public, max-age=300";

/// `/.well-known/oauth-authorization-server` (RFC 8414 section 3) and `/.well-known/openid-configuration` (OpenID Connect
/// Discovery section 4): clients ask for the one or the other.
pub(super) async fn token_service(State(oauth): State<Arc<Oauth>>) -> Response {
    match oauth.merged().await {
        Ok(config) => published(&Value::Object(about_us(oauth.operations().external_url(), &config))),
        Err(error) => error.response(),
    }
}

/// `/.well-known/oauth-protected-resource` (RFC 9728 section 3).
pub(super) async fn resource(State(oauth): State<Arc<Oauth>>) -> Response {
    match oauth.merged().await {
        Ok(config) => published(&about_resource(oauth.operations().external_url(), &config)),
        Err(error) => error.response(),
    }
}

/// What was published last, good until the file or the store has changed.
#[derive(Debug, Default)]
pub(super) struct Merged(RwLock<Option<Known>>);

#[derive(Debug, Clone)]
struct Known {
    version: u64,
    file: Arc<Config>,
    merged: Arc<Config>,
}

impl Oauth {
    /// The configuration file and what the admin API has added to it.
    async fn merged(&self) -> Result<Arc<Config>, OauthError> {
        let (version, file) = (self.operations().store().version(), self.operations().file());
        let known = self.merged.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.version == version && Arc::ptr_eq(&known.file, &file)) {
            return Ok(known.merged);
        }
        let merged = self.operations().merged_config(&file).await.map_err(|error| unavailable(&error))?;
        // What does not go together is not in force either.
        let merged = merged.map_or_else(|_| Arc::clone(&file), Arc::new);
        let known = Known { version, file, merged: Arc::clone(&merged) };
        *self.merged.0.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(merged)
    }
}

fn about_resource(external: &str, config: &Config) -> Value {
    // Tokens of an issuer that can be discovered are accepted as they are; ours come first.
    let discovered =
        config.issuers.iter().filter(|issuer| issuer.discovery).filter_map(|issuer| issuer.issuer.as_deref());
    let servers: Vec<&str> = std::iter::once(external).chain(discovered).collect();
    let mut about = json!({
        "resource": external,
        "resource_name": "Vouchgate",
        "authorization_servers": servers,
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": proof_algorithms(),
        "dpop_bound_access_tokens_required": false,
        "tls_client_certificate_bound_access_tokens": certificates(config),
    });
    let scopes = scopes(config);
    if let (Some(about), false) = (about.as_object_mut(), scopes.is_empty()) {
        about.insert("scopes_supported".to_owned(), scopes.into());
    }
    about
}

/// The scopes that policies ask for.
fn scopes(config: &Config) -> Vec<&str> {
    let all: BTreeSet<&str> =
        config.policies.iter().flat_map(|policy| policy.who.scope.iter()).map(config::Scope::as_str).collect();
    all.into_iter().collect()
}

fn about_us(external: &str, file: &Config) -> Map<String, Value> {
    let at = |path: &str| Value::String(format!("{external}{path}"));
    let people = file.signin.is_some();
    let mut methods = vec!["client_secret_basic", "client_secret_post", "private_key_jwt"];
    if certificates(file) {
        methods.extend(["tls_client_auth", "self_signed_tls_client_auth"]);
    }
    let confidential = methods.clone();
    methods.push("none");
    let signing: Vec<&str> = Algorithm::PUBLIC_DEFAULTS.iter().map(|alg| alg.as_str()).collect();
    let mut grants = vec![Grant::ClientCredentials];
    if people {
        grants.extend([Grant::AuthorizationCode, Grant::DeviceCode, Grant::RefreshToken]);
    }
    if !file.issuers.is_empty() {
        grants.push(Grant::TokenExchange);
    }
    let grants: Vec<&str> = grants.into_iter().map(Grant::grant_type).collect();
    let response_types: &[&str] = if people { &["code"] } else { &[] };
    let mut scopes = scopes(file);
    let mut about = Map::new();
    let mut say = |name: &str, value: Value| about.insert(name.to_owned(), value);
    say("issuer", external.into());
    say("token_endpoint", at("/oauth/token"));
    say("jwks_uri", at("/.well-known/jwks.json"));
    say("revocation_endpoint", at("/oauth/revoke"));
    say("introspection_endpoint", at("/oauth/introspect"));
    say("grant_types_supported", grants.into());
    say("response_types_supported", response_types.into());
    for endpoint in ["token", "revocation"] {
        say(&format!("{endpoint}_endpoint_auth_methods_supported"), methods.clone().into());
        say(&format!("{endpoint}_endpoint_auth_signing_alg_values_supported"), signing.clone().into());
    }
    say("introspection_endpoint_auth_methods_supported", confidential.into());
    say("introspection_endpoint_auth_signing_alg_values_supported", signing.into());
    say("dpop_signing_alg_values_supported", proof_algorithms());
    say("tls_client_certificate_bound_access_tokens", certificates(file).into());
    say("protected_resources", json!([external]));
    // OpenID Connect Discovery requires these of everybody.
    say("subject_types_supported", json!(["public"]));
    say("id_token_signing_alg_values_supported", json!(["ES256"]));
    if people {
        say("authorization_endpoint", at("/oauth/authorize"));
        say("pushed_authorization_request_endpoint", at("/oauth/par"));
        say("device_authorization_endpoint", at("/oauth/device_authorization"));
        say("require_pushed_authorization_requests", false.into());
        say("code_challenge_methods_supported", json!(["S256"]));
        say("response_modes_supported", json!(["query"]));
        say("authorization_response_iss_parameter_supported", true.into());
        scopes.push("openid");
        say("claims_supported", json!(["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "sid", "at_hash"]));
        say("request_parameter_supported", false.into());
        say("request_uri_parameter_supported", false.into());
        say("claims_parameter_supported", false.into());
    }
    if !scopes.is_empty() {
        say("scopes_supported", scopes.into());
    }
    about
}

/// Whether a client certificate can reach us: through the listener, or through a proxy that passes it on.
fn certificates(file: &Config) -> bool {
    let tls = file.server.tls.as_ref();
    let listener = tls.is_some_and(|tls| tls.client_certificates() != config::ClientCertificates::Off);
    listener || !file.server.trusted_proxies.is_empty()
}

fn proof_algorithms() -> Value {
    ALGORITHMS.iter().map(|alg| alg.name()).collect::<Vec<_>>().into()
}

/// For any page and program to read.
fn published(document: &Value) -> Response {
    let mut response = Response::new(Body::from(document.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(MAX_AGE));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
