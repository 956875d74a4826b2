//! Who holds what a request names: which of the providers, and with which of its keys. A provider's keys may belong to several
//! projects of the operator's there, and what is stored in one no other sees.

use std::sync::Arc;

use base::{Name, Problem};

use super::{Objects, address, owner_of, unavailable};
use crate::authenticate::Caller;
use crate::snapshot::Provider;

/// A provider that holds what a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The provider.
    pub(crate) provider: Name,
    /// The name of the only one of its keys that finds it; absent: any does.
    pub(crate) key: Option<Arc<str>>,
}

/// Whether the caller made the object at this provider.
pub(crate) async fn is_owned(
    objects: &dyn Objects,
    provider: &Provider,
    object: &str,
    caller: &Caller,
) -> Result<bool, Problem> {
    Ok(!holders(objects, &[provider], object, caller).await?.is_empty())
}

/// Those of these providers at which the caller made the object: none if somebody else did at another. What is in a bucket nobody
/// made: those whose operator lets callers name it.
pub(crate) async fn holders(
    objects: &dyn Objects,
    providers: &[&Provider],
    object: &str,
    caller: &Caller,
) -> Result<Vec<Holder>, Problem> {
    if address::is_bucket(object.trim_start()) {
        let lets = |provider: &&&Provider| provider.buckets.iter().any(|bucket| bucket.holds(object));
        let holder = |provider: &&Provider| Holder { provider: provider.name.clone(), key: None };
        return Ok(providers.iter().filter(lets).map(holder).collect());
    }
    let asking = owner_of(caller);
    let mut held = Vec::new();
    for provider in providers {
        match objects.made(&provider.name, object).await {
            Ok(Some(made)) if made.owner == asking => {
                let key = made.key.map(Arc::from);
                held.push(Holder { provider: provider.name.clone(), key });
            }
            Ok(Some(_)) => return Ok(Vec::new()),
            Ok(None) => {}
            Err(error) => return Err(unavailable(&error)),
        }
    }
    Ok(held)
}

/// Those of `before` that hold what `held` do, too. Of two keys the one that was found first stays: no key finds both, and the
/// provider says so.
pub(crate) fn both(before: Vec<Holder>, held: &[Holder]) -> Vec<Holder> {
    let with = |holder: Holder| {
        let other = held.iter().find(|other| other.provider == holder.provider)?;
        Some(Holder { key: holder.key.or_else(|| other.key.clone()), ..holder })
    };
    before.into_iter().filter_map(with).collect()
}
