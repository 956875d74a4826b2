//! What goes on beside requests of apps: the list of revoked attestation keys is kept fresh, installations are looked up in
//! it again when it changes, and both are counted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base::{Clock, Name};
use config::Config;
use control::apps::{AppCounts, exchange_receipts, recheck};
use net::revocations::{ANDROID_STATUS_URL, LargeDocuments, RevocationSource, RevocationTiming, Revocations};
use net::{Egress, Reach};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use store::{InstanceCount, Store};
use url::Url;

use super::{Running, StartError};
use crate::tasks::Tasks;
use crate::wire::{Kept, OtherServices};

/// How often the list is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is looked for receipts that Apple gives newer ones for.
const EXCHANGE: Duration = Duration::from_secs(2);

/// How often installations are counted.
const COUNT: Duration = Duration::from_mins(1);

/// How long a node that looks installations up again leads that.
const TERM: Duration = Duration::from_mins(5);

/// What of apps is the same for all snapshots.
#[derive(Clone)]
pub(super) struct AppServices {
    /// Which attestation keys are revoked.
    pub(super) revocations: Arc<Revocations>,
    /// What came of requests.
    pub(super) counts: Arc<AppCounts>,
    instances: Arc<ArcSwap<Vec<InstanceCount>>>,
}

impl AppServices {
    /// Take up what was kept before the start.
    pub(super) async fn open(
        config: &Config,
        (egress, store): (&Egress, &Store),
        clock: &Arc<dyn Clock>,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let section = &config.attest;
        let url = match &section.android_status_url {
            Some(url) => url.url().clone(),
            None => Url::parse(ANDROID_STATUS_URL).map_err(|_| StartError::RevocationList)?,
        };
        let name = Name::new("android-attestation-status").map_err(|_| StartError::RevocationList)?;
        let reach = if section.allow_private { Reach::Private } else { Reach::Public };
        let revocations = Arc::new(Revocations::new(
            RevocationSource { name, url, reach },
            Arc::new(LargeDocuments(egress.clone())),
            Arc::new(Kept(store.clone())),
            Arc::clone(clock),
            RevocationTiming::default(),
        ));
        revocations.restore().await;
        let services = Self { revocations, counts: Arc::default(), instances: Arc::default() };
        let shown = Shown { services: services.clone(), clock: Arc::clone(clock) };
        registry.register_collector(Box::new(shown));
        Ok(services)
    }

    /// Begin what goes on beside requests.
    pub(super) fn begin(self, tasks: &Tasks, running: &Arc<Running>, egress: Egress) {
        let (counting, store) = (Arc::clone(&self.instances), running.builder.operations.store().clone());
        tasks.spawn(async move {
            loop {
                match store.instances().counts().await {
                    Ok(counts) => counting.store(Arc::new(counts)),
                    Err(error) => tracing::warn!(reason = error.reason(), "installations cannot be counted"),
                }
                tokio::time::sleep(COUNT).await;
            }
        });
        let exchanging = Arc::clone(running);
        tasks.spawn(async move {
            let others = OtherServices(egress);
            loop {
                exchange(&exchanging, &others).await;
                tokio::time::sleep(EXCHANGE).await;
            }
        });
        let running = Arc::clone(running);
        tasks.spawn(async move {
            let mut seen = None;
            loop {
                if running.builder.apps.load().needs_revocations() {
                    self.keep_fresh().await;
                    self.look_up_again(&running, &mut seen).await;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
    }

    async fn keep_fresh(&self) {
        if self.revocations.is_due()
            && let Err(error) = self.revocations.refresh().await
        {
            tracing::warn!(reason = error.reason(), %error, "the list of revoked attestation keys cannot be fetched");
        }
    }

    /// Look every installation up again, once for each list that says something else.
    async fn look_up_again(&self, running: &Running, seen: &mut Option<u64>) {
        let generation = self.revocations.generation();
        let Ok(list) = self.revocations.list() else { return };
        if *seen == Some(generation) {
            return;
        }
        let operations = &running.builder.operations;
        // The others see what this one revokes.
        if !operations.store().leads("attestation keys", TERM).await.unwrap_or(false) {
            *seen = Some(generation);
            return;
        }
        match recheck(operations, &list).await {
            Ok(found) => {
                *seen = Some(generation);
                if found > 0 {
                    tracing::warn!(found, "installations were revoked: their attestation keys are on the list");
                }
            }
            Err(error) => {
                tracing::error!(reason = error.reason(), %error, "installations cannot be looked up again");
            }
        }
    }
}

/// Exchange receipts of App Attest whose time has come, on one of several nodes.
async fn exchange(running: &Running, others: &OtherServices) {
    let (operations, apps) = (&running.builder.operations, running.builder.apps.load());
    if !apps.asks_for_metrics() || !operations.store().leads("receipts", TERM).await.unwrap_or(false) {
        return;
    }
    if let Err(error) = exchange_receipts(operations, &apps, others).await {
        tracing::error!(reason = error.reason(), %error, "receipts of App Attest cannot be exchanged");
    }
}

/// What `/metrics` shows of apps.
struct Shown {
    services: AppServices,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Requests of installations for attestation, by what was asked for and what came of it";
        let mut family = encoder.encode_descriptor("vouchgate_attest_requests", help, None, MetricType::Counter)?;
        for (counted, count) in self.services.counts.all() {
            let labels = [
                ("app", counted.app.as_str()),
                ("step", counted.step),
                ("reason", counted.reason.as_str()),
                ("version", counted.version.as_str()),
            ];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Installations that are known";
        let mut family = encoder.encode_descriptor("vouchgate_instances", help, None, MetricType::Gauge)?;
        for counted in self.services.instances.load().iter() {
            let labels = [
                ("app", counted.app.as_str()),
                ("platform", counted.platform.as_str()),
                ("status", counted.status.as_str()),
            ];
            ConstGauge::new(i64::try_from(counted.count).unwrap_or(i64::MAX)).encode(family.encode_family(&labels)?)?;
        }
        if let Some(fetched) = self.services.revocations.fetched_at() {
            let age = i64::try_from(self.clock.now().since(fetched).as_secs()).unwrap_or(i64::MAX);
            let gauge = ConstGauge::new(age);
            let help = "Seconds since the list of revoked Android attestation keys was fetched";
            let name = "vouchgate_android_status_age_seconds";
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
