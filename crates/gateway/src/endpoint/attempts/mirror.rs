//! A copy of a request for a target that nobody hears: its answer is read, measured and forgotten. It begins when the caller's
//! answer has, holds nothing of the caller's limits, and tells nothing to what decides on others' calls.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use llm::Usage;
use tokio::time::Instant;

use super::{Exchange, Failed, Prepared, hedge};
use crate::health::{Choice, Pass, TargetState, wanted};
use crate::metrics::Label;
use crate::relay::{Answer, Content};
use crate::route::Plan;
use crate::settle::{Leg, Outcome, Receipt};
use crate::snapshot::{ModelTarget, Provider};
use crate::upstream::{self, Asking, UpstreamError};
use crate::{Reservation, Shared};

/// Answers are read up to here: more is not measured.
const MOST_READ: usize = 16 << 20;
/// Whole answers, which are held to be read, up to here.
pub(crate) const MOST_HELD: usize = 4 << 20;
/// No copy takes longer, whatever its model allows.
const LONGEST: Duration = Duration::from_mins(10);

/// A request that outlives its caller, ready to be asked of a target.
pub(crate) type Copied = Box<dyn FnOnce(Mirror) -> BoxFuture<'static, ()> + Send>;

/// One copy on its way to its target.
pub(crate) struct Mirror {
    shared: Arc<Shared>,
    reservation: Reservation,
    leg: Leg,
    provider: Arc<Provider>,
    model: Arc<str>,
    /// The model the caller asked for.
    label: Label,
    state: Option<Arc<TargetState>>,
    concurrency: Option<u32>,
    deadlines: net::Deadlines,
    longest: Duration,
}

/// Send a copy to each target whose share this request falls in.
pub(super) fn begin<E: Exchange>(exchange: &E, plan: &Plan, reservation: &Reservation, receipt: &Receipt) {
    if !plan.has_shadows() {
        return;
    }
    let shared = receipt.shared();
    let facts = exchange.facts();
    for index in plan.shadows(&facts, receipt.caller(), shared.rng.as_ref()) {
        let Some(ModelTarget::Remote(provider, model)) = plan.targets().get(index) else { continue };
        let skipped = |result| shared.metrics.shadowed(plan.label(), (&provider.name, model), result);
        if !hedge::is_fit(exchange) || exchange.stores(provider, model) {
            skipped("unfit");
            continue;
        }
        let Some(room) = shared.shadows.room(facts.body.len()) else {
            skipped("full");
            continue;
        };
        let Some(copied) = exchange.copied() else {
            skipped("unfit");
            continue;
        };
        let mirror = Mirror {
            shared: Arc::clone(shared),
            reservation: reservation.mirrored(),
            leg: receipt.leg().aside(index),
            provider: Arc::clone(provider),
            model: Arc::clone(model),
            label: plan.label().clone(),
            state: plan.state(index).map(Arc::clone),
            concurrency: plan.concurrency(index),
            deadlines: plan.deadlines(index, provider),
            longest: plan.attempt_total(index).unwrap_or_else(|| plan.total()).min(LONGEST),
        };
        shared.shadows.run(room, copied(mirror));
    }
}

/// What is known of a copy when it is over.
#[derive(Default)]
struct Seen {
    status: Option<u16>,
    began: Option<Duration>,
    usage: Usage,
}

impl Mirror {
    /// Ask for it, read the answer to its end, and tell what was seen.
    pub(crate) async fn made<E: Exchange>(mut self, exchange: &E) {
        let begun = Instant::now();
        let mut seen = Seen::default();
        let mut drain = self.shared.drain.clone();
        let wants = wanted(&self.model, self.state.as_ref(), exchange.streams()).bounded(self.concurrency);
        let choice = Choice { sticky: None, rng: self.shared.rng.as_ref() };
        let result = match self.provider.keys.aside(wants, choice) {
            None => "unavailable",
            Some(pass) => {
                let yields = pass.clone();
                tokio::select! {
                    biased;
                    _ = drain.wait_for(|drain| *drain) => "draining",
                    () = yields.is_wanted() => "yielded",
                    () = tokio::time::sleep(self.longest) => "timeout",
                    result = self.read(exchange, pass, &mut seen) => result,
                }
            }
        };
        self.tell(result, &seen, begun.elapsed());
    }

