//! An HTTP/1.1 client that sends exactly the bytes it is given and shows exactly what came back: for malformed
//! requests, requests in pieces, and streams that are read one piece at a time.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::patiently;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection to the server under test.
pub struct Connection {
    wire: Box<dyn Wire>,
    buffer: Vec<u8>,
    framing: Body,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("framing", &self.framing).finish_non_exhaustive()
    }
}

/// What is left of the body of the response being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(usize),
    Chunked,
    UntilClose,
    Done,
}

/// A status line and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status line and headers.
    pub head: Head,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Whether the body ended as its framing says; `false` after a cut.
    pub complete: bool,
}

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON (`null` if it is not).
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Send one request on a connection of its own and read the whole response.
pub async fn request(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let mut connection = Connection::open(addr).await;
    connection.request(method, path, headers, body).await;
    connection.response().await
}

/// Send these bytes on a connection of their own and read all that comes until the server closes.
pub async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut connection = Connection::open(addr).await;
    connection.send(bytes).await;
    connection.to_close().await
}

impl Connection {
    /// Connect in plain text.
    pub async fn open(addr: SocketAddr) -> Self {
        let stream = patiently("a connection", TcpStream::connect(addr)).await.expect("the server listens");
        stream.set_nodelay(true).expect("a connected socket takes options");
        Self::over(stream)
    }

    /// Connect by TLS; `Err` when the handshake fails, as some tests want it to.
    pub async fn open_tls(addr: SocketAddr, name: &str, config: Arc<rustls::ClientConfig>) -> std::io::Result<Self> {
        let stream = patiently("a connection", TcpStream::connect(addr)).await?;
        let name = ServerName::try_from(name.to_owned()).expect("a DNS name or address");
        let stream = patiently("a handshake", TlsConnector::from(config).connect(name, stream)).await?;
        Ok(Self::over(stream))
    }

    fn over(wire: impl Wire + 'static) -> Self {
        Self { wire: Box::new(wire), buffer: Vec::new(), framing: Body::Done }
    }

    /// Send these bytes. A server that has closed already is no failure here: what it answered can still be read.
    pub async fn send(&mut self, bytes: &[u8]) {
        let sent = async {
            let _ = self.wire.write_all(bytes).await;
            let _ = self.wire.flush().await;
        };
        patiently("the server to read", sent).await;
    }

    /// Send a well-formed request; `Host` and `Content-Length` are added where not given.
    pub async fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let given = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !given("host") {
            head.push_str("Host: localhost\r\n");
        }
        if !given("content-length") && !given("transfer-encoding") && (!body.is_empty() || method == "POST") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(&[head.as_bytes(), body].concat()).await;
    }

    /// Close our side only: the server sees the end of the request stream.
    pub async fn half_close(&mut self) {
        let _ = self.wire.shutdown().await;
    }

    /// The status line and headers of the next response (interim responses are passed over); `None` when the server
    /// closed instead.
    pub async fn head(&mut self) -> Option<Head> {
        loop {
            let head = self.until(b"\r\n\r\n").await?;
            let head = parse_head(&head)?;
            if (100..200).contains(&head.status) && head.status != 101 {
                continue;
            }
            let coding = head.header("transfer-encoding");
            let length = head.header("content-length").and_then(|length| length.parse().ok());
            self.framing = match (head.status, coding, length) {
                (101 | 204 | 304, _, _) | (_, None, Some(0)) => Body::Done,
                (_, Some(_), _) => Body::Chunked,
                (_, None, Some(length)) => Body::Length(length),
                (_, None, None) => Body::UntilClose,
            };
            return Some(head);
        }
    }

    /// The next piece of the body as it arrives; `None` at its end. `Err` when the connection ended before it.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        match self.framing {
            Body::Done => Ok(None),
            Body::Length(left) => {
                if self.buffer.is_empty() && !self.more().await {
                    return Err(Cut);
                }
                let piece: Vec<u8> = self.buffer.drain(..left.min(self.buffer.len())).collect();
                self.framing = if piece.len() == left { Body::Done } else { Body::Length(left - piece.len()) };
                Ok(Some(piece))
            }
            Body::Chunked => {
                let line = self.until(b"\r\n").await.ok_or(Cut)?;
                let line = String::from_utf8_lossy(&line).into_owned();
                let size = line.trim().split(';').next().and_then(|size| usize::from_str_radix(size, 16).ok());
                let size = size.ok_or(Cut)?;
                if size == 0 {
                    while self.until(b"\r\n").await.ok_or(Cut)? != b"\r\n" {}
                    self.framing = Body::Done;
                    return Ok(None);
                }
                let piece = self.exactly(size).await.ok_or(Cut)?;
                self.exactly(2).await.ok_or(Cut)?;
                Ok(Some(piece))
            }
            Body::UntilClose => {
                if self.buffer.is_empty() && !self.more().await {
                    self.framing = Body::Done;
                    return Ok(None);
                }
                Ok(Some(std::mem::take(&mut self.buffer)))
            }
        }
    }

    /// The next response, whole; fails the test when the server closes without one.
    pub async fn response(&mut self) -> Response {
        self.try_response().await.expect("a response before the connection is closed")
    }

    /// The next response, whole; `None` when the server closed without one.
    pub async fn try_response(&mut self) -> Option<Response> {
        let head = self.head().await?;
        let mut body = Vec::new();
        let complete = loop {
            match self.piece().await {
                Ok(Some(piece)) => body.extend(piece),
                Ok(None) => break true,
                Err(Cut) => break false,
            }
        };
        Some(Response { head, body, complete })
    }

    /// Everything that comes until the server closes.
    pub async fn to_close(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Read some more; `false` at the end.
    async fn more(&mut self) -> bool {
        let mut piece = vec![0; 16 << 10];
        match patiently("the server to answer or close", self.wire.read(&mut piece)).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                true
            }
        }
    }

    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }
}

/// The connection ended in the middle of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut;

/// Split what one connection brought into its responses: how many requests the server saw in the bytes it was sent.
pub fn split_responses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

fn parse_head(head: &[u8]) -> Option<Head> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some(Head { status, headers })
}
