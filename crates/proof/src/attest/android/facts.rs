//! What a verified chain tells a policy and the operator.

use serde_json::{Value, json};

use super::{
    AndroidRules, BootState, Certificate, KeyDescription, PROVISIONING, Provisioning, RootOfTrust, SecurityLevel,
    level_of,
};
use crate::attest::flag::Flags as _;
use crate::attest::{Evidence, Flag, Summary, cbor, hex};
use crate::jose::{JsonObject, base64url_encode};

const DAY_SECS: i64 = 86_400;

/// What provisioning information may cost: `{1: certificates issued}` and a few members of tomorrow.
const PROVISIONING_LIMITS: cbor::Limits = cbor::Limits { bytes: 1024, depth: 4, items: 64, shortest: false };

/// What was found.
pub(super) struct Found<'f> {
    pub(super) certificates: &'f [Certificate<'f>],
    pub(super) description: &'f KeyDescription,
    pub(super) provisioning: Provisioning,
    pub(super) root_of_trust: &'f RootOfTrust,
}

impl Found<'_> {
    pub(super) fn summary(&self, rules: &AndroidRules<'_>) -> Summary {
        let level = level_of(self.root_of_trust, rules.boot_keys);
        Summary { evidence: Evidence::AndroidKey, level, flags: self.flags(rules), facts: self.facts() }
    }

    fn flags(&self, rules: &AndroidRules<'_>) -> Vec<Flag> {
        let mut flags = Vec::new();
        if !self.root_of_trust.device_locked {
            flags.set("bootloader_unlocked");
        }
        match self.root_of_trust.boot_state {
            BootState::Verified => {}
            BootState::SelfSigned => flags.text("boot_selfsigned", &hex(&self.root_of_trust.verified_boot_key)),
            BootState::Unverified => flags.set("boot_unverified"),
            BootState::Failed => flags.set("boot_failed"),
        }
        if self.description.attestation_level != SecurityLevel::StrongBox {
            flags.set("strongbox_missing");
        }
        match self.description.hardware.os_patch_level.and_then(first_of_month) {
            // Patches are announced for a month that may not have begun.
            Some(patched) => {
                let age = rules.now.as_secs().saturating_sub(patched.as_secs()) / DAY_SECS;
                flags.number("os_patch_age", age.max(0));
            }
            None => flags.set("os_patch_unknown"),
        }
        if let Some(issued) = self.certificates_issued() {
            flags.number("rkp_issue_count", issued);
        }
        flags
    }

    /// How many certificates the device was given, as the one that was given it last says.
    fn certificates_issued(&self) -> Option<i64> {
        let extension = self.certificates.iter().skip(1).find_map(|one| one.extension(PROVISIONING))?;
        cbor::read(extension, PROVISIONING_LIMITS).ok()?.map()?.label(1)?.integer()
    }

    fn facts(&self) -> JsonObject {
        let (description, hardware) = (self.description, &self.description.hardware);
        let serials: Vec<Value> = self.certificates.iter().skip(1).map(|one| one.serial_hex().into()).collect();
        let mut facts = JsonObject::new();
        let mut add = |name: &str, value: Value| facts.insert(name.to_owned(), value);
        add("attestation_version", description.attestation_version.into());
        add("security_level", description.attestation_level.name().into());
        add("provisioning", self.provisioning.name().into());
        add("boot_state", self.root_of_trust.boot_state.name().into());
        add("device_locked", self.root_of_trust.device_locked.into());
        add("verified_boot_key", hex(&self.root_of_trust.verified_boot_key).into());
        for (name, value) in [
            ("os_version", hardware.os_version),
            ("os_patch_level", hardware.os_patch_level),
            ("vendor_patch_level", hardware.vendor_patch_level),
            ("boot_patch_level", hardware.boot_patch_level),
        ] {
            if let Some(value) = value {
                add(name, value.into());
            }
        }
        if let Some(application) = &description.software.application {
            let packages = application.packages.iter();
            let packages = packages.map(|(name, version)| json!({"name": name, "version": version})).collect();
            add("packages", Value::Array(packages));
            add("signing_digests", application.digests.iter().map(|digest| hex(digest)).collect::<Vec<_>>().into());
        }
        add("challenge", base64url_encode(&description.challenge).into());
        add("certificate_serials", Value::Array(serials));
        facts
    }
}

/// The beginning of the month of a patch level: YYYYMM, or YYYYMMDD as some devices write it.
fn first_of_month(level: u64) -> Option<base::Timestamp> {
    let month = if level > 999_999 { level / 100 } else { level };
    let text = format!("{:04}-{:02}-01T00:00:00Z", month / 100, month % 100);
    base::Timestamp::parse_rfc3339(&text).filter(|_| month >= 201_401)
}
