//! What operators and token clients talk to: the token service, the admin API, and the operations behind both.
//!
//! [`Operations`] is the one home of every change of state. The admin API is a table of operations
//! ([`admin::TABLE`]) that drives routing, role checks and the `OpenAPI` document alike; the command line speaks the
//! same API, through `admin.sock` when a server runs and in process when none does.

pub mod admin;
pub mod apps;
mod audit_keys;
pub mod backup;
pub mod catalogue;
pub mod credential;
pub mod csv;
pub mod explain;
#[cfg(test)]
mod fixture;
mod form;
mod moment;
pub mod oauth;
pub mod operations;
pub mod recording;
pub mod risk;
pub mod route;

use std::net::IpAddr;

pub use moment::{MOMENTS, moment};
pub use operations::{OperationError, Operations, Parts, external_url};

/// The address a request comes from, as the edge sees it: behind trusted proxies the client's, else the peer's.
/// The listener puts it into the request's extensions; a request without it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The JA4 fingerprint of the TLS greeting of whoever calls. The listener puts it into the request's extensions where there
/// is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFingerprint(pub std::sync::Arc<str>);

/// The certificate a client showed in its TLS handshake, whose signature was checked there, or that a trusted proxy
/// passed on (RFC 9440). The listener puts an `Arc` of it into the request's extensions.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The leaf certificate, DER.
    pub der: Vec<u8>,
    /// Whether its chain was verified against the configured authority for client certificates.
    pub trusted: bool,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCertificate").field("trusted", &self.trusted).finish_non_exhaustive()
    }
}
