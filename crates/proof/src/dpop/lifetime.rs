//! How long proofs live may change while the process runs; how long a used one is remembered was settled when it was used.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::Timestamp;

use super::{DpopError, VerifiedProof};

/// Holds proofs to the life they may have been remembered for: one that was used under a shorter `max_age` and is
/// forgotten by now does not come back to life with a longer one.
#[derive(Debug, Default)]
pub struct Lifetimes(Mutex<Known>);

#[derive(Debug, Default, Clone, Copy)]
struct Known {
    /// How long proofs live now, the skew included.
    life: Option<Duration>,
    /// Proofs made until then may have been remembered for so long only.
    shorter: Option<(Timestamp, Duration)>,
}

impl Lifetimes {
    /// Check that the proof is still remembered if it was used before. `max_age` and `skew` are those it was verified with.
    /// Gives [`DpopError::TooOld`].
    pub fn check(
        &self,
        proof: &VerifiedProof,
        (max_age, skew): (Duration, Duration),
        now: Timestamp,
    ) -> Result<(), DpopError> {
        let known = self.learn((max_age.saturating_add(skew), skew), now);
        match known.shorter {
            Some((until, life)) if proof.issued_at() <= until && now > proof.issued_at().plus(life) => {
                Err(DpopError::TooOld)
            }
            _ => Ok(()),
        }
    }

    fn learn(&self, (life, skew): (Duration, Duration), now: Timestamp) -> Known {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = known.life.filter(|before| *before < life) {
            let shortest = known.shorter.map_or(before, |(_, shorter)| shorter.min(before));
            // The client's clock may be ahead by the skew.
            known.shorter = Some((now.plus(skew), shortest));
        }
        known.life = Some(life);
        *known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKEW: Duration = Duration::from_secs(5);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn life(secs: u64) -> (Duration, Duration) {
        (Duration::from_secs(secs), SKEW)
    }

    #[test]
    fn only_a_longer_life_is_held_against_older_proofs() {
        let lifetimes = Lifetimes::default();
        assert_eq!(lifetimes.learn(life(30), at(0)).shorter, None);
        assert_eq!(lifetimes.learn(life(30), at(10)).shorter, None);
        assert_eq!(lifetimes.learn(life(20), at(20)).shorter, None, "a shorter one needs no memory");
        let changed = Some((at(35), Duration::from_secs(20)));
        assert_eq!(lifetimes.learn(life(60), at(30)).shorter, changed);
        assert_eq!(lifetimes.learn(life(60), at(300)).shorter, changed, "it is learnt once");
        let again = Some((at(405), Duration::from_secs(20)));
        assert_eq!(lifetimes.learn(life(90), at(400)).shorter, again, "the shortest there was");
    }
}
