//! What has to be so for a rule to match.

use config::{BootKey, FlagKind, FlagName, FlagWord, Platform, RiskUnless, RiskWhen};
use proof::attest::{Flag, FlagValue, Provenance};

use super::Signals;

/// A compiled `when`.
#[derive(Debug)]
pub(super) struct Condition {
    flags: Asked,
    platform: Box<[Platform]>,
}

/// Which flags are asked for.
#[derive(Debug)]
enum Asked {
    One(FlagName, Compare),
    Any(Box<[FlagName]>),
    All(Box<[FlagName]>),
}

/// What a flag's value has to be.
#[derive(Debug)]
struct Compare {
    gt: Option<i64>,
    lt: Option<i64>,
    is_in: Box<[FlagWord]>,
    not_in: Box<[FlagWord]>,
}

impl Condition {
    pub(super) fn compile(when: &RiskWhen) -> Self {
        Self { flags: Asked::compile(when), platform: when.platform.to_vec().into() }
    }

    /// The flags that made it match, if it does.
    pub(super) fn matches(&self, signals: &Signals) -> Option<Vec<&'static str>> {
        if !self.platform.is_empty() && !self.platform.contains(&signals.platform) {
            return None;
        }
        self.flags.matches(|| signals.flags.iter())
    }
}

impl Asked {
    fn compile(when: &RiskWhen) -> Self {
        match when.flag {
            Some(flag) => Self::One(
                flag,
                Compare {
                    gt: when.gt,
                    lt: when.lt,
                    is_in: when.is_in.clone().into(),
                    not_in: when.not_in.clone().into(),
                },
            ),
            None if when.any.is_empty() => Self::All(when.all.to_vec().into()),
            None => Self::Any(when.any.to_vec().into()),
        }
    }

    fn matches<'f, I: Iterator<Item = &'f Flag>>(&self, flags: impl Fn() -> I) -> Option<Vec<&'static str>> {
        let there = |name: &FlagName| flags().any(|flag| flag.name() == name.as_str() && is_so(flag));
        let found: Vec<&'static str> = match self {
            Self::One(name, compare) => flags()
                .filter(|flag| flag.name() == name.as_str() && compare.holds(name.kind(), flag))
                .map(Flag::name)
                .take(1)
                .collect(),
            Self::Any(names) => names.iter().filter(|name| there(name)).map(|name| name.as_str()).collect(),
            Self::All(names) if names.iter().all(there) => names.iter().map(|name| name.as_str()).collect(),
            Self::All(_) => Vec::new(),
        };
        if found.is_empty() { None } else { Some(found) }
    }
}

/// A flag that is there says so, unless it says `false`.
fn is_so(flag: &Flag) -> bool {
    *flag.value() != FlagValue::Set(false)
}

impl Compare {
    fn holds(&self, kind: FlagKind, flag: &Flag) -> bool {
        let value = flag.value();
        if kind == FlagKind::Set {
            return is_so(flag);
        }
        if self.gt.is_some() || self.lt.is_some() {
            let FlagValue::Number(number) = value else { return false };
            if self.gt.is_some_and(|gt| *number <= gt) || self.lt.is_some_and(|lt| *number >= lt) {
                return false;
            }
        }
        let among = |words: &[FlagWord]| words.iter().any(|word| same(word, value));
        (self.is_in.is_empty() || among(&self.is_in)) && !among(&self.not_in)
    }
}

fn same(word: &FlagWord, value: &FlagValue) -> bool {
    match (word, value) {
        (FlagWord::Number(word), FlagValue::Number(value)) => word == value,
        (FlagWord::Text(word), FlagValue::Text(value)) => word == value,
        _ => false,
    }
}

/// A compiled `unless`.
#[derive(Debug)]
pub(super) struct Exception {
    flags: Option<Asked>,
    boot_keys: Box<[BootKey]>,
}

impl Exception {
    pub(super) fn compile(unless: &RiskUnless) -> Self {
        let flags = unless.flags();
        Self {
            flags: (flags != RiskWhen::default()).then(|| Asked::compile(&flags)),
            boot_keys: unless.verified_boot_key_in.to_vec().into(),
        }
    }

    /// Whether it holds. What the client says of itself is not heard here: it could only make things better.
    pub(super) fn holds(&self, signals: &Signals) -> bool {
        let heard = || signals.flags.iter().filter(|flag| flag.provenance() != Provenance::Reported);
        let booted = || {
            let mut keys = heard().filter(|flag| flag.name() == "boot_selfsigned").map(Flag::value);
            keys.any(|key| matches!(key, FlagValue::Text(key) if self.boot_keys.iter().any(|k| k.as_str() == key)))
        };
        self.flags.as_ref().is_none_or(|flags| flags.matches(heard).is_some())
            && (self.boot_keys.is_empty() || booted())
    }
}
