//! The built-in table of models (`llm::catalogue`), as the admin API and `vouchgate models --all` tell it.

use llm::catalogue::{Catalogue, Entry, Price, Tiers};
use schemars::JsonSchema;
use serde::Serialize;

/// A model that the table knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CatalogueEntry {
    /// The kind of provider that runs it.
    pub kind: &'static str,
    /// Its name there.
    pub model: &'static str,
    /// What its tokens cost. Absent: the source does not say.
    pub price: Option<CataloguePrice>,
    /// Tokens of input and output together.
    pub context: Option<u64>,
    /// Tokens of input.
    pub max_input: Option<u64>,
    /// Tokens of output.
    pub max_output: Option<u64>,
    /// What it reads: `text`, `image`, `pdf`, `audio`, `video`. Empty: not said.
    pub takes: Vec<&'static str>,
    /// What it makes. Empty: not said.
    pub gives: Vec<&'static str>,
    /// Whether it calls tools.
    pub tools: Option<bool>,
    /// Whether it reasons before it answers.
    pub reasoning: Option<bool>,
    /// The day it came out, `YYYY-MM-DD`.
    pub released: Option<&'static str>,
    /// `beta` or `deprecated`, where it is.
    pub status: Option<&'static str>,
    /// Who gathered these figures.
    pub source: &'static str,
    /// On which day, `YYYY-MM-DD`.
    pub as_of: &'static str,
}

/// Prices per million tokens, as texts: no float says money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CataloguePrice {
    /// Of input.
    pub input: String,
    /// Of output.
    pub output: String,
    /// Of input read from the provider's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<String>,
    /// Of input written into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<String>,
    /// Of output spent on reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Of audio in the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<String>,
    /// Of audio in the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<String>,
    /// What long prompts cost: `unstated`, where they cost more and the source does not say how much; or each step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiers: Option<CatalogueTiers>,
}

/// What long prompts cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CatalogueTiers {
    /// More, and nobody says how much.
    Unstated(&'static str),
    /// By length.
    Stated(Vec<CatalogueTier>),
}

/// What prompts above a length cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CatalogueTier {
    /// Above so many tokens of input.
    pub above: u64,
    /// Of input.
    pub input: String,
    /// Of output.
    pub output: String,
}

/// The table: of every kind of provider or of one, all models or the one that is called `model`. In the order of their kinds and
/// names.
pub fn catalogue<'a>(kind: Option<&'a str>, model: Option<&'a str>) -> impl Iterator<Item = CatalogueEntry> + 'a {
    Catalogue::builtin()
        .entries()
        .iter()
        .filter(move |entry| kind.is_none_or(|kind| entry.kind == kind))
        .filter(move |entry| model.is_none_or(|model| entry.name == model))
        .map(CatalogueEntry::from)
}

impl From<&Entry> for CatalogueEntry {
    fn from(entry: &Entry) -> Self {
        Self {
            kind: entry.kind,
            model: entry.name,
            price: entry.price.as_ref().map(CataloguePrice::from),
            context: entry.limits.context,
            max_input: entry.limits.max_input,
            max_output: entry.limits.max_output,
            takes: entry.takes.clone(),
            gives: entry.gives.clone(),
            tools: entry.tools,
            reasoning: entry.reasoning,
            released: entry.released,
            status: entry.status,
            source: entry.source,
            as_of: entry.as_of,
        }
    }
}

impl From<&Price> for CataloguePrice {
    fn from(price: &Price) -> Self {
        let text = |amount: &Option<base::Money>| amount.map(|amount| amount.to_string());
        Self {
            input: price.input.to_string(),
            output: price.output.to_string(),
            cache_read: text(&price.cache_read),
            cache_write: text(&price.cache_write),
            reasoning: text(&price.reasoning),
            audio_input: text(&price.audio_input),
            audio_output: text(&price.audio_output),
            tiers: match &price.tiers {
                Tiers::None => None,
                Tiers::Unstated => Some(CatalogueTiers::Unstated("unstated")),
                Tiers::Stated(tiers) => Some(CatalogueTiers::Stated(
                    tiers
                        .iter()
                        .map(|tier| CatalogueTier {
                            above: tier.above,
                            input: tier.input.to_string(),
                            output: tier.output.to_string(),
                        })
                        .collect(),
                )),
            },
        }
    }
}
