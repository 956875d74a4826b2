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
