use base::{Clock as _, FakeClock, Timestamp};
use config::{AttestationLevel, Platform, RiskAction, StepUp};
use policy::risk::{Rules, Signals};
use proof::attest::{Flag, FlagValue};
use proptest::prelude::*;

use super::{Judge, Step, Suspect, decided, known};
use crate::fixture::Fixture;
use crate::operations::{GiveForcedPass, SimulateRisk};

const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

fn rules(text: &str) -> Rules {
    Rules::compile(&config::parse(text).unwrap().risks)
}

fn set(name: &str) -> Flag {
    Flag::new(name, FlagValue::Set(true)).unwrap()
}

fn suspect(flags: &[Flag]) -> Suspect<'static> {
    Suspect {
        app: "chat-ios",
        jkt: JKT,
        platform: Platform::Ios,
        level: AttestationLevel::HwStrong,
        required: AttestationLevel::None,
        version: Some("1.2"),
        flags: flags.to_vec(),
        shown: None,
    }
}

const DENY_FRIDA: &str = "[[risk]]\nname = \"r\"\nrules = [{ when = { flag = \"frida\" }, do = \"deny\" }]\n";

#[tokio::test]
async fn what_was_decided_is_counted_by_what_was_known_and_names_no_instance() {
    let fixture = Fixture::new().await;
    let operations = &fixture.operations;
    operations.judge().set_rules(rules(DENY_FRIDA));
    for (flags, times) in [(vec![], 3), (vec![set("frida")], 2)] {
        for _ in 0..times {
            operations.judge().judge(operations.store(), suspect(&flags), Step::Token).await.unwrap();
        }
    }
    let listed = operations.risk_decisions(None, None).await.unwrap().items;
    let rows: Vec<(&str, &str, u64)> =
        listed.iter().map(|row| (row.action.as_str(), row.version.as_str(), row.count)).collect();
    assert_eq!(rows, [("allow", "1.2", 3), ("deny", "1.2", 2)]);
    assert_eq!(listed[1].reasons, ["frida"]);
    assert!(!serde_json::to_string(&listed).unwrap().contains(JKT));
    operations.judge().judge(operations.store(), suspect(&[]), Step::Token).await.unwrap();
    let again = operations.risk_decisions(Some("chat-ios"), Some("1d")).await.unwrap().items;
    assert_eq!(again[0].count, 4, "the same row");
    assert!(operations.risk_decisions(Some("other"), None).await.unwrap().items.is_empty());
    let counts = operations.judge().counts().decisions();
    let denied: u64 = counts.iter().filter(|(kind, _)| kind.reason == "frida").map(|(_, count)| count).sum();
    assert_eq!(denied, 2);
}

#[tokio::test]
async fn changed_rules_are_asked_about_what_was_decided() {
    let fixture = Fixture::new().await;
    let operations = &fixture.operations;
    operations.judge().set_rules(rules(DENY_FRIDA));
    for flags in [vec![], vec![set("vpn")], vec![set("vpn")], vec![set("frida")]] {
        operations.judge().judge(operations.store(), suspect(&flags), Step::Enroll).await.unwrap();
    }
    let question = |risks: serde_json::Value| -> SimulateRisk {
        serde_json::from_value(serde_json::json!({ "risks": risks, "app": "chat-ios", "since": "1d" })).unwrap()
    };
    let changed = serde_json::json!([
        { "name": "new", "mode": "observe", "rules": [{ "when": { "flag": "vpn" }, "do": "deny" }] }
    ]);
    let report = operations.risk_simulate(&question(changed)).await.unwrap();
    assert_eq!(report.decisions, 4);
    assert_eq!(report.before, serde_json::json!({ "allow": 3, "deny": 1 }));
    assert_eq!(report.after, serde_json::json!({ "allow": 2, "deny": 2 }));
    assert_eq!(report.reasons[0]["reason"], "vpn");
    assert_eq!(report.reasons[0]["newly"], 2);
    let wrong = serde_json::json!([{ "name": "new", "rules": [{ "when": { "flag": "nonsense" }, "do": "deny" }] }]);
    assert!(operations.risk_simulate(&question(wrong)).await.is_err());
}

#[tokio::test]
async fn a_forced_pass_lets_one_instance_in_until_it_ends_and_is_counted() {
    let fixture = Fixture::new().await;
    let operations = &fixture.operations;
    operations.judge().set_rules(rules(DENY_FRIDA));
    let judge = async |jkt: &'static str| {
        let one = Suspect { jkt, ..suspect(&[set("frida")]) };
        operations.judge().judge(operations.store(), one, Step::Token).await.unwrap()
    };
    assert_eq!(judge(JKT).await.action, RiskAction::Deny);
    let give = |lasts: &str, reason: &str, jkt: &str| GiveForcedPass {
        app: "chat-ios".to_owned(),
        jkt: jkt.to_owned(),
        lasts: lasts.to_owned(),
        reason: reason.to_owned(),
    };
    for (wrong, param) in
        [(give("31d", "why", JKT), "for"), (give("1d", " ", JKT), "reason"), (give("1d", "why", "x"), "jkt")]
    {
        let error = operations.forced_pass_give(&wrong, "ann").await.unwrap_err();
        assert!(matches!(error, crate::OperationError::Value { param: found, .. } if found == param), "{error}");
    }
    let given = operations.forced_pass_give(&give("1d", "a test phone", JKT), "ann").await.unwrap();
    assert!(given.in_force);
    let let_in = judge(JKT).await;
    assert_eq!((let_in.action, let_in.annotations.join(" ")), (RiskAction::Allow, "forced-pass".to_owned()));
    assert_eq!(judge("another-key").await.action, RiskAction::Deny);
    let listed = operations.forced_pass_list(&store::Page::first(10)).await.unwrap().items;
    assert_eq!((listed.len(), listed[0].uses, listed[0].by.as_str()), (1, 1, "ann"));
    fixture.clock.advance(std::time::Duration::from_hours(24));
    assert_eq!(judge(JKT).await.action, RiskAction::Deny, "it ends by itself");
    let again = operations.forced_pass_give(&give("1d", "again", JKT), "ann").await.unwrap();
    assert_eq!(judge(JKT).await.action, RiskAction::Allow);
    operations.forced_pass_end(&again.id, "bob").await.unwrap();
    assert_eq!(judge(JKT).await.action, RiskAction::Deny, "it was taken back");
    assert!(operations.forced_pass_end(&again.id, "bob").await.is_err());
    assert_eq!(operations.judge().counts().forced(), [("chat-ios".to_owned(), 2)]);
    operations.judge().set_rules(rules(&format!("{DENY_FRIDA}forced_pass = {{ allowed = false }}\n")));
    assert!(operations.forced_pass_give(&give("1d", "why", JKT), "ann").await.is_err());
}

