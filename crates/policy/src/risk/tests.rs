use base::{Money, Timestamp};
use config::{AttestationLevel as Level, FlagKind, FlagName, Platform, Risk, RiskAction, RiskThrottle, StepUp};
use proof::attest::{CATALOGUE, Flag, FlagValue, Provenance, provenance};
use proptest::prelude::*;

use super::{Counted, Decision, Rules, Signals, level, lot, reported, simulate};

const NOW: Timestamp = Timestamp::from_secs(1_795_219_200);

fn sets(text: &str) -> Vec<Risk> {
    config::parse(text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}")).risks
}

fn rules(rules: &str) -> Rules {
    Rules::compile(&sets(&format!("[[risk]]\nname = \"r\"\nrules = [{rules}]\n")))
}

fn signals(flags: &[Flag]) -> Signals {
    Signals {
        app: "chat-ios".to_owned(),
        platform: Platform::Ios,
        level: Level::HwStrong,
        required: Level::None,
        flags: flags.to_vec(),
        lot: 50,
        shown: Vec::new(),
        forced_until: None,
    }
}

fn set(name: &str) -> Flag {
    Flag::new(name, FlagValue::Set(true)).unwrap()
}

fn number(name: &str, value: i64) -> Flag {
    Flag::new(name, FlagValue::Number(value)).unwrap()
}

fn text(name: &str, value: &str) -> Flag {
    Flag::new(name, FlagValue::Text(value.to_owned())).unwrap()
}

fn decide(rules: &Rules, flags: &[Flag]) -> Decision {
    rules.decide(&signals(flags), NOW)
}

#[test]
fn the_flags_of_the_configuration_are_those_of_the_catalogue() {
    let here: Vec<(&str, bool)> = FlagName::all().map(|flag| (flag.as_str(), flag.is_reported())).collect();
    let there: Vec<(&str, bool)> =
        CATALOGUE.iter().map(|(name, provenance)| (*name, *provenance == Provenance::Reported)).collect();
    assert_eq!(here, there);
}

#[test]
fn the_levels_of_the_configuration_are_those_of_the_evidence() {
    for proved in proof::attest::Level::ALL {
        assert_eq!(level(proved).as_str(), proved.name());
    }
}

