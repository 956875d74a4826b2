//! Calling a provider: only for a permitted and admitted request, with its own key, and with nothing of the caller's but
//! what is asked.

mod authorize;
mod credential;
pub(crate) mod echo;
mod grant;
pub(crate) mod placeholder;
mod probe;
mod refused;
mod spelling;
mod trial;
mod values;

use std::time::Duration;

use audit::AppendError;
use base::Problem;
use bytes::Bytes;
use config::ProviderDialect;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use llm::Framing;
use net::{BodyError, Deadlines, EgressError, OutBody, Target, UpstreamBody};

pub(crate) use self::authorize::signer;
pub use self::credential::{Credential, CredentialError};
pub use self::placeholder::{RuntimeSecret, RuntimeValue};
pub use self::probe::{Probed, probe_key};
pub use self::trial::{Trial, Tried, Trouble, try_credentials, try_kept};
pub use self::values::KeyValues;
pub(crate) use net::sigv4::Signer;

use self::authorize::Scheme;
use self::grant::GrantError;
pub(crate) use self::grant::{AccessTokens, Grant};
pub(crate) use self::refused::said as key_refused;

use crate::Reservation;
use crate::admit::AdmitError;
use crate::budget::BudgetError;
use crate::health::{NoPlace, Pass, Refused, Scope, Why};
use crate::metrics::Label;
use crate::recorded::{self, Recorded};
use crate::settle::Leg;
use crate::snapshot::{Inject, Provider};

/// The version of Anthropic's API that is asked for when the caller names none.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("vouchgate/", env!("CARGO_PKG_VERSION")));

/// Fields of a caller that change what a provider does and may be passed on, by what the provider speaks.
/// (`Idempotency-Key` is not among them: behind one provider key, one caller's could answer to another's.)
static PASSED_OPENAI: [HeaderName; 1] = [HeaderName::from_static("openai-beta")];
static PASSED_ANTHROPIC: [HeaderName; 2] =
    [HeaderName::from_static("anthropic-version"), HeaderName::from_static("anthropic-beta")];
static PASSED_ANTHROPIC_BETA: [HeaderName; 1] = [HeaderName::from_static("anthropic-beta")];
/// Google's protocol for uploads (ai.google.dev/api/files).
static PASSED_UPLOAD: [HeaderName; 6] = [
    HeaderName::from_static("x-goog-upload-protocol"),
    HeaderName::from_static("x-goog-upload-command"),
    HeaderName::from_static("x-goog-upload-offset"),
    HeaderName::from_static("x-goog-upload-header-content-length"),
    HeaderName::from_static("x-goog-upload-header-content-type"),
    HeaderName::from_static("x-goog-upload-file-name"),
];
static PASSED_BEDROCK: [HeaderName; 6] = [
    HeaderName::from_static("x-amzn-bedrock-accept"),
    HeaderName::from_static("x-amzn-bedrock-trace"),
    HeaderName::from_static("x-amzn-bedrock-guardrailidentifier"),
    HeaderName::from_static("x-amzn-bedrock-guardrailversion"),
    HeaderName::from_static("x-amzn-bedrock-performanceconfig-latency"),
    HeaderName::from_static("x-amzn-bedrock-service-tier"),
];
/// What of Bedrock's answers AWS's SDKs look for: the error, the type of what is streamed, and the counts of tokens.
static RETURNED_BEDROCK: [HeaderName; 10] = [
    HeaderName::from_static("x-amzn-requestid"),
    HeaderName::from_static("x-amzn-errortype"),
    HeaderName::from_static("x-amzn-bedrock-content-type"),
    HeaderName::from_static("x-amzn-bedrock-invocation-latency"),
    HeaderName::from_static("x-amzn-bedrock-input-token-count"),
    HeaderName::from_static("x-amzn-bedrock-output-token-count"),
    HeaderName::from_static("x-amzn-bedrock-cache-read-input-token-count"),
    HeaderName::from_static("x-amzn-bedrock-cache-write-input-token-count"),
    HeaderName::from_static("x-amzn-bedrock-performanceconfig-latency"),
    HeaderName::from_static("x-amzn-bedrock-service-tier"),
];
/// What AWS calls a key or a signature that it does not accept (docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html).
const AWS_KEY_ERRORS: [&str; 9] = [
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "MissingAuthenticationTokenException",
    "ExpiredTokenException",
    "RequestExpired",
];
/// Fields of a provider's answer that mean something to the caller. Its rate limits and organisation are the operator's.
const RETURNED: [&str; 7] = [
    "content-type",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "openai-version",
    "openai-model",
];