#[tokio::test]
async fn decisions_that_cannot_be_kept_are_kept_the_next_time() {
    let fixture = Fixture::new().await;
    let (judge, store) = (Judge::default(), fixture.operations.store().clone());
    judge.judge(&store, suspect(&[]), Step::Token).await.unwrap();
    let other = Fixture::new().await;
    let closed = other.operations.store().clone();
    closed.close().await;
    assert!(judge.save(&closed).await.is_err());
    judge.save(&store).await.unwrap();
    let rows = store.risk_decisions().since(None, 0, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.count).collect::<Vec<_>>(), [1]);
}

proptest! {
    #[test]
    fn what_is_kept_is_decided_again_as_it_was(numbers in prop::collection::vec((0usize..70, -5i64..5000), 0..12)) {
        let names: Vec<&str> = proof::attest::CATALOGUE.iter().map(|(name, _)| *name).collect();
        let flags: Vec<Flag> = numbers.iter().filter_map(|(index, number)| {
            let name = names.get(*index)?;
            let value = match name.parse::<config::FlagName>().unwrap().kind() {
                config::FlagKind::Set => FlagValue::Set(number % 2 == 0),
                config::FlagKind::Number => FlagValue::Number(number / 10),
                config::FlagKind::Text => FlagValue::Text(number.to_string()),
            };
            Flag::new(name, value)
        }).collect();
        let now = FakeClock::at(Timestamp::from_secs(1_795_219_200)).now();
        let signals = Signals {
            app: "a".to_owned(),
            platform: Platform::Android,
            level: AttestationLevel::Hw,
            required: AttestationLevel::Web,
            flags,
            lot: 0,
            shown: vec![(StepUp::Altcha, now)],
            forced_until: None,
        };
        let row = store::RiskDecision {
            day: 1,
            app: "a".to_owned(),
            version: String::new(),
            step: "token".to_owned(),
            known: known(&signals, now),
            action: "allow".to_owned(),
            would: "allow".to_owned(),
            reasons: Vec::new(),
            count: 7,
        };
        let again = decided(&row, now).unwrap();
        prop_assert_eq!(known(&again.signals, now), row.known, "one form only");
        let rules = rules(
            "[[risk]]\nname = \"r\"\nminimum_level = \"hw\"\nrules = [
               { when = { any = [\"frida\", \"boot_failed\"] }, do = \"deny\" },
               { when = { flag = \"os_patch_age\", gt = 99 }, do = \"annotate\", as = \"old\" },
               { when = { flag = \"vpn\" }, do = \"step_up\", with = \"altcha\" }]\n",
        );
        prop_assert_eq!(rules.decide(&signals, now).action, rules.decide(&again.signals, now).action);
    }
}

#[tokio::test]
async fn one_installation_cannot_fill_the_history_with_what_it_makes_up() {
    let fixture = Fixture::new().await;
    let operations = &fixture.operations;
    operations.judge().set_rules(rules(DENY_FRIDA));
    let judge = async |suspect: Suspect<'static>| {
        operations.judge().judge(operations.store(), suspect, Step::Token).await.unwrap();
    };
    for number in 0..200 {
        let text = |name: &str| Flag::new(name, FlagValue::Text(format!("made up {number}"))).unwrap();
        let number = Flag::new("emulator", FlagValue::Number(number)).unwrap();
        judge(suspect(&[text("rooted"), number])).await;
    }
    for number in 0..200 {
        let version: &'static str = String::leak(format!("1.{number}"));
        judge(Suspect { version: Some(version), ..suspect(&[]) }).await;
        judge(Suspect { version: Some("of \n another form"), ..suspect(&[]) }).await;
    }
    judge(Suspect { jkt: "another", version: Some("2.0"), ..suspect(&[]) }).await;
    let rows = operations.risk_decisions(None, None).await.unwrap().items;
    let reported: Vec<u64> =
        rows.iter().filter(|row| row.known.to_string().contains("rooted")).map(|row| row.count).collect();
    assert_eq!(reported, [200], "what is reported is one row, whatever is said with it");
    assert!(rows.len() <= 66, "{}", rows.len());
    assert!(rows.iter().any(|row| row.version == "2.0"), "another has its own share");
    assert!(rows.iter().any(|row| row.version == "other" && row.count == 200));
    assert!(operations.judge().counts().left_out() >= 136);
}
