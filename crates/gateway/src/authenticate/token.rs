//! Access tokens: verified, or known to be; and what has been revoked.

use std::sync::Arc;
use std::time::Duration;

use base::Name;
use futures_util::future::BoxFuture;
use proof::token::{TokenError, VerifiedToken};
use store::TokenFacts;
use tokio::sync::watch;

use super::{AuthenticateError, Identity, Shown, Verdict};
use crate::Shared;
use crate::snapshot::Snapshot;

/// Gets an issuer's keys anew: single flight and cooldown are its own affair.
pub trait KeyRefresh: Send + Sync {
    /// Fetch the keys of this issuer, unless that was done a moment ago. Returns when they may have changed.
    fn refresh<'a>(&'a self, issuer: &'a Name) -> BoxFuture<'a, ()>;
}

/// Never refreshes: for issuers whose keys are all known beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRefresh;

impl KeyRefresh for NoRefresh {
    fn refresh<'a>(&'a self, _: &'a Name) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Which tokens are revoked. Asked on every request, so it must not wait for anything.
pub trait Revocations: Send + Sync {
    /// Whether nothing at all is revoked, so that nobody need be looked up.
    fn is_empty(&self) -> bool {
        false
    }

    /// Whether the token, or what it stands for, has been revoked.
    fn is_revoked(&self, token: &TokenFacts<'_>) -> bool;

    /// Changes whenever another answer may be given than before.
    fn watch(&self) -> watch::Receiver<u64>;
}

impl Revocations for store::Revoked {
    fn is_empty(&self) -> bool {
        self.entries() == 0
    }

    fn is_revoked(&self, token: &TokenFacts<'_>) -> bool {
        self.check(token).is_some()
    }

    fn watch(&self) -> watch::Receiver<u64> {
        Self::watch(self)
    }
}

/// What a token says of the request.
pub(super) async fn check(snapshot: &Snapshot, shared: &Shared, shown: &Shown<'_>, text: &str) -> Verdict {
    let verified = match snapshot.issuers.recall(text, shown.at) {
        Some(known) => known,
        None => match verify(snapshot, shared, shown, text).await {
            Ok(verdict) => verdict,
            Err(wait) => return Verdict::Failed(AuthenticateError::TooMany(wait)),
        },
    };
    match verified {
        Ok(token) => Verdict::Verified(Identity::Token(token)),
        Err(TokenError::KeysUnavailable { .. }) => Verdict::Failed(AuthenticateError::Unavailable),
        Err(error) => Verdict::Failed(AuthenticateError::Token(error)),
    }
}

/// Verify a token's signature, of which an address gets only so many that turn out wrong: then it has to wait for so long.
async fn verify(
    snapshot: &Snapshot,
    shared: &Shared,
    shown: &Shown<'_>,
    text: &str,
) -> Result<Result<Arc<VerifiedToken>, TokenError>, Duration> {
    let now = shared.clock.monotonic();
    if let Some(wait) = shared.failures.wait(shown.ip, now) {
        return Err(wait);
    }
    let first = snapshot.issuers.verify(text, shown.at);
    let verdict = match first.as_ref().err().and_then(TokenError::refetch) {
        Some(issuer) => {
            shared.refresh.refresh(issuer).await;
            snapshot.issuers.verify(text, shown.at)
        }
        None => first,
    };
    if matches!(verdict, Err(TokenError::BadSignature)) {
        shared.failures.count(shown.ip, now);
    }
    Ok(verdict)
}
