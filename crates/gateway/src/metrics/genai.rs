//! What `OpenTelemetry`'s semantic conventions for generative AI count (opentelemetry.io/docs/specs/semconv/gen-ai), kept as
//! cumulative histograms and told in the JSON form of OTLP. Attributes are bounded: names from the configuration and fixed
//! codes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use base::Timestamp;
use serde_json::{Value, json};

use super::Label;

/// The most series of one metric; what would be more is counted together, as the specification of the SDK has it.
const MOST: usize = 2000;

/// `gen_ai.client.token.usage`: the bounds the conventions advise.
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// Durations: likewise.
const SECONDS: &[f64] = &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// One finished operation.
#[derive(Debug)]
pub(crate) struct Operation {
    /// `gen_ai.operation.name`.
    pub(crate) name: &'static str,
    /// `gen_ai.provider.name`: as the configuration calls it.
    pub(crate) provider: Label,
    /// `gen_ai.request.model`: as the configuration calls it.
    pub(crate) model: Label,
    /// `error.type`, if it failed.
    pub(crate) error: Option<&'static str>,
    /// Tokens read and generated.
    pub(crate) tokens: (Option<u64>, Option<u64>),
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
    /// Until the first piece of a streamed answer, in seconds.
    pub(crate) first: Option<f64>,
    /// What it cost, in nano-USD.
    pub(crate) cost: Option<i64>,
}

/// What has been counted since the start.
#[derive(Debug, Default)]
pub struct GenAi {
    wanted: AtomicBool,
    series: Mutex<[HashMap<Key, Series>; 4]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    operation: &'static str,
    provider: Label,
    model: Label,
    /// The token's type or the error's.
    more: &'static str,
}

#[derive(Debug, Clone, Default)]
struct Series {
    count: u64,
    sum: f64,
    buckets: Vec<u64>,
}

/// A metric: its name, unit, what it says, its bounds, and what the key's `more` is.
struct Metric {
    name: &'static str,
    unit: &'static str,
    about: &'static str,
    /// None: a sum.
    bounds: Option<&'static [f64]>,
    more: &'static str,
}

const METRICS: [Metric; 4] = [
    Metric {
        name: "gen_ai.client.token.usage",
        unit: "{token}",
        about: "Number of input and output tokens used",
        bounds: Some(TOKENS),
        more: "gen_ai.token.type",
    },
    Metric {
        name: "gen_ai.client.operation.duration",
        unit: "s",
        about: "GenAI operation duration",
        bounds: Some(SECONDS),
        more: "error.type",
    },
    Metric {
        name: "gen_ai.client.operation.time_to_first_chunk",
        unit: "s",
        about: "Time to receive the first chunk of a streamed response",
        bounds: Some(SECONDS),
        more: "",
    },
    Metric { name: "vouchgate.cost", unit: "{USD}", about: "What operations cost, as charged", bounds: None, more: "" },
];
const TOKEN_USAGE: usize = 0;
const DURATION: usize = 1;
const FIRST: usize = 2;
const COST: usize = 3;

/// What is counted together where there are too many series.
const OVERFLOW: &str = "otel.metric.overflow";

impl GenAi {
    /// Count from now on: somebody asks for it.
    pub fn count(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, done: &Operation) {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut take = |metric: usize, more: &'static str, value: f64| {
            let key = Key { operation: done.name, provider: done.provider.clone(), model: done.model.clone(), more };
            if let (Some(series), Some(metric)) = (all.get_mut(metric), METRICS.get(metric)) {
                observe(series, metric.bounds, key, value);
            }
        };
        #[allow(clippy::cast_precision_loss)] // histograms are of floats
        for (kind, count) in [("input", done.tokens.0), ("output", done.tokens.1)] {
            if let Some(count) = count {
                take(TOKEN_USAGE, kind, count as f64);
            }
        }
        take(DURATION, done.error.unwrap_or_default(), done.seconds);
        if let Some(first) = done.first {
            take(FIRST, "", first);
        }
        #[allow(clippy::cast_precision_loss)]
        if let Some(cost) = done.cost {
            take(COST, "", cost as f64 / 1e9);
        }
    }

    /// Everything since `start`, as the `metrics` of OTLP's `ScopeMetrics` in JSON (opentelemetry.io/docs/specs/otlp,
    /// "JSON Protobuf Encoding": 64-bit integers as text).
    pub fn otlp(&self, start: Timestamp, now: Timestamp) -> Value {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let times = (nanos(start), nanos(now));
        let metrics = METRICS.iter().zip(&all).filter(|(_, series)| !series.is_empty()).map(|(metric, series)| {
            let points: Vec<Value> = series.iter().map(|(key, series)| point(metric, key, series, &times)).collect();
            // 2: cumulative.
            let data = json!({ "aggregationTemporality": 2, "dataPoints": points });
            let mut told = json!({ "name": metric.name, "unit": metric.unit, "description": metric.about });
            let kind = if metric.bounds.is_some() { "histogram" } else { "sum" };
            if let Some(told) = told.as_object_mut() {
                told.insert(kind.to_owned(), data);
                if let Some(sum) = told.get_mut("sum").and_then(Value::as_object_mut) {
                    sum.insert("isMonotonic".to_owned(), json!(true));
                }
            }
            told
        });
        Value::Array(metrics.collect())
    }
}

