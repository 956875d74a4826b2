//! `[anomaly]`: what becomes of a caller that behaves quite unlike itself.

use base::{Money, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alone::between;
use crate::fault::{Code, Faults};
use crate::resource::Alone;
use crate::text::{MoneyText, SpanText};

/// `[anomaly]`: each key, client, subject and device is compared with what it did before; a sudden change is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnomalySection {
    /// What becomes of a caller that asks or spends far more in a minute than it ever did.
    pub surge: OnAnomaly,
    /// What becomes of one that asks or spends more than it did, and most of it from networks it was never seen in. A client
    /// with many subjects is throttled at most.
    pub elsewhere: OnAnomaly,
    /// How many times its own busiest minute is far more. A quarter of it where most comes from networks it was never seen in, or is
    /// for models it never asked for.
    #[schemars(range(min = 2, max = 1000))]
    pub factor: u32,
    /// Requests a minute below which nothing is far more; a third of it from networks it was never seen in.
    #[schemars(range(min = 3, max = 1_000_000))]
    pub requests: u32,
    /// What is spent in a minute below which nothing is far more; a third of it from networks it was never seen in.
    #[schemars(with = "MoneyText")]
    pub spend: Money,
    /// For how long a caller is only watched after it was first seen, or let in again.
    #[schemars(with = "SpanText")]
    pub learn: Span,
    /// For how long a caller is throttled. One that is suspended is so until it is let in again.
    #[serde(rename = "for")]
    #[schemars(with = "SpanText")]
    pub lasts: Span,
}

impl Default for AnomalySection {
    fn default() -> Self {
        Self {
            surge: OnAnomaly::Throttle,
            elsewhere: OnAnomaly::Suspend,
            factor: 10,
            requests: 30,
            spend: Money::from_nano_usd(250_000_000),
            learn: Span::secs(86_400),
            lasts: Span::secs(3600),
        }
    }
}

/// What becomes of a caller that behaves quite unlike itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnAnomaly {
    /// Nothing.
    Off,
    /// It is told, and nothing else.
    Observe,
    /// It may ask for twice what it did in its busiest minute, for a while.
    Throttle,
    /// It is refused until it is let in again.
    Suspend,
}

impl OnAnomaly {
    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Throttle => "throttle",
            Self::Suspend => "suspend",
        }
    }
}

impl Alone for AnomalySection {
    fn alone(&self, faults: &mut Faults) {
        between(self.learn, Span::secs(60), Span::secs(30 * 86_400), "learn", faults);
        between(self.lasts, Span::secs(60), Span::secs(30 * 86_400), "for", faults);
        if self.spend.nano_usd() < 3 {
            faults.add("spend", Code::BadValue, "more than nothing belongs here");
        }
    }
}
