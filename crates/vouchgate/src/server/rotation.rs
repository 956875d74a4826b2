//! How old keys are: looked at from time to time, told of where one is older than it should be, and shown in `/metrics`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Clock, Timestamp};
use config::{ClientAuth, Config, SecretRef, WebhookEvent};
use control::operations::{OperationError, Operations, RotationView, known, uses};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use store::Notice;
use vault::{HashPurpose, Vault};

use super::Running;
use crate::references;
use crate::tasks::Tasks;

/// How often it is looked, the first time at the start.
const LOOK: Duration = Duration::from_hours(1);
/// Each is told of once a week: it is no emergency.
const WEEK: i64 = 7 * 86_400;

/// What was seen last.
#[derive(Debug, Clone, Default)]
pub(super) struct Ages(Arc<Mutex<Vec<RotationView>>>);

/// Look from time to time, as long as the server runs.
pub(super) fn begin(tasks: &Tasks, running: &Arc<Running>, clock: Arc<dyn Clock>, ages: Ages) {
    let running = Arc::clone(running);
    tasks.spawn(async move {
        loop {
            let (operations, vault) = (&running.builder.operations, &running.builder.vault);
            match look(&running.config(), operations, vault).await {
                Ok(rows) => {
                    told(&rows, operations, clock.now());
                    *ages.0.lock().unwrap_or_else(PoisonError::into_inner) = rows;
                }
                Err(error) => tracing::warn!(reason = error.reason(), "the ages of keys cannot be read"),
            }
            tokio::time::sleep(LOOK).await;
        }
    });
}

/// Note since when keys are known that say it nowhere, and list all keys.
async fn look(file: &Config, operations: &Operations, vault: &Vault) -> Result<Vec<RotationView>, OperationError> {
    let config = operations.merged_config(file).await?.unwrap_or_else(|_| file.clone());
    let known_keys = operations.store().known_keys();
    for (place, reference) in referred(&config) {
        let Ok(value) = references::read(reference) else { continue };
        let hashes = vault.keyed_hashes(HashPurpose::Fingerprint, value.expose().as_bytes());
        known_keys.seen(known::REFERRED, &place, &hashes).await?;
    }
    for client in &config.clients {
        if let Some(ClientAuth::ClientSecret { hash }) = &client.auth {
            let hashes = vault.keyed_hashes(HashPurpose::Fingerprint, hash.as_bytes());
            known_keys.seen(known::CLIENT, client.name.as_str(), &hashes).await?;
        }
    }
    for path in &config.app_config.roots {
        let Ok(key) = std::fs::read(path) else { continue };
        let hashes = vault.keyed_hashes(HashPurpose::Fingerprint, &key);
        known_keys.seen(known::ROOT, &path.display().to_string(), &hashes).await?;
    }
    operations.rotation_list().await
}

/// Secrets that are not in the vault, each with the place by which it is known.
fn referred(config: &Config) -> Vec<(String, &SecretRef)> {
    let mut all = Vec::new();
    for provider in &config.providers {
        for (key, reference) in provider.secrets() {
            all.push((format!("provider.{}.{key}", provider.name), reference));
        }
    }
    all.extend(uses(config).into_iter().map(|used| (used.place(), used.reference)));
    all.retain(|(_, reference)| !matches!(reference, SecretRef::Secret(_)));
    all
}

/// Tell of those that are older than they should be.
fn told(rows: &[RotationView], operations: &Operations, now: Timestamp) {
    let week = now.as_secs().div_euclid(WEEK);
    for row in rows.iter().filter(|row| row.too_old) {
        let (kind, name) = (row.kind, row.name.as_str());
        let about = format!("{kind}\n{name}\n{}\n{week}", row.state);
        let (since, days) = (row.since.clone().unwrap_or_default(), row.age_days.unwrap_or(0));
        tracing::warn!(target: "audit", kind, name, since, days, "a key is older than it should be");
        let provider = name.split_once('/').map(|(provider, _)| provider).filter(|_| kind == "provider key");
        let notice = match (provider, &row.secret) {
            (Some(provider), Some(secret)) => Notice::new(WebhookEvent::SecretOld.as_str(), now)
                .with("provider", provider)
                .with("secret", secret.as_str())
                .with("set", since),
            (Some(provider), None) => {
                Notice::new(WebhookEvent::SecretOld.as_str(), now).with("provider", provider).with("set", since)
            }
            _ => Notice::new(WebhookEvent::KeyOld.as_str(), now)
                .with("kind", kind)
                .with("name", name)
                .with("since", since),
        };
        operations.store().notices().send(notice.about(about).with("days", days));
    }
}

/// Show them in `/metrics`.
pub(super) fn register(registry: &mut Registry, ages: &Ages) {
    registry.register_collector(Box::new(ages.clone()));
}

impl Collector for Ages {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let help = "How long a key is what it is, where that is known";
        let mut family = encoder.encode_descriptor("vouchgate_key_age_seconds", help, None, MetricType::Gauge)?;
        for (row, age) in rows.iter().filter_map(|row| Some((row, row.age?))) {
            let labels = [("kind", row.kind), ("name", row.name.as_str()), ("state", row.state)];
            let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            ConstGauge::new(age).encode(family.encode_family(&labels)?)?;
        }
        let help = "Keys for which something is to be done: vouchgate rotate status says what";
        let mut family = encoder.encode_descriptor("vouchgate_keys_due", help, None, MetricType::Gauge)?;
        let due = i64::try_from(rows.iter().filter(|row| row.due).count()).unwrap_or(i64::MAX);
        let none: [(&str, &str); 0] = [];
        ConstGauge::new(due).encode(family.encode_family(&none)?)
    }
}
