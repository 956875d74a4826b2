//! The client.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base::Table;
use http::uri::{Parts, PathAndQuery};
use http::{HeaderName, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use ipnet::IpNet;
use rustls_pki_types::CertificateDer;

use crate::authorities::Authority;
use crate::connect::Connector;
use crate::pool::{Lease, PoolLimits, Slot, Wire};
use crate::{EgressError, OutBody, Resolver, SystemResolver, Target, UpstreamBody};

/// What an [`Egress`] is made of. `Default` suits production.
#[derive(Debug, Clone)]
pub struct EgressConfig {
    /// Networks that may be reached although they are special: an explicit list, beside `allow_private`.
    pub reachable: Vec<IpNet>,
    /// Certificate authorities trusted beside the public ones, DER.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Whether HTTP/2 is offered (ALPN).
    pub http2: bool,
    /// Size limit of a response's header section, bytes (at least 8 KiB).
    pub max_head: usize,
    /// Number of headers a response may have.
    pub max_headers: usize,
    /// Idle HTTP/1 connections kept per origin.
    pub idle_connections: usize,
    /// How long they are kept.
    pub idle_time: Duration,
    /// Streams per HTTP/2 connection; more requests open another connection.
    pub streams: usize,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self {
            reachable: Vec::new(),
            extra_roots: Vec::new(),
            http2: true,
            max_head: 64 * 1024,
            max_headers: crate::connect::HEADERS,
            idle_connections: 256,
            idle_time: Duration::from_secs(50),
            streams: 100,
        }
    }
}

/// How long each step of a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Resolving the name and connecting.
    pub connect: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// From sending the request to the response's headers.
    pub first_byte: Duration,
    /// Silence between two pieces of the response's body.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let short = Duration::from_secs(5);
        Self { connect: short, tls: short, first_byte: Duration::from_mins(2), idle: Duration::from_mins(1) }
    }
}

/// Sends requests. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    connector: Connector,
    limits: PoolLimits,
    slots: RwLock<Table<String, Arc<Slot>>>,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

/// Attempts on kept connections that turn out closed before a new one is opened.
const STALE_ATTEMPTS: usize = 3;

impl Egress {
    /// A client that resolves names through the system.
    pub fn new(config: EgressConfig) -> Result<Self, EgressError> {
        Self::with_resolver(config, Arc::new(SystemResolver))
    }

    /// A client with a resolver of the caller's choice.
    pub fn with_resolver(config: EgressConfig, resolver: Arc<dyn Resolver>) -> Result<Self, EgressError> {
        let limits = PoolLimits {
            idle_connections: config.idle_connections.max(1),
            idle_time: config.idle_time,
            streams: config.streams.max(1),
        };
        let connector = Connector::new(config, resolver)?;
        Ok(Self(Arc::new(Inner { connector, limits, slots: RwLock::default() })))
    }

