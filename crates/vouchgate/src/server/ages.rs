//! Certificates that end soon.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Timestamp};
use config::{Config, WebhookEvent};
use control::operations::first_certificate;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use proof::mtls::ClientCertificate;
use store::{Notice, Store};

use super::Running;
use crate::listen::ServerTls;
use crate::tasks::Tasks;

/// How often it is looked, the first time at the start.
const LOOK: Duration = Duration::from_hours(1);
/// That something ends is told of once for each of these: so many days before, and when it has.
const DAYS: [i64; 4] = [30, 7, 1, 0];
/// A day, in seconds.
const DAY: i64 = 86_400;

/// Which of the days before an end have come: the fewest. Nothing while it is far.
pub fn threshold(end: Timestamp, now: Timestamp) -> Option<i64> {
    DAYS.into_iter().rev().find(|days| end.as_secs() - now.as_secs() <= days * DAY)
}

/// When the certificates end that listeners show, for `/metrics`.
#[derive(Debug)]
pub(super) struct Certificates(Vec<(&'static str, Arc<ServerTls>)>);

impl Certificates {
    /// Those of these listeners.
    pub(super) fn of(public: Option<&Arc<ServerTls>>, admin: Option<&Arc<ServerTls>>) -> Self {
        let listeners = [("public", public), ("admin", admin)];
        Self(listeners.into_iter().filter_map(|(name, tls)| Some((name, Arc::clone(tls?)))).collect())
    }
}

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "When the certificate that a listener shows ends, in seconds since 1970";
        let name = "vouchgate_certificate_expires_timestamp_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (listener, tls) in &self.0 {
            let Ok(shown) = ClientCertificate::parse(&tls.leaf()) else { continue };
            let gauge = ConstGauge::new(shown.not_after().as_secs());
            gauge.encode(family.encode_family(&[("listener", *listener)])?)?;
        }
        Ok(())
    }
}

/// Look from time to time, as long as the server runs.
pub(super) fn begin(tasks: &Tasks, running: &Arc<Running>, clock: Arc<dyn Clock>) {
    let running = Arc::clone(running);
    tasks.spawn(async move {
        loop {
            let operations = &running.builder.operations;
            let config = operations.merged_config(&running.config()).await;
            if let Ok(Ok(config)) = config {
                look(&config, operations.store(), clock.now());
            }
            tokio::time::sleep(LOOK).await;
        }
    });
}

fn look(config: &Config, store: &Store, now: Timestamp) {
    let server = &config.server;
    for (key, tls) in [("server.tls", &server.tls), ("server.admin_tls", &server.admin_tls)] {
        let Some(end) = tls.as_ref().and_then(|tls| end_of(&tls.cert)) else { continue };
        if let Some(days) = threshold(end, now) {
            let path = tls.as_ref().map(|tls| tls.cert.display().to_string()).unwrap_or_default();
            tracing::warn!(target: "audit", path, ends = end.rfc3339(), "a certificate of this server ends soon");
            let notice = Notice::new(WebhookEvent::CertificateExpiring.as_str(), now);
            let about = format!("{path}\n{}\n{days}", end.as_secs());
            let notice = notice.about(about).with("key", key).with("path", path);
            store.notices().send(notice.with("ends", end.rfc3339()).with("days", days));
        }
    }
}

/// When the first certificate of a file ends.
pub fn end_of(path: &Path) -> Option<Timestamp> {
    Some(first_certificate(path)?.not_after())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{FakeClock, SystemRng};
    use store::StoreUrl;

    #[tokio::test]
    async fn a_certificate_that_ends_soon_is_told_of_30_7_and_1_days_before() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["ai.example.com".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2026, 12, 1);
        std::fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        let text = format!(
            "[server]\ntls = {{ cert = {:?}, key = {:?} }}\n",
            cert.display().to_string(),
            key.display().to_string()
        );
        let config = config::parse(&text).unwrap();
        let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
        let clock = Arc::new(FakeClock::at(at("2026-11-01T00:00:00Z")));
        let store =
            Store::open(&StoreUrl::default(), &dir.path().join("data"), clock, Arc::new(SystemRng)).await.unwrap();
        look(&config, &store, at("2026-10-31T23:59:59Z"));
        assert_eq!(store.notices().take(), []);
        for moment in ["2026-11-01T00:00:00Z", "2026-11-23T23:00:00Z", "2026-11-24T00:00:00Z"] {
            look(&config, &store, at(moment));
        }
        let told = store.notices().take();
        assert_eq!(told.len(), 3);
        assert_eq!(
            (told[0].event, &told[0].data["ends"]),
            ("certificate.expiring", &serde_json::json!("2026-12-01T00:00:00.000Z"))
        );
        assert!(told[0].about == told[1].about && told[1].about != told[2].about, "one message 30 days before, one 7");
        let days = |moment: &str| threshold(at("2026-12-01T00:00:00Z"), at(moment));
        assert_eq!((days("2026-11-29T23:59:59Z"), days("2026-11-30T00:00:00Z")), (Some(7), Some(1)));
        assert_eq!((days("2026-12-01T00:00:00Z"), days("2027-01-01T00:00:00Z")), (Some(0), Some(0)));
        store.close().await;
    }
}
