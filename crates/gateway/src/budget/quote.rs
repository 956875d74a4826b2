//! What a call may take of a target at the very most, what that costs, and what it did cost in the end.

use base::Money;
use config::BudgetUnit;
use llm::Usage;
use llm::bound::Brought;
use llm::catalogue::{Charges, Figures, Price};
use llm::tokens::Vocabulary;
use store::Basis;

use super::load::{Load, Place, Tokens};
use crate::snapshot::{ModelTarget, Provider};

/// The bound on what is generated where neither the request, the policy nor the figures of the model say one.
const OUTPUT: u64 = 4096;
/// Bytes of compressed sound for each second at the lowest rate in use (4 kbit/s), where nothing says how long it is.
const BYTES_PER_SECOND: u64 = 500;

/// The most one call can take at one target.
#[derive(Debug, Clone)]
pub(crate) struct Quote {
    pub(crate) place: Place,
    /// Whether it is of a copy that nobody hears: held only when it is made.
    pub(crate) aside: bool,
    /// Tokens read; `None`: no bound is known.
    input: Option<u64>,
    /// What its input is bound by, where it can be counted too.
    reads: Option<Reads>,
    /// Tokens generated; `None`: no bound is known.
    output: Option<u64>,
    /// The bound on each answer that is set in the request, where it has none.
    pub(crate) set: Option<u64>,
    answers: u64,
    audio_ms: u64,
    tariff: Tariff,
    /// How its cost follows from what is counted, where it can be computed again.
    basis: Option<Basis>,
    /// Where its price is from.
    origin: &'static str,
    charges: Charges,
}

/// What the bound on an input comes from.
#[derive(Debug, Clone, Copy)]
struct Reads {
    brought: Brought,
    fits: Option<u64>,
    vocabulary: Vocabulary,
}

/// How it is priced.
#[derive(Debug, Clone)]
enum Tariff {
    /// Whatever it takes, it costs this.
    Fixed(Money),
    /// By the tokens, and this besides; so many times for a dearer tier.
    Tokens { price: Price, besides: Money, factor: u32 },
    /// By the length of what was heard.
    Heard { charges: Charges, besides: Money },
    /// Nobody knows.
    Unknown,
}

/// What a call has taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) amount: i64,
    /// Whether some of it was not told and its bound stands for it.
    pub(crate) estimated: bool,
}

impl Quote {
    /// A call of the built-in model or of a provider, `policy`: the policy's bound on what is generated.
    pub(crate) fn of(load: &Load, target: &ModelTarget, place: Place, policy: Option<u64>) -> Self {
        match target {
            ModelTarget::Echo => {
                let figures = Figures::of(config::OWN_NAME, "echo", &[]);
                let mut quote = Self::figured(load, "echo", &figures, (place, policy));
                // It says back what it was told.
                quote.output = quote.output.max(quote.input);
                quote.set = None;
                (quote.tariff, quote.basis) = (Tariff::Fixed(Money::ZERO), None);
                quote
            }
            ModelTarget::Remote(provider, model) => Self::remote(load, provider, model, (place, policy)),
        }
    }

    /// A call of a provider.
    pub(crate) fn remote(load: &Load, provider: &Provider, model: &str, (place, policy): (Place, Option<u64>)) -> Self {
        let mut quote = Self::figured(load, model, &provider.figures(model), (place, policy));
        if is_free(provider.kind.as_str(), model) {
            (quote.tariff, quote.basis) = (Tariff::Fixed(Money::ZERO), None);
        }
        if let Load::Tokens(Tokens { brought: Some(brought), session: false, .. }) = load
            && !brought.beyond
            && let Some(vocabulary) = Vocabulary::of(provider.kind.as_str(), model)
        {
            quote.reads = Some(Reads { brought: *brought, fits: provider.figures(model).limits.input(), vocabulary });
        }
        quote
    }

    /// Something that costs so much, whatever it takes: no tokens.
    pub(crate) fn fixed(price: Money, place: Place) -> Self {
        Self {
            place,
            aside: false,
            input: Some(0),
            reads: None,
            output: Some(0),
            set: None,
            answers: 1,
            audio_ms: 0,
            tariff: Tariff::Fixed(price),
            basis: None,
            origin: "",
            charges: Charges::default(),
        }
    }

