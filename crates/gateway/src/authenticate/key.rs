//! Vouchgate keys (`vg_...`): for whoever has them, never bound.

use std::sync::Arc;

use base::Timestamp;

use super::{AuthenticateError, Identity, Verdict};
use crate::edge::{Presented, Scheme};
use crate::snapshot::Snapshot;

/// What every Vouchgate key begins with.
pub const KEY_PREFIX: &str = "vg_";

/// What a Vouchgate key says of the request.
pub(super) fn check(snapshot: &Snapshot, presented: Presented<'_>, now: Timestamp) -> Verdict {
    if !presented.text.starts_with(KEY_PREFIX) {
        return Verdict::NotRequested;
    }
    if presented.scheme == Scheme::Dpop {
        return Verdict::Failed(AuthenticateError::Unbound);
    }
    // Off unless a policy names them.
    if !snapshot.policies.keys_are_used() {
        return Verdict::Failed(AuthenticateError::Key);
    }
    match snapshot.keys.find(presented.text) {
        Some(key) if key.expires_at.is_none_or(|end| now < end) => Verdict::Verified(Identity::Key(Arc::clone(key))),
        _ => Verdict::Failed(AuthenticateError::Key),
    }
}
