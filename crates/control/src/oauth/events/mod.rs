//! `POST /oauth/events`: security events of others, pushed to us (RFC 8935, Shared Signals Framework 1.0). A session that
//! ended there ends here.

mod act;
#[cfg(test)]
mod tests;
mod transmitters;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base::Timestamp;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use proof::secevent::{ExpectedSet, MAX_SET_LEN, SecurityEventToken, Set, SetError, verify_set};
use serde_json::json;
use store::OneTime;

use self::transmitters::{Known, Transmitters};
use super::request::{BodyError, Visit, collect, unavailable};
use super::{AttemptLimits, Attempts, Oauth, OauthError};
use crate::ClientAddress;

/// A token that comes again within this time is known; one that is older when it comes speaks of its own moment only.
const REMEMBERED: Duration = Duration::from_hours(7 * 24);

/// How often a transmitter whose keys cannot be had should try again.
const RETRY: Duration = Duration::from_secs(30);

/// What was heard, for the metrics.
#[derive(Debug, Default)]
pub struct EventCounts {
    acted: AtomicU64,
    nothing: AtomicU64,
    verifications: AtomicU64,
    repeated: AtomicU64,
    refused: AtomicU64,
}

impl EventCounts {
    /// How many tokens there were, by outcome: `acted` on; `nothing` to be done; `verification` of the stream; `repeated`;
    /// `refused`.
    pub fn by_outcome(&self) -> [(&'static str, u64); 5] {
        [
            ("acted", &self.acted),
            ("nothing", &self.nothing),
            ("verification", &self.verifications),
            ("repeated", &self.repeated),
            ("refused", &self.refused),
        ]
        .map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
    }
}

/// What hears events.
#[derive(Debug)]
pub(super) struct Ears {
    transmitters: Transmitters,
    attempts: Attempts,
}

impl Ears {
    /// Nothing heard yet.
    pub(super) fn new(limits: AttemptLimits) -> Self {
        Self { transmitters: Transmitters::default(), attempts: Attempts::new(limits) }
    }
}

/// Why a token is refused: the transmitter is told (RFC 8935 section 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Set(#[from] SetError),
    #[error("{0}")]
    Request(&'static str),
    #[error("the transmitter did not say what it has to in Authorization")]
    Authentication,
}

impl Refused {
    const fn err(self) -> &'static str {
        match self {
            Self::Set(error) => error.err_code(),
            Self::Request(_) => "invalid_request",
            Self::Authentication => "authentication_failed",
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Set(error) => error.reason(),
            Self::Request(_) => "invalid_request",
            Self::Authentication => "authentication_failed",
        }
    }

    fn response(self) -> Response {
        let body = json!({ "err": self.err(), "description": self.to_string() }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// What keeps a token from being taken.
enum Stop {
    Refused(Refused),
    /// Not the transmitter's fault, or too often.
    Error(OauthError),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<SetError> for Stop {
    fn from(error: SetError) -> Self {
        Self::Refused(error.into())
    }
}

pub(super) async fn endpoint(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let visit = Visit::new(&oauth, "events", &request);
    visit.answer(oauth.hear(request)).await
}

impl Oauth {
    async fn hear(&self, request: Request<Body>) -> Result<Response, OauthError> {
        let (parts, body) = request.into_parts();
        let Some(ClientAddress(address)) = parts.extensions.get().copied() else {
            tracing::error!("the listener gave no client address");
            return Err(OauthError::Unavailable);
        };
        let now = self.operations().clock().monotonic();
        // Failures are not held against an address: whoever shares it with a transmitter (a proxy, a cloud's way out) could
        // silence it. A signature is not guessed, and what verifying costs is bounded by the minute.
        self.ears
            .attempts
            .admit("", address, now)
            .map_err(|closed| OauthError::TooManyAttempts { retry_after: closed.retry_after })?;
        match self.take(&parts, body).await {
            Ok(()) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::ACCEPTED;
                Ok(response)
            }
            Err(Stop::Refused(refused)) => {
                self.parts.heard.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(target: "audit", reason = refused.reason(), "security event refused");
                Ok(refused.response())
            }
            Err(Stop::Error(error)) => Err(error),
        }
    }

    async fn take(&self, parts: &Parts, body: Body) -> Result<(), Stop> {
        if !is_event(&parts.headers) {
            return Err(Refused::Request("the content type must be application/secevent+jwt").into());
        }
        let body = collect(body, MAX_SET_LEN).await.map_err(|error| match error {
            BodyError::TooLarge => Refused::Request("the token is too long"),
            BodyError::Cut => Refused::Request("the body ended early"),
        })?;
        let text = std::str::from_utf8(body.trim_ascii()).map_err(|_| Refused::Request("the body is not one token"))?;
        let set = Set::parse(text)?;
        let known = self.transmitter(set.issuer()).await?.ok_or(SetError::WrongIssuer)?;
        self.bearer(&known, &parts.headers).await?;
        let event = self.verified(&known, &set).await?;
        self.obey(&known, &event).await.map_err(Stop::Error)
    }

    /// The token, checked with its transmitter's keys; with newer ones if those held do not have its key.
    async fn verified(&self, known: &Known, set: &Set<'_>) -> Result<SecurityEventToken, Stop> {
        let mut anew = false;
        loop {
            let keys = self.transmitter_keys(known, anew).await.map_err(Stop::Error)?;
            let expected = ExpectedSet {
                issuer: &known.transmitter.issuer,
                audiences: &known.transmitter.audience,
                algorithms: &known.algorithms,
                now: self.operations().clock().now(),
            };
            match verify_set(set, &keys, &expected) {
                Err(error) if error.retryable() && !anew => anew = true,
                other => return Ok(other?),
            }
        }
    }

    /// Do what a token asks. It is remembered afterwards, so that what is cut off in between is done when it comes again;
    /// to be done twice does no harm.
    async fn obey(&self, known: &Known, event: &SecurityEventToken) -> Result<(), OauthError> {
        let name = known.transmitter.name.as_str();
        let key = [name, event.jti()];
        let failed = |error: store::StoreError| unavailable(&error.into());
        let used = self.operations().store().used_once();
        let count = if used.seen(OneTime::SecurityEvent, &key).await.map_err(failed)? {
            &self.parts.heard.repeated
        } else {
            let done = self.act(known, event).await?;
            let until = self.operations().clock().now().max(event.issued_at()).plus(REMEMBERED);
            if used.claim(OneTime::SecurityEvent, &key, until).await.map_err(failed)? == store::Claim::Seen {
                tracing::debug!("the same security event came twice at once");
            }
            match done {
                act::Done::Acted => &self.parts.heard.acted,
                act::Done::Nothing => &self.parts.heard.nothing,
                act::Done::Verified => &self.parts.heard.verifications,
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Exactly one content type, without parameters that could mean another form.
fn is_event(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(Ok(value)), None) = (types.next().map(HeaderValue::to_str), types.next()) else { return false };
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/secevent+jwt") && !headers.contains_key(header::CONTENT_ENCODING)
}

/// The moment before which tokens are refused for a token that is new: up to now, since what was made of older tokens
/// meanwhile is meant too. For one that may have come before: the moment it speaks of.
fn not_before(now: Timestamp, up_to_now: Timestamp, event: &SecurityEventToken, happened: Timestamp) -> Timestamp {
    if now.since(event.issued_at()) < REMEMBERED { up_to_now } else { happened.plus(Duration::from_secs(1)) }
}
