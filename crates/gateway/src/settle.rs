//! What is known of a request when it is over: counted, logged, recorded. A [`Receipt`] is opened as soon as the caller
//! is known and settles when it is dropped, so that it also does when the client has gone.

mod leg;
mod paid;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use audit::{HoldLine, Whom};
use base::{Name, RequestId, Timestamp};
use http::{HeaderValue, StatusCode};
use llm::Usage;
use store::{Charge, RequestRecord};

pub(crate) use self::leg::Leg;
use crate::admit::{Asked, CountedTokens, Standing};
use crate::anomaly::Actors;
use crate::authenticate::Caller;
use crate::budget::{Funding, Stake, Tally};
use crate::metrics::{Label, OpenStream, Operation, Way};
use crate::problem::Refusal;
use crate::recorded::{self, Entry};
use crate::trace::{self, TraceParent};
use crate::{Reservation, Shared};

/// Where records of requests go. Never waits.
pub trait Records: Send + Sync {
    /// Hand over a record.
    fn push(&self, record: RequestRecord);
}

impl Records for store::RecordSink {
    fn push(&self, record: RequestRecord) {
        Self::push(self, record);
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered to the end.
    Ok,
    /// Turned away by this gateway, with the reason.
    Refused(&'static str),
    /// The provider answered with an error status, passed on.
    ProviderError,
    /// The answer broke off, with the reason.
    Cut(&'static str),
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused(_) => "refused",
            Self::ProviderError => "provider_error",
            Self::Cut(_) => "cut",
        }
    }

    fn error(self) -> Option<&'static str> {
        match self {
            Self::Ok => None,
            Self::Refused(reason) | Self::Cut(reason) => Some(reason),
            Self::ProviderError => Some("provider_error"),
        }
    }
}

/// The longest tag.
const MAX_TAG: usize = 64;

/// What nginx made the custom: the client closed the connection before it was answered.
const CLIENT_GONE: u16 = 499;

/// An open account of one request.
pub(crate) struct Receipt {
    shared: Arc<Shared>,
    id: RequestId,
    caller: Caller,
    /// The caller, ready to be written into the audit log.
    whom: Option<Arc<Whom>>,
    /// Its entry in the audit log, once a provider may be called.
    entry: OnceLock<Arc<Entry>>,
    /// What the ledger has set aside for it: said in the entry of its beginning, so known before the first call.
    pub(crate) holds: Vec<HoldLine>,
    /// The runtime secrets that are opened for it: known before its call, and said in the same entry.
    secrets: Vec<String>,
    /// What its caller is watched as, once it is.
    watched: Option<Actors>,
    /// What its budgets hold for it.
    funding: Option<Arc<Funding>>,
    trace: Option<TraceParent>,
    route: &'static str,
    at: Timestamp,
    started: Instant,
    policy: Option<Name>,
    /// The tag its caller gives it, allowed or not.
    tag: Option<Arc<str>>,
    /// Whether its policy lets it give this one.
    tag_allowed: bool,
    requested: Option<Arc<str>>,
    model: Label,
    provider: Label,
    status: Option<StatusCode>,
    outcome: Option<Outcome>,
    usage: Usage,
    dropped: Option<String>,
    /// What the cache of answers did.
    cache: Option<(&'static str, Option<u16>)>,
    upstream: Duration,
    waited: Duration,
    answered: Option<Instant>,
    first_byte: Option<Instant>,
    stream: Option<OpenStream>,
    request_bytes: u64,
    response_bytes: u64,
    /// How its caller stands with the rates that count it.
    standing: Standing,
    /// What is held for the call whose answer counts.
    stake: Option<Stake>,
    /// What was counted against rates of tokens.
    tokens: Option<CountedTokens>,
    /// What the call whose answer counts, counts for at its provider.
    asked_of: Option<Asked>,
    /// Where the answer comes from, where it is settled part by part.
    place: Option<Charge>,
    /// What its calls have cost.
    tally: Arc<Tally>,
    /// What its policy says it is for.
    tags: Vec<Arc<str>>,
}

/// What is known of a request from the start.
pub(crate) struct Opening {
    pub(crate) id: RequestId,
    pub(crate) route: &'static str,
    pub(crate) at: Timestamp,
    pub(crate) started: Instant,
    pub(crate) trace: Option<TraceParent>,
}

impl Receipt {
    pub(crate) fn open(shared: &Arc<Shared>, opening: &Opening, (caller, whom): (Caller, Option<Arc<Whom>>)) -> Self {
        let Opening { id, route, at, started, trace } = *opening;
        Self {
            shared: Arc::clone(shared),
            id,
            caller,
            whom,
            entry: OnceLock::new(),
            holds: Vec::new(),
            secrets: Vec::new(),
            watched: None,
            funding: None,
            trace,
            route,
            at,
            started,
            policy: None,
            tag: None,
            tag_allowed: false,
            requested: None,
            model: Label::Fixed("none"),
            provider: Label::Fixed("none"),
            status: None,
            outcome: None,
            usage: Usage::default(),
            dropped: None,
            cache: None,
            upstream: Duration::ZERO,
            waited: Duration::ZERO,
            answered: None,
            first_byte: None,
            stream: None,
            request_bytes: 0,
            response_bytes: 0,
            standing: Standing::default(),
            stake: None,
            tokens: None,
            asked_of: None,
            place: None,
            tally: Arc::default(),
            tags: Vec::new(),
        }
    }

