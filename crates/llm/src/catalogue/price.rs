//! What tokens cost: exact integers, rounded up once.

use base::Money;

use crate::Usage;

/// What a million tokens cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Of input.
    pub input: Money,
    /// Of output.
    pub output: Money,
    /// Of input read from the provider's cache; absent: as input.
    pub cache_read: Option<Money>,
    /// Of input written into it; absent: as input. Less than `input`: it comes on top of it (Google bills the keeping).
    pub cache_write: Option<Money>,
    /// Of output spent on reasoning; absent: as output.
    pub reasoning: Option<Money>,
    /// Of audio in the input; absent: as input.
    pub audio_input: Option<Money>,
    /// Of audio in the output; absent: as output.
    pub audio_output: Option<Money>,
    /// What long prompts cost.
    pub tiers: Tiers,
}

/// Whether long prompts cost more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tiers {
    /// They cost the same.
    None,
    /// They cost more; how much is not known, so that nothing can be said of any request's cost.
    Unstated,
    /// They cost this, by rising thresholds.
    Stated(Vec<Tier>),
}

/// What a request costs whose input is longer than a threshold: all of it, not only the part above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// More input tokens than this.
    pub above: u64,
    /// A million tokens of input.
    pub input: Money,
    /// A million tokens of output.
    pub output: Money,
    /// A million tokens read from the cache; absent: as input.
    pub cache_read: Option<Money>,
    /// A million tokens written into it; see [`Price::cache_write`].
    pub cache_write: Option<Money>,
}

/// The parts of a price by which a request is counted.
#[derive(Clone, Copy)]
struct Rates {
    input: i128,
    output: i128,
    cache_read: i128,
    cache_write: i128,
    reasoning: i128,
    audio_input: i128,
    audio_output: i128,
}

/// Tokens that a price is for.
const PER: i128 = 1_000_000;

impl Price {
    /// The same for all input, and the same for all output.
    pub const fn flat(input: Money, output: Money) -> Self {
        Self {
            input,
            output,
            cache_read: None,
            cache_write: None,
            reasoning: None,
            audio_input: None,
            audio_output: None,
            tiers: Tiers::None,
        }
    }

    /// What an answer cost by what its provider counted, rounded up to a whole nano-USD. `None` where that cannot be said:
    /// counts are missing or doubtful, or long prompts cost an unknown price.
    pub fn cost(&self, usage: &Usage) -> Option<Money> {
        if usage.suspect {
            return None;
        }
        let (input, output) = (usage.input_tokens?, usage.generated()?);
        let rates = self.rates(input)?;
        let read = usage.cache_read_tokens.unwrap_or(0).min(input);
        let written = usage.cache_write_tokens.unwrap_or(0).min(input - read);
        let fresh = input - read - written;
        let heard = usage.audio_input_tokens.unwrap_or(0).min(fresh);
        let thought = usage.reasoning_tokens.unwrap_or(0).min(output);
        let spoken = usage.audio_output_tokens.unwrap_or(0).min(output - thought);
        sum(&[
            (fresh - heard, rates.input),
            (heard, rates.audio_input),
            (read, rates.cache_read),
            (written, rates.cache_write),
            (output - thought - spoken, rates.output),
            (thought, rates.reasoning),
            (spoken, rates.audio_output),
        ])
    }

    /// The most that so many tokens can cost, whatever they turn out to be, rounded up to a whole nano-USD. `None` where no
    /// bound is known.
    pub fn at_most(&self, input: u64, output: u64) -> Option<Money> {
        // A shorter prompt may fall into a dearer tier only if prices fall with length: all that can be reached count.
        let tiers: &[Tier] = match &self.tiers {
            Tiers::None => &[],
            Tiers::Unstated => return None,
            Tiers::Stated(tiers) => tiers,
        };
        let reached = tiers.iter().map(|tier| tier.above).filter(|above| *above < input);
        let rates = std::iter::once(0).chain(reached.map(|above| above.saturating_add(1))).map(|at| self.rates(at));
        let (mut most_input, mut most_output) = (0, 0);
        for rates in rates {
            let rates = rates?;
            most_input =
                most_input.max(rates.input).max(rates.cache_read).max(rates.cache_write).max(rates.audio_input);
            most_output = most_output.max(rates.output).max(rates.reasoning).max(rates.audio_output);
        }
        sum(&[(input, most_input), (output, most_output)])
    }

