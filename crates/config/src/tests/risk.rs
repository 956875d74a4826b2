//! Rules about instances of apps, and what is wrong with how they are said.

use base::Span;

use super::{bad, brief, good, only};
use crate::{AttestationLevel, FlagName, Grace, RiskAction, RiskMode};

fn set(rest: &str) -> String {
    format!("[[risk]]\nname = \"r\"\n{rest}\n")
}

fn rule(rule: &str) -> String {
    set(&format!("rules = [{rule}]"))
}

#[test]
fn a_set_of_rules_is_enforced_for_every_app_unless_it_says_otherwise() {
    let config = good(&set("minimum_level = \"hw\""));
    let one = &config.risks[0];
    assert!(one.apps.is_empty() && one.rules.is_empty() && one.canary.is_none());
    assert_eq!((one.mode, one.minimum_level), (RiskMode::Enforce, Some(AttestationLevel::Hw)));
    assert_eq!(one.grace.revocation_list_max_age, Span::secs(7 * 86_400));
    assert!(one.forced_pass.allowed);
    let config = good(&rule("{ when = { flag = \"os_patch_age\", gt = 540 }, do = \"annotate\", as = \"old-os\" }"));
    let only = &config.risks[0].rules[0];
    assert_eq!((only.action, only.annotation.as_ref().unwrap().as_str()), (RiskAction::Annotate, "old-os"));
}

