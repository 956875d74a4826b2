//! Apps: what is said about a wrong one.

use super::{bad, good, only};
use crate::{App, AppProof, AttestationLevel, EvidenceKind, dotted_version};

const IOS: &str = "ios = { team = \"ABCDE12345\", bundle = \"com.example.chat\" }\n";
const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn app(rest: &str) -> String {
    format!("[[app]]\nname = \"chat\"\n{rest}\n")
}

fn read(rest: &str) -> App {
    good(&app(rest)).apps.remove(0)
}

/// Code and path of the one fault.
fn code(text: &str) -> String {
    only(text).split_once(' ').unwrap().1.to_owned()
}

#[test]
fn an_app_says_what_its_installations_prove_themselves_with() {
    let ios = read(IOS);
    assert_eq!(ios.evidence(), [EvidenceKind::AppleAppAttest]);
    assert_eq!((ios.minimum_level(), ios.proof), (AttestationLevel::HwStrong, AppProof::Signature));
    assert_eq!(ios.ios.unwrap().app_id(), "ABCDE12345.com.example.chat");
    let android = read(&format!("android = {{ package = \"com.example.chat\", digests = [\"{DIGEST}\"] }}"));
    assert_eq!(android.android.as_ref().unwrap().digests[0].bytes()[..2], [0x9f, 0x86]);
    assert_eq!(android.reattest_after(EvidenceKind::AndroidKey), base::Span::secs(14 * 86_400));
    assert_eq!(android.reattest_after(EvidenceKind::Altcha), base::Span::secs(86_400));
    assert_eq!(code(&app("")), "missing_key app[0]");
}

#[test]
fn each_key_of_an_app_is_checked() {
    let team = |team: &str| format!("ios = {{ team = \"{team}\", bundle = \"com.example.chat\" }}");
    let ios = |rest: &str| format!("ios = {{ team = \"ABCDE12345\", bundle = \"com.example.chat\", {rest} }}");
    let android = |rest: &str| format!("android = {{ package = \"p\", digests = [\"{DIGEST}\"], {rest} }}");
    for (wrong, fault) in [
        (team("abcde12345"), "bad_value app[0].ios.team"),
        (team("ABCDE1234"), "bad_value app[0].ios.team"),
        ("ios = { team = \"ABCDE12345\", bundle = \"a b\" }".into(), "bad_value app[0].ios.bundle"),
        (
            "ios = { team = \"ABCDE12345\", bundle = \"a\", min_version = \"1.x\" }".into(),
            "bad_value app[0].ios.min_version",
        ),
        ("android = { package = \"p\", digests = [\"9f\"] }".into(), "bad_value app[0].android.digests[0]"),
        (android(&format!("boot_keys = [\"{DIGEST}\", \"{DIGEST}\"]")), "bad_value app[0].android.boot_keys[1]"),
        (android("levels = [\"software\"]"), "bad_value app[0].android.levels[0]"),
        (android("play_integrity = {}"), "missing_key app[0].android.play_integrity"),
        (android("play_integrity = { decryption_key = { env = \"A\" } }"), "missing_key app[0].android.play_integrity"),
        (
            android("play_integrity = { decryption_key = { env = \"A\" }, service_account = { env = \"B\" } }"),
            "conflict app[0].android.play_integrity",
        ),
        (
            android("play_integrity = { service_account = { env = \"B\" }, url = \"http://127.0.0.1:9\" }"),
            "bad_value app[0].android.play_integrity.url",
        ),
        (
            ios("device_check = { key = { env = \"A\" }, key_id = \"short\" }"),
            "bad_value app[0].ios.device_check.key_id",
        ),
        (
            ios("device_check = { key = { env = \"A\" }, key_id = \"ABC123DEFG\", mark_revoked = 2 }"),
            "bad_value app[0].ios.device_check.mark_revoked",
        ),
        (
            ios("device_check = { key = { env = \"A\" }, key_id = \"ABC123DEFG\", url = \"http://a.example\" }"),
            "bad_value app[0].ios.device_check.url",
        ),
        (format!("{IOS}token_ttl = \"10m\""), "bad_value app[0].token_ttl"),
        (format!("{IOS}reattest_after = \"1m\""), "bad_value app[0].reattest_after"),
        (format!("{IOS}minimum_level = \"none\""), "bad_value app[0].minimum_level"),
        (format!("{IOS}user_token = \"Authorization\""), "conflict app[0].user_token"),
        (format!("{IOS}test_roots = {{}}"), "missing_key app[0].test_roots"),
        ("approov = {}".into(), "missing_key app[0].approov"),
        ("approov = { secret = { env = \"A\" }, jwks_file = \"f\" }".into(), "conflict app[0].approov"),
        ("approov = { secret = { env = \"A\" } }\nminimum_level = \"hw\"".into(), "conflict app[0].minimum_level"),
        ("firebase = { project = \"chat\", apps = [\"a\"] }".into(), "bad_value app[0].firebase.project"),
        (format!("{IOS}[app.ios2]"), "unknown_key app[0].ios2"),
    ] {
        assert_eq!(code(&app(&wrong)), fault, "{wrong}");
    }
}

