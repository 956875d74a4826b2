//! What `/metrics` reads where it is kept, instead of counting it a second time.

use std::fmt;
use std::sync::Arc;

use control::oauth::EventCounts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use store::{Ledger, RecordSink, Replay, Revoked, SecretTally, Store};

/// Register what the store, the ledger of budgets and the replay store tell of themselves.
pub(super) fn register(
    registry: &mut Registry,
    (store, ledger): (&Store, &Ledger),
    replay: &Arc<dyn Replay>,
    heard: &Arc<EventCounts>,
) {
    registry.register_collector(Box::new(Books(ledger.clone())));
    registry.register_collector(Box::new(Dropped(store.sink())));
    registry.register_collector(Box::new(Remembered(Arc::clone(replay))));
    registry.register_collector(Box::new(Revocations(store.revoked())));
    registry.register_collector(Box::new(Heard(Arc::clone(heard))));
    registry.register_collector(Box::new(RuntimeSecrets(store.secret_tally().clone())));
}

/// What the ledger of budgets has done.
#[derive(Debug)]
struct Books(Ledger);

impl Collector for Books {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counted = self.0.counters();
        let help = "What the ledger of budgets did: leases taken, reservations refused or not possible, holds charged unsettled, \
                    amounts of shadow budgets not counted";
        let mut family = encoder.encode_descriptor("vouchgate_ledger_events", help, None, MetricType::Counter)?;
        for (event, count) in [
            ("lease", counted.leases),
            ("refused", counted.refusals),
            ("unavailable", counted.unavailable),
            ("unsettled", counted.dropped),
            ("uncounted", counted.uncounted),
        ] {
            ConstCounter::new(count).encode(family.encode_family(&[("event", event)])?)?;
        }
        let accounts = usize::try_from(counted.accounts).unwrap_or(usize::MAX);
        gauge(&mut encoder, "vouchgate_ledger_accounts", "Accounts of budgets in memory", accounts)
    }
}

/// Counts the request records that were given up because the disk did not keep pace.
#[derive(Debug)]
struct Dropped(RecordSink);

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counter = ConstCounter::new(self.0.dropped());
        let help = "Request records given up because the store did not keep pace";
        let descriptor = encoder.encode_descriptor("vouchgate_records_dropped", help, None, counter.metric_type())?;
        counter.encode(descriptor)
    }
}

/// How full the memory of used proofs is.
#[derive(Debug)]
struct Remembered(Arc<dyn Replay>);

impl Collector for Remembered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Used proofs that are remembered, about";
        gauge(&mut encoder, "vouchgate_replay_entries", help, self.0.entries())?;
        let help = "Used proofs that can be remembered: beyond that, requests with proofs are refused";
        gauge(&mut encoder, "vouchgate_replay_capacity", help, self.0.capacity())
    }
}

/// How many revocations are asked on every request.
#[derive(Debug)]
struct Revocations(Revoked);

impl Collector for Revocations {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        gauge(&mut encoder, "vouchgate_revocations", "Revocations in force", self.0.entries())
    }
}

/// Counts the security events that others pushed to us.
#[derive(Debug)]
struct Heard(Arc<EventCounts>);

impl Collector for Heard {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Security event tokens received, by what came of them";
        let mut family = encoder.encode_descriptor("vouchgate_security_events", help, None, MetricType::Counter)?;
        for (outcome, count) in self.0.by_outcome() {
            ConstCounter::new(count).encode(family.encode_family(&[("outcome", outcome)])?)?;
        }
        Ok(())
    }
}

/// Counts what was done with runtime secrets. Their names are the configuration's.
#[derive(Debug)]
struct RuntimeSecrets(SecretTally);

impl Collector for RuntimeSecrets {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Uses of runtime secrets: put into requests, given to devices, or said by devices to be held still; of the \
                    version in force, or of an older one";
        let mut family = encoder.encode_descriptor("vouchgate_runtime_secret_uses", help, None, MetricType::Counter)?;
        for ((name, how, old), count) in self.0.since_start() {
            let version = if old { "old" } else { "current" };
            let labels = [("secret", name.as_str()), ("use", how.as_str()), ("version", version)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: usize) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    let descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{SystemClock, SystemRng, Timestamp};
    use store::{MemoryReplay, StoreUrl};

    #[tokio::test]
    async fn what_is_remembered_and_revoked_is_shown_as_it_is_now() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let store = Store::open(&StoreUrl::default(), dir.path(), clock.clone(), Arc::new(SystemRng)).await.unwrap();
        let replay: Arc<dyn Replay> = Arc::new(MemoryReplay::new(clock, 7));
        let mut registry = Registry::default();
        let ledger = Ledger::open(&store, store::LedgerSettings::new("test")).await.unwrap();
        register(&mut registry, (&store, &ledger), &replay, &Arc::default());
        let shown = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        for line in ["vouchgate_records_dropped_total 0", "vouchgate_replay_entries 0", "vouchgate_revocations 0"] {
            assert!(shown().contains(line), "{line}");
        }
        assert!(shown().contains("vouchgate_ledger_events_total{event=\"lease\"} 0"), "{}", shown());
        assert!(shown().contains("vouchgate_security_events_total{outcome=\"acted\"} 0"), "{}", shown());
        let until = Timestamp::from_secs(i64::MAX / 1_000_000);
        assert_eq!(replay.claim([1; 32], until).await, Ok(store::Claim::First));
        assert!(shown().contains("vouchgate_replay_entries 1\n"));
        assert!(shown().contains("vouchgate_replay_capacity 7\n"));
        store.close().await;
    }
}
