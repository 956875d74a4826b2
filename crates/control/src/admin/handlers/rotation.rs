//! How old every key is, and the vault's master key.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::Listed;

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&Listed { items: call.operations().rotation_list().await?, next: None })
}

pub(in crate::admin) async fn rewrap(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().vault_rewrap(&call.by).await?)
}
