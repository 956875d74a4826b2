//! Time is a dependency like any other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment of wall-clock time: milliseconds since the Unix epoch, UTC. May be negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds since the epoch, saturating.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down (a JWT `NumericDate`, RFC 7519 section 2).
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment plus `duration`, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment minus `duration`, saturating.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-21T03:14:15.926Z`.
    pub fn rfc3339(self) -> String {
        let nanos = i128::from(self.0) * 1_000_000;
        time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            .and_then(|t| {
                let format = time::macros::format_description!(
                    "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
                );
                t.format(&format).ok()
            })
            .unwrap_or_else(|| format!("@{}ms", self.0))
    }
}

impl Timestamp {
    /// Read `2026-11-21T03:14:15.926Z` or with an offset (RFC 3339 section 5.6); of a fraction, milliseconds count.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let date = text.get(..10).filter(|date| date.as_bytes().get(4) == Some(&b'-'))?;
        let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u16>().ok())?;
        let (year, month, day) = (number(date.get(..4)?)?, number(date.get(5..7)?)?, number(date.get(8..10)?)?);
        let time = text.get(11..).filter(|_| matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')))?;
        let rest = time.get(8..)?;
        let rest = match rest.strip_prefix('.') {
            Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        let offset = match rest.as_bytes() {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), ..] => {
                let (hours, minutes) = (number(rest.get(1..3)?)?, number(rest.get(4..)?)?);
                let minutes = i64::from(hours) * 60 + i64::from(minutes);
                if *sign == b'+' { minutes } else { -minutes }
            }
            _ => return None,
        };
        let at = Self::of(year, month, day, time.get(..8)?)?;
        let digits = time.get(9..).filter(|_| time.as_bytes().get(8) == Some(&b'.')).unwrap_or_default();
        let digits = digits.bytes().take_while(u8::is_ascii_digit).chain(*b"000").take(3);
        let millis = digits.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        Some(Self(at.0 + millis - offset * 60_000))
    }

    /// Read `Sun, 06 Nov 1994 08:49:37 GMT`: the one form of an HTTP date that is still written (RFC 9110 section 5.6.7).
    pub fn parse_http_date(text: &str) -> Option<Self> {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let mut parts = text.split_once(", ")?.1.split(' ');
        let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
        let month = MONTHS.iter().position(|name| *name == month)? + 1;
        let (time, zone) = (parts.next()?, parts.next()?);
        if zone != "GMT" || parts.next().is_some() {
            return None;
        }
        Self::of(year.parse().ok()?, u16::try_from(month).ok()?, day.parse().ok()?, time)
    }

    /// A date and `HH:MM:SS`, UTC.
    fn of(year: u16, month: u16, day: u16, time: &str) -> Option<Self> {
        let mut parts = time.split(':').map(|part| part.parse::<u8>().ok());
        let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
        let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
        let date = time::Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()?;
        // A leap second is the last one before it.
        let time = time::Time::from_hms(hour, minute, second.min(59)).ok().filter(|_| parts.next().is_none())?;
        Some(Self::from_secs(time::PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp()))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// Where time comes from. [`SystemClock`] in the product, [`FakeClock`] in tests.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time: what tokens and records speak of. May step.
    fn now(&self) -> Timestamp;

    /// Monotonic time: what intervals are measured with. Never steps back.
    fn monotonic(&self) -> Instant;
}

/// The machine's clock: the one place that reads it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one home of the wall clock
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Err(before) => Timestamp(-i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX)),
        }
    }

    #[allow(clippy::disallowed_methods)] // the one home of the monotonic clock
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock a test sets by hand. Clones share the same time.
#[derive(Debug, Clone)]
pub struct FakeClock {
    start: Timestamp,
    origin: Instant,
    millis: Arc<AtomicI64>,
}

impl FakeClock {
    /// A clock that stands still at `start`.
    pub fn at(start: Timestamp) -> Self {
        Self { start, origin: SystemClock.monotonic(), millis: Arc::new(AtomicI64::new(start.0)) }
    }

    /// Move both wall and monotonic time forward.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Step the wall clock, forward or back (monotonic time follows only forward).
    pub fn set(&self, now: Timestamp) {
        self.millis.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Instant {
        self.origin + self.now().since(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_rfc_3339() {
        assert_eq!(Timestamp::from_millis(1_795_230_855_926).rfc3339(), "2026-11-21T03:14:15.926Z");
        for text in ["2026-11-21T03:14:15.926Z", "2026-11-21T05:14:15.9260001+02:00", "2026-11-20t22:44:15.926-04:30"] {
            assert_eq!(Timestamp::parse_rfc3339(text), Some(Timestamp::from_millis(1_795_230_855_926)), "{text}");
        }
        let second = Some(Timestamp::from_secs(784_111_777));
        assert_eq!(Timestamp::parse_rfc3339("1994-11-06T08:49:37Z"), second);
        assert_eq!(Timestamp::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), second);
        for bad in [
            "",
            "1994-11-06",
            "1994-13-06T08:49:37Z",
            "1994-11-06T08:49:37",
            "1994-11-06T08:49Z",
            "+994-11-06T08:49:37Z",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(bad), None, "{bad}");
        }
        for bad in ["Sun, 06 Nov 1994 08:49:37", "Sun, 31 Feb 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"] {
            assert_eq!(Timestamp::parse_http_date(bad), None, "{bad}");
        }
        assert_eq!(Timestamp::from_secs(i64::MAX).plus(Duration::from_secs(1)).as_millis(), i64::MAX);
    }

    #[test]
    fn seconds_round_down_before_the_epoch_too() {
        assert_eq!(Timestamp::from_millis(-1).as_secs(), -1);
    }

    #[test]
    fn clones_of_a_fake_clock_share_their_time() {
        let clock = FakeClock::at(Timestamp::from_secs(100));
        let other = clock.clone();
        let before = other.monotonic();
        clock.advance(Duration::from_secs(5));
        assert_eq!(other.now().as_secs(), 105);
        assert_eq!(other.monotonic() - before, Duration::from_secs(5));
    }
}
