//! The audit log.

use base::Problem;
use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::{AuditFilter, EraseSubject, Listed, ReplaceAuditKey};

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    let page = call.page()?;
    let wrong =
        |message: &'static str| Refusal::from(Problem::client(StatusCode::BAD_REQUEST, "invalid_query", message));
    let after = page.after.as_deref().map(str::parse).transpose();
    let after = after.map_err(|_| wrong("cursor is the next_cursor of the page before"))?;
    let limit = usize::try_from(page.limit).unwrap_or(1);
    Reply::page(&call.operations().audit_list(&filter(call)?, (after, limit)).await?)
}

fn filter(call: &Call) -> Result<AuditFilter, Refusal> {
    let wrong =
        |message: &'static str| Refusal::from(Problem::client(StatusCode::BAD_REQUEST, "invalid_query", message));
    let text = |name: &str| call.query(name).map(str::to_owned);
    let ip = call.query("ip").map(str::parse).transpose().map_err(|_| wrong("ip is an address"))?;
    let issuer = text("issuer").unwrap_or_else(|| config::OWN_NAME.to_owned());
    let open = match call.query("open") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(wrong("open is true or false")),
    };
    Ok(AuditFilter {
        since: call.moment("since")?,
        until: call.moment("until")?,
        kind: text("kind"),
        request: text("request_id"),
        client: text("client"),
        subject: text("subject").map(|subject| (issuer, subject)),
        ip,
        open,
    })
}

pub(in crate::admin) async fn get(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().audit_get(call.name()).await?)
}

pub(in crate::admin) async fn proof(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().audit_proof(call.name()).await?)
}

pub(in crate::admin) async fn checkpoint(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().audit_checkpoint().await?)
}

pub(in crate::admin) async fn erase(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().audit_erase(&call.body::<EraseSubject>()?).await?)
}

pub(in crate::admin) async fn keys(call: &Call) -> Result<Reply, Refusal> {
    Reply::page(&Listed { items: call.operations().audit_keys_list().await?, next: None })
}

pub(in crate::admin) async fn replace_key(call: &Call) -> Result<Reply, Refusal> {
    let asked = call.body::<ReplaceAuditKey>()?;
    Reply::json(StatusCode::OK, &call.operations().audit_key_replace(&asked, call.by.as_str()).await?)
}
