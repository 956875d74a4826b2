//! The flags a rule may speak about, and what each can say.

use std::fmt;
use std::str::FromStr;

use crate::suggest;
use crate::text::{ValueError, text_value};

/// What a flag says beside its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagKind {
    /// It is so, or it is not there.
    Set,
    /// A whole number.
    Number,
    /// A word.
    Text,
}

/// A flag of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    name: &'static str,
    kind: FlagKind,
    reported: bool,
}

/// The name of a flag of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlagName(&'static Known);

text_value!(
    FlagName,
    "risk-flag",
    "A flag: what is known about an app and the device it runs on.",
    "bootloader_unlocked"
);

impl FlagName {
    /// Every flag there is.
    pub fn all() -> impl Iterator<Item = Self> {
        CATALOGUE.iter().map(Self)
    }

    /// The name.
    pub const fn as_str(self) -> &'static str {
        self.0.name
    }

    /// What it says.
    pub const fn kind(self) -> FlagKind {
        self.0.kind
    }

    /// Whether it is the client's own word.
    pub const fn is_reported(self) -> bool {
        self.0.reported
    }
}

impl FromStr for FlagName {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        CATALOGUE.iter().find(|known| known.name == text).map(Self).ok_or_else(|| {
            let error = ValueError::new("there is no such flag");
            match suggest::nearest(text, CATALOGUE.iter().map(|known| known.name)) {
                Some(near) => error.hint(format!("did you mean {near:?}?")),
                None => error.hint("docs/risk.md lists them"),
            }
        })
    }
}

impl fmt::Display for FlagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

const fn set(name: &'static str) -> Known {
    Known { name, kind: FlagKind::Set, reported: false }
}

const fn number(name: &'static str) -> Known {
    Known { name, kind: FlagKind::Number, reported: false }
}

const fn text(name: &'static str) -> Known {
    Known { name, kind: FlagKind::Text, reported: false }
}

const fn reported(name: &'static str) -> Known {
    Known { name, kind: FlagKind::Set, reported: true }
}

/// The flags, in the order of `proof`'s catalogue, which says who says what. (A test in `policy` compares the two.)
const CATALOGUE: &[Known] = &[
    set("bootloader_unlocked"),
    text("boot_selfsigned"),
    set("boot_unverified"),
    set("boot_failed"),
    set("software_key"),
    set("strongbox_missing"),
    number("os_patch_age"),
    set("os_patch_unknown"),
    set("sig_digest_mismatch"),
    set("package_mismatch"),
    set("app_version_old"),
    number("category"),
    set("env_development"),
    set("key_origin"),
    set("revoked_chain"),
    set("malformed_evidence"),
    number("rkp_issue_count"),
    set("counter_regression"),
    set("user_not_verified"),
    set("backup_eligible"),
    text("pi_unrecognized_app"),
    set("pi_no_device"),
    set("pi_basic_only"),
    set("pi_virtual"),
    set("pi_unlicensed"),
    text("pi_play_protect"),
    text("pi_app_access"),
    set("pi_testing"),
    number("pi_device_activity"),
    number("pi_device_recall"),
    number("fraud_metric"),
    number("devicecheck_bits"),
    set("appcheck_only"),
    number("captcha_score"),
    reported("rooted"),
    reported("jailbroken"),
    reported("debugger"),
    reported("emulator"),
    reported("simulator"),
    reported("frida"),
    reported("hook_framework"),
    reported("cloner"),
    reported("repackaged_hint"),
    reported("proxy_set"),
    reported("user_ca_installed"),
    reported("vpn"),
    reported("screen_mirror"),
    reported("accessibility_abuse"),
    reported("dev_options"),
    reported("sdk_integrity"),
    reported("attest_unsupported"),
    reported("pin_mismatch"),
    set("ip_datacenter"),
    set("ip_mismatch"),
    set("geo_jump"),
    number("enrol_rate"),
    number("device_rate"),
    number("request_rate"),
    text("tls_fingerprint"),
    set("tls_fingerprint_changed"),
    set("pin_report_missing"),
    number("unsupported_share"),
    set("stale_pin_config"),
    set("reattestation_due"),
];
