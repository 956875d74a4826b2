//! A peer that speaks in raw bytes, so that it can misbehave.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use net::{Deadlines, Egress, EgressConfig, FixedResolver, OutBody, Reach, Target, UpstreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use url::Url;

/// Nothing here takes longer unless it hangs.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A listener on loopback that hands out its connections and counts them.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<TcpStream>,
    count: Arc<AtomicUsize>,
}

impl Peer {
    pub(crate) async fn new() -> Self {
        Self::on("127.0.0.1").await
    }

    pub(crate) async fn on(host: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        Self::from(listener)
    }

    pub(crate) fn from(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = mpsc::unbounded_channel();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                if sender.send(stream).is_err() {
                    break;
                }
            }
        });
        Self { address, accepted, count }
    }

    /// The next connection made.
    pub(crate) async fn connection(&mut self) -> Wire {
        Wire(tokio::time::timeout(LONG, self.accepted.recv()).await.expect("a connection").unwrap())
    }

    /// Connections made so far.
    pub(crate) fn connections(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> Url {
        Url::parse(&format!("http://{}/", self.address)).unwrap()
    }

    pub(crate) fn target(&self) -> Target {
        Target::new(&self.url(), Reach::Private).unwrap()
    }
}

/// One connection, as bytes.
pub(crate) struct Wire(pub(crate) TcpStream);

impl Wire {
    /// Read one request: its head, and as much body as its `content-length` says.
    pub(crate) async fn request(&mut self) -> String {
        let mut seen = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&seen).into_owned();
            if let Some(end) = text.find("\r\n\r\n") {
                let head = text[..end].to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                if text.len() >= end + 4 + length.unwrap_or(0) {
                    return text;
                }
            }
            let mut more = [0; 4096];
            let got = tokio::time::timeout(LONG, self.0.read(&mut more)).await.expect("a request").unwrap();
            assert_ne!(got, 0, "closed after {seen:?}");
            seen.extend_from_slice(&more[..got]);
        }
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Wait for the other side to close; whether it did.
    pub(crate) async fn closed(&mut self) -> bool {
        let mut rest = [0; 4096];
        loop {
            match tokio::time::timeout(LONG, self.0.read(&mut rest)).await {
                Ok(Ok(0) | Err(_)) => return true,
                Ok(Ok(_)) => {}
                Err(_) => return false,
            }
        }
    }
}

#[allow(clippy::disallowed_methods)]
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

pub(crate) fn egress() -> Egress {
    Egress::new(EgressConfig::default()).unwrap()
}

/// An egress that knows these names.
pub(crate) fn knowing(config: EgressConfig, names: &[(&str, &str)]) -> Egress {
    let mut resolver = FixedResolver::new();
    for (name, address) in names {
        let address: IpAddr = address.parse().unwrap();
        resolver = resolver.with(name, &[address]);
    }
    Egress::with_resolver(config, Arc::new(resolver)).unwrap()
}

pub(crate) fn get(path: &str) -> Request<OutBody> {
    Request::builder().uri(path).body(OutBody::empty()).unwrap()
}

pub(crate) fn post(path: &str, body: &'static str) -> Request<OutBody> {
    Request::builder().method(Method::POST).uri(path).body(OutBody::from(Bytes::from_static(body.as_bytes()))).unwrap()
}

pub(crate) fn patient() -> Deadlines {
    Deadlines { connect: LONG, tls: LONG, first_byte: LONG, idle: LONG }
}

pub(crate) async fn text(body: UpstreamBody) -> Result<String, net::BodyError> {
    let bytes = tokio::time::timeout(LONG, body.collect()).await.expect("a whole body")?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}