fn observe(series: &mut HashMap<Key, Series>, bounds: Option<&[f64]>, key: Key, value: f64) {
    let key = if series.len() >= MOST && !series.contains_key(&key) {
        Key { operation: "", provider: Label::Fixed(""), model: Label::Fixed(""), more: OVERFLOW }
    } else {
        key
    };
    let one = series.entry(key).or_default();
    one.count += 1;
    one.sum += value;
    if let Some(bounds) = bounds {
        one.buckets.resize(bounds.len() + 1, 0);
        // A bound is the last value of its bucket.
        let at = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        if let Some(bucket) = one.buckets.get_mut(at) {
            *bucket += 1;
        }
    }
}

fn point(metric: &Metric, key: &Key, series: &Series, (start, now): &(String, String)) -> Value {
    let mut point = json!({
        "attributes": attributes(metric, key),
        "startTimeUnixNano": start,
        "timeUnixNano": now,
    });
    let rest = match metric.bounds {
        None => json!({ "asDouble": series.sum }),
        Some(bounds) => json!({
            "count": series.count.to_string(),
            "sum": series.sum,
            "bucketCounts": series.buckets.iter().map(u64::to_string).collect::<Vec<_>>(),
            "explicitBounds": bounds,
        }),
    };
    if let (Some(point), Value::Object(rest)) = (point.as_object_mut(), rest) {
        point.extend(rest);
    }
    point
}

fn attributes(metric: &Metric, key: &Key) -> Vec<Value> {
    let text = |name: &str, value: &str| json!({ "key": name, "value": { "stringValue": value } });
    if key.more == OVERFLOW {
        return vec![json!({ "key": OVERFLOW, "value": { "boolValue": true } })];
    }
    let mut all = vec![
        text("gen_ai.operation.name", key.operation),
        text("gen_ai.provider.name", key.provider.as_str()),
        text("gen_ai.request.model", key.model.as_str()),
    ];
    if !metric.more.is_empty() && !key.more.is_empty() {
        all.push(text(metric.more, key.more));
    }
    all
}

fn nanos(at: Timestamp) -> String {
    format!("{}000000", at.as_millis().max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(model: &str, tokens: u64) -> Operation {
        Operation {
            name: "chat",
            provider: Label::Named(base::Name::new("openai").expect("name")),
            model: Label::Named(base::Name::new(model).expect("name")),
            error: None,
            tokens: (Some(tokens), None),
            seconds: 0.02,
            first: None,
            cost: Some(1_500_000_000),
        }
    }

    #[test]
    fn operations_are_told_as_cumulative_histograms() {
        let all = GenAi::default();
        all.add(&operation("fast", 4));
        all.add(&operation("fast", 5));
        all.add(&Operation { error: Some("rate_limited"), tokens: (None, None), cost: None, ..operation("fast", 0) });
        let told = all.otlp(Timestamp::from_secs(1), Timestamp::from_secs(2));
        let named = |name: &str| {
            told.as_array().expect("list").iter().find(|metric| metric["name"] == name).expect("metric").clone()
        };
        let usage = named("gen_ai.client.token.usage");
        let point = &usage["histogram"]["dataPoints"][0];
        assert_eq!((&point["count"], &point["sum"]), (&json!("2"), &json!(9.0)));
        assert_eq!((&point["bucketCounts"][1], &point["bucketCounts"][2]), (&json!("1"), &json!("1")));
        assert_eq!((&point["startTimeUnixNano"], &point["timeUnixNano"]), (&json!("1000000000"), &json!("2000000000")));
        assert_eq!(point["attributes"][3], json!({ "key": "gen_ai.token.type", "value": { "stringValue": "input" } }));
        let durations = named("gen_ai.client.operation.duration")["histogram"]["dataPoints"].clone();
        assert_eq!(durations.as_array().map(Vec::len), Some(2), "what failed is apart");
        let cost = named("vouchgate.cost");
        assert_eq!(
            (&cost["sum"]["dataPoints"][0]["asDouble"], &cost["sum"]["isMonotonic"]),
            (&json!(3.0), &json!(true))
        );
    }

    #[test]
    fn there_are_only_so_many_series() {
        let all = GenAi::default();
        for n in 0..MOST + 50 {
            all.add(&operation(&format!("m{n}"), 1));
        }
        let told = all.otlp(Timestamp::from_secs(1), Timestamp::from_secs(2));
        let points = told[0]["histogram"]["dataPoints"].as_array().expect("points");
        assert_eq!(points.len(), MOST + 1);
        let overflow = points.iter().find(|point| point["attributes"][0]["key"] == OVERFLOW).expect("the rest");
        assert_eq!(overflow["count"], "50");
    }
}
