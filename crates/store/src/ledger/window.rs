//! Units and windows, and which period a moment is in.

use std::time::Duration;

use base::Timestamp;
use time::{Date, OffsetDateTime};

/// What an account counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Money, in nano-USD.
    NanoUsd,
    /// Input and output tokens together.
    Tokens,
    /// Tokens of requests.
    InputTokens,
    /// Tokens of answers.
    OutputTokens,
    /// Requests.
    Requests,
    /// Audio, in milliseconds.
    AudioMs,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::NanoUsd, Self::Tokens, Self::InputTokens, Self::OutputTokens, Self::Requests, Self::AudioMs];

    /// Its name, as it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NanoUsd => "nano_usd",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Requests => "requests",
            Self::AudioMs => "audio_ms",
        }
    }

    /// The unit of a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == text)
    }
}

/// A calendar period, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// From the full hour.
    Hour,
    /// From midnight.
    Day,
    /// From midnight before Monday.
    Week,
    /// From midnight before the first.
    Month,
}

/// Over what time a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// Each calendar period by itself.
    Calendar(Period),
    /// Any stretch of this length, to 1/24 of it (at least a minute): what was used leaves up to that much late, never early.
    Rolling(Duration),
    /// All time.
    Total,
}

/// The part of a window that is filled at a moment: milliseconds since the epoch, `end` outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 86_400_000;

impl Window {
    /// The part that is filled at `now`.
    pub(crate) fn at(self, now: Timestamp) -> Span {
        let now = now.as_millis();
        let every = |length: i64, offset: i64| {
            let start = (now - offset).div_euclid(length).saturating_mul(length).saturating_add(offset);
            Span { start, end: start.saturating_add(length) }
        };
        match self {
            Self::Calendar(Period::Hour) => every(HOUR, 0),
            Self::Calendar(Period::Day) => every(DAY, 0),
            // The epoch was a Thursday.
            Self::Calendar(Period::Week) => every(7 * DAY, 4 * DAY),
            Self::Calendar(Period::Month) => month(now).unwrap_or_else(|| every(30 * DAY, 0)),
            Self::Rolling(_) => every(self.bucket(), 0),
            Self::Total => Span { start: 0, end: i64::MAX },
        }
    }

    /// The earliest start of a part that counts at `now`: one leaves when it is wholly outside.
    pub(crate) fn since(self, now: Timestamp) -> i64 {
        match self {
            Self::Rolling(_) => now.as_millis().saturating_sub(self.length()).saturating_sub(self.bucket()) + 1,
            _ => self.at(now).start,
        }
    }

    /// The first and the last start of the parts that count when the one from `period` is filled at `now`. Of a rolling
    /// window, those that lie ahead count too: a clock that stepped back gives nothing.
    pub(crate) fn counted(self, period: i64, now: Timestamp) -> (i64, i64) {
        if self.rolls() { (self.since(now).min(period), i64::MAX) } else { (period, period) }
    }

    /// Until when a part that starts at `start` counts; never, if it always does.
    pub(crate) fn leaves(self, start: i64) -> Option<Timestamp> {
        match self {
            Self::Rolling(_) => {
                Some(Timestamp::from_millis(start.saturating_add(self.bucket()).saturating_add(self.length())))
            }
            Self::Calendar(_) => Some(Timestamp::from_millis(self.at(Timestamp::from_millis(start)).end)),
            Self::Total => None,
        }
    }

    /// Whether parts before the one that is filled count too.
    pub(crate) const fn rolls(self) -> bool {
        matches!(self, Self::Rolling(_))
    }

    fn bucket(self) -> i64 {
        (self.length() / 24).max(MINUTE)
    }

    fn length(self) -> i64 {
        match self {
            Self::Rolling(length) => i64::try_from(length.as_millis()).unwrap_or(i64::MAX / 4).clamp(1, i64::MAX / 4),
            _ => 0,
        }
    }

    /// As it is stored.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Calendar(Period::Hour) => "hour".to_owned(),
            Self::Calendar(Period::Day) => "day".to_owned(),
            Self::Calendar(Period::Week) => "week".to_owned(),
            Self::Calendar(Period::Month) => "month".to_owned(),
            Self::Rolling(_) => format!("rolling_{}", self.length()),
            Self::Total => "total".to_owned(),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "hour" => Self::Calendar(Period::Hour),
            "day" => Self::Calendar(Period::Day),
            "week" => Self::Calendar(Period::Week),
            "month" => Self::Calendar(Period::Month),
            "total" => Self::Total,
            _ => Self::Rolling(Duration::from_millis(text.strip_prefix("rolling_")?.parse().ok()?)),
        })
    }
}