/// Why there is no answer to pass on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No response.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// A response that broke off.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// An error status that lets another target try.
    #[error("the answer has status {0}")]
    Status(StatusCode),
    /// A response larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// A compressed response, which nobody asked for.
    #[error("the answer is compressed")]
    Encoding,
    /// A redirect: never followed.
    #[error("the answer is a redirect")]
    Redirect,
    /// The provider does not accept our key: the operator's affair, and its text may show part of the key.
    #[error("the provider refuses the configured key")]
    Key,
    /// The key cannot be used.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// There is no access token to be had with the key.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// A response that cannot be read as what was asked for.
    #[error(transparent)]
    Response(#[from] llm::ResponseError),
    /// No target may be asked now.
    #[error("no target may be asked now: {}", .0.why.as_str())]
    Unavailable(Refused),
    /// The caller has been kept waiting for as long as it may be.
    #[error("no answer within the time allowed for the whole request")]
    Total,
    /// A stream that failed before it said anything, or an error in place of an answer.
    #[error("the answer is an error from its beginning")]
    Begun,
    /// Too many calls are under way at this provider, and nobody may wait, or not for longer.
    #[error("no place among the calls to this provider")]
    NoPlace(NoPlace),
    /// Nothing can be written into the audit log, so that nothing may be asked.
    #[error(transparent)]
    Audit(#[from] AppendError),
    /// There is nothing to pay the call from.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// A limit per provider of the caller's policy is reached.
    #[error(transparent)]
    Limited(#[from] AdmitError),
    /// An attempt took longer than it may.
    #[error("no answer within the time allowed for one attempt")]
    AttemptTotal,
    /// Not a stream although one was asked for, or the other way round.
    #[error("the answer is of another kind than was asked for")]
    Kind,
}

impl UpstreamError {
    /// A stable code: the error body's and the metric's.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Egress(error) => error.reason(),
            Self::Body(error) => error.reason(),
            Self::Status(_) => "provider_error",
            Self::Budget(error) => error.reason(),
            Self::Limited(error) => error.reason(),
            Self::TooLarge(_) => "upstream_too_large",
            Self::Encoding => "upstream_encoding",
            Self::Redirect => "upstream_redirect",
            Self::Key | Self::Unavailable(Refused { why: Why::KeyRefused, .. }) => "provider_key_refused",
            Self::Credential(error) => error.reason(),
            Self::Grant(error) => error.reason(),
            Self::Response(error) => error.reason(),
            Self::Kind => "upstream_invalid_stream",
            Self::Unavailable(Refused { why: Why::Quota, .. }) => "provider_quota_exhausted",
            Self::Unavailable(Refused { why: Why::Open, .. }) => "provider_unavailable",
            Self::Begun => "upstream_error_answer",
            Self::NoPlace(NoPlace::Full) => "provider_queue_full",
            Self::NoPlace(NoPlace::Late) => "provider_queue_timeout",
            Self::Audit(_) => recorded::UNAVAILABLE,
            Self::AttemptTotal => "attempt_timeout",
            Self::Total => "request_timeout",
        }
    }

    /// Whether another target may do better.
    pub(crate) const fn retryable(&self) -> bool {
        match self {
            Self::Egress(error) => error.retryable(),
            Self::Body(_)
            | Self::Status(_)
            | Self::TooLarge(_)
            | Self::Encoding
            | Self::Redirect
            | Self::Response(_)
            | Self::Kind
            | Self::Key
            | Self::Grant(_)
            | Self::AttemptTotal
            | Self::Begun
            | Self::NoPlace(_)
            | Self::Limited(_)
            | Self::Credential(_) => true,
            Self::Budget(error) => error.is_of_target(),
            Self::Unavailable(_) | Self::Total | Self::Audit(_) => false,
        }
    }

    /// Whether the provider may have done what was asked although there is no answer: asking again would do it twice.
    pub(crate) fn may_have_been_done(&self) -> bool {
        match self {
            Self::Egress(error) => !error.unsent(),
            Self::Status(status) => gave_up(*status),
            Self::Unavailable(_)
            | Self::Audit(_)
            | Self::Budget(_)
            | Self::Limited(_)
            | Self::NoPlace(_)
            | Self::Key
            | Self::Credential(_)
            | Self::Grant(_)
            | Self::Redirect => false,
            Self::Total
            | Self::AttemptTotal
            | Self::Begun
            | Self::Body(_)
            | Self::TooLarge(_)
            | Self::Encoding
            | Self::Response(_)
            | Self::Kind => true,
        }
    }

    /// Whether the provider failed, as opposed to us or the caller.
    pub(crate) const fn is_providers(&self) -> bool {
        match self {
            Self::Egress(error) => matches!(error.who(), base::Who::Provider),
            Self::Grant(error) => error.passes(),
            Self::Key
            | Self::Credential(_)
            | Self::Unavailable(_)
            | Self::NoPlace(_)
            | Self::Audit(_)
            | Self::Limited(_)
            | Self::Budget(_) => false,
            Self::Total
            | Self::AttemptTotal
            | Self::Begun
            | Self::Body(_)
            | Self::Status(_)
            | Self::TooLarge(_)
            | Self::Encoding
            | Self::Redirect
            | Self::Response(_)
            | Self::Kind => true,
        }
    }

    /// Whether the same provider would give no better answer a moment later.
    pub(crate) const fn is_lasting(&self) -> bool {
        match self {
            Self::Egress(_) | Self::Body(_) | Self::Status(_) | Self::Begun | Self::NoPlace(_) | Self::AttemptTotal => {
                false
            }
            Self::Grant(error) => !error.passes(),
            _ => true,
        }
    }

    /// What the caller is told: neither addresses nor keys.
    pub(crate) fn problem(&self) -> Problem {
        let bad = StatusCode::BAD_GATEWAY;
        match self {
            Self::Egress(EgressError::Busy) => {
                Problem::provider(StatusCode::SERVICE_UNAVAILABLE, self.reason(), "The provider takes no requests now.")
            }
            Self::Egress(error) if error.timed_out() => {
                Problem::provider(StatusCode::GATEWAY_TIMEOUT, self.reason(), "The provider did not answer in time.")
            }
            Self::Body(BodyError::Idle) => {
                Problem::provider(StatusCode::GATEWAY_TIMEOUT, self.reason(), "The provider stopped answering.")
            }
            Self::Status(status) => Problem::provider(*status, self.reason(), "The provider answered with an error."),
            Self::Egress(_) => Problem::provider(bad, self.reason(), "The provider cannot be reached."),
            Self::Body(_) => Problem::provider(bad, self.reason(), "The provider's answer broke off."),
            Self::Unavailable(Refused { why: Why::Quota, wait }) => {
                let message = "The provider's limits are reached.";
                Problem::provider(StatusCode::TOO_MANY_REQUESTS, self.reason(), message)
                    .retry_after(Duration::from_millis(*wait))
            }
            Self::Unavailable(Refused { why: Why::Open, wait }) => {
                let message = "The provider has been failing and is left alone for a while.";
                Problem::provider(StatusCode::SERVICE_UNAVAILABLE, self.reason(), message)
                    .retry_after(Duration::from_millis(*wait))
            }
            Self::NoPlace(_) => {
                let message = "Too many requests are under way at the provider.";
                Problem::provider(StatusCode::SERVICE_UNAVAILABLE, self.reason(), message)
                    .retry_after(Duration::from_secs(1))
            }
            Self::Audit(_) => recorded::problem(),
            Self::Budget(error) => error.problem(),
            Self::Limited(error) => error.problem(),
            Self::Begun => Problem::provider(bad, self.reason(), "The provider answered with an error."),
            Self::Total | Self::AttemptTotal => {
                Problem::provider(StatusCode::GATEWAY_TIMEOUT, self.reason(), "No provider answered in time.")
            }
            Self::Key | Self::Unavailable(_) => {
                final_word(bad, self.reason(), "The provider refuses this gateway's key; tell its operator.")
            }
            Self::Credential(error) => {
                // Until somebody sets the key again this one is out of service, and only this one.
                let unset = matches!(error, CredentialError::Origin | CredentialError::Missing);
                let status = if unset { StatusCode::SERVICE_UNAVAILABLE } else { bad };
                final_word(status, self.reason(), "This gateway's key cannot be used; tell its operator.")
            }
            Self::Grant(error) if error.passes() => {
                Problem::provider(bad, self.reason(), "The provider's access tokens cannot be had.")
            }
            Self::Grant(_) => final_word(bad, self.reason(), "This gateway's key cannot be used; tell its operator."),
            Self::TooLarge(_) | Self::Encoding | Self::Redirect | Self::Response(_) | Self::Kind => {
                Problem::provider(bad, self.reason(), "The provider's answer cannot be used.")
            }
        }
    }
}

