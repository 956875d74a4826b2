//! Trying the targets of a plan until one answers. Once an answer has begun it stands.

mod call;
mod first;
mod hedge;
pub(crate) mod mirror;
mod turns;

use std::sync::Arc;

use base::Problem;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use llm::{Dialect, RequestError};
use net::UpstreamBody;
use tokio::time::Instant;

use self::call::Calls;
use self::hedge::Ended;
use self::mirror::Copied;
use self::turns::{Turn, Turns};
use super::request_problem;
use super::within::Makes;
use crate::Reservation;
use crate::admit::Admitted;
use crate::budget::{Load, Place, Quote};
use crate::objects::Holder;
use crate::problem::Refusal;
use crate::relay::Answer;
use crate::route::{Facts, Plan};
use crate::settle::{Leg, Receipt};
use crate::snapshot::{ModelTarget, Provider};
use crate::upstream::{self, UpstreamError};

/// A request that any of several targets may answer.
pub(crate) trait Exchange: Sync {
    /// What [`Self::finish`] needs to know of the request that was sent.
    type Sent: Send;

    /// Whether a stream is asked for.
    fn streams(&self) -> bool;

    /// What the provider may make that its answer to this tells the caller of.
    fn makes(&self, sent: &Self::Sent) -> Option<Makes>;

    /// The caller's header fields, of which a few are passed on.
    fn head(&self) -> &HeaderMap;

    /// What routes look at of it.
    fn facts(&self) -> Facts<'_> {
        Facts { streamed: self.streams(), ..Facts::new(self.head(), &[]) }
    }

    /// Whether this provider would keep something of it, so that it must not be sent again where it may have arrived.
    fn stores(&self, _: &Provider, _model: &str) -> bool {
        false
    }

    /// Whether asking for it twice at once does nothing twice, but that two answer: nothing is made or run at the provider.
    fn repeatable(&self) -> bool {
        false
    }

    /// A copy that outlives the request, for a target that nobody hears; `None` where there is none.
    fn copied(&self) -> Option<Copied> {
        None
    }

    /// What is sent, as JSON whose texts the model reads, where that can be counted; asked for only where its bytes are too many.
    fn text(&self) -> Option<Bytes> {
        None
    }

    /// The providers that hold all that the request names, if it names anything stored: nobody else can answer it.
    fn holders(&self) -> Option<&[Holder]> {
        None
    }

    /// The request as this target takes it.
    fn prepare(
        &self,
        provider: &Provider,
        model: &str,
        reservation: &Reservation,
    ) -> Result<Prepared<Self::Sent>, RequestError>;

    /// What it asks to have done, as far as that costs.
    fn load(&self) -> Load;

    /// The service that asks, if one does.
    fn service(&self) -> Option<&str> {
        None
    }

    /// The built-in model's answer.
    fn echo(&self, reservation: &Reservation, receipt: &mut Receipt) -> Result<Answer, Failed>;

    /// Turn a provider's response into the caller's answer. Its status and encoding have been looked at.
    fn finish(
        &self,
        response: Response<UpstreamBody>,
        sent: Self::Sent,
        leg: &mut Leg,
    ) -> impl Future<Output = Result<Answer, Failed>> + Send;
}

/// A request ready for one target.
pub(crate) struct Prepared<S> {
    pub(crate) path: PathAndQuery,
    pub(crate) content: upstream::Content,
    pub(crate) sent: S,
}

/// Where a chat request in `spoken` goes.
pub(crate) fn path(
    provider: &Provider,
    spoken: Dialect,
    (model, stream): (&str, bool),
) -> Result<PathAndQuery, RequestError> {
    let unnamed = || RequestError::Unsupported { param: "model".to_owned(), why: "its provider has no such name" };
    provider.path(spoken, model, stream).ok_or_else(unnamed)
}

/// Why a target gave no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It cannot express the request.
    Request(RequestError),
    /// It failed.
    Upstream(UpstreamError),
    /// It answered, but not with what was asked for.
    Answer(Problem),
    /// It answered with an error after which another is tried: what the caller gets if none does better.
    Said(Box<Answer>),
}

impl From<UpstreamError> for Failed {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

impl Failed {
    fn refusal(self) -> Refusal {
        match self {
            Self::Request(error) => Refusal::from(request_problem(&error)),
            Self::Upstream(error) => Refusal::from(error.problem()),
            Self::Answer(problem) => Refusal::from(problem),
            Self::Said(answer) => Refusal::from(UpstreamError::Status(answer.status).problem()),
        }
    }

