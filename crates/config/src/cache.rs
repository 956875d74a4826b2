//! `[cache]`, and `cache` of a `[[model]]` or a `[[provider]]`: answers that need not be asked for again.

use base::{ByteSize, Money, Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fault::{Code, Faults};
use crate::text::{MoneyText, NameText, SizeText, SpanText};

/// `[cache]`: the room for all cached answers. They are kept in memory only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSection {
    /// How much memory cached answers take at most.
    #[schemars(with = "SizeText")]
    pub size: ByteSize,
}

impl Default for CacheSection {
    fn default() -> Self {
        Self { size: ByteSize::bytes(64 << 20) }
    }
}

/// Which answers of a model are kept, for whom and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelCache {
    /// How long an answer is good.
    #[schemars(with = "SpanText")]
    pub ttl: Span,
    /// Who shares answers.
    #[serde(default)]
    pub scope: CacheScope,
    /// Longer answers are not kept.
    #[serde(default = "max_entry")]
    #[schemars(with = "SizeText")]
    pub max_entry: ByteSize,
    /// What an answer that is kept costs each time it is given again, by budgets of money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub price: Option<Money>,
    /// Also give the answer to a question that means nearly the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semantic: Option<SemanticCache>,
}

fn max_entry() -> ByteSize {
    ByteSize::bytes(1 << 20)
}

/// Who shares cached answers. Never callers that different policies let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheScope {
    /// All callers that the same policy lets in.
    #[default]
    Policy,
    /// Each caller (issuer, subject and key) for itself.
    Subject,
}

/// How questions are compared by their meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SemanticCache {
    /// The provider of the embedding model: it is sent the last question of each request.
    #[schemars(with = "NameText")]
    pub provider: Name,
    /// The embedding model, as the provider calls it.
    #[schemars(length(min = 1, max = 256))]
    pub model: String,
    /// How alike two questions have to be: the cosine of their embeddings, from 0.5 to 1.
    #[serde(default)]
    #[schemars(with = "f64")]
    pub threshold: Similarity,
    /// How long an embedding may take; then the question is asked without it.
    #[serde(default = "timeout")]
    #[schemars(with = "SpanText")]
    pub timeout: Span,
}

fn timeout() -> Span {
    Span::secs(2)
}

/// A cosine, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Similarity(i32);

impl Similarity {
    /// As a number.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl Default for Similarity {
    /// 0.95.
    fn default() -> Self {
        Self(950_000)
    }
}

impl Serialize for Similarity {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Similarity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(from)?.clamp(-1000.0, 1000.0);
        #[allow(clippy::cast_possible_truncation)] // it is within a thousand millions
        let millionths = (number * 1e6).round() as i32;
        Ok(Self(millionths))
    }
}

impl ModelCache {
    /// What is wrong with it on its own; paths begin at what has it.
    pub(crate) fn alone(&self, faults: &mut Faults) {
        let between = |value: Span, least: Span, most: Span, key: &str, faults: &mut Faults| {
            if value < least || value > most {
                faults.add(key, Code::BadValue, format!("a duration from {least} to {most} belongs here"));
            }
        };
        between(self.ttl, Span::secs(1), Span::secs(30 * 86_400), "cache.ttl", faults);
        if !(1 << 10..=64 << 20).contains(&self.max_entry.as_u64()) {
            faults.add("cache.max_entry", Code::BadValue, "a size from 1KiB to 64MiB belongs here");
        }
        if let Some(semantic) = &self.semantic {
            if !(500_000..=1_000_000).contains(&semantic.threshold.0) {
                faults.add("cache.semantic.threshold", Code::BadValue, "a number from 0.5 to 1 belongs here");
            }
            let least = Span::new(std::time::Duration::from_millis(10));
            between(semantic.timeout, least, Span::secs(60), "cache.semantic.timeout", faults);
        }
    }
}
