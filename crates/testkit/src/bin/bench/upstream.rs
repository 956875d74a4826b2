//! The provider behind: answers a chat request at once, or opens a stream, sends one event and holds it.

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
    let (kind, body) = if stream {
        ("text/event-stream", Answer { now: Some(Bytes::from_static(EVENT.as_bytes())), held: true })
    } else {
        ("application/json", Answer { now: Some(Bytes::from_static(ANSWER.as_bytes())), held: false })
    };
    Ok(Response::builder().header(header::CONTENT_TYPE, kind).body(body).expect("a valid response"))
}

/// One piece, and then the end or nothing ever.
struct Answer {
    now: Option<Bytes>,
    held: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.now.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.held => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.now.is_none() && !self.held
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match (&self.now, self.held) {
            (Some(bytes), false) => hyper::body::SizeHint::with_exact(bytes.len() as u64),
            (None, false) => hyper::body::SizeHint::with_exact(0),
            (_, true) => hyper::body::SizeHint::default(),
        }
    }
}
