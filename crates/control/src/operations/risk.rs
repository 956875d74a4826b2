//! What was decided about instances of apps, what other rules would have, and leave for single instances.

use audit::Event;
use base::{Name, Span, Timestamp};
use config::Risk;
use policy::risk::{Report, Rules, simulate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{ForcedPass, NewForcedPass, Page, RiskDecision, StoreError};

use super::{Listed, OperationError, Operations};
use crate::risk::decided;

/// What was decided is kept for so many days.
const KEEP_DAYS: i64 = 30;
/// So many rows are looked at.
const MOST_ROWS: u32 = 100_000;
/// So many sets of rules are asked at once.
const MOST_SETS: usize = 1000;
/// So many rows are listed.
const MOST_LISTED: u32 = 1000;

/// Decisions about instances of which the same was known on one day.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RiskDecisionView {
    /// The day, `YYYY-MM-DD` (UTC).
    pub day: String,
    /// The app.
    pub app: String,
    /// Its version; empty where nobody says one.
    pub version: String,
    /// `enroll` or `token`.
    pub step: String,
    /// What was known: platform, level, flags, what had been shown besides.
    pub known: serde_json::Value,
    /// What was done.
    pub action: String,
    /// What would have been if every set of rules were enforced.
    pub would: String,
    /// Why.
    pub reasons: Vec<String>,
    /// How often.
    pub count: u64,
}

/// Rules to ask about what was decided.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulateRisk {
    /// Sets of rules, as `[[risk]]` of the configuration file has them. Absent: those in force.
    #[serde(default)]
    pub risks: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
    /// Only this app.
    #[serde(default)]
    pub app: Option<String>,
    /// From when on, in whole days: how long ago (`7d`), a moment (RFC 3339), or seconds since 1970. Absent: all that is kept, 30 days.
    #[serde(default)]
    pub since: Option<String>,
}

/// What rules would have decided.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RiskReport {
    /// From this day on, `YYYY-MM-DD` (UTC).
    pub since: String,
    /// Decisions looked at: one for every enrolment and every token.
    pub decisions: u64,
    /// How many of each, as they were: `{"allow": 10}`.
    pub before: serde_json::Value,
    /// How many of each, as these rules would decide with every set enforced for everybody.
    pub after: serde_json::Value,
    /// How many would be others: `from`, `to`, `count`.
    pub changed: Vec<serde_json::Value>,
    /// Why, by `reason`, `action`, `app`, `version`, `platform`: `count`, and how many of them are `newly` decided so. Most first.
    pub reasons: Vec<serde_json::Value>,
}

/// Leave for one instance.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GiveForcedPass {
    /// The app.
    pub app: String,
    /// The thumbprint of the instance's key (RFC 7638).
    pub jkt: String,
    /// For how long: `7d`.
    #[serde(rename = "for")]
    pub lasts: String,
    /// Why, for the record.
    pub reason: String,
}

/// Leave that an instance has or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ForcedPassView {
    /// Its id.
    pub id: String,
    /// The app.
    pub app: String,
    /// The thumbprint of the instance's key.
    pub jkt: String,
    /// Whether it is in force.
    pub in_force: bool,
    /// Since when, as RFC 3339 writes it.
    pub since: String,
    /// Until when.
    pub until: String,
    /// Who gave it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// How often the instance was let in by it.
    pub uses: u64,
    /// When it last was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_at: Option<String>,
}

impl Operations {
    /// What was decided of late, most frequent first: at most 1,000 rows.
    pub async fn risk_decisions(
        &self,
        app: Option<&str>,
        since: Option<&str>,
    ) -> Result<Listed<RiskDecisionView>, OperationError> {
        let day = self.first_day(since)?;
        self.judge().save(&self.store).await?;
        let rows = self.store.risk_decisions().since(app, day, MOST_LISTED).await?;
        Ok(Listed { items: rows.iter().map(decision_view).collect(), next: None })
    }

    /// What rules would have decided over what was.
    pub async fn risk_simulate(&self, question: &SimulateRisk) -> Result<RiskReport, OperationError> {
        let risks = match &question.risks {
            Some(risks) => read_rules(risks)?,
            None => self.current_config().await?.risks.clone(),
        };
        let (day, now) = (self.first_day(question.since.as_deref())?, self.clock.now());
        self.judge().save(&self.store).await?;
        let rows = self.store.risk_decisions().since(question.app.as_deref(), day, MOST_ROWS).await?;
        let counted: Vec<_> = rows.iter().filter_map(|row| decided(row, now)).collect();
        let Report { decisions, before, after, changed, reasons } = simulate(&Rules::compile(&risks), &counted, now);
        Ok(RiskReport {
            since: date(day),
            decisions,
            before: json(&before),
            after: json(&after),
            changed: changed.iter().map(json).collect(),
            reasons: reasons.iter().map(json).collect(),
        })
    }

