//! Tokens of this API itself.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::CreateAdminToken;

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&call.operations().admin_token_list(&call.page()?).await?)
}

pub(in crate::admin) async fn create(call: &Call) -> Result<Reply, Refusal> {
    let created = call.operations().admin_token_create(&call.body::<CreateAdminToken>()?, &call.by).await?;
    Reply::json(StatusCode::CREATED, &created)
}

pub(in crate::admin) async fn revoke(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().admin_token_revoke(call.name(), &call.by).await?)
}
