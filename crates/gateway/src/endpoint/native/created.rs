//! What a call makes at a provider, whose it is from then on, and what of a list the caller may see.

use std::collections::VecDeque;

use bytes::Bytes;
use config::ProviderDialect;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use llm::SseDecoder;
use net::UpstreamBody;
use serde_json::Value;
use store::StoredObject;

use crate::objects::{self, Resource, google};
use crate::problem::Refusal;
use crate::settle::Receipt;
use crate::snapshot::Provider;
use crate::upstream::UpstreamError;

/// The first event of a stream that makes something names it; it is no larger than this.
const FIRST_EVENT: usize = 256 * 1024;

/// Whether a call, if it succeeds, makes something that can be asked for later.
pub(super) fn is_made(
    dialect: ProviderDialect,
    (method, below): (&Method, &str),
    resource: Resource<'_>,
    sent: &[u8],
) -> bool {
    if method != Method::POST && method != Method::PUT {
        return false;
    }
    let store = || serde_json::from_slice::<Value>(sent).ok().and_then(|body| body.get("store")?.as_bool());
    match below {
        // Kept only if asked for.
        "/chat/completions" => store() == Some(true),
        // Kept unless asked not to.
        "/responses" | "/interactions" => store() != Some(false),
        "/threads/runs" => true,
        below if dialect == ProviderDialect::Gemini && google::lasts(below) => true,
        _ => matches!(resource, Resource::Collection | Resource::Object(_)),
    }
}

/// Note whose it is, before the caller learns its id. Without that the caller could never use it, so it is an error.
pub(super) async fn claim(
    body: &[u8],
    (provider, below): (&Provider, &str),
    (maker, receipt): (&StoredObject, &Receipt),
) -> Result<(), Refusal> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Ok(()) };
    for id in ids_of(&value, provider.dialect, below) {
        claim_id(&id, provider, (maker, receipt)).await?;
    }
    Ok(())
}

/// What an answer, or the first event of a streamed one, says was made.
fn ids_of(value: &Value, dialect: ProviderDialect, below: &str) -> Vec<String> {
    let one = |id: Option<&Value>| id.and_then(Value::as_str).map(str::to_owned).into_iter().collect();
    match dialect {
        ProviderDialect::Gemini => google::made(value, google::collection(below)),
        ProviderDialect::Cohere => {
            // docs.cohere.com/reference: a job has a member of its own for it, some things stand inside another.
            let inside =
                ["dataset", "connector", "finetuned_model", "batch"].iter().find_map(|name| value.get(name)?.get("id"));
            one(value.get("id").or_else(|| value.get("job_id")).or(inside))
        }
        _ => one(value.get("id").or_else(|| value.get("response")?.get("id"))),
    }
}

async fn claim_id(id: &str, provider: &Provider, (maker, receipt): (&StoredObject, &Receipt)) -> Result<(), Refusal> {
    let claimed = receipt.shared().objects.claim(&provider.name, id, maker).await;
    claimed.map_err(|error| Refusal::from(objects::unavailable(&error)))
}

/// Read a stream up to its first event, and note whose is what that names. Returns the pieces read.
pub(super) async fn claim_streamed(
    mut body: UpstreamBody,
    (provider, below): (&Provider, &str),
    (maker, receipt): (&StoredObject, &Receipt),
) -> Result<(VecDeque<Bytes>, UpstreamBody), Refusal> {
    let mut decoder = SseDecoder::new(FIRST_EVENT);
    let mut pieces = VecDeque::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| UpstreamError::from(error).problem())?;
        let Ok(piece) = frame.into_data() else { continue };
        let mut id = None;
        let fed = decoder.feed(&piece, |event, _| {
            let value = serde_json::from_str::<Value>(&event.data).ok();
            id = id.take().or_else(|| ids_of(value.as_ref()?, provider.dialect, below).pop());
        });
        size += piece.len();
        pieces.push_back(piece);
        if let Some(id) = id {
            claim_id(&id, provider, (maker, receipt)).await?;
            return Ok((pieces, body));
        }
        if fed.is_err() || size > FIRST_EVENT {
            return Err(UpstreamError::Kind.problem().into());
        }
    }
    Ok((pieces, body))
}

