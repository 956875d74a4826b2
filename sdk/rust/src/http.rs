//! The way to the gateway: HTTP/1.1 over TLS, or in the clear to this machine only.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::Error;
use crate::pins::{NOT_PINNED, PinBook, PinningVerifier};

/// An answer whose body is yet to be read.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Answer {
    /// The next piece of the body as it comes; `None` at its end. A stream that breaks off is an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(Error::Answer),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, of at most `most` bytes.
    pub async fn bytes(self, most: usize) -> Result<Bytes, Error> {
        let whole = Limited::new(self.body, most).collect().await.map_err(|_| Error::Answer)?;
        Ok(whole.to_bytes())
    }
}

type Pool = Client<Connector, Full<Bytes>>;

/// Connections that are kept and used again.
pub(crate) struct Http {
    pool: Mutex<Pool>,
    connector: Connector,
    first_byte: Duration,
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For a connection with TLS.
    pub connect: Duration,
    /// For the head of the answer.
    pub first_byte: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), first_byte: Duration::from_mins(2) }
    }
}

impl Http {
    /// With pins where there is a book.
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        book: Option<Arc<PinBook>>,
        deadlines: Deadlines,
    ) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trust = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let trust = trust.map_err(|_| Error::Internal)?;
        let verifier: Arc<dyn ServerCertVerifier> = match book {
            Some(book) => Arc::new(PinningVerifier::new(trust, book)),
            None => trust,
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| Error::Internal)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        // A session that is resumed shows no certificate: keys would be compared with what was told at the time it was made.
        config.resumption = Resumption::disabled();
        let tls = TlsConnector::from(Arc::new(config));
        let connector = Connector { tls, deadline: deadlines.connect };
        let pool = Mutex::new(pool(connector.clone()));
        Ok(Self { pool, connector, first_byte: deadlines.first_byte })
    }

    /// Send nothing more on the connections there are: they were made by what was told before.
    pub(crate) fn begin_anew(&self) {
        *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = pool(self.connector.clone());
    }

    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Answer, Error> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = pool.request(request.map(Full::new));
        let answer = tokio::time::timeout(self.first_byte, answer).await.map_err(|_| Error::Timeout)?;
        let (head, body) = answer.map_err(|error| failure(&error, host))?.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

fn pool(connector: Connector) -> Pool {
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Why there is no answer, found in what the libraries wrap around it.
fn failure(error: &(dyn StdError + 'static), host: String) -> Error {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(known) = inner.downcast_ref::<Failure>() {
            return match known {
                Failure::Connect => Error::Connect { host },
                Failure::Timeout => Error::Timeout,
                Failure::Tls => Error::Tls { host },
                Failure::NotPinned => Error::PinMismatch { host },
            };
        }
        cause = inner.source();
    }
    Error::Answer
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Failure {
    #[error("nobody was reached")]
    Connect,
    #[error("no connection in time")]
    Timeout,
    #[error("TLS failed")]
    Tls,
    #[error("the key is not pinned")]
    NotPinned,
}

#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
    deadline: Duration,
}

impl Connector {
    async fn connect(self, to: Uri) -> Result<TokioIo<Io>, Failure> {
        let deadline = self.deadline;
        tokio::time::timeout(deadline, self.open(to)).await.map_err(|_| Failure::Timeout)?
    }

    async fn open(self, to: Uri) -> Result<TokioIo<Io>, Failure> {
        let host = to.host().ok_or(Failure::Connect)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let secure = to.scheme_str() == Some("https");
        let port = to.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = TcpStream::connect((bare, port)).await.map_err(|_| Failure::Connect)?;
        // Requests are small and must not wait for one another.
        let _ = tcp.set_nodelay(true);
        if !secure {
            return Ok(TokioIo::new(Io::Plain(tcp)));
        }
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| Failure::Connect)?;
        let tls = self.tls.connect(name, tcp).await.map_err(|error| of_tls(&error))?;
        Ok(TokioIo::new(Io::Tls(Box::new(tls))))
    }
}

fn of_tls(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) if *reason == NOT_PINNED => Failure::NotPinned,
        _ => Failure::Tls,
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Io>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().connect(to))
    }
}

/// A connection with or without TLS.
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Io {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, into),
            Self::Tls(io) => Pin::new(io).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, from),
            Self::Tls(io) => Pin::new(io).poll_write(cx, from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
