//! A wire to a server that the test can stall or cut: connections stay and nothing passes, or they end and no new one is made.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Where a wire leads.
#[derive(Debug, Clone)]
pub enum To {
    /// A TCP port.
    Port(SocketAddr),
    /// A Unix socket.
    Socket(PathBuf),
}

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Passes,
    /// Connections are taken and stay; nothing passes in either direction.
    Stalls,
    /// Connections end, and new ones too.
    IsCut,
}

/// A port of loopback that passes everything on.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    _serving: JoinSet<()>,
}

impl Wire {
    /// A wire to a server, which need not be there yet.
    pub async fn new(to: To) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback");
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(watch::Sender::new(State::Passes));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, to, Arc::clone(&state)));
        Self { address, state, _serving: serving }
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Let nothing pass: connections stay, and new ones are taken.
    pub fn stall(&self) {
        self.state.send_replace(State::Stalls);
    }

    /// End every connection, now and to come.
    pub fn cut(&self) {
        self.state.send_replace(State::IsCut);
    }

    /// Pass everything on again, what was held up first.
    pub fn mend(&self) {
        self.state.send_replace(State::Passes);
    }
}

async fn serve(listener: TcpListener, to: To, state: Arc<watch::Sender<State>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                let (to, state) = (to.clone(), Arc::clone(&state));
                connections.spawn(async move {
                    let mut watching = state.subscribe();
                    let is_cut = async { drop(watching.wait_for(|state| *state == State::IsCut).await) };
                    tokio::select! {
                        () = is_cut => {}
                        () = join(near, to, &state) => {}
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn join(near: TcpStream, to: To, state: &watch::Sender<State>) {
    let _ = near.set_nodelay(true);
    let (from_near, to_near) = near.into_split();
    match to {
        To::Port(address) => {
            let Ok(far) = TcpStream::connect(address).await else { return };
            let _ = far.set_nodelay(true);
            let (from_far, to_far) = far.into_split();
            both((from_near, to_far), (from_far, to_near), state).await;
        }
        To::Socket(path) => {
            let Ok(far) = UnixStream::connect(path).await else { return };
            let (from_far, to_far) = far.into_split();
            both((from_near, to_far), (from_far, to_near), state).await;
        }
    }
}

/// Until both directions have ended.
async fn both(
    there: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    back: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    state: &watch::Sender<State>,
) {
    tokio::join!(pass(there, state.subscribe()), pass(back, state.subscribe()));
}

async fn pass(
    (mut from, mut to): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if state.wait_for(|state| *state == State::Passes).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patiently;

    async fn echo() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        (address, serving)
    }

    async fn said(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
        let mut heard = vec![0; text.len()];
        stream.read_exact(&mut heard).await.unwrap();
        heard
    }

    #[tokio::test]
    async fn what_is_held_up_passes_once_it_is_mended_and_a_cut_ends_all() {
        let (address, _serving) = echo().await;
        let wire = Wire::new(To::Port(address)).await;
        let mut stream = TcpStream::connect(wire.address()).await.unwrap();
        stream.write_all(b"one").await.unwrap();
        assert_eq!(patiently("an echo", said(&mut stream, b"one")).await, b"one");
        wire.stall();
        stream.write_all(b"two").await.unwrap();
        assert!(stream.try_read(&mut [0; 8]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        wire.mend();
        assert_eq!(patiently("an echo", said(&mut stream, b"two")).await, b"two");
        wire.cut();
        assert!(!matches!(patiently("the end", stream.read(&mut [0; 8])).await, Ok(1..)));
        let mut again = TcpStream::connect(wire.address()).await.unwrap();
        assert!(!matches!(patiently("the end", again.read(&mut [0; 8])).await, Ok(1..)));
        wire.mend();
        let mut stream = TcpStream::connect(wire.address()).await.unwrap();
        stream.write_all(b"three").await.unwrap();
        assert_eq!(patiently("an echo", said(&mut stream, b"three")).await, b"three");
    }
}
