//! Where a request comes in: its form, its host, its path, its one credential, the size and pace of its body.

mod cors;
mod credential;
pub(crate) mod headers;
mod host;
mod path;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base::{LimitedBuffer, Problem, Secret};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use net::BodyError;
use proof::mtls::{CertificateError, certificate_thumbprint};

pub use self::cors::Cors;
pub(crate) use self::cors::finish;
pub(crate) use self::credential::{Credential, CredentialFields, Presented, Scheme};
pub(crate) use self::headers::{client_cert, client_ip, fingerprint, forwardable, is_trusted, returnable};
pub use self::host::Authorities;
pub(crate) use self::path::query_names;
pub(crate) use self::table::Endpoint;

use self::credential::CredentialError;
use self::host::HostError;
use crate::GatewayBody;
use crate::challenge;
use crate::endpoint::native;
use crate::snapshot::{Limits, Snapshot};

/// Who is at the other end of the connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address of the connection's other end.
    pub addr: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// SHA-256 of the certificate (DER) the other end showed in the TLS handshake, where its signature was checked.
    pub certificate: Option<[u8; 32]>,
    /// The JA4 fingerprint of the TLS greeting of the connection.
    pub fingerprint: Option<Arc<str>>,
}

/// A request of correct form for an endpoint that exists. Only this module makes one.
pub(crate) struct Inbound<B> {
    pub(crate) head: Parts,
    pub(crate) endpoint: Endpoint,
    pub(crate) ip: IpAddr,
    /// SHA-256 of the client's certificate: of the one shown to us, or the one that a trusted proxy says was shown to it.
    pub(crate) certificate: Option<[u8; 32]>,
    /// The JA4 fingerprint of the client's TLS greeting.
    pub(crate) fingerprint: Option<Arc<str>>,
    body: B,
}

/// What came in.
pub(crate) enum Received<B> {
    /// A question of a browser, already answered.
    Preflight(Response<GatewayBody>),
    /// A request.
    Request(Inbound<B>),
}

/// Why a request is refused before anybody asks who sent it, or while its body is read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EdgeError {
    /// The request target is too long.
    #[error("The request target is too long.")]
    UriTooLong,
    /// A path in no accepted spelling.
    #[error("The path must be in normal form: no empty or dot segments, no encoded separators.")]
    Path,
    /// A header name with `_`.
    #[error("Header names must not contain an underscore.")]
    HeaderName,
    /// The wrong host, or none.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Nothing at this path.
    #[error("There is nothing at this path.")]
    NotFound,
    /// Something, but not for this method.
    #[error("This path does not accept the method.")]
    Method(HeaderValue),
    /// A trusted proxy sent a certificate in no form that can be read.
    #[error("The Client-Cert header must hold one certificate.")]
    ClientCert(#[from] CertificateError),
    /// Not exactly one well-formed credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A compressed body.
    #[error("Compressed request bodies are not accepted; send the body as it is.")]
    Encoding,
    /// A body that is not JSON by its own account.
    #[error(
        "Send the body as `Content-Type: application/json`, or files as `multipart/form-data` where they are taken."
    )]
    MediaType,
    /// A body over the limit, in bytes.
    #[error("The request body is larger than {0} bytes.")]
    TooLarge(usize),
    /// A body that does not arrive.
    #[error("The request body did not arrive in time.")]
    Slow,
    /// A body that broke off.
    #[error("The request body ended early.")]
    Broken,
}

impl EdgeError {
    /// A stable code: the error body's and the metric's.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::UriTooLong => "uri_too_long",
            Self::Path => "path_invalid",
            Self::HeaderName => "header_name_invalid",
            Self::Host(HostError::Unclear) => "host_invalid",
            Self::Host(HostError::Misdirected) => "host_unknown",
            Self::NotFound => "not_found",
            Self::Method(_) => "method_not_allowed",
            Self::ClientCert(_) => "client_cert_invalid",
            Self::Credential(_) => "invalid_request",
            Self::Encoding => "content_encoding_unsupported",
            Self::MediaType => "content_type_unsupported",
            Self::TooLarge(_) => "body_too_large",
            Self::Slow => "body_timeout",
            Self::Broken => "body_incomplete",
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::Host(HostError::Misdirected) => StatusCode::MISDIRECTED_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Encoding | Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Path
            | Self::HeaderName
            | Self::Host(HostError::Unclear)
            | Self::ClientCert(_)
            | Self::Credential(_)
            | Self::Broken => StatusCode::BAD_REQUEST,
        }
    }

    /// What the caller is told.
    pub(crate) fn problem(&self) -> Problem {
        let problem = Problem::client(self.status(), self.reason(), self.to_string());
        match self {
            // RFC 6750 section 3.1 and RFC 9449 section 7.2: a malformed request is answered with challenges too.
            Self::Credential(_) => problem
                .challenge(challenge::error(Scheme::Bearer, "invalid_request", None))
                .challenge(challenge::error(Scheme::Dpop, "invalid_request", None)),
            _ => problem,
        }
    }
}