    /// Something that took just this, and costs so much; `None`: nobody knows.
    pub(crate) fn known(cost: Option<Money>, usage: &Usage, place: Place) -> Self {
        let mut quote = Self::fixed(cost.unwrap_or(Money::ZERO), place);
        (quote.input, quote.output) = (usage.input_tokens, usage.generated());
        quote.audio_ms = usage.audio_ms.unwrap_or(0);
        if cost.is_none() {
            quote.tariff = Tariff::Unknown;
        }
        quote
    }

    fn figured(load: &Load, model: &str, figures: &Figures, (place, policy): (Place, Option<u64>)) -> Self {
        let besides = figures.charges.request.unwrap_or(Money::ZERO);
        let mut quote = Self::fixed(besides, place);
        (quote.origin, quote.charges) = (figures.origin(), figures.charges.clone());
        match load {
            Load::Free => quote.tariff = Tariff::Fixed(Money::ZERO),
            Load::Tokens(tokens) => quote.tokens(tokens, model, figures, policy),
            Load::Pictures { count, size, quality, tokens } => {
                quote.tokens(tokens, model, figures, None);
                if let Some(each) = figures.charges.image(size.as_deref(), quality.as_deref()) {
                    (quote.tariff, quote.basis) = (fixed(besides, each, *count), None);
                }
            }
            Load::Speech { characters, tokens } => {
                quote.tokens(tokens, model, figures, None);
                if let Some(spoken) = figures.charges.spoken(*characters) {
                    (quote.tariff, quote.basis) = (fixed(besides, spoken, 1), None);
                }
            }
            Load::Sound { bytes, millis } => {
                quote.audio_ms = millis.unwrap_or_else(|| bytes.div_ceil(BYTES_PER_SECOND).saturating_mul(1000));
                let sound = Brought { audio_bytes: *bytes, bytes: 0, factor: 1, ..Brought::default() };
                let tokens = Tokens { brought: Some(sound), generates: true, answers: 1, ..Tokens::default() };
                quote.tokens(&tokens, model, figures, None);
                quote.set = None;
                // What is written of a second has no bound but what fits.
                quote.output = figures.limits.max_output.or(figures.limits.context);
                if figures.charges.minute.is_some() {
                    quote.tariff = Tariff::Heard { charges: figures.charges.clone(), besides };
                    quote.basis = Some(Basis::Heard);
                } else if quote.output.is_none() {
                    quote.tariff = Tariff::Unknown;
                }
            }
            Load::Opaque => {
                (quote.input, quote.output) = (None, None);
                quote.basis = Some(Basis::Request);
                if figures.charges.request.is_none() {
                    quote.tariff = Tariff::Unknown;
                }
            }
        }
        quote
    }

    fn tokens(&mut self, tokens: &Tokens, model: &str, figures: &Figures, policy: Option<u64>) {
        let fits = figures.limits.input();
        self.input = match tokens.brought {
            Some(_) if tokens.session => fits,
            Some(brought) => brought.tokens(model, fits),
            None => fits,
        };
        self.answers = tokens.answers.max(1);
        let brought = tokens.brought.unwrap_or_default();
        let besides = figures.charges.request.unwrap_or(Money::ZERO);
        if tokens.generates {
            let own = figures.limits.max_output;
            let set = || policy.into_iter().chain(own).min().unwrap_or(OUTPUT);
            let each = tokens.asked.unwrap_or_else(set);
            self.set = tokens.asked.is_none().then_some(each);
            self.output = Some(each.saturating_mul(self.answers).saturating_add(brought.predicted));
        }
        if tokens.unbounded {
            self.output = figures.limits.max_output;
        }
        let factor = brought.factor.max(1);
        self.basis = Some(Basis::Tokens { factor, long_cache: brought.long_cache });
        self.tariff = match &figures.price {
            Some(price) => Tariff::Tokens {
                price: if brought.long_cache { price.long_cache() } else { price.clone() },
                besides,
                factor,
            },
            None if figures.charges.request.is_some() => Tariff::Fixed(besides),
            None => Tariff::Unknown,
        };
    }

    /// Set a lower bound in the request, where it has none of its own: `false` where it has.
    pub(crate) fn lower(&mut self, most: u64) -> bool {
        let Some(set) = self.set.filter(|set| *set > most) else { return false };
        let less = (set - most).saturating_mul(self.answers);
        self.output = self.output.map(|output| output.saturating_sub(less));
        self.set = Some(most);
        true
    }

