//! Vouchgate keys.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::CreateApiKey;

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&call.operations().apikey_list(&call.page()?).await?)
}

pub(in crate::admin) async fn create(call: &Call) -> Result<Reply, Refusal> {
    let created = call.operations().apikey_create(&call.body::<CreateApiKey>()?, &call.by).await?;
    Reply::json(StatusCode::CREATED, &created)
}

pub(in crate::admin) async fn get(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().apikey_show(call.name()).await?)
}

pub(in crate::admin) async fn revoke(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().apikey_revoke(call.name(), &call.by).await?)
}