/// Whether with this status something in between gave up waiting for whoever does the work.
pub(crate) fn gave_up(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
}

/// Trying again does not help: an operator has to do something.
fn final_word(status: StatusCode, code: &'static str, message: &'static str) -> Problem {
    Problem { retryable: false, ..Problem::us(status, code, message) }
}

/// One call to be made.
pub(crate) struct Call<'a> {
    pub(crate) target: &'a Target,
    pub(crate) label: &'a Label,
    pub(crate) deadlines: Deadlines,
    pub(crate) request: Request<OutBody>,
    /// The protocol to be spoken from then on, where it is not HTTP.
    pub(crate) upgrade: Option<&'static str>,
}

/// Make the call. The reservation shows that the request was permitted and admitted, and is held until the answer's end.
pub(crate) async fn send(
    reservation: &Reservation,
    leg: &mut Leg,
    call: Call<'_>,
) -> Result<Response<UpstreamBody>, UpstreamError> {
    leg.put_in(reservation).await?;
    leg.sends();
    let shared = std::sync::Arc::clone(leg.shared());
    let begun = shared.clock.monotonic();
    let sent = match call.upgrade {
        None => shared.egress.send(call.target, call.request, &call.deadlines).await,
        // Boxed, as is whatever else is seldom and large: a request is as large as the largest of what it may wait for.
        Some(protocol) => Box::pin(shared.egress.upgrade(call.target, call.request, protocol, &call.deadlines)).await,
    };
    let took = shared.clock.monotonic().saturating_duration_since(begun);
    let result = match &sent {
        Ok(response) => class(response.status()),
        Err(error) => error.reason(),
    };
    leg.attempted(call.label, result, took);
    let free = match &sent {
        // What a provider refuses or fails to do it does not charge.
        Ok(response) => !(response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS),
        Err(error) => error.unsent(),
    };
    if free {
        leg.cost_nothing();
    }
    Ok(sent?)
}

