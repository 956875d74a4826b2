//! States as `/metrics` shows them.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::States;

/// Reads the states when they are asked for.
#[derive(Debug)]
pub(super) struct Gauges(pub(super) Arc<States>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let now = self.0.now();
        let (keys, slots, targets, providers) = {
            let known = self.0.known();
            let slots: Vec<(_, Vec<_>)> = known
                .slots
                .iter()
                .map(|(of, slots)| (of.clone(), slots.iter().filter_map(Weak::upgrade).collect::<Vec<_>>()))
                .collect();
            let keys: Vec<_> =
                known.keys.iter().filter_map(|(of, state)| Some((of.clone(), state.upgrade()?))).collect();
            let targets: Vec<_> =
                known.targets.iter().filter_map(|(of, state)| Some((of.clone(), Weak::upgrade(state)?))).collect();
            let providers: Vec<_> =
                known.providers.iter().filter_map(|(of, state)| Some((of.clone(), state.upgrade()?))).collect();
            (keys, slots, targets, providers)
        };
        let help = "Circuit breaker of a provider's key: 0 closed, 1 half-open, 2 open";
        let mut family = encoder.encode_descriptor("vouchgate_breaker_state", help, None, MetricType::Gauge)?;
        for ((provider, key), state) in &keys {
            let labels = [("provider", provider.as_str()), ("key", key.as_str())];
            ConstGauge::new(state.health.position(now).number()).encode(family.encode_family(&labels)?)?;
        }
        let help = "Circuit breaker of a provider's model: 0 closed, 1 half-open, 2 open";
        let mut family = encoder.encode_descriptor("vouchgate_target_breaker_state", help, None, MetricType::Gauge)?;
        for ((provider, model), state) in &targets {
            let labels = [("provider", provider.as_str()), ("model", model)];
            ConstGauge::new(state.health.position(now).number()).encode(family.encode_family(&labels)?)?;
        }
        let help = "Whether a provider accepts its key: 1 it does, 0 it answered 401 and the key is put aside";
        let mut family = encoder.encode_descriptor("vouchgate_provider_key_up", help, None, MetricType::Gauge)?;
        for ((provider, key), slots) in &slots {
            let Some(current) = slots.first() else { continue };
            let labels = [("provider", provider.as_str()), ("key", key.as_str())];
            let up = i64::from(current.position(now).number() == 0);
            ConstGauge::new(up).encode(family.encode_family(&labels)?)?;
        }
        let help = "Whether a provider accepts the values of its key that stand by, next and old: 1 it does, 0 it answered 401";
        let mut family =
            encoder.encode_descriptor("vouchgate_provider_key_standby_up", help, None, MetricType::Gauge)?;
        for ((provider, key), slots) in &slots {
            for slot in slots.iter().skip(1) {
                let slot_label = ("slot", slot.which.as_str());
                let labels = [("provider", provider.as_str()), ("key", key.as_str()), slot_label];
                let up = i64::from(slot.position(now).number() == 0);
                ConstGauge::new(up).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Requests that were repeated with this value of a provider's key because another was refused";
        let mut family =
            encoder.encode_descriptor("vouchgate_provider_key_fallbacks", help, None, MetricType::Counter)?;
        for ((provider, key), slots) in &slots {
            for slot in slots {
                let slot_label = ("slot", slot.which.as_str());
                let labels = [("provider", provider.as_str()), ("key", key.as_str()), slot_label];
                ConstCounter::new(slot.stood_in()).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Seconds for which a provider's key rests because its quota is used up, for every model";
        let mut family =
            encoder.encode_descriptor("vouchgate_provider_key_rest_seconds", help, None, MetricType::Gauge)?;
        for ((provider, key), state) in &keys {
            let labels = [("provider", provider.as_str()), ("key", key.as_str())];
            let rest = state.rests_now(now).0.unwrap_or(0).div_ceil(1000);
            ConstGauge::new(i64::try_from(rest).unwrap_or(i64::MAX)).encode(family.encode_family(&labels)?)?;
        }
        let help = "Requests that wait for a place among a provider's calls (`concurrency`)";
        let mut family = encoder.encode_descriptor("vouchgate_provider_queue", help, None, MetricType::Gauge)?;
        for (provider, state) in &providers {
            let waiting = i64::try_from(state.line.counts().1).unwrap_or(i64::MAX);
            ConstGauge::new(waiting).encode(family.encode_family(&[("provider", provider.as_str())])?)?;
        }
        let help = "Upstream calls under way for a provider's model";
        let mut family = encoder.encode_descriptor("vouchgate_target_active", help, None, MetricType::Gauge)?;
        for ((provider, model), state) in &targets {
            let labels = [("provider", provider.as_str()), ("model", model)];
            ConstGauge::new(i64::from(state.active())).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
