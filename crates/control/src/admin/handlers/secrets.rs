//! Secrets of the vault.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::{ActivateSecret, RetireSecret, RotateSecret, SetSecret};

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
    let rotate = call.body::<RotateSecret>()?;
    Reply::json(StatusCode::OK, &call.operations().secret_rotate(call.name(), &rotate, &call.by).await?)
}

pub(in crate::admin) async fn activate(call: &Call) -> Result<Reply, Refusal> {
    let activate = call.body_or_default::<ActivateSecret>()?;
    Reply::json(StatusCode::OK, &call.operations().secret_activate(call.name(), &activate, &call.by).await?)
}

pub(in crate::admin) async fn retire(call: &Call) -> Result<Reply, Refusal> {
    let retire = call.body::<RetireSecret>()?;
    Reply::json(StatusCode::OK, &call.operations().secret_retire(call.name(), &retire, &call.by).await?)
}

pub(in crate::admin) async fn delete(call: &Call) -> Result<Reply, Refusal> {
    call.operations().secret_delete(call.name(), &call.by).await?;
    Ok(Reply::empty())
}
