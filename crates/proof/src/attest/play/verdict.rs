//! What a verdict says, as flags and facts. Labels of tomorrow are passed over.

use serde_json::Value;

use super::{PlayError, member, number, text, texts};
use crate::attest::flag::Flags as _;
use crate::attest::{Evidence, Flag, Level, Summary};
use crate::jose::JsonObject;

const DEVICE_LABELS: [&str; 4] =
    ["MEETS_BASIC_INTEGRITY", "MEETS_DEVICE_INTEGRITY", "MEETS_STRONG_INTEGRITY", "MEETS_VIRTUAL_INTEGRITY"];

const APP_VERDICTS: [&str; 3] = ["PLAY_RECOGNIZED", "UNRECOGNIZED_VERSION", "UNEVALUATED"];

const LICENCES: [&str; 3] = ["LICENSED", "UNLICENSED", "UNEVALUATED"];

const PROTECT: [&str; 6] = ["NO_ISSUES", "NO_DATA", "POSSIBLE_RISK", "MEDIUM_RISK", "HIGH_RISK", "UNEVALUATED"];

const ACTIVITY: [&str; 4] = ["LEVEL_1", "LEVEL_2", "LEVEL_3", "LEVEL_4"];

/// Other apps that only exist, and those that can see or steer this one.
const INSTALLED: [&str; 2] = ["KNOWN_INSTALLED", "UNKNOWN_INSTALLED"];
const ACCESS: [&str; 6] = [
    "KNOWN_CAPTURING",
    "KNOWN_CONTROLLING",
    "KNOWN_OVERLAYS",
    "UNKNOWN_CAPTURING",
    "UNKNOWN_CONTROLLING",
    "UNKNOWN_OVERLAYS",
];

const RECALL: [&str; 3] = ["bitFirst", "bitSecond", "bitThird"];

/// The level is [`Level::Verdict`] where Google recognises the app on a device it certified, and none otherwise.
pub(super) fn summary(payload: &JsonObject, app: &JsonObject, testing: bool) -> Result<Summary, PlayError> {
    let mut read = Reading::default();
    let recognized = read.app(app)?;
    let device = read.device(member(payload, "deviceIntegrity")?)?;
    read.account(member(payload, "accountDetails")?)?;
    read.environment(member(payload, "environmentDetails")?)?;
    if testing {
        read.flags.set("pi_testing");
    }
    let level = if recognized && device { Level::Verdict } else { Level::None };
    Ok(Summary { evidence: Evidence::PlayIntegrity, level, flags: read.flags, facts: read.facts })
}

#[derive(Default)]
struct Reading {
    flags: Vec<Flag>,
    facts: JsonObject,
}

impl Reading {
    fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// Whether Google recognises the app as it distributes it.
    fn app(&mut self, app: &JsonObject) -> Result<bool, PlayError> {
        let verdict = known(text(app, "appRecognitionVerdict")?, &APP_VERDICTS).unwrap_or("UNEVALUATED");
        self.fact("app_recognition", verdict);
        if let Some(version) = number(app, "versionCode")? {
            self.fact("version_code", version);
        }
        let recognized = verdict == "PLAY_RECOGNIZED";
        if !recognized {
            self.flags.text("pi_unrecognized_app", verdict);
        }
        Ok(recognized)
    }

    /// Whether the device is one Google certified, with its system unchanged.
    fn device(&mut self, device: Option<&JsonObject>) -> Result<bool, PlayError> {
        let none = JsonObject::new();
        let device = device.unwrap_or(&none);
        let labels = labels(device, "deviceRecognitionVerdict", &DEVICE_LABELS)?;
        let meets = |label: &str| labels.contains(&label);
        let certified = meets("MEETS_DEVICE_INTEGRITY") || meets("MEETS_STRONG_INTEGRITY");
        if meets("MEETS_VIRTUAL_INTEGRITY") {
            self.flags.set("pi_virtual");
        }
        if labels.is_empty() {
            self.flags.set("pi_no_device");
        } else if meets("MEETS_BASIC_INTEGRITY") && !certified {
            self.flags.set("pi_basic_only");
        }
        self.fact("device_recognition", labels);
        let legacy = self::labels(device, "legacyDeviceRecognitionVerdict", &DEVICE_LABELS)?;
        if !legacy.is_empty() {
            self.fact("legacy_device_recognition", legacy);
        }
        if let Some(attributes) = member(device, "deviceAttributes")?
            && let Some(version) = number(attributes, "sdkVersion")?
        {
            self.fact("sdk_version", version);
        }
        if let Some(activity) = member(device, "recentDeviceActivity")? {
            let level = text(activity, "deviceActivityLevel")?;
            let place = ACTIVITY.iter().position(|known| Some(*known) == level);
            if let Some(level) = place.and_then(|place| i64::try_from(place + 1).ok()) {
                self.flags.number("pi_device_activity", level);
            }
        }
        if let Some(recall) = member(device, "deviceRecall")? {
            self.recall(recall)?;
        }
        Ok(certified)
    }

    /// The three bits the operator keeps for a device beyond a reset: the first one counts 1, the second 2, the third 4.
    fn recall(&mut self, recall: &JsonObject) -> Result<(), PlayError> {
        let mut bits = 0;
        if let Some(values) = member(recall, "values")? {
            for (place, name) in RECALL.into_iter().enumerate() {
                if super::flag(values, name)? == Some(true) {
                    bits |= 1 << place;
                }
            }
        }
        if bits != 0 {
            self.flags.number("pi_device_recall", bits);
        }
        if let Some(dates) = member(recall, "writeDates")? {
            for name in ["yyyymmFirst", "yyyymmSecond", "yyyymmThird"] {
                if let Some(month) = number(dates, name)? {
                    self.fact(&format!("device_recall_{name}"), month);
                }
            }
        }
        Ok(())
    }

    fn account(&mut self, account: Option<&JsonObject>) -> Result<(), PlayError> {
        let Some(account) = account else { return Ok(()) };
        if let Some(licence) = known(text(account, "appLicensingVerdict")?, &LICENCES) {
            self.fact("licensing", licence);
            if licence == "UNLICENSED" {
                self.flags.set("pi_unlicensed");
            }
        }
        Ok(())
    }

    fn environment(&mut self, environment: Option<&JsonObject>) -> Result<(), PlayError> {
        let Some(environment) = environment else { return Ok(()) };
        if let Some(verdict) = known(text(environment, "playProtectVerdict")?, &PROTECT) {
            self.fact("play_protect", verdict);
            if verdict != "NO_ISSUES" {
                self.flags.text("pi_play_protect", verdict);
            }
        }
        if let Some(risk) = member(environment, "appAccessRiskVerdict")? {
            for label in labels(risk, "appsDetected", &ACCESS)? {
                self.flags.text("pi_app_access", label);
            }
            self.fact("apps_installed", labels(risk, "appsDetected", &INSTALLED)?);
        }
        Ok(())
    }
}

/// The word, if it is one of these.
fn known(found: Option<&str>, words: &[&'static str]) -> Option<&'static str> {
    words.iter().copied().find(|word| Some(*word) == found)
}

/// Those of a list of words that are among these, each once.
fn labels(of: &JsonObject, name: &'static str, words: &[&'static str]) -> Result<Vec<&'static str>, PlayError> {
    let found = texts(of, name)?.unwrap_or_default();
    Ok(words.iter().copied().filter(|word| found.contains(word)).collect())
}
