//! What one request took and cost.

use std::sync::Arc;

use crate::StoreError;

/// What a request took besides what its record says, and what it cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Charge {
    /// The model as the provider that answered calls it.
    pub provider_model: Option<Arc<str>>,
    /// The service or upstream that was asked for.
    pub service: Option<Arc<str>>,
    /// What the caller said it is for, as far as the policy lets it.
    pub tags: Vec<Arc<str>>,
    /// Whether the model asked for is a configured one. A name a caller makes up counts only where something came of it.
    pub is_named: bool,
    /// Of the tokens in, those written into a cache.
    pub cache_write_tokens: Option<u64>,
    /// Tokens of reasoning.
    pub reasoning_tokens: Option<u64>,
    /// Of the tokens in, those of sound.
    pub audio_input_tokens: Option<u64>,
    /// Of the tokens out, those of sound.
    pub audio_output_tokens: Option<u64>,
    /// Sound heard, in milliseconds.
    pub audio_ms: Option<u64>,
    /// Pictures made.
    pub images: Option<u64>,
    /// What was charged, in nano-USD; `None`: its price was not known.
    pub cost: Option<i64>,
    /// Whether some of it was not told and its bound stands for it.
    pub estimated: bool,
    /// Whether the provider counted more than was possible.
    pub clamped: bool,
    /// The part of the cost that follows from the usage of the answer.
    pub rated: Option<i64>,
    /// How it follows; `None`: it cannot be computed again.
    pub basis: Option<Basis>,
    /// Which price it was: where it is from, and a digest of it.
    pub price: Option<Arc<str>>,
    /// What the last correction found the cost to be. Read with records, never written with them.
    pub corrected: Option<i64>,
}

/// How a cost follows from usage and a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// By the tokens, so many times for a tier of service, with what each request costs besides.
    Tokens {
        /// How many times the usual price.
        factor: u32,
        /// Whether what was written into a cache is kept for an hour, which costs more.
        long_cache: bool,
    },
    /// By the length of what was heard.
    Heard,
    /// By the request alone.
    Request,
}

impl Basis {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Tokens { factor, long_cache: false } => format!("tokens:{factor}"),
            Self::Tokens { factor, long_cache: true } => format!("tokens-1h:{factor}"),
            Self::Heard => "heard".to_owned(),
            Self::Request => "request".to_owned(),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let (kind, factor) = text.split_once(':').unwrap_or((text, "1"));
        let factor = factor.parse().map_err(|_| StoreError::Row("not a basis"))?;
        match kind {
            "tokens" => Ok(Self::Tokens { factor, long_cache: false }),
            "tokens-1h" => Ok(Self::Tokens { factor, long_cache: true }),
            "heard" => Ok(Self::Heard),
            "request" => Ok(Self::Request),
            _ => Err(StoreError::Row("not a basis")),
        }
    }
}

const ESTIMATED: i64 = 1;
const CLAMPED: i64 = 2;
const NAMED: i64 = 4;

impl Charge {
    pub(crate) fn flags(&self) -> i64 {
        let flag = |set: bool, flag: i64| if set { flag } else { 0 };
        flag(self.estimated, ESTIMATED) | flag(self.clamped, CLAMPED) | flag(self.is_named, NAMED)
    }

    pub(crate) fn set_flags(&mut self, flags: i64) {
        self.estimated = flags & ESTIMATED != 0;
        self.clamped = flags & CLAMPED != 0;
        self.is_named = flags & NAMED != 0;
    }

    pub(crate) fn tags_text(&self) -> Option<String> {
        let tags: Vec<&str> = self.tags.iter().map(|tag| &**tag).collect();
        (!tags.is_empty()).then(|| serde_json::Value::from(tags).to_string())
    }

    pub(crate) fn read_tags(text: Option<String>) -> Result<Vec<Arc<str>>, StoreError> {
        let Some(text) = text else { return Ok(Vec::new()) };
        let tags: Vec<String> = serde_json::from_str(&text).map_err(|_| StoreError::Row("not tags"))?;
        Ok(tags.into_iter().map(Arc::from).collect())
    }

    pub(crate) fn read_basis(text: Option<&str>) -> Result<Option<Basis>, StoreError> {
        text.map(Basis::parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basis_and_flags_come_back_as_they_were() {
        let tokens = |factor, long_cache| Basis::Tokens { factor, long_cache };
        for basis in [tokens(1, false), tokens(7, true), Basis::Heard, Basis::Request] {
            assert_eq!(Basis::parse(&basis.text()).ok(), Some(basis));
        }
        for bad in ["", "tokens:", "tokens:x", "tokens:-1", "other"] {
            assert!(Basis::parse(bad).is_err(), "{bad}");
        }
        for flags in 0..8 {
            let mut charge = Charge::default();
            charge.set_flags(flags);
            assert_eq!(charge.flags(), flags);
        }
    }
}
