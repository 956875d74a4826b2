//! Access tokens, for providers that take one instead of a key: asked for with the key, kept until shortly before they end, and
//! by one request at a time, however many wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::Secret;
use http::HeaderValue;
use net::{FetchError, FetchLimits, FormPost, Reach};
use proof::jose::AssertionKey;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use url::Url;

use super::credential::{Credential, CredentialError};
use crate::Shared;

/// What of Google is asked for.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// What of Azure is asked for.
const AZURE_SCOPE: &str = "https://cognitiveservices.azure.com/.default";
/// How long an assertion holds: the longest Google takes (developers.google.com/identity/protocols/oauth2/service-account).
const ASSERTION: i64 = 3600;
/// A token that ends within this is not used any more.
const MARGIN: Duration = Duration::from_mins(1);
/// How long a failure is every waiting request's answer.
const FAILURE: Duration = Duration::from_secs(5);
/// A token younger than this that is refused is not worth another.
const YOUNG: Duration = Duration::from_secs(30);
/// What a token endpoint's answer may be.
const LIMITS: FetchLimits = FetchLimits { bytes: 64 * 1024, time: Duration::from_secs(10) };
/// Most keys whose tokens are kept.
const MOST: usize = 1024;
/// Longest lifetime that is believed.
const LONGEST: u64 = 24 * 3600;

/// How tokens are come by.
#[derive(Debug)]
pub(crate) struct Grant {
    kind: Kind,
    endpoint: Url,
    reach: Reach,
}

#[derive(Debug)]
enum Kind {
    /// A service account's assertion (RFC 7523), or a user's refresh token. `told`: the endpoint is the operator's choice, whatever the key file says.
    Google { told: bool },
    /// An application's secret (RFC 6749 section 4.4).
    Entra { client_id: String, scope: String },
}

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum GrantError {
    /// The key is not one that tokens can be asked for with.
    #[error("the key is neither a service account's JSON key nor a user's credentials")]
    Key,
    /// The key file names a token endpoint that is neither Google's nor configured.
    #[error("the key file names another token endpoint than Google's: set token_url")]
    Endpoint,
    /// The token endpoint cannot be reached, or answers nonsense.
    #[error("the token endpoint gave no token: {0}")]
    Fetch(String),
    /// The token endpoint says no.
    #[error("the token endpoint refuses the key: {0}")]
    Refused(String),
}

impl GrantError {
    /// A stable code.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Key => "provider_key_form",
            Self::Endpoint => "provider_token_endpoint",
            Self::Fetch(_) => "provider_token_unavailable",
            Self::Refused(_) => "provider_token_refused",
        }
    }

    /// Whether a moment later it may be different.
    pub(crate) const fn passes(&self) -> bool {
        matches!(self, Self::Fetch(_))
    }
}

impl From<FetchError> for GrantError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error.to_string())
    }
}

/// What is shown in the place of a key.
pub(crate) enum Shown {
    /// `Authorization: Bearer TOKEN`, with what to forget it by.
    Token(HeaderValue, Held),
    /// The key is an API key after all (Vertex AI takes both).
    Key,
}

/// A token in use.
#[derive(Clone)]
pub(crate) struct Held {
    slot: Arc<Slot>,
    obtained: Instant,
}

/// The tokens in use, by what they were asked for with.
#[derive(Default)]
pub(crate) struct AccessTokens(Mutex<HashMap<[u8; 32], Arc<Slot>>>);

/// One key's token. Whoever holds the lock asks for it; the others wait for what comes of that.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Empty,
    Token {
        value: HeaderValue,
        obtained: Instant,
        until: Instant,
    },
    Failed {
        error: GrantError,
        until: Instant,
    },
}

impl Grant {
    /// How `provider` gives tokens, if it does.
    pub(crate) fn of(provider: &config::Provider) -> Option<Self> {
        let endpoint = Url::parse(&provider.token_endpoint()?).ok()?;
        let kind = match &provider.entra {
            Some(entra) => Kind::Entra {
                client_id: entra.client_id.as_str().to_owned(),
                scope: entra.scope.as_ref().map_or(AZURE_SCOPE, config::FieldText::as_str).to_owned(),
            },
            None => Kind::Google { told: provider.token_url.is_some() },
        };
        let reach = if provider.allow_private { Reach::Private } else { Reach::Public };
        Some(Self { kind, endpoint, reach })
    }

    /// The token to show for `credential` in a request to `origin`.
    pub(crate) async fn show(
        &self,
        credential: &Credential,
        origin: &str,
        shared: &Shared,
    ) -> Result<Shown, super::UpstreamError> {
        let key = credential.read(origin)?;
        let text = std::str::from_utf8(key.expose()).map_err(|_| CredentialError::Characters)?;
        if matches!(self.kind, Kind::Google { .. }) && !text.trim_start().starts_with('{') {
            return Ok(Shown::Key);
        }
        let slot = shared.access_tokens.slot(credential.digest(&[self.endpoint.as_str(), text]));
        let mut state = slot.0.lock().await;
        let now = shared.clock.monotonic();
        match &*state {
            State::Token { value, obtained, until } if now < *until => {
                return Ok(Shown::Token(value.clone(), Held { obtained: *obtained, slot: Arc::clone(&slot) }));
            }
            State::Failed { error, until } if now < *until => return Err(error.clone().into()),
            _ => {}
        }
        match Box::pin(self.ask(text, shared)).await {
            Ok((value, lifetime)) => {
                let until = now + lifetime.saturating_sub(MARGIN).max(lifetime / 2);
                *state = State::Token { value: value.clone(), obtained: now, until };
                drop(state);
                Ok(Shown::Token(value, Held { slot, obtained: now }))
            }
            Err(error) => {
                *state = State::Failed { error: error.clone(), until: now + FAILURE };
                Err(error.into())
            }
        }
    }

