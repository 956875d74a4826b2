//! Trying the credentials of a cloud without a call that costs anything: what `vouchgate doctor` says of them.

use std::time::Duration;

use base::{Clock, Secret};
use bytes::Bytes;
use config::{Provider, ProviderKind};
use http::header::{self, HeaderMap, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};
use net::{Deadlines, Egress, OutBody, Reach, Target};
use url::Url;

use super::authorize::signer;
use super::credential::Credential;
use super::grant::{Grant, GrantError};
use super::{AWS_KEY_ERRORS, error_type, request};

/// How long AWS has to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A model that nobody has: who asks for it is looked at first.
const NO_MODEL: &str = "/model/vouchgate.none-v1/converse";

/// A provider, with the values of its secrets.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// The provider.
    pub provider: &'a Provider,
    /// Its key, or what its requests are signed with; absent where it has none.
    pub key: Option<&'a Secret<String>>,
    /// What stands in [`Provider::SESSION_TOKEN_FIELD`].
    pub session_token: Option<&'a Secret<String>>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// An access token that holds for so long.
    Token(Duration),
    /// The cloud knows who asks.
    Known,
    /// An API key, which is sent as it is: a call would tell.
    Key,
}

/// Why nobody can call it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    pub todo: &'static str,
    /// Whether it is said that the key is not accepted. Otherwise it is not known.
    pub refused: bool,
}

impl Trouble {
    pub(super) fn new(seen: impl Into<String>, todo: &'static str) -> Self {
        Self { seen: seen.into(), todo, refused: false }
    }

    pub(super) fn refused(self) -> Self {
        Self { refused: true, ..self }
    }
}

/// Try the credentials of a cloud. `None`: its kind has none that can be tried so.
pub async fn try_credentials(trial: Trial<'_>, egress: &Egress, clock: &dyn Clock) -> Option<Result<Tried, Trouble>> {
    let provider = trial.provider;
    if let Some(grant) = Grant::of(provider) {
        let key = trial.key.map_or("", |key| key.expose().as_str());
        let asked = grant.attempt(key, (egress, clock)).await;
        return Some(asked.map(|token| token.map_or(Tried::Key, Tried::Token)).map_err(|error| why(&error)));
    }
    match provider.kind {
        ProviderKind::Bedrock => Some(bedrock(trial, egress, clock).await),
        _ => None,
    }
}

/// The same with what the vault keeps: opened here, and only for the origin it was set for.
pub async fn try_kept(
    provider: &Provider,
    (key, session_token): (&Credential, Option<&Credential>),
    egress: &Egress,
    clock: &dyn Clock,
) -> Option<Result<Tried, Trouble>> {
    let base = provider.base().and_then(|base| Url::parse(&base).ok());
    let origin = base.map(|base| base.origin().ascii_serialization()).unwrap_or_default();
    let open = |credential: &Credential| {
        let todo = "set it again: vouchgate secret set NAME --origin URL";
        let opened = credential.read(&origin).map_err(|error| Trouble::new(error.to_string(), todo))?;
        let text = String::from_utf8(opened.expose().clone());
        text.map(Secret::new).map_err(|_| Trouble::new("a key holds what cannot be sent", todo))
    };
    let opened = open(key).and_then(|key| Ok((key, session_token.map(open).transpose()?)));
    match opened {
        Ok((key, session_token)) => {
            let trial = Trial { provider, key: Some(&key), session_token: session_token.as_ref() };
            try_credentials(trial, egress, clock).await
        }
        Err(trouble) => Some(Err(trouble)),
    }
}

fn why(error: &GrantError) -> Trouble {
    let todo = match error {
        GrantError::Key => "give api_key the whole JSON file, as Google's console or gcloud made it",
        GrantError::Source(_) => "see `external_account` in docs/configuration.md",
        GrantError::Endpoint => "take Google's own key file, or set token_url",
        GrantError::Fetch(_) => "check the network, token_url and allow_private",
        GrantError::Refused(_) => "check that the account, its key or secret and what it may do are still there",
    };
    let trouble = Trouble::new(error.to_string(), todo);
    if matches!(error, GrantError::Refused(_)) { trouble.refused() } else { trouble }
}

/// Ask for a model that nobody has: AWS looks at who asks before it looks at what.
async fn bedrock(trial: Trial<'_>, egress: &Egress, clock: &dyn Clock) -> Result<Tried, Trouble> {
    let provider = trial.provider;
    let wrong = || Trouble::new("it has no address that can be called", "give region, or base_url");
    let base = provider.base().and_then(|base| Url::parse(&base).ok()).ok_or_else(wrong)?;
    let reach = if provider.may_be_private() { Reach::Private } else { Reach::Public };
    let target = Target::new(&base, reach).map_err(|error| Trouble::new(error.to_string(), wrong().todo))?;
    let path = format!("{}{NO_MODEL}", base.path().trim_end_matches('/'));
    let path = PathAndQuery::try_from(path).map_err(|_| wrong())?;
    let odd = || Trouble::new("a key holds what cannot be sent", "set it again, without spaces and line ends");
    let shown = |prefix: &str, secret: &Secret<String>| {
        let text = Secret::new(format!("{prefix}{}", secret.expose()));
        let mut value = HeaderValue::from_str(text.expose()).map_err(|_| odd())?;
        value.set_sensitive(true);
        Ok(value)
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(token) = trial.session_token {
        headers.insert(HeaderName::from_static(Provider::SESSION_TOKEN_FIELD), shown("", token)?);
    }
    let Some(key) = trial.key else {
        return Err(Trouble::new("it has no key", "give api_key, or access_key_id and secret_access_key"));
    };
    let mut request = request(Method::POST, &path, headers, Bytes::from_static(b"{\"messages\":[]}"));
    let origin = base.origin().ascii_serialization();
    let value = match signer(provider, &origin) {
        Some(signer) => signer.sign(key.expose().as_bytes(), &origin, &mut request, clock.now()).ok_or_else(odd)?,
        None => shown("Bearer ", key)?,
    };
    request.headers_mut().insert(header::AUTHORIZATION, value);
    let deadlines = Deadlines { connect: PATIENCE, tls: PATIENCE, first_byte: PATIENCE, idle: PATIENCE };
    let asked = tokio::time::timeout(PATIENCE, egress.send(&target, request.map(OutBody::from), &deadlines)).await;
    let unreachable = |why: String| Trouble::new(why, "check the network, region and base_url");
    let response = asked
        .map_err(|_| unreachable("it does not answer in time".to_owned()))?
        .map_err(|error| unreachable(error.to_string()))?;
    let status = response.status();
    let kind = error_type(response.headers()).unwrap_or_default().to_owned();
    let refused = matches!(status, StatusCode::UNAUTHORIZED) || AWS_KEY_ERRORS.contains(&kind.as_str());
    if refused {
        let todo = match kind.as_str() {
            "ExpiredTokenException" => "its temporary credentials have ended: set the three anew",
            "InvalidSignatureException" | "SignatureDoesNotMatch" => {
                "check secret_access_key, region and this machine's clock"
            }
            _ => "check access_key_id, secret_access_key or api_key, and whether AWS still has them",
        };
        return Err(Trouble::new(format!("AWS refuses the credentials: {status} {kind}"), todo).refused());
    }
    if status == StatusCode::FORBIDDEN {
        let todo = "allow bedrock:InvokeModel for whoever has this key, unless only some models are meant";
        return Err(Trouble::new(format!("AWS knows who asks, and does not let them call models: {kind}"), todo));
    }
    if status.is_server_error() {
        return Err(unreachable(format!("AWS answers {status}")));
    }
    Ok(Tried::Known)
}
