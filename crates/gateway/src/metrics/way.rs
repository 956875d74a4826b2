//! Counters by the way a request took. What one is counted in is looked up once, however many counters that are.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use base::Table;
use llm::Usage;
use prometheus_client::metrics::counter::Counter;

use super::{CostLabels, Label, Metrics, PartLabels, PolicyTokenLabels, RequestLabels, TokenLabels};

/// The way of a request: what its counters are labelled by. As few as there are names in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Way {
    pub(crate) route: &'static str,
    pub(crate) provider: Label,
    pub(crate) model: Label,
    pub(crate) policy: Label,
    pub(crate) outcome: &'static str,
}

/// The counters of all ways that were taken.
#[derive(Debug, Default)]
pub(super) struct Ways(RwLock<Table<Way, Arc<Counters>>>);

/// The counters of one way. Those of what no request of it took are not there: they would be told as zero.
#[derive(Debug)]
struct Counters {
    requests: Counter,
    tokens: [OnceLock<[Counter; 2]>; 2],
    cost: OnceLock<Counter<f64, AtomicU64>>,
}

impl Metrics {
    /// Count a request that is over, what it took and what it cost (nano-USD).
    pub(crate) fn ended(&self, way: &Way, usage: &Usage, cost: Option<i64>) {
        let counters = self.counters(way);
        counters.requests.inc();
        let counts = [("input", usage.input_tokens), ("output", usage.generated())];
        for ((direction, count), tokens) in counts.into_iter().zip(&counters.tokens) {
            let Some(count) = count.filter(|count| *count > 0) else { continue };
            let (provider, model, policy) = (way.provider.clone(), way.model.clone(), way.policy.clone());
            let both = tokens.get_or_init(|| {
                [
                    self.tokens.get_or_create_owned(&TokenLabels { direction, provider, model }),
                    self.policy_tokens.get_or_create_owned(&PolicyTokenLabels { direction, policy }),
                ]
            });
            for counter in both {
                counter.inc_by(count);
            }
        }
        self.parts(way, usage);
        if let Some(cost) = cost.filter(|cost| *cost > 0) {
            let (provider, model, policy) = (way.provider.clone(), way.model.clone(), way.policy.clone());
            let labels = || CostLabels { provider, model, policy };
            let counter = counters.cost.get_or_init(|| self.cost.get_or_create_owned(&labels()));
            #[allow(clippy::cast_precision_loss)] // Prometheus has floats only
            counter.inc_by(cost as f64 / 1e9);
        }
    }

    /// Of the tokens those of a kind, which few requests have.
    fn parts(&self, way: &Way, usage: &Usage) {
        let parts = [
            ("cached", usage.cache_read_tokens),
            ("cache_write", usage.cache_write_tokens),
            ("reasoning", usage.reasoning_tokens),
            ("audio_input", usage.audio_input_tokens),
            ("audio_output", usage.audio_output_tokens),
        ];
        for (kind, count) in parts {
            if let Some(count) = count.filter(|count| *count > 0) {
                let labels = PartLabels { kind, provider: way.provider.clone(), model: way.model.clone() };
                self.token_parts.get_or_create(&labels).inc_by(count);
            }
        }
    }

    fn counters(&self, way: &Way) -> Arc<Counters> {
        if let Some(counters) = self.ways.0.read().unwrap_or_else(PoisonError::into_inner).get(way) {
            return Arc::clone(counters);
        }
        let Way { route, provider, model, outcome, .. } = way.clone();
        let requests = self.requests.get_or_create_owned(&RequestLabels { route, provider, model, outcome });
        let new = Counters { requests, tokens: Default::default(), cost: OnceLock::new() };
        let mut ways = self.ways.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(ways.entry(way.clone()).or_insert_with(|| Arc::new(new)))
    }
}
