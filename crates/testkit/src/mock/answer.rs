//! What the mock answers, and how it misbehaves while it does.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::Cassette;

/// Holds an answer back until the test lets it go on. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// A closed gate. One that is never opened is a stall.
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Let the next `count` who wait here (or will) pass.
    pub fn step(&self, count: usize) {
        self.0.add_permits(count);
    }

    /// Let everybody pass from now on.
    pub fn open(&self) {
        self.0.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Wait to pass.
    pub(super) async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::closed()
    }
}

/// How the end of the body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`, each piece a chunk.
    Chunked,
    /// `Content-Length` with the true length.
    Length,
    /// `Content-Length` with this value, whatever is sent.
    WrongLength(u64),
    /// Neither: the end of the connection is the end of the body.
    UntilClose,
}

/// An answer, built up by the test.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) framing: Framing,
    pub(super) piece: usize,
    pub(super) repeat: u64,
    pub(super) before_head: Option<Gate>,
    pub(super) before_piece: Option<Gate>,
    pub(super) stall: Option<(usize, Gate)>,
    pub(super) cut: Option<usize>,
    pub(super) raw: bool,
}

impl Answer {
    /// A body of this type, sent at once with its length.
    pub fn bytes(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
            framing: Framing::Length,
            piece: usize::MAX,
            repeat: 1,
            before_head: None,
            before_piece: None,
            stall: None,
            cut: None,
            raw: false,
        }
    }

    /// A JSON body.
    pub fn json(status: u16, value: &Value) -> Self {
        Self::bytes(status, "application/json", value.to_string())
    }

    /// A stream of server-sent events, chunked.
    pub fn sse(text: impl Into<String>) -> Self {
        Self::bytes(200, "text/event-stream", text.into()).framing(Framing::Chunked)
    }

    /// Each value as one `data:` event and then `[DONE]`, as OpenAI's streams go.
    pub fn openai_stream(events: &[Value]) -> Self {
        let mut text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        text.push_str("data: [DONE]\n\n");
        Self::sse(text)
    }

    /// Each value as one event named by its `type`, as Anthropic's streams go.
    pub fn anthropic_stream(events: &[Value]) -> Self {
        let named = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
        Self::sse(events.iter().map(named).collect::<String>())
    }

    /// The recorded status, headers and body.
    pub fn cassette(cassette: &Cassette) -> Self {
        let mut answer = Self::bytes(cassette.status, &cassette.content_type, cassette.response_body.clone());
        answer.framing = Framing::Chunked;
        answer.headers.extend(cassette.response_headers.iter().cloned());
        answer.header("x-replayed", &cassette.id)
    }

    /// A redirect.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::bytes(status, "text/plain", "").header("location", location)
    }

    /// These bytes and nothing else on the wire, then the connection is closed: whatever no library would send.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        let mut answer = Self::bytes(0, "", bytes);
        answer.raw = true;
        answer
    }

    /// Accept the request and close without a byte of answer.
    pub fn nothing() -> Self {
        Self::raw("")
    }

    /// With another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// With another framing.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Send the body in pieces of `size` bytes, each written and flushed on its own, at odd places of lines and
    /// characters.
    #[must_use]
    pub fn pieces(mut self, size: usize) -> Self {
        self.piece = size.max(1);
        if self.framing == Framing::Length && size != usize::MAX {
            self.framing = Framing::Chunked;
        }
        self
    }

    /// Send the body this many times over, chunked: a huge answer from little memory, or with `u64::MAX` an endless one.
    #[must_use]
    pub fn repeat(mut self, times: u64) -> Self {
        self.repeat = times;
        self.framing = Framing::Chunked;
        self
    }

    /// Wait at `gate` before the first byte of the answer.
    #[must_use]
    pub fn hold_head(mut self, gate: &Gate) -> Self {
        self.before_head = Some(gate.clone());
        self
    }

    /// Wait at `gate` before each piece of the body.
    #[must_use]
    pub fn hold_pieces(mut self, gate: &Gate) -> Self {
        self.before_piece = Some(gate.clone());
        self
    }

    /// Wait at `gate` once `bytes` of the body have been sent.
    #[must_use]
    pub fn stall_after(mut self, bytes: usize, gate: &Gate) -> Self {
        self.stall = Some((bytes, gate.clone()));
        self.chunked()
    }

    /// Close the connection once `bytes` of the body have been sent, without the end that the framing promises.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self.chunked()
    }

    fn chunked(mut self) -> Self {
        if self.framing == Framing::Length && self.headers.iter().any(|(_, value)| value.contains("event-stream")) {
            self.framing = Framing::Chunked;
        }
        self
    }

    /// The status line and headers.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.framing {
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
            Framing::Length => head.push_str(&format!("content-length: {}\r\n", self.body.len())),
            Framing::WrongLength(length) => head.push_str(&format!("content-length: {length}\r\n")),
            Framing::UntilClose => head.push_str("connection: close\r\n"),
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}