/// It is gone at the provider.
pub(super) async fn forget(provider: &Provider, id: &str, receipt: &Receipt) {
    if let Err(error) = receipt.shared().objects.forget(&provider.name, id).await {
        tracing::warn!(%error, "a deleted object stays on the list of stored ones");
    }
}

/// A list with only what is the caller's own.
pub(super) async fn filter(
    body: &Bytes,
    (provider, below): (&Provider, &str),
    receipt: &Receipt,
) -> Result<Bytes, Refusal> {
    let unreadable = || {
        let message = "The provider's list cannot be read.";
        Refusal::from(base::Problem::provider(StatusCode::BAD_GATEWAY, "upstream_invalid_shape", message))
    };
    let mut list: Value = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let members = list.as_object_mut().ok_or_else(unreadable)?;
    let openai = !matches!(provider.dialect, ProviderDialect::Gemini | ProviderDialect::Cohere);
    // Google leaves an empty list out; it and Cohere name each list by what it holds.
    let lists: Vec<&mut Value> = match members.get("data").is_some_and(Value::is_array) {
        true => members.get_mut("data").into_iter().collect(),
        false if openai => return Err(unreadable()),
        false => members.values_mut().filter(|value| value.is_array()).collect(),
    };
    let mut ends = (Value::Null, Value::Null);
    for items in lists.into_iter().filter_map(Value::as_array_mut) {
        let mut kept = Vec::with_capacity(items.len());
        for item in std::mem::take(items) {
            let Some(id) = id_of_item(&item, provider.dialect, below) else { continue };
            let objects = receipt.shared().objects.as_ref();
            if objects::is_owned(objects, provider, &id, receipt.caller()).await? {
                kept.push(if provider.dialect == ProviderDialect::Gemini {
                    google::without_results(item)
                } else {
                    item
                });
            }
        }
        let id = |item: Option<&Value>| item.and_then(|item| item.get("id")).cloned().unwrap_or(Value::Null);
        ends = (id(kept.first()), id(kept.last()));
        *items = kept;
    }
    for (name, value) in [("first_id", ends.0), ("last_id", ends.1)] {
        if let Some(member) = members.get_mut(name) {
            *member = value;
        }
    }
    Ok(Bytes::from(list.to_string()))
}

fn id_of_item(item: &Value, dialect: ProviderDialect, below: &str) -> Option<String> {
    match dialect {
        ProviderDialect::Gemini => google::item(item, google::collection(below)),
        _ => item.get("id").or_else(|| item.get("job_id"))?.as_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_that_leave_something_behind_make_something() {
        let made = |method: Method, below: &str, sent: &str| {
            is_made(ProviderDialect::OpenAi, (&method, below), objects::resource(below), sent.as_bytes())
        };
        assert!(made(Method::POST, "/responses", "{}"));
        assert!(!made(Method::POST, "/responses", r#"{"store":false}"#));
        assert!(made(Method::POST, "/chat/completions", r#"{"store":true}"#));
        assert!(!made(Method::POST, "/chat/completions", "{}"));
        assert!(made(Method::POST, "/files", "multipart"));
        assert!(!made(Method::GET, "/files", ""));
        assert!(!made(Method::POST, "/messages", "{}"));
        assert!(!made(Method::POST, "/embeddings", "{}"));
        let google = |below: &str, sent: &str| {
            let resource = objects::resource_at(ProviderDialect::Gemini, below);
            is_made(ProviderDialect::Gemini, (&Method::POST, below), resource, sent.as_bytes())
        };
        assert!(google("/files", "") && google("/cachedContents", "{}") && google("/interactions", "{}"));
        assert!(google("/models/m:batchGenerateContent", "{}") && google("/models/veo:predictLongRunning", "{}"));
        assert!(!google("/models/m:generateContent", "{}") && !google("/interactions", r#"{"store":false}"#));
    }
}
