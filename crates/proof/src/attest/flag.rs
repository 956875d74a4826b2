//! Flags: single facts a policy may act on, each with where it comes from.

use serde::{Serialize, Serializer};

/// Who says it. What a client says of itself ([`Provenance::Reported`]) may only ever lower trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provenance {
    /// Stands in evidence signed by hardware or its maker.
    Attested,
    /// Another party's verdict.
    Verdict,
    /// The client's own word.
    Reported,
    /// Seen by us in the traffic.
    Observed,
}

impl Provenance {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attested => "attested",
            Self::Verdict => "verdict",
            Self::Reported => "reported",
            Self::Observed => "observed",
        }
    }
}

impl Serialize for Provenance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What a flag says beside its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FlagValue {
    /// It is so.
    Set(bool),
    /// A number: days, a category, a count.
    Number(i64),
    /// A word from a closed list of the evidence's maker, or a number in hex.
    Text(String),
}

/// One fact. Only names of the [`CATALOGUE`] exist, so a policy can be checked before it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flag {
    name: &'static str,
    provenance: Provenance,
    value: FlagValue,
}

impl Flag {
    /// A flag of the catalogue by name; `None` for a name that is not in it.
    pub fn new(name: &str, value: FlagValue) -> Option<Self> {
        let (name, provenance) = *CATALOGUE.iter().find(|(known, _)| *known == name)?;
        Some(Self { name, provenance, value })
    }

    /// The name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Who says it.
    pub fn provenance(&self) -> Provenance {
        self.provenance
    }

    /// What it says.
    pub fn value(&self) -> &FlagValue {
        &self.value
    }
}

/// Adding flags to a list as they are found.
pub(crate) trait Flags {
    /// It is so.
    fn set(&mut self, name: &'static str);
    /// With a number.
    fn number(&mut self, name: &'static str, value: i64);
    /// With a word.
    fn text(&mut self, name: &'static str, value: &str);
}

impl Flags for Vec<Flag> {
    fn set(&mut self, name: &'static str) {
        add(self, name, FlagValue::Set(true));
    }

    fn number(&mut self, name: &'static str, value: i64) {
        add(self, name, FlagValue::Number(value));
    }

    fn text(&mut self, name: &'static str, value: &str) {
        add(self, name, FlagValue::Text(value.to_owned()));
    }
}

fn add(flags: &mut Vec<Flag>, name: &'static str, value: FlagValue) {
    let flag = Flag::new(name, value);
    debug_assert!(flag.is_some(), "{name} is not in the catalogue");
    flags.extend(flag);
}

/// Who says what a flag of this name says; `None` for a name that is not in the catalogue.
pub fn provenance(name: &str) -> Option<Provenance> {
    CATALOGUE.iter().find(|(known, _)| *known == name).map(|(_, provenance)| *provenance)
}

/// Every flag there is.
pub const CATALOGUE: &[(&str, Provenance)] = {
    use Provenance::{Attested, Observed, Reported, Verdict};
    &[
        ("bootloader_unlocked", Attested),
        ("boot_selfsigned", Attested),
        ("boot_unverified", Attested),
        ("boot_failed", Attested),
        ("software_key", Attested),
        ("strongbox_missing", Attested),
        ("os_patch_age", Attested),
        ("os_patch_unknown", Attested),
        ("sig_digest_mismatch", Attested),
        ("package_mismatch", Attested),
        ("app_version_old", Attested),
        ("category", Attested),
        ("env_development", Attested),
        ("key_origin", Attested),
        ("revoked_chain", Attested),
        ("malformed_evidence", Attested),
        ("rkp_issue_count", Attested),
        ("counter_regression", Attested),
        ("user_not_verified", Attested),
        ("backup_eligible", Attested),
        ("pi_unrecognized_app", Verdict),
        ("pi_no_device", Verdict),
        ("pi_basic_only", Verdict),
        ("pi_virtual", Verdict),
        ("pi_unlicensed", Verdict),
        ("pi_play_protect", Verdict),
        ("pi_app_access", Verdict),
        ("pi_testing", Verdict),
        ("pi_device_activity", Verdict),
        ("pi_device_recall", Verdict),
        ("fraud_metric", Verdict),
        ("devicecheck_bits", Verdict),
        ("appcheck_only", Verdict),
        ("captcha_score", Verdict),
        ("rooted", Reported),
        ("jailbroken", Reported),
        ("debugger", Reported),
        ("emulator", Reported),
        ("simulator", Reported),
        ("frida", Reported),
        ("hook_framework", Reported),
        ("cloner", Reported),
        ("repackaged_hint", Reported),
        ("proxy_set", Reported),
        ("user_ca_installed", Reported),
        ("vpn", Reported),
        ("screen_mirror", Reported),
        ("accessibility_abuse", Reported),
        ("dev_options", Reported),
        ("sdk_integrity", Reported),
        ("attest_unsupported", Reported),
        ("pin_mismatch", Reported),
        ("ip_datacenter", Observed),
        ("ip_mismatch", Observed),
        ("geo_jump", Observed),
        ("enrol_rate", Observed),
        ("device_rate", Observed),
        ("request_rate", Observed),
        ("tls_fingerprint", Observed),
        ("tls_fingerprint_changed", Observed),
        ("pin_report_missing", Observed),
        ("unsupported_share", Observed),
        ("stale_pin_config", Observed),
        ("reattestation_due", Observed),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flags_of_the_catalogue_exist_and_each_has_one_provenance() {
        let frida = Flag::new("frida", FlagValue::Set(true)).unwrap();
        assert_eq!((frida.name(), frida.provenance()), ("frida", Provenance::Reported));
        assert_eq!(Flag::new("Frida", FlagValue::Set(true)), None);
        assert_eq!(provenance("category"), Some(Provenance::Attested));
        for (i, (name, _)) in CATALOGUE.iter().enumerate() {
            assert!(CATALOGUE.iter().skip(i + 1).all(|(other, _)| other != name), "{name} twice");
        }
    }

    #[test]
    fn a_flag_is_written_with_its_provenance() {
        let flag = Flag::new("category", FlagValue::Number(4)).unwrap();
        let written = serde_json::to_value(&flag).unwrap();
        assert_eq!(written, serde_json::json!({"name": "category", "provenance": "attested", "value": 4}));
    }
}
