//! `[[budget]]` and `spend` of a `[[policy]]`: what may be spent, for whom and in how long.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base::{Money, Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fault::{Code, Faults};
use crate::policy::OneOrMany;
use crate::resource::Alone;
use crate::text::{MoneyText, NameText, SpanText, ValueError, text_value};
use crate::values::Pattern;

/// Members of a `[[budget]]` and of a `spend` that are the same: how much of what, in how long, and what becomes of what does not fit.
/// (serde's `flatten` and `deny_unknown_fields` do not go together.)
macro_rules! counted {
    ($(#[$about:meta])* $name:ident { $($own:tt)* } $(#[$window:meta])*) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($own)*
            /// Money.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "Option<MoneyText>")]
            pub limit: Option<Money>,
            /// Tokens, read and generated.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = 0, max = 1_000_000_000_000_000u64))]
            pub tokens: Option<u64>,
            /// Tokens read.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = 0, max = 1_000_000_000_000_000u64))]
            pub input_tokens: Option<u64>,
            /// Tokens generated.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = 0, max = 1_000_000_000_000_000u64))]
            pub output_tokens: Option<u64>,
            /// Requests.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = 0, max = 1_000_000_000_000_000u64))]
            pub requests: Option<u64>,
            /// Audio heard, by its length.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(with = "Option<SpanText>")]
            pub audio: Option<Span>,
            /// Requests at once: each holds a place, wherever it may be sent, until it is answered to its end.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = 0, max = 1_000_000))]
            pub concurrent: Option<u32>,
            $(#[$window])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub window: Option<BudgetWindow>,
            /// Parts of the limit that are told of when they are reached, from 0.01 to 1.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            #[schemars(with = "Vec<f64>", length(max = 8))]
            pub soft: Vec<Threshold>,
            /// Whether it refuses what does not fit, or only counts.
            #[serde(default, skip_serializing_if = "BudgetMode::is_default")]
            pub mode: BudgetMode,
            /// What a call is taken to have cost of which its provider does not say it.
            #[serde(default, skip_serializing_if = "OnUnknown::is_default")]
            pub on_unknown: OnUnknown,
        }

        impl $name {
            /// In how long; where nothing is counted in time, for good.
            pub fn window(&self) -> BudgetWindow {
                self.window.unwrap_or(BudgetWindow::Total)
            }

            /// The limits in time that are given, each in its unit: nano-USD, tokens, requests, milliseconds.
            pub fn limits(&self) -> Vec<(BudgetUnit, i64)> {
                let counts = [self.tokens, self.input_tokens, self.output_tokens, self.requests];
                limits(self.limit, counts, self.audio)
            }
        }
    };
}

counted! {
    /// What may be spent by everything it counts. Every budget that counts a request has to have room for it.
    Budget {
        /// Named in refusals and reports.
        #[schemars(with = "NameText")]
        pub name: Name,
        /// Which requests it counts: every list given must name the request. Absent: all.
        #[serde(default, skip_serializing_if = "Over::is_empty")]
        pub over: Over,
        /// Counted for each of these on its own; of several, for each combination. Absent: all together.
        #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
        pub per: OneOrMany<BudgetPer>,
    }
    /// In how long: `1d` and the like, a window that moves; `hour`, `day`, `week` or `month` of the calendar (UTC); `total`, for
    /// good. Of everything but `concurrent`.
}

counted! {
    /// What everybody that a policy lets in may spend: a budget without a name, for its own requests.
    Spend {
        /// Counted for each of these on its own; of several, for each combination. `policy`: all together.
        pub per: OneOrMany<BudgetPer>,
    }
    /// In how long: see `[[budget]]`.
}

/// Which requests a budget counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Over {
    /// The caller's organisation, one of these.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub organisation: OneOrMany<Pattern>,
    /// The caller's project, one of these.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub project: OneOrMany<Pattern>,
    /// The issuer's name, one of these; `vouchgate` is our own.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub issuer: OneOrMany<Pattern>,
    /// The client, one of these.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub client: OneOrMany<Pattern>,
    /// The subject, one of these. A subject means nothing without its issuer: name both.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub subject: OneOrMany<Pattern>,
    /// Names of `vg_` keys, one of which was shown.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub key: OneOrMany<Pattern>,
    /// The thumbprint of the key or certificate the token is bound to, one of these.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub device: OneOrMany<Pattern>,
    /// The policy that let the request in, one of these.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub policy: OneOrMany<Pattern>,
    /// A tag of that policy, one of these.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub tag: OneOrMany<Pattern>,
    /// The model: by the name the client asks for, or as `PROVIDER/MODEL` where it may be sent to.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub model: OneOrMany<Pattern>,
    /// A provider that it may be sent to.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub provider: OneOrMany<Pattern>,
    /// The service, one of these.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub service: OneOrMany<Pattern>,
    /// The upstream, one of these.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub upstream: OneOrMany<Pattern>,
}

