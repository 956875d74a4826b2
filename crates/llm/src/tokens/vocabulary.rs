//! The vocabularies: every part of a text that is one token, and in which order parts are joined.
//!
//! The files have the parts in that order, each behind its length in one byte. They are those of `o200k_base.tiktoken` and
//! `cl100k_base.tiktoken` as `OpenAI` publishes them (MIT, see `tokens/LICENSE`); a test writes the published form again and compares its hash.

use std::hash::Hasher;
use std::sync::LazyLock;

/// A public vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vocabulary {
    /// Of GPT-4o, GPT-4.1, GPT-5, the o models and gpt-oss.
    O200k,
    /// Of GPT-4, GPT-3.5 and the embeddings.
    Cl100k,
}

static O200K: LazyLock<Table> = LazyLock::new(|| Table::of(include_bytes!("o200k_base.tokens")));
static CL100K: LazyLock<Table> = LazyLock::new(|| Table::of(include_bytes!("cl100k_base.tokens")));

/// Beginnings of names of models, as github.com/openai/tiktoken has them (`tiktoken/model.py`); the longer ones first.
const MODELS: [(&str, Vocabulary); 14] = [
    ("gpt-4o", Vocabulary::O200k),
    ("gpt-4.1", Vocabulary::O200k),
    ("gpt-4.5", Vocabulary::O200k),
    ("gpt-5", Vocabulary::O200k),
    ("chatgpt-4o-", Vocabulary::O200k),
    ("o1", Vocabulary::O200k),
    ("o3", Vocabulary::O200k),
    ("o4-mini", Vocabulary::O200k),
    ("gpt-oss-", Vocabulary::O200k),
    ("gpt-3.5-turbo", Vocabulary::Cl100k),
    ("gpt-35-turbo", Vocabulary::Cl100k),
    ("gpt-4", Vocabulary::Cl100k),
    ("text-embedding-ada-002", Vocabulary::Cl100k),
    ("text-embedding-3-", Vocabulary::Cl100k),
];

impl Vocabulary {
    /// That of a model of a kind of provider (as the configuration names it), where it is known. gpt-oss is the same wherever it runs.
    pub fn of(kind: &str, model: &str) -> Option<Self> {
        let name = model.strip_prefix("ft:").unwrap_or(model);
        let name = name.strip_prefix("openai/").unwrap_or(name);
        if !matches!(kind, "openai" | "azure") && !name.starts_with("gpt-oss-") {
            return None;
        }
        let is = |begin: &str| match name.strip_prefix(begin) {
            // `o1` is no beginning of `o10`, and nobody knows what `gpt-4x` would be.
            Some(rest) => begin.ends_with('-') || rest.is_empty() || rest.starts_with(['-', '.', '@', ':']),
            None => false,
        };
        MODELS.iter().find(|(begin, _)| is(begin)).map(|(_, vocabulary)| *vocabulary)
    }

    pub(super) fn table(self) -> &'static Table {
        match self {
            Self::O200k => &O200K,
            Self::Cl100k => &CL100K,
        }
    }
}

/// Finds the rank of a part.
#[derive(Debug)]
pub(super) struct Table {
    file: &'static [u8],
    /// Where in the file each part begins, by its rank.
    starts: Vec<u32>,
    /// Ranks by the hash of their part; a place that is taken sends on to the next.
    places: Vec<u32>,
    longest: usize,
}

/// No rank: a place that is free.
const FREE: u32 = u32::MAX;

impl Table {
    fn of(file: &'static [u8]) -> Self {
        let mut starts = Vec::new();
        let (mut at, mut longest) = (0_usize, 0_usize);
        while let Some(length) = file.get(at) {
            longest = longest.max(usize::from(*length));
            starts.push(u32::try_from(at + 1).unwrap_or(FREE));
            at += 1 + usize::from(*length);
        }
        let size = (starts.len() * 2).next_power_of_two();
        let mut table = Self { file, starts, places: vec![FREE; size], longest };
        for rank in 0..u32::try_from(table.starts.len()).unwrap_or(FREE) {
            let Some(part) = table.part(rank) else { continue };
            let mut place = table.place(part);
            while table.places.get(place).is_some_and(|taken| *taken != FREE) {
                place = (place + 1) & (size - 1);
            }
            if let Some(free) = table.places.get_mut(place) {
                *free = rank;
            }
        }
        table
    }