#[test]
fn pages_of_an_app_are_let_in_by_cors_and_have_something_to_show() {
    let web = |rest: &str| app(&format!("[app.web]\norigins = [\"https://app.example.com\"]\n{rest}"));
    let cors = "[cors]\norigins = [\"https://app.example.com\"]\n";
    good(&format!("{cors}{}", web("altcha = {}")));
    assert_eq!(code(&web("altcha = {}")), "conflict app[0].web.origins[0]");
    assert_eq!(code(&format!("{cors}{}", web(""))), "missing_key app[0].web");
    let private = "turnstile = { secret = { env = \"T\" }, url = \"http://127.0.0.1:9/\" }";
    assert_eq!(code(&format!("{cors}{}", web(private))), "bad_value app[0].web.turnstile.url");
    assert_eq!(
        code(&format!("{cors}{}", web("turnstile = { secret = \"x\" }"))),
        "secret_literal app[0].web.turnstile.secret"
    );
}

#[test]
fn simulated_devices_are_not_let_in_from_outside() {
    let roots = app(&format!("{IOS}test_roots = {{ apple = \"root.pem\" }}"));
    assert!(good(&roots).apps[0].is_for_development());
    let outside = format!("[server]\nexternal_url = \"https://ai.example.com\"\n{roots}");
    assert_eq!(code(&outside), "conflict app[0].test_roots");
}

#[test]
fn a_client_of_the_same_name_proves_itself_by_the_app() {
    let client = |auth: &str| format!("{}[[client]]\nname = \"chat\"\nauth = {{ {auth} }}\n", app(IOS));
    good(&client("method = \"attestation\""));
    assert_eq!(
        code(&client("method = \"client_secret\", hash = \"sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"")),
        "conflict app[0].name"
    );
    let lonely = "[[client]]\nname = \"chat\"\nauth = { method = \"attestation\" }\n";
    assert_eq!(code(lonely), "unknown_reference client[0].name");
    let granted = format!("{}grants = [\"client_credentials\"]\n", client("method = \"attestation\""));
    assert_eq!(code(&granted), "conflict client[0].grants");
    assert_eq!(bad(&format!("{}{}", app(IOS), app(IOS))).len(), 1);
}

#[test]
fn versions_are_compared_by_their_numbers() {
    assert!(dotted_version("1.10") > dotted_version("1.9.3"));
    assert_eq!(dotted_version("1.2"), dotted_version("1.2.0"));
    assert_eq!(dotted_version("1.2b"), None);
}

#[test]
fn secrets_of_an_app_are_found_with_where_they_are_sent() {
    let text = format!(
        "[cors]\norigins = [\"https://app.example.com\"]\n{}",
        app("[app.web]\norigins = [\"https://app.example.com\"]\nhcaptcha = { secret = { env = \"H\" } }")
    );
    let config = good(&text);
    assert!(config.secret_refs().iter().any(|(place, _)| place == "app.chat.web.hcaptcha.secret"));
    let asked = config.apps[0].asked_with("web.hcaptcha.secret");
    assert_eq!(asked.as_deref(), Some("https://api.hcaptcha.com/siteverify"));
    assert_eq!(config.apps[0].asked_with("approov.secret"), None);
}

#[test]
fn a_rule_about_what_nobody_is_asked_is_refused() {
    let rule = |apps: &str| {
        format!(
            "[[risk]]\nname = \"r\"\n{apps}\nrules = [{{ when = {{ flag = \"devicecheck_bits\", gt = 0 }}, do = \"deny\" }}]\n"
        )
    };
    let asked = "ios = { team = \"ABCDE12345\", bundle = \"a\", device_check = { key = { env = \"A\" }, key_id = \"ABC123DEFG\" } }";
    let fault = "conflict risk[0].rules[0].when.flag";
    assert_eq!(code(&format!("{}{}", app(IOS), rule(""))), fault);
    good(&format!("{}{}", app(asked), rule("")));
    let metric =
        |text: String| text.replace("devicecheck_bits", "fraud_metric").replace("device_check", "fraud_metric");
    assert_eq!(code(&metric(format!("{}{}", app(IOS), rule("")))), fault);
    good(&metric(format!("{}{}", app(asked), rule(""))));
    good(&format!("{}{}", app(asked), rule("apps = [\"ch*\"]")));
    let other = "[[app]]\nname = \"other\"\nios = { team = \"ABCDE12345\", bundle = \"b\" }\n";
    good(&format!("{}{other}{}", app(asked), rule("")));
    assert_eq!(code(&format!("{}{other}{}", app(asked), rule("apps = [\"other\"]"))), fault);
}

#[test]
fn a_step_up_is_one_that_an_app_can_show() {
    let rule = |with: &str| {
        format!(
            "[[risk]]\nname = \"r\"\nrules = [{{ when = {{ flag = \"vpn\" }}, do = \"step_up\", with = {with} }}]\n"
        )
    };
    good(&format!("{}{}", app(IOS), rule("\"altcha\"")));
    assert_eq!(
        code(&format!("{}{}", app(IOS), rule("[\"altcha\", \"turnstile\"]"))),
        "conflict risk[0].rules[0].with[1]"
    );
    let web = "[app.web]\norigins = [\"https://app.example.com\"]\nturnstile = { secret = { env = \"T\" }, step_up_only = true }\n";
    let cors = "[cors]\norigins = [\"https://app.example.com\"]\n";
    let config = good(&format!("{cors}{}{}", app(&format!("{IOS}{web}")), rule("\"turnstile\"")));
    // It opens no door for browsers.
    assert_eq!(config.apps[0].evidence(), [EvidenceKind::AppleAppAttest]);
    assert_eq!(config.apps[0].minimum_level(), AttestationLevel::HwStrong);
}