impl Over {
    /// Whether it counts every request.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a budget counts separately. Requests that have none of it are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BudgetPer {
    /// The caller's organisation.
    Organisation,
    /// The caller's project.
    Project,
    /// The client.
    Client,
    /// The pair (issuer, subject).
    Subject,
    /// The `vg_` key.
    Key,
    /// The key or certificate the token is bound to.
    Device,
    /// The policy that let the request in.
    Policy,
    /// The model, by the name the client asks for.
    Model,
    /// The provider that answers.
    Provider,
    /// The service.
    Service,
    /// The upstream.
    Upstream,
    /// The tag a caller gives its request (`x-vouchgate-tag`), of those its policy allows (`caller_tags`).
    Tag,
}

impl BudgetPer {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Project => "project",
            Self::Client => "client",
            Self::Subject => "subject",
            Self::Key => "key",
            Self::Device => "device",
            Self::Policy => "policy",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Service => "service",
            Self::Upstream => "upstream",
            Self::Tag => "tag",
        }
    }
}

/// Whether a budget refuses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BudgetMode {
    /// What does not fit is refused.
    #[default]
    Enforce,
    /// It is counted and told of, and goes on.
    Shadow,
}

impl BudgetMode {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a call is taken to have cost of which its provider does not say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// All that was held for it.
    #[default]
    Charge,
    /// Nothing.
    Release,
}

impl OnUnknown {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// In how long a budget may be spent.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum BudgetWindow {
    /// A window that moves.
    Rolling(Span),
    /// From one hour of the clock to the next.
    Hour,
    /// From midnight to midnight, UTC.
    Day,
    /// From Monday to Monday, UTC.
    Week,
    /// From the first of a month to the first of the next, UTC.
    Month,
    /// For good.
    Total,
}

text_value!(
    BudgetWindow,
    "budget-window",
    "A window: a duration such as 1d that moves; hour, day, week or month of the calendar (UTC); total.",
    "1d"
);

impl FromStr for BudgetWindow {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        const LEAST: Duration = Duration::from_mins(1);
        const MOST: Duration = Duration::from_hours(366 * 24);
        Ok(match text {
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "total" => Self::Total,
            _ => {
                let wrong = || {
                    ValueError::new("not a window").hint("a duration such as \"1d\", or hour, day, week, month, total")
                };
                let span: Span = text.parse().map_err(|_| wrong())?;
                if !(LEAST..=MOST).contains(&span.duration()) {
                    return Err(ValueError::new("a window that moves is from 1m to 366d long"));
                }
                Self::Rolling(span)
            }
        })
    }
}

impl fmt::Display for BudgetWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rolling(span) => fmt::Display::fmt(span, f),
            Self::Hour => f.write_str("hour"),
            Self::Day => f.write_str("day"),
            Self::Week => f.write_str("week"),
            Self::Month => f.write_str("month"),
            Self::Total => f.write_str("total"),
        }
    }
}

/// A part of a whole, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Threshold(u16);

