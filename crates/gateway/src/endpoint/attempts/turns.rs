//! Whose turn it is: which target is asked next, with which leave, and when nobody is.

use std::sync::Arc;
use std::time::Duration;

use crate::health::{Choice, Pass, Refused, Wanted, Why, wanted};
use crate::route::Plan;
use crate::snapshot::{ModelTarget, Provider};

/// What a retry at the same target waits the first time; twice as long each time after.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The most it waits by itself. What a provider asks for may be more.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A target that rests no longer than this is waited for before anybody has been asked.
const SHORT_REST: Duration = Duration::from_secs(2);
/// No provider is waited for longer than this, whatever it asks for: the caller learns when to come back.
const LONGEST_REST: Duration = Duration::from_secs(20);

/// What happens next.
pub(super) enum Turn<'p> {
    /// The built-in model answers.
    Echo(usize),
    /// This target is called.
    Call(Called<'p>),
    /// Nothing, for so long; then ask again.
    Pause(Duration),
    /// Nobody is left to ask; why not, where a target was passed over.
    Nobody(Option<Refused>),
}

/// A target that is to be called, with leave to do so.
pub(super) struct Called<'p> {
    pub(super) index: usize,
    pub(super) provider: &'p Provider,
    pub(super) model: &'p str,
    pub(super) pass: Pass,
}

/// One target's part in a request.
#[derive(Debug, Clone, Copy, Default)]
struct Seat {
    tries: u32,
    /// Asking it again would fail the same way.
    hopeless: bool,
    /// The pause before its next attempt has been kept.
    waited: bool,
}

/// The turns of one request.
pub(super) struct Turns<'p> {
    plan: &'p Plan,
    /// The targets, first choice first.
    order: Vec<usize>,
    choice: Choice<'p>,
    streamed: bool,
    seats: Vec<Seat>,
    made: u32,
    /// The target whose key failed: another key of it goes first.
    other_key: Option<usize>,
    /// Whether another target has been asked beside one, or was to be: that happens once.
    pub(super) hedged: bool,
    /// The keys that alone may be used, by target; mostly none is.
    bound: Vec<Option<Arc<str>>>,
}

impl<'p> Turns<'p> {
    pub(super) fn new(plan: &'p Plan, order: Vec<usize>, streamed: bool, choice: Choice<'p>) -> Self {
        let seats = vec![Seat::default(); plan.targets().len()];
        Self { plan, order, choice, streamed, seats, made: 0, other_key: None, hedged: false, bound: Vec::new() }
    }

    /// Use no other key of a target than the one that `key` tells.
    pub(super) fn bind(&mut self, key: impl Fn(&ModelTarget) -> Option<Arc<str>>) {
        self.bound = self.plan.targets().iter().map(key).collect();
    }

