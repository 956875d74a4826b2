//! One call of a request to a provider. A request may make several, also two beside each other: what each shows is its own
//! until it is known whose answer counts, and what comes of the others is the operator's to know and not the caller's.

use std::sync::Arc;
use std::time::Duration;

use base::RequestId;
use llm::Usage;
use store::StoredObject;

use super::Receipt;
use crate::admit::{AdmitError, Asked, Standing, limits_providers};
use crate::authenticate::Caller;
use crate::budget::{BudgetError, Spent, Stake};
use crate::metrics::Label;
use crate::objects::owner_of;
use crate::recorded::{Entry, Recorded};
use crate::upstream::UpstreamError;
use crate::{Reservation, Shared};

/// What one call shows. Dropped without [`Receipt::takes`], its answer was nobody's: what its provider counts is not known.
pub(crate) struct Leg {
    shared: Arc<Shared>,
    id: RequestId,
    caller: Caller,
    entry: Arc<Entry>,
    pub(super) provider: Option<Label>,
    pub(super) upstream: Duration,
    pub(super) usage: Option<Usage>,
    pub(super) dropped: Option<String>,
    aside: bool,
    /// Which of the targets is called.
    target: usize,
    /// What the call counts for at its provider, and how its caller stands there.
    pub(super) asked: Option<Asked>,
    pub(super) standing: Standing,
    /// What is held for the call.
    pub(super) stake: Option<Stake>,
    /// The name of the provider's key that was used, where it has several.
    key: Option<Arc<str>>,
}

impl Leg {
    /// Of the request of this receipt.
    pub(super) fn of(receipt: &Receipt) -> Self {
        Self {
            shared: Arc::clone(&receipt.shared),
            id: receipt.id,
            caller: receipt.caller.clone(),
            entry: receipt.entry(),
            provider: None,
            upstream: Duration::ZERO,
            usage: None,
            dropped: None,
            aside: false,
            target: 0,
            asked: None,
            standing: Standing::default(),
            stake: None,
            key: None,
        }
    }

    /// The provider is called with the key of this name.
    pub(crate) fn with_key(&mut self, key: Option<Arc<str>>) {
        self.key = key;
    }

    /// The caller as whoever made what the provider stores.
    pub(crate) fn maker(&self) -> StoredObject {
        StoredObject { owner: owner_of(&self.caller), key: self.key.as_deref().map(str::to_owned) }
    }

    /// Of a copy for this of the targets that is nobody's: it is counted apart.
    pub(crate) fn aside(self, target: usize) -> Self {
        Self { aside: true, target, ..self }
    }

    /// What the provider has counted so far.
    pub(crate) fn counted(&self) -> Usage {
        self.usage.unwrap_or_default()
    }

    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// See to it that the request is in the audit log before a key is opened for it.
    pub(crate) async fn recorded(&self, provider: &Label) -> Result<Recorded, UpstreamError> {
        Ok(self.entry.recorded(&self.shared, provider).await?)
    }

    /// The provider was called and answered, or failed, after this long.
    pub(crate) fn attempted(&mut self, provider: &Label, result: &'static str, took: Duration) {
        self.provider = Some(provider.clone());
        self.upstream += took;
        if !self.aside {
            self.shared.metrics.attempt(provider, result, took);
        }
    }

    /// What the provider counted.
    pub(crate) fn usage(&mut self, usage: Usage) {
        self.usage = Some(usage);
        if let Some(stake) = &mut self.stake {
            stake.known(Spent { usage, ended: true });
        }
    }

    /// The call is to this of the targets.
    pub(crate) fn aim(&mut self, target: usize) {
        self.target = target;
    }

    /// Count the call against the limits per provider: before it costs anything. A copy that nobody hears counts nowhere.
    pub(crate) async fn asks(&mut self, reservation: &Reservation, provider: &str) -> Result<(), AdmitError> {
        if self.aside || !limits_providers(reservation.permit()) {
            return Ok(());
        }
        // What has no bound counts as all there may be.
        let most = reservation.most_tokens(self.target).unwrap_or(u64::MAX);
        let (now, of) = (self.shared.clock.monotonic(), (reservation.permit(), &self.caller));
        // Boxed: seldom, and larger than what every call waits for.
        let counted = Box::pin(self.shared.limiter.asks(of, provider, (now, most), &mut self.standing)).await;
        self.asked = Some(counted?);
        Ok(())
    }

    /// Put in what the call may cost.
    pub(crate) async fn put_in(&mut self, reservation: &Reservation) -> Result<(), BudgetError> {
        if let Some(funding) = reservation.funding().filter(|_| self.stake.is_none()) {
            self.stake = Some(funding.stake(self.target).await?);
        }
        Ok(())
    }

    /// From here on the call may cost something.
    pub(crate) fn sends(&mut self) {
        if let Some(stake) = &mut self.stake {
            stake.sent();
        }
    }

    /// The call certainly cost nothing.
    pub(crate) fn cost_nothing(&mut self) {
        if let Some(stake) = self.stake.take() {
            stake.give_back();
        }
        if let Some(tokens) = self.asked.as_mut().and_then(|asked| asked.tokens.take()) {
            self.shared.limiter.settle_tokens(&tokens, 0, self.shared.clock.monotonic());
        }
    }

    /// What was left out of the request.
    pub(crate) fn dropped(&mut self, names: Option<String>) {
        self.dropped = names;
    }
}