    /// How its caller stands with the rates that count it.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn at(&self) -> Timestamp {
        self.at
    }

    pub(crate) fn permitted(&mut self, policy: &Name) {
        self.policy = Some(policy.clone());
    }

    /// These runtime secrets are about to be opened for it: to be told before the first call.
    pub(crate) fn opens(&mut self, secrets: Vec<String>) {
        self.secrets = secrets;
    }

    /// The tag that the caller gives its request, allowed or not.
    pub(crate) fn tag(&self) -> Option<Arc<str>> {
        self.tag.clone()
    }

    /// The caller gives its request a tag.
    pub(crate) fn tagged(&mut self, tag: Option<&HeaderValue>) {
        let tag = tag.and_then(|tag| tag.to_str().ok()).filter(|tag| (1..=MAX_TAG).contains(&tag.len()));
        self.tag = tag.map(Arc::from);
    }

    pub(crate) fn request_bytes(&mut self, bytes: usize) {
        self.request_bytes = bytes as u64;
    }

    /// The model asked for, and what it is counted under.
    pub(crate) fn model(&mut self, requested: &str, label: &Label) {
        self.requested = Some(Arc::from(shortened(requested)));
        self.model = label.clone();
    }

    /// A provider is about to be called: to be told if the caller goes before anything comes of it.
    pub(crate) fn asks(&mut self, provider: &Label) {
        self.provider = provider.clone();
    }

    /// Who answers, as far as that is known.
    pub(crate) fn provider(&self) -> &Label {
        &self.provider
    }

    /// A call to a provider, of which this request may make several.
    pub(crate) fn leg(&self) -> Box<Leg> {
        Box::new(Leg::of(self))
    }

    /// Its entry in the audit log: one for all its calls.
    fn entry(&self) -> Arc<Entry> {
        let entry = self.entry.get_or_init(|| {
            Arc::new(Entry {
                id: self.id,
                route: self.route,
                caller: self.caller.clone(),
                whom: self.whom.clone(),
                policy: self.policy.clone(),
                model: self.requested.clone(),
                bytes: self.request_bytes,
                holds: self.holds.clone(),
                secrets: self.secrets.clone(),
                state: recorded::State::default(),
            })
        });
        Arc::clone(entry)
    }

    /// What a call has shown is this request's.
    pub(crate) fn takes(&mut self, leg: Box<Leg>) {
        let leg = *leg;
        self.provider = leg.provider.unwrap_or_else(|| self.provider.clone());
        self.upstream += leg.upstream;
        self.usage = leg.usage.unwrap_or(self.usage);
        self.dropped = leg.dropped;
        self.standing.asked(leg.standing);
        // The places of a call before it are free again.
        self.asked_of = leg.asked;
        if let Some(stake) = leg.stake {
            // What a call before it may have cost is settled by what it showed.
            self.stake = Some(stake);
        }
    }

    /// The call that was taken gives no answer: its places at the provider are free while another is asked.
    pub(crate) fn unanswered(&mut self) {
        self.asked_of = None;
    }

    /// Time that was spent waiting, for the caller's body or before another attempt.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// The built-in model answers, which is this of the targets.
    pub(crate) fn answered_here(&mut self, reservation: &Reservation, target: usize) {
        self.provider = Label::Fixed(config::OWN_NAME);
        self.stake = reservation.funding().and_then(|funding| funding.stake_here(target));
    }

    /// An answer that was kept is given again: no provider is asked.
    pub(crate) fn kept(&mut self) {
        self.provider = Label::Fixed("cache");
        self.usage = crate::cache::nothing();
    }

