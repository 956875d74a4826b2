//! A bound on calls at once, and a line of those that wait for a place: first come, first served, and not for long.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

/// How many may be called at once, and how many may wait for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) places: usize,
    pub(crate) waiting: usize,
    pub(crate) wait: Duration,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// As many wait already as may.
    Full,
    /// None became free in time.
    Late,
}

/// Places, and the line before them. Bounds may change while it is used.
#[derive(Debug, Default)]
pub(crate) struct Line {
    places: AtomicUsize,
    state: Mutex<State>,
    /// Told when those who took what was spare are in the way.
    crowded: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Taken by those who give it up when it is wanted: for everybody else these places are free.
    spare: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

/// One place; the next in line has it when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Option<Arc<Line>>);

/// A place that nobody else wants now.
#[derive(Debug)]
pub(crate) struct Spare(Arc<Line>);

impl Line {
    /// Take a place that nobody else wants, if there is one; to be given up as soon as [`Line::is_crowded`] ends.
    pub(crate) fn spare(self: &Arc<Self>, bounds: Bounds) -> Option<Spare> {
        self.places.store(bounds.places, Ordering::Release);
        let mut state = self.state();
        let free = state.taken + state.spare < bounds.places && state.waiting.is_empty();
        state.spare += usize::from(free);
        free.then(|| Spare(Arc::clone(self)))
    }

    /// Ends when there are more calls than places because of those that are spare.
    pub(crate) async fn is_crowded(&self) {
        loop {
            let told = self.crowded.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            let crowded = {
                let state = self.state();
                state.spare > 0 && state.taken + state.spare > self.places.load(Ordering::Acquire)
            };
            if crowded {
                return;
            }
            told.await;
        }
    }

    /// Take a place, or wait for one. Whoever stops waiting leaves the line.
    pub(crate) async fn enter(self: &Arc<Self>, bounds: Bounds) -> Result<Place, NoPlace> {
        self.places.store(bounds.places, Ordering::Release);
        let turn = {
            let mut state = self.state();
            if state.taken < bounds.places && state.waiting.is_empty() {
                state.taken += 1;
                if state.spare > 0 && state.taken + state.spare > bounds.places {
                    self.crowded.notify_waiters();
                }
                return Ok(Place(Some(Arc::clone(self))));
            }
            if state.waiting.len() >= bounds.waiting {
                state.waiting.retain(|waiting| !waiting.is_closed());
            }
            if state.waiting.len() >= bounds.waiting {
                return Err(NoPlace::Full);
            }
            let (next, turn) = oneshot::channel();
            state.waiting.push_back(next);
            turn
        };
        // Places may have become free while all who waited had gone.
        self.call_next();
        match tokio::time::timeout(bounds.wait, turn).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(NoPlace::Late),
        }
    }

    /// Those that have a place, and those that wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.taken, state.waiting.iter().filter(|waiting| !waiting.is_closed()).count())
    }

    /// Give free places to those who wait.
    fn call_next(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                if state.taken >= self.places.load(Ordering::Acquire) {
                    return;
                }
                let Some(next) = state.waiting.pop_front() else { return };
                state.taken += 1;
                next
            };
            // Who has gone gives it back at once.
            if let Err(mut place) = next.send(Place(Some(Arc::clone(self)))) {
                place.0 = None;
                self.state().taken -= 1;
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.state().taken -= 1;
            line.call_next();
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.0.state().spare -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const BOUNDS: Bounds = Bounds { places: 1, waiting: 2, wait: Duration::from_mins(1) };

    #[tokio::test]
    async fn places_go_to_those_who_wait_in_their_order() {
        let line = Arc::new(Line::default());
        let first = line.enter(BOUNDS).await.expect("a place");
        let (mut second, mut third) = (Box::pin(line.enter(BOUNDS)), Box::pin(line.enter(BOUNDS)));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        assert_eq!(line.enter(BOUNDS).await.err(), Some(NoPlace::Full));
        assert_eq!(line.counts(), (1, 2));
        drop(first);
        let place = second.await.expect("its turn");
        assert!((&mut third).now_or_never().is_none());
        drop(place);
        drop(third.await.expect("its turn"));
        assert_eq!(line.counts(), (0, 0));
    }

    #[tokio::test]
    async fn who_leaves_the_line_loses_no_place() {
        let line = Arc::new(Line::default());
        let first = line.enter(BOUNDS).await.expect("a place");
        let (mut gone, mut next) = (Box::pin(line.enter(BOUNDS)), Box::pin(line.enter(BOUNDS)));
        assert!((&mut gone).now_or_never().is_none() && (&mut next).now_or_never().is_none());
        drop(gone);
        let mut last = Box::pin(line.enter(BOUNDS));
        assert!((&mut last).now_or_never().is_none(), "there is room again");
        drop(first);
        // Given, and not taken: it goes on.
        drop(next);
        drop(last.await.expect("its turn"));
        assert_eq!(line.counts(), (0, 0));
        assert!(line.enter(BOUNDS).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_spare_is_in_nobodys_way() {
        let line = Arc::new(Line::default());
        let two = Bounds { places: 2, waiting: 0, ..BOUNDS };
        let first = line.enter(two).await.expect("a place");
        let spare = line.spare(two).expect("one place is left");
        assert!(line.spare(two).is_none());
        let mut crowded = Box::pin(line.is_crowded());
        assert!((&mut crowded).now_or_never().is_none());
        let second = line.enter(two).await.expect("the place is free for everybody else");
        crowded.await;
        assert_eq!(line.enter(two).await.err(), Some(NoPlace::Full));
        drop(spare);
        drop(first);
        assert!(line.spare(two).is_some());
        let waiting = Bounds { places: 1, ..BOUNDS };
        let mut next = Box::pin(line.enter(waiting));
        assert!((&mut next).now_or_never().is_none());
        assert!(line.spare(two).is_none(), "somebody waits");
        drop(second);
        drop(next.await.expect("its turn"));
        assert_eq!(line.state().spare, 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_and_bounds_may_change() {
        let line = Arc::new(Line::default());
        let first = line.enter(BOUNDS).await.expect("a place");
        let short = Bounds { wait: Duration::from_millis(1), ..BOUNDS };
        assert_eq!(line.enter(short).await.err(), Some(NoPlace::Late));
        let none = Bounds { waiting: 0, ..BOUNDS };
        assert_eq!(line.enter(none).await.err(), Some(NoPlace::Full));
        let second = line.enter(Bounds { places: 2, ..BOUNDS }).await.expect("one place more");
        drop((first, second));
        assert_eq!(line.counts(), (0, 0));
    }
}
