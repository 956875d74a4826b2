//! `[[risk]]`: what becomes of an instance of an app, by what is known about it and the device it runs on.

mod flags;

pub use flags::{FlagKind, FlagName};

use std::fmt;
use std::str::FromStr;

use base::{Money, Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::level::{AttestationLevel, Platform};
use crate::policy::OneOrMany;
use crate::text::{MoneyText, NameText, SpanText, ValueError, text_value};
use crate::values::{Cidr, Pattern};

/// A set of rules. Every set that names an app judges its instances; of all that is decided the severest is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Risk {
    /// Named in decisions.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// The apps it judges. Absent: all.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub apps: OneOrMany<Pattern>,
    /// Whether what it decides is done.
    #[serde(default, skip_serializing_if = "RiskMode::is_default")]
    pub mode: RiskMode,
    /// For this percentage of instances it is enforced; the others it observes. An instance stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub canary: Option<u8>,
    /// An instance whose evidence carries less is denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_level: Option<AttestationLevel>,
    /// What is done about flags. Every rule is asked; of those that match the severest is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub rules: Vec<RiskRule>,
    /// Addresses of machines that are rented out: an instance that comes from there has the flag `ip_datacenter`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50_000))]
    pub datacenters: Vec<Cidr>,
    /// What is put up with when something fails that is not the device's fault.
    #[serde(default, skip_serializing_if = "Grace::is_default")]
    pub grace: Grace,
    /// Leave for single instances whatever the rules say.
    #[serde(default, skip_serializing_if = "ForcedPass::is_default")]
    pub forced_pass: ForcedPass,
}

/// Whether what a set decides is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RiskMode {
    /// It is done.
    #[default]
    Enforce,
    /// Nothing is done; what would have been is counted.
    Observe,
}

impl RiskMode {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// A rule: when what is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RiskRule {
    /// What has to be so.
    pub when: RiskWhen,
    /// What is done.
    #[serde(rename = "do")]
    pub action: RiskAction,
    /// Nothing is done where this is so. What the client says of itself cannot stand here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<RiskUnless>,
    /// For `annotate`: the word that goes into tokens, for policies to ask for.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub annotation: Option<Annotation>,
    /// For `throttle`: to how much.
    #[serde(default, rename = "to", skip_serializing_if = "Option::is_none")]
    pub throttle: Option<RiskThrottle>,
    /// For `step_up`: what the instance has to show besides, one of these.
    #[serde(default, rename = "with", skip_serializing_if = "OneOrMany::is_empty")]
    pub evidence: OneOrMany<StepUp>,
    /// For `step_up`: for how long what was shown is good.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SpanText>")]
    pub lasts: Option<Span>,
}

/// How long what was shown for a `step_up` is good, where the rule does not say it.
pub const STEP_UP_LASTS: Span = Span::secs(86_400);

/// A condition on flags: one of `flag`, `any` and `all`, and every other that is given, must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RiskWhen {
    /// This flag is there, with a value that the other keys allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<FlagName>,
    /// Its number is greater.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<i64>,
    /// Its number is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<i64>,
    /// Its value is one of these.
    #[serde(rename = "in", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub is_in: Vec<FlagWord>,
    /// Its value is none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub not_in: Vec<FlagWord>,
    /// One of these is there.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub any: OneOrMany<FlagName>,
    /// All of these are there.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub all: OneOrMany<FlagName>,
    /// The instance runs on one of these.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub platform: OneOrMany<Platform>,
}

/// A condition under which a rule does nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RiskUnless {
    /// This flag is there, with a value that the other keys allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<FlagName>,
    /// Its number is greater.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<i64>,
    /// Its number is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<i64>,
    /// Its value is one of these.
    #[serde(rename = "in", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub is_in: Vec<FlagWord>,
    /// Its value is none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub not_in: Vec<FlagWord>,
    /// One of these is there.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub any: OneOrMany<FlagName>,
    /// All of these are there.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub all: OneOrMany<FlagName>,
    /// The device's system is signed with one of these keys: SHA-256 in hex, as the flag `boot_selfsigned` has it.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub verified_boot_key_in: OneOrMany<BootKey>,
}

