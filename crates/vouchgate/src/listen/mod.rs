//! The listeners: from an accepted connection to a parsed request, within limits that hold against hostile clients.
//!
//! hyper parses; everything that takes time is bounded here. Each connection has one [`Watch`](watch::Watch) that
//! its socket, its requests and its answers report to, and one task that looks at the watch now and then and ends
//! the connection when it says so.

mod aside;
mod caps;
mod client_cert;
mod connection;
mod drain;
mod flood;
mod framing;
mod greeting;
mod guarded;
mod overload;
mod serve;
mod sniff;
mod tls;
mod tracked;
mod watch;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::Problem;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use net::{BoxError, IdleBody};
use rustls_pki_types::CertificateDer;

pub use caps::{Caps, Full, descriptor_limit};
pub use drain::{Drain, DrainTimes, Phase};
pub use overload::{Load, Pressure, memory_limit, memory_used};
pub use serve::{Edge, ListenError, Listener};
pub use tls::{ServerTls, TlsError, TlsFiles, pem};

/// A request's body. It fails with [`net::BodyError::Idle`] when the client pauses for too long: answer 408.
pub type RequestBody = IdleBody<Incoming>;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The address the connection came from: the client's, or a proxy's.
    pub addr: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The host name of the TLS greeting.
    pub sni: Option<Arc<str>>,
    /// The JA4 fingerprint of the TLS greeting.
    pub fingerprint: Option<Arc<str>>,
    /// The certificate whose key the client has shown to hold (the leaf, DER). Nobody need vouch for it.
    pub client_cert: Option<CertificateDer<'static>>,
    /// Whether an authority in `client_ca` vouches for it: only then do the names in it say who the client is.
    pub client_cert_trusted: bool,
    /// HTTP/2.
    pub http2: bool,
}

impl Peer {
    /// Whoever connects from this address without TLS.
    pub fn plain(addr: SocketAddr) -> Self {
        let (sni, fingerprint, client_cert) = (None, None, None);
        Self { addr, tls: false, sni, fingerprint, client_cert, client_cert_trusted: false, http2: false }
    }
}

/// What answers requests.
pub trait Service: Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;

    /// Answer a request. The future is dropped when the client goes away. A panic becomes a 500 of this request.
    fn call(&self, request: Request<RequestBody>, peer: Arc<Peer>)
    -> impl Future<Output = Response<Self::Body>> + Send;

    /// What takes the connection over once this answer (101) is out.
    fn tunnel(_: &mut Self::Body) -> Option<gateway::Tunnel> {
        None
    }

    /// Render what the listener itself has to say: 414, 431, 500, 503.
    fn refuse(&self, problem: Problem) -> Response<Self::Body>;
}

/// The listener's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of a request's header section, bytes: 431 beyond.
    pub header_bytes: usize,
    /// Number of a request's headers: 431 beyond.
    pub headers: usize,
    /// Length of a request's target, bytes: 414 beyond.
    pub uri: usize,
    /// Time for the TLS handshake.
    pub tls_handshake: Duration,
    /// Time for a request's header section, from its first byte; and for a connection's first bytes.
    pub header_timeout: Duration,
    /// How long a connection may stay open between requests.
    pub keep_alive: Duration,
    /// Silence within a request's body.
    pub body_idle: Duration,
    /// How long a client may take nothing of an answer that waits for it.
    pub write_idle: Duration,
    /// Requests at once on an HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&config::Limits::default())
    }
}

impl From<&config::Limits> for Limits {
    fn from(limits: &config::Limits) -> Self {
        Self {
            header_bytes: limits.header_bytes.as_usize(),
            headers: usize::try_from(limits.headers).unwrap_or(usize::MAX),
            uri: limits.uri.as_usize(),
            tls_handshake: limits.tls_handshake.duration(),
            header_timeout: limits.header_timeout.duration(),
            // Longer than the 60 s after which common load balancers give up an idle connection: whoever closes
            // first must be the client's side, or requests on their way are lost.
            keep_alive: Duration::from_secs(75),
            body_idle: limits.body_idle.duration(),
            write_idle: limits.write_idle.duration(),
            streams: limits.streams_per_connection,
        }
    }
}

#[cfg(test)]
mod tests;