#[test]
fn what_cannot_be_meant_is_refused_where_it_stands() {
    for (text, expected) in [
        ("{ when = { flag = \"frieda\" }, do = \"deny\" }", "3:28 bad_value risk[0].rules[0].when.flag"),
        ("{ when = { any = [\"frida\", \"root\"] }, do = \"deny\" }", "3:37 bad_value risk[0].rules[0].when.any[1]"),
        ("{ when = { flag = \"frida\" }, do = \"block\" }", "3:44 bad_value risk[0].rules[0].do"),
        ("{ when = { flag = \"frida\" } }", "3:10 missing_key risk[0].rules[0]"),
        ("{ when = {}, do = \"deny\" }", "3:19 missing_key risk[0].rules[0].when"),
        ("{ when = { platform = \"ios\" }, do = \"deny\" }", "3:19 missing_key risk[0].rules[0].when"),
        ("{ when = { flag = \"frida\", any = [\"vpn\"] }, do = \"deny\" }", "3:19 conflict risk[0].rules[0].when"),
        ("{ when = { flag = \"frida\", gt = 1 }, do = \"deny\" }", "3:37 bad_value risk[0].rules[0].when.gt"),
        ("{ when = { any = [\"vpn\"], gt = 1 }, do = \"deny\" }", "3:36 conflict risk[0].rules[0].when.gt"),
        ("{ when = { flag = \"category\" }, do = \"deny\" }", "3:19 missing_key risk[0].rules[0].when"),
        (
            "{ when = { flag = \"category\", in = [\"4\"] }, do = \"deny\" }",
            "3:46 bad_value risk[0].rules[0].when.in[0]",
        ),
        (
            "{ when = { flag = \"boot_selfsigned\", in = [4] }, do = \"deny\" }",
            "3:53 bad_value risk[0].rules[0].when.in[0]",
        ),
        (
            "{ when = { flag = \"os_patch_age\", gt = 5, lt = 6 }, do = \"deny\" }",
            "3:57 conflict risk[0].rules[0].when.lt",
        ),
        ("{ when = { any = [\"category\"] }, do = \"deny\" }", "3:28 bad_value risk[0].rules[0].when.any[0]"),
        ("{ when = { flag = \"vpn\" }, do = \"annotate\" }", "3:10 missing_key risk[0].rules[0]"),
        ("{ when = { flag = \"vpn\" }, do = \"annotate\", as = \"A B\" }", "3:59 bad_value risk[0].rules[0].as"),
        (
            "{ when = { flag = \"vpn\" }, do = \"annotate\", as = \"forced-pass\" }",
            "3:59 bad_value risk[0].rules[0].as",
        ),
        ("{ when = { flag = \"vpn\" }, do = \"deny\", as = \"x\" }", "3:50 conflict risk[0].rules[0].as"),
        ("{ when = { flag = \"vpn\" }, do = \"throttle\", to = {} }", "3:59 missing_key risk[0].rules[0].to"),
        (
            "{ when = { flag = \"vpn\" }, do = \"throttle\", to = { rpm = 0 } }",
            "3:67 bad_value risk[0].rules[0].to.rpm",
        ),
        ("{ when = { flag = \"vpn\" }, do = \"step_up\" }", "3:10 missing_key risk[0].rules[0]"),
        ("{ when = { flag = \"vpn\" }, do = \"step_up\", with = \"sms\" }", "3:60 bad_value risk[0].rules[0].with"),
        (
            "{ when = { flag = \"vpn\" }, do = \"step_up\", with = \"altcha\", for = \"1s\" }",
            "3:76 bad_value risk[0].rules[0].for",
        ),
        ("{ when = { flag = \"vpn\" }, do = \"deny\", for = \"1d\" }", "3:50 conflict risk[0].rules[0].for"),
        (
            "{ when = { flag = \"boot_failed\" }, do = \"deny\", unless = { flag = \"vpn\" } }",
            "3:76 conflict risk[0].rules[0].unless.flag",
        ),
        (
            "{ when = { flag = \"boot_failed\" }, do = \"deny\", unless = { any = [\"pi_virtual\", \"vpn\"] } }",
            "3:90 conflict risk[0].rules[0].unless.any[1]",
        ),
        (
            "{ when = { any = [\"vpn\", \"request_rate\"] }, do = \"deny\" }",
            "3:35 bad_value risk[0].rules[0].when.any[1]",
        ),
        ("{ when = { flag = \"vpn\" }, do = \"deny\", from = \"soon\" }", "3:57 bad_value risk[0].rules[0].from"),
        ("{ when = { flag = \"vpn\" }, do = \"deny\", from = \"2026-13-01\" }", "3:57 bad_value risk[0].rules[0].from"),
        (
            "{ when = { flag = \"boot_failed\" }, do = \"deny\", unless = {} }",
            "3:67 missing_key risk[0].rules[0].unless",
        ),
        (
            "{ when = { flag = \"boot_failed\" }, do = \"deny\", unless = { verified_boot_key_in = \"grapheneos\" } }",
            "3:92 bad_value risk[0].rules[0].unless.verified_boot_key_in",
        ),
    ] {
        assert_eq!(only(&rule(text)), expected, "{text}");
    }
    for (text, expected) in [
        ("mode = \"off\"", "3:8 bad_value risk[0].mode"),
        ("mode = \"observe\"\ncanary = 5", "4:10 conflict risk[0].canary"),
        ("canary = 0", "3:10 bad_value risk[0].canary"),
        ("minimum_level = \"strong\"", "3:17 bad_value risk[0].minimum_level"),
        ("grace = { revocation_list_max_age = \"8d\" }", "3:37 bad_value risk[0].grace.revocation_list_max_age"),
        ("grace = { config_update = \"31d\" }", "3:27 bad_value risk[0].grace.config_update"),
        ("grace = { reattestation = \"8d\" }", "3:27 bad_value risk[0].grace.reattestation"),
        ("forced_pass = { longest = \"31d\" }", "3:27 bad_value risk[0].forced_pass.longest"),
    ] {
        assert_eq!(only(&set(text)), expected, "{text}");
    }
    assert_eq!(only(&set("").repeat(2)), "5:8 duplicate_name risk[1].name");
}

#[test]
fn a_slip_in_a_flags_name_is_answered_with_the_name_meant() {
    let faults = bad(&rule("{ when = { flag = \"bootloader_unloked\" }, do = \"deny\" }"));
    assert_eq!(brief(&faults[0]), "3:28 bad_value risk[0].rules[0].when.flag");
    assert_eq!(faults[0].hint.as_deref(), Some("did you mean \"bootloader_unlocked\"?"));
    for flag in FlagName::all() {
        assert_eq!(flag.as_str().parse::<FlagName>().unwrap(), flag);
    }
}

#[test]
fn of_two_settings_for_grace_the_stricter_counts() {
    let short = Grace { revocation_list_max_age: Span::secs(3600), ..Grace::default() };
    assert_eq!(short.stricter(Grace::default()), short);
    assert_eq!(Grace::default().stricter(short), short);
    let patient = Grace { reattestation: Span::secs(3600), config_update: Span::secs(60), ..Grace::default() };
    let both = Grace { config_update: Span::secs(60), ..Grace::default() };
    assert_eq!(patient.stricter(Grace::default()), both);
}
