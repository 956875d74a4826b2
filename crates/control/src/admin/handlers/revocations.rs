//! Revocations.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::CreateRevocation;

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&call.operations().revocation_list(&call.page()?).await?)
}

pub(in crate::admin) async fn create(call: &Call) -> Result<Reply, Refusal> {
    let revoked = call.operations().revoke(&call.body::<CreateRevocation>()?, &call.by).await?;
    Reply::json(StatusCode::CREATED, &revoked)
}

pub(in crate::admin) async fn lift(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().revocation_lift(call.name(), &call.by).await?)
}
