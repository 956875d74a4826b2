//! Secrets of the vault.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::SetSecret;

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&call.operations().secret_list(&call.page()?).await?)
}

pub(in crate::admin) async fn get(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().secret_show(call.name()).await?)
}

pub(in crate::admin) async fn put(call: &Call) -> Result<Reply, Refusal> {
    let set = call.body::<SetSecret>()?;
    Reply::json(StatusCode::OK, &call.operations().secret_set(call.name(), &set, &call.by).await?)
}

pub(in crate::admin) async fn rotate(call: &Call) -> Result<Reply, Refusal> {
    let set = call.body::<SetSecret>()?;
    Reply::json(StatusCode::OK, &call.operations().secret_rotate(call.name(), &set, &call.by).await?)
}

pub(in crate::admin) async fn delete(call: &Call) -> Result<Reply, Refusal> {
    call.operations().secret_delete(call.name(), &call.by).await?;
    Ok(Reply::empty())
}