impl RiskUnless {
    /// The part that a rule's `when` can say too.
    pub fn flags(&self) -> RiskWhen {
        RiskWhen {
            flag: self.flag,
            gt: self.gt,
            lt: self.lt,
            is_in: self.is_in.clone(),
            not_in: self.not_in.clone(),
            any: self.any.clone(),
            all: self.all.clone(),
            platform: OneOrMany::default(),
        }
    }
}

/// A value of a flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FlagWord {
    /// A whole number.
    Number(i64),
    /// A word.
    Text(String),
}

/// What a rule does, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RiskAction {
    /// Nothing; that it matched is counted.
    Allow,
    /// Tokens carry a word.
    Annotate,
    /// The instance may ask and spend less.
    Throttle,
    /// The instance has to show something besides.
    StepUp,
    /// The instance gets no token.
    Deny,
}

impl RiskAction {
    /// Every action, mildest first.
    pub const ALL: [Self; 5] = [Self::Allow, Self::Annotate, Self::Throttle, Self::StepUp, Self::Deny];

    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Annotate => "annotate",
            Self::Throttle => "throttle",
            Self::StepUp => "step_up",
            Self::Deny => "deny",
        }
    }
}

/// How much an instance may ask and spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RiskThrottle {
    /// Requests a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rpm: Option<u32>,
    /// Money a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub usd_day: Option<Money>,
}

/// What an instance can show besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StepUp {
    /// Proof of work.
    Altcha,
}

impl StepUp {
    /// Everything there is.
    pub const ALL: [Self; 1] = [Self::Altcha];

    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Altcha => "altcha",
        }
    }
}

/// What is put up with when something fails that is not the device's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grace {
    /// How old the list of revoked attestation keys may be before no Android device is enrolled.
    #[schemars(with = "SpanText")]
    pub revocation_list_max_age: Span,
}

impl Default for Grace {
    fn default() -> Self {
        Self { revocation_list_max_age: Self::LONGEST }
    }
}

impl Grace {
    /// No list that is older counts, whatever the rules say.
    pub const LONGEST: Span = Span::secs(7 * 86_400);

    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The stricter of two, part by part.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        Self { revocation_list_max_age: self.revocation_list_max_age.min(other.revocation_list_max_age) }
    }
}

/// Leave for single instances whatever the rules say, given by an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForcedPass {
    /// Whether there is any.
    pub allowed: bool,
    /// For how long it may be given.
    #[schemars(with = "SpanText")]
    pub longest: Span,
}

impl Default for ForcedPass {
    fn default() -> Self {
        Self { allowed: true, longest: Self::LONGEST }
    }
}

impl ForcedPass {
    /// No forced pass is good for longer.
    pub const LONGEST: Span = Span::secs(30 * 86_400);

    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A word in tokens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Annotation(String);

text_value!(Annotation, "annotation", "A word for tokens: lower-case letters, digits and . _ -, at most 64.", "old-os");

impl Annotation {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Annotation {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
            return Err(
                ValueError::new("not a word for tokens").hint("lower-case letters, digits and . _ -, at most 64")
            );
        }
        if text == FORCED_PASS {
            return Err(ValueError::new("this word is set by a forced pass only"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Annotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The word in tokens of an instance that has a forced pass.
pub const FORCED_PASS: &str = "forced-pass";

/// SHA-256 of the key a device's system is signed with, in lower-case hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootKey(String);

text_value!(
    BootKey,
    "boot-key",
    "The key a device's system is signed with: SHA-256 in hex.",
    "1111111111111111111111111111111111111111111111111111111111111111"
);

impl BootKey {
    /// In lower-case hex.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BootKey {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ValueError::new("not the hash of a key").hint("64 hexadecimal digits"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for BootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
