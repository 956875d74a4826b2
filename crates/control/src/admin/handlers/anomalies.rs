//! Callers that behave quite unlike themselves.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&call.operations().anomaly_list(&call.page()?).await?)
}

pub(in crate::admin) async fn restore(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().anomaly_restore(call.name(), &call.by).await?)
}