    /// Ask for a token.
    async fn ask(&self, key: &str, shared: &Shared) -> Result<(HeaderValue, Duration), GrantError> {
        let body = match &self.kind {
            Kind::Google { told } => self.google_form(key, *told, shared)?,
            Kind::Entra { client_id, scope } => form(&[
                ("grant_type", "client_credentials"),
                ("client_id", client_id),
                ("client_secret", key),
                ("scope", scope),
            ]),
        };
        let post = FormPost { body, authorization: None };
        let posted = net::post_form(&shared.egress, &self.endpoint, self.reach, post, LIMITS).await?;
        let body = Secret::new(posted.body);
        if !posted.status.is_success() {
            let told: Option<Refusal> = serde_json::from_slice(body.expose()).ok();
            // The code only: the rest may repeat what was sent.
            let code = told.map_or_else(String::new, |told| told.error);
            let code: String = code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
            return Err(GrantError::Refused(code));
        }
        let unusable = || GrantError::Fetch("its answer holds no usable token".to_owned());
        let issued: Issued = serde_json::from_slice(body.expose()).map_err(|_| unusable())?;
        if !issued.token_type.eq_ignore_ascii_case("bearer") || issued.expires_in == 0 {
            return Err(unusable());
        }
        let shown = Secret::new(format!("Bearer {}", issued.access_token.expose()));
        let mut value = HeaderValue::from_str(shown.expose()).map_err(|_| unusable())?;
        value.set_sensitive(true);
        Ok((value, Duration::from_secs(issued.expires_in.min(LONGEST))))
    }

    /// The form with a service account's assertion.
    fn google_form(&self, key: &str, told: bool, shared: &Shared) -> Result<Secret<String>, GrantError> {
        if let Ok(user) = serde_json::from_str::<User>(key)
            && user.kind == "authorized_user"
        {
            // What `gcloud auth application-default login` leaves: it names no endpoint.
            return Ok(form(&[
                ("grant_type", "refresh_token"),
                ("client_id", &user.client_id),
                ("client_secret", user.client_secret.expose()),
                ("refresh_token", user.refresh_token.expose()),
            ]));
        }
        let account: Account = serde_json::from_str(key).map_err(|_| GrantError::Key)?;
        if account.kind != "service_account" {
            return Err(GrantError::Key);
        }
        // Older key files name an older spelling of the same place.
        let googles = [config::Provider::GOOGLE_TOKEN_URL, "https://accounts.google.com/o/oauth2/token"];
        if !told && account.token_uri.as_deref().is_some_and(|uri| !googles.contains(&uri)) {
            return Err(GrantError::Endpoint);
        }
        let signer = AssertionKey::from_pem(account.private_key.expose(), account.private_key_id.as_deref())
            .map_err(|_| GrantError::Key)?;
        let now = shared.clock.now().as_secs();
        let claims = json!({"iss": account.client_email, "scope": GOOGLE_SCOPE, "aud": self.endpoint.as_str(),
            "iat": now, "exp": now + ASSERTION});
        let assertion = signer.sign(&claims).map_err(|_| GrantError::Key)?;
        let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        Ok(form(&[("grant_type", grant), ("assertion", assertion.expose())]))
    }
}

fn form(pairs: &[(&str, &str)]) -> Secret<String> {
    Secret::new(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret<String>, D::Error> {
    String::deserialize(from).map(Secret::new)
}

/// What of a service account's key file counts.
#[derive(Deserialize)]
struct Account {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    #[serde(deserialize_with = "secret")]
    private_key: Secret<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

/// What of a user's credentials counts (cloud.google.com/docs/authentication/application-default-credentials).
#[derive(Deserialize)]
struct User {
    #[serde(rename = "type")]
    kind: String,
    client_id: String,
    #[serde(deserialize_with = "secret")]
    client_secret: Secret<String>,
    #[serde(deserialize_with = "secret")]
    refresh_token: Secret<String>,
}

/// A token (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Issued {
    #[serde(deserialize_with = "secret")]
    access_token: Secret<String>,
    token_type: String,
    expires_in: u64,
}

/// A refusal (RFC 6749 section 5.2).
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl AccessTokens {
    fn slot(&self, key: [u8; 32]) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MOST && !slots.contains_key(&key) {
            // Keys that have been replaced: those in use are asked for anew.
            slots.clear();
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

impl Held {
    /// The provider refuses it: it is not used again. Says whether another is worth asking for.
    pub(crate) async fn forget(self, shared: &Shared) -> bool {
        let mut state = self.slot.0.lock().await;
        match &*state {
            // Somebody else has got another in the meantime.
            State::Token { obtained, .. } if *obtained != self.obtained => true,
            State::Token { .. } => {
                let age = shared.clock.monotonic().saturating_duration_since(self.obtained);
                let old = age >= YOUNG;
                if old {
                    *state = State::Empty;
                }
                old
            }
            State::Empty => true,
            State::Failed { .. } => false,
        }
    }
}