    /// The longest part, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Its rank, if it is a part.
    pub(super) fn rank(&self, part: &[u8]) -> Option<u32> {
        if part.len() > self.longest {
            return None;
        }
        let mut place = self.place(part);
        loop {
            match self.places.get(place) {
                Some(rank) if *rank != FREE => {
                    if self.part(*rank) == Some(part) {
                        return Some(*rank);
                    }
                }
                _ => return None,
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }

    fn part(&self, rank: u32) -> Option<&'static [u8]> {
        let start = *self.starts.get(rank as usize)? as usize;
        let length = usize::from(*self.file.get(start.checked_sub(1)?)?);
        self.file.get(start..start + length)
    }

    fn place(&self, part: &[u8]) -> usize {
        let mut hash = Fold(part.len() as u64);
        hash.write(part);
        let bits = self.places.len().trailing_zeros();
        usize::try_from(hash.finish() >> (64 - bits)).unwrap_or(0)
    }
}

/// A hash that is the same everywhere; the table never changes, so nobody can fill one place of it.
struct Fold(u64);

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0_u64, |word, byte| (word << 8) | u64::from(*byte));
            self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(GOLDEN);
        }
    }

    fn finish(&self) -> u64 {
        (self.0 ^ (self.0 >> 32)).wrapping_mul(GOLDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use std::fmt::Write;

    /// What `OpenAI` says the files are (github.com/openai/tiktoken, `tiktoken_ext/openai_public.py`).
    const PUBLISHED: [(Vocabulary, usize, &str); 2] = [
        (Vocabulary::O200k, 199_998, "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
        (Vocabulary::Cl100k, 100_256, "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
    ];

    #[test]
    fn the_vocabularies_are_the_published_ones() {
        for (vocabulary, parts, hash) in PUBLISHED {
            let table = vocabulary.table();
            let mut text = String::new();
            for rank in 0..table.starts.len() {
                let rank = u32::try_from(rank).unwrap();
                writeln!(text, "{} {rank}", STANDARD.encode(table.part(rank).unwrap())).unwrap();
            }
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            let hex = digest.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            assert_eq!((table.starts.len(), hex.as_str()), (parts, hash));
        }
    }

    #[test]
    fn every_part_is_found_within_few_places_and_nothing_else_is() {
        for (vocabulary, parts, _) in PUBLISHED {
            let table = vocabulary.table();
            assert_eq!(table.longest(), 128);
            for rank in 0..u32::try_from(parts).unwrap() {
                let part = table.part(rank).unwrap();
                assert_eq!(table.rank(part), Some(rank));
            }
            let taken: Vec<bool> = table.places.iter().map(|rank| *rank != FREE).collect();
            let longest = taken.split(|taken| !taken).map(<[bool]>::len).max().unwrap();
            assert!(longest < 64, "{longest} places one after the other are taken");
            for no_part in [&b""[..], b"no part of it", &[0xff; 129]] {
                assert_eq!(table.rank(no_part), None);
            }
        }
    }

    #[test]
    fn models_have_the_vocabulary_their_maker_says_and_others_none() {
        for (model, vocabulary) in [
            ("gpt-5-mini", Vocabulary::O200k),
            ("gpt-5.1", Vocabulary::O200k),
            ("gpt-4o-2024-05-13", Vocabulary::O200k),
            ("ft:gpt-4o-mini:org::1", Vocabulary::O200k),
            ("o1", Vocabulary::O200k),
            ("gpt-4-turbo", Vocabulary::Cl100k),
            ("gpt-4", Vocabulary::Cl100k),
            ("text-embedding-3-small", Vocabulary::Cl100k),
        ] {
            assert_eq!(Vocabulary::of("openai", model), Some(vocabulary), "{model}");
            assert_eq!(Vocabulary::of("azure", model), Some(vocabulary), "{model}");
            assert_eq!(Vocabulary::of("vllm", model), None, "what somebody else calls so may be anything");
        }
        assert_eq!(Vocabulary::of("groq", "openai/gpt-oss-20b"), Some(Vocabulary::O200k));
        for unknown in ["gpt-6", "o10", "gpt-4x", "my-deployment", "", "davinci-002", "gpt-4oo"] {
            assert_eq!(Vocabulary::of("openai", unknown), None, "{unknown}");
        }
    }
}
