//! `[[risk]]`: what becomes of an instance of an app, by what is known about it and the device it runs on.

mod condition;
mod flags;
mod grace;
mod words;

pub use condition::{RiskUnless, RiskWhen};
pub use flags::{FlagKind, FlagName};
pub use grace::{ForcedPass, Grace};
pub use words::{Annotation, BootKey, FORCED_PASS, Moment};

use base::{Money, Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::level::AttestationLevel;
use crate::policy::OneOrMany;
use crate::text::{MoneyText, NameText, SpanText};
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
    /// From when on it is done; before, the rule observes. For what installed apps cannot fulfil yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Moment>,
}

/// How long what was shown for a `step_up` is good, where the rule does not say it.
pub const STEP_UP_LASTS: Span = Span::secs(86_400);

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
    /// Cloudflare Turnstile.
    Turnstile,
    /// hCaptcha.
    Hcaptcha,
    /// Google reCAPTCHA.
    Recaptcha,
    /// The passkey the instance enrolled with.
    Webauthn,
}

impl StepUp {
    /// Whether an app is set so that its instances can show this.
    pub fn is_set_up(self, app: &App) -> bool {
        let web = app.web.as_ref();
        match self {
            Self::Altcha => true,
            Self::Turnstile => web.is_some_and(|web| web.turnstile.is_some()),
            Self::Hcaptcha => web.is_some_and(|web| web.hcaptcha.is_some()),
            Self::Recaptcha => web.is_some_and(|web| web.recaptcha.is_some()),
            Self::Webauthn => web.is_some_and(|web| web.webauthn.is_some()),
        }
    }

    /// Everything there is.
    pub const ALL: [Self; 5] = [Self::Altcha, Self::Turnstile, Self::Hcaptcha, Self::Recaptcha, Self::Webauthn];

    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Altcha => "altcha",
            Self::Turnstile => "turnstile",
            Self::Hcaptcha => "hcaptcha",
            Self::Recaptcha => "recaptcha",
            Self::Webauthn => "webauthn",
        }
    }
}