/// A status as a metric label.
fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        429 => "rate_limited",
        101 | 200..=299 => "ok",
        300..=399 => "redirect",
        400..=499 => "client_error",
        _ => "server_error",
    }
}

/// A request to be made to a provider.
pub(crate) struct Asking<'a> {
    pub(crate) provider: &'a Provider,
    /// Leave to make it, with one of the provider's keys.
    pub(crate) pass: Pass,
    /// Whether somebody looks at a successful answer and tells the pass what it is worth. Otherwise one that begins is good.
    pub(crate) judged: bool,
    pub(crate) deadlines: Deadlines,
    pub(crate) method: Method,
    pub(crate) path: &'a PathAndQuery,
    /// The caller's fields, of which the few that may pass are sent along.
    pub(crate) caller: &'a HeaderMap,
    pub(crate) content: Content,
}

/// Ask a provider, with its key; where it refuses the key and there is another value of it, once more with that. The
/// reservation shows that the request was permitted and admitted, and is held until the answer's end.
pub(crate) async fn ask(
    reservation: &Reservation,
    leg: &mut Leg,
    asking: Asking<'_>,
) -> Result<Response<UpstreamBody>, UpstreamError> {
    let (provider, pass, path) = (asking.provider, &asking.pass, asking.path);
    // Paid for before it is recorded, and recorded before a key is opened.
    leg.with_key(provider.keys.told_apart(pass));
    leg.asks(reservation, provider.name.as_str()).await?;
    leg.put_in(reservation).await?;
    let recorded = leg.recorded(&provider.label).await?;
    let mut request = asking.request(recorded)?;
    pass.enter().await.map_err(UpstreamError::NoPlace)?;
    let call = |request: Request<Bytes>| {
        let upgrade = asking.content.websocket.is_some().then_some("websocket");
        let request = request.map(OutBody::from);
        Call { target: &provider.target, label: &provider.label, deadlines: asking.deadlines, request, upgrade }
    };
    let (mut slot, mut again) = (std::sync::Arc::clone(pass.slot()), true);
    loop {
        let sent = match slot.credential.as_ref() {
            key if key.is_some() || provider.grant.is_some() => {
                let scheme = Scheme::of(provider, path);
                let shown = (&scheme, key, provider.origin.as_str());
                send_shown(reservation, leg, (shown, recorded), (request, &call)).await
            }
            _ => send(reservation, leg, call(request)).await,
        };
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                if error.is_providers() {
                    pass.failed(Scope::Provider);
                }
                return Err(error);
            }
        };
        let first = beginning(pass, &mut response).await?;
        let (status, headers) = (response.status(), response.headers());
        if refused::by_head(status, headers) || refused::by_body(status, &first) {
            let instead = pass.other_slot(&slot, &provider.origin).filter(|_| std::mem::take(&mut again));
            pass.refused(&slot, instead.as_deref());
            if let Some(instead) = instead {
                slot = instead;
                request = asking.request(recorded)?;
                continue;
            }
        } else {
            pass.head(&slot, status, (headers, &first));
        }
        seen(pass, asking.judged, &mut response);
        return Ok(response);
    }
}

