//! Receipts of App Attest are kept, and exchanged at Apple's for newer ones, which say how many keys the app attested on the
//! device lately.

use std::time::Duration;

use base::{Timestamp, Who};
use proof::attest::apple::{ReceiptError, ReceiptRules, verify_receipt};
use proof::attest::online::{FraudMetric, OnlineError};
use proof::attest::{Flag, FlagValue};
use store::{DueReceipt, NewReceipt};
use vault::{Label, Purpose};

use super::asked::{AskedError, ask, environment};
use super::enroll::unavailable;
use super::evidence::NEW_RECEIPT;
use super::refusal::AppsError;
use super::{AppInForce, Apps, AppsInForce, Others};
use crate::operations::{OperationError, Operations};

/// The flag that Apple's measure is.
pub(super) const FRAUD_METRIC: &str = "fraud_metric";

/// How many are exchanged in one step.
const STEP: u32 = 100;

/// When it is tried again: where Apple has nothing newer or says something odd, and where it does not answer.
const NOTHING: Duration = Duration::from_hours(24);
const SILENT: Duration = Duration::from_hours(1);

impl Apps {
    /// A receipt that came with an enrolment, as it is kept.
    pub(super) fn kept_receipt(
        &self,
        app: &AppInForce,
        jkt: &str,
        came: Option<(Vec<u8>, Option<Timestamp>)>,
    ) -> Result<Option<NewReceipt>, AppsError> {
        let Some((receipt, not_before)) = came else { return Ok(None) };
        let (operations, name) = (self.operations(), name_of(app, jkt));
        let label = Label::new(operations.store().tenant(), Purpose::Receipt, &name, 1);
        let sealed = operations.vault().seal(&label, &receipt).map_err(|error| unavailable(&error.into()))?;
        let next_at = not_before.unwrap_or_else(|| operations.clock().now());
        Ok(Some(NewReceipt { name, sealed, next_at }))
    }

    /// What Apple last said of an installation, known by the thumbprint of its key.
    pub(super) async fn fraud_metric_of(&self, app: &AppInForce, jkt: &str) -> Result<Option<Flag>, AppsError> {
        if app.fraud_metric.is_none() {
            return Ok(None);
        }
        let metric = self.operations().store().receipts().metric(&name_of(app, jkt)).await;
        let metric = metric.map_err(|error| unavailable(&error.into()))?;
        Ok(metric.and_then(|metric| Flag::new(FRAUD_METRIC, FlagValue::Number(metric.into()))))
    }
}

/// What the receipt of an installation is sealed and found under.
fn name_of(app: &AppInForce, jkt: &str) -> String {
    format!("{}/{jkt}", app.config.name)
}

/// Exchange those whose time has come; how many were tried. A receipt that nothing comes of stays as it is, with what Apple said
/// before. Where Apple does not answer, the others are left for another step: each would cost a whole deadline.
pub async fn exchange(
    operations: &Operations,
    apps: &AppsInForce,
    others: &dyn Others,
) -> Result<usize, OperationError> {
    let receipts = operations.store().receipts();
    let due = receipts.due(operations.clock().now(), STEP).await?;
    for (tried, one) in due.iter().enumerate() {
        let app = apps.get(one.app.as_str()).filter(|app| app.fraud_metric.is_some());
        let outcome = match app {
            Some(app) => exchange_one(operations, &app, others, one).await?,
            // Nobody asks any more; somebody may again.
            None => Err(NOTHING),
        };
        if let Err(later) = outcome {
            receipts.put_off(&one.name, operations.clock().now().plus(later)).await?;
            if later == SILENT {
                return Ok(tried.saturating_add(1));
            }
        }
    }
    Ok(due.len())
}

/// Exchange one, or say after which time to try again.
async fn exchange_one(
    operations: &Operations,
    app: &AppInForce,
    others: &dyn Others,
    old: &DueReceipt,
) -> Result<Result<(), Duration>, OperationError> {
    let label = Label::new(operations.store().tenant(), Purpose::Receipt, &old.name, 1);
    let receipt = operations.vault().open(&label, &old.sealed)?;
    let now = operations.clock().now();
    let newer = match ask_apple(app, others, (old, receipt.expose()), now).await {
        Ok(newer) => newer,
        Err(error) => {
            let later = if error.whose == Who::Provider && error.reason != OnlineError::NothingNew.reason() {
                SILENT
            } else {
                NOTHING
            };
            tracing::warn!(app = %old.app, reason = error.reason, "Apple gives no newer receipt");
            return Ok(Err(if error.whose == Who::Us { SILENT } else { later }));
        }
    };
    let Some(rules) = &app.apple else { return Ok(Err(NOTHING)) };
    let app_ids = [rules.app_id.as_str()];
    let Some(public_key) = old.attested_key.as_deref().and_then(|key| key.try_into().ok()) else {
        return Ok(Err(NOTHING));
    };
    // For this app and this key, and made just now: not another's, nor one that was given before.
    let judged_by = ReceiptRules {
        anchors: &rules.receipts,
        now: Some(now),
        app_ids: &app_ids,
        public_key: Some(public_key),
        max_age: Some(NEW_RECEIPT),
    };
    let made = verify_receipt(receipt.expose(), &ReceiptRules { now: None, max_age: None, ..judged_by });
    let verified = match (verify_receipt(&newer, &judged_by), made) {
        // Not the one it was asked for with, nor one before it.
        (Ok(verified), Ok(made)) if verified.refreshed && verified.created >= made.created => verified,
        (outcome, _) => {
            let reason = outcome.map_or_else(ReceiptError::reason, |_| "receipt_not_newer");
            tracing::error!(app = %old.app, reason, "the receipt that Apple gives does not hold");
            return Ok(Err(NOTHING));
        }
    };
    let next_at = verified.not_before.filter(|at| *at > now).unwrap_or_else(|| now.plus(NOTHING));
    let sealed = operations.vault().seal(&label, &newer)?;
    operations.store().receipts().exchange(old, &sealed, (verified.risk_metric, next_at)).await?;
    Ok(Ok(()))
}

async fn ask_apple(
    app: &AppInForce,
    others: &dyn Others,
    (old, receipt): (&DueReceipt, &[u8]),
    now: Timestamp,
) -> Result<Vec<u8>, AskedError> {
    let configured = app.config.ios.as_ref().and_then(|ios| ios.fraud_metric.as_ref()).ok_or(AskedError::OURS)?;
    let key = app.fraud_metric.as_ref().ok_or(AskedError::OURS)?;
    let own = environment(old.environment.as_deref()).fraud_metric();
    let origin = configured.url.as_ref().map_or(own, |url| url.as_str().trim_end_matches('/'));
    ask(others, &FraudMetric { origin, key, receipt, now }, configured.allow_private).await
}
