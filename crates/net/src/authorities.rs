//! Certificate authorities of the operator's own, each for the hosts it is trusted to speak for.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio_rustls::TlsConnector;

use crate::EgressError;

/// Authorities that are accepted from some hosts beside the public ones.
#[derive(Clone)]
pub struct Authority {
    covers: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    config: ClientConfig,
}

impl Authority {
    /// These certificates (DER), for the hosts of which `covers` says so. Fails where one of them can be no authority's.
    pub fn new(
        roots: Vec<CertificateDer<'static>>,
        covers: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<Self, EgressError> {
        Ok(Self { covers: Arc::new(covers), config: trusting(roots)? })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// How TLS is spoken with one kind of hosts.
#[derive(Clone)]
pub(crate) struct Speaks {
    /// Offers HTTP/2 where that is wanted.
    pub(crate) any: TlsConnector,
    /// Offers HTTP/1.1 only: HTTP/2 has no upgrades (RFC 9113 section 8.6).
    pub(crate) http1: TlsConnector,
}

impl Speaks {
    fn new(config: &ClientConfig, h2: bool) -> Self {
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        let http1 = offering(&[b"http/1.1"]);
        Self { any: if h2 { offering(&[b"h2", b"http/1.1"]) } else { http1.clone() }, http1 }
    }
}

/// Who is trusted where.
pub(crate) struct Trust {
    h2: bool,
    public: Speaks,
    own: RwLock<Vec<(Authority, Speaks)>>,
}

impl Trust {
    /// The public authorities, and `extra` (DER) everywhere.
    pub(crate) fn new(extra: Vec<CertificateDer<'static>>, h2: bool) -> Result<Self, EgressError> {
        Ok(Self { h2, public: Speaks::new(&trusting(extra)?, h2), own: RwLock::default() })
    }

    /// From now on these, each for its hosts; where several are for one host the first.
    pub(crate) fn replace(&self, own: Vec<Authority>) {
        let speaks = |authority: Authority| {
            let speaks = Speaks::new(&authority.config, self.h2);
            (authority, speaks)
        };
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own.into_iter().map(speaks).collect();
    }

    /// How TLS is spoken with this host.
    pub(crate) fn with(&self, host: &str) -> Speaks {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let found = own.iter().find(|(authority, _)| (authority.covers)(host));
        found.map_or(&self.public, |(_, speaks)| speaks).clone()
    }
}

fn trusting(extra: Vec<CertificateDer<'static>>) -> Result<ClientConfig, EgressError> {
    let setup = |error: rustls::Error| EgressError::Setup(error.to_string());
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra {
        roots.add(root).map_err(setup)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
