//! The table of models and their prices.

use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::catalogue::{CatalogueEntry, catalogue};
use crate::operations::{Listed, OperationError};

/// A page of the table; `provider` is a configured one, whose kind is meant.
pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    let page = call.page()?;
    let named = match call.query("provider") {
        None => None,
        Some(name) => {
            let operations = call.operations();
            let file = operations.file();
            let config = operations.merged_config(&file).await?.map_err(OperationError::Faults)?;
            let provider = config.providers.iter().find(|provider| provider.name.as_str() == name);
            let unknown = || OperationError::NotFound { kind: "provider", name: name.to_owned() };
            Some(provider.ok_or_else(unknown)?.kind.as_str())
        }
    };
    let kind = named.or_else(|| call.query("kind"));
    // A kind has no space in its name.
    let after = page.after.as_deref().and_then(|cursor| cursor.split_once(' '));
    let beyond = |entry: &CatalogueEntry| after.is_none_or(|after| (entry.kind, entry.model) > after);
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let mut items: Vec<CatalogueEntry> =
        catalogue(kind, call.query("model")).filter(beyond).take(limit.saturating_add(1)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| format!("{} {}", last.kind, last.model));
    Reply::page(&Listed { items, next })
}
