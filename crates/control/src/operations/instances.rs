//! Installations of apps, as an operator sees them: which there are, why one was refused, and which may not any more.

use audit::Event;
use base::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Instance, InstanceFilter, InstanceStatus, Page, Refusal, StoreError};

use super::{Listed, OperationError, Operations};
use crate::apps::typed_arc;

/// An installation of an app.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DeviceView {
    /// Its id: the subject of its tokens.
    pub id: String,
    /// Its app.
    pub app: String,
    /// What it runs on: `ios`, `android`, `web`, or `other` where its evidence does not say.
    pub platform: String,
    /// What it proved itself with.
    pub evidence: Vec<String>,
    /// How far that carries.
    pub level: String,
    /// `active`, `quarantined` or `revoked`.
    pub status: String,
    /// Since when, as RFC 3339 writes it.
    pub status_since: String,
    /// By whom, where somebody changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// The app's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `production` or `development`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// How the app was distributed, by Apple's numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<u16>,
    /// What is known of it and its device, each with who says it.
    pub flags: Value,
    /// Annotations of its tokens.
    pub annotations: Vec<String>,
    /// Thumbprint of its key (RFC 7638).
    pub jkt: String,
    /// Serial numbers of the certificates it enrolled with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
    /// The highest counter of its assertions.
    pub counter: u64,
    /// The code of its last enrolment or token.
    pub arc: String,
    /// When it first enrolled.
    pub created: String,
    /// When it last showed its evidence.
    pub attested: String,
    /// When it has to again.
    pub reattest: String,
    /// When it last got a token.
    pub seen: String,
}

/// Why an installation's status is changed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeDevice {
    /// Why: for whoever looks at it later.
    pub reason: String,
}

/// What stands behind a code that a client was told.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ArcView {
    /// The code.
    pub arc: String,
    /// `refused`, or `granted`.
    pub outcome: &'static str,
    /// When, as RFC 3339 writes it.
    pub at: String,
    /// The app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The installation, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What it asked for: `challenge`, `enroll`, `token`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What it was told to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Why it was refused: stable codes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What else is known.
    pub detail: Value,
}

/// Which installations are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeviceFilter<'a> {
    /// Of this app.
    pub app: Option<&'a str>,
    /// With this status.
    pub status: Option<&'a str>,
    /// Whose id, key's thumbprint or version begins so.
    pub search: Option<&'a str>,
}

impl Operations {
    /// The installations that fit, by their ids.
    pub async fn device_list(
        &self,
        filter: DeviceFilter<'_>,
        page: &Page,
    ) -> Result<Listed<DeviceView>, OperationError> {
        let status = filter.status.map(|text| {
            let wrong = || OperationError::value("status", "one of active, quarantined, revoked belongs here");
            InstanceStatus::from_name(text).ok_or_else(wrong)
        });
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let filter =
            InstanceFilter { app: owned(filter.app), status: status.transpose()?, search: owned(filter.search) };
        let found = self.store.instances().list(&filter, page).await?;
        Ok(Listed { items: found.items.iter().map(view).collect(), next: found.next })
    }

    /// One installation.
    pub async fn device_show(&self, id: &str) -> Result<DeviceView, OperationError> {
        let found = self.store.instances().get(id).await?;
        found.as_ref().map(view).ok_or_else(|| missing(id))
    }