/// The one credential of a request whose form has been checked.
pub(crate) fn presented<'a>(snapshot: &Snapshot, head: &'a Parts) -> Option<Presented<'a>> {
    let found = credential::find(&head.headers, head.uri.query(), snapshot.limits.token, &snapshot.credential_fields);
    match found {
        Ok(Credential::Presented(presented)) => Some(presented),
        _ => None,
    }
}

/// What no endpoint accepts: they would reflect the request or turn the connection into a tunnel.
const NEVER: [Method; 2] = [Method::TRACE, Method::CONNECT];
const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Check everything about a request that can be checked without knowing its sender or reading its body.
pub(crate) fn receive<B>(snapshot: &Snapshot, request: Request<B>, peer: &Peer) -> Result<Received<B>, EdgeError> {
    let (head, body) = request.into_parts();
    if NEVER.contains(&head.method) {
        return Err(EdgeError::Method(ALLOW));
    }
    snapshot.authorities.check(&head.uri, &head.headers, head.version)?;
    let path = head.uri.path();
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > snapshot.limits.uri {
        return Err(EdgeError::UriTooLong);
    }
    if !path::is_clean(path) {
        return Err(EdgeError::Path);
    }
    if headers::has_underscore(&head.headers) {
        return Err(EdgeError::HeaderName);
    }
    let (endpoint, allow) = table::resolve(snapshot, path).ok_or(EdgeError::NotFound)?;
    if cors::is_preflight(&head.method, &head.headers) {
        return Ok(Received::Preflight(snapshot.cors.preflight(&head.headers, &allow)));
    }
    if !table::accepts(&allow, &head.method) {
        return Err(EdgeError::Method(allow));
    }
    let ip = headers::client_ip(peer.addr, &head.headers, &snapshot.trusted);
    let certificate = if headers::is_trusted(peer.addr, &snapshot.trusted) {
        // The connection's own certificate is the proxy's.
        headers::client_cert(&head.headers)?.map(|der| certificate_thumbprint(&der))
    } else {
        peer.certificate
    };
    let own = (peer.addr, peer.fingerprint.as_ref());
    let fingerprint =
        headers::fingerprint(own, &head.headers, (&snapshot.trusted, snapshot.fingerprint_header.as_ref()));
    Ok(Received::Request(Inbound { head, endpoint, ip, certificate, fingerprint, body }))
}

/// What the header says of the body.
fn check_content(headers: &HeaderMap, endpoint: &Endpoint, limit: usize) -> Result<(), EdgeError> {
    let identity = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(identity) {
        return Err(EdgeError::Encoding);
    }
    if !headers.get(header::CONTENT_TYPE).is_none_or(|kind| endpoint.takes(kind)) {
        return Err(EdgeError::MediaType);
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(EdgeError::TooLarge(limit));
    }
    Ok(())
}

/// `application/json` or any `+json`, whatever its parameters.
pub(crate) fn is_json(value: &HeaderValue) -> bool {
    let essence = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let of_application = essence.split_at_checked(12).filter(|(kind, _)| kind.eq_ignore_ascii_case(b"application/"));
    of_application.is_some_and(|(_, subtype)| {
        let end = subtype.split_at_checked(subtype.len().wrapping_sub(5)).map_or(b"".as_slice(), |(_, end)| end);
        subtype.eq_ignore_ascii_case(b"json") || end.eq_ignore_ascii_case(b"+json")
    })
}

impl<B> Inbound<B> {
    /// The request's one credential.
    pub(crate) fn credential(&self, limit: usize, fields: &CredentialFields) -> Result<Credential<'_>, EdgeError> {
        Ok(credential::find(&self.head.headers, self.head.uri.query(), limit, fields)?)
    }

    /// What a request presents that shows nothing else: what was sealed into the address it was told to send to.
    pub(crate) fn sealed_credential(&self, snapshot: &Snapshot) -> Option<Secret<String>> {
        let Endpoint::Native(provider, rest) = &self.endpoint else { return None };
        native::sealed_credential(snapshot, (provider, rest), self.head.uri.query())
    }

    /// The request's one DPoP proof, whatever it is.
    pub(crate) fn proof(&self) -> Result<Option<&HeaderValue>, EdgeError> {
        Ok(credential::proof(&self.head.headers)?)
    }
}

