//! What an operator should know of certificates and pins.

use base::{Clock, Timestamp};
use config::Config;
use serde_json::Value;

use super::{Findings, Verdict};
use crate::server::{certificate_end, days_left};

/// Certificates that end soon, and pinned hosts that apps would be lost with.
pub(super) async fn look(config: &Config, clock: &dyn Clock, findings: &mut Findings) {
    certificates(config, clock.now(), findings);
    configured(config, findings);
    if config.pins.is_empty() {
        return;
    }
    let socket = config.server.data_dir.join(control::admin::SOCKET_NAME);
    if let Ok(readiness) = crate::cli::readiness(&socket).await {
        fitting(&readiness, findings);
    }
}

fn certificates(config: &Config, now: Timestamp, findings: &mut Findings) {
    for (what, tls) in [("certificate", &config.server.tls), ("admin certificate", &config.server.admin_tls)] {
        let Some(end) = tls.as_ref().and_then(|tls| certificate_end(&tls.cert)) else { continue };
        let seen = format!("ends {}", end.rfc3339());
        match days_left(end, now) {
            None => findings.ok(what, seen),
            Some(0) => findings.add(what, Verdict::Failure, seen, Some("renew it: clients refuse it")),
            Some(_) => {
                findings.add(what, Verdict::Warning, seen, Some("renew it, with the same key where it is pinned"));
            }
        }
    }
}

fn configured(config: &Config, findings: &mut Findings) {
    if config.pins.is_empty() {
        return;
    }
    let what = "what apps are told";
    match config.app_config.roots.len() {
        0 => {
            let todo = "vouchgate pins root new --out FILE, offline; name its public half in [app_config] roots";
            findings.add(what, Verdict::Warning, "there is no root key, so no pins are published", Some(todo));
        }
        1 => {
            let todo = "make a spare, build it into the app, and keep it elsewhere";
            findings.add(what, Verdict::Warning, "there is one root key: with it all apps are lost", Some(todo));
        }
        _ => {}
    }
    for set in config.pins.iter().filter(|set| set.next.is_none() && set.next_file.is_none()) {
        let seen = format!("the pin set {} has no next key", set.name);
        findings.add(what, Verdict::Warning, seen, Some("make one and name it in next_file, or nothing is published"));
    }
}

/// What a running server says of the hosts.
fn fitting(readiness: &Value, findings: &mut Findings) {
    let checks = readiness.get("checks").and_then(Value::as_array).into_iter().flatten();
    for check in checks {
        let text = |name: &str| check.get(name).and_then(Value::as_str).unwrap_or_default();
        let Some(host) = text("name").strip_prefix("pins:") else { continue };
        let what = format!("pins of {host}");
        if check.get("ok").and_then(Value::as_bool) == Some(true) {
            findings.ok(what, text("detail"));
        } else {
            findings.add(what, Verdict::Failure, text("detail"), Some("vouchgate cert plan says what to do"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::FakeClock;
    use serde_json::json;

    fn found(findings: &Findings) -> Vec<(&str, Verdict)> {
        findings.0.iter().map(|finding| (finding.seen.as_str(), finding.verdict)).collect()
    }

    #[tokio::test]
    async fn pins_that_cannot_be_published_and_certificates_that_end_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["ai.example.com".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2026, 12, 1);
        std::fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
        let text = format!(
            "[server]\ndata_dir = {:?}\ntls = {{ cert = {:?}, key = {:?} }}\n[[pins]]\nname = \"api\"\nhost = \"ai.example.com\"\n",
            dir.path().display().to_string(),
            cert.display().to_string(),
            key.display().to_string()
        );
        let config = config::parse(&text).unwrap();
        for (moment, verdict) in [
            ("2026-10-01T00:00:00Z", Verdict::Ok),
            ("2026-11-20T00:00:00Z", Verdict::Warning),
            ("2026-12-01T00:00:00Z", Verdict::Failure),
        ] {
            let mut findings = Findings::default();
            look(&config, &FakeClock::at(Timestamp::parse_rfc3339(moment).unwrap()), &mut findings).await;
            let expected = [
                ("ends 2026-12-01T00:00:00.000Z", verdict),
                ("there is no root key, so no pins are published", Verdict::Warning),
                ("the pin set api has no next key", Verdict::Warning),
            ];
            assert_eq!(found(&findings), expected);
        }
    }

    #[test]
    fn a_host_that_apps_refuse_is_a_failure() {
        let mut findings = Findings::default();
        let checks = json!([
            { "name": "store", "ok": true },
            { "name": "pins:a", "ok": true, "detail": "fits" },
            { "name": "pins:b", "ok": false, "detail": "refused" },
        ]);
        fitting(&json!({ "checks": checks }), &mut findings);
        assert_eq!(found(&findings), [("fits", Verdict::Ok), ("refused", Verdict::Failure)]);
    }
}