    /// Which vocabulary its input can be counted by.
    pub(super) fn vocabulary(&self) -> Option<Vocabulary> {
        self.reads.map(|reads| reads.vocabulary)
    }

    /// The texts of the request are so many tokens at the most. Whether it may take less than it seemed.
    pub(super) fn counted(&mut self, texts: u64) -> bool {
        let Some(reads) = self.reads.take() else { return false };
        let model = self.place.model.as_deref().unwrap_or_default();
        let input = reads.brought.tokens_as_counted(texts, model, reads.fits);
        let less = input < self.input && input.is_some();
        if less {
            self.input = input;
        }
        less
    }

    /// The most tokens read.
    pub(super) fn input(&self) -> Option<u64> {
        self.input
    }

    /// How its cost follows from what is counted, where it can be computed again.
    pub(crate) fn basis(&self) -> Option<Basis> {
        self.basis
    }

    /// Which price it has: where it is from, and a digest of it. `None` where there is none.
    pub(crate) fn price_version(&self) -> Option<String> {
        let price = match &self.tariff {
            Tariff::Tokens { price, .. } => Some(price),
            Tariff::Fixed(_) | Tariff::Heard { .. } => None,
            Tariff::Unknown => return None,
        };
        (!self.origin.is_empty()).then(|| llm::catalogue::price_version(self.origin, price, &self.charges))
    }

    /// What it cost by what its provider counted, in nano-USD. `None` where its price is not known.
    pub(crate) fn cost(&self, usage: &Usage, ended: bool) -> Option<Taken> {
        if matches!(self.tariff, Tariff::Unknown) {
            return None;
        }
        let taken = self.taken(BudgetUnit::Money, usage, ended);
        (!taken.estimated || self.most_money().is_some()).then_some(taken)
    }

    /// Whether its price is known, if not what it takes.
    pub(crate) fn is_priced(&self) -> bool {
        !matches!(self.tariff, Tariff::Unknown)
    }

    /// The most tokens generated.
    pub(crate) fn output(&self) -> Option<u64> {
        self.output
    }

    /// The most tokens read and generated.
    pub(crate) fn all_tokens(&self) -> Option<u64> {
        Some(self.input?.saturating_add(self.output?))
    }

    /// The most it can take of a unit. `None`: nobody knows.
    pub(crate) fn most(&self, unit: BudgetUnit) -> Option<i64> {
        match unit {
            BudgetUnit::Requests => Some(1),
            BudgetUnit::InputTokens => self.input.map(whole),
            BudgetUnit::OutputTokens => self.output.map(whole),
            BudgetUnit::Tokens => self.all_tokens().map(whole),
            BudgetUnit::Audio => Some(whole(self.audio_ms)),
            BudgetUnit::Money => self.most_money().map(nano),
        }
    }

    fn most_money(&self) -> Option<Money> {
        match &self.tariff {
            Tariff::Fixed(price) => Some(*price),
            Tariff::Tokens { price, besides, factor } => {
                times(*besides, price.at_most(self.input?, self.output?)?, *factor)
            }
            Tariff::Heard { charges, besides } => times(*besides, charges.heard(self.audio_ms)?, 1),
            Tariff::Unknown => None,
        }
    }

