//! Models of providers: what they cost, how much fits in them, what they take.
//!
//! The table (`models.txt`) is read once. A model is found by what kind of provider runs it and by its exact name there,
//! or by a spelling that leads to exactly one row by a documented rule ([`Catalogue::find`]). What the table does not
//! say stays unknown: no price is guessed from a name that is merely alike.

mod charges;
mod find;
mod fits;
mod own;
mod price;
mod table;

use std::sync::LazyLock;

pub use charges::{Charges, ImageCharge};
pub use fits::{Overflow, overflow};
pub use own::{Figures, Own, price_version};
pub use price::{Price, Tier, Tiers};

/// A model as its provider publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The kind of provider that runs it, as the configuration writes it.
    pub kind: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What its tokens cost; `None` where the source does not say.
    pub price: Option<Price>,
    /// How much fits in it.
    pub limits: TokenLimits,
    /// What it reads: `text`, `image`, `pdf`, `audio`, `video`. Empty: not said.
    pub takes: Vec<&'static str>,
    /// What it makes: `text`, `image`, `audio`, `video`, `pdf`, `embedding`. Empty: not said.
    pub gives: Vec<&'static str>,
    /// Whether it calls tools; `None` where the source does not say.
    pub tools: Option<bool>,
    /// Whether it reasons before it answers; `None` where the source does not say.
    pub reasoning: Option<bool>,
    /// The day it came out, as `YYYY-MM-DD`.
    pub released: Option<&'static str>,
    /// `beta` or `deprecated`, where it is.
    pub status: Option<&'static str>,
    /// Who gathered these figures.
    pub source: &'static str,
    /// On which day, as `YYYY-MM-DD`.
    pub as_of: &'static str,
}

/// How many tokens fit. `None`: not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenLimits {
    /// Input and output together.
    pub context: Option<u64>,
    /// Input alone, where that is less.
    pub max_input: Option<u64>,
    /// Output alone.
    pub max_output: Option<u64>,
}

impl TokenLimits {
    /// The most input that fits, by what is said of it.
    pub fn input(&self) -> Option<u64> {
        match (self.max_input, self.context) {
            (Some(input), Some(context)) => Some(input.min(context)),
            (input, context) => input.or(context),
        }
    }
}

/// All models of the table.
#[derive(Debug)]
pub struct Catalogue {
    /// Ordered by kind and name.
    entries: Vec<Entry>,
}

impl Catalogue {
    /// The table that this version carries.
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::read(include_str!("models.txt")));
        &BUILTIN
    }

    /// Every model, by kind and name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn read(text: &'static str) -> Self {
        let mut entries = table::read(text).entries;
        entries.sort_by_key(|entry| (entry.kind, entry.name));
        Self { entries }
    }

    /// The row of exactly this name.
    fn exact(&self, kind: &str, name: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| (entry.kind, entry.name).cmp(&(kind, name))).ok()?;
        self.entries.get(at)
    }
}
