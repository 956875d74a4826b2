//! How many tokens a text is: counted as `OpenAI`'s models do, whose vocabularies are public (github.com/openai/tiktoken).
//!
//! A text is taken apart into pieces ([`split`]), and of each piece the bytes are joined into the longest parts the vocabulary knows
//! ([`merge`]). What that takes is bounded by the length of the text, whatever the text is: a piece longer than any word is not joined, and
//! counts as its bytes.

mod merge;
mod split;
mod vocabulary;

use self::merge::Merge;
use self::split::Split;
pub use self::vocabulary::Vocabulary;

/// Pieces longer than this, in bytes, count as their bytes: no word is, and joining takes time for each byte of a piece that grows with
/// its length.
const LONGEST_PIECE: usize = 4096;

/// Counts texts.
#[derive(Debug)]
pub struct Counter {
    split: Split,
    merge: Merge,
}

impl Counter {
    /// By this vocabulary. The first one of each builds its tables, which takes some milliseconds.
    pub fn new(vocabulary: Vocabulary) -> Self {
        Self { split: Split::of(vocabulary), merge: Merge::new(vocabulary.table()) }
    }

    /// The tokens of a text: as many as the model reads, or more, and never more than its bytes. Texts with characters that are in no
    /// version of Unicode known here count as their bytes, since nobody knows how they are split.
    pub fn count(&mut self, text: &str) -> u64 {
        let mut rest = text;
        let mut tokens = 0_u64;
        while !rest.is_empty() {
            let Some(length) = self.split.first(rest) else { return text.len() as u64 };
            let Some((piece, after)) = rest.split_at_checked(length).filter(|(piece, _)| !piece.is_empty()) else {
                return text.len() as u64;
            };
            tokens += if piece.len() > LONGEST_PIECE { piece.len() } else { self.merge.count(piece.as_bytes()) } as u64;
            rest = after;
        }
        tokens
    }

    /// What has been done so far: bytes looked at and places in tables, for whoever bounds it.
    #[cfg(test)]
    fn steps(&self) -> u64 {
        self.split.steps() + self.merge.steps()
    }
}

#[cfg(test)]
mod tests;
