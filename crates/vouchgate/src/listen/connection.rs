//! One connection, from its handshake to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Problem;
use futures_util::FutureExt;
use gateway::Tunnel;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use net::IdleBody;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::aside::{Ready, either};
use super::greeting::Overheard;
use super::guarded::Guarded;
use super::overload::Load;
use super::sniff::{First, sniff};
use super::tracked::Tracked;
use super::watch::{Active, Verdict, Watch};
use super::{Edge, Peer, Phase, ServerTls, Service};

/// How many fields of a head hyper has room for beforehand; for any other number it makes room anew for each head it reads.
const HYPER_HEADERS: usize = 100;

/// What all connections of a listener share.
pub(super) struct Context<S> {
    pub(super) service: Arc<S>,
    pub(super) edge: Edge,
    pub(super) tls: Option<Arc<ServerTls>>,
}

/// Serve a connection until it ends. What a connection needs only for a while is boxed, so that ten thousand open ones
/// do not each keep room for it.
pub(super) async fn serve<S: Service>(tcp: TcpStream, addr: SocketAddr, context: Arc<Context<S>>) {
    let _counted = context.edge.drain.hold();
    // Answers are streams of small pieces: none may wait for the next.
    let _ = tcp.set_nodelay(true);
    let mut peer = Peer::plain(addr);
    let Some(tls) = &context.tls else {
        return Box::pin(speak(tcp, None, peer, context)).await;
    };
    let tls = tls.current();
    let handshake = tokio::time::timeout(context.edge.limits.tls_handshake, tls.acceptor().accept(Overheard::new(tcp)));
    let mut stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    peer.fingerprint = stream.get_mut().0.fingerprint().map(|found| Arc::from(found.as_str()));
    let session = stream.get_ref().1;
    peer.tls = true;
    peer.sni = session.server_name().map(Arc::from);
    (peer.client_cert, peer.client_cert_trusted) = tls.client(session);
    let agreed = session.alpn_protocol().map(|name| name == b"h2");
    Box::pin(speak(stream, agreed, peer, context)).await;
}

/// `agreed`: whether ALPN agreed on HTTP/2, if it agreed on anything.
async fn speak<I, S>(mut stream: I, agreed: Option<bool>, mut peer: Peer, context: Arc<Context<S>>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    let watch = Watch::new(context.edge.limits);
    let first = match tokio::time::timeout(context.edge.limits.header_timeout, sniff(&mut stream)).await {
        Ok(Ok(Some(first))) if agreed.is_none_or(|http2| http2 == first.http2) => first,
        _ => return,
    };
    peer.http2 = first.http2;
    watch.opened(first.http2);
    let session = Session { watch, peer: Arc::new(peer), context, switch: Mutex::default() };
    session.run(stream, first).await;
}

/// A connection whose protocol is known.
struct Session<S> {
    watch: Arc<Watch>,
    peer: Arc<Peer>,
    context: Arc<Context<S>>,
    /// What takes the connection over when HTTP is done with it.
    switch: Mutex<Option<(OnUpgrade, Tunnel)>>,
}

