//! What nodes see of installations of apps, counted by Redis for all of them.

use futures_util::future::BoxFuture;
use redis::Script;

use super::{Link, SharedState};
use crate::sightings::{WINDOW, hex};
use crate::{Sighting, Sightings};

/// So many are counted by one call.
const STEP: usize = 256;

impl Sightings for SharedState {
    fn share<'a>(&'a self, some: &'a [Sighting]) -> BoxFuture<'a, Result<Vec<u32>, &'static str>> {
        Box::pin(async move {
            let mut totals = Vec::with_capacity(some.len());
            for part in some.chunks(STEP) {
                totals.extend(count(self.link(), part).await?);
            }
            Ok(totals)
        })
    }
}

async fn count(link: &Link, some: &[Sighting]) -> Result<Vec<u32>, &'static str> {
    let script = Script::new(include_str!("sightings.lua"));
    let mut call = script.prepare_invoke();
    call.arg(u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX));
    for Sighting { id, add, place } in some {
        // One slot of a cluster for all of them, since one call counts several.
        call.key(format!("vouchgate:1:{{seen}}:{:032x}", u128::from_be_bytes(*id)));
        call.arg(*add).arg(place.map(hex).unwrap_or_default());
    }
    let totals: Vec<i64> = link.invoke(&call).await.map_err(super::SharedError::reason)?;
    Ok(totals.into_iter().map(|total| u32::try_from(total).unwrap_or(u32::MAX)).collect())
}
