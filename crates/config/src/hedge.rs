//! Asking beside: another target where the first takes long, and a copy of a request for a target nobody hears.

use std::fmt;
use std::str::FromStr;

use base::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fault::{Code, Faults};
use crate::text::{ValueError, text_value};
use crate::{Model, OWN_NAME};

/// Another target is asked beside one that takes long; the first useful answer is the caller's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hedge {
    /// When: a time (`"2s"`), or what so many of a hundred answers of that target took of late (`"p95"`).
    pub after: HedgeAfter,
    /// Requests in a hundred for which another target may be asked beside the first.
    #[serde(default = "budget")]
    #[schemars(range(min = 1, max = 100))]
    pub budget: u32,
    /// Whether the other target may be one of the same provider, asked with the same key.
    #[serde(default)]
    pub same_key: bool,
}

fn budget() -> u32 {
    5
}

/// When another target is asked beside the first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    /// After this long.
    Time(Span),
    /// After what so many percent of a target's answers took to begin; nothing is asked while too few are known.
    Percentile(u8),
}

text_value!(
    HedgeAfter,
    "hedge-after",
    "A duration from 10ms to 10m, or p50 to p99: what so many percent of a target's answers took to begin of late.",
    "p95"
);

/// The times after which it makes sense.
const TIMES: (Span, Span) = (Span::new(std::time::Duration::from_millis(10)), Span::secs(600));

impl FromStr for HedgeAfter {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(percent) = text.strip_prefix('p') {
            let percent = percent.parse::<u8>().ok().filter(|percent| (50..=99).contains(percent));
            return percent
                .filter(|_| text.len() == 3)
                .map(Self::Percentile)
                .ok_or_else(|| ValueError::new("not a percentile from p50 to p99").hint("for example \"p95\""));
        }
        let (least, most) = TIMES;
        text.parse::<Span>()
            .ok()
            .filter(|time| (least..=most).contains(time))
            .map(Self::Time)
            .ok_or_else(|| ValueError::new(format!("a duration from {least} to {most}, or p50 to p99, belongs here")))
    }
}

impl fmt::Display for HedgeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => time.fmt(f),
            Self::Percentile(percent) => write!(f, "p{percent}"),
        }
    }
}

/// A share from 0 to 1, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(i32);

impl Share {
    /// As a number.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(from)?.clamp(-1000.0, 1000.0);
        #[allow(clippy::cast_possible_truncation)] // it is within a thousand millions
        let millionths = (number * 1e6).round() as i32;
        Ok(Self(millionths))
    }
}

impl Model {
    /// What is wrong with how it asks beside.
    pub(crate) fn beside_alone(&self, faults: &mut Faults) {
        for (index, target) in self.targets.iter().enumerate() {
            let Some(share) = target.shadow else { continue };
            let at = |key: &str| format!("targets[{index}].{key}");
            if !(1..=1_000_000).contains(&share.0) {
                faults
                    .add(at("shadow"), Code::BadValue, "a number above 0, up to 1, belongs here")
                    .hint("0.05 is five requests in a hundred");
            }
            if target.provider.as_str() == OWN_NAME {
                faults.add(at("shadow"), Code::Conflict, "the built-in model has nothing to show");
            }
            for (key, given) in [("canary", target.canary.is_some()), ("weight", target.weight.is_some())] {
                if given {
                    faults.add(at(key), Code::Conflict, "a shadow's answers are nobody's: it has no share of them");
                }
            }
        }
        let Some(hedge) = &self.hedge else { return };
        let asked: Vec<_> = self
            .targets
            .iter()
            .filter(|target| target.shadow.is_none() && target.provider.as_str() != OWN_NAME)
            .collect();
        if asked.len() < 2 {
            faults
                .add("hedge", Code::Conflict, "there is no other target to ask beside the first")
                .hint("add a target of another provider");
        } else if self.retry.attempts < 2 {
            faults.add("hedge", Code::Conflict, "retry.attempts = 1 leaves none for another target").hint("at least 2");
        }
        let total = self.timeout.total;
        if let (HedgeAfter::Time(after), Some(total)) = (hedge.after, total)
            && after >= total
        {
            faults.add("hedge.after", Code::Conflict, "not before timeout.total: no other target would ever be asked");
        }
    }
}
