//! What the endpoints have in common: reading a request within limits, and answering it under an id.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use base::{RequestId, Timestamp};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Serialize;
use tracing::Instrument;

use super::{Oauth, OauthError};
use crate::form::{Form, FormError};
use crate::operations::OperationError;
use crate::{ClientAddress, ClientCertificate};

/// One request to an endpoint: everything logged on the way carries the id that the client is told.
pub(super) struct Visit {
    id: RequestId,
    span: tracing::Span,
    audit: audit::Recorder,
    at: Timestamp,
    ip: Option<IpAddr>,
}

impl Visit {
    /// A request to the endpoint of that name.
    pub(super) fn new(oauth: &Oauth, endpoint: &'static str, request: &Request<Body>) -> Self {
        let id = oauth.operations().request_id();
        let address = request.extensions().get().map_or_else(String::new, |ClientAddress(ip)| ip.to_string());
        let client = tracing::field::Empty;
        let span = tracing::info_span!("oauth", endpoint, request_id = %id, address, client);
        let ip = request.extensions().get().map(|ClientAddress(ip)| *ip);
        let (audit, at) = (oauth.operations().audit().clone(), oauth.operations().clock().now());
        Self { id, span, audit, at, ip }
    }

    /// The answer, or the error in its place.
    pub(super) async fn answer(self, work: impl Future<Output = Result<Response, OauthError>>) -> Response {
        let answered = async {
            match work.await {
                Ok(response) => response,
                Err(error) => {
                    tracing::info!(target: "audit", reason = error.reason(), "refused");
                    let (surface, reason) = ("token_service", error.reason());
                    let (at, id, ip) = (self.at, Some(self.id.as_str()), self.ip);
                    self.audit.failed(&audit::Failed { at, surface, id, reason, claimed: None, ip }).await;
                    error.response()
                }
            }
        };
        let mut response = answered.instrument(self.span).await;
        if let Ok(id) = HeaderValue::from_str(self.id.as_str()) {
            response.headers_mut().insert("x-request-id", id);
        }
        response
    }
}

/// A request with its form read.
pub(super) struct Asked {
    /// Method, target, headers.
    pub(super) parts: Parts,
    /// Where it comes from.
    pub(super) address: IpAddr,
    /// The certificate the client showed in its TLS handshake.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// Its parameters.
    pub(super) form: Form,
}

impl Asked {
    /// Read a request whose parameters are in the body only (RFC 6749 section 2.3.1 keeps credentials out of the URL).
    pub(super) async fn posted(oauth: &Oauth, request: Request<Body>) -> Result<Self, OauthError> {
        let (parts, body) = request.into_parts();
        let Some(ClientAddress(address)) = parts.extensions.get().copied() else {
            tracing::error!("the listener gave no client address");
            return Err(OauthError::Unavailable);
        };
        let certificate = parts.extensions.get::<Arc<ClientCertificate>>().map(Arc::clone);
        let form = form(&parts, body, oauth.parts.body_limit).await?;
        Ok(Self { parts, address, certificate, form })
    }
}

async fn form(parts: &Parts, body: Body, limit: usize) -> Result<Form, OauthError> {
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(OauthError::InvalidRequest("parameters belong into the body, not into the URL"));
    }
    if !is_form(&parts.headers) {
        return Err(OauthError::InvalidRequest("the body must be application/x-www-form-urlencoded"));
    }
    let bytes = collect(body, limit).await.map_err(|error| match error {
        BodyError::TooLarge => OauthError::TooLarge,
        BodyError::Cut => OauthError::InvalidRequest("the body ended early"),
    })?;
    Form::parse(&bytes).map_err(|error| {
        OauthError::InvalidRequest(match error {
            FormError::Encoding => "the body is not application/x-www-form-urlencoded",
            FormError::Duplicate => "a parameter appears twice",
            FormError::TooMany => "too many parameters",
        })
    })
}

/// Whether there is exactly one content type, the form's, with at most a `charset` of UTF-8.
fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(Ok(value)), None) = (types.next().map(HeaderValue::to_str), types.next()) else { return false };
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let utf8 = ["", "charset=utf-8", "charset=\"utf-8\""].contains(&parameters.trim().to_ascii_lowercase().as_str());
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") && utf8
}

/// A failure of ours: the log says which, the client does not need to know.
pub(super) fn unavailable(error: &OperationError) -> OauthError {
    tracing::error!(reason = error.reason(), error = %error, "the token service failed");
    OauthError::Unavailable
}

/// 200 and this JSON, never to be stored (RFC 6749 section 5.1).
pub(super) fn json(body: &impl Serialize) -> Response {
    json_with(StatusCode::OK, body)
}

/// The same with another status.
pub(super) fn json_with(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// Whether an `If-None-Match` names this tag (weak comparison, RFC 9110 section 13.1.2).
pub(crate) fn matches_tag(value: &HeaderValue, etag: &str) -> bool {
    let Ok(value) = value.to_str() else { return false };
    value.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Over the limit.
    TooLarge,
    /// The client stopped in the middle, or never got to the end.
    Cut,
}

/// How long a body may take in all: it is short, and nobody has said yet who they are. Who sends it byte by byte, each just in
/// time, wants the connection.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The whole body, if it is at most `limit` bytes and here soon.
pub(crate) async fn collect(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    collect_within(BODY_TIME, body, limit).await
}

async fn collect_within(time: Duration, body: Body, limit: usize) -> Result<Bytes, BodyError> {
    match tokio::time::timeout(time, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) | Err(_) => Err(BodyError::Cut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    #[tokio::test]
    async fn a_body_that_never_ends_does_not_hold_the_connection() {
        let begun = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"a")))]);
        let endless = Body::new(StreamBody::new(begun.chain(stream::pending())));
        assert_eq!(collect_within(Duration::from_millis(1), endless, 64 * 1024).await, Err(BodyError::Cut));
        assert_eq!(collect(Body::from("a=b"), 3).await, Ok(Bytes::from_static(b"a=b")));
        assert_eq!(collect(Body::from("a=b"), 2).await, Err(BodyError::TooLarge));
    }
}
