//! How a command reaches the operations: the admin API, over `admin.sock` of the server that runs, or in process.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use control::admin::LocalApi;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::io::{Exit, Failure};

/// The longest answer taken, in bytes.
const MAX_ANSWER: usize = 64 << 20;
const TIMEOUT: Duration = Duration::from_mins(1);

/// The admin API of one data directory.
pub(super) enum Api {
    /// Of a server that runs.
    Running(PathBuf),
    /// In this process, which holds the data directory's lock.
    Here(Box<LocalApi>),
}

impl Api {
    /// Ask, and fail with the API's own words unless it says yes.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("/admin/v1{path}"))
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|e| Failure::new(e.to_string()))?;
        let (status, bytes) = match self {
            Self::Here(api) => api.call(request).await,
            Self::Running(socket) => over_socket(socket, request).await?,
        };
        let answer = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).map_err(|e| Failure::new(format!("the server's answer is not JSON: {e}")))?
        };
        if status.is_success() { Ok(answer) } else { Err(refusal(status, &answer)) }
    }

    /// Get bytes and write them to `to` as they come. How many.
    pub(super) async fn download(&self, path: &str, to: &mut dyn Write) -> Result<u64, Failure> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("/admin/v1{path}"))
            .header(header::HOST, "localhost")
            .body(Full::new(Bytes::new()))
            .map_err(|e| Failure::new(e.to_string()))?;
        match self {
            Self::Here(api) => written(api.stream(request).await, to).await,
            Self::Running(socket) => {
                let lost = |what: &str| Failure::new(format!("the server at {}: {what}", socket.display()));
                let stream = UnixStream::connect(socket).await.map_err(|e| lost(&e.to_string()))?;
                let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|e| lost(&e.to_string()))?;
                let answer = async {
                    let response = sender.send_request(request).await.map_err(|e| lost(&e.to_string()))?;
                    written(response, to).await
                };
                let mut answer = std::pin::pin!(answer);
                tokio::select! {
                    answer = &mut answer => answer,
                    _ = connection => answer.await,
                }
            }
        }
    }

    /// All items of a list, page by page.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        // More pages than any list has: a server that never ends its list must not hang us.
        for _ in 0..10_000 {
            let more = if path.contains('?') { '&' } else { '?' };
            let page = match &cursor {
                None => format!("{path}{more}limit=200"),
                Some(cursor) => format!("{path}{more}limit=200&cursor={cursor}"),
            };
            let mut answer = self.call(Method::GET, &page, None).await?;
            if let Some(Value::Array(more)) = answer.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            match answer.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
        Err(Failure::new("the list does not end"))
    }
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn refusal(status: StatusCode, answer: &Value) -> Failure {
    let text = |member: &str| answer.get(member).and_then(Value::as_str).unwrap_or_default();
    let mut message = match text("detail") {
        "" => format!("the server answered {status}"),
        detail => detail.to_owned(),
    };
    for fault in answer.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let part = |member: &str| fault.get(member).and_then(Value::as_str).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(message, "\n  {}: {}", part("path"), part("message"));
        if !part("hint").is_empty() {
            let _ = write!(message, " ({})", part("hint"));
        }
    }
    // Not there, there already, not allowed: the answer is no. The rest could not be done.
    let exit = if status.is_client_error() { Exit::No } else { Exit::Failed };
    Failure { exit, message }
}

/// What `/readyz` says in detail: also of a server that is not ready.
pub(super) async fn readiness(socket: &std::path::Path) -> Result<Value, Failure> {
    let request = Request::builder().uri("/readyz").header(header::HOST, "localhost").body(Full::new(Bytes::new()));
    let (_, bytes) = over_socket(socket, request.map_err(|e| Failure::new(e.to_string()))?).await?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::new(format!("the server's answer is not JSON: {e}")))
}

async fn over_socket(socket: &std::path::Path, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
    let lost = |what: &str| Failure::new(format!("the server at {}: {what}", socket.display()));
    let exchange = async {
        let stream = UnixStream::connect(socket).await.map_err(|e| lost(&e.to_string()))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| lost(&e.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| lost(&e.to_string()))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| lost(&e.to_string()))?;
            Ok((head.status, body.to_bytes()))
        };
        // The connection has to be driven along; that it closes first does not mean that the answer is incomplete.
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    };
    tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| lost("no answer within a minute"))?
}

/// Write the body of an answer as it comes; one that ends early is a failure.
async fn written<B>(response: http::Response<B>, to: &mut dyn Write) -> Result<u64, Failure>
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        let said = body.frame().await.and_then(Result::ok).and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        return Err(refusal(head.status, &serde_json::from_slice(&said).unwrap_or_default()));
    }
    let mut bytes = 0;
    loop {
        let next = tokio::time::timeout(TIMEOUT, body.frame()).await;
        let next = next.map_err(|_| Failure::new("nothing came for a minute"))?;
        let Some(frame) = next else { break };
        let frame = frame.map_err(|error| Failure::new(format!("it broke off after {bytes} bytes: {error}")))?;
        if let Ok(data) = frame.into_data() {
            to.write_all(&data)?;
            bytes += data.len() as u64;
        }
    }
    to.flush()?;
    Ok(bytes)
}

/// Whether a server answers at `socket`.
pub(super) async fn answers(socket: &std::path::Path) -> bool {
    tokio::time::timeout(Duration::from_secs(5), UnixStream::connect(socket)).await.is_ok_and(|r| r.is_ok())
}