    /// Send a request and wait for the response's headers. Of the request's URI only path and query count; `Host`,
    /// `Content-Length` and hop-by-hop headers are set here. A redirect is a response like any other.
    ///
    /// Dropping the future, or later the response's body, cancels the exchange at once.
    pub async fn send(
        &self,
        to: &Target,
        request: Request<OutBody>,
        deadlines: &Deadlines,
    ) -> Result<Response<UpstreamBody>, EgressError> {
        let slot = self.slot(to);
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut request = request;
        strip(&mut request);
        let mut stale = 0;
        loop {
            let kept = if stale < STALE_ATTEMPTS { slot.take() } else { None };
            let mut lease = match kept {
                Some(lease) => lease,
                // Boxed: it takes ten times the room of all the rest, and most requests find a connection.
                None => Box::pin(self.open(to, &slot, deadlines)).await?,
            };
            address(&mut request, to, &path, &lease.wire);
            let sent = tokio::time::timeout(deadlines.first_byte, exchange(&mut lease, request))
                .await
                .map_err(|_| EgressError::FirstByteTimeout)?;
            match sent {
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(EgressError::Malformed);
                }
                Ok(response) => {
                    return Ok(response.map(|body| UpstreamBody::new(body, deadlines.idle, lease)));
                }
                Err(mut failed) => match failed.take_message() {
                    // Closed before anything was written: another connection is as good.
                    Some(unsent) if lease.reused => {
                        stale += 1;
                        request = unsent;
                    }
                    _ => return Err(explain(&failed.into_error(), lease.reused)),
                },
            }
        }
    }

    async fn open(&self, to: &Target, slot: &Arc<Slot>, deadlines: &Deadlines) -> Result<Lease, EgressError> {
        // Waiting for somebody else's attempt must not cost more than one of our own.
        let turn = tokio::time::timeout(deadlines.connect, slot.turn()).await.ok().flatten();
        if turn.is_some()
            && let Some(lease) = slot.take()
        {
            return Ok(lease);
        }
        self.0.connector.connect(to, slot, deadlines).await
    }

    /// From now on accept certificates of these authorities from their hosts, beside those of the public ones. Connections that
    /// were kept are not used again: who vouched for them may not be trusted any more.
    pub fn trust(&self, authorities: Vec<Authority>) {
        self.0.connector.trust.replace(authorities);
        self.0.slots.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Close connections that have been idle for too long, and forget origins without any. For a periodic caller;
    /// nothing depends on it but memory.
    pub fn sweep(&self) {
        let mut slots = self.0.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| slot.sweep() || Arc::strong_count(slot) > 1);
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.0.connector
    }

    pub(crate) fn pool_limits(&self) -> PoolLimits {
        self.0.limits
    }

    fn slot(&self, to: &Target) -> Arc<Slot> {
        if let Some(slot) = self.0.slots.read().unwrap_or_else(PoisonError::into_inner).get(to.key()) {
            return Arc::clone(slot);
        }
        let mut slots = self.0.slots.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Slot::new(self.0.limits));
        Arc::clone(slots.entry(to.key().to_owned()).or_insert_with(new))
    }
}

pub(crate) async fn exchange(
    lease: &mut Lease,
    request: Request<OutBody>,
) -> Result<Response<Incoming>, TrySendError<Request<OutBody>>> {
    match &mut lease.wire {
        Wire::H1(connection) => connection.exchange(request).await,
        Wire::H2(stream) => stream.sender.try_send_request(request).await,
    }
}

/// Headers that speak of a connection, not of the message (RFC 9110 section 7.6.1), and the length, which hyper
/// sets from the body itself: two lengths that differ are how requests are smuggled.
pub(crate) fn strip(request: &mut Request<OutBody>) {
    static CONNECTION: [HeaderName; 10] = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::EXPECT,
        header::PROXY_AUTHORIZATION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    let headers = request.headers_mut();
    // Most have none, which is seen sooner than each is looked for.
    if headers.keys().any(|name| CONNECTION.contains(name)) {
        for name in &CONNECTION {
            headers.remove(name);
        }
    }
}

/// HTTP/1 wants the path and a `Host` header (RFC 9112 section 3.2), HTTP/2 the whole URI (RFC 9113 section 8.3.1).
pub(crate) fn address(request: &mut Request<OutBody>, to: &Target, path: &PathAndQuery, wire: &Wire) {
    match wire {
        Wire::H1(_) => {
            *request.uri_mut() = Uri::from(path.clone());
            *request.version_mut() = http::Version::HTTP_11;
            request.headers_mut().insert(header::HOST, to.host_header().clone());
        }
        Wire::H2(_) => {
            let mut parts = Parts::default();
            parts.scheme = Some(to.scheme().clone());
            parts.authority = Some(to.authority().clone());
            parts.path_and_query = Some(path.clone());
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
            *request.version_mut() = http::Version::HTTP_2;
            request.headers_mut().remove(header::HOST);
        }
    }
}

pub(crate) fn explain(error: &hyper::Error, reused: bool) -> EgressError {
    let h2 = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    if h2.and_then(h2::Error::reason) == Some(h2::Reason::REFUSED_STREAM) {
        EgressError::Busy
    } else if error.is_parse_too_large() {
        EgressError::HeadTooLarge
    } else if error.is_parse() {
        EgressError::Malformed
    } else if error.is_user() {
        EgressError::RequestBody
    } else {
        EgressError::Closed { reused }
    }
}
