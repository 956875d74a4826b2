//! `DELETE /attest/v1/instance`: an installation goes, with everything that is kept of it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::Request;
use http::request::Parts;

use super::Apps;
use super::enroll::unavailable;
use super::refusal::AppsError;
use super::visit::{Visit, empty};

pub(super) async fn endpoint(State(apps): State<Arc<Apps>>, request: Request<Body>) -> Response {
    apps.answer("delete", request, async |visit: &mut Visit, parts: Parts, body: Bytes| {
        let caller = apps.caller(visit, &parts, &body).await?;
        let event = audit::Event::new("instance.deleted").by(caller.app.config.name.as_str());
        let event = event.with("instance", caller.instance.id.as_str()).with("signed", caller.signed.is_some());
        let event = event.from(Some(visit.address));
        let recorded = apps.operations().audit().happened(event).await;
        recorded.map_err(|_| AppsError::Unavailable("audit_unavailable"))?;
        let deleted = apps.operations().store().instances().delete(&caller.instance.id, "instance", "deleted").await;
        deleted.map_err(|error| unavailable(&error.into()))?;
        Ok(empty())
    })
    .await
}