fn month(now: i64) -> Option<Span> {
    let date = OffsetDateTime::from_unix_timestamp(now.div_euclid(1000)).ok()?.date();
    let first = date.replace_day(1).ok()?;
    let (year, next) = match first.month() {
        time::Month::December => (first.year() + 1, time::Month::January),
        month => (first.year(), month.next()),
    };
    let end = Date::from_calendar_date(year, next, 1).ok()?;
    let millis = |date: Date| date.midnight().assume_utc().unix_timestamp() * 1000;
    Some(Span { start: millis(first), end: millis(end) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(window: Window, now: &str) -> (String, String) {
        let span = window.at(Timestamp::parse_rfc3339(now).unwrap());
        let text = |millis| Timestamp::from_millis(millis).rfc3339().replace(":00.000Z", "");
        (text(span.start), text(span.end))
    }

    #[test]
    fn calendar_periods_are_utc_and_weeks_begin_on_monday() {
        let both = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let now = "2028-02-29T23:59:59.999Z"; // a Tuesday
        assert_eq!(span(Window::Calendar(Period::Hour), now), both("2028-02-29T23:00", "2028-03-01T00:00"));
        assert_eq!(span(Window::Calendar(Period::Day), now), both("2028-02-29T00:00", "2028-03-01T00:00"));
        assert_eq!(span(Window::Calendar(Period::Week), now), both("2028-02-28T00:00", "2028-03-06T00:00"));
        assert_eq!(span(Window::Calendar(Period::Month), now), both("2028-02-01T00:00", "2028-03-01T00:00"));
        let new_year = "2026-12-31T12:00:00Z";
        assert_eq!(span(Window::Calendar(Period::Month), new_year), both("2026-12-01T00:00", "2027-01-01T00:00"));
    }

    #[test]
    fn a_part_of_a_rolling_window_is_a_24th_but_at_least_a_minute() {
        let day = Window::Rolling(Duration::from_hours(24));
        assert_eq!(span(day, "2026-11-21T03:14:15Z").0, "2026-11-21T03:00");
        assert_eq!(span(Window::Rolling(Duration::from_secs(10)), "2026-11-21T03:14:15Z").0, "2026-11-21T03:14");
    }

    fn windows() -> impl Strategy<Value = Window> {
        prop_oneof![
            Just(Window::Calendar(Period::Hour)),
            Just(Window::Calendar(Period::Day)),
            Just(Window::Calendar(Period::Week)),
            Just(Window::Calendar(Period::Month)),
            Just(Window::Total),
            (1u64..100_000_000_000).prop_map(|ms| Window::Rolling(Duration::from_millis(ms))),
        ]
    }

    proptest! {
        #[test]
        fn every_moment_is_in_one_part_and_parts_meet(window in windows(), now in 0i64..4_102_444_800_000) {
            let span = window.at(Timestamp::from_millis(now));
            prop_assert!(span.start <= now && now < span.end);
            if span.end < i64::MAX {
                prop_assert_eq!(window.at(Timestamp::from_millis(span.end)).start, span.end);
                prop_assert_eq!(window.at(Timestamp::from_millis(span.end - 1)), span);
            }
            prop_assert_eq!(Window::parse(&window.text()), Some(window));
        }

        #[test]
        fn what_was_used_within_a_rolling_window_still_counts(
            ms in 1u64..100_000_000_000, used in 200_000_000_000i64..4_102_444_800_000, later in 0u64..100_000_000_000,
        ) {
            let window = Window::Rolling(Duration::from_millis(ms));
            let bucket = window.at(Timestamp::from_millis(used));
            let now = used + i64::try_from(later).unwrap();
            let counts = bucket.start >= window.since(Timestamp::from_millis(now));
            if later <= ms {
                prop_assert!(counts);
            }
            prop_assert_eq!(counts, now < window.leaves(bucket.start).unwrap().as_millis());
        }

        #[test]
        fn any_text_is_a_window_or_none(text in ".{0,30}") {
            let _ = (Window::parse(&text), Unit::parse(&text));
        }
    }
}
