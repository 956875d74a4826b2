//! What Google gives access tokens for: a service account's key, a user's refresh token, or another provider's token
//! ([`super::federated`]).

use base::{Clock, Secret};
use proof::jose::AssertionKey;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::federated::External;
use super::{GOOGLE_SCOPE, GrantError, form, secret};

/// How long an assertion holds: the longest Google takes (developers.google.com/identity/protocols/oauth2/service-account).
const ASSERTION: i64 = 3600;

/// What is shown for a token.
pub(super) enum Means {
    /// This form, at the token endpoint.
    Form(Secret<String>),
    /// Another provider's token.
    Federated(Box<External>),
}

/// What `key`, the text of a key file, is good for. `told`: the token endpoint is the operator's choice, whatever the key file says.
pub(super) fn means(key: &str, (endpoint, told): (&Url, bool), clock: &dyn Clock) -> Result<Means, GrantError> {
    let kind: Kind = serde_json::from_str(key).map_err(|_| GrantError::Key)?;
    match kind.kind.as_str() {
        // What `gcloud auth application-default login` leaves: it names no endpoint.
        "authorized_user" => {
            let user: User = serde_json::from_str(key).map_err(|_| GrantError::Key)?;
            Ok(Means::Form(form(&[
                ("grant_type", "refresh_token"),
                ("client_id", &user.client_id),
                ("client_secret", user.client_secret.expose()),
                ("refresh_token", user.refresh_token.expose()),
            ])))
        }
        "service_account" => assertion(key, (endpoint, told), clock).map(Means::Form),
        "external_account" => Ok(Means::Federated(Box::new(External::read(key, told)?))),
        _ => Err(GrantError::Key),
    }
}

/// The form with a service account's assertion.
fn assertion(key: &str, (endpoint, told): (&Url, bool), clock: &dyn Clock) -> Result<Secret<String>, GrantError> {
    let account: Account = serde_json::from_str(key).map_err(|_| GrantError::Key)?;
    // Older key files name an older spelling of the same place.
    let googles = [config::Provider::GOOGLE_TOKEN_URL, "https://accounts.google.com/o/oauth2/token"];
    if !told && account.token_uri.as_deref().is_some_and(|uri| !googles.contains(&uri)) {
        return Err(GrantError::Endpoint);
    }
    let signer = AssertionKey::from_pem(account.private_key.expose(), account.private_key_id.as_deref())
        .map_err(|_| GrantError::Key)?;
    let now = clock.now().as_secs();
    let claims = json!({"iss": account.client_email, "scope": GOOGLE_SCOPE, "aud": endpoint.as_str(),
        "iat": now, "exp": now + ASSERTION});
    let assertion = signer.sign(&claims).map_err(|_| GrantError::Key)?;
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    Ok(form(&[("grant_type", grant), ("assertion", assertion.expose())]))
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

/// What of a service account's key file counts.
#[derive(Deserialize)]
struct Account {
    client_email: String,
    #[serde(deserialize_with = "secret")]
    private_key: Secret<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

/// What of a user's credentials counts (cloud.google.com/docs/authentication/application-default-credentials).
#[derive(Deserialize)]
struct User {
    client_id: String,
    #[serde(deserialize_with = "secret")]
    client_secret: Secret<String>,
    #[serde(deserialize_with = "secret")]
    refresh_token: Secret<String>,
}
