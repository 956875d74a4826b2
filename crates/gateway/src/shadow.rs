//! Copies of requests for targets that nobody hears: how many there are at once, and who runs them. They have no part in
//! how a caller is answered: none is waited for, and where there is no room there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;

/// Copies under way at once.
const MOST: usize = 32;
/// Bytes of the requests they are copies of, which stay in memory for as long.
const MOST_BYTES: usize = 64 << 20;

/// Where work goes that no request waits for; shutdown waits until it has ended.
pub trait Background: Send + Sync {
    /// Run it.
    fn run(&self, work: BoxFuture<'static, ()>);
}

/// The copies under way.
pub(crate) struct Shadows {
    background: Arc<dyn Background>,
    held: Arc<Held>,
}

#[derive(Debug, Default)]
struct Held {
    copies: AtomicUsize,
    bytes: AtomicUsize,
}

/// Room for one copy, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    held: Arc<Held>,
    bytes: usize,
}

impl Shadows {
    pub(crate) fn new(background: Arc<dyn Background>) -> Self {
        Self { background, held: Arc::default() }
    }

    /// Room for a copy of a request of so many bytes, if there is any.
    pub(crate) fn room(&self, bytes: usize) -> Option<Room> {
        let take = |of: &AtomicUsize, more: usize, most: usize| {
            let fits = |held: usize| held.checked_add(more).filter(|all| *all <= most);
            of.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
        };
        if !take(&self.held.copies, 1, MOST) {
            return None;
        }
        if !take(&self.held.bytes, bytes, MOST_BYTES) {
            self.held.copies.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Room { held: Arc::clone(&self.held), bytes })
    }

    /// Run a copy in the room there is for it.
    pub(crate) fn run(&self, room: Room, work: BoxFuture<'static, ()>) {
        self.background.run(Box::pin(async move {
            let _room = room;
            work.await;
        }));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.held.copies.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Background for Nobody {
        fn run(&self, _: BoxFuture<'static, ()>) {}
    }

    #[test]
    fn there_is_room_for_so_many_copies_and_bytes_and_again_when_they_are_over() {
        let shadows = Shadows::new(Arc::new(Nobody));
        let rooms: Vec<Room> = (0..100).filter_map(|_| shadows.room(1)).collect();
        assert_eq!(rooms.len(), MOST);
        drop(rooms);
        let large = shadows.room(MOST_BYTES).expect("as large as may be");
        assert!(shadows.room(1).is_none());
        assert!(shadows.room(0).is_some());
        drop(large);
        assert!(shadows.room(MOST_BYTES + 1).is_none() && shadows.room(usize::MAX).is_none());
        assert!(shadows.room(MOST_BYTES).is_some(), "nothing is lost");
        // What is dropped before it runs leaves its room too.
        shadows.run(shadows.room(MOST_BYTES).expect("room"), Box::pin(std::future::pending()));
        assert!(shadows.room(MOST_BYTES).is_some());
    }
}
