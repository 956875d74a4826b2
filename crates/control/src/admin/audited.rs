//! What the audit log says of an administrative call: who is about to do what, before; and what came of it, after.

use base::Problem;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use vault::HashPurpose;

use super::Refusal;
use super::call::Call;
use super::table::{Operation, TABLE};
use crate::form::Form;

/// What a resource looks like is kept whole up to this size, in bytes; of more, a keyed hash.
const MAX_STATE: usize = 8 << 10;

/// A call that has been written down.
pub(super) struct Audited {
    /// How to look at what it changes.
    twin: Option<&'static Operation>,
    name: Option<String>,
}

/// Write that a call is about to be made. Where that cannot be written, it is not made.
pub(super) async fn begin(call: &Call) -> Result<Audited, Refusal> {
    let twin = twin(call.operation);
    let name = call.given_name().map(str::to_owned).or_else(|| named(&call.body));
    let mut event = audit::Event::new("admin.begun").by(call.by.as_str()).with("operation", call.operation.id);
    event = event.maybe("name", name.as_deref());
    if !call.body.is_empty() {
        // It may hold a secret: its hash tells whether it is the one somebody remembers.
        event = event.with("body", hashed(call, &call.body));
    }
    event = event.maybe("before", state(call, twin, name.as_deref()).await);
    call.operations().audit().happened(event).await.map_err(|error| {
        let message = format!("this cannot be written into the audit log, so it is not done: {error}");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Refusal::from(Problem::us(status, "audit_unavailable", message))
    })?;
    Ok(Audited { twin, name })
}

/// Write what came of it.
pub(super) async fn end(call: &Call, audited: Audited, outcome: Result<StatusCode, &'static str>) {
    let mut event = audit::Event::new("admin.ended").by(call.by.as_str()).with("operation", call.operation.id);
    event = event.maybe("name", audited.name.as_deref());
    event = match outcome {
        Ok(status) => event.with("outcome", "ok").with("status", status.as_u16()),
        Err(code) => event.with("outcome", "refused").with("error", code),
    };
    if outcome.is_ok() {
        event = event.maybe("after", state(call, audited.twin, audited.name.as_deref()).await);
    }
    if let Err(error) = call.operations().audit().happened(event).await {
        // It has been done, and the entry of its beginning says that it may have been.
        tracing::error!(
            reason = error.reason(),
            operation = call.operation.id,
            "the end of a change is not in the audit log"
        );
    }
}

/// The operation that shows what another changes.
fn twin(operation: &Operation) -> Option<&'static Operation> {
    let path = match operation.path.split_once("/{name}") {
        Some((before, _)) => format!("{before}/{{name}}"),
        None => format!("{}/{{name}}", operation.path),
    };
    TABLE.iter().find(|other| other.method == Method::GET && other.path == path)
}

fn named(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    Some(value.get("name")?.as_str()?.to_owned())
}

/// How what is changed looks now: what this API shows of it, which is never a secret.
async fn state(call: &Call, twin: Option<&'static Operation>, name: Option<&str>) -> Option<Value> {
    let (twin, name) = (twin?, name?);
    let look = Call::new(
        &call.admin,
        twin,
        call.by.clone(),
        (HeaderMap::new(), Bytes::new()),
        (Some(name.to_owned()), Form::default()),
    );
    let shown = (twin.run)(&look).await.ok()?;
    if shown.body.len() > MAX_STATE {
        return Some(hashed(call, &shown.body));
    }
    serde_json::from_slice(&shown.body).ok()
}

fn hashed(call: &Call, bytes: &[u8]) -> Value {
    use base64::Engine;
    let hash = call.operations().vault().keyed_hash(HashPurpose::AuditValue, bytes);
    json!({ "hash": base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash), "bytes": bytes.len() })
}
