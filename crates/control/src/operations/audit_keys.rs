//! Replacing the key that signs checkpoints of audit logs, and which keys they have.

use std::time::Duration;

use base::{Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rotation::known;
use super::{OperationError, Operations};
use crate::audit_keys::{Asked, AuditKeys};
use crate::recording::RecordingError;

/// How long both keys sign, where nothing else is asked for.
const OVERLAP: &str = "7d";
/// The longest they may.
const MAX_OVERLAP: Duration = Duration::from_hours(90 * 24);

/// How the key of audit logs is to be replaced.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceAuditKey {
    /// How long checkpoints are signed by both keys; absent: `7d`, and `0s` for a key that may be known to others.
    #[serde(default)]
    pub overlap: Option<String>,
    /// The key may be known to others: the new one signs alone, from now on.
    #[serde(default)]
    pub compromised: bool,
}

/// A replacement of the key of audit logs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditKeyReplacementView {
    /// The how-manieth of this installation.
    number: u64,
    /// When it was asked for.
    at: String,
    /// Until when checkpoints are signed by both keys.
    until: String,
    /// Whether the key before it may be known to others.
    compromised: bool,
    /// The key of this node's log now. Other nodes follow by themselves.
    log: AuditKeyView,
}

/// The key of an audit log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditKeyView {
    /// The log: what its checkpoints begin with.
    log: String,
    /// The newest key made for it, as a verifier key: to be kept elsewhere.
    key: String,
    /// Since when it is known that the log has its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// How many keys were made for it before this one.
    replaced: u64,
    /// Whether the log, or its node, has still to follow what was asked for.
    waiting: bool,
}

impl Operations {
    /// Replace the key of this node's log now; those of others follow. Repeated before this node has followed, it goes on with what was
    /// asked for.
    pub async fn audit_key_replace(
        &self,
        asked: &ReplaceAuditKey,
        by: &str,
    ) -> Result<AuditKeyReplacementView, OperationError> {
        let overlap: Span = match (asked.overlap.as_deref(), asked.compromised) {
            (Some(text), _) => {
                text.parse().map_err(|e: base::UnitError| OperationError::value("overlap", e.to_string()))?
            }
            (None, true) => Span::new(Duration::ZERO),
            (None, false) => {
                OVERLAP.parse().map_err(|e: base::UnitError| OperationError::value("overlap", e.to_string()))?
            }
        };
        if overlap.duration() > MAX_OVERLAP {
            return Err(OperationError::value("overlap", "at most 90d"));
        }
        if asked.compromised && !overlap.duration().is_zero() {
            return Err(OperationError::value("overlap", "a key that others may know signs nothing more: 0s, or none"));
        }
        let _changing = self.changing().await;
        let log = self.audit.log().ok_or_else(super::audit_log::off)?;
        let (keys, now) = (self.audit_keys(), self.clock.now());
        let before = keys.asked().await?;
        let waiting = keys.is_behind(log).await?;
        let under_way = before.as_ref().map(|(last, _)| *last).filter(|last| now.as_millis() < last.until);
        let replacement = match (&before, under_way) {
            (Some((last, _)), _) if waiting && last.compromised >= asked.compromised => *last,
            (_, Some(last)) if !asked.compromised => {
                let (at, until) = (moment(last.at), moment(last.until));
                return Err(OperationError::NotAllowed(format!(
                    "the key was replaced at {at}, and both keys sign until {until}: wait until then, unless the new one may be known to others"
                )));
            }
            _ => {
                let number = before.as_ref().map_or(0, |(last, _)| last.number) + 1;
                let until = now.plus(overlap.duration()).as_millis();
                let new = Asked { number, at: now.as_millis(), until, compromised: asked.compromised };
                if !keys.ask(new, before.as_ref().map(|(_, text)| text.as_str())).await? {
                    return Err(OperationError::Stale("key of audit logs"));
                }
                new
            }
        };
        keys.follow(&self.audit).await?;
        let (number, compromised) = (replacement.number, replacement.compromised);
        tracing::info!(target: "audit", by, number, compromised, "the key of audit logs was replaced");
        Ok(AuditKeyReplacementView {
            number,
            at: moment(replacement.at),
            until: moment(replacement.until),
            compromised,
            log: self.audit_key_of(log.origin(), None).await?,
        })
    }

    /// The key of every log that any node has ever had on this store.
    pub async fn audit_keys_list(&self) -> Result<Vec<AuditKeyView>, OperationError> {
        let mut logs: Vec<_> = self.store.known_keys().of_kind(known::AUDIT).await?.into_iter().collect();
        logs.sort();
        let mut views = Vec::new();
        for (log, since) in logs {
            views.push(self.audit_key_of(&log, Some(since)).await?);
        }
        Ok(views)
    }

    /// Do to this node's log what was asked for and has not been done.
    pub async fn audit_key_follow(&self) -> Result<(), RecordingError> {
        self.audit_keys().follow(&self.audit).await
    }

    async fn audit_key_of(&self, log: &str, since: Option<Timestamp>) -> Result<AuditKeyView, OperationError> {
        let since = match since {
            None => self.store.known_keys().of_kind(known::AUDIT).await?.get(log).copied(),
            since => since,
        };
        let keys = self.audit_keys();
        let (mut all, waiting) = (keys.of(log).await?, keys.waits(log).await?);
        let newest = all.pop().ok_or(RecordingError::Damaged)?;
        Ok(AuditKeyView {
            log: log.to_owned(),
            key: newest.signer.verifier().to_string(),
            since: since.map(Timestamp::rfc3339),
            replaced: all.len() as u64,
            waiting,
        })
    }

    fn audit_keys(&self) -> AuditKeys<'_> {
        AuditKeys { store: &self.store, vault: &self.vault, rng: &self.rng }
    }
}

fn moment(millis: i64) -> String {
    Timestamp::from_millis(millis).rfc3339()
}