    /// Give an instance leave, whatever the rules say, until it ends by itself or is taken back.
    pub async fn forced_pass_give(&self, give: &GiveForcedPass, by: &str) -> Result<ForcedPassView, OperationError> {
        let app = Name::new(&give.app).map_err(|_| OperationError::value("app", "not the name of an app"))?;
        let base64url = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if give.jkt.len() != 43 || !give.jkt.bytes().all(base64url) {
            return Err(OperationError::value("jkt", "the thumbprint of a key: 43 characters of base64url"));
        }
        if give.reason.trim().is_empty() || give.reason.len() > 1000 {
            return Err(OperationError::value("reason", "say why, in at most 1,000 bytes: it is recorded"));
        }
        let rules = self.judge().rules().forced_pass(app.as_str());
        if !rules.allowed {
            return Err(OperationError::NotAllowed(format!("the risk rules for {app} allow no forced pass")));
        }
        let lasts: Span = give.lasts.parse().map_err(|_| OperationError::value("for", "write a duration: \"7d\""))?;
        if lasts > rules.longest || lasts < Span::secs(60) {
            return Err(OperationError::value("for", format!("from 1m to {}", rules.longest)));
        }
        let ends_at = self.clock.now().plus(lasts.duration());
        let new = NewForcedPass {
            app,
            jkt: give.jkt.clone(),
            ends_at,
            by: by.to_owned(),
            reason: give.reason.trim().to_owned(),
        };
        // Written down before it lets anybody in.
        let event = Event::new("forced_pass.given").by(by).with("app", &*give.app).with("jkt", &*give.jkt);
        self.audit.happened(event.with("until", ends_at.rfc3339()).with("reason", &*new.reason)).await?;
        let pass = self.store.forced_passes().give(new).await?;
        tracing::info!(target: "audit", by, app = %pass.app, id = pass.id, "forced pass given");
        Ok(self.pass_view(&pass))
    }

    /// Take leave back.
    pub async fn forced_pass_end(&self, id: &str, by: &str) -> Result<(), OperationError> {
        let ended = self.store.forced_passes().end(id, by).await.map_err(|error| match error {
            StoreError::Missing(_) => OperationError::NotFound { kind: "forced pass in force", name: id.to_owned() },
            other => other.into(),
        })?;
        let event = Event::new("forced_pass.ended").by(by).with("app", ended.app.as_str()).with("jkt", &*ended.jkt);
        self.audit.noted(event).await;
        tracing::info!(target: "audit", by, app = %ended.app, id, "forced pass ended");
        Ok(())
    }

    /// Leave there is and was, the newest first.
    pub async fn forced_pass_list(&self, page: &Page) -> Result<Listed<ForcedPassView>, OperationError> {
        self.judge().save(&self.store).await?;
        let passes = self.store.forced_passes().list(page).await?;
        Ok(Listed { items: passes.items.iter().map(|pass| self.pass_view(pass)).collect(), next: passes.next })
    }

    fn first_day(&self, since: Option<&str>) -> Result<i64, OperationError> {
        let today = RiskDecision::day_of(self.clock.now());
        let Some(since) = since else { return Ok(today - KEEP_DAYS) };
        let from = crate::moment(since, self.clock.now());
        let from = from.ok_or_else(|| OperationError::value("since", crate::MOMENTS))?;
        Ok(RiskDecision::day_of(from).max(today - KEEP_DAYS))
    }

    fn pass_view(&self, pass: &ForcedPass) -> ForcedPassView {
        ForcedPassView {
            id: pass.id.clone(),
            app: pass.app.as_str().to_owned(),
            jkt: pass.jkt.clone(),
            in_force: pass.is_in_force(self.clock.now()),
            since: pass.made_at.rfc3339(),
            until: pass.ends_at.rfc3339(),
            by: pass.made_by.clone(),
            reason: pass.reason.clone(),
            ended_at: pass.ended_at.map(Timestamp::rfc3339),
            ended_by: pass.ended_by.clone(),
            uses: pass.uses,
            used_at: pass.used_at.map(Timestamp::rfc3339),
        }
    }
}

fn decision_view(row: &RiskDecision) -> RiskDecisionView {
    RiskDecisionView {
        day: date(row.day),
        app: row.app.clone(),
        version: row.version.clone(),
        step: row.step.clone(),
        known: serde_json::from_str(&row.known).unwrap_or_default(),
        action: row.action.clone(),
        would: row.would.clone(),
        reasons: row.reasons.clone(),
        count: row.count,
    }
}

/// Sets of rules, or everything that is wrong with them.
fn read_rules(risks: &[serde_json::Map<String, serde_json::Value>]) -> Result<Vec<Risk>, OperationError> {
    if risks.len() > MOST_SETS {
        return Err(OperationError::value("risks", "too many sets of rules"));
    }
    risks.iter().map(|risk| config::read(&risk.clone().into()).map_err(OperationError::Faults)).collect()
}

fn json<T: Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// A day as `YYYY-MM-DD`.
fn date(day: i64) -> String {
    Timestamp::from_secs(day.saturating_mul(86_400)).rfc3339().chars().take(10).collect()
}
