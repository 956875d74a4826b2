//! Callers that were stopped because they behaved quite unlike themselves, and letting them in again.

use audit::Event;
use base::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use store::{Notice, Page, Stop, StopAction, StoreError};

use super::{Listed, OperationError, Operations};

/// A caller that is or was stopped.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AnomalyView {
    /// Its number.
    pub id: i64,
    /// Whom: `key=NAME`, `subject=ISSUER/SUBJECT`, `client=ISSUER/CLIENT`, `device=THUMBPRINT`.
    pub whom: String,
    /// What became of it: `observe`, `throttle` or `suspend`.
    pub action: String,
    /// How many requests a minute it may make, where it is throttled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u64>,
    /// Whether it is so now.
    pub in_force: bool,
    /// What was unlike it: signals, and figures of the minute beside those of its busiest before.
    pub why: Value,
    /// Since when, as RFC 3339 writes it.
    pub since: String,
    /// Until when; absent: until it is let in again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// When it was let in again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_by: Option<String>,
}

impl Operations {
    /// Who is and was stopped, the newest first.
    pub async fn anomaly_list(&self, page: &Page) -> Result<Listed<AnomalyView>, OperationError> {
        let stops = self.store.stops().list(page).await?;
        Ok(Listed { items: stops.items.iter().map(|stop| self.stop_view(stop)).collect(), next: stops.next })
    }

    /// Let a caller in again, by the number of what stopped it or by whom that is. In force here when it returns, on all nodes within
    /// 5 seconds; for an hour it is only watched.
    pub async fn anomaly_restore(&self, which: &str, by: &str) -> Result<AnomalyView, OperationError> {
        let restored = self.store.stops().restore(which, by).await.map_err(|error| match error {
            StoreError::Missing(_) => OperationError::NotFound { kind: "stopped caller", name: which.to_owned() },
            other => other.into(),
        })?;
        let stop = restored.first().ok_or(StoreError::Corrupt)?;
        let (action, kind) = (stop.action.as_str(), stop.whom.split('=').next().unwrap_or_default());
        let event =
            Event::new(config::WebhookEvent::AnomalyRestored.as_str()).by(by).with("id", stop.id).with("kind", kind);
        self.audit.noted(event.with("before", action).with("after", "none")).await;
        let event = config::WebhookEvent::AnomalyRestored.as_str();
        let notice = Notice::new(event, self.clock.now()).with("id", stop.id).with("kind", kind).with("action", action);
        self.store.notices().send(notice.with("by", by).naming("whom", &*stop.whom));
        tracing::info!(target: "audit", by, whom = &*stop.whom, "a caller is let in again");
        Ok(self.stop_view(stop))
    }

    fn stop_view(&self, stop: &Stop) -> AnomalyView {
        AnomalyView {
            id: stop.id,
            whom: stop.whom.to_string(),
            action: stop.action.as_str().to_owned(),
            per_minute: match stop.action {
                StopAction::Throttle(most) => Some(most),
                StopAction::Observe | StopAction::Suspend => None,
            },
            in_force: stop.is_in_force(self.clock.now()),
            why: serde_json::from_str(&stop.why).unwrap_or_default(),
            since: stop.made_at.rfc3339(),
            until: stop.ends_at.map(Timestamp::rfc3339),
            restored_at: stop.restored_at.map(Timestamp::rfc3339),
            restored_by: stop.restored_by.clone(),
        }
    }
}
