//! One connection: read a request, write its answer, note whether the caller stayed for it.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::journal::{Outcome, Received};
use super::{Answer, Framing, State};

/// Enough for any test's request; more is a runaway.
const MOST: usize = 64 << 20;

/// Serve requests until the caller leaves or an answer ends the connection.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Send>(stream: S, number: usize, state: &State) {
    let (read, mut write) = tokio::io::split(stream);
    let mut input = Input { read, buffer: Vec::new() };
    while let Some(request) = receive(&mut input, &mut write, number).await {
        let request = state.journal.note(request);
        let answer = state.answer(&request);
        let sent = tokio::select! {
            sent = send(&answer, &mut write) => sent.ok(),
            () = input.closed() => None,
        };
        request.outcome.send_replace(if sent.is_some() { Outcome::Answered } else { Outcome::Dropped });
        if sent != Some(true) {
            break;
        }
    }
    let _ = write.shutdown().await;
}

struct Input<S> {
    read: ReadHalf<S>,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite> Input<S> {
    /// Read some more; `false` at the end.
    async fn more(&mut self) -> bool {
        if self.buffer.len() > MOST {
            return false;
        }
        let mut piece = vec![0; 64 << 10];
        match self.read.read(&mut piece).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                true
            }
        }
    }

    /// Ends when the caller closes its side. What it sends meanwhile is kept for the next request.
    async fn closed(&mut self) {
        while self.more().await {}
    }

    /// The bytes up to and with `end`.
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

    /// The body of a chunked request, without trailers.
    async fn chunked(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            let line = String::from_utf8(line).ok()?;
            let size = usize::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
            if size == 0 {
                while self.until(b"\r\n").await? != b"\r\n" {}
                return Some(body);
            }
            body.extend(self.exactly(size).await?);
            self.exactly(2).await?;
        }
    }
}

async fn receive<S: AsyncRead + AsyncWrite>(
    input: &mut Input<S>,
    write: &mut WriteHalf<S>,
    connection: usize,
) -> Option<Received> {
    let head = input.until(b"\r\n\r\n").await?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let value =
        |name: &str| headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    if value("expect").is_some() {
        write.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let body = if value("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        input.chunked().await?
    } else {
        let length = value("content-length").map_or(Some(0), |length| length.parse().ok())?;
        input.exactly(length).await?
    };
    Some(Received { method, target, head, headers, body, connection, outcome: watch::Sender::new(Outcome::Open) })
}

/// Write the answer as it was asked to be; whether the connection can go on after it.
async fn send<W: AsyncWrite + Unpin>(answer: &Answer, write: &mut W) -> std::io::Result<bool> {
    if let Some(gate) = &answer.before_head {
        gate.pass().await;
    }
    if answer.raw {
        write.write_all(&answer.body).await?;
        write.flush().await?;
        return Ok(false);
    }
    write.write_all(&answer.head()).await?;
    write.flush().await?;
    if !send_body(answer, write).await? {
        return Ok(false);
    }
    if answer.framing == Framing::Chunked {
        write.write_all(b"0\r\n\r\n").await?;
    }
    write.flush().await?;
    Ok(matches!(answer.framing, Framing::Chunked | Framing::Length))
}

/// Write the body piece by piece; `false` where it was to be cut.
async fn send_body<W: AsyncWrite + Unpin>(answer: &Answer, write: &mut W) -> std::io::Result<bool> {
    let mut stall = answer.stall.clone();
    let mut sent = 0;
    for _ in 0..answer.repeat {
        let mut rest = &answer.body[..];
        loop {
            if let Some((_, gate)) = stall.take_if(|(at, _)| *at == sent) {
                gate.pass().await;
            }
            if answer.cut == Some(sent) {
                return Ok(false);
            }
            if rest.is_empty() {
                break;
            }
            if let Some(gate) = &answer.before_piece {
                gate.pass().await;
            }
            // A stall or a cut ahead ends the piece early.
            let stops = [stall.as_ref().map(|(at, _)| *at), answer.cut];
            let ahead =
                stops.into_iter().flatten().filter_map(|at| at.checked_sub(sent)).filter(|rest| *rest > 0).min();
            let (now, later) = rest.split_at(answer.piece.min(rest.len()).min(ahead.unwrap_or(usize::MAX)));
            if answer.framing == Framing::Chunked {
                let chunk = [format!("{:x}\r\n", now.len()).as_bytes(), now, b"\r\n"].concat();
                write.write_all(&chunk).await?;
            } else {
                write.write_all(now).await?;
            }
            write.flush().await?;
            sent += now.len();
            rest = later;
        }
    }
    Ok(true)
}
