//! What comes of presenting a refresh token.

use std::time::Duration;

use base::Timestamp;
use vault::Sealed;

use super::{Family, RefreshState, Rotate, Rotation, insert_token};
use crate::engine::{Connection, Effects};
use crate::revocations::{self, NewRevocation, Revoke};
use crate::{OWN_ISSUER, Store, StoreError};

/// How long a session of a family that was ended for reuse stays revoked: longer than any token of it lives.
const REUSE_REMEMBERED: Duration = Duration::from_hours(48);

/// A token as stored, with its family.
pub(super) struct Found {
    pub(super) family: Family,
    pub(super) expires_at: Timestamp,
    pub(super) rotated_at: Option<Timestamp>,
    pub(super) successor: Option<Sealed>,
}

impl Found {
    pub(super) fn state(&self, now: Timestamp) -> RefreshState {
        if self.family.revoked.is_some() {
            RefreshState::Revoked
        } else if now >= self.family.absolute_end {
            RefreshState::Expired
        } else if self.rotated_at.is_some() {
            RefreshState::Rotated
        } else if now >= self.expires_at {
            RefreshState::Expired
        } else {
            RefreshState::Live { until: self.expires_at }
        }
    }
}

/// The client first, so that another learns and changes nothing; then what ended by itself; then the key, so that a
/// thief without it ends the family; then whether it was used before.
pub(super) async fn judge(
    store: &Store,
    tx: &mut dyn Connection,
    found: Found,
    rotate: Rotate,
    now: Timestamp,
) -> Result<(Rotation, Effects), StoreError> {
    let plain = |rotation| Ok((rotation, Effects::default()));
    let state = found.state(now);
    let Found { family, rotated_at, successor, .. } = found;
    let holder = &rotate.holder;
    if family.client != holder.client {
        return plain(Rotation::WrongClient(family));
    }
    if state == RefreshState::Revoked {
        return plain(Rotation::Revoked(family));
    }
    let bound = |to: Option<[u8; 32]>, held: Option<[u8; 32]>| to.is_none_or(|to| held == Some(to));
    if !bound(family.jkt, holder.jkt) || !bound(family.x5t, holder.x5t) {
        let (family, effects) = end(store, tx, family, "refresh token used with another key").await?;
        return Ok((Rotation::WrongKey(family), effects));
    }
    match (state, rotated_at, successor) {
        // Either way round: a clock that is set back a little does not make a retry a theft.
        (RefreshState::Rotated, Some(at), Some(successor)) if now.since(at).max(at.since(now)) < rotate.grace => {
            plain(Rotation::Again(family, successor))
        }
        (RefreshState::Rotated, ..) => {
            let (family, effects) = end(store, tx, family, "refresh token reused").await?;
            Ok((Rotation::Reused(family), effects))
        }
        (RefreshState::Live { .. }, ..) => {
            let update = store
                .sql("UPDATE refresh_tokens SET rotated_at = $3, successor = $4 WHERE tenant = $1 AND hash = $2")
                .bind(rotate.presented)
                .bind(now)
                .bind(&rotate.sealed);
            tx.execute(update).await?;
            insert_token(store, tx, &family, rotate.successor, rotate.idle).await?;
            plain(Rotation::Rotated(family))
        }
        _ => plain(Rotation::Expired(family)),
    }
}

/// End a family whose token is in other hands, and the access tokens of its session with it.
async fn end(
    store: &Store,
    tx: &mut dyn Connection,
    family: Family,
    reason: &'static str,
) -> Result<(Family, Effects), StoreError> {
    let now = store.now();
    let update = store
        .sql("UPDATE refresh_families SET revoked_at = $3, revoked_why = $4 WHERE tenant = $1 AND id = $2")
        .bind(&*family.id)
        .bind(now)
        .bind(reason);
    tx.execute(update).await?;
    let mut effects = Effects::default();
    if let Some(session) = &family.session {
        let new = NewRevocation {
            what: Revoke::Session { issuer: OWN_ISSUER.to_owned(), session: session.clone() },
            not_before: revocations::up_to(now),
            expires_at: Some(now.plus(REUSE_REMEMBERED)),
            by: "token service".to_owned(),
            reason: reason.to_owned(),
        };
        let entry = revocations::write(store, tx, new).await?;
        effects.changes.push(revocations::added(store, &entry));
    }
    Ok((Family { revoked: Some((now, reason.to_owned())), ..family }, effects))
}