#[test]
fn the_severest_of_the_rules_that_match_is_done_and_words_and_limits_add_up() {
    let rules = rules(
        "{ when = { flag = \"vpn\" }, do = \"annotate\", as = \"vpn\" },
         { when = { flag = \"os_patch_age\", gt = 540 }, do = \"annotate\", as = \"old-os\" },
         { when = { flag = \"rkp_issue_count\", gt = 5 }, do = \"throttle\", to = { rpm = 9, usd_day = \"0.10 USD\" } },
         { when = { any = [\"ip_datacenter\", \"geo_jump\"] }, do = \"throttle\", to = { rpm = 5, usd_day = \"1 USD\" } },
         { when = { all = [\"frida\", \"debugger\"] }, do = \"deny\" }",
    );
    assert_eq!(decide(&rules, &[]).action, RiskAction::Allow);
    let one = decide(&rules, &[set("vpn"), number("os_patch_age", 541)]);
    assert_eq!((one.action, one.annotations.join(" ")), (RiskAction::Annotate, "old-os vpn".to_owned()));
    assert_eq!(one.reasons, ["os_patch_age", "vpn"]);
    assert_eq!(decide(&rules, &[number("os_patch_age", 540)]).action, RiskAction::Allow);
    let two = decide(&rules, &[set("vpn"), number("rkp_issue_count", 6), set("geo_jump")]);
    let least = RiskThrottle { rpm: Some(5), usd_day: Some(Money::from_nano_usd(100_000_000)) };
    assert_eq!((two.action, two.throttle), (RiskAction::Throttle, Some(least)));
    assert_eq!((two.reasons.as_slice(), two.annotations.len()), (&["geo_jump", "rkp_issue_count"][..], 1));
    assert!(two.lets_in());
    assert_eq!(decide(&rules, &[set("frida")]).action, RiskAction::Allow);
    let three = decide(&rules, &[set("frida"), set("debugger"), set("vpn")]);
    assert_eq!((three.action, three.reasons.join(" ")), (RiskAction::Deny, "debugger frida".to_owned()));
    assert!(!three.lets_in());
}

#[test]
fn a_value_is_compared_as_what_it_is() {
    let rules = rules(
        "{ when = { flag = \"category\", not_in = [4], platform = \"ios\" }, do = \"deny\" },
         { when = { flag = \"pi_app_access\", in = [\"UNKNOWN_CAPTURING\"] }, do = \"deny\" },
         { when = { flag = \"rkp_issue_count\", gt = 10, lt = 20 }, do = \"deny\" }",
    );
    let denied = |flags: &[Flag]| decide(&rules, flags).action == RiskAction::Deny;
    assert!(!denied(&[number("category", 4)]) && denied(&[number("category", 2)]));
    assert!(denied(&[text("pi_app_access", "KNOWN_INSTALLED"), text("pi_app_access", "UNKNOWN_CAPTURING")]));
    assert!(!denied(&[text("pi_app_access", "KNOWN_INSTALLED")]));
    assert!(!denied(&[number("rkp_issue_count", 10)]) && denied(&[number("rkp_issue_count", 11)]));
    assert!(denied(&[number("rkp_issue_count", 19)]) && !denied(&[number("rkp_issue_count", 20)]));
    let android = Signals { platform: Platform::Android, ..signals(&[number("category", 2)]) };
    assert_eq!(rules.decide(&android, NOW).action, RiskAction::Allow);
    assert!(!denied(&[Flag::new("category", FlagValue::Set(false)).unwrap()].map(|_| number("category", 4))));
}

#[test]
fn an_exception_counts_only_where_something_other_than_the_client_says_it() {
    let key = "ab".repeat(32);
    let rules = rules(&format!(
        "{{ when = {{ flag = \"boot_selfsigned\" }}, do = \"deny\", unless = {{ verified_boot_key_in = [\"{key}\"] }} }},
         {{ when = {{ flag = \"vpn\" }}, do = \"deny\", unless = {{ flag = \"captcha_score\", gt = 7 }} }}"
    ));
    assert_eq!(decide(&rules, &[text("boot_selfsigned", &key)]).action, RiskAction::Allow);
    assert_eq!(decide(&rules, &[text("boot_selfsigned", &"cd".repeat(32))]).action, RiskAction::Deny);
    assert_eq!(decide(&rules, &[set("vpn")]).action, RiskAction::Deny);
    assert_eq!(decide(&rules, &[set("vpn"), number("captcha_score", 8)]).action, RiskAction::Allow);
    assert_eq!(decide(&rules, &[set("vpn"), number("captcha_score", 7)]).action, RiskAction::Deny);
}

#[test]
fn observing_sets_do_nothing_and_say_what_they_would_have_done() {
    let both = Rules::compile(&sets(
        "[[risk]]\nname = \"new\"\nmode = \"observe\"\nminimum_level = \"hw-strong\"\n
         rules = [{ when = { flag = \"vpn\" }, do = \"deny\" }]\n
         [[risk]]\nname = \"old\"\napps = \"chat-*\"\nrules = [{ when = { flag = \"vpn\" }, do = \"annotate\", as = \"vpn\" }]\n
         [[risk]]\nname = \"others\"\napps = \"maps\"\nminimum_level = \"hw-strong\"\n",
    ));
    let found = both.decide(&Signals { level: Level::Hw, ..signals(&[set("vpn")]) }, NOW);
    assert_eq!((found.action, found.would), (RiskAction::Annotate, RiskAction::Deny));
    assert_eq!((found.annotations.as_slice(), found.reasons.as_slice()), (&["vpn".to_owned()][..], &["vpn"][..]));
    let matched: Vec<(Option<&str>, Option<usize>, bool)> =
        found.matched.iter().map(|m| (m.set.as_ref().map(base::Name::as_str), m.rule, m.enforced)).collect();
    assert_eq!(matched, [(Some("new"), None, false), (Some("new"), Some(0), false), (Some("old"), Some(0), true)]);
}

#[test]
fn a_canary_is_enforced_for_its_share_and_an_instance_stays_where_it_is() {
    let canary = Rules::compile(&sets("[[risk]]\nname = \"r\"\ncanary = 10\nminimum_level = \"hw-strong\"\n"));
    let weak = |lot: u8| Signals { level: Level::Web, lot, ..signals(&[]) };
    assert_eq!(canary.decide(&weak(9), NOW).action, RiskAction::Deny);
    let outside = canary.decide(&weak(10), NOW);
    assert_eq!((outside.action, outside.would), (RiskAction::Allow, RiskAction::Deny));
    let thumbprints = (0..2000).map(|n| format!("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4{n}"));
    let lots: Vec<u8> = thumbprints.map(|thumbprint| lot(&thumbprint)).collect();
    assert!(lots.iter().all(|lot| *lot < 100));
    let first = lots.iter().filter(|lot| **lot < 10).count();
    assert!((120..280).contains(&first), "{first} of 2000");
    assert_eq!(lot("a"), lot("a"));
}

#[test]
fn the_apps_own_minimum_holds_without_any_set() {
    let none = Rules::default();
    let weak = Signals { required: Level::HwStrong, level: Level::Hw, ..signals(&[]) };
    let found = none.decide(&weak, NOW);
    assert_eq!((found.action, found.reasons.as_slice()), (RiskAction::Deny, &["level_too_low"][..]));
    assert_eq!(none.decide(&Signals { level: Level::HwStrong, ..weak }, NOW).action, RiskAction::Allow);
}

#[test]
fn a_step_up_is_asked_for_until_it_is_shown_and_again_when_it_is_old() {
    let rules =
        rules("{ when = { flag = \"attest_unsupported\" }, do = \"step_up\", with = \"altcha\", for = \"1h\" }");
    let asked = signals(&[set("attest_unsupported")]);
    let found = rules.decide(&asked, NOW);
    assert_eq!((found.action, found.step_up.as_slice()), (RiskAction::StepUp, &[vec![StepUp::Altcha]][..]));
    assert!(!found.lets_in());
    let shown = |secs: i64| Signals {
        shown: vec![(StepUp::Altcha, Timestamp::from_secs(1_795_219_200 - secs))],
        ..asked.clone()
    };
    assert_eq!(rules.decide(&shown(3599), NOW).action, RiskAction::Allow);
    assert_eq!(rules.decide(&shown(3600), NOW).action, RiskAction::StepUp);
}

#[test]
fn a_forced_pass_lets_in_until_it_ends_is_seen_in_the_token_and_can_be_ruled_out() {
    let text = "[[risk]]\nname = \"r\"\nrules = [{ when = { flag = \"frida\" }, do = \"deny\" }]\n";
    let rules = Rules::compile(&sets(text));
    let until = |secs: i64| {
        let forced_until = Some(Timestamp::from_secs(1_795_219_200 + secs));
        Signals { forced_until, required: Level::HwStrong, level: Level::None, ..signals(&[set("frida")]) }
    };
    let found = rules.decide(&until(1), NOW);
    assert_eq!((found.action, found.would, found.forced), (RiskAction::Allow, RiskAction::Deny, true));
    assert_eq!(found.annotations, ["forced-pass"]);
    let ended = rules.decide(&until(0), NOW);
    assert_eq!((ended.action, ended.forced, ended.annotations.len()), (RiskAction::Deny, false, 0));
    let ruled_out = Rules::compile(&sets(&format!("{text}forced_pass = {{ allowed = false }}\n")));
    assert_eq!(ruled_out.decide(&until(1), NOW).action, RiskAction::Deny);
    assert!(!ruled_out.forced_pass("any").allowed);
    assert_eq!(rules.grace("any"), config::Grace::default());
}

#[test]
fn addresses_of_machines_for_rent_are_of_the_sets_that_judge_the_app() {
    let rules = Rules::compile(&sets(
        "[[risk]]\nname = \"a\"\napps = \"chat-*\"\ndatacenters = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n[[risk]]\nname = \"b\"\n",
    ));
    let listed = |app: &str, address: &str| rules.is_datacenter(app, address.parse().unwrap());
    assert!(listed("chat-ios", "192.0.2.9") && listed("chat-ios", "2001:db8::1"));
    assert!(!listed("chat-ios", "198.51.100.1") && !listed("maps", "192.0.2.9"));
    assert_ne!(rules.version(), Rules::compile(&[]).version());
}

#[test]
fn a_client_can_report_against_itself_only() {
    let said = serde_json::json!({
        "frida": true, "vpn": false, "bootloader_unlocked": true, "captcha_score": 9, "nonsense": true, "debugger": "yes",
    });
    let flags = reported(said.as_object().unwrap());
    assert_eq!(flags.iter().map(Flag::name).collect::<Vec<_>>(), ["frida"]);
}

#[test]
fn a_simulation_says_who_would_be_refused_and_why() {
    let rules = Rules::compile(&sets(
        "[[risk]]\nname = \"r\"\nmode = \"observe\"\nminimum_level = \"hw\"\n
         rules = [{ when = { flag = \"vpn\" }, do = \"annotate\", as = \"vpn\" }]\n",
    ));
    let counted = |level: Level, flags: &[Flag], done: RiskAction, version: &str, count: u64| Counted {
        signals: Signals { level, ..signals(flags) },
        version: version.to_owned(),
        done,
        count,
    };
    let decided = [
        counted(Level::HwStrong, &[], RiskAction::Allow, "1.0", 100),
        counted(Level::HwStrong, &[set("vpn")], RiskAction::Annotate, "1.0", 7),
        counted(Level::Web, &[set("vpn")], RiskAction::Annotate, "0.9", 5),
        counted(Level::Web, &[], RiskAction::Deny, "0.9", 2),
    ];
    let report = simulate(&rules, &decided, NOW);
    assert_eq!(report.decisions, 114);
    assert_eq!(report.before, [("allow", 100), ("annotate", 12), ("deny", 2)].into());
    assert_eq!(report.after, [("allow", 100), ("annotate", 7), ("deny", 7)].into());
    let changed: Vec<(&str, &str, u64)> = report.changed.iter().map(|c| (c.from, c.to, c.count)).collect();
    assert_eq!(changed, [("annotate", "deny", 5)]);
    let first = &report.reasons[0];
    assert_eq!((first.reason, first.action, first.version.as_str()), ("level_too_low", "deny", "0.9"));
    assert_eq!((first.count, first.newly), (7, 5));
}

#[test]
fn a_rule_that_begins_later_observes_until_then() {
    let day = "{ when = { flag = \"vpn\" }, do = \"deny\", from = \"2026-12-01\" }";
    let rules = rules(day);
    let from = Timestamp::parse_rfc3339("2026-12-01T00:00:00Z").unwrap();
    let before = rules.decide(&signals(&[set("vpn")]), from.minus(std::time::Duration::from_millis(1)));
    assert_eq!((before.action, before.would), (RiskAction::Allow, RiskAction::Deny));
    assert_eq!(rules.decide(&signals(&[set("vpn")]), from).action, RiskAction::Deny);
}

/// A rule that has no faults, about one or more flags.
fn any_rule() -> impl Strategy<Value = String> {
    let names: Vec<&'static str> =
        FlagName::all().filter(|flag| flag.kind() != FlagKind::Number).map(FlagName::as_str).collect();
    let exceptions: Vec<&'static str> =
        FlagName::all().filter(|f| f.kind() != FlagKind::Number && !f.is_reported()).map(FlagName::as_str).collect();
    let name = || prop::sample::select(names.clone());
    let when = prop_oneof![
        name().prop_map(|name| format!("{{ flag = \"{name}\" }}")),
        prop::collection::hash_set(name(), 1..4)
            .prop_map(|names| format!("{{ any = {names:?} }}").replace(['{', '}'], "")),
        prop::collection::hash_set(name(), 1..3)
            .prop_map(|names| format!("{{ all = {names:?} }}").replace(['{', '}'], "")),
        (1i64..9).prop_map(|least| format!("{{ flag = \"rkp_issue_count\", gt = {least} }}")),
    ]
    .prop_map(|when| match when.trim().split_once(" = ") {
        Some((key @ ("any" | "all"), list)) => format!("{{ {key} = [{}] }}", list.trim()),
        _ => when,
    });
    let what = prop_oneof![
        Just("\"deny\"".to_owned()),
        Just("\"allow\"".to_owned()),
        (0..3).prop_map(|n| format!("\"annotate\", as = \"w{n}\"")),
        (1..9).prop_map(|n| format!("\"throttle\", to = {{ rpm = {n} }}")),
        (1..9).prop_map(|n| format!("\"throttle\", to = {{ usd_day = \"{n} USD\" }}")),
        Just("\"step_up\", with = \"altcha\"".to_owned()),
    ];
    let unless = prop::option::of(prop::sample::select(exceptions));
    (when, what, unless).prop_map(|(when, what, unless)| match unless {
        Some(flag) => format!("{{ when = {when}, do = {what}, unless = {{ flag = \"{flag}\" }} }}"),
        None => format!("{{ when = {when}, do = {what} }}"),
    })
}

fn any_flag() -> impl Strategy<Value = Flag> {
    let names: Vec<&'static str> = CATALOGUE.iter().map(|(name, _)| *name).collect();
    (prop::sample::select(names), 0i64..9, any::<bool>()).prop_map(|(name, number, so)| {
        let value = match name.parse::<FlagName>().unwrap().kind() {
            FlagKind::Set => FlagValue::Set(so),
            FlagKind::Number => FlagValue::Number(number),
            FlagKind::Text => FlagValue::Text(number.to_string()),
        };
        Flag::new(name, value).unwrap()
    })
}

fn reported_flag() -> impl Strategy<Value = Flag> {
    let names: Vec<&'static str> =
        CATALOGUE.iter().filter(|(_, p)| *p == Provenance::Reported).map(|(name, _)| *name).collect();
    // Also such as no client can send through `reported`.
    let value = prop_oneof![
        any::<bool>().prop_map(FlagValue::Set),
        any::<i64>().prop_map(FlagValue::Number),
        "[a-z]{0,4}".prop_map(FlagValue::Text)
    ];
    (prop::sample::select(names), value).prop_map(|(name, value)| Flag::new(name, value).unwrap())
}

/// Whether `after` is in no way better for the instance than `before`.
fn no_better(before: &Decision, after: &Decision) -> bool {
    let (old, new) = (before.throttle, after.throttle);
    let limits = match (old, new) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(old), Some(new)) => {
            old.rpm.is_none_or(|old| new.rpm.is_some_and(|new| new <= old))
                && old.usd_day.is_none_or(|old| new.usd_day.is_some_and(|new| new <= old))
        }
    };
    limits
        && after.action >= before.action
        && after.would >= before.would
        && after.step_up.len() >= before.step_up.len()
        && before.annotations.iter().all(|word| after.annotations.contains(word))
}

proptest! {
    #[test]
    fn what_a_client_says_of_itself_never_makes_a_decision_better(
        texts in prop::collection::vec((prop::collection::vec(any_rule(), 0..6), any::<bool>()), 1..3),
        flags in prop::collection::vec(any_flag(), 0..8),
        said in prop::collection::vec(reported_flag(), 1..4),
        shown in any::<bool>(),
        at in 0usize..8,
    ) {
        let text: Vec<String> = texts.iter().enumerate().map(|(index, (rules, observe))| {
            let mode = if *observe { "observe" } else { "enforce" };
            format!("[[risk]]\nname = \"r{index}\"\nmode = \"{mode}\"\nrules = [{}]\n", rules.join(", "))
        }).collect();
        let text = text.concat();
        let rules = Rules::compile(&sets(&text));
        let shown = if shown { vec![(StepUp::Altcha, NOW)] } else { Vec::new() };
        let before = Signals { shown, ..signals(&flags) };
        let mut after = before.clone();
        let at = at.min(after.flags.len());
        after.flags.splice(at..at, said);
        let (before, after) = (rules.decide(&before, NOW), rules.decide(&after, NOW));
        prop_assert!(no_better(&before, &after), "{text}\n{before:#?}\n{after:#?}");
    }

    #[test]
    fn what_a_client_sends_gives_only_flags_it_may_report(names in prop::collection::vec("[a-z_]{1,20}|frida|category", 0..20)) {
        let said = names.into_iter().map(|name| (name, serde_json::Value::Bool(true))).collect();
        prop_assert!(reported(&said).iter().all(|flag| provenance(flag.name()) == Some(Provenance::Reported)));
    }
}
