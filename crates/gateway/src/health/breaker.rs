//! A circuit breaker: closed while calls succeed, open after too many that fail, half-open when it is time to see whether one
//! succeeds again. It only watches; it never calls by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::window::{Counts, Window};

/// When a breaker opens, and for how long; times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) enabled: bool,
    /// Failures in a row.
    pub(crate) consecutive: u32,
    /// Failures in a hundred calls of the window,
    pub(crate) failure_rate: u64,
    /// if there were so many calls.
    pub(crate) minimum_calls: u64,
    pub(crate) window: u64,
    pub(crate) open_for: u64,
    /// It stays open twice as long each time a probe fails, up to this.
    pub(crate) max_open: u64,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// Calls go through.
    Closed,
    /// One call may find out.
    HalfOpen,
    /// No call goes through, for so many milliseconds more.
    Open(u64),
}

impl Position {
    /// Its name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open(_) => "open",
        }
    }

    /// As metrics have it: 0 closed, 1 half-open, 2 open.
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open(_) => 2,
        }
    }
}

/// Counts and decides. All times are milliseconds of one monotonic clock, from 1.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// When it may be probed; 0 while it is closed.
    until: AtomicU64,
    /// How often it has opened without closing in between.
    opened: AtomicU32,
    probing: AtomicBool,
    consecutive: AtomicU32,
    window: Window,
}

/// The one call that finds out whether a breaker may close. Dropped without a verdict, the next call is the probe.
#[derive(Debug)]
pub(crate) struct Probe(Arc<Breaker>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.probing.store(false, Ordering::Release);
    }
}

impl Breaker {
    /// Where it stands at `now`.
    pub(crate) fn position(&self, now: u64) -> Position {
        match self.until.load(Ordering::Acquire) {
            0 => Position::Closed,
            until if until <= now => Position::HalfOpen,
            until => Position::Open(until - now),
        }
    }

    /// Whether a call may be made: with a probe where it is half-open and no other call probes already; else when to
    /// ask again.
    pub(crate) fn admit(self: &Arc<Self>, now: u64) -> Result<Option<Probe>, u64> {
        match self.position(now) {
            Position::Closed => Ok(None),
            // How long the probe takes nobody knows.
            Position::HalfOpen => self.probe().map(Some).ok_or(1000),
            Position::Open(wait) => Err(wait),
        }
    }

    /// The right to make one call however it stands, unless another has it.
    pub(crate) fn probe(self: &Arc<Self>) -> Option<Probe> {
        let taken = self.probing.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
        taken.is_ok().then(|| Probe(Arc::clone(self)))
    }

    /// A call succeeded. Says whether that closed it.
    pub(crate) fn succeeded(&self, rules: &Rules, now: u64, probe: bool) -> bool {
        if self.until.load(Ordering::Acquire) != 0 {
            // What was under way when it opened says nothing of now.
            return probe && self.close();
        }
        if self.consecutive.load(Ordering::Relaxed) != 0 {
            self.consecutive.store(0, Ordering::Relaxed);
        }
        self.window.add(now, rules.window, Counts { calls: 1, marked: 0 });
        false
    }

    /// A call failed, or took too long. Says whether that opened it.
    pub(crate) fn failed(&self, rules: &Rules, now: u64, probe: bool) -> bool {
        if !rules.enabled {
            return false;
        }
        if self.until.load(Ordering::Acquire) != 0 {
            return probe && self.open(rules, now, true);
        }
        self.window.add(now, rules.window, Counts { calls: 1, marked: 1 });
        let row = self.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        row >= rules.consecutive && self.open(rules, now, false) || self.is_over(rules, now)
    }

    /// A call took too long: a failure to the rate, but not one in a row.
    pub(crate) fn was_slow(&self, rules: &Rules, now: u64, probe: bool) -> bool {
        if probe {
            // It answers: the rate will tell if it goes on so.
            self.close();
        }
        if !rules.enabled || self.until.load(Ordering::Acquire) != 0 {
            return false;
        }
        self.consecutive.store(0, Ordering::Relaxed);
        self.window.add(now, rules.window, Counts { calls: 1, marked: 1 });
        self.is_over(rules, now)
    }

    fn is_over(&self, rules: &Rules, now: u64) -> bool {
        let Counts { calls, marked } = self.window.counts(now, rules.window);
        calls >= rules.minimum_calls && marked * 100 >= rules.failure_rate * calls && self.open(rules, now, false)
    }