impl Asking<'_> {
    /// The request, but for the key.
    fn request(&self, recorded: Recorded) -> Result<Request<Bytes>, UpstreamError> {
        let mut headers = provider_headers((self.provider, self.path), self.caller, &self.content);
        if let Some(handshake) = &self.content.websocket {
            headers.extend(handshake.clone());
        }
        let mut request = request(self.method.clone(), self.path, headers, self.content.body.clone());
        authorize::set_fields(recorded, self.provider, request.headers_mut())?;
        Ok(request)
    }
}

/// Send a request that shows a key; where what is shown is an access token that the provider refuses, once more with another.
async fn send_shown<'a>(
    reservation: &Reservation,
    leg: &mut Leg,
    ((scheme, key, origin), recorded): ((&Scheme, Option<&Credential>, &str), Recorded),
    (mut request, call): (Request<Bytes>, &(impl Fn(Request<Bytes>) -> Call<'a> + Sync)),
) -> Result<Response<UpstreamBody>, UpstreamError> {
    let bare = matches!(scheme, Scheme::Token(_)).then(|| request.clone());
    let held = authorize::authorize((scheme, recorded), key, origin, &mut request, leg.shared()).await?;
    let response = send(reservation, leg, call(request)).await?;
    let (Some(mut again), Some(held), StatusCode::UNAUTHORIZED) = (bare, held, response.status()) else {
        return Ok(response);
    };
    // It may have been revoked before its end.
    let shared = std::sync::Arc::clone(leg.shared());
    if !held.forget(&shared).await {
        return Ok(response);
    }
    authorize::authorize((scheme, recorded), key, origin, &mut again, &shared).await?;
    send(reservation, leg, call(again)).await
}

/// The first piece of an error: what it says of the key and its quota is in its body. Nothing of an answer that is none.
async fn beginning(pass: &Pass, response: &mut Response<UpstreamBody>) -> Result<Bytes, UpstreamError> {
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Bytes::new());
    }
    match response.body_mut().ahead().await {
        Ok(first) => Ok(first.cloned().unwrap_or_default()),
        Err(error) => {
            pass.failed(Scope::Provider);
            Err(error.into())
        }
    }
}

/// Tell the pass what the status of an answer shows.
fn seen(pass: &Pass, judged: bool, response: &mut Response<UpstreamBody>) {
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        response.body_mut().watched(pass.watch(!judged));
    } else if status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED {
        pass.alive();
    } else {
        pass.failed(Scope::Provider);
    }
}

