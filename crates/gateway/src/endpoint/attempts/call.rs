//! One call to one target, as far as it is an attempt: what it is worth is told to the target's pass.

use std::time::Duration;

use http::{Response, StatusCode};
use net::UpstreamBody;
use tokio::time::Instant;

use super::turns::Called;
use super::{Exchange, Failed, Prepared, first};
use crate::Reservation;
use crate::endpoint::within;
use crate::health::Scope;
use crate::relay::{Answer, Content};
use crate::route::Plan;
use crate::settle::{Leg, Outcome};
use crate::snapshot::Provider;
use crate::upstream::{self, Asking, UpstreamError};

/// What every call of a request has in common.
pub(super) struct Calls<'a, E> {
    pub(super) exchange: &'a E,
    pub(super) plan: &'a Plan,
    pub(super) reservation: &'a Reservation,
    /// When the caller is told that nobody answered in time.
    pub(super) end: Instant,
}

/// What came of a call.
pub(super) struct Over {
    pub(super) index: usize,
    pub(super) leg: Box<Leg>,
    pub(super) outcome: Result<Answer, Failed>,
}

impl<E: Exchange> Calls<'_, E> {
    /// Make a call, within its time. `hold`: for how long a stream is held back at most until it says something; `None`
    /// if nobody else could answer it.
    pub(super) async fn at(&self, called: Called<'_>, mut leg: Box<Leg>, hold: Option<Duration>) -> Over {
        let index = called.index;
        let own = self.plan.attempt_total(index).map(|total| Instant::now() + total).filter(|own| *own < self.end);
        let pass = called.pass.clone();
        let attempt = self.attempt(called, &mut leg, hold);
        let outcome = tokio::time::timeout_at(own.unwrap_or(self.end), attempt).await.unwrap_or_else(|_| {
            if own.is_none() {
                return Err(Failed::Upstream(UpstreamError::Total));
            }
            pass.failed(Scope::Provider);
            Err(Failed::Upstream(UpstreamError::AttemptTotal))
        });
        Over { index, leg, outcome }
    }

    async fn attempt(&self, called: Called<'_>, leg: &mut Leg, hold: Option<Duration>) -> Result<Answer, Failed> {
        let Called { index, provider, model, pass } = called;
        let (exchange, reservation) = (self.exchange, self.reservation);
        let prepared = exchange.prepare(provider, model, reservation).map_err(Failed::Request)?;
        let Prepared { path, content, sent } = prepared;
        let asking = Asking {
            provider,
            pass: pass.clone(),
            judged: true,
            deadlines: self.plan.deadlines(index, provider),
            method: content.method(),
            path: &path,
            caller: exchange.head(),
            content,
        };
        leg.aim(index);
        let response = upstream::ask(reservation, leg, asking).await?;
        let status = response.status();
        let retried = self.plan.retries_on(status);
        if status == StatusCode::NOT_FOUND && retried {
            pass.failed(Scope::Model);
        }
        let mut answer = judged(exchange, (provider, response, sent), leg).await;
        if let Some(longest) = hold.filter(|_| status.is_success()) {
            answer = match answer {
                Ok(answer) => first::begun(answer, longest).await,
                failed => failed,
            };
        }
        match &answer {
            Ok(answer) if answer.status.is_success() || answer.status == StatusCode::SWITCHING_PROTOCOLS => {
                pass.answered();
            }
            Err(Failed::Upstream(error)) if error.is_providers() => pass.failed(Scope::Provider),
            _ => {}
        }
        match answer {
            Ok(answer) if retried => Err(Failed::Said(Box::new(answer))),
            // What nobody can read says no more than its status.
            Err(Failed::Upstream(UpstreamError::Encoding)) if retried => Err(UpstreamError::Status(status).into()),
            other => other,
        }
    }
}

/// Look at a provider's response, and turn it into the caller's answer.
async fn judged<E: Exchange>(
    exchange: &E,
    (provider, response, sent): (&Provider, Response<UpstreamBody>, E::Sent),
    leg: &mut Leg,
) -> Result<Answer, Failed> {
    upstream::check_head(&response)?;
    if upstream::is_encoded(response.headers()) {
        return Err(UpstreamError::Encoding.into());
    }
    let makes = exchange.makes(&sent);
    let mut answer = exchange.finish(response, sent, leg).await?;
    if let Some(makes) = makes {
        answer = Box::pin(within::claimed(answer, makes, provider, leg)).await.map_err(Failed::Answer)?;
    }
    match &answer.content {
        Content::Whole(body, Outcome::ProviderError) if upstream::repeats_key(provider, body) => {
            Err(UpstreamError::Key.into())
        }
        _ => Ok(answer),
    }
}