    /// The price of a request that has a cache keep something for an hour: written at twice the price of reading
    /// (docs.claude.com, "Prompt caching").
    #[must_use]
    pub fn long_cache(&self) -> Self {
        let twice = |input: Money| Money::from_nano_usd(input.nano_usd().saturating_mul(2));
        let dearer = |write: Option<Money>, input: Money| write.filter(|write| *write >= input).max(Some(twice(input)));
        let mut price = self.clone();
        price.cache_write = dearer(price.cache_write, price.input);
        if let Tiers::Stated(tiers) = &mut price.tiers {
            for tier in tiers {
                tier.cache_write = dearer(tier.cache_write, tier.input);
            }
        }
        price
    }

    /// What so many plain tokens cost by the lowest tier that can hold them, for comparing models with each other: no bound.
    pub fn nominal(&self, input: u64, output: u64) -> Money {
        let rates = self.rates(input).unwrap_or_else(|| self.lowest());
        sum(&[(input, rates.input), (output, rates.output)]).unwrap_or(Money::from_nano_usd(i128::MAX))
    }

    /// What counts for a request with so much input.
    fn rates(&self, input: u64) -> Option<Rates> {
        let lowest = self.lowest();
        let tiers = match &self.tiers {
            Tiers::None => return Some(lowest),
            Tiers::Unstated => return None,
            Tiers::Stated(tiers) => tiers,
        };
        let Some(tier) = tiers.iter().filter(|tier| tier.above < input).max_by_key(|tier| tier.above) else {
            return Some(lowest);
        };
        let (input, output) = (tier.input.nano_usd(), tier.output.nano_usd());
        Some(Rates {
            input,
            output,
            cache_read: nano(tier.cache_read, input),
            cache_write: on_top(tier.cache_write, input),
            reasoning: output.max(lowest.reasoning),
            audio_input: input.max(lowest.audio_input),
            audio_output: output.max(lowest.audio_output),
        })
    }

    fn lowest(&self) -> Rates {
        let (input, output) = (self.input.nano_usd(), self.output.nano_usd());
        Rates {
            input,
            output,
            cache_read: nano(self.cache_read, input),
            cache_write: on_top(self.cache_write, input),
            reasoning: nano(self.reasoning, output),
            audio_input: nano(self.audio_input, input),
            audio_output: nano(self.audio_output, output),
        }
    }
}

fn nano(price: Option<Money>, or: i128) -> i128 {
    price.map_or(or, Money::nano_usd)
}

fn on_top(write: Option<Money>, input: i128) -> i128 {
    match write.map(Money::nano_usd) {
        Some(write) if write < input => write.saturating_add(input),
        Some(write) => write,
        None => input,
    }
}

