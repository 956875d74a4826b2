//! The ledger's time: what decides which period a request falls into.
//!
//! It runs by the monotonic clock and follows the wall clock (the database's, where that has one of its own) only as far
//! as that is believable: a step is believed once it has stood for a while, so that a clock that jumps an hour and back
//! empties no budget early. It never runs backwards, so that a period that has ended is not spent from again.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base::{Clock, Timestamp};

/// What a clock may be off and is followed at once: drift, a small correction.
const SLEW: i64 = 60_000;
/// How long a larger step must stand before it is believed.
const STANDS: i64 = 15 * 60_000;

#[derive(Debug)]
pub(crate) struct Time {
    clock: Arc<dyn Clock>,
    origin: Instant,
    /// Milliseconds to add to those since `origin`.
    offset: AtomicI64,
    /// The latest moment that was given out.
    floor: AtomicI64,
    /// A step that is not believed yet: how far, and since when by the monotonic clock.
    step: Mutex<Option<(i64, i64)>>,
}

impl Time {
    /// Begin at `now`.
    pub(crate) fn new(clock: Arc<dyn Clock>, now: Timestamp) -> Self {
        let origin = clock.monotonic();
        let now = now.as_millis();
        Self { clock, origin, offset: AtomicI64::new(now), floor: AtomicI64::new(now), step: Mutex::new(None) }
    }

    /// The moment, never before one given out earlier.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.elapsed().saturating_add(self.offset.load(Ordering::Relaxed));
        let floor = self.floor.load(Ordering::Relaxed);
        if now > floor {
            // Not so often that every core writes it on every request: to a hundredth of a second.
            if now - floor > 10 {
                self.floor.fetch_max(now, Ordering::Relaxed);
            }
            return Timestamp::from_millis(now);
        }
        Timestamp::from_millis(floor)
    }

    /// Milliseconds of the monotonic clock, for intervals.
    pub(crate) fn elapsed(&self) -> i64 {
        i64::try_from(self.clock.monotonic().saturating_duration_since(self.origin).as_millis()).unwrap_or(i64::MAX)
    }

    /// Follow a wall clock that says `reading` now.
    pub(crate) fn observe(&self, reading: Timestamp) {
        let elapsed = self.elapsed();
        let offset = reading.as_millis().saturating_sub(elapsed);
        let by = offset.saturating_sub(self.offset.load(Ordering::Relaxed));
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let believed = by.abs() <= SLEW
            || match *step {
                // Still the same step, or another?
                Some((seen, since)) if (seen - by).abs() <= SLEW => elapsed - since >= STANDS,
                _ => {
                    tracing::warn!(
                        by_ms = by,
                        "the clock has stepped: budgets follow it once it has stood for 15 minutes"
                    );
                    *step = Some((by, elapsed));
                    false
                }
            };
        if believed {
            *step = None;
            self.offset.store(offset, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: i64 = 3_600_000;

    /// The fake clock is the monotonic one here; readings are given by hand.
    fn time() -> (FakeClock, Time) {
        let clock = FakeClock::at(Timestamp::from_secs(1_000_000));
        let time = Time::new(Arc::new(clock.clone()), Timestamp::from_millis(0));
        (clock, time)
    }

    use base::FakeClock;

    #[test]
    fn drift_is_followed_at_once() {
        let (clock, time) = time();
        clock.advance(Duration::from_secs(10));
        time.observe(Timestamp::from_millis(12_000));
        assert_eq!(time.now().as_millis(), 12_000);
        clock.advance(Duration::from_secs(1));
        assert_eq!(time.now().as_millis(), 13_000);
    }

    #[test]
    fn a_step_of_an_hour_and_back_changes_nothing() {
        let (clock, time) = time();
        for reading in [HOUR, HOUR + 60_000, 120_000] {
            time.observe(Timestamp::from_millis(reading));
            clock.advance(Duration::from_mins(1));
        }
        assert_eq!(time.now().as_millis(), 180_000);
    }

    #[test]
    fn a_step_that_stands_is_believed() {
        let (clock, time) = time();
        for minute in 0..15 {
            time.observe(Timestamp::from_millis(HOUR + minute * 60_000));
            assert_eq!(time.now().as_millis(), minute * 60_000);
            clock.advance(Duration::from_mins(1));
        }
        time.observe(Timestamp::from_millis(HOUR + 15 * 60_000));
        assert_eq!(time.now().as_millis(), HOUR + 15 * 60_000);
    }

    #[test]
    fn time_never_runs_backwards_also_when_a_step_back_is_believed() {
        let (clock, time) = time();
        clock.advance(Duration::from_hours(2));
        let before = time.now();
        for minute in 0..16 {
            time.observe(Timestamp::from_millis(HOUR + minute * 60_000));
            clock.advance(Duration::from_mins(1));
            assert!(time.now() >= before);
        }
        clock.advance(Duration::from_hours(1));
        let caught_up = time.now();
        assert!(caught_up >= before && caught_up.as_millis() < 4 * HOUR);
    }
}
