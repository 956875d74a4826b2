//! `Idempotency-Key` on every POST: the same request twice is done once.
//!
//! An answer may show a new credential, so it is kept sealed, and for a day.

use std::time::Duration;

use aws_lc_rs::digest;
use base::Problem;
use bytes::Bytes;
use http::StatusCode;
use store::Begin;
use vault::{Label, Purpose};

use super::Refusal;
use super::call::{Call, Reply};
use crate::operations::OperationError;

const KEEP: Duration = Duration::from_hours(24);
const HEADER: &str = "idempotency-key";
const VERSION: u64 = 1;

/// Make the call, or repeat the answer it had.
pub(super) async fn run(call: &Call) -> Result<Reply, Refusal> {
    let Some(key) = key(call)? else { return (call.operation.run)(call).await };
    let operations = call.operations();
    let (store, vault) = (operations.store(), operations.vault());
    let begun = store.idempotency().begin(&call.by, &key, request_hash(call)).await.map_err(OperationError::from)?;
    let attempt = match begun {
        Begin::Proceed(attempt) => attempt,
        Begin::Replay { status, answer, attempt } => {
            let label = Label::new(store.tenant(), Purpose::Answer, &attempt, VERSION);
            let body = vault.open(&label, &answer).map_err(OperationError::from)?;
            return Ok(Reply {
                status: StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
                // Successes are kept, and they are JSON.
                content_type: "application/json",
                body: Bytes::from(body.expose().clone()),
                etag: None,
                replayed: true,
                stream: None,
            });
        }
        Begin::UnderWay => {
            let message = "the first request with this Idempotency-Key is still under way";
            return Err(Problem::client(StatusCode::CONFLICT, "idempotency_under_way", message)
                .retry_after(Duration::from_secs(1))
                .into());
        }
        Begin::Mismatch => {
            let message = "this Idempotency-Key was used for another request";
            return Err(Problem::client(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch", message).into());
        }
    };
    match (call.operation.run)(call).await {
        Ok(reply) => {
            let label = Label::new(store.tenant(), Purpose::Answer, attempt.id(), VERSION);
            // The work is done: an answer that cannot be kept must not look like work that failed.
            let kept = match vault.seal(&label, &reply.body) {
                Ok(sealed) => store
                    .idempotency()
                    .complete(attempt, reply.status.as_u16(), &sealed, KEEP)
                    .await
                    .map_err(OperationError::from),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = kept {
                tracing::error!(reason = error.reason(), "an answer could not be kept for its Idempotency-Key");
            }
            Ok(reply)
        }
        Err(refusal) => {
            // Nothing was changed, so the same key may be used to try again.
            let _ = store.idempotency().abandon(attempt).await;
            Err(refusal)
        }
    }
}

fn key(call: &Call) -> Result<Option<String>, Refusal> {
    let mut values = call.headers.get_all(HEADER).iter();
    let wrong = || {
        let message = "an Idempotency-Key is one header of 1 to 255 visible characters";
        Problem::client(StatusCode::BAD_REQUEST, "invalid_idempotency_key", message)
    };
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(wrong().into()),
        (Some(value), None) => match value.to_str() {
            Ok(text) if (1..=255).contains(&text.len()) && !text.contains(' ') => Ok(Some(text.to_owned())),
            _ => Err(wrong().into()),
        },
    }
}

/// Method, path and body; each with its length before it.
fn request_hash(call: &Call) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [call.operation.id.as_bytes(), call.name().as_bytes(), &call.body] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0u8; 32];
    for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    hash
}
