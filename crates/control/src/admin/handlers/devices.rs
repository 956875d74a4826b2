//! Installations of apps.

use http::StatusCode;
use store::InstanceStatus;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::{ChangeDevice, DeviceFilter};

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    let filter = DeviceFilter { app: call.query("app"), status: call.query("status"), search: call.query("search") };
    Reply::page(&call.operations().device_list(filter, &call.page()?).await?)
}

pub(in crate::admin) async fn get(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().device_show(call.name()).await?)
}

pub(in crate::admin) async fn quarantine(call: &Call) -> Result<Reply, Refusal> {
    set(call, InstanceStatus::Quarantined).await
}

pub(in crate::admin) async fn release(call: &Call) -> Result<Reply, Refusal> {
    set(call, InstanceStatus::Active).await
}

pub(in crate::admin) async fn revoke(call: &Call) -> Result<Reply, Refusal> {
    set(call, InstanceStatus::Revoked).await
}

pub(in crate::admin) async fn delete(call: &Call) -> Result<Reply, Refusal> {
    call.operations().device_delete(call.name(), &call.by).await?;
    Ok(Reply::empty())
}

pub(in crate::admin) async fn arc(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().arc_show(call.name()).await?)
}

async fn set(call: &Call, to: InstanceStatus) -> Result<Reply, Refusal> {
    let change: ChangeDevice = call.body_or_default()?;
    Reply::json(StatusCode::OK, &call.operations().device_set_status(call.name(), to, (&change, &call.by)).await?)
}