/// The fields of a request to a provider but for its key: its version, and of the caller's the few that may pass.
fn provider_headers((provider, path): (&Provider, &PathAndQuery), caller: &HeaderMap, content: &Content) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    let passed = match provider.dialect {
        ProviderDialect::OpenAi => PASSED_OPENAI.as_slice(),
        ProviderDialect::Anthropic => {
            headers.insert(HeaderName::from_static("anthropic-version"), ANTHROPIC_VERSION);
            PASSED_ANTHROPIC.as_slice()
        }
        // Where Google has Anthropic's models.
        ProviderDialect::Gemini if path.path().contains("/publishers/anthropic/") => PASSED_ANTHROPIC_BETA.as_slice(),
        ProviderDialect::Gemini if path.path().contains("/upload/") => PASSED_UPLOAD.as_slice(),
        ProviderDialect::Gemini | ProviderDialect::Cohere => &[],
        ProviderDialect::Bedrock if path.path().contains("/anthropic/v1/") => {
            headers.insert(HeaderName::from_static("anthropic-version"), ANTHROPIC_VERSION);
            PASSED_ANTHROPIC.as_slice()
        }
        ProviderDialect::Bedrock => PASSED_BEDROCK.as_slice(),
    };
    for name in passed {
        for (at, value) in caller.get_all(name).iter().enumerate() {
            if at == 0 {
                headers.insert(name, value.clone());
            } else {
                headers.append(name, value.clone());
            }
        }
    }
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::ACCEPT, content.accept.clone());
    headers.insert(header::ACCEPT_ENCODING, IDENTITY);
    if let Some(kind) = &content.kind {
        headers.insert(header::CONTENT_TYPE, kind.clone());
    }
    headers
}

/// What a request carries and what it asks for.
pub(crate) struct Content {
    pub(crate) body: Bytes,
    pub(crate) kind: Option<HeaderValue>,
    pub(crate) accept: HeaderValue,
    /// The fields that ask for a WebSocket, where that is what is wanted.
    pub(crate) websocket: Option<HeaderMap>,
}

impl Content {
    /// Nothing, to be answered by a WebSocket: `handshake` are the fields that ask for one (RFC 6455 section 4.1).
    pub(crate) fn websocket(handshake: HeaderMap) -> Self {
        Self { body: Bytes::new(), kind: None, accept: HeaderValue::from_static("*/*"), websocket: Some(handshake) }
    }

    /// The method that goes with it.
    pub(crate) fn method(&self) -> Method {
        if self.websocket.is_some() { Method::GET } else { Method::POST }
    }

    /// JSON, to be answered by JSON or by a stream.
    pub(crate) fn json(body: Bytes, stream: Option<Framing>) -> Self {
        let accept = stream.map_or(JSON, |framing| HeaderValue::from_static(framing.media_type()));
        Self { body, kind: Some(JSON), accept, websocket: None }
    }
}

/// A request to a reverse-proxied API: the caller's fields as far as they may travel, and the injected value.
pub(crate) fn proxied_request(
    (inject, _recorded): (Option<(&Inject, &Credential)>, Recorded),
    origin: &str,
    (method, path): (Method, &PathAndQuery),
    (mut headers, body): (HeaderMap, Bytes),
) -> Result<Request<OutBody>, CredentialError> {
    if let Some((inject, value)) = inject {
        headers.insert(inject.header.clone(), value.open(origin, &inject.prefix)?);
    }
    Ok(request(method, path, headers, body).map(OutBody::from))
}

fn request(method: Method, path: &PathAndQuery, headers: HeaderMap, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path.clone());
    *request.headers_mut() = headers;
    request
}

/// Refuse what must not be passed on of a provider's answer, before its body is looked at.
pub(crate) fn check_head(response: &Response<UpstreamBody>) -> Result<(), UpstreamError> {
    let status = response.status();
    let switched = status == StatusCode::SWITCHING_PROTOCOLS && response.body().is_tunnel();
    if status.is_redirection() || (status.is_informational() && !switched) {
        return Err(UpstreamError::Redirect);
    }
    if refused::by_head(status, response.headers()) { Err(UpstreamError::Key) } else { Ok(()) }
}

/// What AWS calls an error: `ValidationException` of `ValidationException:http://internal.amazon.com/coral/..`.
pub(crate) fn error_type(headers: &HeaderMap) -> Option<&str> {
    const KIND: HeaderName = HeaderName::from_static("x-amzn-errortype");
    headers.get(KIND)?.to_str().ok()?.split(':').next().filter(|kind| !kind.is_empty())
}