    async fn read<E: Exchange>(&mut self, exchange: &E, pass: Pass, seen: &mut Seen) -> &'static str {
        let begun = Instant::now();
        let answer = self.asked(exchange, pass, seen).await;
        let failed = match answer {
            Ok(answer) => {
                let whole = matches!(answer.content, Content::Whole(_, Outcome::ProviderError));
                seen.status = Some(answer.status.as_u16());
                seen.began.get_or_insert_with(|| begun.elapsed());
                match discarded(answer, seen).await {
                    Ok(()) if whole => return "provider_error",
                    Ok(()) => return "ok",
                    Err(reason) => return reason,
                }
            }
            Err(failed) => failed,
        };
        match failed {
            Failed::Request(error) => error.reason(),
            Failed::Upstream(error) => error.reason(),
            Failed::Answer(problem) => problem.code,
            Failed::Said(_) => "provider_error",
        }
    }

    async fn asked<E: Exchange>(&mut self, exchange: &E, pass: Pass, seen: &mut Seen) -> Result<Answer, Failed> {
        let begun = Instant::now();
        let Prepared { path, content, sent } =
            exchange.prepare(&self.provider, &self.model, &self.reservation).map_err(Failed::Request)?;
        let asking = Asking {
            provider: &self.provider,
            pass,
            judged: true,
            deadlines: self.deadlines,
            method: content.method(),
            path: &path,
            caller: exchange.head(),
            content,
        };
        let response = upstream::ask(&self.reservation, &mut self.leg, asking).await?;
        seen.began = Some(begun.elapsed());
        seen.status = Some(response.status().as_u16());
        upstream::check_head(&response)?;
        if upstream::is_encoded(response.headers()) {
            return Err(UpstreamError::Encoding.into());
        }
        // What an answer may claim to have made is not looked at: it becomes nobody's.
        let answer = exchange.finish(response, sent, &mut self.leg).await;
        seen.usage = self.leg.counted();
        answer
    }

    fn tell(&mut self, result: &'static str, seen: &Seen, took: Duration) {
        if seen.usage.is_known() {
            self.leg.usage(seen.usage);
        }
        let (metrics, of) = (&self.shared.metrics, (&self.provider.name, &*self.model));
        metrics.shadowed(&self.label, of, result);
        metrics.shadow_took(&self.label, of, took);
        metrics.shadow_tokens("input", of, seen.usage.input_tokens.unwrap_or(0));
        metrics.shadow_tokens("output", of, seen.usage.generated().unwrap_or(0));
        tracing::info!(
            target: "vouchgate::shadow",
            request_id = self.leg.id().as_str(),
            provider = self.provider.name.as_str(),
            model = &*self.model,
            result,
            status = seen.status,
            began_ms = seen.began.map(crate::health::millis),
            duration_ms = crate::health::millis(took),
            input_tokens = seen.usage.input_tokens,
            output_tokens = seen.usage.generated(),
            "shadow"
        );
    }
}

/// Read an answer to its end, as it comes.
async fn discarded(answer: Answer, seen: &mut Seen) -> Result<(), &'static str> {
    let Content::Stream(ready, mut body, mut pipe) = answer.content else { return Ok(()) };
    let mut read = 0usize;
    for piece in ready {
        read = read.saturating_add(piece.len());
        pipe.feed(&piece);
    }
    loop {
        let piece = match body.frame().await {
            None => break,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => {
                seen.usage = pipe.usage();
                return Err(error.reason());
            }
        };
        read = read.saturating_add(piece.len());
        if read > MOST_READ {
            seen.usage = pipe.usage();
            return Err("upstream_too_large");
        }
        pipe.feed(&piece);
    }
    pipe.finish(true);
    seen.usage = pipe.usage();
    pipe.failed().map_or(Ok(()), Err)
}
