//! Watching callers, beside requests: who is stopped is kept, told and seen from other nodes; habits are saved.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use config::{AnomalySection, Config};
use gateway::Watch;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use store::{Store, StoreError};

use super::{Running, StartError};
use crate::tasks::Tasks;

/// How often what was found is kept, and what others found is seen: in force everywhere within 5 seconds.
const TICK: Duration = Duration::from_secs(1);
/// Every so many of them habits are saved.
const SAVE: u32 = 60;

/// What was known before the start.
pub(super) async fn open(
    store: &Store,
    node: &str,
    config: &Config,
    registry: &mut Registry,
) -> Result<Arc<Watch>, StartError> {
    let watch = Arc::new(Watch::new(Arc::clone(store.stops().in_force())));
    watch.load(store, node, &config.anomaly).await?;
    registry.register_collector(Box::new(Shown(Arc::clone(&watch))));
    Ok(watch)
}

/// Do what is due beside requests, as long as the server runs; and at its end save what is known.
pub(super) fn begin(tasks: &Tasks, running: &Arc<Running>, watch: Arc<Watch>) {
    let (running, stopped) = (Arc::clone(running), tasks.stopped());
    tasks.spawn_to_completion(async move {
        let store = running.builder.operations.store().clone();
        let node = running.ledger.node().to_owned();
        let ticking = async {
            let (mut ticks, mut since) = (0u32, store.now());
            loop {
                tokio::time::sleep(TICK).await;
                ticks = ticks.wrapping_add(1);
                let rules = running.builder.anomaly.load_full();
                told(&tick(&watch, &store, &rules).await);
                if ticks.is_multiple_of(SAVE) {
                    let began = store.now();
                    if told(&watch.save(&store, &node, since).await) {
                        since = began;
                    }
                }
            }
        };
        tokio::select! {
            () = ticking => {}
            () = stopped => {}
        }
        told(&watch.keep(&store, &running.builder.anomaly.load_full()).await);
        told(&watch.save(&store, &node, store.now()).await);
    });
}

async fn tick(watch: &Watch, store: &Store, rules: &AnomalySection) -> Result<(), StoreError> {
    watch.keep(store, rules).await?;
    watch.refresh(store, rules).await
}

fn told(done: &Result<(), StoreError>) -> bool {
    if let Err(error) = done {
        tracing::warn!(reason = error.reason(), %error, "what is known of callers cannot be kept");
    }
    done.is_ok()
}

/// What `/metrics` shows of it.
#[derive(Debug)]
struct Shown(Arc<Watch>);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Callers found to behave quite unlike themselves, by what became of them";
        let mut family = encoder.encode_descriptor("vouchgate_anomalies", help, None, MetricType::Counter)?;
        for (action, count) in self.0.found() {
            ConstCounter::new(count).encode(family.encode_family(&[("action", action)])?)?;
        }
        let watched = ConstGauge::new(i64::try_from(self.0.watched()).unwrap_or(i64::MAX));
        let help = "Callers whose habits are in memory";
        let descriptor = encoder.encode_descriptor("vouchgate_anomaly_callers", help, None, watched.metric_type())?;
        watched.encode(descriptor)
    }
}
