//! Limits per provider: counted for each call as it is made, since which provider answers is known only after a request was let in.

use std::time::Instant;

use config::{Per, Rate};
use policy::Permit;
use store::SharedPlace;

use super::slots::Slot;
use super::{AdmitError, CountedTokens, Counts, Limiter, Standing};
use crate::authenticate::Caller;

/// What one call counts for at the provider it asks. Its places are free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What was counted against rates of tokens; settled by what the call took.
    pub(crate) tokens: Option<CountedTokens>,
    _slots: Vec<Slot>,
    _place: Option<SharedPlace>,
}

/// Whether a permit has limits per provider.
pub(crate) fn limits_providers(permit: &Permit) -> bool {
    permit.rates().iter().any(|rate| rate.per() == Per::Provider)
}

impl Limiter {
    /// Count a call of `provider` against the limits per provider of its permit, or against none. `most`: how many tokens it may take.
    pub(crate) async fn asks(
        &self,
        (permit, caller): (&Permit, &Caller),
        provider: &str,
        (now, most): (Instant, u64),
        standing: &mut Standing,
    ) -> Result<Asked, AdmitError> {
        let counts = Counts::asked(caller, provider);
        let (slots, place) = self.take(permit, counts, (now, true), standing).await?;
        let of_tokens = |rate: &Rate| rate.per() == Per::Provider && matches!(rate, Rate::Tokens { .. });
        let tokens = if permit.rates().iter().any(of_tokens) {
            self.count_tokens(permit, counts, (now, most), standing).await?
        } else {
            None
        };
        Ok(Asked { tokens, _slots: slots, _place: place })
    }
}
