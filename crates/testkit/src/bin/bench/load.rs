//! The load: a fixed number of connections, each sending its next request when the last one is answered. Bounded in
//! requests; light enough that what it measures is the other side.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base::{Clock, SystemClock};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::prover::Prover;
use crate::subject::{SERVER, Subject};

/// How many requests with proofs are made at a time: sent within the seconds such a proof lives.
const BLOCK: usize = 5_000;

/// What to send.
#[derive(Debug)]
pub(crate) enum Requests {
    /// One of these after the other, over and over.
    Given(Arc<Vec<Vec<u8>>>),
    /// Each once.
    Made(Prover),
}

impl Requests {
    fn block(&self) -> usize {
        match self {
            Self::Given(_) => usize::MAX,
            Self::Made(_) => BLOCK,
        }
    }

    async fn next(&self, count: usize) -> Arc<Vec<Vec<u8>>> {
        match self {
            Self::Given(requests) => Arc::clone(requests),
            Self::Made(prover) => Arc::new(prover.requests(count, false).await),
        }
    }
}

/// Where to send it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// Of each request, in microseconds, in order of size.
    pub(crate) latencies: Vec<u32>,
    /// Answers other than 200.
    pub(crate) failed: u64,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// The latency that this many of a hundred requests stayed within, in microseconds.
    pub(crate) fn percentile(&self, of_hundred: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * of_hundred / 100).copied().map_or(0.0, f64::from)
    }
}

/// Send the requests with these numbers over `connections` connections.
pub(crate) async fn run(target: &Target, requests: &Requests, connections: usize, numbers: Range<usize>) -> Outcome {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(target).await);
    }
    let mut whole = Outcome { took: Duration::ZERO, latencies: Vec::with_capacity(numbers.len()), failed: 0 };
    let mut start = numbers.start;
    while start < numbers.end {
        let end = start.saturating_add(requests.block()).min(numbers.end);
        let texts = requests.next(end - start).await;
        open = send(open, &texts, start..end, &mut whole).await;
        start = end;
    }
    whole.latencies.sort_unstable();
    whole
}

/// Send one block; the connections again.
async fn send(
    open: Vec<Connection>,
    texts: &Arc<Vec<Vec<u8>>>,
    numbers: Range<usize>,
    whole: &mut Outcome,
) -> Vec<Connection> {
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let failed = Arc::new(AtomicU64::new(0));
    let share = numbers.len() / open.len() * 2;
    let started = SystemClock.monotonic();
    let mut workers = JoinSet::new();
    for mut connection in open {
        let (texts, next, failed) = (Arc::clone(texts), Arc::clone(&next), Arc::clone(&failed));
        let numbers = numbers.clone();
        workers.spawn(async move {
            let mut latencies = Vec::with_capacity(share);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end {
                    return (connection, latencies);
                }
                let sent = SystemClock.monotonic();
                let status = connection.ask(&texts[number % texts.len()]).await;
                latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
                if status != 200 {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let done = workers.join_all().await;
    whole.took += started.elapsed();
    whole.failed += failed.load(Ordering::Relaxed);
    let mut open = Vec::with_capacity(done.len());
    for (connection, latencies) in done {
        whole.latencies.extend(latencies);
        open.push(connection);
    }
    open
}

/// Ask for a stream this many times, one after the other: how long until the first event of each came.
pub(crate) async fn first(target: &Target, request: &[u8], count: usize) -> Outcome {
    let mut connection = Connection::open(target).await;
    let mut outcome = Outcome { took: Duration::ZERO, latencies: Vec::with_capacity(count), failed: 0 };
    for _ in 0..count {
        let sent = SystemClock.monotonic();
        connection.write(request).await;
        connection.buffer.clear();
        connection.read_until(b"data: ").await;
        outcome.latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        while !connection.buffer.ends_with(b"0\r\n\r\n") {
            connection.more().await;
        }
    }
    outcome.latencies.sort_unstable();
    outcome
}

/// Open `count` streams, wait for the first event of each, and keep them open as long as the result is kept. One that
/// is given is sent on each.
pub(crate) async fn hold_streams(target: &Target, subject: &Subject, count: usize) -> Vec<Connection> {
    let texts = match &subject.requests {
        Requests::Given(_) => vec![subject.stream.clone(); count],
        Requests::Made(prover) => prover.requests(count, true).await,
    };
    let opening = texts.into_iter().map(|request| {
        let target = target.clone();
        async move {
            let mut connection = Connection::open(&target).await;
            connection.write(&request).await;
            connection.read_until(b"data: ").await;
            connection
        }
    });
    opening.collect::<JoinSet<_>>().join_all().await
}

/// A connection, encrypted or not.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub(crate) struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> Self {
        let stream = TcpStream::connect(target.addr).await.expect("the program under test listens");
        stream.set_nodelay(true).expect("a connected socket takes options");
        let stream = match &target.tls {
            None => Stream::Plain(stream),
            Some(config) => {
                let name = ServerName::try_from(SERVER).expect("a host name");
                let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
                Stream::Tls(Box::new(stream.expect("the program under test speaks TLS")))
            }
        };
        Self { stream, buffer: Vec::with_capacity(8 << 10) }
    }

    async fn write(&mut self, bytes: &[u8]) {
        let written = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => match stream.write_all(bytes).await {
                Ok(()) => stream.flush().await,
                Err(error) => Err(error),
            },
        };
        written.expect("the program under test reads");
    }

    /// Send one request and read the head of its answer, whatever it says.
    pub(crate) async fn head(&mut self, request: &[u8]) -> String {
        self.write(request).await;
        self.buffer.clear();
        let head = self.read_until(b"\r\n\r\n").await;
        String::from_utf8_lossy(&self.buffer[..head]).into_owned()
    }

    async fn more(&mut self) {
        let count = match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut self.buffer).await,
            Stream::Tls(stream) => stream.read_buf(&mut self.buffer).await,
        };
        let count = count.expect("the program under test answers");
        assert!(count > 0, "closed before the end of an answer: {:?}", String::from_utf8_lossy(&self.buffer));
    }

    async fn read_until(&mut self, end: &[u8]) -> usize {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return at + end.len();
            }
            self.more().await;
        }
    }

    /// Send one request and read its whole answer; the status.
    async fn ask(&mut self, request: &[u8]) -> u16 {
        self.write(request).await;
        self.buffer.clear();
        let head = self.read_until(b"\r\n\r\n").await;
        let text = std::str::from_utf8(&self.buffer[..head]).expect("an answer's head is text").to_ascii_lowercase();
        let status = text.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
        assert!(status == 200, "refused: {}", String::from_utf8_lossy(&self.buffer));
        if let Some((_, length)) = text.split_once("content-length:") {
            let length: usize = length.lines().next().unwrap_or_default().trim().parse().expect("a length");
            while self.buffer.len() < head + length {
                self.more().await;
            }
        } else {
            // Every answer here is small JSON, so the end of the chunks cannot occur inside it.
            while !self.buffer[head..].ends_with(b"0\r\n\r\n") {
                self.more().await;
            }
        }
        status
    }
}
