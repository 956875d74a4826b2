//! Issuers, providers, models, policies, services, upstreams.

use base::Problem;
use http::StatusCode;
use serde_json::Value;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::{Kind, Listed, ResourceView};

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    let listed = call.operations().resource_list(kind(call)?, &call.page()?).await?;
    Reply::page(&Listed { items: listed.items.into_iter().map(|r| r.body).collect(), next: listed.next })
}

pub(in crate::admin) async fn get(call: &Call) -> Result<Reply, Refusal> {
    let found = call.operations().resource_get(kind(call)?, call.name()).await?;
    shown(found)
}

pub(in crate::admin) async fn put(call: &Call) -> Result<Reply, Refusal> {
    let (kind, body) = (kind(call)?, call.object()?);
    let put = call.operations().resource_put((kind, call.name()), body, call.condition()?, &call.by).await?;
    shown(put)
}

pub(in crate::admin) async fn delete(call: &Call) -> Result<Reply, Refusal> {
    call.operations().resource_delete((kind(call)?, call.name()), call.condition()?, &call.by).await?;
    Ok(Reply::empty())
}

fn shown(resource: ResourceView) -> Result<Reply, Refusal> {
    let status = if resource.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut body = resource.body;
    if let (Value::Object(object), false) = (&mut body, resource.warnings.is_empty()) {
        object.insert("warnings".into(), resource.warnings.into());
    }
    Ok(Reply::json(status, &body)?.etag(&resource.etag))
}

fn kind(call: &Call) -> Result<Kind, Refusal> {
    call.operation.kind.ok_or_else(|| {
        Problem::us(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the operation has no kind of resource").into()
    })
}
