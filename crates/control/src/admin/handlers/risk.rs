//! What was decided about instances of apps, and leave for single ones.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::{GiveForcedPass, SimulateRisk};

pub(in crate::admin) async fn decisions(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&call.operations().risk_decisions(call.query("app"), call.query("since")).await?)
}

pub(in crate::admin) async fn simulate(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().risk_simulate(&call.body::<SimulateRisk>()?).await?)
}

pub(in crate::admin) async fn passes(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&call.operations().forced_pass_list(&call.page()?).await?)
}

pub(in crate::admin) async fn give(call: &Call) -> Result<Reply, Refusal> {
    let given = call.operations().forced_pass_give(&call.body::<GiveForcedPass>()?, &call.by).await?;
    Reply::json(StatusCode::CREATED, &given)
}

pub(in crate::admin) async fn end(call: &Call) -> Result<Reply, Refusal> {
    call.operations().forced_pass_end(call.name(), &call.by).await?;
    Ok(Reply::empty())
}