impl Threshold {
    /// In thousandths, from 10 to 1000.
    pub fn per_mille(self) -> u16 {
        self.0
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(f64::from(self.0) / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(from)?.clamp(0.0, 60.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it is from 0 to 60,000
        let thousandths = (number * 1000.0).round() as u16;
        Ok(Self(thousandths))
    }
}

/// What a budget counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BudgetUnit {
    /// Nano-USD.
    Money,
    /// Tokens read and generated.
    Tokens,
    /// Tokens read.
    InputTokens,
    /// Tokens generated.
    OutputTokens,
    /// Requests.
    Requests,
    /// Milliseconds of audio.
    Audio,
}

impl BudgetUnit {
    /// The key in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Money => "limit",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Requests => "requests",
            Self::Audio => "audio",
        }
    }
}

/// The limits that are given, each in its unit: nano-USD, tokens, requests, milliseconds. More than 63 bits hold counts as that.
fn limits(money: Option<Money>, counts: [Option<u64>; 4], audio: Option<Span>) -> Vec<(BudgetUnit, i64)> {
    let [tokens, input, output, requests] = counts;
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let audio = audio.map(|span| i64::try_from(span.duration().as_millis()).unwrap_or(i64::MAX));
    [
        (BudgetUnit::Money, money.map(|money| i64::try_from(money.nano_usd()).unwrap_or(i64::MAX))),
        (BudgetUnit::Tokens, tokens.map(whole)),
        (BudgetUnit::InputTokens, input.map(whole)),
        (BudgetUnit::OutputTokens, output.map(whole)),
        (BudgetUnit::Requests, requests.map(whole)),
        (BudgetUnit::Audio, audio),
    ]
    .into_iter()
    .filter_map(|(unit, limit)| Some((unit, limit?)))
    .collect()
}

impl Spend {
    /// What its accounts are called: by what tells it from the others of the policy, so that a limit can be changed and what was
    /// spent still counts. (No `[[budget]]` has a blank in its name.)
    pub fn account(&self, policy: &Name) -> String {
        let mut per = self.per.to_vec();
        per.sort_unstable();
        let per: Vec<&str> = per.into_iter().map(BudgetPer::as_str).collect();
        match self.window {
            Some(window) => format!("policy {policy} {} {window}", per.join("+")),
            None => format!("policy {policy} {}", per.join("+")),
        }
    }

    /// What is wrong with it on its own; paths begin at the policy.
    pub(crate) fn alone(&self, at: &str, faults: &mut Faults) {
        check((&self.limits(), self.concurrent, self.window), &self.soft, at, faults);
        per_twice(&self.per, at, faults);
    }
}

fn per_twice(per: &[BudgetPer], at: &str, faults: &mut Faults) {
    for (index, one) in per.iter().enumerate() {
        if per.iter().take(index).any(|before| before == one) {
            faults.add(format!("{at}per[{index}]"), Code::BadValue, "named twice");
        }
    }
}

fn check(
    (limits, concurrent, window): (&[(BudgetUnit, i64)], Option<u32>, Option<BudgetWindow>),
    soft: &[Threshold],
    at: &str,
    faults: &mut Faults,
) {
    let here = at.trim_end_matches('.');
    match (limits.is_empty(), concurrent, window) {
        (true, None, _) => {
            faults
                .add(here, Code::MissingKey, "it limits nothing")
                .hint("give limit, tokens, input_tokens, output_tokens, requests, audio or concurrent");
        }
        (false, _, None) => {
            faults.add(here, Code::MissingKey, "`window` is missing").hint("\"1d\", \"month\", \"total\"");
        }
        (true, Some(_), Some(_)) => {
            let message = "what is limited at once has no window";
            faults.add(format!("{at}window"), Code::Conflict, message).hint("leave it out");
        }
        _ => {}
    }
    for (index, share) in soft.iter().enumerate() {
        if !(10..=1000).contains(&share.per_mille()) {
            faults.add(format!("{at}soft[{index}]"), Code::BadValue, "a number from 0.01 to 1 belongs here");
        }
    }
}

impl Alone for Budget {
    fn alone(&self, faults: &mut Faults) {
        check((&self.limits(), self.concurrent, self.window), &self.soft, "", faults);
        per_twice(&self.per, "", faults);
        if !self.over.subject.is_empty() && self.over.issuer.is_empty() {
            faults
                .add("over.subject", Code::Conflict, "a subject means nothing without its issuer")
                .hint("name the issuer too: over.issuer");
        }
    }
}
