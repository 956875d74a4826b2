//! Trying the targets of a plan in their order until one answers. Once an answer has begun it stands.

use base::Problem;
use http::uri::PathAndQuery;
use http::{HeaderMap, Response};
use llm::{Dialect, RequestError};
use net::UpstreamBody;
use policy::Permit;

use super::request_problem;
use super::within::{self, Makes};
use crate::Reservation;
use crate::problem::Refusal;
use crate::relay::{Answer, Content};
use crate::route::Plan;
use crate::settle::{Outcome, Receipt};
use crate::snapshot::{ModelTarget, Provider};
use crate::upstream::{self, Asking, UpstreamError};

/// A request that any of several targets may answer.
pub(crate) trait Exchange: Sync {
    /// What [`Self::finish`] needs to know of the request that was sent.
    type Sent: Send;

    /// What the provider may make that its answer to this tells the caller of.
    fn makes(&self, sent: &Self::Sent) -> Option<Makes>;

    /// The caller's header fields, of which a few are passed on.
    fn head(&self) -> &HeaderMap;

    /// The request as this target takes it.
    fn prepare(&self, provider: &Provider, model: &str, permit: &Permit) -> Result<Prepared<Self::Sent>, RequestError>;

    /// The built-in model's answer.
    fn echo(&self, permit: &Permit, receipt: &mut Receipt) -> Result<Answer, Failed>;

    /// Turn a provider's response into the caller's answer. Its status and encoding have been looked at.
    fn finish(
        &self,
        response: Response<UpstreamBody>,
        sent: Self::Sent,
        receipt: &mut Receipt,
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
        }
    }

    /// Whether another target may do better.
    fn retryable(&self) -> bool {
        match self {
            Self::Request(error) => matches!(error, RequestError::Unsupported { .. }),
            Self::Upstream(error) => error.retryable(),
            Self::Answer(_) => false,
        }
    }

    /// Whether the same target would fail the same way again.
    fn is_lasting(&self) -> bool {
        match self {
            Self::Request(_) | Self::Answer(_) => true,
            Self::Upstream(error) => error.is_lasting(),
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
        }
    }
}

/// Try until one answers.
pub(crate) async fn run<E: Exchange>(
    exchange: &E,
    plan: &Plan,
    reservation: &Reservation,
    receipt: &mut Receipt,
) -> Result<Answer, Refusal> {
    let mut attempt = 0;
    let mut failed: Option<Failed> = None;
    let mut hopeless: Vec<usize> = Vec::new();
    while let Some(target) = plan.target(attempt) {
        let index = attempt.checked_rem(plan.targets().len()).unwrap_or(0);
        if hopeless.contains(&index) {
            attempt += 1;
            continue;
        }
        let pause = plan.pause(attempt);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
            receipt.waited(pause);
        }
        attempt += 1;
        let last = plan.target(attempt).is_none();
        let outcome = match target {
            ModelTarget::Echo => {
                receipt.answered_here();
                exchange.echo(reservation.permit(), receipt)
            }
            ModelTarget::Remote(provider, model) => {
                one(exchange, plan, (provider, model, last), reservation, receipt).await
            }
        };
        match outcome {
            Ok(answer) => return Ok(answer),
            Err(error) => {
                error.log(target);
                let again = error.retryable();
                if error.is_lasting() {
                    hopeless.push(index);
                }
                // What a provider said tells more than that another could not be asked.
                failed = match (failed, error) {
                    (Some(first @ Failed::Upstream(_)), Failed::Request(_)) => Some(first),
                    (_, later) => Some(later),
                };
                if !again {
                    break;
                }
            }
        }
    }
    let nothing = || Failed::Upstream(UpstreamError::Egress(net::EgressError::Busy));
    Err(failed.unwrap_or_else(nothing).refusal())
}

/// One attempt at one target. Unless it is the last, an answer with a status that lets another try is a failure.
async fn one<E: Exchange>(
    exchange: &E,
    plan: &Plan,
    (provider, model, last): (&Provider, &str, bool),
    reservation: &Reservation,
    receipt: &mut Receipt,
) -> Result<Answer, Failed> {
    let prepared = exchange.prepare(provider, model, reservation.permit()).map_err(Failed::Request)?;
    let Prepared { path, content, sent } = prepared;
    let asking = Asking {
        provider,
        key: provider.credential.as_ref(),
        deadlines: plan.deadlines(provider),
        method: content.method(),
        path: &path,
        caller: exchange.head(),
        content,
    };
    let response = upstream::ask(reservation, receipt, asking).await?;
    if !last && plan.retries_on(response.status()) {
        return Err(UpstreamError::Status(response.status()).into());
    }
    upstream::check_head(&response)?;
    if upstream::is_encoded(response.headers()) {
        return Err(UpstreamError::Encoding.into());
    }
    let makes = exchange.makes(&sent);
    let mut answer = exchange.finish(response, sent, receipt).await?;
    if let Some(makes) = makes {
        answer = within::claimed(answer, makes, provider, receipt).await.map_err(Failed::Answer)?;
    }
    match &answer.content {
        Content::Whole(body, Outcome::ProviderError) if upstream::repeats_key(provider, body) => {
            Err(UpstreamError::Key.into())
        }
        _ => Ok(answer),
    }
}
