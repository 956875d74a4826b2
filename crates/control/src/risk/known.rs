//! What was known when something was decided, as it is kept: in one form, and without what tells one instance from another.

use base::Timestamp;
use config::{AttestationLevel, Platform, RiskAction, StepUp};
use policy::risk::{Counted, Signals};
use proof::attest::{Flag, FlagValue, Provenance};
use serde_json::{Map, Value, json};
use store::RiskDecision;

/// What was known: platform, level, minimum, flags by name, and what had been shown besides. Numbers that we observed are
/// rounded to two digits, and of what an app reports there is only that it does: few rows hold many instances, and nobody fills the
/// history with what it makes up.
pub(crate) fn known(signals: &Signals, now: Timestamp) -> String {
    let mut flags: Vec<Value> = signals.flags.iter().filter_map(flag).collect();
    flags.sort_by_cached_key(Value::to_string);
    flags.dedup();
    let mut shown: Vec<&str> =
        signals.shown.iter().filter(|(_, at)| *at <= now).map(|(what, _)| what.as_str()).collect();
    shown.sort_unstable();
    shown.dedup();
    json!({
        "platform": signals.platform,
        "level": signals.level,
        "required": signals.required,
        "flags": flags,
        "shown": shown,
    })
    .to_string()
}

fn flag(flag: &Flag) -> Option<Value> {
    let observed = flag.provenance() == Provenance::Observed;
    let value = match flag.value() {
        FlagValue::Set(false) => return None,
        _ if flag.provenance() == Provenance::Reported => Value::Bool(true),
        FlagValue::Set(true) => Value::Bool(true),
        FlagValue::Number(number) if observed => Value::from(two_digits(*number)),
        FlagValue::Number(number) => Value::from(*number),
        FlagValue::Text(text) => Value::from(text.chars().take(128).collect::<String>()),
    };
    Some(Value::Object(Map::from_iter([(flag.name().to_owned(), value)])))
}

/// The number with all but its first two digits as zero.
fn two_digits(number: i64) -> i64 {
    let mut unit = 1;
    while number.unsigned_abs() / unit >= 100 {
        unit *= 10;
    }
    let unit = i64::try_from(unit).unwrap_or(1);
    number / unit * unit
}

/// A row as the rules can be asked about it again at `now`; `None` where it cannot be read.
pub(crate) fn decided(row: &RiskDecision, now: Timestamp) -> Option<Counted> {
    let known: Value = serde_json::from_str(&row.known).ok()?;
    let word = |key: &str| known.get(key).and_then(Value::as_str);
    let level = |key: &str| word(key).and_then(AttestationLevel::from_name);
    let platform = Platform::ALL.into_iter().find(|platform| Some(platform.as_str()) == word("platform"))?;
    let mut flags = Vec::new();
    for one in known.get("flags").and_then(Value::as_array)? {
        for (name, value) in one.as_object()? {
            let value = match value {
                Value::Bool(so) => FlagValue::Set(*so),
                Value::Number(number) => FlagValue::Number(number.as_i64()?),
                Value::String(text) => FlagValue::Text(text.clone()),
                _ => return None,
            };
            flags.extend(Flag::new(name, value));
        }
    }
    let shown = known.get("shown").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let step_up = |word: &str| StepUp::ALL.into_iter().find(|what| what.as_str() == word);
    let signals = Signals {
        app: row.app.clone(),
        platform,
        level: level("level")?,
        required: level("required")?,
        flags,
        lot: 0,
        shown: shown.filter_map(step_up).map(|what| (what, now)).collect(),
        forced_until: None,
    };
    let done = RiskAction::ALL.into_iter().find(|action| action.as_str() == row.action)?;
    Some(Counted { signals, version: row.version.clone(), done, count: row.count })
}