/// The fields of Bedrock's answers that reach whoever calls its own API.
pub(crate) fn returned_by_bedrock(headers: &HeaderMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
    RETURNED_BEDROCK.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone())))
}

/// Whether an error of a provider repeats a key it may have been sent: such a text is the operator's to see, nobody else's.
pub(crate) fn repeats_key(provider: &Provider, error: &[u8]) -> bool {
    provider.secrets().any(|secret| secret.is_repeated_in(error))
}

/// Whether an answer is compressed, so that nothing can be seen of it.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// How an answer is framed, where it is a stream.
pub(crate) fn framing(headers: &HeaderMap) -> Option<Framing> {
    let essence = headers.get(header::CONTENT_TYPE)?.as_bytes().split(|b| *b == b';').next()?;
    Framing::of_media_type(essence.trim_ascii())
}

/// Whether an answer is an event stream as browsers know it. Other framings are streams only where one was asked for: files
/// come in them too.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    framing(headers) == Some(Framing::Sse)
}

/// The fields of a provider's answer that reach the caller.
pub(crate) fn returned(headers: &HeaderMap) -> HeaderMap {
    // Room for what this gateway says beside.
    let mut kept = HeaderMap::with_capacity(20);
    for (name, value) in headers {
        if RETURNED.contains(&name.as_str()) {
            kept.entry(name).or_insert_with(|| value.clone());
        }
    }
    kept
}

/// The first piece of an answer; `None` if it has none.
pub(crate) async fn first_piece(body: &mut UpstreamBody) -> Result<Option<Bytes>, UpstreamError> {
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if !data.is_empty() => return Ok(Some(data)),
            _ => {}
        }
    }
    Ok(None)
}

/// Whether a body begins as a stream of this framing does and a JSON document never.
pub(crate) fn begins_events(framing: Framing, first: &Bytes) -> bool {
    framing == Framing::Sse && [b"data:".as_slice(), b"event:", b": "].iter().any(|start| first.starts_with(start))
}

/// Read an answer whole, of which the `first` piece may have been read already; without copying when it came in one.
pub(crate) async fn read(first: Option<Bytes>, mut body: UpstreamBody, limit: usize) -> Result<Bytes, UpstreamError> {
    let first = match first {
        Some(first) => first,
        None => first_piece(&mut body).await?.unwrap_or_default(),
    };
    let Some(second) = first_piece(&mut body).await? else {
        return if first.len() > limit { Err(UpstreamError::TooLarge(limit)) } else { Ok(first) };
    };
    let mut buffer = base::LimitedBuffer::new(limit);
    let mut fits = buffer.push(&first) && buffer.push(&second);
    while fits && let Some(piece) = first_piece(&mut body).await? {
        fits = buffer.push(&piece);
    }
    if fits { Ok(Bytes::from(buffer.into_vec())) } else { Err(UpstreamError::TooLarge(limit)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_means_something_to_the_caller_is_returned() {
        let mut headers = HeaderMap::new();
        for name in ["content-type", "openai-organization", "x-ratelimit-remaining-tokens", "set-cookie", "retry-after"]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        let mut names: Vec<String> = returned(&headers).keys().map(ToString::to_string).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "retry-after"]);
    }

    #[test]
    fn an_event_stream_is_known_by_its_type() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
            is_event_stream(&headers)
        };
        assert!(of("text/event-stream") && of("text/event-stream;charset=UTF-8") && of("Text/Event-Stream ; x=y"));
        assert!(!of("application/json") && !of("text/event-streams"));
    }

    #[test]
    fn what_the_caller_is_told_names_neither_host_nor_address() {
        let error = UpstreamError::Egress(EgressError::Connect {
            host: "internal.example".to_owned(),
            kind: std::io::ErrorKind::ConnectionRefused,
        });
        let problem = error.problem();
        assert_eq!((problem.status, problem.code), (StatusCode::BAD_GATEWAY, "connect_failed"));
        assert!(!problem.message.contains("internal"));
        let slow = UpstreamError::Egress(EgressError::FirstByteTimeout).problem();
        assert_eq!(slow.status, StatusCode::GATEWAY_TIMEOUT);
    }
}