    /// It is paid for as what was kept is.
    pub(crate) fn kept_paid(&mut self, reservation: &Reservation) {
        self.stake = reservation.funding().and_then(|funding| funding.stake_here(0));
    }

    /// The model asked for.
    pub(crate) fn asked_for(&self) -> Option<Arc<str>> {
        self.requested.clone()
    }

    /// What the cache of answers did: `hit`, `semantic` (with how alike the questions are, in thousandths), `miss`, `bypass`.
    pub(crate) fn cache(&mut self, how: &'static str, similarity: Option<u16>) {
        self.cache = Some((how, similarity));
    }

    pub(crate) fn usage(&mut self, usage: Usage) {
        self.usage = usage;
    }

    /// The request is turned away.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.status = Some(refusal.problem().status);
        self.outcome = Some(Outcome::Refused(refusal.why()));
        self.shared.metrics.blocked(refusal.why());
        self.response_begins();
    }

    /// The answer's head is ready.
    pub(crate) fn status(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.response_begins();
    }

    fn response_begins(&mut self) {
        if self.answered.is_none() {
            self.answered = Some(self.shared.clock.monotonic());
        }
    }

    /// The answer is a stream from now on.
    pub(crate) fn streaming(&mut self) {
        self.stream = Some(self.shared.metrics.stream_opened());
    }

    /// A piece of the answer goes out.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
        if self.stream.is_some() && self.first_byte.is_none() {
            let now = self.shared.clock.monotonic();
            self.first_byte = Some(now);
            self.shared.metrics.first_token(&self.provider, now.saturating_duration_since(self.started));
        }
    }

    /// The answer is over, well or not. The first word stands.
    pub(crate) fn ended(&mut self, outcome: Outcome) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let (now, at) = (self.shared.clock.monotonic(), self.shared.clock.now());
        let took = now.saturating_duration_since(self.started);
        let metrics = &self.shared.metrics;
        // Whose caller goes while a provider is asked spends that time there, not here.
        if let Some(answered) = self.answered {
            let before = answered.saturating_duration_since(self.started);
            metrics.overhead(before.saturating_sub(self.upstream + self.waited));
        }
        let first_byte = self.first_byte.map(|at| at.saturating_duration_since(self.started));
        let charge = self.settle(now, at);
        self.count((took, first_byte), &charge);
        self.log((took, first_byte), &charge);
        self.audit(took, at);
        let record = self.record((took, first_byte), charge);
        self.shared.records.push(record);
    }
}

impl Receipt {
    fn final_status(&self) -> u16 {
        match (self.status, self.outcome) {
            (_, None) | (None, _) => CLIENT_GONE,
            (Some(status), Some(_)) => status.as_u16(),
        }
    }

