//! How a caller stands with the limits that count it, as the answer's header says it: `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers-10), and beside them the fields OpenAI's clients read.

use std::sync::Arc;
use std::time::Duration;

use config::Per;
use http::header::IntoHeaderName;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::gcra::{Level, Quota};

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
}

/// A limit on requests at once.
#[derive(Debug, Clone)]
struct AtOnce {
    budget: Arc<str>,
    limit: u64,
    left: u64,
}

/// One limit.
#[derive(Debug, Clone, Copy)]
struct Line {
    counted: Counted,
    per: Per,
    quota: Quota,
    level: Level,
}

/// What is said of one of them in a field.
type Tell<T> = fn(&T, &mut String);

/// Every rate that counts a request, in the order of the policy, and every budget of requests at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing(Vec<Line>, Vec<AtOnce>);

impl Standing {
    pub(super) fn add(&mut self, counted: Counted, per: Per, quota: Quota, level: Level) {
        self.0.push(Line { counted, per, quota, level });
    }

    /// As of the call that counts: how it stands with the limits of the provider that it asked, and of no other.
    pub(crate) fn asked(&mut self, call: Self) {
        if !call.0.is_empty() {
            self.0.retain(|line| line.per != Per::Provider);
            self.0.extend(call.0);
        }
    }

    /// A budget lets so many requests in at once, and would let so many more in now.
    pub(crate) fn at_once(&mut self, budget: &Arc<str>, limit: u64, left: u64) {
        self.1.push(AtOnce { budget: Arc::clone(budget), limit, left });
    }

    /// How many there are so far.
    pub(super) fn lines(&self) -> usize {
        self.0.len()
    }

    /// All nodes together know better how full the line with this number is.
    pub(super) fn change(&mut self, line: usize, level: Level) {
        if let Some(line) = self.0.get_mut(line) {
            line.level = level;
        }
    }

    /// Set the fields; nothing where nothing counts.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() && self.1.is_empty() {
            return;
        }
        // Room for two limits; most have no more. All is written in one place, piece by piece: every answer has these fields.
        let mut text = String::with_capacity(96);
        let fields: [(HeaderName, Tell<Line>, Tell<AtOnce>); 2] =
            [(POLICY, Line::policy, AtOnce::policy), (LIMIT, Line::level, AtOnce::level)];
        for (field, tell, tell_at_once) in fields {
            text.clear();
            for line in &self.0 {
                if !text.is_empty() {
                    text.push_str(", ");
                }
                line.name(&mut text);
                tell(line, &mut text);
            }
            for at_once in &self.1 {
                if !text.is_empty() {
                    text.push_str(", ");
                }
                at_once.name(&mut text);
                tell_at_once(at_once, &mut text);
            }
            set(headers, field, &text);
        }
        for (counted, limit, remaining, reset) in &OPENAI {
            // Of several limits the one that is nearest.
            let lines = self.0.iter().filter(|line| line.counted == *counted);
            let Some(line) = lines.min_by_key(|line| (line.level.remaining, std::cmp::Reverse(line.level.reset)))
            else {
                continue;
            };
            for (field, count) in [(limit, line.quota.limit), (remaining, line.level.remaining)] {
                text.clear();
                number(&mut text, "", count);
                set(headers, field, &text);
            }
            text.clear();
            clock(&mut text, line.level.reset);
            set(headers, reset, &text);
        }
    }
}

/// `platform.openai.com/docs/guides/rate-limits`, "Rate limits in headers".
static OPENAI: [(Counted, HeaderName, HeaderName, HeaderName); 2] = [
    (
        Counted::Requests,
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ),
    (
        Counted::Tokens,
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ),
];
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

impl AtOnce {
    /// A name, in quotes. (A `spend` has no name but what its accounts are called.)
    fn name(&self, out: &mut String) {
        out.push_str("\"concurrent-");
        out.extend(self.budget.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.+".contains(c) { c } else { '-' }));
        out.push('"');
    }

    fn policy(&self, out: &mut String) {
        number(out, ";q=", self.limit);
        out.push_str(";qu=\"concurrent-requests\"");
    }

    fn level(&self, out: &mut String) {
        number(out, ";r=", self.left);
    }
}

impl Line {
    /// A name that tells the limits of one answer apart, in quotes: what, for whom, in how long.
    fn name(&self, out: &mut String) {
        out.push_str(match self.counted {
            Counted::Requests => "\"requests-",
            Counted::Tokens => "\"tokens-",
        });
        out.push_str(self.per.as_str());
        number(out, "-", self.quota.window.as_secs().max(1));
        out.push_str("s\"");
    }