    /// Open it: for a probe that failed anew, else unless it is open already. Of calls that fail at the same moment one opens
    /// it, so that they do not count as so many times.
    fn open(&self, rules: &Rules, now: u64, probe: bool) -> bool {
        let times = self.opened.load(Ordering::Acquire).min(16);
        let wait = rules.open_for.saturating_mul(1 << times).min(rules.max_open).max(1);
        let until = now.saturating_add(wait).max(1);
        if probe {
            self.until.store(until, Ordering::Release);
        } else if self.until.compare_exchange(0, until, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        self.opened.fetch_add(1, Ordering::AcqRel);
        self.consecutive.store(0, Ordering::Relaxed);
        self.window.clear();
        true
    }

    fn close(&self) -> bool {
        self.window.clear();
        self.consecutive.store(0, Ordering::Relaxed);
        self.opened.store(0, Ordering::Release);
        self.until.swap(0, Ordering::AcqRel) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        enabled: true,
        consecutive: 3,
        failure_rate: 50,
        minimum_calls: 10,
        window: 30_000,
        open_for: 10_000,
        max_open: 25_000,
    };

    fn opened() -> Arc<Breaker> {
        let breaker = Arc::new(Breaker::default());
        assert!(!breaker.failed(&RULES, 1, false) && !breaker.failed(&RULES, 1, false));
        assert!(breaker.failed(&RULES, 1, false));
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through_in_time() {
        let breaker = opened();
        assert_eq!(breaker.position(2), Position::Open(9_999));
        assert_eq!(breaker.admit(2).err(), Some(9_999));
        assert_eq!(breaker.position(10_001), Position::HalfOpen);
        let probe = breaker.admit(10_001).expect("half-open").expect("a probe");
        assert!(breaker.admit(10_001).is_err(), "one probe at a time");
        drop(probe);
        let probe = breaker.admit(10_001).expect("half-open").expect("given up, so the next one probes");
        assert!(breaker.succeeded(&RULES, 10_002, true));
        drop(probe);
        assert!(breaker.admit(10_002).expect("closed").is_none());
    }

    #[test]
    fn a_probe_that_fails_keeps_it_open_for_longer_each_time() {
        let breaker = opened();
        let mut now = 1;
        for wait in [10_000, 20_000, 25_000, 25_000] {
            assert_eq!(breaker.position(now), Position::Open(wait));
            now += wait;
            let probe = breaker.admit(now).expect("half-open").expect("a probe");
            assert!(breaker.failed(&RULES, now, true));
            drop(probe);
        }
    }

    #[test]
    fn what_was_under_way_when_it_opened_changes_nothing() {
        let breaker = opened();
        assert!(!breaker.succeeded(&RULES, 2, false) && !breaker.failed(&RULES, 5_000, false));
        assert_eq!(breaker.position(5_000), Position::Open(5_001));
    }

    #[test]
    fn it_opens_by_rate_once_there_were_enough_calls() {
        let breaker = Breaker::default();
        for now in 0..4 {
            assert!(!breaker.failed(&RULES, now, false) && !breaker.succeeded(&RULES, now, false));
        }
        assert!(!breaker.failed(&RULES, 8, false), "nine calls");
        assert!(!breaker.succeeded(&RULES, 8, false));
        assert!(breaker.failed(&RULES, 9, false));
    }

    #[test]
    fn slow_calls_count_to_the_rate_only() {
        let breaker = Breaker::default();
        for _ in 0..9 {
            assert!(!breaker.was_slow(&RULES, 1, false));
        }
        assert!(breaker.was_slow(&RULES, 1, false));
    }

    #[test]
    fn one_that_is_off_never_opens() {
        let (breaker, rules) = (Breaker::default(), Rules { enabled: false, ..RULES });
        assert!((0..100).all(|now| !breaker.failed(&rules, now, false) && !breaker.was_slow(&rules, now, false)));
        assert_eq!(breaker.position(100), Position::Closed);
    }

    #[test]
    fn racing_failures_open_it_once() {
        for _ in 0..50 {
            let breaker = Breaker::default();
            let opened = AtomicU32::new(0);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let times = (0..20).filter(|_| breaker.failed(&RULES, 1, false)).count();
                        opened.fetch_add(u32::try_from(times).expect("few"), Ordering::Relaxed);
                    });
                }
            });
            assert_eq!((opened.into_inner(), breaker.position(1)), (1, Position::Open(10_000)));
        }
    }

    #[test]
    fn racing_calls_never_get_two_probes() {
        let breaker = opened();
        let probes = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    if let Ok(Some(probe)) = breaker.admit(20_000) {
                        probes.lock().expect("lock").push(probe);
                    }
                });
            }
        });
        assert_eq!(probes.lock().expect("lock").len(), 1);
    }
}
