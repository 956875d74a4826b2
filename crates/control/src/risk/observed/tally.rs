//! How many there were within an hour: by all nodes, as far as they have told each other.

use std::time::{Duration, Instant};

/// How long things count.
pub(super) const WINDOW: Duration = Duration::from_hours(1);

/// How many there were since the first of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    since: Option<Instant>,
    /// As all nodes count together.
    known: u32,
    /// What the others were not told yet.
    own: u32,
}

impl Tally {
    pub(super) fn add(&mut self, now: Instant) {
        if self.is_over(now) {
            *self = Self { since: Some(now), known: 0, own: 0 };
        }
        self.own = self.own.saturating_add(1);
    }

    pub(super) fn count(&self, now: Instant) -> u32 {
        if self.is_over(now) { 0 } else { self.known.saturating_add(self.own) }
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW)
    }

    /// What the others are to be told, once: as good as told from now on.
    pub(super) fn tell(&mut self, now: Instant) -> u32 {
        if self.is_over(now) {
            return 0;
        }
        self.known = self.known.saturating_add(self.own);
        std::mem::take(&mut self.own)
    }

    /// They could not be told of so many.
    pub(super) fn untold(&mut self, told: u32) {
        self.known = self.known.saturating_sub(told);
        self.own = self.own.saturating_add(told);
    }

    /// They were told, and with that there are `total`.
    pub(super) fn agreed(&mut self, total: u32, now: Instant) {
        if self.is_over(now) {
            if total == 0 {
                return;
            }
            *self = Self { since: Some(now), known: 0, own: 0 };
        }
        self.known = total;
    }
}
