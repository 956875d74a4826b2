//! The load: a fixed number of connections, each sending its next request when the last one is answered. Bounded in
//! requests; light enough that what it measures is the other side.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What to send: one of these after the other, over and over.
pub(crate) type Requests = Arc<Vec<Vec<u8>>>;

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
pub(crate) async fn run(addr: SocketAddr, requests: &Requests, connections: usize, numbers: Range<usize>) -> Outcome {
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let failed = Arc::new(AtomicU64::new(0));
    let started = SystemClock.monotonic();
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let (requests, next, failed) = (Arc::clone(requests), Arc::clone(&next), Arc::clone(&failed));
        let numbers = numbers.clone();
        workers.spawn(async move {
            let mut connection = Connection::open(addr).await;
            let mut latencies = Vec::with_capacity(numbers.len() / connections * 2);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end {
                    return latencies;
                }
                let sent = SystemClock.monotonic();
                let status = connection.ask(&requests[number % requests.len()]).await;
                latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
                if status != 200 {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let mut latencies: Vec<u32> = workers.join_all().await.into_iter().flatten().collect();
    let took = started.elapsed();
    latencies.sort_unstable();
    Outcome { took, latencies, failed: failed.load(Ordering::Relaxed) }
}

/// Open `count` streams, wait for the first event of each, and keep them open as long as the result is kept.
pub(crate) async fn hold_streams(addr: SocketAddr, request: &[u8], count: usize) -> Vec<Connection> {
    let opening = (0..count).map(|_| {
        let request = request.to_vec();
        async move {
            let mut connection = Connection::open(addr).await;
            connection.write(&request).await;
            connection.read_until(b"data: ").await;
            connection
        }
    });
    opening.collect::<JoinSet<_>>().join_all().await
}

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the program under test listens");
        stream.set_nodelay(true).expect("a connected socket takes options");
        Self { stream, buffer: Vec::with_capacity(8 << 10) }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the program under test reads");
    }

    async fn more(&mut self) {
        let count = self.stream.read_buf(&mut self.buffer).await.expect("the program under test answers");
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