    fn policy(&self, out: &mut String) {
        number(out, ";q=", self.quota.limit);
        if self.counted == Counted::Tokens {
            out.push_str(";qu=\"tokens\"");
        }
        number(out, ";w=", self.quota.window.as_secs().max(1));
    }

    fn level(&self, out: &mut String) {
        number(out, ";r=", self.level.remaining);
        number(out, ";t=", whole_seconds(self.level.reset));
    }
}

/// Write a number in decimal, after what comes before it.
fn number(out: &mut String, before: &str, number: u64) {
    out.push_str(before);
    let (mut digits, mut rest, mut used) = ([b'0'; 20], number, 0);
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(rest % 10).unwrap_or(0);
        (rest, used) = (rest / 10, used + 1);
        if rest == 0 {
            break;
        }
    }
    let written = digits.get(digits.len() - used..).unwrap_or_default();
    out.push_str(std::str::from_utf8(written).unwrap_or_default());
}

fn set(headers: &mut HeaderMap, name: impl IntoHeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// A time as OpenAI writes it: `20ms`, `1s`, `6m0s`.
fn clock(text: &mut String, time: Duration) {
    let millis = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    if millis < 1000 {
        number(text, "", millis);
        text.push_str("ms");
        return;
    }
    let seconds = millis.div_ceil(1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        number(text, "", hours);
        text.push('h');
    }
    if hours > 0 || minutes > 0 {
        number(text, "", minutes);
        text.push('m');
    }
    number(text, "", seconds);
    text.push('s');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_told_and_to_openais_clients_the_nearest() {
        let mut standing = Standing::default();
        let mut add = |counted, per, limit, window, remaining, reset| {
            let quota = Quota { limit, window: Duration::from_secs(window) };
            standing.add(counted, per, quota, Level { remaining, reset: Duration::from_millis(reset) });
        };
        add(Counted::Requests, Per::Subject, 60, 60, 59, 1000);
        add(Counted::Requests, Per::Policy, 100, 3600, 3, 359_100);
        add(Counted::Tokens, Per::Subject, 90_000, 60, 89_000, 667);
        let mut headers = HeaderMap::new();
        standing.write(&mut headers);
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!(
            text("ratelimit-policy"),
            "\"requests-subject-60s\";q=60;w=60, \"requests-policy-3600s\";q=100;w=3600, \
             \"tokens-subject-60s\";q=90000;qu=\"tokens\";w=60"
        );
        assert_eq!(
            text("ratelimit"),
            "\"requests-subject-60s\";r=59;t=1, \"requests-policy-3600s\";r=3;t=360, \"tokens-subject-60s\";r=89000;t=1"
        );
        assert_eq!((text("x-ratelimit-limit-requests"), text("x-ratelimit-remaining-requests")), ("100", "3"));
        assert_eq!((text("x-ratelimit-reset-requests"), text("x-ratelimit-reset-tokens")), ("6m0s", "667ms"));
        assert_eq!(text("x-ratelimit-remaining-tokens"), "89000");
    }

    #[test]
    fn what_a_budget_lets_in_at_once_is_told_without_a_window() {
        let mut standing = Standing::default();
        standing.at_once(&Arc::from("team-a"), 4, 3);
        standing.at_once(&Arc::from("policy p subject"), 2, 0);
        let mut headers = HeaderMap::new();
        standing.write(&mut headers);
        assert_eq!(
            (headers["ratelimit-policy"].to_str().unwrap(), headers["ratelimit"].to_str().unwrap()),
            (
                "\"concurrent-team-a\";q=4;qu=\"concurrent-requests\", \"concurrent-policy-p-subject\";q=2;qu=\"concurrent-requests\"",
                "\"concurrent-team-a\";r=3, \"concurrent-policy-p-subject\";r=0"
            )
        );
        assert!(!headers.contains_key("x-ratelimit-limit-requests"));
    }

    #[test]
    fn nothing_is_said_where_nothing_counts() {
        let mut headers = HeaderMap::new();
        Standing::default().write(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn times_are_written_as_openai_writes_them() {
        let told = |millis| {
            let mut text = String::new();
            clock(&mut text, Duration::from_millis(millis));
            text
        };
        assert_eq!(
            (told(0), told(20), told(999), told(1001)),
            ("0ms".into(), "20ms".into(), "999ms".into(), "2s".into())
        );
        assert_eq!((told(60_000), told(86_400_000)), ("1m0s".into(), "24h0m0s".into()));
    }
}
