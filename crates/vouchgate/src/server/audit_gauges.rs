//! What `/metrics` reads of the audit log and of the places its checkpoints are sent to.

use std::fmt;
use std::sync::Arc;

use audit::Recorder;
use base::{Clock, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::publish::{Publisher, State};

/// Register what the audit log tells of itself, and of the places its checkpoints are sent to.
pub(super) fn register(registry: &mut Registry, recorder: &Recorder, publisher: &Publisher, clock: &Arc<dyn Clock>) {
    if recorder.log().is_some() {
        let (recorder, publisher, clock) = (recorder.clone(), publisher.clone(), Arc::clone(clock));
        registry.register_collector(Box::new(Audited { recorder, publisher, clock }));
    }
}

/// How the audit log is doing.
struct Audited {
    recorder: Recorder,
    publisher: Publisher,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Audited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audited").finish_non_exhaustive()
    }
}

impl Collector for Audited {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(log) = self.recorder.log() else { return Ok(()) };
        let (status, encoder) = (log.status(), &mut encoder);
        whole(encoder, "vouchgate_audit_entries", "Entries of the audit log that are on the disk", status.entries)?;
        whole(encoder, "vouchgate_audit_waiting", "Entries that wait to be written", status.waiting)?;
        counter(encoder, "vouchgate_audit_bytes", "Bytes written into the journal", status.bytes)?;
        counter(encoder, "vouchgate_audit_writes", "Writes into the journal, each with one fsync", status.writes)?;
        let help = "Writes into the journal that failed: while they do, requests are refused";
        counter(encoder, "vouchgate_audit_write_failures", help, status.failures)?;
        let help = "What the last write and its fsync took";
        seconds(encoder, "vouchgate_audit_write_seconds", help, status.took.as_secs_f64())?;
        let help = "Requests that went on although nothing was written before (on_failure = \"allow\")";
        counter(encoder, "vouchgate_audit_unrecorded", help, self.recorder.unrecorded())?;
        let help = "Entries nobody waited for that could not be kept";
        counter(encoder, "vouchgate_audit_lost", help, self.recorder.lost())?;
        let size = status.checkpoint.map_or(0, |checkpoint| checkpoint.size);
        whole(encoder, "vouchgate_audit_checkpoint_entries", "Entries that the newest checkpoint covers", size)?;
        self.published(encoder)
    }
}

impl Audited {
    fn published(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (states, now) = (self.publisher.states(), self.clock.now());
        let mut each = |name: &str, help: &str, value: fn(&State, Timestamp) -> Option<u64>, kind: MetricType| {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (place, state) in &states {
                let Some(value) = value(state, now) else { continue };
                let labels = [("place", place.as_str())];
                let encoder = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(value).encode(encoder)?,
                    _ => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)?,
                }
            }
            Ok::<_, fmt::Error>(())
        };
        let age = |state: &State, now: Timestamp| state.at.map(|at| now.since(at).as_secs());
        let help = "Entries that the checkpoint published last covers, since the start";
        each("vouchgate_audit_published_entries", help, |state, _| Some(state.size), MetricType::Gauge)?;
        let help = "Seconds since a checkpoint was published";
        each("vouchgate_audit_published_age_seconds", help, age, MetricType::Gauge)?;
        let help = "Checkpoints that did not arrive where they were sent";
        each("vouchgate_audit_publish_failures", help, |state, _| Some(state.failures), MetricType::Counter)
    }
}

fn whole(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    let descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(descriptor)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
    let counter = ConstCounter::new(value);
    let descriptor = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
    counter.encode(descriptor)
}

fn seconds(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    let descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(descriptor)
}