impl<S: Service> Session<S> {
    async fn run<I>(self, stream: I, first: First)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.context.edge.limits;
        let http2 = first.http2;
        let io = TokioIo::new(Guarded::new(stream, first, Arc::clone(&self.watch)));
        let session = Arc::new(self);
        let service = service_fn(|request| {
            let session = Arc::clone(&session);
            let active = session.watch.begin();
            async move { Ok::<_, Infallible>(session.answer(request, active).await) }
        });
        if http2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits.streams)
                .initial_stream_window_size(64 * 1024)
                .initial_connection_window_size(1024 * 1024)
                .max_frame_size(16 * 1024)
                .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
                .max_send_buf_size(64 * 1024)
                .max_pending_accept_reset_streams(20)
                .max_local_error_reset_streams(100)
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(20))
                .serve_connection(io, service);
            session.drive(Box::pin(connection), http2::Connection::graceful_shutdown, false).await;
        } else {
            let draining = session.context.edge.drain.phase() >= Phase::Draining;
            let mut builder = http1::Builder::new();
            if limits.headers != HYPER_HEADERS {
                builder.max_headers(limits.headers);
            }
            let connection = builder
                .keep_alive(!draining)
                // The watch keeps time: hyper's timer cannot tell a slow head from an idle connection.
                .header_read_timeout(None)
                // Room for a long target beside the largest header section, so that each gets its own answer.
                .max_buf_size((limits.header_bytes + limits.uri).saturating_add(24 * 1024).max(64 * 1024))
                .serve_connection(io, service)
                .with_upgrades();
            session.drive(Box::pin(connection), http1::UpgradeableConnection::graceful_shutdown, draining).await;
            session.switched().await;
        }
    }

    /// Run hyper's part until it ends, the watch ends it, or the listener shuts down. `retire` has it take no more requests.
    async fn drive<C>(&self, mut connection: Pin<Box<C>>, retire: impl Fn(Pin<&mut C>), mut leaving: bool)
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut look = tokio::time::interval(self.watch.period());
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut phase = self.context.edge.drain.follow();
        loop {
            let turned = async {
                tokio::select! {
                    _ = look.tick() => false,
                    _ = phase.changed() => true,
                }
            };
            let turned = match either(connection.as_mut(), turned).await {
                Ready::Main(ended) => {
                    if let Err(_error) = ended {
                        tracing::debug!(http2 = self.peer.http2, "a connection ended with an error");
                    }
                    return;
                }
                Ready::Aside(turned) => turned,
            };
            if turned {
                let phase = *phase.borrow_and_update();
                if phase == Phase::Over {
                    return;
                }
                if phase >= Phase::Draining && !leaving {
                    leaving = true;
                    retire(connection.as_mut());
                }
                continue;
            }
            match self.watch.verdict(self.watch.now()) {
                Verdict::Cut(reason) => return tracing::debug!(reason, "a connection was cut"),
                Verdict::Retire => retire(connection.as_mut()),
                Verdict::Keep if self.context.edge.pressure.load() >= Load::High && !leaving => {
                    leaving = true;
                    retire(connection.as_mut());
                }
                Verdict::Keep => {}
            }
        }
    }

    /// Serve whoever took the connection over. It is the connection still: counted, and cut when the listener is over.
    async fn switched(&self) {
        let switch = self.switch.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((upgrade, tunnel)) = switch else { return };
        let Ok(stream) = upgrade.await else { return };
        let mut phase = self.context.edge.drain.follow();
        let tunnel = AssertUnwindSafe(tunnel.run(Box::new(TokioIo::new(stream)))).catch_unwind();
        tokio::select! {
            ended = tunnel => if ended.is_err() {
                tracing::error!("a session's handler panicked");
            },
            _ = phase.wait_for(|phase| *phase == Phase::Over) => {}
        }
    }

    async fn answer(&self, mut request: Request<Incoming>, active: Active) -> Response<Tracked<S::Body>> {
        let version = request.version();
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let mut response = if let Some(problem) = self.objection(&request) {
            close(self.context.service.refuse(problem), version)
        } else {
            let request = request.map(|body| IdleBody::new(body, self.context.edge.limits.body_idle));
            let call = self.context.service.call(request, Arc::clone(&self.peer));
            let answer = AssertUnwindSafe(call).catch_unwind().await;
            answer.unwrap_or_else(|_| close(self.panicked(), version))
        };
        if let (Some(tunnel), Some(upgrade)) = (S::tunnel(response.body_mut()), upgrade) {
            self.watch.switch();
            *self.switch.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, tunnel));
        }
        response.map(|body| Tracked::new(body, active))
    }

    fn panicked(&self) -> Response<S::Body> {
        tracing::error!("a request's handler panicked");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        self.context.service.refuse(Problem::us(status, "internal_error", "The request failed inside the gateway."))
    }

    /// What the listener has against a request, whatever it asks for.
    fn objection(&self, request: &Request<Incoming>) -> Option<Problem> {
        let limits = &self.context.edge.limits;
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > limits.uri {
            return Some(Problem::client(
                StatusCode::URI_TOO_LONG,
                "uri_too_long",
                "The request's target is too long.",
            ));
        }
        // Name, value, and the four bytes between and after them.
        let headers = request.headers();
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if size > limits.header_bytes || headers.len() > limits.headers {
            return Some(Problem::client(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "The request's headers are too large or too many.",
            ));
        }
        (self.context.edge.pressure.load() == Load::Full).then(|| {
            let problem = Problem::us(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The gateway is out of memory.");
            problem.retry_after(Duration::from_secs(5))
        })
    }
}

/// Have the connection close after this answer. HTTP/2 has no such header (RFC 9113 section 8.2.2).
fn close<B>(mut response: Response<B>, version: Version) -> Response<B> {
    if version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