    /// What happens next, with so much time left.
    pub(super) fn next(&mut self, left: Duration) -> Turn<'p> {
        if self.made >= self.plan.attempts() {
            return Turn::Nobody(None);
        }
        if let Some(index) = self.other_key.take()
            && let Some(Ok(turn)) = self.call(index)
        {
            return turn;
        }
        let mut refused: Option<(usize, Refused)> = None;
        for at in 0..self.order.len() {
            let Some(index) = self.order.get(at).copied() else { break };
            if self.seat(index).tries > 0 || self.seat(index).hopeless {
                continue;
            }
            match self.call(index) {
                Some(Ok(turn)) => return turn,
                Some(Err(later)) if refused.is_none_or(|(_, sooner)| later.wait < sooner.wait) => {
                    refused = Some((index, later));
                }
                _ => {}
            }
        }
        if let Some(turn) = self.once_more(left) {
            return turn;
        }
        match refused {
            Some((index, refused)) if self.made == 0 => self.last_resort(index, refused, left),
            _ => Turn::Nobody(None),
        }
    }

    /// Whether there may be another attempt after those made.
    pub(super) fn more(&self) -> bool {
        self.made < self.plan.attempts()
    }

    /// Whether the call that has its turn is the request's first.
    pub(super) fn is_first(&self) -> bool {
        self.made == 1
    }

    /// Another target, to be called beside the one that has been called already with `first`: one that was not tried, that
    /// may be called now without waiting, with another key (unless `same_key`), and that would keep nothing.
    pub(super) fn beside(
        &mut self,
        (index, name, first): (usize, &base::Name, &Pass),
        same_key: bool,
        keeps: impl Fn(&Provider, &str) -> bool,
    ) -> Option<Called<'p>> {
        if !self.more() {
            return None;
        }
        for other in self.order.clone() {
            if other == index || self.seat(other).tries > 0 || self.seat(other).hopeless {
                continue;
            }
            let Some(ModelTarget::Remote(provider, model)) = self.plan.targets().get(other) else { continue };
            if keeps(provider, model) {
                continue;
            }
            let not = (!same_key).then(|| first.key());
            let Some(pass) = provider.keys.beside(self.wanted(other, model), self.choice, not) else { continue };
            let care = provider.keys.care();
            // The same provider is asked once more: that is what its budget for retries is for.
            if provider.name == *name && !care.provider.may_retry(care.states.now(), care.retry_budget) {
                continue;
            }
            return match self.taken(other, (provider, model), pass) {
                Turn::Call(called) => Some(called),
                _ => None,
            };
        }
        None
    }

    /// An attempt at this target failed: for good, or because of its key.
    pub(super) fn failed(&mut self, index: usize, lasting: bool, of_key: bool) {
        self.other_key = of_key.then_some(index);
        if let Some(seat) = self.seats.get_mut(index) {
            seat.hopeless |= lasting;
        }
    }

    /// Call a target if it may be called now. `None`: there is no such target.
    fn call(&mut self, index: usize) -> Option<Result<Turn<'p>, Refused>> {
        let (provider, model) = match self.plan.targets().get(index)? {
            ModelTarget::Echo => {
                self.count(index);
                return Some(Ok(Turn::Echo(index)));
            }
            ModelTarget::Remote(provider, model) => (provider, model),
        };
        let admitted = provider.keys.admit(self.wanted(index, model), self.choice);
        Some(admitted.map(|pass| self.taken(index, (provider, model), pass)))
    }

    fn taken(&mut self, index: usize, (provider, model): (&'p Arc<Provider>, &'p Arc<str>), pass: Pass) -> Turn<'p> {
        if self.seat(index).tries == 0 {
            let care = provider.keys.care();
            care.provider.first_attempt(care.states.now());
        }
        self.count(index);
        Turn::Call(Called { index, provider, model, pass })
    }

    /// Ask a target again that failed: the one that is ready soonest, after its pause, as long as its provider's budget
    /// allows.
    fn once_more(&mut self, left: Duration) -> Option<Turn<'p>> {
        let waited = (0..self.seats.len()).find(|index| self.seat(*index).waited);
        if let Some(index) = waited {
            if let Some(seat) = self.seats.get_mut(index) {
                seat.waited = false;
            }
            return self.after_pause(index);
        }
        loop {
            let tried = (0..self.seats.len()).filter(|index| {
                let seat = self.seat(*index);
                seat.tries > 0 && !seat.hopeless
            });
            let (pause, index) = tried.map(|index| (self.pause(index), index)).min()?;
            let Some(ModelTarget::Remote(provider, _)) = self.plan.targets().get(index) else { return None };
            let care = provider.keys.care();
            let fits = pause < left && pause <= LONGEST_REST;
            if fits && care.provider.may_retry(care.states.now(), care.retry_budget) {
                if let Some(seat) = self.seats.get_mut(index) {
                    seat.waited = true;
                }
                return Some(Turn::Pause(pause));
            }
            if fits {
                tracing::warn!(provider = provider.name.as_str(), "no retry: too many of late");
            }
            if let Some(seat) = self.seats.get_mut(index) {
                seat.hopeless = true;
            }
        }
    }

    /// The pause is over: the target is called unless its breaker has opened meanwhile.
    fn after_pause(&mut self, index: usize) -> Option<Turn<'p>> {
        if let Some(ModelTarget::Remote(provider, model)) = self.plan.targets().get(index) {
            // It has been waited for as long as was asked.
            provider.keys.iter().for_each(|key| key.state.rested(model));
        }
        if let Ok(turn) = self.call(index)? {
            return Some(turn);
        }
        if let Some(seat) = self.seats.get_mut(index) {
            seat.hopeless = true;
        }
        self.once_more(Duration::ZERO)
    }

    /// How long to wait before a target is asked again: longer each time, not the same for everybody who waits, and as long
    /// as its keys rest.
    fn pause(&self, index: usize) -> Duration {
        let tries = self.seat(index).tries.saturating_sub(1).min(8);
        let most = FIRST_PAUSE.saturating_mul(1 << tries).min(LONGEST_PAUSE);
        let jitter = Choice { sticky: None, ..self.choice }.draw("");
        let own = most.mul_f64(0.5 + jitter / 2.0);
        let Some(ModelTarget::Remote(provider, model)) = self.plan.targets().get(index) else { return own };
        let now = provider.keys.care().states.now();
        let rests = provider.keys.iter().map(|key| key.state.resting(model, now).unwrap_or(0)).min();
        own.max(Duration::from_millis(rests.unwrap_or(0)))
    }

    /// Nobody may be asked: the target that may be soonest is waited for if that is soon, or asked all the same if nobody
    /// else asks it so; one caller at a time finds out whether it answers again.
    fn last_resort(&mut self, index: usize, refused: Refused, left: Duration) -> Turn<'p> {
        let Some(ModelTarget::Remote(provider, model)) = self.plan.targets().get(index) else {
            return Turn::Nobody(Some(refused));
        };
        let wait = Duration::from_millis(refused.wait);
        let seat = self.seat(index);
        if refused.why == Why::Quota && wait <= SHORT_REST.min(left) && !seat.waited {
            if let Some(seat) = self.seats.get_mut(index) {
                seat.waited = true;
            }
            return Turn::Pause(wait);
        }
        let wanted = self.wanted(index, model);
        match provider.keys.last_resort(wanted, self.choice) {
            Some(pass) => self.taken(index, (provider, model), pass),
            None => Turn::Nobody(Some(refused)),
        }
    }

    fn wanted<'s>(&'s self, index: usize, model: &'s Arc<str>) -> Wanted<'s> {
        let key = self.bound.get(index).and_then(Option::as_deref);
        wanted(model, self.plan.state(index), self.streamed).bounded(self.plan.concurrency(index)).with_key(key)
    }

    fn seat(&self, index: usize) -> Seat {
        self.seats.get(index).copied().unwrap_or_default()
    }

    fn count(&mut self, index: usize) {
        self.made += 1;
        if let Some(seat) = self.seats.get_mut(index) {
            seat.tries += 1;
            seat.waited = false;
        }
    }
}
