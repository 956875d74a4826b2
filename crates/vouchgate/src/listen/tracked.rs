//! An answer's body on its way out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use net::BoxError;
use pin_project_lite::pin_project;

use super::watch::Active;

pin_project! {
    /// Keeps its request counted as active, and tells the watch whose turn it is.
    pub(super) struct Tracked<B> {
        #[pin]
        body: B,
        active: Active,
    }
}

/// The handler's code panicked while its answer was being sent.
#[derive(Debug, thiserror::Error)]
#[error("the answer could not be completed")]
pub(super) struct Panicked;

impl<B> Tracked<B> {
    pub(super) fn new(body: B, mut active: Active) -> Self {
        active.answering();
        Self { body, active }
    }
}

impl<B> Body for Tracked<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        this.active.asked();
        let body = this.body;
        // An error cuts this answer off; a panic would take the connection's other streams with it.
        match catch_unwind(AssertUnwindSafe(|| body.poll_frame(cx))) {
            Ok(Poll::Ready(Some(Ok(frame)))) => {
                this.active.handed_over();
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(Poll::Ready(Some(Err(error)))) => Poll::Ready(Some(Err(error.into()))),
            Ok(Poll::Ready(None)) => Poll::Ready(None),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => {
                tracing::error!("a request's answer panicked");
                Poll::Ready(Some(Err(Box::new(Panicked))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
