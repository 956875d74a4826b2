//! A mock provider: an HTTP/1.1 server that answers from recordings or as the test says, and remembers what it was
//! asked, to the byte.
//!
//! It reads and writes the wire itself: a library would repair, or refuse to send, much of what a test wants to see.

mod answer;
mod cassette;
mod connection;
mod journal;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use answer::{Answer, Framing, Gate};
pub use cassette::Cassette;
pub use journal::{Outcome, Received};

use journal::Journal;

type Respond = dyn Fn(&Received) -> Answer + Send + Sync;

/// A running mock server; it stops when dropped.
///
/// It answers a request by the first of: the queue ([`Mock::push`]), the loaded cassettes ([`Mock::load`]; picked by
/// the header `x-replay-id` or by a model or path that holds `replay-<id>`), the rule given at the start.
#[derive(Debug)]
pub struct Mock {
    addr: SocketAddr,
    tls: bool,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

struct State {
    journal: Journal,
    queue: Mutex<VecDeque<Answer>>,
    cassettes: Mutex<Vec<Arc<Cassette>>>,
    otherwise: Box<Respond>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("journal", &self.journal).finish_non_exhaustive()
    }
}

impl Mock {
    /// A server on a free port that answers 599 to what neither the queue nor a cassette answers.
    pub async fn start() -> Self {
        Self::start_with(|request| {
            let message = format!("no answer for {} {}", request.method, request.target);
            Answer::json(599, &serde_json::json!({"error": {"message": message}}))
        })
        .await
    }

    /// A server on a free port with a rule of the test's own.
    pub async fn start_with(respond: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::bind(None, Box::new(respond)).await
    }

    /// The same behind TLS (HTTP/1.1 only).
    pub async fn start_tls(
        config: Arc<rustls::ServerConfig>,
        respond: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::bind(Some(TlsAcceptor::from(config)), Box::new(respond)).await
    }

    async fn bind(tls: Option<TlsAcceptor>, otherwise: Box<Respond>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port on loopback");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let state = Arc::new(State {
            journal: Journal::default(),
            queue: Mutex::default(),
            cassettes: Mutex::default(),
            otherwise,
        });
        let mut tasks = JoinSet::new();
        let encrypted = tls.is_some();
        tasks.spawn(accept(listener, tls, Arc::clone(&state)));
        Self { addr, tls: encrypted, state, tasks }
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`, or `https://localhost:PORT` behind TLS.
    pub fn url(&self) -> String {
        if self.tls { format!("https://localhost:{}", self.addr.port()) } else { format!("http://{}", self.addr) }
    }

    /// Answer the next request that comes (after those queued before) so.
    pub fn push(&self, answer: Answer) {
        self.state.queue.lock().unwrap().push_back(answer);
    }

    /// Take back the answers that are queued and were not asked for.
    pub fn forget(&self) {
        self.state.queue.lock().unwrap().clear();
    }

    /// Have these recordings ready to be picked.
    pub fn load(&self, cassettes: impl IntoIterator<Item = Arc<Cassette>>) {
        self.state.cassettes.lock().unwrap().extend(cassettes);
    }

    /// Every request received so far, in order of arrival.
    pub fn requests(&self) -> Vec<Arc<Received>> {
        self.state.journal.all()
    }

    /// How many requests it has received.
    pub fn count(&self) -> usize {
        self.state.journal.all().len()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.state.journal.connections()
    }

    /// The request with this index (from 0); waits for it to arrive.
    pub async fn request(&self, index: usize) -> Arc<Received> {
        crate::patiently(&format!("request {index} to the mock"), self.state.journal.nth(index)).await
    }

    /// Stop listening and close every connection, as a provider that dies.
    pub async fn die(&mut self) {
        self.tasks.shutdown().await;
    }
}

impl State {
    fn answer(&self, request: &Received) -> Answer {
        if let Some(answer) = self.queue.lock().unwrap().pop_front() {
            return answer;
        }
        let cassettes = self.cassettes.lock().unwrap();
        let picked = request.replay_id().and_then(|id| cassettes.iter().find(|cassette| cassette.id == id));
        picked.map_or_else(|| (self.otherwise)(request), |cassette| Answer::cassette(cassette))
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Small pieces must leave as they are written: tests look at how they arrive.
                let _ = stream.set_nodelay(true);
                let number = state.journal.connected();
                let (state, tls) = (Arc::clone(&state), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => connection::serve(stream, number, &state).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                connection::serve(stream, number, &state).await;
                            }
                        }
                    }
                });
            }
            // Finished connections are taken out, so that a long test does not collect them.
            Some(_) = connections.join_next() => {}
        }
    }
}

#[cfg(test)]
mod tests;
