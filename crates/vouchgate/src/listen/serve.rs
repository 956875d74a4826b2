//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::connection::{self, Context};
use super::{Caps, Drain, Limits, Phase, Pressure, ServerTls, Service};
use crate::tasks::Tasks;

/// What bounds a listener.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Sizes and times.
    pub limits: Limits,
    /// Numbers of connections. Each listener has its own, so that a flood on one leaves the other reachable.
    pub caps: Arc<Caps>,
    /// The listener's shutdown.
    pub drain: Drain,
    /// How much is asked of the process; shared by all listeners.
    pub pressure: Arc<Pressure>,
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
}

/// Why a listener cannot be bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// The system refuses the address.
    #[error("cannot listen on {address}: {kind}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        kind: io::ErrorKind,
    },
    /// Without TLS, tokens would cross the network readable.
    #[error("{0} is not loopback: set TLS, or plain_http = true if something in front adds it")]
    Plain(SocketAddr),
}

impl ListenError {
    /// A stable short code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind_failed",
            Self::Plain(_) => "plain_http_off_loopback",
        }
    }
}

/// Turned away politely at once, at most: more are just closed.
const POLITE: usize = 64;

impl Listener {
    /// Bind `address`; port 0 takes a free one. Without `tls` only loopback is accepted, unless `plain` allows more.
    pub async fn bind(address: SocketAddr, tls: Option<Arc<ServerTls>>, plain: bool) -> Result<Self, ListenError> {
        if tls.is_none() && !plain && !address.ip().to_canonical().is_loopback() {
            return Err(ListenError::Plain(address));
        }
        let failed = |error: io::Error| ListenError::Bind { address, kind: error.kind() };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address, tls })
    }

    /// The address bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accept connections until the drain stops it. Connections are tasks of `tasks`.
    pub async fn serve<S: Service>(self, service: Arc<S>, edge: Edge, tasks: Tasks) {
        let mut phase = edge.drain.follow();
        let polite = Arc::new(Semaphore::new(POLITE));
        let plain = self.tls.is_none();
        let context = Arc::new(Context { service, edge, tls: self.tls });
        loop {
            let accepted = tokio::select! {
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
                accepted = self.socket.accept() => accepted,
            };
            let (tcp, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            };
            match context.edge.caps.admit(from.ip()) {
                Ok(permit) => {
                    let context = Arc::clone(&context);
                    tasks.spawn_to_completion(async move {
                        let _permit = permit;
                        connection::serve(tcp, from, context).await;
                    });
                }
                Err(full) => {
                    tracing::debug!(reason = full.reason(), "a connection was turned away");
                    if plain && let Ok(turn) = Arc::clone(&polite).try_acquire_owned() {
                        tasks.spawn(async move {
                            let _turn = turn;
                            let _ = tokio::time::timeout(Duration::from_secs(1), turn_away(tcp)).await;
                        });
                    }
                }
            }
        }
    }
}

/// A connection that was reset before it was accepted concerns nobody; running out of descriptors passes, but
/// asking again at once would only burn the processor.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
        tracing::warn!(kind = %error.kind(), "connections cannot be accepted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Say 503 and close in a way that lets the client read it: closing on unread bytes would reset the connection.
async fn turn_away(mut tcp: TcpStream) -> io::Result<()> {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    tcp.write_all(ANSWER).await?;
    tcp.shutdown().await?;
    let mut rest = [0; 1024];
    for _ in 0..64 {
        if tcp.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}
