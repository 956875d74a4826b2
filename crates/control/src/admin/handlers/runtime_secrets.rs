//! Values of runtime secrets.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::{RetireRuntimeSecret, SetRuntimeSecret};

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&call.operations().runtime_secret_list(&call.page()?).await?)
}

pub(in crate::admin) async fn get(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().runtime_secret_show(call.name()).await?)
}

pub(in crate::admin) async fn set(call: &Call) -> Result<Reply, Refusal> {
    let set = call.body::<SetRuntimeSecret>()?;
    Reply::json(StatusCode::CREATED, &call.operations().runtime_secret_set(call.name(), &set, &call.by).await?)
}

pub(in crate::admin) async fn rotate(call: &Call) -> Result<Reply, Refusal> {
    let set = call.body::<SetRuntimeSecret>()?;
    Reply::json(StatusCode::CREATED, &call.operations().runtime_secret_rotate(call.name(), &set, &call.by).await?)
}

pub(in crate::admin) async fn retire(call: &Call) -> Result<Reply, Refusal> {
    let retire = call.body::<RetireRuntimeSecret>()?;
    Reply::json(StatusCode::OK, &call.operations().runtime_secret_retire(call.name(), &retire, &call.by).await?)
}

pub(in crate::admin) async fn forget(call: &Call) -> Result<Reply, Refusal> {
    call.operations().runtime_secret_forget(call.name(), &call.by).await?;
    Ok(Reply::empty())
}
