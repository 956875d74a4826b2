//! Opening a connection: resolve, judge every address, connect to the judged address, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::address::judge;
use crate::authorities::Trust;
use crate::pool::{Driver, H1, Lease, Slot};
use crate::{Deadlines, EgressConfig, EgressError, Resolver, Target, task};

/// Fields of a head that hyper has room for beforehand. For any other number it makes room anew for each head it reads.
pub(crate) const HEADERS: usize = 100;
/// Addresses tried at most, of however many a name has.
const MAX_ADDRESSES: usize = 8;
/// When the next address is tried beside a silent one (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

pub(crate) struct Connector {
    pub(crate) trust: Trust,
    resolver: Arc<dyn Resolver>,
    listed: Vec<IpNet>,
    max_head: usize,
    max_headers: usize,
}

impl Connector {
    pub(crate) fn new(config: EgressConfig, resolver: Arc<dyn Resolver>) -> Result<Self, EgressError> {
        Ok(Self {
            trust: Trust::new(config.extra_roots, config.http2)?,
            resolver,
            listed: config.reachable,
            max_head: config.max_head.max(8 * 1024),
            max_headers: config.max_headers,
        })
    }

    pub(crate) async fn connect(
        &self,
        to: &Target,
        slot: &Arc<Slot>,
        deadlines: &Deadlines,
    ) -> Result<Lease, EgressError> {
        let tcp = self.tcp(to, deadlines).await?;
        let Some(name) = to.server_name() else {
            return self.http1(tcp, slot, false).await;
        };
        let stream = handshake(self.trust.with(to.host()).any.connect(name.clone(), tcp), to, deadlines).await?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.http2(stream, slot).await
        } else {
            self.http1(stream, slot, false).await
        }
    }

    /// An HTTP/1.1 connection whose one exchange may switch protocols.
    pub(crate) async fn connect_once(
        &self,
        to: &Target,
        slot: &Arc<Slot>,
        deadlines: &Deadlines,
    ) -> Result<Lease, EgressError> {
        let tcp = self.tcp(to, deadlines).await?;
        match to.server_name() {
            None => self.http1(tcp, slot, true).await,
            Some(name) => {
                let stream =
                    handshake(self.trust.with(to.host()).http1.connect(name.clone(), tcp), to, deadlines).await?;
                self.http1(stream, slot, true).await
            }
        }
    }

    async fn tcp(&self, to: &Target, deadlines: &Deadlines) -> Result<TcpStream, EgressError> {
        let late = |_| EgressError::ConnectTimeout { host: to.host().to_owned() };
        let tcp = tokio::time::timeout(deadlines.connect, self.reach(to)).await.map_err(late)??;
        // Requests and stream chunks are small and must not wait for one another.
        let _ = tcp.set_nodelay(true);
        Ok(tcp)
    }

    /// A connection to an address of `to` that `to` may reach.
    async fn reach(&self, to: &Target) -> Result<TcpStream, EgressError> {
        let found = match to.literal() {
            Some(ip) => vec![ip],
            None => self.resolver.resolve(to.host()).await.unwrap_or_default(),
        };
        let first = *found.first().ok_or_else(|| EgressError::Resolve { host: to.host().to_owned() })?;
        let judged: Vec<_> =
            found.into_iter().map(|ip| (ip, judge(ip, to.reach(), to.plain(), &self.listed))).collect();
        let allowed: Vec<IpAddr> = judged.iter().filter(|(_, verdict)| verdict.is_ok()).map(|(ip, _)| *ip).collect();
        if allowed.is_empty() {
            let class = crate::classify(first).as_str();
            return Err(EgressError::Refused { host: to.host().to_owned(), class });
        }
        race(interleave(allowed), to.port())
            .await
            .map_err(|error| EgressError::Connect { host: to.host().to_owned(), kind: error.kind() })
    }

    async fn http1<S>(&self, stream: S, slot: &Arc<Slot>, upgrades: bool) -> Result<Lease, EgressError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(self.max_head).max_header_size(self.max_head);
        if self.max_headers != HEADERS {
            builder.max_headers(self.max_headers);
        }
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|_| EgressError::Closed { reused: false })?;
        let connection =
            if upgrades { H1::new(sender, connection.with_upgrades()) } else { H1::new(sender, connection) };
        Ok(slot.lease_h1(connection))
    }

    async fn http2<S>(&self, stream: S, slot: &Arc<Slot>) -> Result<Lease, EgressError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024)
            .max_header_list_size(u32::try_from(self.max_head).unwrap_or(u32::MAX))
            .max_send_buf_size(256 * 1024)
            .max_concurrent_streams(0) // no server push
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| EgressError::Closed { reused: false })?;
        let room = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let told = Arc::clone(&room);
        let driver = drive(std::future::poll_fn(move |cx| {
            let done = Pin::new(&mut connection).poll(cx);
            told.store(connection.current_max_send_streams(), Ordering::Relaxed);
            done
        }));
        slot.lease_h2(sender, room, driver).ok_or(EgressError::Busy)
    }
}

async fn handshake(
    connect: tokio_rustls::Connect<TcpStream>,
    to: &Target,
    deadlines: &Deadlines,
) -> Result<TlsStream<TcpStream>, EgressError> {
    let host = || to.host().to_owned();
    tokio::time::timeout(deadlines.tls, connect)
        .await
        .map_err(|_| EgressError::TlsTimeout { host: host() })?
        .map_err(|error| EgressError::Tls { host: host(), detail: error.to_string() })
}

/// Run an HTTP/2 connection beside the requests that share it, until it ends or its [`Driver`] is dropped.
fn drive<C>(connection: C) -> Driver
where
    C: Future<Output = Result<(), hyper::Error>> + Send + 'static,
{
    Driver::new(task::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream connection ended with an error");
        }
    }))
}

/// Alternate between the families, starting with the one the resolver put first (RFC 8305 section 4).
fn interleave(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let six_first = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (mut lead, mut follow): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|ip| ip.is_ipv6() == six_first);
    lead.reverse();
    follow.reverse();
    let mut mixed = Vec::with_capacity(lead.len() + follow.len());
    while mixed.len() < MAX_ADDRESSES {
        let before = mixed.len();
        mixed.extend(lead.pop());
        mixed.extend(follow.pop());
        if mixed.len() == before {
            break;
        }
    }
    mixed
}

/// The first connection to succeed; each further address starts when the one before failed or stayed silent.
async fn race(addresses: Vec<IpAddr>, port: u16) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let more = match waiting.next() {
            Some(ip) => {
                attempts.push(TcpStream::connect(SocketAddr::new(ip, port)));
                waiting.len() > 0
            }
            None => false,
        };
        let done = if more {
            match tokio::time::timeout(STAGGER, attempts.next()).await {
                Ok(done) => done,
                Err(_) => continue,
            }
        } else {
            attempts.next().await
        };
        match done {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => last = error,
            None if !more => return Err(last),
            None => {}
        }
    }
}
