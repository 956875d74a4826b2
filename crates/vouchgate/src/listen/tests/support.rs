//! A listener with a small service behind it, and a client that speaks in raw bytes.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use base::Problem;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use net::BodyError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::listen::{Caps, Drain, Edge, Limits, Listener, Peer, Pressure, RequestBody, ServerTls, Service};
use crate::tasks::{StopTasks, Tasks};

/// Nothing here takes longer unless it hangs.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// The limits that are waited for.
pub(super) const SHORT: Duration = Duration::from_millis(200);

/// Limits under which a test ends soon.
pub(super) fn hasty() -> Limits {
    Limits {
        tls_handshake: SHORT,
        header_timeout: SHORT,
        keep_alive: SHORT * 3,
        body_idle: SHORT,
        write_idle: SHORT,
        ..Limits::default()
    }
}

/// What the service has seen, and what it waits for.
pub(super) struct Desk {
    pub(super) seen: Mutex<Vec<String>>,
    pub(super) peers: Mutex<Vec<Arc<Peer>>>,
    /// `/hold` answers when there is a permit.
    pub(super) gate: Semaphore,
    /// Pieces of `/endless` produced so far, all requests together.
    pub(super) pieces: Arc<AtomicUsize>,
    /// Answers of `/endless` and `/hold` dropped before their end.
    pub(super) dropped: Arc<AtomicUsize>,
    ending: Mutex<Option<watch::Receiver<bool>>>,
}

type AnyBody = UnsyncBoxBody<Bytes, Infallible>;

fn whole(text: impl Into<Bytes>) -> AnyBody {
    http_body_util::Full::new(text.into()).boxed_unsync()
}

/// As much data as is asked for.
struct Endless {
    desk: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
        self.desk.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// One event, then silence until the drain's end, then a last one.
struct Stream {
    said: usize,
    ending: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.said += 1;
        let event = match self.said {
            1 => "data: one\n\n",
            2 => {
                if self.ending.as_mut().poll(cx).is_pending() {
                    self.said = 1;
                    return Poll::Pending;
                }
                "event: error\n\n"
            }
            _ => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(event.as_bytes())))))
    }
}

struct Explosive;

impl Body for Explosive {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("in the body");
    }
}

impl Service for Desk {
    type Body = AnyBody;

    async fn call(&self, request: Request<RequestBody>, peer: Arc<Peer>) -> Response<AnyBody> {
        self.peers.lock().unwrap().push(peer);
        let line = format!("{} {}", request.method(), request.uri().path());
        self.seen.lock().unwrap().push(line.clone());
        if request.method() == Method::CONNECT {
            let mut response = Response::new(whole("no tunnels"));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            return response;
        }
        match request.uri().path() {
            "/panic" => panic!("in the handler"),
            "/panic-body" => return Response::new(Explosive.boxed_unsync()),
            "/endless" => {
                let (desk, dropped) = (Arc::clone(&self.pieces), Arc::clone(&self.dropped));
                return Response::new(Endless { desk, dropped }.boxed_unsync());
            }
            "/stream" => {
                let mut ending = self.ending.lock().unwrap().clone().unwrap();
                let ending = Box::pin(async move {
                    let _ = ending.wait_for(|now| *now).await;
                });
                return Response::new(Stream { said: 0, ending }.boxed_unsync());
            }
            "/hold" => self.gate.acquire().await.unwrap().forget(),
            _ => {}
        }
        match request.into_body().collect().await {
            Ok(body) => {
                let body = body.to_bytes();
                let seen = format!("{line} [{}]", String::from_utf8_lossy(&body));
                *self.seen.lock().unwrap().last_mut().unwrap() = seen.clone();
                Response::new(whole(seen))
            }
            Err(error) => {
                let mut response = Response::new(whole(error.reason()));
                let idle = error == BodyError::Idle;
                *response.status_mut() = if idle { StatusCode::REQUEST_TIMEOUT } else { StatusCode::BAD_REQUEST };
                response
            }
        }
    }

    fn refuse(&self, problem: Problem) -> Response<AnyBody> {
        let mut response = Response::new(whole(problem.code));
        *response.status_mut() = problem.status;
        response
    }
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) desk: Arc<Desk>,
    pub(super) edge: Edge,
    pub(super) tasks: Tasks,
    _stop: StopTasks,
}

impl Server {
    pub(super) async fn start(limits: Limits) -> Self {
        Self::with(limits, Caps::new(1000, 1000, Vec::new()), None).await
    }

    pub(super) async fn with(limits: Limits, caps: Arc<Caps>, tls: Option<Arc<ServerTls>>) -> Self {
        let desk = Arc::new(Desk {
            seen: Mutex::default(),
            peers: Mutex::default(),
            gate: Semaphore::new(0),
            pieces: Arc::default(),
            dropped: Arc::default(),
            ending: Mutex::default(),
        });
        let edge = Edge { limits, caps, drain: Drain::new(), pressure: Arc::new(Pressure::default()) };
        *desk.ending.lock().unwrap() = Some(edge.drain.ending());
        let (tasks, stop) = Tasks::new();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), tls, false).await.unwrap();
        let address = listener.address();
        tasks.spawn(listener.serve(Arc::clone(&desk), edge.clone(), tasks.clone()));
        Self { address, desk, edge, tasks, _stop: stop }
    }

    pub(super) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Send bytes on a connection of their own and read until it closes.
    pub(super) async fn tell(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.say(bytes).await;
        client.0.shutdown().await.ok();
        client.rest().await
    }

    /// The requests that reached the service.
    pub(super) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.desk.seen.lock().unwrap())
    }

    /// Wait until something is so. It becomes so by itself, or the test has failed.
    pub(super) async fn until(&self, so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !so(self) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.expect("it never became so");
    }
}

/// One connection.
pub(super) struct Client(pub(super) TcpStream);

impl Client {
    /// Write; that the other side has closed shows when reading.
    pub(super) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// Everything until the connection closes.
    pub(super) async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        let mut piece = vec![0; 16 * 1024];
        loop {
            match tokio::time::timeout(LONG, self.0.read(&mut piece)).await.expect("the connection stays open") {
                Ok(0) | Err(_) => return String::from_utf8_lossy(&all).into_owned(),
                Ok(got) => all.extend_from_slice(&piece[..got]),
            }
        }
    }

    /// Everything until `end` has been read.
    pub(super) async fn until(&mut self, end: &str) -> String {
        let mut all = Vec::new();
        let mut byte = [0; 1];
        while !all.ends_with(end.as_bytes()) {
            let got = tokio::time::timeout(LONG, self.0.read(&mut byte)).await.expect("no answer").unwrap();
            assert_eq!(got, 1, "closed after {}", String::from_utf8_lossy(&all));
            all.push(byte[0]);
        }
        String::from_utf8(all).unwrap()
    }
}

/// The status codes of the answers in `text`.
pub(super) fn statuses(text: &str) -> Vec<u16> {
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}
