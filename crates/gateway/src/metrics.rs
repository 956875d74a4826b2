//! What `/metrics` tells of the data plane. Labels are bounded: names from the configuration and fixed codes, never a
//! subject, a key or anything else a caller chooses.

mod genai;
mod way;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base::Name;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use self::genai::GenAi;
pub(crate) use self::genai::Operation;
pub(crate) use self::way::Way;
use self::way::Ways;

/// A label value from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Label {
    /// Fixed.
    Fixed(&'static str),
    /// A resource's name.
    Named(Name),
}

impl Label {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Named(name) => name.as_str(),
        }
    }

    /// The resource's name, where it is one.
    pub(crate) fn name(&self) -> Option<Name> {
        match self {
            Self::Fixed(_) => None,
            Self::Named(name) => Some(name.clone()),
        }
    }
}

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}

/// What a request is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    provider: Label,
    model: Label,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BlockedLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProofLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    provider: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    provider: Label,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    direction: &'static str,
    provider: Label,
    model: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    model: Label,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BesideLabels {
    model: Label,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShadowLabels {
    model: Label,
    target: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShadowTimeLabels {
    model: Label,
    target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShadowTokenLabels {
    direction: &'static str,
    target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BudgetLabels {
    budget: String,
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CostLabels {
    provider: Label,
    model: Label,
    policy: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    kind: &'static str,
    provider: Label,
    model: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyTokenLabels {
    direction: &'static str,
    policy: Label,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The data plane's metrics.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    blocked: Family<BlockedLabels, Counter>,
    proofs: Family<ProofLabels, Counter>,
    overhead: Histogram,
    upstream: Histograms<UpstreamLabels>,
    attempts: Family<AttemptLabels, Counter>,
    first_token: Histograms<UpstreamLabels>,
    tokens: Family<TokenLabels, Counter>,
    streams_open: Gauge,
    cache: Family<CacheLabels, Counter>,
    hedges: Family<BesideLabels, Counter>,
    cancelled: Family<UpstreamLabels, Counter>,
    shadows: Family<ShadowLabels, Counter>,
    shadow_time: Histograms<ShadowTimeLabels>,
    shadow_tokens: Family<ShadowTokenLabels, Counter>,
    budgets: Family<BudgetLabels, Counter>,
    cost: Family<CostLabels, Counter<f64, AtomicU64>>,
    token_parts: Family<PartLabels, Counter>,
    policy_tokens: Family<PolicyTokenLabels, Counter>,
    ways: Ways,
    genai: GenAi,
}

/// One open stream; counts down when dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<Metrics>);

impl Metrics {
    /// Register the data plane's metrics (prefix `vouchgate_`) with `registry`.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let registry = registry.sub_registry_with_prefix("vouchgate");
        let metrics = Self {
            requests: Family::default(),
            blocked: Family::default(),
            proofs: Family::default(),
            overhead: Histogram::new(OVERHEAD),
            upstream: Family::new_with_constructor(long),
            attempts: Family::default(),
            first_token: Family::new_with_constructor(long),
            tokens: Family::default(),
            streams_open: Gauge::default(),
            cache: Family::default(),
            hedges: Family::default(),
            cancelled: Family::default(),
            shadows: Family::default(),
            shadow_time: Family::new_with_constructor(long),
            shadow_tokens: Family::default(),
            budgets: Family::default(),
            cost: Family::default(),
            token_parts: Family::default(),
            policy_tokens: Family::default(),
            ways: Ways::default(),
            genai: GenAi::default(),
        };
        registry.register(
            "requests",
            "Requests answered, by route, provider, model and outcome",
            metrics.requests.clone(),
        );
        registry.register("blocked", "Requests refused by this gateway, by reason", metrics.blocked.clone());
        let help = "Proofs of possession, by kind (dpop, mtls, signature) and outcome (ok, or why not)";
        registry.register("proofs", help, metrics.proofs.clone());
        let help = "Time spent in this gateway before and after the upstream call";
        registry.register_with_unit("overhead", help, Unit::Seconds, metrics.overhead.clone());
        let help = "Time from sending an upstream request to the head of its answer";
        registry.register_with_unit("upstream_duration", help, Unit::Seconds, metrics.upstream.clone());
        registry.register("upstream_attempts", "Upstream calls, by provider and result", metrics.attempts.clone());
        let help = "Time from receiving a request to the first byte of a streamed answer";
        registry.register_with_unit("ttft", help, Unit::Seconds, metrics.first_token.clone());
        registry.register("tokens", "Tokens used, by direction, provider and model", metrics.tokens.clone());
        registry.register("streams_open", "Streamed answers in progress", metrics.streams_open.clone());
        let help = "Requests to models whose answers are kept, by model and result (hit, semantic, miss, bypass)";
        registry.register("cache", help, metrics.cache.clone());
        let help = "Requests that were to ask another target beside one that took long, by model and result (won, lost, \
                    failed, gone, over_budget, no_target)";
        registry.register("hedges", help, metrics.hedges.clone());
        let help =
            "Calls dropped because another target answered first, by provider: what it counts for them is not known";
        registry.register("upstream_cancelled", help, metrics.cancelled.clone());
        let help = "Copies of requests for targets that nobody hears, by model, target and result (ok, or why not)";
        registry.register("shadow", help, metrics.shadows.clone());
        let help = "Time that such a copy took to the end of its answer";
        registry.register_with_unit("shadow_duration", help, Unit::Seconds, metrics.shadow_time.clone());
        let help = "Tokens used by such copies, by direction and target: no caller's";
        registry.register("shadow_tokens", help, metrics.shadow_tokens.clone());
        let help = "What happens with budgets, by budget and event (refused, estimated, clamped, over, threshold)";
        registry.register("budget_events", help, metrics.budgets.clone());
        let help = "What requests cost in USD as charged, by provider, model and policy";
        registry.register("cost_usd", help, metrics.cost.clone());
        let help = "Of the tokens, those of a kind (cached, cache_write, reasoning, audio_input, audio_output), by provider and model";
        registry.register("token_parts", help, metrics.token_parts.clone());
        let help = "Tokens used, by direction and policy";
        registry.register("policy_tokens", help, metrics.policy_tokens.clone());
        Arc::new(metrics)
    }

    /// What `OpenTelemetry` counts of generative AI.
    pub fn genai(&self) -> &GenAi {
        &self.genai
    }

    /// Count a refusal; also for other surfaces of the same listener.
    pub fn blocked(&self, reason: &'static str) {
        self.blocked.get_or_create(&BlockedLabels { reason }).inc();
    }

    /// Count a proof: `kind` is `dpop`, `mtls` or `signature`, `outcome` is `ok` or the reason it was refused for.
    pub(crate) fn proof(&self, kind: &'static str, outcome: &'static str) {
        self.proofs.get_or_create(&ProofLabels { kind, outcome }).inc();
    }

    pub(crate) fn overhead(&self, took: Duration) {
        self.overhead.observe(took.as_secs_f64());
    }

    pub(crate) fn attempt(&self, provider: &Label, result: &'static str, took: Duration) {
        self.upstream.get_or_create(&UpstreamLabels { provider: provider.clone() }).observe(took.as_secs_f64());
        self.attempts.get_or_create(&AttemptLabels { provider: provider.clone(), result }).inc();
    }

    pub(crate) fn first_token(&self, provider: &Label, took: Duration) {
        self.first_token.get_or_create(&UpstreamLabels { provider: provider.clone() }).observe(took.as_secs_f64());
    }

    /// Count tokens that no request of a caller's took.
    pub(crate) fn tokens(&self, direction: &'static str, provider: &Label, model: &Label, count: u64) {
        if count > 0 {
            let labels = TokenLabels { direction, provider: provider.clone(), model: model.clone() };
            self.tokens.get_or_create(&labels).inc_by(count);
        }
    }

    /// Count what the cache did for a request: `hit`, `semantic`, `miss` or `bypass`.
    pub(crate) fn cached(&self, model: &Label, result: &'static str) {
        self.cache.get_or_create(&CacheLabels { model: model.clone(), result }).inc();
    }

    /// Count what came of asking another target beside one that took long.
    pub(crate) fn hedged(&self, model: &Label, result: &'static str) {
        self.hedges.get_or_create(&BesideLabels { model: model.clone(), result }).inc();
    }

    /// Count a call that was dropped because another answered first.
    pub(crate) fn cancelled(&self, provider: &Label) {
        self.cancelled.get_or_create(&UpstreamLabels { provider: provider.clone() }).inc();
    }

    /// Count a copy for a target that nobody hears.
    pub(crate) fn shadowed(&self, model: &Label, of: (&Name, &str), result: &'static str) {
        self.shadows.get_or_create(&ShadowLabels { model: model.clone(), target: target(of), result }).inc();
    }

    pub(crate) fn shadow_took(&self, model: &Label, of: (&Name, &str), took: Duration) {
        let labels = ShadowTimeLabels { model: model.clone(), target: target(of) };
        self.shadow_time.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn shadow_tokens(&self, direction: &'static str, of: (&Name, &str), count: u64) {
        if count > 0 {
            self.shadow_tokens.get_or_create(&ShadowTokenLabels { direction, target: target(of) }).inc_by(count);
        }
    }

    /// Count something that happens with a budget: `refused`, `estimated` (its provider did not say what a call took), `clamped` (it
    /// said more than was possible), `over` (a budget in shadow mode would have refused), `threshold`.
    pub(crate) fn budget(&self, budget: &str, event: &'static str) {
        self.budgets.get_or_create(&BudgetLabels { budget: budget.to_owned(), event }).inc();
    }

    pub(crate) fn stream_opened(self: &Arc<Self>) -> OpenStream {
        self.streams_open.inc();
        OpenStream(Arc::clone(self))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams_open.dec();
    }
}

/// A target of the configuration's, as metrics name it.
fn target((provider, model): (&Name, &str)) -> String {
    format!("{provider}/{model}")
}

/// From ten microseconds, which is where this gateway wants to be.
const OVERHEAD: [f64; 12] =
    [0.000_01, 0.000_025, 0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.025, 0.1, 1.0];

/// From a local model to a long answer (the buckets of `OpenTelemetry`'s `GenAI` durations).
fn long() -> Histogram {
    Histogram::new([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92])
}

#[cfg(test)]
mod tests {
    use super::*;
    use llm::Usage;

    #[test]
    fn metrics_are_named_as_documented() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let named = Label::Named(Name::new("openai").expect("name"));
        metrics.blocked("rate_limited");
        metrics.proof("dpop", "ok");
        metrics.overhead(Duration::from_micros(20));
        metrics.attempt(&named, "ok", Duration::from_millis(20));
        metrics.first_token(&named, Duration::from_millis(20));
        let usage = Usage { input_tokens: Some(7), cache_read_tokens: Some(3), ..Usage::default() };
        let (model, policy) = (named.clone(), Label::Fixed("none"));
        let way = Way { route: "chat", provider: named.clone(), model, policy, outcome: "ok" };
        for _ in 0..2 {
            metrics.ended(&way, &usage, Some(750_000_000));
        }
        let stream = metrics.stream_opened();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encode");
        for line in [
            "vouchgate_requests_total{route=\"chat\",provider=\"openai\",model=\"openai\",outcome=\"ok\"} 2",
            "vouchgate_blocked_total{reason=\"rate_limited\"} 1",
            "vouchgate_proofs_total{kind=\"dpop\",outcome=\"ok\"} 1",
            "vouchgate_overhead_seconds_count 1",
            "vouchgate_upstream_duration_seconds_count{provider=\"openai\"} 1",
            "vouchgate_upstream_attempts_total{provider=\"openai\",result=\"ok\"} 1",
            "vouchgate_ttft_seconds_count{provider=\"openai\"} 1",
            "vouchgate_tokens_total{direction=\"input\",provider=\"openai\",model=\"openai\"} 14",
            "vouchgate_policy_tokens_total{direction=\"input\",policy=\"none\"} 14",
            "vouchgate_token_parts_total{kind=\"cached\",provider=\"openai\",model=\"openai\"} 6",
            "vouchgate_cost_usd_total{provider=\"openai\",model=\"openai\",policy=\"none\"} 1.5",
            "vouchgate_streams_open 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        drop(stream);
        assert_eq!(metrics.streams_open.get(), 0);
    }
}
