//! Budgets: what they have spent, and raising them for a while.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::{Listed, RaiseBudget};

pub(in crate::admin) async fn accounts(call: &Call) -> Result<Reply, Refusal> {
    let which = (call.query("budget"), call.query("whom"));
    Reply::page(&call.operations().budget_accounts(which, &call.page()?).await?)
}

pub(in crate::admin) async fn raises(call: &Call) -> Result<Reply, Refusal> {
    let items = call.operations().budget_raises(call.query("budget")).await?;
    Reply::page(&Listed { items, next: None })
}

pub(in crate::admin) async fn raise(call: &Call) -> Result<Reply, Refusal> {
    let raised = call.operations().budget_raise(&call.body::<RaiseBudget>()?, &call.by).await?;
    Reply::json(StatusCode::CREATED, &raised)
}

pub(in crate::admin) async fn end(call: &Call) -> Result<Reply, Refusal> {
    call.operations().budget_raise_end(call.name(), &call.by).await?;
    Ok(Reply::empty())
}
