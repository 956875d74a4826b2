//! What apps are told over the air, the keys that sign it, and the timetable of key changes.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::{AcceptDelegation, KillSwitches, Listed, PublishAppConfig};

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&Listed { items: call.operations().app_config_list().await?, next: None })
}

pub(in crate::admin) async fn get(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().app_config_show(call.name()).await?)
}

pub(in crate::admin) async fn publish(call: &Call) -> Result<Reply, Refusal> {
    let asked: PublishAppConfig = call.body_or_default()?;
    Reply::json(StatusCode::OK, &call.operations().app_config_publish(call.name(), &asked, &call.by).await?)
}

pub(in crate::admin) async fn kill(call: &Call) -> Result<Reply, Refusal> {
    let switches: KillSwitches = call.body()?;
    Reply::json(StatusCode::OK, &call.operations().app_config_kill(call.name(), &switches, &call.by).await?)
}

pub(in crate::admin) async fn keys(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&Listed { items: call.operations().config_key_list().await?, next: None })
}

pub(in crate::admin) async fn next_key(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().config_key_next(&call.by).await?)
}

pub(in crate::admin) async fn accept(call: &Call) -> Result<Reply, Refusal> {
    let delegation: AcceptDelegation = call.body()?;
    Reply::json(StatusCode::OK, &call.operations().config_key_accept(&delegation, &call.by).await?)
}

pub(in crate::admin) async fn plan(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().cert_plan().await?)
}
