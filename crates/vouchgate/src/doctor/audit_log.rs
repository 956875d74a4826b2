//! What an operator should know of the audit log.

use config::{Config, OnAuditFailure};
use serde_json::Value;

use super::{Findings, Verdict};

const WHAT: &str = "audit log";

/// A log that is off, that holds nothing up, whose checkpoints nobody keeps or that do not arrive.
pub(super) async fn look(config: &Config, findings: &mut Findings) {
    configured(config, findings);
    if config.audit.publish.is_empty() {
        return;
    }
    let socket = config.server.data_dir.join(control::admin::SOCKET_NAME);
    // Without a server nothing is published, and `state` says that none runs.
    if let Ok(readiness) = crate::cli::readiness(&socket).await {
        arriving(&readiness, findings);
    }
}

fn configured(config: &Config, findings: &mut Findings) {
    let mut warn = |seen: &str, todo: &str| findings.add(WHAT, Verdict::Warning, seen, Some(todo));
    let audit = &config.audit;
    if !audit.enabled {
        return warn("nothing is recorded", "leave out enabled = false in [audit]");
    }
    if audit.on_failure == OnAuditFailure::Allow {
        let seen =
            "requests go on when they cannot be recorded, and after a crash all that was leased of budgets is charged";
        warn(seen, "leave out on_failure = \"allow\"");
    }
    let told = |hook: &config::Webhook| hook.events.contains(&config::WebhookEvent::AuditCheckpoint);
    if audit.publish.is_empty() && !config.webhooks.iter().any(told) {
        let seen = "its checkpoints are kept on this machine only: who rules it can write the log anew";
        warn(seen, "add an [[audit.publish]], or keep what `vouchgate audit checkpoint` prints elsewhere");
    }
}

/// What a running server says of the places.
fn arriving(readiness: &Value, findings: &mut Findings) {
    let checks = readiness.get("checks").and_then(Value::as_array).into_iter().flatten();
    for check in checks {
        let text = |name: &str| check.get(name).and_then(Value::as_str).unwrap_or_default();
        let Some(place) = text("name").strip_prefix("audit_publish:") else { continue };
        let what = format!("audit publish {place}");
        if check.get("ok").and_then(Value::as_bool) == Some(true) {
            findings.ok(what, text("detail"));
        } else {
            let todo = "see why: until it works, nobody could tell a log that was written anew";
            findings.add(what, Verdict::Warning, text("detail"), Some(todo));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(text: &str) -> Vec<String> {
        let config = config::parse(text).unwrap_or_else(|faults| panic!("{faults:?}"));
        let mut findings = Findings::default();
        configured(&config, &mut findings);
        findings.0.into_iter().map(|finding| finding.seen).collect()
    }

    #[test]
    fn a_log_that_proves_nothing_elsewhere_is_told_of() {
        let published = "[[audit.publish]]\nname = \"p\"\nfile = \"/mnt/kept\"\n";
        assert!(told(published).is_empty());
        assert_eq!(told("").len(), 1);
        assert_eq!(told("[audit]\nenabled = false\n"), ["nothing is recorded"]);
        assert_eq!(told(&format!("[audit]\non_failure = \"allow\"\n{published}")).len(), 1);
    }

    #[test]
    fn a_place_where_nothing_arrives_is_told_of() {
        let mut findings = Findings::default();
        let check = |name: &str, ok: bool| json!({"name": name, "ok": ok, "detail": "why"});
        let checks = [check("store", true), check("audit_publish:a", true), check("audit_publish:b", false)];
        arriving(&json!({ "checks": checks }), &mut findings);
        let seen: Vec<_> = findings.0.iter().map(|finding| (finding.what.as_str(), finding.verdict)).collect();
        assert_eq!(seen, [("audit publish a", Verdict::Ok), ("audit publish b", Verdict::Warning)]);
    }
}
