//! The audit log of the running server: opened first, closed last.

use std::sync::Arc;
use std::time::Duration;

use audit::{Event, Recorder};
use config::Config;
use control::Operations;
use control::admin::Check;

use crate::tasks::Tasks;

/// How often what was left out is said.
const TICK: Duration = Duration::from_secs(10);

/// Say that the server has started, with the configuration it has.
pub(super) async fn started(recorder: &Recorder, config: &Config) {
    let event = Event::new("server.started").with("version", env!("CARGO_PKG_VERSION"));
    recorder.noted(event.with("configuration", summary(config))).await;
}

/// Say that the configuration was read again, or why it was not put in force.
pub(super) async fn reloaded(recorder: &Recorder, outcome: Result<&Config, &str>) {
    let event = Event::new("config.reloaded");
    let event = match outcome {
        Ok(config) => event.with("outcome", "ok").with("configuration", summary(config)),
        Err(first) => event.with("outcome", "refused").with("fault", first),
    };
    recorder.noted(event).await;
}

/// How much of each there is: what it says stands in the entries of what changed it, or in the file.
fn summary(config: &Config) -> serde_json::Value {
    serde_json::json!({
        "issuers": config.issuers.len(),
        "clients": config.clients.len(),
        "providers": config.providers.len(),
        "models": config.models.len(),
        "policies": config.policies.len(),
        "services": config.services.len(),
        "upstreams": config.upstreams.len(),
    })
}

/// What goes on beside requests.
pub(super) fn begin(tasks: &Tasks, recorder: &Recorder, mut versions: tokio::sync::watch::Receiver<u64>) {
    let ticking = recorder.clone();
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(TICK).await;
            ticking.tick();
        }
    });
    // A subject's key may have been destroyed, here or at another node.
    let forgetting = recorder.clone();
    tasks.spawn(async move {
        while versions.changed().await.is_ok() {
            forgetting.forget();
        }
    });
}

/// Replace the key of this node's log when another node, or a command, has asked for it.
pub(super) fn follow_keys(
    tasks: &Tasks,
    operations: &Arc<Operations>,
    mut versions: tokio::sync::watch::Receiver<u64>,
) {
    let operations = Arc::clone(operations);
    tasks.spawn(async move {
        let mut again = false;
        loop {
            tokio::select! {
                changed = versions.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(TICK), if again => {}
            }
            let followed = operations.audit_key_follow().await;
            if let Err(error) = &followed {
                tracing::warn!(%error, "the key of the audit log could not be replaced; this is tried again");
            }
            again = followed.is_err();
        }
    });
}

/// Whether requests can be recorded.
pub(super) fn check(recorder: &Recorder) -> Option<Check> {
    let log = recorder.log()?;
    let detail = match (log.trouble(), log.status().failing) {
        (None, _) => None,
        (Some(trouble), None) => Some(trouble.to_string()),
        (Some(trouble), Some((since, why))) => Some(format!("{trouble} since {}: {why}", since.rfc3339())),
    };
    Some(Check { name: "audit".to_owned(), ok: recorder.trouble().is_none(), detail })
}

/// Write what is left, and let go of the log.
pub(super) async fn finish(recorder: &Recorder) {
    recorder.noted(Event::new("server.stopped")).await;
    let Some(log) = recorder.log().cloned() else { return };
    let log = Arc::new(log);
    if tokio::task::spawn_blocking(move || log.close()).await.is_err() {
        tracing::error!("the audit log did not close");
    }
}
