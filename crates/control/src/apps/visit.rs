//! What the endpoints have in common: a request with its address and body, and what becomes of one that is refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use proof::attest::enrolment::{self, EnvelopeError, MAX_BODY_LEN};
use proof::ja4::Ja4;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::Refusal;
use tracing::Instrument;

use super::Apps;
use super::in_force::AppInForce;
use super::refusal::{AppsError, Refused, arc};
use crate::oauth::{BodyError, collect, cors_for};
use crate::{ClientAddress, TlsFingerprint};

/// Refusals are answered at multiples of this after the request: longer than any verification takes, shorter than anybody notices.
pub(super) const BEAT: Duration = Duration::from_millis(50);

/// One request to an endpoint, and what is known of it so far.
#[derive(Debug)]
pub(crate) struct Visit {
    step: &'static str,
    /// The code its answer carries.
    pub(crate) arc: String,
    /// Where it comes from.
    pub(crate) address: IpAddr,
    /// The JA4 fingerprint of its TLS greeting.
    pub(crate) fingerprint: Option<Ja4>,
    /// The app, once it is known to be one.
    pub(crate) app: Option<Arc<AppInForce>>,
    /// The installation, once it is known to be one.
    pub(crate) instance: Option<String>,
    /// The app's version, once somebody says one.
    pub(crate) version: Option<String>,
}

impl Apps {
    /// Answer a request: `work` is given what it is, and notes in it what it finds out. A refusal is answered at the end of the beat
    /// it falls into, counted from the moment the request had been read: how far it got cannot be seen by the time it took.
    pub(crate) async fn answer(
        &self,
        step: &'static str,
        request: Request<Body>,
        work: impl AsyncFnOnce(&mut Visit, Parts, Bytes) -> Result<Response, AppsError>,
    ) -> Response {
        let id = self.operations().request_id();
        let (parts, body) = request.into_parts();
        let Some(ClientAddress(address)) = parts.extensions.get().copied() else {
            tracing::error!("the listener gave no client address");
            return AppsError::Unavailable("no_client_address").response("", false);
        };
        let arc = arc(self.operations().rng());
        let fingerprint = parts.extensions.get().and_then(|TlsFingerprint(text)| Ja4::parse(text).ok());
        let mut visit = Visit { step, arc, address, fingerprint, app: None, instance: None, version: None };
        let span = tracing::info_span!("attest", step, request_id = %id, %address, arc = visit.arc);
        let answered = async {
            let now = self.operations().clock().monotonic();
            // Before anything is read or reckoned.
            let admitted = self.attempts.admit("attest", address, now);
            let admitted = admitted.map_err(|closed| AppsError::TooMany(closed.retry_after));
            let read = match admitted {
                Ok(()) => bytes(body).await,
                Err(closed) => Err(closed),
            };
            let heard = tokio::time::Instant::now();
            let outcome = match read {
                Ok(body) => work(&mut visit, parts, body).await,
                Err(error) => Err(error),
            };
            let refused = matches!(outcome, Err(AppsError::Refused(_)));
            let response = self.conclude(&visit, id.as_str(), outcome).await;
            if refused {
                tokio::time::sleep_until(heard + on_beat(heard.elapsed())).await;
            }
            response
        };
        let mut response = answered.instrument(span).await;
        if let Ok(id) = HeaderValue::from_str(id.as_str()) {
            response.headers_mut().insert("x-request-id", id);
        }
        response
    }

    /// Count it, and say to the operator, and to nobody else, why it was refused.
    async fn conclude(&self, visit: &Visit, id: &str, outcome: Result<Response, AppsError>) -> Response {
        let app = visit.app.as_ref().map(|app| app.config.name.as_str());
        let error = match outcome {
            Ok(response) => {
                self.parts.counts.count(app, visit.step, "ok", visit.version.as_deref());
                return response;
            }
            Err(error) => error,
        };
        let reason = error.reason();
        self.parts.counts.count(app, visit.step, reason, visit.version.as_deref());
        tracing::info!(target: "audit", reason, app, instance = visit.instance, "refused");
        let failed = audit::Failed {
            at: self.operations().clock().now(),
            surface: "attest",
            id: Some(id),
            reason,
            claimed: app,
            ip: Some(visit.address),
        };
        self.operations().audit().failed(&failed).await;
        if let AppsError::Refused(refused) = &error {
            self.keep(visit, refused).await;
        }
        let show = visit.app.as_ref().is_some_and(|app| app.config.expose_reasons);
        error.response(&visit.arc, show)
    }