    /// Whether another target may do better.
    fn retryable(&self) -> bool {
        match self {
            Self::Request(error) => matches!(error, RequestError::Unsupported { .. } | RequestError::TooLong { .. }),
            Self::Upstream(error) => error.retryable(),
            Self::Answer(_) => false,
            Self::Said(_) => true,
        }
    }

    /// Whether the same target would fail the same way again.
    fn is_lasting(&self) -> bool {
        match self {
            Self::Request(_) | Self::Answer(_) => true,
            Self::Upstream(error) => error.is_lasting(),
            Self::Said(_) => false,
        }
    }

    /// Whether the provider may have done what was asked all the same.
    fn may_have_been_done(&self) -> bool {
        match self {
            Self::Upstream(error) => error.may_have_been_done(),
            Self::Said(answer) => upstream::gave_up(answer.status),
            Self::Request(_) | Self::Answer(_) => false,
        }
    }

    /// Whether it concerns the key: with another one the same target may answer.
    fn is_of_key(&self) -> bool {
        match self {
            Self::Upstream(error) => matches!(error, UpstreamError::Key | UpstreamError::Credential(_)),
            Self::Said(answer) => {
                matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYMENT_REQUIRED)
            }
            Self::Request(_) | Self::Answer(_) => false,
        }
    }

    fn log(&self, target: &ModelTarget) {
        let provider = match target {
            ModelTarget::Echo => config::OWN_NAME,
            ModelTarget::Remote(provider, _) => provider.name.as_str(),
        };
        match self {
            Self::Upstream(error) => {
                tracing::warn!(provider, reason = error.reason(), %error, "a provider gave no answer");
            }
            Self::Request(error) => {
                tracing::debug!(provider, reason = error.reason(), "a provider cannot take the request");
            }
            Self::Answer(problem) => {
                tracing::debug!(provider, reason = problem.code, "a provider's answer is not as asked");
            }
            Self::Said(answer) => {
                tracing::warn!(provider, status = answer.status.as_u16(), "a provider answers with an error");
            }
        }
    }
}

/// Try until one answers.
pub(crate) async fn run<E: Exchange>(
    exchange: &E,
    plan: &Plan,
    admitted: Admitted,
    receipt: &mut Receipt,
) -> Result<(Answer, Reservation), Refusal> {
    let quotes = quotes(exchange, plan, receipt.asked_for());
    let reservation = receipt.reserve_for(admitted, (quotes, &|| exchange.text())).await?;
    let answer = reserved(exchange, plan, &reservation, receipt).await?;
    Ok((answer, reservation))
}

/// What each target of a plan may take at most.
pub(super) fn quotes<'a, E: Exchange>(
    exchange: &'a E,
    plan: &'a Plan,
    asked: Option<Arc<str>>,
) -> impl FnOnce(Option<u64>) -> Vec<Quote> + 'a {
    move |policy| {
        let load = exchange.load();
        let service = exchange.service().map(Arc::from);
        let quote = |(index, target): (usize, &ModelTarget)| {
            let place = Place { asked: asked.clone(), service: service.clone(), ..Place::at(target) };
            let mut quote = Quote::of(&load, target, place, policy);
            quote.aside = plan.is_shadow(index);
            quote
        };
        plan.targets().iter().enumerate().map(quote).collect()
    }
}

/// Which of these a target is.
fn holder<'h>(holders: &'h [Holder], target: &ModelTarget) -> Option<&'h Holder> {
    match target {
        ModelTarget::Remote(provider, _) => holders.iter().find(|holder| holder.provider == provider.name),
        ModelTarget::Echo => None,
    }
}

