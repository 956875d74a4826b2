//! Times of the week: `"mon-fri 08:00-18:00 UTC"`.

use std::fmt;
use std::str::FromStr;

use base::Timestamp;

use crate::text::{ValueError, text_value};

/// A time of the week: days, hours and the clock they are told by. The end does not belong to it. Hours past
/// midnight (`22:00-06:00`) belong to the day they begin on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeWindow {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes after midnight, 0 to 1439.
    start: u16,
    /// Minutes after midnight, 1 to 1440; not later than `start` when it lies on the next day.
    end: u16,
    /// Minutes east of UTC.
    offset: i16,
}

text_value!(
    TimeWindow,
    "time-window",
    "Days, hours and UTC or an offset: every day where no days are given.",
    "mon-fri 08:00-18:00 UTC"
);

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const EVERY_DAY: u8 = 0b111_1111;
const MINUTES_A_DAY: i64 = 1440;

impl TimeWindow {
    /// Whether `now` lies in it.
    pub fn contains(&self, now: Timestamp) -> bool {
        let minutes = now.as_secs().div_euclid(60).saturating_add(i64::from(self.offset));
        let day = minutes.div_euclid(MINUTES_A_DAY);
        let minute = minutes.rem_euclid(MINUTES_A_DAY);
        let (start, end) = (i64::from(self.start), i64::from(self.end));
        if start < end {
            return self.has_day(day) && (start..end).contains(&minute);
        }
        (self.has_day(day) && minute >= start) || (self.has_day(day.saturating_sub(1)) && minute < end)
    }

    /// Whether the day that is `day` days after 1970-01-01, a Thursday, is one of them.
    fn has_day(self, day: i64) -> bool {
        let weekday = day.saturating_add(3).rem_euclid(7);
        self.days & (1u8 << weekday) != 0
    }
}

impl FromStr for TimeWindow {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = |what: &'static str| {
            ValueError::new(what).hint("write \"mon-fri 08:00-18:00 UTC\" or \"sat,sun 22:00-06:00 +02:00\"")
        };
        let words: Vec<&str> = text.split(' ').collect();
        let (days, hours, zone) = match words.as_slice() {
            [days, hours, zone] => (parse_days(days).ok_or_else(|| wrong("not days of the week"))?, *hours, *zone),
            [hours, zone] => (EVERY_DAY, *hours, *zone),
            _ => return Err(wrong("not a time window")),
        };
        let (start, end) = hours.split_once('-').ok_or_else(|| wrong("not hours"))?;
        let start = parse_clock(start).ok_or_else(|| wrong("not a time of day"))?;
        let end = parse_clock(end).ok_or_else(|| wrong("not a time of day"))?;
        if start == end || start == 1440 || end == 0 {
            return Err(wrong("the hours are empty or begin at 24:00; a whole day is 00:00-24:00"));
        }
        let offset = parse_zone(zone).ok_or_else(|| wrong("not UTC or an offset from it"))?;
        Ok(Self { days, start, end, offset })
    }
}

fn parse_days(text: &str) -> Option<u8> {
    let index = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut days = 0u8;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (index(first)?, index(last)?);
        let mut day = first;
        loop {
            days |= 1u8 << day;
            if day == last {
                break;
            }
            day = (day + 1) % 7;
        }
    }
    Some(days)
}

/// `"08:00"` as minutes after midnight, to 24:00.
fn parse_clock(text: &str) -> Option<u16> {
    let two = |text: &str| -> Option<u16> {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
    };
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (two(hour)?, two(minute)?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= 1440).then_some(minutes)
}

fn parse_zone(text: &str) -> Option<i16> {
    if text == "UTC" || text == "Z" {
        return Some(0);
    }
    let (sign, clock) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(clock), _) => (1, clock),
        (_, Some(clock)) => (-1, clock),
        _ => return None,
    };
    let minutes = i16::try_from(parse_clock(clock)?).ok()?;
    (minutes <= 14 * 60).then_some(sign * minutes)
}

impl fmt::Display for TimeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != EVERY_DAY {
            let mut first = true;
            for (index, day) in DAYS.iter().enumerate() {
                if self.days & (1u8 << index) != 0 {
                    write!(f, "{}{day}", if first { "" } else { "," })?;
                    first = false;
                }
            }
            f.write_str(" ")?;
        }
        let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(f, "{}-{} ", clock(self.start), clock(self.end))?;
        match self.offset {
            0 => f.write_str("UTC"),
            offset => {
                write!(f, "{}{}", if offset < 0 { '-' } else { '+' }, clock(offset.unsigned_abs()))
            }
        }
    }
}
