//! Randomness is a dependency like any other.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

/// Another generator's bytes, drawn a block at a time: for the names of requests, of which there are many and small
/// ones, and a system call for each would cost more than the rest of naming it.
pub struct InBlocks {
    source: Arc<dyn Rng>,
    block: Mutex<Block>,
}

struct Block {
    bytes: [u8; InBlocks::BLOCK],
    used: usize,
}

impl InBlocks {
    const BLOCK: usize = 1024;

    /// Draw from `source`.
    pub fn new(source: Arc<dyn Rng>) -> Self {
        Self { source, block: Mutex::new(Block { bytes: [0; Self::BLOCK], used: Self::BLOCK }) }
    }
}

impl Rng for InBlocks {
    fn fill(&self, bytes: &mut [u8]) {
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        if Self::BLOCK - block.used < bytes.len() {
            if bytes.len() > Self::BLOCK {
                drop(block);
                return self.source.fill(bytes);
            }
            self.source.fill(&mut block.bytes);
            block.used = 0;
        }
        let from = block.used;
        block.used += bytes.len();
        for (to, from) in bytes.iter_mut().zip(block.bytes.iter_mut().skip(from)) {
            // What was given once is not kept.
            *to = std::mem::take(from);
        }
    }
}

impl fmt::Debug for InBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InBlocks").finish_non_exhaustive()
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

    #[test]
    fn a_block_is_given_out_once_and_in_order() {
        let draw = |rng: &dyn Rng, lengths: &[usize]| {
            let mut all = Vec::new();
            for length in lengths {
                let mut bytes = vec![0u8; *length];
                rng.fill(&mut bytes);
                all.extend(bytes);
            }
            all
        };
        let whole = draw(&SeededRng::new(1), &[InBlocks::BLOCK, InBlocks::BLOCK]);
        let blocks = InBlocks::new(Arc::new(SeededRng::new(1)));
        let pieces = draw(&blocks, &[16; InBlocks::BLOCK / 8]);
        assert_eq!(pieces, whole);
        let mut pieces: Vec<&[u8]> = pieces.chunks(16).collect();
        pieces.sort_unstable();
        pieces.dedup();
        assert_eq!(pieces.len(), InBlocks::BLOCK / 8, "none twice");
        assert_eq!(draw(&blocks, &[InBlocks::BLOCK + 1]).len(), InBlocks::BLOCK + 1);
    }
}