/// Tokens times prices, all together divided once and rounded up.
fn sum(parts: &[(u64, i128)]) -> Option<Money> {
    let mut all: i128 = 0;
    for (tokens, price) in parts {
        all = all.checked_add(i128::from(*tokens).checked_mul(*price)?)?;
    }
    let rest = i128::from(all.rem_euclid(PER) != 0);
    Some(Money::from_nano_usd(all.div_euclid(PER).checked_add(rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(text: &str) -> Money {
        Money::parse(&format!("{text} USD")).expect("money")
    }

    fn nanos(money: Option<Money>) -> Option<i128> {
        money.map(Money::nano_usd)
    }

    #[test]
    fn a_cost_is_summed_exactly_and_rounded_up_once() {
        // gpt-5-mini: 0.25 and 2 USD a million, cached 0.025: 250, 2000 and 25 nano-USD a token.
        let price = Price { cache_read: Some(usd("0.025")), ..Price::flat(usd("0.25"), usd("2")) };
        let usage = Usage {
            input_tokens: Some(1000),
            output_tokens: Some(50),
            cache_read_tokens: Some(900),
            ..Usage::default()
        };
        assert_eq!(nanos(price.cost(&usage)), Some(100 * 250 + 900 * 25 + 50 * 2000));
        // Three parts of a third of a nano each are one nano, not three.
        let third = Price { cache_read: Some(usd("0.0003")), ..Price::flat(usd("0.0003"), usd("0.0003")) };
        let one =
            Usage { input_tokens: Some(2), output_tokens: Some(1), cache_read_tokens: Some(1), ..Usage::default() };
        assert_eq!(nanos(third.cost(&one)), Some(1));
    }

    #[test]
    fn what_is_counted_apart_is_priced_apart_and_never_twice() {
        let price = Price {
            cache_write: Some(usd("3.75")),
            reasoning: Some(usd("20")),
            audio_input: Some(usd("10")),
            audio_output: Some(usd("40")),
            ..Price::flat(usd("3"), usd("15"))
        };
        let usage = Usage {
            input_tokens: Some(100),
            output_tokens: Some(60),
            cache_write_tokens: Some(30),
            audio_input_tokens: Some(20),
            reasoning_tokens: Some(10),
            audio_output_tokens: Some(5),
            ..Usage::default()
        };
        let expected = 50 * 3000 + 20 * 10_000 + 30 * 3750 + 45 * 15_000 + 10 * 20_000 + 5 * 40_000;
        assert_eq!(nanos(price.cost(&usage)), Some(expected));
    }

    #[test]
    fn a_cache_price_below_the_input_price_comes_on_top_of_it() {
        let price = Price { cache_write: Some(usd("0.083333")), ..Price::flat(usd("0.3"), usd("2.5")) };
        let written = Usage {
            input_tokens: Some(1_000_000),
            output_tokens: Some(0),
            cache_write_tokens: Some(1_000_000),
            ..Usage::default()
        };
        assert_eq!(price.cost(&written), Some(usd("0.383333")));
    }

    #[test]
    fn nothing_is_said_of_what_is_not_known() {
        let price = Price::flat(usd("1"), usd("1"));
        let said = Usage { input_tokens: Some(1), output_tokens: Some(1), ..Usage::default() };
        assert!(price.cost(&said).is_some());
        assert_eq!(price.cost(&Usage { suspect: true, ..said }), None);
        assert_eq!(price.cost(&Usage { input_tokens: None, ..said }), None);
        let tiered = Price { tiers: Tiers::Unstated, ..price };
        assert_eq!((tiered.cost(&said), tiered.at_most(1, 1)), (None, None));
        assert_eq!(tiered.nominal(1_000_000, 0), usd("1"));
    }

    #[test]
    fn a_long_prompt_costs_its_tier_from_the_first_token_on() {
        let tier = Tier { above: 200_000, input: usd("2.5"), output: usd("15"), cache_read: None, cache_write: None };
        let price = Price { tiers: Tiers::Stated(vec![tier]), ..Price::flat(usd("1.25"), usd("10")) };
        let usage = |input| Usage { input_tokens: Some(input), output_tokens: Some(0), ..Usage::default() };
        assert_eq!(nanos(price.cost(&usage(200_000))), Some(200_000 * 1250));
        assert_eq!(nanos(price.cost(&usage(200_001))), Some(200_001 * 2500));
        assert_eq!(nanos(price.at_most(200_001, 1)), Some(200_001 * 2500 + 15_000));
    }

    fn price() -> impl Strategy<Value = Price> {
        let amount = || (0i128..1_000_000_000_000).prop_map(Money::from_nano_usd);
        let maybe = move || proptest::option::of(amount());
        let tier = (0u64..2000, amount(), amount(), maybe(), maybe()).prop_map(
            |(above, input, output, cache_read, cache_write)| Tier { above, input, output, cache_read, cache_write },
        );
        let tiers = proptest::collection::vec(tier, 0..3).prop_map(Tiers::Stated);
        (amount(), amount(), (maybe(), maybe(), maybe()), (maybe(), maybe()), tiers).prop_map(
            |(input, output, (cache_read, cache_write, reasoning), (audio_input, audio_output), tiers)| Price {
                input,
                output,
                cache_read,
                cache_write,
                reasoning,
                audio_input,
                audio_output,
                tiers,
            },
        )
    }

    proptest! {
        #[test]
        fn no_answer_costs_more_than_the_bound(
            price in price(), input in 0u64..3000, output in 0u64..3000,
            parts in proptest::array::uniform6(proptest::option::of(0u64..3000)), less in (0u64..3000, 0u64..3000),
        ) {
            let [cache_read_tokens, cache_write_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens, _] = parts;
            let usage = Usage {
                input_tokens: Some(input.saturating_sub(less.0)),
                output_tokens: Some(output.saturating_sub(less.1)),
                cache_read_tokens, cache_write_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens,
                ..Usage::default()
            };
            prop_assert!(price.cost(&usage).expect("known") <= price.at_most(input, output).expect("known"));
        }

        #[test]
        fn no_count_overflows_or_panics(input: u64, output: u64, price in price()) {
            let _bound = price.at_most(input, output);
            let _nominal = price.nominal(input, output);
            let all = Usage {
                input_tokens: Some(input), output_tokens: Some(output), total_tokens: Some(u64::MAX),
                cache_read_tokens: Some(output), ..Usage::default()
            };
            let _cost = price.cost(&all);
        }
    }
}