    /// What it did take of a unit by what its provider counted. What that leaves out, or cannot be, is taken to have been all there
    /// could be. `whole`: the answer came to its end.
    pub(crate) fn taken(&self, unit: BudgetUnit, usage: &Usage, ended: bool) -> Taken {
        let told = |count: Option<u64>| count.filter(|_| !usage.suspect);
        let input = told(usage.input_tokens);
        let output = told(usage.generated()).filter(|_| ended);
        // What only reads generates nothing.
        let output = output.or((self.output == Some(0)).then_some(0));
        let exact = |amount: i64| Taken { amount, estimated: false };
        let most = || Taken { amount: self.most(unit).unwrap_or(0), estimated: true };
        match unit {
            BudgetUnit::Requests => exact(1),
            BudgetUnit::InputTokens if self.input == Some(0) => exact(0),
            BudgetUnit::InputTokens => input.map_or_else(most, |input| exact(whole(input))),
            BudgetUnit::OutputTokens => output.map_or_else(most, |output| exact(whole(output))),
            BudgetUnit::Tokens if self.all_tokens() == Some(0) => exact(0),
            BudgetUnit::Tokens => match (input.or(self.input), output.or(self.output)) {
                (Some(read), Some(made)) => {
                    Taken { amount: whole(read.saturating_add(made)), estimated: input.is_none() || output.is_none() }
                }
                _ => most(),
            },
            BudgetUnit::Audio if self.audio_ms == 0 => exact(0),
            BudgetUnit::Audio => told(usage.audio_ms).map_or_else(most, |millis| exact(whole(millis))),
            BudgetUnit::Money => match &self.tariff {
                Tariff::Fixed(price) => exact(nano(*price)),
                Tariff::Heard { charges, besides } => told(usage.audio_ms)
                    .and_then(|millis| times(*besides, charges.heard(millis)?, 1))
                    .map_or_else(most, |cost| exact(nano(cost))),
                Tariff::Unknown => most(),
                Tariff::Tokens { price, besides, factor } => {
                    let filled = Usage {
                        input_tokens: input.or(self.input),
                        output_tokens: output.or(self.output),
                        total_tokens: None,
                        suspect: false,
                        ..*usage
                    };
                    // What is not known of the input is not known of its parts.
                    let filled = if input.is_some() { filled } else { plain(&filled) };
                    let cost = if input.is_none() || output.is_none() {
                        let most = filled.input_tokens.zip(filled.output_tokens);
                        most.and_then(|(read, made)| price.at_most(read, made))
                    } else {
                        price.cost(&filled)
                    };
                    let cost = cost.and_then(|cost| times(*besides, cost, *factor));
                    cost.map_or_else(most, |cost| Taken {
                        amount: nano(cost),
                        estimated: input.is_none() || output.is_none(),
                    })
                }
            },
        }
    }
}

/// What is not charged, by its provider's own word (platform.openai.com/docs/pricing, "Moderation").
fn is_free(kind: &str, model: &str) -> bool {
    kind == "openai" && (model.starts_with("omni-moderation-") || model.starts_with("text-moderation-"))
}

fn plain(usage: &Usage) -> Usage {
    Usage { input_tokens: usage.input_tokens, output_tokens: usage.output_tokens, ..Usage::default() }
}

fn fixed(besides: Money, each: Money, count: u64) -> Tariff {
    let all = each.nano_usd().checked_mul(i128::from(count)).and_then(|all| all.checked_add(besides.nano_usd()));
    all.map_or(Tariff::Unknown, |all| Tariff::Fixed(Money::from_nano_usd(all)))
}