    fn final_error(&self) -> Option<&'static str> {
        self.outcome.map_or(Some("client_gone"), Outcome::error)
    }

    /// What it took and cost, in metrics.
    fn count(&self, (took, first_byte): (Duration, Option<Duration>), charge: &Charge) {
        let metrics = &self.shared.metrics;
        let way = Way {
            route: self.route,
            provider: self.provider.clone(),
            model: self.model.clone(),
            policy: self.policy.clone().map_or(Label::Fixed("none"), Label::Named),
            outcome: self.outcome.map_or("client_gone", Outcome::label),
        };
        metrics.ended(&way, &self.usage, charge.cost);
        if metrics.genai().is_wanted() && self.provider.as_str() != "none" {
            metrics.genai().add(&Operation {
                name: operation(self.route),
                provider: self.provider.clone(),
                model: self.model.clone(),
                error: self.final_error(),
                tokens: (self.usage.input_tokens, self.usage.generated()),
                seconds: took.as_secs_f64(),
                first: first_byte.map(|first| first.as_secs_f64()),
                cost: charge.cost,
            });
        }
    }

    /// The audit log's entry of its end.
    fn audit(&self, took: Duration, at: Timestamp) {
        let begun = self.entry.get().is_some_and(|entry| entry.has_begun());
        self.shared.audit.ended(&audit::Ended {
            at,
            id: self.id.as_str(),
            route: self.route,
            sender: recorded::sender(&self.caller, self.whom.as_deref()),
            policy: self.policy.as_ref().map(Name::as_str),
            model: self.requested.as_deref(),
            provider: self.provider.as_str(),
            begun,
            status: self.final_status(),
            outcome: self.outcome.map_or("client_gone", Outcome::label),
            error: self.final_error(),
            input_tokens: self.usage.input_tokens,
            output_tokens: self.usage.generated(),
            duration_ms: millis(took),
            bytes: self.response_bytes,
            settled: &self.settled(begun),
        });
    }

    /// One line for people, one event for whoever exports spans.
    fn log(&self, (took, first_byte): (Duration, Option<Duration>), charge: &Charge) {
        let (status, error) = (self.final_status(), self.final_error());
        let duration_ms = millis(took);
        tracing::info!(
            target: "vouchgate::access",
            request_id = self.id.as_str(),
            route = self.route,
            status,
            error,
            policy = self.policy.as_ref().map(Name::as_str),
            issuer = self.caller.issuer(),
            client = self.caller.client(),
            subject = self.caller.subject(),
            provider = self.provider.as_str(),
            model = self.requested.as_deref(),
            dropped = self.dropped.as_deref(),
            cache = self.cache.map(|(how, _)| how),
            cache_similarity = self.cache.and_then(|(_, similarity)| similarity),
            input_tokens = self.usage.input_tokens,
            output_tokens = self.usage.generated(),
            audio_ms = self.usage.audio_ms,
            images = self.usage.images,
            cost_nano_usd = charge.cost,
            cost_estimated = charge.estimated.then_some(true),
            cost_clamped = charge.clamped.then_some(true),
            duration_ms,
            trace_id = self.trace.as_ref().map(TraceParent::trace_id),
            "request"
        );
        tracing::debug!(
            target: trace::TARGET,
            request_id = self.id.as_str(),
            trace_id = self.trace.as_ref().map(TraceParent::trace_id),
            parent_span_id = self.trace.as_ref().map(TraceParent::parent_id),
            start_ms = self.at.as_millis(),
            duration_ms,
            gen_ai.operation.name = operation(self.route),
            gen_ai.provider.name = self.provider.as_str(),
            gen_ai.request.model = self.requested.as_deref(),
            gen_ai.request.stream = self.stream.is_some(),
            gen_ai.usage.input_tokens = self.usage.input_tokens,
            gen_ai.usage.output_tokens = self.usage.output_tokens,
            gen_ai.usage.cache_read.input_tokens = self.usage.cache_read_tokens,
            gen_ai.usage.cache_creation.input_tokens = self.usage.cache_write_tokens,
            gen_ai.usage.reasoning.output_tokens = self.usage.reasoning_tokens,
            gen_ai.response.time_to_first_chunk = first_byte.map(|d| d.as_secs_f64()),
            http.response.status_code = status,
            error.type = error,
            "span"
        );
    }

    fn record(&self, (took, first_byte): (Duration, Option<Duration>), charge: Charge) -> RequestRecord {
        let (subject, client) = self.caller.kept();
        RequestRecord {
            at: self.at,
            request_id: self.id,
            endpoint: self.route.into(),
            policy: self.policy.clone(),
            issuer: self.caller.issuer_name(),
            client,
            subject: Some(subject),
            api_key: self.caller.key_id(),
            model: self.requested.clone(),
            provider: self.provider.name(),
            status: self.final_status(),
            error: self.final_error().map(Into::into),
            input_tokens: self.usage.input_tokens,
            output_tokens: self.usage.generated(),
            cached_tokens: self.usage.cache_read_tokens,
            duration_ms: millis(took),
            ttft_ms: first_byte.map(millis),
            stream: self.stream.is_some(),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            cache: self.cache.map(|(how, _)| how.into()),
            cache_similarity: self.cache.and_then(|(_, similarity)| similarity),
            charge,
        }
    }
}

/// A model's name as logs and records keep it: it is as long as its sender likes, and refused requests leave a record too.
fn shortened(model: &str) -> &str {
    const MOST: usize = 256;
    model.get(..model.floor_char_boundary(MOST)).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `gen_ai.operation.name` for a route.
fn operation(route: &str) -> &'static str {
    match route {
        "chat" | "messages" => "chat",
        "embeddings" => "embeddings",
        "service" | "completions" => "text_completion",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_of_any_length_takes_little_room_in_logs_and_records() {
        assert_eq!(shortened("openai/gpt-5-mini"), "openai/gpt-5-mini");
        assert_eq!(shortened(&"x".repeat(1 << 20)).len(), 256);
        assert_eq!(shortened(&"\u{1f600}".repeat(1000)).len(), 256);
        assert_eq!(shortened(&format!("x{}", "\u{1f600}".repeat(1000))).len(), 253);
    }
}
