//! The input of a request counted, where the bound by its bytes is in the way: it would be refused, or hold much of a limit.
//!
//! Counting takes time, so the bound comes first, and nothing is counted of requests that fit by it.

use bytes::Bytes;
use llm::bound;
use llm::tokens::Vocabulary;
use tokio::sync::Semaphore;

use super::quote::Quote;

/// The request in JSON, for whoever has to count it; asked for only then. `None`: it cannot be counted.
pub(crate) type Text<'a> = &'a (dyn Fn() -> Option<Bytes> + Send + Sync);

/// Bytes that are counted at once: a millisecond. More are counted beside the threads that serve requests.
const AT_ONCE: usize = 16 * 1024;
/// How many long texts are counted at a time.
const LONG: usize = 2;
/// Inputs of fewer tokens than this by their bytes are a small part of whatever is held.
pub(super) const WORTH: u64 = 4096;

/// Counts texts.
#[derive(Debug)]
pub(crate) struct Counting(Semaphore);

impl Default for Counting {
    fn default() -> Self {
        Self(Semaphore::new(LONG))
    }
}

impl Counting {
    /// Count the input of a request by each vocabulary its targets have. Whether any may take less than it seemed.
    pub(super) async fn recount(&self, quotes: &mut [Quote], text: Text<'_>) -> bool {
        if quotes.iter().all(|quote| quote.vocabulary().is_none()) {
            return false;
        }
        let Some(body) = text() else { return false };
        let mut less = false;
        for vocabulary in [Vocabulary::O200k, Vocabulary::Cl100k] {
            if !quotes.iter().any(|quote| quote.vocabulary() == Some(vocabulary)) {
                continue;
            }
            let Some(texts) = self.count(&body, vocabulary).await else { continue };
            for quote in quotes.iter_mut().filter(|quote| quote.vocabulary() == Some(vocabulary)) {
                less |= quote.counted(texts);
            }
        }
        less
    }

    async fn count(&self, body: &Bytes, vocabulary: Vocabulary) -> Option<u64> {
        if body.len() <= AT_ONCE {
            return bound::counted(body, vocabulary);
        }
        let _turn = self.0.acquire().await.ok()?;
        let body = body.clone();
        tokio::task::spawn_blocking(move || bound::counted(&body, vocabulary)).await.ok()?
    }
}
