//! The provider behind: answers a chat request at once, or opens a stream and sends as many events as the request says, or
//! sends one and holds it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A chat completion of about half a kilobyte.
const ANSWER: &str = r#"{"id":"chatcmpl-0123456789abcdefghijklmno","object":"chat.completion","created":1790000000,"model":"bench-model","choices":[{"index":0,"message":{"role":"assistant","content":"A gateway stands between those who call and what is called, and lets through what it can vouch for.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":180,"completion_tokens":24,"total_tokens":204,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"service_tier":"default"}"#;

const EVENT: &str = "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"bench-model\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"A\"},\"finish_reason\":null}]}\n\n";

const END: &str = "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"bench-model\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

pub(crate) async fn run(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                connections.spawn(async move {
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let stream = body.windows(13).any(|window| window == b"\"stream\":true");
    let event = Bytes::from_static(EVENT.as_bytes());
    let (kind, body) = match asked(&body).filter(|_| stream) {
        Some(more) => ("text/event-stream", Answer { now: Some(event), more, paused: false, held: false }),
        None if stream => ("text/event-stream", Answer { now: Some(event), more: 0, paused: false, held: true }),
        None => {
            let whole = Bytes::from_static(ANSWER.as_bytes());
            ("application/json", Answer { now: Some(whole), more: 0, paused: false, held: false })
        }
    };
    Ok(Response::builder().header(header::CONTENT_TYPE, kind).body(body).expect("a valid response"))
}

/// How many events the request wants (`chunks=200`).
fn asked(body: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, count) = text.split_once("chunks=")?;
    count.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// One piece, then as many more, and then the end or nothing ever.
struct Answer {
    now: Option<Bytes>,
    more: usize,
    /// Between two pieces, so that each is a write of its own.
    paused: bool,
    held: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.now.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.more > 0 && !self.paused => {
                self.paused = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None if self.more > 0 => {
                self.paused = false;
                self.more -= 1;
                let bytes = Bytes::from_static(if self.more == 0 { END.as_bytes() } else { EVENT.as_bytes() });
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            None if self.held => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.now.is_none() && self.more == 0 && !self.held
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match (&self.now, self.held || self.more > 0) {
            (Some(bytes), false) => hyper::body::SizeHint::with_exact(bytes.len() as u64),
            (None, false) => hyper::body::SizeHint::with_exact(0),
            (_, true) => hyper::body::SizeHint::default(),
        }
    }
}
