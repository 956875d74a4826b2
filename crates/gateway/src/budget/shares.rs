//! Which parts of limits have been told of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base::Timestamp;
use store::{AccountKey, Window};

/// Accounts that are remembered; with more of them some are told of twice.
const MOST: usize = 65_536;

/// What has been told of each account: the share in thousandths, and when its period ends.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    told: Mutex<HashMap<AccountKey, (u16, Option<Timestamp>)>>,
    /// Accounts of which it was told that they are used up, and the period (or of windows that move the hour) in which.
    exhausted: Mutex<HashMap<AccountKey, i64>>,
    /// Accounts of requests at once, and of what was told of them in which hour: a share in thousandths, or that there is no place.
    crowded: Mutex<HashMap<Crowded, (i64, u16)>>,
}

/// An account of requests at once: the budget, and for whom.
type Crowded = (Arc<str>, Arc<str>);

/// More than any share: that there is no place.
const NO_PLACE: u16 = u16::MAX;

impl Shares {
    /// Note that an account has reached a share of its limit. Whether that is news: more than was told, or of another period.
    pub(super) fn is_new(&self, key: &AccountKey, resets: Option<Timestamp>, share: u16) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // The end of a window that moves says nothing of a period.
        let period = resets.filter(|_| !matches!(key.window, Window::Rolling(_)));
        if let Some(before) = told.get_mut(key) {
            let news = before.1 != period || before.0 < share;
            if news {
                *before = (share, period);
            }
            return news;
        }
        if told.len() >= MOST {
            told.clear();
        }
        told.insert(key.clone(), (share, period));
        true
    }

    /// Note that an account is used up. In which period or hour that is, if it is news.
    pub(super) fn is_newly_exhausted(
        &self,
        key: &AccountKey,
        resets: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<i64> {
        let period = match (key.window, resets) {
            (Window::Calendar(_), Some(end)) => end.as_secs(),
            _ => now.as_secs() / 3600,
        };
        let mut told = self.exhausted.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(key) == Some(&period) {
            return None;
        }
        if told.len() >= MOST {
            told.clear();
        }
        told.insert(key.clone(), period);
        Some(period)
    }

    /// Note that so large a share of an account's places is taken, or that none is left. Whether that is news: more than was told in
    /// this hour.
    pub(super) fn is_newly_crowded(
        &self,
        (budget, whom): (&Arc<str>, &Arc<str>),
        share: Option<u16>,
        now: Timestamp,
    ) -> bool {
        let (hour, share) = (now.as_secs() / 3600, share.unwrap_or(NO_PLACE));
        let mut told = self.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(budget), Arc::clone(whom));
        if let Some(before) = told.get_mut(&key) {
            let news = before.0 != hour || before.1 < share;
            if news {
                *before = (hour, share);
            }
            return news;
        }
        if told.len() >= MOST {
            told.clear();
        }
        told.insert(key, (hour, share));
        true
    }

    /// An account is below all of its shares: the next one is news again.
    pub(super) fn below(&self, key: &AccountKey) {
        if matches!(key.window, Window::Rolling(_)) {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use store::{Period, Unit};

    fn key(window: Window) -> AccountKey {
        AccountKey { budget: Arc::from("b"), whom: Arc::from(""), unit: Unit::Tokens, window }
    }

    #[test]
    fn a_share_is_told_of_once_in_each_period() {
        let (shares, key) = (Shares::default(), key(Window::Calendar(Period::Day)));
        let (today, tomorrow) = (Some(Timestamp::from_secs(1)), Some(Timestamp::from_secs(2)));
        assert!(shares.is_new(&key, today, 500));
        assert!(!shares.is_new(&key, today, 500));
        shares.below(&key);
        assert!(!shares.is_new(&key, today, 500), "what was held and not needed is no news");
        assert!(shares.is_new(&key, today, 800));
        assert!(shares.is_new(&key, tomorrow, 500));
    }

    #[test]
    fn that_an_account_is_used_up_is_told_once_in_a_period_or_an_hour() {
        let (shares, at) = (Shares::default(), Timestamp::from_secs);
        let (day, hour) = (key(Window::Calendar(Period::Day)), key(Window::Rolling(Duration::from_hours(1))));
        assert_eq!(shares.is_newly_exhausted(&day, Some(at(86_400)), at(10)), Some(86_400));
        assert_eq!(shares.is_newly_exhausted(&day, Some(at(86_400)), at(80_000)), None);
        assert!(shares.is_newly_exhausted(&day, Some(at(172_800)), at(90_000)).is_some());
        assert_eq!(shares.is_newly_exhausted(&hour, Some(at(20)), at(10)), Some(0));
        assert_eq!(shares.is_newly_exhausted(&hour, Some(at(40)), at(30)), None);
        assert_eq!(shares.is_newly_exhausted(&hour, None, at(3600)), Some(1));
    }

    #[test]
    fn that_places_are_taken_is_told_once_in_an_hour_and_more_of_it_again() {
        let (shares, at) = (Shares::default(), Timestamp::from_secs);
        let (budget, whom): (Arc<str>, Arc<str>) = (Arc::from("b"), Arc::from("subject=corp/a"));
        let news = |share, now| shares.is_newly_crowded((&budget, &whom), share, at(now));
        assert!(news(Some(500), 10) && !news(Some(500), 20));
        assert!(news(Some(800), 30) && news(None, 40) && !news(Some(1000), 50) && !news(None, 60));
        assert!(news(Some(500), 3600));
        assert!(shares.is_newly_crowded((&budget, &budget), Some(500), at(10)), "another account");
    }

    #[test]
    fn a_window_that_moves_has_news_again_once_it_was_below() {
        let (shares, key) = (Shares::default(), key(Window::Rolling(Duration::from_hours(1))));
        assert!(shares.is_new(&key, Some(Timestamp::from_secs(1)), 500));
        assert!(!shares.is_new(&key, Some(Timestamp::from_secs(2)), 500));
        shares.below(&key);
        assert!(shares.is_new(&key, Some(Timestamp::from_secs(3)), 500));
    }
}