    /// Quarantine, release or revoke an installation. What it may not any more is so when this returns, and on all nodes within 5
    /// seconds.
    pub async fn device_set_status(
        &self,
        id: &str,
        to: InstanceStatus,
        (change, by): (&ChangeDevice, &str),
    ) -> Result<DeviceView, OperationError> {
        let before = self.store.instances().get(id).await?.ok_or_else(|| missing(id))?;
        let (from, why) = (before.status.as_str(), change.reason.trim());
        if why.len() > 256 || why.chars().any(char::is_control) {
            return Err(OperationError::value("reason", "at most 256 bytes of text without control characters"));
        }
        if to == InstanceStatus::Active && before.status == InstanceStatus::Revoked {
            return Err(OperationError::NotAllowed(format!("{id} is revoked, which is for good; it can enrol anew")));
        }
        let changed = self.store.instances().set_status(id, to, (by, why)).await.map_err(|error| match error {
            StoreError::Missing(_) => missing(id),
            StoreError::Conflict(_) => {
                OperationError::NotAllowed(format!("{id} is {from} and cannot become {}", to.as_str()))
            }
            other => other.into(),
        })?;
        let event = Event::new("instance.changed").by(by).with("instance", id).with("app", changed.app.as_str());
        let event = event.with("before", from).with("after", changed.status.as_str()).with("reason", why);
        self.audit.noted(event).await;
        tracing::info!(target: "audit", by, instance = id, status = changed.status.as_str(), "installation changed");
        Ok(view(&changed))
    }

    /// Forget an installation; its tokens end.
    pub async fn device_delete(&self, id: &str, by: &str) -> Result<(), OperationError> {
        self.store.instances().delete(id, by, "deleted").await.map_err(|error| match error {
            StoreError::Missing(_) => missing(id),
            other => other.into(),
        })?;
        self.audit.noted(Event::new("instance.deleted").by(by).with("instance", id)).await;
        Ok(())
    }

    /// What stands behind a code that a client was told.
    pub async fn arc_show(&self, text: &str) -> Result<ArcView, OperationError> {
        let unknown = || OperationError::NotFound { kind: "code", name: text.to_owned() };
        let arc = typed_arc(text).ok_or_else(unknown)?;
        if let Some(refusal) = self.store.instances().refusal(&arc).await? {
            return Ok(refused(refusal));
        }
        let instance = self.store.instances().of_arc(&arc).await?.ok_or_else(unknown)?;
        Ok(ArcView {
            arc,
            outcome: "granted",
            at: instance.seen_at.rfc3339(),
            app: Some(instance.app.to_string()),
            device: Some(instance.id.clone()),
            step: None,
            action: None,
            reasons: Vec::new(),
            detail: serde_json::to_value(view(&instance)).unwrap_or_default(),
        })
    }
}

fn missing(id: &str) -> OperationError {
    OperationError::NotFound { kind: "installation", name: id.to_owned() }
}

fn refused(refusal: Refusal) -> ArcView {
    ArcView {
        arc: refusal.arc,
        outcome: "refused",
        at: refusal.at.rfc3339(),
        app: refusal.app,
        device: refusal.instance,
        step: Some(refusal.step),
        action: Some(refusal.action),
        reasons: refusal.reasons,
        detail: serde_json::from_str(&refusal.detail).unwrap_or_default(),
    }
}

fn view(instance: &Instance) -> DeviceView {
    let of = &instance.attested;
    let said = |text: &String| (!text.is_empty()).then(|| text.clone());
    DeviceView {
        id: instance.id.clone(),
        app: instance.app.to_string(),
        platform: of.platform.clone(),
        evidence: of.evidence.split(' ').map(str::to_owned).collect(),
        level: of.level.clone(),
        status: instance.status.as_str().to_owned(),
        status_since: instance.status_at.rfc3339(),
        status_by: said(&instance.status_by),
        status_reason: said(&instance.status_why),
        version: of.version.clone(),
        environment: of.environment.clone(),
        category: of.category,
        flags: serde_json::from_str(&of.flags).unwrap_or_default(),
        annotations: of.annotations.clone(),
        jkt: instance.jkt.clone(),
        certificates: of.serials.clone(),
        counter: instance.counter,
        arc: instance.arc.clone(),
        created: instance.created_at.rfc3339(),
        attested: instance.attested_at.rfc3339(),
        reattest: Timestamp::rfc3339(of.reattest_at),
        seen: instance.seen_at.rfc3339(),
    }
}
