//! Counting calls of late, without a lock: two halves of a sliding window, of which the older is forgotten whole.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of each count in a half.
const BITS: u32 = 24;
const MOST: u64 = (1 << BITS) - 1;
const EPOCHS: u64 = 1 << (64 - 2 * BITS);

/// What was counted of late: calls, and those of them that are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) marked: u64,
}

/// Two counts over half of the window each: its number, the calls, the marked ones.
#[derive(Debug, Default)]
pub(super) struct Window {
    halves: [AtomicU64; 2],
}

impl Window {
    /// Count a call at `now` (ms); `length` is the whole window's (ms).
    pub(super) fn add(&self, now: u64, length: u64, counts: Counts) {
        let epoch = epoch(now, length);
        let [even, odd] = &self.halves;
        let half = if epoch.is_multiple_of(2) { even } else { odd };
        let _ = half.fetch_update(Ordering::AcqRel, Ordering::Acquire, |packed| {
            let (of, before) = unpack(packed);
            let before = if of == epoch { before } else { Counts::default() };
            let calls = (before.calls + counts.calls).min(MOST);
            let marked = (before.marked + counts.marked).min(MOST);
            Some(epoch << (2 * BITS) | calls << BITS | marked)
        });
    }

    /// What was counted in this half of the window and in the one before.
    pub(super) fn counts(&self, now: u64, length: u64) -> Counts {
        let epoch = epoch(now, length);
        let before = (epoch + EPOCHS - 1) % EPOCHS;
        self.halves.iter().fold(Counts::default(), |sum, half| {
            let (of, counts) = unpack(half.load(Ordering::Acquire));
            if of != epoch && of != before {
                return sum;
            }
            Counts { calls: sum.calls + counts.calls, marked: sum.marked + counts.marked }
        })
    }

    /// Forget everything.
    pub(super) fn clear(&self) {
        self.halves.iter().for_each(|half| half.store(0, Ordering::Release));
    }
}

fn epoch(now: u64, length: u64) -> u64 {
    // From 1: an empty half is of no time.
    (now / (length / 2).max(1)) % (EPOCHS - 1) + 1
}

fn unpack(packed: u64) -> (u64, Counts) {
    (packed >> (2 * BITS), Counts { calls: packed >> BITS & MOST, marked: packed & MOST })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Counts = Counts { calls: 1, marked: 0 };
    const BAD: Counts = Counts { calls: 1, marked: 1 };

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let window = Window::default();
        window.add(0, 10_000, BAD);
        window.add(4_999, 10_000, ONE);
        window.add(5_000, 10_000, ONE);
        assert_eq!(window.counts(5_000, 10_000), Counts { calls: 3, marked: 1 });
        assert_eq!(window.counts(10_000, 10_000), ONE);
        assert_eq!(window.counts(15_000, 10_000), Counts::default());
        window.add(15_000, 10_000, BAD);
        assert_eq!(window.counts(15_000, 10_000), BAD);
    }

    #[test]
    fn racing_calls_are_all_counted() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| window.add(7, 10_000, BAD)));
            }
        });
        assert_eq!(window.counts(7, 10_000), Counts { calls: 4000, marked: 4000 });
        window.clear();
        assert_eq!(window.counts(7, 10_000), Counts::default());
    }
}