fn times(besides: Money, cost: Money, factor: u32) -> Option<Money> {
    let all = cost.nano_usd().checked_mul(i128::from(factor))?.checked_add(besides.nano_usd())?;
    Some(Money::from_nano_usd(all))
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn nano(money: Money) -> i64 {
    i64::try_from(money.nano_usd()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use llm::catalogue::{Own, TokenLimits};

    fn usd(text: &str) -> Money {
        Money::parse(&format!("{text} USD")).expect("money")
    }

    /// 1 USD a thousand tokens read, 2 generated; 100 generated at most.
    fn figures(charges: Charges) -> Figures {
        let limits = TokenLimits { context: Some(10_000), max_input: None, max_output: Some(100) };
        let own = Own { model: "*".to_owned(), price: Some(Price::flat(usd("1000"), usd("2000"))), limits, charges };
        Figures::of("vllm", "m", &[own])
    }

    fn quote(load: &Load, charges: Charges) -> Quote {
        Quote::figured(load, "m", &figures(charges), (Place::default(), None))
    }

    fn chat(asked: Option<u64>, answers: u64) -> Load {
        let brought = Brought { bytes: 72, factor: 1, ..Brought::default() };
        Load::Tokens(Tokens {
            brought: Some(brought),
            generates: true,
            asked,
            answers,
            unbounded: false,
            session: false,
        })
    }

    const THOUSANDTH: i64 = 1_000_000;

    #[test]
    fn a_bound_is_set_where_the_request_has_none_and_counts_for_each_answer() {
        let own = quote(&chat(Some(50), 3), Charges::default());
        assert_eq!((own.set, own.most(BudgetUnit::OutputTokens)), (None, Some(150)));
        assert_eq!(own.most(BudgetUnit::InputTokens), Some(200));
        assert_eq!(own.most(BudgetUnit::Money), Some(200 * THOUSANDTH + 300 * THOUSANDTH));
        let mut set = quote(&chat(None, 2), Charges::default());
        assert_eq!((set.set, set.most(BudgetUnit::OutputTokens)), (Some(100), Some(200)));
        assert!(set.lower(10) && !set.lower(10));
        assert_eq!((set.set, set.most(BudgetUnit::OutputTokens)), (Some(10), Some(20)));
    }

    #[test]
    fn what_is_told_is_charged_and_what_is_not_is_taken_to_be_all_there_could_be() {
        let quote = quote(&chat(Some(50), 1), Charges::default());
        let taken = |usage: Usage, ended| {
            let taken = quote.taken(BudgetUnit::Money, &usage, ended);
            (taken.amount / THOUSANDTH, taken.estimated)
        };
        let told = Usage { input_tokens: Some(20), output_tokens: Some(7), ..Usage::default() };
        assert_eq!(taken(told, true), (34, false));
        assert_eq!(taken(told, false), (20 + 100, true), "cut off: more may have been generated than was told");
        assert_eq!(taken(Usage::default(), true), (200 + 100, true));
        assert_eq!(taken(Usage { suspect: true, ..told }, true), (300, true));
        assert_eq!(taken(Usage { output_tokens: None, ..told }, true), (120, true));
        let tokens = quote.taken(BudgetUnit::Tokens, &told, true);
        assert_eq!((tokens.amount, tokens.estimated), (27, false));
    }

    #[test]
    fn no_usage_however_hostile_makes_a_sum_that_is_no_amount() {
        let quote = quote(&chat(Some(50), 1), Charges::default());
        let usage = Usage {
            input_tokens: Some(u64::MAX),
            output_tokens: Some(u64::MAX),
            total_tokens: Some(u64::MAX),
            ..Usage::default()
        };
        for unit in [BudgetUnit::Money, BudgetUnit::Tokens, BudgetUnit::InputTokens, BudgetUnit::OutputTokens] {
            assert!(quote.taken(unit, &usage, true).amount > quote.most(unit).expect("known"), "the hold cuts it off");
        }
    }

    #[test]
    fn what_is_no_token_costs_by_its_own_price_and_is_unknown_without_one() {
        let pictures = |charges| {
            let load = Load::Pictures {
                count: 2,
                size: Some("1024x1024".to_owned()),
                quality: None,
                tokens: Tokens::read(b"{}"),
            };
            quote(&load, charges).most(BudgetUnit::Money)
        };
        let charges = Charges { image: Some(usd("0.04")), request: Some(usd("0.01")), ..Charges::default() };
        assert_eq!(pictures(charges), Some(90 * THOUSANDTH));
        let sound = Load::Sound { bytes: 30_000, millis: None };
        let heard = quote(&sound, Charges { minute: Some(usd("0.006")), ..Charges::default() });
        assert_eq!(heard.most(BudgetUnit::Audio), Some(60_000));
        assert_eq!(heard.most(BudgetUnit::Money), Some(6 * THOUSANDTH));
        let usage = Usage { audio_ms: Some(30_000), ..Usage::default() };
        assert_eq!(heard.taken(BudgetUnit::Money, &usage, true).amount, 3 * THOUSANDTH);
        let spoken = Load::Speech { characters: 1000, tokens: Tokens::read(b"{}") };
        let spoken = quote(&spoken, Charges { characters: Some(usd("15")), ..Charges::default() });
        assert_eq!(spoken.most(BudgetUnit::Money), Some(15 * THOUSANDTH));
        assert_eq!(quote(&Load::Opaque, Charges::default()).most(BudgetUnit::Money), None);
        let nothing = Figures::of("vllm", "m", &[]);
        let unknown = Quote::figured(&chat(Some(1), 1), "m", &nothing, (Place::default(), None));
        assert_eq!((unknown.most(BudgetUnit::Money), unknown.most(BudgetUnit::Tokens)), (None, Some(201)));
        assert_eq!(quote(&Load::Free, Charges::default()).most(BudgetUnit::Money), Some(0));
    }
}