    /// Keep why, for whoever asks by the code; of a flood only some, so that it fills nothing.
    async fn keep(&self, visit: &Visit, refused: &Refused) {
        if !self.keeps_reason(visit.address) {
            return;
        }
        let mut detail = refused.detail.clone();
        if let Some(version) = &visit.version {
            detail.insert("app_version".to_owned(), version.as_str().into());
        }
        let refusal = Refusal {
            arc: visit.arc.clone(),
            at: self.operations().clock().now(),
            app: visit.app.as_ref().map(|app| app.config.name.to_string()),
            instance: visit.instance.clone(),
            step: visit.step.to_owned(),
            action: refused.action.as_str().to_owned(),
            reasons: refused.reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            detail: Value::Object(detail).to_string(),
        };
        if let Err(error) = self.operations().store().instances().refuse(&refusal).await {
            tracing::warn!(reason = error.reason(), %error, "the reason of a refusal is not kept");
        }
    }
}

/// The end of the beat that a moment after the request falls into.
fn on_beat(passed: Duration) -> Duration {
    let beats = passed.as_nanos() / BEAT.as_nanos() + 1;
    BEAT.saturating_mul(u32::try_from(beats).unwrap_or(u32::MAX))
}

/// Read a body as one strict JSON object: no member twice, nothing unknown.
pub(super) fn strict<T: DeserializeOwned>(parts: &Parts, bytes: &[u8]) -> Result<T, AppsError> {
    if !is_json(&parts.headers) {
        return Err(AppsError::Request("the body must be application/json"));
    }
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(AppsError::Request("there are no parameters in the URL"));
    }
    enrolment::read(bytes).map_err(|error| match error {
        EnvelopeError::Members => {
            AppsError::Request("a member is missing, unknown or of another type; see the documentation of /attest/v1")
        }
        _ => AppsError::Request("the body is not one strict JSON object"),
    })
}

/// The whole body.
async fn bytes(body: Body) -> Result<Bytes, AppsError> {
    collect(body, MAX_BODY_LEN).await.map_err(|error| match error {
        BodyError::TooLarge => AppsError::TooLarge,
        BodyError::Cut => AppsError::Request("the body ended early"),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(Ok(value)), None) = (types.next().map(HeaderValue::to_str), types.next()) else { return false };
    let essence = value.split(';').next().unwrap_or(value);
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// 200 and this JSON, never to be stored.
pub(crate) fn json(body: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(body).unwrap_or_default()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 204.
pub(crate) fn empty() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What pages of `[cors]` may do here.
pub(super) async fn cors(State(apps): State<Arc<Apps>>, request: Request<Body>, next: Next) -> Response {
    let file = apps.operations().file();
    // The headers that user tokens come in are the apps' own.
    let in_force = apps.parts.in_force.load();
    let user_tokens: Vec<String> =
        in_force.all().filter_map(|app| app.config.user_token.as_ref()).map(ToString::to_string).collect();
    cors_for(&file.cors, ("POST, DELETE", &user_tokens), request, next).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_fall_on_the_next_beat_never_on_the_present_one() {
        let millis = Duration::from_millis;
        for (passed, due) in [(0, 50), (1, 50), (49, 50), (50, 100), (51, 100), (170, 200)] {
            assert_eq!(on_beat(millis(passed)), millis(due), "{passed}");
        }
        assert_eq!(on_beat(Duration::MAX), BEAT * u32::MAX);
    }
}
