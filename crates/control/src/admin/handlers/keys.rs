//! Signing keys, and the tokens they sign.

use http::StatusCode;

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::operations::{Listed, MintToken, RotateKey};

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    // There are a handful at most: all are on the first page.
    call.page()?;
    Reply::page(&Listed { items: call.operations().key_list().await?, next: None })
}

pub(in crate::admin) async fn get(call: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &call.operations().key_show(call.name()).await?)
}

pub(in crate::admin) async fn rotate(call: &Call) -> Result<Reply, Refusal> {
    let rotate: RotateKey = call.body_or_default()?;
    let in_force = async || {
        if let Some(server) = &call.admin.server
            && !server.settled().await
        {
            tracing::warn!("the next signing key is not in force everywhere yet");
        }
    };
    let items = call.operations().key_rotate(&rotate, in_force, &call.by).await?;
    Reply::page(&Listed { items, next: None })
}

pub(in crate::admin) async fn mint(call: &Call) -> Result<Reply, Refusal> {
    let minted = call.operations().token_mint(&call.body::<MintToken>()?, &call.by).await?;
    Reply::json(StatusCode::CREATED, &minted)
}