impl<B> Inbound<B>
where
    B: Body<Data = Bytes, Error: Into<net::BoxError>> + Send,
{
    /// Whether a body follows.
    pub(crate) fn has_body(&self) -> bool {
        !self.body.is_end_stream()
    }

    /// Read the body, if the header says it may be read: within the size limit, without pauses longer than allowed, in one
    /// piece and without copying when it came in one. Only who is known is told which bodies are taken.
    pub(crate) async fn read(self, limits: &Limits) -> Result<(Parts, Endpoint, Bytes), EdgeError> {
        check_content(&self.head.headers, &self.endpoint, self.endpoint.most(limits))?;
        let bytes = read(self.body, self.endpoint.most(limits), limits.body_idle).await?;
        Ok((self.head, self.endpoint, bytes))
    }
}

async fn read<B>(body: B, limit: usize, idle: Duration) -> Result<Bytes, EdgeError>
where
    B: Body<Data = Bytes, Error: Into<net::BoxError>>,
{
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut rest: Option<LimitedBuffer> = None;
    loop {
        let mut frame = body.frame();
        // Almost always it is there already: then no timer is set.
        let frame = match (&mut frame).now_or_never() {
            Some(frame) => frame,
            None => tokio::time::timeout(idle, frame).await.map_err(|_| EdgeError::Slow)?,
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|error| cut_short(error.into().as_ref()))?.into_data() else { continue };
        if let Some(buffer) = &mut rest {
            if !buffer.push(&data) {
                return Err(EdgeError::TooLarge(limit));
            }
        } else if first.is_empty() && data.len() <= limit {
            first = data;
        } else {
            let mut buffer = LimitedBuffer::new(limit);
            if !(buffer.push(&first) && buffer.push(&data)) {
                return Err(EdgeError::TooLarge(limit));
            }
            rest = Some(buffer);
        }
    }
    Ok(rest.map_or(first, |buffer| Bytes::from(buffer.into_vec())))
}

/// Why a body ended before its end. The listener may have run out of patience a moment before us.
fn cut_short(error: &(dyn std::error::Error + 'static)) -> EdgeError {
    match error.downcast_ref::<BodyError>() {
        Some(BodyError::Idle) => EdgeError::Slow,
        _ => EdgeError::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    const IDLE: Duration = Duration::from_millis(20);

    fn pieces(pieces: &[&'static str]) -> impl Body<Data = Bytes, Error = std::io::Error> + use<> {
        let frames: Vec<_> = pieces.iter().map(|p| Ok(Frame::data(Bytes::from_static(p.as_bytes())))).collect();
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_is_read_whole_up_to_its_limit() {
        assert_eq!(read(Full::new(Bytes::from("abc")), 3, IDLE).await.expect("body"), "abc");
        assert_eq!(read(pieces(&["ab", "", "c"]), 3, IDLE).await.expect("body"), "abc");
        assert_eq!(read(pieces(&[]), 3, IDLE).await.expect("body"), "");
        assert!(matches!(read(Full::new(Bytes::from("abcd")), 3, IDLE).await, Err(EdgeError::TooLarge(3))));
        assert!(matches!(read(pieces(&["ab", "cd"]), 3, IDLE).await, Err(EdgeError::TooLarge(3))));
        assert!(matches!(read(pieces(&["ab", "c", "d"]), 3, IDLE).await, Err(EdgeError::TooLarge(3))));
    }

    #[tokio::test]
    async fn a_body_that_stops_arriving_is_given_up() {
        let never = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        assert!(matches!(read(never, 3, IDLE).await, Err(EdgeError::Slow)));
        let given_up = stream::iter([Ok(Frame::data(Bytes::from("a"))), Err(BodyError::Idle)]);
        assert!(matches!(read(StreamBody::new(given_up), 3, IDLE).await, Err(EdgeError::Slow)), "by the listener");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let broken = stream::iter([Ok(Frame::data(Bytes::from("a"))), Err(std::io::Error::other("gone"))]);
        assert!(matches!(read(StreamBody::new(broken), 3, IDLE).await, Err(EdgeError::Broken)));
    }

    #[test]
    fn compressed_and_foreign_bodies_are_refused_and_oversized_ones_before_reading() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            check_content(&headers, &Endpoint::Chat, 10).map_err(|error| error.reason())
        };
        assert_eq!(with("content-encoding", "gzip"), Err("content_encoding_unsupported"));
        assert_eq!(with("content-encoding", "identity"), Ok(()));
        assert_eq!(with("content-type", "text/plain"), Err("content_type_unsupported"));
        assert_eq!(with("content-type", "Application/JSON; charset=utf-8"), Ok(()));
        assert_eq!(with("content-type", "application/merge-patch+json"), Ok(()));
        for other in ["application/jsonp", "application/", "json", "text/json", "application/x-www-form-urlencoded"] {
            assert_eq!(with("content-type", other), Err("content_type_unsupported"), "{other}");
        }
        assert_eq!(with("content-length", "11"), Err("body_too_large"));
        assert_eq!(with("content-length", "10"), Ok(()));
    }
}
