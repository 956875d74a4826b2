//! Access tokens, for providers that take one instead of a key: asked for with the key, kept until shortly before they end, and
//! by one request at a time, however many wait.

mod federated;
mod google;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::{Clock, Secret};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use net::{Egress, FetchError, FetchLimits, FormPost, Question, Reach};
use serde::{Deserialize, Deserializer};
use url::Url;

use self::google::Means;
use super::credential::{Credential, CredentialError};
use crate::Shared;

/// What of Google is asked for.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// What of Azure is asked for.
const AZURE_SCOPE: &str = "https://cognitiveservices.azure.com/.default";
/// What Google's metadata server wants to be asked with, and answers with (cloud.google.com/compute/docs/metadata).
const FLAVOUR: HeaderName = HeaderName::from_static("metadata-flavor");
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
    /// What [`google`] knows. `told`: the endpoint is the operator's choice, whatever the key file says.
    Google { told: bool },
    /// The machine's own identity, of the metadata server: there is no key.
    Metadata(Arc<Slot>),
    /// An application's secret (RFC 6749 section 4.4).
    Entra { client_id: String, scope: String },
}

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum GrantError {
    /// The key is not one that tokens can be asked for with.
    #[error("the key is neither a service account's JSON key nor a user's credentials nor an external account's")]
    Key,
    /// The other provider's token, of workload identity federation, cannot be had.
    #[error("workload identity federation: {0}")]
    Source(&'static str),
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
            Self::Source(_) => "provider_token_source",
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

/// What a token is asked for with, besides a key.
#[derive(Clone, Copy)]
struct With<'a> {
    egress: &'a Egress,
    clock: &'a dyn Clock,
    reach: Reach,
}

/// A token, and how long it holds.
struct Granted {
    token: Secret<String>,
    lifetime: Duration,
}

impl Granted {
    /// It as it is shown.
    fn shown(&self) -> Result<HeaderValue, GrantError> {
        let shown = Secret::new(format!("Bearer {}", self.token.expose()));
        let mut value = HeaderValue::from_str(shown.expose()).map_err(|_| unusable())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn unusable() -> GrantError {
    GrantError::Fetch("its answer holds no usable token".to_owned())
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

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot") // nothing of the token
    }
}

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
            None if provider.credentials.is_some() => Kind::Metadata(Arc::default()),
            None => Kind::Google { told: provider.token_url.is_some() },
        };
        let reach = match (&kind, &provider.token_url) {
            (Kind::Metadata(_), None) => Reach::Metadata,
            _ if provider.allow_private => Reach::Private,
            _ => Reach::Public,
        };
        Some(Self { kind, endpoint, reach })
    }

    /// The token to show for `credential` in a request to `origin`; with the machine's identity there is none.
    pub(crate) async fn show(
        &self,
        credential: Option<&Credential>,
        origin: &str,
        shared: &Shared,
    ) -> Result<Shown, super::UpstreamError> {
        let key = match (&self.kind, credential) {
            (Kind::Metadata(_), _) => None,
            (_, Some(credential)) => Some((credential, credential.read(origin)?)),
            (_, None) => return Err(CredentialError::Missing.into()),
        };
        let text = match &key {
            Some((_, key)) => std::str::from_utf8(key.expose()).map_err(|_| CredentialError::Characters)?,
            None => "",
        };
        if matches!(self.kind, Kind::Google { .. }) && !text.trim_start().starts_with('{') {
            return Ok(Shown::Key);
        }
        let slot = match (&self.kind, &key) {
            (Kind::Metadata(slot), _) => Arc::clone(slot),
            (_, Some((credential, _))) => shared.access_tokens.slot(credential.digest(&[self.endpoint.as_str(), text])),
            (_, None) => return Err(CredentialError::Missing.into()),
        };
        let mut state = slot.0.lock().await;
        let now = shared.clock.monotonic();
        match &*state {
            State::Token { value, obtained, until } if now < *until => {
                return Ok(Shown::Token(value.clone(), Held { obtained: *obtained, slot: Arc::clone(&slot) }));
            }
            State::Failed { error, until } if now < *until => return Err(error.clone().into()),
            _ => {}
        }
        let with = With { egress: &shared.egress, clock: &*shared.clock, reach: self.reach };
        let asked = Box::pin(self.ask(text, with)).await.and_then(|granted| Ok((granted.shown()?, granted.lifetime)));
        match asked {
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

    /// Ask for a token that nobody shows; how long it holds, or `None` where the key is sent as it is.
    pub(super) async fn attempt(
        &self,
        key: &str,
        (egress, clock): (&Egress, &dyn Clock),
    ) -> Result<Option<Duration>, GrantError> {
        if matches!(self.kind, Kind::Google { .. }) && !key.trim_start().starts_with('{') {
            return Ok(None);
        }
        let granted = self.ask(key, With { egress, clock, reach: self.reach }).await?;
        Ok(Some(granted.lifetime))
    }

    /// Ask for a token.
    async fn ask(&self, key: &str, with: With<'_>) -> Result<Granted, GrantError> {
        let body = match &self.kind {
            Kind::Metadata(_) => return self.machines(with).await,
            Kind::Google { told } => match google::means(key, (&self.endpoint, *told), with.clock)? {
                Means::Form(form) => form,
                Means::Federated(external) => {
                    let endpoint = if *told { self.endpoint.clone() } else { external.exchange()? };
                    return external.token((&endpoint, *told), with).await;
                }
            },
            Kind::Entra { client_id, scope } => form(&[
                ("grant_type", "client_credentials"),
                ("client_id", client_id),
                ("client_secret", key),
                ("scope", scope),
            ]),
        };
        let post = FormPost { body, authorization: None };
        let posted = net::post_form(with.egress, &self.endpoint, with.reach, post, LIMITS).await?;
        let body = Secret::new(posted.body);
        if posted.status.is_success() { Issued::read(body.expose()) } else { Err(refused(body.expose())) }
    }

    /// The token of the service account that the machine is.
    async fn machines(&self, with: With<'_>) -> Result<Granted, GrantError> {
        let google = HeaderValue::from_static("Google");
        let headers = HeaderMap::from_iter([(FLAVOUR, google.clone())]);
        let question = Question { headers, json: None };
        let replied = net::query(with.egress, &self.endpoint, with.reach, question, LIMITS).await?;
        if replied.headers.get(FLAVOUR) != Some(&google) {
            return Err(GrantError::Fetch("it is not Google's metadata server".to_owned()));
        }
        match replied.status {
            StatusCode::OK => Issued::read(replied.body.expose()),
            StatusCode::NOT_FOUND => Err(GrantError::Refused("no_service_account".to_owned())),
            status => Err(GrantError::Fetch(format!("the server answered {status}"))),
        }
    }
}

fn form(pairs: &[(&str, &str)]) -> Secret<String> {
    Secret::new(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret<String>, D::Error> {
    String::deserialize(from).map(Secret::new)
}

/// A token (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Issued {
    #[serde(deserialize_with = "secret")]
    access_token: Secret<String>,
    token_type: String,
    expires_in: u64,
}

impl Issued {
    fn read(body: &[u8]) -> Result<Granted, GrantError> {
        let issued: Self = serde_json::from_slice(body).map_err(|_| unusable())?;
        if !issued.token_type.eq_ignore_ascii_case("bearer") || issued.expires_in == 0 {
            return Err(unusable());
        }
        Ok(Granted { token: issued.access_token, lifetime: Duration::from_secs(issued.expires_in.min(LONGEST)) })
    }
}

/// A refusal (RFC 6749 section 5.2): the code only, since the rest may repeat what was sent.
fn refused(body: &[u8]) -> GrantError {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let told: Option<Refusal> = serde_json::from_slice(body).ok();
    let code = told.map_or_else(String::new, |told| told.error);
    GrantError::Refused(code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect())
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
