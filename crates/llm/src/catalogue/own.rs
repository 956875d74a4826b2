//! What a deployment says of its models itself, before what the table says.

use super::{Catalogue, Charges, Entry, Price, TokenLimits};

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Money;

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
