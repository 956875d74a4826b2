//! When to try again after failures.

use crate::attester::AttestError;
use crate::error::Error;

/// When to try again after failures.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
    pub(super) not_before: i64,
}

impl Backoff {
    /// After a failure: as long as the gateway says, else 1, 2, 4 and so on up to 300 seconds where the gateway or the
    /// platform is in trouble. Where nobody was reached the app knows best when to try again.
    pub(super) fn note(&mut self, failure: Option<&Error>, now: i64) {
        let Some(failure) = failure else {
            *self = Self::default();
            return;
        };
        let own = match failure {
            Error::Rejected { .. } | Error::Attest(AttestError::Unavailable) | Error::Answer => {
                self.failures = self.failures.saturating_add(1);
                1u64.checked_shl(self.failures - 1).unwrap_or(u64::MAX).min(300)
            }
            _ => 0,
        };
        let wait = failure.retry_after().unwrap_or(0).max(own);
        self.not_before = now.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_grows_and_ends_with_success() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            backoff.note(Some(&Error::Answer), 100);
            waits.push(backoff.not_before - 100);
        }
        assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        backoff.note(None, 100);
        assert_eq!((backoff.failures, backoff.not_before), (0, 0));
        backoff.note(Some(&Error::Connect { host: "a".into() }), 100);
        assert_eq!(backoff.not_before, 100, "the app knows when there is a network");
    }
}
