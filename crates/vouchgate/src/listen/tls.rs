//! TLS on a listener: certificates from files, replaced without closing anything.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base::Secret;
use config::ClientCertificates;
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::client_cert::ClientCerts;

/// Where certificate, key and authorities lie (PEM).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The authorities whose client certificates are trusted.
    pub client_ca: Option<PathBuf>,
    /// Which certificates clients may show. They stay optional: what needs one is a client's or a policy's matter.
    pub client_certificates: ClientCertificates,
}

impl From<&config::Tls> for TlsFiles {
    fn from(tls: &config::Tls) -> Self {
        Self {
            cert: tls.cert.clone(),
            key: tls.key.clone(),
            client_ca: tls.client_ca.clone(),
            client_certificates: tls.client_certificates(),
        }
    }
}

/// Why TLS cannot be set up. What was in use before stays in use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {kind}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        kind: std::io::ErrorKind,
    },
    /// A file holds no certificate.
    #[error("{0}: no certificate (PEM) in it")]
    NoCertificate(PathBuf),
    /// A file holds no private key.
    #[error("{0}: no private key (PEM) in it")]
    NoKey(PathBuf),
    /// Certificate, key or authorities cannot be used, or do not belong together.
    #[error("{path}: {detail}")]
    Unusable {
        /// Where.
        path: PathBuf,
        /// What rustls says.
        detail: String,
    },
}

impl TlsError {
    /// A stable short code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } => "tls_file",
            Self::NoCertificate(_) => "tls_no_certificate",
            Self::NoKey(_) => "tls_no_key",
            Self::Unusable { .. } => "tls_unusable",
        }
    }
}

/// The TLS side of a listener.
#[derive(Debug)]
pub struct ServerTls {
    files: TlsFiles,
    current: ArcSwap<Current>,
    read: Mutex<Contents>,
}

/// What new handshakes use.
#[derive(Debug)]
pub(super) struct Current {
    config: Arc<ServerConfig>,
    clients: ClientCerts,
    leaf: CertificateDer<'static>,
}

impl Current {
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// The certificate the client has shown to hold, and whether an authority vouches for it.
    pub(super) fn client(&self, session: &ServerConnection) -> (Option<CertificateDer<'static>>, bool) {
        let chain = session.peer_certificates().unwrap_or_default();
        let now = self.config.time_provider.current_time();
        let trusted = now.is_some_and(|now| self.clients.vouched_for(chain, now));
        (chain.first().map(|leaf| leaf.clone().into_owned()), trusted)
    }
}

/// The files as last read, to see whether they changed.
#[derive(Debug)]
struct Contents {
    cert: Vec<u8>,
    key: Secret<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    fn same(&self, other: &Self) -> bool {
        self.cert == other.cert && self.client_ca == other.client_ca && self.key.matches(other.key.expose())
    }
}

impl ServerTls {
    /// Read the files.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let (current, contents) = build(&files)?;
        Ok(Arc::new(Self { files, current: ArcSwap::from_pointee(current), read: Mutex::new(contents) }))
    }

    /// Read the files again; whether anything changed. New handshakes use what they hold now, connections that are
    /// open stay as they are. On an error nothing changes.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let (current, contents) = build(&self.files)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.same(&contents) {
            return Ok(false);
        }
        *read = contents;
        self.current.store(Arc::new(current));
        Ok(true)
    }

    /// Where the certificate lies.
    pub fn cert(&self) -> &Path {
        &self.files.cert
    }

    /// The certificate that new handshakes show: the leaf, DER.
    pub fn leaf(&self) -> CertificateDer<'static> {
        self.current.load().leaf.clone()
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }
}

/// The certificates in a file (PEM), at least one, and the file as it is.
pub fn pem(path: &Path) -> Result<(Vec<CertificateDer<'static>>, Vec<u8>), TlsError> {
    let file = read(path)?;
    Ok((certificates(path, &file)?, file))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), kind: error.kind() })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::NoCertificate(path.to_owned())),
    }
}

fn build(files: &TlsFiles) -> Result<(Current, Contents), TlsError> {
    let (cert, key) = (read(&files.cert)?, Secret::new(read(&files.key)?));
    let client_ca = files.client_ca.as_deref().map(read).transpose()?;
    let unusable = |path: &Path, error: &dyn std::fmt::Display| TlsError::Unusable {
        path: path.to_owned(),
        detail: error.to_string(),
    };
    let chain = certificates(&files.cert, &cert)?;
    let leaf = chain.first().cloned().ok_or_else(|| TlsError::NoCertificate(files.cert.clone()))?;
    let private = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| TlsError::NoKey(files.key.clone()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let authorities = match (&files.client_ca, &client_ca) {
        (Some(path), Some(pem)) => Some((path.as_path(), certificates(path, pem)?)),
        _ => None,
    };
    let clients = ClientCerts::new(files.client_certificates, authorities, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&files.cert, &error))?;
    let builder = match &clients.verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|error| unusable(&files.cert, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Current { config: Arc::new(config), clients, leaf }, Contents { cert, key, client_ca }))
}
