//! Which hosts are pinned, and what apps are told of them.

use super::{good, only};
use crate::{PinHash, PinMode};

const PIN: &str = "sha256/MTEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn pins(rest: &str) -> String {
    format!("[[pins]]\nname = \"api\"\nhost = \"ai.example.com\"\n{rest}\n")
}

#[test]
fn a_pinned_host_has_a_key_that_follows() {
    let config = good(&pins(&format!("next = \"{PIN}\"\nmode = \"report\"")));
    let set = &config.pins[0];
    assert_eq!((set.mode, set.next.map(|pin| pin.to_string())), (PinMode::Report, Some(PIN.to_owned())));
    assert_eq!(good(&pins("next_file = \"next.pem\"")).pins[0].mode, PinMode::Enforce);
    for (wrong, expected) in [
        ("next = \"sha256/AAAA\"", "4:8 bad_value pins[0].next"),
        ("backup = [\"MTEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\"]", "4:11 bad_value pins[0].backup[0]"),
        ("mode = \"off\"", "4:8 bad_value pins[0].mode"),
        (&format!("next = \"{PIN}\"\nnext_file = \"a\""), "5:13 conflict pins[0].next_file"),
        (&format!("next = \"{PIN}\"\ncurrent = \"{PIN}\""), "4:8 conflict pins[0].next"),
    ] {
        assert_eq!(only(&pins(wrong)), expected, "{wrong}");
    }
    for wrong in
        ["AI.example.com", "https://ai.example.com", "ai.example.com:443", "ai.example.com/", "a b", "*.example.com"]
    {
        let text = format!("[[pins]]\nname = \"api\"\nhost = \"{wrong}\"\n");
        assert_eq!(only(&text), "3:8 bad_value pins[0].host", "{wrong}");
    }
    good("[[pins]]\nname = \"a\"\nhost = \"127.0.0.1\"\n[[pins]]\nname = \"b\"\nhost = \"[::1]\"\n");
}

#[test]
fn no_app_is_told_of_a_host_twice() {
    let app = |name: &str| {
        format!("[[app]]\nname = \"{name}\"\nios = {{ team = \"ABCDE12345\", bundle = \"com.example\" }}\n")
    };
    let two = |first: &str, second: &str| {
        let apps = [app("x"), app("y")].concat();
        format!("{apps}[[pins]]\nname = \"a\"\nhost = \"h\"\n{first}\n[[pins]]\nname = \"b\"\nhost = \"h\"\n{second}\n")
    };
    good(&two("apps = [\"x\"]", "apps = [\"y\"]"));
    for (first, second) in [("", ""), ("apps = [\"x\"]", ""), ("apps = [\"x\", \"y\"]", "apps = [\"y\"]")] {
        assert_eq!(only(&two(first, second)), "13:8 conflict pins[1].host");
    }
    assert_eq!(only(&two("apps = [\"z\"]", "apps = [\"y\"]")), "10:9 unknown_reference pins[0].apps[0]");
}

#[test]
fn what_apps_are_told_has_a_time() {
    let section = |rest: &str| format!("[app_config]\n{rest}\n");
    good(&section("lifetime = \"2h\"\nrefresh_after = \"1h\"\noffline = \"0s\"\nmin_sdk = \"1.20\""));
    for (wrong, expected) in [
        ("lifetime = \"91d\"", "2:12 bad_value app_config.lifetime"),
        ("lifetime = \"2h\"", "1:1 conflict app_config.refresh_after"),
        ("min_sdk = \"1.x\"", "2:11 bad_value app_config.min_sdk"),
        ("roots = [\"\"]", "2:10 bad_value app_config.roots[0]"),
    ] {
        assert_eq!(only(&section(wrong)), expected, "{wrong}");
    }
}

#[test]
fn a_pin_is_written_as_it_is_read() {
    let pin: PinHash = PIN.parse().unwrap();
    assert_eq!(pin.to_string(), PIN);
    assert_eq!(PinHash::new(*pin.as_bytes()), pin);
}
