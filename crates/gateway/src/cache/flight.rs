//! Of requests that are the same, one asks the provider; the others wait for its answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Cache, Key};

/// Requests that are asking a provider now.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Key, watch::Receiver<()>>>);

/// The first or another one.
pub(crate) enum Entered {
    /// It asks, and holds this until its answer is kept, or will not be.
    Leads(Flight),
    /// Another one asks: wait.
    Follows(Follower),
}

/// Somebody asks. When it is dropped, those who wait look again.
pub(crate) struct Flight {
    cache: Arc<Cache>,
    key: Key,
    _landed: watch::Sender<()>,
}

/// Somebody waits.
pub(crate) struct Follower(watch::Receiver<()>);

pub(super) fn enter(cache: &Arc<Cache>, key: Key) -> Entered {
    let mut flights = cache.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(landed) = flights.get(&key) {
        return Entered::Follows(Follower(landed.clone()));
    }
    let (landed, watched) = watch::channel(());
    flights.insert(key, watched);
    Entered::Leads(Flight { cache: Arc::clone(cache), key, _landed: landed })
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut flights = self.cache.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.remove(&self.key);
    }
}

impl Follower {
    /// Wait until the one who asks is done, well or not.
    pub(crate) async fn landed(mut self) {
        // Nothing is ever sent: the sender goes.
        while self.0.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SystemRng;
    use futures_util::FutureExt;

    #[test]
    fn one_leads_others_follow_until_it_has_landed() {
        let cache = Arc::new(Cache::new(&SystemRng));
        let Entered::Leads(flight) = cache.enter(Key::of(1)) else { panic!("nobody else asks") };
        let Entered::Follows(follower) = cache.enter(Key::of(1)) else { panic!("somebody asks") };
        assert!(matches!(cache.enter(Key::of(2)), Entered::Leads(_)));
        let mut landed = Box::pin(follower.landed());
        assert!(landed.as_mut().now_or_never().is_none());
        drop(flight);
        assert!(landed.now_or_never().is_some());
        assert!(matches!(cache.enter(Key::of(1)), Entered::Leads(_)));
    }
}