/// Try until one answers, of what has been reserved.
pub(super) async fn reserved<E: Exchange>(
    exchange: &E,
    plan: &Plan,
    reservation: &Reservation,
    receipt: &mut Receipt,
) -> Result<Answer, Refusal> {
    let shared = Arc::clone(receipt.shared());
    let end = Instant::now() + plan.total();
    let (mut order, choice) = plan.order(&exchange.facts(), receipt.caller(), shared.rng.as_ref());
    if let Some(holders) = exchange.holders() {
        let holds = |target: &ModelTarget| holder(holders, target).is_some();
        order.retain(|index| plan.targets().get(*index).is_some_and(holds));
    }
    if order.is_empty() {
        let message = "No target of this model takes such a request.";
        return Err(Problem::client(StatusCode::BAD_REQUEST, "no_target_matches", message).param("model").into());
    }
    let mut turns = Turns::new(plan, order, exchange.streams(), choice);
    if let Some(holders) = exchange.holders() {
        turns.bind(|target| holder(holders, target)?.key.clone());
    }
    let calls = Calls { exchange, plan, reservation, end };
    let mut failed: Option<Failed> = None;
    let mut trail = Trail::default();
    loop {
        let turn = turns.next(end.saturating_duration_since(Instant::now()));
        let (index, outcome) = match turn {
            Turn::Pause(pause) => {
                tokio::time::sleep(pause).await;
                receipt.waited(pause);
                continue;
            }
            Turn::Nobody(refused) => {
                let refused = refused.filter(|_| failed.is_none());
                failed = refused.map(|refused| Failed::Upstream(UpstreamError::Unavailable(refused))).or(failed);
                break;
            }
            Turn::Echo(index) => {
                trail.at(config::OWN_NAME, "echo");
                let counted = receipt.asks_here(reservation, index).await;
                let outcome = counted.map_err(|error| Failed::Upstream(error.into()));
                (index, outcome.and_then(|()| exchange.echo(reservation, receipt)))
            }
            Turn::Call(called) => {
                trail.at(called.provider.name.as_str(), called.model);
                receipt.asks(&called.provider.label);
                let Ended { earlier, last } = match hedge::planned(&calls, &called, &turns) {
                    None => {
                        let hold = turns.more().then_some(first::LONGEST);
                        calls.at(called, receipt.leg(), hold).await.into()
                    }
                    // What two calls keep is large, and few models have it.
                    Some(planned) => {
                        Box::pin(hedge::two(&calls, called, &mut turns, (&mut trail, receipt), planned)).await
                    }
                };
                if let Some((index, error)) = earlier.map(|earlier| *earlier) {
                    failed = Some(noted(plan, index, (failed, error), &mut turns));
                }
                receipt.takes(last.leg);
                if last.outcome.is_err() {
                    receipt.unanswered();
                }
                (last.index, last.outcome)
            }
        };
        let error = match outcome {
            Ok(answer) => {
                if answer.status.is_success() {
                    mirror::begin(exchange, plan, reservation, receipt);
                }
                return Ok(trail.told(answer));
            }
            Err(error) => error,
        };
        let twice = error.may_have_been_done()
            && match plan.targets().get(index) {
                Some(ModelTarget::Remote(provider, model)) => exchange.stores(provider, model),
                _ => false,
            };
        let again = error.retryable() && !twice;
        failed = Some(noted(plan, index, (failed, error), &mut turns));
        if !again {
            break;
        }
    }
    match failed {
        Some(Failed::Said(answer)) => Ok(trail.told(*answer)),
        Some(failed) => Err(trail.on(failed.refusal())),
        None => Err(UpstreamError::Egress(net::EgressError::Busy).problem().into()),
    }
}

/// An attempt has failed. Gives what the caller is told if no other does better.
fn noted(plan: &Plan, index: usize, (before, error): (Option<Failed>, Failed), turns: &mut Turns<'_>) -> Failed {
    if let Some(target) = plan.targets().get(index) {
        error.log(target);
    }
    turns.failed(index, error.is_lasting(), error.is_of_key());
    // What a provider said tells more than that another could not be asked.
    match (before, error) {
        (
            Some(first @ (Failed::Upstream(_) | Failed::Said(_))),
            Failed::Request(_) | Failed::Upstream(UpstreamError::Budget(_) | UpstreamError::Limited(_)),
        ) => first,
        (_, later) => later,
    }
}

/// Where a request has been: told in the answer's head.
#[derive(Default)]
struct Trail {
    attempts: u32,
    last: Option<HeaderValue>,
}

/// What of a model's name a header field holds as it is.
const PLAIN: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':')
    .remove(b'@');

impl Trail {
    const TARGET: HeaderName = HeaderName::from_static("x-vouchgate-target");
    const ATTEMPTS: HeaderName = HeaderName::from_static("x-vouchgate-attempts");

    fn at(&mut self, provider: &str, model: &str) {
        self.attempts += 1;
        let mut target = String::with_capacity(provider.len() + 1 + model.len());
        target.push_str(provider);
        target.push('/');
        target.extend(percent_encoding::utf8_percent_encode(model, PLAIN));
        self.last = HeaderValue::try_from(target).ok();
    }

    fn count(&self) -> HeaderValue {
        // Most need no more.
        if self.attempts == 1 { HeaderValue::from_static("1") } else { self.attempts.into() }
    }

    fn told(self, mut answer: Answer) -> Answer {
        answer.headers.insert(Self::ATTEMPTS, self.count());
        if let Some(target) = self.last {
            answer.headers.insert(Self::TARGET, target);
        }
        answer
    }

    fn on(self, refusal: Refusal) -> Refusal {
        let refusal = refusal.header(Self::ATTEMPTS, self.count());
        match self.last {
            Some(target) => refusal.header(Self::TARGET, target),
            None => refusal,
        }
    }
}
