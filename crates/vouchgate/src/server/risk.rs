//! What is decided about instances of apps, beside requests: it is kept, and shown by `/metrics`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Secret};
use control::Operations;
use control::risk::Fleet;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;

use store::{SharedState, Sightings};
use vault::{HashPurpose, Vault};

use super::Running;
use crate::tasks::Tasks;

/// How often decisions are kept.
const TICK: Duration = Duration::from_secs(10);
/// How often other nodes are told what is seen.
const TELL: Duration = Duration::from_secs(1);

/// Show what is decided, and have what is observed counted together with the other nodes.
pub(super) fn register(
    registry: &mut Registry,
    operations: &Arc<Operations>,
    (vault, shared): (&Vault, Option<&SharedState>),
) {
    share(operations, vault, shared);
    registry.register_collector(Box::new(Shown(Arc::clone(operations))));
}

/// Where there can be other nodes: by Redis if there is one, else by the database.
fn share(operations: &Operations, vault: &Vault, shared: Option<&SharedState>) {
    let store = operations.store();
    if !store.is_shared() {
        return;
    }
    let others: Arc<dyn Sightings> = match shared {
        Some(shared) => Arc::new(shared.clone()),
        None => Arc::new(store.clone()),
    };
    let key = Secret::new(vault.keyed_hash(HashPurpose::Shared, b"sightings"));
    operations.judge().observer().share_with(Fleet::new(others, &key));
}

/// Keep what is decided as long as the server runs, and what is left at its end.
pub(super) fn begin(tasks: &Tasks, running: &Arc<Running>, clock: Arc<dyn Clock>) {
    let telling = Arc::clone(&running.builder.operations);
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(TELL).await;
            telling.judge().observer().tell_others(clock.monotonic()).await;
        }
    });
    let (running, stopped) = (Arc::clone(running), tasks.stopped());
    tasks.spawn_to_completion(async move {
        let operations = Arc::clone(&running.builder.operations);
        let ticking = async {
            loop {
                tokio::time::sleep(TICK).await;
                save(&operations).await;
            }
        };
        tokio::select! {
            () = ticking => {}
            () = stopped => {}
        }
        save(&operations).await;
    });
}

async fn save(operations: &Operations) {
    if let Err(error) = operations.judge().save(operations.store()).await {
        tracing::warn!(reason = error.reason(), %error, "what was decided about instances of apps cannot be kept");
    }
}

/// What `/metrics` shows of it.
#[derive(Debug)]
struct Shown(Arc<Operations>);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.0.judge().counts();
        let help = "Decisions about instances of apps, by each reason that counted; observe: what would have been done";
        let mut family = encoder.encode_descriptor("vouchgate_risk_decisions", help, None, MetricType::Counter)?;
        for (kind, count) in counts.decisions() {
            let labels = [
                ("app", kind.app.as_str()),
                ("version", kind.version.as_str()),
                ("platform", kind.platform.as_str()),
                ("reason", kind.reason),
                ("action", kind.action),
                ("mode", kind.mode),
            ];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Instances of apps let in by a forced pass";
        let mut family = encoder.encode_descriptor("vouchgate_forced_pass_uses", help, None, MetricType::Counter)?;
        for (app, count) in counts.forced() {
            ConstCounter::new(count).encode(family.encode_family(&[("app", app.as_str())])?)?;
        }
        let counter = ConstCounter::new(counts.left_out());
        let help = "Decisions about instances of apps that are not kept for simulations: of too many kinds";
        let descriptor =
            encoder.encode_descriptor("vouchgate_risk_decisions_not_kept", help, None, counter.metric_type())?;
        counter.encode(descriptor)
    }
}
