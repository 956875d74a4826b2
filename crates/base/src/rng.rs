//! Randomness is a dependency like any other.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where random bytes come from. [`SystemRng`] in the product, [`SeededRng`] in tests.
pub trait Rng: Send + Sync + fmt::Debug {
    /// Fill `bytes` with random data fit for keys.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    #[allow(clippy::disallowed_methods)] // the one home of randomness
    #[allow(clippy::panic)] // without randomness nothing may go on: no token, key or nonce could be trusted
    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            panic!("the operating system gives no random bytes: {error}");
        }
    }
}

/// A repeatable sequence for tests (`SplitMix64`). Not for keys that matter.
#[derive(Debug)]
pub struct SeededRng(AtomicU64);

impl SeededRng {
    /// The sequence that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        for chunk in bytes.chunks_mut(8) {
            let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            for (to, from) in chunk.iter_mut().zip(z.to_le_bytes()) {
                *to = from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_the_system_does_not() {
        let draw = |rng: &dyn Rng| {
            let mut bytes = [0u8; 20];
            rng.fill(&mut bytes);
            bytes
        };
        assert_eq!(draw(&SeededRng::new(1)), draw(&SeededRng::new(1)));
        assert_ne!(draw(&SeededRng::new(1)), draw(&SeededRng::new(2)));
        assert_ne!(draw(&SystemRng), draw(&SystemRng));
    }
}
