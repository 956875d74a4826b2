//! A look at a host from outside, as an app has it: which certificates it shows, whether they are trusted, and what it answers.
//!
//! For an operator's own hands: unlike everything else here it goes on where the certificates are not trusted, says so, and sends
//! nothing but a path.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time for the look at one host.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where to look.
#[derive(Debug, Clone)]
pub struct Lookout {
    /// The host, as it stands in URLs.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The address to connect to instead of those that the host's name has.
    pub address: Option<SocketAddr>,
    /// Authorities that are trusted beside the public ones.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// What to fetch.
    pub paths: Vec<String>,
    /// The longest answer, in bytes.
    pub longest: usize,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// The certificates that were shown, the host's own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Why they are not trusted; absent: they are.
    pub untrusted: Option<String>,
    /// The status and body of each answer, in order.
    pub answers: Vec<(StatusCode, Bytes)>,
}

/// Why nothing was seen.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The host is none.
    #[error("{0:?} is not the name of a host")]
    Host(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
    /// There is no connection.
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(std::io::Error),
    /// There was no complete answer.
    #[error("no complete answer: {0}")]
    Answer(String),
    /// It took too long.
    #[error("no answer within {} seconds", PATIENCE.as_secs())]
    Timeout,
}

impl LookError {
    /// A stable code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Host(_) => "bad_host",
            Self::Setup(_) => "tls_setup",
            Self::Connect(_) => "connect_failed",
            Self::Tls(_) => "tls_failed",
            Self::Answer(_) => "answer_failed",
            Self::Timeout => "timeout",
        }
    }
}

/// Look at a host.
pub async fn look(at: &Lookout) -> Result<Seen, LookError> {
    tokio::time::timeout(PATIENCE, seen(at)).await.map_err(|_| LookError::Timeout)?
}

async fn seen(at: &Lookout) -> Result<Seen, LookError> {
    let bare = at.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare.clone()).map_err(|_| LookError::Host(at.host.clone()))?;
    let verdict = Arc::new(Verdict::new(at.extra_roots.clone())?);
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| LookError::Setup(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verdict) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = match at.address {
        Some(address) => TcpStream::connect(address).await,
        None => TcpStream::connect((bare.as_str(), at.port)).await,
    };
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp.map_err(LookError::Connect)?).await;
    let stream = stream.map_err(LookError::Tls)?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned());
    let chain = chain.collect();
    let answers = fetch(at, stream).await?;
    let untrusted = verdict.untrusted.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Seen { chain, untrusted, answers })
}

async fn fetch(at: &Lookout, stream: TlsStream<TcpStream>) -> Result<Vec<(StatusCode, Bytes)>, LookError> {
    let failed = |error: &dyn std::fmt::Display| LookError::Answer(error.to_string());
    let authority = if at.port == 443 { at.host.clone() } else { format!("{}:{}", at.host, at.port) };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
    let asked = async {
        let mut answers = Vec::new();
        for path in &at.paths {
            let request = Request::builder().uri(path).header(header::HOST, &authority);
            let request = request.header(header::USER_AGENT, "vouchgate").body(Empty::<Bytes>::new());
            let response = sender.send_request(request.map_err(|error| failed(&error))?).await;
            let (head, body) = response.map_err(|error| failed(&error))?.into_parts();
            let body = Limited::new(body, at.longest).collect().await.map_err(|error| failed(&error))?;
            answers.push((head.status, body.to_bytes()));
        }
        Ok(answers)
    };
    // The connection has to be driven along; that it closes first does not mean that the answers are incomplete.
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        answers = &mut asked => answers,
        _ = connection => asked.await,
    }
}

/// Judges the certificates as a client would, remembers the verdict, and goes on.
#[derive(Debug)]
struct Verdict {
    judge: Arc<WebPkiServerVerifier>,
    untrusted: Mutex<Option<String>>,
}

impl Verdict {
    fn new(extra: Vec<CertificateDer<'static>>) -> Result<Self, LookError> {
        let setup = |error: &dyn std::fmt::Display| LookError::Setup(error.to_string());
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in extra {
            roots.add(root).map_err(|error| setup(&error))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Self { judge: judge.map_err(|error| setup(&error))?, untrusted: Mutex::default() })
    }
}

impl ServerCertVerifier for Verdict {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.judge.verify_server_cert(leaf, above, name, stapled, now);
        *self.untrusted.lock().unwrap_or_else(PoisonError::into_inner) = verdict.err().map(|error| error.to_string());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}
