//! Clients of the token service.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::{ClientView, CreateClient, RotateClient, UpdateClient};

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&call.operations().client_list(&call.page()?).await?)
}

pub(in crate::admin) async fn create(call: &Call) -> Result<Reply, Refusal> {
    let created = call.operations().client_create(&call.body::<CreateClient>()?, &call.by).await?;
    Ok(Reply::json(StatusCode::CREATED, &created)?.etag(&created.client.etag))
}

pub(in crate::admin) async fn get(call: &Call) -> Result<Reply, Refusal> {
    shown(&call.operations().client_show(call.name()).await?)
}

pub(in crate::admin) async fn put(call: &Call) -> Result<Reply, Refusal> {
    let (update, condition) = (call.body::<UpdateClient>()?, call.condition()?);
    let (client, made) = call.operations().client_put(call.name(), &update, condition, &call.by).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::json(status, &client)?.etag(&client.etag))
}

pub(in crate::admin) async fn delete(call: &Call) -> Result<Reply, Refusal> {
    call.operations().client_delete(call.name(), call.if_match()?, &call.by).await?;
    Ok(Reply::empty())
}

pub(in crate::admin) async fn rotate(call: &Call) -> Result<Reply, Refusal> {
    let rotate: RotateClient = call.body_or_default()?;
    let rotated = call.operations().client_rotate(call.name(), &rotate, &call.by).await?;
    Ok(Reply::json(StatusCode::OK, &rotated)?.etag(&rotated.client.etag))
}

pub(in crate::admin) async fn disable(call: &Call) -> Result<Reply, Refusal> {
    shown(&call.operations().client_set_disabled(call.name(), true, &call.by).await?)
}

pub(in crate::admin) async fn enable(call: &Call) -> Result<Reply, Refusal> {
    shown(&call.operations().client_set_disabled(call.name(), false, &call.by).await?)
}

fn shown(client: &ClientView) -> Result<Reply, Refusal> {
    Ok(Reply::json(StatusCode::OK, client)?.etag(&client.etag))
}
