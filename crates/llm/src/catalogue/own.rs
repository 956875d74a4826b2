//! What a deployment says of its models itself, before what the table says.

use base::Money;

use super::{Catalogue, Charges, Entry, Price, Tiers, TokenLimits};

/// What a deployment says of one model of one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The model as its provider calls it; `*`: every other one.
    pub model: String,
    /// What it costs, if that is said: then nothing of the table's price counts.
    pub price: Option<Price>,
    /// How much fits in it, as far as that is said.
    pub limits: TokenLimits,
    /// What costs by something else than tokens.
    pub charges: Charges,
}

/// What is known of a model where it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// What its tokens cost; `None`: unknown.
    pub price: Option<Price>,
    /// Whether the deployment itself says so.
    pub own_price: bool,
    /// How much fits in it.
    pub limits: TokenLimits,
    /// What costs by something else than tokens, as far as the deployment says it.
    pub charges: Charges,
    /// Its row in the table.
    pub entry: Option<&'static Entry>,
}

impl Figures {
    /// What is known of `model` at a provider of this `kind`, of which the deployment says `own`.
    pub fn of(kind: &str, model: &str, own: &[Own]) -> Self {
        let entry = Catalogue::builtin().find(kind, model);
        let said = own.iter().find(|own| own.model == model).or_else(|| own.iter().find(|own| own.model == "*"));
        let table = entry.map(|entry| entry.limits).unwrap_or_default();
        let limits = said.map(|own| own.limits).unwrap_or_default();
        let own_price = said.and_then(|own| own.price.clone());
        Self {
            own_price: own_price.is_some(),
            price: own_price.or_else(|| entry.and_then(|entry| entry.price.clone())),
            limits: TokenLimits {
                context: limits.context.or(table.context),
                max_input: limits.max_input.or(table.max_input),
                max_output: limits.max_output.or(table.max_output),
            },
            charges: said.map(|own| own.charges.clone()).unwrap_or_default(),
            entry,
        }
    }

    /// Where its price is from: `configuration`, or the day the table's row was gathered on; empty where there is none.
    pub fn origin(&self) -> &'static str {
        match self.entry {
            _ if self.own_price || self.charges != Charges::default() => "configuration",
            Some(entry) if self.price.is_some() => entry.as_of,
            _ => "",
        }
    }

    /// Which price it has. `None`: none is known.
    pub fn price_version(&self) -> Option<String> {
        let origin = self.origin();
        (!origin.is_empty()).then(|| price_version(origin, self.price.as_ref(), &self.charges))
    }
}

/// A name for a price by which it is known again: where it is from, and a digest of its figures.
pub fn price_version(origin: &str, price: Option<&Price>, charges: &Charges) -> String {
    // FNV-1a of words instead of bytes, with a turn between them, since every record has it: nothing is decided by it.
    let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
    let mut take = |amount: i128| {
        for word in amount.to_be_bytes().as_chunks::<8>().0 {
            digest = (digest.rotate_left(23) ^ u64::from_be_bytes(*word)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    let mut money = |amount: Option<Money>| take(amount.map_or(-1, Money::nano_usd));
    if let Some(price) = price {
        for amount in [Some(price.input), Some(price.output), price.cache_read, price.cache_write] {
            money(amount);
        }
        for amount in [price.reasoning, price.audio_input, price.audio_output] {
            money(amount);
        }
        if let Tiers::Stated(tiers) = &price.tiers {
            for tier in tiers {
                money(Some(Money::from_nano_usd(i128::from(tier.above))));
                for amount in [Some(tier.input), Some(tier.output), tier.cache_read, tier.cache_write] {
                    money(amount);
                }
            }
        }
    }
    for amount in [charges.request, charges.image, charges.minute, charges.characters] {
        money(amount);
    }
    for image in &charges.images {
        money(Some(image.price));
    }
    // Written without what formatting takes.
    let mut name = String::with_capacity(origin.len() + 17);
    name.push_str(origin);
    name.push('#');
    let digits = (0..16).rev().map(|at| u32::try_from((digest >> (4 * at)) & 15).unwrap_or(0));
    name.extend(digits.filter_map(|digit| char::from_digit(digit, 16)));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(model: &str, price: Option<i128>, context: Option<u64>) -> Own {
        let price = price.map(|nano| Price::flat(Money::from_nano_usd(nano), Money::ZERO));
        Own {
            model: model.to_owned(),
            price,
            limits: TokenLimits { context, ..TokenLimits::default() },
            charges: Charges::default(),
        }
    }

    #[test]
    fn what_the_deployment_says_counts_before_the_table_each_figure_for_itself() {
        let rules = [own("*", Some(7), None), own("gpt-5-mini", None, Some(9))];
        let figures = Figures::of("openai", "gpt-5-mini", &rules);
        assert_eq!((figures.limits.context, figures.limits.max_output), (Some(9), Some(128_000)));
        assert_eq!(figures.price.map(|price| price.input), Money::parse("0.25 USD").ok());
        assert!(!figures.own_price);
        let other = Figures::of("openai", "unheard-of", &rules);
        assert_eq!((other.price.map(|price| price.input.nano_usd()), other.own_price), (Some(7), true));
        assert_eq!((other.limits, other.entry), (TokenLimits::default(), None));
    }

    #[test]
    fn a_price_is_known_again_by_its_name_and_another_has_another() {
        let of = |nano| Figures::of("openai", "m", &[own("m", Some(nano), None)]).price_version();
        assert_eq!(of(7), of(7));
        assert!(of(7).is_some_and(|name| name.starts_with("configuration#")) && of(7) != of(8));
        let table = Figures::of("openai", "gpt-5-mini", &[]).price_version();
        assert!(table.is_some_and(|name| name.starts_with("20") && name.contains('#')));
        assert_eq!(Figures::of("openai", "unheard-of", &[]).price_version(), None);
    }

    #[test]
    fn nothing_is_known_of_a_model_that_nobody_speaks_of() {
        let figures = Figures::of("ollama", "qwen3:8b", &[own("qwen3", Some(1), Some(1))]);
        assert_eq!(
            figures,
            Figures {
                price: None,
                own_price: false,
                limits: TokenLimits::default(),
                charges: Charges::default(),
                entry: None
            }
        );
    }
}
