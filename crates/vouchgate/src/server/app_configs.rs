//! What apps are told over the air: made anew in time, and told of where that fails or something ends soon.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Clock, Name, Timestamp};
use config::WebhookEvent;
use control::{OperationError, Operations};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use store::Notice;

use super::Running;
use super::ages::threshold;
use super::upkeep::leads;
use crate::tasks::Tasks;

/// How often it is looked, and for how long a node leads this unless it asks again.
const LOOK: Duration = Duration::from_mins(1);
const TERM: Duration = Duration::from_mins(2);

/// Each is told of once in so many seconds.
const DAY: i64 = 86_400;

/// Until when each app's configuration counts, for `/metrics`.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends(Arc<Mutex<Vec<(String, i64)>>>);

impl Ends {
    /// Have it shown.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let ends = Self::default();
        registry.register_collector(Box::new(ends.clone()));
        ends
    }

    fn set(&self, ends: Vec<(String, i64)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }
}

impl Collector for Ends {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "When what an app is told over the air stops to count, in seconds since 1970";
        let name = "vouchgate_app_config_expires_timestamp_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (app, end) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            ConstGauge::new(*end).encode(family.encode_family(&[("app", app.as_str())])?)?;
        }
        Ok(())
    }
}

/// Look from time to time, as long as the server runs.
pub(super) fn begin(tasks: &Tasks, running: &Arc<Running>, clock: Arc<dyn Clock>) {
    let running = Arc::clone(running);
    tasks.spawn(async move {
        let mut told = None;
        loop {
            let operations = &running.builder.operations;
            if leads(operations.store(), "app configs", TERM).await {
                match operations.app_configs_maintain().await {
                    Ok(left) => told = tell(operations, &left, clock.now(), told),
                    Err(error) => {
                        tracing::warn!(reason = error.reason(), %error, "what apps are told cannot be kept up");
                    }
                }
            }
            if let Err(error) = look(operations, &running.ends, clock.now()).await {
                tracing::warn!(reason = error.reason(), "what apps are told cannot be read");
            }
            tokio::time::sleep(LOOK).await;
        }
    });
}

/// Say once an hour which apps are not told anew, and why; when it was said last.
fn tell(
    operations: &Operations,
    left: &[(Name, OperationError)],
    now: Timestamp,
    last: Option<Timestamp>,
) -> Option<Timestamp> {
    let quiet = last.is_some_and(|last| now.since(last) < Duration::from_hours(1));
    if left.is_empty() || quiet {
        return last.filter(|_| !left.is_empty());
    }
    for (app, error) in left {
        let reason = error.reason();
        tracing::error!(%app, reason, %error, "what an app is told is not made anew, and will stop to count");
        let notice = Notice::new(WebhookEvent::AppConfigStuck.as_str(), now);
        let notice = notice.about(format!("{app}\n{reason}\n{}", now.as_secs().div_euclid(DAY)));
        operations.store().notices().send(notice.with("app", app.as_str()).with("reason", reason));
    }
    Some(now)
}

/// Note until when each counts, and say when the configuration key must be vouched for anew.
async fn look(operations: &Operations, ends: &Ends, now: Timestamp) -> Result<(), OperationError> {
    let latest = operations.store().app_configs().latest().await?;
    ends.set(latest.iter().map(|config| (config.app.to_string(), config.expires_at.as_secs())).collect());
    if latest.is_empty() {
        return Ok(());
    }
    for fit in operations.pin_fits().await? {
        for app in fit.refused_by {
            let (host, shown) = (&fit.host, &fit.shown);
            tracing::error!(%app, host, shown, "an app refuses a host: it is told of other keys than the one that is shown");
            let notice = Notice::new(WebhookEvent::AppConfigStuck.as_str(), now);
            let notice = notice.about(format!("{app}\n{host}\n{shown}\n{}", now.as_secs().div_euclid(DAY)));
            let notice = notice.with("app", app.as_str()).with("reason", "pins_not_served");
            operations.store().notices().send(notice.with("host", host.as_str()).with("shown", shown.as_str()));
        }
    }
    let keys = operations.store().app_configs().keys().await?;
    let active = keys.iter().find(|key| key.state == store::ConfigKeyState::Active);
    let Some(until) = active.and_then(|key| key.delegation.as_ref()).map(|delegation| delegation.until) else {
        return Ok(());
    };
    if let Some(days) = threshold(until, now) {
        let notice = Notice::new(WebhookEvent::DelegationExpiring.as_str(), now);
        let notice = notice.about(format!("{}\n{days}", until.as_secs()));
        operations.store().notices().send(notice.with("ends", until.rfc3339()).with("days", days));
    }
    Ok(())
}
