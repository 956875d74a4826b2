//! How a finished request shows the key it is made with. Which key that is has been decided before.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request};

use super::grant::{Grant, Held, Shown};
use super::{Credential, CredentialError, Signer, UpstreamError};
use config::{ProviderDialect, ProviderKind};

use crate::Shared;
use crate::recorded::Recorded;
use crate::snapshot::{Field, Provider};

/// Google's field for an API key.
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// How a provider takes its key.
#[derive(Debug, Clone)]
pub(crate) enum Scheme {
    /// `Authorization: Bearer KEY` (RFC 6750 section 2.1).
    Bearer,
    /// The key alone, in a field of the provider's own.
    Field(HeaderName),
    /// `Authorization: Bearer TOKEN`, with an access token that is asked for with the key; an API key in Google's field.
    Token(Arc<Grant>),
    /// Not at all: the request is signed with it.
    Signature(Signer),
}

impl Scheme {
    /// What `provider` expects of a request to `path`.
    pub(crate) fn of(provider: &Provider, path: &PathAndQuery) -> Self {
        if let Some(grant) = &provider.grant {
            return Self::Token(Arc::clone(grant));
        }
        if let Some(signer) = &provider.signer {
            return Self::Signature(signer.clone());
        }
        match provider.kind {
            ProviderKind::Azure => return Self::Field(HeaderName::from_static("api-key")),
            ProviderKind::Portkey => return Self::Field(HeaderName::from_static("x-portkey-api-key")),
            // The key as it is, without a scheme before it.
            ProviderKind::ApiPark => return Self::Field(header::AUTHORIZATION),
            _ => {}
        }
        match provider.dialect {
            // Google's OpenAI-compatible surface takes the key as OpenAI does.
            ProviderDialect::Gemini if path.path().contains("/openai/") => Self::Bearer,
            ProviderDialect::Gemini => Self::Field(GOOGLE_KEY),
            ProviderDialect::Anthropic => Self::Field(HeaderName::from_static("x-api-key")),
            ProviderDialect::OpenAi | ProviderDialect::Cohere | ProviderDialect::Bedrock => Self::Bearer,
        }
    }
}

/// Who signs requests of `provider` to `origin`, if they are signed: the service in a signature is that of the endpoint.
pub(crate) fn signer(provider: &config::Provider, origin: &str) -> Option<Signer> {
    let (id, region) = (provider.access_key_id.as_ref()?, provider.region.as_ref()?);
    let service = if origin.starts_with("https://bedrock-mantle.") { "bedrock-mantle" } else { "bedrock" };
    Some(Signer { access_key_id: id.to_string(), region: region.to_string(), service: service.to_owned() })
}

/// Set the fields that are configured for every request to `provider`.
pub(crate) fn set_fields(
    _recorded: Recorded,
    provider: &Provider,
    headers: &mut HeaderMap,
) -> Result<(), CredentialError> {
    for (name, value) in &provider.fields {
        let value = match value {
            Field::Text(text) => text.clone(),
            Field::Secret(secret) => secret.open(&provider.origin, "")?,
        };
        headers.insert(name.clone(), value);
    }
    Ok(())
}

/// Put what `credential` proves into a request to `origin` that is otherwise as it will be sent: method, path, fields and
/// body are final, since some schemes sign them. A machine's own identity needs no `credential`. Nothing stands between opening the key and sending it. Returns the access
/// token that was used, if it was one.
pub(crate) async fn authorize(
    (scheme, _recorded): (&Scheme, Recorded),
    credential: Option<&Credential>,
    origin: &str,
    request: &mut Request<Bytes>,
    shared: &Shared,
) -> Result<Option<Held>, UpstreamError> {
    let mut held = None;
    let key = || credential.ok_or(CredentialError::Missing);
    let (name, value): (HeaderName, HeaderValue) = match scheme {
        Scheme::Bearer => (header::AUTHORIZATION, key()?.open(origin, "Bearer ")?),
        Scheme::Field(name) => (name.clone(), key()?.open(origin, "")?),
        Scheme::Token(grant) => match grant.show(credential, origin, shared).await? {
            Shown::Token(value, token) => {
                held = Some(token);
                (header::AUTHORIZATION, value)
            }
            Shown::Key => (GOOGLE_KEY, key()?.open(origin, "")?),
        },
        Scheme::Signature(signer) => {
            let secret = key()?.read(origin)?;
            let value = signer.sign(secret.expose(), origin, request, shared.clock.now());
            (header::AUTHORIZATION, value.ok_or(CredentialError::Characters)?)
        }
    };
    request.headers_mut().insert(name, value);
    Ok(held)
}
